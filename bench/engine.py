"""The engine in process: from `feed` to the bytes of the answer, over memory instead of a socket.

    python bench/engine.py --time                     nanoseconds per request, best and median of batches
    python bench/engine.py --time --engine uvicorn    the same for uvicorn's httptools protocol
    python bench/engine.py --requests 1000            just that many requests: what callgrind.py runs

No sockets and no kernel, so it shows what a change to the engine costs, to a fraction of a percent under
callgrind. Runs under uvloop with one connection; the request and the right answer are the scenario's.
"""

import argparse
import asyncio
import gc
import statistics
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Protocol

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import apps
from scenarios import SCENARIOS, Scenario, excerpt

TURN_REQUESTS = 16  # requests answered in one turn of the loop, as a poller with so many ready sockets
HOPS_AT_MOST = 10  # turns that an application may take to answer
BATCH_REQUESTS = 2000
BATCHES = 15
FASTAPI = SCENARIOS["fastapi"].app


class Connection(Protocol):
    """One connection in memory."""

    def feed(self, data: bytes) -> None:
        """Take bytes as if a socket had read them."""

    def take_output(self) -> bytes:
        """Return what was written since the last call."""


def connect_fastasgi(app: Callable, loop: asyncio.AbstractEventLoop) -> Connection:
    """Return a connection of our own engine; the access log is off."""
    # Inside, as below: an environment need only hold the engine that is measured.
    from fastasgi._http1 import Http1
    from fastasgi._memory import MemoryChannel
    from fastasgi._runtime import Runtime
    from fastasgi.config import Config

    config = Config(app, access_log=False, lifespan="off")
    config.load()
    runtime = Runtime(config, app, loop, handler_factory=Http1)
    runtime.tick()
    return MemoryChannel(runtime, client=("127.0.0.1", 50000), server=("127.0.0.1", 8000), scheme="http")


class _MemoryTransport(asyncio.Transport):
    """A transport that gathers what is written."""

    def __init__(self) -> None:
        super().__init__({"peername": ("127.0.0.1", 50000), "sockname": ("127.0.0.1", 8000)})
        self.parts: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.parts.append(data)

    def writelines(self, parts: Iterable[bytes]) -> None:
        self.parts.extend(parts)

    def is_closing(self) -> bool:
        return False

    def close(self) -> None:
        raise AssertionError("expected the connection to be kept, uvicorn closed it")


class _UvicornConnection:
    """uvicorn's httptools protocol over such a transport."""

    def __init__(self, app: Callable) -> None:
        from uvicorn.config import Config
        from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
        from uvicorn.server import ServerState

        config = Config(app, access_log=False, lifespan="off", http="httptools", log_config=None)
        config.load()
        state = ServerState()
        state.default_headers = [(b"date", b"Sun, 22 Nov 2026 12:00:00 GMT"), *config.encoded_headers]
        self._transport = _MemoryTransport()
        self._protocol = HttpToolsProtocol(config=config, server_state=state, app_state={})
        self._protocol.connection_made(self._transport)
        self.feed = self._protocol.data_received

    def take_output(self) -> bytes:
        output = b"".join(self._transport.parts)
        self._transport.parts.clear()
        return output


def connect_uvicorn(app: Callable, loop: asyncio.AbstractEventLoop) -> Connection:
    """Return a connection of uvicorn's faster protocol, for comparison."""
    return _UvicornConnection(app)


ENGINES = {"fastasgi": connect_fastasgi, "uvicorn": connect_uvicorn}


async def answer_one(connection: Connection, request: bytes) -> bytes:
    """Feed one request and return the whole answer; raise when it takes too many turns of the loop."""
    connection.feed(request)
    output = connection.take_output()
    for _ in range(HOPS_AT_MOST):
        if output:
            return output
        await asyncio.sleep(0)
        output = connection.take_output()
    raise RuntimeError(f"expected an answer within {HOPS_AT_MOST} turns of the loop, got none")


async def answer_many(connection: Connection, request: bytes, requests: int) -> int:
    """Feed so many requests; return the bytes of their answers."""
    total = 0
    for number in range(requests):
        connection.feed(request)
        output = connection.take_output()
        while not output:
            await asyncio.sleep(0)
            output = connection.take_output()
        total += len(output)
        if number % TURN_REQUESTS == 0:
            await asyncio.sleep(0)
    return total


def check(scenario: Scenario, answer: bytes) -> None:
    """Raise unless this is the scenario's answer."""
    head, _, body = answer.partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200 ") or body != scenario.body:
        raise RuntimeError(f"expected 200 and {excerpt(scenario.body)}, got {excerpt(answer)}")


async def run(engine: str, scenario: Scenario, requests: int) -> None:
    """Answer so many requests; raise when any answer has another length than the first."""
    connection = ENGINES[engine](getattr(apps, scenario.app.partition(":")[2]), asyncio.get_running_loop())
    first = await answer_one(connection, scenario.request)
    check(scenario, first)
    total = await answer_many(connection, scenario.request, requests)
    if total != requests * len(first):
        raise RuntimeError(f"expected {requests} answers of {len(first)} bytes, got {total} bytes")


async def measure_time(engine: str, scenario: Scenario) -> list[float]:
    """Return nanoseconds of CPU per request, one figure for each batch."""
    connection = ENGINES[engine](getattr(apps, scenario.app.partition(":")[2]), asyncio.get_running_loop())
    check(scenario, await answer_one(connection, scenario.request))
    await answer_many(connection, scenario.request, BATCH_REQUESTS)
    gc.collect()
    figures = []
    for _ in range(BATCHES):
        began = time.process_time_ns()
        await answer_many(connection, scenario.request, BATCH_REQUESTS)
        figures.append((time.process_time_ns() - began) / BATCH_REQUESTS)
    return figures


def run_in_loop(coroutine, loop_name: str):
    """Run a coroutine to its end under uvloop or asyncio."""
    if loop_name == "uvloop":
        import uvloop

        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(coroutine)
    return asyncio.run(coroutine)


def main(arguments: list[str] | None = None) -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    # Large bodies leave in parts, over several turns: what they cost is copying, which sockets measure better.
    names = [name for name, scenario in SCENARIOS.items() if scenario.unit == "request" and scenario.app != FASTAPI]
    parser.add_argument("--engine", choices=ENGINES, default="fastasgi")
    parser.add_argument("--scenario", choices=names, default="plain")
    parser.add_argument("--loop", choices=("uvloop", "asyncio"), default="uvloop")
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--time", action="store_true", help="print nanoseconds of CPU per request")
    options = parser.parse_args(arguments)
    scenario = SCENARIOS[options.scenario]
    if not options.time:
        run_in_loop(run(options.engine, scenario, options.requests), options.loop)
        return
    figures = run_in_loop(measure_time(options.engine, scenario), options.loop)
    best, middle = min(figures), statistics.median(figures)
    print(f"{options.engine} {scenario.name}: best {best:.0f} ns, median {middle:.0f} ns of CPU per request")


if __name__ == "__main__":
    main()
