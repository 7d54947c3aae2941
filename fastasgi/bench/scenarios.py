"""What is asked of every server: the request's bytes, the right answer, and the floor's answer.

This is the only place that knows the requests: the load clients, the in-process engine and the verification all send
these bytes. `NONCE` stands in some of them: the load client puts another value there for each request, which the
application gives back, so that no answer can come from a cache.
"""

import json
from dataclasses import dataclass, replace

from .apps import raw_app
from .model import Unit
from .websocket import ACCEPT, Messages

HOST = "127.0.0.1"
KIB = 1024
MIB = KIB * KIB

LARGE_CLIENTS = 8
"""Of messages of a mebibyte: with more of them a slow server has seconds of work before it."""

NONCE = "NonceNonceNonce0"
"""What the load client puts fresh hexadecimal digits in the place of, as many as these characters."""

# What a current browser sends to a page it knows: 450 bytes of head in 11 fields.
BROWSER_HEADERS = (
    ("Host", "localhost:8000"),
    ("User-Agent", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"),
    ("Accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"),
    ("Accept-Language", "en-US,en;q=0.5"),
    ("Accept-Encoding", "gzip, deflate, br, zstd"),
    ("Connection", "keep-alive"),
    ("Cookie", "session=6f1d9b2c4a8e4f0d9c3b7a5e1f2d8c6b"),
    ("Upgrade-Insecure-Requests", "1"),
    ("Sec-Fetch-Dest", "document"),
    ("Sec-Fetch-Mode", "navigate"),
    ("Sec-Fetch-Site", "none"),
)

MORE_HEADERS = (
    ("Cache-Control", "no-cache"),
    ("Pragma", "no-cache"),
    ("Referer", "http://localhost:8000/catalogue/engines?page=2"),
    ("X-Forwarded-Proto", "https"),
    ("X-Request-Id", "1f0c2d4e-6a8b-4c3d-9e5f-7a1b2c3d4e5f"),
    ("X-Requested-With", "XMLHttpRequest"),
    ("Authorization", "Bearer eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiI0MiJ9.c2lnbmF0dXJl"),
    ("If-None-Match", '"33a64df551425fcc55e4d42a148795d9f25f89d4"'),
    ("Traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
)

Fields = list[tuple[bytes, bytes]]


def encode_request(method: str, target: str, headers: tuple[tuple[str, str], ...], body: bytes = b"") -> bytes:
    """Return the bytes of a request; Content-Length is added when there is a body."""
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers)]
    if body:
        lines += ["Content-Type: application/octet-stream", f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, "", ""]).encode() + body


def encode_answer(headers: Fields, body: bytes) -> bytes:
    """Return the bytes with which the floor answers: the application's own headers between server and date."""
    lines = [b"HTTP/1.1 200 OK", b"server: floor", b"date: Sun, 22 Nov 2026 12:00:00 GMT"]
    return b"\r\n".join([*lines, *(name + b": " + value for name, value in headers), b"", b""]) + body


def chunked(pieces: list[bytes]) -> bytes:
    """Return a body in chunked coding (RFC 9112 section 7.1)."""
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """One table: what is asked, and what counts."""

    name: str
    title: str
    unit: Unit = "request"
    app: str
    """Module and name, as servers import it from `apps/`."""
    needs: str | None = None
    """The package that the application stands on."""
    payload_bytes: int = 0
    access_log: bool = False
    workers: int = 1
    beside: str | None = None
    """The scenario that this one varies: both are measured in the same rounds."""
    floor_piece_bytes: int = 0

    @property
    def floor_answer(self) -> bytes | None:
        """The whole answer of the floor program; None where it can give none."""
        return None


@dataclass(frozen=True, kw_only=True)
class HttpScenario(Scenario):
    """Requests over keep-alive connections."""

    request: bytes
    body: bytes
    """What the answer to `request` carries."""
    live: tuple[bytes, bytes] | None = None
    """Request and body of the answer with NONCE in both, where the application gives it back: the load client sends
    these instead."""
    must_have: tuple[tuple[str, str], ...] = ()
    reflects: bool = True
    """Whether the application answers a query string with what arrived."""
    floor_headers: Fields | None = None
    floor_body: bytes | None = None

    @property
    def floor_answer(self) -> bytes | None:
        if self.floor_headers is None:
            return None
        return encode_answer(self.floor_headers, self.body if self.floor_body is None else self.floor_body)


