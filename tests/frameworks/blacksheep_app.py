"""BlackSheep: the routes of `common`, with bound parameters, a middleware and cookie sessions."""

import asyncio

from blacksheep import Application, Cookie, FromJSON, Request, Response, StreamedContent, WebSocket
from blacksheep.cookies import CookieSameSiteMode
from blacksheep.server.responses import file as file_of
from blacksheep.server.responses import json, no_content, text
from blacksheep.server.responses import redirect as redirect_to

from . import common
from .common import BLOCK, ETAG, FILE, Digest, Gate, event

app = Application()
app.use_sessions("not a secret")
get, post, put, head, ws = (getattr(app.router, name) for name in ("get", "post", "put", "head", "ws"))


@app.lifespan
async def during():
    event("startup")
    app.greeting, app.gate = "from startup", Gate()
    yield
    event("shutdown")


async def outer(request: Request, handler):
    response = await handler(request)
    if response is None:  # a WebSocket
        return None
    response.headers.add(b"x-outer", b"yes")
    return response


app.middlewares.append(outer)


@get("/hello")
@head("/hello")
async def hello():
    return text("hello")


@get("/items/{int:id}")
async def item(request: Request, id: int, q: str | None = None):
    agent = request.get_first_header(b"user-agent").decode()
    return json({"id": id, "q": q, "client": list(request.scope["client"]), "agent": agent})


@post("/json")
async def echo(data: FromJSON[dict]):
    return json({"got": data.value})


@post("/form")
async def form(request: Request):
    fields = await request.form()
    colour = fields["colour"]
    return json({"name": fields["name"], "colour": colour if isinstance(colour, list) else [colour]})


@post("/upload")
async def upload(request: Request):
    digest, name, note = Digest(), None, None
    async for part in request.multipart_stream():
        if part.name == "note":
            note = b"".join([piece async for piece in part.stream()]).decode()
            continue
        name = part.file_name
        async for piece in part.stream():
            digest.add(piece)
    return json({"name": name, "note": note, **digest.result()})


@post("/stream")
@put("/stream")
async def stream(request: Request):
    digest = Digest()
    async for data in request.stream():
        digest.add(data)
    return json(digest.result())


def streamed(provider, content_type=b"application/octet-stream"):
    return Response(200, content=StreamedContent(content_type, provider))


@get("/download")
async def download(blocks: int):
    async def some():
        for _ in range(blocks):
            yield BLOCK

    return streamed(some)


@get("/endless")
async def endless():
    async def some():
        try:
            while True:
                yield BLOCK
        finally:
            event("endless stopped")

    return streamed(some)


@get("/events")
async def events():
    async def some():
        try:
            for number in range(3):
                yield f"id: {number}\ndata: {'x' * number}\n\n".encode()
            while True:  # as event streams do, so that a client that has left is noticed
                await asyncio.sleep(0.01)
                yield b": ping\n\n"
        finally:
            event("events stopped")

    return streamed(some, b"text/event-stream")


@post("/release")
async def release():
    app.gate.open()
    return no_content()


@get("/thread")
async def thread():
    await asyncio.to_thread(app.gate.passed_by_thread)
    return text("released")


@get("/boom")
async def boom():
    raise ValueError("boom")


@get("/boom-late")
async def boom_late():
    async def some():
        yield BLOCK
        raise ValueError("boom")

    return streamed(some)


@get("/visits")
async def visits(request: Request):
    request.session["visits"] = request.session.get("visits", 0) + 1
    return json({"visits": request.session["visits"]})


@get("/lifespan")
async def show_lifespan():
    return text(app.greeting)


@get("/redirect")
async def redirect():
    response = redirect_to("/hello")
    response.status = 307
    return response


@get("/etag")
async def etag(request: Request):
    if request.if_none_match == ETAG.encode():
        return Response(304, [(b"etag", ETAG.encode())])
    response = text("tagged")
    response.headers.add(b"etag", ETAG.encode())
    return response


@get("/file")
async def file():
    return file_of(FILE.read_bytes(), "text/plain", file_name="common.txt")


@get("/urls")
async def urls(request: Request):
    base = f"{request.scheme}://{request.host}"
    return json({"base": f"{base}/", "item": f"{base}/items/7"})


@get("/cookies")
async def cookies(request: Request):
    response = json(request.cookies)
    response.set_cookie(Cookie("first", "1"))
    strict = CookieSameSiteMode.STRICT
    response.set_cookie(Cookie("second", "2", path="/cookies", http_only=True, same_site=strict, max_age=60))
    return response


@get("/mark")
async def mark(request: Request):
    common.mark("collect" in request.query)
    return no_content()


@ws("/websocket")
async def socket(websocket: WebSocket):
    await websocket.accept()
    await websocket.send_text(f"heard {await websocket.receive_text()}")
    await websocket.close()
