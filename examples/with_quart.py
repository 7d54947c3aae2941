"""Quart: the interface of Flask, asynchronous: routes, JSON, a WebSocket, something opened for all requests."""

import asyncio

from quart import Quart, ResponseReturnValue, jsonify, request, websocket

app = Quart(__name__)


@app.while_serving
async def counter():  # type: ignore[no-untyped-def]
    """What stands before the `yield` runs at the start, what stands behind it at the end."""
    app.config["VISITS"] = asyncio.Queue()
    yield
    app.logger.info("%d visits", app.config["VISITS"].qsize())


@app.get("/hello/<name>")
async def hello(name: str) -> ResponseReturnValue:
    """JSON from a path and a query."""
    app.config["VISITS"].put_nowait(name)
    return jsonify(hello=name, visits=app.config["VISITS"].qsize(), came_from=request.args.get("from", "nobody"))


@app.post("/words")
async def words() -> ResponseReturnValue:
    """Count the words of a body, as it comes."""
    count, is_within = 0, False
    async for piece in request.body:
        for byte in piece:
            is_space = bytes([byte]).isspace()
            count += not is_space and not is_within
            is_within = not is_space
    return jsonify(words=count)


@app.websocket("/shout")
async def shout() -> None:
    """Answer each message in capitals."""
    while True:
        await websocket.send((await websocket.receive()).upper())
