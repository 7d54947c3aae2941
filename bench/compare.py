"""Compare fastasgi with its peers and with what the kernel charges, interleaved, one core each.

    python bench/compare.py --python 3.13-INTERPRETER                    all scenarios, five rounds
    python bench/compare.py --quick --scenarios plain,json               does it work: short rounds
    python bench/compare.py --record                                     writes bench/results/DATE-pyX.Y.{md,json}

Each round runs every server once (A B C A B C ...), freshly started, verified, warmed up, then loaded by wrk
from another core. Reported are medians over the rounds, and ratios within the run only.
"""

import argparse
import datetime
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

from load import LoadFailed, LoadResult, compile_c, require_tools, run_paced, run_wrk
from measure import Cpu, core_busy_s, cpu_of, describe_machine, memory_of
from report import render
from scenarios import SCENARIOS, Scenario
from servers import DEFAULT_KINDS, KINDS, ROOT, Refused, RunningServer, ServerKind
from venvs import MissingPeers, describe, peers_python

MICRO = 1e6
Note = Callable[[str], None]


@dataclass(frozen=True)
class Settings:
    """How to measure."""

    python: Path
    floor: Path
    rounds: int
    seconds: float
    warm_up_s: float
    connections: int
    server_core: int | None
    load_core: int | None
    tree: bool
    quiet_share: float
    retries: int
    rate: str | None = None


@dataclass
class Row:
    """All rounds of one server in one scenario."""

    server: str
    command: str = ""
    refused: str | None = None
    cpu_us: list[float] = field(default_factory=list)
    user_us: list[float] = field(default_factory=list)
    system_us: list[float] = field(default_factory=list)
    rate: list[float] = field(default_factory=list)
    p50_us: list[float] = field(default_factory=list)
    p99_us: list[float] = field(default_factory=list)
    p999_us: list[float] = field(default_factory=list)
    others_share: list[float] = field(default_factory=list)
    pss_kib: list[float] = field(default_factory=list)
    paced: dict[str, list[float]] = field(default_factory=dict)

    def add(self, load: LoadResult, used: Cpu, others: float, pss_kib: int) -> None:
        """Add one round: what the client saw, the CPU time, others' share of the core, memory at the end."""
        self.user_us.append(used.user_s / load.requests * MICRO)
        self.system_us.append(used.system_s / load.requests * MICRO)
        self.cpu_us.append(used.total_s / load.requests * MICRO)
        self.rate.append(load.rate)
        self.p50_us.append(load.p50_us)
        self.p99_us.append(load.p99_us)
        self.p999_us.append(load.p999_us)
        self.others_share.append(others)
        self.pss_kib.append(pss_kib)

    def add_paced(self, load: LoadResult) -> None:
        """Add one run at a fixed rate."""
        for name in ("rate", "p50_us", "p99_us", "p999_us", "max_us"):
            self.paced.setdefault(name, []).append(getattr(load, name))


RunOne = Callable[[ServerKind, Scenario, Settings, Row], None]


def start(kind: ServerKind, scenario: Scenario, settings: Settings) -> RunningServer:
    """Return the server of this row, ready to be entered."""
    return RunningServer(
        kind,
        scenario,
        python=settings.python,
        floor=settings.floor,
        core=settings.server_core,
        tree=settings.tree,
    )


def load_once(server: RunningServer, settings: Settings) -> tuple[LoadResult, Cpu, float]:
    """Saturate a server; return what the client saw, the CPU time it took, and others' share of its core."""
    where = {"connections": settings.connections, "core": settings.load_core}
    core, pids = settings.server_core, server.pids
    before, busy_before = cpu_of(pids), core_busy_s(core) if core is not None else 0.0
    load = run_wrk(server.port, server.scenario.request, seconds=settings.seconds, **where)
    used = cpu_of(pids) - before
    busy = core_busy_s(core) - busy_before if core is not None else used.total_s
    return load, used, max(0.0, busy - used.total_s) / load.seconds


def run_round(kind: ServerKind, scenario: Scenario, settings: Settings, row: Row) -> None:
    """Start, verify, warm up, measure and end one server; raise Refused or LoadFailed.

    A measurement that had to share its core with other processes is taken again, a few times at most.
    """
    with start(kind, scenario, settings) as server:
        row.command = server.shown_command
        server.verify()
        where = {"connections": settings.connections, "core": settings.load_core}
        run_wrk(server.port, scenario.request, seconds=settings.warm_up_s, **where)
        taken = [load_once(server, settings)]
        while taken[-1][2] > settings.quiet_share and len(taken) <= settings.retries:
            taken.append(load_once(server, settings))
        load, used, others = min(taken, key=lambda each: each[2])
        row.add(load, used, others, memory_of(server.pids).pss_kib)


