"""Limits of the head and of the body, one byte below, at, and one byte above.

What is counted: `limit_request_line` the request line without its line end; `limit_request_head` request
line, field lines and the empty line, with their line ends; `limit_request_headers` field lines;
`limit_request_body` bytes of content, without chunk framing.
"""

from cases import Seen, case, head, with_host

KIB = 1024
LAST = b"0\r\n\r\n"


def line_of(n: int, *, begin: bytes = b"GET /", end: bytes = b" HTTP/1.1", fill: bytes = b"a") -> bytes:
    """A request line of n bytes."""
    return begin + fill * (n - len(begin) - len(end)) + end


def target_of(n: int, **parts: bytes) -> bytes:
    return line_of(n, **parts).split(b" ")[1]


def head_of(n: int, fill: bytes = b"v") -> bytes:
    """A whole head of n bytes."""
    return head(b"A: " + fill * (n - len(head(b"A: "))))


def value_of(n: int) -> bytes:
    return b"v" * (n - len(head(b"A: ")))


def fields_of(n: int) -> list[bytes]:
    """n field lines beside Host."""
    return [b"A%d: %d" % (i, i) for i in range(n)]


def seen_fields(n: int) -> tuple:
    return with_host(*((b"a%d" % i, b"%d" % i) for i in range(n)))


def post(*lines: bytes) -> bytes:
    return head(*lines, start=b"POST / HTTP/1.1")


def chunked_seen(body: bytes | None, **more) -> Seen:
    return Seen("POST", headers=with_host((b"transfer-encoding", b"chunked")), body=body, **more)


def length_seen(n: int, body: bytes, **more) -> Seen:
    return Seen("POST", headers=with_host((b"content-length", b"%d" % n)), body=body, **more)


def chunked(*chunks: bytes, last: bytes = LAST) -> bytes:
    return post(b"Transfer-Encoding: chunked") + b"".join(b"%x\r\n%s\r\n" % (len(c), c) for c in chunks) + last


LINE = {"limit_request_line": 32}
HEAD = {"limit_request_head": 128}
FIELDS = {"limit_request_headers": 5}
BODY = {"limit_request_body": 10}
EXTENSION = {"limit_chunk_extension": 16}

