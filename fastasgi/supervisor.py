"""`Supervisor`: N workers on the same listening sockets: starts, watches, replaces, rolls and ends them.

It serves nothing, imports no application (but for `preload`), and has one loop (`Reactor`) in which everything happens
one after the other: signals, links, timers. What to do next is decided by `fleet.plan()` after each of them, so that a
restart, a limit, a crash and a change of the number of workers are one path.

    SIGTERM, SIGINT     drain and end; a second one ends at once, a third one kills
    SIGQUIT             end at once: what runs is cancelled
    SIGHUP              replace all workers, a few at a time; the application is imported anew
    SIGTTIN, SIGTTOU    one worker more, one less
    SIGUSR1             reopen log files, here and in the workers
    SIGUSR2             start what is installed now beside this, on the same sockets; drain when it is ready
    SIGCHLD             a worker has ended
"""

from __future__ import annotations

import enum
import logging
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from . import fleet
from . import sockets as listening
from ._scoreboard import Scoreboard
from .banner import announce, counted
from .config import Config
from .control import ControlSocket
from .draining import Manner, abort_bound_s, drain_bound_s
from .errors import EXIT_CRASH, EXIT_OK, EXIT_STARTUP, StartupError
from .health import Health, stacks_of
from .logging import log_startup_error, reopen_files, server_logger
from .outlet import flush_late
from .process import SERVING, WorkerProcess, WorkerState
from .reactor import Reactor
from .reload import Watcher
from .service import Notifier, has_own_init
from .starting import Starter
from .upgrade import Successor, Takeover

CHECK_S = 0.5
"""How often the workers are looked at."""

CANCEL_BOUND_S = 5.0
"""What a worker that is not ready yet may take to end."""


def terminal_is_gone() -> bool:
    """Whether the terminal that is our standard input was closed."""
    poller = select.poll()
    poller.register(0, 0)  # the kernel tells of POLLHUP unasked
    return any(events & select.POLLHUP for _, events in poller.poll(0))


class Phase(enum.Enum):
    """STARTING -> RUNNING when all workers are ready for the first time; any -> STOPPING."""

    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"


