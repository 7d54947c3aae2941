"""WebSockets of a server in a process of its own: system calls, log lines, and what a signal brings."""

import collections
import os
import re
import signal
import subprocess
import sys

import frames
import pytest
from frames import TEXT, close, frame, handshake
from process import running
from test_hops import READS, WRITES, can_trace

ROUNDS = 100
IN_A_ROW = 10


def opened(server, path="/"):
    """A client whose handshake is answered; what it has seen of that is forgotten."""
    client = server.connect()
    client.send(handshake(path))
    client.until(b"\r\n\r\n")
    assert client.seen.startswith(b"HTTP/1.1 101 "), client.seen
    client.seen = client.seen.partition(b"\r\n\r\n")[2]
    return client


def read_frames(client, count, size):
    """That many frames of so many bytes each."""
    while len(client.seen) < count * size:
        assert client.read(), client.seen
    found, client.seen = frames.read(client.seen), b""
    assert len(found) == count
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="system calls are counted by strace")
@pytest.mark.pins("websocket.batch", "websocket.one-write")
@pytest.mark.parametrize("over", ["socket", "transport-uvloop", "transport-asyncio"])
@pytest.mark.parametrize("app", ["echo", "bursts"])
def test_frames_of_one_turn_leave_in_one_system_call(app, over, tmp_path):
    """Of ten messages that came together, and of ten that the application sends in a row, outside of a batch."""
    if reason := can_trace():
        pytest.skip(reason)
    trace = tmp_path / "trace"
    wrap = ("strace", "-f", "-qq", "-s", "9", "-o", str(trace))
    io, _, loop = over.partition("-")
    argv = (f"ws_apps:{app}", "--lifespan", "off", "--no-access-log", "--loop", loop or "auto")
    with running(*argv, io=io, wrap=wrap) as server:
        client = opened(server)
        request = frame(TEXT, "x" * 100) * (IN_A_ROW if app == "echo" else 1)
        size = 102 + (2 if app == "bursts" else 0)
        for _ in range(ROUNDS):
            client.send(request)
            read_frames(client, IN_A_ROW, size)
        client.send(close())
        client.rest()
        child = subprocess.run(["pgrep", "-P", str(server.pid)], capture_output=True, check=True).stdout.split()[0]
        os.kill(int(child), signal.SIGTERM)     # strace passes it on
        server.wait()
    text = trace.read_text(errors="replace")
    calls = collections.Counter()
    for line in text[text.index("HTTP/1.1 ") : text.index("--- SIGTERM")].splitlines()[1:]:
        found = re.match(r"(?:\d+ +)?(?:<\.\.\. )?(\w+)[( ]", line)
        if found and "unfinished" not in line:
            calls[found[1]] += 1
    writes = sum(calls[name] for name in WRITES)
    reads = sum(calls[name] for name in READS)
    assert ROUNDS <= writes <= ROUNDS + 5, calls        # and the close frame
    if io == "transport":
        return      # the rest is the loop's own
    assert reads <= 1.2 * ROUNDS + 20, calls
    for name in ("epoll_ctl", "timerfd_settime", "mmap", "brk"):
        assert calls[name] <= 10, (name, calls)


@pytest.mark.pins("websocket.shutdown")
@pytest.mark.parametrize("io", ["socket", "transport"])
def test_a_signal_closes_websockets(io):
    with running("ws_apps:echo", "--lifespan", "off", io=io) as server:
        client = opened(server, "/room?x=1")
        client.send(frame(TEXT, "hello"))
        assert read_frames(client, 1, 7)[0].payload == b"hello"
        server.signal(signal.SIGTERM)
        (last,) = read_frames(client, 1, 4)
        assert last == frames.Frame(frames.CLOSE, (1012).to_bytes(2, "big"))
        client.send(close(1012))
        assert client.rest() == b""
        assert server.wait() == 0
        line = r'^INFO:     127\.0\.0\.1:\d+ - "WebSocket /room\?x=1" \[accepted\]$'
        assert re.search(line, server.log(), re.MULTILINE)
        assert "Traceback" not in server.log()


@pytest.mark.pins("websocket.close-bounded")
@pytest.mark.parametrize("io", ["socket", "transport"])
def test_a_client_that_ignores_the_close_does_not_hold_the_server(io):
    with running("ws_apps:echo", "--lifespan", "off", "--timeout-ws-close", "0.3", io=io) as server:
        opened(server)
        server.signal(signal.SIGTERM)
        assert server.wait() == 0
