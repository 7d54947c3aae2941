"""TLS through the loop's own layer, over the transport: only what differs from clear text.

Anonymous ciphers of TLS 1.2 need no certificate, so nothing has to be made or kept for these tests.
"""

import asyncio
import contextlib
import os
import socket
import ssl
from pathlib import Path

import pytest
from drive import GET, START, Bench, body, complaints, hello, start, turn
from net import PATIENCE_S, anonymous, listener
from tls_files import PASSWORD, files

from fastasgi._transport import TransportChannel
from fastasgi.config import Config
from fastasgi.errors import ClientDisconnected, StartupError
from fastasgi.tls import SHUTDOWN_TIMEOUT_S, certificate_of, make_context, timeouts_of, why_failed

DISCONNECT = {"type": "http.disconnect"}


def context(side):
    """A context that encrypts and proves nothing."""
    try:
        return anonymous(side)
    except ssl.SSLError:
        pytest.skip("this OpenSSL has no anonymous ciphers")


class Tls(Bench):
    """A `Bench` that serves TLS, with one client connected to it."""

    async def __aenter__(self):
        sock = listener("tcp")
        self.server = await asyncio.get_running_loop().create_server(
            lambda: TransportChannel(self.runtime), sock=sock, ssl=context(ssl.PROTOCOL_TLS_SERVER)
        )
        self.reader, self.writer = await asyncio.open_connection(
            *sock.getsockname(), ssl=context(ssl.PROTOCOL_TLS_CLIENT), server_hostname="localhost"
        )
        return self

    async def __aexit__(self, *_):
        self.writer.transport.abort()
        await self.reach(lambda: self.runtime.connections == 0, "the connection to end")
        self.runtime.cancel()
        await self.reach(lambda: self.idle, "the request to end")
        self.server.close()
        await self.server.wait_closed()
        await turn(5)

    async def reach(self, condition, what):
        loop = asyncio.get_running_loop()
        end = loop.time() + PATIENCE_S
        while not condition():
            assert loop.time() < end, what
            await turn()


async def test_an_answer_over_tls(event_loop_kind):
    schemes = []

    async def app(scope, receive, send):
        schemes.append(scope["scheme"])
        await hello(scope, receive, send)

    async with Tls(app, None, {}) as tls:
        tls.writer.write(GET)
        head = await asyncio.wait_for(tls.reader.readuntil(b"\r\n\r\n"), PATIENCE_S)
        assert head.startswith(b"HTTP/1.1 200 OK")
        assert await asyncio.wait_for(tls.reader.readexactly(2), PATIENCE_S) == b"ok"
    assert schemes == ["https"]


@pytest.mark.pins("response.fin-tls")
@pytest.mark.parametrize("how", ["close_notify", "bare FIN"])
async def test_a_fin_is_a_disconnect(how, event_loop_kind, caplog):
    """TLS has no half-closed state that the loop's layer keeps: the client is gone in both directions."""
    got, caught = [], []

    async def app(scope, receive, send):
        got.append(await receive())
        await send(start(200, []))
        await send(body(b"x", True))
        got.append(await receive())
        try:
            for _ in range(100_000):
                await send(body(b"x", True))
                await turn()
        except ClientDisconnected as error:
            caught.append(error)

    async with Tls(app, None, {}) as tls:
        tls.writer.write(GET)
        await asyncio.wait_for(tls.reader.readuntil(b"\r\n\r\n"), PATIENCE_S)
        if how == "close_notify":
            tls.writer.close()
        else:
            with socket.socket(fileno=os.dup(tls.writer.get_extra_info("socket").fileno())) as same:
                same.shutdown(socket.SHUT_WR)
        await tls.reach(lambda: len(got) == 2, "http.disconnect")
        assert got[1] == DISCONNECT
        await tls.reach(lambda: caught, "ClientDisconnected")
    assert not complaints(caplog)


async def test_a_truncated_answer_over_tls(event_loop_kind):
    """No close_notify and no last chunk: nothing looks whole."""

    async def app(scope, receive, send):
        await send(START)
        await send(body(b"x", True))
        raise LookupError("boom")

    async with Tls(app, None, {}) as tls:
        tls.writer.write(GET)
        try:
            data = await asyncio.wait_for(tls.reader.read(), PATIENCE_S)
        except ConnectionResetError:
            data = b""
        assert not data.endswith(b"0\r\n\r\n")


# --- the end of a connection --------------------------------------------------------------------------------------


