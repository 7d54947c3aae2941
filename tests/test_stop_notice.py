"""stop_notice: an application hears that its server is about to stop, while it is still served."""

import asyncio
import http.client
import signal

from process import PATIENCE_S

import fastasgi
from fastasgi import stopping
from fastasgi.stop_notice import told_by

GET = b"GET %s HTTP/1.1\r\nHost: x\r\n\r\n"


async def app(scope, receive, send):
    """/stream ends when the server stops; /thread and anything else tell whether it does."""
    if scope["type"] == "lifespan":
        await receive()
        scope["state"]["event"] = stopping()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    assert scope["state"]["event"] is stopping()
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        await stopping().wait()
        await send({"type": "websocket.close"})
        return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    if scope["path"] == "/stream":
        await send({"type": "http.response.body", "body": b"hello", "more_body": True})
        await stopping().wait()
        await send({"type": "http.response.body", "body": b"bye"})
        return
    is_set = await asyncio.to_thread(lambda: stopping().is_set())
    await send({"type": "http.response.body", "body": str(is_set).encode()})


async def connect(server, target):
    """A connection on which this was asked for."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(server.url.rpartition(":")[2]))
    writer.write(GET % target)
    return reader, writer


async def test_a_stream_ends_by_itself():
    """Long before http.disconnect would end it."""
    server = fastasgi.serve(app, port=0, timeout_graceful_shutdown=None)
    async with server:
        reader, writer = await connect(server, b"/stream")
        assert (await reader.readuntil(b"hello")).startswith(b"HTTP/1.1 200 OK")
    assert b"bye" in await reader.read()
    writer.close()
    await writer.wait_closed()


async def test_servers_of_one_loop_do_not_mix():
    """Nor do two lives of one server."""
    one, two = fastasgi.serve(app, port=0), fastasgi.serve(app, port=0)
    async with two:
        async with one:
            pass
        async with one:
            for server in (one, two):
                reader, writer = await connect(server, b"/thread")
                await reader.readuntil(b"False")
                writer.close()
                await writer.wait_closed()


def test_it_is_told_before_the_delay():
    """Requests are still served then, and find it set."""
    with fastasgi.serve_in_thread(app, port=0, drain_delay=PATIENCE_S) as server:
        connection = http.client.HTTPConnection("127.0.0.1", int(server.url.rpartition(":")[2]), timeout=PATIENCE_S)

        def ask():
            connection.request("GET", "/")
            return connection.getresponse().read()

        assert ask() == b"False"
        server.should_exit = True
        while ask() == b"False":
            pass
        assert ask() == b"True"
        connection.close()
        server.force_exit = True


def test_libraries_find_the_server():
    """By the handler of SIGTERM, as uvicorn's: so sse-starlette learns that it should end its streams."""
    one, two = (fastasgi.Server(fastasgi.Config(app, log_config=None)) for _ in range(2))
    with one.capture_signals(), two.capture_signals():
        handler = signal.getsignal(signal.SIGTERM)
        assert handler.__self__.should_exit is False
        signal.raise_signal(signal.SIGTERM)
        assert handler.__self__.should_exit is True
        assert one.should_exit and two.should_exit


async def test_elsewhere_nobody_sets_it():
    assert not stopping().is_set()
    event = asyncio.Event()

    async def ask():
        return stopping()

    with told_by(event):
        task = asyncio.create_task(ask())
    assert stopping() is not event
    assert await task is event
