"""Compare fastasgi's WebSockets with its peers' and with what the kernel charges, interleaved, one core each.

    python bench/ws_compare.py --python 3.13-INTERPRETER            all scenarios, three rounds, and idle sockets
    python bench/ws_compare.py --quick                              does it work: short rounds
    python bench/ws_compare.py --scenarios echo-100,echo-100-deflate --idle 0
    python bench/ws_compare.py --record                             writes bench/results/DATE-pyX.Y-websocket.{md,json}

Each round runs every server once (A B C A B C ...), freshly started, then loaded from another core by our own client
(`fastasgi.bench.websocket`), which compares each answer with what was sent. Reported are medians over the rounds, and
ratios within the run only.
"""

import argparse
import datetime
import json
import os
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from compare import Note, Row, Settings, choose, record, revision, run_group
from idle import SPARE_FILES, raise_file_limit
from load import LoadFailed, LoadResult, compile_c, pinned, require_tools
from measure import Cpu, core_busy_s, cpu_of, describe_machine, memory_of
from report import render
from scenarios import HOST
from servers import BENCH, ROOT, Place, Refused, RunningServer, ServerKind
from venvs import WEBSOCKET_PEERS, MissingPeers, describe, peers_python

KIB = 1024
FIRST_BATCH = 200
# What fastasgi.bench.websocket.KEY is answered with (RFC 6455 section 1.3): the floor has no SHA-1.
ACCEPT = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
FLOOR_LINES = ("HTTP/1.1 101 X", "Upgrade: websocket", "Connection: Upgrade", f"Sec-WebSocket-Accept: {ACCEPT}")


@dataclass(frozen=True)
class Scenario:
    """One row of the table."""

    name: str
    title: str
    size: int
    clients: int = 64
    is_text: bool = True
    deflate: bool = False
    broadcast: int = 0  # messages in a run; 0: echo
    unit: str = "request"
    access_log: bool = False
    floor_piece_bytes: int = 0

    @property
    def app(self) -> str:
        """The application, as servers import it."""
        return "ws_apps:broadcast" if self.broadcast else "ws_apps:echo"

    @property
    def floor_answer(self) -> bytes:
        """The floor's answer to the handshake."""
        return "\r\n".join([*FLOOR_LINES, "", ""]).encode()

    def words(self, seconds: float, warm_up_s: float) -> list[str]:
        """The options of the load client."""
        words = ["--clients", str(self.clients), "--size", str(self.size), "--warm-up", str(warm_up_s), "--wait"]
        words += ["--seconds", str(seconds)]
        words += ["--binary"] if not self.is_text else []
        words += ["--deflate"] if self.deflate else []
        return words + (["--broadcast", str(self.broadcast)] if self.broadcast else [])


def _echo(size: int, label: str, clients: int, deflate: bool) -> Scenario:
    name = f"echo-{label}" + ("-1" if clients == 1 else "") + ("-deflate" if deflate else "")
    kind = "binary" if size > 64 * KIB else "text"
    told = f"{clients} client" + ("s" if clients > 1 else "")
    title = f"echo of {size if size < KIB else label} bytes of {kind}, {told}".replace("4k bytes", "4 KiB")
    title = title.replace("1m bytes", "1 MiB") + (", deflate" if deflate else "")
    return Scenario(name, title, size, clients, kind == "text", deflate)


IDLE_SOCKETS = 5000
SCENARIOS = {
    scenario.name: scenario
    for scenario in (
        *(
            _echo(size, label, clients, deflate)
            for deflate in (False, True)
            for size, label in ((100, "100"), (4 * KIB, "4k"), (KIB * KIB, "1m"))
            for clients in (64, 1)
        ),
        Scenario("broadcast", "broadcast of 100 bytes to 5,000 sockets", 100, IDLE_SOCKETS, broadcast=20),
    )
}


# --- the servers ------------------------------------------------------------------------------------------------------


def _floor(place: Place) -> list[str]:
    command = [str(place.floor), "--port", str(place.port), "--answer", str(place.answer_file)]
    return [*command, "--broadcast"] if place.app.endswith("broadcast") else command


