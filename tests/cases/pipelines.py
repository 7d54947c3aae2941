"""Several requests on one connection, and bodies that the application does not read (RFC 9112 section 9.3)."""

from cases import Seen, case, head, with_host

GET = head()
LAST = b"0\r\n\r\n"


def get(path: bytes) -> bytes:
    return head(start=b"GET " + path + b" HTTP/1.1")


def post(body: bytes, path: bytes = b"/", **more) -> tuple[bytes, Seen]:
    """The bytes of a POST with its length, and what is seen of it."""
    send = head(b"Content-Length: %d" % len(body), start=b"POST " + path + b" HTTP/1.1") + body
    seen = Seen("POST", path, headers=with_host((b"content-length", b"%d" % len(body))), body=body, **more)
    return send, seen


def chunked(*chunks: bytes, last: bytes = LAST, **more) -> tuple[bytes, Seen]:
    """The same in chunks."""
    send = head(b"Transfer-Encoding: chunked", start=b"POST / HTTP/1.1")
    send += b"".join(b"%x\r\n%s\r\n" % (len(c), c) for c in chunks) + last
    seen = Seen("POST", headers=with_host((b"transfer-encoding", b"chunked")), body=b"".join(chunks), **more)
    return send, seen


def unread(name: str, first: tuple[bytes, Seen], *rest: Seen, limit: int = 64, closes: bool = False) -> object:
    """A request whose body the application leaves, and then `GET`, which is served unless the server closes."""
    send, seen = first
    rest = () if closes else (Seen(),)
    return case(f"unread-{name}", "head.unread-body", "9112 9.3", send + GET, seen, *rest,
                reads=False, closes=closes, limits={"limit_unread_body": limit})  # fmt: skip


A, A_SEEN = post(b"first", b"/a")
B, B_SEEN = chunked(b"sec", b"ond")
C = Seen(target=b"/c")

CASES = [
    case("pipeline-two", "head.pipelining", "9112 9.3.2", get(b"/a") + get(b"/b"),
         Seen(target=b"/a"), Seen(target=b"/b")),
    case("pipeline-three-with-bodies", "head.pipelining", "9112 9.3.2", A + B + get(b"/c"), A_SEEN, B_SEEN, C),
    case("pipeline-ten", "head.pipelining", "9112 9.3.2", b"".join(get(b"/%d" % i) for i in range(10)),
         *[Seen(target=b"/%d" % i) for i in range(10)]),
    case("pipeline-then-close", "head.pipelining response.connection-close", "9112 9.6",
         get(b"/a") + head(b"Connection: close") + get(b"/never"),
         Seen(target=b"/a"), Seen(headers=with_host((b"connection", b"close"))), closes=True),
    case("pipeline-close-then-garbage", "head.pipelining response.connection-close", "9112 9.6",
         head(b"Connection: close") + b"\x00garbage",
         Seen(headers=with_host((b"connection", b"close"))), closes=True),
    case("pipeline-then-http10", "head.pipelining", "9112 9.3",
         get(b"/a") + head(start=b"GET /b HTTP/1.0") + get(b"/never"),
         Seen(target=b"/a"), Seen(target=b"/b", version="1.0"), closes=True),
    case("pipeline-http10-keep-alive", "head.pipelining response.keep-alive-http10", "9112 9.3",
         head(b"Connection: keep-alive", start=b"GET /a HTTP/1.0") + get(b"/b"),
         Seen(target=b"/a", version="1.0", headers=with_host((b"connection", b"keep-alive"))),
         Seen(target=b"/b")),
    case("pipeline-then-garbage", "head.pipelining head.error-answered", "9112 9.3.2",
         get(b"/a") + get(b"/b") + b"\x00", Seen(target=b"/a"), Seen(target=b"/b"), refused=400),
    case("pipeline-then-missing-host", "head.pipelining head.host-missing", "9112 3.2",
         get(b"/a") + head(host=None) + get(b"/never"), Seen(target=b"/a"), refused=400),
    case("pipeline-then-unknown-version", "head.pipelining head.version-unsupported", "9110 2.5",
         get(b"/a") + head(start=b"GET / HTTP/1.2"), Seen(target=b"/a"), refused=505),
    case("pipeline-then-connect", "head.pipelining head.connect", "9110 9.3.6",
         get(b"/a") + head(start=b"CONNECT y:1 HTTP/1.1") + get(b"/never"), Seen(target=b"/a"), refused=501),
    case("pipeline-then-cut-head", "head.pipelining", "9112 9.3.2",
         get(b"/a") + b"GET /b HTTP/1.1\r\nHo", Seen(target=b"/a"), waits=True),
    case("pipeline-then-cut-body", "head.pipelining", "9112 9.3.2",
         get(b"/a") + A[:-1], Seen(target=b"/a"),
         Seen("POST", b"/a", headers=A_SEEN.headers, body=b"firs", complete=False), waits=True),
    case("pipeline-fields-not-carried-over", "head.pipelining head.order", "9112 9.3.2",
         head(b"Cookie: secret", b"X: 1") + head(b"Y: 2") + GET,
         Seen(headers=with_host((b"cookie", b"secret"), (b"x", b"1"))), Seen(headers=with_host((b"y", b"2"))), Seen()),
    case("pipeline-host-not-carried-over", "head.pipelining head.host-missing", "9112 3.2",
         GET + head(host=None), Seen(), refused=400),
    case("pipeline-length-not-carried-over", "head.pipelining", "9112 6.3",
         A + get(b"/c") + get(b"/c"), A_SEEN, C, C),
    case("pipeline-chunks-not-carried-over", "head.pipelining", "9112 6.3", B + get(b"/c") + A, B_SEEN, C, A_SEEN),
    case("pipeline-methods", "head.pipelining head.method-known", "9112 9.3.2",
         b"".join(head(start=m + b" / HTTP/1.1") for m in (b"HEAD", b"DELETE", b"OPTIONS", b"PATCH", b"GET")),
         Seen("HEAD"), Seen("DELETE"), Seen("OPTIONS"), Seen("PATCH"), Seen()),
    case("pipeline-unknown-method-then-get", "head.pipelining head.method-unknown", "9110 9.1",
         head(start=b"FOO / HTTP/1.1") + GET, Seen("FOO"), Seen(), instead=501),
    # ------------------------------------------------------------------------------- bodies not read
    unread("length-small", post(b"x" * 5)),
    unread("length-empty", post(b"")),
    unread("length-63", post(b"x" * 63)),
    unread("length-64", post(b"x" * 64)),
    unread("length-65-closes", post(b"x" * 65), closes=True),
    unread("length-200-closes", post(b"x" * 200), closes=True),
    unread("chunked-small", chunked(b"x" * 5, b"y" * 5)),
    unread("chunked-none", chunked()),
    unread("chunked-trailer", chunked(b"x", last=b"0\r\nA: b\r\n\r\n")),
    unread("chunked-far-above-closes", chunked(*[b"x" * 50] * 6), closes=True),
    unread("looks-like-requests", post(GET + GET), limit=1000),
    case("unread-several", "head.unread-body head.pipelining", "9112 9.3", A + B + A + GET,
         A_SEEN, B_SEEN, A_SEEN, Seen(), reads=False),
    case("unread-then-close", "head.unread-body response.connection-close", "9112 9.6",
         head(b"Connection: close", b"Content-Length: 5", start=b"POST / HTTP/1.1") + b"hello",
         Seen("POST", headers=with_host((b"connection", b"close"), (b"content-length", b"5")), body=b"hello"),
         reads=False, closes=True),
]  # fmt: skip
