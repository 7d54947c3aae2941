"""What proxies send, and what must come of it: data for `test_forwarded.py`.

A `Hop` is one request whose peer is `peer`, with header lines as they stand on the wire. `TRUSTED` are the peers that
are believed where a case does not say otherwise: the loopback, a private network, and Unix sockets.
"""

from dataclasses import dataclass

TRUSTED = "127.0.0.1, ::1, 10.0.0.0/8, 2001:db8:1::/48"
PROXY = ("127.0.0.1", 50000)
SERVER = ("127.0.0.1", 8000)
EVERYTHING = ("for", "proto", "host", "port", "prefix")


@dataclass
class Hop:
    """One request of a proxy. What is left out must be as if no proxy had said anything."""

    name: str
    lines: list[str]
    client: tuple | None = PROXY
    scheme: str = "http"
    host: str = "example.com"
    server: tuple | None = None  # the same as `local`
    root_path: str = ""
    peer: tuple | None = PROXY
    local: tuple = SERVER
    trusted: str = TRUSTED
    fields: tuple = EVERYTHING

    def __str__(self) -> str:
        return self.name


def xff(name: str, value: str, host: str, port: int = 0, **more) -> Hop:
    """X-Forwarded-For alone."""
    return Hop(name, [f"X-Forwarded-For: {value}"], (host, port), **more)


def rfc(name: str, value: str, host: str, port: int = 0, **more) -> Hop:
    """Forwarded alone."""
    return Hop(name, [f"Forwarded: {value}"], (host, port), **more)


FOR = [
    xff("one address", "192.0.2.1", "192.0.2.1"),
    xff("with a port", "192.0.2.1:4711", "192.0.2.1", 4711),
    xff("IPv6", "2001:db8::7", "2001:db8::7"),
    xff("IPv6 in brackets", "[2001:db8::7]", "2001:db8::7"),
    xff("IPv6 with a port", "[2001:db8::7]:4711", "2001:db8::7", 4711),
    xff("one text for an address", "2001:0DB8:0:0::0007", "2001:db8::7"),
    xff("IPv4 within IPv6 is IPv4", "::ffff:192.0.2.1", "192.0.2.1"),
    xff("the first from the right", "198.51.100.9, 192.0.2.1", "192.0.2.1"),
    xff("behind those that are trusted", "198.51.100.9, 192.0.2.1, 10.1.2.3, 10.0.0.1", "192.0.2.1"),
    xff("trusted although mapped", "192.0.2.1, ::ffff:10.1.2.3", "192.0.2.1"),
    xff("trusted with a port", "192.0.2.1, 10.1.2.3:99", "192.0.2.1"),
    xff("trusted IPv6 network", "192.0.2.1, 2001:db8:1:2::3", "192.0.2.1"),
    xff("all are trusted: the first", "10.0.0.9, 10.0.0.8", "10.0.0.9"),
    xff("tabs and blanks", "\t192.0.2.1 \t,\t10.0.0.1 ", "192.0.2.1"),
    xff("empty elements", ",192.0.2.1,, ,", "192.0.2.1"),
    Hop("nothing said", ["X-Forwarded-For:"]),
    Hop("only commas", ["X-Forwarded-For: , ,"]),
    Hop(
        "several lines",
        ["X-Forwarded-For: 198.51.100.9", "X-Forwarded-For: 192.0.2.1, 10.0.0.1"],
        ("192.0.2.1", 0),
    ),
    Hop(
        "lines between others",
        ["X-Forwarded-For: 192.0.2.1", "X-A: 1", "x-forwarded-for: 10.0.0.1"],
        ("192.0.2.1", 0),
    ),
    Hop("an empty last line", ["X-Forwarded-For: 192.0.2.1", "X-Forwarded-For: "], ("192.0.2.1", 0)),
    # what nobody can read, at the place of the client: never the proxy, never somebody further left
    xff("a hidden client", "198.51.100.9, _hidden-1.a", "_hidden-1.a"),
    xff("unknown", "198.51.100.9, unknown", "unknown"),
    xff("unknown with a port", "unknown:80", "unknown", 80),
    xff("a hidden port", "192.0.2.1:_p", "192.0.2.1"),
    xff("garbage", "127.0.0.1, <script>", "unknown"),
    xff("a name", "198.51.100.9, client.example", "unknown"),
    xff("quoted", '"192.0.2.1"', "unknown"),
    xff("a bad port", "192.0.2.1:http", "unknown"),
    xff("a large port", "192.0.2.1:65536", "unknown"),
    xff("an empty port", "192.0.2.1:", "unknown"),
    xff("a bracket too few", "[2001:db8::7", "unknown"),
    xff("something behind the bracket", "[2001:db8::7]x", "unknown"),
    xff("IPv4 in brackets", "[192.0.2.1]", "unknown"),
    xff("leading zeros", "192.0.02.1", "unknown"),
    xff("three octets", "192.0.2", "unknown"),
    xff("a zone", "fe80::1%eth0", "unknown"),
    xff("Latin-1", "\xe9", "unknown"),
    xff("an identifier that is too long", "_" + "a" * 64, "unknown"),
    xff("an underscore alone", "_", "unknown"),
    # garbage further left is not looked at
    xff("garbage left of the client", '"", [[[, 192.0.2.1', "192.0.2.1"),
    # everybody is trusted: the leftmost, as with uvicorn
    xff("everybody", "198.51.100.9, 192.0.2.1", "198.51.100.9", trusted="*"),
    xff("everybody, garbage", "x, 192.0.2.1", "unknown", trusted="*"),
    xff("everybody, any peer", "192.0.2.1", "192.0.2.1", trusted="*", peer=("203.0.113.5", 1)),
    xff("everybody, a peer without a name", "192.0.2.1", "192.0.2.1", trusted="*", peer=None),
]

