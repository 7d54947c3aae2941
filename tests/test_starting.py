"""starting: fork or spawn, and when neither can bring the application to the workers."""

import http.client
import os
import re
import signal
import subprocess
import sys
import threading

import pytest
from process import ROOT
from supervised import REPLACED, running_workers, search_path

from fastasgi.config import Config
from fastasgi.errors import StartupError
from fastasgi.starting import choose_start


async def app(scope, receive, send):
    pass


def config(application, **options):
    return Config(application, workers=2, log_config=None, **options)


@pytest.fixture(autouse=True)
def no_other_threads(monkeypatch):
    """Threads of other tests, which read what their servers say, are not seen here."""
    others, found = set(threading.enumerate()) - {threading.main_thread()}, threading.enumerate
    monkeypatch.setattr(threading, "enumerate", lambda: [thread for thread in found() if thread not in others])


@pytest.fixture
def thread():
    """One that runs beside."""
    done = threading.Event()
    beside = threading.Thread(target=done.wait, name="beside")
    beside.start()
    yield
    done.set()
    beside.join()


def test_linux_forks(monkeypatch):
    monkeypatch.setattr(sys, "platform", "linux")
    assert choose_start(config("main:app")) == "fork"
    assert choose_start(config(app)) == "fork"


def test_others_spawn_what_they_can_import(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    assert choose_start(config("main:app")) == "spawn"
    assert choose_start(config(app)) == "fork"


def test_forced():
    assert choose_start(config("main:app", worker_start="spawn")) == "spawn"


def test_threads_forbid_a_fork(thread):
    assert choose_start(config("main:app")) == "spawn"
    with pytest.raises(StartupError, match=r"an object, which .* threads are running here \(beside\); pass an import"):
        choose_start(config(app))


def test_no_fork_at_all(monkeypatch):
    monkeypatch.delattr(os, "fork")
    assert choose_start(config("main:app")) == "spawn"
    with pytest.raises(StartupError, match=r"worker_start=fork, but .* cannot fork"):
        choose_start(config("main:app", worker_start="fork"))
    with pytest.raises(StartupError, match=r"an object, which .* new programs here; pass an import string"):
        choose_start(config(app))


def test_an_object_is_forked():
    """As in a script that ends with run(app, workers=2)."""
    code = """
import fastasgi
made_by = __import__("os").getpid()
async def app(scope, receive, send):
    if scope["type"] == "http":
        body = b"%d" % made_by
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
        await send({"type": "http.response.body", "body": body})
fastasgi.run(app, workers=2, port=0, access_log=False)
print("back")
"""
    with subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": search_path()},
    ) as server:
        try:
            said = next(line for line in server.stderr if "http://127.0.0.1:" in line)
            client = http.client.HTTPConnection("127.0.0.1", int(re.search(r":(\d+) ", said)[1]), timeout=20)
            client.request("GET", "/")
            assert int(client.getresponse().read()) == server.pid, "imported once, by the supervisor"
            client.close()
            server.send_signal(signal.SIGTERM)
            out, _ = server.communicate(timeout=20)
            assert (server.returncode, out) == (0, "back\n")
        finally:
            server.kill()


# --- preload ------------------------------------------------------------------------------------------------------


@pytest.mark.pins("workers.preload")
def test_an_application_is_imported_once_before_the_forks():
    with running_workers("imported", "--preload", "on") as server:
        assert int(server.ask()[1]) == server.pid
        server.signal(signal.SIGHUP)
        log = server.until_logged(REPLACED)
        assert "imported before (preload): SIGUSR2 imports it anew" in log
        assert server.ask()[0] == 200
    with running_workers("imported") as server:
        assert int(server.ask()[1]) in server.pids()


@pytest.mark.pins("workers.preload", "workers.threads")
def test_an_application_that_starts_threads_is_not_forked(tmp_path):
    (tmp_path / "threaded.py").write_text(
        "import threading\nfrom net_apps import imported\n"
        "threading.Thread(target=threading.Event().wait, name='beside', daemon=True).start()\n"
    )
    path = search_path(tmp_path)
    with running_workers("threaded:imported", "--preload", "on", folder=tmp_path, PYTHONPATH=path) as server:
        assert "has started threads (beside), so workers cannot be forked" in server.log()
        assert int(server.ask()[1]) in server.pids()
        server.signal(signal.SIGTERM)
        assert server.wait() == 0
    # without preload each worker imports it, and its threads, after the fork
    with running_workers("threaded:imported", folder=tmp_path, PYTHONPATH=path) as server:
        assert int(server.ask()[1]) in server.pids()
        server.signal(signal.SIGHUP)
        server.until_logged(REPLACED)
        server.signal(signal.SIGTERM)
        assert server.wait() == 0


@pytest.mark.pins("workers.preload", "workers.start-failure")
def test_what_cannot_be_imported_before_the_forks_ends_the_start():
    with running_workers("nowhere:app", "--preload", "on", is_ready=False) as server:
        assert server.wait() == 3
        assert server.log().count("no module named 'nowhere'") == 1
