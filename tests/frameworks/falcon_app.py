"""Falcon: the routes of `common`, with resources, a middleware and its own background work. It has no sessions."""

import asyncio
import json

import falcon
import falcon.asgi

from . import common
from .common import BLOCK, ETAG, FILE, Digest, Gate, event


class Lifespan:
    """A middleware that hears of startup and shutdown, and marks responses."""

    async def process_startup(self, scope, event_):
        event("startup")
        started.update(greeting="from startup", gate=Gate())

    async def process_shutdown(self, scope, event_):
        event("shutdown")

    async def process_response(self, request, response, resource, succeeded):
        response.set_header("x-outer", "yes")


started = {}
app = falcon.asgi.App(middleware=[Lifespan()])


def at(path, method="GET"):
    """Make a resource with one responder, or add one."""
    known: dict[str, object] = at.__dict__.setdefault("resources", {})

    def add(responder):
        async def call(self, request, response, **parts):
            await responder(request, response, **parts)

        resource = known.get(path)
        if resource is None:
            resource = known[path] = type(responder.__name__, (), {f"on_{method.lower()}": call})()
            app.add_route(path, resource)
        return responder

    return add


@at("/items/{id:int}")
async def item(request, response, id):
    response.media = {
        "id": id,
        "q": request.get_param("q"),
        "client": list(request.scope["client"]),
        "agent": request.user_agent,
    }


class Hello:
    """HEAD and GET by one responder."""

    async def on_get(self, request, response):
        response.content_type, response.text = falcon.MEDIA_TEXT, "hello"

    on_head = on_get


app.add_route("/hello", Hello())


@at("/json", "POST")
async def echo(request, response):
    response.media = {"got": await request.get_media()}


@at("/form", "POST")
async def form(request, response):
    if "multipart" not in request.content_type:
        fields = await request.get_media()
        colours = fields["colour"]
        name, colour = fields["name"], colours if isinstance(colours, list) else [colours]
    else:
        parts = [(part.name, await part.get_text()) async for part in await request.get_media()]
        name, colour = dict(parts)["name"], [value for key, value in parts if key == "colour"]
    response.media = {"name": name, "colour": colour}


@at("/upload", "POST")
async def upload(request, response):
    digest, name, note = Digest(), None, None
    async for part in await request.get_media():
        if part.name == "note":
            note = await part.get_text()
            continue
        name = part.filename
        while data := await part.stream.read(1 << 16):
            digest.add(data)
    response.media = {"name": name, "note": note, **digest.result()}


class Stream:
    """A body that is read as it comes."""

    async def on_post(self, request, response):
        digest = Digest()
        async for data in request.stream:
            digest.add(data)
        response.media = digest.result()

    on_put = on_post


app.add_route("/stream", Stream())


@at("/download")
async def download(request, response):
    number = request.get_param_as_int("blocks")

    async def blocks():
        for _ in range(number):
            yield BLOCK

    response.content_type, response.stream = "application/octet-stream", blocks()


@at("/endless")
async def endless(request, response):
    async def blocks():
        try:
            while True:
                yield BLOCK
        finally:
            event("endless stopped")

    response.stream = blocks()


@at("/events")
async def events(request, response):
    async def some():
        try:
            for number in range(3):
                yield f"id: {number}\ndata: {'x' * number}\n\n".encode()
            while True:  # as event streams do, so that a client that has left is noticed
                await asyncio.sleep(0.01)
                yield b": ping\n\n"
        finally:
            event("events stopped")

    response.content_type, response.stream = "text/event-stream", some()


@at("/background")
async def background(request, response):
    async def work():
        await started["gate"].passed()
        event("background done")
        await asyncio.to_thread(event, "background in a thread")

    response.content_type, response.text = falcon.MEDIA_TEXT, "started"
    response.schedule(work)


@at("/release", "POST")
async def release(request, response):
    started["gate"].open()
    response.status = falcon.HTTP_204


@at("/thread")
async def thread(request, response):
    await asyncio.to_thread(started["gate"].passed_by_thread)
    response.content_type, response.text = falcon.MEDIA_TEXT, "released"


@at("/boom")
async def boom(request, response):
    raise ValueError("boom")


@at("/boom-late")
async def boom_late(request, response):
    async def blocks():
        yield BLOCK
        raise ValueError("boom")

    response.stream = blocks()


@at("/lifespan")
async def show_lifespan(request, response):
    response.content_type, response.text = falcon.MEDIA_TEXT, started["greeting"]


@at("/redirect")
async def redirect(request, response):
    raise falcon.HTTPTemporaryRedirect("/hello")


@at("/etag")
async def etag(request, response):
    response.set_header("etag", ETAG)
    if request.if_none_match and ETAG.strip('"') in request.if_none_match:
        response.status = falcon.HTTP_304
    else:
        response.content_type, response.text = falcon.MEDIA_TEXT, "tagged"


@at("/urls")
async def urls(request, response):
    response.media = {"base": f"{request.prefix}/", "item": f"{request.prefix}/items/7"}


@at("/cookies")
async def cookies(request, response):
    response.set_cookie("first", "1", secure=False, http_only=False)
    response.set_cookie("second", "2", secure=False, http_only=True, path="/cookies", same_site="Strict", max_age=60)
    response.text, response.content_type = json.dumps(request.cookies), falcon.MEDIA_JSON


@at("/mark")
async def mark(request, response):
    common.mark(request.has_param("collect"))
    response.status = falcon.HTTP_204


class Socket:
    """A WebSocket route."""

    async def on_websocket(self, request, socket):
        await socket.accept()
        await socket.send_text(f"heard {await socket.receive_text()}")
        await socket.close()


app.add_route("/websocket", Socket())
app.add_static_route("/static", str(FILE.parent))
app.req_options.keep_blank_qs_values = True
