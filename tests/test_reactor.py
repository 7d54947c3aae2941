"""reactor: descriptors, timers and queued signals, one after the other; a forked child changes nothing of it."""

import os
import signal
import socket
import subprocess
import sys
import threading

import pytest

from fastasgi.reactor import Reactor, signals_blocked, take_own_signals


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def reactor(clock):
    made = Reactor(clock)
    yield made
    made.close()


def test_timers_come_in_the_order_of_their_times(reactor, clock):
    seen = []
    reactor.call_later(2, lambda: seen.append("second"))
    reactor.call_later(1, lambda: seen.append("first"))
    reactor.call_later(1.5, lambda: seen.append("never")).cancel()
    clock.now = 1.0
    reactor.run_once(0)
    assert seen == ["first"]
    clock.now = 3.0
    reactor.run_once(0)
    assert seen == ["first", "second"]


def test_a_timer_may_set_the_next(reactor, clock):
    seen = []
    reactor.call_later(0, lambda: reactor.call_later(0, lambda: seen.append(1)))
    reactor.run_once(0)
    reactor.run_once(0)
    assert seen == [1]


def test_readers(reactor):
    ours, theirs = socket.socketpair()
    with ours, theirs:
        seen = []
        reactor.add_reader(ours, lambda: seen.append(ours.recv(10)))
        theirs.send(b"x")
        reactor.run_once(5)
        reactor.remove_reader(ours)
        reactor.remove_reader(ours)
        theirs.send(b"y")
        reactor.run_once(0)
    assert seen == [b"x"]


def test_a_reader_removed_by_another_is_not_called(reactor):
    pairs = [socket.socketpair() for _ in range(2)]
    seen = []

    def hear(index):
        seen.append(index)
        for ours, _ in pairs:
            reactor.remove_reader(ours)

    for index, (ours, theirs) in enumerate(pairs):
        theirs.send(b"x")
        reactor.add_reader(ours, lambda index=index: hear(index))
    reactor.run_once(5)
    for pair in pairs:
        for end in pair:
            end.close()
    assert len(seen) == 1


def test_signals_are_queued_in_their_order(reactor):
    seen = []
    numbers = [signal.SIGUSR1, signal.SIGHUP, signal.SIGUSR2]
    before = [signal.getsignal(number) for number in numbers]
    reactor.capture_signals({number: lambda number=number: seen.append(number) for number in numbers})
    for number in [signal.SIGHUP, signal.SIGUSR2, signal.SIGUSR1, signal.SIGHUP]:
        signal.raise_signal(number)
    assert seen == [], "the handlers do nothing"
    reactor.run_once(5)
    assert seen == [signal.SIGHUP, signal.SIGUSR2, signal.SIGUSR1, signal.SIGHUP]
    reactor.release_signals()
    assert [signal.getsignal(number) for number in numbers] == before


def test_blocked_signals_come_afterwards(reactor):
    seen = []
    reactor.capture_signals({signal.SIGUSR1: lambda: seen.append(1)})
    with signals_blocked():
        signal.pthread_kill(threading.get_ident(), signal.SIGUSR1)  # other threads do not block it
        reactor.run_once(0)
        assert seen == []
    reactor.run_once(5)
    assert seen == [1]


def test_a_forked_child_leaves_the_loop_of_its_parent_as_it_is(reactor):
    """A selector's epoll set is one for both: what the child unregisters there would be gone for the parent."""
    ours, theirs = socket.socketpair()
    seen = []
    with ours, theirs:
        reactor.add_reader(ours, lambda: seen.append(ours.recv(10)))
        reactor.capture_signals({signal.SIGUSR1: lambda: seen.append("signal")})
        with signals_blocked():
            pid = os.fork()
            if not pid:
                code = 1
                try:
                    reactor.forget()
                    reactor.remove_reader(ours)
                    take_own_signals({signal.SIGUSR1: lambda number, frame: None})
                    os.kill(os.getpid(), signal.SIGUSR1)
                    code = 0
                finally:
                    os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        theirs.send(b"x")
        reactor.run_once(5)
        assert seen == [b"x"], "and a signal to the child is none to the parent"


def test_own_signals():
    code = """
import signal
from fastasgi.reactor import take_own_signals
signal.signal(signal.SIGTERM, lambda number, frame: None)
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGHUP})
mine = lambda number, frame: None
take_own_signals({signal.SIGHUP: mine})
assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
assert signal.getsignal(signal.SIGHUP) is mine
assert signal.pthread_sigmask(signal.SIG_BLOCK, set()) == set()
"""
    subprocess.run([sys.executable, "-c", code], check=True)
