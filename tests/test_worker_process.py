"""process: states move only as their table says; the link; how an end is described; stacks without our own frames."""

import itertools
import os
import signal
import socket
import subprocess
import sys

import pytest

from fastasgi._scoreboard import Scoreboard, State
from fastasgi.process import SERVING, TRANSITIONS, Link, WorkerProcess, WorkerState, open_dump

ALL = list(WorkerState)
BOARD = Scoreboard(1)  # for the whole session: it holds a descriptor


@pytest.fixture
def ends():
    ours, theirs = socket.socketpair()
    links = Link(ours), Link(theirs)
    yield links
    for link in links:
        link.close()


@pytest.fixture
def worker(ends):
    made = WorkerProcess(0, BOARD.slot(0), ends[0], open_dump(), generation=1, started_s=0.0)
    yield made
    made.close()


@pytest.mark.parametrize(("before", "after"), list(itertools.product(ALL, ALL)), ids=lambda state: state.value)
def test_moves(worker, before, after):
    worker.state = before
    if after in TRANSITIONS[before]:
        worker.move(after)
        assert worker.state is after
    else:
        with pytest.raises(AssertionError, match=f"cannot become {after.value}"):
            worker.move(after)


def test_every_state_is_left_but_the_last():
    assert [state for state in ALL if not TRANSITIONS[state]] == [WorkerState.GONE]
    assert all(WorkerState.GONE in TRANSITIONS[state] for state in ALL if state is not WorkerState.GONE)
    assert {WorkerState.READY, WorkerState.RETIRING} == SERVING


def test_messages_whole_and_in_pieces(ends):
    ours, theirs = ends
    ours.send(do="drain", linger_s=None)
    ours.send(do="abort")
    assert list(theirs.read()) == [{"do": "drain", "linger_s": None}, {"do": "abort"}]
    assert list(theirs.read()) == []
    assert list(ours.take(b'{"say": ')) == []
    assert list(ours.take(b'"ready"}\n{"say"')) == [{"say": "ready"}]
    assert list(ours.take(b': "x"}\n')) == [{"say": "x"}]


def test_the_end_of_a_link(ends):
    ours, theirs = ends
    theirs.send(say="draining")
    theirs.close()
    assert list(ours.read()) == [{"say": "draining"}]
    assert ours.is_open
    assert list(ours.read()) == []
    assert not ours.is_open
    ours.send(do="abort")  # nobody hears it, and that is no error


@pytest.mark.parametrize(
    ("status", "words"),
    [(0, "ended with exit code 0"), (3, "ended with exit code 3"), (-9, "was killed by SIGKILL"), (-99, "signal 99")],
)
def test_descriptions_of_an_end(worker, status, words):
    worker.exit_status = status
    assert words in worker.describe_end()


def test_a_process_that_ends_is_waited_for_once(ends):
    slot = BOARD.slot(0)
    pid = os.fork()
    if not pid:
        os._exit(5)
    worker = WorkerProcess(pid, slot, ends[0], open_dump(), generation=1, started_s=0.0)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    assert worker.poll() and worker.poll()
    assert worker.exit_status == 5
    worker.kill("late")  # its process id may be another's: nothing is sent
    worker.bury()
    assert worker.state is WorkerState.GONE and slot.state is State.GONE


def test_killing_a_spawned_one(ends):
    popen = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
    slot = BOARD.slot(0)
    worker = WorkerProcess(popen.pid, slot, ends[0], open_dump(), generation=1, started_s=0.0, popen=popen)
    assert not worker.poll()
    worker.kill("why not")
    popen.wait()
    assert worker.poll() and worker.exit_status == -signal.SIGKILL and worker.why == "why not"
    worker.bury()


def test_stacks_leave_out_what_is_ours(worker):
    os.write(
        worker.dump_fd,
        b'Thread 0x1 (most recent call first):\n  File "pool.py", line 1 in wait\n\n'
        b'Current thread 0x2 (most recent call first):\n  File "app.py", line 3 in app\n'
        b'  File "/x/fastasgi/child.py", line 9 in work\n  File "/x/fastasgi/supervisor.py", line 5 in run\n'
        b"running: GET /\n",
    )
    assert worker.stacks() == (
        'Thread 0x1 (most recent call first):\n  File "pool.py", line 1 in wait\n\n'
        'Current thread 0x2 (most recent call first):\n  File "app.py", line 3 in app\n'
        '  File "/x/fastasgi/child.py", line 9 in work\nrunning: GET /'
    )


@pytest.mark.skipif(sys.platform != "linux", reason="what /proc tells")
def test_what_the_kernel_says(worker):
    worker.pid = os.getpid()
    assert worker.rss_bytes() > 1 << 20
    assert worker.condition() == ""
    worker.pid = 2**22 + 1
    assert worker.rss_bytes() == 0 and worker.condition() == ""
