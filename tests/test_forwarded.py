"""X-Forwarded-* and Forwarded: who is believed, and what comes of it. The cases are in `forwarded_cases.py`."""

import ipaddress

import pytest
from drive import hello, request, serving
from forwarded_cases import CASES, EVERYTHING, PROXY, SERVER, TRUSTED, Hop
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fastasgi._forwarded import DEFAULT_FIELDS, Forwarder, TrustedPeers

UNKNOWN = ("unknown", 0)


def app_of(scopes):
    async def app(scope, receive, send):
        scopes.append(scope)
        await hello(scope, receive, send)

    return app


def head_of(lines, target="/x"):
    return request(target=target, headers=tuple(lines))


def check(hop, scope):
    """The scope says what the case says."""
    assert scope["client"] == hop.client
    assert scope["scheme"] == hop.scheme
    assert scope["server"] == (hop.server or hop.local)
    assert [value for name, value in scope["headers"] if name == b"host"] == [hop.host.encode()]
    assert (scope["root_path"], scope["path"], scope["raw_path"]) == (
        hop.root_path,
        hop.root_path + "/x",
        b"/x",
    )
    if scope["client"] is not None:
        host, port = scope["client"]
        assert type(host) is str and type(port) is (int if hop.client[1] is not None else type(None))


@pytest.mark.pins("proxies.rules")
@pytest.mark.parametrize("hop", CASES, ids=str)
async def test_cases(hop):
    """Each case on a connection of its own, twice: the second time its values are remembered."""
    scopes = []
    options = {"forwarded_allow_ips": hop.trusted, "forwarded_fields": hop.fields}
    async with serving(app_of(scopes), **options) as bench:
        peer = bench.connect(client=hop.peer, server=hop.local)
        for _ in range(3):
            peer.feed(head_of(hop.lines))
            await peer.answer()
            peer.forget()
    for scope in scopes:
        check(hop, scope)
        sent = [line.partition(":") for line in hop.lines]
        shown = [(name.lower().encode(), value.strip(" \t").encode("latin-1")) for name, _, value in sent]
        others = [pair for pair in scope["headers"] if pair[0] != b"host"]
        assert others == shown  # the fields themselves stay as they came
    assert len(scopes) == 3


def test_case_names_are_unique():
    names = [(hop.name, tuple(hop.lines), hop.trusted, hop.peer) for hop in CASES]
    assert len(names) == len(set(names))


# --- the option and the connection --------------------------------------------------------------


async def scope_of(lines, *, peer=PROXY, server=SERVER, scheme=None, target="/x", **options):
    scopes = []
    async with serving(app_of(scopes), **options) as bench:
        await bench.connect(client=peer, server=server, scheme=scheme).answer(data=head_of(lines, target))
    return scopes[0]


@pytest.mark.pins("proxies.defaults")
@pytest.mark.parametrize("peer", [("127.0.0.1", 1), ("::1", 1)])
async def test_the_loopback_is_trusted_by_default(peer):
    lines = ["X-Forwarded-For: 192.0.2.1", "X-Forwarded-Proto: https", "X-Forwarded-Host: a.example"]
    scope = await scope_of(lines, peer=peer)
    assert (scope["client"], scope["scheme"]) == (("192.0.2.1", 0), "https")
    assert dict(scope["headers"])[b"host"] == b"example.com"  # proxies pass this field as the client sent it


@pytest.mark.pins("proxies.defaults")
@pytest.mark.parametrize("peer", [("127.0.0.2", 1), ("10.0.0.1", 1), None])
async def test_nobody_else_is(peer):
    scope = await scope_of(["X-Forwarded-For: 192.0.2.1", "X-Forwarded-Proto: https"], peer=peer)
    assert (scope["client"], scope["scheme"]) == (peer, "http")


@pytest.mark.pins("proxies.defaults")
async def test_proxy_headers_can_be_switched_off():
    scope = await scope_of(["X-Forwarded-For: 192.0.2.1"], proxy_headers=False, forwarded_allow_ips="*")
    assert scope["client"] == PROXY


async def test_a_scheme_of_the_connection_gives_way():
    assert (await scope_of(["X-Forwarded-Proto: http"], scheme="https"))["scheme"] == "http"
    assert (await scope_of(["X-Forwarded-Proto: x"], scheme="https"))["scheme"] == "https"


async def test_a_prefix_takes_the_place_of_root_path():
    options = {"root_path": "/app", "forwarded_fields": EVERYTHING}
    scope = await scope_of(["X-Forwarded-Prefix: /outer"], **options)
    assert (scope["root_path"], scope["path"], scope["raw_path"]) == ("/outer", "/outer/x", b"/x")
    scope = await scope_of(["X-Forwarded-Prefix: //evil"], **options)
    assert (scope["root_path"], scope["path"]) == ("/app", "/app/x")


