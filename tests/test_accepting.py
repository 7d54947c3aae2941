"""accepting: connections for transports are taken only where there is room, and none is lost at the end."""

import asyncio
import contextlib
import errno
import socket
import ssl

import pytest
from drive import GET, hello, request, turn
from net import IOS, PATIENCE_S, listening
from tls_files import files

from fastasgi import accepting, worker
from fastasgi._scoreboard import State
from fastasgi.accepting import Acceptor
from fastasgi.config import Config
from fastasgi.worker import Server

on_every_io = pytest.mark.parametrize("io", IOS)


@on_every_io
async def test_a_request_in_the_kernel_is_served_when_the_drain_begins(io, event_loop_kind):
    """It came before: a reset would make the client believe that it may have been done."""
    async with listening(hello, io) as net:
        kept = await net.dial()
        assert (await kept.answer(data=GET)).status == 200
        kept.sock.send(GET)  # the loop has had no turn to see it
        net.runtime.drain()
        answer = await kept.answer()
        assert answer.status == 200 and answer.announces_close
        assert await kept.rest() == b""
        assert not kept.was_reset


@on_every_io
async def test_a_first_request_in_the_kernel_is_served_when_the_drain_begins(io):
    async with listening(hello, io) as net:
        fresh = await net.dial()
        await net.until(lambda: net.runtime.connections == 1, "it is accepted")
        fresh.sock.send(GET)
        net.runtime.drain()
        answer = await fresh.answer()
        assert answer.status == 200 and answer.announces_close
        assert await fresh.rest() == b""
        assert not fresh.was_reset


@on_every_io
async def test_a_client_that_left_unseen_does_not_hold_the_drain(io):
    async with listening(hello, io) as net:
        gone = await net.dial()
        assert (await gone.answer(data=GET)).status == 200
        gone.shut()
        net.runtime.drain()
        async with asyncio.timeout(5):
            await net.runtime.wait_closed()


async def test_what_is_accepted_is_handed_over_before_the_drain(event_loop_kind):
    """`accept()` has been called, the transport is not there yet, and the server is told to stop."""
    server = Server(Config(hello, port=0, lifespan="off", log_config=None, io="transport", access_log=False))
    await server.startup()
    loop = asyncio.get_running_loop()
    (acceptor,) = server.servers
    with socket.create_connection(acceptor.sockets[0].getsockname()) as client:
        client.setblocking(False)
        client.send(GET)
        acceptor._accept(acceptor._listeners[0])
        assert server.slot.connecting == 1
        await server.shutdown()
        data = b""
        while piece := await asyncio.wait_for(loop.sock_recv(client, 65536), 5):
            data += piece
    assert data.startswith(b"HTTP/1.1 200 OK\r\n")


# --- TLS handshakes -----------------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def begun_handshake():
    """A server with TLS, and a connection to it that has said nothing yet; the server is told to end by the test."""
    certificate = {"ssl_certfile": files().cert, "ssl_keyfile": files().key}
    server = Server(Config(hello, port=0, lifespan="off", log_config=None, access_log=False, **certificate))
    await server.startup()
    with socket.create_connection(server.servers[0].sockets[0].getsockname()) as client:
        client.setblocking(False)
        async with asyncio.timeout(PATIENCE_S):
            while not server.slot.connecting:
                await asyncio.sleep(0)
        assert server.slot.connections == 0
        yield server, client
    assert (server.slot.connecting, server.slot.connections) == (0, 0)


async def test_a_handshake_goes_on_while_a_worker_is_replaced(event_loop_kind):
    """Its client knows nothing of that: its first request is answered."""
    async with begun_handshake() as (server, client):
        server.drain_linger_s = 20
        ending = asyncio.create_task(server.shutdown())
        while server.slot.state is not State.DRAINING or server.started:
            await asyncio.sleep(0)
        async with asyncio.timeout(PATIENCE_S):
            reader, writer = await asyncio.open_connection(
                sock=client, ssl=ssl.create_default_context(cafile=files().ca), server_hostname="localhost"
            )
            await turn(50)  # the request comes later than the last word of the handshake
            writer.write(GET)
            answer = await reader.read()
            assert answer.startswith(b"HTTP/1.1 200 OK\r\n") and b"connection: close\r\n" in answer.lower()
            writer.close()
            await writer.wait_closed()
            await ending


@pytest.mark.parametrize("linger_s", [0, 0.1])
async def test_a_client_that_does_not_begin_its_handshake_holds_no_end(linger_s, monkeypatch, event_loop_kind):
    monkeypatch.setattr(worker, "HANDSHAKE_GRACE_S", 0.1)
    async with begun_handshake() as (server, client):
        server.drain_linger_s = linger_s
        async with asyncio.timeout(PATIENCE_S):
            await server.shutdown()
            with contextlib.suppress(ConnectionResetError):
                assert await asyncio.get_running_loop().sock_recv(client, 100) == b""


