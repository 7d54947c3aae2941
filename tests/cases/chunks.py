"""Chunked bodies (RFC 9112 section 7.1). The broken ones end at the byte that breaks them."""

from cases import Seen, case, head, with_host

START = head(b"Transfer-Encoding: chunked", start=b"POST / HTTP/1.1")
LAST = b"0\r\n\r\n"
HEADERS = with_host((b"transfer-encoding", b"chunked"))


def whole(name: str, body: bytes, seen: bytes, pins: str = "head.chunk-malformed", **more) -> object:
    return case(f"chunks-{name}", pins, "9112 7.1", START + body,
                Seen("POST", headers=HEADERS, body=seen, kind="chunked"), **more)  # fmt: skip


def broken(name: str, body: bytes, pins: str = "head.chunk-malformed") -> object:
    return case(f"chunks-broken-{name}", pins, "9112 7.1", START + body,
                Seen("POST", headers=HEADERS, body=None, complete=False), refused=400)  # fmt: skip


def unfinished(name: str, body: bytes, seen: bytes) -> object:
    return case(f"chunks-unfinished-{name}", "head.chunk-malformed", "9112 7.1", START + body,
                Seen("POST", headers=HEADERS, body=seen, complete=False), waits=True)  # fmt: skip


EXTENSION = "head.chunk-extension"
TRAILERS = "head.trailers"

