"""Uploads of any size that are never in memory as a whole: raw bodies, and forms of a browser.

A file is written under a name of its own, and takes its real name when it is complete: a client that goes away leaves
nothing behind. Two limits hold: ours for a file, told before the body is sent where its length is known, and the
server's `--limit-request-body` for whatever else comes.
"""

import contextlib
import os
from collections.abc import AsyncIterator
from pathlib import Path as File
from typing import Annotated
from uuid import uuid4

import anyio
from fastapi import FastAPI, HTTPException, Path, Request, UploadFile
from fastapi.responses import FileResponse, HTMLResponse
from pydantic import BaseModel

FOLDER = File(os.environ.get("UPLOADS_FOLDER", "uploads"))
MAX_FILE_BYTES = int(os.environ.get("UPLOADS_MAX_FILE_BYTES", "100000000"))
PIECE_BYTES = 64 * 1024

PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>Uploads</title>
<form method="post" action="/files" enctype="multipart/form-data">
  <input type="file" name="files" multiple> <button>Upload</button>
</form>
</html>
"""

# No folders, no hidden files.
Name = Annotated[str, Path(pattern=r"^[A-Za-z0-9_-][A-Za-z0-9._ -]{0,99}$")]


class Stored(BaseModel):
    """A file that is there."""

    name: str
    size: int


app = FastAPI(title="Uploads")


@app.get("/", response_class=HTMLResponse)
async def page() -> str:
    """A form, for a browser."""
    return PAGE


@app.put("/files/{name}", status_code=201)
async def put(name: Name, request: Request) -> Stored:
    """Keep the body as it is: what `curl --upload-file` and scripts send."""
    # Nothing has been received yet. A client that asks first (Expect: 100-continue) never sends a body that is too big.
    if int(request.headers.get("content-length", 0)) > MAX_FILE_BYTES:
        raise too_big()
    return await store(name, request.stream())


@app.post("/files", status_code=201)
async def post(files: list[UploadFile]) -> list[Stored]:
    """Keep the files of a form. python-multipart has parsed it; what is larger than 1 MiB waits in temporary files."""
    for file in files:
        if file.size is not None and file.size > MAX_FILE_BYTES:
            raise too_big()
    return [await store(safe_name(file.filename), pieces(file)) for file in files]


@app.get("/files")
async def index() -> list[Stored]:
    """What is there."""
    found = [path async for path in anyio.Path(FOLDER).glob("[!.]*")] if await anyio.Path(FOLDER).is_dir() else []
    return [Stored(name=path.name, size=(await path.stat()).st_size) for path in sorted(found)]


@app.get("/files/{name}")
async def get(name: Name) -> FileResponse:
    """Give a file back; ranges are answered, so that downloads can be resumed."""
    path = FOLDER / name
    if not await anyio.Path(path).is_file():
        raise HTTPException(404, f"there is no file {name}")
    return FileResponse(path, filename=name)


async def store(name: str, stream: AsyncIterator[bytes]) -> Stored:
    """Write pieces to the disk as they come; a client waits while the disk is busy. All or nothing is kept."""
    await anyio.Path(FOLDER).mkdir(parents=True, exist_ok=True)
    path = anyio.Path(FOLDER / f".{uuid4().hex}.part")
    size = 0
    try:
        async with await path.open("xb") as file:
            async for piece in stream:
                size += len(piece)
                if size > MAX_FILE_BYTES:
                    raise too_big()
                await file.write(piece)
        await path.replace(FOLDER / name)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)  # not awaited: the request may have been cancelled
    return Stored(name=name, size=size)


async def pieces(file: UploadFile) -> AsyncIterator[bytes]:
    """A file of a form, piece by piece."""
    while piece := await file.read(PIECE_BYTES):
        yield piece


def safe_name(given: str | None) -> str:
    """What a browser calls a file, without its folders and without what is no letter, digit or `._ -`."""
    last = (given or "").replace("\\", "/").rpartition("/")[2]
    kept = "".join(letter if letter.isascii() and (letter.isalnum() or letter in "._ -") else "_" for letter in last)
    return kept.lstrip(". ")[:100] or "unnamed"


def too_big() -> HTTPException:
    """The answer to a file that is too large."""
    return HTTPException(413, f"a file may have at most {MAX_FILE_BYTES} bytes")
