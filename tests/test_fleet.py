"""fleet: replacements come before what they replace goes, a few at a time; crashes wait longer each round."""

import pytest

from fastasgi.fleet import MAX_DELAY_S, MAX_ROUNDS, STABLE_S, CrashLoop, max_draining, plan, surge
from fastasgi.process import WorkerState

B, R, T, D, K = (
    WorkerState.BOOTING,
    WorkerState.READY,
    WorkerState.RETIRING,
    WorkerState.DRAINING,
    WorkerState.KILLED,
)


class FakeWorker:
    def __init__(self, state, started_s):
        self.state, self.started_s = state, started_s


def fleet(*states):
    """The first is the oldest."""
    return [FakeWorker(state, index) for index, state in enumerate(states)]


@pytest.mark.parametrize(
    ("states", "target", "starts"),
    [
        ([], 4, 4),  # at first all at once
        ([R, R, R, R], 4, 0),
        ([R, R, R], 4, 1),  # one has died
        ([R, R, R, K], 4, 1),
        ([R, R, R, B], 4, 0),
        ([R, T, T, T], 4, 1),  # a restart: one at a time
        ([T, T, T, T, B], 4, 0),
        ([T] * 8, 8, 2),  # of eight, two
        ([T] * 8 + [B], 8, 1),
        ([R, T, T], 4, 1),  # one has died in a restart: its place is filled first
        ([T, D, D, D, D], 4, 3),  # three are dead; those that drain do not count
        ([R, R, R, T, D, D, D, D], 4, 0),  # too many drain: the next replacement waits
        ([R, R, R, T, D, D, D], 4, 1),
    ],
)
def test_starts(states, target, starts):
    assert plan(fleet(*states), target).starts == starts


def test_nothing_starts_while_it_may_not():
    assert plan(fleet(R), 4, may_start=False).starts == 0


def test_a_replacement_that_is_ready_lets_the_oldest_drain():
    workers = fleet(T, T, R)
    assert plan(workers, 2).drains == [workers[0]]


def test_nobody_drains_before():
    assert plan(fleet(T, T, B), 2).drains == []


def test_fewer_are_wanted():
    workers = fleet(R, R, R, B)
    found = plan(workers, 2)
    assert found.drains == [workers[0]] and found.cancels == [workers[3]] and found.starts == 0


@pytest.mark.parametrize("target", range(1, 20))
def test_a_restart_ends_and_keeps_its_bounds(target):
    """Played through: the number that serves never falls, the number of processes never passes its bound."""
    workers = fleet(*[T] * target)
    clock = target
    for _ in range(200):
        found = plan(workers, target)
        for worker in found.drains:
            worker.state = D
        for _ in range(found.starts):
            workers.append(FakeWorker(B, clock))
            clock += 1
        assert sum(worker.state in (R, T) for worker in workers) >= target
        assert len(workers) <= target + surge(target) + max_draining(target)
        booting = next((worker for worker in workers if worker.state is B), None)
        if booting is not None:
            booting.state = R
            continue
        draining = next((worker for worker in workers if worker.state is D), None)
        if draining is None:
            break
        workers.remove(draining)
    assert [worker.state for worker in workers] == [R] * target


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


def test_the_first_death_waits_for_nothing():
    crashes = CrashLoop(Clock())
    assert crashes.died(1.0)
    assert crashes.wait_s() == 0.0


def test_waits_double_up_to_a_bound_and_become_a_loop():
    clock = Clock()
    crashes = CrashLoop(clock)
    waits = []
    for _ in range(MAX_ROUNDS - 1):
        assert crashes.died(0.1)
        assert not crashes.is_loop
        waits.append(crashes.wait_s())
        clock.now += crashes.wait_s() + 0.1
    assert waits == [0.0, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0]
    crashes.died(0.1)
    assert crashes.is_loop
    for _ in range(9):
        clock.now += crashes.wait_s()
        crashes.died(0.1)
    assert crashes.wait_s() == MAX_DELAY_S


def test_workers_that_fall_together_are_one_round():
    clock = Clock()
    crashes = CrashLoop(clock)
    crashes.died(0.1)
    clock.now += 0.1
    assert crashes.died(0.1)
    for _ in range(7):
        assert not crashes.died(0.1)
    assert crashes.rounds == 2


def test_a_death_after_a_long_life_is_no_crash_of_a_start():
    crashes = CrashLoop(Clock())
    assert not crashes.died(STABLE_S)
    assert crashes.rounds == 0


def test_peace_forgets():
    clock = Clock()
    crashes = CrashLoop(clock)
    for _ in range(3):
        crashes.died(0.1)
        clock.now += crashes.wait_s()
    clock.now += STABLE_S + 1
    crashes.died(0.1)
    assert crashes.rounds == 1