class Supervisor:
    """Runs the workers of one `Config`. `run()` does everything and returns the exit code.

    `on_ready` is called when all workers are ready for the first time. `reactor` is the loop; whoever serves a
    control socket adds itself there.
    """

    def __init__(
        self,
        config: Config,
        *,
        sockets: Sequence[socket.socket] | None = None,
        on_ready: Callable[[], object] | None = None,
        notifier: Notifier | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.config = config
        self.target = config.workers
        self.workers: list[WorkerProcess] = []
        self.board = Scoreboard(max(64, 4 * config.workers))
        self.reactor = Reactor(clock)
        self.phase = Phase.STARTING
        self.exit_code = EXIT_OK
        self.generation = 1
        self.restarts = 0
        self.sockets: Sequence[socket.socket] = sockets or ()
        self._places: list[str] = []  # as people write them
        self._on_ready = on_ready
        self._notifier = notifier or Notifier({})
        self._clock = clock
        self._began_s = clock()
        self._loop_of_crashes = fleet.CrashLoop(clock)
        self._health = Health(config, clock)
        self._starter: Starter | None = None
        self._stops = 0  # how often it was told to end
        self._has_terminal = sys.stdin is not None and sys.stdin.isatty()
        self._checked_s = 0.0
        self._roll_began_s: float | None = None
        self._has_warned_of_loop = False
        self._watcher: Watcher | None = None
        self._is_swapping = False  # files have changed: the old workers end, then new ones start
        self._awaits_change = False  # the application does not start: nothing is tried until it changes
        self._successor: Successor | None = None
        self._takeover: Takeover | None = None
        self._control: ControlSocket | None = None

    # --- the whole --------------------------------------------------------------------------------------------

    def run(self) -> int:
        """Start the workers and keep them until told to end. Raises `StartupError` when there is nothing to start."""
        for notice in self.config.notices:
            server_logger.info(notice)
        self.config.notices.clear()  # else each worker would say so too
        own_sockets = not self.sockets
        try:
            if own_sockets:
                self._takeover = Takeover.from_environment()
                self.sockets = self._takeover.sockets if self._takeover else listening.bind(self.config)
            scheme = "https" if self.config.is_ssl else "http"
            self._places = [listening.describe(sock, scheme) for sock in self.sockets]
            self._starter = Starter(self.config, self.board, self.sockets, forget=self._forget)
            self.reactor.capture_signals(self._signal_callbacks())
            server_logger.info("Started supervisor process [%d]", os.getpid())
            if self._takeover is None:  # else the one before is steered until this one is ready
                self._open_control()
            if self.config.reload:
                self._watcher = Watcher(self.config, self.reactor, self._files_changed)
            self._check()
            while self.phase is not Phase.STOPPING or self.workers:
                self.turn()
        finally:
            self._end(own_sockets)
        server_logger.info("Finished supervisor process [%d]", os.getpid())
        return self.exit_code

    def _open_control(self) -> None:
        takes_over = self._takeover is not None
        self._control = ControlSocket(self.reactor, self, self.config.control_socket, takes_over=takes_over)

    def turn(self) -> None:
        """One turn of the loop: what has happened, then what follows of it."""
        self._act()
        self.reactor.run_once()
        self._reap()

    def _end(self, own_sockets: bool) -> None:
        for worker in self.workers:  # none, unless an error of ours ends us
            worker.kill("the supervisor ends")
        for worker in self.workers:
            while not worker.poll():
                time.sleep(0.01)
            self.reactor.remove_reader(worker.link.sock)
            worker.bury()
        self.workers.clear()
        if self._control is not None:
            self._control.close()
        if self._watcher is not None:
            self._watcher.stop()
        if self._successor is not None:
            self._successor.stop()
        self.reactor.close()
        if own_sockets:
            self._close_sockets()

    def _forget(self) -> None:
        """In a process just forked: close our copies of what is the supervisor's."""
        self.reactor.forget()
        for other in (self._watcher, self._successor, self._takeover, self._control):
            if other is not None:
                other.forget()
        for worker in self.workers:
            worker.close()

    # --- signals ----------------------------------------------------------------------------------------------

    def _signal_callbacks(self) -> dict[int, Callable[[], object]]:
        named: dict[str, Callable[[], object]] = {
            "SIGTERM": self.stop,
            "SIGINT": self.stop,
            "SIGBREAK": self.stop,
            "SIGQUIT": lambda: self.stop(graceful=False),
            "SIGHUP": self._hung_up,
            "SIGTTIN": lambda: self.scale(self.target + 1),
            "SIGTTOU": lambda: self.scale(self.target - 1),
            "SIGUSR1": self.reopen_logs,
            "SIGUSR2": self.upgrade,
            "SIGCHLD": lambda: None,  # `_reap` looks after each turn
        }
        return {getattr(signal, name): call for name, call in named.items() if hasattr(signal, name)}

    def _hung_up(self) -> None:
        """SIGHUP: the kernel's when the terminal was closed, which is an end; any other asks for new workers."""
        if self._has_terminal and terminal_is_gone():
            self.stop()
        else:
            self.reload()

    # --- what it can be told ----------------------------------------------------------------------------------

    def stop(self, *, graceful: bool = True) -> None:
        """End: drain first, or with `graceful` False, or when told again, cancel what runs; a third time kills."""
        self._stops += 1
        if self._stops > 2:
            server_logger.warning("Killing %s", counted(len(self.workers)))
            for worker in self.workers:
                worker.kill("told to end for the third time")
            return
        is_forced = self._stops == 2 or not graceful
        if is_forced:
            server_logger.warning("Ending at once: cancelling what runs")
        if self.phase is not Phase.STOPPING:
            drain = Manner.of_stop(self.config, delay_s=self.config.drain_delay)
            self._notifier.stopping()
            self._end_all(Manner.of_abort(self.config) if is_forced else drain)
        elif is_forced:
            self._close_sockets()
            for worker in self.workers:
                worker.link.send(do="abort")
                self._kill_later(worker, abort_bound_s(self.config))

    def reload(self) -> None:
        """Replace all workers, a few at a time, by new ones that import the application anew."""
        if self.phase is Phase.STOPPING:
            return
        self._notifier.reloading()
        self.generation += 1
        self._roll_began_s = self._clock()
        self._loop_of_crashes = fleet.CrashLoop(self._clock)
        server_logger.info("Replacing %s", counted(len(self.workers)))
        if self._starter is not None and self._starter.is_preloaded:
            server_logger.warning("the application was imported before (preload): SIGUSR2 imports it anew")
        for worker in list(self.workers):
            if worker.state is WorkerState.BOOTING:
                self._cancel(worker)
            elif worker.state is WorkerState.READY:
                worker.move(WorkerState.RETIRING)
                worker.why = "restart"

    def scale(self, count: int) -> None:
        """Have so many workers from now on; at least one, and as many as the scoreboard has room for."""
        count = max(1, min(count, len(self.board) // 2))
        if count != self.target and self.phase is not Phase.STOPPING:
            server_logger.info("%s from now on, before %d", counted(count), self.target)
            self.target = count

    def reopen_logs(self) -> None:
        """Reopen log files, here and in the workers: they were moved away."""
        server_logger.info("Reopening log files")
        reopen_files()
        for worker in self.workers:
            worker.link.send(do="reopen")

    def upgrade(self) -> None:
        """Start a successor on the same sockets, and end when it is ready."""
        if self.phase is not Phase.RUNNING or self._successor is not None:
            return
        if os.getpid() == 1 or has_own_init():
            server_logger.error("no successor is started by process 1: its end would be that of the container")
            return
        self._successor = Successor(self.reactor, self.sockets, self._successor_ended)

    def _successor_ended(self, is_ready: bool) -> None:
        successor, self._successor = self._successor, None
        if is_ready and successor is not None:
            self._notifier.successor(successor.pid)
            server_logger.info("The successor is ready")
            for sock in self.sockets:
                if isinstance(sock, listening.UnixListener):
                    sock.disown()
            self._end_all(Manner.of_replacement(self.config))

    def _end_all(self, manner: Manner) -> None:
        server_logger.info("Shutting down %s", counted(len(self.workers)))
        self.phase = Phase.STOPPING
        for worker in list(self.workers):
            self._drain(worker, manner)
        if manner.delay_s:
            self.reactor.call_later(manner.delay_s, self._close_sockets)
        else:
            self._close_sockets()

    def _close_sockets(self) -> None:
        """As each worker does when its drain begins: behind the last, clients are refused, and wait for nobody."""
        for sock in self.sockets:
            sock.close()

    def dump_stacks(self) -> dict[int, str]:
        """What each worker is doing, by process id: the stacks of its threads, and its request."""
        return stacks_of([worker for worker in self.workers if worker.state in SERVING])

    def status(self) -> dict[str, Any]:
        """What there is to tell, for people and programs."""
        now = self._clock()
        return {
            "pid": os.getpid(),
            "phase": self.phase.value,
            "listening": self._places,
            "target": self.target,
            "generation": self.generation,
            "restarts": self.restarts,
            "workers": [
                {
                    **worker.slot.read(),
                    "pid": worker.pid,
                    "state": worker.state.value,
                    "why": worker.why,
                    "generation": worker.generation,
                    "age_s": now - worker.started_s,
                }
                for worker in self.workers
            ],
        }

    # --- reload ---

    def _files_changed(self, paths: list[str]) -> None:
        """End the old workers at once; new connections wait in the backlog until the new ones are ready.

        Old and new never run at the same time: what applications hold while they are being written, such as a port
        of a debugger, is rarely made for two.
        """
        if self.phase is Phase.STOPPING:
            return
        shown = ", ".join(os.path.relpath(path) for path in paths[:3]) + (", ..." if len(paths) > 3 else "")
        server_logger.warning("%s changed: reloading", shown)
        self.generation += 1
        self._is_swapping = True
        self._awaits_change = False
        self._loop_of_crashes = fleet.CrashLoop(self._clock)
        for worker in list(self.workers):
            self._end_quickly(worker)

    def _end_quickly(self, worker: WorkerProcess) -> None:
        """Drain without waiting for streams: for reload."""
        self._drain(worker, Manner.of_reload())

    # --- what follows -----------------------------------------------------------------------------------------

    def _act(self) -> None:
        """Start and drain what is due."""
        if self.phase is Phase.STOPPING:
            return
        self._is_swapping = self._is_swapping and bool(self.workers)
        if self._is_swapping or self._awaits_change:
            return
        may_start = self._loop_of_crashes.wait_s() == 0.0
        found = fleet.plan(self.workers, self.target, may_start=may_start)
        for _ in range(found.starts):
            self._start()
        for worker in found.drains:
            self._drain(worker, Manner.of_replacement(self.config))
        for worker in found.cancels:
            self._cancel(worker)

    def _start(self) -> None:
        assert self._starter is not None
        used = {worker.slot.index for worker in self.workers}
        index = next(index for index in range(len(self.board)) if index not in used)
        worker = self._starter.start(index, self.generation, self._clock())
        self.workers.append(worker)
        self.reactor.add_reader(worker.link.sock, lambda: self._hear(worker))

    def _drain(self, worker: WorkerProcess, manner: Manner) -> None:
        """Have a worker end by itself, within its bound."""
        is_late = worker.state is WorkerState.DRAINING and manner.is_forced  # it drains, and is not to take its time
        if worker.state is WorkerState.BOOTING:
            if manner.is_forced:  # it may have become ready a moment ago
                worker.link.send(do="drain", **asdict(manner))
            self._cancel(worker)
            return
        if worker.state not in SERVING and not is_late:
            return
        if not is_late:
            worker.move(WorkerState.DRAINING)
        worker.is_told = True
        worker.link.send(do="drain", **asdict(manner))
        self._kill_later(worker, manner.bound_s)

    def _cancel(self, worker: WorkerProcess) -> None:
        """End a worker that is not ready yet, and not wanted any more."""
        worker.move(WorkerState.DRAINING)
        worker.is_told = True
        worker.terminate()
        self._kill_later(worker, CANCEL_BOUND_S)

    def _kill_later(self, worker: WorkerProcess, bound_s: float | None) -> None:
        if bound_s is None:
            return

        def kill() -> None:
            if worker.state is WorkerState.DRAINING and not worker.poll():
                server_logger.error("worker [%d] did not end within %g s: killing it", worker.pid, bound_s)
                worker.kill("did not end in time")

        self.reactor.call_later(bound_s, kill)

    # --- what happens -----------------------------------------------------------------------------------------

    def _hear(self, worker: WorkerProcess) -> None:
        """A worker says something, or has closed its end."""
        for message in worker.link.read():
            what = message["say"]
            if what == "ready" and worker.state is WorkerState.BOOTING:
                self._became_ready(worker)
            elif what == "retire" and worker.state is WorkerState.READY:
                self._retire(worker, message["why"])
            elif what == "draining" and worker.state in SERVING:
                worker.move(WorkerState.DRAINING)  # by itself, as by a signal to it alone
                self._kill_later(worker, drain_bound_s(self.config))
            elif what == "failed":
                worker.failure = (message["text"], message["details"])
        if not worker.link.is_open:
            self.reactor.remove_reader(worker.link.sock)

    def _became_ready(self, worker: WorkerProcess) -> None:
        worker.move(WorkerState.READY)
        worker.ready_s = self._clock()
        ready = sum(each.state is WorkerState.READY for each in self.workers)
        if self.phase is Phase.STARTING and ready >= self.target:
            self.phase = Phase.RUNNING
            announce(self.config, self.sockets, None, ready_s=self._clock() - self._began_s, workers=self.target)
            if self._takeover is not None:
                self._open_control()
                self._takeover.finish()
            self._notifier.ready(f"Serving with {counted(self.target)}")
            if self._on_ready is not None:
                self._on_ready()
        if self._roll_began_s is not None and ready >= self.target:
            server_logger.info("All workers are replaced, in %.1f s", self._clock() - self._roll_began_s)
            self._roll_began_s = None
            self._notifier.ready(f"Serving with {counted(self.target)}")

    def _retire(self, worker: WorkerProcess, why: str) -> None:
        server_logger.info("worker [%d]: %s: replacing it", worker.pid, why)
        worker.move(WorkerState.RETIRING)
        worker.why = why

    def _reap(self) -> None:
        """Bury the workers whose processes have ended."""
        for worker in [worker for worker in self.workers if worker.poll()]:
            if worker.link.is_open:
                self._hear(worker)  # its last words
            self.reactor.remove_reader(worker.link.sock)
            self.workers.remove(worker)
            worker.bury()
            if worker.is_told or self.phase is Phase.STOPPING:
                continue
            if worker.ready_s is None:
                self._failed_to_start(worker)
            else:
                self._died(worker)

    def _failed_to_start(self, worker: WorkerProcess) -> None:
        text, details = worker.failure or (f"a worker {worker.describe_end()} while it started", "")
        if self.config.reload:
            self._wait_for_change(StartupError(text, details=details))
            return
        if self.phase is Phase.STARTING:
            self._give_up(EXIT_STARTUP, StartupError(text, details=details))
            return
        log_startup_error(StartupError(text, details=details))
        self._count_death(worker)
        if self._roll_began_s is not None and worker.generation == self.generation:
            self._abandon_roll()

    def _wait_for_change(self, error: StartupError) -> None:
        """With reload: say once why the application does not start, and try again when it was changed."""
        if not self._awaits_change:
            log_startup_error(error)
            server_logger.info("Waiting for a change of the application")
        self._awaits_change = True
        for worker in list(self.workers):
            self._end_quickly(worker)

    def _abandon_roll(self) -> None:
        """The new application does not start: the old workers stay."""
        self._roll_began_s = None
        staying = [worker for worker in self.workers if worker.generation < self.generation]
        stay = "stays as it was" if len(staying) == 1 else "stay as they were"
        server_logger.error(
            "the restart failed: %s %s; send SIGHUP again when it is repaired", counted(len(staying)), stay
        )
        self._notifier.ready("The restart failed: the workers stay as they were")
        for worker in list(self.workers):
            if worker.state is WorkerState.RETIRING:
                worker.move(WorkerState.READY)
                worker.why = ""
            elif worker.state is WorkerState.BOOTING:
                self._cancel(worker)

    def _died(self, worker: WorkerProcess) -> None:
        """A worker that was not told to has ended."""
        why = f" ({worker.why})" if worker.why else ""
        level = logging.ERROR if worker.exit_status else logging.INFO  # 0: SIGTERM to this one
        server_logger.log(level, "worker [%d] %s%s: replacing it", worker.pid, worker.describe_end(), why)
        if worker.exit_status:
            self._count_death(worker)

    def _count_death(self, worker: WorkerProcess) -> None:
        self.restarts += 1
        crashes = self._loop_of_crashes
        if not crashes.died(self._clock() - worker.started_s):
            return
        if crashes.delay_s():
            server_logger.warning("the next worker starts in %g s", crashes.delay_s())
            self.reactor.call_later(crashes.delay_s(), lambda: None)  # to look again
        serving = sum(each.is_serving for each in self.workers)
        if not crashes.is_loop or serving >= self.target:
            return
        if self.config.stop_on_crash_loop:
            self._give_up(EXIT_CRASH, None)
        elif not self._has_warned_of_loop:
            self._has_warned_of_loop = True
            server_logger.error("workers end soon after their start, again and again; trying on")

    def _give_up(self, code: int, error: StartupError | None) -> None:
        """End with this code."""
        self.exit_code = code
        if error is not None:
            log_startup_error(error)
        else:
            server_logger.error(
                "workers end soon after their start, %d times in a row: giving up (stop_on_crash_loop)",
                self._loop_of_crashes.rounds,
            )
        self._notifier.stopping()
        self._end_all(Manner.of_stop(self.config))

    # --- health -----------------------------------------------------------------------------------------------

    def _check(self) -> None:
        """Look at every worker: starts that take too long, loops that do not turn, memory, age."""
        self._notifier.ping()
        flush_late()
        now = self._clock()
        was_away = self._checked_s and now - self._checked_s > 4 * CHECK_S
        self._checked_s = now
        self.reactor.call_later(CHECK_S, self._check)
        if was_away:
            return  # we were stopped ourselves, as by Ctrl+Z, and the workers with us: let them come back first
        for worker in self._health.unready(self.workers):
            text = f"a worker was not ready within {self.config.timeout_worker_startup:g} s (timeout_worker_startup)"
            worker.failure = (text, stacks_of([worker])[worker.pid])
            worker.kill("not ready in time")
        hung = self._health.hung(self.workers, time.monotonic_ns())
        if hung:
            self._end_hung(hung)
        if self.phase is Phase.RUNNING:
            for worker, why in self._health.worn(self.workers):
                self._retire(worker, why)

    def _end_hung(self, hung: list[WorkerProcess]) -> None:
        """Say what they are doing, then kill them."""
        stacks = stacks_of(hung)
        for worker in hung:
            condition = worker.condition()
            server_logger.error(
                "worker [%d] gave no sign of life for %g s (timeout_worker_healthcheck)%s: killing it, while at:\n%s",
                worker.pid,
                self.config.timeout_worker_healthcheck,
                f"; {condition}" if condition else "",
                stacks[worker.pid] or "(it could not say)",
            )
            worker.kill("hung")
