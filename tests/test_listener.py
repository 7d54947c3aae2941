"""Workers that share a listening socket: evenly, one woken for each connection, and none waits for one that hangs.

The first half asks one listener, on a fake clock, with others on the scoreboard; the second half counts with real
processes, those of `bench/listening.py`.
"""

import asyncio
import collections
import contextlib
import os
import select
import signal
import socket
import ssl
import sys
import time
from pathlib import Path

import pytest

if sys.platform != "linux":
    pytest.skip("our own listeners are for Linux", allow_module_level=True)

from drive import Clock, hello, until
from net import listener as bound
from tls_files import files

from fastasgi._http1 import Http1
from fastasgi._listener import YIELD_S, Listener, epoll_set_of
from fastasgi._memory import MemoryChannel
from fastasgi._runtime import Runtime
from fastasgi._scoreboard import Scoreboard, State
from fastasgi.config import Config

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "bench"))

import listening


class Worker:
    """A runtime on the scoreboard, with as many connections as a test wants."""

    def __init__(self, slot, clock):
        config = Config(hello, log_config=None, access_log=False)
        config.load()
        self.slot = slot
        slot.begin(os.getpid())
        loop = asyncio.get_running_loop()
        self.runtime = Runtime(config, hello, loop, handler_factory=Http1, clock=clock, slot=slot)
        self.runtime.tick()
        slot.state = State.READY
        self.channels = []

    def hold(self, count):
        """Have exactly so many connections."""
        while len(self.channels) < count:
            self.channels.append(MemoryChannel(self.runtime))
        while len(self.channels) > count:
            self.channels.pop().lost()


@contextlib.contextmanager
def workers(count, board=None):
    clock = Clock()
    board = board or Scoreboard(count)
    found = [Worker(board.slot(index), clock) for index in range(count)]
    try:
        yield clock, found
    finally:
        for worker in found:
            worker.hold(0)


class Watched:
    """A listener, how often it told of connections, and what waits on its socket."""

    def __init__(self, worker, sock):
        self.calls = 0
        self.sock = sock
        self.listener = Listener(worker.runtime, sock, self.called)
        self.clients = []

    def called(self, listener):
        assert listener is self.listener
        self.calls += 1
        if not listener.may_accept(0):
            return
        with contextlib.suppress(BlockingIOError):
            self.sock.accept()[0].close()
            listener.end_turn()

    def connect(self):
        self.clients.append(socket.create_connection(self.sock.getsockname()))

    async def until_called(self):
        await until(lambda: self.calls, turns=100_000)

    @property
    def waits(self):
        """Connections that nobody has taken, so far as poll() tells."""
        return bool(select.select([self.sock], [], [], 0)[0])



@contextlib.asynccontextmanager
async def watching(worker):
    sock = bound("tcp")
    sock.setblocking(False)
    watched = Watched(worker, sock)
    watched.listener.start()
    for _ in range(3):
        await asyncio.sleep(0)
    try:
        yield watched
    finally:
        watched.listener.stop()
        for client in watched.clients:
            client.close()
        sock.close()


# --- one listener -------------------------------------------------------------------------------------------------


async def test_the_loops_own_set_is_found_and_the_entry_is_exclusive(event_loop_kind):
    with workers(2) as (_, (mine, _)):
        async with watching(mine) as watched:
            assert watched.listener.is_exclusive
            assert epoll_set_of(watched.listener.fd) >= 0
            watched.connect()
            await until(lambda: not watched.waits)
            watched.listener.stop()
            assert epoll_set_of(watched.listener.fd) == -1


async def test_sets_that_watch_something_else_by_the_number_are_passed_over():
    """As one inherited from the process that forked this one."""
    with workers(2) as (_, (mine, _)), select.epoll() as stranger:
        made = bound("tcp")
        left, right = socket.socketpair()
        stranger.register(left.fileno())
        number, copy = left.fileno(), os.dup(left.fileno())  # the copy keeps the entry alive
        left.close()
        os.dup2(made.fileno(), number)
        made.close()
        sock = socket.socket(fileno=number)
        sock.setblocking(False)
        watched = Watched(mine, sock)
        watched.listener.start()
        for _ in range(3):
            await asyncio.sleep(0)
        assert watched.listener.is_exclusive
        watched.listener.stop()
        os.close(copy)
        right.close()
        sock.close()


