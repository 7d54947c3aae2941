"""`WorkerProcess`: one worker as its supervisor sees it: its state, the link to it, its stacks, its end.

    BOOTING -> READY            it said so: the application is started, connections are accepted
    READY -> RETIRING           it is to be replaced, and serves until the replacement is ready
    RETIRING -> READY           the replacement could not start: it stays
    READY, RETIRING -> DRAINING     it was told to end, or ends by itself
    any but GONE -> KILLED      it was sent SIGKILL
    any -> GONE                 its process has ended and was waited for

The link is a pair of connected sockets that carries one JSON object a line. The supervisor says what to do:

    {"do": "drain", "linger_s": 5, "delay_s": 0, "timeout_s": 20, "grace_s": 5, "is_forced": false}     null: no limit
    {"do": "abort"}     end now: cancel what runs, and the application's shutdown where it has begun
    {"do": "reopen"}    reopen log files

and the worker says what it has to tell: {"say": "ready"}, {"say": "retire", "why": ...}, {"say": "draining"},
{"say": "failed", "text": ..., "details": ...}. The end of the link is the end of the other side.
"""

from __future__ import annotations

import contextlib
import enum
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from typing import Any

from ._scoreboard import Slot

MAX_DUMP_BYTES = 1 << 20


class WorkerState(enum.Enum):
    """See the table at the head of this module."""

    BOOTING = "booting"
    READY = "ready"
    RETIRING = "retiring"
    DRAINING = "draining"
    KILLED = "killed"
    GONE = "gone"


_S = WorkerState
TRANSITIONS: dict[WorkerState, frozenset[WorkerState]] = {
    _S.BOOTING: frozenset({_S.READY, _S.DRAINING, _S.KILLED, _S.GONE}),
    _S.READY: frozenset({_S.RETIRING, _S.DRAINING, _S.KILLED, _S.GONE}),
    _S.RETIRING: frozenset({_S.READY, _S.DRAINING, _S.KILLED, _S.GONE}),
    _S.DRAINING: frozenset({_S.KILLED, _S.GONE}),
    _S.KILLED: frozenset({_S.GONE}),
    _S.GONE: frozenset(),
}
"""The legal moves."""

SERVING = frozenset({_S.READY, _S.RETIRING})
"""States in which a worker takes new connections."""


class Link:
    """One end of the line between supervisor and worker; never blocks."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.is_open = True
        self._seen = b""
        sock.setblocking(False)

    def send(self, **message: Any) -> None:
        """Say something; nobody hears it when the other side has gone, or does not read at all."""
        with contextlib.suppress(OSError):
            self.sock.send(json.dumps(message).encode() + b"\n")

    def read(self) -> Iterator[dict[str, Any]]:
        """What has come since; `is_open` turns False at the end."""
        try:
            data = self.sock.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        yield from self.take(data)

    def take(self, data: bytes) -> Iterator[dict[str, Any]]:
        """The messages that these bytes complete; none are the end."""
        if not data:
            self.is_open = False
        *lines, self._seen = (self._seen + data).split(b"\n")
        for line in lines:
            yield json.loads(line)

    def close(self) -> None:
        """Let the other side see the end."""
        self.is_open = False
        self.sock.close()


def open_dump() -> int:
    """A file without a name for the stacks of a worker: the worker writes, the supervisor reads."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("fastasgi-stacks")
    fd, path = tempfile.mkstemp()
    os.unlink(path)
    return fd