class Stopped:
    """A client that has connected, speaks TLS by hand, and reads only when told so."""

    def __init__(self, address):
        self.sock = socket.socket()
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.sock.connect(address)
        self.sock.setblocking(False)
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context(ssl.PROTOCOL_TLS_CLIENT).wrap_bio(self.incoming, self.outgoing)

    async def step(self, function, *arguments):
        """Do something that may need the peer, and give it what it needs; None when the connection has ended."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                return function(*arguments)
            except ssl.SSLWantReadError:
                self.flush()
                async with asyncio.timeout(PATIENCE_S):
                    data = await loop.sock_recv(self.sock, 1 << 16)
                if not data:
                    return None
                self.incoming.write(data)
            finally:
                self.flush()

    def flush(self):
        if self.outgoing.pending:
            self.sock.send(self.outgoing.read())


@contextlib.asynccontextmanager
async def stopped(app, **options):
    """A bench that serves TLS on a fake clock, and a `Stopped` client."""
    bench = Tls(app, None, options)
    sock = listener("tcp")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    server = await asyncio.get_running_loop().create_server(
        lambda: TransportChannel(bench.runtime), sock=sock, ssl=context(ssl.PROTOCOL_TLS_SERVER),
        ssl_shutdown_timeout=PATIENCE_S,
    )  # fmt: skip
    client = Stopped(sock.getsockname())
    try:
        await client.step(client.tls.do_handshake)
        yield bench, client
    finally:
        client.sock.close()
        await bench.reach(lambda: bench.idle, "the end of the connection")
        server.close()
        await server.wait_closed()
        await turn(5)


@pytest.mark.pins("tls.slow-close")
@pytest.mark.parametrize("size", [50_000, 150_000, 3_000_000])
async def test_a_client_that_reads_slowly_gets_its_whole_answer(size, event_loop_kind):
    """However long it waits with it: what the loop holds of the answer, the kernel's queue tells of."""

    async def app(scope, receive, send):
        await send(start(200, [(b"content-length", b"%d" % size), (b"connection", b"close")]))
        await send(body(b"x" * size))

    async with stopped(app, timeout_response_stall=1000) as (bench, client):
        client.tls.write(GET)
        client.flush()
        await turn(50)
        await bench.pass_time(30)
        assert bench.runtime.connections == 1
        seen = b""
        while data := await client.step(client.tls.read, 1 << 16):
            seen += data
            await bench.pass_time(1)
        head, _, rest = seen.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 OK")
        assert rest == b"x" * size


@pytest.mark.pins("tls.slow-close")
async def test_a_client_that_never_says_close_notify_is_not_waited_for(event_loop_kind):
    async with stopped(hello, timeout_keep_alive=10) as (bench, client):
        client.tls.write(GET)
        client.flush()
        assert (await client.step(client.tls.read, 1 << 16)).endswith(b"ok")
        await bench.pass_time(11)
        assert bench.runtime.connections == 1
        async with asyncio.timeout(PATIENCE_S):
            while bench.runtime.connections:
                await bench.pass_time(1)    # the kernel of the client may be late to say that it has our bytes
        client.incoming.write(client.sock.recv(1 << 16))
        assert client.tls.read(10) == b""  # the server's close_notify was there all the time


async def test_timeouts_are_those_of_clear_text(event_loop_kind):
    async with stopped(hello, timeout_request_head=20) as (bench, client):
        client.tls.write(GET[:-2])
        client.flush()
        await turn(20)
        await bench.pass_time(19)
        assert bench.runtime.connections == 1
        await bench.pass_time(3)
        assert (await client.step(client.tls.read, 1 << 16)).startswith(b"HTTP/1.1 408 ")


async def test_a_reader_that_stops_holds_little_memory_and_is_cut_off(event_loop_kind):
    sent = []

    async def app(scope, receive, send):
        await send(START)
        with contextlib.suppress(ClientDisconnected):
            while True:
                await send(body(b"x" * 65536, True))
                sent.append(65536)

    async with stopped(app, timeout_response_stall=30) as (bench, client):
        client.tls.write(GET)
        client.flush()
        await turn(200)
        assert 0 < sum(sent) < 2_000_000
        before = len(sent)
        await turn(200)
        assert len(sent) == before
        await bench.pass_time(70)
        await bench.reach(lambda: bench.runtime.connections == 0, "the end")


async def test_what_the_transport_holds_counts_as_pending(event_loop_kind):
    """A large body given at once: a client that does not read it is cut off like one in clear text."""

    async def app(scope, receive, send):
        await send(start(200, [(b"content-length", b"10000000")]))
        with contextlib.suppress(ClientDisconnected):
            await send(body(b"x" * 10_000_000))

    async with stopped(app, timeout_response_stall=20, timeout_keep_alive=1000) as (bench, client):
        client.tls.write(GET)
        client.flush()
        await turn(50)
        await bench.pass_time(70)
        await bench.reach(lambda: bench.runtime.connections == 0, "the end")


# --- contexts -----------------------------------------------------------------------------------------------------


def options(**given):
    return Config("a:b", log_config=None, **given)


