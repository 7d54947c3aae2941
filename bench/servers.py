"""How each server is started: one row of a table, its best documented settings for one worker.

A server runs in its own session, pinned to one core, with its access log off (or on, in the rows that say
so). What it prints goes to a file, as it would under a service manager.
"""

import os
import shlex
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.client import HTTPException, HTTPResponse
from pathlib import Path

from measure import process_tree
from scenarios import HOST, TIMEOUT_S, Answer, Scenario, WrongAnswer, read_answer, verify_headers_arrived

BENCH = Path(__file__).resolve().parent
ROOT = BENCH.parent
START_TIMEOUT_S = 20.0
STOP_TIMEOUT_S = 5.0
SHOWN_LINES = 3


class Refused(Exception):
    """A server that takes no part: it does not start, or it answers wrongly; names the server and the scenario."""


@dataclass(frozen=True)
class Place:
    """Where a server runs: the interpreter, the floor program, a port, whether access lines are written."""

    python: Path
    floor: Path
    port: int
    app: str
    access_log: bool
    answer_file: Path
    piece_bytes: int = 0

    def script(self, name: str) -> str:
        """Return the path of a console script beside the interpreter."""
        return str(self.python.parent / name)


@dataclass(frozen=True)
class ServerKind:
    """One server: its name, what it is called in tables, its distribution on the index, its command line."""

    name: str
    package: str | None
    how: str
    command: Callable[[Place], list[str]]
    only: frozenset[str] = frozenset()  # scenarios in which it takes part; empty: all
    environment: dict[str, str] = field(default_factory=dict)

    def takes_part(self, scenario: Scenario) -> bool:
        """Tell whether this scenario is for this server."""
        return not self.only or scenario.name in self.only


def _floor(place: Place) -> list[str]:
    command = [str(place.floor), "--port", str(place.port), "--answer", str(place.answer_file)]
    return [*command, "--piece", str(place.piece_bytes)] if place.piece_bytes else command


def _floor_gathered(place: Place) -> list[str]:
    return [str(place.floor), "--port", str(place.port), "--answer", str(place.answer_file)]


def _fastasgi(place: Place) -> list[str]:
    log = "--access-log" if place.access_log else "--no-access-log"
    address = ["--host", HOST, "--port", str(place.port)]
    return [str(place.python), "-m", "fastasgi", place.app, *address, "--lifespan", "off", log]


def _uvicorn(place: Place) -> list[str]:
    log = "--access-log" if place.access_log else "--no-access-log"
    address = ["--host", HOST, "--port", str(place.port)]
    faster = ["--http", "httptools", "--loop", "uvloop", "--lifespan", "off", "--timeout-keep-alive", "75"]
    return [place.script("uvicorn"), place.app, *address, *faster, log]


def _granian(place: Place) -> list[str]:
    log = "--access-log" if place.access_log else "--no-access-log"
    address = ["--host", HOST, "--port", str(place.port)]
    faster = ["--interface", "asginl", "--loop", "uvloop", "--http", "1", "--workers", "1", "--runtime-threads", "1"]
    return [place.script("granian"), *address, *faster, log, place.app]


def _peregrine(place: Place) -> list[str]:
    log = ["--access-log"] if place.access_log else []
    address = ["--host", HOST, "--port", str(place.port)]
    rest = ["--protocol", "asgi", "--no-lifespan", "--keep-alive", "75000", "--python-path", str(BENCH)]
    return [place.script("peregrine"), *address, *rest, *log, place.app]


def _h2corn(place: Place) -> list[str]:
    log = "--access-log" if place.access_log else "--no-access-log"
    address = ["--bind", f"{HOST}:{place.port}"]
    return [place.script("h2corn"), *address, "--loop", "asyncio", "--lifespan", "off", log, place.app]


def _gunicorn(place: Place) -> list[str]:
    log = ["--access-logfile", "-"] if place.access_log else []
    rest = ["--bind", f"{HOST}:{place.port}", "--workers", "1", "--worker-class", "asgi", "--keep-alive", "75"]
    faster = ["--http-parser", "fast", "--asgi-loop", "uvloop", "--asgi-lifespan", "off"]
    return [place.script("gunicorn"), *rest, *faster, "--worker-tmp-dir", "/dev/shm", *log, place.app]


def _hypercorn(place: Place) -> list[str]:
    log = ["--access-logfile", "-"] if place.access_log else []
    rest = ["--bind", f"{HOST}:{place.port}", "--worker-class", "uvloop", "--keep-alive", "75"]
    return [place.script("hypercorn"), *rest, *log, place.app]


def _daphne(place: Place) -> list[str]:
    log = ["--access-log", "-"] if place.access_log else ["--verbosity", "0"]
    return [place.script("daphne"), "-b", HOST, "-p", str(place.port), *log, place.app]


