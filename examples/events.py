"""Server-sent events: a feed that clients follow, and that ends by itself when the server is about to stop.

A stream without an end would hold a stopping server until it is cut (`--timeout-graceful-shutdown`). This one hears of
the stop (`fastasgi.stopping`), says good-bye, and its clients come again, to the next worker: what they missed they
get, by the id of the last event that they saw. The readiness check fails from the same moment on; with `--drain-delay`
the server serves on until a balancer has seen that.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, TypedDict

from fastapi import Body, Depends, FastAPI, Header, HTTPException, Request
from fastapi.sse import EventSourceResponse, ServerSentEvent

import fastasgi

KEPT = 1000
"""Events that a client which comes again can still get."""

RETRY_MS = 500
"""After how long clients come again."""


class Feed:
    """What happened last, and those who wait for what happens next. One for each worker process."""

    def __init__(self) -> None:
        self._texts: deque[tuple[int, str]] = deque(maxlen=KEPT)
        self._changed = asyncio.Condition()
        self._last_id = 0
        self._is_closed = False

    async def publish(self, text: str) -> int:
        """Tell everybody; the id of the event."""
        async with self._changed:
            self._last_id += 1
            self._texts.append((self._last_id, text))
            self._changed.notify_all()
        return self._last_id

    async def follow(self, after: int) -> AsyncIterator[tuple[int, str]]:
        """All that follows this id, until the feed is closed."""
        while True:
            for number, text in [each for each in self._texts if each[0] > after]:
                after = number
                yield number, text
            if self._is_closed:
                return
            async with self._changed:
                while not self._is_closed and self._last_id <= after:
                    await self._changed.wait()

    async def close_when(self, event: asyncio.Event) -> None:
        """Let all streams end when this happens."""
        await event.wait()
        async with self._changed:
            self._is_closed = True
            self._changed.notify_all()


class State(TypedDict):
    """What the lifespan gives to all requests."""

    feed: Feed


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[State]:
    """The feed ends before the server does."""
    feed = Feed()
    closing = asyncio.create_task(feed.close_when(fastasgi.stopping()))
    yield {"feed": feed}
    closing.cancel()


def feed_of(request: Request) -> Feed:
    """The feed, for each request."""
    feed: Feed = request.state.feed
    return feed


TheFeed = Annotated[Feed, Depends(feed_of)]
app = FastAPI(title="Feed", lifespan=lifespan)


@app.get("/events", response_class=EventSourceResponse)
async def events(feed: TheFeed, last_event_id: Annotated[int, Header()] = 0) -> AsyncIterable[ServerSentEvent]:
    """The feed; FastAPI sends a comment every 15 s, so that nothing on the way thinks that it is idle."""
    yield ServerSentEvent(comment="hello", retry=RETRY_MS)
    async for number, text in feed.follow(last_event_id):
        yield ServerSentEvent(raw_data=text, id=str(number))
    yield ServerSentEvent(event="bye", raw_data="come again")


@app.post("/events", status_code=201)
async def publish(text: Annotated[str, Body(embed=True, max_length=1000)], feed: TheFeed) -> dict[str, int]:
    """Tell everybody who follows."""
    return {"id": await feed.publish(text)}


@app.get("/ready")
async def ready() -> dict[str, bool]:
    """For a balancer: send no more requests here, although those that come are still served."""
    if fastasgi.stopping().is_set():
        raise HTTPException(503, "about to stop")
    return {"ready": True}
