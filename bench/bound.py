"""What no server can save: the application alone, and the kernel's recv and send alone.

    python bench/bound.py                             microseconds of CPU per request, for each scenario
    python bench/bound.py --scenarios plain --against uvicorn=32.6,peregrine=12.4

The application runs as every server must run it: in a task of its own, started eagerly, with a context and a scope of
its own, and with a `send` and a `receive` that do nothing and are done at once. Nothing is parsed, checked, encoded or
written. The kernel (`kernel.c`) does one recv of the request and one send of the answer on loopback connections whose
other end is not waited for; there is no epoll and nobody to wake. Their sum is a bound: a server below it would answer
without work of its own.

`--against` takes what others were measured at (`python -m fastasgi.bench`) and says what part of that the
bound is. That part bounds the gates of a plain GET, at most 0.2 of uvicorn's CPU and 0.7 of peregrine's: where the
bound alone is above them, no change to any server can reach them on that machine, and what is left between the bound
and our own figure is all that is ours to save.
"""

import argparse
import asyncio
import contextvars
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from engine import BATCHES, SCENARIOS, constant, find_app, make_scope, run_in_loop

from fastasgi.bench.floor import compile_c
from fastasgi.bench.scenarios import HttpScenario, excerpt

BATCH_REQUESTS = 500
CONNECTIONS = 64
KERNEL_ROUNDS = 2000


async def check(app: Callable[..., Any], scenario: HttpScenario) -> None:
    """Raise unless the application gives the scenario's body to a `send` that keeps it."""
    _, _, content = scenario.request.partition(b"\r\n\r\n")
    sent: list[bytes] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": content, "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message.get("body", b""))

    await app(make_scope(scenario.request), receive, send)
    if b"".join(sent) != scenario.body:
        raise RuntimeError(f"expected {excerpt(scenario.body)}, got {excerpt(b''.join(sent))}")


async def measure(scenario: HttpScenario) -> list[float]:
    """Return microseconds of CPU per request, one figure for each batch."""
    loop = asyncio.get_running_loop()
    app, scope, base = find_app(scenario.app), make_scope(scenario.request), contextvars.copy_context()
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


def measure_kernel(scenario: HttpScenario, rounds: int = KERNEL_ROUNDS) -> tuple[float, float]:
    """Return microseconds of CPU of a recv and a send of the scenario's bytes: best and median round."""
    with tempfile.TemporaryDirectory(prefix="fastasgi-bench-") as folder:
        request, answer = Path(folder) / "request", Path(folder) / "answer"
        request.write_bytes(scenario.request)
        answer.write_bytes(scenario.floor_answer)
        program = compile_c("kernel", sources=Path(__file__).resolve().parent)
        command = [program, request, answer, str(CONNECTIONS), str(rounds)]
        run = subprocess.run(command, capture_output=True, text=True, check=True)
    best, median = (int(word) / 1000 for word in run.stdout.split())
    return best, median


def others(text: str) -> dict[str, float]:
    """Read `name=microseconds,...`."""
    pairs = [part.partition("=") for part in text.split(",") if part]
    return {name.strip(): float(figure) for name, _, figure in pairs}


def describe(name: str, app: list[float], kernel: tuple[float, float], against: dict[str, float]) -> str:
    """Return the line of one scenario, from microseconds of both parts."""
    bound = statistics.median(app) + kernel[1]
    line = (
        f"{name}: application {statistics.median(app):.2f} us (best {min(app):.2f}), "
        f"recv and send {kernel[1]:.2f} us (best {kernel[0]:.2f}), bound {bound:.2f} us of CPU per request"
    )
    return "".join([line, *(f", {bound / figure:.2f} x {other}" for other, figure in against.items())])


def main(arguments: list[str] | None = None) -> None:
    """Print one line for each scenario."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenarios", default=",".join(SCENARIOS))
    parser.add_argument("--against", type=others, default={}, metavar="NAME=US,...")
    options = parser.parse_args(arguments)
    if sys.version_info < (3, 12):
        parser.error("expected CPython 3.12 or newer: older ones have no eager tasks")
    for name in options.scenarios.split(","):
        if name not in SCENARIOS:
            parser.error(f"expected scenarios of {', '.join(SCENARIOS)}, got {name}")
        kernel = measure_kernel(SCENARIOS[name])
        print(describe(name, run_in_loop(measure(SCENARIOS[name]), "uvloop"), kernel, options.against))


if __name__ == "__main__":
    main()
