"""Raw ASGI applications, one per scenario of `scenarios.py`: as little Python as each of them can be.

Each refuses what is not HTTP (servers run them with lifespan off where they have the switch). Their answers are fixed
by the request, so that a right answer can be told from a wrong one. A request with a query string is answered by
`reflect()`: what of it arrived, and how often that was asked. So a server cannot answer in the application's place.
"""

import asyncio
import hashlib
import itertools
import json as jsonlib
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
SLEEP_S = 0.01
EVENTS = [b'id: %02d\nevent: tick\ndata: {"price": 9.75, "name": "lovelace"}\n\n' % number for number in range(30)]

TEXT = (b"content-type", b"text/plain; charset=utf-8")
BYTES = (b"content-type", b"application/octet-stream")
EVENT_STREAM = [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-cache")]

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


_reflected = itertools.count(1)


async def reflect(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with what arrived, and the number of this call: the same request twice has two answers.

    Raises NotImplementedError for lifespan and WebSocket scopes: servers then go on without them.
    """
    if scope["type"] != "http":
        raise NotImplementedError(f"this application serves http only, got {scope['type']}")
    arrived = {
        "call": next(_reflected),
        "method": scope["method"],
        "path": scope["path"],
        "query": scope["query_string"].decode("latin-1"),
        "headers": [[name.decode("latin-1"), value.decode("latin-1")] for name, value in scope["headers"]],
        "body": hashlib.sha256(await read_body(receive)).hexdigest(),
    }
    body = jsonlib.dumps(arrived).encode()
    start = [TEXT, (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": start})
    await send({"type": "http.response.body", "body": body})


async def plain(scope: Scope, receive: Receive, send: Send) -> None:
    """GET: 13 bytes of text."""
    if scope["type"] != "http" or scope["query_string"]:
        return await reflect(scope, receive, send)
    await send({"type": "http.response.start", "status": 200, "headers": [TEXT, (b"content-length", b"13")]})
    await send({"type": "http.response.body", "body": PLAIN})


async def json(scope: Scope, receive: Receive, send: Send) -> None:
    """GET: a small document, encoded for each request by the standard library."""
    if scope["type"] != "http" or scope["query_string"]:
        return await reflect(scope, receive, send)
    body = jsonlib.dumps(JSON).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def headers(scope: Scope, receive: Receive, send: Send) -> None:
    """GET with 20 request headers, answered with 10."""
    if scope["type"] != "http" or scope["query_string"]:
        return await reflect(scope, receive, send)
    await send({"type": "http.response.start", "status": 200, "headers": TEN_HEADERS})
    await send({"type": "http.response.body", "body": PLAIN})


async def read_body(receive: Receive) -> bytes:
    """Return the whole request body."""
    message = await receive()
    body: bytes = message.get("body", b"")
    if not message.get("more_body", False):
        return body
    parts = [body]
    while message.get("more_body", False):
        message = await receive()
        parts.append(message.get("body", b""))
    return b"".join(parts)


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """POST: the body comes back."""
    if scope["type"] != "http" or scope["query_string"]:
        return await reflect(scope, receive, send)
    body = await read_body(receive)
    start = [BYTES, (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": start})
    await send({"type": "http.response.body", "body": body})


async def upload(scope: Scope, receive: Receive, send: Send) -> None:
    """POST: the number of bytes that arrived; the body is let go piece by piece."""
    if scope["type"] != "http" or scope["query_string"]:
        return await reflect(scope, receive, send)
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
    if scope["type"] != "http" or scope["query_string"]:
        return await reflect(scope, receive, send)
    start = [BYTES, (b"content-length", str(len(DOWNLOAD)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": start})
    await send({"type": "http.response.body", "body": DOWNLOAD})


async def stream(scope: Scope, receive: Receive, send: Send) -> None:
    """GET: 100 messages of 10 KiB without a length, ended by an empty one, as frameworks do it."""
    if scope["type"] != "http" or scope["query_string"]:
        return await reflect(scope, receive, send)
    await send({"type": "http.response.start", "status": 200, "headers": [BYTES]})
    message = {"type": "http.response.body", "body": STREAM_PIECE, "more_body": True}
    for _ in range(STREAM_PIECES):
        await send(message)
    await send({"type": "http.response.body", "body": b"", "more_body": False})


async def sse(scope: Scope, receive: Receive, send: Send) -> None:
    """GET: server-sent events, each a message of its own, and the end."""
    if scope["type"] != "http" or scope["query_string"]:
        return await reflect(scope, receive, send)
    await send({"type": "http.response.start", "status": 200, "headers": EVENT_STREAM})
    for event in EVENTS:
        await send({"type": "http.response.body", "body": event, "more_body": True})
    await send({"type": "http.response.body", "body": b"", "more_body": False})


async def sleep(scope: Scope, receive: Receive, send: Send) -> None:
    """GET: the plain answer, after waiting as for a database."""
    if scope["type"] != "http" or scope["query_string"]:
        return await reflect(scope, receive, send)
    await asyncio.sleep(SLEEP_S)
    await send({"type": "http.response.start", "status": 200, "headers": [TEXT, (b"content-length", b"13")]})
    await send({"type": "http.response.body", "body": PLAIN})