async def test_a_host_is_added_where_http10_lacks_one():
    scopes = []
    async with serving(app_of(scopes), forwarded_fields=EVERYTHING) as bench:
        peer = bench.connect()
        await peer.answer(data=b"GET /x HTTP/1.0\r\nX-Forwarded-Host: a.example\r\n\r\n")
    assert scopes[0]["headers"] == [(b"x-forwarded-host", b"a.example"), (b"host", b"a.example")]


async def test_requests_of_one_connection_are_told_apart():
    """A proxy's connection carries requests of many clients, and of none."""
    scopes = []
    async with serving(app_of(scopes)) as bench:
        peer = bench.connect()
        for line in [
            "X-Forwarded-For: 192.0.2.1",
            "X-A: 1",
            "X-Forwarded-For: 192.0.2.2",
            "X-Forwarded-For: 192.0.2.1",
        ]:
            await peer.answer(data=head_of([line]))
            peer.forget()
    assert [scope["client"][0] for scope in scopes] == ["192.0.2.1", "127.0.0.1", "192.0.2.2", "192.0.2.1"]


async def test_many_values_displace_each_other():
    scopes = []
    addresses = [f"192.0.{i // 256}.{i % 256}" for i in range(700)] * 2
    async with serving(app_of(scopes)) as bench:
        peer = bench.connect()
        for address in addresses:
            await peer.answer(
                data=head_of([f"X-Forwarded-For: {address}, 10.0.0.1", f"X-Forwarded-Host: {address}"])
            )
            peer.forget()
    assert [scope["client"][0] for scope in scopes] == ["10.0.0.1"] * len(addresses)
    scopes.clear()
    options = {"forwarded_allow_ips": "127.0.0.1, 10.0.0.1", "forwarded_fields": EVERYTHING}
    async with serving(app_of(scopes), **options) as bench:
        peer = bench.connect()
        for address in addresses:
            await peer.answer(
                data=head_of([f"X-Forwarded-For: {address}, 10.0.0.1", f"X-Forwarded-Host: {address}"])
            )
            peer.forget()
    assert [scope["client"][0] for scope in scopes] == addresses
    assert [dict(scope["headers"])[b"host"].decode() for scope in scopes] == addresses


async def test_nothing_is_shared_between_requests():
    scopes = []
    async with serving(app_of(scopes), forwarded_fields=EVERYTHING) as bench:
        peer = bench.connect()
        for _ in range(3):
            await peer.answer(data=head_of(["X-Forwarded-For: 192.0.2.1", "X-Forwarded-Host: a.example"]))
            peer.forget()
            scopes[-1]["headers"].clear()
            scopes[-1]["client"] = None
    assert [len(scope["headers"]) for scope in scopes] == [0, 0, 0]


@pytest.mark.pins("proxies.access")
async def test_access_lines_name_the_client(tmp_path):
    from fastasgi._access import AccessLog
    from fastasgi._http1 import Http1
    from fastasgi._memory import MemoryChannel
    from fastasgi._runtime import Runtime
    from fastasgi.config import Config

    config = Config(hello, log_config=None)
    config.load()
    import asyncio

    loop = asyncio.get_running_loop()
    with open(tmp_path / "log", "wb") as file:
        log = AccessLog(loop, file.fileno())
        runtime = Runtime(config, hello, loop, handler_factory=Http1, access=log)
        runtime.tick()
        channel = MemoryChannel(runtime)
        for line in [
            "X-Forwarded-For: [2001:db8::1]:99",
            "X-A: 1",
            "X-Forwarded-For: <b>",
            "Forwarded: for=_x",
        ]:
            channel.feed(head_of([line]))
            await asyncio.sleep(0)
        channel.lost()
        runtime.flush_access_log()
    lines = (tmp_path / "log").read_text().splitlines()
    assert [line.partition(" - ")[0] for line in lines] == [
        "2001:db8::1:99",
        "127.0.0.1:50000",
        "unknown:0",
        "_x:0",
    ]


@pytest.mark.pins("proxies.underscores")
@pytest.mark.parametrize(
    "name",
    [
        "X_Forwarded_For",
        "X-Forwarded_For",
        "x_forwarded-proto",
        "X_Forwarded_Host",
        "X_FORWARDED_PORT",
        "X-Forwarded_Prefix",
        "X_Real_IP",
    ],
)
async def test_imitations_are_dropped(name):
    """An application that maps '-' to '_' could not tell them from the proxy's own."""
    scope = await scope_of([f"{name}: 192.0.2.1"], peer=("203.0.113.5", 1))
    assert [pair[0] for pair in scope["headers"]] == [b"host"]


