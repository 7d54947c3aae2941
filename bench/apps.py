"""Raw ASGI applications, one per scenario of `scenarios.py`: as little Python as each of them can be.

Each refuses what is not HTTP (servers run them with lifespan off where they have the switch). Their answers
are fixed by the request, so that `scenarios.py` can tell a right answer from a wrong one.
"""

import ctypes
import json as jsonlib
import os
import sys
import tempfile
from collections.abc import Awaitable, Callable
from typing import Any

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

KIB = 1024
PLAIN = b"Hello, World!"
JSON = {"id": 1042, "name": "Ada Lovelace", "tags": ["engine", "notes", "bernoulli"], "active": True, "score": 9.75}
DOWNLOAD = bytes(range(256)) * 4 * KIB
STREAM_PIECE = bytes(range(256)) * 40
STREAM_PIECES = 100

TEXT = (b"content-type", b"text/plain; charset=utf-8")
BYTES = (b"content-type", b"application/octet-stream")

TEN_HEADERS = [
    (b"content-type", b"text/plain; charset=utf-8"),
    (b"content-length", b"13"),
    (b"cache-control", b"private, max-age=0, no-cache"),
    (b"vary", b"Accept-Encoding, Cookie"),
    (b"etag", b'"33a64df551425fcc55e4d42a148795d9f25f89d4"'),
    (b"last-modified", b"Wed, 21 Oct 2026 07:28:00 GMT"),
    (b"x-frame-options", b"DENY"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"same-origin"),
    (b"strict-transport-security", b"max-age=31536000; includeSubDomains"),
]


def require_http(scope: Scope) -> None:
    """Raise for lifespan and WebSocket scopes: the servers then go on without them."""
    if scope["type"] != "http":
        raise NotImplementedError(f"this application serves http only, got {scope['type']}")


async def plain(scope: Scope, receive: Receive, send: Send) -> None:
    """GET: 13 bytes of text."""
    require_http(scope)
    await send({"type": "http.response.start", "status": 200, "headers": [TEXT, (b"content-length", b"13")]})
    await send({"type": "http.response.body", "body": PLAIN})


async def json(scope: Scope, receive: Receive, send: Send) -> None:
    """GET: a small document, encoded for each request by the standard library."""
    require_http(scope)
    body = jsonlib.dumps(JSON).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def headers(scope: Scope, receive: Receive, send: Send) -> None:
    """GET with 20 request headers, answered with 10; at /check the answer is what arrived, for verification."""
    require_http(scope)
    if scope["path"] == "/check":
        body = jsonlib.dumps([[n.decode("latin-1"), v.decode("latin-1")] for n, v in scope["headers"]]).encode()
        start = [TEXT, (b"content-length", str(len(body)).encode())]
    else:
        body, start = PLAIN, TEN_HEADERS
    await send({"type": "http.response.start", "status": 200, "headers": start})
    await send({"type": "http.response.body", "body": body})


async def read_body(receive: Receive) -> bytes:
    """Return the whole request body."""
    message = await receive()
    body = message.get("body", b"")
    if not message.get("more_body", False):
        return body
    parts = [body]
    while message.get("more_body", False):
        message = await receive()
        parts.append(message.get("body", b""))
    return b"".join(parts)


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """POST: the body comes back."""
    require_http(scope)
    body = await read_body(receive)
    start = [BYTES, (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": start})
    await send({"type": "http.response.body", "body": body})


async def upload(scope: Scope, receive: Receive, send: Send) -> None:
    """POST: the number of bytes that arrived; the body is let go piece by piece."""
    require_http(scope)
    total = 0
    more = True
    while more:
        message = await receive()
        total += len(message.get("body", b""))
        more = message.get("more_body", False)
    body = str(total).encode()
    start = [TEXT, (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": start})
    await send({"type": "http.response.body", "body": body})


async def download(scope: Scope, receive: Receive, send: Send) -> None:
    """GET: 1 MiB in one message."""
    require_http(scope)
    start = [BYTES, (b"content-length", str(len(DOWNLOAD)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": start})
    await send({"type": "http.response.body", "body": DOWNLOAD})


async def stream(scope: Scope, receive: Receive, send: Send) -> None:
    """GET: 100 messages of 10 KiB without a length, ended by an empty one, as frameworks do it."""
    require_http(scope)
    await send({"type": "http.response.start", "status": 200, "headers": [BYTES]})
    message = {"type": "http.response.body", "body": STREAM_PIECE, "more_body": True}
    for _ in range(STREAM_PIECES):
        await send(message)
    await send({"type": "http.response.body", "body": b"", "more_body": False})


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


async def idle(scope: Scope, receive: Receive, send: Send) -> None:
    """GET: the plain answer; at /memory what the allocators of this process hold, for `idle.py`."""
    require_http(scope)
    body = PLAIN
    if scope["path"] == "/memory":
        held = {"malloc": malloced_bytes(), "pymalloc": pymalloc_bytes(), "blocks": sys.getallocatedblocks()}
        body = jsonlib.dumps(held).encode()
    start = [TEXT, (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": start})
    await send({"type": "http.response.body", "body": body})


async def wrong(scope: Scope, receive: Receive, send: Send) -> None:
    """GET: not what `plain` answers; the tests see that such a server is refused."""
    require_http(scope)
    start = [TEXT, (b"content-length", b"13")]
    await send({"type": "http.response.start", "status": 200, "headers": start})
    await send({"type": "http.response.body", "body": b"Hello, world?"})
