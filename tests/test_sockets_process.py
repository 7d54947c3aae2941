"""Sockets as processes meet them: several places, what systemd passes, files that others have left."""

import contextlib
import os
import signal
import socket
import subprocess
import sys

import pytest
from frameworks.serving import Lines
from net import has_ipv6
from process import PATIENCE_S, ROOT, TESTS, no_alarm

pytestmark = pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="no Unix sockets on this platform")
needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")

# As systemd starts a service: its sockets from descriptor 3 on, and its own process's number in the environment.
ACTIVATE = (
    "import fcntl, os, sys; fds, names = sys.argv[1].split(','), sys.argv[2]\n"
    "kept = [fcntl.fcntl(int(fd), fcntl.F_DUPFD, 100) for fd in fds]\n"
    "for number, fd in enumerate(kept): os.dup2(fd, 3 + number)\n"
    "os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(fds)), LISTEN_FDNAMES=names)\n"
    "os.execv(sys.executable, [sys.executable, *sys.argv[3:]])\n"
)
RUNNING = r"fastasgi running on (\S+)"


@contextlib.contextmanager
def serving(folder, *argv, before=(), fds=()):
    """A server with `folder` as its current one; its process and the lines that it writes to stderr."""
    with no_alarm():
        child = subprocess.Popen(
            [sys.executable, *before, "-m", "fastasgi", "net_apps:main", "--app-dir", str(TESTS), *argv],
            pass_fds=fds,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
    lines = Lines(child.stderr)
    try:
        yield child, lines
    finally:
        child.kill()
        child.wait()
        lines.close()


def status_of(family, address):
    """What a client that connects there gets."""
    with socket.socket(family) as client:
        client.settimeout(PATIENCE_S)
        client.connect(address)
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        data = b""
        while piece := client.recv(65536):
            data += piece
    return int(data.split()[1])


def stop(child):
    child.send_signal(signal.SIGTERM)
    assert child.wait(PATIENCE_S) == 0


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Paths of Unix sockets are short from here."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@needs_ipv6
def test_several_places(folder):
    places = ["--bind", "127.0.0.1:0", "--bind", "[::1]:0", "--bind", "unix:app.sock"]
    with serving(folder, *places, "--uds-permissions", "600") as (child, lines):
        lines.wait(RUNNING, times=3)
        urls = [lines.wait(RUNNING, times=number)[1] for number in (1, 2, 3)]
        ports = [int(url.rpartition(":")[2]) for url in urls[:2]]
        assert urls == [f"http://127.0.0.1:{ports[0]}", f"http://[::1]:{ports[1]}", "unix:app.sock"]
        assert status_of(socket.AF_INET, ("127.0.0.1", ports[0])) == 200
        assert status_of(socket.AF_INET6, ("::1", ports[1])) == 200
        assert status_of(socket.AF_UNIX, "app.sock") == 200
        assert os.stat("app.sock").st_mode & 0o777 == 0o600
        stop(child)
    assert not os.path.exists("app.sock")


@needs_ipv6
def test_every_address(folder):
    with serving(folder, "--bind", ":0") as (child, lines):
        port = int(lines.wait(RUNNING)[1].rpartition(":")[2])
        assert status_of(socket.AF_INET, ("127.0.0.1", port)) == status_of(socket.AF_INET6, ("::1", port)) == 200
        stop(child)


@contextlib.contextmanager
def activated(folder, names, *argv):
    """A server that systemd has started, with a TCP socket and a Unix socket."""
    with socket.socket() as tcp, socket.socket(socket.AF_UNIX) as unix:
        tcp.bind(("127.0.0.1", 0))
        unix.bind("passed.sock")
        for sock in (tcp, unix):
            sock.listen(16)
        fds = [tcp.fileno(), unix.fileno()]
        before = ["-c", ACTIVATE, ",".join(map(str, fds)), names]
        with serving(folder, *argv, before=before, fds=fds) as (child, lines):
            yield child, lines, tcp.getsockname()


def test_sockets_of_systemd(folder):
    """Both are served, and neither is ours to remove."""
    with activated(folder, "web:local", "--bind", "systemd") as (child, lines, address):
        lines.wait(RUNNING, times=2)
        assert status_of(socket.AF_INET, address) == status_of(socket.AF_UNIX, "passed.sock") == 200
        stop(child)
    assert os.path.exists("passed.sock")


def test_one_socket_of_systemd_by_its_name(folder):
    """Beside a place of our own."""
    argv = ("--bind", "systemd:local", "--bind", "unix:own.sock")
    with activated(folder, "web:local", *argv) as (child, lines, _):
        lines.wait(RUNNING, times=2)
        assert [lines.wait(RUNNING, times=number)[1] for number in (1, 2)] == ["unix:passed.sock", "unix:own.sock"]
        assert status_of(socket.AF_UNIX, "passed.sock") == status_of(socket.AF_UNIX, "own.sock") == 200
        stop(child)
    assert os.path.exists("passed.sock") and not os.path.exists("own.sock")


def test_no_systemd(folder):
    with serving(folder, "--bind", "systemd") as (child, lines):
        assert child.wait(PATIENCE_S) == 3
        lines.wait(r"systemd has passed no sockets to this process \(LISTEN_PID\); start this process by")


def test_files_of_others(folder):
    """One who listens is left alone; what a killed one left is replaced, and goes in the end."""
    uds = ("--uds", "app.sock")
    with serving(folder, *uds) as (first, lines):
        lines.wait(RUNNING)
        with serving(folder, *uds) as (second, said):
            assert second.wait(PATIENCE_S) == 3
            said.wait(r"'app\.sock' is in use by .*; stop that one or choose another path with --uds")
        assert status_of(socket.AF_UNIX, "app.sock") == 200
        first.kill()
        first.wait()
    assert os.path.exists("app.sock")
    with serving(folder, *uds) as (third, lines):
        lines.wait(RUNNING)
        assert status_of(socket.AF_UNIX, "app.sock") == 200
        stop(third)
    assert not os.path.exists("app.sock")


def test_the_file_of_a_successor_stays(folder):
    """As in a restart that overlaps: the old one ends when the new one has the path already."""
    uds = ("--uds", "app.sock")
    with serving(folder, *uds) as (old, lines):
        lines.wait(RUNNING)
        os.rename("app.sock", "old.sock")
        with serving(folder, *uds) as (new, said):
            said.wait(RUNNING)
            stop(old)
            assert status_of(socket.AF_UNIX, "app.sock") == 200
            stop(new)
