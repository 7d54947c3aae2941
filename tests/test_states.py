"""Every state of a connection meets every event: nothing crashes, nothing is left, what was sent can be read.

The events come from outside, and from within the application, under which the server's own frames lie.
"""

import asyncio
import contextlib

import pytest
from answers import read_answers
from drive import BODY, GET, MORE, START, body, hello, request, serving, start, turn

POST = request("POST", length=10)
BIG = 200_000


# --- states ---------------------------------------------------------------------------------------


class Play:
    """An application that stops at a point and goes on when told; errors of its calls are its own affair."""

    def __init__(self, point, pipelined=b""):
        self.point = point
        self.pipelined = pipelined
        self.gate = asyncio.Event()
        self.within = None
        self.calls = 0

    async def __call__(self, scope, receive, send):
        self.calls += 1
        if self.calls > 1:
            return await hello(scope, receive, send)
        with contextlib.suppress(OSError):
            await self.point(self, receive, send)
        return None

    async def stop(self):
        """The point: do what comes from within, or wait for what comes from outside."""
        if self.within is not None:
            within, self.within = self.within, None
            within()
        else:
            await self.gate.wait()


async def before_the_start(play, receive, send):
    await play.stop()
    await send(START)
    await send(BODY)


async def after_a_receive(play, receive, send):
    await receive()
    await play.stop()
    await receive()
    await send(START)
    await send(BODY)


async def with_the_start_held(play, receive, send):
    await send(start(200, [(b"content-length", b"2")]))
    await play.stop()
    await send(BODY)


async def between_two_pieces(play, receive, send):
    await send(START)
    await send(MORE)
    await play.stop()
    await send(MORE)
    await send(body())


async def with_output_pending(play, receive, send):
    await send(START)
    sending = send(body(b"x" * BIG, True))
    try:
        await play.stop()
        await sending
    finally:
        sending.close()
    await send(body(b"x" * BIG, True))
    await send(body())


async def after_the_end(play, receive, send):
    await send(START)
    await send(BODY)
    await play.stop()
    await receive()


async def in_a_generator_of_headers(play, receive, send):
    def headers():
        yield (b"x-one", b"1")
        if play.within is not None:
            within, play.within = play.within, None
            within()
        yield (b"x-two", b"2")

    await send(start(200, headers()))
    await send(BODY)


async def raising(play, receive, send):
    await play.stop()
    raise LookupError("boom")


async def raising_within_the_body(play, receive, send):
    await send(START)
    await send(MORE)
    await play.stop()
    raise LookupError("boom")


async def returning_nothing(play, receive, send):
    await play.stop()


async def closing(play, receive, send):
    await send(start(200, [(b"connection", b"close")]))
    await send(BODY)
    await play.stop()


POINTS = [
    before_the_start,
    after_a_receive,
    with_the_start_held,
    between_two_pieces,
    with_output_pending,
    after_the_end,
    in_a_generator_of_headers,
    raising,
    raising_within_the_body,
    returning_nothing,
    closing,
]

# How the request comes: what is fed before the event.
COMING = {
    "whole": GET,
    "whole body": request("POST", body=b"0123456789"),
    "half a body": POST + b"01234",
    "chunks begun": request("POST", headers=("Transfer-Encoding: chunked",)) + b"5\r\n01234\r\n",
    "to be continued": request("POST", headers=("Expect: 100-continue",), length=10),
    "pipelined": GET + GET + GET[:20],
    "to be closed": request(headers=("Connection: close",)) + GET,
    "HTTP/1.0": b"GET / HTTP/1.0\r\n\r\n",
    "HEAD": request("HEAD"),
}


# --- events ---------------------------------------------------------------------------------------


def more_bytes(bench, peer):
    peer.feed(b"56789")


def another_request(bench, peer):
    peer.feed(GET)


def garbage(bench, peer):
    peer.feed(b"\x00\xff garbage\r\n\r\n")


def fin(bench, peer):
    peer.eof()


def lost(bench, peer):
    peer.lost()


def bytes_then_lost(bench, peer):
    peer.feed(b"56789")
    peer.lost()


def drain(bench, peer):
    bench.runtime.drain()


