"""What a worker costs before its first request: memory at rest, and the time to import the package.

    python bench/startup.py --python INTERPRETER --servers fastasgi,uvicorn

Import time is the median of fresh interpreters, less that of one which imports only asyncio and uvloop.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from compare import choose
from load import LoadFailed, compile_c
from measure import memory_of
from report import markdown_table
from scenarios import SCENARIOS
from servers import KINDS, ROOT, Refused, RunningServer, ServerKind
from venvs import peers_python

ROUNDS = 11
SETTLE_S = 1.0
IMPORTS = {  # what starting each of them imports
    "fastasgi": "fastasgi.cli, fastasgi.worker",
    "uvicorn": "uvicorn.main, uvicorn.protocols.http.httptools_impl",
    "granian": "granian.cli",
    "h2corn": "h2corn",
    "gunicorn": "gunicorn.app.wsgiapp, gunicorn.workers.gasgi",
    "hypercorn": "hypercorn.__main__, hypercorn.asyncio.run",
}
BASE = "import asyncio, uvloop"
TIMED = "import time\nbegan = time.perf_counter()\n{}\nprint(time.perf_counter() - began)"


def import_seconds(python: Path, statement: str, paths: str) -> float:
    """Return the seconds that this statement takes in a fresh interpreter."""
    environment = {**os.environ, "PYTHONPATH": paths}
    command = [python, "-c", TIMED.format(statement)]
    run = subprocess.run(command, capture_output=True, text=True, env=environment)
    if run.returncode:
        raise LoadFailed(run.stderr.strip().splitlines()[-1])
    return float(run.stdout)


def import_ms(python: Path, kind: ServerKind, *, tree: bool) -> str:
    """Return the median milliseconds beyond asyncio and uvloop, interleaved with those."""
    if kind.name not in IMPORTS:
        return ""
    paths = str(ROOT) if tree and kind.name == "fastasgi" else ""
    statement = f"{BASE}\nimport {IMPORTS[kind.name]}"
    import_seconds(python, statement, paths)  # writes bytecode
    rounds = [
        import_seconds(python, statement, paths) - import_seconds(python, BASE, paths) for _ in range(ROUNDS)
    ]
    return f"{statistics.median(rounds) * 1000:.0f}"


def at_rest(kind: ServerKind, python: Path, floor: Path, *, tree: bool) -> list[str]:
    """Return processes, PSS and USS in MiB after the first answers."""
    with RunningServer(kind, SCENARIOS["plain"], python=python, floor=floor, core=None, tree=tree) as server:
        server.verify()
        time.sleep(SETTLE_S)
        pids = server.pids
        memory = memory_of(pids)
    return [str(len(pids)), f"{memory.pss_kib / 1024:.1f}", f"{memory.uss_kib / 1024:.1f}"]


def main(arguments: list[str] | None = None) -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", type=Path, default=Path(sys.executable))
    parser.add_argument("--servers", default="floor,fastasgi,uvicorn,granian,peregrine")
    parser.add_argument("--wheel", help="measure this wheel or requirement, not this checkout")
    options = parser.parse_args(arguments)
    python, floor = peers_python(options.python, wheel=options.wheel), compile_c("floor")
    tree = not options.wheel
    rows = []
    for kind in choose(options.servers, KINDS, "servers"):
        try:
            cells = at_rest(kind, python, floor, tree=tree)
            rows.append([kind.name, *cells, import_ms(python, kind, tree=tree)])
        except (Refused, LoadFailed) as error:
            print(f"{kind.name}: {error}", file=sys.stderr)
    print(markdown_table(["server", "processes", "PSS MiB", "USS MiB", "import ms beyond asyncio, uvloop"], rows))


if __name__ == "__main__":
    main()
