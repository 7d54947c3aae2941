"""outlet: a log that nobody reads never makes the server wait, and loses only what is said to be lost."""

import contextlib
import fcntl
import io
import logging
import os
import signal
import socket
import subprocess
import sys
import time

import pytest
from process import ROOT, Blocking

from fastasgi import outlet
from fastasgi.outlet import KEEP_BYTES, PIPE_BYTES, ConsoleHandler, Outlet, flush_late

pytestmark = pytest.mark.skipif(not hasattr(fcntl, "F_SETPIPE_SZ"), reason="the pipes of Linux")
PAGE = 4096
LINE = b"x" * 99 + b"\n"


@contextlib.contextmanager
def small_pipe():
    """A pipe that takes one page."""
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, PAGE)
    os.set_blocking(reading, False)
    try:
        yield reading, writing
    finally:
        os.close(reading)
        os.close(writing)


def read_all(fd):
    """What waits in a pipe."""
    found = b""
    with contextlib.suppress(BlockingIOError):
        while piece := os.read(fd, 1 << 16):
            found += piece
    return found


def outlet_of(fd, way, monkeypatch):
    """An outlet for a pipe that is ours to open anew, or not (as when another user made it)."""
    if way == "polled":
        monkeypatch.setattr(outlet.os, "open", lambda *_: (_ for _ in ()).throw(PermissionError(13, "no")))
    return Outlet(fd)


@pytest.mark.parametrize("way", ["own", "polled"])
@pytest.mark.pins("logs.never-blocks")
def test_a_full_pipe_takes_what_it_can(way, monkeypatch):
    with small_pipe() as (reading, writing):
        out = outlet_of(writing, way, monkeypatch)
        data = LINE * 1000
        taken = out.write(data)
        assert 0 < taken <= PAGE
        assert taken % len(LINE) == 0  # no half of a line, which another process could end
        assert out.write(data) == 0
        assert not out.wait(0)
        assert read_all(reading) == data[:taken]
        assert out.wait(0)
        assert out.write(LINE) == len(LINE)
        out.close()
        assert os.get_blocking(writing)  # as it was: others write there too


@pytest.mark.parametrize("way", ["own", "polled"])
def test_a_line_longer_than_a_pipe_takes_at_once(way, monkeypatch):
    with small_pipe() as (reading, writing):
        fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 1 << 18)
        out = outlet_of(writing, way, monkeypatch)
        data = b"y" * (3 * PIPE_BYTES) + b"\n" + LINE
        assert out.write_all(data, 0) == len(data)
        assert read_all(reading) == data
        out.close()


@pytest.mark.parametrize("way", ["own", "polled"])
def test_a_pipe_without_a_reader(way, monkeypatch):
    reading, writing = os.pipe()
    out = outlet_of(writing, way, monkeypatch)
    os.close(reading)
    try:
        with pytest.raises(BrokenPipeError):
            out.write(LINE)
        late = outlet_of(writing, way, monkeypatch)
        with pytest.raises(BrokenPipeError):
            late.write(LINE)
        late.close()
    finally:
        out.close()
        os.close(writing)


def test_sockets_and_files(tmp_path):
    ours, theirs = socket.socketpair()
    with ours, theirs, open(tmp_path / "log", "wb") as file:
        out = Outlet(ours.fileno())
        while out.write(LINE * 1000):
            pass
        assert not out.wait(0)
        assert theirs.recv(len(LINE)) == LINE
        assert ours.gettimeout() is None
        out.close()
        out = Outlet(file.fileno())
        assert not out.can_block
        assert out.wait(0)
        assert out.write(LINE * 1000) == 100_000
        out.close()
    assert (tmp_path / "log").read_bytes() == LINE * 1000


# --- the handler --------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def console(fd):
    """A logger whose lines go to `fd`."""
    logger = logging.Logger("console")
    with os.fdopen(os.dup(fd), "w") as stream:
        handler = ConsoleHandler(stream)
        logger.addHandler(handler)
        yield logger, handler
        handler.close()


