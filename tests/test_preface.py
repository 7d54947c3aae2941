"""The header of the PROXY protocol, versions 1 and 2: what it changes, what is refused, and when it is waited for no
longer."""

import pytest
from drive import DISCONNECT, GET, hello, serving, turn
from hypothesis import given, settings
from hypothesis import strategies as st
from net import IOS, listening
from proxy_lines import BAD, CLIENT, HEADERS, LINE, PROXY, SERVER, SIGNATURE, ipv4, v2
from wire import byte_by_byte, cut_in_two


def noting(scopes):
    async def app(scope, receive, send):
        scopes.append(scope)
        await hello(scope, receive, send)

    return app


def behind(app, **options):
    return serving(app, proxy_protocol=True, **options)


@pytest.mark.pins("proxies.preface")
@pytest.mark.parametrize("name", HEADERS)
async def test_headers_however_they_are_cut(name):
    """Whole, byte by byte, cut at every place; with a request behind it, and with one that comes later."""
    header, client, server = HEADERS[name]
    scopes = []
    data = header + GET
    ways = [[data], [header, GET], byte_by_byte(data), *(pieces for _, pieces in cut_in_two(data))]
    async with behind(noting(scopes)) as bench:
        for pieces in ways:
            peer = bench.connect(client=PROXY, server=SERVER)
            for piece in pieces:
                peer.feed(piece)
            assert (await peer.answer()).status == 200
            peer.lost()
    assert len(scopes) == len(ways)
    for scope in scopes:
        assert (scope["client"], scope["server"]) == (client, server)


@pytest.mark.pins("proxies.preface-bad")
@pytest.mark.parametrize("name", BAD)
async def test_what_is_no_header_is_refused(name, caplog):
    """400 and a close, however it is cut; nothing of it reaches the application."""
    scopes, data = [], BAD[name]
    async with behind(noting(scopes)) as bench:
        for pieces in ([data], byte_by_byte(data), *(pieces for _, pieces in cut_in_two(data))):
            peer = bench.connect(client=PROXY, server=SERVER)
            for piece in pieces:
                peer.feed(piece)
            answer = await peer.answer()
            assert answer.status == 400 and answer.announces_close and peer.closed
            assert answer.body.startswith(b"expected a PROXY protocol header: ")
            peer.feed(GET)  # and nothing that follows
    assert not scopes


@pytest.mark.pins("proxies.preface-strangers")
@pytest.mark.parametrize(
    "data",
    [LINE + GET, GET, v2(0x11, ipv4()) + GET, v2(0x00, command=0x20) + GET],
    ids="v1 none v2 local".split(),
)
@pytest.mark.parametrize("peer", [("203.0.113.5", 1), ("::ffff:203.0.113.5", 1), None])
async def test_strangers_are_refused(data, peer):
    scopes = []
    async with behind(noting(scopes)) as bench:
        stranger = bench.connect(client=peer, server=SERVER)
        answer = await stranger.answer(data=data)
        assert answer.status == 400 and b"forwarded_allow_ips" in answer.body
    assert not scopes


async def test_without_the_option_it_is_a_bad_request():
    async with serving(hello) as bench:
        assert (await bench.connect().answer(data=LINE + GET)).status == 400


@pytest.mark.pins("proxies.preface-trust")
async def test_fields_are_believed_if_the_announced_client_is_trusted():
    """Who speaks behind the header is whom it names: a client that a TCP proxy passes on is no proxy."""
    request = GET[:-2] + b"X-Forwarded-For: 203.0.113.9\r\n\r\n"
    wanted = {
        LINE: CLIENT,
        b"PROXY TCP4 10.0.0.1 10.0.0.2 1 2\r\n": ("203.0.113.9", 0),
        b"PROXY UNKNOWN\r\n": PROXY,
        v2(0x00, b""): PROXY,
        v2(0x00, b"", command=0x20): ("203.0.113.9", 0),  # the proxy itself
    }
    for header, client in wanted.items():
        scopes = []
        async with behind(noting(scopes), forwarded_allow_ips="127.0.0.1, 10.0.0.0/8") as bench:
            await bench.connect(client=PROXY, server=SERVER).answer(data=header + request)
        assert scopes[0]["client"] == client


async def test_header_fields_need_not_be_believed():
    scopes = []
    async with behind(noting(scopes), proxy_headers=False) as bench:
        await bench.connect(client=PROXY).answer(
            data=LINE + GET[:-2] + b"X-Forwarded-For: 203.0.113.9\r\n\r\n"
        )
    assert scopes[0]["client"] == CLIENT


async def test_requests_follow_as_always():
    """Keep-alive, pipelining, bodies: the header is read once, and a second one is a bad request."""
    async with behind(hello) as bench:
        peer = bench.connect()
        peer.feed(LINE + GET * 3)
        await peer.several(3)
        peer.feed(GET)
        await peer.several(4)
        peer.feed(LINE)
        assert [answer.status for answer in await peer.several(5)] == [200] * 4 + [400]


# --- ends and deadlines -------------------------------------------------------------------------


@pytest.mark.pins("proxies.preface-slow")
async def test_a_silent_peer_is_closed():
    async with behind(hello, timeout_first_byte=10) as bench:
        peer = bench.connect()
        await bench.pass_time(9)
        assert peer.state == "open"
        await bench.pass_time(2)
        assert peer.closed and not peer.output


