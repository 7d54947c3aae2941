"""`Server`: one process that serves: its loop, listeners, lifespan, ticks and drain.

    startup()   bind, run the application's lifespan startup, listen
    main_loop() calls on_tick() until it says so: a signal, `should_exit`, a limit
    shutdown()  serve on for drain_delay; stop accepting; idle connections close, the others finish:
                  HANDSHAKE_GRACE_S later           TLS handshakes that still run are given up
                  timeout_graceful_shutdown later   http.disconnect to what is left
                  timeout_disconnect_grace later    its tasks are cancelled
                  CANCEL_GRACE_S later              its connections are aborted
                then the application's lifespan shutdown
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import os
import random
import signal
import socket
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from types import FrameType
from typing import TYPE_CHECKING, Any

from . import sockets as listening
from ._access import AccessLog
from ._http1 import Http1
from ._preface import ProxyPreface
from ._runtime import Runtime
from ._scoreboard import Slot, State
from ._transport import TransportChannel
from .accepting import Acceptor
from .asgi import describe_task
from .banner import announce
from .errors import EXIT_CRASH, EXIT_OK, StartupError
from .heap import freeze_heap
from .lifespan import Lifespan
from .logging import can_bypass, exclusion, server_logger
from .loops import CANCEL_GRACE_S, run_bounded
from .outlet import flush_late
from .stop_notice import told_by
from .tls import timeouts_of

if sys.platform == "linux":
    from ._poller import Poller

if TYPE_CHECKING:
    from .config import Config

STOP_SIGNALS = [signal.SIGINT, signal.SIGTERM]
if sys.platform == "win32":
    STOP_SIGNALS.append(signal.SIGBREAK)

NAMED_TASKS = 5
"""Of so many requests that a drain cuts the names are logged."""

READ_FIRST_S = 0.001
"""How long a late tick waits for what is there to be read: a turn of the loop or two."""

HANDSHAKE_GRACE_S = 1.0
"""What a TLS handshake that has begun may still take in a drain: its client knows nothing of it."""


_capturing: list[Server] = []  # the servers of the main thread that handle signals
_handlers_before: dict[signal.Signals, Any] = {}


async def _call_notify(callback: Callable[[], Awaitable[object]]) -> None:
    try:
        await callback()
    except Exception:
        server_logger.exception("app's callback_notify raised; it is called again")


def handler_factory(config: Config) -> Callable[[Any, Runtime], object]:
    """What makes the handler of a connection, from its channel and the runtime."""
    is_announced = config.proxy_protocol and config.ssl is None  # before TLS its header is read by the `Acceptor`
    return functools.partial(ProxyPreface, Http1) if is_announced else Http1


def left_of(runtime: Runtime) -> str:
    """`2 requests are (GET /stream of 10.0.0.1:5000, ...)`: what a drain has not seen the end of."""
    if not runtime.requests_active:
        return "1 connection is" if runtime.connections == 1 else f"{runtime.connections} connections are"
    count = runtime.requests_active
    names = [describe_task(task) for task in list(runtime.tasks)[:NAMED_TASKS]]
    shown = ", ".join(names) + (", ..." if len(runtime.tasks) > NAMED_TASKS else "")
    return f"{count} request{' is' if count == 1 else 's are'}" + (f" ({shown})" if names else "")


class Listeners:
    """The listening sockets of a Poller, in the shape of an `asyncio.Server`: `sockets` and `close()`."""

    def __init__(self, poller: Poller, sockets: Sequence[socket.socket]) -> None:
        self.sockets = tuple(sockets)
        self._poller = poller
        for sock in sockets:
            poller.listen(sock)

    def close(self) -> None:
        """Accept no more. The sockets stay open; they are closed by whoever made them."""
        self._poller.stop_listening()


class Server:
    """Serves the application of one `Config` in the running event loop.

    `run()` and `serve()` do everything; the steps `startup()`, `main_loop()` and `shutdown()` may be called
    alone, in this order, with nothing before them. `started` tells that connections are accepted; setting
    `should_exit` (from any thread) ends the main loop, setting `force_exit` ends waiting for requests too.
    `servers` are what accepts, each with its `sockets`. `exit_code` is that of the process, after `run()`.
    `slot` is where its figures stand: one of a supervisor's scoreboard, or its own. A server that has ended
    may serve again, also in another loop.
    """

    owns_process = False
    """Of subclasses that are all of their process: what is in memory when they have started stays to its end."""

    def __init__(self, config: Config, *, slot: Slot | None = None) -> None:
        self.config = config
        self.started = False
        self.exit_code = EXIT_OK
        self.servers: list[Any] = []
        self.lifespan: Lifespan | None = None
        self.slot = Slot() if slot is None else slot
        self.drain_linger_s = 0.0  # idle connections stay open so long for a request that is on its way
        self._runtime: Runtime | None = None
        self._poller: Poller | None = None
        self._sockets: list[socket.socket] = []  # bound by us, closed by us
        self._urls: tuple[str, ...] = ()
        self._ticker: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._woken: asyncio.Event | None = None
        self._stopping = asyncio.Event()  # what `stopping()` returns; of one serving
        self._should_exit = False
        self._forced_times = 0  # how often force_exit was set
        self._began_s: float | None = None  # when run() began
        self._has_ended = False  # the two above are those of the last time
        self._max_requests: int | None = None
        self._notify_due_s = 0.0  # loop time
        self._tick_due_s = 0.0  # the same
        self._is_tick_late = False  # and waits for what is to be read first
        self._notifying: asyncio.Task[None] | None = None

    # --- where it listens -------------------------------------------------------------------------------------

    @property
    def urls(self) -> tuple[str, ...]:
        """Where it listens, one for each socket, from its start on: `http://127.0.0.1:8000`,
        `unix:/run/app.sock`."""
        return self._urls

    @property
    def url(self) -> str:
        """The first of `urls` as a client of this machine can use it: for every address it names this
        machine's own."""
        if not self._urls:
            raise RuntimeError("the server has no url before it has started; await startup() or serve() first")
        url = self._urls[0]
        for every, own in (("//0.0.0.0:", "//127.0.0.1:"), ("//[::]:", "//[::1]:")):
            url = url.replace(every, own)
        return url

    # --- what ends it -----------------------------------------------------------------------------------------

    @property
    def should_exit(self) -> bool:
        """Set it to end the main loop."""
        return self._should_exit

    @should_exit.setter
    def should_exit(self, value: bool) -> None:
        self._forget_last_end()
        self._should_exit = value
        self._wake()

    @property
    def force_exit(self) -> bool:
        """Set it to stop waiting for requests that are still running; again, for the application's shutdown."""
        return self._forced_times > 0

    @force_exit.setter
    def force_exit(self, value: bool) -> None:
        self._forget_last_end()
        self._forced_times = self._forced_times + 1 if value else 0
        self._wake()

    def _forget_last_end(self) -> None:
        """What asked for the last end does not ask for the next one; what is set since then does."""
        if self._has_ended:
            self._forget_ends()

    def _forget_ends(self) -> None:
        self._has_ended = self._should_exit = False
        self._forced_times = 0

    def _wake(self) -> None:
        """Have the loop look at the two; callable from any thread and from signal handlers."""
        if self._loop is not None and self._woken is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is left to be woken
                self._loop.call_soon_threadsafe(self._woken.set)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The signal handler: the first signal asks for a drain, the second cuts it short."""
        self._forget_last_end()
        if self.should_exit:
            self.force_exit = True
        self.should_exit = True

    def _hear_signal(self, sig: int, frame: FrameType | None) -> None:
        """For all servers. A method: libraries such as sse-starlette look for `should_exit` on its owner."""
        for server in list(_capturing):
            server.handle_exit(sig, frame)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Handle SIGINT and SIGTERM within the block, in the main thread; elsewhere signals stay as they are.

        Several servers of one process all hear of a signal; the handlers of before come back behind the last.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        if not _capturing:
            _handlers_before.update({sig: signal.signal(sig, self._hear_signal) for sig in STOP_SIGNALS})
        _capturing.append(self)
        try:
            yield
        finally:
            _capturing.remove(self)
            if not _capturing:
                for sig, handler in _handlers_before.items():
                    signal.signal(sig, handler)
                _handlers_before.clear()

    # --- the whole --------------------------------------------------------------------------------------------

    def run(self, sockets: Sequence[socket.socket] | None = None) -> None:
        """Serve in an event loop of its own until stopped. Raises `StartupError`."""
        self._began_s = time.monotonic()
        try:
            self.config.load()  # before there is a loop: what an application does at import finds none
            stop = functools.partial(setattr, self, "should_exit", True)
            run_bounded(self.serve(sockets), self.config.get_loop_factory(), stop)
        except StartupError as error:
            self.exit_code = error.exit_code
            raise
        except SystemExit as error:
            server_logger.error("app called sys.exit(%r): the process has ended with it", error.code)
            raise

    async def serve(self, sockets: Sequence[socket.socket] | None = None) -> None:
        """Serve in the running loop until stopped. `sockets` are listening sockets to use instead of binding;
        they are closed at the end. Raises `StartupError`."""
        with self.capture_signals():
            await self.startup(sockets)
            if not self.started:
                return  # stopped while it started
            try:
                await self.main_loop()
            except Exception:
                self.exit_code = EXIT_CRASH
                raise
            finally:
                await self.shutdown(sockets)

    # --- the steps --------------------------------------------------------------------------------------------

    async def startup(self, sockets: Sequence[socket.socket] | None = None) -> None:
        """Bind, start the application, accept connections. Raises `StartupError`. Returns with `started` still
        False where the end was asked for meanwhile."""
        config = self.config
        began_s, self._began_s = self._began_s or time.monotonic(), None
        await config.load_in_loop()
        self._begin()
        if sockets is None:
            sockets = self._sockets = listening.bind(config)
        server_logger.info("Started server process [%d]", os.getpid())
        try:
            with told_by(self._stopping):
                await self._start(sockets)
            if self.started:
                self.announce(sockets, time.monotonic() - began_s)
        finally:
            if not self.started:
                self._close_sockets(sockets)
                self._has_ended = True

    def announce(self, sockets: Sequence[socket.socket], ready_s: float) -> None:
        """Say what is served where; `ready_s` is how long the start took."""
        announce(self.config, sockets, asyncio.get_running_loop(), ready_s=ready_s)

    def _begin(self) -> None:
        """Forget what an earlier time has left behind."""
        self._forget_last_end()
        self._loop = asyncio.get_running_loop()
        self._woken = asyncio.Event()
        self._stopping = asyncio.Event()
        self.exit_code = EXIT_OK
        self.servers = []
        self.lifespan = self._runtime = self._poller = self._ticker = None
        self._urls = ()
        self.slot.begin(os.getpid(), self.slot.generation)
        self._notify_due_s = self._loop.time()
        self._max_requests = self.config.limit_max_requests
        if self._max_requests is not None and self.config.limit_max_requests_jitter:
            self._max_requests += random.randint(0, self.config.limit_max_requests_jitter)

    async def _start(self, sockets: Sequence[socket.socket]) -> None:
        assert self._loop is not None
        self.lifespan = Lifespan(self.config, self.config.loaded_app, self._loop)
        if await self._stopped_during(self.lifespan.startup()):
            return
        try:
            await self._listen(sockets)
        except BaseException:
            await self.lifespan.shutdown()
            raise
        if self.owns_process:
            freeze_heap()
        self._tick_due_s, self._is_tick_late = self._loop.time(), False
        self._tick()
        self.slot.state = State.READY
        self.started = True
        scheme = "https" if self.config.is_ssl else "http"
        self._urls = tuple(listening.describe(sock, scheme) for sock in sockets)

    async def _stopped_during(self, starting: Coroutine[Any, Any, None]) -> bool:
        """Await `starting`, unless a signal asks for the end first: then it is cancelled, and True returned."""
        assert self._woken is not None
        task = asyncio.ensure_future(starting)
        woken = asyncio.ensure_future(self._woken.wait())
        try:
            while not task.done() and not self.should_exit:
                await asyncio.wait({task, woken}, return_when=asyncio.FIRST_COMPLETED)
                if woken.done() and not self.should_exit:
                    self._woken.clear()
                    woken = asyncio.ensure_future(self._woken.wait())
        finally:
            woken.cancel()
            if not task.done():
                task.cancel()
                await asyncio.wait({task})
        if task.cancelled():
            server_logger.info("stopped during startup")
            return True
        task.result()
        return False

    async def _listen(self, sockets: Sequence[socket.socket]) -> None:
        assert self._loop is not None and self.lifespan is not None
        runtime = Runtime(
            self.config,
            self.config.loaded_app,
            self._loop,
            handler_factory=handler_factory(self.config),
            state=self.lifespan.state,
            access=self._access_log(),
            slot=self.slot,
        )
        self._runtime = runtime
        if self._owns_socket_io():
            self._poller = Poller(runtime)
            try:
                self.servers = [Listeners(self._poller, sockets)]
            except BaseException:
                self._poller.close()
                raise
            return
        try:
            self.servers = [
                Acceptor(
                    runtime,
                    sockets,
                    tls=self.config.ssl,
                    handshake_timeout_s=self.config.timeout_tls_handshake,
                    proxy_protocol=self.config.proxy_protocol,
                )
            ]
        except NotImplementedError:  # a loop that watches no sockets, as Windows' Proactor: it accepts by itself
            if self.config.proxy_protocol and self.config.is_ssl:
                raise StartupError(
                    "proxy_protocol beside TLS needs a loop that watches sockets, this one does not: end TLS at the "
                    "proxy, or choose another --loop"
                ) from None
            handshake_s, shutdown_s = timeouts_of(self.config.ssl, self.config.timeout_tls_handshake)
            self.servers = [
                await self._loop.create_server(
                    lambda: TransportChannel(runtime),
                    sock=sock,
                    backlog=self.config.backlog,
                    ssl=self.config.ssl,
                    ssl_handshake_timeout=handshake_s,
                    ssl_shutdown_timeout=shutdown_s,
                )
                for sock in sockets
            ]

    def _owns_socket_io(self) -> bool:
        """Whether this loop and platform let us read and write the sockets ourselves."""
        can = sys.platform == "linux"
        if self.config.io == "socket" and not can:
            raise StartupError(f"io=socket needs Linux, this is {sys.platform}; leave FASTASGI_IO unset")
        return can and self.config.io != "transport" and self.config.ssl is None  # the loop encrypts

    def _access_log(self) -> AccessLog | None:
        assert self._loop is not None
        logger = logging.getLogger("fastasgi.access")
        if not self.config.access_log or not logger.isEnabledFor(logging.INFO) or not logger.hasHandlers():
            return None
        excluded = exclusion(self.config.access_log_exclude)
        bypass = can_bypass(logger)
        if bypass is None:
            return AccessLog(self._loop, logger=logger, exclude=excluded)
        return AccessLog(
            self._loop, bypass.fd, bypass.line, use_colors=bypass.use_colors, exclude=excluded
        )

    async def main_loop(self) -> None:
        """Wait until something asks for the end."""
        counter = 0
        while not await self.on_tick(counter):
            assert self._runtime is not None and self._woken is not None, "startup() comes before main_loop()"
            counter += 1
            self._woken.clear()
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._woken.wait(), self._until_tick_s(self._runtime))

    def _until_tick_s(self, runtime: Runtime) -> float:
        """How long `main_loop()` may wait."""
        if self.config.callback_notify is None:
            return runtime.tick_interval_s
        assert self._loop is not None
        return max(0.0, min(runtime.tick_interval_s, self._notify_due_s - self._loop.time()))

    async def on_tick(self, counter: int) -> bool:
        """Look at what may end the server; True when it should. `counter` counts the ticks."""
        self._notify()
        limit = self._max_requests
        if limit is not None and self._runtime is not None and self._runtime.requests_total >= limit:
            return self.ends_at_limit(limit) or self.should_exit
        return self.should_exit

    def ends_at_limit(self, limit: int) -> bool:
        """`limit_max_requests` is reached: whether the server is to end now."""
        if not self.should_exit:
            server_logger.warning("limit_max_requests of %d reached: shutting down", limit)
        return True

    def _notify(self) -> None:
        """Run `callback_notify` where it is due: beside everything else, and never twice at once."""
        if self.config.callback_notify is None or self._loop is None:
            return
        now_s = self._loop.time()
        if now_s < self._notify_due_s:
            return
        self._notify_due_s = now_s + self.config.timeout_notify
        if self._notifying is None or self._notifying.done():
            self._notifying = self._loop.create_task(_call_notify(self.config.callback_notify))

    async def _end_notify(self) -> None:
        task, self._notifying = self._notifying, None
        if task is not None and not task.done():
            task.cancel()
            await asyncio.wait({task}, timeout=CANCEL_GRACE_S)

    def _tick(self) -> None:
        """Keep clock and deadlines going, to the last connection.

        When the loop stood still, a call that blocks, what came meanwhile is read before it is judged: uvloop looks at
        timers before it looks at sockets.
        """
        assert self._runtime is not None and self._loop is not None
        interval_s = self._runtime.tick_interval_s
        now_s = self._loop.time()
        self._is_tick_late = now_s - self._tick_due_s > interval_s and not self._is_tick_late
        if self._is_tick_late:
            self._ticker = self._loop.call_later(READ_FIRST_S, self._tick)
            return
        self._tick_due_s = now_s + interval_s
        self._ticker = self._loop.call_later(interval_s, self._tick)
        self._runtime.tick()
        flush_late()

    async def shutdown(self, sockets: Sequence[socket.socket] | None = None) -> None:
        """Drain, and end the application. `sockets` are closed too."""
        if self._runtime is not None:
            self._runtime.flush_access_log()  # what was answered before comes before
        server_logger.info("Shutting down")
        self.slot.state = State.DRAINING
        self._stopping.set()
        await self._delay_drain()
        self.started = False
        for server in self.servers:
            server.close()
        self._close_sockets(sockets or ())
        try:
            await self._wind_down()
        finally:
            self._release()
        server_logger.info("Finished server process [%d]", os.getpid())

    async def _wind_down(self) -> None:
        """Everything of the end that waits."""
        if self._runtime is not None:
            await self._drain(self._runtime)
        await self._end_notify()
        if self.lifespan is not None:
            # A signal that came before has cut the drain short: the application ends in order, until the next one.
            await self.lifespan.shutdown(self._until_forced(self._forced_times))

    def _release(self) -> None:
        if self._ticker is not None:
            self._ticker.cancel()
        if self._poller is not None:
            self._poller.close()
        if self._runtime is not None and self._runtime.access is not None:
            self._runtime.access.close()
        self.slot.state = State.GONE
        self._has_ended = True

    async def _delay_drain(self) -> None:
        """Serve on for `drain_delay`, no longer ready, until balancers have looked elsewhere."""
        delay_s = self.config.drain_delay
        if delay_s and not self.force_exit:
            server_logger.info("Serving for another %g s (drain_delay)", delay_s)
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._until_forced(), delay_s)

    def _close_sockets(self, sockets: Sequence[socket.socket]) -> None:
        for sock in (*self._sockets, *sockets):
            sock.close()
        self._sockets = []

    async def _drain(self, runtime: Runtime) -> None:
        """See the head of this module. Each step waits only for what is left."""
        config = self.config
        limit_s = config.timeout_graceful_shutdown
        linger_s = self.drain_linger_s if limit_s is None else min(self.drain_linger_s, limit_s)
        if linger_s:
            runtime.announce_drain()
            if await self._is_closed(runtime, linger_s):
                return
        runtime.drain()
        left_s = None if limit_s is None else limit_s - linger_s
        if runtime.connecting and await self._is_closed(runtime, HANDSHAKE_GRACE_S if left_s != 0 else 0.0):
            return
        for acceptor in self.servers:
            if isinstance(acceptor, Acceptor):
                await acceptor.abort()
        if await self._is_closed(runtime, left_s):
            return
        if not self.force_exit:
            server_logger.warning(
                "%s still running after timeout_graceful_shutdown: telling them to end", left_of(runtime)
            )
            runtime.disconnect()
            if await self._is_closed(runtime, config.timeout_disconnect_grace):
                return
        server_logger.warning("%s still running: cancelling them", left_of(runtime))
        runtime.cancel()
        await self._is_closed(runtime, CANCEL_GRACE_S, forced=False)
        runtime.abort()
        if runtime.requests_active:
            server_logger.error("%s ignoring their cancellation: left behind", left_of(runtime))

    async def _is_closed(self, runtime: Runtime, timeout_s: float | None, *, forced: bool = True) -> bool:
        """Wait until no connection and no request is left; False after the timeout, or at once with
        `force_exit`."""
        assert self._woken is not None
        closed = runtime.wait_closed()
        if closed.done():
            return True
        waiting = {closed}
        if forced:
            waiting.add(asyncio.ensure_future(self._until_forced()))
        done, _ = await asyncio.wait(waiting, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        for extra in waiting - {closed}:
            extra.cancel()
        return closed in done

    async def _until_forced(self, times: int = 0) -> None:
        """Wait until `force_exit` was set more often than so many times."""
        assert self._woken is not None
        while self._forced_times <= times:
            self._woken.clear()
            await self._woken.wait()
