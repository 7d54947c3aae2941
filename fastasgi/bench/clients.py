"""The load clients as processes of their own, each on its core: ours for HTTP and WebSocket, and wrk where asked for.

A client is connected and warm before a round begins, so that neither its own start nor its warm-up is measured.
"""

import json
import os
import re
import resource
import select
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from ._load import LoadFailed
from .http import Exchange, Plan, Target
from .machine import cpu_of, first_line, starting_on, uninterrupted
from .peers import tree
from .scenarios import HOST, NONCE, HttpScenario, WebSocketScenario

NATIVE = Path(__file__).resolve().parent / "native"
STALL_S = 10.0
"""How long an answer may take before the run is over."""
GUARD_S = 30.0
"""How much longer than planned a client may take, to connect and to sum up, before it is given up."""


class ClientFailed(Exception):
    """The load client itself failed; no server is to blame."""


@dataclass(frozen=True)
class Seen:
    """What the client saw in one run; latencies in microseconds."""

    answers: int
    seconds: float
    received_bytes: int
    p50_us: float
    p90_us: float | None
    p99_us: float
    p999_us: float
    longest_us: float
    client_share: float
    """CPU time of the client over the run's seconds."""


@dataclass(frozen=True)
class Load:
    """How to load: for how long, over how many connections, at which rate, from which core."""

    seconds: float
    warm_up_s: float
    connections: int
    core: int | None = None
    rate: float | None = None
    """Requests a second on a schedule that does not wait for answers; None: as fast as answers come."""


