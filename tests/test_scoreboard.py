"""The scoreboard: what workers tell in shared memory, and what it costs them: nothing but adding."""

import asyncio
import os
import random
import subprocess
import sys
import time

import pytest
from drive import GET, Clock, hello, serving, turn

from fastasgi._http1 import Http1
from fastasgi._memory import MemoryChannel
from fastasgi._runtime import Runtime
from fastasgi._scoreboard import Scoreboard, Slot, State, bucket, quantile
from fastasgi.config import Config
from fastasgi.worker import Server

MS = 1_000_000
S = 1000 * MS


# --- memory -------------------------------------------------------------------------------------------------------


def test_a_new_board_says_that_nobody_works_there():
    board = Scoreboard(3)
    assert len(board) == 3
    for index in range(3):
        slot = board.slot(index)
        assert (slot.state, slot.pid, slot.is_live, slot.index) == (State.GONE, 0, False, index)
        assert not any(value for name, value in slot.read().items() if name not in ("index", "state", "latency"))


@pytest.mark.parametrize("index", [-1, 3])
def test_a_slot_that_is_not_there(index):
    with pytest.raises(IndexError, match="slots 0 to 2"):
        Scoreboard(3).slot(index)


def test_a_board_without_slots():
    with pytest.raises(ValueError, match="at least one"):
        Scoreboard(0)


def test_slots_do_not_touch_each_other():
    board = Scoreboard(3)
    board.slot(1).begin(pid=7, generation=2)
    assert [board.slot(i).state for i in range(3)] == [State.GONE, State.BOOTING, State.GONE]
    assert (board.slot(1).pid, board.slot(1).generation) == (7, 2)
    assert not any(board.slot(0).latency)


def test_a_slot_outlives_its_board():
    slot = Scoreboard(2).slot(1)
    slot.begin(pid=5)
    assert slot.read()["pid"] == 5


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_process_writes_what_this_one_reads():
    board = Scoreboard(2)
    slot = board.slot(1)
    child = os.fork()
    if not child:
        slot.begin(pid=os.getpid())
        os._exit(0)
    os.waitpid(child, 0)
    assert (slot.pid, slot.state) == (child, State.BOOTING)


@pytest.mark.skipif(sys.platform == "win32", reason="descriptors are inherited by number")
def test_a_spawned_process_takes_the_memory_by_its_descriptor():
    board = Scoreboard(2)
    code = (
        "import sys; from fastasgi._scoreboard import Scoreboard; "
        "Scoreboard(2, int(sys.argv[1])).slot(1).begin(pid=11, generation=3)"
    )
    arguments = [sys.executable, "-c", code, str(board.fileno())]
    subprocess.run(arguments, pass_fds=[board.fileno()], check=True)
    assert (board.slot(1).pid, board.slot(1).generation) == (11, 3)


def test_what_a_worker_leaves_behind():
    slot = Scoreboard(1).slot(0)
    slot.begin(pid=1)
    slot.state = State.READY
    assert slot.is_live
    slot.end()
    assert (slot.state, slot.is_live) == (State.GONE, False)
    slot.begin(pid=2)
    assert (slot.pid, slot.state) == (2, State.BOOTING)


def test_a_state_that_is_none():
    with pytest.raises(ValueError, match="9"):
        Slot().state = 9


# --- latencies ----------------------------------------------------------------------------------------------------


def test_buckets_are_in_order_and_a_fifth_wide():
    last, edge = 0, 0
    for ns in sorted({int(1.05**power) for power in range(560)}):
        found = bucket(ns)
        assert found in (last, last + 1), ns
        if found != last and 0 < last < 111:
            assert found == 1 or ns / max(edge, 1) < 1.4
        if found != last:
            last, edge = found, ns
    assert (bucket(0), bucket(-5), bucket(1023), bucket(1024)) == (0, 0, 0, 1)
    assert bucket(2**62) == bucket(10**15) == 111


@pytest.mark.parametrize("share", [0.5, 0.9, 0.99, 0.999])
def test_quantiles_are_near(share):
    chance = random.Random(1)
    taken = sorted(int(chance.lognormvariate(14, 1.2)) for _ in range(20_000))
    counts = [0] * 112
    for ns in taken:
        counts[bucket(ns)] += 1
    right = taken[int(share * len(taken))]
    assert 0.85 < quantile(counts, share) / right < 1.15


def test_quantiles_of_nothing():
    assert quantile([0] * 112, 0.5) is None


def test_quantiles_at_the_ends():
    first, last = [0] * 112, [0] * 112
    first[0] = last[111] = 4
    assert 0 < quantile(first, 0.5) < 1024
    assert quantile(last, 1.0) > 100 * S


# --- what is counted ----------------------------------------------------------------------------------------------


async def test_requests_connections_and_errors_are_counted_where_others_see_them():
    board = Scoreboard(2)
    slot = board.slot(1)
    slot.begin(pid=os.getpid())
    runtime = await runtime_of(hello, slot)
    assert runtime.slot is slot
    channel = MemoryChannel(runtime)
    for _ in range(3):
        channel.feed(GET)
        await turn(3)
    seen = board.slot(1)
    assert (seen.connections, seen.accepted, seen.requests_total, seen.requests_active) == (1, 1, 3, 0)
    assert (runtime.connections, runtime.requests_total, seen.errors) == (1, 3, 0)
    channel.lost()
    assert (seen.connections, seen.accepted) == (0, 1)


