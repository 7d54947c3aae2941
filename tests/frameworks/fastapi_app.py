"""FastAPI: the routes of `common`, with parameters, models, dependencies and a middleware."""

import asyncio
import contextlib
from typing import Annotated

from fastapi import (
    BackgroundTasks,
    Cookie,
    Depends,
    FastAPI,
    File,
    Form,
    Header,
    HTTPException,
    Request,
    Response,
    UploadFile,
    WebSocket,
)
from fastapi.responses import FileResponse, PlainTextResponse, RedirectResponse, StreamingResponse
from pydantic import BaseModel
from starlette.middleware.sessions import SessionMiddleware

from . import common
from .common import BLOCK, ETAG, FILE, Digest, Gate, event


@contextlib.asynccontextmanager
async def lifespan(app):
    event("startup")
    yield {"greeting": "from startup", "gate": Gate()}
    event("shutdown")


app = FastAPI(title="frameworks", lifespan=lifespan)
app.add_middleware(SessionMiddleware, secret_key="not a secret")


@app.middleware("http")
async def outer(request: Request, call_next):
    response = await call_next(request)
    response.headers["x-outer"] = "yes"
    return response


@app.get("/hello", response_class=PlainTextResponse)
@app.head("/hello", response_class=PlainTextResponse)
async def hello():
    return "hello"


@app.get("/items/{id}")
async def item(request: Request, id: int, q: str | None = None, user_agent: Annotated[str, Header()] = ""):
    return {"id": id, "q": q, "client": request.client, "agent": user_agent}


@app.post("/json")
async def echo(body: dict):
    return {"got": body}


@app.post("/form")
async def form(name: Annotated[str, Form()], colour: Annotated[list[str], Form()]):
    return {"name": name, "colour": colour}


@app.post("/upload")
def upload(file: Annotated[UploadFile, File()], note: Annotated[str | None, Form()] = None):
    digest = Digest()
    while data := file.file.read(1 << 16):
        digest.add(data)
    return {"name": file.filename, "note": note, **digest.result()}


@app.post("/stream")
@app.put("/stream", include_in_schema=False)
async def stream(request: Request):
    digest = Digest()
    async for data in request.stream():
        digest.add(data)
    return digest.result()


@app.get("/download")
def download(blocks: int):
    return StreamingResponse((BLOCK for _ in range(blocks)), media_type="application/octet-stream")


@app.get("/endless")
async def endless():
    async def blocks():
        try:
            while True:
                yield BLOCK
        finally:
            event("endless stopped")

    return StreamingResponse(blocks())


@app.get("/events")
async def events(request: Request):
    async def some():
        try:
            for number in range(3):
                yield f"id: {number}\ndata: {'x' * number}\n\n"
            while True:  # as event streams do, so that a client that has left is noticed
                await asyncio.sleep(0.01)
                yield ": ping\n\n"
        finally:
            event("events stopped")

    return StreamingResponse(some(), media_type="text/event-stream")


@app.get("/background", response_class=PlainTextResponse)
async def background(request: Request, tasks: BackgroundTasks):
    async def work():
        await request.state.gate.passed()
        event("background done")

    def in_thread():
        event("background in a thread")

    tasks.add_task(work)
    tasks.add_task(in_thread)
    return "started"


@app.post("/release", status_code=204)
async def release(request: Request):
    request.state.gate.open()


@app.get("/thread", response_class=PlainTextResponse)
def thread(request: Request):
    request.state.gate.passed_by_thread()
    return "released"


@app.get("/boom")
async def boom():
    raise ValueError("boom")


@app.get("/boom-late")
async def boom_late():
    async def blocks():
        yield BLOCK
        raise ValueError("boom")

    return StreamingResponse(blocks())


@app.get("/visits")
async def visits(request: Request):
    request.session["visits"] = request.session.get("visits", 0) + 1
    return {"visits": request.session["visits"]}


@app.get("/lifespan", response_class=PlainTextResponse)
async def show_lifespan(request: Request):
    return request.state.greeting


@app.get("/redirect")
async def redirect(request: Request):
    return RedirectResponse(request.url_for("hello"))


@app.get("/etag")
async def etag(if_none_match: Annotated[str | None, Header()] = None):
    if if_none_match == ETAG:
        return Response(status_code=304, headers={"etag": ETAG})
    return PlainTextResponse("tagged", headers={"etag": ETAG})


@app.get("/file")
async def file():
    return FileResponse(FILE, filename="common.txt")


@app.get("/urls")
async def urls(request: Request):
    return {"base": str(request.base_url), "item": str(request.url_for("item", id=7))}


@app.get("/cookies")
async def cookies(
    response: Response, first: Annotated[str | None, Cookie()] = None, second: Annotated[str | None, Cookie()] = None
):
    response.set_cookie("first", "1")
    response.set_cookie("second", "2", path="/cookies", httponly=True, samesite="strict", max_age=60)
    return {name: value for name, value in (("first", first), ("second", second)) if value}


@app.get("/mark", status_code=204)
async def mark(collect: bool = False):
    common.mark(collect)


# ------------------------------------------------------------------------------ what only FastAPI has
async def resource():
    """Opened before, closed after."""
    event("resource opened")
    try:
        yield "resource"
    except HTTPException:
        event("resource saw the error")
        raise
    finally:
        event("resource closed")


def resource_of_threads():
    event("thread resource opened")
    yield "thread resource"
    event("thread resource closed")


Resource = Annotated[str, Depends(resource)]
ThreadResource = Annotated[str, Depends(resource_of_threads)]


@app.get("/resources")
async def resources(one: Resource, other: ThreadResource, teapot: bool = False):
    if teapot:
        raise HTTPException(418, "a teapot", {"x-teapot": "yes"})
    return [one, other]


class Order(BaseModel):
    name: str
    amount: int = 1


@app.post("/orders", status_code=201)
async def order(order: Order) -> Order:
    return order


@app.websocket("/websocket")
async def websocket(websocket: WebSocket):
    await websocket.accept()
