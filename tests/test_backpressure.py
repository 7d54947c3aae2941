"""Memory stays small and turns are shared, whatever one side does and the other does not.

The same over real sockets, in a process of its own, is in `test_memory.py`.
"""

import asyncio
import contextlib
import os

import pytest
from drive import GET, START, body, drain_body, hello, request, serving, start, turn, until

from fastasgi.errors import ClientDisconnected

MIB = 1 << 20
GIB = 1 << 30
BOUND = 4 * MIB
PAGE = os.sysconf("SC_PAGE_SIZE")


def resident_bytes():
    """What this process has in memory now (Linux)."""
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * PAGE


needs_proc = pytest.mark.skipif(
    not os.path.exists("/proc/self/statm"), reason="resident memory is read from /proc"
)


# --- downloads ------------------------------------------------------------------------------------


@pytest.mark.pins("response.write-backpressure")
@pytest.mark.parametrize("piece", [1, 100, 4096, 65536, MIB], ids=lambda size: f"{size} B")
async def test_a_stopped_reader_stops_the_application(piece, event_loop_kind):
    """It waits within `send` once the buffer is full, at any size of piece."""
    sent = 0

    async def app(scope, receive, send):
        nonlocal sent
        await send(START)
        data = b"x" * piece
        with contextlib.suppress(ClientDisconnected):
            while sent < GIB:
                sent += piece
                await send(body(data, True))

    async with serving(app) as bench:
        peer = bench.connect()
        peer.channel.hold_output(0)
        peer.feed(GET)
        before = -1
        while sent != before:
            before = sent
            await turn(10)
        assert 0 < sent <= BOUND
        assert peer.channel.pending <= BOUND


@pytest.mark.pins("response.write-backpressure")
@needs_proc
async def test_a_gigabyte_down_to_a_slow_reader():
    """The reader takes 256 KiB at a time; the worker never holds more than its bound."""
    ended = []

    async def app(scope, receive, send):
        await send(start(200, [(b"content-length", b"%d" % GIB)]))
        data = b"x" * MIB
        for index in range(1024):
            await send(body(data, index < 1023))
        ended.append(True)

    async with serving(app) as bench:
        peer = bench.connect()
        peer.channel.hold_output(0)
        peer.feed(GET)
        await turn(5)
        before = peak = resident_bytes()
        taken = most = 0
        while not ended or peer.channel.pending:
            peer.channel.hold_output(256 * 1024)
            taken += len(peer.channel.take_output())
            most = max(most, peer.channel.pending)
            if taken % 64 == 0:
                peak = max(peak, resident_bytes())
            await turn()
        peer.channel.hold_output(None)
        taken += len(peer.channel.take_output())
        peak = max(peak, resident_bytes())
        assert taken > GIB
        assert most <= BOUND
        assert peak - before < BOUND


@pytest.mark.pins("response.write-backpressure")
@needs_proc
async def test_one_large_body_is_not_copied():
    """`bytes` are held by reference: 256 MiB of untouched zero pages stay untouched."""
    size = 256 * MIB

    async def app(scope, receive, send):
        await send(start(200, [(b"content-length", b"%d" % size)]))
        with contextlib.suppress(ClientDisconnected):
            await send(body(bytes(size)))

    async with serving(app) as bench:
        peer = bench.connect()
        peer.channel.hold_output(0)
        before = resident_bytes()
        peer.feed(GET)
        await turn(10)
        assert peer.channel.pending >= size
        assert resident_bytes() - before < BOUND


@pytest.mark.pins("response.write-backpressure")
async def test_send_goes_on_when_the_reader_does():
    """Neither before (the bound) nor never: it wakes as the buffer drains."""
    count = 0

    async def app(scope, receive, send):
        nonlocal count
        await send(START)
        for _ in range(200):
            await send(body(b"x" * 65536, True))
            count += 1
        await send(body())

    async with serving(app) as bench:
        peer = bench.connect()
        peer.channel.hold_output(0)
        peer.feed(GET)
        await turn(20)
        blocked_at = count
        assert 0 <= blocked_at < 64
        peer.channel.hold_output(MIB)
        await turn(20)
        assert blocked_at < count < 200
        peer.channel.hold_output(None)
        assert len((await peer.answer()).body) == 200 * 65536