@dataclass(frozen=True, kw_only=True)
class IdleScenario(HttpScenario):
    """Connections that asked once and then say nothing."""

    connections: int


# What the floor answers a handshake with: it has no SHA-1, and the client always sends the same key.
FLOOR_HANDSHAKE = "\r\n".join(
    ["HTTP/1.1 101 X", "Upgrade: websocket", "Connection: Upgrade", f"Sec-WebSocket-Accept: {ACCEPT}", "", ""]
)


@dataclass(frozen=True, kw_only=True)
class WebSocketScenario(Scenario):
    """Messages that come back, or that go to all."""

    size: int
    deflate: bool = False
    clients: int | None = None
    """How many at most; None: as many as are asked for."""
    sockets: int = 0
    """Of a broadcast: how many receive each message. 0: each client has its own come back."""
    broadcasts: int = 0
    """Of a broadcast: how many messages are sent in a round."""

    @property
    def messages(self) -> Messages:
        """What is sent; large messages are binary."""
        return Messages(self.size, is_text=self.size <= 64 * KIB)

    @property
    def floor_answer(self) -> bytes | None:
        return None if self.deflate else FLOOR_HANDSHAKE.encode()


def excerpt(body: bytes) -> str:
    """Return a body as a message shows it: its length and how it begins."""
    return f"{len(body)} bytes {body[:40]!r}"


def _with_length(kind: tuple[bytes, bytes], body: bytes) -> Fields:
    return [kind, (b"content-length", str(len(body)).encode())]


def _text(body: bytes) -> Fields:
    return _with_length(raw_app.TEXT, body)


def _json(body: bytes) -> Fields:
    return _with_length((b"content-type", b"application/json"), body)


GET = encode_request("GET", "/", BROWSER_HEADERS)
JSON_BODY = json.dumps(raw_app.JSON).encode()
ECHO_BODY = bytes(range(256)) * 4
LIVE_ECHO_BODY = ECHO_BODY[: -len(NONCE)] + NONCE.encode()
UPLOAD_BODY = raw_app.DOWNLOAD
UPLOAD_ANSWER = str(len(UPLOAD_BODY)).encode()
STREAM_PIECES = [raw_app.STREAM_PIECE] * raw_app.STREAM_PIECES


def _chunk_bytes(piece: bytes) -> int:
    return len(chunked([piece])) - len(chunked([]))


def _framework(package: str, title: str, separators: tuple[str, str]) -> HttpScenario:
    """An endpoint with a path parameter and a query, which comes back as JSON."""

    def answer(name: str) -> bytes:
        item = {"id": 42, "name": name, "tags": ["brass", "steam"], "price": 9.75}
        return json.dumps(item, separators=separators).encode()

    def ask(name: str) -> bytes:
        return encode_request("GET", f"/items/42?q={name}", BROWSER_HEADERS)

    return HttpScenario(
        name=package,
        title=title,
        app=f"{package}_app:app",
        needs=package,
        request=ask("lovelace"),
        body=answer("lovelace"),
        live=(ask(NONCE), answer(NONCE)),
        reflects=False,
        floor_headers=_json(answer("lovelace")),
    )


def _echo_of(size: int, label: str, *, deflate: bool = False) -> WebSocketScenario:
    clients = LARGE_CLIENTS if size >= MIB else None
    short = {100: "100 bytes", 4 * KIB: "4 KiB", MIB: "1 MiB"}[size]
    return WebSocketScenario(
        name=f"ws-{label}" + ("-deflate" if deflate else ""),
        title="".join([f"WebSocket echo of {short}", f", {clients} clients" * bool(clients), ", deflate" * deflate]),
        unit="throughput" if size >= MIB else "message",
        payload_bytes=size,
        app="websocket_app:echo",
        size=size,
        deflate=deflate,
        clients=clients,
    )


PLAIN = HttpScenario(
    name="plain",
    title="plain GET, 13-byte answer",
    app="raw_app:plain",
    request=GET,
    body=raw_app.PLAIN,
    floor_headers=_text(raw_app.PLAIN),
)

