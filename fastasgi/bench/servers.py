"""A server that runs: started for one round, ended with its whole process tree.

It runs in its own session, pinned to one core where asked. What it prints goes to a file, as it would under a service
manager.
"""

import os
import shlex
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from .contenders import Kind, Place
from .machine import process_tree, starting_on, uninterrupted
from .model import OURS
from .scenarios import HOST, HttpScenario, Scenario
from .verify import WrongAnswer, verify

APPS = Path(__file__).resolve().parent / "apps"
START_TIMEOUT_S = 20.0
STOP_TIMEOUT_S = 3.0
SHOWN_LINES = 3


class Refused(Exception):
    """A server that takes no part: it does not start, or it answers wrongly; names the server and the scenario."""


@dataclass(frozen=True)
class Ground:
    """What servers run on: the interpreter, the floor programs, the core."""

    python: Path
    floor: Path | None = None
    websocket_floor: Path | None = None
    core: int | None = None
    """None: wherever the kernel puts them."""
    tree: Path | None = None
    """The checkout that fastasgi itself is taken from; None: from the interpreter's environment."""
    apps: Path = APPS
    """Where the applications stand."""


def free_port() -> int:
    """Return a port of the loopback address that nobody uses at this moment."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


class RunningServer:
    """One started server. Use it as a context manager: leaving it ends the whole process tree."""

    def __init__(self, kind: Kind, scenario: Scenario, ground: Ground) -> None:
        """Prepare, but do not start."""
        self.kind = kind
        self.scenario = scenario
        self.port = free_port()
        self._ground = ground
        # Several workers share what there is; one stays where it is put.
        self._core = ground.core if scenario.workers == 1 else None
        self._folder = tempfile.TemporaryDirectory(prefix="fastasgi-bench-")
        self._log = Path(self._folder.name) / "output.txt"
        self._answer_file = Path(self._folder.name) / "answer.bin"
        is_http = isinstance(scenario, HttpScenario)
        place = Place(
            python=ground.python,
            floor=ground.floor if is_http else ground.websocket_floor,
            port=self.port,
            scenario=scenario,
            app=scenario.app,
            answer_file=self._answer_file,
        )
        self.command = kind.command(place)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def core(self) -> int | None:
        """The core that it is pinned to, None if it is not."""
        return self._core

    def _environment(self) -> dict[str, str]:
        """The applications are importable, fastasgi and its floors from the tree only if asked for."""
        paths = [str(self._ground.apps)]
        if self._ground.tree and (self.kind.name == OURS or self.kind.is_floor):
            paths.append(str(self._ground.tree))
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "FASTASGI_"))}
        return {**kept, "PYTHONPATH": os.pathsep.join(paths)}

    def __enter__(self) -> "RunningServer":
        """Start it and wait until it accepts connections."""
        try:
            self._wait_until_it_accepts(self._start())
        except BaseException:
            self._end()
            raise
        return self

    def _start(self) -> "subprocess.Popen[bytes]":
        self._answer_file.write_bytes(self.scenario.floor_answer or b"")
        with uninterrupted(), self._log.open("wb") as log, starting_on(self._core):
            self._process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self._environment(),
                cwd=self._folder.name,
                start_new_session=True,
            )
        return self._process

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the process tree: asked first, killed when it does not."""
        self._end()

    def _end(self) -> None:
        with uninterrupted():
            process, self._process = self._process, None
            if process is not None:
                self._signal(process, signal.SIGTERM)
                self._wait_for_end(process)
                self._signal(process, signal.SIGKILL)
                process.wait(STOP_TIMEOUT_S)
            self._folder.cleanup()

    @staticmethod
    def _wait_for_end(process: subprocess.Popen[bytes]) -> None:
        """Wait for the leader without reaping it: until then no other group can carry its number."""
        deadline = time.monotonic() + STOP_TIMEOUT_S
        while time.monotonic() < deadline:
            if process.returncode is not None:
                return
            if os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
                return
            time.sleep(0.01)

    @staticmethod
    def _signal(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
        """Signal the session that this server leads, if any of it is left."""
        try:
            os.killpg(process.pid, number)
        except (ProcessLookupError, PermissionError):
            return

    @property
    def pids(self) -> list[int]:
        """Return the numbers of all its processes."""
        return process_tree(self._process.pid) if self._process else []

    @property
    def shown_command(self) -> str:
        """Return the command as a table shows it: without this machine's folders."""
        first, *rest = self.command
        words = ["python" if first == str(self._ground.python) else Path(first).name]
        words += [Path(word).name if word.startswith(self._folder.name) else word for word in rest]
        port = str(self.port)
        return shlex.join("PORT" if word == port else word.replace(f":{port}", ":PORT") for word in words)

    def output(self) -> str:
        """Return the last lines of what it printed, without this machine's folders."""
        if not self._log.exists():
            return ""
        lines = self._log.read_text(errors="replace").strip().splitlines()[-SHOWN_LINES:]
        said = "; ".join(line.strip() for line in lines)
        ground = self._ground
        for folder in (self._folder.name, ground.tree, ground.apps.parent, ground.python.parent.parent):
            said = said.replace(f"{folder}/", "")
        return said

    def refuse(self, reason: object) -> Refused:
        """Return the error that names this server and this scenario."""
        return Refused(f"{self.kind.name} is refused for {self.scenario.name}: {reason}")

    def _wait_until_it_accepts(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            if process.poll() is not None:
                raise self.refuse(f"it ended with code {process.returncode}: {self.output()}")
            try:
                socket.create_connection((HOST, self.port), timeout=1.0).close()
                return
            except OSError:
                time.sleep(0.01)
        raise self.refuse(f"it did not listen within {START_TIMEOUT_S:.0f} s: {self.output()}")

    def verify(self) -> None:
        """Raise Refused unless it answers the scenario's requests rightly."""
        if isinstance(self.scenario, HttpScenario):
            with self.refusing(WrongAnswer):
                verify(self.port, self.scenario, is_floor=self.kind.is_floor)

    @contextmanager
    def refusing(self, *errors: type[Exception]) -> Iterator[None]:
        """Turn these errors into a refusal of this server."""
        try:
            yield
        except errors as error:
            raise self.refuse(error) from error