async def test_a_worker_alone_asks_for_no_exclusive_entry():
    with workers(1) as (_, (mine,)):
        mine.runtime = Runtime(
            mine.runtime.config, hello, asyncio.get_running_loop(), handler_factory=Http1, slot=None
        )
        async with watching(mine) as watched:
            assert not watched.listener.is_exclusive
            watched.connect()
            await until(lambda: not watched.waits)


async def test_without_the_loops_set_the_reader_stays(monkeypatch, event_loop_kind):
    monkeypatch.setattr(os, "listdir", lambda path: [])
    with workers(2) as (_, (mine, other)):
        async with watching(mine) as watched:
            assert not watched.listener.is_exclusive
            other.hold(0)
            mine.hold(5)
            watched.connect()
            await until(lambda: not watched.waits)
            assert watched.calls >= 2, "it yields, too"


@pytest.mark.parametrize(
    ("counts", "taken"),
    [
        ((0, 0), True), ((1, 0), True), ((2, 2), True), ((3, 2), True), ((4, 2), True), ((5, 2), False),
        ((3, 0), False), ((100, 90), True), ((112, 90), False),
    ],
)  # fmt: skip
async def test_who_is_above_the_mean_takes_none(counts, taken):
    with workers(2) as (_, (mine, other)):
        mine.hold(counts[0])
        other.hold(counts[1])
        async with watching(mine) as watched:
            assert watched.listener.may_accept(0) is taken


async def test_handshakes_count():
    """Of whoever has taken the connection: it will be open there."""
    with workers(2) as (_, (mine, other)):
        async with watching(mine) as watched:
            for _ in range(3):
                assert watched.listener.may_accept(0)
                mine.runtime.begin_connecting()
            assert mine.slot.connecting == 3
            assert not watched.listener.may_accept(0)
            for _ in range(3):
                other.runtime.begin_connecting()
            assert watched.listener.may_accept(0)
            for worker in (mine, other):
                for _ in range(3):
                    worker.runtime.end_connecting()


@pytest.mark.parametrize("trouble", ["draining", "booting", "gone", "hangs"])
async def test_who_serves_no_more_does_not_count(trouble):
    with workers(2) as (clock, (mine, other)):
        mine.hold(50)
        if trouble == "hangs":
            clock.advance(3)
            mine.runtime.tick()
        else:
            other.slot.state = State[trouble.upper()]
        async with watching(mine) as watched:
            assert watched.listener.may_accept(0)


async def test_what_nobody_else_takes_is_taken_after_a_moment(event_loop_kind):
    """The others are below the mean, and live, but busy: a connection does not wait for them."""
    with workers(3) as (_, (mine, _, _)):
        mine.hold(50)
        async with watching(mine) as watched:
            loop = asyncio.get_running_loop()
            for _ in range(3):
                watched.calls, began = 0, loop.time()
                watched.connect()
                await watched.until_called()
                assert watched.waits, "left to the others first"
                await until(lambda: not watched.waits, turns=100_000)
                assert loop.time() - began >= YIELD_S / 2


async def test_while_others_take_some_it_yields_on():
    with workers(2) as (_, (mine, other)):
        mine.hold(50)
        async with watching(mine) as watched:
            assert not watched.listener.may_accept(0)
            for _ in range(5):
                other.hold(len(other.channels) + 1)
                watched.calls = 0
                if not watched.waits:
                    watched.connect()
                await watched.until_called()
                assert watched.waits
            mine.hold(0)
            await until(lambda: not watched.waits, turns=100_000)


async def test_paused_and_resumed(event_loop_kind):
    with workers(2) as (_, (mine, _)):
        async with watching(mine) as watched:
            watched.listener.pause()
            watched.connect()
            watched.listener.check()
            for _ in range(10):
                await asyncio.sleep(0)
            assert watched.calls == 0
            watched.listener.resume()
            await until(lambda: not watched.waits)
            assert watched.listener.is_exclusive


async def test_stopped_while_it_yields(event_loop_kind):
    with workers(2) as (_, (mine, _)):
        mine.hold(50)
        async with watching(mine) as watched:
            assert not watched.listener.may_accept(0)
            watched.listener.stop()
            watched.connect()
            await asyncio.sleep(5 * YIELD_S)
            assert watched.calls == 0


