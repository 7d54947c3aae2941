"""What a process is to its system: pid file, user and group, service manager, process 1 of a container."""

import contextlib
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

if sys.platform == "win32":
    pytest.skip("POSIX only", allow_module_level=True)

from process import PATIENCE_S, ROOT, running

from fastasgi import service
from fastasgi.errors import StartupError

IS_ROOT = os.geteuid() == 0

APP = """
import os, subprocess, sys, time
from pathlib import Path

if os.environ.get("SLOW_IMPORT"):
    print("importing", flush=True)
    time.sleep(60)

def zombies():
    states = [path.read_text().rpartition(")")[2].split()[0] for path in Path("/proc").glob("[0-9]*/stat")]
    return states.count("Z")

async def app(scope, receive, send):
    assert scope["type"] == "http"
    if scope["path"] == "/orphan":
        # the shell ends at once; what it started is an orphan then, and says so when it has ended
        reader, writer = os.pipe()
        subprocess.run(["sh", "-c", "(exec sleep 0.05) & exit 0"], pass_fds=[writer])
        os.close(writer)
        os.read(reader, 1)
        os.close(reader)
    if scope["path"] == "/block":
        time.sleep(1)
    values = {
        "/child": lambda: subprocess.run(["sh", "-c", "exit 7"]).returncode,
        "/zombies": zombies, "/pid": os.getpid, "/uid": os.getuid, "/gid": os.getgid, "/groups": os.getgroups,
    }
    body = str(values.get(scope["path"], str)()).encode()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})
"""


@pytest.fixture
def app(tmp_path):
    """The arguments that serve APP."""
    (tmp_path / "served.py").write_text(APP)
    return "served:app", "--app-dir", str(tmp_path), "--lifespan", "off"


def serving(app, *arguments, **environment):
    return running(app[0], *app[1:], *arguments, **environment)


@pytest.fixture
def another():
    """A process that is not ours, for as long as the test takes."""
    with subprocess.Popen(["sleep", "60"]) as child:
        yield child
        child.kill()


# --- pid file -----------------------------------------------------------------------------------------------------


def test_a_pid_file_is_written_and_removed(tmp_path):
    path = tmp_path / "x.pid"
    file = service.PidFile(str(path))
    file.take()
    assert path.read_text() == f"{os.getpid()}\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert list(tmp_path.iterdir()) == [path], "nothing else is left"
    file.release()
    assert not path.exists()
    file.release()


def test_a_pid_file_of_a_running_process_is_refused(tmp_path, another):
    path = tmp_path / "x.pid"
    path.write_text(f"{another.pid}\n")
    with pytest.raises(StartupError, match=f"process {another.pid}, which is running; stop it"):
        service.PidFile(str(path)).take()
    assert path.read_text() == f"{another.pid}\n"


def test_unless_it_is_the_one_that_is_succeeded(tmp_path, another):
    path = tmp_path / "x.pid"
    path.write_text(str(another.pid))
    service.PidFile(str(path)).take(successor_of=another.pid)
    assert path.read_text() == f"{os.getpid()}\n"


def test_a_pid_file_of_a_dead_process_is_stale(tmp_path):
    child = subprocess.Popen(["true"])
    child.wait()
    path = tmp_path / "x.pid"
    path.write_text(str(child.pid))
    service.PidFile(str(path)).take()
    assert path.read_text() == f"{os.getpid()}\n"


def test_a_pid_file_older_than_the_process_of_its_number_is_stale(tmp_path, another):
    """After a restart of the container the number is somebody else's."""
    path = tmp_path / "x.pid"
    path.write_text(str(another.pid))
    os.utime(path, (time.time() - 600, time.time() - 600))
    service.PidFile(str(path)).take()
    assert path.read_text() == f"{os.getpid()}\n"


@pytest.mark.parametrize("content", ["", "no number", "-1", "0", "99999999999", str(os.getpid())])
def test_a_pid_file_that_names_nobody_else_is_stale(tmp_path, content):
    path = tmp_path / "x.pid"
    path.write_text(content)
    service.PidFile(str(path)).take()
    assert path.read_text() == f"{os.getpid()}\n"


def test_a_pid_file_that_somebody_else_has_written_since_is_left(tmp_path):
    path = tmp_path / "x.pid"
    file = service.PidFile(str(path))
    file.take()
    path.write_text("1\n")
    file.release()
    assert path.read_text() == "1\n"


def test_a_forked_process_leaves_the_pid_file(tmp_path):
    path = tmp_path / "x.pid"
    file = service.PidFile(str(path))
    file.take()
    child = os.fork()
    if not child:
        file.release()
        os._exit(0)
    os.waitpid(child, 0)
    assert path.exists()