@pytest.mark.pins("proxies.preface-slow")
async def test_a_slow_header_is_closed():
    """Bytes that come one by one earn no time."""
    async with behind(hello, timeout_first_byte=10, timeout_request_head=30) as bench:
        peer = bench.connect()
        for byte in range(29):
            peer.feed(LINE[byte : byte + 1])
            await bench.pass_time(1)
        assert peer.state == "open"
        await bench.pass_time(2)
        assert peer.closed and not peer.output


async def test_the_first_request_has_its_own_time():
    async with behind(hello, timeout_first_byte=10, timeout_request_head=30) as bench:
        peer = bench.connect()
        await bench.pass_time(9)
        peer.feed(LINE)
        await bench.pass_time(9)
        assert (await peer.answer(data=GET)).status == 200


@pytest.mark.parametrize("sent", [b"", LINE[:20], SIGNATURE])
async def test_a_peer_that_ends_is_closed(sent):
    async with behind(hello) as bench:
        peer = bench.connect()
        peer.feed(sent)
        peer.eof()
        assert peer.closed and not peer.output


async def test_a_drain():
    """Silent connections close; half a header may become whole, and its request is the last."""
    async with behind(hello) as bench:
        silent, begun = bench.connect(), bench.connect()
        begun.feed(LINE[:10])
        bench.runtime.drain()
        assert silent.closed and begun.state == "open"
        answer = await begun.answer(data=LINE[10:] + GET)
        assert answer.status == 200 and answer.announces_close and begun.closed


async def test_a_stop_aborts():
    async with behind(hello) as bench:
        peer = bench.connect()
        peer.feed(LINE[:10])
        bench.runtime.disconnect()
        assert peer.aborted


async def test_a_connection_may_be_lost_at_any_place():
    async with behind(hello) as bench:
        for end in range(len(LINE)):
            peer = bench.connect()
            peer.feed(LINE[:end])
            peer.lost()
        await turn(3)
        assert bench.idle


# --- any bytes ----------------------------------------------------------------------------------

PIECES = st.sampled_from(
    [
        b"PROXY ",
        b"TCP4 ",
        b"TCP6 ",
        b"UNKNOWN",
        b"192.0.2.1 ",
        b"::1 ",
        b"1 ",
        b"2",
        b"\r\n",
        b"\n",
        b"\r",
        SIGNATURE,
        b"\x21",
        b"\x20",
        b"\x11",
        b"\x21\x11\x00\x0c",
        b"\x00",
        ipv4(),
        GET,
    ]
)


@pytest.mark.pins("proxies.preface")
@given(
    st.lists(PIECES, min_size=1, max_size=8).map(b"".join) | st.binary(min_size=1, max_size=60),
    st.randoms(use_true_random=False),
)
@settings(max_examples=150)
def test_any_bytes_and_any_cuts_give_the_same(data, rng):
    import asyncio

    cuts = sorted({rng.randrange(len(data)) for _ in range(3)})
    pieces = [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)])]

    async def outcome(chunks):
        scopes = []
        async with behind(noting(scopes), date_header=False) as bench:
            peer = bench.connect(client=PROXY, server=SERVER)
            for chunk in chunks:
                peer.feed(chunk)
            await turn(20)
            return peer.output, peer.state, [(scope["client"], scope["server"]) for scope in scopes]

    assert (
        asyncio.run(outcome([data]))
        == asyncio.run(outcome(pieces))
        == asyncio.run(outcome(byte_by_byte(data)))
    )


# --- real sockets -------------------------------------------------------------------------------


@pytest.mark.pins("proxies.preface")
@pytest.mark.parametrize("io", IOS)
@pytest.mark.parametrize("family", ["tcp", "unix"])
async def test_over_real_sockets(io, family, tmp_path, event_loop_kind):
    scopes = []
    options = {"proxy_protocol": True, "forwarded_allow_ips": "127.0.0.1, unix"}
    async with listening(noting(scopes), io, family=family, path=str(tmp_path / "s"), **options) as net:
        for header, client, server in HEADERS.values():
            del scopes[:]
            peer = await net.dial()
            assert (await peer.answer(data=header + GET)).status == 200
            if client != PROXY and server != SERVER:
                assert (scopes[0]["client"], scopes[0]["server"]) == (client, server)
            assert (await peer.answer(data=GET)).status == 200
        refused = await net.dial()
        assert (await refused.answer(data=GET)).status == 400


@pytest.mark.parametrize("io", IOS)
async def test_a_large_body_behind_the_header(io):
    """What comes with the header, and what comes behind it, is one body."""
    from drive import echo

    body = bytes(range(256)) * 4096
    head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(body)
    async with listening(echo, io, proxy_protocol=True) as net:
        peer = await net.dial()
        import asyncio

        sending = asyncio.ensure_future(peer.send(LINE + head + body))
        assert (await peer.answer("POST")).body == body
        await sending


async def test_disconnects_reach_the_application():
    """The handler has changed; the end of the connection is told to the new one."""
    got = []

    async def app(scope, receive, send):
        got.append(await receive())
        got.append(await receive())

    async with behind(app) as bench:
        peer = bench.connect()
        peer.feed(LINE + GET)
        await turn(3)
        peer.lost()
        await turn(5)
    assert got[1] == DISCONNECT
