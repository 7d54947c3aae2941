"""Starlette: routes, a mounted folder of static files, a page from a template string, and a streamed response."""

from collections.abc import AsyncIterator
from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

STATIC = Path(__file__).with_name("static")

PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>Starlette</title>
<link rel="stylesheet" href="{style}">
<h1>Starlette on fastasgi</h1>
</html>
"""


async def page(request: Request) -> HTMLResponse:
    """A page with a stylesheet."""
    return HTMLResponse(PAGE.format(style=request.url_for("static", path="style.css")))


async def hello(request: Request) -> JSONResponse:
    """JSON from a path and a query."""
    return JSONResponse({"hello": request.path_params["name"], "from": request.query_params.get("from", "nobody")})


async def numbers(request: Request) -> StreamingResponse:
    """A response whose length nobody knows beforehand."""

    async def lines() -> AsyncIterator[str]:
        for number in range(request.path_params["count"]):
            yield f"{number}\n"

    return StreamingResponse(lines(), media_type="text/plain")


app = Starlette(
    routes=[
        Route("/", page),
        Route("/hello/{name}", hello),
        Route("/numbers/{count:int}", numbers),
        Mount("/static", StaticFiles(directory=STATIC), name="static"),
    ]
)