def run_group(
    group: list[Scenario], kinds: list[ServerKind], settings: Settings, note: Note, run_one: RunOne | None = None
) -> dict[str, list[Row]]:
    """Run all rounds of the scenarios that are compared with each other, interleaved; each by `run_one`, or wrk.

    A server that fails in a scenario is out for the rest of that scenario, by name.
    """
    kinds = [kind for kind in kinds if kind.takes_part(group[0])]
    rows = {scenario.name: [Row(kind.name) for kind in kinds] for scenario in group}
    for number in range(settings.rounds):
        for index, kind in enumerate(kinds):
            for scenario in group:
                row = rows[scenario.name][index]
                if row.refused:
                    continue
                try:
                    (run_one or run_round)(kind, scenario, settings, row)
                except (Refused, LoadFailed) as error:
                    row.refused = str(error)
                    note(f"  {kind.name}: {error}")
                    continue
                figures = f"{row.cpu_us[-1]:8.1f} us {row.rate[-1]:9.0f}/s, others {row.others_share[-1]:.0%}"
                note(f"  round {number + 1}/{settings.rounds} {scenario.name:9} {kind.name:10} {figures}")
    return rows


def run_paced_rounds(
    scenario: Scenario, kinds: list[ServerKind], rows: list[Row], settings: Settings, note: Note
) -> None:
    """Measure latency at one fixed rate for all servers, interleaved."""
    by_name = {row.server: row for row in rows}
    peaks = [sorted(row.rate)[len(row.rate) // 2] for row in rows if row.rate and not row.refused]
    if not peaks or not settings.rate:
        return
    rate = min(peaks) / 2 if settings.rate == "half" else float(settings.rate)
    where = {"connections": settings.connections, "core": settings.load_core}
    for number in range(settings.rounds):
        for kind in kinds:
            row = by_name.get(kind.name)
            if row is None or row.refused:
                continue
            try:
                with start(kind, scenario, settings) as server:
                    server.verify()
                    run_paced(server.port, scenario.request, rate=rate, seconds=settings.warm_up_s, **where)
                    load = run_paced(server.port, scenario.request, rate=rate, seconds=settings.seconds, **where)
                    row.add_paced(load)
            except (Refused, LoadFailed) as error:
                note(f"  {kind.name} at {rate:.0f}/s: {error}")
                continue
            note(f"  paced {number + 1}/{settings.rounds} {kind.name:10} p99 {load.p99_us:.0f} us at {rate:.0f}/s")


def choose(names: str, known: dict, what: str) -> list:
    """Return the named entries in the order given; exit with a sentence for an unknown one."""
    chosen = [name.strip() for name in names.split(",") if name.strip()]
    unknown = [name for name in chosen if name not in known]
    if unknown:
        sys.exit(f"compare: expected {what} from {', '.join(known)}, got {unknown[0]}")
    return [known[name] for name in chosen]


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--python", type=Path, default=Path(sys.executable), help="interpreter to make the peers' environment from")
    add("--servers", default=",".join(DEFAULT_KINDS), help=f"of {','.join(KINDS)}")
    add("--scenarios", default=",".join(SCENARIOS), help=f"of {','.join(SCENARIOS)}")
    add("--fastasgi", choices=("tree", "installed"), default="tree", help="this checkout built in place, or a wheel")
    add("--wheel", help="wheel, sdist or folder to install for --fastasgi installed")
    add("--rounds", type=int, default=5)
    add("--seconds", type=float, default=4, help="whole seconds of load a round (wrk counts in seconds)")
    add("--warm-up", type=float, default=1, help="whole seconds of load before each")
    add("--connections", type=int, default=64)
    add("--server-core", type=int, default=0)
    add("--load-core", type=int, default=1)
    add("--no-pin", action="store_true", help="leave server and client where the kernel puts them")
    add("--rate", help="also latency at a fixed rate: requests/s, or 'half' of the slowest server's peak")
    add("--quiet", type=float, default=0.05, help="take a round again if others had more of the server's core")
    add("--retries", type=int, default=2, help="how often at most")
    add("--quick", action="store_true", help="two rounds of one second: for function, not for figures")
    add("--record", action="store_true", help="write bench/results/DATE-pyVERSION.{md,json}")
    add("--output", type=Path, help="folder to write the two files into")
    add("--label", default="", help="a word to add to the names of the recorded files")
    options = parser.parse_args(arguments)
    if options.quick:
        options.rounds, options.seconds, options.warm_up, options.retries = 2, 1, 1, 0
    if options.fastasgi == "installed" and not options.wheel:
        parser.error("--fastasgi installed: expected --wheel with what to install")
    return options


def make_settings(options: argparse.Namespace) -> Settings:
    """Install the peers, compile the floor, and decide where each side runs."""
    require_tools("wrk", "taskset", "cc")
    python = peers_python(options.python, wheel=options.wheel, note=lambda line: print(line, file=sys.stderr))
    pinned = not options.no_pin and (os.cpu_count() or 1) > max(options.server_core, options.load_core)
    return Settings(
        python=python,
        floor=compile_c("floor"),
        rounds=options.rounds,
        seconds=options.seconds,
        warm_up_s=options.warm_up,
        connections=options.connections,
        server_core=options.server_core if pinned else None,
        load_core=options.load_core if pinned else None,
        tree=options.fastasgi == "tree",
        quiet_share=options.quiet,
        retries=options.retries,
        rate=options.rate,
    )


def describe_run(options: argparse.Namespace, settings: Settings, kinds: list[ServerKind]) -> dict:
    """Return everything that is needed to repeat the run."""
    python = describe(settings.python)
    packages = {kind.name: python["packages"].get(kind.package) for kind in kinds if kind.package}
    if settings.tree and "fastasgi" in packages:
        packages["fastasgi"] = f"tree {revision()}"
    shared = {name: python["packages"].get(name) for name in ("uvloop", "httptools", "fastapi", "pydantic")}
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": "python bench/compare.py " + " ".join(shown_arguments(options)),
        "machine": describe_machine(),
        "python": {key: python[key] for key in ("python", "compiler", "config_args", "cflags", "gil_disabled")},
        "packages": {**packages, **shared},
        "settings": {key: value for key, value in asdict(settings).items() if not isinstance(value, Path)},
        "how": {kind.name: kind.how for kind in kinds},
    }


def shown_arguments(options: argparse.Namespace) -> list[str]:
    """Return the arguments that matter for a repetition, without paths of this machine."""
    shown = [f"--servers {options.servers}", f"--scenarios {options.scenarios}", f"--rounds {options.rounds}"]
    shown += [f"--seconds {options.seconds:g}", f"--warm-up {options.warm_up:g}"]
    shown += [f"--connections {options.connections}", f"--fastasgi {options.fastasgi}"]
    return shown + ([f"--rate {options.rate}"] if options.rate else [])


def revision() -> str:
    """Return the commit of the checkout, with a plus when it has changes; 'unknown' outside of git."""

    def git(*words: str) -> str:
        return subprocess.run(["git", "-C", ROOT, *words], capture_output=True, text=True).stdout.strip()

    commit = git("rev-parse", "--short", "HEAD")
    return commit + ("+" if git("status", "--porcelain", "--untracked-files=no") else "") if commit else "unknown"


def record(options: argparse.Namespace, result: dict, text: str) -> None:
    """Write the table and the figures as asked for."""
    folder = options.output or (ROOT / "bench" / "results" if options.record else None)
    if folder is None:
        return
    folder.mkdir(parents=True, exist_ok=True)
    label = f"-{options.label}" if options.label else ""
    version = ".".join(result["run"]["python"]["python"].split(".")[:2])
    stem = f"{result['run']['date'][:10]}-py{version}{label}"
    (folder / f"{stem}.md").write_text(text)
    (folder / f"{stem}.json").write_text(json.dumps(result, indent=1) + "\n")
    print(f"written: {folder / stem}.md and .json", file=sys.stderr)


def grouped(scenarios: list[Scenario]) -> list[list[Scenario]]:
    """Put each scenario that is only a variant of another one beside it, if that one is measured too."""
    groups: dict[str, list[Scenario]] = {}
    for scenario in scenarios:
        key = scenario.beside if scenario.beside in groups else scenario.name
        groups.setdefault(key, []).append(scenario)
    return list(groups.values())


def as_table(scenario: Scenario, rows: list[Row]) -> dict:
    """Return the figures of one scenario as plain data."""
    fixed = {"scenario": scenario.name, "title": scenario.title, "unit": scenario.unit, "beside": scenario.beside}
    return {**fixed, "payload_bytes": scenario.payload_bytes, "rows": [asdict(row) for row in rows]}


def main(arguments: list[str] | None = None) -> int:
    """Run what the command line asks for; exit code 1 when a server was refused."""
    options = parse_arguments(arguments)
    kinds = choose(options.servers, KINDS, "servers")
    scenarios = choose(options.scenarios, SCENARIOS, "scenarios")

    def note(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    try:
        settings = make_settings(options)
    except (LoadFailed, MissingPeers) as error:
        sys.exit(f"compare: {error}")
    began = time.monotonic()
    run = describe_run(options, settings, kinds)
    tables: list[dict] = []
    for group in grouped(scenarios):
        note(", ".join(scenario.title for scenario in group))
        rows = run_group(group, kinds, settings, note)
        for scenario in group:
            if settings.rate and scenario.unit == "request":
                run_paced_rounds(scenario, kinds, rows[scenario.name], settings, note)
            tables.append(as_table(scenario, rows[scenario.name]))
    run["minutes"] = round((time.monotonic() - began) / 60, 1)
    result = {"run": run, "tables": tables}
    text = render(result)
    print(text)
    record(options, result, text)
    return 1 if any(row["refused"] for table in tables for row in table["rows"]) else 0


if __name__ == "__main__":
    sys.exit(main())
