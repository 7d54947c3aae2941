"""Both bodies of a channel on real sockets: our own socket I/O, and the asyncio transport.

Each test runs on both, and on both event loops.
"""

import asyncio
import contextlib
import signal
import socket
import sys

import pytest
from drive import (
    BODY,
    GET,
    START,
    body,
    complaints,
    drain_body,
    echo,
    hello,
    request,
    start,
    turn,
)
from net import FAMILIES, IOS, has_ipv6, listening

from fastasgi.errors import ClientDisconnected

MIB = 1 << 20
DISCONNECT = {"type": "http.disconnect"}


@pytest.fixture(params=IOS)
def io(request):
    """Which body of the channel serves."""
    return request.param


# --- scope ----------------------------------------------------------------------------------------


@pytest.mark.pins("response.scope-peers")
@pytest.mark.parametrize("family", ["tcp", "tcp6", "unix"])
async def test_client_and_server_in_the_scope(family, io, event_loop_kind, tmp_path):
    if FAMILIES[family] is None or (family == "tcp6" and not has_ipv6()):
        pytest.skip(f"no {family} here")
    scopes = []

    async def app(scope, receive, send):
        scopes.append(scope)
        await hello(scope, receive, send)

    path = str(tmp_path / "sock")
    async with listening(app, io, family=family, path=path if family == "unix" else None) as net:
        client = await net.dial()
        assert (await client.answer(data=GET)).body == b"ok"
        if family == "unix":
            assert scopes[0]["client"] is None
            assert tuple(scopes[0]["server"]) == (path, None)
        else:
            assert scopes[0]["client"] == client.sock.getsockname()[:2]
            assert scopes[0]["server"] == net.listening_socket.getsockname()[:2]
        assert scopes[0]["scheme"] == "http"


# --- bytes ----------------------------------------------------------------------------------------


async def test_kept_alive(io, event_loop_kind):
    async with listening(hello, io) as net:
        client = await net.dial()
        for _ in range(20):
            assert (await client.answer(data=GET)).body == b"ok"
        assert net.runtime.connections == 1
        assert net.runtime.requests_total == 20


async def test_pipelined(io, event_loop_kind):
    async def app(scope, receive, send):
        if scope["path"].endswith("5"):
            await turn()
        await send(start(200, [(b"content-length", b"%d" % len(scope["path"]))]))
        await send(body(scope["path"].encode()))

    async with listening(app, io) as net:
        client = await net.dial()
        await client.send(b"".join(request(target=f"/{index}") for index in range(500)))
        answers = await client.answers(500)
        assert [answer.body for answer in answers] == [b"/%d" % index for index in range(500)]


async def test_a_request_in_pieces(io, event_loop_kind):
    async with listening(echo, io) as net:
        client = await net.dial()
        for byte in request("POST", body=b"hello"):
            await client.send(bytes([byte]))
            await turn(2)
        assert (await client.answer("POST")).body == b"hello"


async def test_close(io, event_loop_kind):
    async with listening(hello, io) as net:
        client = await net.dial()
        assert (await client.answer(data=request(headers=("Connection: close",)))).announces_close
        assert await client.rest() == b""
        assert not client.was_reset


