"""System calls per request of a running server, with one connection and with sixteen.

    python bench/syscalls.py --python INTERPRETER --servers fastasgi,uvicorn,peregrine
    python bench/syscalls.py --tool strace             where the kernel's trace points are closed to perf

perf counts in the kernel and hardly disturbs; strace stops the server at each call, which changes how much
it finds ready at once: with it, believe the figure of one connection only.
"""

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from compare import choose
from load import LoadFailed, compile_c, pinned, require_tools, run_wrk
from report import markdown_table
from scenarios import HOST, SCENARIOS, Scenario
from servers import KINDS, Refused, RunningServer, ServerKind
from venvs import peers_python

BENCH = Path(__file__).resolve().parent
CALLS = (
    "epoll_wait epoll_pwait epoll_pwait2 epoll_ctl poll recvfrom recvmsg read readv sendto sendmsg write writev "
    "sendfile accept4 futex getpid clock_gettime"
).split()
ALL = "raw_syscalls:sys_enter"


def why_no_perf() -> str | None:
    """Return why perf cannot count system calls here, None when it can."""
    if shutil.which("perf") is None:
        return "perf is not installed"
    run = subprocess.run(["perf", "stat", "-x,", "-e", ALL, "true"], capture_output=True, text=True)
    counted = re.search(rf"^\d+,,{ALL}", run.stderr, re.MULTILINE)
    return None if counted else f"perf cannot read {ALL}: {run.stderr.strip()[:200]}"


def known_calls() -> list[str]:
    """Return those of CALLS for which this kernel has a trace point."""
    run = subprocess.run(["perf", "list", "syscalls:sys_enter_*"], capture_output=True, text=True)
    return [name for name in CALLS if re.search(rf"syscalls:sys_enter_{name}\s", run.stdout)]


def count_with_perf(pids: list[int], load: list[str]) -> tuple[dict[str, int], str]:
    """Run the load; return the calls of these processes meanwhile, by name, and what the load printed."""
    events = ",".join([ALL, *(f"syscalls:sys_enter_{name}" for name in known_calls())])
    with tempfile.NamedTemporaryFile("r", prefix="fastasgi-bench-") as file:
        watch = ["-p", ",".join(map(str, pids)), "-x,", "-o", file.name, "-e", events]
        run = subprocess.run(["perf", "stat", *watch, "--", *load], capture_output=True, text=True)
        text = file.read()
    found = re.findall(r"^(\d+),,(?:raw_)?syscalls:sys_enter_?(\w*)", text, re.MULTILINE)
    if not found:
        raise LoadFailed(f"expected perf's counts, got {text or run.stderr}")
    return {name or "all": int(number) for number, name in found}, run.stdout


def count_with_strace(pids: list[int], load: list[str]) -> tuple[dict[str, int], str]:
    """The same by strace."""
    with tempfile.NamedTemporaryFile("r", prefix="fastasgi-bench-") as file:
        watch = [word for pid in pids for word in ("-p", str(pid))]
        tracer = subprocess.Popen(["strace", "-c", "-f", "-q", "-o", file.name, *watch], stderr=subprocess.DEVNULL)
        time.sleep(0.5)  # strace attaches without saying when it has
        run = subprocess.run(load, capture_output=True, text=True)
        tracer.send_signal(signal.SIGINT)
        tracer.wait(10)
        text = file.read()
    found = re.findall(r"^\s*[\d.]+\s+[\d.]+\s+\d+\s+(\d+)(?:\s+\d+)?\s+(\w+)$", text, re.MULTILINE)
    counts = {name: int(number) for number, name in found}
    if "total" not in counts:
        raise LoadFailed(f"expected strace's table, got {text}")
    counts["all"] = counts.pop("total")
    return counts, run.stdout


def measure(server: RunningServer, connections: int, options: argparse.Namespace) -> dict[str, float]:
    """Return calls per request by name, and 'all'."""
    load_core = None if options.no_pin else options.load_core
    run_wrk(server.port, server.scenario.request, seconds=1, connections=connections, core=load_core)
    count = count_with_perf if options.tool == "perf" else count_with_strace
    with tempfile.NamedTemporaryFile(prefix="fastasgi-bench-", suffix=".http") as file:
        file.write(server.scenario.request)
        file.flush()
        load = ["wrk", "-t", "1", "-c", str(connections), "-d", f"{options.seconds}s"]
        load += ["-s", str(BENCH / "load.lua"), f"http://{HOST}:{server.port}/", "--", file.name]
        counts, output = count(server.pids, pinned(load, load_core))
    found = re.search(r'"requests": (\d+)', output)
    if not found or not int(found.group(1)):
        raise LoadFailed(f"expected answers, wrk said {output}")
    return {name: number / int(found.group(1)) for name, number in counts.items()}


def describe(figures: dict[str, float]) -> str:
    """Return the calls that matter, by name."""
    named = sorted(((number, name) for name, number in figures.items() if name != "all"), reverse=True)
    return ", ".join(f"{name} {number:.2f}" for number, name in named if number >= 0.01)


def run_server(kind: ServerKind, scenario: Scenario, options: argparse.Namespace, python: Path) -> list[list[str]]:
    """Return the table's rows of one server."""
    core = None if options.no_pin else options.server_core
    floor = compile_c("floor")
    tree = not options.wheel
    rows = []
    with RunningServer(kind, scenario, python=python, floor=floor, core=core, tree=tree) as server:
        server.verify()
        for connections in options.connections:
            figures = measure(server, connections, options)
            rows.append([kind.name, str(connections), f"{figures['all']:.2f}", describe(figures)])
    return rows


def main(arguments: list[str] | None = None) -> None:
    """Count and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--python", type=Path, default=Path(sys.executable))
    add("--servers", default="floor,fastasgi,uvicorn,granian,peregrine", help=f"of {','.join(KINDS)}")
    add("--scenario", default="plain", choices=SCENARIOS)
    add("--connections", type=lambda text: [int(part) for part in text.split(",")], default=[1, 16])
    add("--seconds", type=int, default=2)
    add("--tool", choices=("auto", "perf", "strace"), default="auto")
    add("--wheel", help="measure this wheel or requirement, not this checkout")
    add("--server-core", type=int, default=0)
    add("--load-core", type=int, default=1)
    add("--no-pin", action="store_true")
    options = parser.parse_args(arguments)
    options.no_pin = options.no_pin or (os.cpu_count() or 1) < 2
    require_tools("wrk")
    if options.tool == "auto":
        reason = why_no_perf()
        options.tool = "strace" if reason else "perf"
        print(f"counting with {options.tool}" + (f": {reason}" if reason else ""), file=sys.stderr)
    python = peers_python(options.python, wheel=options.wheel)
    rows: list[list[str]] = []
    for kind in choose(options.servers, KINDS, "servers"):
        try:
            rows += run_server(kind, SCENARIOS[options.scenario], options, python)
        except (Refused, LoadFailed) as error:
            print(error, file=sys.stderr)
    print(markdown_table(["server", "connections", "system calls per request", "which"], rows))


if __name__ == "__main__":
    main()
