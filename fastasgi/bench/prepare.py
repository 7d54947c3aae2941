"""From what was asked for to what can be measured here: the interpreter, who takes part, what is left out and why."""

import datetime
import os
import subprocess
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path

from fastasgi.version import __version__

from .clients import wrk_version
from .contenders import KINDS, PEERS, Kind, choose
from .floor import CannotCompile, compile_c
from .idle import FIRST_BATCH, SPARE_FILES, raise_file_limit
from .machine import describe_machine
from .model import FLOOR_APPLICATION, OURS, Contender, Machine, Run
from .peers import Interpreter, describe, peers_python, tree
from .runner import Runner, Settings, default_cores
from .scenarios import SCENARIOS, HttpScenario, IdleScenario, Scenario, WebSocketScenario
from .servers import Ground

ALL = "all"
QUICK_IDLE = 500
"""Idle connections of a quick run."""
SHOWN_PACKAGES = ("uvloop", "httptools", "websockets", "fastapi", "starlette", "pydantic", "django")
COMMAND = "python -m fastasgi.bench"


class CannotMeasure(Exception):
    """Nothing can be measured as asked; says why, and what to do."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What the command line asks for."""

    python: Path = Path(sys.executable)
    install_peers: bool = False
    wheel: str | None = None
    against: tuple[str, ...] = ()
    scenarios: tuple[str, ...] = ()
    """Empty: all."""
    floor: bool = True
    quick: bool = False
    rounds: int = 5
    seconds: float = 2.0
    warm_up_s: float = 0.5
    connections: int = 64
    client: str = "own"
    rate: str | None = None
    pin: bool = True
    server_core: int | None = None
    client_core: int | None = None
    retries: int = 2

    def repeated(self) -> str:
        """The command that asks for the same, without paths of this machine."""
        words = [COMMAND]
        words += ["--install-peers"] if self.install_peers else []
        words += [f"--against {','.join(self.against)}"] if self.against else []
        words += [f"--scenarios {','.join(self.scenarios)}"] if self.scenarios else []
        words += ["--quick"] if self.quick else []
        words += [f"--rounds {self.rounds}", f"--seconds {self.seconds:g}", f"--warm-up {self.warm_up_s:g}"]
        words += [f"--connections {self.connections}"] if self.connections != 64 else []
        words += [f"--client {self.client}"] if self.client != "own" else []
        words += [f"--rate {self.rate}"] if self.rate else []
        words += [] if self.pin else ["--no-pin"]
        return " ".join(words)


@dataclass
class Prepared:
    """What can be measured here."""

    asked: Asked
    interpreter: Interpreter
    settings: Settings
    kinds: list[Kind]
    scenarios: list[Scenario]
    notes: list[str]
    machine: Machine = field(default_factory=describe_machine)


def prepare(asked: Asked) -> Prepared:
    """Find what can be measured; raises CannotMeasure, UnknownName, MissingPeers."""
    notes: list[str] = []
    against = choose(asked.against, (*PEERS, ALL), "contenders")
    scenarios = [SCENARIOS[name] for name in choose(asked.scenarios or SCENARIOS, SCENARIOS, "scenarios")]
    if asked.client == "wrk" and wrk_version() is None:
        raise CannotMeasure("--client wrk: wrk is not installed; leave the option out to use our own client")
    if asked.rate and asked.client == "wrk":
        raise CannotMeasure("--rate: wrk has no rate; leave --client wrk out")
    python = asked.python
    if asked.install_peers or asked.wheel:
        python = peers_python(python, wheel=asked.wheel, note=lambda line: print(line, file=sys.stderr))
    interpreter = describe(python)
    ground, core = _ground(asked, interpreter, notes)
    settings = Settings(
        ground=ground,
        rounds=asked.rounds,
        seconds=asked.seconds,
        warm_up_s=asked.warm_up_s,
        connections=asked.connections,
        client_core=core,
        client=asked.client,
        rate=_read_rate(asked.rate),
        retries=asked.retries,
    )
    kinds = _kinds(against, interpreter, ground, notes)
    kept = _scenarios(scenarios, asked, interpreter, notes)
    if not any(kind.takes_part(scenario) for kind in kinds for scenario in kept):
        raise CannotMeasure("nothing is left to measure: " + "; ".join(notes))
    return Prepared(asked, interpreter, settings, kinds, kept, notes)


