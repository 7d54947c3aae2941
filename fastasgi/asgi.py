"""The words of ASGI as types, and how to tell which version of it an application speaks.

The types are for annotations in applications and in this package:

    from fastasgi.asgi import Receive, Scope, Send

    async def app(scope: Scope, receive: Receive, send: Send) -> None: ...

`HTTPScope`, `LifespanScope` and the messages describe what is inside (ASGI 3.0, `www` 2.5, `lifespan` 2.0);
frameworks share the loose `Scope` and `Message`, so the callables use those.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from types import CodeType
from typing import Any, Literal, NotRequired, TypedDict

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

ASGI3Application = Callable[[Scope, Receive, Send], Awaitable[None]]
ASGI2Instance = Callable[[Receive, Send], Awaitable[None]]
ASGI2Application = Callable[[Scope], ASGI2Instance]
ASGIApplication = ASGI3Application | ASGI2Application

Interface = Literal["asgi3", "asgi2", "wsgi", "factory", "unknown"]


class ASGIVersions(TypedDict):
    """What `scope['asgi']` holds."""

    version: str
    spec_version: str


class HTTPScope(TypedDict):
    """The scope of one HTTP request."""

    type: Literal["http"]
    asgi: ASGIVersions
    http_version: str
    method: str
    scheme: str
    path: str
    raw_path: bytes
    query_string: bytes
    root_path: str
    headers: list[tuple[bytes, bytes]]
    client: tuple[str, int] | None
    server: tuple[str, int | None] | None
    state: NotRequired[dict[str, Any]]
    extensions: NotRequired[dict[str, dict[str, Any]]]


class LifespanScope(TypedDict):
    """The scope of the one call that spans the life of the process."""

    type: Literal["lifespan"]
    asgi: ASGIVersions
    state: dict[str, Any]


class HTTPRequestMessage(TypedDict):
    """A piece of the request body."""

    type: Literal["http.request"]
    body: bytes
    more_body: bool


class HTTPDisconnectMessage(TypedDict):
    """The client has gone, or the response is complete."""

    type: Literal["http.disconnect"]


class HTTPResponseStartMessage(TypedDict):
    """Status and headers of the response."""

    type: Literal["http.response.start"]
    status: int
    headers: NotRequired[Iterable[tuple[bytes, bytes]]]
    trailers: NotRequired[bool]


class HTTPResponseBodyMessage(TypedDict):
    """A piece of the response body."""

    type: Literal["http.response.body"]
    body: NotRequired[bytes]
    more_body: NotRequired[bool]


class LifespanStartupMessage(TypedDict):
    """The process starts."""

    type: Literal["lifespan.startup"]


class LifespanShutdownMessage(TypedDict):
    """The process ends."""

    type: Literal["lifespan.shutdown"]


class LifespanCompleteMessage(TypedDict):
    """The application is ready, or has ended."""

    type: Literal["lifespan.startup.complete", "lifespan.shutdown.complete"]


class LifespanFailedMessage(TypedDict):
    """The application could not start, or end; `message` says why."""

    type: Literal["lifespan.startup.failed", "lifespan.shutdown.failed"]
    message: NotRequired[str]


def guess_interface(app: Callable[..., Any]) -> Interface:
    """Which interface a callable has, by the positional arguments that it takes.

    Three are ASGI 3 (scope, receive, send), one that it needs is ASGI 2 (scope), two are WSGI (environ,
    start_response), none needed and none of the above a function that makes the application. A callable that
    does not tell (some compiled ones) is taken for ASGI 3; one that no interface could call is "unknown".
    """
    try:
        parameters = inspect.signature(app).parameters.values()
    except (TypeError, ValueError):
        return "asgi3"
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    most = 99 if any(p.kind is p.VAR_POSITIONAL for p in parameters) else len(positional)
    least = sum(p.default is p.empty for p in positional)
    if any(p.kind is p.KEYWORD_ONLY and p.default is p.empty for p in parameters):
        return "unknown"
    if least == 0 and most < 3:
        return "factory"
    if least <= 3 <= most:
        return "asgi3"
    by_needed: dict[int, Interface] = {1: "asgi2", 2: "wsgi"}
    return by_needed.get(least, "unknown")


# --- what runs --------------------------------------------------------------------------------------------------------


def scope_in(code: CodeType, variables: Mapping[str, Any]) -> Scope | None:
    """The scope that a frame was called with, as its first parameter or behind `self`; None if it was not."""
    for name in code.co_varnames[: min(code.co_argcount, 2)]:
        found = variables.get(name)
        if isinstance(found, MutableMapping) and found.get("type") in ("http", "websocket", "lifespan"):
            return found
    return None


def describe_scope(scope: Scope) -> str:
    """`GET /path of 127.0.0.1:5000`, for a line of the log."""
    if scope["type"] == "lifespan":
        return "the application's lifespan"
    client = scope.get("client")
    of = f" of {client[0]}:{client[1]}" if client else ""
    return f"{scope.get('method', 'WebSocket')} {scope.get('path')}{of}"


def describe_task(task: asyncio.Task[Any]) -> str:
    """The same for the task of a request; its name where the application's coroutine does not tell."""
    coroutine = task.get_coro()
    frame = getattr(coroutine, "cr_frame", None)
    scope = scope_in(frame.f_code, frame.f_locals) if frame is not None else None
    return task.get_name() if scope is None else describe_scope(scope)