# --- the sets of peers --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "127.0.0.1",
        "127.0.0.1,::1",
        "10.0.0.0/8, unix",
        "*",
        "",
        "/run/a.sock",
        "localhost",
        "a/b",
        ["::1", " 10.1.1.1 "],
        None,
    ],
)
def test_sets_of_peers(text):
    assert isinstance(TrustedPeers(text).trusts(("192.0.2.1", 1)), bool)


@pytest.mark.parametrize(
    "text",
    ["10.0.0.1/8", "10.0.0.0/33", "10.0.0", "1.2.3.4.5", "::g", "::1/129", "fe80::1%eth0", "10.0.0.0/x"],
)
def test_misspelt_peers_are_refused(text):
    with pytest.raises(ValueError, match=r"address|zone"):
        TrustedPeers(["127.0.0.1", text])


def test_only_known_fields_can_be_believed():
    with pytest.raises(ValueError, match=r"'by' is none of for, proto, host, port, prefix"):
        Forwarder(TrustedPeers("*"), ["by"])
    assert set(DEFAULT_FIELDS) <= set(EVERYTHING)


ADDRESSES = st.one_of(
    st.ip_addresses(), st.ip_addresses(v=6, network="::ffff:0:0/96"), st.ip_addresses(v=6, network="::/96")
)


def plain(address):
    """An address without the IPv6 around IPv4."""
    return getattr(address, "ipv4_mapped", None) or address


@given(ADDRESSES, st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)), st.integers(0, 128))
def test_networks_are_those_of_the_standard_library(address, base, bits):
    network = ipaddress.ip_network((base, min(bits, base.max_prefixlen)), strict=False)
    if network.version == 6 and network.network_address.ipv4_mapped is not None and network.prefixlen >= 96:
        network = ipaddress.ip_network((network.network_address.ipv4_mapped, network.prefixlen - 96))
    assert TrustedPeers([str(network)]).trusts((str(address), 1)) == (plain(address) in network)


def client_of(value, *, name=b"x-forwarded-for", trusted=TRUSTED):
    scope = {"type": "http", "client": PROXY, "server": SERVER, "path": "/", "headers": [(name, value)]}
    Forwarder(TrustedPeers(trusted)).forward(scope)
    return scope["client"]


@given(ADDRESSES)
def test_addresses_are_written_in_one_way(address):
    wanted = str(plain(address))
    for text in {str(address), address.exploded, address.exploded.upper()}:
        assert client_of(text.encode(), trusted="127.0.0.1/32") == (wanted, 0)


@given(st.text("0123456789abf:.", max_size=24))
@example("1:2:3:4:5:6::1.2.3.4")
@example("1:2:3:4:5:6:7::")
@example("::")
@example(":::")
def test_what_is_an_address_is_one_for_the_standard_library(text):
    try:
        wanted = str(plain(ipaddress.ip_address(text)))
    except ValueError:
        wanted = None
    value = f"[{text}]" if ":" in text else text
    assert client_of(value.encode(), trusted="127.0.0.1/32") == (
        PROXY if not text else (wanted or "unknown", 0)
    )


# --- any bytes ----------------------------------------------------------------------------------

NAMES = st.sampled_from(
    [
        b"x-forwarded-for",
        b"x-forwarded-proto",
        b"x-forwarded-host",
        b"x-forwarded-port",
        b"x-forwarded-prefix",
        b"forwarded",
        b"x-a",
    ]
)
WORDS = st.sampled_from(
    [
        "192.0.2.1",
        "10.0.0.1",
        "127.0.0.1",
        "[::1]",
        ":80",
        "for=",
        "proto=https",
        "host=",
        '"',
        "\\",
        ";",
        ",",
        " ",
        "unknown",
        "_a",
        "/p",
        "//",
        "a.example",
        "https",
        "443",
        "\xe9",
        "%2e",
        "unix:",
    ]
)
VALUES = st.lists(WORDS, max_size=10).map(lambda words: "".join(words).encode("latin-1")) | st.binary(
    max_size=40
)
HEADERS = st.lists(st.tuples(NAMES, VALUES), max_size=6)


def scope_with(headers, client):
    return {
        "type": "http",
        "scheme": "http",
        "client": client,
        "server": SERVER,
        "path": "/x",
        "root_path": "",
        "headers": [(b"host", b"example.com"), *headers],
    }


