"""`stopping()`: an application learns that its server is about to stop, while it is still served.

ASGI itself tells a request nothing before `http.disconnect`, which comes when the time for its own end has passed
(`timeout_graceful_shutdown`). A stream that would end by itself, and a readiness check that is to fail before the
server accepts no more (`drain_delay`), have to know earlier.

The event of a server reaches the application as a context variable: `Lifespan` and `Runtime` copy the context in which
they are made, and every request has a copy of that. So two servers of one process do not mix, and a thread that got the
context (`asyncio.to_thread`, a plain function of FastAPI) can ask as well.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from contextvars import ContextVar

_event: ContextVar[asyncio.Event] = ContextVar("fastasgi_stopping")


def stopping() -> asyncio.Event:
    """The event that is set when the server which calls the application begins to stop, before `drain_delay`.

    `stopping().is_set()` asks, `await stopping().wait()` waits. Where no fastasgi calls (another server, a test
    client), it is an event that nobody sets.
    """
    try:
        return _event.get()
    except LookupError:
        return asyncio.Event()


@contextlib.contextmanager
def told_by(event: asyncio.Event) -> Iterator[None]:
    """What copies its context within the block finds this event."""
    token = _event.set(event)
    try:
        yield
    finally:
        _event.reset(token)
