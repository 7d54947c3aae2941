"""Neither side can make the server keep more than it wants: back-pressure in both directions, and what is bounded."""

import asyncio

import pytest
from drive import turn
from net import ON_LINUX
from ws import BODIES, Gate, Room, binary, closing, frame, read_frame, talking, text

pytestmark = pytest.mark.parametrize("body", BODIES)
KIB = 1024
SIZE = 256 * KIB
COUNT = 60


async def quiet(talk, value):
    """`value()` once it has stopped changing."""
    last, same = None, 0
    while same < 30:
        await turn(3)
        now = value()
        same = same + 1 if now == last else 0
        last = now
    return last


@pytest.mark.pins("websocket.receive-backpressure")
async def test_reading_pauses_for_messages(body):
    """`ws_max_queue` messages wait; what the client sends beyond stays with it."""
    gate = Gate()
    async with talking(gate, body, ws_max_queue=4) as talk:
        wire = await talk.open()
        await gate.opened()
        if body == "memory":
            for _ in range(4):
                wire.peer.feed(text("x"))
            wire.peer.feed(text("x"))
            assert not wire.peer.channel.reading
            got = [(await gate.receive())["text"] for _ in range(5)]
            assert got == ["x"] * 5
            await turn(3)
            assert wire.peer.channel.reading
        else:
            data = binary(bytes(64 * KIB))
            sent = wire.client.send_what_fits(data, 64 * KIB * KIB)
            assert sent < 64 * KIB * KIB, "the server reads for ever"
            whole = sent // len(data)
            for _ in range(whole):
                assert len((await gate.receive())["bytes"]) == 64 * KIB
        gate.end()


@pytest.mark.pins("websocket.receive-backpressure")
async def test_nothing_is_lost_by_pausing(body):
    """An application that is slower than its client gets everything, in order."""
    gate = Gate()
    async with talking(gate, body, ws_max_queue=2) as talk:
        wire = await talk.open()
        await gate.opened()
        expected = [f"{number} " * number for number in range(200)]
        data = b"".join(text(one) for one in expected) + closing(4000)

        async def send():
            for at in range(0, len(data), 1000):
                if body == "memory":
                    while not wire.peer.channel.reading:
                        await turn()
                await wire.send(data[at : at + 1000])

        sending = asyncio.ensure_future(send())
        got = []
        while (event := await gate.receive())["type"] == "websocket.receive":
            got.append(event["text"])
            await turn(2)
        await sending
        assert got == expected
        assert event["code"] == 4000
        gate.end()


@pytest.mark.pins("websocket.receive-backpressure")
async def test_reading_pauses_for_bytes(body):
    """`ws_max_queue_bytes`: a few large messages are as much as many small ones."""
    gate = Gate()
    async with talking(gate, body, ws_max_queue=1000, ws_max_queue_bytes=100 * KIB) as talk:
        wire = await talk.open()
        await gate.opened()
        if body == "memory":
            fed = 0
            while wire.peer.channel.reading and fed < 50:
                wire.peer.feed(binary(bytes(30 * KIB)))
                fed += 1
            assert fed <= 5
        else:
            sent = wire.client.send_what_fits(binary(bytes(30 * KIB)), 64 * KIB * KIB)
            assert sent < 64 * KIB * KIB
        gate.end()


@pytest.mark.pins("websocket.receive-backpressure")
async def test_a_client_that_leaves_while_reading_pauses(body):
    """What was queued is delivered, then the end."""
    gate = Gate()
    async with talking(gate, body, ws_max_queue=2) as talk:
        wire = await talk.open()
        await gate.opened()
        for _ in range(6):
            await wire.send(text("x"))
        await turn(5)
        wire.reset()
        kinds = []
        while not kinds or kinds[-1] != "websocket.disconnect":
            kinds.append((await gate.receive())["type"])
        assert len(kinds) <= 7
        await talk.until(lambda: talk.runtime.connections == 0)
        gate.end()