@pytest.mark.pins("proxies.any-bytes")
@given(HEADERS, st.sampled_from([TRUSTED, "*", "unix,127.0.0.1"]))
@settings(max_examples=400)
def test_any_bytes_give_a_proper_scope(headers, trusted):
    """No exception; the types of ASGI; and what an application may believe without harm."""
    scope = scope_with(headers, PROXY)
    Forwarder(TrustedPeers(trusted), EVERYTHING).forward(scope)
    host, port = scope["client"]
    assert type(host) is str and host.isascii() and host.isprintable() and 0 < len(host) <= 64
    assert type(port) is int and 0 <= port <= 65535
    assert scope["scheme"] in ("http", "https")
    assert type(scope["server"][1]) is int and 0 < scope["server"][1] <= 65535
    assert scope["root_path"] == "" or (scope["root_path"][0] == "/" and scope["root_path"][1] not in "/\\")
    assert scope["path"] == scope["root_path"] + "/x"
    assert len(scope["headers"]) == len(headers) + 1
    assert [name for name, value in scope["headers"]].count(b"host") == 1


@pytest.mark.pins("proxies.strangers")
@given(HEADERS, st.sampled_from([("203.0.113.5", 1), ("2001:db8:2::1", 1), ("name", 1), None]))
def test_strangers_change_nothing(headers, client):
    scope = scope_with(headers, client)
    before = {**scope, "headers": list(scope["headers"])}
    Forwarder(TrustedPeers(TRUSTED), EVERYTHING).forward(scope)
    assert scope == before


@pytest.mark.pins("proxies.left")
@given(st.sampled_from([b"x-forwarded-for", b"forwarded"]), VALUES, st.booleans(), ADDRESSES)
@settings(max_examples=300)
def test_what_a_client_makes_up_changes_nothing(name, made_up, own_line, address):
    """Whatever stands left of what a trusted proxy has appended: the client is who the proxy says."""
    address = plain(address)
    if TrustedPeers(TRUSTED).trusts((str(address), 0)):
        return  # then the walk goes on to the left, as it must
    text = f"[{address}]" if address.version == 6 else str(address)
    added = text.encode() if name != b"forwarded" else b'for="%b"' % text.encode()
    headers = [(name, made_up), (name, added)] if own_line else [(name, made_up + b", " + added)]
    scope = scope_with(headers, PROXY)
    Forwarder(TrustedPeers(TRUSTED)).forward(scope)
    assert scope["client"] == (str(address), 0)


@pytest.mark.pins("proxies.splits")
@given(HEADERS, st.randoms(use_true_random=False))
@settings(max_examples=60)
def test_the_result_does_not_depend_on_cuts(headers, rng):
    """The same bytes to the whole engine, cut anywhere; remembered or not."""
    import asyncio

    lines = [
        f"{name.decode()}: {value.decode('latin-1')}"
        for name, value in headers
        if not any((byte < 32 and byte != 9) or byte == 127 for byte in value)
    ]
    data = head_of(lines)
    cuts = sorted(rng.sample(range(1, len(data)), 3))
    pieces = [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)])]

    async def run():
        scopes = []
        async with serving(app_of(scopes), forwarded_fields=EVERYTHING, forwarded_allow_ips=TRUSTED) as bench:
            for chunks in ([data], pieces, [data, data]):
                peer = bench.connect()
                for chunk in chunks:
                    peer.feed(chunk)
                await peer.several(1 + (chunks == [data, data]))
        return scopes

    shown = [{key: value for key, value in scope.items() if key != "asgi"} for scope in asyncio.run(run())]
    assert len(shown) == 4 and shown[1:] == shown[:1] * 3


def test_a_long_list_takes_no_long_time():
    """As long as a head may be; each element is looked at once."""
    value = b",".join([b"10.0.0.1"] * 7000)
    assert client_of(value) == ("10.0.0.1", 0)
    assert client_of(b'for="' + b"\\" * 60000 + b'"', name=b"forwarded") == UNKNOWN
    assert client_of(b'"\\' * 30000, name=b"forwarded") == UNKNOWN


def test_websocket_scopes_have_their_own_schemes():
    for word, scheme in [("http", "ws"), ("https", "wss"), ("ws", "ws"), ("wss", "wss"), ("x", "ws")]:
        scope = {
            **scope_with([(b"x-forwarded-proto", word.encode())], PROXY),
            "type": "websocket",
            "scheme": "ws",
        }
        Forwarder(TrustedPeers(TRUSTED)).forward(scope)
        assert scope["scheme"] == scheme


def test_a_case_can_fail():
    """`check` sees a difference: a check that sees none would pass everything."""
    scope = {**scope_with([], PROXY), "raw_path": b"/x"}
    check(Hop("as it is", []), scope)
    with pytest.raises(AssertionError):
        check(Hop("another", [], client=("192.0.2.1", 0)), scope)
