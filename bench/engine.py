"""The engine in process: from `feed` to the bytes of the answer, over memory instead of a socket.

    python bench/engine.py --time                     nanoseconds per request, best and median of batches
    python bench/engine.py --time --engine uvicorn    the same for uvicorn's httptools protocol
    python bench/engine.py --requests 1000            just that many requests: what callgrind.py runs

No sockets and no kernel, so it shows what a change to the engine costs, to a fraction of a percent under
callgrind. Runs under uvloop with one connection; the request and the right answer are the scenario's. The engine
`alone` is none: the application as every server must run it, which is what the others' figures hold of it. The
scenario `websocket` is a message of 100 bytes, sent back.
"""

import argparse
import asyncio
import contextvars
import functools
import gc
import statistics
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from fastasgi._awaitables import Ready
from fastasgi.bench.alone import always, content_of, done, find_app, make_scope
from fastasgi.bench.apps import websocket_app
from fastasgi.bench.scenarios import HTTP, HttpScenario, excerpt

TURN_REQUESTS = 16  # requests answered in one turn of the loop, as a poller with so many ready sockets
HOPS_AT_MOST = 10  # turns that an application may take to answer
BATCH_REQUESTS = 2000
BATCHES = 15
# Large bodies leave in parts, over several turns: what they cost is copying, which sockets measure better.
SCENARIOS = {
    scenario.name: scenario
    for scenario in HTTP
    if scenario.unit == "request" and scenario.name not in ("plain-log", "sse", "sleep", "workers")
}
WEBSOCKET = "websocket"
HANDSHAKE = (
    b"GET /ws HTTP/1.1\r\nHost: localhost:8000\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
MESSAGE = b'{"id": 1042, "name": "Ada Lovelace", "tags": ["engine", "notes"], "active": true, "score": 9.750000}'
MASK = b"\x37\xfa\x21\x3d"


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


class _Alone:
    """No server: the application in a task of its own, with a scope of its own, `send` and `receive` that are done."""

    def __init__(self, app: Callable, loop: asyncio.AbstractEventLoop) -> None:
        self._app, self._loop, self._base = app, loop, contextvars.copy_context()
        self._scope: dict[str, Any] | None = None
        self._sent: list[bytes] = []

    def feed(self, data: bytes) -> None:
        if self._scope is None:
            self._begin(data)
        else:
            self._call(self._receive, self._send)

    def take_output(self) -> bytes:
        return self._answer

    def _begin(self, data: bytes) -> None:
        """The first request shows what the answer is."""
        self._scope = make_scope(data)
        self._receive, self._send = always(done(self._loop, content_of(data))), always(Ready())

        async def keep(message: dict[str, Any]) -> None:
            self._sent.append(message.get("body", b""))

        self._call(self._receive, keep)
        self._answer = b"HTTP/1.1 200 OK\r\n\r\n" + b"".join(self._sent)

    def _call(self, receive: Callable, send: Callable) -> None:
        coroutine = self._app(dict(self._scope), receive, send)
        context = self._base.copy()
        task = asyncio.Task(coroutine, loop=self._loop, name="request", context=context, eager_start=True)
        if not task.done():
            raise RuntimeError("expected an application that does not wait")
        task.result()


def connect_alone(app: Callable, loop: asyncio.AbstractEventLoop) -> Connection:
    """Return a connection to no server at all."""
    return _Alone(app, loop)


ENGINES = {"fastasgi": connect_fastasgi, "uvicorn": connect_uvicorn, "alone": connect_alone}


@dataclass(frozen=True)
class Work:
    """What is asked again and again on one connection: bytes that open it, a request, how its answer is judged."""

    name: str
    app: Callable[..., Any]
    opening: bytes
    request: bytes
    check: Callable[[bytes], None]


def work_of(name: str) -> Work:
    """Return the work of a scenario."""
    if name == WEBSOCKET:
        masked = bytes(byte ^ MASK[at % 4] for at, byte in enumerate(MESSAGE))
        frame = bytes([0x81, 0x80 | len(MESSAGE)]) + MASK + masked
        return Work(name, websocket_app.echo, HANDSHAKE, frame, check_echo)
    scenario = SCENARIOS[name]
    return Work(name, find_app(scenario.app), b"", scenario.request, functools.partial(check, scenario))


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


class Asking:
    """So many requests, asked within callbacks of the loop: as a poller's, in which no task runs."""

    def __init__(self, connection: Connection, request: bytes, requests: int) -> None:
        self._loop = asyncio.get_running_loop()
        self._connection, self._request, self._left = connection, request, requests
        self._waits = False  # for an answer that comes in a later turn
        self._total = 0
        self.done: asyncio.Future[int] = self._loop.create_future()

    def turn(self) -> None:
        """Ask until the turn is over, or an answer has to be waited for; then again in the next one."""
        for _ in range(TURN_REQUESTS):
            if not self._waits:
                if not self._left:
                    self.done.set_result(self._total)
                    return
                self._left -= 1
                self._connection.feed(self._request)
            output = self._connection.take_output()
            self._waits = not output
            if self._waits:
                break
            self._total += len(output)
        self._loop.call_soon(self.turn)


async def answer_many(connection: Connection, request: bytes, requests: int) -> int:
    """Feed so many requests; return the bytes of their answers."""
    asking = Asking(connection, request, requests)
    asyncio.get_running_loop().call_soon(asking.turn)
    return await asking.done


def check(scenario: HttpScenario, answer: bytes) -> None:
    """Raise unless this is the scenario's answer."""
    head, _, body = answer.partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200 ") or body != scenario.body:
        raise RuntimeError(f"expected 200 and {excerpt(scenario.body)}, got {excerpt(answer)}")


def check_echo(answer: bytes) -> None:
    """Raise unless this is the message as a server's frame."""
    if answer != bytes([0x81, len(MESSAGE)]) + MESSAGE:
        raise RuntimeError(f"expected {excerpt(MESSAGE)} in a frame, got {excerpt(answer)}")


async def connect(engine: str, work: Work) -> tuple[Connection, bytes]:
    """Return a connection that has given one right answer, and that answer."""
    connection = ENGINES[engine](work.app, asyncio.get_running_loop())
    if work.opening:
        await answer_one(connection, work.opening)
        await asyncio.sleep(0)  # the handshake is behind it
    first = await answer_one(connection, work.request)
    work.check(first)
    return connection, first


async def run(engine: str, work: Work, requests: int) -> None:
    """Answer so many requests; raise when any answer has another length than the first."""
    connection, first = await connect(engine, work)
    total = await answer_many(connection, work.request, requests)
    if total != requests * len(first):
        raise RuntimeError(f"expected {requests} answers of {len(first)} bytes, got {total} bytes")


async def measure_time(engine: str, work: Work) -> list[float]:
    """Return nanoseconds of CPU per request, one figure for each batch."""
    connection, _ = await connect(engine, work)
    await answer_many(connection, work.request, BATCH_REQUESTS)
    gc.collect()
    figures = []
    for _ in range(BATCHES):
        began = time.process_time_ns()
        await answer_many(connection, work.request, BATCH_REQUESTS)
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
    parser.add_argument("--engine", choices=ENGINES, default="fastasgi")
    parser.add_argument("--scenario", choices=[*SCENARIOS, WEBSOCKET], default="plain")
    parser.add_argument("--loop", choices=("uvloop", "asyncio"), default="uvloop")
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--time", action="store_true", help="print nanoseconds of CPU per request")
    options = parser.parse_args(arguments)
    if options.scenario == WEBSOCKET and options.engine != "fastasgi":
        parser.error("expected the engine fastasgi for websocket: the others speak HTTP here")
    work = work_of(options.scenario)
    if not options.time:
        run_in_loop(run(options.engine, work, options.requests), options.loop)
        return
    figures = run_in_loop(measure_time(options.engine, work), options.loop)
    best, middle = min(figures), statistics.median(figures)
    print(f"{options.engine} {work.name}: best {best:.0f} ns, median {middle:.0f} ns of CPU per request")


if __name__ == "__main__":
    main()