def _read_rate(text: str | None) -> float | None:
    """As Settings takes it: 0 is half of the slowest."""
    if text is None:
        return None
    if text == "half":
        return 0.0
    try:
        rate = float(text)
    except ValueError:
        rate = 0.0
    if not 0 < rate < float("inf"):
        raise CannotMeasure(f"--rate: expected requests a second, or 'half', got {text!r}")
    return rate


def _ground(asked: Asked, interpreter: Interpreter, notes: list[str]) -> tuple[Ground, int | None]:
    """What servers run on, and the client's core."""
    floors: dict[str, Path | None] = {"floor": None, "wsfloor": None}
    if asked.floor:
        try:
            floors = {name: compile_c(name) for name in floors}
        except CannotCompile as error:
            notes.append(f"the floor (what the kernel charges) is left out: {error}")
    server_core, client_core = _cores(asked, notes)
    ground = Ground(
        python=interpreter.path,
        floor=floors["floor"],
        websocket_floor=floors["wsfloor"],
        core=server_core,
        tree=_our_tree(asked, interpreter),
    )
    return ground, client_core


def _cores(asked: Asked, notes: list[str]) -> tuple[int | None, int | None]:
    """The server's core and the client's; None for both where they are not pinned."""
    if not asked.pin:
        return None, None
    allowed = sorted(os.sched_getaffinity(0))
    for option, core in (("--server-core", asked.server_core), ("--load-core", asked.client_core)):
        if core is not None and core not in allowed:
            raise CannotMeasure(f"{option}: expected one of the cores {allowed}, got {core}")
    default = default_cores()
    if default is None:
        notes.append("server and client share the only core there is: their figures disturb each other")
        return None, None
    server = asked.server_core if asked.server_core is not None else default[0]
    others = [core for core in allowed if core != server]
    client = asked.client_core if asked.client_core is not None else others[0]
    return server, client


def _our_tree(asked: Asked, interpreter: Interpreter) -> Path | None:
    """The checkout to measure, None to measure what is installed; raises CannotMeasure where there is neither."""
    folder = None if asked.wheel else tree()
    if folder is not None:
        if not list((folder / "fastasgi").glob(f"_http1.{interpreter.cache_tag}*.so")):
            raise CannotMeasure(
                f"this checkout is not built for {interpreter.implementation} {interpreter.version}; "
                f"build it: {interpreter.path} setup.py build_ext --inplace"
            )
        return folder
    if OURS not in interpreter.packages:
        raise CannotMeasure(
            f"{interpreter.path} has no fastasgi to measure; install it: {interpreter.path} -m pip install fastasgi"
        )
    return None


def _kinds(against: list[str], interpreter: Interpreter, ground: Ground, notes: list[str]) -> list[Kind]:
    """The floor, ours, and those asked for that are installed."""
    floors = [kind for kind in KINDS.values() if kind.is_floor] if ground.floor else []
    installed = [name for name in PEERS if KINDS[name].package in interpreter.packages]
    wanted = installed if ALL in against else against
    for name in wanted:
        if name not in installed:
            notes.append(f"{name} is left out, it is not installed; install it with: {how_to_install(KINDS[name])}")
    return [*floors, KINDS[OURS], *(KINDS[name] for name in wanted if name in installed)]


def how_to_install(kind: Kind) -> str:
    """The command."""
    words = [f"'{word}'" if "[" in word else word for word in kind.install.split()]
    return f"pip install {' '.join(words)}"


