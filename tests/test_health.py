"""health: hung is who does not turn, not who starts slowly; worn is who is old or large."""

import pytest

from fastasgi._scoreboard import State
from fastasgi.config import Config
from fastasgi.health import MIN_SILENCE_S, RSS_EVERY, Health
from fastasgi.process import WorkerState

S = 10**9


class FakeSlot:
    def __init__(self):
        self.heartbeat_ns = 100 * S
        self.state = State.READY


class FakeWorker:
    def __init__(self, state=WorkerState.READY, started_s=0.0, ready_s=1.0):
        self.state, self.started_s, self.ready_s = state, started_s, ready_s
        self.slot = FakeSlot()
        self.rss = 0

    def rss_bytes(self):
        return self.rss


def health(now_s=0.0, **options):
    return Health(Config("a:b", log_config=None, **options), lambda: now_s)


@pytest.mark.parametrize("state", [WorkerState.READY, WorkerState.RETIRING, WorkerState.DRAINING])
def test_hung(state):
    worker = FakeWorker(state)
    judge = health(timeout_worker_healthcheck=5)
    assert judge.hung([worker], 105 * S) == []
    assert judge.hung([worker], 105 * S + 1) == [worker]


def test_not_hung():
    starting = FakeWorker(WorkerState.BOOTING, ready_s=None)
    killed = FakeWorker(WorkerState.KILLED)
    ended = FakeWorker(WorkerState.DRAINING)
    ended.slot.state = State.GONE
    assert health().hung([starting, killed, ended], 1000 * S) == []
    assert health(timeout_worker_healthcheck=None).hung([FakeWorker()], 1000 * S) == []


def test_a_short_limit_does_not_ask_for_more_heartbeats_than_there_are():
    judge = health(timeout_worker_healthcheck=0.5)
    assert judge.hung([FakeWorker()], int((100 + MIN_SILENCE_S) * S)) == []


def test_unready():
    slow, ready = FakeWorker(WorkerState.BOOTING, started_s=0.0), FakeWorker()
    assert health(9.0, timeout_worker_startup=10).unready([slow, ready]) == []
    assert health(11.0, timeout_worker_startup=10).unready([slow, ready]) == [slow]
    assert health(1e6).unready([slow, ready]) == []


def test_too_old():
    worker, retiring = FakeWorker(), FakeWorker(WorkerState.RETIRING)
    assert health(59.0, worker_lifetime=60).worn([worker, retiring]) == []
    assert health(61.0, worker_lifetime=60).worn([worker, retiring]) == [(worker, "older than 60 s (worker_lifetime)")]


def test_too_large():
    worker = FakeWorker()
    judge = health(limit_worker_rss=1000)
    assert [judge.worn([worker]) for _ in range(RSS_EVERY)] == [[]] * RSS_EVERY
    worker.rss = 1001
    found = [judge.worn([worker]) for _ in range(RSS_EVERY)]
    assert found[-1] == [(worker, "takes 1001 B of memory, above 1000 B (limit_worker_rss)")]
    assert sum(map(bool, found)) == 1, "looked at now and then"
