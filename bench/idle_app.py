"""The application of `idle.py`: it tells what the allocators of its process hold."""

import ctypes
import json
import os
import sys
import tempfile
from collections.abc import Awaitable, Callable
from typing import Any

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]


class _Mallinfo2(ctypes.Structure):
    """`struct mallinfo2` of glibc 2.33 and later; all fields in bytes or counts of chunks."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost".split()
    ]


def malloced_bytes() -> int | None:
    """Return the bytes that this process holds from glibc's malloc, None where it cannot tell."""
    try:
        mallinfo2 = ctypes.CDLL(None).mallinfo2
    except (OSError, AttributeError):
        return None
    mallinfo2.restype = _Mallinfo2
    info = mallinfo2()
    return info.uordblks + info.hblkhd


def pymalloc_bytes() -> int | None:
    """Return the bytes in allocated blocks of CPython's small-object allocator (parsed from its debug text)."""
    if not hasattr(sys, "_debugmallocstats"):
        return None
    with tempfile.TemporaryFile("w+b") as file:
        kept = os.dup(2)
        try:
            os.dup2(file.fileno(), 2)
            sys._debugmallocstats()
        finally:
            os.dup2(kept, 2)
            os.close(kept)
        file.seek(0)
        for line in file.read().decode("ascii", "replace").splitlines():
            if "bytes in allocated blocks" in line:
                return int(line.rpartition("=")[2].replace(",", ""))
    return None


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """GET: the plain answer; at /memory what the allocators of this process hold."""
    if scope["type"] != "http":
        raise NotImplementedError(f"this application serves http only, got {scope['type']}")
    body = b"Hello, World!"
    if scope["path"] == "/memory":
        held = {"malloc": malloced_bytes(), "pymalloc": pymalloc_bytes(), "blocks": sys.getallocatedblocks()}
        body = json.dumps(held).encode()
    start = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": start})
    await send({"type": "http.response.body", "body": body})