@pytest.mark.pins("logs.never-blocks", "logs.drops-counted")
def test_lines_wait_then_are_dropped_and_counted():
    with small_pipe() as (reading, writing), console(writing) as (logger, handler):
        lines = [f"{n:05d}" + "x" * 94 for n in range(KEEP_BYTES // 100 + 200)]
        for line in lines:
            logger.warning(line)
        assert 0 < handler.dropped < 200
        dropped, kept = handler.dropped, len(lines) - handler.dropped
        found = b""
        while piece := read_all(reading):
            found += piece
            flush_late()
        *told, about = found.decode().splitlines()
        assert told == lines[:kept]
        assert about == f"{dropped} lines of the log were dropped here: their reader did not take them in time"
        logger.warning("again")
        assert read_all(reading) == b"again\n"


@pytest.mark.pins("logs.never-blocks")
def test_a_handler_whose_reader_has_gone():
    reading, writing = os.pipe()
    try:
        with console(writing) as (logger, handler):
            os.close(reading)
            for _ in range(10):
                logger.error("nobody hears it")
            assert handler.dropped == 10
    finally:
        os.close(writing)


def test_what_waits_is_written_at_the_end_if_somebody_reads():
    with small_pipe() as (reading, writing), console(writing) as (logger, handler):
        for _ in range(60):
            logger.warning("x" * 99)
        first = read_all(reading)
        handler.close()
        assert first + read_all(reading) == LINE * 60


def test_other_streams_are_written_as_before(tmp_path):
    logger = logging.Logger("console")
    text = io.StringIO()
    handler = ConsoleHandler(text)
    logger.addHandler(handler)
    logger.warning("one")
    with open(tmp_path / "log", "w") as file:
        handler.setStream(file)
        logger.warning("two")
        handler.setStream(text)
    logger.warning("three")
    assert text.getvalue() == "one\nthree\n"
    assert (tmp_path / "log").read_text() == "two\n"


def test_a_forked_child_does_not_write_what_its_parent_keeps():
    code = (
        "import fcntl, logging, os, sys\n"
        "from fastasgi.outlet import ConsoleHandler\n"
        "fcntl.fcntl(2, fcntl.F_SETPIPE_SZ, 4096)\n"
        "logging.getLogger().addHandler(ConsoleHandler(sys.stderr))\n"
        "for n in range(100): logging.warning('%05d' + 'x' * 94, n)\n"
        "pid = os.fork()\n"
        "if pid: os.waitpid(pid, 0)\n"
    )
    child = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdout.read() == b""  # ends with the parent, whose stderr nobody has read until then
    found = child.stderr.read().decode().splitlines()
    child.stderr.close()
    child.stdout.close()
    assert child.wait(20) == 0
    assert [int(line[:5]) for line in found] == list(range(len(found)))


# --- a whole server -----------------------------------------------------------------------------------------------

NOISY = """
import os, signal

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        return
    if scope["path"] == "/raise":
        raise LookupError("x" * 300)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})
    if scope["path"].startswith("/kill/"):
        name = scope["path"][6:]
        os.abort() if name == "abort" else os.kill(os.getpid(), getattr(signal, name))
"""


@contextlib.contextmanager
def serving(folder, stdout, stderr, *argv):
    """A server in a process of its own; gives the process and a function that connects."""
    (folder / "noisy.py").write_text(NOISY)
    clients = []
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        address, fd = listener.getsockname(), listener.fileno()
        command = [sys.executable, "-m", "fastasgi", "noisy:app", "--fd", str(fd), "--app-dir", str(folder), *argv]
        child = subprocess.Popen(command, pass_fds=[fd], stdout=stdout, stderr=stderr, cwd=ROOT)

    def connect():
        clients.append(Blocking(address))
        return clients[-1]

    try:
        yield child, connect
    finally:
        for client in clients:
            client.close()
        if child.poll() is None:
            child.kill()
            child.wait()


@pytest.mark.pins("logs.never-blocks", "logs.drops-counted")
def test_a_server_whose_log_nobody_reads_goes_on_serving(tmp_path):
    """Both streams are one full pipe. It serves, it stops, and lines are missing at the end only."""
    with small_pipe() as (reading, writing):
        with serving(tmp_path, writing, writing) as (child, connect):
            client = connect()
            for _ in range(3000):
                assert client.get("/" + "x" * 500).status == 200
            for _ in range(20):
                assert connect().get("/raise").status == 500
            assert client.get("/").status == 200
            child.terminate()
            assert child.wait(20) == 0
        found = read_all(reading)
        assert found.startswith(b"INFO:     Started server process")
        assert len(found) <= PAGE


@pytest.mark.pins("logs.never-blocks")
def test_a_supervisor_writes_late_lines_without_another_line(tmp_path, monkeypatch):
    """Its pipe is full while it starts. When somebody reads, what waits comes, though there is nothing new to say."""
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    with small_pipe() as (reading, writing), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(20)
        os.set_blocking(writing, False)
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(writing, LINE)
        os.set_blocking(writing, True)
        with serving(tmp_path, subprocess.DEVNULL, writing, "--workers", "2") as (child, connect):
            assert manager.recv(4096).startswith(b"READY=1")  # behind the last line of its start
            found, deadline_s = b"", time.monotonic() + 20
            while b"Press CTRL+C" not in found:
                assert time.monotonic() < deadline_s, found
                found += read_all(reading)
                time.sleep(0.02)
            child.terminate()
            assert child.wait(20) == 0


@pytest.mark.pins("logs.never-blocks")
def test_a_server_whose_log_has_lost_its_reader_goes_on_serving(tmp_path):
    reading, writing = os.pipe()
    with serving(tmp_path, writing, writing) as (child, connect):
        os.close(writing)
        client = connect()
        assert client.get("/").status == 200
        os.close(reading)
        for _ in range(20):
            assert client.get("/").status == 200
            assert connect().get("/raise").status == 500
        child.terminate()
        assert child.wait(20) == 0


@pytest.mark.pins("logs.nothing-lost")
@pytest.mark.parametrize("how", ["abort", "SIGSEGV", "SIGQUIT", "SIGTERM", "SIGFPE"])
@pytest.mark.parametrize("into", ["pipe", "file"])
def test_no_access_line_is_lost_when_the_process_ends(how, into, tmp_path):
    """The line of the request that kills the server was made just before."""
    reading, writing = os.pipe()
    with open(tmp_path / "out", "w+b") as file, serving(
        tmp_path, writing if into == "pipe" else file, subprocess.DEVNULL
    ) as (child, connect):
        os.close(writing)
        client = connect()
        client.get("/first")
        client.send(f"GET /kill/{how} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        client.rest()  # the answer, unless the process ends before it leaves
        number = signal.SIGABRT if how == "abort" else getattr(signal, how)
        assert child.wait(20) == (0 if how == "SIGTERM" else -number)
        found = read_all(reading) if into == "pipe" else (tmp_path / "out").read_bytes()
    os.close(reading)
    assert [line.split()[4] for line in found.decode().splitlines()] == ["/first", f"/kill/{how}"]
