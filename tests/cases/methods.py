"""Methods (RFC 9112 section 3.1, RFC 9110 section 9.1)."""

from cases import Seen, case, head

# What llhttp calls HTTP methods. PRI is not among them: it is the preface of HTTP/2.
KNOWN = (
    "DELETE GET HEAD POST PUT OPTIONS TRACE COPY LOCK MKCOL MOVE PROPFIND PROPPATCH SEARCH UNLOCK BIND REBIND "
    "UNBIND ACL REPORT MKACTIVITY CHECKOUT MERGE M-SEARCH NOTIFY SUBSCRIBE UNSUBSCRIBE PATCH PURGE MKCALENDAR "
    "LINK UNLINK QUERY"
).split()
# Of other protocols; here they are nothing but tokens.
RTSP = "DESCRIBE ANNOUNCE SETUP PLAY PAUSE TEARDOWN GET_PARAMETER SET_PARAMETER REDIRECT RECORD FLUSH".split()
ICE = ["SOURCE"]
UNKNOWN = [
    "get", "Get", "gET", "post", "options", "G", "GE", "GETT", "GETS", "POS", "FOO", "VERSION-CONTROL",
    "BASELINE-CONTROL", "BREW", "M", "M-", "MK", "PROP", "PRO", "X!#$%&'*+-.^_`|~1", "1", "-", "A" * 100, "HTTP",
    "CONNECTX", "CONNEC", "connect", "QUERYX", "PRIX",
]  # fmt: skip
BAD = {
    "at": b"G@T", "comma": b"GET,", "parenthesis": b"GET(", "slash": b"GE/T", "colon": b"GET:", "quote": b'"GET"',
    "brackets": b"[GET]", "braces": b"{GET}", "question": b"GET?", "equals": b"G=T", "less": b"<GET>",
    "backslash": b"G\\T", "semicolon": b"GET;", "nul": b"G\x00T", "nul-first": b"\x00GET", "escape": b"\x1bGET",
    "delete": b"GET\x7f", "high": b"G\xc3\x89T", "high-first": b"\xffGET", "tab": b"G\tT", "bare-cr": b"G\rT",
    "bare-lf": b"G\nT", "bom": b"\xef\xbb\xbfGET", "known-then-bad": b"POST@", "long-then-bad": b"A" * 50 + b"(",
    "unknown-then-bad": b"FOO(",
}  # fmt: skip


def named(method: str) -> str:
    return method.lower() if method.isupper() else f"{method}-as-written"


CASES = [
    *(
        case(f"method-known-{named(method)}", "head.method-known", "9110 9.1",
             head(start=method.encode() + b" / HTTP/1.1"), Seen(method))
        for method in KNOWN
    ),
    *(
        case(f"method-ice-{named(method)}", "head.method-known", "9110 9.1",
             head(start=method.encode() + b" / HTTP/1.1"), Seen(method), instead=501)
        for method in ICE
    ),
    *(
        case(f"method-rtsp-{named(method)}", "head.method-unknown", "9110 9.1",
             head(start=method.encode() + b" / HTTP/1.1"), Seen(method), instead=501)
        for method in RTSP
    ),
    *(
        case(f"method-unknown-{named(method)[:20]}", "head.method-unknown", "9110 9.1",
             head(start=method.encode() + b" / HTTP/1.1"), Seen(method), instead=501)
        for method in UNKNOWN
    ),
    case("method-unknown-http10", "head.method-unknown", "9110 9.1",
         head(start=b"FOO / HTTP/1.0"), Seen("FOO", version="1.0"), closes=True, instead=501),
    case("method-unknown-with-body", "head.method-unknown", "9110 9.1",
         head(b"Content-Length: 3", start=b"FOO / HTTP/1.1") + b"abc",
         Seen("FOO", headers=((b"host", b"x"), (b"content-length", b"3")), body=b"abc"), instead=501),
    case("method-unknown-chunked", "head.method-unknown", "9110 9.1",
         head(b"Transfer-Encoding: chunked", start=b"FOO /a?b HTTP/1.1") + b"3\r\nabc\r\n0\r\n\r\n",
         Seen("FOO", b"/a?b", headers=((b"host", b"x"), (b"transfer-encoding", b"chunked")), body=b"abc"),
         instead=501),
    case("method-unknown-bad-head-behind", "head.method-unknown head.bare-cr", "9110 9.1",
         head(b"A: b\rc", start=b"FOO / HTTP/1.1"), refused=(400, 501)),
    case("method-unknown-without-host", "head.method-unknown head.host-missing", "9112 3.2",
         head(start=b"FOO / HTTP/1.1", host=None), refused=(400, 501)),
    *(
        case(f"method-bad-{name}", "head.method-bad", "9112 3.1", head(start=method + b" / HTTP/1.1"), refused=400)
        for name, method in BAD.items()
    ),
    case("method-missing", "head.method-bad", "9112 3", head(start=b" / HTTP/1.1"), refused=400),
    case("method-missing-no-space", "head.method-bad", "9112 3", head(start=b"/ HTTP/1.1"), refused=400),
    case("method-space-before", "head.method-bad", "9112 3", head(start=b" GET / HTTP/1.1"), refused=400),
    case("method-tab-behind", "head.method-bad", "9112 3", head(start=b"GET\t/ HTTP/1.1"), refused=400),
    case("method-alone", "head.method-bad", "9112 3", head(start=b"GET"), refused=400),
    case("method-alone-with-space", "head.method-bad", "9112 3", head(start=b"GET "), refused=400),
    case("method-is-an-answer", "head.method-bad", "9112 4", b"HTTP/1.1 200 OK\r\nHost: x\r\n\r\n", refused=400),
    case("method-is-tls-hello", "head.method-bad", "9112 3",
         b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(32)), refused=400),
    case("method-is-http2-preface", "head.method-bad head.version-unsupported", "9113 3.4",
         b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", refused=(400, 505)),
    case("method-pri-on-http11", "head.method-unknown", "9110 9.1",
         head(start=b"PRI / HTTP/1.1"), Seen("PRI"), instead=501),
    # ------------------------------------------------------------------------------- CONNECT
    case("connect-authority", "head.connect", "9110 9.3.6",
         head(start=b"CONNECT example.com:443 HTTP/1.1", host=b"example.com:443"), refused=501),
    case("connect-ipv6", "head.connect", "9110 9.3.6",
         head(start=b"CONNECT [::1]:443 HTTP/1.1", host=b"[::1]:443"), refused=501),
    case("connect-http10", "head.connect", "9110 9.3.6",
         head(start=b"CONNECT example.com:443 HTTP/1.0"), refused=501),
    case("connect-then-tunnel-bytes", "head.connect", "9110 9.3.6",
         head(start=b"CONNECT example.com:443 HTTP/1.1") + b"\x16\x03\x01", refused=501),
    case("connect-with-length", "head.connect", "9110 9.3.6",
         head(b"Content-Length: 3", start=b"CONNECT example.com:443 HTTP/1.1") + b"abc", refused=501),
    case("connect-origin-form", "head.connect head.target-authority", "9112 3.2.3",
         head(start=b"CONNECT / HTTP/1.1"), refused=(400, 501)),
    case("connect-bad-head-behind", "head.connect head.bare-cr", "9112 2.2",
         head(b"A: b\rc", start=b"CONNECT example.com:443 HTTP/1.1"), refused=(400, 501)),
]  # fmt: skip
