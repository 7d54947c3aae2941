"""One worker of several, in its own process: what it does from its start to its last byte.

A forked worker comes to `run_forked()` straight from its supervisor; one that is spawned comes from `spawned.py`. Both
end in `work()`: a `Server` that tells its supervisor when it
is ready, asks for a replacement instead of ending at its limits, and ends when the supervisor has gone.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import faulthandler
import logging
import os
import signal
import socket
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import Any, NoReturn

from ._access import close_all
from ._scoreboard import Slot, State
from .asgi import describe_scope, scope_in
from .config import Config
from .draining import LINGER_S, drain_bound_s
from .ending import end_executors, threads_left
from .errors import EXIT_CRASH, StartupError
from .logging import reopen_files, server_logger
from .process import DUMP_SIGNAL, Link
from .reactor import take_own_signals
from .worker import Server

if sys.platform == "linux":
    from ._orphan import die_with_parent

ORPHAN_S = 60.0
"""How long a worker whose supervisor was killed may drain where its drain has no bound."""

MAX_DETAILS = 32768


@dataclass
class Birth:
    """What a worker gets from its supervisor."""

    slot: Slot
    link: socket.socket
    dump_fd: int
    sockets: Sequence[socket.socket]
    supervisor: int  # its process id


class SupervisedServer(Server):
    """A `Server` that is one of several: see the head of this module."""

    owns_process = True

    def __init__(self, config: Config, birth: Birth) -> None:
        super().__init__(config, slot=birth.slot)
        self.link = Link(birth.link)
        self._transport: asyncio.Transport | None = None
        self._has_asked = False

    async def startup(self, sockets: Sequence[socket.socket] | None = None) -> None:
        """As the server's, and tell the supervisor."""
        await self._attach()
        await super().startup(sockets)
        if self.started:
            self.link.send(say="ready")

    def announce(self, sockets: Sequence[socket.socket], ready_s: float) -> None:
        """The supervisor says where all of them listen."""

    async def shutdown(self, sockets: Sequence[socket.socket] | None = None) -> None:
        """As the server's, and tell the supervisor before, whoever asked for it."""
        self.link.send(say="draining")
        await super().shutdown(sockets)
        if self._transport is not None:
            self._transport.close()

    def ends_at_limit(self, limit: int) -> bool:
        """Ask for a replacement and serve on: the supervisor says when to drain."""
        if not self._has_asked:
            self._has_asked = True
            self.link.send(say="retire", why=f"limit_max_requests of {limit} reached")
        return False

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """SIGTERM ends this worker alone. SIGINT is sent to the whole group of a terminal: it is the supervisor's."""
        before = signal.signal(signal.SIGTERM, self.handle_exit)
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, before)

    # --- the link ---------------------------------------------------------------------------------------------

    async def _attach(self) -> None:
        """Hear what the supervisor says. The transport has a socket of its own: ours speaks before and after it."""
        loop = asyncio.get_running_loop()
        sock = self.link.sock.dup()
        sock.setblocking(False)
        if sock.family == getattr(socket, "AF_UNIX", None):
            self._transport, _ = await loop.create_unix_connection(lambda: Commands(self), sock=sock)
        else:
            self._transport, _ = await loop.create_connection(lambda: Commands(self), sock=sock)

    def obey(self, command: dict[str, Any]) -> None:
        """Do what the supervisor says."""
        what = command["do"]
        if what == "drain":
            self.drain_linger_s = command["linger_s"]
            self.config.drain_delay = command["delay_s"]
            self.config.timeout_graceful_shutdown = command["timeout_s"]
            self.config.timeout_disconnect_grace = command["grace_s"]
            self.should_exit = True
            if command["is_forced"]:
                self.force_exit = True
        elif what == "abort":
            self.should_exit = True
            self.force_exit = True
        elif what == "reopen":
            reopen_files()
        else:
            raise AssertionError(f"no such command: {what!r}")

    def orphaned(self) -> None:
        """The supervisor's end of the link is closed: it has ended without a word."""
        if not self.should_exit:
            server_logger.error("the supervisor of worker [%d] has gone: shutting down", os.getpid())
            self.drain_linger_s = LINGER_S
            self.should_exit = True


