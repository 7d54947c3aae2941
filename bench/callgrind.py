"""Instructions per request of the engine, counted by callgrind: repeatable to a fraction of a percent.

    python bench/callgrind.py                         one figure
    python bench/callgrind.py --engine uvicorn        the same for uvicorn's httptools protocol
    python bench/callgrind.py --profile 40            and the functions that they were spent in

Two runs of engine.py, of N and of 2N requests: the difference, divided by N, holds neither start-up nor
imports. Hash seed and addresses are fixed. Only user-level instructions, no kernel.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

BENCH = Path(__file__).resolve().parent
REQUESTS = 1000
TIMEOUT_S = 900


class CannotCount(Exception):
    """Instructions cannot be counted here; says what is missing."""


def why_not() -> str | None:
    """Return why instructions cannot be counted on this machine, None when they can."""
    if not sys.platform.startswith("linux"):
        return f"valgrind's figures are kept for Linux, this is {sys.platform}"
    if shutil.which("valgrind") is None:
        return "valgrind is not installed"
    return None


def command(python: Path, out: Path, engine: str, scenario: str, loop: str, requests: int) -> list[str]:
    """Return the command of one run; addresses are not randomized where the system lets us say so."""
    setarch = ["setarch", os.uname().machine, "-R"] if shutil.which("setarch") else []
    valgrind = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={out}"]
    work = ["--engine", engine, "--scenario", scenario, "--loop", loop, "--requests", str(requests)]
    return [*setarch, *valgrind, str(python), str(BENCH / "engine.py"), *work]


def count(python: Path, out: Path, engine: str, scenario: str, loop: str, requests: int) -> int:
    """Return the instructions of one whole run."""
    environment = {**os.environ, "PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1"}
    arguments = command(python, out, engine, scenario, loop, requests)
    run = subprocess.run(arguments, capture_output=True, text=True, env=environment, timeout=TIMEOUT_S)
    if run.returncode:
        raise CannotCount(f"engine.py ended with code {run.returncode} under valgrind: {run.stderr[-3000:]}")
    found = re.search(r"Collected\s*:\s*(\d+)", run.stderr)
    if not found:
        raise CannotCount(f"expected callgrind's count, got {run.stderr[-1000:]}")
    return int(found.group(1))


def instructions_per_request(
    python: Path,
    *,
    engine: str = "fastasgi",
    scenario: str = "plain",
    loop: str = "uvloop",
    requests: int = REQUESTS,
    folder: Path | None = None,
) -> float:
    """Return the user-level instructions that one more request costs; keeps both profiles when given a folder.

    Raises CannotCount where valgrind is missing or the engine fails under it.
    """
    if reason := why_not():
        raise CannotCount(reason)
    with tempfile.TemporaryDirectory(prefix="fastasgi-bench-") as scratch:
        where = folder or Path(scratch)
        # A first run without valgrind: bytecode is written, so that both counted runs only read it; and an
        # engine that fails says so in a second.
        warm = [python, BENCH / "engine.py", "--engine", engine, "--scenario", scenario, "--loop", loop]
        run = subprocess.run([*warm, "--requests", "10"], capture_output=True, text=True, timeout=TIMEOUT_S)
        if run.returncode:
            raise CannotCount(f"engine.py ended with code {run.returncode}: {run.stderr[-3000:]}")
        with ThreadPoolExecutor(2) as pool:
            runs = [
                pool.submit(count, python, where / f"callgrind.{total}", engine, scenario, loop, total)
                for total in (requests, 2 * requests)
            ]
            fewer, more = (run.result() for run in runs)
    return (more - fewer) / requests


def profile(folder: Path, requests: int, lines: int) -> list[tuple[float, str]]:
    """Return instructions per request and name of the functions that cost most, from both kept profiles."""
    fewer, more = (_by_function(folder / f"callgrind.{total}") for total in (requests, 2 * requests))
    costs = [((total - fewer.get(name, 0)) / requests, name) for name, total in more.items()]
    return sorted(costs, reverse=True)[:lines]


def _by_function(file: Path) -> dict[str, int]:
    arguments = ["callgrind_annotate", "--threshold=100", "--show-percs=no", "--auto=no", str(file)]
    text = subprocess.run(arguments, capture_output=True, text=True, check=True).stdout
    # "12,345  file.c:function'2 [object]": the level of recursion and the object may be missing.
    found = re.findall(r"^\s*([\d,]+)\s+\S+?:(\S+?)(?:'\d+)?(?: \[.*\])?$", text, re.MULTILINE)
    costs: dict[str, int] = {}
    for number, name in found:
        costs[name] = costs.get(name, 0) + int(number.replace(",", ""))
    return costs


def main(arguments: list[str] | None = None) -> None:
    """Count and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", type=Path, default=Path(sys.executable))
    parser.add_argument("--engine", default="fastasgi")
    parser.add_argument("--scenario", default="plain")
    parser.add_argument("--loop", choices=("uvloop", "asyncio"), default="uvloop")
    parser.add_argument("--requests", type=int, default=REQUESTS)
    parser.add_argument("--profile", type=int, metavar="LINES", help="also the costliest functions")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="fastasgi-bench-") as scratch:
        what = {"engine": options.engine, "scenario": options.scenario, "loop": options.loop}
        try:
            figure = instructions_per_request(
                options.python, **what, requests=options.requests, folder=Path(scratch)
            )
        except CannotCount as error:
            sys.exit(f"callgrind: {error}")
        print(f"{options.engine} {options.scenario}: {figure:,.0f} instructions per request")
        for cost, name in profile(Path(scratch), options.requests, options.profile) if options.profile else []:
            print(f"{cost:10,.0f}  {name}")


if __name__ == "__main__":
    main()
