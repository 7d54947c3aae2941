"""Versions and empty lines before a request (RFC 9112 sections 2.2 and 2.3, RFC 9110 section 2.5)."""

from cases import Seen, case, head

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


def version(name: str, text: bytes, status, pins: str = "head.version-unsupported") -> object:
    return case(f"version-{name}", pins, "9110 2.5", head(start=b"GET / " + text), refused=status)


CASES = [
    case("version-11", "head.version-unsupported", "9112 2.3", head(start=b"GET / HTTP/1.1"), Seen()),
    case("version-10", "head.version-unsupported", "9112 2.3",
         head(start=b"GET / HTTP/1.0"), Seen(version="1.0"), closes=True),
    *(
        version(name, text, 505)
        for name, text in [
            ("12", b"HTTP/1.2"), ("19", b"HTTP/1.9"), ("20", b"HTTP/2.0"), ("30", b"HTTP/3.0"), ("00", b"HTTP/0.0"),
            ("09", b"HTTP/0.9"), ("01", b"HTTP/0.1"), ("99", b"HTTP/9.9"), ("21", b"HTTP/2.1"),
        ]
    ),
    # not even of the form HTTP/DIGIT.DIGIT: a request line that cannot be parsed, or a version not served
    *(
        version(name, text, (400, 505))
        for name, text in [
            ("3-alone", b"HTTP/3"), ("2-alone", b"HTTP/2"), ("1-alone", b"HTTP/1"), ("two-digit-minor", b"HTTP/1.10"),
            ("two-digit-major", b"HTTP/10.1"), ("leading-zero", b"HTTP/01.1"), ("minor-leading-zero", b"HTTP/1.01"),
        ]
    ),
    *(
        version(name, text, 400, "head.http09")
        for name, text in [
            ("lower-case-name", b"http/1.1"), ("mixed-case-name", b"HtTP/1.1"), ("other-name", b"XTTP/1.1"),
            ("https", b"HTTPS/1.1"), ("no-name", b"1.1"), ("slash-only", b"/1.1"), ("no-slash", b"HTTP1.1"),
            ("no-digits", b"HTTP/"), ("no-minor", b"HTTP/1."), ("no-major", b"HTTP/.1"), ("letters", b"HTTP/a.b"),
            ("comma", b"HTTP/1,1"), ("letter-behind", b"HTTP/1.1x"), ("sign", b"HTTP/+1.1"),
            ("three-parts", b"HTTP/1.1.1"), ("cut-name", b"HTT"), ("nul", b"HTTP/1.1\x00"), ("nbsp", b"HTTP/1.1\xa0"),
            ("space-inside", b"HTTP/ 1.1"), ("space-before-slash", b"HTTP /1.1"), ("fullwidth", "HTTP/1.１".encode()),
        ]
    ),
    version("rtsp", b"RTSP/1.0", 400, "head.http09"),
    version("ice", b"ICE/1.0", 400, "head.http09"),
    # ------------------------------------------------------------------------------- HTTP/0.9
    case("http09-line", "head.http09", "1945 4.1", b"GET /\r\n", refused=400),
    case("http09-line-and-empty-line", "head.http09", "1945 4.1", b"GET /\r\n\r\n", refused=400),
    case("http09-line-with-fields", "head.http09", "1945 4.1", b"GET /\r\nHost: x\r\n\r\n", refused=400),
    case("http09-line-with-space", "head.http09", "1945 4.1", b"GET / \r\n", refused=400),
    case("http09-bare-lf", "head.http09", "1945 4.1", b"GET /\n", refused=400),
    case("http09-post", "head.http09", "1945 4.1", b"POST /a\r\n", refused=400),
    case("http09-absolute", "head.http09", "1945 4.1", b"GET http://x/\r\n", refused=400),
    # ------------------------------------------------------------------------------- empty lines
    case("empty-line-before", "head.leading-empty-line", "9112 2.2", b"\r\n" + GET, Seen()),
    case("empty-line-before-second", "head.leading-empty-line", "9112 2.2", GET + b"\r\n" + GET, Seen(), Seen()),
    case("empty-line-behind-body", "head.leading-empty-line", "9112 2.2",
         head(b"Content-Length: 3", start=b"POST / HTTP/1.1") + b"abc\r\n" + GET,
         Seen("POST", headers=((b"host", b"x"), (b"content-length", b"3")), body=b"abc"), Seen()),
    case("empty-line-before-each", "head.leading-empty-line", "9112 2.2",
         b"\r\n" + GET + b"\r\n" + GET + b"\r\n" + GET, Seen(), Seen(), Seen()),
    case("empty-lines-before", "head.leading-empty-line", "9112 2.2", b"\r\n\r\n" + GET, refused=400),
    case("empty-lines-before-second", "head.leading-empty-line", "9112 2.2",
         GET + b"\r\n\r\n" + GET, Seen(), refused=400),
    case("empty-line-bare-cr", "head.leading-empty-line head.bare-cr", "9112 2.2", b"\r" + GET, refused=400),
    case("empty-line-cr-crlf", "head.leading-empty-line head.bare-cr", "9112 2.2", b"\r\r\n" + GET, refused=400),
    case("empty-line-space", "head.leading-empty-line", "9112 2.2", b" \r\n" + GET, refused=400),
    case("empty-line-alone", "head.leading-empty-line", "9112 2.2", b"\r\n", waits=True),
    case("head-cut-in-method", "head.cut-anywhere", "9112 3", b"GE", waits=True),
    case("head-cut-in-fields", "head.cut-anywhere", "9112 5", b"GET / HTTP/1.1\r\nHost: x\r\n", waits=True),
    case("head-cut-in-last-line-end", "head.cut-anywhere", "9112 5", b"GET / HTTP/1.1\r\nHost: x\r\n\r", waits=True),
]  # fmt: skip
