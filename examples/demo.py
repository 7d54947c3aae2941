"""A small FastAPI application to try the server with: `make serve`, then open http://127.0.0.1:8000/."""

import asyncio
from collections.abc import AsyncIterator

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, StreamingResponse

PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>fastasgi</title>
<h1>fastasgi serves this page</h1>
<ul>
<li><a href="/items/7?q=tea">/items/7?q=tea</a>: JSON
<li><a href="/stream">/stream</a>: ten lines, one every half second
<li><a href="/docs">/docs</a>: the interface, described by FastAPI
</ul>
<p>Upload: <code>curl --data-binary @FILE http://127.0.0.1:8000/upload</code></p>
</html>
"""

app = FastAPI(title="fastasgi demo")


@app.get("/", response_class=HTMLResponse)
async def page() -> str:
    """A page."""
    return PAGE


@app.get("/items/{item_id}")
async def item(item_id: int, q: str | None = None) -> dict[str, int | str | None]:
    """JSON, from a path parameter and a query."""
    return {"item_id": item_id, "q": q}


@app.get("/stream")
async def stream() -> StreamingResponse:
    """A response whose length nobody knows beforehand."""

    async def lines() -> AsyncIterator[str]:
        for number in range(1, 11):
            yield f"line {number} of 10\n"
            await asyncio.sleep(0.5)

    return StreamingResponse(lines(), media_type="text/plain")


@app.post("/upload")
async def upload(request: Request) -> dict[str, int]:
    """Counts the bytes of a body of any size without holding it."""
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
    return {"bytes": size}
