"""The clients: wrk for saturation, `paced.c` for latency at a fixed rate; and the compiler for our C programs."""

import json
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from scenarios import HOST
from venvs import home

BENCH = Path(__file__).resolve().parent
CFLAGS = ["-O2", "-std=c11", "-Wall", "-Wextra", "-Werror"]
TIMEOUT_S = 10


class LoadFailed(Exception):
    """The client could not run, or the server did not answer all that it was asked."""


def compile_c(name: str, folder: Path | None = None) -> Path:
    """Compile bench/NAME.c unless the program is newer than its source; return the program."""
    source = BENCH / f"{name}.c"
    folder = folder or home() / "bin"
    folder.mkdir(parents=True, exist_ok=True)
    program = folder / name
    if program.exists() and program.stat().st_mtime > source.stat().st_mtime:
        return program
    run = subprocess.run(["cc", *CFLAGS, "-o", program, source], capture_output=True, text=True)
    if run.returncode:
        raise LoadFailed(f"{name}.c did not compile: {run.stderr}")
    return program


def require_tools(*names: str) -> None:
    """Raise LoadFailed when a program is not installed."""
    missing = [name for name in names if shutil.which(name) is None]
    if missing:
        raise LoadFailed(f"expected these programs to be installed: {', '.join(missing)}")


@dataclass(frozen=True)
class LoadResult:
    """What the client saw in one run; latencies in microseconds."""

    requests: int
    seconds: float
    bytes: int
    p50_us: float
    p99_us: float
    p999_us: float
    max_us: float

    @property
    def rate(self) -> float:
        """Answers per second."""
        return self.requests / self.seconds


def pinned(command: list[str], core: int | None) -> list[str]:
    """Return the command, bound to a core."""
    return command if core is None else ["taskset", "-c", str(core), *command]


def _run(command: list[str], timeout_s: float) -> str:
    try:
        run = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s)
    except subprocess.TimeoutExpired as error:
        raise LoadFailed(f"{Path(command[0]).name} did not end within {timeout_s:.0f} s") from error
    if run.returncode:
        raise LoadFailed(f"{command} ended with code {run.returncode}: {run.stderr or run.stdout}")
    return run.stdout


def run_wrk(port: int, request: bytes, *, seconds: float, connections: int, core: int | None) -> LoadResult:
    """Saturate a server with this request over so many connections; raise LoadFailed on any error."""
    with tempfile.NamedTemporaryFile(prefix="fastasgi-bench-", suffix=".http") as file:
        file.write(request)
        file.flush()
        options = ["-t", "1", "-c", str(connections), "-d", f"{max(1, round(seconds))}s", "--timeout", f"{TIMEOUT_S}s"]
        script = ["--latency", "-s", str(BENCH / "load.lua"), f"http://{HOST}:{port}/", "--", file.name]
        output = _run(pinned(["wrk", *options, *script], core), seconds + TIMEOUT_S + 10)
    lines = [line for line in output.splitlines() if line.startswith("{")]
    if not lines:
        raise LoadFailed(f"wrk gave no result: {output}")
    return parse_wrk(json.loads(lines[-1]))


def parse_wrk(result: dict) -> LoadResult:
    """Turn the line that load.lua prints into a result; raise LoadFailed if anything went wrong."""
    kinds = ("connect_errors", "read_errors", "write_errors", "status_errors", "timeouts")
    errors = {kind: result[kind] for kind in kinds if result[kind]}
    if errors:
        raise LoadFailed(f"expected no errors, wrk counted {errors} in {result['requests']} requests")
    if not result["requests"]:
        raise LoadFailed("expected answers, wrk counted none")
    return LoadResult(
        requests=result["requests"],
        seconds=result["duration_us"] / 1e6,
        bytes=result["bytes"],
        p50_us=result["p50_us"],
        p99_us=result["p99_us"],
        p999_us=result["p999_us"],
        max_us=result["max_us"],
    )


def run_paced(
    port: int, request: bytes, *, rate: float, seconds: float, connections: int, core: int | None
) -> LoadResult:
    """Ask at a fixed rate, whether or not the server keeps up; latency counts from when a request was due."""
    program = compile_c("paced")
    with tempfile.NamedTemporaryFile(prefix="fastasgi-bench-", suffix=".http") as file:
        file.write(request)
        file.flush()
        options = ["--port", str(port), "--request", file.name, "--rate", str(round(rate))]
        more = ["--connections", str(connections), "--milliseconds", str(round(seconds * 1000))]
        output = _run(pinned([str(program), *options, *more], core), seconds + TIMEOUT_S + 10)
    result = json.loads(output)
    if result["errors"] or not result["requests"]:
        raise LoadFailed(f"expected no errors at {rate:.0f} requests/s, the paced client saw {result}")
    return LoadResult(
        requests=result["requests"],
        seconds=result["duration_us"] / 1e6,
        bytes=result["bytes"],
        p50_us=result["p50_us"],
        p99_us=result["p99_us"],
        p999_us=result["p999_us"],
        max_us=result["max_us"],
    )
