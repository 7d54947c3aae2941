"""deploy/supervisor under a real supervisord: start, separate logs, reload by HUP, a crash, a drain at the end."""

import configparser
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from importlib.util import find_spec

import pytest
from deploying import DEPLOY, ROOT, read_supervisor, text_of
from process import PATIENCE_S, no_alarm
from supervised import until_gone

pytestmark = [
    pytest.mark.skipif(find_spec("supervisor") is None, reason="supervisor is not installed (pip install supervisor)"),
    pytest.mark.time_limit(60),
]
# The line that the file needs of the main configuration, and what supervisorctl speaks to.
MAIN = """\
[supervisord]
nodaemon=true
logfile={folder}/supervisord.log
pidfile={folder}/supervisord.pid
childlogdir={folder}
[unix_http_server]
file={folder}/ctl.sock
chmod=0700
[rpcinterface:supervisor]
supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface
[supervisorctl]
serverurl=unix://{folder}/ctl.sock
[include]
files={folder}/app.conf
"""


class Supervisord:
    """A running supervisord with the program of deploy/, in a folder."""

    def __init__(self, folder):
        self.folder = folder
        self.path = str(folder / "app.sock")

    def write(self):
        """The configuration, with paths of the test, this user, and a Unix socket in the place of the port."""
        text = text_of("supervisor/app.conf")
        for old, new in {
            "/srv/app/.venv/bin/fastasgi": f"{sys.executable} -m fastasgi",
            "--host 127.0.0.1 --port 8000": f"--bind unix:{self.path} --control-socket none",
            "--workers 4": "--workers 2",
            "directory=/srv/app": f"directory={self.folder}",
            "user=app\n": "",
            "/var/log/app": str(self.folder),
        }.items():
            assert old in text
            text = text.replace(old, new)
        (self.folder / "app.conf").write_text(text)
        (self.folder / "supervisord.conf").write_text(MAIN.format(folder=self.folder))
        shutil.copy(DEPLOY / "app" / "main.py", self.folder)

    def ctl(self, *words):
        run = subprocess.run(
            [sys.executable, "-m", "supervisor.supervisorctl", "-c", str(self.folder / "supervisord.conf"), *words],
            capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        return run.stdout + run.stderr

    def log(self, name):
        path = self.folder / f"{name}.log"
        return path.read_text() if path.exists() else ""

    def until_logged(self, text, count=1, name="error"):
        deadline_s = time.monotonic() + PATIENCE_S
        while self.log(name).count(text) < count:
            assert time.monotonic() < deadline_s, f"{text!r} is not there:\n{self.log(name)}\n{self.log('supervisord')}"
            time.sleep(0.01)

    def ask(self, target):
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(PATIENCE_S)
            client.connect(self.path)
            client.sendall(f"GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
            data = b""
            while piece := client.recv(65536):
                data += piece
        return data


@pytest.fixture
def supervisord(tmp_path):
    running = Supervisord(tmp_path)
    running.write()
    with no_alarm():
        child = subprocess.Popen(
            [sys.executable, "-m", "supervisor.supervisord", "-c", str(tmp_path / "supervisord.conf")],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
    running.child = child
    try:
        running.until_logged("Press CTRL+C to quit")
        yield running
    finally:
        child.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(PATIENCE_S)
        child.kill()
        child.wait()


def pid_of(running):
    return int(running.ctl("pid", "app"))


@pytest.mark.slow
@pytest.mark.pins("deploy.supervisor")
def test_a_life_under_supervisor(supervisord):
    assert supervisord.ask("/health").endswith(b"alive\n")
    supervisord.until_logged('"GET /health HTTP/1.1" 200', name="access")
    assert "GET /health" not in supervisord.log("error") and "Started" not in supervisord.log("access")

    assert "signalled" in supervisord.ctl("signal", "HUP", "app")
    supervisord.until_logged("All workers are replaced")
    assert supervisord.ask("/health").endswith(b"alive\n")

    first = pid_of(supervisord)
    os.kill(first, signal.SIGKILL)
    supervisord.until_logged("Press CTRL+C to quit", 2)
    assert pid_of(supervisord) != first and supervisord.ask("/health").endswith(b"alive\n")

    # an event stream is open: the stop waits for it, and tells it to end
    with socket.socket(socket.AF_UNIX) as stream:
        stream.settimeout(PATIENCE_S)
        stream.connect(supervisord.path)
        stream.sendall(b"GET /events HTTP/1.1\r\nHost: x\r\n\r\n")
        assert stream.recv(65536).startswith(b"HTTP/1.1 200 ")
        second = pid_of(supervisord)
        stopping = subprocess.Popen(
            [sys.executable, "-m", "supervisor.supervisorctl", "-c", str(supervisord.folder / "supervisord.conf"),
             "stop", "app"], stdout=subprocess.PIPE, text=True)  # fmt: skip
        supervisord.until_logged("Shutting down 2 workers")
        assert stopping.poll() is None, "it waits for the stream"
    assert "app: stopped" in stopping.communicate(timeout=PATIENCE_S)[0]
    until_gone([second])
    assert "Finished supervisor process" in supervisord.log("error")
    said = supervisord.log("supervisord")
    assert "stopped: app (exit status 0)" in said and "SIGKILL" not in said.partition("Press")[2]
    assert "STOPPED" in supervisord.ctl("status", "app")


def test_the_reader_reads_as_supervisor_does():
    """Remarks and values: ours against that of Supervisor, which is a RawConfigParser with `;` behind a space."""
    from supervisor.options import UnhosedConfigParser

    parser = UnhosedConfigParser()
    parser.read_string(text_of("supervisor/app.conf"))
    assert {name: parser.get("program:app", name) for name in parser.options("program:app")} == read_supervisor(
        text_of("supervisor/app.conf"))  # fmt: skip
    assert isinstance(parser, configparser.RawConfigParser)