@pytest.mark.pins("response.write-backpressure")
async def test_pipelined_answers_to_a_stopped_reader():
    """A client that only asks: requests wait while answers cannot leave."""
    served = 0

    async def app(scope, receive, send):
        nonlocal served
        served += 1
        await send(start(200, [(b"content-length", b"100000")]))
        await send(body(b"x" * 100_000))

    async with serving(app) as bench:
        peer = bench.connect()
        peer.channel.hold_output(0)
        peer.feed(GET * 200)
        await turn(100)
        assert peer.channel.pending <= BOUND
        assert served * 100_000 <= BOUND
        peer.channel.hold_output(None)
        await until(lambda: served == 200, "all answers")
        assert len(peer.answers()) == 200


@pytest.mark.pins("response.read-backpressure")
async def test_pipelined_requests_without_bound():
    """A client that pipelines for ever while the first request is served: reading stops."""
    gate = asyncio.Event()
    served = 0

    async def app(scope, receive, send):
        nonlocal served
        await gate.wait()
        served += 1
        await hello(scope, receive, send)

    async with serving(app) as bench:
        peer = bench.connect()
        fed = 0
        while peer.channel.reading:
            peer.feed(GET * 100)
            fed += 100
            assert fed * len(GET) <= BOUND, "still reading"
        gate.set()
        await until(lambda: served == fed, "every request", turns=50_000)
        assert peer.output.count(b"200 OK") == fed
        assert peer.channel.reading


# --- uploads --------------------------------------------------------------------------------------