def _fastasgi(place: Place) -> list[str]:
    address = ["--host", HOST, "--port", str(place.port)]
    return [str(place.python), "-m", "fastasgi", place.app, *address, "--lifespan", "off", "--no-access-log"]


def _uvicorn(ws: str):
    def command(place: Place) -> list[str]:
        address = ["--host", HOST, "--port", str(place.port)]
        rest = ["--http", "httptools", "--loop", "uvloop", "--lifespan", "off", "--no-access-log", "--ws", ws]
        return [place.script("uvicorn"), place.app, *address, *rest]

    return command


def _granian(place: Place) -> list[str]:
    address = ["--host", HOST, "--port", str(place.port)]
    faster = ["--interface", "asginl", "--loop", "uvloop", "--http", "1", "--workers", "1", "--runtime-threads", "1"]
    return [place.script("granian"), *address, *faster, "--backpressure", "100000", "--no-access-log", place.app]


def _hypercorn(place: Place) -> list[str]:
    return [place.script("hypercorn"), "--bind", f"{HOST}:{place.port}", "--worker-class", "uvloop", place.app]


def _picows(place: Place) -> list[str]:
    return [str(place.python), str(BENCH / "ws_picows.py"), str(place.port), place.app.partition(":")[2]]


def _socketify(place: Place) -> list[str]:
    address = ["--host", HOST, "--port", str(place.port)]
    return [str(place.python), "-m", "socketify", place.app, *address, "--workers", "1", "--interface", "asgi"]


KINDS = {
    kind.name: kind
    for kind in (
        ServerKind("floor", None, "C: epoll, recv, unmask, send; no compression", _floor),
        ServerKind("fastasgi", "fastasgi", "uvloop, own socket I/O, lifespan off", _fastasgi),
        ServerKind("uvicorn", "uvicorn", "websockets-sansio (its default), uvloop, lifespan off", _uvicorn("auto")),
        ServerKind("uvicorn-wsproto", "uvicorn", "wsproto, uvloop, lifespan off", _uvicorn("wsproto")),
        ServerKind("granian", "granian", "asginl, uvloop, one runtime thread; it has no compression", _granian),
        ServerKind("hypercorn", "Hypercorn", "worker class uvloop", _hypercorn),
        ServerKind("picows", "picows", "a listener of its own, not ASGI; uvloop", _picows),
        ServerKind("socketify", "socketify", "its ASGI interface", _socketify),
    )
}


# --- one run ----------------------------------------------------------------------------------------------------------


class Client:
    """A process of the load client, connected and warm. Use it as a context manager: leaving it ends the process."""

    def __init__(self, server: RunningServer, settings: Settings, words: list[str]):
        """Prepare, but do not start."""
        url = f"ws://{HOST}:{server.port}/"
        command = [str(settings.python), "-m", "fastasgi.bench.websocket", url, *words]
        self._command = pinned(command, settings.load_core)
        self._environment = {**os.environ, **({"PYTHONPATH": str(ROOT)} if settings.tree else {})}

    def __enter__(self) -> "Client":
        """Start it and wait until it is ready."""
        self._process = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=BENCH,
            env=self._environment,
        )
        try:
            self._expect("ready\n")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        """Close its input, which ends it."""
        process = self._process
        for pipe in (process.stdin, process.stdout, process.stderr):
            pipe.close()
        process.kill()
        process.wait()

    def _expect(self, wanted: str | None = None) -> str:
        """Read a line; raise LoadFailed with what it said when it ended instead."""
        line = self._process.stdout.readline()
        if not line or (wanted and line != wanted):
            raise LoadFailed(f"the load client said: {line}{self._process.stderr.read().strip()}")
        return line

    def run(self) -> LoadResult:
        """Have it run, and return what it saw."""
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        found = json.loads(self._expect())
        names = ("seconds", "p50_us", "p99_us", "p999_us", "max_us")
        return LoadResult(found["messages"], bytes=found["received_bytes"], **{name: found[name] for name in names})


def start(kind: ServerKind, scenario: Scenario, settings: Settings) -> RunningServer:
    """Return the server of this row, ready to be entered."""
    where = {"python": settings.python, "floor": settings.floor, "core": settings.server_core, "tree": settings.tree}
    return RunningServer(kind, scenario, **where)


