"""Decisions about workers, apart from processes: how many to start, which to drain, how long to wait after a crash.

One rule gives every replacement its order. Workers that are to go (RETIRING) serve on; each that comes up in their
place lets one of them drain. So the number that serves never falls below what is wanted by a restart, only by a death.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from .process import WorkerProcess, WorkerState

STABLE_S = 10.0
"""A worker that has lived for so long did not die of its start."""

FIRST_DELAY_S = 0.25
MAX_DELAY_S = 30.0
MAX_ROUNDS = 8
"""So many rounds of early deaths are a crash loop: about 16 seconds of trying."""


def surge(target: int) -> int:
    """How many replacements may be on their way at once."""
    return max(1, target // 4)


def max_draining(target: int) -> int:
    """How many may drain before the next replacement waits: with them there are at most twice as many processes."""
    return max(2, target)


@dataclass
class Plan:
    """What to do now."""

    starts: int = 0
    drains: list[WorkerProcess] = field(default_factory=list)
    cancels: list[WorkerProcess] = field(default_factory=list)  # still booting, and wanted no more


def plan(workers: Sequence[WorkerProcess], target: int, *, may_start: bool = True) -> Plan:
    """What brings `workers` nearer to `target` of them that are ready and stay."""
    by_age = sorted(workers, key=lambda worker: worker.started_s)
    fresh = [worker for worker in by_age if worker.state is WorkerState.READY]
    coming = [worker for worker in by_age if worker.state is WorkerState.BOOTING]
    retiring = [worker for worker in by_age if worker.state is WorkerState.RETIRING]
    draining = sum(worker.state is WorkerState.DRAINING for worker in workers)
    found = Plan()
    excess = len(fresh) + len(retiring) - target
    if excess > 0:
        found.drains = (retiring + fresh)[:excess]
    missing = target - len(fresh) - len(coming)
    if missing < 0 and coming:
        found.cancels = coming[missing:]
    if missing > 0 and may_start:
        dead = max(0, target - len(fresh) - len(coming) - len(retiring))
        room = min(surge(target) - len(coming), max_draining(target) - draining)
        found.starts = min(missing, max(dead, room))
    return found


class CrashLoop:
    """Counts rounds of early deaths, and says how long to wait before the next start.

    All deaths until the next start are one round, so that eight workers that fall together are not eight
    rounds. The first round waits for nothing: one death is an accident.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.rounds = 0
        self._resume_s = 0.0
        self._last_s = 0.0

    def died(self, lived_s: float) -> bool:
        """A worker has died, or could not start. True when this is a new round."""
        now = self._clock()
        if lived_s >= STABLE_S:
            return False
        if self.rounds and now < self._resume_s:
            return False
        if now - self._last_s > STABLE_S + self.delay_s():
            self.rounds = 0
        self.rounds += 1
        self._last_s = now
        self._resume_s = now + self.delay_s()
        return True

    def delay_s(self) -> float:
        """From the last round's deaths to the next start."""
        if self.rounds < 2:
            return 0.0
        return float(min(MAX_DELAY_S, FIRST_DELAY_S * 2 ** (self.rounds - 2)))

    def wait_s(self) -> float:
        """How long to wait from now on; 0 when workers may be started."""
        return max(0.0, self._resume_s - self._clock())

    @property
    def is_loop(self) -> bool:
        """Whether trying again has lost its sense."""
        return self.rounds >= MAX_ROUNDS
