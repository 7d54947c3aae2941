"""Quart: the routes of `common`, with before_serving, sessions, background tasks and a middleware."""

import asyncio
import json

from quart import (
    Quart,
    current_app,
    make_response,
    redirect,
    request,
    send_file,
    session,
    stream_with_context,
    url_for,
    websocket,
)

from . import common
from .common import BLOCK, ETAG, FILE, Digest, Gate, event

app = Quart(__name__)
app.secret_key = "not a secret"
app.config["MAX_CONTENT_LENGTH"] = None  # 16 MiB by default


@app.before_serving
async def before():
    event("startup")
    app.greeting = "from startup"
    app.gate = Gate()


@app.while_serving
async def during():
    yield
    event("shutdown")


@app.after_request
async def outer(response):
    response.headers["x-outer"] = "yes"
    return response


@app.get("/hello")
async def hello():
    return "hello", {"content-type": "text/plain"}


@app.get("/items/<int:id>")
async def item(id):
    host, _, port = request.remote_addr, None, request.scope["client"][1]
    return {"id": id, "q": request.args.get("q"), "client": [host, port], "agent": request.headers.get("User-Agent")}


@app.post("/json")
async def echo():
    return {"got": await request.get_json()}


@app.post("/form")
async def form():
    fields = await request.form
    return {"name": fields["name"], "colour": fields.getlist("colour")}


@app.post("/upload")
async def upload():
    digest = Digest()
    file = (await request.files)["file"]
    while data := file.read(1 << 16):
        digest.add(data)
    return {"name": file.filename, "note": (await request.form).get("note"), **digest.result()}


@app.route("/stream", methods=["POST", "PUT"])
async def stream():
    digest = Digest()
    async for data in request.body:
        digest.add(data)
    return digest.result()


@app.get("/download")
async def download():
    number = int(request.args["blocks"])

    @stream_with_context
    async def blocks():
        for _ in range(number):
            yield BLOCK

    return blocks(), {"content-type": "application/octet-stream"}


async def unlimited(body, content_type):
    """A response that may take longer than a minute, Quart's bound."""
    response = await make_response(body, {"content-type": content_type})
    response.timeout = None
    return response


@app.get("/endless")
async def endless():
    async def blocks():
        try:
            while True:
                yield BLOCK
        finally:
            event("endless stopped")

    return await unlimited(blocks(), "application/octet-stream")


@app.get("/events")
async def events():
    async def some():
        try:
            for number in range(3):
                yield f"id: {number}\ndata: {'x' * number}\n\n".encode()
            await asyncio.Event().wait()
        finally:
            event("events stopped")

    return await unlimited(some(), "text/event-stream")


@app.get("/background")
async def background():
    async def work():
        await current_app.gate.passed()
        event("background done")
        current_app.add_background_task(in_thread)

    def in_thread():
        event("background in a thread")

    app.add_background_task(work)
    return "started"


@app.post("/release")
async def release():
    app.gate.open()
    return "", 204


@app.get("/thread")
def thread():
    app.gate.passed_by_thread()
    return "released"


@app.get("/boom")
async def boom():
    raise ValueError("boom")


@app.get("/boom-late")
async def boom_late():
    async def blocks():
        yield BLOCK
        raise ValueError("boom")

    return blocks()


@app.get("/visits")
async def visits():
    session["visits"] = session.get("visits", 0) + 1
    return {"visits": session["visits"]}


@app.get("/lifespan")
async def show_lifespan():
    return app.greeting


@app.get("/redirect")
async def to_hello():
    return redirect(url_for("hello"), 307)


@app.get("/etag")
async def etag():
    response = await make_response("tagged")
    response.set_etag(ETAG.strip('"'))
    return await response.make_conditional(request)


@app.get("/file")
async def file():
    return await send_file(FILE, as_attachment=True, attachment_filename="common.txt", conditional=True)


@app.get("/urls")
async def urls():
    return {"base": request.root_url, "item": url_for("item", id=7, _external=True)}


@app.get("/cookies")
async def cookies():
    response = await make_response(json.dumps(dict(request.cookies)), {"content-type": "application/json"})
    response.set_cookie("first", "1")
    response.set_cookie("second", "2", path="/cookies", httponly=True, samesite="strict", max_age=60)
    return response


@app.get("/mark")
async def mark():
    common.mark("collect" in request.args)
    return "", 204


@app.websocket("/websocket")
async def socket():
    await websocket.accept()
