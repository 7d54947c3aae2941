"""middleware.wsgi: WSGI applications on real connections, streaming both ways, whoever goes first."""

import asyncio
import contextlib
import socket
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from net import IOS, PATIENCE_S, Net, listening

from fastasgi.errors import ClientDisconnected, StartupError
from fastasgi.middleware.wsgi import WSGIMiddleware

pytest.importorskip("a2wsgi")

PIECE = b"x" * 65536


@pytest.fixture(params=IOS)
def io(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def wrapped(app: Callable[..., Any]) -> WSGIMiddleware:
    return WSGIMiddleware(app, workers=2)


@contextlib.asynccontextmanager
async def served(middleware: WSGIMiddleware, io: str, **options: Any) -> AsyncIterator[Net]:
    """Listening, until the threads have seen that their clients are gone, for which turns of the loop do not wait."""
    async with listening(middleware, io, **options) as net:
        yield net
        for client in net.clients:
            client.close()
        async with asyncio.timeout(PATIENCE_S):
            while net.runtime.requests_active:
                await asyncio.sleep(0.001)


async def rest_of(middleware: WSGIMiddleware) -> None:
    """Wait for its threads, which end by themselves: a test would hang here if one did not."""
    await asyncio.wait_for(asyncio.to_thread(middleware._threads.shutdown), PATIENCE_S)


def hello(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain"), ("X-Twice", "a"), ("X-Twice", "b")])
    return [environ["REQUEST_METHOD"].encode(), b" ", environ["PATH_INFO"].encode(), b"\n"]


async def test_request_and_response(io: str) -> None:
    middleware = wrapped(hello)
    async with served(middleware, io) as net:
        client = await net.dial()
        answer = await client.answer(data=b"GET /a%20b HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (answer.status, answer.body) == (200, b"GET /a b\n")
        assert answer.all("x-twice") == [b"a", b"b"]
        assert (await client.answer(data=b"GET /2 HTTP/1.1\r\nHost: x\r\n\r\n")).body == b"GET /2\n"
    await rest_of(middleware)


async def test_environ(io: str) -> None:
    seen: list[dict[str, Any]] = []

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        seen.append(environ)
        return hello(environ, start_response)

    middleware = wrapped(app)
    async with served(middleware, io) as net:
        client = await net.dial()
        await client.answer(data=b"GET /?q=1 HTTP/1.1\r\nHost: x\r\nCookie: a=1\r\nCookie: b=2\r\nX-Y: z\r\n\r\n")
        environ = seen[0]
        port = net.listening_socket.getsockname()[1]
    assert environ["HTTP_COOKIE"] == "a=1; b=2"
    assert environ["HTTP_X_Y"] == "z"
    assert (environ["QUERY_STRING"], environ["SERVER_PORT"]) == ("q=1", str(port))
    assert environ["wsgi.errors"] is sys.stderr
    await rest_of(middleware)


@pytest.mark.parametrize("chunked", [False, True])
async def test_upload_streams(io: str, chunked: bool) -> None:
    """The application reads the first piece before the client sends the second."""
    read = threading.Event()

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        assert environ["wsgi.input_terminated"]
        first = environ["wsgi.input"].read(3)
        read.set()
        start_response("200 OK", [])
        return [first, b"|", environ["wsgi.input"].read()]

    middleware = wrapped(app)
    async with served(middleware, io) as net:
        client = await net.dial()
        kind = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: 6"
        await client.send(b"POST / HTTP/1.1\r\nHost: x\r\n" + kind + b"\r\n\r\n")
        await client.send(b"3\r\nabc\r\n" if chunked else b"abc")
        await net.until(read.is_set, "the first piece to be read")
        await client.send(b"3\r\ndef\r\n0\r\n\r\n" if chunked else b"def")
        assert (await client.answer("POST")).body == b"abc|def"
    await rest_of(middleware)


async def test_response_streams(io: str) -> None:
    """The client has the first piece before the application makes the second."""
    go_on = threading.Event()

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterator[bytes]:
        start_response("200 OK", [])
        yield b"first"
        assert go_on.wait(PATIENCE_S)
        yield b"second"

    middleware = wrapped(app)
    async with served(middleware, io) as net:
        client = await net.dial()
        await client.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        while b"first" not in client.seen:
            assert await client.receive()
        assert b"second" not in client.seen
        go_on.set()
        assert (await client.answer()).body == b"firstsecond"
    await rest_of(middleware)


async def test_slow_reader_holds_the_application_back(io: str) -> None:
    """The application is never further ahead than the buffers between it and the client are large."""
    made = 0

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterator[bytes]:
        nonlocal made
        start_response("200 OK", [])
        for _ in range(400):
            made += len(PIECE)
            yield PIECE

    middleware = wrapped(app)
    async with served(middleware, io) as net:
        # inherited by what is accepted; the kernel would take megabytes
        net.listening_socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
        client = await net.dial(receive_buffer=16384)
        await client.send(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        got = ahead = 0
        while data := await client.receive(1 << 18):
            got, client.seen = got + len(data), b""
            ahead = max(ahead, made - got)
        assert got > made == 400 * len(PIECE)
        assert ahead < 1 << 20
    await rest_of(middleware)


async def test_client_that_goes_ends_the_application(io: str) -> None:
    """The thread of an endless response ends, and what the application holds open is closed."""
    closed = threading.Event()

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterator[bytes]:
        start_response("200 OK", [])
        try:
            while True:
                yield PIECE
        finally:
            closed.set()

    middleware = wrapped(app)
    async with served(middleware, io) as net:
        client = await net.dial()
        await client.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        await client.receive()
        client.reset()
        await net.until(closed.is_set, "the application to be closed")
    await rest_of(middleware)


async def test_upload_that_breaks_off_is_no_whole_one(io: str) -> None:
    errors: list[BaseException] = []

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        try:
            environ["wsgi.input"].read()
        except BaseException as error:
            errors.append(error)
            raise
        raise AssertionError("half an upload was taken for a whole one")

    middleware = wrapped(app)
    async with served(middleware, io) as net:
        client = await net.dial()
        await client.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 6\r\n\r\nabc")
        await net.until(lambda: net.runtime.requests_active == 1, "the request to begin")
        client.reset()
        await net.until(lambda: errors, "the error to reach the application")
    assert isinstance(errors[0], ClientDisconnected)
    await rest_of(middleware)


async def test_cancelled_request_ends_its_thread(io: str) -> None:
    """As at the end of a drain: the thread's next piece is refused."""
    ended = threading.Event()

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterator[bytes]:
        start_response("200 OK", [])
        try:
            while True:
                yield PIECE
        finally:
            ended.set()

    middleware = wrapped(app)
    async with served(middleware, io) as net:
        client = await net.dial(receive_buffer=16384)
        await client.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        await client.receive()
        net.runtime.cancel()
        await net.until(ended.is_set, "the thread to end")
    await rest_of(middleware)


async def test_error_before_the_response_is_500(io: str, caplog: pytest.LogCaptureFixture) -> None:
    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        start_response("200 OK", [])
        raise ZeroDivisionError("no response")

    middleware = wrapped(app)
    async with served(middleware, io) as net:
        client = await net.dial()
        assert (await client.answer(data=b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")).status == 500
    assert "ZeroDivisionError: no response" in caplog.text
    await rest_of(middleware)


async def test_start_response_again(io: str) -> None:
    """PEP 3333: with exc_info another response may still be chosen, until headers have left."""

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        start_response("200 OK", [])
        try:
            raise KeyError("x")
        except KeyError:
            start_response("503 Busy", [("X-A", "b")], sys.exc_info())
        return [b"busy"]

    middleware = wrapped(app)
    async with served(middleware, io) as net:
        client = await net.dial()
        answer = await client.answer(data=b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (answer.status, answer.body) == (503, b"busy")
    await rest_of(middleware)


@pytest.mark.parametrize("app", ["twice", "never"])
async def test_misuse_of_start_response(io: str, app: str, caplog: pytest.LogCaptureFixture) -> None:
    def twice(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        start_response("200 OK", [])
        start_response("200 OK", [])
        return [b""]

    def never(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        return [b"x"]

    middleware = wrapped({"twice": twice, "never": never}[app])
    async with served(middleware, io) as net:
        client = await net.dial()
        assert (await client.answer(data=b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")).status == 500
    assert "start_response()" in caplog.text
    await rest_of(middleware)


async def test_write(io: str) -> None:
    """The old way to send, before what is returned."""

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        write = start_response("200 OK", [])
        write(b"written ")
        return [b"returned"]

    middleware = wrapped(app)
    async with served(middleware, io) as net:
        client = await net.dial()
        assert (await client.answer(data=b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")).body == b"written returned"
    await rest_of(middleware)


async def test_lifespan_and_websocket() -> None:
    sent: list[str] = []

    async def receive() -> dict[str, Any]:
        return {"type": "lifespan.startup"}

    async def send(message: Any) -> None:
        sent.append(message["type"])

    middleware = wrapped(hello)
    await middleware({"type": "websocket"}, receive, send)  # type: ignore[arg-type]
    await middleware({"type": "lifespan"}, receive, send)  # type: ignore[arg-type]
    assert sent == ["websocket.close", "lifespan.startup.complete", "lifespan.shutdown.complete"]


def test_missing_a2wsgi(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "a2wsgi.wsgi", None)
    with pytest.raises(StartupError, match=r"pip install 'fastasgi\[wsgi\]'"):
        WSGIMiddleware(hello)
