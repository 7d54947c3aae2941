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

from common import ground_of, kinds_of, markdown_table, parser_of

from fastasgi.bench._load import LoadFailed
from fastasgi.bench.clients import Load, run_wrk, wrk_command
from fastasgi.bench.contenders import Kind
from fastasgi.bench.machine import starting_on
from fastasgi.bench.scenarios import HTTP, HttpScenario
from fastasgi.bench.servers import Ground, Refused, RunningServer

SCENARIOS = {scenario.name: scenario for scenario in HTTP}
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
    load = Load(options.seconds, 0, connections, None if options.no_pin else options.load_core)
    request = SCENARIOS[options.scenario].request
    run_wrk(server.port, request, load)
    count = count_with_perf if options.tool == "perf" else count_with_strace
    with tempfile.NamedTemporaryFile(prefix="fastasgi-bench-", suffix=".http") as file, starting_on(load.core):
        file.write(request)
        file.flush()
        counts, output = count(server.pids, wrk_command(server.port, file.name, load))
    found = re.search(r'"requests": (\d+)', output)
    if not found or not int(found.group(1)):
        raise LoadFailed(f"expected answers, wrk said {output}")
    return {name: number / int(found.group(1)) for name, number in counts.items()}


def describe(figures: dict[str, float]) -> str:
    """Return the calls that matter, by name."""
    named = sorted(((number, name) for name, number in figures.items() if name != "all"), reverse=True)
    return ", ".join(f"{name} {number:.2f}" for number, name in named if number >= 0.01)


def run_server(kind: Kind, scenario: HttpScenario, options: argparse.Namespace, ground: Ground) -> list[list[str]]:
    """Return the table's rows of one server."""
    rows = []
    with RunningServer(kind, scenario, ground) as server:
        server.verify()
        for connections in options.connections:
            figures = measure(server, connections, options)
            rows.append([kind.name, str(connections), f"{figures['all']:.2f}", describe(figures)])
    return rows


def main(arguments: list[str] | None = None) -> None:
    """Count and print the table."""
    parser = parser_of(__doc__, "floor,fastasgi,uvicorn,granian,peregrine")
    add = parser.add_argument
    add("--scenario", default="plain", choices=SCENARIOS)
    add("--connections", type=lambda text: [int(part) for part in text.split(",")], default=[1, 16])
    add("--seconds", type=int, default=2)
    add("--tool", choices=("auto", "perf", "strace"), default="auto")
    add("--load-core", type=int, default=1)
    options = parser.parse_args(arguments)
    options.no_pin = options.no_pin or (os.cpu_count() or 1) < 2
    if shutil.which("wrk") is None:
        sys.exit("bench: expected wrk to be installed")
    if options.tool == "auto":
        reason = why_no_perf()
        options.tool = "strace" if reason else "perf"
        print(f"counting with {options.tool}" + (f": {reason}" if reason else ""), file=sys.stderr)
    kinds, ground = kinds_of(options), ground_of(options)
    rows: list[list[str]] = []
    for kind in kinds:
        try:
            rows += run_server(kind, SCENARIOS[options.scenario], options, ground)
        except (Refused, LoadFailed) as error:
            print(error, file=sys.stderr)
    print(markdown_table(["server", "connections", "system calls per request", "which"], rows))


if __name__ == "__main__":
    main()
