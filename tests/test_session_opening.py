"""A WebSocket whose handshake is not answered yet, and whose client or server ends."""

import asyncio
import contextlib
import gc

import pytest
from drive import GET, hello, serving, turn
from frames import TEXT, frame, handshake
from net import IOS, listening
from websocket_drive import ACCEPT, CONNECT, Script, disconnect, offered

from fastasgi.errors import ClientDisconnected


@pytest.fixture
def script():
    return Script()


@pytest.mark.pins("websocket.handshake", "websocket.close-codes")
@pytest.mark.parametrize("behind", [b"", frame(TEXT, "behind")], ids=["alone", "with a message"])
@pytest.mark.parametrize("how", ["eof", "drain"])
async def test_an_open_handshake_ends_with_its_client_or_the_server(script, how, behind):
    """Half a connection is of no use to a WebSocket: the handshake is answered, and the connection ends by itself."""
    async with serving(script) as bench:
        client = await offered(bench, behind=behind)
        assert await script.receive() == CONNECT
        waiting = asyncio.ensure_future(script.receive())
        await turn(2)
        if how == "drain":
            bench.runtime.drain()
        client.peer.eof() if how == "eof" else bench.runtime.disconnect()
        assert await waiting == disconnect(1006)
        (answer,) = client.peer.answers()
        assert (answer.status, answer.announces_close) == ({"eof": 400, "drain": 503}[how], True)
        await bench.pass_time(5)
        assert client.peer.closed and bench.runtime.connections == 0
        with pytest.raises(ClientDisconnected):
            await script.send(ACCEPT)
        script.finish()


@pytest.mark.pins("websocket.handshake")
@pytest.mark.parametrize("how", ["eof", "drain"])
async def test_a_refusal_goes_on_without_its_client(script, how):
    """It is a response as any other: a half-closed client still gets it, and so does one of a server that drains."""
    async with serving(script) as bench:
        client = await offered(bench)
        assert await script.receive() == CONNECT
        await script.send({"type": "websocket.http.response.start", "status": 401, "headers": []})
        await script.send({"type": "websocket.http.response.body", "body": b"who ", "more_body": True})
        client.peer.eof() if how == "eof" else bench.runtime.disconnect()
        await script.send({"type": "websocket.http.response.body", "body": b"are you"})
        (answer,) = client.peer.answers()
        assert (answer.status, answer.body) == (401, b"who are you")
        script.finish()
        if how == "eof":
            await turn(3)
            assert client.peer.closed


@pytest.mark.pins("websocket.handshake", "websocket.send-after-close")
@pytest.mark.parametrize("io", IOS)
@pytest.mark.parametrize(
    "messages",
    [
        [{"type": "websocket.close"}],
        [
            {"type": "websocket.http.response.start", "status": 401, "headers": []},
            {"type": "websocket.http.response.body", "body": b"no"},
        ],
        [ACCEPT, {"type": "websocket.send", "text": "x"}],
        [ACCEPT, {"type": "websocket.close"}],
    ],
    ids=["refuses", "denies", "accepts and sends", "accepts and closes"],
)
async def test_the_answer_is_the_first_to_find_the_client_gone(messages, io, event_loop_kind):
    """The write fails, and all that is about the connection is let go of within the application's call."""
    done = asyncio.Event()

    async def app(scope, receive, send):
        assert await receive() == CONNECT
        await asyncio.sleep(0)
        client.reset()
        for message in messages:
            with contextlib.suppress(ClientDisconnected):
                await send(message)
        assert (await receive())["type"] == "websocket.disconnect"
        done.set()

    async with listening(app, io, access_log=True) as net:
        client = await net.dial()
        await client.send(handshake())
        await net.until(done.is_set)
        await net.until(lambda: not net.runtime.connections)


async def test_a_request_before_it_leaves_no_garbage():
    """What is kept of a request for the next one would hold itself behind an upgrade."""

    async def app(scope, receive, send):
        if scope["type"] == "http":
            await hello(scope, receive, send)
            return
        await receive()
        await send(ACCEPT)
        await receive()

    async with serving(app) as bench:
        gc.collect()
        gc.disable()
        try:
            for _ in range(3):
                peer = bench.connect()
                await peer.answer(data=GET)
                peer.feed(handshake())
                await turn(3)
                peer.lost()
                await turn(3)
            bench.peers.clear()
            del peer
            assert gc.collect() == 0
        finally:
            gc.enable()
