"""What is asked of every server: the request's bytes, the right answer, and the floor's answer.

This is the only place that knows the requests: wrk, the paced client, the in-process engine and the
verification all send these bytes.
"""

import json
from dataclasses import dataclass
from http.client import HTTPResponse
from typing import Literal

import apps

Unit = Literal["request", "throughput"]

HOST = "127.0.0.1"
TIMEOUT_S = 10.0

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


class WrongAnswer(Exception):
    """A server answered something else than the scenario asks for; says what was expected and what came."""


@dataclass(frozen=True)
class Answer:
    """One response: status, headers (names in lower case, in order), whole body."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes


def encode_request(method: str, path: str, headers: tuple[tuple[str, str], ...], body: bytes = b"") -> bytes:
    """Return the bytes of a request; Content-Length is added when there is a body."""
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers)]
    if body:
        lines += ["Content-Type: application/octet-stream", f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, "", ""]).encode() + body


def encode_answer(headers: list[tuple[bytes, bytes]], body: bytes) -> bytes:
    """Return the bytes with which the floor answers: the application's own headers between server and date."""
    lines = [b"HTTP/1.1 200 OK", b"server: floor", b"date: Sun, 22 Nov 2026 12:00:00 GMT"]
    return b"\r\n".join([*lines, *(name + b": " + value for name, value in headers), b"", b""]) + body


def chunked(pieces: list[bytes]) -> bytes:
    """Return a body in chunked coding (RFC 9112 section 7.1)."""
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


@dataclass(frozen=True)
class Scenario:
    """One row of the table."""

    name: str
    title: str
    app: str
    request: bytes
    body: bytes
    floor_headers: list[tuple[bytes, bytes]]
    floor_body: bytes | None = None
    floor_piece_bytes: int = 0
    unit: Unit = "request"
    payload_bytes: int = 0
    access_log: bool = False
    beside: str | None = None
    must_have: tuple[tuple[str, str], ...] = ()
    check_request: bytes | None = None

    @property
    def floor_answer(self) -> bytes:
        """The whole answer of the floor program."""
        body = self.body if self.floor_body is None else self.floor_body
        return encode_answer(self.floor_headers, body)

    def verify(self, answer: Answer) -> None:
        """Raise WrongAnswer unless this is the answer to `request`."""
        if answer.status != 200:
            raise WrongAnswer(f"expected status 200, got {answer.status}")
        if answer.body != self.body:
            raise WrongAnswer(f"expected {excerpt(self.body)}, got {excerpt(answer.body)}")
        missing = [pair for pair in self.must_have if pair not in answer.headers]
        if missing:
            raise WrongAnswer(f"expected header {missing[0]}, got {answer.headers}")


def excerpt(body: bytes) -> str:
    """Return a body as a message shows it: its length and how it begins."""
    return f"{len(body)} bytes {body[:40]!r}"


def verify_headers_arrived(answer: Answer) -> None:
    """Raise WrongAnswer unless the application saw all 20 request headers (a server may add its own)."""
    seen = [tuple(pair) for pair in json.loads(answer.body)]
    missing = [(n.lower(), v) for n, v in BROWSER_HEADERS + MORE_HEADERS if (n.lower(), v) not in seen]
    if missing:
        raise WrongAnswer(f"expected the application to see {missing[0]}, it saw {seen}")


def read_answer(stream: HTTPResponse) -> Answer:
    """Read one response to its end."""
    stream.begin()
    body = stream.read()
    return Answer(stream.status, [(name.lower(), value) for name, value in stream.getheaders()], body)


def _text(body: bytes) -> list[tuple[bytes, bytes]]:
    return [apps.TEXT, (b"content-length", str(len(body)).encode())]


def _binary(body: bytes) -> list[tuple[bytes, bytes]]:
    return [apps.BYTES, (b"content-length", str(len(body)).encode())]


GET = encode_request("GET", "/", BROWSER_HEADERS)
JSON_BODY = json.dumps(apps.JSON).encode()
JSON_HEADERS = [(b"content-type", b"application/json"), (b"content-length", str(len(JSON_BODY)).encode())]
FASTAPI_BODY = b'{"id":42,"name":"lovelace","tags":["brass","steam"],"price":9.75}'
ECHO_BODY = bytes(range(256)) * 4
UPLOAD_BODY = apps.DOWNLOAD
UPLOAD_ANSWER = str(len(UPLOAD_BODY)).encode()
STREAM_PIECES = [apps.STREAM_PIECE] * apps.STREAM_PIECES
STREAM_CHUNK_BYTES = len(chunked([apps.STREAM_PIECE])) - len(chunked([]))

SCENARIOS = {
    scenario.name: scenario
    for scenario in (
        Scenario("plain", "plain GET, 13-byte answer", "apps:plain", GET, apps.PLAIN, _text(apps.PLAIN)),
        Scenario(
            "plain-log",
            "the same, access log on",
            "apps:plain",
            GET,
            apps.PLAIN,
            _text(apps.PLAIN),
            access_log=True,
            beside="plain",
        ),
        Scenario("json", "JSON", "apps:json", GET, JSON_BODY, JSON_HEADERS),
        Scenario(
            "headers",
            "20 headers in, 10 out",
            "apps:headers",
            encode_request("GET", "/", BROWSER_HEADERS + MORE_HEADERS),
            apps.PLAIN,
            apps.TEN_HEADERS,
            must_have=tuple((name.decode(), value.decode()) for name, value in apps.TEN_HEADERS),
            check_request=encode_request("GET", "/check", BROWSER_HEADERS + MORE_HEADERS),
        ),
        Scenario(
            "echo",
            "1 KiB POST echo",
            "apps:echo",
            encode_request("POST", "/", BROWSER_HEADERS, ECHO_BODY),
            ECHO_BODY,
            _binary(ECHO_BODY),
        ),
        Scenario(
            "fastapi",
            "FastAPI JSON endpoint",
            "fastapi_app:app",
            encode_request("GET", "/items/42?q=lovelace", BROWSER_HEADERS),
            FASTAPI_BODY,
            [(b"content-type", b"application/json"), (b"content-length", str(len(FASTAPI_BODY)).encode())],
        ),
        Scenario(
            "upload",
            "1 MiB upload",
            "apps:upload",
            encode_request("POST", "/", BROWSER_HEADERS, UPLOAD_BODY),
            UPLOAD_ANSWER,
            _text(UPLOAD_ANSWER),
            unit="throughput",
            payload_bytes=len(UPLOAD_BODY),
        ),
        Scenario(
            "download",
            "1 MiB in one send",
            "apps:download",
            GET,
            apps.DOWNLOAD,
            _binary(apps.DOWNLOAD),
            unit="throughput",
            payload_bytes=len(apps.DOWNLOAD),
        ),
        Scenario(
            "stream",
            "stream of 100 x 10 KiB",
            "apps:stream",
            GET,
            b"".join(STREAM_PIECES),
            [apps.BYTES, (b"transfer-encoding", b"chunked")],
            floor_body=chunked(STREAM_PIECES),
            floor_piece_bytes=STREAM_CHUNK_BYTES,
            unit="throughput",
            payload_bytes=sum(map(len, STREAM_PIECES)),
        ),
    )
}
