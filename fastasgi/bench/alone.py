"""The application alone: what it is called with, and whether it answers rightly, where there is no server."""

import asyncio
import functools
import importlib
import itertools
from collections.abc import Awaitable, Callable
from typing import Any

from .scenarios import HttpScenario, excerpt


def make_scope(request: bytes) -> dict[str, Any]:
    """Return the scope of a request."""
    head, _, _ = request.partition(b"\r\n\r\n")
    first, *lines = head.split(b"\r\n")
    method, target, _ = first.split(b" ")
    path, _, query = target.partition(b"?")
    fields = [tuple(part.strip() for part in line.split(b":", 1)) for line in lines]
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "server": ("127.0.0.1", 8000),
        "client": ("127.0.0.1", 50000),
        "scheme": "http",
        "root_path": "",
        "method": method.decode(),
        "path": path.decode(),
        "raw_path": path,
        "query_string": query,
        "headers": [(name.lower(), value) for name, value in fields],
        "extensions": {},
    }


def done(loop: asyncio.AbstractEventLoop, value: Any) -> asyncio.Future[Any]:
    """Return a future that is done with this value."""
    future = loop.create_future()
    future.set_result(value)
    return future


def always(awaitable: Awaitable[Any]) -> Callable[..., Any]:
    """Return a callable without Python frames, of one argument or none, which gives the same at each call."""
    return functools.partial(next, itertools.repeat(awaitable))


def content_of(request: bytes) -> dict[str, Any]:
    """Return what `receive` gives of a request whose body has come whole."""
    _, _, content = request.partition(b"\r\n\r\n")
    return {"type": "http.request", "body": content, "more_body": False}


def find_app(name: str) -> Callable[..., Any]:
    """Import an application of `apps/`, given as `module:name`."""
    module, _, attribute = name.partition(":")
    app: Callable[..., Any] = getattr(importlib.import_module(f"{__package__}.apps.{module}"), attribute)
    return app


async def check(app: Callable[..., Any], scenario: HttpScenario) -> None:
    """Raise unless the application gives the scenario's body to a `send` that keeps it."""
    sent: list[bytes] = []

    async def receive() -> dict[str, Any]:
        return content_of(scenario.request)

    async def send(message: dict[str, Any]) -> None:
        sent.append(message.get("body", b""))

    await app(make_scope(scenario.request), receive, send)
    if b"".join(sent) != scenario.body:
        raise RuntimeError(f"expected {excerpt(scenario.body)}, got {excerpt(b''.join(sent))}")