def test_a_pid_file_in_no_directory(tmp_path):
    with pytest.raises(StartupError, match=r"cannot write pid_file .*nowhere.*: No such file"):
        service.PidFile(str(tmp_path / "nowhere" / "x.pid")).take()


@pytest.mark.pins("service.pid-file")
def test_the_servers_pid_file(app, tmp_path):
    path = tmp_path / "x.pid"
    path.write_text("999999999")
    with serving(app, "--pid-file", str(path)) as server:
        assert server.connect().get("/pid").body.decode() + "\n" == path.read_text()
        with serving(app, "--pid-file", str(path)) as second:
            assert second.wait() == 3
            assert f"names process {server.pid}, which is running" in second.log()
        server.signal(signal.SIGTERM)
        assert server.wait() == 0
    assert not path.exists()


# --- rights -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("user", "group", "what"), [("no-such", None, "user"), (None, "no-such", "group")])
def test_an_account_that_is_not_there(user, group, what):
    with pytest.raises(StartupError, match=f"there is no {what} 'no-such' on this machine"):
        service.Rights(user, group)


def test_the_rights_that_we_have_are_nothing_to_give_up():
    assert service.Rights(None, None).are_ours
    assert service.Rights(os.geteuid(), os.getegid()).are_ours
    service.Rights(os.geteuid(), os.getegid()).take()


