"""Slow readers and idle connections, the bound on a request, lingering ends, on a fake clock.

A deadline may be noticed late by as long as the runtime ticks apart, never early. Each option set to
None never ends anything, however long one waits.
"""

import asyncio

import pytest
from deadlines import ages, ends_after, only
from drive import (
    GET,
    START,
    body,
    collecting,
    complaints,
    drain_body,
    hello,
    request,
    serving,
    start,
    turn,
    until,
)

from fastasgi.errors import ClientDisconnected

# --- the reader -----------------------------------------------------------------------------------


async def endless(scope, receive, send):
    await send(START)
    while True:
        await send(body(b"x" * 65536, True))


@pytest.mark.pins("slow.reader-stops")
@pytest.mark.parametrize("seconds", [60, 2.5])
async def test_a_reader_that_stops(seconds, caplog):
    async with serving(endless, **only(timeout_response_stall=seconds)) as bench:
        peer = bench.connect()
        peer.channel.hold_output(100_000)
        peer.feed(GET)
        await turn(20)
        await ends_after(bench, peer, seconds)
        assert peer.aborted
        await until(lambda: bench.runtime.requests_active == 0, "the application to end")
    assert not complaints(caplog)


@pytest.mark.pins("slow.reader-stops", "slow.options")
async def test_the_default_of_the_reader():
    async with serving(endless) as bench:
        peer = bench.connect()
        peer.channel.hold_output(100_000)
        peer.feed(GET)
        await turn(20)
        await ends_after(bench, peer, 60)
        assert peer.aborted


@pytest.mark.pins("slow.reader-stops")
async def test_a_reader_that_stops_when_all_is_written():
    """The application is long done: what is left in the buffer holds memory all the same."""

    async def app(scope, receive, send):
        await send(start(200, [(b"content-length", b"300000")]))
        await send(body(b"x" * 300_000))

    async with serving(app, **only(timeout_response_stall=60)) as bench:
        peer = bench.connect()
        peer.channel.hold_output(1000)
        peer.feed(GET)
        await turn(5)
        await ends_after(bench, peer, 60)
        assert peer.aborted


@pytest.mark.pins("slow.reader-stops")
async def test_the_blocked_application_learns_of_it():
    caught = []

    async def app(scope, receive, send):
        try:
            await endless(scope, receive, send)
        except ClientDisconnected as error:
            caught.append(error)

    async with serving(app, **only(timeout_response_stall=60)) as bench:
        peer = bench.connect()
        peer.channel.hold_output(100_000)
        peer.feed(GET)
        await bench.pass_time(62)
        await until(lambda: caught, "ClientDisconnected")