def disconnect(bench, peer):
    bench.runtime.disconnect()


def cancel(bench, peer):
    bench.runtime.cancel()


def abort(bench, peer):
    bench.runtime.abort()


def deadlines(bench, peer):
    bench.clock.advance(10_000)
    bench.runtime.tick()


def stops_reading(bench, peer):
    peer.channel.hold_output(0)


def reads_on(bench, peer):
    peer.channel.hold_output(None)


def drain_then_fin(bench, peer):
    bench.runtime.drain()
    peer.eof()


EVENTS = [
    more_bytes,
    another_request,
    garbage,
    fin,
    lost,
    bytes_then_lost,
    drain,
    disconnect,
    cancel,
    abort,
    deadlines,
    stops_reading,
    reads_on,
    drain_then_fin,
]


def on_live(event, bench, peer):
    """The event, if there is still a connection for it."""
    if peer.state not in ("closed", "aborted"):
        event(bench, peer)


def readable(peer, coming):
    """What the client saw is answers, the last one perhaps cut; raises otherwise."""
    methods = ("HEAD",) if coming == "HEAD" else ()
    read_answers(peer.output, methods, ended=peer.state != "open")


async def play_out(point, coming, first, second, *, within, caplog):
    """One request comes, stops at the point; one event, then another one; then the application goes on."""
    play = Play(point)
    async with serving(play, timeout_request=1000) as bench:
        peer = bench.connect()
        if point is with_output_pending:
            peer.channel.hold_output(100)
        if within:
            play.within = lambda: on_live(first, bench, peer)
        peer.feed(COMING[coming])
        await turn(3)
        readable(peer, coming)
        if not within:
            on_live(first, bench, peer)
            await turn(3)
            readable(peer, coming)
        on_live(second, bench, peer)
        await turn(3)
        readable(peer, coming)
        play.gate.set()
        await turn(5)
        readable(peer, coming)
        if peer.state not in ("closed", "aborted"):
            peer.channel.hold_output(None)
            await turn(3)
            readable(peer, coming)
        play.within = None


@pytest.mark.parametrize("within", [False, True], ids=["outside", "within"])
@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.__name__)
@pytest.mark.parametrize("point", POINTS, ids=lambda point: point.__name__)
async def test_every_state_meets_every_event(point, event, within, caplog):
    for coming in COMING:
        await play_out(point, coming, event, reads_on, within=within, caplog=caplog)
        if asyncio.current_task().cancelling():
            raise AssertionError(f"the test's own task was cancelled: {coming}")


@pytest.mark.parametrize("second", EVENTS, ids=lambda event: event.__name__)
@pytest.mark.parametrize("first", EVENTS, ids=lambda event: event.__name__)
async def test_two_events_in_a_row(first, second, caplog):
    """In the states where most can go wrong."""
    for point in (after_a_receive, between_two_pieces, with_output_pending, after_the_end):
        for coming in ("whole", "half a body", "pipelined"):
            await play_out(point, coming, first, second, within=False, caplog=caplog)


# --- without a request ----------------------------------------------------------------------------

BEFORE = {
    "fresh": b"",
    "half a head": GET[:20],
    "an empty line": b"\r\n",
    "kept alive": GET,
    "half a head after a request": GET + GET[:20],
    "refused": b"GET / HTTP/1.1\r\n\r\n" + b"x" * 100,
    "lingering": request("POST", length=1_000_000) + b"x" * 100,
    "skipping": request("POST", length=1000) + b"x" * 100,
    "closed": request(headers=("Connection: close",)),
}


@pytest.mark.parametrize("second", EVENTS, ids=lambda event: event.__name__)
@pytest.mark.parametrize("first", EVENTS, ids=lambda event: event.__name__)
async def test_between_requests(first, second):
    for data in BEFORE.values():
        for hold in (None, 0, 50):
            async with serving(hello) as bench:
                peer = bench.connect()
                peer.channel.hold_output(hold)
                if data:
                    peer.feed(data)
                await turn(3)
                on_live(first, bench, peer)
                await turn(3)
                on_live(second, bench, peer)
                await turn(3)
                if peer.state not in ("closed", "aborted"):
                    peer.channel.hold_output(None)
                readable(peer, "whole")
