"""lifespan: both events in one task, every ending of the application is noticed, nothing waits for ever."""

import asyncio
import contextvars
import logging
from collections.abc import Callable, Coroutine
from types import SimpleNamespace
from typing import Any

import pytest

from fastasgi.asgi import Receive, Scope, Send
from fastasgi.errors import ApplicationError, StartupError
from fastasgi.lifespan import Lifespan

App = Callable[[Scope, Receive, Send], Coroutine[Any, Any, None]]


@pytest.fixture(autouse=True)
def log(caplog: pytest.LogCaptureFixture) -> Any:
    """Records of the server's logger, whatever was configured before."""
    logger = logging.getLogger("fastasgi.error")
    parent = logging.getLogger("fastasgi")
    before = (logger.level, parent.propagate)
    logger.setLevel(logging.DEBUG)
    parent.propagate = True
    yield caplog
    logger.setLevel(before[0])
    parent.propagate = before[1]


def settings(mode: str = "auto", startup: float | None = None, shutdown: float | None = 10.0) -> Any:
    return SimpleNamespace(lifespan=mode, timeout_startup=startup, timeout_lifespan_shutdown=shutdown)


def live(app: App, config: Any = None, during: Callable[[Lifespan], None] | None = None) -> Lifespan:
    """Start and stop an application, bounded, and see that no task is left."""

    async def main() -> Lifespan:
        lifespan = Lifespan(config or settings(), app, asyncio.get_running_loop())
        try:
            await lifespan.startup()
            if during is not None:
                during(lifespan)
            await lifespan.shutdown()
        finally:
            assert not [task for task in asyncio.all_tasks() if task.get_name() == "fastasgi-lifespan"]
        return lifespan

    return asyncio.run(asyncio.wait_for(main(), 20))


async def good(scope: Scope, receive: Receive, send: Send) -> None:
    assert (await receive())["type"] == "lifespan.startup"
    scope["state"]["db"] = "open"
    await send({"type": "lifespan.startup.complete"})
    assert (await receive())["type"] == "lifespan.shutdown"
    await send({"type": "lifespan.shutdown.complete"})


def test_scope_and_state() -> None:
    seen: list[Scope] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(dict(scope))
        await good(scope, receive, send)

    lifespan = live(app)
    assert seen == [
        {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": {"db": "open"}}
    ]
    assert lifespan.state == {"db": "open"}
    assert not lifespan.failed


@pytest.mark.pins("process.lifespan-modes")
def test_messages_are_logged_in_order(log: pytest.LogCaptureFixture) -> None:
    live(good)
    assert log.messages == [
        "Waiting for application startup.",
        "Application startup complete.",
        "Waiting for application shutdown.",
        "Application shutdown complete.",
    ]


@pytest.mark.pins("process.lifespan-modes")
def test_off_never_calls_the_application() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise AssertionError

    assert live(app, settings("off")).state == {}


def test_shutdown_runs_in_the_task_and_context_of_startup() -> None:
    tasks: list[Any] = []
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        tasks.append(asyncio.current_task())
        variable.set("from startup")
        await send({"type": "lifespan.startup.complete"})
        await receive()
        tasks.append(asyncio.current_task())
        assert variable.get() == "from startup"
        await send({"type": "lifespan.shutdown.complete"})

    live(app)
    assert tasks[0] is tasks[1]


@pytest.mark.pins("process.startup-failure")
@pytest.mark.parametrize("mode", ["auto", "on"])
def test_startup_failed_stops_with_the_message(mode: str) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no database"})

    with pytest.raises(StartupError, match="no database") as raised:
        live(app, settings(mode))
    assert raised.value.exit_code == 3
    assert raised.value.details == ""


def test_startup_failed_with_a_traceback_shows_it_before_the_sentence() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "Traceback:\n  line\nKeyError: 'x'\n"})
        raise KeyError("x")

    with pytest.raises(StartupError) as raised:
        live(app)
    assert str(raised.value) == "app failed to start: KeyError: 'x'"
    assert raised.value.details == "Traceback:\n  line\nKeyError: 'x'"


def test_startup_failed_without_message() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed"})

    with pytest.raises(StartupError, match="it gave no reason"):
        live(app)


@pytest.mark.pins("process.lifespan-modes")
def test_auto_accepts_an_application_that_raises_at_once(log: pytest.LogCaptureFixture) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "http"

    live(app)
    assert "ASGI 'lifespan' protocol appears unsupported." in log.messages
    assert [r.levelname for r in log.records if r.exc_info] == ["DEBUG"]


def test_auto_warns_when_the_application_took_the_startup_and_raised(log: pytest.LogCaptureFixture) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        raise ZeroDivisionError("division by zero")

    live(app)
    warning = next(r for r in log.records if r.levelname == "WARNING")
    assert warning.getMessage() == (
        "app raised ZeroDivisionError: division by zero in its lifespan; going on without it"
    )


@pytest.mark.pins("process.startup-failure")
@pytest.mark.parametrize("code", [0, 7, None, "no disk"])
def test_an_exit_during_startup_is_a_startup_that_failed(code: object) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        raise SystemExit(code)

    with pytest.raises(StartupError) as raised:
        live(app)
    assert str(raised.value) == f"app called sys.exit({code!r}) in its startup"
    assert raised.value.exit_code == 3