PEERS = [
    Hop(
        "a stranger",
        [
            "X-Forwarded-For: 192.0.2.1",
            "X-Forwarded-Proto: https",
            "X-Forwarded-Host: a.example",
            "X-Forwarded-Port: 9",
            "X-Forwarded-Prefix: /p",
            "Forwarded: for=192.0.2.2",
        ],
        ("203.0.113.5", 1),
        peer=("203.0.113.5", 1),
    ),
    Hop("nobody is trusted", ["X-Forwarded-For: 192.0.2.1"], trusted=""),
    xff("a trusted network", "192.0.2.1", "192.0.2.1", peer=("10.255.0.1", 1)),
    Hop("next to the network", ["X-Forwarded-For: 192.0.2.1"], ("11.0.0.1", 1), peer=("11.0.0.1", 1)),
    xff("a dual-stack socket's name", "192.0.2.1", "192.0.2.1", peer=("::ffff:127.0.0.1", 1)),
    xff("IPv6 written otherwise", "192.0.2.1", "192.0.2.1", peer=("::1", 1), trusted="0:0::0001"),
    xff("a zone of the peer's", "192.0.2.1", "192.0.2.1", peer=("fe80::1%eth0", 1), trusted="fe80::/10"),
    Hop("all of IPv6 is not IPv4", ["X-Forwarded-For: 192.0.2.1"], trusted="::/0"),
    xff("a name", "192.0.2.1", "192.0.2.1", peer=("testclient", 1), trusted="testclient"),
    Hop("another name", ["X-Forwarded-For: 192.0.2.1"], ("testclient", 1), peer=("testclient", 1)),
]