def load_once(server: RunningServer, settings: Settings) -> tuple[LoadResult, Cpu, float, int]:
    """Load a server; return what the client saw, CPU time, others' share of its core, memory with all connected."""
    words = server.scenario.words(settings.seconds, settings.warm_up_s)
    core, pids = settings.server_core, server.pids
    with Client(server, settings, words) as client:
        before, busy_before = cpu_of(pids), core_busy_s(core) if core is not None else 0.0
        load = client.run()
        used = cpu_of(pids) - before
        busy = core_busy_s(core) - busy_before if core is not None else used.total_s
        memory = memory_of(pids).pss_kib
    return load, used, max(0.0, busy - used.total_s) / load.seconds, memory


def run_round(kind: ServerKind, scenario: Scenario, settings: Settings, row: Row) -> None:
    """Start, warm up, measure and end one server; raise Refused or LoadFailed.

    A measurement that had to share its core with other processes is taken again, a few times at most.
    """
    with start(kind, scenario, settings) as server:
        row.command = server.shown_command
        try:
            taken = [load_once(server, settings)]
            while taken[-1][2] > settings.quiet_share and len(taken) <= settings.retries:
                taken.append(load_once(server, settings))
        except LoadFailed as error:
            raise server.refuse(error) from error
        row.add(*min(taken, key=lambda each: each[2]))


# --- idle sockets -----------------------------------------------------------------------------------------------------

IDLE_S = 3.0


def idle_row(kind: ServerKind, settings: Settings, count: int) -> list[str]:
    """What each of so many accepted WebSockets costs that say nothing. A first batch pays what is paid once."""
    scenario = SCENARIOS["echo-100"]
    with start(kind, scenario, settings) as server:
        words = ["--size", "100", "--wait", "--clients"]
        with Client(server, settings, [*words, str(FIRST_BATCH)]):
            time.sleep(1)
            before = memory_of(server.pids)
            with Client(server, settings, [*words, str(count)]):
                time.sleep(1)
                after = memory_of(server.pids)
                cpu = cpu_of(server.pids)
                time.sleep(IDLE_S)
                used = cpu_of(server.pids) - cpu
    pss, uss = ((getattr(after, name) - getattr(before, name)) / count for name in ("pss_kib", "uss_kib"))
    return [kind.name, f"{count:,}", f"{before.pss_kib / KIB:.1f}", f"{pss:.2f}", f"{uss:.2f}",
            f"{used.total_s / IDLE_S:.2%}"]  # fmt: skip


def idle_rows(kinds: list[ServerKind], settings: Settings, count: int, note: Note) -> list[list[str]]:
    """The rows of all servers that can do it."""
    rows = []
    for kind in kinds:
        try:
            rows.append(idle_row(kind, settings, count))
            note(f"  idle {' '.join(rows[-1])}")
        except (Refused, LoadFailed) as error:
            note(f"  {kind.name}: {error}")
    return rows


# --- the command line -------------------------------------------------------------------------------------------------


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--python", type=Path, default=Path(sys.executable), help="interpreter to make the peers' environment from")
    add("--servers", default=",".join(KINDS), help=f"of {','.join(KINDS)}")
    add("--scenarios", default=",".join(SCENARIOS), help=f"of {','.join(SCENARIOS)}")
    add("--wheel", help="measure this wheel or requirement, not this checkout")
    add("--rounds", type=int, default=3)
    add("--seconds", type=float, default=2, help="seconds of load a round")
    add("--warm-up", type=float, default=0.5, help="seconds of load before each")
    add("--idle", type=int, default=IDLE_SOCKETS, help="how many idle sockets to measure memory with; 0: none")
    add("--server-core", type=int, default=0)
    add("--load-core", type=int, default=1)
    add("--no-pin", action="store_true", help="leave server and client where the kernel puts them")
    add("--quiet", type=float, default=0.05, help="take a round again if others had more of the server's core")
    add("--retries", type=int, default=2, help="how often at most")
    add("--quick", action="store_true", help="one round of half a second: for function, not for figures")
    add("--record", action="store_true", help="write bench/results/DATE-pyVERSION-websocket.{md,json}")
    add("--output", type=Path, help="folder to write the two files into")
    options = parser.parse_args(arguments)
    options.label = "websocket"
    if options.quick:
        options.rounds, options.seconds, options.warm_up, options.retries = 1, 0.5, 0.2, 0
    return options


