"""What one plain GET costs on the release build: calls in Python, system calls.

Counted in a server process of its own, over a real socket, one kept-alive connection, so that nothing
of the test's own is counted.
"""

import collections
import os
import re
import shutil
import signal
import subprocess
import sys

import pytest
from process import running

REQUESTS = 300
# The budget is 30, and uvloop, the default, keeps far below it. The stdlib's loop is itself Python, some 20 calls a
# turn, and how many turns a request takes depends on when its bytes come: its own calls are counted apart.
MAX_CALLS = 30
MAX_OWN_CALLS = 5  # two functions of the application, two calls of send()
BROWSER = (
    b"GET /plain HTTP/1.1\r\nHost: localhost:8000\r\n"
    b"User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:142.0) Gecko/20100101 Firefox/142.0\r\n"
    b"Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n"
    b"Accept-Language: en-US,en;q=0.5\r\nAccept-Encoding: gzip, deflate, br, zstd\r\n"
    b"Connection: keep-alive\r\nCookie: session=0123456789abcdef0123456789abcdef\r\n\r\n"
)

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="our own socket I/O is for Linux")


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_python_level_calls(loop):
    """`sys.setprofile` sees every call of a Python function and every call of C from Python code."""
    with running("main", "--loop", loop, "--no-access-log", io="socket") as server:
        client = server.connect()
        assert loop.encode() in client.get("/loop").body
        for _ in range(50):
            client.answer(BROWSER)
        assert client.get("/count").body == b"counting"
        for _ in range(REQUESTS):
            assert client.answer(BROWSER).status == 200
        counted = [line.split(" ", 1) for line in client.get("/counted").body.decode().split("\n")]
    each = {name: int(count) / REQUESTS for count, name in counted}
    ours = sum(count for name, count in each.items() if not name.startswith("loop:"))
    table = "\n".join(
        f"{count:7.2f} {name}" for name, count in sorted(each.items(), key=lambda item: -item[1])
    )
    assert ours <= MAX_OWN_CALLS, f"{ours:.1f} calls a request:\n{table}"
    if loop == "uvloop":
        assert sum(each.values()) <= MAX_CALLS, table


def can_trace():
    """None, or the reason why strace cannot be used here."""
    if shutil.which("strace") is None:
        return "strace is not installed"
    done = subprocess.run(["strace", "-o", "/dev/null", "true"], capture_output=True, check=False)
    return None if done.returncode == 0 else f"strace may not trace here: {done.stderr.decode()[:200]}"


READS = {"recvfrom", "recvmsg", "read", "readv"}
WRITES = {"sendto", "sendmsg", "write", "writev", "sendfile"}


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_system_calls(loop, tmp_path):
    """One read and one write for each request; and no timer, no epoll_ctl, no descriptor."""
    reason = can_trace()
    if reason:
        pytest.skip(reason)
    trace = tmp_path / "trace"
    wrap = ("strace", "-f", "-qq", "-o", str(trace))
    with running("main", "--loop", loop, "--no-access-log", io="socket", wrap=wrap) as server:
        client = server.connect()
        for _ in range(50):
            client.answer(BROWSER)
        client.get("/begin-of-count")
        for _ in range(REQUESTS):
            assert client.answer(BROWSER).status == 200
        client.get("/end-of-count")
        # strace passes the signal on to the server
        pid = int(
            subprocess.run(["pgrep", "-P", str(server.pid)], capture_output=True, check=True).stdout.split()[
                0
            ]
        )
        os.kill(pid, signal.SIGTERM)
        server.wait()
    text = trace.read_text(errors="replace")
    part = text[text.index("GET /begin-of-count") : text.index("GET /end-of-count")]
    calls = collections.Counter()
    useful = 0
    for line in part.splitlines()[1:]:
        found = re.match(r"(?:\d+ +)?(?:<\.\.\. )?(\w+)[( ]", line)
        if not found or "unfinished" in line:
            continue
        calls[found[1]] += 1
        useful += found[1] in READS and not re.search(r"= -1 |= 0$", line)
    reads = sum(calls[name] for name in READS)
    writes = sum(calls[name] for name in WRITES)
    # the answer to /begin-of-count and the reading of /end-of-count lie at the edges; ticks are few
    assert REQUESTS <= useful <= REQUESTS + 5, calls
    assert REQUESTS <= writes <= REQUESTS + 5, calls
    assert reads <= REQUESTS * 1.1 + 10, calls
    for name in (
        "epoll_ctl",
        "timerfd_settime",
        "accept4",
        "close",
        "ioctl",
        "fcntl",
        "setsockopt",
        "mmap",
        "brk",
    ):
        assert calls[name] <= 5, (name, calls)
    others = sum(calls.values()) - reads - writes
    # Without eager tasks the application starts a turn of the loop later: one wait more, or two if the inner set still
    # says what was read already.
    waits = 2.2 if sys.version_info >= (3, 12) else 3.2
    assert others <= waits * REQUESTS, calls
