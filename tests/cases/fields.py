"""Field lines: names, values, line ends (RFC 9112 sections 2.2 and 5, RFC 9110 section 5)."""

from cases import Seen, case, head, with_host

TOKEN_MARKS = b"!#$%&'*+-.^_`|~"
NOT_TOKEN = b"()<>@,;\\\"/[]?={}"
CONTROLS = [byte for byte in (*range(0x20), 0x7F) if byte not in (0x09, 0x0A, 0x0D)]


def refused(name: str, pins: str, rfc: str, send: bytes) -> object:
    return case(name, pins, rfc, send, refused=400)


CASES = [
    # ------------------------------------------------------------------------------- folding, white space
    refused("obs-fold-space", "head.obs-fold", "9112 5.2", head(b"A: b", b" c")),
    refused("obs-fold-tab", "head.obs-fold", "9112 5.2", head(b"A: b", b"\tc")),
    refused("obs-fold-empty", "head.obs-fold", "9112 5.2", head(b"A: b", b" ")),
    refused("obs-fold-of-empty-value", "head.obs-fold", "9112 5.2", head(b"A:", b" b")),
    refused("obs-fold-of-host", "head.obs-fold", "9112 5.2", head(b" x", host=b"x")),
    refused("white-space-before-first-field", "head.obs-fold", "9112 2.2",
            b"GET / HTTP/1.1\r\n Host: x\r\n\r\n"),
    refused("white-space-line-first", "head.obs-fold", "9112 2.2", b"GET / HTTP/1.1\r\n \r\nHost: x\r\n\r\n"),
    refused("space-before-colon", "head.space-before-colon", "9112 5.1", head(b"A : b")),
    refused("tab-before-colon", "head.space-before-colon", "9112 5.1", head(b"A\t: b")),
    refused("spaces-before-colon", "head.space-before-colon", "9112 5.1", head(b"A   : b")),
    refused("space-before-colon-host", "head.space-before-colon", "9112 5.1", head(b"Host : x", host=None)),
    refused("space-in-name", "head.empty-name", "9110 5.1", head(b"A b: c")),
    refused("empty-name", "head.empty-name", "9110 5.1", head(b": b")),
    refused("empty-name-no-value", "head.empty-name", "9110 5.1", head(b":")),
    refused("empty-name-first", "head.empty-name", "9110 5.1", b"GET / HTTP/1.1\r\n: x\r\nHost: x\r\n\r\n"),
    refused("no-colon", "head.empty-name", "9112 5", head(b"A")),
    refused("no-colon-with-space", "head.empty-name", "9112 5", head(b"A b")),
    *(
        refused(f"name-with-{byte:02x}", "head.empty-name", "9110 5.1", head(b"A" + bytes([byte]) + b"B: c"))
        for byte in NOT_TOKEN
    ),
    *(
        refused(f"name-with-control-{byte:02x}", "head.empty-name", "9110 5.1",
                head(b"A" + bytes([byte]) + b"B: c"))
        for byte in (0x00, 0x01, 0x08, 0x0B, 0x1F, 0x7F)
    ),
    *(
        refused(f"name-with-high-{byte:02x}", "head.empty-name", "9110 5.1",
                head(b"A" + bytes([byte]) + b"B: c"))
        for byte in (0x80, 0xA0, 0xC3, 0xFF)
    ),
    refused("name-starts-with-nul", "head.empty-name", "9110 5.1", head(b"\x00A: c")),
    # ------------------------------------------------------------------------------- line ends
    refused("bare-cr-in-value", "head.bare-cr", "9112 2.2", head(b"A: b\rc")),
    refused("bare-cr-at-start-of-value", "head.bare-cr", "9112 2.2", head(b"A: \rb")),
    refused("bare-cr-twice-before-lf", "head.bare-cr", "9112 2.2", head(b"A: b\r")),
    refused("bare-cr-as-line-end", "head.bare-cr", "9112 2.2", head(b"A: b\rC: d")),
    refused("bare-cr-in-name", "head.bare-cr", "9112 2.2", head(b"A\rB: c")),
    refused("bare-cr-in-request-line", "head.bare-cr", "9112 2.2", b"GET / HTTP/1.1\rHost: x\r\n\r\n"),
    refused("bare-cr-in-target", "head.bare-cr", "9112 2.2", b"GET /\r HTTP/1.1\r\nHost: x\r\n\r\n"),
    refused("bare-cr-ends-head", "head.bare-cr", "9112 2.2", b"GET / HTTP/1.1\r\nHost: x\r\n\rA"),
    refused("bare-cr-first", "head.bare-cr", "9112 2.2", b"\rGET / HTTP/1.1\r\nHost: x\r\n\r\n"),
    refused("bare-lf-after-request-line", "head.bare-lf", "9112 2.2", b"GET / HTTP/1.1\nHost: x\r\n\r\n"),
    refused("bare-lf-after-field", "head.bare-lf", "9112 2.2", b"GET / HTTP/1.1\r\nHost: x\n\r\n"),
    refused("bare-lf-after-later-field", "head.bare-lf", "9112 2.2",
            b"GET / HTTP/1.1\r\nHost: x\r\nA: b\nC: d\r\n\r\n"),
    refused("bare-lf-after-empty-value", "head.bare-lf", "9112 2.2", head(b"A:\nB: c")),
    refused("bare-lf-ends-head", "head.bare-lf", "9112 2.2", b"GET / HTTP/1.1\r\nHost: x\r\n\n"),
    refused("bare-lf-everywhere", "head.bare-lf", "9112 2.2", b"GET / HTTP/1.1\nHost: x\n\n"),
    refused("bare-lf-first", "head.bare-lf head.leading-empty-line", "9112 2.2",
            b"\nGET / HTTP/1.1\r\nHost: x\r\n\r\n"),
    refused("bare-lf-in-name", "head.bare-lf", "9112 2.2", head(b"A\nB: c")),
    refused("bare-lf-in-target", "head.bare-lf", "9112 2.2", b"GET /\nfoo HTTP/1.1\r\nHost: x\r\n\r\n"),
    # ------------------------------------------------------------------------------- values
    *(
        refused(f"value-with-control-{byte:02x}", "head.control-bytes", "9110 5.5",
                head(b"A: b" + bytes([byte]) + b"c"))
        for byte in CONTROLS
    ),
    *(
        refused(f"value-starts-with-control-{byte:02x}", "head.control-bytes", "9110 5.5",
                head(b"A: " + bytes([byte])))
        for byte in (0x00, 0x07, 0x0C, 0x7F)
    ),
    refused("host-with-nul", "head.control-bytes", "9110 5.5", head(host=b"x\x00")),
    refused("connection-with-control", "head.control-bytes", "9110 5.5", head(b"Connection: close\x01")),
    case("value-with-tab", "head.control-bytes", "9110 5.5",
         head(b"A: b\tc"), Seen(headers=with_host((b"a", b"b\tc")))),
    case("value-inner-spaces-kept", "head.control-bytes", "9110 5.5",
         head(b"A: b   c"), Seen(headers=with_host((b"a", b"b   c")))),
    case("value-trimmed", "head.control-bytes", "9112 5.1",
         head(b"A: \t b \t "), Seen(headers=with_host((b"a", b"b")))),
    case("value-without-space", "head.control-bytes", "9112 5.1",
         head(b"A:b"), Seen(headers=with_host((b"a", b"b")))),
    case("value-empty", "head.control-bytes", "9112 5.1", head(b"A:"), Seen(headers=with_host((b"a", b"")))),
    case("value-only-white-space", "head.control-bytes", "9112 5.1",
         head(b"A:  \t "), Seen(headers=with_host((b"a", b"")))),
    case("value-with-colon", "head.control-bytes", "9112 5",
         head(b"A: b:c: d"), Seen(headers=with_host((b"a", b"b:c: d")))),
    case("value-visible-ascii", "head.control-bytes", "9110 5.5",
         head(b"A: " + bytes(range(0x21, 0x7F))), Seen(headers=with_host((b"a", bytes(range(0x21, 0x7F)))))),
    case("value-high-bytes", "head.high-bytes", "9110 5.5",
         head(b"A: " + bytes(range(0x80, 0x100))), Seen(headers=with_host((b"a", bytes(range(0x80, 0x100)))))),
    case("value-one-high-byte", "head.high-bytes", "9110 5.5",
         head(b"A: \xff"), Seen(headers=with_host((b"a", b"\xff")))),
    case("value-utf-8", "head.high-bytes", "9110 5.5",
         head("A: naïve – 東京".encode()), Seen(headers=with_host((b"a", "naïve – 東京".encode())))),
    case("value-nbsp-not-trimmed", "head.high-bytes", "9110 5.6.3",
         head(b"A: \xa0b\x85"), Seen(headers=with_host((b"a", b"\xa0b\x85")))),
    # ------------------------------------------------------------------------------- names
    case("names-in-lower-case", "head.names-lower", "9110 5.1",
         head(b"ACCEPT: 1", b"X-Unknown-THING: 2", b"user-agent: 3"),
         Seen(headers=with_host((b"accept", b"1"), (b"x-unknown-thing", b"2"), (b"user-agent", b"3")))),
    case("names-digits-and-marks", "head.names-lower", "9110 5.6.2",
         head(b"0a" + TOKEN_MARKS + b"Z9: v"), Seen(headers=with_host((b"0a" + TOKEN_MARKS + b"z9", b"v"))),
         limits={"underscore_headers": "keep"}),
    case("names-of-one-byte", "head.names-lower", "9110 5.1",
         head(b"Q: 1", b"z: 2"), Seen(headers=with_host((b"q", b"1"), (b"z", b"2")))),
    case("names-near-known-ones", "head.names-lower", "9110 5.1",
         head(b"Hos: 1", b"Hosts: 2", b"Content-Lengt: 3", b"Content-Lengths: 4", b"Acceptx: 5",
              b"User-Agenu: 6", b"Connectiom: close"),
         Seen(headers=with_host((b"hos", b"1"), (b"hosts", b"2"), (b"content-lengt", b"3"),
                                (b"content-lengths", b"4"), (b"acceptx", b"5"), (b"user-agenu", b"6"),
                                (b"connectiom", b"close")))),
    case("names-bit-5-is-not-case", "head.names-lower", "9110 5.1",
         # 0x0d and 0x2d, or 0x5e and 0x7e, differ in the bit that makes lower case of letters
         head(b"a^b: 1", b"a~b: 2"), Seen(headers=with_host((b"a^b", b"1"), (b"a~b", b"2")))),
    case("name-long", "head.names-lower", "9110 5.4",
         head(b"N" * 300 + b": v"), Seen(headers=with_host((b"n" * 300, b"v")))),
    case("names-known-to-browsers", "head.names-lower head.order", "9110 5.1",
         head(b"Connection: keep-alive", b"Cache-Control: max-age=0", b"Upgrade-Insecure-Requests: 1",
              b"User-Agent: Mozilla/5.0", b"Accept: text/html", b"Sec-Fetch-Site: none",
              b"Accept-Encoding: gzip, br", b"Accept-Language: en", b"Cookie: a=b", b"Referer: http://x/",
              b"If-None-Match: \"e\"", b"Authorization: Basic Zg=="),
         Seen(headers=with_host(
             (b"connection", b"keep-alive"), (b"cache-control", b"max-age=0"),
             (b"upgrade-insecure-requests", b"1"), (b"user-agent", b"Mozilla/5.0"), (b"accept", b"text/html"),
             (b"sec-fetch-site", b"none"), (b"accept-encoding", b"gzip, br"), (b"accept-language", b"en"),
             (b"cookie", b"a=b"), (b"referer", b"http://x/"), (b"if-none-match", b'"e"'),
             (b"authorization", b"Basic Zg==")))),
    case("order-and-duplicates", "head.order", "9110 5.3",
         head(b"B: 1", b"A: 2", b"b: 3", b"Cookie: x=1", b"A: 2", b"Cookie: y=2"),
         Seen(headers=with_host((b"b", b"1"), (b"a", b"2"), (b"b", b"3"), (b"cookie", b"x=1"), (b"a", b"2"),
                                (b"cookie", b"y=2")))),
    case("order-host-last", "head.order", "9110 5.3",
         head(b"Z: 1", b"A: 2", b"Host: x", host=None),
         Seen(headers=((b"z", b"1"), (b"a", b"2"), (b"host", b"x")))),
    # ------------------------------------------------------------------------------- underscores
    *(
        case(f"underscore-{mode}", "head.underscore", "9110 5.1",
             head(b"X_Forwarded_For: 1", b"My_Header: 2", b"X_FORWARDED_PROTO: 3", b"x-forwarded_for: 4",
                  b"X-Forwarded-For: 5", b"X_Forwarded_Host: 6", b"X_Real_IP: 7", b"_a: 8", b"b_: 9"),
             Seen(headers=with_host(*seen)), limits={} if mode == "default" else {"underscore_headers": mode})
        for mode, seen in [
            ("default", [(b"my_header", b"2"), (b"x-forwarded-for", b"5"), (b"_a", b"8"), (b"b_", b"9")]),
            ("drop-forwarded", [(b"my_header", b"2"), (b"x-forwarded-for", b"5"), (b"_a", b"8"), (b"b_", b"9")]),
            ("drop", [(b"x-forwarded-for", b"5")]),
            ("keep", [(b"x_forwarded_for", b"1"), (b"my_header", b"2"), (b"x_forwarded_proto", b"3"),
                      (b"x-forwarded_for", b"4"), (b"x-forwarded-for", b"5"), (b"x_forwarded_host", b"6"),
                      (b"x_real_ip", b"7"), (b"_a", b"8"), (b"b_", b"9")]),
        ]
    ),
    refused("underscore-dropped-yet-checked", "head.underscore head.control-bytes", "9110 5.5",
            head(b"X_Forwarded_For: a\x00b")),
]  # fmt: skip