CASES = [
    whole("none", LAST, b""),
    whole("one", b"5\r\nhello\r\n" + LAST, b"hello"),
    whole("several", b"5\r\nhello\r\n1\r\n \r\n5\r\nworld\r\n" + LAST, b"hello world"),
    whole("of-one-byte", b"".join(b"1\r\n%c\r\n" % c for c in b"abcdef") + LAST, b"abcdef"),
    whole("hexadecimal-lower", b"a\r\n0123456789\r\n" + LAST, b"0123456789"),
    whole("hexadecimal-upper", b"A\r\n0123456789\r\n" + LAST, b"0123456789"),
    whole("two-digits", b"1F\r\n" + b"b" * 31 + b"\r\n" + LAST, b"b" * 31),
    whole("leading-zeros", b"0005\r\nhello\r\n" + LAST, b"hello"),
    whole("leading-zeros-16-digits", b"0000000000000005\r\nhello\r\n" + LAST, b"hello"),
    whole("last-with-zeros", b"5\r\nhello\r\n000\r\n\r\n", b"hello"),
    whole("data-looks-like-last-chunk", b"5\r\n0\r\n\r\n\r\n" + LAST, b"0\r\n\r\n"),
    whole("data-looks-like-request", b"12\r\nGET / HTTP/1.1\r\n\r\n\r\n" + LAST, b"GET / HTTP/1.1\r\n\r\n"),
    whole("data-of-all-bytes", b"100\r\n" + bytes(range(256)) + b"\r\n" + LAST, bytes(range(256))),
    whole("data-of-line-ends", b"4\r\n\r\n\r\n\r\n" + LAST, b"\r\n\r\n"),
    unfinished("nothing", b"", b""),
    unfinished("size", b"5", b""),
    unfinished("size-cr", b"5\r", b""),
    unfinished("data", b"5\r\nhel", b"hel"),
    unfinished("data-whole", b"5\r\nhello", b"hello"),
    unfinished("data-cr", b"5\r\nhello\r", b"hello"),
    unfinished("between", b"5\r\nhello\r\n", b"hello"),
    unfinished("last", b"5\r\nhello\r\n0\r\n", b"hello"),
    unfinished("last-cr", b"5\r\nhello\r\n0\r\n\r", b"hello"),
    unfinished("trailer", b"5\r\nhello\r\n0\r\nA: b\r\n", b"hello"),
    # ------------------------------------------------------------------------------- extensions
    whole("extension-name", b"5;ext\r\nhello\r\n" + LAST, b"hello", EXTENSION),
    whole("extension-value", b"5;ext=value\r\nhello\r\n" + LAST, b"hello", EXTENSION),
    whole("extension-several", b"5;a=b;c;d=e\r\nhello\r\n" + LAST, b"hello", EXTENSION),
    whole("extension-token-marks", b"5;!#$%&'*+-.^_`|~=!#$%&'*+-.^_`|~\r\nhello\r\n" + LAST, b"hello", EXTENSION),
    whole("extension-quoted", b'5;a="b c"\r\nhello\r\n' + LAST, b"hello", EXTENSION),
    whole("extension-quoted-semicolon", b'5;a="b;c=d"\r\nhello\r\n' + LAST, b"hello", EXTENSION),
    whole("extension-quoted-empty", b'5;a=""\r\nhello\r\n' + LAST, b"hello", EXTENSION),
    whole("extension-quoted-pair", b'5;a="\\"b\\\\"\r\nhello\r\n' + LAST, b"hello", EXTENSION),
    whole("extension-quoted-then-more", b'5;a="b";c=d\r\nhello\r\n' + LAST, b"hello", EXTENSION),
    whole("extension-of-last-chunk", b"5\r\nhello\r\n0;a=b\r\n\r\n", b"hello", EXTENSION),
    whole("extension-of-each", b"5;a\r\nhello\r\n1;b=c\r\n!\r\n0;d\r\n\r\n", b"hello!", EXTENSION),
    whole("extension-long", b"5;" + b"e" * 300 + b"\r\nhello\r\n" + LAST, b"hello", EXTENSION),
    broken("extension-bare-lf", b"5;ext\n", EXTENSION),
    broken("extension-value-bare-lf", b"5;ext=value\n", EXTENSION),
    broken("extension-quoted-lf", b'5;a="b\n', EXTENSION),
    broken("extension-quoted-crlf", b'5;a="b\r\n', EXTENSION),
    broken("extension-bare-cr", b"5;ext\rX", EXTENSION),
    broken("extension-nul", b"5;ext\x00", EXTENSION),
    broken("extension-control", b"5;ext\x01", EXTENSION),
    broken("extension-value-nul", b"5;ext=a\x00", EXTENSION),
    broken("extension-quoted-nul", b'5;a="\x00', EXTENSION),
    broken("extension-quoted-delete", b'5;a="\x7f', EXTENSION),
    broken("extension-of-last-bare-lf", b"0;ext\n", EXTENSION),
    broken("extension-before-size", b";ext", EXTENSION),
    # ------------------------------------------------------------------------------- trailers
    whole("trailer", b"5\r\nhello\r\n0\r\nA: b\r\n\r\n", b"hello", TRAILERS),
    whole("trailers", b"5\r\nhello\r\n0\r\nA: b\r\nC-D: e f\r\nG:\r\n\r\n", b"hello", TRAILERS),
    whole("trailer-of-empty-body", b"0\r\nA: b\r\n\r\n", b"", TRAILERS),
    whole("trailer-host", b"5\r\nhello\r\n0\r\nHost: evil\r\n\r\n", b"hello", TRAILERS),
    whole("trailer-connection-close", b"5\r\nhello\r\n0\r\nConnection: close\r\n\r\n", b"hello", TRAILERS),
    whole("trailer-expect-and-upgrade", b"0\r\nExpect: 100-continue\r\nUpgrade: foo\r\n\r\n", b"", TRAILERS),
    whole("trailer-high-bytes", b"0\r\nA: \xc3\xa9\xff\r\n\r\n", b"", TRAILERS),
    case("chunks-trailer-announced", TRAILERS, "9110 6.6.2",
         head(b"Trailer: A", b"Transfer-Encoding: chunked", start=b"POST / HTTP/1.1") + b"0\r\nA: b\r\n\r\n",
         Seen("POST", headers=with_host((b"trailer", b"A"), (b"transfer-encoding", b"chunked")))),
    broken("trailer-bare-lf", b"0\r\nA: b\n", TRAILERS),
    broken("trailer-bare-cr", b"0\r\nA: b\rC", TRAILERS),
    broken("trailer-nul", b"0\r\nA: \x00", TRAILERS),
    broken("trailer-control", b"0\r\nA: b\x1f", TRAILERS),
    broken("trailer-space-before-colon", b"0\r\nA :", TRAILERS),
    broken("trailer-empty-name", b"0\r\n:", TRAILERS),
    broken("trailer-bad-name", b"0\r\nA(", TRAILERS),
    broken("trailer-no-colon", b"0\r\nA\r", TRAILERS),
    broken("trailer-folded", b"0\r\nA: b\r\n c", TRAILERS),
    broken("trailer-folded-first", b"0\r\n A", TRAILERS),
    broken("trailer-end-bare-lf", b"0\r\nA: b\r\n\n", TRAILERS),
    broken("trailer-end-bare-cr", b"0\r\nA: b\r\n\rX", TRAILERS),
    # ------------------------------------------------------------------------------- broken sizes
    broken("size-letter", b"g"),
    broken("size-letter-behind-digit", b"5g"),
    broken("size-plus", b"+"),
    broken("size-minus", b"-"),
    broken("size-minus-behind-digit", b"5-"),
    broken("size-0x", b"0x"),
    broken("size-0X", b"0X"),
    broken("size-x", b"x"),
    broken("size-h", b"5h"),
    broken("size-underscore", b"1_"),
    broken("size-dot", b"5."),
    broken("size-comma", b"5,"),
    broken("size-quote", b'"'),
    broken("size-space-before", b" "),
    broken("size-tab-before", b"\t"),
    broken("size-spaces-inside", b"5 5\r\n"),
    broken("size-space-behind", b"5 \r\n"),
    broken("size-nul", b"\x00"),
    broken("size-nul-behind", b"5\x00"),
    broken("size-high", b"\xb5"),
    broken("size-fullwidth", "\uff15".encode()),
    broken("size-empty", b"\r"),
    broken("size-empty-lf", b"\n"),
    broken("size-empty-second", b"5\r\nhello\r\n\r"),
    broken("size-over-64-bits", b"1" + b"0" * 16),
    broken("size-over-64-bits-f", b"f" * 17),
    broken("size-over-64-bits-wraps-to-5", b"10000000000000005"),
    broken("size-over-64-bits-far", b"9" * 40),
    broken("size-over-64-bits-second", b"5\r\nhello\r\n" + b"f" * 17),
    broken("size-lf-only", b"5\n"),
    broken("size-cr-only", b"5\rh"),
    broken("size-cr-cr-lf", b"5\r\r"),
    # ------------------------------------------------------------------------------- broken line ends
    broken("data-too-long", b"5\r\nhello!"),
    broken("data-too-short", b"5\r\nhell\r\n0"),
    broken("data-no-line-end", b"5\r\nhello0"),
    broken("data-lf-only", b"5\r\nhello\n"),
    broken("data-cr-only", b"5\r\nhello\r0"),
    broken("data-cr-cr", b"5\r\nhello\r\r"),
    broken("data-extra-line-end", b"5\r\nhello\r\n\r\n"),
    broken("last-lf-only", b"0\n"),
    broken("last-end-lf-only", b"0\r\n\n"),
    broken("last-end-cr-only", b"0\r\n\rX"),
    broken("last-cr-cr", b"0\r\r"),
    broken("lf-everywhere", b"5\nhello\n0\n\n"),
    case("chunks-broken-behind-good-request", "head.chunk-malformed head.pipelining", "9112 7.1",
         START + b"5\r\nhello\r\n" + LAST + START + b"g",
         Seen("POST", headers=HEADERS, body=b"hello"),
         Seen("POST", headers=HEADERS, body=None, complete=False), refused=400),
]  # fmt: skip
