"""`fastasgi` as users start it: a process of its own, on a socket that the test has bound.

The socket listens before the process is started, so a client can connect at once and waits for its
answer instead of for a port to open. Nothing here sleeps.
"""

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

from answers import Response, read_answers

TESTS = Path(__file__).parent
ROOT = TESTS.parent
PATIENCE_S = 20.0
GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


class Blocking:
    """A client that blocks, with a bound."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.sock = socket.create_connection(address, PATIENCE_S)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.seen = b""

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def answer(self, data: bytes | None = None, method: str = "GET") -> Response:
        """Send, and read exactly one whole answer."""
        if data is not None:
            self.send(data)
        ended = False
        while not (found := read_answers(self.seen, (method,), ended=ended)):
            assert not ended, f"the connection ended before: {self.seen[-300:]!r}"
            ended = not self.read()
        (only,) = found
        self.seen = b""
        return only

    def get(self, target: str = "/") -> Response:
        return self.answer(f"GET {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode())

    def read(self) -> bytes:
        data = self.sock.recv(1 << 16)
        self.seen += data
        return data

    def until(self, wanted: bytes) -> None:
        """Read until `wanted` was seen."""
        while wanted not in self.seen:
            assert self.read(), f"{wanted!r} never came: {self.seen!r}"

    def rest(self) -> bytes:
        """Everything until the end, which may be a reset."""
        with contextlib.suppress(ConnectionResetError):
            while self.read():
                pass
        return self.seen

    def close(self) -> None:
        self.sock.close()


@contextlib.contextmanager
def no_alarm() -> Iterator[None]:
    """Hold the alarm of a test's time limit back for a few calls: a child that is started but not yet known to
    anybody would stay. (No blocked signal: the child would inherit that.)"""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    held: list[int] = []
    before = signal.signal(signal.SIGALRM, lambda number, frame: held.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGALRM, before)
        if held:
            signal.raise_signal(signal.SIGALRM)


class Process:
    """One running server, its address, its clients and what it wrote. Killed by `end()`, whatever happens."""

    child: subprocess.Popen[bytes] | None = None

    def __init__(self) -> None:
        self.clients: list[Blocking] = []
        self.output = tempfile.TemporaryFile()  # noqa: SIM115 - `end` closes it

    def start(self, argv: list[str], environment: dict[str, str], wrap: list[str]) -> None:
        """Start it on a socket that listens already."""
        with socket.socket() as listener, no_alarm():
            listener.bind(("127.0.0.1", 0))
            listener.listen(512)
            self.address = listener.getsockname()
            fd = listener.fileno()
            # our own copy is closed on leaving: when the server stops listening, nobody listens
            self.child = subprocess.Popen(
                [*wrap, sys.executable, "-m", "fastasgi", "--fd", str(fd), "--app-dir", str(TESTS), *argv],
                pass_fds=[fd],
                stdout=self.output,
                stderr=self.output,
                cwd=ROOT,
                env={**os.environ, "PYTHONUNBUFFERED": "1", **environment},
            )

    def end(self) -> None:
        """Close the clients, kill it if it still runs."""
        with no_alarm():
            for client in self.clients:
                client.close()
            if self.child is not None and self.child.poll() is None:
                self.child.kill()
                self.child.wait()
            self.output.close()

    @property
    def pid(self) -> int:
        return self.child.pid

    def connect(self) -> Blocking:
        client = Blocking(self.address)
        self.clients.append(client)
        return client

    def log(self) -> str:
        """All that it has written so far, to both streams."""
        size = os.fstat(self.output.fileno()).st_size
        return os.pread(self.output.fileno(), size, 0).decode(errors="replace")

    def events(self) -> list[str]:
        """The lines that `net_apps` wrote, in their order."""
        return re.findall(r"^event: (.*)$", self.log(), re.M)

    def signal(self, number: int) -> None:
        self.child.send_signal(number)

    def wait(self, timeout_s: float = PATIENCE_S) -> int:
        """Its exit code."""
        try:
            return self.child.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running after {timeout_s} s; it wrote:\n{self.log()}") from None

    def resident_bytes(self) -> int:
        with open(f"/proc/{self.pid}/statm") as statm:
            return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def is_listening(self) -> bool:
        """Somebody accepts or queues connections at its address."""
        try:
            socket.create_connection(self.address, 1).close()
        except ConnectionRefusedError:
            return False
        return True


@contextlib.contextmanager
def running(
    app: str,
    *argv: str,
    io: str | None = None,
    wrap: tuple[str, ...] = (),
    **environment: str,
) -> Iterator[Process]:
    """Run `net_apps:<app>` (or any import string with a colon) with these options."""
    if io is not None:
        environment["FASTASGI_IO"] = io
    server = Process()
    try:
        server.start([app if ":" in app else f"net_apps:{app}", *argv], environment, list(wrap))
        yield server
    finally:
        server.end()