async def test_a_look_finds_what_no_event_told_of():
    """Whoever was woken for it may have ended before it accepted."""
    with workers(2) as (_, (mine, _)):
        async with watching(mine) as watched:
            told = []
            lost = Listener(mine.runtime, watched.sock.dup(), told.append)  # takes the wake, and does nothing
            watched.listener.pause()
            lost.start()
            await asyncio.sleep(0.01)
            watched.connect()
            await until(lambda: told)
            lost.stop()
            lost.sock.close()
            watched.listener.resume()
            mine.runtime.tickers.append(watched.listener.check)
            mine.runtime.tick()
            await until(lambda: not watched.waits)


# --- real workers -------------------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def forked(count, way="ours", **options):
    """Real workers; for the tests that follow, also when one of them is in trouble."""
    found = listening.Workers(way, count, **options)
    try:
        async with asyncio.timeout(20):
            while not all(found.board.slot(index).is_live for index in range(count)):
                await asyncio.sleep(0.02)
        yield found
    finally:
        found.close()


def cpu_s(pids):
    """CPU time of processes."""
    total = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total / os.sysconf("SC_CLK_TCK")


@pytest.mark.pins("workers.even")
async def test_kept_connections_are_spread_evenly():
    async with forked(4) as workers:
        for count in (400, 64):
            who = await listening.keep(workers.port, count)
            assert max(who.values()) <= 1.3 * count / 4, who


@pytest.mark.pins("workers.even")
@pytest.mark.parametrize("is_tls", [False, True], ids=["transport", "tls"])
async def test_connections_of_transports_are_spread_evenly(is_tls):
    """New ones closed after an answer, then some that stay."""
    options, context = {}, None
    if is_tls:
        options = {"ssl_certfile": files().cert, "ssl_keyfile": files().key}
        context = ssl.create_default_context(cafile=files().ca)
    async with forked(4, "transport", **options) as workers:
        who, _, failed = await listening.many(workers.port, 64, context)
        assert (failed, who.total()) == (0, 64)
        for count in (200, 64):
            who = await listening.keep(workers.port, count, context)
            assert max(who.values()) <= 1.3 * count / 4, who


@pytest.mark.pins("workers.even")
async def test_new_connections_are_spread_evenly():
    async with forked(4) as workers:
        who = collections.Counter([(await listening.once(workers.port))[0] for _ in range(80)])
        assert max(who.values()) <= 1.3 * 80 / 4, who
        for _ in range(3):  # a worker that gets no CPU for long leaves its part to the others, as it should
            who, _, failed = await listening.many(workers.port, 400)
            assert (failed, who.total()) == (0, 400)
            if max(who.values()) <= 1.3 * 400 / 4:
                break
        else:
            pytest.fail(f"three times uneven: {who}")


@pytest.mark.pins("workers.one-woken")
async def test_one_is_woken_for_a_connection_and_none_when_idle():
    async with forked(4) as workers:
        before = workers.wakeups()
        for _ in range(50):
            await listening.once(workers.port)
        assert workers.wakeups() - before <= 50 * 3
        spent, began = cpu_s(workers.pids), time.monotonic()
        await asyncio.sleep(0.5)
        assert cpu_s(workers.pids) - spent <= 0.02 + 0.01 * (time.monotonic() - began)


@pytest.mark.pins("workers.hung-does-not-count")
async def test_a_worker_that_hangs_lets_nobody_wait():
    """At first it seems live, and has the fewest connections; later it is known to hang."""
    async with forked(3) as workers:
        os.kill(workers.pids[0], signal.SIGSTOP)
        who, times, failed = await listening.many(workers.port, 150)
        assert failed == 0
        assert workers.pids[0] not in who
        assert max(times) < 1
        kept = await listening.keep(workers.port, 60)
        assert set(kept) == set(workers.pids[1:])
        assert max(kept.values()) <= 1.4 * 30


@pytest.mark.pins("workers.hung-does-not-count")
async def test_a_worker_that_was_killed_lets_nobody_wait():
    async with forked(3) as workers:
        os.kill(workers.pids[0], signal.SIGKILL)
        who, times, failed = await listening.many(workers.port, 150)
        assert failed == 0
        assert set(who) == set(workers.pids[1:])
        assert max(times) < 1
