"""upgrade: what a successor is told, and takes over; the two processes are in test_supervisor."""

import json
import os
import socket

from fastasgi.sockets import UnixListener
from fastasgi.upgrade import READY, VARIABLE, Takeover


def test_nothing_is_taken_over_without_being_told(monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    assert Takeover.from_environment() is None


def test_sockets_are_taken_over_and_the_file_with_them(monkeypatch, tmp_path):
    path = str(tmp_path / "x.sock")
    tcp, unix = socket.create_server(("127.0.0.1", 0)), UnixListener(socket.AF_UNIX)
    unix.bind(path)
    unix.own(path)
    unix.listen()
    reader, writer = os.pipe()
    fds = [os.dup(tcp.fileno()), os.dup(unix.fileno())]
    monkeypatch.setenv(VARIABLE, json.dumps({"sockets": fds, "ready": writer}))
    taken = Takeover.from_environment()
    assert VARIABLE not in os.environ, "programs of the application are not told"
    assert [sock.getsockname() for sock in taken.sockets] == [tcp.getsockname(), path]
    assert not any(os.get_inheritable(sock.fileno()) or sock.getblocking() for sock in taken.sockets)
    taken.finish()
    assert os.read(reader, 100) == READY
    assert os.read(reader, 100) == b"", "closed"
    taken.forget()
    unix.disown()
    unix.close()
    assert os.path.exists(path), "it is the successor's"
    for sock in (tcp, *taken.sockets):
        sock.close()
    assert not os.path.exists(path)
    os.close(reader)