CERT, KEY = files().cert, files().key
WRONG = {
    "no certificate": ({"ssl_keyfile": KEY}, "ssl_certfile is missing: TLS needs a certificate beside its key"),
    "no key": ({"ssl_certfile": CERT}, f"ssl_keyfile is missing, and '{CERT}' holds no private key"),
    "missing file": ({"ssl_certfile": "no.pem"}, "ssl_certfile: cannot read 'no.pem': No such file or directory"),
    "missing key": (
        {"ssl_certfile": CERT, "ssl_keyfile": "no.pem"}, "ssl_keyfile: cannot read 'no.pem': No such file"),
    "a folder": ({"ssl_certfile": "/"}, "ssl_certfile: cannot read '/': Is a directory"),
    "not PEM": ({"ssl_certfile": files().text}, "ssl_certfile: expected a certificate in PEM form, but"),
    "DER": ({"ssl_certfile": files().der}, "is DER; convert it with openssl"),
    "key is no key": ({"ssl_certfile": CERT, "ssl_keyfile": CERT}, "ssl_keyfile: expected a private key in PEM form"),
    "broken": ({"ssl_certfile": files().broken, "ssl_keyfile": KEY}, "ssl_certfile: the certificate in "),
    "broken key": ({"ssl_certfile": CERT, "ssl_keyfile": files().broken_key}, f"the key in '{files().broken_key}'"),
    "other key": (
        {"ssl_certfile": CERT, "ssl_keyfile": files().other},
        f"the key in '{files().other}' does not belong to the certificate in '{CERT}'"),
    "no password": (
        {"ssl_certfile": CERT, "ssl_keyfile": files().sealed},
        f"ssl_keyfile: the key in '{files().sealed}' is encrypted; give its password as ssl_keyfile_password"),
    "wrong password": (
        {"ssl_certfile": CERT, "ssl_keyfile": files().sealed, "ssl_keyfile_password": "secret"},
        f"ssl_keyfile_password does not open the key in '{files().sealed}'"),
    "no authorities": (
        {"ssl_certfile": CERT, "ssl_keyfile": KEY, "ssl_cert_reqs": "CERT_REQUIRED"}, "ssl_cert_reqs asks clients"),
    "missing authorities": (
        {"ssl_certfile": CERT, "ssl_keyfile": KEY, "ssl_ca_certs": "no.pem"}, "ssl_ca_certs: cannot read 'no.pem'"),
    "broken authorities": (
        {"ssl_certfile": CERT, "ssl_keyfile": KEY, "ssl_ca_certs": files().broken}, "holds no certificate that can"),
    "ciphers": (
        {"ssl_certfile": CERT, "ssl_keyfile": KEY, "ssl_ciphers": "NONE-SUCH"}, "ssl_ciphers: OpenSSL knows no cipher"),
    "factory": ({"ssl_context_factory": lambda config, default: 5}, "ssl_context_factory returned int; expected"),
}  # fmt: skip


@pytest.mark.pins("tls.startup-errors")
@pytest.mark.parametrize("what", WRONG)
def test_what_is_wrong_is_one_sentence(what):
    given, sentence = WRONG[what]
    with pytest.raises(StartupError) as raised:
        options(**given).load()
    assert sentence in str(raised.value)
    assert "\n" not in str(raised.value)
    assert "secret" not in str(raised.value)
    assert raised.value.exit_code == 3
    assert not raised.value.details


@pytest.mark.pins("tls.startup-errors")
@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_key_that_may_not_be_read(tmp_path):
    path = tmp_path / "key.pem"
    path.write_text("x")
    path.chmod(0)
    with pytest.raises(StartupError, match="Permission denied"):
        make_context(options(ssl_certfile=CERT, ssl_keyfile=str(path)))


@pytest.mark.parametrize(
    "given",
    [
        {"ssl_certfile": files().both},
        {"ssl_certfile": CERT, "ssl_keyfile": KEY, "ssl_keyfile_password": "not needed"},
        {"ssl_certfile": CERT, "ssl_keyfile": files().sealed, "ssl_keyfile_password": PASSWORD},
        {"ssl_certfile": files().both, "ssl_cert_reqs": "CERT_REQUIRED", "ssl_ca_certs": files().ca},
        {"ssl_certfile": files().both, "ssl_ciphers": "ECDHE+AESGCM"},
    ],
)
def test_what_is_right(given):
    made = make_context(options(**given))
    assert made.verify_mode == (ssl.CERT_REQUIRED if "ssl_cert_reqs" in given else ssl.CERT_NONE)
    assert certificate_of(options(**given)) == Path(CERT).read_text()


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (TimeoutError("timed out"), "left before its first byte: timed out"),
        (ConnectionResetError(104, "Connection reset by peer"), "left before its first byte: [Errno 104]"),
        (ConnectionAbortedError("SSL handshake is taking longer than 1 seconds"), "did not finish its TLS handshake"),
        (ssl.SSLError(1, "[SSL: X] y"), "failed in the TLS handshake: "),
    ],
)
def test_why_a_handshake_failed(error, said):
    assert why_failed(error).startswith(said)


def test_timeouts_of_the_loop():
    assert timeouts_of(None, 5) == (None, None)
    some = context(ssl.PROTOCOL_TLS_SERVER)
    assert timeouts_of(some, 5.0) == (5.0, SHUTDOWN_TIMEOUT_S)
    assert timeouts_of(some, None)[0] > 1e6