@pytest.mark.parametrize("answers_first", [False, True])
async def test_errors_are_5xx_and_what_the_application_cuts_off(answers_first):
    async def app(scope, receive, send):
        if answers_first:
            await send({"type": "http.response.start", "status": 200})
            await send({"type": "http.response.body", "body": b"x", "more_body": True})
        raise ValueError("on purpose")

    async with serving(app) as bench:
        peer = bench.connect()
        peer.feed(GET)
        await peer.until_ended()
        assert bench.runtime.slot.errors == 1


async def test_a_status_of_500_is_an_error_and_404_is_none():
    async def app(scope, receive, send):
        status = int(scope["path"][1:])
        await send({"type": "http.response.start", "status": status})
        await send({"type": "http.response.body"})

    async with serving(app) as bench:
        peer = bench.connect()
        for status in (200, 404, 500, 503):
            await ask(peer, f"GET /{status} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        assert bench.runtime.slot.errors == 2


async def test_latency_is_from_the_head_to_the_last_byte():
    wait = asyncio.Event()

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"x", "more_body": True})
        await wait.wait()
        await send({"type": "http.response.body"})

    async with serving(app) as bench:
        await quiet_second(bench)
        peer = bench.connect()
        peer.feed(GET)
        await turn(5)
        assert sum(bench.runtime.slot.latency) == 0
        bench.clock.advance(0.3)
        wait.set()
        await turn(5)
        counts = bench.runtime.slot.latency
        assert sum(counts) == 1
        assert 0.24 * S < quantile(counts, 0.5) < 0.36 * S


async def test_at_a_high_rate_one_answer_of_eight_stands_for_all():
    async with serving(hello) as bench:
        peer = bench.connect()
        for _ in range(400):
            await ask(peer)
        counts = bench.runtime.slot.latency
        assert 300 < sum(counts) < 500
        assert all(count % 8 == 0 for count in counts)


async def test_at_a_low_rate_each_answer_is_timed():
    async with serving(hello) as bench:
        await quiet_second(bench)
        peer = bench.connect()
        for _ in range(40):
            await ask(peer)
        assert sum(bench.runtime.slot.latency) == 40
        for _ in range(1100):
            await ask(peer)
        await bench.pass_time(1)  # more than a thousand a second
        before = sum(bench.runtime.slot.latency)
        for _ in range(40):
            await ask(peer)
        assert (sum(bench.runtime.slot.latency) - before) % 8 == 0


# --- heartbeat ----------------------------------------------------------------------------------------------------


async def test_the_heartbeat_is_the_tick():
    async with serving(hello) as bench:
        slot = bench.runtime.slot
        await bench.pass_time(3)
        assert slot.heartbeat_ns == bench.clock()
        assert slot.lag_ns == 0
        bench.clock.advance(bench.runtime.tick_interval_s + 0.25)  # the loop was blocked
        bench.runtime.tick()
        assert slot.lag_ns == pytest.approx(0.25 * S, abs=MS)
        bench.clock.advance(0.01)  # an early one is not late
        bench.runtime.tick()
        assert slot.lag_ns == 0


@pytest.mark.skipif(sys.platform != "linux", reason="/proc")
async def test_memory_is_measured_once_a_second():
    async with serving(hello) as bench:
        slot = bench.runtime.slot
        await bench.pass_time(1.1)
        with open("/proc/self/statm") as statm:
            now = int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        assert slot.rss_bytes == pytest.approx(now, rel=0.2)


def test_a_heart_that_stopped_is_not_live():
    slot = Slot()
    slot.begin()
    slot.state = State.READY
    assert slot.is_live
    assert time.monotonic_ns() - slot.heartbeat_ns < 10 * S
    slot.state = State.DRAINING
    assert not slot.is_live


# --- the worker ---------------------------------------------------------------------------------------------------


async def test_states_of_a_server(unused_listener):
    states = []

    async def app(scope, receive, send):
        assert scope["type"] == "lifespan"
        while True:
            message = await receive()
            states.append((message["type"], server.slot.state))
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return

    server = Server(Config(app, log_config=None, lifespan="on"), slot=Scoreboard(1).slot(0))
    server.slot.begin()
    await server.startup(sockets=[unused_listener])
    states.append(("started", server.slot.state))
    assert server.slot.is_live
    assert server.slot.pid == os.getpid()
    await server.shutdown()
    states.append(("ended", server.slot.state))
    assert states == [
        ("lifespan.startup", State.BOOTING), ("started", State.READY), ("lifespan.shutdown", State.DRAINING),
        ("ended", State.GONE),
    ]  # fmt: skip


# --- help ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def unused_listener():
    import socket

    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        yield sock


async def runtime_of(app, slot):
    config = Config(app, log_config=None, access_log=False)
    config.load()
    runtime = Runtime(
        config, app, asyncio.get_running_loop(), handler_factory=Http1, clock=Clock(), slot=slot
    )
    runtime.tick()
    return runtime


async def ask(peer, data=GET):
    peer.forget()
    await peer.answer(data=data)


async def quiet_second(bench):
    """Let the runtime see that its rate is low."""
    await bench.pass_time(2.1)
