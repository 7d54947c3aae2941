"""Our own socket I/O where it differs from a transport: edges, descriptors that run out, urgent bytes.

What both have in common is in `test_channels.py`.
"""

import asyncio
import os
import socket
import subprocess
import sys

import pytest
from drive import GET, hello, request, turn
from net import listening
from process import PATIENCE_S, ROOT, TESTS, running

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="epoll is Linux's")


# --- edges ----------------------------------------------------------------------------------------


@pytest.mark.pins("response.half-close")
async def test_request_and_fin_in_one_edge(event_loop_kind):
    """Both are there before the first look: a short read must not hide the end."""
    async with listening(hello, "socket") as net:
        client = await net.dial()
        await net.until(lambda: net.runtime.connections == 1)
        client.sock.send(GET)
        client.shut()
        assert (await client.answer()).body == b"ok"
        assert await client.rest() == b""
        assert not client.was_reset


async def test_data_and_reset_in_one_edge(event_loop_kind):
    async with listening(hello, "socket") as net:
        for _ in range(20):
            client = await net.dial()
            client.sock.send(GET)
            client.reset()
        net.clients.clear()
        await net.until(lambda: net.runtime.connections == 0, "all to be gone")


async def test_more_than_one_buffer_in_one_edge(event_loop_kind):
    """A full buffer means more may be there, and no edge will tell."""
    got = []

    async def app(scope, receive, send):
        size = 0
        while True:
            message = await receive()
            size += len(message["body"])
            if not message["more_body"]:
                break
        got.append(size)
        await hello(scope, receive, send)

    async with listening(app, "socket") as net:
        client = await net.dial()
        client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 << 20)
        sizes = [65535, 65536, 65537, 131072, 262144, 262145, 1_000_000]
        for size in sizes:
            data = request("POST", body=b"x" * size)
            sent = 0
            while sent < len(data):
                sent += client.sock.send(data[sent:])
                await turn()
            assert (await client.answer("POST")).status == 200
        assert got == sizes


async def test_urgent_bytes_are_bytes(event_loop_kind):
    """SO_OOBINLINE: without it an urgent byte vanishes and the parser sees another request than a proxy does."""
    paths = []

    async def app(scope, receive, send):
        paths.append(scope["path"])
        await hello(scope, receive, send)

    async with listening(app, "socket") as net:
        client = await net.dial()
        client.sock.send(b"GET /ab", socket.MSG_OOB)
        client.sock.send(b"c HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await client.answer()).status == 200
    assert paths == ["/abc"]


async def test_stop_listening_keeps_connections(event_loop_kind):
    async with listening(hello, "socket") as net:
        client = await net.dial()
        await client.answer(data=GET)
        net.stop()
        assert (await client.answer(data=GET)).body == b"ok"


async def test_closing_the_poller_closes_its_descriptors(event_loop_kind):
    before = set(os.listdir("/proc/self/fd"))
    async with listening(hello, "socket") as net:
        client = await net.dial()
        await client.answer(data=GET)
    assert set(os.listdir("/proc/self/fd")) == before


async def test_closed_descriptors_that_come_again(event_loop_kind):
    """The kernel gives a number away at once: an old event must not reach the new connection."""
    async with listening(hello, "socket") as net:
        for _ in range(50):
            old = await net.dial()
            await old.answer(data=GET)
            old.sock.send(GET[:5])
            old.reset()
            new = await net.dial()
            assert (await new.answer(data=GET)).body == b"ok"
            new.close()
        net.clients.clear()


async def test_two_listeners_on_one_poller(event_loop_kind):
    async with listening(hello, "socket") as net:
        with socket.socket() as second:
            second.bind(("127.0.0.1", 0))
            second.listen()
            second.setblocking(False)
            net.poller.listen(second)
            for where in (net.listening_socket, second, net.listening_socket):
                sock = socket.socket()
                sock.setblocking(False)
                try:
                    loop = asyncio.get_running_loop()
                    await loop.sock_connect(sock, where.getsockname())
                    await loop.sock_sendall(sock, GET)
                    async with asyncio.timeout(PATIENCE_S):
                        assert (await loop.sock_recv(sock, 1000)).startswith(b"HTTP/1.1 200")
                finally:
                    sock.close()
            await net.until(lambda: net.runtime.connections == 0)
            net.stop()


# --- descriptors run out --------------------------------------------------------------------------


FEW_DESCRIPTORS = ("sh", "-c", 'ulimit -n 40; exec "$@"', "sh")


@pytest.mark.parametrize("io", ["socket", "transport"])
def test_descriptors_run_out(io):
    """Accepting pauses, is logged once, and goes on: idle connections make room, and those with a request stay."""
    with running("main", "--timeout-keep-alive", "60", io=io, wrap=FEW_DESCRIPTORS) as server:
        busy = [server.connect() for _ in range(3)]
        for client in busy:
            client.send(b"POST /slow HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n")
        idle = server.connect()
        assert idle.get().status == 200
        many = [server.connect() for _ in range(60)]
        for client in many:
            client.send(GET)
        cpu = cpu_ticks(server.pid)
        for client in many:
            assert client.answer().status == 200, "although nobody closes a connection"
        assert cpu_ticks(server.pid) - cpu < 200, "it spins"
        assert idle.rest() == b""
        for client in busy:
            assert client.answer(b"x").body == b"slow"
        assert server.connect().get().status == 200
        log = server.log().lower()
        assert log.count("too many open files") + log.count("descriptors") in (1, 2), log
        assert "traceback" not in log


@pytest.mark.parametrize("io", ["socket", "transport"])
def test_descriptors_run_out_and_nobody_is_idle(io):
    """Each that goes makes room for one that waits."""
    with running("main", io=io, wrap=FEW_DESCRIPTORS) as server:
        busy = [server.connect() for _ in range(60)]
        for client in busy:
            client.send(b"POST /slow HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n")
        for client in busy:
            answer = client.answer(b"x")
            assert answer.body == b"slow"
        log = server.log().lower()
        assert log.count("too many open files") == 1, log


def cpu_ticks(pid):
    """User and system time of a process, in hundredths of a second."""
    with open(f"/proc/{pid}/stat") as stat:
        fields = stat.read().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def test_limit_connections_waits_in_the_backlog():
    """Above the limit idle ones are closed first, others wait; nobody is refused."""
    with running("main", "--limit-connections", "3", io="socket") as server:
        clients = [server.connect() for _ in range(6)]
        for client in clients:
            client.send(GET)
        for client in clients:
            assert client.answer().status == 200
            client.close()


# --- a descriptor that is passed ------------------------------------------------------------------


def test_an_abstract_socket_is_passed():
    """`--fd` with a name that has no file (systemd and supervisors do it)."""
    name = f"\0fastasgi-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(name)
        listener.listen()
        fd = listener.fileno()
        child = subprocess.Popen(
            [sys.executable, "-m", "fastasgi", "--fd", str(fd), "--app-dir", str(TESTS), "net_apps:main"],
            pass_fds=[fd],
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            with socket.socket(socket.AF_UNIX) as client:
                client.settimeout(PATIENCE_S)
                client.connect(name)
                client.sendall(GET)
                assert client.recv(1000).startswith(b"HTTP/1.1 200 OK")
            child.terminate()
            assert child.wait(PATIENCE_S) == 0
        finally:
            child.kill()
            child.wait()