def in_a_child(function):
    """Run it in a forked process; what it returns as text, or its exception."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        try:
            said = str(function())
        except BaseException as error:
            said = f"{type(error).__name__}: {error}"
        os.write(writer, said.encode())
        os._exit(0)
    os.close(writer)
    os.waitpid(child, 0)
    with open(reader) as file:
        return file.read()


@pytest.mark.skipif(not IS_ROOT, reason="needs root")
@pytest.mark.pins("service.user")
def test_user_and_group_are_taken_for_good(tmp_path):
    def become():
        rights.take([sock])
        with contextlib.suppress(PermissionError):
            os.setuid(0)
        return os.getresuid(), os.getresgid(), os.getgroups()

    rights = service.Rights("nobody", None)
    assert not rights.are_ours
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(tmp_path / "s"))
        uid, gid = rights.uid, rights.gid
        assert in_a_child(become) == str(((uid,) * 3, (gid,) * 3, [gid]))
        found = (tmp_path / "s").stat()
        assert (found.st_uid, found.st_gid) == (uid, gid)


@pytest.mark.skipif(not IS_ROOT, reason="needs root")
def test_numbers_need_no_account():
    def become():
        service.Rights(54321, 54322).take()
        return os.getuid(), os.getgid(), os.getgroups()

    assert in_a_child(become) == "(54321, 54322, [54322])"


@pytest.mark.skipif(not IS_ROOT, reason="needs root")
def test_who_is_not_root_may_not():
    def become():
        service.Rights(54321, 54322).take()
        service.Rights(0, 0).take()

    assert in_a_child(become).startswith("StartupError: not permitted to change user or group; start as root")


@pytest.mark.skipif(not IS_ROOT, reason="needs root")
def test_the_servers_group_and_umask(app, tmp_path):
    """The group alone: another user could not read this checkout, perhaps."""
    path = tmp_path / "s"
    options = ["--group", "nogroup", "--umask", "027", "--uds-permissions", "none"]
    with subprocess.Popen(
        [sys.executable, "-m", "fastasgi", *app, *options, "--uds", str(path)],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
    ) as server:
        assert any("running on" in line for line in server.stderr)
        gid = service.Rights(None, "nogroup").gid
        assert path.stat().st_gid == gid
        assert stat.S_IMODE(path.stat().st_mode) == 0o750
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(PATIENCE_S)
            client.connect(str(path))
            client.sendall(b"GET /groups HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            answer = b"".join(iter(lambda: client.recv(4096), b""))
        assert f"[{gid}]".encode() in answer
        server.send_signal(signal.SIGTERM)
        assert server.wait(PATIENCE_S) == 0
    assert not path.exists()


# --- the service manager ------------------------------------------------------------------------------------------


class Manager:
    """A notify socket, and what came."""

    def __init__(self, address):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.sock.bind("\0" + address[1:] if address.startswith("@") else address)
        self.sock.settimeout(PATIENCE_S)

    def next(self):
        """The next message, as a dict."""
        lines = self.sock.recv(4096).decode().split("\n")
        return dict(line.split("=", 1) for line in lines)

    def until(self, name):
        while name not in (message := self.next()):
            pass
        return message


@pytest.fixture(params=["path", "abstract"])
def manager(request, tmp_path):
    address = str(tmp_path / "notify") if request.param == "path" else f"@fastasgi-test-{os.getpid()}"
    found = Manager(address)
    found.address = address
    yield found
    found.sock.close()


def test_what_the_service_manager_is_told(manager):
    notifier = service.Notifier({"NOTIFY_SOCKET": manager.address})
    notifier.ready("well")
    assert manager.next() == {"READY": "1", "MAINPID": str(os.getpid()), "STATUS": "well"}
    before = time.monotonic_ns() // 1000
    notifier.reloading()
    message = manager.next()
    assert message["RELOADING"] == "1"
    assert before <= int(message["MONOTONIC_USEC"]) <= time.monotonic_ns() // 1000
    notifier.stopping()
    assert manager.next()["STOPPING"] == "1"
    notifier.status("so so")
    assert manager.next() == {"STATUS": "so so"}
    notifier.successor(7)
    assert manager.next() == {"MAINPID": "7"}
    notifier.ping()
    manager.sock.setblocking(False)
    with pytest.raises(BlockingIOError):
        manager.next()


@pytest.mark.parametrize(
    ("variables", "seconds"),
    [
        ({"WATCHDOG_USEC": "3000000"}, 1.5),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": str(os.getpid())}, 1.5),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": str(os.getppid())}, 1.5),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "9999999"}, None),
        ({"WATCHDOG_USEC": "0"}, None), ({"WATCHDOG_USEC": "x"}, None), ({}, None),
    ],
)  # fmt: skip
def test_when_the_watchdog_is_due(variables, seconds):
    assert service.Notifier({"NOTIFY_SOCKET": "/x", **variables}).watchdog_s == seconds
    assert service.Notifier(variables).watchdog_s is None, "nobody to tell"


def test_without_a_manager_nothing_is_said(monkeypatch):
    monkeypatch.setattr(service.server_logger, "warning", pytest.fail)
    notifier = service.Notifier({})
    for say in (notifier.ready, notifier.reloading, notifier.stopping, notifier.ping):
        say()


def test_a_manager_that_has_gone_is_told_of_once(tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr(service.server_logger, "warning", lambda text, *args: said.append(text % args))
    notifier = service.Notifier({"NOTIFY_SOCKET": str(tmp_path / "none")})
    notifier.ready()
    notifier.stopping()
    assert said == ["cannot tell the service manager (NOTIFY_SOCKET): No such file or directory"]


@pytest.mark.pins("service.notify")
def test_a_server_tells_the_manager_and_its_watchdog(app, manager):
    environment = {"NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": "200000"}
    with serving(app, **environment) as server:
        message = manager.next()
        assert message["READY"] == "1"
        assert message["MAINPID"] == str(server.pid)
        assert message["STATUS"].startswith("Serving on http://127.0.0.1:")
        for _ in range(3):
            assert manager.next() == {"WATCHDOG": "1"}
        server.connect().send(b"GET /block HTTP/1.1\r\nHost: x\r\n\r\n")
        manager.sock.settimeout(0.5)
        with contextlib.suppress(TimeoutError):  # a loop that is blocked says nothing
            for _ in range(5):
                manager.next()
            pytest.fail("the watchdog was told that all is well")
        manager.sock.settimeout(PATIENCE_S)
        assert manager.next() == {"WATCHDOG": "1"}
        server.signal(signal.SIGTERM)
        assert manager.until("STOPPING")["STOPPING"] == "1"
        assert server.wait() == 0


@pytest.mark.pins("service.notify")
def test_a_supervisor_tells_the_manager(app, manager):
    environment = {"NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": "4000000"}
    with serving(app, "--workers", "2", **environment) as server:
        assert manager.until("READY")["MAINPID"] == str(server.pid)
        assert manager.until("WATCHDOG") == {"WATCHDOG": "1"}
        server.signal(signal.SIGHUP)
        assert int(manager.until("RELOADING")["MONOTONIC_USEC"]) > 0
        assert manager.until("READY")["STATUS"] == "Serving with 2 workers"
        server.signal(signal.SIGTERM)
        assert manager.until("STOPPING")["STOPPING"] == "1"
        assert server.wait() == 0


# --- signals, and process 1 ---------------------------------------------------------------------------------------


@pytest.mark.pins("service.early-stop")
def test_sigterm_before_the_server_hears_signals(app):
    with serving(app, SLOW_IMPORT="1") as server:
        end = time.monotonic() + PATIENCE_S
        while "importing" not in server.log():
            assert time.monotonic() < end
            time.sleep(0.02)
        server.signal(signal.SIGTERM)
        assert server.wait(15) == 0


def can_unshare():
    """None, or the reason why there can be no container here."""
    if shutil.which("unshare") is None:
        return "unshare is not installed"
    done = subprocess.run(["unshare", "--pid", "--fork", "--mount-proc", "true"], capture_output=True)
    return None if done.returncode == 0 else f"unshare may not: {done.stderr.decode()[:200]}"


@contextlib.contextmanager
def container(app, *arguments, **environment):
    """The server as process 1 of a namespace of its own; with it, its process id out here."""
    reason = can_unshare()
    if reason:
        pytest.skip(reason)
    wrap = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")
    with running(app[0], *app[1:], *arguments, wrap=wrap, **environment) as server:
        children = Path(f"/proc/{server.pid}/task/{server.pid}/children")
        end = time.monotonic() + PATIENCE_S
        while not children.read_text():
            assert time.monotonic() < end
            time.sleep(0.02)
        yield server, int(children.read_text())


@pytest.mark.pins("service.process-1")
def test_process_1_waits_for_foreign_children_and_leaves_our_own(app):
    with container(app) as (server, init):
        client = server.connect()
        assert client.get("/pid").body == b"2"
        for _ in range(5):
            client.get("/orphan")
        end = time.monotonic() + PATIENCE_S
        while client.get("/zombies").body != b"0":
            assert time.monotonic() < end, "zombies stay"
        assert client.get("/child").body == b"7"
        os.kill(init, signal.SIGTERM)
        assert server.wait() == 0
        assert "Finished server process" in server.log()


@pytest.mark.pins("service.process-1")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 0), (signal.SIGUSR2, 128 + signal.SIGUSR2)])
def test_process_1_passes_signals_on_and_ends_as_the_server_does(app, number, code):
    with container(app) as (server, init):
        assert server.connect().get("/pid").body == b"2"
        os.kill(init, number)
        assert server.wait() == code


@pytest.mark.pins("service.process-1")
def test_process_1_with_workers(app):
    with container(app, "--workers", "2") as (server, init):
        client = server.connect()
        assert int(client.get("/pid").body) > 2
        client.get("/orphan")
        end = time.monotonic() + PATIENCE_S
        while client.get("/zombies").body != b"0":
            assert time.monotonic() < end, "zombies stay"
        os.kill(init, signal.SIGTERM)
        assert server.wait() == 0
        assert "Finished supervisor process [2]" in server.log()


def test_process_1_is_stopped_while_it_starts(app):
    with container(app, SLOW_IMPORT="1") as (server, init):
        end = time.monotonic() + PATIENCE_S
        while "importing" not in server.log():
            assert time.monotonic() < end
            time.sleep(0.02)
        os.kill(init, signal.SIGTERM)
        assert server.wait(15) == 0


# --- signals to a server without workers --------------------------------------------------------------------------


LOGGED = """
[loggers]
keys=root
[handlers]
keys=file
[formatters]
keys=
[logger_root]
level=INFO
handlers=file
[handler_file]
class=FileHandler
args=(r"{path}",)
"""


def until(found, what):
    end = time.monotonic() + PATIENCE_S
    while not found():
        assert time.monotonic() < end, what
        time.sleep(0.02)


@pytest.mark.pins("service.other-signals")
def test_usr1_reopens_the_log_files_of_one_process(app, tmp_path):
    path = tmp_path / "app.log"
    (tmp_path / "log.ini").write_text(LOGGED.format(path=path))
    with serving(app, "--log-config", str(tmp_path / "log.ini")) as server:
        client = server.connect()
        assert client.get("/pid").status == 200
        path.rename(tmp_path / "app.log.1")
        server.signal(signal.SIGUSR1)
        until(path.exists, "a new file")
        assert client.get("/pid").status == 200
        server.signal(signal.SIGTERM)
        assert server.wait() == 0
    assert "Shutting down" in path.read_text()


@pytest.mark.pins("service.other-signals")
def test_hup_to_one_process_says_that_nobody_can_take_over(app):
    """systemctl reload, or logrotate, does not end a service."""
    with serving(app) as server:
        client = server.connect()
        assert client.get("/pid").status == 200
        server.signal(signal.SIGHUP)
        until(lambda: "with --workers 2 or more a restart loses no request" in server.log(), server.log())
        assert client.get("/pid").status == 200
        server.signal(signal.SIGTERM)
        assert server.wait() == 0


@pytest.mark.pins("service.other-signals")
def test_a_closed_terminal_is_a_stop(app, tmp_path):
    import pty

    ours, theirs = pty.openpty()
    log = tmp_path / "log"
    try:
        with log.open("wb") as output:
            child = subprocess.Popen(
                [sys.executable, "-m", "fastasgi", *app, "--uds", str(tmp_path / "x.sock")],
                stdin=theirs, stdout=output, stderr=output, cwd=ROOT,
            )  # fmt: skip
        try:
            until(lambda: "Press CTRL+C" in log.read_text(), "its start")
            child.send_signal(signal.SIGHUP)
            assert child.wait(PATIENCE_S) == 0
        finally:
            child.kill()
            child.wait()
    finally:
        os.close(ours)
        os.close(theirs)
    assert "Finished server process" in log.read_text()


def test_no_other_process_becomes_init():
    assert service.become_init() is False
