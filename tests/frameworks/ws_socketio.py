"""python-socketio: events, acknowledgements, rooms; long polling and its upgrade to a WebSocket."""

import socketio

from .common import event

server = socketio.AsyncServer(async_mode="asgi", cors_allowed_origins="*")
app = socketio.ASGIApp(server)


@server.event
async def connect(sid, environ, auth):
    event(f"connect {environ['PATH_INFO']} {auth}")
    if auth == {"token": "wrong"}:
        return False
    await server.enter_room(sid, "all")
    return None


@server.event
async def disconnect(sid, reason):
    event(f"disconnect {reason}")


@server.event
async def echo(sid, data):
    return {"echo": data}


@server.event
async def shout(sid, data):
    await server.emit("shouted", data, room="all")
