"""Quart: websocket routes, decorators, a refusal."""

from quart import Quart, websocket

from .common import event

app = Quart(__name__)


@app.get("/")
async def home():
    return "hello"


@app.websocket("/echo")
async def echo():
    try:
        while True:
            await websocket.send(await websocket.receive())
    finally:
        event("echo ended")


@app.websocket("/json")
async def json():
    await websocket.accept(headers={"x-room": "7"}, subprotocol="soap")
    while True:
        await websocket.send_json({"got": await websocket.receive_json(), "args": dict(websocket.args)})


@app.websocket("/close")
async def close():
    await websocket.accept()
    await websocket.close(4005, "as asked")


@app.websocket("/denied")
async def denied():
    return "members only", 401
