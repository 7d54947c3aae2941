"""The control socket: who may use it, what it understands, stale ones, and a real server that is steered by it."""

import contextlib
import json
import os
import select
import signal
import socket
import stat
import subprocess
import sys
import threading

import click.testing
import pytest

if sys.platform == "win32":
    pytest.skip("Unix sockets", allow_module_level=True)

from process import PATIENCE_S, ROOT, running
from waiting import until

from fastasgi import control, ctl
from fastasgi.control import Control, ControlError, ControlSocket
from fastasgi.errors import StartupError
from fastasgi.reactor import Reactor


class Steered:
    """Stands for the supervisor: notes what it is told."""

    def __init__(self):
        self.told = []
        self.text = ""

    def status(self):
        return {"pid": 7, "text": self.text}

    def reload(self):
        self.told.append("reload")

    def stop(self):
        self.told.append("stop")

    def scale(self, count):
        self.told.append(("scale", count))

    def dump_stacks(self):
        return {12: "here"}


@contextlib.contextmanager
def served(path, **options):
    """A control socket in a reactor that a thread turns; with it, what it steers."""
    reactor, steered = Reactor(), Steered()
    sock = ControlSocket(reactor, steered, path, **options)
    is_over = threading.Event()

    def turn():
        while not is_over.is_set():
            reactor.run_once(0.01)

    thread = threading.Thread(target=turn)
    thread.start()
    try:
        yield steered
    finally:
        is_over.set()
        thread.join()
        sock.close()
        reactor.close()


@contextlib.contextmanager
def connected(path):
    client = Control(path)
    try:
        yield client
    finally:
        client.close()


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "control.sock")


@pytest.fixture
def own(tmp_path, monkeypatch):
    """Our own folder, for one test."""
    folder = str(tmp_path / "own")
    monkeypatch.setattr(control, "own_folder", lambda: folder)
    monkeypatch.setattr(control, "folders", lambda: [folder] if control.is_safe(folder) else [])
    return folder


# --- what it understands ------------------------------------------------------------------------------------------


@pytest.mark.pins("control.commands")
def test_commands_reach_the_supervisor(path):
    with served(path) as steered, connected(path) as client:
        assert client.ask("status")["pid"] == 7
        assert client.ask("dump-stacks") == {"12": "here"}
        for what in ("reload", "stop"):
            assert client.ask(what) is None
        client.ask("scale", count=3)
        assert steered.told == ["reload", "stop", ("scale", 3)]


@pytest.mark.parametrize(
    ("line", "error"),
    [
        (b"tea", "Expecting value"), (b"[1]", "the version of the protocol"), (b"{}", "the version of the protocol"),
        (b'{"v": 2, "do": "status"}', "the version of the protocol"),
        (b'{"v": 1, "do": "tea"}', "no such command: 'tea'"),
        (b'{"v": 1}', "no such command: None"), (b'{"v": 1, "do": "scale"}', "a count of at least 1, got None"),
        (b'{"v": 1, "do": "scale", "count": 0}', "at least 1, got 0"),
        (b'{"v": 1, "do": "scale", "count": true}', "at least 1, got True"), (b"\xff", "decode"),
    ],
)  # fmt: skip
def test_what_it_does_not_understand(path, line, error):
    with served(path) as steered, socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(PATIENCE_S)
        sock.connect(path)
        for _ in range(2):  # the connection goes on
            sock.sendall(line + b"\n")
            answer = json.loads(sock.recv(4096))
            assert (answer["v"], answer["ok"]) == (1, False)
            assert error in answer["error"]
        assert not steered.told


def test_requests_in_pieces_and_several_at_once(path):
    with served(path), socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(PATIENCE_S)
        sock.connect(path)
        line = b'{"v": 1, "do": "status"}\n'
        for at in range(len(line)):
            sock.sendall(line[at : at + 1])
        assert json.loads(sock.recv(4096))["ok"]
        sock.sendall(line * 3)
        seen = b""
        while seen.count(b"\n") < 3:
            seen += sock.recv(4096)
        assert [json.loads(each)["ok"] for each in seen.splitlines()] == [True] * 3


def test_an_answer_larger_than_the_kernel_takes(path):
    with served(path) as steered, connected(path) as client:
        steered.text = "x" * 3_000_000
        assert client.ask("status")["text"] == steered.text
        steered.text = ""
        assert client.ask("status")["text"] == ""


