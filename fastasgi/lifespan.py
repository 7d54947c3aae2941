"""The application's startup and shutdown (ASGI lifespan 2.0): one call that spans the life of the process.

    NOT STARTED -> STARTING -> RUNNING -> STOPPING -> STOPPED
                      |
                      +-----> ABSENT   the application has no lifespan, or it is switched off

Both events are received by the same call, so in the same task and context. Every wait ends when the
application ends, whether it answers, returns or raises: nothing here waits for a message that cannot come any
more.
"""

from __future__ import annotations

import asyncio
import enum
import logging
import traceback
from collections.abc import Coroutine, Mapping
from typing import Any, Protocol

from .asgi import ASGI3Application, Message, Scope
from .errors import ApplicationError, StartupError
from .logging import server_logger

# What an application may still do after it answered the shutdown, or was cancelled, before it is left alone.
_GRACE_S = 1.0


class LifespanOptions(Protocol):
    """The options that concern the lifespan."""

    lifespan: str
    timeout_startup: float | None
    timeout_lifespan_shutdown: float | None


class Phase(enum.Enum):
    """See the drawing above; the values complete the sentence "while ..."."""

    NOT_STARTED = "not started"
    STARTING = "starting"
    RUNNING = "serving"
    STOPPING = "shutting down"
    STOPPED = "stopped"
    ABSENT = "there is none"


# What the application may send, by phase, and the phase that follows.
_EXPECTED: Mapping[Phase, Mapping[str, Phase]] = {
    Phase.STARTING: {
        "lifespan.startup.complete": Phase.RUNNING,
        "lifespan.startup.failed": Phase.STOPPED,
    },
    Phase.STOPPING: {
        "lifespan.shutdown.complete": Phase.STOPPED,
        "lifespan.shutdown.failed": Phase.STOPPED,
    },
}

NO_REASON = "it gave no reason"