@pytest.mark.pins("websocket.send-backpressure")
async def test_send_waits_for_a_slow_reader(body):
    gate = Gate()
    async with talking(gate, body) as talk:
        if body == "memory":
            wire = await talk.open()
            wire.peer.channel.hold_output(1000)
        else:
            wire = await talk.connect(receive_buffer=64 * KIB)
            from ws import request

            await wire.send(request())
            assert (await wire.answer()).status == 101
        await gate.opened()
        progress = []

        async def flood():
            for number in range(COUNT):
                await gate.send({"type": "websocket.send", "bytes": bytes([number]) * SIZE})
                progress.append(number)

        flooding = asyncio.ensure_future(flood())
        stopped = await quiet(talk, lambda: len(progress))
        assert stopped < COUNT, "send never waits"
        assert not flooding.done()
        if body == "memory":
            wire.peer.channel.hold_output(None)
        for number in range(COUNT):
            one = await wire.message()
            assert one.payload == bytes([number]) * SIZE
        await flooding
        gate.end()


@pytest.mark.pins("websocket.send-backpressure")
async def test_a_reader_that_leaves_ends_the_wait(body):
    gate = Gate()
    async with talking(gate, body) as talk:
        wire = await talk.open()
        await gate.opened()
        if body == "memory":
            wire.peer.channel.hold_output(0)

        async def flood():
            while True:
                await gate.send({"type": "websocket.send", "bytes": bytes(256 * KIB)})

        flooding = asyncio.ensure_future(flood())
        await turn(50)
        assert not flooding.done()
        wire.reset()
        with pytest.raises(OSError):  # noqa: PT011 - ClientDisconnected is one
            await flooding
        gate.end()


@pytest.mark.pins("websocket.send-backpressure")
async def test_a_reader_that_stops_is_aborted(body):
    """`timeout_response_stall` holds for WebSockets too."""
    gate = Gate()
    async with talking(gate, body, ws_ping_interval=None, timeout_response_stall=30) as talk:
        wire = await talk.open()
        await gate.opened()
        if body == "memory":
            wire.peer.channel.hold_output(0)

        async def flood():
            while True:
                await gate.send({"type": "websocket.send", "bytes": bytes(256 * KIB)})

        flooding = asyncio.ensure_future(flood())
        await turn(50)
        await talk.pass_time(40)
        with pytest.raises(OSError):  # noqa: PT011
            await flooding
        await talk.until(lambda: talk.runtime.connections == 0)
        gate.end()


@pytest.mark.pins("websocket.send-backpressure")
async def test_a_client_that_pings_and_does_not_read(body):
    """Its pongs are not kept without bound."""
    async with talking(Room(), body, ws_ping_interval=None) as talk:
        wire = await talk.open()
        ping = frame(9, bytes(125)) * 500
        if body == "memory":
            wire.peer.channel.hold_output(0)
            fed = 0
            while wire.peer.channel.reading and wire.peer.state == "open" and fed < 200:
                wire.peer.feed(ping)
                fed += 1
                await turn()
            assert wire.peer.channel.pending < 1024 * KIB
        else:
            sent = 0
            for _ in range(300):
                sent += wire.client.send_what_fits(ping, 256 * KIB)
                await turn(2)
            kept = await unread_bytes(wire.client.sock)
            assert kept < 12 * KIB * KIB, f"{kept} bytes of pongs came, of {sent} bytes of pings"


async def unread_bytes(sock):
    """How many bytes were on their way: in the kernel's buffers and in the server."""
    count = quiet = 0
    while quiet < 50:
        try:
            count += len(sock.recv(1 << 20))
            quiet = 0
        except BlockingIOError:
            quiet += 1
        await turn(2)
    return count


@pytest.mark.pins("websocket.one-write")
@pytest.mark.skipif(not ON_LINUX, reason="MemoryChannel shows it everywhere; the rest is for our own sockets")
async def test_frames_of_one_turn_arrive_together(body):
    """A hundred sends without a wait are whole frames, in order."""
    gate = Gate()
    async with talking(gate, body) as talk:
        wire = await talk.open()
        await gate.opened()
        for number in range(100):
            await gate.send({"type": "websocket.send", "text": f"{number}"})
        assert [one.payload for one in await wire.frames(100)] == [b"%d" % number for number in range(100)]
        assert read_frame(wire.unread) is None
        gate.end()
