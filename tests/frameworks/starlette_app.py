"""Starlette: the routes of `common`, three middlewares, static files, and a WebSocket route."""

import asyncio
import contextlib

from starlette.applications import Starlette
from starlette.background import BackgroundTasks
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.responses import (
    FileResponse,
    JSONResponse,
    PlainTextResponse,
    RedirectResponse,
    Response,
    StreamingResponse,
)
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles

from . import common
from .common import BLOCK, ETAG, FILE, Digest, Gate, event


@contextlib.asynccontextmanager
async def lifespan(app):
    event("startup")
    yield {"greeting": "from startup", "gate": Gate()}
    event("shutdown")


async def hello(request):
    return PlainTextResponse("hello")


async def item(request):
    return JSONResponse(
        {
            "id": request.path_params["id"],
            "q": request.query_params.get("q"),
            "client": list(request.client),
            "agent": request.headers.get("user-agent"),
        }
    )


async def echo(request):
    return JSONResponse({"got": await request.json()})


async def form(request):
    async with request.form() as fields:
        return JSONResponse({"name": fields["name"], "colour": fields.getlist("colour")})


async def upload(request):
    digest = Digest()
    async with request.form() as fields:
        file = fields["file"]
        while data := await file.read(1 << 16):
            digest.add(data)
        return JSONResponse({"name": file.filename, "note": fields.get("note"), **digest.result()})


async def stream(request):
    digest = Digest()
    async for data in request.stream():
        digest.add(data)
    return JSONResponse(digest.result())


async def download(request):
    async def blocks():
        for _ in range(int(request.query_params["blocks"])):
            yield BLOCK

    return StreamingResponse(blocks(), media_type="application/octet-stream")


async def endless(request):
    async def blocks():
        try:
            while True:
                yield BLOCK
        finally:
            event("endless stopped")

    return StreamingResponse(blocks())


async def events(request):
    async def some():
        try:
            for number in range(3):
                yield f"id: {number}\ndata: {'x' * number}\n\n"
            while True:  # as event streams do, so that a client that has left is noticed
                await asyncio.sleep(0.01)
                yield ": ping\n\n"
        finally:
            event("events stopped")

    return StreamingResponse(some(), media_type="text/event-stream", headers={"cache-control": "no-store"})


async def idle_events(request):
    """Says nothing more, like a queue without news."""

    async def some():
        try:
            yield "data: x\n\n"
            await asyncio.Event().wait()
        finally:
            event("idle events stopped")

    return StreamingResponse(some(), media_type="text/event-stream")


async def polled_events(request):
    async def some():
        try:
            yield "data: x\n\n"
            while not await request.is_disconnected():
                await asyncio.sleep(0.01)
        finally:
            event("polled events stopped")

    return StreamingResponse(some(), media_type="text/event-stream")


async def background(request):
    async def work(greeting):
        await request.state.gate.passed()
        event(f"background {greeting}")

    def in_thread():
        event("background in a thread")

    tasks = BackgroundTasks()
    tasks.add_task(work, greeting="done")
    tasks.add_task(in_thread)
    return PlainTextResponse("started", background=tasks)


async def release(request):
    request.state.gate.open()
    return Response(status_code=204)


async def thread(request):
    await run_in_threadpool(request.state.gate.passed_by_thread)
    return PlainTextResponse("released")


async def boom(request):
    raise ValueError("boom")


async def boom_late(request):
    async def blocks():
        yield BLOCK
        raise ValueError("boom")

    return StreamingResponse(blocks())


async def visits(request):
    request.session["visits"] = request.session.get("visits", 0) + 1
    return JSONResponse({"visits": request.session["visits"]})


async def show_lifespan(request):
    return PlainTextResponse(request.state.greeting)


async def redirect(request):
    return RedirectResponse(request.url_for("hello"))


async def etag(request):
    if request.headers.get("if-none-match") == ETAG:
        return Response(status_code=304, headers={"etag": ETAG})
    return PlainTextResponse("tagged", headers={"etag": ETAG})


async def file(request):
    return FileResponse(FILE, filename="common.txt")


async def urls(request):
    return JSONResponse({"base": str(request.base_url), "item": str(request.url_for("item", id=7))})


async def cookies(request):
    response = JSONResponse(request.cookies)
    response.set_cookie("first", "1")
    response.set_cookie("second", "2", path="/cookies", httponly=True, samesite="strict", max_age=60)
    return response


async def big_json(request):
    return JSONResponse({"words": ["fast"] * 5000})


async def read_twice(request):
    """The middleware below has read the body already."""
    return JSONResponse({"body": (await request.body()).decode(), "seen": request.state.seen})


async def nothing(request):
    """The framework answers 500 by itself: a handler must return a response."""


async def mark(request):
    common.mark("collect" in request.query_params)
    return Response(status_code=204)


async def websocket(websocket):
    await websocket.accept()


class Outer(BaseHTTPMiddleware):
    """Runs the rest in a task of its own, as many deployed applications do."""

    async def dispatch(self, request, call_next):
        if request.url.path == "/read-twice":
            request.state.seen = len(await request.body())
        response = await call_next(request)
        response.headers["x-outer"] = "yes"
        return response


routes = [
    Route("/hello", hello),
    Route("/items/{id:int}", item),
    Route("/json", echo, methods=["POST"]),
    Route("/form", form, methods=["POST"]),
    Route("/upload", upload, methods=["POST"]),
    Route("/stream", stream, methods=["POST", "PUT"]),
    Route("/download", download),
    Route("/endless", endless),
    Route("/events", events),
    Route("/idle-events", idle_events),
    Route("/polled-events", polled_events),
    Route("/background", background),
    Route("/release", release, methods=["POST"]),
    Route("/thread", thread),
    Route("/boom", boom),
    Route("/boom-late", boom_late),
    Route("/visits", visits),
    Route("/lifespan", show_lifespan),
    Route("/redirect", redirect),
    Route("/etag", etag),
    Route("/file", file),
    Route("/urls", urls),
    Route("/cookies", cookies),
    Mount(
        "/zipped",
        routes=[Route("/json", big_json), Route("/hello", hello, name="short"), Route("/stream", download)],
        middleware=[Middleware(GZipMiddleware, minimum_size=1000)],
    ),
    Route("/read-twice", read_twice, methods=["POST"]),
    Route("/nothing", nothing),
    Route("/mark", mark),
    WebSocketRoute("/websocket", websocket),
    Mount("/static", StaticFiles(directory=FILE.parent)),
]

app = Starlette(
    routes=routes,
    lifespan=lifespan,
    middleware=[
        Middleware(SessionMiddleware, secret_key="not a secret"),
        Middleware(Outer),
    ],
)
