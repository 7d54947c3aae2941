"""Starlette: endpoints, a chat room, JSON, subprotocols, denial responses, errors."""

import asyncio

from starlette.applications import Starlette
from starlette.endpoints import WebSocketEndpoint
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from .common import event

room: set[WebSocket] = set()


async def home(request):
    return PlainTextResponse("hello")


class Echo(WebSocketEndpoint):
    """Text back as text, bytes as bytes; tells why it ended."""

    async def on_receive(self, websocket, data):
        await (websocket.send_text if isinstance(data, str) else websocket.send_bytes)(data)

    async def on_disconnect(self, websocket, close_code):
        event(f"echo ended {close_code}")


class Text(Echo):
    encoding = "text"


class Binary(Echo):
    encoding = "bytes"


class Json(WebSocketEndpoint):
    encoding = "json"

    async def on_receive(self, websocket, data):
        await websocket.send_json({"got": data})


async def chat(websocket: WebSocket) -> None:
    await websocket.accept()
    room.add(websocket)
    try:
        async for text in websocket.iter_text():
            await asyncio.gather(*(one.send_text(text) for one in room))
    finally:
        room.discard(websocket)


async def soap(websocket: WebSocket) -> None:
    await websocket.accept(subprotocol="soap", headers=[(b"x-room", b"7")])
    await websocket.send_json(
        {"subprotocols": websocket.scope["subprotocols"], "query": dict(websocket.query_params),
         "url": str(websocket.url), "cookie": websocket.cookies.get("a")}
    )  # fmt: skip
    await websocket.close(4007, "done")


async def denied(websocket: WebSocket) -> None:
    await websocket.send_denial_response(PlainTextResponse("members only", 401))


async def refused(websocket: WebSocket) -> None:
    await websocket.close(4003)


async def boom(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.receive_text()
    raise ValueError("boom")


async def background(websocket: WebSocket) -> None:
    """Sends from a task while another one receives; ends when the client leaves."""
    await websocket.accept()

    async def tick():
        for number in range(1_000_000):
            await websocket.send_text(f"{number}")
            await asyncio.sleep(0)

    ticking = asyncio.create_task(tick())
    try:
        while True:
            await websocket.receive_text()
    except WebSocketDisconnect as error:
        event(f"background ended {error.code}")
    finally:
        ticking.cancel()
        await asyncio.gather(ticking, return_exceptions=True)


app = Starlette(
    routes=[
        Route("/", home),
        WebSocketRoute("/text", Text),
        WebSocketRoute("/binary", Binary),
        WebSocketRoute("/json", Json),
        WebSocketRoute("/chat", chat),
        WebSocketRoute("/soap", soap),
        WebSocketRoute("/denied", denied),
        WebSocketRoute("/refused", refused),
        WebSocketRoute("/boom", boom),
        WebSocketRoute("/background", background),
    ]
)
