"""owners: the process behind a port or a socket file, and nothing of its secrets."""

import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fastasgi import owners
from fastasgi.owners import owner_of_path, owner_of_port

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has /proc")

LISTENS = """
import socket, sys
kind, where = sys.argv[1:3]
sock = socket.create_server(("127.0.0.1", 0)) if kind == "tcp" else socket.socket(socket.AF_UNIX)
if kind == "unix":
    sock.bind(where)
    sock.listen()
print(sock.getsockname()[1] if kind == "tcp" else where, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "listens.py"
    path.write_text(LISTENS)
    return path


def running(*words: object) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, *map(str, words)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def first_line(process: Any) -> str:
    return str(process.stdout.readline()).strip()


def test_owner_of_a_port(script: Path) -> None:
    with running(script, "tcp", "x") as process:
        port = int(first_line(process))
        found = owner_of_port(port)
        process.communicate()
    assert found is not None
    assert found.startswith(f"process {process.pid} (python")
    assert f" {script.parent}"[:20] in found
    assert owner_of_port(port) is None


def test_owner_of_a_path(script: Path, tmp_path: Path) -> None:
    path = str(tmp_path / "x.sock")
    with running(script, "unix", path) as process:
        assert first_line(process) == path
        found = owner_of_path(path)
        process.communicate()
    assert found is not None
    assert found.startswith(f"process {process.pid} (")
    assert owner_of_path(path) is None


def test_this_process_owns_its_own() -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        assert owner_of_port(sock.getsockname()[1]) == "this process"


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (["/usr/bin/python3", "-m", "http.server", "8000"], "python3 -m http.server 8000"),
        (["fastasgi", "main:app", "--ssl-keyfile-password", "hunter2"], "fastasgi main:app"),
        (["server", "-phunter2", "x"], "server"),
        (["x" * 100], "x" * 57 + "..."),
    ],
)
def test_the_command_without_its_options(
    words: list[str], shown: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "cmdline").write_text("".join(word + "\0" for word in words))
    monkeypatch.setattr(owners, "_PROC", str(tmp_path))
    assert owners._command(7) == shown


def test_workers_are_counted_with_the_process_that_made_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for pid, parent in ((30, 1), (20, 30), (21, 30)):
        (tmp_path / str(pid) / "fd").mkdir(parents=True)
        (tmp_path / str(pid) / "fd" / "3").symlink_to("socket:[99]")
        (tmp_path / str(pid) / "status").write_text(f"Name:\tx\nPPid:\t{parent}\n")
        (tmp_path / str(pid) / "cmdline").write_text("fastasgi\0main:app\0")
    (tmp_path / "net").mkdir()
    head = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
    row = "   0: 0100007F:1F40 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 99 1\n"
    (tmp_path / "net" / "tcp").write_text(head + row)
    monkeypatch.setattr(owners, "_PROC", str(tmp_path))
    assert owner_of_port(8000) == "process 30 (fastasgi main:app) and 2 more"
    assert owner_of_port(8001) is None


def test_without_proc_nobody_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(owners, "_PROC", "/nowhere/at/all")
    assert owner_of_port(8000) is None
    assert owner_of_path("/run/x") is None
