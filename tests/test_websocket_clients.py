"""The clients that people use: websockets, aiohttp, picows, over both bodies of a connection on real sockets."""

import asyncio

import aiohttp
import pytest
import websockets
from net import IOS, PATIENCE_S, listening
from ws import Gate, Room

pytestmark = pytest.mark.parametrize("io", IOS)
BIG = bytes(range(256)) * 4096  # 1 MiB
LONG = "Grüße, κόσμε, 日本 " * 1000


def url_of(net, path="/"):
    return f"ws://127.0.0.1:{net.listening_socket.getsockname()[1]}{path}"


def connect(net, **how):
    return websockets.connect(url_of(net), proxy=None, open_timeout=PATIENCE_S, close_timeout=PATIENCE_S, **how)


# --- websockets -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("compression", ["deflate", None])
async def test_websockets_echo(io, compression):
    async with listening(Room(echo=True), io) as net, connect(net, compression=compression, max_size=None) as client:
        assert bool(client.protocol.extensions) is (compression is not None)
        for message in ("hi", "", b"", b"\x00\xff", LONG, BIG):
            await client.send(message)
            assert await client.recv() == message
        await client.send(["in ", "frag", "ments"])
        assert await client.recv() == "in fragments"
        pong = await client.ping(b"are you there")
        await asyncio.wait_for(pong, PATIENCE_S)


async def test_websockets_many_messages_at_once(io):
    async with listening(Room(echo=True), io) as net, connect(net) as client:
        sending = asyncio.ensure_future(asyncio.gather(*(client.send(f"{number}") for number in range(500))))
        got = [await client.recv() for _ in range(500)]
        await sending
        assert got == [f"{number}" for number in range(500)]


async def test_websockets_close_codes(io):
    room = Room()
    async with listening(room, io) as net:
        async with connect(net) as client:
            await client.close(3456, "bye")
        await net.until(lambda: room.disconnect)
        assert (room.disconnect["code"], room.disconnect["reason"]) == (3456, "bye")


async def test_websockets_sees_our_close(io):
    gate = Gate()
    async with listening(gate, io) as net, connect(net) as client:
        await gate.opened()
        await gate.send({"type": "websocket.close", "code": 4321, "reason": "enough"})
        with pytest.raises(websockets.ConnectionClosedError) as caught:
            await client.recv()
        assert (caught.value.rcvd.code, caught.value.rcvd.reason) == (4321, "enough")
        gate.end()


async def test_websockets_is_refused(io):
    async def app(scope, receive, send):
        await receive()
        await send({"type": "websocket.http.response.start", "status": 401, "headers": [(b"x-why", b"nobody")]})
        await send({"type": "websocket.http.response.body", "body": b"who is it?"})

    async with listening(app, io) as net:
        with pytest.raises(websockets.InvalidStatus) as caught:
            await connect(net)
        answer = caught.value.response
        assert (answer.status_code, answer.headers["x-why"], answer.body) == (401, "nobody", b"who is it?")


async def test_websockets_subprotocol(io):
    room = Room(accept={"subprotocol": "soap"})
    async with listening(room, io) as net, connect(net, subprotocols=["wamp", "soap"]) as client:
        assert client.subprotocol == "soap"


async def test_websockets_over_a_unix_socket(io, tmp_path):
    path = str(tmp_path / "s")
    room = Room(echo=True)
    async with (
        listening(room, io, family="unix", path=path),
        websockets.unix_connect(path, "ws://localhost/") as client,
    ):
        await client.send("hi")
        assert await client.recv() == "hi"
    assert room.scopes[0]["server"] == (path, None)


# --- aiohttp ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("compress", [15, 0])
async def test_aiohttp_echo(io, compress):
    room = Room(echo=True)
    async with listening(room, io) as net, aiohttp.ClientSession() as session:
        async with session.ws_connect(url_of(net), compress=compress, max_msg_size=0) as client:
            assert bool(client.compress) is bool(compress)
            for message in ("hi", LONG):
                await client.send_str(message)
                assert await client.receive_str(timeout=PATIENCE_S) == message
            for message in (b"", BIG):
                await client.send_bytes(message)
                assert await client.receive_bytes(timeout=PATIENCE_S) == message
            await client.ping(b"x")
            await client.send_json({"a": [1]})
            assert await client.receive_json(timeout=PATIENCE_S) == {"a": [1]}
            await client.close(code=4000, message=b"bye")
        await net.until(lambda: room.disconnect)
        assert (room.disconnect["code"], room.disconnect["reason"]) == (4000, "bye")


async def test_aiohttp_sees_our_close(io):
    gate = Gate()
    async with listening(gate, io) as net, aiohttp.ClientSession() as session:
        async with session.ws_connect(url_of(net), protocols=["a"]) as client:
            await gate.opened()
            await gate.send({"type": "websocket.close", "code": 4001, "reason": "enough"})
            message = await client.receive(timeout=PATIENCE_S)
            assert (message.type, message.data, message.extra) == (aiohttp.WSMsgType.CLOSE, 4001, "enough")
        gate.end()


async def test_aiohttp_is_refused(io):
    async def app(scope, receive, send):
        await receive()
        await send({"type": "websocket.close"})

    async with listening(app, io) as net, aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
            await session.ws_connect(url_of(net))
        assert caught.value.status == 403


# --- picows -----------------------------------------------------------------------------------------------------------


async def test_picows_echo(io):
    import picows

    class Listener(picows.WSListener):
        def on_ws_connected(self, transport):
            self.got = asyncio.Queue()
            self.close = None

        def on_ws_frame(self, transport, frame):
            if frame.msg_type == picows.WSMsgType.CLOSE:
                self.got.put_nowait((frame.get_close_code(), frame.get_close_message()))
            else:
                self.got.put_nowait((frame.msg_type, frame.get_payload_as_bytes()))

    room = Room(echo=True)
    async with listening(room, io) as net:
        transport, listener = await picows.ws_connect(Listener, url_of(net))
        for kind, data in ((picows.WSMsgType.TEXT, LONG.encode()), (picows.WSMsgType.BINARY, BIG)):
            transport.send(kind, data)
            assert await asyncio.wait_for(listener.got.get(), PATIENCE_S) == (kind, data)
        transport.send_close(picows.WSCloseCode.OK, b"bye")
        assert (await asyncio.wait_for(listener.got.get(), PATIENCE_S))[0] == 1000
        transport.disconnect()
        await asyncio.wait_for(transport.wait_disconnected(), PATIENCE_S)
        await net.until(lambda: room.disconnect)
        assert (room.disconnect["code"], room.disconnect["reason"]) == (1000, "bye")