class WorkerProcess:
    """A process that was started, and all that the supervisor holds of it.

    `popen` is its handle where it was spawned; a forked one is waited for by `pid`. `generation` counts the
    restarts of all workers, so that it tells which code runs. `why` says what a retiring or killed worker did.
    """

    def __init__(
        self,
        pid: int,
        slot: Slot,
        link: Link,
        dump_fd: int,
        *,
        generation: int,
        started_s: float,
        popen: subprocess.Popen[bytes] | None = None,
    ) -> None:
        self.pid, self.slot, self.link = pid, slot, link
        self.dump_fd, self._popen = dump_fd, popen
        self.generation, self.started_s = generation, started_s
        self.state = WorkerState.BOOTING
        self.ready_s: float | None = None
        self.why = ""
        self.is_told = False  # to end, by us
        self.failure: tuple[str, str] | None = None  # why it could not start: sentence, details
        self.exit_status: int | None = None  # as Popen.returncode: negative is the signal that killed it

    def __repr__(self) -> str:
        return f"<worker [{self.pid}] {self.state.value}>"

    @property
    def is_serving(self) -> bool:
        """Whether it takes new connections."""
        return self.state in SERVING

    def move(self, state: WorkerState) -> None:
        """Enter a state."""
        assert state in TRANSITIONS[self.state], f"{self} cannot become {state.value}"
        self.state = state

    # --- the end ----------------------------------------------------------------------------------------------

    def terminate(self) -> None:
        """Ask it to end; one that is still importing ends at once."""
        self._signal(signal.SIGTERM)

    def kill(self, why: str) -> None:
        """End it now."""
        if self.state is not WorkerState.KILLED:
            self.move(WorkerState.KILLED)
            self.why = self.why or why
        self._signal(getattr(signal, "SIGKILL", signal.SIGTERM))

    def _signal(self, number: int) -> None:
        if self.exit_status is None:  # else its process id may be another's by now
            with contextlib.suppress(ProcessLookupError):
                if self._popen is not None:
                    self._popen.send_signal(number)
                else:
                    os.kill(self.pid, number)

    def poll(self) -> bool:
        """Whether its process has ended; then it is waited for, and `exit_status` is set."""
        if self.exit_status is not None:
            return True
        if self._popen is not None:
            self.exit_status = self._popen.poll()
        else:
            try:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
            except ChildProcessError:  # somebody else has waited for it: how it ended is not known
                pid, status = self.pid, 0
            if pid:
                self.exit_status = os.waitstatus_to_exitcode(status)
        return self.exit_status is not None

    def bury(self) -> None:
        """Its process has ended: give back what was held for it."""
        self.move(WorkerState.GONE)
        self.slot.end()
        self.close()

    def close(self) -> None:
        """Close our ends; all that a forked sibling does with its copies."""
        self.link.close()
        if self.dump_fd >= 0:
            os.close(self.dump_fd)
            self.dump_fd = -1

    def describe_end(self) -> str:
        """How it ended, for a log line."""
        status = self.exit_status
        if status is None:
            return "is still running"
        if status >= 0:
            return f"ended with exit code {status}"
        try:
            name = signal.Signals(-status).name
        except ValueError:
            name = f"signal {-status}"
        return f"was killed by {name}"

    # --- what it is doing -------------------------------------------------------------------------------------

    def ask_for_stacks(self) -> None:
        """Have it write the stacks of its threads, also while its loop is blocked."""
        if DUMP_SIGNAL is not None:
            os.ftruncate(self.dump_fd, 0)
            self._signal(DUMP_SIGNAL)

    def stacks(self) -> str:
        """What it has written since, without the frames of our own below the worker's first."""
        kept, is_ours = [], False
        for line in os.pread(self.dump_fd, MAX_DUMP_BYTES, 0).decode("utf-8", "replace").splitlines():
            is_ours = is_ours and line.startswith("  File ")
            if not is_ours:
                kept.append(line)
            is_ours = is_ours or (line.endswith(" in work") and "child.py" in line)
        return "\n".join(kept)

    def condition(self) -> str:
        """What the kernel says of it, where that explains silence; else nothing."""
        try:
            with open(f"/proc/{self.pid}/stat", encoding="ascii", errors="replace") as file:
                letter = file.read().rpartition(")")[2].split()[0]
        except (OSError, IndexError):
            return ""
        return {
            "T": "it is stopped, as by SIGSTOP",
            "t": "it is stopped by a debugger",
            "D": "it waits within the kernel, as for a disk",
        }.get(letter, "")

    def rss_bytes(self) -> int:
        """Resident memory, asked of the kernel now; 0 where it cannot be known."""
        try:
            with open(f"/proc/{self.pid}/statm", encoding="ascii") as file:
                return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        except (OSError, IndexError, ValueError):
            return 0


# Neither of the signals that applications use for themselves, where there are others.
DUMP_SIGNAL: int | None = None
if sys.platform == "linux":
    DUMP_SIGNAL = int(signal.SIGRTMIN) + 5
elif hasattr(signal, "SIGUSR2"):
    DUMP_SIGNAL = int(signal.SIGUSR2)