def make_settings(options: argparse.Namespace) -> Settings:
    """Install the peers, compile the floor, and decide where each side runs."""
    require_tools("taskset", "cc")
    note = {"note": lambda line: print(line, file=sys.stderr)}
    python = peers_python(options.python, wheel=options.wheel, peers=WEBSOCKET_PEERS, **note)
    pin = not options.no_pin and (os.cpu_count() or 1) > max(options.server_core, options.load_core)
    return Settings(
        python=python,
        floor=compile_c("wsfloor"),
        rounds=options.rounds,
        seconds=options.seconds,
        warm_up_s=options.warm_up,
        connections=64,
        server_core=options.server_core if pin else None,
        load_core=options.load_core if pin else None,
        tree=not options.wheel,
        quiet_share=options.quiet,
        retries=options.retries,
    )


def describe_run(options: argparse.Namespace, settings: Settings, kinds: list[ServerKind]) -> dict:
    """Return everything that is needed to repeat the run."""
    python = describe(settings.python)
    names = [kind.package for kind in kinds if kind.package]
    packages = {name.lower(): python["packages"].get(name) for name in [*names, "uvloop", "websockets", "wsproto"]}
    if settings.tree and "fastasgi" in packages:
        packages["fastasgi"] = f"tree {revision()}"
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": "python bench/ws_compare.py " + shown_arguments(options),
        "load": "fastasgi.bench.websocket, each answer compared",
        "machine": describe_machine(),
        "python": {key: python[key] for key in ("python", "compiler", "config_args", "cflags", "gil_disabled")},
        "packages": packages,
        "settings": {key: value for key, value in asdict(settings).items() if not isinstance(value, Path)},
        "how": {kind.name: kind.how for kind in kinds},
    }


def shown_arguments(options: argparse.Namespace) -> str:
    """Return the arguments that matter for a repetition, without paths of this machine."""
    shown = {name: getattr(options, name) for name in ("servers", "scenarios", "rounds", "seconds", "warm_up", "idle")}
    return " ".join(f"--{name.replace('_', '-')} {value}" for name, value in shown.items())


def as_table(scenario: Scenario, rows: list[Row]) -> dict:
    """Return the figures of one scenario as plain data."""
    fixed = {"scenario": scenario.name, "title": scenario.title, "unit": scenario.unit, "beside": None}
    noun = "delivery" if scenario.broadcast else "message"
    return {**fixed, "noun": noun, "payload_bytes": scenario.size, "rows": [asdict(row) for row in rows]}


def main(arguments: list[str] | None = None) -> int:
    """Run what the command line asks for; exit code 1 when fastasgi itself was refused."""
    options = parse_arguments(arguments)
    kinds, scenarios = choose(options.servers, KINDS, "servers"), choose(options.scenarios, SCENARIOS, "scenarios")
    wanted = max([options.idle + FIRST_BATCH, *(scenario.clients for scenario in scenarios)]) + SPARE_FILES
    if (files := raise_file_limit(wanted)) < wanted:
        sys.exit(f"ws_compare: expected {wanted} open files to be allowed, {files} are")

    def note(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    try:
        settings = make_settings(options)
    except (LoadFailed, MissingPeers) as error:
        sys.exit(f"ws_compare: {error}")
    began = time.monotonic()
    result = {"run": describe_run(options, settings, kinds), "tables": []}
    for scenario in scenarios:
        note(scenario.title)
        able = [kind for kind in kinds if not (scenario.deflate and kind.name == "floor")]
        rows = run_group([scenario], able, settings, note, run_round)[scenario.name]
        result["tables"].append(as_table(scenario, rows))
    result["idle"] = idle_rows(kinds, settings, options.idle, note) if options.idle else []
    result["run"]["minutes"] = round((time.monotonic() - began) / 60, 1)
    text = render(result)
    print(text)
    record(options, result, text)
    refused = [row for table in result["tables"] for row in table["rows"] if row["refused"]]
    return 1 if any(row["server"] == "fastasgi" for row in refused) else 0


if __name__ == "__main__":
    sys.exit(main())
