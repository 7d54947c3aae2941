"""TLS through the loop's own layer, over the transport: only what differs from clear text.

Anonymous ciphers of TLS 1.2 need no certificate, so nothing has to be made or kept for these tests.
"""

import asyncio
import os
import socket
import ssl

import pytest
from drive import GET, START, Bench, body, complaints, hello, start, turn
from net import PATIENCE_S, listener

from fastasgi._transport import TransportChannel
from fastasgi.errors import ClientDisconnected

DISCONNECT = {"type": "http.disconnect"}


def context(side):
    """A context that encrypts and proves nothing."""
    made = ssl.SSLContext(side)
    made.check_hostname = False
    made.verify_mode = ssl.CERT_NONE
    made.maximum_version = ssl.TLSVersion.TLSv1_2
    try:
        made.set_ciphers("aNULL:@SECLEVEL=0")
    except ssl.SSLError:
        pytest.skip("this OpenSSL has no anonymous ciphers")
    return made


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
