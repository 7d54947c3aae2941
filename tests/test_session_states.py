"""Every state of a WebSocket meets every event and every frame: nothing crashes, nothing is left, the client can read
what it was sent, and the application is told the end once it is there."""

import asyncio
import contextlib

import pytest
from drive import serving, turn
from frames import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, close, frame, handshake, read
from websocket_drive import ACCEPT, DENY, DENY_BODY, Client, closing, text

BIG = bytes(100_000)


# --- states -------------------------------------------------------------------------------------------------------


async def before_the_answer(client, receive, send, stop):
    await receive()
    await stop()
    await send(ACCEPT)
    await send(text("late"))


async def within_a_denial(client, receive, send, stop):
    await send(DENY)
    await send({**DENY_BODY, "body": b"no", "more_body": True})
    await stop()
    await send({**DENY_BODY, "body": b"pe"})
    await receive()


async def refused(client, receive, send, stop):
    await send(closing())
    await stop()
    await receive()


async def accepted(client, receive, send, stop):
    await send(ACCEPT)
    await stop()
    await send(text("x"))
    while (await receive())["type"] != "websocket.disconnect":
        pass


async def waiting_for_a_message(client, receive, send, stop):
    await send(ACCEPT)
    await receive()
    waiting = asyncio.ensure_future(receive())
    await stop()
    await waiting
    await send(text("x"))


async def with_a_full_queue(client, receive, send, stop):
    await send(ACCEPT)
    client.feed(*[frame(TEXT, "x")] * 6)
    await stop()
    while (await receive())["type"] != "websocket.disconnect":
        pass


async def within_a_frame(client, receive, send, stop):
    await send(ACCEPT)
    client.feed(frame(TEXT, "hello")[:8])
    await stop()
    await receive()


async def within_a_header(client, receive, send, stop):
    await send(ACCEPT)
    client.feed(frame(BINARY, bytes(300))[:3])
    await stop()
    await receive()


async def within_a_message(client, receive, send, stop):
    await send(ACCEPT)
    client.feed(frame(TEXT, b"\xe2", fin=False))
    await stop()
    await receive()


async def with_output_pending(client, receive, send, stop):
    await send(ACCEPT)
    client.peer.channel.hold_output(10)
    sending = asyncio.ensure_future(send({"type": "websocket.send", "bytes": BIG}))
    try:
        await stop()
        await sending
    finally:
        sending.cancel()


async def closing_itself(client, receive, send, stop):
    await send(ACCEPT)
    await send(closing(3000))
    await stop()
    await receive()


async def closed_by_the_client(client, receive, send, stop):
    await send(ACCEPT)
    client.feed(close(1000))
    await stop()
    await send(text("x"))


async def returned(client, receive, send, stop):
    await send(ACCEPT)
    stop.outside = True
    await stop()


async def failed(client, receive, send, stop):
    await send(ACCEPT)
    client.feed(frame(3))
    await stop()
    await receive()


STATES = [
    before_the_answer, within_a_denial, refused, accepted, waiting_for_a_message, with_a_full_queue, within_a_frame,
    within_a_header, within_a_message, with_output_pending, closing_itself, closed_by_the_client, returned, failed,
]  # fmt: skip


# --- events -------------------------------------------------------------------------------------------------------

FRAMES = {
    "text": frame(TEXT, "abc"),
    "binary": frame(BINARY, b"abc"),
    "a first fragment": frame(TEXT, "abc", fin=False),
    "a last fragment": frame(CONTINUATION, b"\x82\xac"),
    "ping": frame(PING, b"p"),
    "pong": frame(PONG, b"p"),
    "close": close(1001, "away"),
    "close without code": close(),
    "a reserved opcode": frame(3),
    "RSV": frame(TEXT, "x", rsv=0x40),
    "no mask": frame(TEXT, "x", key=None),
    "too big": frame(BINARY, length=1 << 40),
    "bad text": frame(TEXT, b"\xff"),
    "half a header": frame(BINARY, bytes(200))[:3],
    "another request": b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "many": frame(TEXT, "a") * 20 + frame(PING) * 5 + close(1000),
}


def feed(data):
    def event(bench, client):
        client.feed(data)

    return event


def ages(bench, client):
    for _ in range(200):
        bench.clock.advance(1)
        bench.runtime.tick()


EVENTS = {
    **{name: feed(data) for name, data in FRAMES.items()},
    "fin": lambda bench, client: client.peer.eof(),
    "lost": lambda bench, client: client.peer.lost(),
    "drain": lambda bench, client: bench.runtime.drain(),
    "disconnect": lambda bench, client: bench.runtime.disconnect(),
    "cancel": lambda bench, client: bench.runtime.cancel(),
    "abort": lambda bench, client: bench.runtime.abort(),
    "deadlines": ages,
    "output flows": lambda bench, client: client.peer.channel.hold_output(None),
    "nothing": lambda bench, client: None,
}


class Stop:
    """Where the application stops: it goes on when the event has been, or is the one from whose frames it comes."""

    def __init__(self, event, within):
        self.event, self.within, self.gate, self.reached = event, within, asyncio.Event(), asyncio.Event()

    async def __call__(self):
        self.reached.set()
        if self.within:
            self.event()
        else:
            await self.gate.wait()


def readable(output):
    """What the client was sent is one HTTP answer, or a 101 and whole frames, at most one of them a close, the last."""
    head, _, rest = output.partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 101 "):
        return
    opcodes = [each.opcode for each in read(rest)]
    assert CLOSE not in opcodes[:-1], opcodes


@pytest.mark.parametrize("within", [False, True], ids=["from outside", "from the application"])
@pytest.mark.parametrize("name", EVENTS)
@pytest.mark.parametrize("state", STATES, ids=lambda state: state.__name__)
async def test_every_state_meets_every_event(state, name, within):
    client = None
    ended = asyncio.Event()
    stops = []

    def event():
        if client.state not in ("closed", "aborted") or name in ("drain", "disconnect", "cancel", "abort", "deadlines"):
            EVENTS[name](bench, client)

    async def app(scope, receive, send):
        if scope["type"] == "http":
            return
        try:
            with contextlib.suppress(OSError):
                await state(client, receive, send, stops[0])
        finally:
            ended.set()

    async with serving(app, ws_max_queue=3) as bench:
        client = Client(bench.connect())
        stops.append(Stop(event, within))
        client.peer.feed(handshake())
        if state is waiting_for_a_message:
            await turn(3)
            assert client.peer.output
        await stops[0].reached.wait()
        await turn(3)
        if not within:
            event()
            event() if name in FRAMES else None
            await turn(3)
            stops[0].gate.set()
        await turn(10)
        client.peer.channel.hold_output(None)
        if client.state in ("open", "closing"):
            readable(client.peer.output) if not client.peer.channel.pending else None
            client.peer.lost()
        await turn(10)
        bench.runtime.cancel()
        await ended.wait()
        await turn(5)
        assert bench.runtime.requests_active == 0
