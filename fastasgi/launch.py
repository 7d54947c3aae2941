"""Run a server until it stops: `run` for programs, `execute` for every face that ends with an exit code."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from types import FrameType
from typing import Any, NoReturn

from . import service
from . import sockets as listening
from .config import Config, with_parameters_of
from .ending import end_executors, threads_left
from .errors import EXIT_OK, StartupError
from .heap import thaw_heap
from .logging import log_startup_error, reopen_files, server_logger
from .loops import run_bounded
from .sources import gather
from .supervisor import Supervisor
from .worker import Server

NOBODY_TO_TAKE_OVER = (
    "SIGHUP replaces workers one by one, but this is the only process: nothing was done; with --workers 2 or more a "
    "restart loses no request"
)


def execute(config: Config) -> int:
    """Run the server of this configuration; the exit code of the process."""
    try:
        with in_service(config) as sockets:
            notifier = service.Notifier()
            if config.workers > 1 or config.reload:
                return Supervisor(config, sockets=sockets, notifier=notifier).run()
            server = MainServer(config, notifier)
            server.run(sockets)
    except StartupError as error:
        log_startup_error(error)
        return error.exit_code
    except KeyboardInterrupt:  # before, or after, the server listens to signals itself
        return EXIT_OK
    return server.exit_code


def check(config: Config) -> None:
    """Find what would make the start fail, as far as it can be known without serving. Raises `StartupError`.

    The application is imported, and made by its factory; its lifespan does not begin. TLS files, the loop, user, group
    and folders are looked at, addresses bound for a moment. What is only in use now is no mistake: the server may run.
    """
    listening.check(config)
    service.Rights(config.user, config.group)
    if config.pid_file is not None:
        service.PidFile(config.pid_file).check()
    try:
        config.load()
        run_bounded(config.load_in_loop(), config.get_loop_factory())
    except KeyboardInterrupt:
        raise StartupError("interrupted while the application was imported") from None


@contextlib.contextmanager
def in_service(config: Config) -> Iterator[Sequence[socket.socket] | None]:
    """Be what the system expects of a service within the block: see `service`. Gives the sockets, where they had to be
    bound before rights were given up; else None. Raises `StartupError`."""
    service.set_umask(config.umask)
    service.become_init()
    with contextlib.ExitStack() as ending:
        ending.enter_context(service.end_on_sigterm())
        rights = service.Rights(config.user, config.group)
        sockets = None
        if not rights.are_ours:
            sockets = listening.bind(config)
            for sock in sockets:
                ending.callback(sock.close)
        if config.pid_file is not None:
            pid_file = service.PidFile(config.pid_file)
            pid_file.take(successor_of=os.getppid())
            ending.callback(pid_file.release)
        rights.take(sockets or ())
        yield sockets


class MainServer(Server):
    """The server that is all of its process: it tells the service manager how it is, and hears the signals that other
    processes send to servers.

        SIGUSR1     reopen log files, which were moved away
        SIGHUP      the terminal was closed: drain and end. Without a terminal it asks for new workers, as systemctl
                    reload does, and there is nobody to take over: a line of the log says so

    Unhandled, both would end the process.
    """

    owns_process = True

    def __init__(self, config: Config, notifier: service.Notifier) -> None:
        super().__init__(config)
        self._notifier = notifier
        self._has_terminal = sys.stdin is not None and sys.stdin.isatty()
        self._pinging: asyncio.TimerHandle | None = None

    async def startup(self, sockets: Sequence[socket.socket] | None = None) -> None:
        """As the server's, and tell that it is ready."""
        await super().startup(sockets)
        if self.started:
            self._notifier.ready(f"Serving on {', '.join(self.urls)}")
            self._ping()

    async def shutdown(self, sockets: Sequence[socket.socket] | None = None) -> None:
        """As the server's, and tell that it ends."""
        self._notifier.stopping()
        try:
            await super().shutdown(sockets)
        finally:
            if self._pinging is not None:
                self._pinging.cancel()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """As the server's, and the two above, unless they are ignored, as under nohup."""
        with super().capture_signals(), contextlib.ExitStack() as restoring:
            if threading.current_thread() is threading.main_thread():
                for name, handle in (("SIGUSR1", self._reopen_logs), ("SIGHUP", self._hung_up)):
                    number = getattr(signal, name, None)
                    if number is not None and signal.getsignal(number) is signal.SIG_DFL:
                        signal.signal(number, handle)
                        restoring.callback(signal.signal, number, signal.SIG_DFL)
            yield

    def _reopen_logs(self, sig: int, frame: FrameType | None) -> None:
        self._in_loop(reopen_files)

    def _hung_up(self, sig: int, frame: FrameType | None) -> None:
        if self._has_terminal:
            self.handle_exit(sig, frame)
        else:
            self._in_loop(server_logger.warning, NOBODY_TO_TAKE_OVER)

    def _in_loop(self, call: Callable[..., object], *arguments: Any) -> None:
        """From a signal handler, which may have interrupted a line that is being written."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(call, *arguments)

    def _ping(self) -> None:
        """By a timer of the loop: one that is blocked pings no more."""
        self._notifier.ping()
        if self._notifier.watchdog_s is not None:
            self._pinging = asyncio.get_running_loop().call_later(self._notifier.watchdog_s / 2, self._ping)


def leave(code: int) -> NoReturn:
    """End the process with this exit code, also when threads that the application started never end.

    Python waits for every thread that is no daemon, without a bound: one that hangs in a call would hold a server
    for ever that has drained long ago.
    """
    end_executors()
    names = threads_left()
    if not names:
        sys.exit(code)
    server_logger.warning("threads of the application are still running, left behind: %s", ", ".join(names))
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


@with_parameters_of(Config)
def run(app: Any, **options: Any) -> None:
    """Run `app` (an import string `module:attribute`, or the application itself) until the server stops.

    Each option is a keyword parameter; what is not given comes from the environment, the configuration file
    of the current directory, or the default. Raises `ConfigError` for a bad value, `SystemExit` with the exit
    code if the server could not start (3) or crashed (1), and returns after a clean stop.
    """
    settings = gather({"app": app, **options}, os.environ)
    config = Config(**settings.values)
    config.notices.extend(settings.notices)
    try:
        code = execute(config)
    finally:
        thaw_heap()
    if code != EXIT_OK:
        sys.exit(code)