@pytest.mark.pins("process.startup-failure")
def test_an_exit_during_startup_that_a_framework_has_told_of() -> None:
    """Starlette sends startup.failed for whatever comes out of a lifespan, and raises it again."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "SystemExit: no database"})
        raise SystemExit(0)

    with pytest.raises(StartupError, match="app failed to start: SystemExit: no database") as raised:
        live(app)
    assert raised.value.exit_code == 3


class Odd(BaseException):
    """No Exception, as trio's Cancelled or a group of such."""


@pytest.mark.pins("process.lifespan-modes")
@pytest.mark.parametrize("mode", ["auto", "on"])
@pytest.mark.parametrize("error", [Odd("no server"), asyncio.CancelledError("no server")])
def test_an_error_that_is_no_exception_counts_as_one(
    error: BaseException, mode: str, log: pytest.LogCaptureFixture
) -> None:
    complaints = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
        raise error

    said = f"app raised {type(error).__name__}: no server"
    if mode == "on":
        with pytest.raises(StartupError, match=said):
            live(app, settings("on"))
    else:
        live(app)
        assert f"{said} in its lifespan; going on without it" in log.messages
    assert not complaints


@pytest.mark.pins("process.lifespan-modes")
@pytest.mark.parametrize("raises", [True, False])
def test_on_refuses_an_application_without_lifespan(raises: bool) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if raises:
            raise TypeError("http only")

    what = "raised TypeError: http only" if raises else "returned"
    with pytest.raises(StartupError, match=f"lifespan=on, but app {what} before") as raised:
        live(app, settings("on"))
    assert ("TypeError: http only" in raised.value.details) is raises


@pytest.mark.pins("process.lifespan-modes")
def test_auto_accepts_an_application_that_returns(log: pytest.LogCaptureFixture) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()

    live(app)
    assert log.messages[-2:] == [
        "ASGI 'lifespan' protocol appears unsupported.",
        "Application startup complete.",
    ], "which tells also behind a reload that it is ready"


def test_startup_is_bounded() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await asyncio.Event().wait()

    with pytest.raises(StartupError, match=r"within 0.01 s \(timeout_startup\)"):
        live(app, settings(startup=0.01))


def test_shutdown_is_bounded(log: pytest.LogCaptureFixture) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await asyncio.Event().wait()

    assert live(app, settings(shutdown=0.01)).failed
    assert "app did not finish its shutdown within 0.01 s (timeout_lifespan_shutdown)" in log.messages


def test_shutdown_failed_is_logged(log: pytest.LogCaptureFixture) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.failed", "message": "queue not empty"})
        raise RuntimeError("queue not empty")

    assert live(app).failed
    errors = [record.getMessage() for record in log.records if record.levelname == "ERROR"]
    assert errors == ["app failed to shut down: queue not empty"]


def test_exception_at_shutdown_is_logged(log: pytest.LogCaptureFixture) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        raise RuntimeError("boom")

    assert live(app).failed
    assert [r.getMessage() for r in log.records if r.exc_info] == ["app raised in its lifespan"]
    assert "Application shutdown complete." not in log.messages


def test_exception_after_the_last_answer_is_logged(log: pytest.LogCaptureFixture) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await good(scope, receive, send)
        raise RuntimeError("boom")

    assert live(app).failed


def test_application_that_returns_while_serving_does_not_hang(log: pytest.LogCaptureFixture) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})

    assert not live(app).failed


def test_application_that_loops_on_receive_is_ended() -> None:
    ended: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            while True:
                message = await receive()
                await send({"type": message["type"] + ".complete"})
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise

    assert not live(app).failed
    assert ended == ["cancelled"]


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ({"type": "lifespan.startup.done"}, "app sent 'lifespan.startup.done' in its lifespan; expected"),
        ({"type": "lifespan.shutdown.complete"}, "'lifespan.startup.complete' or 'lifespan.startup.failed'"),
        ({"type": "http.response.start"}, "while starting"),
        ({}, "app sent None"),
        ("lifespan.startup.complete", "app sent a str in its lifespan"),
    ],
)
def test_wrong_messages_are_errors_that_say_what_was_expected(message: Any, text: str) -> None:
    seen: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        try:
            await send(message)
        except ApplicationError as error:
            seen.append(str(error))
        await send({"type": "lifespan.startup.complete"})
        await receive()

    live(app)
    assert text in seen[0]


def test_answer_twice_is_an_error() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        with pytest.raises(ApplicationError, match="expected nothing while serving"):
            await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        with pytest.raises(ApplicationError, match="expected nothing while stopped"):
            await send({"type": "lifespan.shutdown.complete"})

    assert not live(app).failed


def test_cancelled_startup_cancels_the_application() -> None:
    async def main() -> None:
        started = asyncio.Event()
        ended = asyncio.Event()

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            started.set()
            try:
                await asyncio.Event().wait()
            finally:
                ended.set()

        startup = asyncio.ensure_future(Lifespan(settings(), app, asyncio.get_running_loop()).startup())
        await started.wait()
        startup.cancel()
        with pytest.raises(asyncio.CancelledError):
            await startup
        await asyncio.wait_for(ended.wait(), 5)

    asyncio.run(main())


def test_receive_that_was_cancelled_can_be_repeated() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(receive(), 0.001)
        await send({"type": "lifespan.startup.complete"})
        assert (await receive())["type"] == "lifespan.shutdown"
        await send({"type": "lifespan.shutdown.complete"})

    assert not live(app).failed
