"""A supervisor and its workers as users start them, on a socket that the test has bound."""

import asyncio
import contextlib
import os
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from process import PATIENCE_S, ROOT, TESTS, Blocking, Process, no_alarm
from waiting import until

READY = "(Press CTRL+C to quit)"
REPLACED = "All workers are replaced"


class BlockingUnix(Blocking):
    """The same client over a Unix socket."""

    def __init__(self, path: str) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(PATIENCE_S)
        self.sock.connect(path)
        self.seen = b""


class BlockingTls(Blocking):
    """The same client over TLS."""

    def __init__(self, address: tuple[str, int], context: ssl.SSLContext) -> None:
        super().__init__(address)
        self.sock = context.wrap_socket(self.sock, server_hostname="localhost")


class Workers(Process):
    """A supervisor and its workers; `tls` is the context of its clients, if it wants one."""

    tls: ssl.SSLContext | None = None

    def start_workers(
        self, argv: list[str], environment: dict[str, str], *, path: str | None, folder: Path, cwd: Path
    ) -> None:
        """Start it on a socket that listens already: TCP, or a Unix socket at `path`."""
        with socket.socket(socket.AF_UNIX if path else socket.AF_INET) as listener, no_alarm():
            listener.bind(path or ("127.0.0.1", 0))
            listener.listen(512)
            self.address = listener.getsockname()
            fd = listener.fileno()
            self.child = subprocess.Popen(
                [sys.executable, "-m", "fastasgi", "--fd", str(fd), "--app-dir", str(folder), *argv],
                pass_fds=[fd],
                stdout=self.output,
                stderr=self.output,
                cwd=cwd,
                env={**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONPATH": str(ROOT), **environment},
            )

    def connect(self) -> Blocking:
        if self.tls is not None:
            client: Blocking = BlockingTls(self.address, self.tls)
        else:
            client = BlockingUnix(self.address) if isinstance(self.address, str) else Blocking(self.address)
        self.clients.append(client)
        return client

    def ask(self, target: str = "/1") -> tuple[int, bytes]:
        """One request over a connection of its own: status and body."""
        client = self.connect()
        answer = client.get(target)
        client.close()
        return answer.status, answer.body

    def pids(self) -> list[int]:
        """The processes that it has started and not waited for yet."""
        with open(f"/proc/{self.pid}/task/{self.pid}/children") as children:
            return [int(pid) for pid in children.read().split()]

    def until_logged(self, text: str, count: int = 1, patience_s: float = PATIENCE_S) -> str:
        """Wait until it has written this so often; all that it has written."""
        deadline_s = time.monotonic() + patience_s
        while (log := self.log()).count(text) < count:
            assert self.child.poll() is None or self.log().count(text) >= count, f"it has ended; it wrote:\n{log}"
            assert time.monotonic() < deadline_s, f"{text!r} was not written {count} times:\n{log}"
            time.sleep(0.01)
        return log

    async def open_connection(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection for asyncio."""
        if isinstance(self.address, str):
            return await asyncio.open_unix_connection(self.address)
        name = "localhost" if self.tls is not None else None
        return await asyncio.open_connection(*self.address, ssl=self.tls, server_hostname=name)


def search_path(*folders: Path) -> str:
    """PYTHONPATH for applications in these folders that use ours."""
    return os.pathsep.join(map(str, (*folders, TESTS, ROOT)))


def is_alive(pid: int) -> bool:
    """Whether the process runs; one that has ended and was not waited for does not."""
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def until_gone(pids: list[int]) -> None:
    """Wait until none of them runs."""
    until(lambda: not any(is_alive(pid) for pid in pids), f"none of {pids} runs")


def until_reaped(pids: list[int]) -> None:
    """Wait until their parent knows that they have ended."""
    until(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in pids), f"somebody has waited for {pids}")


def tls_ends() -> tuple[ssl.SSLContext, list[str]]:
    """A client's context that trusts the tests' authority, and the options of its server."""
    from tls_files import files  # what it needs is not there for every test

    context = ssl.create_default_context(cafile=files().ca)
    return context, ["--ssl-certfile", files().cert, "--ssl-keyfile", files().key]


@contextlib.contextmanager
def running_workers(
    app: str,
    *argv: str,
    workers: int = 2,
    over: str = "tcp",
    is_ready: bool = True,
    folder: Path = TESTS,
    cwd: Path = ROOT,
    **environment: str,
) -> Iterator[Workers]:
    """Run a supervisor, and wait until all of its workers are ready. Nobody is left in the end."""
    server = Workers()
    command = [app if ":" in app else f"net_apps:{app}", "--workers", str(workers), "--no-access-log", *argv]
    if over == "tls":
        server.tls, certificate = tls_ends()
        command += certificate
    left: list[int] = []
    with tempfile.TemporaryDirectory() as place:
        path = f"{place}/x.sock" if over == "unix" else None
        try:
            server.start_workers(command, environment, path=path, folder=folder, cwd=cwd)
            if is_ready:
                server.until_logged(READY)
            yield server
        finally:
            if server.child is not None and server.child.poll() is None:
                left = server.pids()
            server.end()
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
