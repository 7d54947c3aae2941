"""The application of these examples, in the place of your own: what a deployment has to get through to it."""

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

DATABASE = urlsplit(os.environ.get("DATABASE_URL", ""))


async def index(request: Request) -> Response:
    """What the server has made of the connection and of what the proxy says."""
    client = request.client.host if request.client else None
    return JSONResponse({"client": client, "scheme": request.url.scheme, "host": request.url.netloc})


async def health(request: Request) -> Response:
    """Alive: the event loop turns. Nothing else is asked: a database that is away is no reason to be restarted."""
    return PlainTextResponse("alive\n")


async def ready(request: Request) -> Response:
    """Ready: what a request needs is there, here a database that accepts connections."""
    if DATABASE.hostname:
        try:
            async with asyncio.timeout(2):
                _, writer = await asyncio.open_connection(DATABASE.hostname, DATABASE.port or 5432)
        except OSError:  # refused, unknown, or too late: TimeoutError is one of these
            return PlainTextResponse("no database\n", 503)
        writer.close()
    return PlainTextResponse("ready\n")


async def upload(request: Request) -> Response:
    """Length and SHA-256 of the body, which is never held as a whole."""
    digest, length = hashlib.sha256(), 0
    async for piece in request.stream():
        digest.update(piece)
        length += len(piece)
    return JSONResponse({"length": length, "sha256": digest.hexdigest()})


async def events(request: Request) -> Response:
    """Server-sent events, one a second."""

    async def lines() -> AsyncIterator[str]:
        number = 0
        while True:
            number += 1
            yield f"data: {number}\n\n"
            await asyncio.sleep(1)

    return StreamingResponse(lines(), media_type="text/event-stream", headers={"cache-control": "no-store"})


async def echo(websocket: WebSocket) -> None:
    """Every text comes back."""
    await websocket.accept()
    async for text in websocket.iter_text():
        await websocket.send_text(text)


app = Starlette(
    routes=[
        Route("/", index),
        Route("/health", health),
        Route("/ready", ready),
        Route("/upload", upload, methods=["POST"]),
        Route("/events", events),
        WebSocketRoute("/ws", echo),
    ]
)
