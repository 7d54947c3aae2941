"""Applications of WSGI, `app(environ, start_response)`, as ASGI 3 applications: each request in a thread.

The request as an `environ` and its body as a file come from a2wsgi. Both ways stream: the body is received when
the application reads it, and each piece of the response is sent, and taken by the client, before the application is
asked for the next.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from importlib import import_module
from typing import Any

from ..asgi import Message, Receive, Scope, Send
from ..errors import ClientDisconnected, StartupError

WSGIApplication = Callable[..., Iterable[bytes]]

MISSING = "serving a WSGI application needs a2wsgi, which is not installed; run: pip install 'fastasgi[wsgi]'"


class WSGIMiddleware:
    """`WSGIMiddleware(app)` is the ASGI 3 face of a WSGI application; `workers` requests run at once.

    Raises `StartupError` where a2wsgi is not installed.
    """

    def __init__(self, app: WSGIApplication, workers: int = 10) -> None:
        try:
            self._a2wsgi = import_module("a2wsgi.wsgi")  # an optional extra
        except ImportError:
            raise StartupError(MISSING) from None
        self.app = app
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="WSGI")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one scope. There is no WebSocket in WSGI: refused."""
        if scope["type"] == "lifespan":
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            self._threads.shutdown(wait=False)
            await send({"type": "lifespan.shutdown.complete"})
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close"})
        else:
            await self._serve(scope, receive, send)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        loop = asyncio.get_running_loop()
        body = self._a2wsgi.Body(loop, _whole(receive))
        environ = _completed(self._a2wsgi.build_environ(scope, body), scope)
        response = _Response(loop, send)
        context = copy_context()  # what the thread sets there stays there
        await loop.run_in_executor(self._threads, context.run, response.run, self.app, environ)


def _whole(receive: Receive) -> Receive:
    """Raises where the client goes before the body is complete: to a2wsgi that would look like its end."""

    async def receive_body() -> Message:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnected("the client went before its request was complete")
        return message

    return receive_body


def _completed(environ: dict[str, Any], scope: Scope) -> dict[str, Any]:
    """What a2wsgi leaves to do."""
    environ["wsgi.errors"] = sys.stderr
    # The body ends by itself, also where no Content-Length says so: without this Werkzeug takes a chunked
    # body for none.
    environ["wsgi.input_terminated"] = True
    # "If the Cookie header field is split, it is joined with '; '" (RFC 9113 section 8.2.3), not with a comma.
    cookies = [value.decode("latin-1") for name, value in scope["headers"] if name == b"cookie"]
    if cookies:
        environ["HTTP_COOKIE"] = "; ".join(cookies)
    return environ


class _Response:
    """One request as its thread sees it (PEP 3333): `start_response`, `write`, and what the application returns.

    Headers wait for the first piece of the body, because until then an application may change its mind.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, send: Send) -> None:
        self._loop, self._send = loop, send
        self._start: Message | None = None
        self._is_started = False

    def run(self, app: WSGIApplication, environ: dict[str, Any]) -> None:
        """Call the application and send all that it returns; the thread's frame."""
        pieces = app(environ, self.start_response)
        try:
            for piece in pieces:
                if piece:
                    self.write(piece)
            self._wait_for({"type": "http.response.body", "body": b""})
        finally:
            close = getattr(pieces, "close", None)
            if close is not None:
                close()

    def start_response(
        self, status: str, headers: list[tuple[str, str]], exc_info: Any = None
    ) -> Callable[[bytes], None]:
        """Keep status and headers; a second call must come with `exc_info`, which is raised when it is too late."""
        if exc_info is not None and self._is_started:
            raise exc_info[1].with_traceback(exc_info[2])
        if exc_info is None and self._start is not None:
            raise AssertionError("start_response() was called twice without exc_info")
        self._start = {
            "type": "http.response.start",
            "status": int(status.split(None, 1)[0]),
            "headers": [
                (name.strip().lower().encode("latin-1"), value.strip().encode("latin-1")) for name, value in headers
            ],
        }
        return self.write

    def write(self, piece: bytes) -> None:
        """Send a piece, and wait until the client's connection has taken it."""
        self._wait_for({"type": "http.response.body", "body": piece, "more_body": True})

    def _wait_for(self, message: Message) -> None:
        if self._start is None:
            raise AssertionError("the application returned a body without calling start_response()")
        messages = [message] if self._is_started else [self._start, message]
        self._is_started = True
        asyncio.run_coroutine_threadsafe(self._send_all(messages), self._loop).result()

    async def _send_all(self, messages: list[Message]) -> None:
        for message in messages:
            await self._send(message)