_UNIX = {"local": ("/run/app.sock", None)}
UNIX = [
    Hop("a Unix peer is not trusted by itself", ["X-Forwarded-For: 192.0.2.1"], None, peer=None, **_UNIX),
    xff("unix", "192.0.2.1", "192.0.2.1", peer=None, trusted="unix", **_UNIX),
    xff(
        "unix, with a name", "192.0.2.1", "192.0.2.1", peer=("/run/proxy.sock", None), trusted="unix", **_UNIX
    ),
    xff(
        "the peer's own path",
        "192.0.2.1",
        "192.0.2.1",
        peer=("/run/proxy.sock", None),
        trusted="/run/proxy.sock",
        **_UNIX,
    ),
    xff("the path of the socket", "192.0.2.1", "192.0.2.1", peer=None, trusted="/run/app.sock", **_UNIX),
    Hop("another path", ["X-Forwarded-For: 192.0.2.1"], None, peer=None, trusted="/run/other.sock", **_UNIX),
    Hop("unix is not everybody", ["X-Forwarded-For: 192.0.2.1"], trusted="unix"),
    xff("a hop over a Unix socket", "192.0.2.1, unix:", "192.0.2.1", peer=None, trusted="unix", **_UNIX),
    xff("the same, not trusted", "192.0.2.1, unix:", "unix:"),
]

PROTO = [
    *(
        Hop(f"proto {word}", [f"X-Forwarded-Proto: {word}"], scheme=scheme)
        for word, scheme in [
            ("http", "http"),
            ("https", "https"),
            ("ws", "http"),
            ("wss", "https"),
            ("HTTPS", "https"),
            ("", "http"),
            ("ftp", "http"),
            ("https:", "http"),
            ("on", "http"),
            ("javascript", "http"),
        ]
    ),
    Hop("a list: our peer's, at the right", ["X-Forwarded-Proto: https, http"]),
    Hop("the same in lines", ["X-Forwarded-Proto: http", "X-Forwarded-Proto: https"], scheme="https"),
    Hop(
        "one for each hop: the client's",
        ["X-Forwarded-For: 192.0.2.1, 10.0.0.1", "X-Forwarded-Proto: https, http"],
        ("192.0.2.1", 0),
        "https",
    ),
    Hop(
        "made up by the client",
        ["X-Forwarded-For: 10.0.0.1, 192.0.2.1", "X-Forwarded-Proto: https, http"],
        ("192.0.2.1", 0),
        "http",
    ),
    Hop(
        "more than hops",
        ["X-Forwarded-For: 192.0.2.1, 10.0.0.1", "X-Forwarded-Proto: https, https, http"],
        ("192.0.2.1", 0),
        "http",
    ),
    Hop(
        "not believed",
        ["X-Forwarded-For: 192.0.2.1", "X-Forwarded-Proto: https"],
        ("192.0.2.1", 0),
        fields=("for",),
    ),
]

HOSTS = [
    Hop("host", ["X-Forwarded-Host: a.example"], host="a.example", server=("a.example", 80)),
    Hop(
        "host with a port",
        ["X-Forwarded-Host: a.example:8443"],
        host="a.example:8443",
        server=("a.example", 8443),
    ),
    Hop(
        "host and scheme",
        ["X-Forwarded-Host: a.example", "X-Forwarded-Proto: https"],
        host="a.example",
        server=("a.example", 443),
        scheme="https",
    ),
    Hop(
        "host and port",
        ["X-Forwarded-Host: a.example", "X-Forwarded-Port: 8443"],
        host="a.example",
        server=("a.example", 8443),
    ),
    Hop("IPv6", ["X-Forwarded-Host: [2001:db8::1]:81"], host="[2001:db8::1]:81", server=("2001:db8::1", 81)),
    Hop(
        "IPv6 without a port",
        ["X-Forwarded-Host: [2001:db8::1]"],
        host="[2001:db8::1]",
        server=("2001:db8::1", 80),
    ),
    Hop(
        "a list: our peer's",
        ["X-Forwarded-Host: evil.example, a.example"],
        host="a.example",
        server=("a.example", 80),
    ),
    Hop("no host", ["X-Forwarded-Host:"]),
    Hop("a path", ["X-Forwarded-Host: a.example/x"]),
    Hop("a blank", ["X-Forwarded-Host: a example"]),
    Hop("a user", ["X-Forwarded-Host: user@a.example"]),
    Hop("quotation marks", ['X-Forwarded-Host: "a.example"']),
    Hop("only a port", ["X-Forwarded-Host: :80"]),
    Hop(
        "a bad host, and a port", ["X-Forwarded-Host: a/b", "X-Forwarded-Port: 81"], server=("127.0.0.1", 81)
    ),
    Hop(
        "over a Unix socket",
        ["X-Forwarded-Host: a.example"],
        None,
        host="a.example",
        server=("a.example", 80),
        peer=None,
        trusted="unix",
        **_UNIX,
    ),
    Hop(
        "not believed by itself",
        [
            "X-Forwarded-Host: evil.example",
            "X-Forwarded-Port: 9",
            "X-Forwarded-Prefix: /evil",
            "Forwarded: host=evil.example",
        ],
        fields=("for", "proto"),
    ),
]