def _scenarios(
    scenarios: list[Scenario], asked: Asked, interpreter: Interpreter, notes: list[str]
) -> list[Scenario]:
    """Those whose application can run here; smaller where the run is to be quick."""
    kept = []
    for scenario in scenarios:
        if asked.quick and isinstance(scenario, IdleScenario):
            scenario = replace(scenario, connections=QUICK_IDLE)
        if scenario.needs and scenario.needs not in interpreter.packages:
            notes.append(
                f"{scenario.name} is left out, {scenario.needs} is not installed; "
                f"install it with: pip install {scenario.needs}"
            )
            continue
        if asked.client == "wrk" and not isinstance(scenario, HttpScenario):
            notes.append(f"{scenario.name} is measured with our own client: wrk speaks HTTP only")
        wanted = _files(scenario)
        if (files := raise_file_limit(wanted)) < wanted:
            notes.append(
                f"{scenario.name} is left out: it needs {wanted} open files, {files} are allowed; "
                f"raise it with: ulimit -n {wanted}"
            )
            continue
        kept.append(scenario)
    return kept


def _files(scenario: Scenario) -> int:
    """Open files that each side needs."""
    if isinstance(scenario, IdleScenario):
        return scenario.connections + FIRST_BATCH + SPARE_FILES
    return (scenario.sockets if isinstance(scenario, WebSocketScenario) else 0) + SPARE_FILES


# --- the run as data --------------------------------------------------------------------------------------------------


def describe_run(prepared: Prepared, runner: Runner, started_at: datetime.datetime, *, is_partial: bool) -> Run:
    """Everything that was measured, and what is needed to repeat it."""
    asked, settings, packages = prepared.asked, prepared.settings, prepared.interpreter.packages
    versions = {name: packages[name] for name in SHOWN_PACKAGES if name in packages}
    tables = [table for table in runner.tables if any(row.samples or row.refusal for row in table.rows)]
    for table in tables:
        table.rows = [row for row in table.rows if row.samples or row.refusal]
    return Run(
        started_at=started_at.isoformat(timespec="seconds"),
        minutes=round((datetime.datetime.now(datetime.UTC) - started_at).total_seconds() / 60, 1),
        command=asked.repeated(),
        machine=prepared.machine,
        python=prepared.interpreter.as_words(),
        versions=versions,
        settings={
            "rounds": settings.rounds,
            "seconds": settings.seconds,
            "warm_up_s": settings.warm_up_s,
            "connections": settings.connections,
            "client": wrk_version() if settings.client == "wrk" else "own",
            "server_core": settings.ground.core,
            "client_core": settings.client_core,
            "rate": asked.rate,
            "quick": asked.quick,
        },
        client_limit=runner.client_limit,
        contenders=[
            Contender(
                name=kind.name,
                version=version_of(kind, prepared),
                command=runner.commands[kind.name],
                settings=kind.settings,
            )
            for kind in prepared.kinds
            if kind.name in runner.commands
        ],
        tables=tables,
        notes=prepared.notes,
        is_partial=is_partial,
    )


def version_of(kind: Kind, prepared: Prepared) -> str:
    """Return a contender's version; of a checkout its commit, with a plus when it has changes."""
    if kind.name == FLOOR_APPLICATION:
        return f"{prepared.interpreter.implementation} {prepared.interpreter.version}"
    if kind.is_floor or kind.package is None:
        return "C, -O2"
    folder = prepared.settings.ground.tree
    if kind.name != OURS or folder is None:
        return prepared.interpreter.packages[kind.package]
    commit = _git(folder, "rev-parse", "--short", "HEAD")
    changed = "+" if commit and _git(folder, "status", "--porcelain", "--untracked-files=no") else ""
    return f"{__version__} ({commit}{changed})" if commit else __version__


def _git(folder: Path, *words: str) -> str:
    try:
        return subprocess.run(["git", "-C", str(folder), *words], capture_output=True, text=True).stdout.strip()
    except FileNotFoundError:
        return ""