HTTP: tuple[HttpScenario, ...] = (
    PLAIN,
    replace(PLAIN, name="plain-log", title="the same, access log on", access_log=True, beside="plain"),
    HttpScenario(
        name="json",
        title="JSON",
        app="raw_app:json",
        request=GET,
        body=JSON_BODY,
        floor_headers=_json(JSON_BODY),
    ),
    HttpScenario(
        name="headers",
        title="20 headers in, 10 out",
        app="raw_app:headers",
        request=encode_request("GET", "/", BROWSER_HEADERS + MORE_HEADERS),
        body=raw_app.PLAIN,
        floor_headers=raw_app.TEN_HEADERS,
        must_have=tuple((name.decode(), value.decode()) for name, value in raw_app.TEN_HEADERS),
    ),
    HttpScenario(
        name="echo",
        title="1 KiB POST echo",
        app="raw_app:echo",
        request=encode_request("POST", "/", BROWSER_HEADERS, ECHO_BODY),
        body=ECHO_BODY,
        live=(encode_request("POST", "/", BROWSER_HEADERS, LIVE_ECHO_BODY), LIVE_ECHO_BODY),
        floor_headers=_with_length(raw_app.BYTES, ECHO_BODY),
    ),
    _framework("fastapi", "FastAPI JSON endpoint", (",", ":")),
    _framework("starlette", "Starlette JSON endpoint", (",", ":")),
    _framework("django", "Django JSON view", (", ", ": ")),
    HttpScenario(
        name="upload",
        title="1 MiB upload",
        unit="throughput",
        payload_bytes=len(UPLOAD_BODY),
        app="raw_app:upload",
        request=encode_request("POST", "/", BROWSER_HEADERS, UPLOAD_BODY),
        body=UPLOAD_ANSWER,
        floor_headers=_text(UPLOAD_ANSWER),
    ),
    HttpScenario(
        name="download",
        title="1 MiB in one send",
        unit="throughput",
        payload_bytes=len(raw_app.DOWNLOAD),
        app="raw_app:download",
        request=GET,
        body=raw_app.DOWNLOAD,
        floor_headers=_with_length(raw_app.BYTES, raw_app.DOWNLOAD),
    ),
    HttpScenario(
        name="stream",
        title="stream of 100 x 10 KiB",
        unit="throughput",
        payload_bytes=sum(map(len, STREAM_PIECES)),
        app="raw_app:stream",
        request=GET,
        body=b"".join(STREAM_PIECES),
        floor_headers=[raw_app.BYTES, (b"transfer-encoding", b"chunked")],
        floor_body=chunked(STREAM_PIECES),
        floor_piece_bytes=_chunk_bytes(raw_app.STREAM_PIECE),
    ),
    HttpScenario(
        name="sse",
        title=f"{len(raw_app.EVENTS)} server-sent events",
        app="raw_app:sse",
        request=GET,
        body=b"".join(raw_app.EVENTS),
        floor_headers=[*raw_app.EVENT_STREAM, (b"transfer-encoding", b"chunked")],
        floor_body=chunked(raw_app.EVENTS),
        floor_piece_bytes=_chunk_bytes(raw_app.EVENTS[0]),
    ),
    HttpScenario(
        name="sleep",
        title=f"plain, after {raw_app.SLEEP_S * 1000:.0f} ms of sleep",
        app="raw_app:sleep",
        request=GET,
        body=raw_app.PLAIN,
    ),
    HttpScenario(
        name="workers",
        title="plain, two worker processes",
        app="raw_app:plain",
        request=GET,
        body=raw_app.PLAIN,
        workers=2,
    ),
)

WEBSOCKET: tuple[WebSocketScenario, ...] = (
    _echo_of(100, "100"),
    _echo_of(100, "100", deflate=True),
    _echo_of(4 * KIB, "4k"),
    _echo_of(4 * KIB, "4k", deflate=True),
    _echo_of(MIB, "1m"),
    WebSocketScenario(
        name="ws-broadcast",
        title="WebSocket broadcast of 100 bytes to 1,000",
        unit="message",
        payload_bytes=100,
        app="websocket_app:broadcast",
        size=100,
        sockets=1000,
        broadcasts=50,
    ),
)

IDLE = IdleScenario(
    name="idle",
    title="memory of an idle keep-alive connection",
    unit="connection",
    app="raw_app:plain",
    request=GET,
    body=raw_app.PLAIN,
    floor_headers=_text(raw_app.PLAIN),
    connections=2000,
)

SCENARIOS: dict[str, Scenario] = {scenario.name: scenario for scenario in (*HTTP, *WEBSOCKET, IDLE)}
