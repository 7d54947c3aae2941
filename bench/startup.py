"""What a worker costs before its first request: memory at rest, and the time to import the package.

    python bench/startup.py --python INTERPRETER --servers fastasgi,uvicorn

Import time is the median of fresh interpreters, less that of one which imports only asyncio and uvloop.
"""

import os
import statistics
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

from common import ground_of, is_from_tree, kinds_of, markdown_table, parser_of

from fastasgi.bench.contenders import Kind
from fastasgi.bench.machine import memory_of
from fastasgi.bench.scenarios import PLAIN
from fastasgi.bench.servers import Ground, Refused, RunningServer

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
        raise Refused(run.stderr.strip().splitlines()[-1])
    return float(run.stdout)


def import_ms(kind: Kind, ground: Ground) -> str:
    """Return the median milliseconds beyond asyncio and uvloop, interleaved with those."""
    if kind.name not in IMPORTS:
        return ""
    paths, python = str(ground.tree) if is_from_tree(kind, ground) else "", ground.python
    statement = f"{BASE}\nimport {IMPORTS[kind.name]}"
    import_seconds(python, statement, paths)  # writes bytecode
    rounds = [
        import_seconds(python, statement, paths) - import_seconds(python, BASE, paths) for _ in range(ROUNDS)
    ]
    return f"{statistics.median(rounds) * 1000:.0f}"


def at_rest(kind: Kind, ground: Ground) -> list[str]:
    """Return processes, PSS and USS in MiB after the first answers."""
    with RunningServer(kind, PLAIN, replace(ground, core=None)) as server:
        server.verify()
        time.sleep(SETTLE_S)
        pids = server.pids
        memory = memory_of(pids)
    return [str(len(pids)), f"{memory.pss_kib / 1024:.1f}", f"{memory.uss_kib / 1024:.1f}"]


def main(arguments: list[str] | None = None) -> None:
    """Measure and print the table."""
    options = parser_of(__doc__, "floor,fastasgi,uvicorn,granian,peregrine").parse_args(arguments)
    kinds, ground = kinds_of(options), ground_of(options)
    rows = []
    for kind in kinds:
        try:
            rows.append([kind.name, *at_rest(kind, ground), import_ms(kind, ground)])
        except Refused as error:
            print(f"{kind.name}: {error}", file=sys.stderr)
    print(markdown_table(["server", "processes", "PSS MiB", "USS MiB", "import ms beyond asyncio, uvloop"], rows))


if __name__ == "__main__":
    main()