PORTS = [
    *(
        Hop(f"port {text}", [f"X-Forwarded-Port: {text}"], server=("127.0.0.1", port))
        for text, port in [
            ("443", 443),
            ("65535", 65535),
            ("1", 1),
            ("0", 8000),
            ("65536", 8000),
            ("-1", 8000),
            ("", 8000),
            ("x", 8000),
            ("443, 81", 81),
            ("000443", 8000),
        ]
    ),
    Hop(
        "a port says nothing of a Unix socket",
        ["X-Forwarded-Port: 443"],
        None,
        peer=None,
        trusted="unix",
        **_UNIX,
    ),
]

PREFIXES = [
    *(
        Hop(f"prefix {text!r}", [f"X-Forwarded-Prefix: {text}"], root_path=root_path)
        for text, root_path in [
            ("/api", "/api"),
            ("/api/", "/api"),
            ("/a/b-c_d.e~f", "/a/b-c_d.e~f"),
            ("/%C3%A9", "/é"),
            ("/", ""),
            ("", ""),
            ("/a, /b", "/b"),
            # an application puts it in front of its links: these would lead elsewhere
            ("//evil.example", ""),
            ("/\\evil.example", ""),
            ("/%5Cevil.example", ""),
            ("/%2Fevil.example", ""),
            ("api", ""),
            ("https://evil.example", ""),
            ("/a//b", ""),
            ("/a/../b", ""),
            ("/./a", ""),
            ("/a?b", ""),
            ("/a#b", ""),
            ("/a%0d%0ab", ""),
            ("/a%00", ""),
            ("/a b", ""),
            ("/%ff", ""),
            ("/\xe9", ""),
        ]
    ),
]

