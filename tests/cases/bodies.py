"""Bodies whole, `Expect`, and `Upgrade` that is not taken (RFC 9110 sections 7.8 and 10.1.1)."""

from cases import Seen, case, head, with_host

GET = head()
LAST = b"0\r\n\r\n"
DECLINED = "head.upgrade-declined"


def post(*lines: bytes) -> bytes:
    return head(*lines, start=b"POST / HTTP/1.1")


def upgrade(name: str, *lines: bytes, seen: tuple, pins: str = DECLINED, upgrade: bool = True, **more) -> object:
    """A GET that asks for another protocol, and the request that follows it."""
    return case(f"upgrade-{name}", pins, "9110 7.8", head(*lines) + GET,
                Seen(headers=with_host(*seen), upgrade=upgrade), Seen(upgrade=False), **more)  # fmt: skip


CASES = [
    # ------------------------------------------------------------------------------- bodies
    case("body-of-all-bytes", "head.cut-anywhere", "9112 6.2",
         post(b"Content-Length: 256") + bytes(range(256)),
         Seen("POST", headers=with_host((b"content-length", b"256")), body=bytes(range(256)))),
    case("body-looks-like-request", "head.pipelining head.cut-anywhere", "9112 6.2",
         post(b"Content-Length: %d" % len(GET)) + GET + GET,
         Seen("POST", headers=with_host((b"content-length", b"%d" % len(GET))), body=GET), Seen()),
    case("body-of-line-ends", "head.cut-anywhere", "9112 6.2",
         post(b"Content-Length: 6") + b"\r\n\r\n\r\n" + GET,
         Seen("POST", headers=with_host((b"content-length", b"6")), body=b"\r\n\r\n\r\n"), Seen()),
    case("body-of-head-request", "head.pipelining", "9110 9.3.2",
         head(b"Content-Length: 3", start=b"HEAD / HTTP/1.1") + b"abc" + GET,
         Seen("HEAD", headers=with_host((b"content-length", b"3")), body=b"abc"), Seen()),
    case("body-of-options-asterisk", "head.target-asterisk", "9110 9.3.7",
         head(b"Content-Length: 3", start=b"OPTIONS * HTTP/1.1") + b"abc" + GET,
         Seen("OPTIONS", b"*", headers=with_host((b"content-length", b"3")), body=b"abc", path="*"), Seen()),
    case("body-without-length-is-next-request", "head.method-bad", "9112 6.3",
         post() + b"{}", Seen("POST"), refused=400),
    case("body-longer-than-length", "head.method-bad", "9112 6.3",
         post(b"Content-Length: 3") + b"abc(d",
         Seen("POST", headers=with_host((b"content-length", b"3")), body=b"abc"), refused=400),
    # ------------------------------------------------------------------------------- Expect
    *(
        case(f"expect-{name}", "response.expect-continue", "9110 10.1.1",
             post(b"Expect: " + value, b"Content-Length: 3") + b"abc" + GET,
             Seen("POST", headers=with_host((b"expect", value), (b"content-length", b"3")), body=b"abc"), Seen())
        for name, value in [("continue", b"100-continue"), ("continue-any-case", b"100-Continue")]
    ),
    case("expect-chunked", "response.expect-continue", "9110 10.1.1",
         post(b"Expect: 100-continue", b"Transfer-Encoding: chunked") + b"3\r\nabc\r\n" + LAST + GET,
         Seen("POST", headers=with_host((b"expect", b"100-continue"), (b"transfer-encoding", b"chunked")),
              body=b"abc"), Seen()),
    case("expect-without-body", "response.expect-continue", "9110 10.1.1",
         head(b"Expect: 100-continue") + GET, Seen(headers=with_host((b"expect", b"100-continue"))), Seen()),
    case("expect-http10", "response.expect-http10", "9110 10.1.1",
         head(b"Expect: 100-continue", b"Content-Length: 3", start=b"POST / HTTP/1.0") + b"abc",
         Seen("POST", version="1.0", headers=with_host((b"expect", b"100-continue"), (b"content-length", b"3")),
              body=b"abc"), closes=True),
    *(
        case(f"expect-{name}", "response.expect-continue", "9110 10.1.1",
             post(b"Expect: " + value, b"Content-Length: 3") + b"abc" + GET,
             Seen("POST", headers=with_host((b"expect", value), (b"content-length", b"3")), body=b"abc"), Seen(),
             instead=417)
        for name, value in [("unknown", b"magic"), ("list", b"100-continue, magic"), ("empty", b""),
                            ("longer", b"100-continued"), ("200", b"200-ok")]
    ),
    # ------------------------------------------------------------------------------- Upgrade not taken
    upgrade("foo", b"Connection: Upgrade", b"Upgrade: foo",
            seen=((b"connection", b"Upgrade"), (b"upgrade", b"foo"))),
    upgrade("foo-order", b"Upgrade: foo", b"Connection: upgrade",
            seen=((b"upgrade", b"foo"), (b"connection", b"upgrade"))),
    upgrade("foo-in-list", b"Connection: keep-alive, UPGRADE", b"Upgrade: foo/1, bar",
            seen=((b"connection", b"keep-alive, UPGRADE"), (b"upgrade", b"foo/1, bar"))),
    upgrade("h2c", b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABkAAQAAP__",
            seen=((b"connection", b"Upgrade, HTTP2-Settings"), (b"upgrade", b"h2c"),
                  (b"http2-settings", b"AAMAAABkAAQAAP__"))),
    upgrade("websocket", b"Connection: Upgrade", b"Upgrade: websocket",
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", b"Sec-WebSocket-Version: 13",
            seen=((b"connection", b"Upgrade"), (b"upgrade", b"websocket"),
                  (b"sec-websocket-key", b"dGhlIHNhbXBsZSBub25jZQ=="), (b"sec-websocket-version", b"13")),
            limits={"ws": "none"}),
    upgrade("without-connection", b"Upgrade: foo", seen=((b"upgrade", b"foo"),), upgrade=False),
    upgrade("connection-alone", b"Connection: upgrade", seen=((b"connection", b"upgrade"),), upgrade=False),
    upgrade("proxy-connection", b"Proxy-Connection: upgrade", b"Upgrade: foo",
            seen=((b"proxy-connection", b"upgrade"), (b"upgrade", b"foo")), upgrade=False),
    upgrade("not-quite", b"Connection: upgraded", b"Upgrade: foo",
            seen=((b"connection", b"upgraded"), (b"upgrade", b"foo")), upgrade=False),
    case("upgrade-close", DECLINED + " response.connection-close", "9110 7.8",
         head(b"Connection: upgrade, close", b"Upgrade: foo"),
         Seen(headers=with_host((b"connection", b"upgrade, close"), (b"upgrade", b"foo"))), closes=True),
    case("upgrade-http10", DECLINED, "9110 7.8",
         head(b"Connection: upgrade", b"Upgrade: foo", start=b"GET / HTTP/1.0"),
         Seen(version="1.0", headers=with_host((b"connection", b"upgrade"), (b"upgrade", b"foo"))), closes=True),
    case("upgrade-with-length", DECLINED, "9110 7.8",
         post(b"Connection: Upgrade", b"Upgrade: foo", b"Content-Length: 5") + b"hello" + GET,
         Seen("POST", headers=with_host((b"connection", b"Upgrade"), (b"upgrade", b"foo"),
                                        (b"content-length", b"5")), body=b"hello", upgrade=True), Seen()),
    case("upgrade-with-length-zero", DECLINED, "9110 7.8",
         post(b"Connection: Upgrade", b"Upgrade: foo", b"Content-Length: 0") + GET,
         Seen("POST", headers=with_host((b"connection", b"Upgrade"), (b"upgrade", b"foo"),
                                        (b"content-length", b"0"))), Seen()),
    case("upgrade-with-chunks", DECLINED, "9110 7.8",
         post(b"Connection: Upgrade", b"Upgrade: h2c", b"Transfer-Encoding: chunked")
         + b"5\r\nhello\r\n" + LAST + GET,
         Seen("POST", headers=with_host((b"connection", b"Upgrade"), (b"upgrade", b"h2c"),
                                        (b"transfer-encoding", b"chunked")), body=b"hello"), Seen()),
    case("upgrade-with-chunks-and-trailer", DECLINED + " head.trailers", "9110 7.8",
         post(b"Connection: Upgrade", b"Upgrade: foo", b"Transfer-Encoding: chunked")
         + b"5\r\nhello\r\n0\r\nA: b\r\n\r\n" + GET,
         Seen("POST", headers=with_host((b"connection", b"Upgrade"), (b"upgrade", b"foo"),
                                        (b"transfer-encoding", b"chunked")), body=b"hello"), Seen()),
    case("upgrade-with-broken-chunk", DECLINED + " head.chunk-malformed", "9110 7.8",
         post(b"Connection: Upgrade", b"Upgrade: foo", b"Transfer-Encoding: chunked") + b"g",
         Seen("POST", headers=with_host((b"connection", b"Upgrade"), (b"upgrade", b"foo"),
                                        (b"transfer-encoding", b"chunked")), body=None, complete=False),
         refused=400),
    case("upgrade-websocket-post-with-body", DECLINED, "6455 4.1",
         post(b"Connection: Upgrade", b"Upgrade: websocket", b"Content-Length: 5") + b"hello" + GET,
         Seen("POST", headers=with_host((b"connection", b"Upgrade"), (b"upgrade", b"websocket"),
                                        (b"content-length", b"5")), body=b"hello"), Seen(),
         limits={"ws": "none"}),
    case("upgrade-length-and-coding", DECLINED + " head.length-with-coding", "9112 6.3",
         post(b"Connection: Upgrade", b"Upgrade: foo", b"Content-Length: 5", b"Transfer-Encoding: chunked") + LAST,
         refused=400),
    case("upgrade-then-other-protocol-bytes", DECLINED + " head.method-bad", "9110 7.8",
         head(b"Connection: Upgrade", b"Upgrade: foo") + b"\x00\x01\x02",
         Seen(headers=with_host((b"connection", b"Upgrade"), (b"upgrade", b"foo"))), refused=400),
    case("upgrade-h2c-then-preface", DECLINED, "9113 3.4",
         head(b"Connection: Upgrade", b"Upgrade: h2c") + b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
         Seen(headers=with_host((b"connection", b"Upgrade"), (b"upgrade", b"h2c"))), refused=(400, 505)),
    case("upgrade-without-host", DECLINED + " head.host-missing", "9112 3.2",
         head(b"Connection: Upgrade", b"Upgrade: foo", host=None), refused=400),
]  # fmt: skip