CASES = [
    # ------------------------------------------------------------------------------- request line
    *(
        case(f"limit-line-{n}-of-32", "head.limit-request-line", "9112 3",
             head(start=line_of(n)), Seen(target=target_of(n)), limits=LINE)
        for n in (31, 32)
    ),
    *(
        case(f"limit-line-{n}-of-32", "head.limit-request-line", "9110 15.5.15",
             head(start=line_of(n)), refused=414, limits=LINE)
        for n in (33, 34, 64)
    ),
    case("limit-line-in-query", "head.limit-request-line", "9110 15.5.15",
         head(start=line_of(33, begin=b"GET /?")), refused=414, limits=LINE),
    case("limit-line-in-absolute-form", "head.limit-request-line", "9110 15.5.15",
         head(start=line_of(33, begin=b"GET http://x/")), refused=414, limits=LINE),
    case("limit-line-other-method", "head.limit-request-line", "9110 15.5.15",
         head(start=line_of(33, begin=b"OPTIONS /")), refused=414, limits=LINE),
    case("limit-line-http10", "head.limit-request-line", "9110 15.5.15",
         head(start=line_of(33, end=b" HTTP/1.0")), refused=414, limits=LINE),
    case("limit-line-behind-empty-line", "head.limit-request-line head.leading-empty-line", "9112 2.2",
         b"\r\n" + head(start=line_of(32)), Seen(target=target_of(32)), limits=LINE),
    case("limit-line-unknown-method", "head.limit-request-line head.method-unknown", "9110 15.5.15",
         head(start=line_of(33, begin=b"FOO /")), refused=(414, 501), limits=LINE),
    case("limit-line-long-method", "head.limit-request-line head.method-unknown", "9112 3",
         head(start=line_of(33, begin=b"", end=b" / HTTP/1.1")), refused=(414, 501), limits=LINE),
    case("limit-line-unfinished", "head.limit-request-line", "9110 15.5.15",
         b"GET /" + b"a" * 64, refused=414, limits=LINE),
    case("limit-line-unfinished-within", "head.limit-request-line", "9110 15.5.15",
         b"GET /" + b"a" * 27, waits=True, limits=LINE),
    case("limit-line-method-unfinished", "head.limit-request-line", "9112 3",
         b"A" * 80, refused=(414, 501), limits=LINE),
    case("limit-line-default-8192", "head.limit-request-line", "9112 3",
         head(start=line_of(8 * KIB)), Seen(target=target_of(8 * KIB))),
    case("limit-line-default-8193", "head.limit-request-line", "9110 15.5.15",
         head(start=line_of(8 * KIB + 1)), refused=414),
    case("limit-line-default-unfinished", "head.limit-request-line", "9110 15.5.15",
         b"GET /" + b"a" * (8 * KIB), refused=414),
    case("limit-line-default-method", "head.limit-request-line", "9112 3", b"A" * 9000, refused=(414, 501)),
    case("limit-line-second-request", "head.limit-request-line head.pipelining", "9110 15.5.15",
         head() + head(start=line_of(33)), Seen(), refused=414, limits=LINE),
    # ------------------------------------------------------------------------------- head bytes
    *(
        case(f"limit-head-{n}-of-128", "head.limit-request-head", "6585 5",
             head_of(n), Seen(headers=with_host((b"a", value_of(n)))), limits=HEAD)
        for n in (127, 128)
    ),
    *(
        case(f"limit-head-{n}-of-128", "head.limit-request-head", "6585 5", head_of(n), refused=431, limits=HEAD)
        for n in (129, 130, 256)
    ),
    case("limit-head-in-name", "head.limit-request-head", "6585 5",
         head(b"N" * 128 + b": v"), refused=431, limits=HEAD),
    case("limit-head-in-many-fields", "head.limit-request-head", "6585 5",
         head(*fields_of(20)), refused=431, limits=HEAD),
    case("limit-head-in-white-space", "head.limit-request-head", "6585 5",
         head(b"A:" + b" " * 128 + b"b"), refused=431, limits=HEAD),
    case("limit-head-in-trailing-white-space", "head.limit-request-head", "6585 5",
         head(b"A: b" + b" " * 128), refused=431, limits=HEAD),
    case("limit-head-in-empty-fields", "head.limit-request-head", "6585 5",
         head(*[b"A:"] * 40), refused=431, limits=HEAD),
    case("limit-head-value-unfinished", "head.limit-request-head", "6585 5",
         b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"v" * 128, refused=431, limits=HEAD),
    case("limit-head-name-unfinished", "head.limit-request-head", "6585 5",
         b"GET / HTTP/1.1\r\nHost: x\r\n" + b"N" * 128, refused=431, limits=HEAD),
    case("limit-head-second-request", "head.limit-request-head head.pipelining", "6585 5",
         head() + head_of(129), Seen(), refused=431, limits=HEAD),
    case("limit-head-each-request-anew", "head.limit-request-head head.pipelining", "6585 5",
         head_of(100) * 3, *[Seen(headers=with_host((b"a", value_of(100))))] * 3, limits=HEAD),
    case("limit-head-default-65536", "head.limit-request-head", "6585 5",
         head_of(64 * KIB), Seen(headers=with_host((b"a", value_of(64 * KIB))))),
    case("limit-head-default-65537", "head.limit-request-head", "6585 5", head_of(64 * KIB + 1), refused=431),
    case("limit-head-body-is-not-counted", "head.limit-request-head", "6585 5",
         post(b"Content-Length: 200") + b"b" * 200, length_seen(200, b"b" * 200), limits=HEAD),
    # ------------------------------------------------------------------------------- number of fields
    *(
        case(f"limit-fields-{n}-of-5", "head.limit-request-headers", "6585 5",
             head(*fields_of(n - 1)), Seen(headers=seen_fields(n - 1)), limits=FIELDS)
        for n in (4, 5)
    ),
    *(
        case(f"limit-fields-{n}-of-5", "head.limit-request-headers", "6585 5",
             head(*fields_of(n - 1)), refused=431, limits=FIELDS)
        for n in (6, 7, 12)
    ),
    case("limit-fields-same-name", "head.limit-request-headers", "6585 5",
         head(*[b"Cookie: a"] * 5), refused=431, limits=FIELDS),
    case("limit-fields-empty-values", "head.limit-request-headers", "6585 5",
         head(*[b"A:"] * 5), refused=431, limits=FIELDS),
    case("limit-fields-second-request", "head.limit-request-headers head.pipelining", "6585 5",
         head(*fields_of(4)) + head(*fields_of(5)), Seen(headers=seen_fields(4)), refused=431, limits=FIELDS),
    case("limit-fields-default-100", "head.limit-request-headers", "6585 5",
         head(*fields_of(99)), Seen(headers=seen_fields(99))),
    case("limit-fields-default-101", "head.limit-request-headers", "6585 5", head(*fields_of(100)), refused=431),
    # ------------------------------------------------------------------------------- body
    *(
        case(f"limit-body-length-{n}-of-10", "head.limit-request-body", "9110 15.5.14",
             post(b"Content-Length: %d" % n) + b"b" * n, length_seen(n, b"b" * n), limits=BODY)
        for n in (0, 9, 10)
    ),
    *(
        case(f"limit-body-length-{n}-of-10", "head.limit-request-body", "9110 15.5.14",
             post(b"Content-Length: %d" % n), refused=413, limits=BODY)
        for n in (11, 12, 10**6, 2**32, 2**32 + 5, 2**63, 2**64 - 1)
    ),
    case("limit-body-length-11-with-body", "head.limit-request-body", "9110 15.5.14",
         post(b"Content-Length: 11") + b"b" * 11, refused=413, limits=BODY),
    case("limit-body-chunked-10-of-10", "head.limit-request-body", "9110 15.5.14",
         chunked(b"b" * 10), chunked_seen(b"b" * 10), limits=BODY),
    case("limit-body-chunked-4-and-6-of-10", "head.limit-request-body", "9110 15.5.14",
         chunked(b"b" * 4, b"b" * 6), chunked_seen(b"b" * 10), limits=BODY),
    case("limit-body-chunked-11-of-10", "head.limit-request-body", "9110 15.5.14",
         chunked(b"b" * 11), chunked_seen(None, complete=False), refused=413, limits=BODY),
    case("limit-body-chunked-6-and-5-of-10", "head.limit-request-body", "9110 15.5.14",
         chunked(b"b" * 6, b"b" * 5), chunked_seen(None, complete=False), refused=413, limits=BODY),
    case("limit-body-chunked-ones", "head.limit-request-body", "9110 15.5.14",
         chunked(*[b"b"] * 11), chunked_seen(None, complete=False), refused=413, limits=BODY),
    case("limit-body-chunked-wraps-64-bits", "head.limit-request-body", "9110 15.5.14",
         chunked(b"b" * 6, last=b"fffffffffffffffe\r\nb"), chunked_seen(None, complete=False), refused=413,
         limits=BODY),
    case("limit-body-extension-not-counted", "head.limit-request-body", "9112 7.1.1",
         post(b"Transfer-Encoding: chunked") + b"00a;extension=value\r\nbbbbbbbbbb\r\n" + LAST,
         chunked_seen(b"b" * 10), limits=BODY),
    case("limit-body-unlimited-by-default", "head.limit-request-body", "9110 15.5.14",
         post(b"Content-Length: 1000000000000") + b"b",
         length_seen(10**12, b"b", complete=False), waits=True),
    # ------------------------------------------------------------------------------- trailers
    case("limit-trailers-within", "head.trailers", "9112 7.1.2",
         chunked(b"b", last=b"0\r\nA: 1\r\nB: 2\r\n\r\n"), chunked_seen(b"b"), limits=FIELDS),
    case("limit-trailers-too-many", "head.trailers head.limit-request-headers", "9112 7.1.2",
         chunked(b"b", last=b"0\r\n" + b"".join(b"T%d: 1\r\n" % i for i in range(6)) + b"\r\n"),
         chunked_seen(b"b", complete=False), refused=431, limits=FIELDS),
    case("limit-trailers-same-name", "head.trailers head.limit-request-headers", "9112 7.1.2",
         chunked(b"b", last=b"0\r\n" + b"T:\r\n" * 6 + b"\r\n"),
         chunked_seen(b"b", complete=False), refused=431, limits=FIELDS),
    case("limit-trailers-too-big-value", "head.trailers head.limit-request-head", "9112 7.1.2",
         chunked(b"b", last=b"0\r\nT: " + b"v" * 130), chunked_seen(b"b", complete=False), refused=431,
         limits=HEAD),
    case("limit-trailers-too-big-name", "head.trailers head.limit-request-head", "9112 7.1.2",
         chunked(b"b", last=b"0\r\n" + b"T" * 130), chunked_seen(b"b", complete=False), refused=431, limits=HEAD),
    case("limit-trailers-too-big-sum", "head.trailers head.limit-request-head", "9112 7.1.2",
         chunked(b"b", last=b"0\r\n" + b"Trailer-Field: value\r\n" * 10),
         chunked_seen(b"b", complete=False), refused=431, limits=HEAD),
    case("limit-trailers-default-number", "head.trailers head.limit-request-headers", "9112 7.1.2",
         chunked(b"b", last=b"0\r\n" + b"T: 1\r\n" * 101), chunked_seen(b"b", complete=False), refused=431),
    # ------------------------------------------------------------------------------- chunk extensions
    # whether ";" counts is not said: 16 bytes with everything are within, 17 without any mark are above
    case("limit-extension-within", "head.chunk-extension", "9112 7.1.1",
         post(b"Transfer-Encoding: chunked") + b"1;abcdefg=1234567\r\nb\r\n" + LAST, chunked_seen(b"b"),
         limits=EXTENSION),
    case("limit-extension-above-name", "head.chunk-extension", "9112 7.1.1",
         post(b"Transfer-Encoding: chunked") + b"1;" + b"e" * 18, chunked_seen(b"", complete=False), refused=400,
         limits=EXTENSION),
    case("limit-extension-above-value", "head.chunk-extension", "9112 7.1.1",
         post(b"Transfer-Encoding: chunked") + b"1;e=" + b"e" * 18, chunked_seen(b"", complete=False),
         refused=400, limits=EXTENSION),
    case("limit-extension-above-quoted", "head.chunk-extension", "9112 7.1.1",
         post(b"Transfer-Encoding: chunked") + b'1;e="' + b"e" * 18, chunked_seen(b"", complete=False),
         refused=400, limits=EXTENSION),
    case("limit-extension-sum-of-body", "head.chunk-extension", "9112 7.1.1",
         post(b"Transfer-Encoding: chunked") + b"1;eeeeee\r\nb\r\n" * 3 + LAST,
         chunked_seen(None, complete=False), refused=400, limits=EXTENSION),
    case("limit-extension-of-last-chunk", "head.chunk-extension", "9112 7.1.1",
         post(b"Transfer-Encoding: chunked") + b"0;" + b"e" * 18, chunked_seen(b"", complete=False), refused=400,
         limits=EXTENSION),
    case("limit-extension-each-body-anew", "head.chunk-extension", "9112 7.1.1",
         (post(b"Transfer-Encoding: chunked") + b"1;eeeeeeeeee\r\nb\r\n" + LAST) * 3, *[chunked_seen(b"b")] * 3,
         limits=EXTENSION),
    case("limit-extension-default-4000", "head.chunk-extension", "9112 7.1.1",
         post(b"Transfer-Encoding: chunked") + b"1;" + b"e" * 4000 + b"\r\nb\r\n" + LAST, chunked_seen(b"b")),
    case("limit-extension-default-4100", "head.chunk-extension", "9112 7.1.1",
         post(b"Transfer-Encoding: chunked") + b"1;" + b"e" * 4100 + b"\r\nb\r\n" + LAST,
         chunked_seen(None, complete=False), refused=400),
]  # fmt: skip