def test_a_client_that_sends_without_end_is_cut_off(path):
    with served(path), socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(PATIENCE_S)
        sock.connect(path)
        with pytest.raises(ConnectionError):
            sock.sendall(b"x" * 4_000_000)


def test_a_client_that_does_not_read_holds_nobody_up(path):
    with served(path) as steered, socket.socket(socket.AF_UNIX) as silent, connected(path) as client:
        steered.text = "x" * 3_000_000
        silent.connect(path)
        silent.sendall(b'{"v": 1, "do": "status"}\n')
        select.select([silent], [], [], PATIENCE_S)
        steered.text = ""
        assert client.ask("status")["pid"] == 7


# --- the socket ---------------------------------------------------------------------------------------------------


@pytest.mark.pins("control.private")
def test_only_its_user_may_open_it(path):
    before = os.umask(0)
    try:
        with served(path):
            assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
            assert os.umask(0) == 0
    finally:
        os.umask(before)
    assert not os.path.exists(path)


@pytest.mark.pins("control.private")
def test_our_own_folder_is_ours_alone(own):
    with served("auto"):
        assert stat.S_IMODE(os.stat(own).st_mode) == 0o700
        assert os.listdir(own) == [f"{os.getpid()}.sock"]
        assert control.find() == f"{own}/{os.getpid()}.sock"
    assert os.listdir(own) == []


@pytest.mark.pins("control.private")
@pytest.mark.parametrize("trouble", ["writable", "link", "file"])
def test_a_folder_that_others_may_write_is_not_used(own, tmp_path, trouble):
    if trouble == "writable":
        os.mkdir(own)
        os.chmod(own, 0o777)
    elif trouble == "link":
        os.symlink(tmp_path, own)
    else:
        (tmp_path / "own").write_text("")
    with served("auto"):
        assert not list(control.found())
    with pytest.raises(ControlError, match="no server with a control socket runs"):
        control.find()


def test_none_is_none(own):
    with served(None):
        assert not os.path.exists(own)


