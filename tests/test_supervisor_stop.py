"""supervisor: what it tells its workers when it is told to end, whatever each of them is doing. No processes."""

import signal
import sys

import pytest

if sys.platform == "win32":
    pytest.skip("signals", allow_module_level=True)

from fastasgi._scoreboard import Slot
from fastasgi.config import Config
from fastasgi.draining import abort_bound_s, drain_bound_s
from fastasgi.process import WorkerProcess, WorkerState
from fastasgi.supervisor import CANCEL_BOUND_S, Phase, Supervisor


class Told:
    """The link to a worker, and what it was told over it."""

    def __init__(self):
        self.sent = []

    def send(self, **command):
        command["do"] += " by force" * command.get("is_forced", False)
        self.sent.append(command["do"])


class Worker(WorkerProcess):
    def __init__(self, pid, state):
        super().__init__(pid, Slot(), Told(), -1, generation=1, started_s=0.0)
        self.state, self.signals = state, []

    def _signal(self, number):
        self.signals.append(number)

    def poll(self):
        return False


@pytest.fixture
def fleet():
    """A supervisor with a worker in each state, and the bounds that it has set."""
    config = Config("a:b", log_config=None, timeout_graceful_shutdown=20, timeout_disconnect_grace=5)
    supervisor = Supervisor(config, clock=lambda: 0.0)
    supervisor.phase = Phase.RUNNING
    states = (WorkerState.BOOTING, WorkerState.READY, WorkerState.RETIRING, WorkerState.DRAINING)
    supervisor.workers = [Worker(number, state) for number, state in enumerate(states, 1)]
    supervisor.bounds = []
    supervisor.reactor.call_later = lambda delay_s, call: supervisor.bounds.append(delay_s)
    yield supervisor
    supervisor.reactor.close()
    supervisor.board = None


def told(supervisor):
    return [worker.link.sent for worker in supervisor.workers]


DRAIN, FORCED, ABORT = "drain", "drain by force", "abort"


@pytest.mark.pins("workers.stop-bounded", "process.second-signal")
def test_an_end_that_drains_and_a_second_word_that_does_not(fleet):
    fleet.stop()
    assert told(fleet) == [[], [DRAIN], [DRAIN], []], "the last one drains already"
    assert fleet.workers[0].signals == [signal.SIGTERM]
    assert sorted(fleet.bounds) == [CANCEL_BOUND_S] + [drain_bound_s(fleet.config)] * 2
    fleet.stop()
    assert told(fleet) == [[ABORT], [DRAIN, ABORT], [DRAIN, ABORT], [ABORT]]
    assert fleet.bounds[3:] == [abort_bound_s(fleet.config)] * 4
    fleet.stop()
    assert all(worker.signals[-1] == signal.SIGKILL for worker in fleet.workers)


@pytest.mark.pins("workers.stop-bounded")
def test_an_end_at_once_is_one_command_to_each(fleet):
    """A second command, behind that of the drain, would meet the application's shutdown and cut it short. One that
    drains already is not to take its time; one that boots may have become ready a moment ago."""
    fleet.stop(graceful=False)
    assert told(fleet) == [[FORCED]] * 4
    assert fleet.workers[0].signals == [signal.SIGTERM]
    assert [worker.state for worker in fleet.workers] == [WorkerState.DRAINING] * 4
    assert sorted(fleet.bounds) == sorted([CANCEL_BOUND_S] + [abort_bound_s(fleet.config)] * 3)
    fleet.stop(graceful=False)
    assert told(fleet) == [[FORCED, ABORT]] * 4


@pytest.mark.pins("workers.stop-bounded")
def test_an_end_at_once_after_one_that_drains(fleet):
    fleet.stop()
    fleet.stop(graceful=False)
    assert told(fleet) == [[ABORT], [DRAIN, ABORT], [DRAIN, ABORT], [ABORT]]
