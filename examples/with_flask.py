"""Flask, a WSGI application: each request runs in a thread (a2wsgi; `pip install 'fastasgi[wsgi]'`).

The server sees by itself that `app` is WSGI; `--interface wsgi` insists. `mixed` below is the other way: an ASGI
application that keeps an old WSGI one under a path.
"""

from flask import Flask, Response, request
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route

from fastasgi.middleware.wsgi import WSGIMiddleware

app = Flask(__name__)


@app.get("/hello/<name>")
def hello(name: str) -> dict[str, str | None]:
    """JSON from a path; the address is that of the client, also behind a proxy."""
    return {"hello": name, "address": request.remote_addr}


@app.post("/lines")
def lines() -> Response:
    """Number the lines of a body: read and answered piece by piece."""
    found = iter(request.stream.readline, b"")  # not `for line in request.stream`: it may end with an empty line
    return Response((b"%d %s" % numbered for numbered in enumerate(found, 1)), mimetype="text/plain")


async def new(request: Request) -> JSONResponse:
    """What has been rewritten already."""
    return JSONResponse({"new": True})


mixed = Starlette(routes=[Route("/new", new), Mount("/", WSGIMiddleware(app))])