class Commands(asyncio.Protocol):
    """The worker's end of the link, in its loop."""

    def __init__(self, server: SupervisedServer) -> None:
        self._server = server

    def data_received(self, data: bytes) -> None:
        """Commands have come."""
        for command in self._server.link.take(data):
            self._server.obey(command)

    def eof_received(self) -> None:
        """The supervisor has gone."""
        self._server.orphaned()

    def connection_lost(self, error: Exception | None) -> None:
        """The same, unless we closed it."""
        if error is not None:
            self._server.orphaned()


# --- stacks -----------------------------------------------------------------------------------------------------------


def write_stacks_on_signal(fd: int) -> None:
    """Have the signal write the stacks of all threads to `fd`, and then, where Python can run, the request.

    The stacks are written by C within the signal handler, whatever the main thread is doing. The request is found
    by Python, so only where what blocks the loop lets signals be handled: Python code, a sleep, a call that waits.
    """
    if DUMP_SIGNAL is None:
        return

    def write_request(number: int, frame: FrameType | None) -> None:
        with contextlib.suppress(OSError):
            os.write(fd, (request_of(frame) + "\n").encode("utf-8", "replace"))

    signal.signal(DUMP_SIGNAL, write_request)
    faulthandler.register(DUMP_SIGNAL, file=fd, all_threads=True, chain=True)


def request_of(frame: FrameType | None) -> str:
    """Which request the frames below a signal belong to: the outermost one that was called with a scope."""
    found = "no request runs in the main thread"
    while frame is not None:
        scope = scope_in(frame.f_code, frame.f_locals)
        if scope is not None:
            found = f"running: {describe_scope(scope)}"
        frame = frame.f_back
    return found


# --- the process ------------------------------------------------------------------------------------------------------


def _ignore(number: int, frame: object) -> None:
    """Not SIG_IGN, which programs that the application starts would inherit."""


def signal_handlers() -> dict[int, Any]:
    """What a worker does with the signals that are its supervisor's, which a group or a careless kill sends to it."""
    names = ("SIGINT", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2")
    return {getattr(signal, name): _ignore for name in names if hasattr(signal, name)}


def work(config: Config, birth: Birth) -> int:
    """Serve until told to end; the exit code."""
    if sys.platform == "linux":
        bound_s = drain_bound_s(config)
        die_with_parent(birth.supervisor, ORPHAN_S if bound_s is None else bound_s + config.drain_delay)
    write_stacks_on_signal(birth.dump_fd)
    server = SupervisedServer(config, birth)
    try:
        server.run(birth.sockets)
    except StartupError as error:
        server.link.send(say="failed", text=str(error), details=error.details[-MAX_DETAILS:])
        return error.exit_code
    finally:
        birth.slot.state = State.GONE
    return server.exit_code


def run_forked(config: Config, birth: Birth) -> NoReturn:
    """A worker's life in a process that was just forked, all signals blocked. Never returns to the parent's code."""
    code = EXIT_CRASH
    try:
        atexit._clear()  # what the parent's program registered is the parent's to do, but for logs
        for flush in (logging.shutdown, close_all):
            atexit.register(flush)
        take_own_signals(signal_handlers())
        code = work(config, birth)
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else EXIT_CRASH
    except BaseException:
        server_logger.exception("worker [%d] crashed", os.getpid())
    finally:
        leave_process(code)


def leave_process(code: int) -> NoReturn:
    """End, as the interpreter would, but not through the parent's frames, and with a bound."""
    try:
        end_executors()
        names = threads_left()
        if names:
            server_logger.warning("threads of the application are still running, left behind: %s", ", ".join(names))
        atexit._run_exitfuncs()
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
    finally:
        os._exit(code)


@dataclass
class Parcel:
    """What a spawned worker is told, pickled: numbers of descriptors instead of objects."""

    options: dict[str, Any]
    board_fd: int
    slots: int
    index: int
    link_fd: int
    dump_fd: int
    socket_fds: list[int]
    supervisor: int