class Lifespan:
    """`await startup()`, serve, `await shutdown()`. `state` is what the application shares with its requests.

    `app` is an ASGI 3 callable, `loop` the running loop. `failed` tells that the application reported or
    raised an error after its startup.
    """

    def __init__(
        self, config: LifespanOptions, app: ASGI3Application, loop: asyncio.AbstractEventLoop
    ) -> None:
        self._config, self._app, self._loop = config, app, loop
        self.state: dict[str, Any] = {}
        self.failed = False
        self._phase = Phase.NOT_STARTED
        self._task: asyncio.Task[None] | None = None
        self._error: BaseException | None = None  # what the application raised
        self._has_started = False
        self._failure: str | None = None  # the message of *.failed
        self._given: list[str] = []  # the events that the application has received
        self._answered = (
            loop.create_future()
        )  # done: the current event has its answer, or the application ended
        self._stopping = loop.create_future()  # done: lifespan.shutdown may be received
        self._idle = loop.create_future()  # done: the application waits for a third event, which there is not

    async def startup(self) -> None:
        """Run the application's startup. Raises `StartupError` when it failed, took too long, or has to
        exist."""
        if self._config.lifespan == "off":
            self._phase = Phase.ABSENT
            return
        server_logger.info("Waiting for application startup.")
        self._phase = Phase.STARTING
        self._task = task = self._loop.create_task(self._call(), name="fastasgi-lifespan")
        timeout_s = self._config.timeout_startup
        if not await self._answer(task, timeout_s):
            self._phase = Phase.STOPPED
            await _cancel(task)
            raise StartupError(f"app did not finish its startup within {timeout_s:g} s (timeout_startup)")
        if self._failure is not None:
            raise StartupError(
                f"app failed to start: {_last_line(self._failure)}", details=_lines(self._failure)
            )
        if isinstance(self._error, SystemExit):
            self._phase = Phase.STOPPED
            raise StartupError(f"app called sys.exit({self._error.code!r}) in its startup")
        if self._phase is Phase.STARTING:
            self._accept_absence()
        self._has_started = True
        server_logger.info("Application startup complete.")

    async def shutdown(self, forced: Coroutine[Any, Any, None] | None = None) -> None:
        """Run the application's shutdown within `timeout_lifespan_shutdown`, and no longer than until `forced` ends.
        What goes wrong there is logged."""
        ending = asyncio.ensure_future(self._shut_down())
        waiting: set[asyncio.Future[None]] = {ending}
        if forced is not None:
            waiting.add(asyncio.ensure_future(forced))
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            if not ending.done():
                server_logger.warning("Ending at once: cancelling the application's shutdown")
        finally:
            for task in waiting:
                task.cancel()
        await asyncio.wait({ending})
        if not ending.cancelled():
            ending.result()

    async def _shut_down(self) -> None:
        if self._phase is not Phase.RUNNING or self._task is None:
            return
        if self._task.done():  # it ended while requests were served; _call has logged an error
            self._phase = Phase.STOPPED
            return
        server_logger.info("Waiting for application shutdown.")
        self._phase = Phase.STOPPING
        self._answered = self._loop.create_future()
        self._stopping.set_result(None)
        timeout_s = self._config.timeout_lifespan_shutdown
        if not await self._answer(self._task, timeout_s):
            self._phase = Phase.STOPPED
            self._report(
                f"app did not finish its shutdown within {timeout_s:g} s (timeout_lifespan_shutdown)"
            )
            await _cancel(self._task)
            return
        self._phase = Phase.STOPPED
        if self._failure is not None:
            self._report(f"app failed to shut down: {self._failure or NO_REASON}")
        await self._let_end(self._task)
        if not self.failed:
            server_logger.info("Application shutdown complete.")

    def _accept_absence(self) -> None:
        """The application ended without an answer to the startup: it has no lifespan, unless it must have
        one."""
        self._phase = Phase.ABSENT
        error = self._error
        what = "returned" if error is None else f"raised {type(error).__name__}: {error}".rstrip(": ")
        if self._config.lifespan == "on":
            details = "".join(traceback.format_exception(error)).rstrip() if error else ""
            raise StartupError(
                f"lifespan=on, but app {what} before lifespan.startup.complete", details=details
            )
        server_logger.info("ASGI 'lifespan' protocol appears unsupported.")
        if error is None:
            return
        # "If an exception is raised when calling the application callable with a lifespan.startup message or
        # a scope of type lifespan, the server must continue" (ASGI lifespan). One that took the message seems
        # to have a lifespan that is broken, which should not pass in silence.
        level = logging.WARNING if self._given else logging.DEBUG
        server_logger.log(level, "app %s in its lifespan; going on without it", what, exc_info=error)

    async def _call(self) -> None:
        scope: Scope = {
            "type": "lifespan",
            "asgi": {"version": "3.0", "spec_version": "2.0"},
            "state": self.state,
        }
        try:
            await self._app(scope, self._receive, self._send)
        except (KeyboardInterrupt, GeneratorExit):
            raise  # it ends the process, or the loop has gone
        except BaseException as error:
            if isinstance(error, SystemExit) and self._has_started:
                raise  # an exit as any other; before, startup() has one sentence for it
            task = asyncio.current_task()
            if isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling():
                raise  # it was told to
            self._error = error
            # Frameworks send *.failed and raise the same error once more; at startup startup() is the judge.
            if self._failure is None and self._phase is not Phase.STARTING:
                self._report("app raised in its lifespan", error)
        finally:
            _settle(self._answered)

    async def _receive(self) -> Message:
        if not self._given:
            self._given.append("lifespan.startup")
            return {"type": "lifespan.startup"}
        await asyncio.shield(self._stopping)
        if len(self._given) == 1:
            self._given.append("lifespan.shutdown")
            return {"type": "lifespan.shutdown"}
        _settle(self._idle)
        return await self._loop.create_future()  # type: ignore[no-any-return]

    async def _send(self, message: Message) -> None:
        kind = message.get("type") if isinstance(message, Mapping) else None
        expected = _EXPECTED.get(self._phase, {})
        if not isinstance(kind, str) or kind not in expected:
            came = repr(kind) if isinstance(message, Mapping) else f"a {type(message).__name__}"
            wanted = " or ".join(map(repr, expected)) or "nothing"
            raise ApplicationError(
                f"app sent {came} in its lifespan; expected {wanted} while {self._phase.value}"
            )
        self._phase = expected[kind]
        if kind.endswith(".failed"):
            self._failure = str(message.get("message", ""))
        _settle(self._answered)

    async def _answer(self, task: asyncio.Task[None], timeout_s: float | None) -> bool:
        """Whether the current event got its answer, or the application ended, in time."""
        try:
            done, _ = await asyncio.wait({self._answered}, timeout=timeout_s)
        except asyncio.CancelledError:
            task.cancel()
            raise
        return bool(done)

    async def _let_end(self, task: asyncio.Task[None]) -> None:
        """Let the application finish what it does after its last answer; bounded, as it may never return."""
        await asyncio.wait({task, self._idle}, timeout=_GRACE_S, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            await _cancel(task)

    def _report(self, text: str, error: BaseException | None = None) -> None:
        self.failed = True
        server_logger.error(text, exc_info=error)


async def _cancel(task: asyncio.Task[None]) -> None:
    """Cancel, and wait a moment; a task that ignores its cancellation is left behind with a word."""
    task.cancel()
    _, pending = await asyncio.wait({task}, timeout=_GRACE_S)
    if pending:
        server_logger.warning("app ignored the cancellation of its lifespan")


def _settle(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _last_line(text: str) -> str:
    """The line that says it: frameworks send a whole traceback as the message."""
    return text.strip().rpartition("\n")[2] or NO_REASON


def _lines(text: str) -> str:
    """The message if it is more than that line."""
    return text.rstrip() if "\n" in text.strip() else ""
