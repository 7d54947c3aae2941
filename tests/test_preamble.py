"""preamble: the header of the PROXY protocol before TLS, and not one byte of the handshake with it."""

import asyncio
import contextlib
import json
import logging
import socket
import ssl

import pytest
from drive import hello
from proxy_lines import BAD, HEADERS, LINE, PROXY, SERVER
from tls_files import files
from wire import byte_by_byte

import fastasgi
from fastasgi._proxied import read_proxy_header
from fastasgi.preamble import NoProxyHeader, read_announcement

HANDSHAKE = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"
PATIENCE_S = 10.0
GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


@contextlib.contextmanager
def pair():
    """Two ends of a connection; ours does not block."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        yield ours, theirs


async def announced(pieces, *, ends=False, timeout_s=PATIENCE_S):
    """What is read of the pieces, each sent once the one before was taken; and what is left in the kernel."""
    with pair() as (ours, theirs):
        reading = asyncio.ensure_future(read_announcement(asyncio.get_running_loop(), ours, timeout_s))
        for piece in pieces:
            theirs.sendall(piece)
            await asyncio.sleep(0)
            if reading.done():  # nobody takes what is left, and the kernel not for ever
                break
        if ends:
            theirs.shutdown(socket.SHUT_WR)
        header = await reading
        theirs.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            return header, ours.recv(1 << 16)
        return header, b""


@pytest.mark.pins("proxies.preface")
@pytest.mark.parametrize("name", HEADERS)
async def test_the_handshake_stays_where_it_is(name, event_loop_kind):
    data = HEADERS[name][0]
    cut = [*byte_by_byte(data[:-1]), data[-1:] + HANDSHAKE]
    for pieces in ([data + HANDSHAKE], cut, [data[:9], data[9:] + HANDSHAKE]):
        header, left = await announced(pieces)
        assert header.size == len(data)
        assert left == HANDSHAKE


@pytest.mark.pins("proxies.preface")
@pytest.mark.parametrize("name", BAD)
async def test_what_is_no_header(name):
    for pieces in ([BAD[name]], byte_by_byte(BAD[name])):
        with pytest.raises(NoProxyHeader, match=r"\w+"):
            await announced(pieces, ends=True)


async def test_an_end_before_the_header_is_whole():
    for part in (b"", LINE[:-1]):
        with pytest.raises(NoProxyHeader, match="a whole one before the end"):
            await announced([part] if part else [], ends=True)


async def test_a_header_that_does_not_come(event_loop_kind):
    with pytest.raises(NoProxyHeader, match="within timeout_tls_handshake"):
        await announced([LINE[:5]], timeout_s=0.01)


async def test_giving_up_leaves_nothing_watched():
    loop = asyncio.get_running_loop()
    with pair() as (ours, _):
        reading = asyncio.ensure_future(read_announcement(loop, ours, None))
        await asyncio.sleep(0)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        assert not loop.remove_reader(ours.fileno())


def test_more_is_asked_for_until_it_is_whole():
    assert [read_proxy_header(LINE[:n]) for n in range(len(LINE))] == [None] * len(LINE)
    assert read_proxy_header(LINE + HANDSHAKE).size == len(LINE)
    with pytest.raises(ValueError, match="PROXY"):
        read_proxy_header(b"GET")


# --- a server ---------------------------------------------------------------------------------------


async def tells(scope, receive, send):
    """Answers with who the client is."""
    body = json.dumps([scope["client"], scope["server"], scope["scheme"]]).encode()
    headers = [(b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


@pytest.fixture(params=["asyncio", "uvloop"])
def loop(request):
    if request.param == "uvloop":
        pytest.importorskip("uvloop")
    return request.param


def serving(app, loop, **options):
    """A server with TLS behind a PROXY header, in a thread."""
    options = {"ssl_certfile": files().cert, "ssl_keyfile": files().key, "proxy_protocol": True, **options}
    return fastasgi.serve_in_thread(app, port=0, loop=loop, access_log=False, lifespan="off", **options)


def dial(server):
    """A plain connection to it."""
    return socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2])), PATIENCE_S)


def asked(plain):
    """The JSON of one answer over TLS."""
    context = ssl.create_default_context(cafile=files().ca)
    with context.wrap_socket(plain, server_hostname="localhost") as sock:
        sock.sendall(GET)
        seen = b""
        while b"\r\n\r\n" not in seen or not seen.endswith(b"]"):
            data = sock.recv(1 << 16)
            assert data, seen
            seen += data
    return json.loads(seen.partition(b"\r\n\r\n")[2])


@pytest.mark.pins("proxies.preface")
@pytest.mark.parametrize("name", ["v1 IPv4", "v2 IPv6", "v2 paths", "v2 unspecified", "v2 local"])
def test_the_client_that_was_announced_is_the_client(loop, name):
    data, client, reached = HEADERS[name]
    with serving(tells, loop) as server, dial(server) as plain:
        ours, theirs = plain.getpeername(), plain.getsockname()
        plain.sendall(data)
        got = asked(plain)
    wanted_client = theirs if client == PROXY else client
    wanted_server = ours if reached == SERVER else reached
    assert got == [list(wanted_client), list(wanted_server), "https"]


@pytest.mark.pins("proxies.preface")
@pytest.mark.parametrize("sent", [HANDSHAKE, GET, LINE])
@pytest.mark.parametrize("trusted", ["127.0.0.1", "192.0.2.9"])
def test_others_are_closed_and_named(loop, sent, trusted, caplog):
    """Bytes that are no header, and headers of strangers. Nothing is answered: nobody speaks TLS yet."""
    if sent == LINE and trusted == "127.0.0.1":
        sent = LINE + b"GET / HTTP/1.1\r\n\r\n"  # a header, and no handshake
    caplog.set_level(logging.DEBUG, "fastasgi.error")
    with serving(hello, loop, forwarded_allow_ips=trusted) as server, dial(server) as plain:
        name = "{}:{}".format(*plain.getsockname())
        plain.sendall(sent)
        with contextlib.suppress(ConnectionResetError):
            assert b"HTTP" not in plain.recv(1000)
    (said,) = [message for message in caplog.messages if message.startswith(f"client {name} ")]
    if sent.startswith(LINE) and trusted == "127.0.0.1":
        assert "sent plain HTTP to the TLS port" in said
    else:
        assert "sent no PROXY header that can be taken: expected " in said


@pytest.mark.pins("proxies.preface")
def test_a_silent_proxy_does_not_hold_the_end(loop):
    with serving(hello, loop, timeout_tls_handshake=None) as server:
        silent = dial(server)
        with dial(server) as plain:
            plain.sendall(LINE)
            context = ssl.create_default_context(cafile=files().ca)
            with context.wrap_socket(plain, server_hostname="localhost") as sock:
                sock.sendall(GET)
                assert sock.recv(1000).startswith(b"HTTP/1.1 200")
    with silent, contextlib.suppress(ConnectionResetError):
        assert silent.recv(1) == b""
