"""asgi: the interface is told by the parameters; ASGI 2 is adapted."""

import asyncio
import functools
from collections.abc import Callable
from typing import Any

import pytest

from fastasgi.asgi import Receive, Scope, Send, describe_scope, describe_task, guess_interface
from fastasgi.middleware.asgi2 import ASGI2Middleware


async def asgi3(scope: Scope, receive: Receive, send: Send) -> None: ...


def asgi2(scope: Scope) -> Any: ...


def wsgi(environ: Any, start_response: Any) -> Any: ...


def factory() -> Any: ...


def factory_with_defaults(settings: Any = None) -> Any: ...


class Instance3:
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None: ...


class Class2:
    def __init__(self, scope: Scope) -> None: ...

    async def __call__(self, receive: Receive, send: Send) -> None: ...


class InstanceWsgi:
    def __call__(self, environ: Any, start_response: Any) -> Any: ...


class NoSignature:
    """As compiled callables that do not tell their parameters."""

    __signature__ = "unknown"

    def __call__(self, *args: Any) -> Any: ...


@pytest.mark.parametrize(
    ("app", "interface"),
    [
        (asgi3, "asgi3"),
        (Instance3(), "asgi3"),
        (functools.partial(asgi3), "asgi3"),
        (lambda *args: None, "asgi3"),
        (lambda *args, **kwargs: None, "asgi3"),
        (lambda scope, receive, send, extra=None: None, "asgi3"),
        (asgi2, "asgi2"),
        (Class2, "asgi2"),
        (wsgi, "wsgi"),
        (InstanceWsgi(), "wsgi"),
        (factory, "factory"),
        (factory_with_defaults, "factory"),
        (Instance3, "factory"),
        (lambda a, b, c, d: None, "unknown"),
        (lambda *, app: None, "unknown"),
        (NoSignature(), "asgi3"),
    ],
)
def test_guess_interface(app: Callable[..., Any], interface: str) -> None:
    assert guess_interface(app) == interface


def test_asgi2_middleware() -> None:
    seen: list[Any] = []

    class App:
        def __init__(self, scope: Scope) -> None:
            seen.append(scope)

        async def __call__(self, receive: Receive, send: Send) -> None:
            seen.append(await receive())
            await send({"type": "sent"})

    async def receive() -> Any:
        return {"type": "received"}

    async def send(message: Any) -> None:
        seen.append(message)

    asyncio.run(ASGI2Middleware(App)({"type": "http"}, receive, send))
    assert seen == [{"type": "http"}, {"type": "received"}, {"type": "sent"}]


# --- what runs ----------------------------------------------------------------------------------------------------

SCOPE = {"type": "http", "method": "GET", "path": "/x", "client": ("10.0.0.1", 5000)}


@pytest.mark.parametrize(
    ("scope", "words"),
    [
        (SCOPE, "GET /x of 10.0.0.1:5000"),
        ({"type": "http", "method": "PUT", "path": "/x", "client": None}, "PUT /x"),
        ({"type": "websocket", "path": "/ws", "client": ("::1", 1)}, "WebSocket /ws of ::1:1"),
        ({"type": "lifespan"}, "the application's lifespan"),
    ],
)
def test_descriptions_of_scopes(scope, words):
    assert describe_scope(scope) == words


class Framework:
    async def __call__(self, scope, receive, send):
        await receive()


async def of_arguments(*arguments):
    await arguments[1]()


@pytest.mark.parametrize(
    ("app", "words"), [(Framework(), "GET /x of 10.0.0.1:5000"), (of_arguments, "named")], ids=["method", "arguments"]
)
async def test_descriptions_of_tasks(app, words):
    waits = asyncio.Event()
    task = asyncio.create_task(app(SCOPE, waits.wait, None), name="named")
    await asyncio.sleep(0)
    assert describe_task(task) == words
    waits.set()
    await task
    assert describe_task(task) == "named", "its frame is gone"