FORWARDED = [
    rfc("one address", "for=192.0.2.1", "192.0.2.1"),
    rfc("names in any case", "FOR=192.0.2.1", "192.0.2.1"),
    rfc("with a port", 'for="192.0.2.1:4711"', "192.0.2.1", 4711),
    rfc("IPv6", 'for="[2001:db8::7]:4711"', "2001:db8::7", 4711),
    rfc("without the marks that it needs", "for=[2001:db8::7]:4711", "2001:db8::7", 4711),
    rfc("the first from the right", "for=198.51.100.9, for=192.0.2.1", "192.0.2.1"),
    rfc("behind those that are trusted", 'for=192.0.2.1, for=10.0.0.1;by=_b, for="10.0.0.2:80"', "192.0.2.1"),
    rfc("all trusted", "for=10.0.0.9, for=10.0.0.8", "10.0.0.9"),
    rfc("hidden", "for=192.0.2.1, for=_SEVKISEK", "_SEVKISEK"),
    rfc("unknown", "for=unknown", "unknown"),
    rfc("empty", 'for=""', "unknown"),
    rfc("unreadable", "for=client.example", "unknown"),
    rfc("extensions", 'for=192.0.2.1;by=203.0.113.43;x="a,b;c=\\"d"', "192.0.2.1"),
    rfc("blanks around", " for=192.0.2.1 ; by=_a ", "192.0.2.1"),
    rfc("empty pairs", ";for=192.0.2.1;;", "192.0.2.1"),
    rfc("everybody", "for=198.51.100.9, for=192.0.2.1", "198.51.100.9", trusted="*"),
    rfc("twice", "for=192.0.2.1;for=192.0.2.2", "unknown"),
    rfc("no value", "for=192.0.2.1, for", "unknown"),
    rfc("no name", "for=192.0.2.1, =10.0.0.1", "unknown"),
    rfc("a blank before the sign", "for =192.0.2.1", "unknown"),
    rfc("a trusted hop that does not say", "for=198.51.100.9, by=_a, for=10.0.0.1", "unknown"),
    Hop("our peer does not say", ["Forwarded: for=192.0.2.1, proto=https"], scheme="https"),
    Hop("nothing", ["Forwarded:"]),
    Hop(
        "lines",
        ["Forwarded: for=192.0.2.1;proto=https", "Forwarded: for=10.0.0.1;proto=http"],
        ("192.0.2.1", 0),
        "https",
    ),
    Hop(
        "what stands beside the client",
        [
            "Forwarded: for=9.9.9.9;host=x, for=192.0.2.1;proto=https;host=a.example, "
            "for=10.0.0.1;proto=http;host=inner"
        ],
        ("192.0.2.1", 0),
        "https",
        "a.example",
        ("a.example", 443),
    ),
    Hop(
        "a quoted host",
        ['Forwarded: for=192.0.2.1;host="a.example:81"'],
        ("192.0.2.1", 0),
        "http",
        "a.example:81",
        ("a.example", 81),
    ),
    Hop("a bad host", ['Forwarded: for=192.0.2.1;host="a/b"'], ("192.0.2.1", 0)),
    Hop(
        "only the scheme is believed",
        ["Forwarded: for=192.0.2.1;proto=https;host=a"],
        scheme="https",
        fields=("proto",),
    ),
    # a client that opens a quotation mark cannot swallow what proxies append
    rfc("a mark that is left open", 'for="x, for=192.0.2.1', "192.0.2.1"),
    rfc("the same before a quoted address", 'for=10.0.0.7;x=", for="[2001:db8::7]:80"', "2001:db8::7", 80),
    rfc("a backslash at the end", 'for=10.0.0.7;x="\\, for="[2001:db8::7]"', "2001:db8::7"),
    rfc("a mark without its partner", 'for=10.0.0.7, for=192.0.2.1"', "unknown"),
    rfc("text behind a mark", 'for=10.0.0.7, for="192.0.2.1"x', "unknown"),
]

BOTH = [
    Hop(
        "X-Forwarded-For has it",
        ["Forwarded: for=192.0.2.1;proto=https", "X-Forwarded-For: 192.0.2.2"],
        ("192.0.2.2", 0),
    ),
    Hop("one of them is enough", ["Forwarded: for=192.0.2.1", "X-Forwarded-Proto: https"], scheme="https"),
    Hop(
        "only if it is believed",
        ["Forwarded: for=192.0.2.1;proto=https", "X-Forwarded-For: 192.0.2.2"],
        scheme="https",
        fields=("proto",),
    ),
    Hop(
        "a port does not count",
        ["Forwarded: for=192.0.2.1", "X-Forwarded-Port: 81"],
        ("192.0.2.1", 0),
        server=("127.0.0.1", 81),
    ),
    Hop(
        "other names",
        [
            "X-Forwarded: for=192.0.2.1",
            "X-Forwarded-Fox: 1",
            "X-Real-IP: 192.0.2.1",
            "Via: 1.1 a",
            "X-Forwarded-Hosp: a",
            "X-Forwarded-Server: b",
            "Forwarders: for=192.0.2.1",
        ],
    ),
]

CASES = [*FOR, *PEERS, *UNIX, *PROTO, *HOSTS, *PORTS, *PREFIXES, *FORWARDED, *BOTH]