@pytest.mark.parametrize("size", [1, 65535, 65536, 65537, 8 * MIB])
async def test_up_and_down(size, io, event_loop_kind):
    """Partial writes, buffers that fill, edges that must not be missed."""
    data = bytes(range(256)) * (size // 256 + 1)
    data = data[:size]
    async with listening(echo, io) as net:
        client = await net.dial()
        sending = asyncio.create_task(client.send(request("POST", body=data)))
        answer = await client.answer("POST")
        await sending
        assert answer.body == data


@pytest.mark.pins("response.write-backpressure")
@pytest.mark.parametrize("pieces", [1, 1000])
async def test_a_slow_reader_gets_every_byte(pieces, io, event_loop_kind):
    """A small window, odd sizes: the head goes with the first piece, writes are cut anywhere."""
    block = bytes(range(251)) * 20
    total = block * 1000

    async def app(scope, receive, send):
        await send(start(200, [(b"content-length", b"%d" % len(total))]))
        if pieces == 1:
            await send(body(total))
        else:
            for index in range(pieces):
                await send(body(block, index < pieces - 1))

    async with listening(app, io) as net:
        client = await net.dial(receive_buffer=4096)
        await client.send(GET)
        await turn(20)
        got = bytearray()
        size = 1
        while (len(got) < len(total) + 50 and b"\r\n\r\n" not in got) or len(
            got.split(b"\r\n\r\n", 1)[1]
        ) < len(total):
            got += await client.receive(size)
            size = size * 3 % 20_011 + 1
            if len(got) > 200_000:
                size = 65536
        assert got.split(b"\r\n\r\n", 1)[1] == total


async def test_memoryviews_and_small_pieces(io, event_loop_kind):
    async def app(scope, receive, send):
        await send(start())
        view = memoryview(bytearray(b"0123456789" * 1000))
        for index in range(1000):
            await send(body(view[index * 10 : index * 10 + 10], True))
        view[:] = bytes(10_000)
        await send(body())

    async with listening(app, io) as net:
        client = await net.dial()
        assert (await client.answer(data=GET)).body == b"0123456789" * 1000


async def test_an_upload_to_an_application_that_is_slow_to_ask(io, event_loop_kind):
    """Reading stops and goes on: after a resume no edge comes, the rest must be read all the same."""
    gate = asyncio.Event()

    async def app(scope, receive, send):
        await gate.wait()
        data = await drain_body(receive)
        await send(start(200, [(b"content-length", b"8")]))
        await send(body(b"%08d" % len(data)))

    async with listening(app, io) as net:
        client = await net.dial()
        sending = asyncio.create_task(client.send(request("POST", body=b"x" * 6 * MIB)))
        await turn(300)
        assert not sending.done(), "six megabytes went somewhere"
        gate.set()
        assert (await client.answer("POST")).body == b"%08d" % (6 * MIB)
        await sending


async def test_many_connections_at_once(io, event_loop_kind):
    """200, each with three requests, all open together."""
    async with listening(echo, io) as net:
        clients = [await net.dial() for _ in range(200)]
        for client in clients:
            await client.send(request("POST", body=b"one"))
        for client in clients:
            assert (await client.answer("POST")).body == b"one"
        assert net.runtime.connections == 200
        for index, client in enumerate(clients):
            await client.send(request("POST", body=b"two") + request("POST", body=b"%d" % index))
        for index, client in enumerate(clients):
            two, last = await client.answers(2, "POST", "POST")
            assert (two.body, last.body) == (b"two", b"%d" % index)


async def test_connections_come_and_go(io, event_loop_kind):
    async with listening(hello, io) as net:
        for index in range(300):
            client = await net.dial()
            assert (await client.answer(data=GET)).body == b"ok"
            client.reset() if index % 3 == 0 else client.close()
        net.clients.clear()
        await net.until(lambda: net.runtime.connections == 0, "all to be gone")


async def test_a_client_that_connects_and_leaves(io, event_loop_kind):
    """Before it is accepted, or before it says a word."""
    async with listening(hello, io) as net:
        for how in ("close", "reset") * 10:
            client = await net.dial()
            getattr(client, how)()
        net.clients.clear()
        assert (await (await net.dial()).answer(data=GET)).body == b"ok"


async def test_a_busy_connection_starves_nobody(io, event_loop_kind):
    """One client pipelines without end; another one is answered."""
    async with listening(hello, io) as net:
        flood, other = await net.dial(), await net.dial()
        stop = asyncio.Event()
        got = 0

        async def pour():
            while not stop.is_set():
                await flood.send(GET * 200)

        async def drain():
            nonlocal got
            while True:
                got += len(await flood.receive(MIB))
                flood.seen = b""

        tasks = [asyncio.create_task(pour()), asyncio.create_task(drain())]
        await net.until(lambda: got > 100_000, "the flood")
        for _ in range(10):
            assert (await other.answer(data=GET)).body == b"ok"
        stop.set()
        await tasks[0]
        tasks[1].cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await tasks[1]


async def test_an_endless_stream_starves_nobody(io, event_loop_kind):
    async def app(scope, receive, send):
        if scope["path"] == "/other":
            return await hello(scope, receive, send)
        await send(START)
        while True:
            await send(body(b"x" * 65536, True))

    async with listening(app, io) as net:
        stream, other = await net.dial(), await net.dial()
        await stream.send(GET)

        async def drain():
            while True:
                await stream.receive(MIB)
                stream.seen = b""

        reading = asyncio.create_task(drain())
        for _ in range(10):
            assert (await other.answer(data=request(target="/other"))).body == b"ok"
        reading.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await reading


# --- ends -----------------------------------------------------------------------------------------


@pytest.mark.pins("response.half-close")
@pytest.mark.parametrize("together", [True, False])
async def test_a_half_closed_client_gets_its_answer(together, io, event_loop_kind):
    got = []
    gate = asyncio.Event()

    async def app(scope, receive, send):
        got.append(await receive())
        got.append(await receive())
        await gate.wait()
        await send(start(200, [(b"content-length", b"200000")]))
        await send(body(b"x" * 200_000))

    async with listening(app, io) as net:
        client = await net.dial()
        if together:
            client.sock.send(GET)
        else:
            await client.send(GET)
            await net.until(lambda: got, "the request")
        client.shut()
        await net.until(lambda: len(got) == 2, "http.disconnect")
        assert got[1] == DISCONNECT
        gate.set()
        assert (await client.answer()).body == b"x" * 200_000
        assert await client.rest() == b""
        assert not client.was_reset


@pytest.mark.pins("response.half-close")
async def test_a_half_closed_client_with_many_requests(io, event_loop_kind):
    async with listening(echo, io) as net:
        client = await net.dial()
        await client.send(request("POST", body=b"x" * 1000) * 50)
        client.shut()
        assert len(await client.answers(50, *["POST"] * 50)) == 50
        assert await client.rest() == b""


@pytest.mark.pins("response.receive-wakes")
@pytest.mark.parametrize("how", ["close", "reset", "shut"])
async def test_an_application_that_waits_learns_that_its_client_has_gone(how, io, event_loop_kind):
    """The idle GET: nothing is sent, nothing is read, only the end comes."""
    got = []

    async def app(scope, receive, send):
        await receive()
        got.append("waiting")
        got.append(await receive())

    async with listening(app, io) as net:
        client = await net.dial()
        await client.send(GET)
        await net.until(lambda: got, "the request")
        await turn(5)
        getattr(client, how)()
        await net.until(lambda: len(got) == 2, "http.disconnect")
        assert got[1] == DISCONNECT


@pytest.mark.pins("response.receive-disconnect")
@pytest.mark.parametrize("how", ["close", "reset"])
async def test_a_client_that_goes_within_its_request(how, io, event_loop_kind, caplog):
    got = []

    async def app(scope, receive, send):
        while True:
            got.append(await receive())
            if got[-1] == DISCONNECT:
                break

    async with listening(app, io) as net:
        client = await net.dial()
        await client.send(request("POST", length=100_000) + b"x" * 1000)
        await net.until(lambda: got, "the first piece")
        getattr(client, how)()
        await net.until(lambda: got[-1] == DISCONNECT, "http.disconnect")
    assert not complaints(caplog)


@pytest.mark.pins("response.send-after-disconnect", "response.half-close-error")
@pytest.mark.parametrize("how", ["close", "reset"])
@pytest.mark.parametrize("blocked", [True, False])
async def test_a_client_that_goes_within_its_answer(how, blocked, io, event_loop_kind, caplog):
    """EPIPE, reset or hang-up ends in ClientDisconnected, also for a send that waits."""
    caught = []
    sent = 0

    async def app(scope, receive, send):
        nonlocal sent
        await send(START)
        try:
            while True:
                await send(body(b"x" * (65536 if blocked else 10), True))
                sent += 1
                if not blocked:
                    await turn()
        except OSError as error:
            caught.append(error)
            raise

    async with listening(app, io) as net:
        client = await net.dial()
        await client.send(GET)
        await net.until(lambda: sent > 3, "some pieces")
        if blocked:
            before = -1
            while before != sent:
                before = sent
                await turn(50)
        getattr(client, how)()
        await net.until(lambda: caught, "ClientDisconnected")
        assert isinstance(caught[0], ClientDisconnected)
    assert not complaints(caplog)


@pytest.mark.pins("response.raises-after")
@pytest.mark.parametrize("turns", [0, 3], ids=["at once", "later"])
async def test_a_truncated_answer_is_seen_as_such(turns, io, event_loop_kind):
    """On HTTP/1.0 the end of the connection would look like the end of the body: it must be a reset.

    At once, the connection ends under the very frames that feed it.
    """

    async def app(scope, receive, send):
        await send(START)
        await send(body(b"x" * 100, True))
        await turn(turns)
        raise LookupError("boom")

    async with listening(app, io) as net:
        client = await net.dial()
        await client.send(b"GET / HTTP/1.0\r\n\r\n")
        await client.rest()
        assert client.was_reset


@pytest.mark.pins("head.limit-request-body")
async def test_a_lingering_close_lets_the_client_read_the_413(io, event_loop_kind):
    """The client sends two megabytes before it looks: a plain close would reset the answer away."""
    async with listening(echo, io, limit_request_body=1000) as net:
        client = await net.dial()
        await client.send(request("POST", length=2 * MIB) + b"x" * 1000)
        sent = 0
        with contextlib.suppress(ConnectionError):
            while sent < 2 * MIB:
                n = client.send_what_fits(b"x" * 65536, 65536)
                sent += n
                await turn(3)
        answer = await client.answer("POST")
        assert answer.status == 413
        await client.rest()
        assert not client.was_reset


async def test_a_lingering_close_after_400(io, event_loop_kind):
    async with listening(hello, io) as net:
        client = await net.dial()
        await client.send(b"GET / HTTP/1.1\r\n\r\n" + b"x" * 100_000)
        assert (await client.answer()).status == 400
        assert await client.rest() == b""
        assert not client.was_reset


async def test_a_large_last_answer_is_whole_before_the_close(io, event_loop_kind):
    """Graceful close flushes first, also to a slow reader."""

    async def app(scope, receive, send):
        await send(start(200, [(b"connection", b"close")]))
        await send(body(b"x" * 3 * MIB))

    async with listening(app, io) as net:
        client = await net.dial(receive_buffer=8192)
        await client.send(GET)
        await turn(50)
        assert len((await client.answer()).body) == 3 * MIB
        assert await client.rest() == b""
        assert not client.was_reset


@pytest.mark.pins("slow.first-byte", "slow.keep-alive")
async def test_deadlines_hold_on_sockets(io, event_loop_kind):
    async with listening(hello, io) as net:
        silent, kept = await net.dial(), await net.dial()
        await kept.answer(data=GET)
        await net.until(lambda: net.runtime.connections == 2)
        await net.pass_time(15)
        assert await silent.rest() == b""
        assert net.runtime.connections == 1
        await net.pass_time(70)
        assert await kept.rest() == b""


def endless():
    """An application whose answer has no end, and the list of what it then caught."""
    caught = []

    async def app(scope, receive, send):
        await send(START)
        try:
            while True:
                await send(body(b"x" * 65536, True))
        except ClientDisconnected as error:
            caught.append(error)

    return app, caught


@pytest.mark.pins("slow.reader-stops")
async def test_a_reader_that_stops_on_a_socket(io, event_loop_kind):
    app, caught = endless()
    async with listening(app, io) as net:
        client = await net.dial(receive_buffer=4096)
        await client.send(GET)
        await turn(300)
        assert not caught
        await net.pass_time(65)
        await net.until(lambda: caught, "ClientDisconnected")
        await client.rest()
        assert client.was_reset


@pytest.mark.pins("slow.progress", "slow.reader-stops")
async def test_a_reader_too_slow_for_the_kernel_to_ask_for_more(io, event_loop_kind):
    """It asks when a third of its buffer is free, of which such a client takes hours. Then it stops, and that ends."""
    app, caught = endless()
    async with listening(app, io) as net:
        client = await net.dial(receive_buffer=4096)
        await client.send(GET)
        await turn(300)
        for _ in range(20):
            left = 6000
            while left > 0:
                left -= len(await client.receive(1000))
                await turn(3)
            await net.pass_time(45)
            assert not caught
        await net.pass_time(125)
        await net.until(lambda: caught, "ClientDisconnected")


async def test_drain_closes_idle_and_announces_to_the_running(io, event_loop_kind):
    gate = asyncio.Event()

    async def app(scope, receive, send):
        if scope["path"] == "/slow":
            await gate.wait()
        await hello(scope, receive, send)

    async with listening(app, io) as net:
        idle, fresh, busy = await net.dial(), await net.dial(), await net.dial()
        await idle.answer(data=GET)
        await busy.send(request(target="/slow"))
        await net.until(lambda: net.runtime.requests_active == 1 and net.runtime.connections == 3)
        net.runtime.drain()
        assert await idle.rest() == b""
        assert await fresh.rest() == b""
        closed = net.runtime.wait_closed()
        await turn(5)
        assert not closed.done()
        gate.set()
        answer = await busy.answer()
        assert answer.announces_close and answer.body == b"ok"
        busy.close()
        async with asyncio.timeout(5):
            await closed


# --- signals --------------------------------------------------------------------------------------


@pytest.mark.skipif(sys.platform == "win32", reason="no interval timers")
async def test_interrupted_system_calls(io, event_loop_kind):
    """Signals rain while megabytes go up and down: no byte is lost."""
    hits = []
    before = signal.signal(signal.SIGPROF, lambda *_: hits.append(1))
    signal.setitimer(signal.ITIMER_PROF, 0.0005, 0.0005)
    try:
        async with listening(echo, io) as net:
            client = await net.dial()
            data = bytes(range(256)) * 8192
            for _ in range(4):
                sending = asyncio.create_task(client.send(request("POST", body=data)))
                assert (await client.answer("POST")).body == data
                await sending
            await net.until(lambda: hits, "a signal")
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


@pytest.mark.skipif(sys.platform != "linux", reason="abstract names are Linux's")
async def test_an_abstract_unix_socket(io, event_loop_kind, tmp_path):
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.bind("\0" + str(tmp_path))
    sock.listen()
    sock.setblocking(False)
    scopes = []

    async def app(scope, receive, send):
        scopes.append(scope)
        await send(START)
        await send(BODY)

    async with listening(app, io, sock=sock) as net:
        assert (await (await net.dial()).answer(data=GET)).body == b"ok"
    assert scopes[0]["client"] is None
    name, port = scopes[0]["server"]
    assert isinstance(name, str) and name.lstrip("\0@") == str(tmp_path)
    assert port is None
