"""What an application costs without any server: the part of a request that no server can save.

    python bench/bound.py                             microseconds of CPU per request, for each scenario

The application runs as every server must run it: in a task of its own, started eagerly, with a context and a scope of
its own, and with a `send` and a `receive` that do nothing and are done at once. Nothing is parsed, checked, encoded or
written. This plus the floor's CPU per request (`compare.py`, same machine, same hour) is a bound: a server below it
would answer without work. Where a target lies below the bound, no change to the server can reach it on that machine.
"""

import argparse
import asyncio
import contextvars
import functools
import importlib
import itertools
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

from engine import BATCHES, run_in_loop
from scenarios import SCENARIOS, Scenario, excerpt

BATCH_REQUESTS = 500


def make_scope(scenario: Scenario) -> dict[str, Any]:
    """Return the scope of the scenario's request."""
    head, _, _ = scenario.request.partition(b"\r\n\r\n")
    first, *lines = head.split(b"\r\n")
    method, target, _ = first.split(b" ")
    path, _, query = target.partition(b"?")
    fields = [tuple(part.strip() for part in line.split(b":", 1)) for line in lines]
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "server": ("127.0.0.1", 8000),
        "client": ("127.0.0.1", 50000),
        "scheme": "http",
        "root_path": "",
        "method": method.decode(),
        "path": path.decode(),
        "raw_path": path,
        "query_string": query,
        "headers": [(name.lower(), value) for name, value in fields],
        "extensions": {},
    }


def constant(loop: asyncio.AbstractEventLoop, value: Any) -> Callable[..., Any]:
    """Return a callable without Python frames, of one argument or none, whose awaitable is done and gives `value`."""
    done = loop.create_future()
    done.set_result(value)
    return functools.partial(next, itertools.repeat(done))


def find_app(scenario: Scenario) -> Callable[..., Any]:
    """Import the scenario's application."""
    module, _, name = scenario.app.partition(":")
    return getattr(importlib.import_module(module), name)


async def check(app: Callable[..., Any], scenario: Scenario) -> None:
    """Raise unless the application gives the scenario's body to a `send` that keeps it."""
    _, _, content = scenario.request.partition(b"\r\n\r\n")
    sent: list[bytes] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": content, "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message.get("body", b""))

    await app(make_scope(scenario), receive, send)
    if b"".join(sent) != scenario.body:
        raise RuntimeError(f"expected {excerpt(scenario.body)}, got {excerpt(b''.join(sent))}")


async def measure(scenario: Scenario) -> list[float]:
    """Return microseconds of CPU per request, one figure for each batch."""
    loop = asyncio.get_running_loop()
    app, scope, base = find_app(scenario), make_scope(scenario), contextvars.copy_context()
    await check(app, scenario)
    _, _, content = scenario.request.partition(b"\r\n\r\n")
    send = constant(loop, None)
    receive = constant(loop, {"type": "http.request", "body": content, "more_body": False})
    figures = []
    for _ in range(BATCHES):
        began = time.process_time_ns()
        for _ in range(BATCH_REQUESTS):
            coroutine = app(dict(scope), receive, send)
            task = asyncio.Task(coroutine, loop=loop, name="request", context=base.copy(), eager_start=True)
            if not task.done():
                await task
        figures.append((time.process_time_ns() - began) / BATCH_REQUESTS / 1000)
        await asyncio.sleep(0)
    return figures


def main(arguments: list[str] | None = None) -> None:
    """Print one line for each scenario."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [name for name, scenario in SCENARIOS.items() if scenario.unit == "request" and not scenario.access_log]
    parser.add_argument("--scenarios", default=",".join(names))
    options = parser.parse_args(arguments)
    if sys.version_info < (3, 12):
        parser.error("expected CPython 3.12 or newer: older ones have no eager tasks")
    for name in options.scenarios.split(","):
        if name not in names:
            parser.error(f"expected scenarios of {', '.join(names)}, got {name}")
        figures = run_in_loop(measure(SCENARIOS[name]), "uvloop")
        print(f"{name}: best {min(figures):.2f} us, median {statistics.median(figures):.2f} us of CPU per request")


if __name__ == "__main__":
    main()
