"""Request targets and what the application sees of them (RFC 9112 section 3.2, RFC 3986)."""

from cases import Seen, case, head


def get(target: bytes, method: bytes = b"GET", host: bytes | None = b"x") -> bytes:
    return head(start=method + b" " + target + b" HTTP/1.1", host=host)


def origin(name: str, target: bytes, path: str, *, raw: bytes | None = None, query: bytes = b"",
           pins: str = "head.target-origin head.raw-path") -> object:  # fmt: skip
    """An origin-form target, the decoded path, and both parts as received."""
    raw = target if raw is None else raw
    return case(f"target-{name}", pins, "9112 3.2.1", get(target),
                Seen(target=target, path=path, raw_path=raw, query=query))  # fmt: skip


def decoded(name: str, target: bytes, path: str) -> object:
    return origin(f"decoded-{name}", target, path, pins="head.path-decoded head.raw-path")


def absolute(name: str, target: bytes, host: bytes, path: str, *, raw: bytes | None = None,
             query: bytes = b"") -> object:  # fmt: skip
    """An absolute-form target; `Host: ignored` is sent beside it."""
    return case(f"target-absolute-{name}", "head.target-absolute", "9112 3.2.2", get(target, host=b"ignored"),
                Seen(target=target, headers=((b"host", host),), path=path, raw_path=raw, query=query))  # fmt: skip


def bad(name: str, target: bytes, pins: str = "head.target-bad", method: bytes = b"GET") -> object:
    return case(f"target-{name}", pins, "9112 3.2", get(target, method), refused=400)