def left_behind(path):
    """A socket file that nobody listens on."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(path)


@pytest.mark.pins("control.stale")
def test_a_stale_socket_is_replaced(path):
    left_behind(path)
    with served(path), connected(path) as client:
        assert client.ask("status")["pid"] == 7


@pytest.mark.pins("control.stale")
def test_what_is_in_use_or_no_socket_is_left(path, tmp_path):
    with served(path):
        with pytest.raises(StartupError, match="in use by another server"):
            ControlSocket(Reactor(), Steered(), path)
        with connected(path) as client:
            assert client.ask("status")["pid"] == 7
    (tmp_path / "file").write_text("mine")
    with pytest.raises(StartupError, match="exists and is not a socket"):
        ControlSocket(Reactor(), Steered(), str(tmp_path / "file"))
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.pins("control.stale")
def test_a_successor_takes_the_place_of_one_that_is_in_use(path, tmp_path):
    with contextlib.ExitStack() as new_one:
        with served(path) as old, connected(path) as before:
            new = new_one.enter_context(served(path, takes_over=True))
            with connected(path) as client:
                client.ask("reload")
            assert (new.told, old.told) == (["reload"], [])
            assert before.ask("status")["pid"] == 7, "who asks the old one goes on"
            assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
        assert os.listdir(tmp_path) == ["control.sock"], "the old one leaves the file"
    assert os.listdir(tmp_path) == []


def test_a_place_that_is_not_there(tmp_path):
    with pytest.raises(StartupError, match=r"cannot listen on control_socket .*No such file or directory"):
        ControlSocket(Reactor(), Steered(), str(tmp_path / "nowhere" / "x"))


# --- who looks for it ---------------------------------------------------------------------------------------------


def test_the_only_server_is_found_and_the_dead_are_buried(own):
    os.mkdir(own, 0o700)
    left_behind(f"{own}/999999.sock")
    with served("auto"):
        assert control.find() == control.find(os.getpid()) == f"{own}/{os.getpid()}.sock"
        assert not os.path.exists(f"{own}/999999.sock")
        with pytest.raises(ControlError, match=f"no server with process id 5 has .*: {os.getpid()}"):
            control.find(5)
        with served(f"{own}/5.sock"), pytest.raises(ControlError, match=r"several servers run.*one with --pid"):
            control.find()


def test_one_that_is_not_there(path):
    with pytest.raises(ControlError, match=f"no server listens on .*--control-socket {path}, or name the socket"):
        Control(path)


@pytest.mark.parametrize(("user", "mode", "safe"), [(0, 0o700, True), (0, 0o770, False), (1, 0o700, False)])
def test_which_folder_is_safe(tmp_path, monkeypatch, user, mode, safe):
    tmp_path.chmod(mode)
    monkeypatch.setattr(os, "geteuid", lambda: os.stat(tmp_path).st_uid + user)
    assert control.is_safe(str(tmp_path)) is safe


# --- a real server ------------------------------------------------------------------------------------------------


def steer(path, *arguments):
    """`fastasgi ctl`: its exit code and what it wrote."""
    run = subprocess.run(
        [sys.executable, "-m", "fastasgi", "ctl", *arguments, "--socket", path],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    return run.returncode, run.stdout + run.stderr


def asked(path):
    """The workers of a server, asked without a process for that."""
    with connected(path) as client:
        return client.ask("status")["workers"]


@pytest.mark.pins("control.commands")
@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["--socket", "a", "--json", "stop"], ("a", None)), (["stop", "--socket", "a", "--json"], ("a", None)),
        (["--pid", "7", "stop", "--json"], (None, 7)),
        (["--socket", "a", "stop", "--socket", "b", "--json"], ("b", None)),
    ],
)  # fmt: skip
def test_the_server_is_named_before_the_command_or_behind_it(monkeypatch, words, found):
    class Server:
        def ask(self, what):
            return {"asked": what}

        def close(self):
            pass

    connected = []
    monkeypatch.setattr(ctl, "_connected", lambda path, pid: connected.append((path, pid)) or Server())
    result = click.testing.CliRunner(env={"FASTASGI_CONTROL_SOCKET": None}).invoke(ctl.ctl, words)
    assert (result.exit_code, json.loads(result.stdout)) == (0, {"asked": "stop"})
    assert connected == [found]


@pytest.mark.pins("control.commands")
@pytest.mark.time_limit(60)
@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_a_server_is_seen_and_steered(path, start):
    """Spawned workers are those of systems that cannot fork, where this stands for signals."""
    argv = ("--workers", "2", "--control-socket", path, "--no-access-log")
    with running("main", *argv, FASTASGI_WORKER_START=start) as server:
        until(lambda: "ready in" in server.log(), "it is ready")
        for _ in range(20):
            server.connect().get("/plain")
        code, text = steer(path, "status", "--json")
        status = json.loads(text)
        assert (code, status["pid"], status["phase"], status["target"]) == (0, server.pid, "running", 2)
        assert sum(worker["requests_total"] for worker in status["workers"]) == 20
        code, text = steer(path, "workers")
        assert [line.split()[1] for line in text.splitlines()] == ["STATE", "ready", "ready"]
        assert steer(path, "scale", "3") == (0, "3 workers from now on.\n")
        until(lambda: [w["state"] for w in asked(path)] == ["ready"] * 3, "three workers are ready")
        code, text = steer(path, "dump-stacks")
        assert text.count("worker [") == 3
        assert "worker.py" in text
        before = {worker["pid"] for worker in json.loads(steer(path, "workers", "--json")[1])}
        assert before == {worker["pid"] for worker in asked(path)}
        assert steer(path, "reload") == (0, "All workers are being replaced.\n")
        until(lambda: not before & {w["pid"] for w in asked(path)}, "all workers are new")
        assert steer(path, "stop") == (0, "The server drains and ends.\n")
        assert server.wait() == 0
    assert not os.path.exists(path)
    code, text = steer(path, "status")
    assert code == 1
    assert text.startswith("Error: no server listens on")
    assert text.count("\n") == 1


def test_a_killed_server_leaves_a_stale_socket_that_the_next_one_takes(path):
    for number in (signal.SIGKILL, signal.SIGTERM):
        with running("main", "--workers", "2", "--control-socket", path) as server:
            until(lambda server=server: "ready in" in server.log(), "it is ready")
            assert steer(path, "status")[0] == 0
            server.signal(number)
            server.wait()
            assert os.path.exists(path) == (number == signal.SIGKILL)
