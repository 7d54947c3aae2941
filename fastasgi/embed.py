"""Servers inside other programs: `serve()` in a loop that runs already, `serve_in_thread()` beside everything.

Both leave signals and the set-up of logging to the program around them (`log_config` is None unless given), read
neither environment nor configuration file, and end with their block.
"""

from __future__ import annotations

import asyncio
import functools
import threading
from types import TracebackType
from typing import Any

from .config import Config, with_parameters_of
from .errors import ConfigError, StartupError
from .loops import run_bounded
from .worker import Server


def _configured(app: Any, options: dict[str, Any]) -> Config:
    config = Config(app, **{"log_config": None, **options})
    for name, asked in (("workers", config.workers > 1), ("reload", config.reload)):
        if asked and name in config.given:
            raise ConfigError(f"{name}: a server within another program is one process; use run() for it", name)
    return config


def _check_started(server: Server) -> None:
    if not server.started:
        raise StartupError("the server was stopped while it started")


class EmbeddedServer(Server):
    """A server that runs within `async with`: started when the block begins, ended when the block has."""

    _main: asyncio.Task[None] | None = None

    async def __aenter__(self) -> EmbeddedServer:
        """Start. Raises `StartupError`."""
        self._forget_ends()
        await self.startup()
        _check_started(self)
        self._main = asyncio.create_task(self._until_end(), name="fastasgi-server")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Drain and end. A cancellation meanwhile cuts the drain short."""
        task, self._main = self._main, None
        assert task is not None
        self.should_exit = True
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            self.force_exit = True
            await asyncio.wait({task})
            raise

    async def _until_end(self) -> None:
        try:
            await self.main_loop()
        finally:
            await self.shutdown()


class ThreadedServer(Server):
    """A server in a thread of its own, with a loop of its own; `with`, or `start()` and `stop()`."""

    _thread: threading.Thread | None = None
    _error: BaseException | None = None

    def start(self) -> None:
        """Start, and return when connections are accepted. Raises `StartupError`."""
        if self._thread is not None:
            raise RuntimeError("the server runs already; stop() it first")
        ready = threading.Event()
        self._error = None
        self._forget_ends()
        self._thread = threading.Thread(target=self._run, args=(ready,), name="fastasgi-server", daemon=True)
        self._thread.start()
        try:
            ready.wait()
            if not self.started:
                self.stop()  # raises what went wrong
            _check_started(self)
        except BaseException:  # Ctrl+C too: nothing is left behind
            self.stop()
            raise

    def stop(self) -> None:
        """Drain and end; raises what the server raised while it ran. Does nothing when it is not running."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        self.should_exit = True
        try:
            thread.join()
        except BaseException:  # Ctrl+C: wait no longer for requests
            self.force_exit = True
            thread.join()
            raise
        error, self._error = self._error, None
        if error is not None:
            raise error

    def _run(self, ready: threading.Event) -> None:
        try:
            self.config.load()  # before there is a loop: what an application does at import finds none
            stop = functools.partial(setattr, self, "should_exit", True)
            run_bounded(self._serve_and_tell(ready), self.config.get_loop_factory(), stop)
        except BaseException as error:  # for whoever waits in start() or comes to stop()
            self._error = error
        finally:
            ready.set()

    async def _serve_and_tell(self, ready: threading.Event) -> None:
        await self.startup()
        if not self.started:
            return
        ready.set()
        try:
            await self.main_loop()
        finally:
            await self.shutdown()

    def __enter__(self) -> ThreadedServer:
        """`start()`."""
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """`stop()`."""
        self.stop()


@with_parameters_of(Config)
def serve(app: Any, **options: Any) -> EmbeddedServer:
    """A server for `async with`, in the loop that runs.

        async with fastasgi.serve(app, port=0) as server:
            print(server.url)

    Takes what `Config` takes. Signals are left to the program. Entering raises `StartupError`; leaving drains
    as a stop does (`timeout_graceful_shutdown`, ...), and a cancellation meanwhile cuts that short.
    """
    return EmbeddedServer(_configured(app, options))


@with_parameters_of(Config)
def serve_in_thread(app: Any, **options: Any) -> ThreadedServer:
    """A server in a thread of its own, for tests, notebooks and programs without a loop.

        with fastasgi.serve_in_thread(app, port=0) as server:
            print(server.url)

    Takes what `Config` takes. Where one block is no good, as in cells of a notebook, `start()` and `stop()` do
    the same. All of it is thread-safe.
    """
    return ThreadedServer(_configured(app, options))