CASES = [
    # ------------------------------------------------------------------------------- origin-form
    origin("root", b"/", "/"),
    origin("path", b"/a/b.c", "/a/b.c"),
    origin("query", b"/a?b=c&d", "/a", raw=b"/a", query=b"b=c&d"),
    origin("query-empty", b"/a?", "/a", raw=b"/a"),
    origin("query-of-root", b"/?q", "/", raw=b"/", query=b"q"),
    origin("query-with-question", b"/a?b?c", "/a", raw=b"/a", query=b"b?c"),
    origin("query-with-slashes", b"/a?/b/../c", "/a", raw=b"/a", query=b"/b/../c"),
    origin("query-not-decoded", b"/a?%41=%zz+%00", "/a", raw=b"/a", query=b"%41=%zz+%00"),
    origin("query-with-percent-question", b"/a%3Fb?c", "/a?b", raw=b"/a%3Fb", query=b"c"),
    origin("two-slashes-first", b"//a/b", "//a/b"),
    origin("two-slashes-looks-like-host", b"//example.com/", "//example.com/"),
    origin("dots-kept", b"/a/../b/./c", "/a/../b/./c"),
    origin("encoded-dots-kept", b"/a/%2e%2E/b", "/a/../b"),
    origin("looks-absolute", b"/http://y/", "/http://y/"),
    origin("colon", b"/a:80", "/a:80"),
    origin("at", b"/@a:b@c", "/@a:b@c"),
    origin("sub-delims", b"/!$&'()*+,;=:@-._~", "/!$&'()*+,;=:@-._~"),
    origin("plus-kept", b"/a+b", "/a+b", pins="head.path-decoded head.raw-path"),
    origin("semicolon-kept", b"/a;v=1", "/a;v=1"),
    origin("asterisk-in-path", b"/*", "/*"),
    origin("long", b"/" + b"a" * 500, "/" + "a" * 500),
    # ------------------------------------------------------------------------------- percent-decoding
    decoded("ascii", b"/%41%7a", "/Az"),
    decoded("space", b"/a%20b", "/a b"),
    decoded("slash", b"/a%2Fb%2fc", "/a/b/c"),
    decoded("percent", b"/100%25", "/100%"),
    decoded("once-only", b"/%2541", "/%41"),
    decoded("nul", b"/a%00b", "/a\x00b"),
    decoded("crlf", b"/a%0D%0Ab", "/a\r\nb"),
    decoded("fragment-mark", b"/a%23b", "/a#b"),
    decoded("two-bytes", b"/%C3%A9", "/é"),
    decoded("three-bytes", b"/%E2%82%AC", "/€"),
    decoded("four-bytes", b"/%F0%9F%98%80", "/\U0001f600"),
    decoded("lower-case-digits", b"/%e6%9d%b1%e4%ba%ac", "/東京"),
    decoded("invalid-ff", b"/%FF", "/\ufffd"),
    decoded("invalid-continuation", b"/%80a", "/\ufffda"),
    decoded("invalid-cut-short", b"/%E2%82", "/\ufffd"),
    decoded("invalid-cut-by-ascii", b"/%C3(", "/\ufffd("),
    decoded("invalid-overlong", b"/%C0%AF", "/\ufffd\ufffd"),
    decoded("invalid-surrogate", b"/%ED%A0%80", "/\ufffd\ufffd\ufffd"),
    decoded("invalid-too-big", b"/%F4%90%80%80", "/\ufffd\ufffd\ufffd\ufffd"),
    decoded("invalid-then-valid", b"/%FF%C3%A9", "/\ufffdé"),
    decoded("not-hex", b"/%zz", "/%zz"),
    decoded("not-hex-second", b"/%4z", "/%4z"),
    decoded("not-hex-first", b"/%z4", "/%z4"),
    decoded("percent-at-end", b"/a%", "/a%"),
    decoded("percent-digit-at-end", b"/a%4", "/a%4"),
    decoded("percent-percent", b"/%%41", "/%A"),
    decoded("percent-not-joined", b"/%2%35", "/%25"),
    decoded("percent-u", b"/%u0041", "/%u0041"),
    decoded("not-hex-beside-utf-8", b"/%zz%C3%A9%", "/%zzé%"),
    decoded("plus-encoded", b"/a%2Bb", "/a+b"),
    # ------------------------------------------------------------------------------- absolute-form
    absolute("path", b"http://y/p", b"y", "/p", raw=b"/p"),
    absolute("port-and-query", b"http://y:81/p/q?r=s", b"y:81", "/p/q", raw=b"/p/q", query=b"r=s"),
    absolute("no-path", b"http://y", b"y", "/"),
    absolute("no-path-port", b"http://y:81", b"y:81", "/"),
    absolute("no-path-query", b"http://y?r=s", b"y", "/", query=b"r=s"),
    absolute("root", b"http://y/", b"y", "/", raw=b"/"),
    absolute("ipv6", b"http://[::1]:8000/p", b"[::1]:8000", "/p", raw=b"/p"),
    absolute("ipv6-no-path", b"http://[2001:db8::1]", b"[2001:db8::1]", "/"),
    absolute("upper-case-scheme", b"HTTP://y/p", b"y", "/p", raw=b"/p"),
    absolute("decoded", b"http://y/%41%zz%FF", b"y", "/A%zz\ufffd", raw=b"/%41%zz%FF"),
    absolute("slashes-in-path", b"http://y//p", b"y", "//p", raw=b"//p"),
    absolute("url-in-query", b"http://y/p?http://z/", b"y", "/p", raw=b"/p", query=b"http://z/"),
    case("target-absolute-same-host", "head.target-absolute", "9112 3.2.2", get(b"http://x/p", host=b"x"),
         Seen(target=b"http://x/p", path="/p", raw_path=b"/p", query=b"")),
    case("target-absolute-options", "head.target-absolute", "9112 3.2.2",
         get(b"http://y/p", b"OPTIONS", host=b"ignored"),
         Seen("OPTIONS", b"http://y/p", headers=((b"host", b"y"),), path="/p")),
    case("target-absolute-http10", "head.target-absolute", "9112 3.2.2",
         head(start=b"GET http://y/p HTTP/1.0", host=None),
         Seen(target=b"http://y/p", version="1.0", headers=None, path="/p"), closes=True),
    case("target-absolute-host-in-place", "head.target-absolute head.order", "9112 3.2.2",
         head(b"A: b", b"Host: ignored", b"C: d", start=b"GET http://y/p HTTP/1.1", host=None),
         Seen(target=b"http://y/p", headers=((b"a", b"b"), (b"host", b"y"), (b"c", b"d")), path="/p")),
    bad("absolute-userinfo", b"http://user:secret@y/p", "head.target-absolute"),
    bad("absolute-userinfo-empty", b"http://@y/p", "head.target-absolute"),
    bad("absolute-no-host", b"http:///p", "head.target-absolute"),
    bad("absolute-empty", b"http://", "head.target-absolute"),
    bad("absolute-only-port", b"http://:80/", "head.target-absolute"),
    bad("absolute-fragment", b"http://y/p#f", "head.target-bad head.target-absolute"),
    bad("absolute-bad-port", b"http://y:a/", "head.target-absolute"),
    bad("absolute-open-bracket", b"http://[::1/", "head.target-absolute"),
    bad("absolute-one-slash", b"http:/y/p", "head.target-bad head.target-absolute"),
    bad("absolute-no-slash", b"http:y", "head.target-bad head.target-absolute"),
    bad("absolute-high-byte-in-host", b"http://\xc3\xa9/", "head.target-bad head.target-absolute"),
    # ------------------------------------------------------------------------------- authority-form, asterisk-form
    bad("authority-get", b"example.com:80", "head.target-authority"),
    bad("authority-post", b"example.com:80", "head.target-authority", b"POST"),
    bad("authority-options", b"example.com:80", "head.target-authority", b"OPTIONS"),
    bad("authority-ipv6", b"[::1]:80", "head.target-authority"),
    bad("authority-host-alone", b"example.com", "head.target-authority"),
    case("target-asterisk-options", "head.target-asterisk", "9112 3.2.4", get(b"*", b"OPTIONS"),
         Seen("OPTIONS", b"*", path="*", raw_path=b"*", query=b"")),
    bad("asterisk-get", b"*", "head.target-asterisk"),
    bad("asterisk-post", b"*", "head.target-asterisk", b"POST"),
    bad("asterisk-head", b"*", "head.target-asterisk", b"HEAD"),
    bad("asterisk-lower-case-options", b"*", "head.target-asterisk", b"optionsx"),
    bad("asterisk-twice", b"**", "head.target-asterisk", b"OPTIONS"),
    bad("asterisk-path", b"*/a", "head.target-asterisk", b"OPTIONS"),
    bad("asterisk-query", b"*?a", "head.target-asterisk", b"OPTIONS"),
    # ------------------------------------------------------------------------------- what is no target
    bad("relative", b"a/b"),
    bad("relative-dot", b"./a"),
    bad("relative-query", b"?a=b"),
    bad("relative-percent", b"%2Fa"),
    bad("backslash-first", b"\\a"),
    bad("empty", b""),
    bad("fragment", b"/a#b"),
    bad("fragment-empty", b"/a#"),
    bad("fragment-in-query", b"/a?b#c"),
    bad("fragment-only", b"#a"),
    bad("nul", b"/a\x00b"),
    bad("nul-in-query", b"/a?\x00"),
    bad("nul-first", b"\x00/a"),
    bad("space", b"/a b"),
    bad("space-in-query", b"/a?b c"),
    bad("tab", b"/a\tb"),
    bad("vertical-tab", b"/a\x0bb"),
    bad("form-feed", b"/a\x0cb"),
    bad("escape", b"/a\x1bb"),
    bad("delete", b"/a\x7fb"),
    bad("raw-utf-8", "/é".encode()),
    bad("raw-utf-8-in-query", "/a?é".encode()),
    bad("raw-high-byte", b"/\xff"),
    bad("raw-high-first", b"\xff"),
    bad("raw-nbsp", b"/a\xa0b"),
    *(
        case(f"request-line-{name}", "head.target-bad", "9112 3", head(start=line), refused=400)
        for name, line in [
            ("two-spaces-before-target", b"GET  / HTTP/1.1"),
            ("two-spaces-before-version", b"GET /  HTTP/1.1"),
            ("tab-before-version", b"GET /\tHTTP/1.1"),
            ("space-at-end", b"GET / HTTP/1.1 "),
            ("tab-at-end", b"GET / HTTP/1.1\t"),
            ("four-words", b"GET / HTTP/1.1 HTTP/1.1"),
            ("nbsp-before-version", b"GET /\xa0HTTP/1.1"),
        ]
    ),
]  # fmt: skip
