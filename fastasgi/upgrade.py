"""SIGUSR2: a new supervisor, of whatever is installed now, on the same listening sockets, while the old one serves.

The new one is started as the old one was, and told by a variable of the environment which sockets to take over. When
its workers are ready it says so through a pipe, and the old one drains. Until then nothing has changed: a new one that
does not start leaves the old one as it is.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence

from .logging import server_logger
from .reactor import Reactor, signals_blocked
from .sockets import UnixListener

VARIABLE = "FASTASGI_TAKEOVER"
READY = b"ready\n"

END_S = 2.0
"""What a successor that closed its pipe may take to end: it is ending."""


class Takeover:
    """What a new supervisor takes over of an old one."""

    def __init__(self, sockets: list[socket.socket], fd: int) -> None:
        self.sockets = sockets
        self._fd = fd

    @classmethod
    def from_environment(cls) -> Takeover | None:
        """What the environment tells, once; None where this process was started by nobody's SIGUSR2."""
        text = os.environ.pop(VARIABLE, None)
        if text is None:
            return None
        told = json.loads(text)
        signal.pthread_sigmask(signal.SIG_SETMASK, set())  # the old one blocked signals while it started us
        for fd in (*told["sockets"], told["ready"]):
            os.set_inheritable(fd, False)
        return cls([_listener(fd) for fd in told["sockets"]], told["ready"])

    def finish(self) -> None:
        """The workers are ready: the old supervisor may go."""
        os.write(self._fd, READY)
        os.close(self._fd)
        self._fd = -1

    def forget(self) -> None:
        """In a worker just forked: only the end of the supervisor itself is to be seen."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _listener(fd: int) -> socket.socket:
    sock = socket.socket(fileno=fd)
    name = sock.getsockname()
    if sock.family == getattr(socket, "AF_UNIX", None) and isinstance(name, str) and name:
        sock.detach()
        unix = UnixListener(fileno=fd)
        unix.own(name)  # from now on its file is ours to remove
        sock = unix
    sock.setblocking(False)
    return sock


class Successor:
    """The new supervisor, as the old one sees it until one of them ends."""

    def __init__(
        self, reactor: Reactor, sockets: Sequence[socket.socket], on_end: Callable[[bool], object]
    ) -> None:
        """Start it. `on_end` is called with True when it is ready, with False when it has ended before."""
        self._reactor, self._on_end = reactor, on_end
        self._reader, writer = os.pipe()
        fds = [sock.fileno() for sock in sockets]
        told = json.dumps({"sockets": fds, "ready": writer})
        try:
            with signals_blocked():
                self._popen = subprocess.Popen(
                    [sys.executable, *sys.orig_argv[1:]],
                    pass_fds=(*fds, writer),
                    env={**os.environ, VARIABLE: told},
                )
        finally:
            os.close(writer)
        reactor.add_reader(self._reader, self._hear)
        server_logger.info("Started its successor, supervisor process [%d]", self._popen.pid)

    def _hear(self) -> None:
        is_ready = os.read(self._reader, 64) == READY
        self.forget()
        if not is_ready:
            try:
                self._popen.wait(END_S)
            except subprocess.TimeoutExpired:
                self._popen.kill()
                self._popen.wait()
            server_logger.error("the successor did not start (exit code %s): going on", self._popen.returncode)
        self._on_end(is_ready)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._popen.pid

    def stop(self) -> None:
        """End it, if it is not ready yet."""
        if self._reader >= 0:
            self._popen.terminate()
            self.forget()

    def forget(self) -> None:
        """Look no more; also in a process just forked."""
        if self._reader >= 0:
            self._reactor.remove_reader(self._reader)
            os.close(self._reader)
            self._reader = -1
