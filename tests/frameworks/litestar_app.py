"""Litestar: the routes of `common`, with handlers, a middleware, cookie sessions and background tasks."""

import asyncio
import contextlib
from typing import Annotated, Any

from litestar import Litestar, MediaType, Request, Response, WebSocket, get, post, route, websocket
from litestar.background_tasks import BackgroundTask, BackgroundTasks
from litestar.datastructures import Cookie, State
from litestar.enums import RequestEncodingType
from litestar.middleware.session.client_side import CookieBackendConfig
from litestar.params import Body
from litestar.response import File, Redirect, Stream

from . import common
from .common import BLOCK, ETAG, FILE, Digest, Gate, event

TEXT = MediaType.TEXT


@contextlib.asynccontextmanager
async def lifespan(app: Litestar):
    event("startup")
    app.state.greeting, app.state.gate = "from startup", Gate()
    yield
    event("shutdown")


@route("/hello", http_method=["GET", "HEAD"], media_type=TEXT, name="hello")
async def hello() -> str:
    return "hello"


@get("/items/{id:int}", name="item")
async def item(request: Request, id: int, q: str | None = None) -> dict[str, Any]:
    return {"id": id, "q": q, "client": list(request.scope["client"]), "agent": request.headers.get("user-agent")}


@post("/json", status_code=200)
async def echo(data: dict[str, Any]) -> dict[str, Any]:
    return {"got": data}


@post("/form", status_code=200)
async def form(request: Request) -> dict[str, Any]:
    fields = await request.form()
    return {"name": fields["name"], "colour": fields.getall("colour")}


@post("/upload", status_code=200)
async def upload(data: Annotated[dict[str, Any], Body(media_type=RequestEncodingType.MULTI_PART)]) -> dict[str, Any]:
    digest = Digest()
    file = data["file"]
    while piece := await file.read(1 << 16):
        digest.add(piece)
    return {"name": file.filename, "note": data.get("note"), **digest.result()}


@route("/stream", http_method=["POST", "PUT"], status_code=200, request_max_body_size=None)
async def stream(request: Request) -> dict[str, Any]:
    digest = Digest()
    async for data in request.stream():
        digest.add(data)
    return digest.result()


@get("/download")
async def download(blocks: int) -> Stream:
    async def some():
        for _ in range(blocks):
            yield BLOCK

    return Stream(some(), media_type="application/octet-stream")


@get("/endless")
async def endless() -> Stream:
    async def some():
        try:
            while True:
                yield BLOCK
        finally:
            event("endless stopped")

    return Stream(some())


@get("/events")
async def events() -> Stream:
    async def some():
        try:
            for number in range(3):
                yield f"id: {number}\ndata: {'x' * number}\n\n"
            while True:  # as event streams do, so that a client that has left is noticed
                await asyncio.sleep(0.01)
                yield ": ping\n\n"
        finally:
            event("events stopped")

    return Stream(some(), media_type="text/event-stream")


@get("/background", media_type=TEXT)
async def background(state: State) -> Response[str]:
    async def work() -> None:
        await state.gate.passed()
        event("background done")

    def in_thread() -> None:
        event("background in a thread")

    return Response("started", background=BackgroundTasks([BackgroundTask(work), BackgroundTask(in_thread)]))


@post("/release", status_code=204)
async def release(state: State) -> None:
    state.gate.open()


@get("/thread", media_type=TEXT, sync_to_thread=True)
def thread(state: State) -> str:
    state.gate.passed_by_thread()
    return "released"


@get("/boom")
async def boom() -> None:
    raise ValueError("boom")


@get("/boom-late")
async def boom_late() -> Stream:
    async def some():
        yield BLOCK
        raise ValueError("boom")

    return Stream(some())


@get("/visits")
async def visits(request: Request) -> dict[str, int]:
    count = request.session.get("visits", 0) + 1
    request.set_session({"visits": count})
    return {"visits": count}


@get("/lifespan", media_type=TEXT)
async def show_lifespan(state: State) -> str:
    return state.greeting


@get("/redirect", status_code=307)
async def redirect(request: Request) -> Redirect:
    return Redirect(request.url_for("hello"), status_code=307)


@get("/etag", media_type=TEXT)
async def etag(request: Request) -> Response[Any]:
    if request.headers.get("if-none-match") == ETAG:
        return Response(None, status_code=304, headers={"etag": ETAG})
    return Response("tagged", headers={"etag": ETAG})


@get("/file")
async def file() -> File:
    return File(FILE, filename="common.txt")


@get("/urls")
async def urls(request: Request) -> dict[str, str]:
    return {"base": str(request.base_url), "item": request.url_for("item", id=7)}


@get("/cookies")
async def cookies(request: Request) -> Response[dict[str, str]]:
    second = Cookie("second", value="2", path="/cookies", httponly=True, samesite="strict", max_age=60)
    return Response(dict(request.cookies), cookies=[Cookie("first", value="1"), second])


@get("/mark", status_code=204)
async def mark(request: Request) -> None:
    common.mark("collect" in request.query_params)


@websocket("/websocket")
async def socket(socket: WebSocket) -> None:
    await socket.accept()
    await socket.send_text(f"heard {await socket.receive_text()}")
    await socket.close()


class Outer:
    """A middleware on the level of ASGI, which Litestar's are."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def sending(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"x-outer", b"yes")]
            await send(message)

        await self.app(scope, receive, sending)


app = Litestar(
    [
        hello, item, echo, form, upload, stream, download, endless, events, background, release, thread, boom,
        boom_late, visits, show_lifespan, redirect, etag, file, urls, cookies, mark, socket,
    ],
    lifespan=[lifespan],
    middleware=[Outer, CookieBackendConfig(secret=b"not a secret 16b").middleware],
)  # fmt: skip
