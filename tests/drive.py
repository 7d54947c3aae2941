"""Drive connections the way a client would: feed bytes, move a fake clock, read whole answers.

`serving(app)` is a runtime with a fake clock; on leaving it every connection is lost and the counters
must be back at zero, so each test that uses it is also a test for leaks. `Peer` is the client's end of
one `MemoryChannel`.

Nothing here sleeps: time is `Clock`, waiting is turning the loop.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable

from answers import Response, read_answers

from fastasgi._memory import MemoryChannel
from fastasgi._runtime import Runtime
from fastasgi.config import Config
from fastasgi.worker import handler_factory

SECOND_NS = 1_000_000_000
HOST = b"Host: example.com\r\n"
GET = b"GET / HTTP/1.1\r\n" + HOST + b"\r\n"
START = {"type": "http.response.start", "status": 200, "headers": []}
BODY = {"type": "http.response.body", "body": b"ok"}
MORE = {"type": "http.response.body", "body": b"piece", "more_body": True}
DISCONNECT = {"type": "http.disconnect"}
MAX_TURNS = 3000


class Clock:
    """Monotonic nanoseconds that move only when a test says so, or by `step_ns` at each look."""

    def __init__(self) -> None:
        self.now_ns = 1_000_000 * SECOND_NS
        self.step_ns = 0

    def __call__(self) -> int:
        self.now_ns += self.step_ns
        return self.now_ns

    def advance(self, seconds: float) -> None:
        self.now_ns += round(seconds * SECOND_NS)


async def turn(count: int = 1) -> None:
    """Let the loop turn `count` times."""
    for _ in range(count):
        await asyncio.sleep(0)


async def until(condition: Callable[[], object], what: str = "", turns: int = MAX_TURNS) -> None:
    """Turn the loop until `condition()` is true; fail after `turns`."""
    for _ in range(turns):
        if condition():
            return
        await asyncio.sleep(0)
    raise AssertionError(f"still not true after {turns} turns of the loop: {what or condition}")


def request(
    method: str = "GET",
    target: str = "/",
    *,
    version: str = "1.1",
    headers: tuple[str, ...] = (),
    body: bytes | None = None,
    length: int | None = None,
) -> bytes:
    """The bytes of one request; `body` brings its Content-Length, `length` announces another one."""
    lines = [f"{method} {target} HTTP/{version}", "Host: example.com", *headers]
    if body is not None or length is not None:
        lines.append(f"Content-Length: {len(body or b'') if length is None else length}")
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + (body or b"")


def start(status: object = 200, headers: object = (), **more: object) -> dict:
    """An `http.response.start` message."""
    return {"type": "http.response.start", "status": status, "headers": headers, **more}


def body(data: object = b"", more: bool | None = None) -> dict:
    """An `http.response.body` message; without `more` the key is absent."""
    message = {"type": "http.response.body", "body": data}
    if more is not None:
        message["more_body"] = more
    return message


def answering(*messages: dict) -> Callable[..., Awaitable[None]]:
    """An application that sends these messages, whatever it was asked."""

    async def app(scope: dict, receive: Callable, send: Callable) -> None:
        for message in messages:
            await send(message)

    return app


async def hello(scope: dict, receive: Callable, send: Callable) -> None:
    """200 `ok`, with its length."""
    await send(start(200, [(b"content-length", b"2"), (b"content-type", b"text/plain")]))
    await send(body(b"ok"))


def catching(*messages: dict) -> tuple[Callable, list[Exception]]:
    """An application that sends and keeps the first error, which it raises again; and where it is kept."""
    caught = []

    async def app(scope, receive, send):
        try:
            for message in messages:
                await send(message)
        except Exception as error:
            caught.append(error)
            raise

    return app, caught


def catching_app(app: Callable) -> tuple[Callable, list[BaseException]]:
    """`app`, and the list of what it raised."""
    caught = []

    async def wrapped(scope, receive, send):
        try:
            await app(scope, receive, send)
        except BaseException as error:
            caught.append(error)
            raise

    return wrapped, caught


def collecting(count: int, *, answer: bool = True) -> tuple[Callable, list[dict]]:
    """An application that receives `count` messages and keeps them, then answers."""
    got = []

    async def app(scope: dict, receive: Callable, send: Callable) -> None:
        for _ in range(count):
            got.append(await receive())
        if answer:
            await send(START)
            await send(BODY)

    return app, got


def leave(peer: "Peer", how: str) -> None:
    """The client goes: by FIN ("eof"), unseen ("lost"), or by "reset"."""
    if how == "eof":
        peer.eof()
    elif how == "lost":
        peer.lost()
    else:
        peer.lost(ConnectionResetError(104, "Connection reset by peer"))


async def drain_body(receive: Callable) -> bytes:
    """Every byte of the request body."""
    data = b""
    while True:
        message = await receive()
        assert message["type"] == "http.request", message
        data += message.get("body", b"")
        if not message.get("more_body", False):
            return data


async def echo(scope: dict, receive: Callable, send: Callable) -> None:
    """Answer with the request body."""
    data = await drain_body(receive)
    await send(start(200, [(b"content-length", b"%d" % len(data))]))
    await send(body(data))


class Peer:
    """The client's end of one in-memory connection."""

    def __init__(self, bench: "Bench", **options: object) -> None:
        self.bench = bench
        self.channel = MemoryChannel(bench.runtime, **options)
        self.seen = b""

    @property
    def state(self) -> str:
        return self.channel.state

    @property
    def output(self) -> bytes:
        """Every byte that the server has sent so far."""
        self.seen += self.channel.take_output()
        return self.seen

    @property
    def closed(self) -> bool:
        """The server has ended its side, gracefully."""
        return self.state in ("closing", "closed")

    @property
    def aborted(self) -> bool:
        return self.state == "aborted"

    def feed(self, data: bytes) -> None:
        self.channel.feed(data)

    def eof(self) -> None:
        self.channel.eof()

    def lost(self, error: BaseException | None = None) -> None:
        self.channel.lost(error)

    def answers(self, *methods: str) -> list[Response]:
        """The complete answers seen so far, to requests of these methods (GET where not told)."""
        return read_answers(self.output, methods, ended=self.state != "open")

    async def answer(self, method: str = "GET", *, data: bytes | None = None) -> Response:
        """Feed `data`, then wait for the first answer, which must be the only one."""
        if data is not None:
            self.feed(data)
        await until(lambda: self.answers(method), f"an answer; so far {self.seen[:300]!r} {self.state}")
        (only,) = self.answers(method)
        return only

    async def several(self, count: int, *methods: str) -> list[Response]:
        """Wait for `count` answers and give them all."""
        await until(
            lambda: len(self.answers(*methods)) >= count, f"{count} answers; so far {self.seen[-300:]!r}"
        )
        found = self.answers(*methods)
        assert len(found) == count, found
        return found

    def forget(self) -> None:
        """Begin anew: what was sent so far has been looked at."""
        self.seen += self.channel.take_output()
        self.seen = b""

    async def until_ended(self) -> None:
        await until(lambda: self.state != "open", f"the connection to end; so far {self.output[:300]!r}")