KINDS = {
    kind.name: kind
    for kind in (
        ServerKind("floor", None, "C: epoll, recv, send of a fixed answer", _floor),
        ServerKind(
            "floor-gathered",
            None,
            "the floor, with all pieces of a stream in one send: what gathering them can save",
            _floor_gathered,
            only=frozenset({"stream"}),
        ),
        ServerKind("fastasgi", "fastasgi", "uvloop, own socket I/O, lifespan off", _fastasgi),
        ServerKind("uvicorn", "uvicorn", "httptools, uvloop, lifespan off", _uvicorn),
        ServerKind("granian", "granian", "asginl, uvloop, HTTP/1 only, one runtime thread", _granian),
        ServerKind("peregrine", "peregrine-server", "uvloop, lifespan off", _peregrine),
        ServerKind("h2corn", "h2corn", "asyncio (its faster loop), lifespan off", _h2corn),
        ServerKind("gunicorn", "gunicorn", "worker class asgi, C parser, uvloop, lifespan off", _gunicorn),
        ServerKind("hypercorn", "Hypercorn", "worker class uvloop", _hypercorn),
        ServerKind("daphne", "daphne", "as shipped (Twisted over asyncio)", _daphne),
    )
}
DEFAULT_KINDS = ("floor", "floor-gathered", "fastasgi", "uvicorn", "granian", "peregrine")


def free_port() -> int:
    """Return a port of the loopback address that nobody uses at this moment."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return probe.getsockname()[1]


def ask(port: int, request: bytes, times: int = 1) -> list[Answer]:
    """Send a request so many times over one connection and return the answers."""
    with socket.create_connection((HOST, port), timeout=TIMEOUT_S) as connection:
        answers = []
        for _ in range(times):
            connection.sendall(request)
            answers.append(read_answer(HTTPResponse(connection)))
        return answers


class RunningServer:
    """One started server. Use it as a context manager: leaving it ends the whole process tree."""

    def __init__(
        self,
        kind: ServerKind,
        scenario: Scenario,
        *,
        python: Path,
        floor: Path,
        core: int | None,
        tree: bool = False,
        app: str | None = None,
    ):
        """Prepare, but do not start: `core` None leaves it unpinned, `tree` takes fastasgi from this checkout."""
        self.kind = kind
        self.scenario = scenario
        self.port = free_port()
        self._folder = tempfile.TemporaryDirectory(prefix="fastasgi-bench-")
        folder = Path(self._folder.name)
        self.log_path = folder / "output.txt"
        self._answer_file = folder / "answer.bin"
        place = Place(
            python=python,
            floor=floor,
            port=self.port,
            app=app or scenario.app,
            access_log=scenario.access_log,
            answer_file=self._answer_file,
            piece_bytes=scenario.floor_piece_bytes,
        )
        pin = [] if core is None else ["taskset", "-c", str(core)]
        self.command = [*pin, *kind.command(place)]
        self._environment = self._make_environment(tree)
        self._process: subprocess.Popen | None = None

    def _make_environment(self, tree: bool) -> dict[str, str]:
        """Return the environment: the applications importable, fastasgi from the checkout only if asked for."""
        paths = [str(BENCH)]
        if tree and self.kind.name == "fastasgi":
            paths.append(str(ROOT))
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        return {**kept, **self.kind.environment, "PYTHONPATH": os.pathsep.join(paths)}

    def __enter__(self) -> "RunningServer":
        """Start it and wait until it accepts connections."""
        self._answer_file.write_bytes(self.scenario.floor_answer)
        with self.log_path.open("wb") as log:
            self._process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self._environment,
                cwd=self._folder.name,
                start_new_session=True,
            )
        try:
            self._wait_until_it_accepts()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        """End the process tree: asked first, killed when it does not."""
        process, self._process = self._process, None
        if process is not None:
            self._signal(process, signal.SIGTERM)
            self._wait_for_end(process)
            self._signal(process, signal.SIGKILL)
            process.wait(STOP_TIMEOUT_S)
        self._folder.cleanup()

    @staticmethod
    def _wait_for_end(process: subprocess.Popen) -> None:
        """Wait for the leader without reaping it: until then no other group can carry its number."""
        deadline = time.monotonic() + STOP_TIMEOUT_S
        while time.monotonic() < deadline:
            if process.returncode is not None:
                return
            if os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
                return
            time.sleep(0.01)

    @staticmethod
    def _signal(process: subprocess.Popen, number: signal.Signals) -> None:
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
        words = [Path(word).name if word.startswith("/") else word for word in self.command]
        return shlex.join("PORT" if word == str(self.port) else word for word in words)

    def output(self) -> str:
        """Return the last lines of what it printed, without this machine's folders."""
        if not self.log_path.exists():
            return ""
        lines = self.log_path.read_text(errors="replace").strip().splitlines()[-SHOWN_LINES:]
        return "; ".join(line.strip() for line in lines).replace(f"{ROOT}/", "")

    def refuse(self, reason: object) -> Refused:
        """Return the error that names this server and this scenario."""
        return Refused(f"{self.kind.name} is refused for {self.scenario.name}: {reason}")

    def _wait_until_it_accepts(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise self.refuse(f"it ended with code {self._process.returncode}: {self.output()}")
            try:
                socket.create_connection((HOST, self.port), timeout=1.0).close()
                return
            except OSError:
                time.sleep(0.02)
        raise self.refuse(f"it did not listen within {START_TIMEOUT_S:.0f} s: {self.output()}")

    def verify(self) -> None:
        """Raise Refused unless it gives the right answer twice over one connection, and saw what was sent."""
        try:
            for answer in ask(self.port, self.scenario.request, times=2):
                self.scenario.verify(answer)
            if self.scenario.check_request and self.kind.command not in (_floor, _floor_gathered):
                verify_headers_arrived(ask(self.port, self.scenario.check_request)[0])
        except (WrongAnswer, OSError, HTTPException, ValueError) as error:
            raise self.refuse(f"{type(error).__name__}: {error}") from error