@pytest.mark.pins("slow.progress")
async def test_a_download_that_makes_progress_never_ends():
    """A kilobyte now and then, over days."""
    size = 400_000

    async def app(scope, receive, send):
        await send(start(200, [(b"content-length", b"%d" % size)]))
        await send(body(b"x" * size))

    async with serving(app) as bench:
        peer = bench.connect()
        peer.channel.hold_output(0)
        peer.feed(GET)
        await turn(5)
        for _ in range(size // 1000):  # to the last bytes; idle time begins behind them
            await bench.pass_time(50, step_s=10)
            assert peer.state == "open"
            peer.channel.hold_output(1000)
            assert peer.output
        peer.channel.hold_output(None)
        assert len((await peer.answer()).body) == size


@pytest.mark.pins("slow.progress")
async def test_a_silent_application_is_no_stalled_reader():
    """An event stream with nothing to say: all output has been taken."""
    gate = asyncio.Event()

    async def app(scope, receive, send):
        await send(START)
        await send(body(b"x", True))
        await gate.wait()
        await send(body(b"y"))

    async with serving(app) as bench:
        peer = bench.connect()
        peer.feed(GET)
        await ages(bench)
        assert peer.state == "open"
        gate.set()
        assert (await peer.answer()).body == b"xy"


@pytest.mark.pins("slow.options")
async def test_a_reader_may_stop_for_ever():
    async with serving(endless, **only()) as bench:
        peer = bench.connect()
        peer.channel.hold_output(100_000)
        peer.feed(GET)
        await turn(20)
        await ages(bench)
        assert peer.state == "open"


# --- kept alive -----------------------------------------------------------------------------------


@pytest.mark.pins("slow.keep-alive")
@pytest.mark.parametrize("seconds", [75, 5, 0.5])
async def test_an_idle_connection(seconds):
    """Closed without a word; a 408 would be taken for the answer to the next request."""
    async with serving(hello, **only(timeout_keep_alive=seconds)) as bench:
        peer = bench.connect()
        for _ in range(2):
            await bench.pass_time(seconds / 2)
            await peer.answer(data=GET)
            peer.forget()
        await ends_after(bench, peer, seconds)
        assert peer.output == b""


@pytest.mark.pins("slow.keep-alive", "slow.options")
async def test_the_default_of_keep_alive():
    async with serving(hello) as bench:
        peer = bench.connect()
        await peer.answer(data=GET)
        peer.forget()
        await ends_after(bench, peer, 75)
        assert peer.output == b""


@pytest.mark.pins("slow.keep-alive")
async def test_keep_alive_does_not_run_during_a_request():
    gate = asyncio.Event()

    async def app(scope, receive, send):
        await gate.wait()
        await hello(scope, receive, send)

    async with serving(app, **only(timeout_keep_alive=5)) as bench:
        peer = bench.connect()
        await bench.pass_time(4)
        peer.feed(GET)
        await ages(bench)
        gate.set()
        assert (await peer.answer()).body == b"ok"
        await ends_after(bench, peer, 5)


@pytest.mark.pins("slow.options")
async def test_an_idle_connection_may_stay_for_ever():
    async with serving(hello, **only()) as bench:
        peer = bench.connect()
        await peer.answer(data=GET)
        peer.forget()
        await ages(bench)
        assert (await peer.answer(data=GET)).body == b"ok"


@pytest.mark.pins("slow.keep-alive")
async def test_many_connections_end_each_in_its_time():
    """One list per timeout, swept from its head: the order of arrival is the order of ends."""
    async with serving(hello, **only(timeout_keep_alive=10)) as bench:
        peers = []
        for _ in range(8):
            peer = bench.connect()
            peers.append(peer)
            await peer.answer(data=GET)
            peer.forget()
            await bench.pass_time(1)
        await peers[0].answer(data=GET)  # the oldest becomes the youngest
        for second in range(8, 20):
            expected = [second < 18.0] + [second < 10 + index for index in range(1, 8)]
            states = [peer.state == "open" for peer in peers]
            wrong = [
                index
                for index in range(8)
                if states[index] != expected[index] and abs(second - (18 if index == 0 else 10 + index)) > 1
            ]
            assert not wrong, (second, states, expected)
            await bench.pass_time(1)
        assert all(peer.state != "open" for peer in peers)


# --- the request ----------------------------------------------------------------------------------


@pytest.mark.pins("slow.request")
async def test_a_request_that_takes_too_long():
    """Nothing was answered: the client is told so, and the application ends."""
    ended = []

    async def app(scope, receive, send):
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(True)

    async with serving(app, **only(timeout_request=20, timeout_disconnect_grace=5)) as bench:
        peer = bench.connect()
        peer.feed(GET)
        await bench.pass_time(19)
        assert peer.state == "open" and peer.output == b""
        await bench.pass_time(20 - 19 + 5 + 3)
        assert ended
        assert peer.state != "open"
        assert peer.output == b"" or peer.output.startswith(
            (b"HTTP/1.1 503", b"HTTP/1.1 504", b"HTTP/1.1 500")
        )


@pytest.mark.pins("slow.request")
async def test_a_request_that_takes_too_long_within_its_body():
    ended = []

    async def app(scope, receive, send):
        try:
            await send(START)
            while True:
                await send(body(b"x", True))
                await turn()
        finally:
            ended.append(True)

    async with serving(app, **only(timeout_request=20)) as bench:
        peer = bench.connect()
        peer.feed(GET)
        await bench.pass_time(19)
        assert peer.state == "open" and not ended
        await bench.pass_time(10)
        await turn(5)
        assert ended
        assert peer.aborted
        assert not peer.output.endswith(b"0\r\n\r\n")


@pytest.mark.pins("slow.request", "slow.options")
async def test_a_request_may_take_for_ever():
    gate = asyncio.Event()

    async def app(scope, receive, send):
        await gate.wait()
        await hello(scope, receive, send)

    async with serving(app) as bench:
        peer = bench.connect()
        peer.feed(GET)
        await ages(bench)
        gate.set()
        assert (await peer.answer()).body == b"ok"


# --- the end of a connection ----------------------------------------------------------------------


async def test_a_lingering_close_is_bounded():
    """The 413 is out and the client goes on sending: the server does not listen for ever."""
    async with serving(hello, limit_request_body=10) as bench:
        peer = bench.connect()
        peer.feed(request("POST", length=1_000_000_000) + b"x" * 100)
        await until(lambda: b"HTTP/1.1 413" in peer.output, "413")
        for _ in range(60):
            if bench.runtime.connections == 0:
                break
            peer.feed(b"x" * 1000)
            await bench.pass_time(1)
        assert bench.runtime.connections == 0


async def test_a_lingering_close_ends_with_the_fin_of_the_client():
    async with serving(hello, limit_request_body=10) as bench:
        peer = bench.connect()
        peer.feed(request("POST", length=1000) + b"x" * 100)
        await until(lambda: b"HTTP/1.1 413" in peer.output, "413")
        assert peer.closed
        peer.eof()
        await turn(3)
        assert peer.state == "closed"
        assert bench.runtime.connections == 0


async def test_a_client_that_never_closes_does_not_hold_the_connection():
    async with serving(hello) as bench:
        peer = bench.connect()
        peer.feed(request(headers=("Connection: close",)))
        await peer.answer()
        await bench.pass_time(60)
        assert bench.runtime.connections == 0


# --- disconnect grace -----------------------------------------------------------------------------


async def test_drain_gives_disconnect_then_grace_then_cancel():
    """`runtime.disconnect()`, and `cancel()` after the grace, are what the drain is made of."""
    got, ended = [], []

    async def app(scope, receive, send):
        try:
            await receive()
            got.append(await receive())
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise

    async with serving(app) as bench:
        peer = bench.connect()
        peer.feed(GET)
        await turn(3)
        bench.runtime.drain()
        await turn(3)
        assert not got and peer.state == "open"
        bench.runtime.disconnect()
        await until(lambda: got, "http.disconnect")
        assert got == [{"type": "http.disconnect"}]
        assert not ended
        bench.runtime.cancel()
        await until(lambda: ended, "the cancellation")
        await until(lambda: bench.idle, "the end")


# --- no timers ------------------------------------------------------------------------------------


@pytest.mark.pins("slow.no-timer")
async def test_requests_and_connections_set_no_timer(monkeypatch):
    """Deadlines are numbers swept by `tick`."""
    loop = asyncio.get_running_loop()
    timers = []
    later, at = loop.call_later, loop.call_at
    monkeypatch.setattr(loop, "call_later", lambda *a, **k: (timers.append(a), later(*a, **k))[1])
    monkeypatch.setattr(loop, "call_at", lambda *a, **k: (timers.append(a), at(*a, **k))[1])
    app, got = collecting(1)
    async with serving(app) as bench:
        for _ in range(5):
            peer = bench.connect()
            peer.feed(request("POST", length=4))
            await turn(2)
            peer.feed(b"body")
            await peer.answer("POST")
            peer.forget()
            await peer.answer(data=GET)
    assert len(got) == 10
    assert timers == []


async def test_helpers_read_bodies():
    async def app(scope, receive, send):
        assert await drain_body(receive) == b"x" * 10
        await hello(scope, receive, send)

    async with serving(app) as bench:
        assert (await bench.connect().answer("POST", data=request("POST", body=b"x" * 10))).status == 200
