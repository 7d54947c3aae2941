"""How workers come to life: forked from the supervisor, or spawned as programs of their own.

Forking is quick and shares memory, and is the way on Linux, unless threads run in the process: a lock that one of them
holds at that moment would stay locked in the child for ever. Elsewhere, and then, workers are spawned.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from typing import NoReturn

from ._scoreboard import Scoreboard
from .child import Birth, Parcel, run_forked
from .config import Config
from .errors import StartupError
from .heap import freeze_heap
from .logging import server_logger
from .process import Link, WorkerProcess, open_dump
from .reactor import signals_blocked


def choose_start(config: Config) -> str:
    """`fork` or `spawn`. Raises `StartupError` where the application cannot reach workers in either way."""
    wanted = config.worker_start
    is_object = not isinstance(config.app, str)
    if is_object and config.reload:
        raise StartupError("reload needs an import string such as 'main:app', to import it anew; it got an object")
    threads = [thread.name for thread in threading.enumerate() if thread is not threading.main_thread()]
    can_fork = hasattr(os, "fork") and not threads
    if wanted == "fork" and not hasattr(os, "fork"):
        raise StartupError(f"worker_start=fork, but {sys.platform} cannot fork; leave FASTASGI_WORKER_START unset")
    if wanted == "auto":
        wanted = "fork" if can_fork and (sys.platform == "linux" or is_object) else "spawn"
    if is_object and wanted == "spawn":
        cause = f"threads are running here ({', '.join(threads)})" if threads else "they are new programs here"
        raise StartupError(
            f"the application is an object, which cannot be given to workers, because {cause}; "
            "pass an import string such as 'main:app'"
        )
    return wanted


def load_before_forks(config: Config) -> bool:
    """Import the application here, for `preload`; whether workers can still be forked: not where it has started
    threads, a lock of which may be held at that moment. Raises `StartupError`."""
    config.load()
    names = [thread.name for thread in threading.enumerate() if thread is not threading.main_thread()]
    if names or _native_threads() > 1:
        server_logger.warning(
            "preload is not used: importing the application has started threads%s, so workers cannot be forked",
            f" ({', '.join(names)})" if names else "",
        )
        return False
    return True


def _native_threads() -> int:
    """Threads of this process, those that are not Python's too; 1 where that cannot be known."""
    try:
        return len(os.listdir("/proc/self/task"))
    except OSError:
        return 1


class Starter:
    """Starts workers of one supervisor.

    `sockets` are the listening sockets, `board` the scoreboard. `forget` is called in a forked child for what is the
    supervisor's alone: the other workers' links, its signals, its selector.
    """

    def __init__(
        self,
        config: Config,
        board: Scoreboard,
        sockets: Sequence[socket.socket],
        *,
        forget: Callable[[], None],
    ) -> None:
        self._config, self._board, self._sockets = config, board, sockets
        self._forget = forget
        self.method = choose_start(config)
        self.is_preloaded = False
        if self.method == "fork":
            if config.preload == "on" and not config.reload:
                self.is_preloaded = load_before_forks(config)
                self.method = "fork" if self.is_preloaded else "spawn"
            freeze_heap()  # shared with every worker until one writes to it; the collector would, to look at it

    def start(self, index: int, generation: int, now_s: float) -> WorkerProcess:
        """A new worker in the slot of this index."""
        slot = self._board.slot(index)
        slot.begin(generation=generation)
        ours, theirs = socket.socketpair()
        dump_fd = open_dump()
        popen = None
        with theirs:
            if self.method == "fork":
                pid = self._fork(Birth(slot, theirs, dump_fd, self._sockets, os.getpid()), ours)
            else:
                popen = self._spawn(index, theirs, dump_fd)
                pid = popen.pid
        slot.pid = pid
        return WorkerProcess(
            pid, slot, Link(ours), dump_fd, generation=generation, started_s=now_s, popen=popen
        )

    def _fork(self, birth: Birth, ours: socket.socket) -> int:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                with contextlib.suppress(OSError, ValueError):  # else its buffer would be written twice
                    stream.flush()
        with signals_blocked():
            pid = os.fork()
            if pid:
                return pid
            self._become_worker(birth, ours)

    def _become_worker(self, birth: Birth, ours: socket.socket) -> NoReturn:
        ours.close()
        self._forget()
        run_forked(self._config, birth)

    def _spawn(self, index: int, theirs: socket.socket, dump_fd: int) -> subprocess.Popen[bytes]:
        config = self._config
        parcel = Parcel(
            options={name: getattr(config, name) for name in sorted(config.given)},
            board_fd=self._board.fileno(),
            slots=len(self._board),
            index=index,
            link_fd=theirs.fileno(),
            dump_fd=dump_fd,
            socket_fds=[sock.fileno() for sock in self._sockets],
            supervisor=os.getpid(),
        )
        fds = (parcel.board_fd, parcel.link_fd, dump_fd, *parcel.socket_fds)
        try:
            packed = pickle.dumps(parcel)
        except Exception as error:
            raise StartupError(f"an option cannot be given to spawned workers: {error}") from error
        command = [sys.executable, *subprocess._args_from_interpreter_flags(), "-m", "fastasgi.spawned"]  # type: ignore[attr-defined]
        with signals_blocked():  # inherited: the worker lets them in when it is ready for them
            popen = subprocess.Popen(command, stdin=subprocess.PIPE, pass_fds=fds)
        assert popen.stdin is not None
        with contextlib.suppress(BrokenPipeError), popen.stdin:
            popen.stdin.write(packed)
        return popen
