"""FastAPI: dependencies, parameters of the path, validation, `WebSocketException`."""

from typing import Annotated

from fastapi import Cookie, Depends, FastAPI, Query, WebSocket, WebSocketException

from .common import event

app = FastAPI()


@app.get("/")
async def home():
    return {"hello": "world"}


async def token_of(session: Annotated[str | None, Cookie()] = None, token: Annotated[str | None, Query()] = None):
    if session is None and token is None:
        raise WebSocketException(code=1008, reason="who is it?")
    try:
        yield session or token
    finally:
        event("token closed")


@app.websocket("/items/{item}/ws")
async def items(websocket: WebSocket, item: int, token: Annotated[str, Depends(token_of)], q: str = "none"):
    await websocket.accept()
    while True:
        data = await websocket.receive_json()
        if data == "fail":
            raise WebSocketException(code=4010, reason="as asked")
        await websocket.send_json({"item": item, "token": token, "q": q, "data": data})