async def test_given_up_before_its_first_turn():
    server = Server(Config(hello, port=0, lifespan="off", log_config=None, io="transport", access_log=False))
    await server.startup()
    (acceptor,) = server.servers
    with socket.create_connection(acceptor.sockets[0].getsockname()) as client:
        client.setblocking(False)
        acceptor._accept(acceptor._listeners[0])
        assert server.slot.connecting == 1
        await acceptor.abort()
        assert await asyncio.wait_for(asyncio.get_running_loop().sock_recv(client, 100), PATIENCE_S) == b""
        assert server.slot.connecting == 0
    await server.shutdown()


# --- room ---------------------------------------------------------------------------------------------------------


async def test_without_workers_that_see_each_other(monkeypatch):
    """As on other systems than Linux."""
    monkeypatch.setattr(accepting, "Listener", accepting.PlainListener, raising=False)
    async with listening(hello, "transport", limit_connections=1) as net:
        for _ in range(3):
            client = await net.dial()
            assert (await client.answer(data=GET)).status == 200


async def test_above_the_limit_connections_wait_for_another_acceptor():
    """They stay in the backlog, where whoever shares the socket takes them."""
    gate = asyncio.Event()

    async def app(scope, receive, send):
        if scope["path"] == "/wait":
            await gate.wait()
        await hello(scope, receive, send)

    async with listening(app, "transport", limit_connections=1) as full:
        busy = await full.dial()
        await busy.send(request(target="/wait"))
        await full.until(lambda: full.runtime.requests_active == 1, "a request runs")
        waiting = await full.dial()
        await waiting.send(GET)
        async with listening(app, "transport", sock=full.listening_socket.dup()):
            assert (await waiting.answer()).status == 200
            waiting.close()
        gate.set()
        assert (await busy.answer()).status == 200
        assert full.runtime.requests_total == 1


async def test_no_more_are_accepted_than_there_is_room_for():
    """Those that are being connected count, and count once."""
    async with listening(hello, "transport", limit_connections=3) as net:
        clients = [await net.dial() for _ in range(3)]
        for client in clients:
            await client.send(GET)
        for client in clients:
            assert (await client.answer()).status == 200
        assert net.runtime.connections == 3
        assert [client.send_what_fits(GET, 1) > 0 for client in clients] == [True] * 3
        for client in clients:
            assert (await client.answer()).status == 200


async def test_out_of_descriptors(monkeypatch, caplog):
    """One line in the log; accepting goes on when a connection closes."""
    async with listening(hello, "transport") as net:
        first = await net.dial()
        assert (await first.answer(data=GET)).status == 200

        def fail(self):
            raise OSError(errno.EMFILE, "Too many open files")

        with monkeypatch.context() as patch:
            patch.setattr(socket.socket, "accept", fail)
            second = await net.dial()
            await second.send(GET)
            await net.until(lambda: caplog.records, "it is logged")
        for _ in range(20):
            await asyncio.sleep(0)
        assert [record.getMessage() for record in caplog.records] == [
            "cannot accept connections: Too many open files; they wait in the backlog until some close (see ulimit -n)"
        ]
        first.close()
        assert (await second.answer()).status == 200


async def test_a_connection_that_cannot_be_taken_leaves_its_place(monkeypatch):
    """The peer has gone between accept() and its transport."""
    async with listening(hello, "transport", limit_connections=1) as net:
        loop = asyncio.get_running_loop()

        async def fail(factory, sock, **options):
            raise ConnectionResetError(errno.ECONNRESET, "Connection reset by peer")

        with monkeypatch.context() as patch:
            patch.setattr(loop, "connect_accepted_socket", fail)
            lost = await net.dial()
            assert await lost.rest() == b""
        client = await net.dial()
        assert (await client.answer(data=GET)).status == 200


async def test_a_loop_that_watches_no_sockets_accepts_by_itself(monkeypatch):
    """As Windows' Proactor does."""
    loop = asyncio.get_running_loop()
    real = loop.add_reader

    def refuse(fd, callback, *args):
        if getattr(callback, "__self__", None).__class__ is Acceptor:
            raise NotImplementedError
        return real(fd, callback, *args)

    monkeypatch.setattr(loop, "add_reader", refuse)
    server = Server(Config(hello, port=0, lifespan="off", log_config=None, io="transport", access_log=False))
    await server.startup()
    assert isinstance(server.servers[0], asyncio.Server)
    with socket.create_connection(server.servers[0].sockets[0].getsockname()) as client:
        client.setblocking(False)
        await loop.sock_sendall(client, GET)
        assert (await asyncio.wait_for(loop.sock_recv(client, 65536), 5)).startswith(b"HTTP/1.1 200")
    await server.shutdown()
