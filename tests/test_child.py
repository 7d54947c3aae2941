"""child: what a worker says of itself when asked, and the signals that it leaves to its supervisor."""

import os
import signal
import socket
import subprocess
import sys
from dataclasses import asdict

import pytest
from supervised import search_path

from fastasgi._scoreboard import Slot
from fastasgi.child import Birth, SupervisedServer, request_of, signal_handlers
from fastasgi.config import Config
from fastasgi.draining import Manner

SCOPE = {"type": "http", "method": "GET", "path": "/x", "client": ("10.0.0.1", 5000)}


def here():
    return sys._getframe(1)


def test_the_request_of_a_frame():
    def handler(request):
        return request_of(here())

    class Framework:
        def call(self, scope, receive, send):
            inner = {"type": "http", "method": "GET", "path": "/inner", "client": None}

            def mounted(scope, receive, send):
                return handler(None)

            return mounted(inner, receive, send)

    assert Framework().call(SCOPE, None, None) == "running: GET /x of 10.0.0.1:5000", "the outermost"
    assert request_of(here()) == "no request runs in the main thread"
    assert request_of(None) == "no request runs in the main thread"


def test_signals_of_the_group_are_neither_default_nor_ignored():
    """Ignored ones would be inherited by every program that the application starts."""
    handlers = signal_handlers()
    assert {signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2} == set(handlers)
    assert signal.SIGTERM not in handlers, "while it imports, the application, SIGTERM ends it at once"
    for handler in handlers.values():
        assert callable(handler)
        handler(0, None)


STACKS = """
import os, signal, sys, threading, time
from fastasgi.child import write_stacks_on_signal
from fastasgi.process import DUMP_SIGNAL
fd = os.open({path!r}, os.O_RDWR | os.O_CREAT | os.O_APPEND)
write_stacks_on_signal(fd)
def app(scope):
    os.kill(os.getpid(), DUMP_SIGNAL)
    time.sleep(0.01)
threading.Thread(target=time.sleep, args=(0.2,), name="beside").start()
app({scope!r})
os.ftruncate(fd, 0)
app({scope!r})
"""


def test_stacks_of_all_threads_then_the_request(tmp_path):
    """Asked twice, with the file emptied between."""
    path = str(tmp_path / "stacks")
    code = STACKS.format(path=path, scope=SCOPE)
    subprocess.run(
        [sys.executable, "-c", code], check=True, timeout=20, env={**os.environ, "PYTHONPATH": search_path()}
    )
    with open(path) as file:
        text = file.read()
    assert text.count("most recent call first") == 2
    assert text.rstrip().endswith("running: GET /x of 10.0.0.1:5000")
    assert text.count("running:") == 1


# --- the supervisor's commands ------------------------------------------------------------------------------------


@pytest.mark.pins("workers.stop-bounded")
def test_an_end_at_once_is_one_command():
    """A second one, behind the drain's, would meet the application's shutdown and cut it short."""
    config = Config("a:b", log_config=None)
    theirs, ours = socket.socketpair()
    with theirs, ours:
        server = SupervisedServer(config, Birth(Slot(), ours, -1, [], 1))
        server.obey({"do": "drain", **asdict(Manner.of_stop(config))})
        assert (server.should_exit, server.force_exit) == (True, False)
        server.obey({"do": "drain", **asdict(Manner.of_abort(config))})
        assert (server.should_exit, server.force_exit) == (True, True)
