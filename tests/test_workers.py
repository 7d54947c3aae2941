"""workers: our worker class under real gunicorn, which starts, reloads, counts and kills it."""

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
from types import SimpleNamespace

import pytest
from frameworks.serving import Lines
from process import PATIENCE_S, ROOT, TESTS, Blocking, no_alarm
from waiting import until

gunicorn_config = pytest.importorskip("gunicorn.config", reason="gunicorn is not installed")

from fastasgi import workers  # noqa: E402
from fastasgi.config import Config  # noqa: E402
from fastasgi.workers import FastASGIWorker  # noqa: E402

BOOTED = r"\[INFO\] Application startup complete\.$"
SLOW = b"POST /slow HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\n"


class Gunicorn:
    """A running gunicorn, on a socket that listens already; what it and its workers say goes through pipes."""

    def __init__(self):
        self.child = self.out = self.err = None
        self.clients = []

    def start(self, app, *argv, **environment):
        with socket.socket() as listener, no_alarm():
            listener.bind(("127.0.0.1", 0))
            listener.listen(512)
            self.address = listener.getsockname()
            fd = os.dup(listener.fileno())
            try:
                self.child = subprocess.Popen(
                    [
                        *(sys.executable, "-m", "gunicorn", f"net_apps:{app}", "--bind", f"fd://{fd}"),
                        *("--worker-class", "fastasgi.workers.FastASGIWorker", "--no-control-socket"),
                        *("--access-logfile", "-", "--chdir", str(TESTS), *argv),
                    ],
                    pass_fds=[fd],
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                    cwd=TESTS,
                    env={**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONPATH": str(ROOT), **environment},
                    start_new_session=True,  # its workers are found by it in the end
                )
            finally:
                os.close(fd)
        self.out, self.err = Lines(self.child.stdout), Lines(self.child.stderr)

    def end(self):
        """Nothing of it is left, whatever it did."""
        for client in self.clients:
            client.close()
        if self.child is None:
            return
        with no_alarm(), contextlib.suppress(ProcessLookupError):
            os.killpg(self.child.pid, signal.SIGKILL)
        self.child.wait()
        if self.err is not None:
            self.out.close()
            self.err.close()

    def connect(self):
        self.clients.append(Blocking(self.address))
        return self.clients[-1]

    def pid(self):
        """Of the worker that answers, over a connection of its own."""
        connection = http.client.HTTPConnection(*self.address, timeout=PATIENCE_S)
        with contextlib.closing(connection):
            connection.request("GET", "/pid")
            return int(connection.getresponse().read())

    def signal(self, number):
        self.child.send_signal(number)

    def wait(self):
        return self.child.wait(PATIENCE_S)

    def events(self):
        return [line[7:] for line in self.out.all if line.startswith("event: ")]

    def said(self):
        return "\n".join(self.err.all)


@pytest.fixture
def gunicorn():
    """Start gunicorns that end with the test: `gunicorn("main", "--workers", "2")`."""
    started = []

    def call(app, *argv, booted=1, **environment):
        started.append(Gunicorn())
        started[-1].start(app, *argv, **environment)
        if booted:
            started[-1].err.wait(BOOTED, times=booted)
        return started[-1]

    yield call
    for each in started:
        each.end()


def is_running(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    with open(f"/proc/{pid}/stat") as stat:
        return stat.read().rpartition(")")[2].split()[0] != "Z"


# ------------------------------------------------------------------------------------------- whole life
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_requests_logs_and_a_graceful_end(gunicorn, loop):
    """gunicorn's formats and files, our answers; a request that runs is finished, then the lifespan ends."""
    server = gunicorn("main", "--workers", "2", booted=2, FASTASGI_LOOP=loop)
    client, busy = server.connect(), server.connect()
    answer = client.get("/loop")
    assert loop in answer.body.decode()
    assert answer.one("server") == b"fastasgi"
    server.out.wait(r'^127\.0\.0\.1:\d+ - "GET /loop HTTP/1\.1" 200$')
    server.err.wait(r"^\[.*\] \[\d+\] \[INFO\] Waiting for application startup\.$")
    busy.send(SLOW)
    server.out.wait("^event: slow begins$")
    server.signal(signal.SIGTERM)
    assert client.rest() == b""
    answer = busy.answer(b"body", "POST")
    assert answer.body == b"slow" and answer.announces_close
    assert server.wait() == 0
    server.out.close()
    assert server.out.all.count("event: shutdown") == 2
    server.err.close()
    assert "[ERROR]" not in server.said() and "[WARNING]" not in server.said(), server.said()


def test_a_quick_end(gunicorn):
    """SIGINT waits for no stream, but for the lifespan."""
    server = gunicorn("main", "--graceful-timeout", "60")
    client = server.connect()
    client.send(b"GET /stream HTTP/1.1\r\nHost: x\r\n\r\n")
    client.until(b"data: hello")
    server.signal(signal.SIGINT)
    assert server.wait() == 0
    server.out.close()
    assert server.events()[1:] == ["cancelled", "shutdown"]


def test_an_open_stream_ends_within_gunicorns_bound(gunicorn):
    """gunicorn kills after graceful_timeout; every step of the drain has passed before."""
    server = gunicorn("main", "--graceful-timeout", "3")
    client = server.connect()
    client.send(b"GET /patient HTTP/1.1\r\nHost: x\r\n\r\n")
    client.until(b"data: hello")
    server.signal(signal.SIGTERM)
    assert server.wait() == 0
    server.out.close()
    assert [event for event in server.events()[1:] if "again" not in event] == ["disconnect", "cancelled", "shutdown"]
    assert "SIGKILL" not in server.said()


def test_graceful_reload_and_numbers_of_workers(gunicorn):
    """TTIN, TTOU, HUP: no request is lost. gunicorn repeats SIGTERM to a worker that drains, and would kill one
    that it does not hear of."""
    server = gunicorn("main", "--timeout", "2", "--graceful-timeout", "20")
    first = server.pid()
    busy = server.connect()
    busy.send(SLOW)
    server.out.wait("^event: slow begins$")
    server.signal(signal.SIGTTIN)
    server.err.wait(BOOTED, times=2)
    server.signal(signal.SIGTTOU)
    server.err.wait(rf"\[{first}\] \[INFO\] Shutting down")
    second = server.pid()
    assert second != first
    threading.Event().wait(2.5)  # as long as gunicorn waits for a worker that says nothing, and longer
    assert is_running(first), server.said()
    assert busy.answer(b"body", "POST").body == b"slow"
    server.err.wait(rf"\[{first}\] \[INFO\] Finished server process")

    server.signal(signal.SIGHUP)
    server.err.wait(rf"\[{second}\] \[INFO\] Finished server process")
    assert server.pid() not in (first, second)
    assert "TIMEOUT" not in server.said() and "[ERROR]" not in server.said(), server.said()
    server.signal(signal.SIGTERM)
    assert server.wait() == 0


def test_a_worker_whose_loop_stands_still_is_replaced(gunicorn):
    server = gunicorn("main", "--timeout", "1")
    first = server.pid()
    client = server.connect()
    client.send(b"GET /block HTTP/1.1\r\nHost: x\r\n\r\n")
    server.out.wait("^event: blocks$")
    server.err.wait(rf"\[CRITICAL\] WORKER TIMEOUT \(pid:{first}\)")
    server.err.wait(BOOTED, times=2)
    assert server.pid() != first
    assert client.rest() == b""


def test_max_requests(gunicorn):
    """A worker that has answered enough is replaced; every request is answered."""
    server = gunicorn("main", "--max-requests", "5")
    first = server.pid()
    while server.pid() == first:
        pass
    assert "limit_max_requests of 5 reached" in server.said()


def test_connections_outlast_max_requests_a_little():
    """One that was accepted and has not sent its request yet would be closed unheard."""
    server = workers._Server(Config("a:b", log_config=None))
    assert server.drain_linger_s == 0.0
    assert server.ends_at_limit(5)
    assert 0.0 < server.drain_linger_s < 1.0, "no other worker serves meanwhile"


def test_an_end_at_once_that_is_told_twice_is_one():
    """A terminal's SIGINT goes to all of its processes, and gunicorn's SIGQUIT follows: the application's shutdown
    is not to be cut by that."""
    told = []
    worker = SimpleNamespace(
        alive=True, cfg=SimpleNamespace(worker_int=told.append),
        _server=workers._Server(Config("a:b", log_config=None)),
    )  # fmt: skip
    for _ in range(2):
        FastASGIWorker.handle_quit(worker, signal.SIGQUIT, None)
    assert told == [worker]
    assert worker._server._forced_times == 1


def test_log_files_are_opened_anew(gunicorn, tmp_path):
    log, old, line = tmp_path / "access.log", tmp_path / "old.log", '"GET /pid HTTP/1.1" 200'
    server = gunicorn("main", "--access-logfile", str(log))
    server.pid()
    log.rename(old)
    server.signal(signal.SIGUSR1)
    until(lambda: line in old.read_text(), "what was answered before is in the file of before")
    until(lambda: server.pid() and log.exists() and line in log.read_text(), "the workers write to the new file")


def test_workers_end_when_gunicorn_is_killed(gunicorn):
    server = gunicorn("main")
    pid = server.pid()
    os.kill(server.child.pid, signal.SIGKILL)
    server.err.wait(rf"\[{pid}\] \[INFO\] gunicorn's main process has gone: shutting down$")
    server.out.wait("^event: shutdown$")


@pytest.mark.parametrize(
    ("app", "environment", "says"),
    [
        ("failing", {}, "app failed to start: no database today"),
        ("main", {"FASTASGI_ROOT_PATH": "", "FASTASGI_BACKLOG": "many"}, "FASTASGI_BACKLOG: expected"),
    ],
)
def test_what_cannot_start_stops_gunicorn(gunicorn, app, environment, says):
    server = gunicorn(app, booted=0, **environment)
    assert server.wait() == 3
    server.err.close()
    assert says in server.said()
    assert "Worker failed to boot" in server.said()


# ------------------------------------------------------------------------------------------- options
def options(worker_class=FastASGIWorker, **settings):
    """What a worker under these settings of gunicorn asks for."""
    cfg = gunicorn_config.Config()
    for name, value in settings.items():
        cfg.set(name, value)
    worker = worker_class.__new__(worker_class)
    worker.cfg, worker.wsgi, worker.max_requests = cfg, None, settings.get("max_requests", sys.maxsize)
    worker.log = SimpleNamespace(error_log=SimpleNamespace(level=20), access_log_enabled=True)
    return worker._options()


def test_gunicorns_defaults_are_not_taken_for_choices():
    found = options()
    assert not {"timeout_keep_alive", "limit_connections", "limit_max_requests", "backlog"} & set(found)
    assert found["forwarded_allow_ips"] == ["127.0.0.1", "::1"]


def test_gunicorns_settings_become_options():
    found = options(
        keepalive=0, worker_connections=50, max_requests=7, backlog=9, limit_request_line=100, limit_request_fields=5
    )
    assert found["timeout_keep_alive"] == 0
    assert (found["limit_connections"], found["limit_max_requests"], found["backlog"]) == (50, 7, 9)
    assert (found["limit_request_line"], found["limit_request_headers"]) == (100, 5)
    Config(**{**found, "app": "main:app"})


@pytest.mark.parametrize("graceful_s", [0, 1, 3, 30, 600])
def test_the_drain_ends_within_gunicorns_bound(graceful_s):
    found = options(graceful_timeout=graceful_s)
    steps = ["timeout_graceful_shutdown", "timeout_disconnect_grace", "timeout_lifespan_shutdown"]
    assert sum(found[step] for step in steps) <= graceful_s
    assert all(found[step] >= 0 for step in steps)


def test_options_of_a_subclass_win():
    class Mine(FastASGIWorker):
        CONFIG_KWARGS = {"timeout_keep_alive": 3, "loop": "asyncio"}

    found = options(Mine, keepalive=9)
    assert (found["timeout_keep_alive"], found["loop"]) == (3, "asyncio")