class Client:
    """A process of one of our load clients, connected and warm. Leaving it as a context manager ends the process."""

    def __init__(self, command: list[str], first_line: str, load: Load) -> None:
        """Prepare, but do not start: `first_line` is written to it at the start."""
        self._command = command
        self._first_line = first_line
        self._load = load
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "Client":
        """Start it and wait until it is ready; raise LoadFailed with what it said if it does not get there."""
        try:
            with uninterrupted(), starting_on(self._load.core):
                self._process = subprocess.Popen(
                    self._command,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    env=_environment(),
                    start_new_session=True,
                )
            self._say(self._first_line)
            if (line := self._hear(self._load.warm_up_s)) != "ready":
                raise ClientFailed(f"expected the load client to say that it is ready, got {line!r}")
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End it."""
        self._end()

    def _end(self) -> None:
        with uninterrupted():
            if self._process is not None:
                self._process.kill()
                self._process.communicate()

    def _say(self, line: str) -> None:
        assert self._process is not None and self._process.stdin is not None
        try:
            self._process.stdin.write(line.encode())
            self._process.stdin.flush()
        except BrokenPipeError:
            return  # it has ended, and says why on its other pipe

    def _hear(self, planned_s: float) -> str:
        """Return its next line; raise LoadFailed with what it said when it ended instead, or when none comes."""
        assert self._process is not None
        out, err = self._process.stdout, self._process.stderr
        assert out is not None and err is not None
        patience_s = planned_s + STALL_S + GUARD_S
        if not select.select([out], [], [], patience_s)[0]:
            raise ClientFailed(f"expected the load client to end by itself, it said nothing for {patience_s:.0f} s")
        if line := out.readline():
            return line.decode().strip()
        # An ended client's sentence, without the name that it begins with.
        raise LoadFailed(err.read().decode(errors="replace").strip().removeprefix("bench: ") or "the client ended")

    def run(self) -> Seen:
        """Have it run, and return what it saw; raise LoadFailed for the first wrong answer."""
        assert self._process is not None
        pids = [self._process.pid]
        before = cpu_of(pids)
        self._say("\n")
        found = json.loads(self._hear(self._load.seconds))
        used = cpu_of(pids) - before
        return Seen(
            answers=found.get("answers") or found.get("messages") or 0,
            seconds=found["seconds"],
            received_bytes=found["received_bytes"],
            p50_us=found["p50_us"],
            p90_us=found.get("p90_us"),
            p99_us=found["p99_us"],
            p999_us=found["p999_us"],
            longest_us=found.get("longest_us", found.get("max_us")),
            client_share=used.total_s / found["seconds"],
        )


def _environment() -> dict[str, str]:
    """This package is importable, from a checkout too, wherever we were started."""
    folder = tree()
    return {**os.environ, **({"PYTHONPATH": str(folder)} if folder else {})}


def http_client(port: int, scenario: HttpScenario, load: Load, *, is_floor: bool = False) -> Client:
    """The HTTP client; the floor, which has one fixed answer, is sent the requests without a nonce."""
    has_nonce = scenario.live is not None and not is_floor
    request, body = scenario.live if scenario.live and has_nonce else (scenario.request, scenario.body)
    plan = Plan(
        target=Target(host=HOST, port=port),
        exchanges=[Exchange(request, body=body)],
        connections=load.connections,
        fields=list(scenario.must_have),
        nonce=NONCE if has_nonce else None,
        seconds=load.seconds,
        warm_up_s=load.warm_up_s,
        rate=load.rate,
        stall_s=STALL_S,
        wait=True,
    )
    return Client([sys.executable, "-m", "fastasgi.bench.http", "-"], plan.as_line() + "\n", load)


def websocket_client(port: int, scenario: WebSocketScenario, load: Load) -> Client:
    """The WebSocket client."""
    words = [f"ws://{HOST}:{port}/", "--wait", "--size", str(scenario.size)]
    words += ["--seconds", str(load.seconds), "--warm-up", str(load.warm_up_s)]
    clients = scenario.sockets or min(load.connections, scenario.clients or load.connections)
    words += ["--clients", str(clients)]
    words += [] if scenario.messages.is_text else ["--binary"]
    words += ["--deflate"] if scenario.deflate else []
    words += ["--broadcast", str(scenario.broadcasts)] if scenario.sockets else []
    return Client([sys.executable, "-m", "fastasgi.bench.websocket", *words], "", load)


# --- wrk --------------------------------------------------------------------------------------------------------------


def wrk_version() -> str | None:
    """Return what wrk calls itself, None if it is not installed."""
    found = re.match(r"wrk \S+", first_line(["wrk", "-v"]) or "")
    return found[0] if found else None


@dataclass(frozen=True)
class Wrk:
    """wrk, which checks the status of an answer and no more; it has no rate and counts in whole seconds."""

    port: int
    scenario: HttpScenario
    load: Load

    def run(self) -> Seen:
        """Run it; raise LoadFailed on any error that it counts."""
        return run_wrk(self.port, self.scenario.request, self.load)


@contextmanager
def wrk_client(port: int, scenario: HttpScenario, load: Load) -> Iterator[Wrk]:
    """wrk, after a warm-up with wrk."""
    warm = Load(seconds=load.warm_up_s, warm_up_s=0, connections=load.connections, core=load.core)
    run_wrk(port, scenario.request, warm)
    yield Wrk(port, scenario, load)


def wrk_command(port: int, request_file: str, load: Load) -> list[str]:
    """The command that loads a server with the request that stands in a file."""
    if shutil.which("wrk") is None:
        raise ClientFailed("wrk is not installed; leave --client out to use our own client")
    options = ["-t", "1", "-c", str(load.connections), "-d", f"{max(1, round(load.seconds))}s"]
    options += ["--timeout", f"{STALL_S:.0f}s", "--latency", "-s", str(NATIVE / "load.lua")]
    return ["wrk", *options, f"http://{HOST}:{port}/", "--", request_file]


def run_wrk(port: int, request: bytes, load: Load) -> Seen:
    """Saturate a server with this request; raise LoadFailed on any error."""
    with tempfile.NamedTemporaryFile(prefix="fastasgi-bench-", suffix=".http") as file:
        file.write(request)
        file.flush()
        command = wrk_command(port, file.name, load)
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        with starting_on(load.core):
            try:
                run = subprocess.run(command, capture_output=True, text=True, timeout=load.seconds + GUARD_S)
            except subprocess.TimeoutExpired as error:
                raise ClientFailed(f"wrk did not end within {load.seconds + GUARD_S:.0f} s") from error
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    lines = [line for line in run.stdout.splitlines() if line.startswith("{")]
    if run.returncode or not lines:
        raise ClientFailed(f"wrk ended with code {run.returncode}: {run.stderr or run.stdout}")
    used_s = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    return parse_wrk(json.loads(lines[0]), used_s)


def parse_wrk(result: dict[str, Any], used_s: float) -> Seen:
    """Turn the line that load.lua prints into figures; raise LoadFailed if anything went wrong."""
    kinds = ("connect_errors", "read_errors", "write_errors", "status_errors", "timeouts")
    errors = {kind: result[kind] for kind in kinds if result[kind]}
    if errors:
        raise LoadFailed(f"expected no errors, wrk counted {errors} in {result['requests']} requests")
    if not result["requests"]:
        raise LoadFailed("expected answers, wrk counted none")
    seconds = result["duration_us"] / 1e6
    return Seen(
        answers=result["requests"],
        seconds=seconds,
        received_bytes=result["bytes"],
        p50_us=result["p50_us"],
        p90_us=result.get("p90_us"),
        p99_us=result["p99_us"],
        p999_us=result["p999_us"],
        longest_us=result["max_us"],
        client_share=used_s / seconds,
    )