@pytest.mark.pins("response.read-backpressure")
@pytest.mark.parametrize("framing", ["length", "chunked"])
@pytest.mark.parametrize("piece", [100, 65536])
async def test_a_sleeping_application_stops_the_upload(framing, piece):
    gate = asyncio.Event()

    async def app(scope, receive, send):
        await gate.wait()
        data = await drain_body(receive)
        await send(start(200, [(b"content-length", b"%d" % len(str(len(data))))]))
        await send(body(b"%d" % len(data)))

    async with serving(app) as bench:
        peer = bench.connect()
        data = b"x" * piece
        if framing == "length":
            # as much as it takes to be stopped, and the same again
            peer.feed(request("POST", length=8 * MIB // piece * piece))
        else:
            peer.feed(request("POST", headers=("Transfer-Encoding: chunked",)))
            data = b"%x\r\n%b\r\n" % (piece, data)
        fed = 0
        while peer.channel.reading:
            peer.feed(data)
            fed += piece
            assert fed <= BOUND, "still reading"
        gate.set()
        await until(lambda: peer.channel.reading, "reading again")
        while fed < 8 * MIB // piece * piece:
            await until(lambda: peer.channel.reading, "reading again")
            peer.feed(data)
            fed += piece
        if framing == "chunked":
            await until(lambda: peer.channel.reading, "reading again")
            peer.feed(b"0\r\n\r\n")
        assert int((await peer.answer("POST")).body) == fed


@pytest.mark.pins("response.read-backpressure")
@needs_proc
async def test_a_gigabyte_up():
    """Fed as fast as it is read."""
    total = 0

    async def app(scope, receive, send):
        nonlocal total
        while True:
            message = await receive()
            total += len(message["body"])
            if not message["more_body"]:
                break
            await turn()
        await hello(scope, receive, send)

    async with serving(app) as bench:
        peer = bench.connect()
        peer.feed(request("POST", length=GIB))
        data = b"x" * (256 * 1024)
        before = peak = resident_bytes()
        fed = 0
        while fed < GIB:
            if peer.channel.reading:
                peer.feed(data)
                fed += len(data)
            if fed % (16 * MIB) == 0:
                peak = max(peak, resident_bytes())
            await turn()
        await peer.answer("POST")
        assert total == GIB
        assert peak - before < BOUND


async def test_a_stopped_upload_still_learns_that_the_client_has_gone():
    """A paused channel handles the end all the same."""
    got = []
    gate = asyncio.Event()

    async def app(scope, receive, send):
        await gate.wait()
        while True:
            got.append((await receive())["type"])
            if got[-1] == "http.disconnect":
                break

    async with serving(app) as bench:
        peer = bench.connect()
        peer.feed(request("POST", length=GIB))
        while peer.channel.reading:
            peer.feed(b"x" * 65536)
        peer.lost()
        await turn(3)
        assert bench.runtime.connections == 0
        gate.set()
        await until(lambda: got and got[-1] == "http.disconnect", "http.disconnect")


# --- turns ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 65536, MIB])
async def test_an_endless_stream_to_a_fast_client_starves_nobody(size, event_loop_kind):
    """It never has to wait for its reader, so its sends must give way to the loop by themselves."""

    async def app(scope, receive, send):
        if scope["path"] == "/other":
            return await hello(scope, receive, send)
        await send(START)
        while True:
            await send(body(b"x" * size, True))

    async with serving(app) as bench:
        bench.clock.step_ns = 1000
        stream, other = bench.connect(), bench.connect()
        stream.feed(GET)
        for _ in range(3):
            answer = await other.answer(data=request(target="/other"))
            assert answer.body == b"ok"
            other.forget()
            stream.channel.take_output()
        stream.lost()
        await until(lambda: bench.runtime.requests_active == 0, "the stream to end")


async def test_an_endless_stream_can_be_cancelled(event_loop_kind):
    ended = []

    async def app(scope, receive, send):
        await send(START)
        try:
            async with asyncio.timeout(0.01):
                while True:
                    await send(body(b"x" * 1000, True))
        except TimeoutError:
            ended.append("timeout")
        await send(body())

    async with serving(app) as bench:
        bench.clock.step_ns = 1000
        peer = bench.connect()
        peer.feed(GET)
        while not ended:
            peer.channel.take_output()
            await turn()
        assert ended == ["timeout"]


async def test_an_application_that_only_receives_starves_nobody(event_loop_kind):
    """After the disconnect every `receive()` is ready: a loop that ignores it must not freeze the worker."""
    enough, calls, stop = 300_000, 0, []

    async def app(scope, receive, send):
        nonlocal calls
        if scope["path"] == "/other":
            return await hello(scope, receive, send)
        while not stop and calls < enough:
            calls += 1
            await receive()

    async with serving(app) as bench:
        bench.clock.step_ns = 1000
        mad, other = bench.connect(), bench.connect()
        mad.feed(GET)
        await turn(3)
        mad.eof()
        await turn(5)
        assert (await other.answer(data=request(target="/other"))).body == b"ok"
        assert 0 < calls < enough, "it never gave way"
        stop.append(True)
        await until(lambda: bench.runtime.requests_active == 0)


async def test_a_flood_of_pipelined_requests_starves_nobody():
    """10,000 requests in one buffer are a bounded amount of work per turn."""
    order = []

    async def app(scope, receive, send):
        order.append(scope["path"])
        await hello(scope, receive, send)

    async with serving(app) as bench:
        flood, other = bench.connect(), bench.connect()
        flood.feed(request(target="/flood") * 10_000)
        other.feed(request(target="/other"))
        await until(lambda: len(order) == 10_001, "every request", turns=50_000)
        assert order.index("/other") < 9_000


async def test_a_loop_callback_runs_during_an_endless_stream(event_loop_kind):
    """Signals, timers and other tasks get their turn."""
    calls = []

    async def app(scope, receive, send):
        await send(START)
        while len(calls) < 5:
            await send(body(b"x" * 65536, True))
        await send(body())

    async with serving(app) as bench:
        bench.clock.step_ns = 1000
        loop = asyncio.get_running_loop()

        def again():
            calls.append(1)
            if len(calls) < 5:
                loop.call_soon(again)

        loop.call_soon(again)
        await bench.connect().answer(data=GET)
