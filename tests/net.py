"""A server on a real socket, and clients, all in the loop of the test.

`listening(app, io)` serves through our own socket I/O (`io="socket"`), through an asyncio transport
(`io="transport"`), or through one that the loop's own server has accepted (`io="server"`), on TCP, IPv6 or a
Unix socket. A `Client` is a non-blocking socket; every wait is bounded by `PATIENCE_S`, which only a failing
test ever reaches.
"""

import asyncio
import contextlib
import os
import socket
import ssl
import struct
import sys
from collections.abc import Callable

from answers import Response, read_answers
from drive import Bench, until

from fastasgi._transport import TransportChannel
from fastasgi.accepting import Acceptor

PATIENCE_S = 15.0
ON_LINUX = sys.platform == "linux"
IOS = ["socket", "transport"] if ON_LINUX else ["transport"]
FAMILIES = {"tcp": socket.AF_INET, "tcp6": socket.AF_INET6, "unix": getattr(socket, "AF_UNIX", None)}


def listener(family: str, path: str | None = None) -> socket.socket:
    """A bound, listening, non-blocking socket: "tcp", "tcp6", or "unix" at `path`."""
    sock = socket.socket(FAMILIES[family], socket.SOCK_STREAM)
    if family == "unix":
        sock.bind(path)
    else:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(("127.0.0.1" if family == "tcp" else "::1", 0))
    sock.listen(512)
    sock.setblocking(False)
    return sock


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True


def anonymous(side: int) -> ssl.SSLContext:
    """A context that encrypts and proves nothing: no certificate is needed. ssl.SSLError where OpenSSL has none."""
    made = ssl.SSLContext(side)
    made.check_hostname = False
    made.verify_mode = ssl.CERT_NONE
    made.maximum_version = ssl.TLSVersion.TLSv1_2
    made.set_ciphers("aNULL:@SECLEVEL=0")
    return made


class Client:
    """The client's end of a real connection."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.seen = b""

    async def send(self, data: bytes) -> None:
        async with asyncio.timeout(PATIENCE_S):
            await asyncio.get_running_loop().sock_sendall(self.sock, data)

    def send_what_fits(self, data: bytes, most: int) -> int:
        """Send copies of `data` until the kernel takes no more, or `most` bytes have left."""
        sent = 0
        with contextlib.suppress(BlockingIOError):
            while sent < most:
                sent += self.sock.send(data)
        return sent

    async def receive(self, size: int = 65536) -> bytes:
        """What is there next; b"" at the end."""
        async with asyncio.timeout(PATIENCE_S):
            data = await asyncio.get_running_loop().sock_recv(self.sock, size)
        self.seen += data
        return data

    async def answers(self, count: int, *methods: str) -> list[Response]:
        """The next `count` answers, exactly."""
        ended = False
        while len(found := read_answers(self.seen, methods, ended=ended)) < count:
            assert not ended, f"the connection ended before; {self.seen[-300:]!r}"
            ended = not await self.receive()
        assert len(found) == count, found
        self.seen = b""
        return found

    async def answer(self, method: str = "GET", *, data: bytes | None = None) -> Response:
        if data is not None:
            await self.send(data)
        return (await self.answers(1, method))[0]

    async def rest(self) -> bytes:
        """Everything until the end of the connection; a reset counts as one, and is `reset`."""
        self.was_reset = False
        try:
            while await self.receive():
                pass
        except ConnectionResetError:
            self.was_reset = True
        return self.seen

    def shut(self) -> None:
        """Send a FIN, go on reading."""
        self.sock.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Send a RST."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def close(self) -> None:
        self.sock.close()


class Net(Bench):
    """A `Bench` that listens; its clock is fake too."""

    listening_socket: socket.socket
    stop: Callable[[], None]

    async def dial(self, *, receive_buffer: int | None = None) -> Client:
        """Connect one more client."""
        where = self.listening_socket
        sock = socket.socket(where.family, socket.SOCK_STREAM)
        sock.setblocking(False)
        if receive_buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        if where.family != FAMILIES["unix"]:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client = Client(sock)
        self.clients.append(client)
        async with asyncio.timeout(PATIENCE_S):
            await asyncio.get_running_loop().sock_connect(sock, where.getsockname())
        return client

    async def until(self, condition: Callable[[], object], what: str = "") -> None:
        """Turn the loop until `condition()`, for as long as `PATIENCE_S`."""
        loop = asyncio.get_running_loop()
        end = loop.time() + PATIENCE_S
        while not condition():
            assert loop.time() < end, f"still not true: {what}"
            await asyncio.sleep(0)


@contextlib.asynccontextmanager
async def listening(
    app: Callable, io: str, *, family: str = "tcp", path: str | None = None, sock=None, tls=None, **options
):
    """Serve `app`; `tls` is a context, for io="transport". On leaving, clients are closed and no connection, exchange
    or descriptor may be left."""
    net = Net(app, None, options)
    server = None
    net.clients = []
    net.listening_socket = sock = sock or listener(family, path)
    loop = asyncio.get_running_loop()
    if io == "socket":
        from fastasgi._poller import Poller

        poller = Poller(net.runtime)
        poller.listen(sock)
        net.stop = poller.stop_listening
        net.poller = poller
    elif io == "transport":
        server = Acceptor(net.runtime, [sock], tls=tls)
        net.stop = server.close
    else:
        server = await loop.create_server(lambda: TransportChannel(net.runtime), sock=sock)
        net.stop = server.close
    try:
        yield net
        for client in net.clients:
            client.close()
        await settle(net)
        assert net.idle, (net.runtime.connections, net.runtime.requests_active)
    finally:
        for client in net.clients:
            client.close()
        net.runtime.cancel()
        net.runtime.abort()
        with contextlib.suppress(AssertionError):
            await until(lambda: net.idle)
        net.stop()
        if io == "socket":
            poller.close()
        elif io == "transport":
            await until(lambda: not net.runtime.connecting)
        else:
            await server.wait_closed()
        sock.close()
        if path and os.path.exists(path):
            os.unlink(path)


async def settle(net: Net) -> None:
    """Give connections that are closing their turns, then their deadlines."""
    with contextlib.suppress(AssertionError):
        await until(lambda: net.idle, turns=500)
    if not net.idle:
        await net.pass_time(90)
