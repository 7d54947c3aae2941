"""A gigabyte in either direction over real sockets, with the other side standing still.

The server is a process of its own; its resident memory is read from /proc while a second connection
asks how far it has come. "Standing still" is seen, not waited for: the count does not change any more.
"""

import contextlib
import os
import socket
import sys

import pytest
from process import running

MIB = 1 << 20
BOUND = 4 * MIB
STILL = 200

pytestmark = pytest.mark.skipif(
    not os.path.exists("/proc/self/statm"), reason="resident memory is read from /proc"
)
IOS = ["socket", "transport"] if sys.platform == "linux" else ["transport"]


def progress(client):
    sent, received = client.get("/progress").body.split()
    return int(sent), int(received)


@pytest.mark.pins("response.write-backpressure")
@pytest.mark.parametrize("io", IOS)
def test_a_gigabyte_down_to_a_stopped_reader(io):
    with running("main", io=io) as server:
        asking, reading = server.connect(), server.connect()
        for _ in range(STILL):
            progress(asking)
        before = server.resident_bytes()
        reading.send(b"GET /download HTTP/1.1\r\nHost: x\r\n\r\n")
        reading.until(b"\r\n\r\n")
        last, still = -1, 0
        while still < STILL:
            sent, _ = progress(asking)
            still = still + 1 if sent == last else 0
            last = sent
        assert 0 < last < 64 * MIB, "the kernel's buffers and ours"
        assert server.resident_bytes() - before < BOUND
        total = 0
        while total < 100 * MIB:  # it goes on when the reader does
            data = reading.sock.recv(MIB)
            assert data
            total += len(data)
        assert progress(asking)[0] > last
        assert server.resident_bytes() - before < BOUND


@pytest.mark.pins("response.read-backpressure")
@pytest.mark.parametrize("io", IOS)
@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_a_gigabyte_up_to_a_sleeping_application(io, framing):
    with running("main", io=io) as server:
        asking, sending = server.connect(), server.connect()
        for _ in range(STILL):
            progress(asking)
        before = server.resident_bytes()
        head = b"POST /upload HTTP/1.1\r\nHost: x\r\n"
        if framing == "length":
            sending.send(head + b"Content-Length: 1073741824\r\n\r\n")
        else:
            sending.send(head + b"Transfer-Encoding: chunked\r\n\r\n40000000\r\n")
        sending.sock.setblocking(False)
        data = b"x" * 65536
        sent = still = 0
        while still < STILL:
            still += 1
            with contextlib.suppress(BlockingIOError):
                while sent < (1 << 30):
                    sent += sending.sock.send(data)
                    still = 0
            progress(asking)
        assert sent < 64 * MIB, "the kernel's buffers and ours"
        assert server.resident_bytes() - before < BOUND
        assert asking.get("/go").status == 200
        peak = 0
        sending.sock.settimeout(20)
        target = sent + 200 * MIB
        while sent < target:
            sent += sending.sock.send(data)
            if sent % (16 * MIB) < 65536:
                peak = max(peak, server.resident_bytes())
        assert progress(asking)[1] > 100 * MIB
        assert peak - before < BOUND
        sending.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        sending.close()
        assert asking.get().status == 200
