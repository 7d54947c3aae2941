"""curl, as people and scripts use it: versions, uploads of every kind, ranges, slow readers, cookies, caches."""

import hashlib
import json
import shutil
import subprocess

import pytest
from frameworks.common import BLOCK, FILE
from frameworks.serving import PATIENCE_S, without

pytest_plugins = ["frameworks.fixtures"]
SITES = [
    ("starlette", "socket-uvloop"),
    ("django", "transport-asyncio"),
    ("quart", "socket-uvloop"),
    ("litestar", "socket-uvloop"),
    ("falcon", "transport-asyncio"),
    ("blacksheep", "socket-uvloop"),
]

pytestmark = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")


@pytest.fixture
def curl(visit):
    """Run curl on paths of the site: `curl("-I", "/hello")`; its output."""

    def run(*argv, data=None):
        argv = [visit.url + part if part.startswith("/") else part for part in argv]
        command = ["curl", "--silent", "--show-error", "--disable", "--noproxy", "*", "-m", str(PATIENCE_S), *argv]
        done = subprocess.run(command, input=data, capture_output=True, timeout=2 * PATIENCE_S)
        assert done.returncode == 0, (done.returncode, done.stderr)
        run.stderr = done.stderr.decode(errors="replace")
        return done.stdout

    return run


def head_of(output):
    """The status line and the fields of `curl -i` or `-I`."""
    lines = output.partition(b"\r\n\r\n")[0].decode().split("\r\n")
    return lines[0], {name.lower(): value.strip() for name, _, value in (one.partition(":") for one in lines[1:])}


def result_of(data):
    return {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}


@pytest.mark.parametrize("version", ["--http1.0", "--http1.1", "--http2"])
def test_versions(curl, version):
    """An offer to upgrade to HTTP/2 is not taken."""
    status, fields = head_of(curl(version, "-i", "/hello"))
    assert status == "HTTP/1.1 200 OK"
    assert fields["server"] == "fastasgi"


def test_download_by_http10_ends_with_the_connection(curl):
    output = curl("--http1.0", "-i", "/download?blocks=10")
    _, fields = head_of(output)
    assert "transfer-encoding" not in fields and fields["connection"] == "close"
    assert output.endswith(BLOCK * 10) and len(output) < 11 * len(BLOCK)


def test_head(curl):
    status, fields = head_of(curl("-I", "/hello"))
    assert status == "HTTP/1.1 200 OK" and fields["content-length"] == "5"


def test_connections_are_kept(curl):
    output = curl("-w", " %{num_connects}\n", "/hello", "/hello", "/hello")
    assert output == b"hello 1\nhello 0\nhello 0\n"


@pytest.mark.parametrize("size", [0, 1, 70_000, 3_000_000])
def test_upload_from_a_pipe_is_chunked(curl, size):
    data = (BLOCK * 50)[:size]
    assert json.loads(curl("-T", "-", "-X", "POST", "/stream", data=data)) == result_of(data)


def test_upload_asks_first(curl):
    """curl would wait ten seconds for the 100 that this awaits."""
    data = BLOCK * 30
    output = curl("-v", "--expect100-timeout", "10", "-H", "Expect: 100-continue", "--data-binary", "@-", "/stream",
                  data=data)  # fmt: skip
    assert json.loads(output) == result_of(data)
    assert "HTTP/1.1 100 Continue" in curl.stderr


@without("django", "quart", "falcon", "blacksheep")  # they read before they look for a route, or tell of it
def test_upload_that_is_refused_is_not_asked_for(curl):
    output = curl("-v", "--expect100-timeout", "10", "-H", "Expect: 100-continue", "-w", "%{http_code}",
                  "--data-binary", "@-", "/no/such", data=BLOCK)  # fmt: skip
    assert output.endswith(b"404") and "100 Continue" not in curl.stderr


def test_multipart_file(curl):
    found = json.loads(curl("-F", f"file=@{FILE};filename=here.py", "-F", "note=kept", "/upload"))
    assert found == {"name": "here.py", "note": "kept", **result_of(FILE.read_bytes())}


def test_slow_reader_gets_all(curl):
    output = curl("--limit-rate", "3M", "/download?blocks=24")
    assert output == BLOCK * 24


def test_slow_writer_is_read(curl):
    data = BLOCK * 16
    assert json.loads(curl("--limit-rate", "3M", "--data-binary", "@-", "/stream", data=data)) == result_of(data)


@pytest.mark.parametrize("asked", ["0-9", "10-19", "-10", "500-"])
@without("django", "quart", "litestar", "falcon", "blacksheep")  # most have none; Quart's raises for "-10"
def test_ranges_of_a_file(curl, asked):
    data = FILE.read_bytes()
    first, _, last = asked.partition("-")
    wanted = data[-int(last) :] if not first else data[int(first) : int(last) + 1 if last else None]
    output = curl("-i", "-r", asked, "/file")
    assert output.startswith(b"HTTP/1.1 206 Partial Content") and output.endswith(b"\r\n\r\n" + wanted)


def test_etag_is_compared(curl):
    assert head_of(curl("-i", "-H", 'If-None-Match: "v1"', "/etag"))[0] == "HTTP/1.1 304 Not Modified"


def test_redirect_is_followed_with_its_cookies(curl):
    assert curl("-L", "/redirect") == b"hello"
    assert json.loads(curl("-b", "first=1; b=2", "/cookies")) == {"first": "1", "b": "2"}


def test_expect_and_upgrade_leave_the_connection_clean(curl):
    output = curl("-H", "Connection: Upgrade", "-H", "Upgrade: foo", "-w", " %{num_connects}\n", "/hello", "/hello")
    assert output == b"hello 1\nhello 0\n"
