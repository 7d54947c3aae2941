"""Whether workers are well: loops that do not turn, starts that take too long, memory, age.

Each worker's loop writes the time into the scoreboard once a second; one that is blocked does not. Import and lifespan
startup come before the first heartbeat and have a limit of their own, so a slow start is never a hang.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from ._scoreboard import State
from .config import Config
from .process import WorkerProcess, WorkerState

DUMP_WAIT_S = 0.5
"""How long stacks may take to be written."""

MIN_SILENCE_S = 2.5
"""A heartbeat comes once a second: less says nothing, whatever `timeout_worker_healthcheck` is."""

RSS_EVERY = 4
"""Memory is looked at in one check of so many."""

_LAST_LINES = ("running: ", "no request runs")
"""What a worker writes behind its stacks begins so; see `child.request_of()`."""


class Health:
    """Judges the workers of one configuration; changes nothing."""

    def __init__(self, config: Config, clock: Callable[[], float]) -> None:
        self._config, self._clock = config, clock
        self._checks = 0

    def hung(self, workers: Sequence[WorkerProcess], now_ns: int) -> list[WorkerProcess]:
        """Those whose loop has not turned for `timeout_worker_healthcheck`, in whatever state; `now_ns` is of the
        monotonic clock that the workers write."""
        limit_s = self._config.timeout_worker_healthcheck
        if limit_s is None:
            return []
        oldest_ns = now_ns - int(max(limit_s, MIN_SILENCE_S) * 1e9)
        return [
            worker
            for worker in workers
            if worker.ready_s is not None
            and worker.state is not WorkerState.KILLED
            and worker.slot.state is not State.GONE  # it waits for threads of the application, within a bound
            and worker.slot.heartbeat_ns < oldest_ns
        ]

    def unready(self, workers: Sequence[WorkerProcess]) -> list[WorkerProcess]:
        """Those that have not become ready within `timeout_worker_startup`."""
        limit_s = self._config.timeout_worker_startup
        if limit_s is None:
            return []
        oldest_s = self._clock() - limit_s
        return [w for w in workers if w.state is WorkerState.BOOTING and w.started_s < oldest_s]

    def worn(self, workers: Sequence[WorkerProcess]) -> list[tuple[WorkerProcess, str]]:
        """Those that are to be replaced, each with the reason."""
        self._checks += 1
        found = []
        for worker in workers:
            why = self._wear_of(worker) if worker.state is WorkerState.READY else ""
            if why:
                found.append((worker, why))
        return found

    def _wear_of(self, worker: WorkerProcess) -> str:
        limit_bytes, lifetime_s = self._config.limit_worker_rss, self._config.worker_lifetime
        if lifetime_s is not None and self._clock() - worker.started_s > lifetime_s:
            return f"older than {lifetime_s:g} s (worker_lifetime)"
        if limit_bytes is not None and self._checks % RSS_EVERY == 0:
            rss = worker.rss_bytes()
            if rss > limit_bytes:
                return f"takes {rss} B of memory, above {limit_bytes} B (limit_worker_rss)"
        return ""


def stacks_of(workers: Sequence[WorkerProcess], wait_s: float = DUMP_WAIT_S) -> dict[int, str]:
    """What each of them is doing, by process id; empty for one that cannot say, as it is stopped."""
    for worker in workers:
        worker.ask_for_stacks()
    deadline_s = time.monotonic() + wait_s
    while time.monotonic() < deadline_s and not all(_is_whole(worker.stacks()) for worker in workers):
        time.sleep(0.02)  # nothing of a supervisor's could not wait as long
    return {worker.pid: worker.stacks() for worker in workers}


def _is_whole(stacks: str) -> bool:
    return stacks.rpartition("\n")[2].startswith(_LAST_LINES)