class Bench:
    """A runtime with a fake clock, and the connections made to it."""

    def __init__(self, app: Callable, state: dict | None, options: dict) -> None:
        self.clock = Clock()
        options.setdefault("log_config", None)
        options.setdefault("access_log", False)
        self.config = Config(app, **options)
        self.config.load()
        self.runtime = Runtime(
            self.config,
            app,
            asyncio.get_running_loop(),
            handler_factory=handler_factory(self.config),
            state=state,
            clock=self.clock,
        )
        self.runtime.tick()
        self.peers: list[Peer] = []

    def connect(self, **options: object) -> Peer:
        peer = Peer(self, **options)
        self.peers.append(peer)
        return peer

    async def pass_time(self, seconds: float, step_s: float | None = None) -> None:
        """Move the clock, ticking as often as the runtime asks for, and let the loop turn."""
        step_s = step_s or min(1.0, self.runtime.tick_interval_s)
        left = seconds
        while left > 1e-9:
            self.clock.advance(min(step_s, left))
            left -= step_s
            self.runtime.tick()
            await turn(2)

    async def close(self) -> None:
        for peer in self.peers:
            if peer.state not in ("aborted", "closed"):
                peer.lost()
        await turn(5)
        self.runtime.cancel()
        with contextlib.suppress(AssertionError):
            await until(lambda: self.idle, turns=200)

    @property
    def idle(self) -> bool:
        return self.runtime.connections == 0 and self.runtime.requests_active == 0


@contextlib.asynccontextmanager
async def serving(app: Callable, *, state: dict | None = None, **options: object):
    """A `Bench`; leaving it loses every connection and fails when one, or an exchange, is left."""
    bench = Bench(app, state, options)
    try:
        yield bench
    except BaseException:
        await bench.close()
        raise
    await bench.close()
    left = (bench.runtime.connections, bench.runtime.requests_active)
    assert left == (0, 0), f"connections and requests left after the end: {left}"


async def exchange(app: Callable, data: bytes = GET, *, method: str = "GET", **options: object):
    """One request on one connection: the answer, and the state in which the connection then is."""
    async with serving(app, **options) as bench:
        peer = bench.connect()
        found = await peer.answer(method, data=data)
        await turn(5)
        return found, peer.state


async def conversation(app: Callable, data: bytes = GET, **options: object) -> tuple[bytes, str]:
    """The raw bytes of everything sent in return for `data`, and the state of the connection."""
    async with serving(app, **options) as bench:
        peer = bench.connect()
        peer.feed(data)
        await turn(30)
        return peer.output, peer.state


def complaints(caplog: object) -> list[logging.LogRecord]:
    """What was logged at ERROR or above."""
    return [record for record in caplog.records if record.levelno >= logging.ERROR]
