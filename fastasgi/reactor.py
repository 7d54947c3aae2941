"""`Reactor`: the one loop of a process that serves no requests itself: descriptors, timers and queued signals.

Signal handlers do nothing: the interpreter writes each signal's number to a pipe, and the loop takes them from
there in their order. asyncio is not used, because a process that forks must have no event loop.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import selectors
import signal
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

Callback = Callable[[], object]
Watched = int | socket.socket


class Timer:
    """One call to come; `cancel()` takes it back."""

    def __init__(self, callback: Callback) -> None:
        self.callback: Callback | None = callback

    def cancel(self) -> None:
        """The call does not come any more."""
        self.callback = None


class Reactor:
    """Waits for descriptors, timers and signals, and calls back, one at a time."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self._selector = selectors.DefaultSelector()
        self._timers: list[tuple[float, int, Timer]] = []
        self._order = itertools.count()
        self._on_signal: dict[int, Callback] = {}
        self._before: dict[int, Any] = {}
        self._wakeup_before = -1
        self._signals: tuple[socket.socket, socket.socket] | None = None

    # --- descriptors and timers -------------------------------------------------------------------------------

    def add_reader(self, watched: Watched, callback: Callback) -> None:
        """Call back whenever there is something to read, or the other end is closed."""
        self._selector.register(watched, selectors.EVENT_READ, callback)

    def remove_reader(self, watched: Watched) -> None:
        """Watch it no more; does nothing if it is not watched. To be called before it is closed."""
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(watched)

    def call_later(self, delay_s: float, callback: Callback) -> Timer:
        """Call back in so many seconds."""
        timer = Timer(callback)
        heapq.heappush(self._timers, (self.clock() + delay_s, next(self._order), timer))
        return timer

    # --- signals ----------------------------------------------------------------------------------------------

    def capture_signals(self, callbacks: dict[int, Callback]) -> None:
        """Call back from the loop for these signals. Main thread only; `close()` puts back what was before."""
        reader, writer = self._signals = socket.socketpair()
        for end in (reader, writer):
            end.setblocking(False)
        self._on_signal = dict(callbacks)
        self._wakeup_before = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
        for number in callbacks:
            self._before[number] = signal.signal(number, _ignore)
        self.add_reader(reader, self._take_signals)

    def _take_signals(self) -> None:
        assert self._signals is not None
        with contextlib.suppress(BlockingIOError):
            for number in self._signals[0].recv(4096):
                callback = self._on_signal.get(number)
                if callback is not None:
                    callback()

    def release_signals(self) -> None:
        """Put back the handlers of before."""
        if self._signals is None:
            return
        signal.set_wakeup_fd(self._wakeup_before)
        for number, handler in self._before.items():
            if handler is not None:  # None: not set from Python
                signal.signal(number, handler)
        self._before.clear()
        self.remove_reader(self._signals[0])
        for end in self._signals:
            end.close()
        self._signals = None

    # --- running ----------------------------------------------------------------------------------------------

    def run_once(self, limit_s: float | None = None) -> None:
        """Wait for the next thing to do, at most `limit_s` seconds, and do all that is due."""
        for key, _ in self._selector.select(self._wait_s(limit_s)):
            if self._selector.get_map().get(key.fileobj) is key:  # not removed by one before it
                key.data()
        now = self.clock()
        while self._timers and self._timers[0][0] <= now:
            callback = heapq.heappop(self._timers)[2].callback
            if callback is not None:
                callback()

    def _wait_s(self, limit_s: float | None) -> float | None:
        while self._timers and self._timers[0][2].callback is None:
            heapq.heappop(self._timers)
        if not self._timers:
            return limit_s
        due_s = max(0.0, self._timers[0][0] - self.clock())
        return due_s if limit_s is None else min(due_s, limit_s)

    def close(self) -> None:
        """Let go of signals and descriptors."""
        self.release_signals()
        self._timers.clear()
        self._selector.close()

    def forget(self) -> None:
        """In a process just forked: the loop is the parent's. Close our copies; change nothing that is shared.

        Unregistering would take the parent's descriptors out of its epoll set, which both processes share.
        """
        self._selector.close()
        if self._signals is not None:
            for end in self._signals:
                end.close()


def _ignore(number: int, frame: object) -> None:
    """The handler of a captured signal; the wakeup descriptor has queued its number."""


@contextlib.contextmanager
def signals_blocked() -> Iterator[None]:
    """Let no signal in within the block, so that none arrives in a child while its handlers are its parent's."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def take_own_signals(handlers: dict[int, Any]) -> None:
    """In a process just started, its signals still blocked: every handler the default, but for these; then let
    signals in."""
    with contextlib.suppress(ValueError):
        signal.set_wakeup_fd(-1)
    for number in signal.valid_signals():
        if number in handlers:
            signal.signal(number, handlers[number])
        elif callable(signal.getsignal(number)) and signal.getsignal(number) is not signal.default_int_handler:
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, set())
