"""Clients that take what the kernel already has, slower than the deadlines that begin behind it."""

import pytest
from drive import BODY, START, request, turn
from net import IOS, listening
from ws import PING, read_frame
from ws import request as handshake

SIZE = 400_000
SLOW_BYTES = 6000
CLOSED = b"\x88\x02\x03\xe8"

pytestmark = [pytest.mark.parametrize("io", IOS), pytest.mark.pins("slow.progress")]


async def take(net, client, seconds, is_all=lambda seen: False, says=b""):
    """Read a little, again and again, with so many seconds between; what came until the end, or until it is all."""
    left = SLOW_BYTES
    while (data := await client.receive(1000)) and not is_all(client.seen):
        left -= len(data)
        await turn(2)
        if left <= 0:
            left = SLOW_BYTES
            await client.send(says)
            await net.pass_time(seconds)
    return client.seen


def frames_of(seen):
    """Opcodes and payloads of the frames behind the answer to the handshake."""
    rest, found = seen.partition(b"\r\n\r\n")[2], []
    while (one := read_frame(rest)) is not None:
        frame, size = one
        found.append((frame.opcode, frame.payload))
        rest = rest[size:]
    return found


@pytest.mark.pins("websocket.close-codes")
async def test_a_close_behind_a_long_message(io, event_loop_kind):
    async def app(scope, receive, send):
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "bytes": SIZE * b"x"})

    async with listening(app, io, ws_ping_interval=None) as net:
        client = await net.dial(receive_buffer=4096)
        await client.send(handshake())
        seen = await take(net, client, 8, lambda seen: seen.endswith(CLOSED))
        (_, message), (_, code) = frames_of(seen)
        assert message == SIZE * b"x"
        assert code == (1000).to_bytes(2, "big")


@pytest.mark.pins("websocket.pings")
async def test_a_ping_behind_a_long_message(io, event_loop_kind):
    """It cannot answer what it has not got."""
    codes = []

    async def app(scope, receive, send):
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "bytes": SIZE * b"x"})
        codes.append((await receive())["code"])

    async with listening(app, io, ws_ping_interval=1, ws_ping_timeout=10) as net:
        client = await net.dial(receive_buffer=4096)
        await client.send(handshake())
        await take(net, client, 8, lambda seen: len(seen) > SIZE and PING in dict(frames_of(seen)))
        assert not codes
        client.close()
        await net.until(lambda: codes)
        assert codes == [1006]


async def test_an_answer_to_an_upload_that_is_not_read(io, event_loop_kind):
    """The connection lingers, because the client still sends, and it takes its answer meanwhile."""

    async def app(scope, receive, send):
        await send(START)
        await send({**BODY, "body": SIZE * b"x"})

    async with listening(app, io, timeout_request_body=None) as net:
        client = await net.dial(receive_buffer=4096)
        await client.send(request("POST", length=100_000_000))
        assert (await take(net, client, 1.5, says=b"more of it")).count(b"x") >= SIZE
