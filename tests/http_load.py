"""Servers in threads that do what a test says, and plans of loads against them."""

import contextlib
import re
import socket
import threading

import pytest

from fastasgi.bench._load import LoadFailed
from fastasgi.bench.http import Exchange, Plan, Target, clients

PATIENCE_S = 10.0
HELLO = b"Hello, World!"
GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
NONCE = "@nonce@nonce@non"
MIB = 1 << 20


def answer(body=HELLO, *lines, status="200 OK"):
    """An answer with Content-Length."""
    return head(f"Content-Length: {len(body)}", *lines, status=status) + body


def head(*lines, status="200 OK"):
    return "\r\n".join([f"HTTP/1.1 {status}", *lines, "", ""]).encode()


def chunked(*pieces, end=b"0\r\n\r\n", extension=b""):
    """An answer in chunked coding."""
    chunks = b"".join(b"%x%b\r\n%b\r\n" % (len(piece), extension, piece) for piece in pieces)
    return head("Transfer-Encoding: chunked") + chunks + end


def post(body, *lines):
    """A request with a body."""
    return "\r\n".join(["POST / HTTP/1.1", f"Content-Length: {len(body)}", *lines, "", ""]).encode() + body


def read_request(file):
    """The next request of a client; EOFError when it has closed."""
    lines = []
    while not lines or lines[-1] != b"\r\n":
        line = file.readline()
        if not line:
            raise EOFError
        lines.append(line)
    data = b"".join(lines)
    size = re.search(rb"(?i)content-length: (\d+)", data)
    return data + (file.read(int(size[1])) if size else b"")


class Server:
    """Answers each request with `reply(number, request)`: bytes, or None to close the connection.

    What `each(answer)` yields is sent piece by piece; when it raises EOFError the connection is closed there.
    """

    def __init__(self, reply, each=None, uds=None):
        self.reply, self.each = reply, each
        self.requests = []
        if uds is None:
            self.listener = socket.create_server(("127.0.0.1", 0), backlog=64)
            self.target = Target(port=self.listener.getsockname()[1])
        else:
            self.listener = socket.socket(socket.AF_UNIX)
            self.listener.bind(uds)
            self.listener.listen(64)
            self.target = Target(uds=uds)
        self.threads, self.sockets = [], []
        self.thread = threading.Thread(target=self.accept)
        self.thread.start()

    def accept(self):
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self.listener.accept()
                sock.settimeout(PATIENCE_S)
                if self.target.uds is None:
                    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self.sockets.append(sock)
                thread = threading.Thread(target=self.serve, args=(sock,))
                self.threads.append(thread)
                thread.start()

    def serve(self, sock):
        with contextlib.suppress(OSError, EOFError), sock, sock.makefile("rb") as file:
            number = 0
            while True:
                request = read_request(file)
                self.requests.append(request)
                data = self.reply(number, request)
                number += 1
                if data is None:
                    return
                for piece in self.each(data) if self.each else [data]:
                    sock.sendall(piece)

    def close(self):
        for sock in [self.listener, *self.sockets]:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for thread in [self.thread, *self.threads]:
            thread.join(PATIENCE_S)
            assert not thread.is_alive()


@contextlib.contextmanager
def serving(reply=lambda number, request: answer(), **how):
    server = Server(reply, **how)
    try:
        yield server
    finally:
        server.close()


def plan(server, *exchanges, **more):
    """A plan against a server; plain GETs unless exchanges are given."""
    found = list(exchanges) or [Exchange(GET, HELLO)]
    return Plan(**({"target": server.target, "exchanges": found, "connections": 1, "seconds": 0.1} | more))


def failure(reply, *exchanges, each=None, **more):
    """The sentence of a run that must fail."""
    with serving(reply, each=each) as server, clients(plan(server, *exchanges, **more)) as load:
        with pytest.raises(LoadFailed) as caught:
            load.run(0.3, more.get("stall_s", 5.0))
        with pytest.raises(ValueError, match="one that failed"):
            load.run(0.3)
    return str(caught.value)


def byte_by_byte(data):
    return [data[at : at + 1] for at in range(len(data))]
