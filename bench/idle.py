"""What an idle keep-alive connection costs, by allocator: KiB of each, and CPU of all of them together.

    python bench/idle.py --python INTERPRETER --servers fastasgi,uvicorn,peregrine
    python bench/idle.py --connections 20000 --servers fastasgi

As the scenario "idle" of `python -m fastasgi.bench`, with what malloc, pymalloc and the kernel hold told apart. The
kernel's memory is that of both ends.
"""

import json
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

from common import ground_of, kinds_of, markdown_table, parser_of

from fastasgi.bench.idle import FIRST_BATCH, SETTLE_S, SPARE_FILES, connections, is_open, raise_file_limit
from fastasgi.bench.machine import Cpu, Memory, cpu_of, memory_of
from fastasgi.bench.scenarios import IDLE, IdleScenario, encode_request
from fastasgi.bench.servers import Refused, RunningServer
from fastasgi.bench.verify import WrongAnswer, ask

APPS = Path(__file__).resolve().parent  # holds idle_app.py
MEMORY_REQUEST = encode_request("GET", "/memory", (("Host", "localhost"),))


@dataclass(frozen=True)
class Held:
    """What a server holds at one moment."""

    memory: Memory
    slab_kib: int
    allocators: dict[str, int | None]


@dataclass(frozen=True)
class IdleResult:
    """Per connection, in bytes, unless a name says otherwise."""

    connections: int
    at_rest_kib: int
    pss: float
    uss: float
    malloc: float | None
    pymalloc: float | None
    blocks: float | None
    kernel: float
    cpu: Cpu
    seconds: float
    closed: int


def slab_kib() -> int:
    """Return the kernel's slab memory, which holds sockets, files and epoll items."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("Slab:"):
            return int(line.split()[1])
    return 0


def held_by(server: RunningServer) -> Held:
    """Return what the server holds now; the allocators' figures come from the application inside it."""
    allocators: dict[str, int | None] = {}
    if not server.kind.is_floor:
        (answer,) = ask(server.port, MEMORY_REQUEST)
        allocators = json.loads(answer.body)
    time.sleep(SETTLE_S)
    return Held(memory_of(server.pids), slab_kib(), allocators)


def per_connection(before: Held, after: Held, count: int, name: str) -> float | None:
    """Return the growth of one allocator, None where it does not tell."""
    first, second = before.allocators.get(name), after.allocators.get(name)
    return None if first is None or second is None else (second - first) / count


def measure(server: RunningServer, scenario: IdleScenario, seconds: float) -> IdleResult:
    """Open the connections, let them idle, and return what they cost."""
    count = scenario.connections
    with connections(server, scenario, range(FIRST_BATCH)) as first:
        before = held_by(server)
        with connections(server, scenario, range(FIRST_BATCH, FIRST_BATCH + count)) as opened:
            after = held_by(server)
            pids = server.pids
            cpu = cpu_of(pids)
            time.sleep(seconds)
            used = cpu_of(pids) - cpu
            closed = sum(not is_open(connection) for connection in (*first, *opened))
    return IdleResult(
        connections=FIRST_BATCH + count,
        at_rest_kib=before.memory.pss_kib,
        pss=(after.memory.pss_kib - before.memory.pss_kib) * 1024 / count,
        uss=(after.memory.uss_kib - before.memory.uss_kib) * 1024 / count,
        malloc=per_connection(before, after, count, "malloc"),
        pymalloc=per_connection(before, after, count, "pymalloc"),
        blocks=per_connection(before, after, count, "blocks"),
        kernel=(after.slab_kib - before.slab_kib) * 1024 / count,
        cpu=used,
        seconds=seconds,
        closed=closed,
    )


def row(name: str, result: IdleResult) -> list[str]:
    """Return one row of the table."""

    def kib(value: float | None) -> str:
        return "" if value is None else f"{value / 1024:.2f}"

    blocks = "" if result.blocks is None else f"{result.blocks:.1f}"
    cells = [name, f"{result.connections:,}", f"{result.at_rest_kib / 1024:.1f}", kib(result.pss), kib(result.uss)]
    cells += [kib(result.malloc), kib(result.pymalloc), blocks, kib(result.kernel)]
    return [*cells, f"{result.cpu.total_s / result.seconds:.2%}", str(result.closed)]


HEAD = ["server", "connections", "PSS at rest, MiB", "PSS KiB each", "USS KiB each", "malloc KiB each"]
HEAD += ["pymalloc KiB each", "Python blocks each", "kernel KiB each (both ends)", "CPU while idle", "closed"]


def main(arguments: list[str] | None = None) -> None:
    """Measure and print the table."""
    parser = parser_of(__doc__, "floor,fastasgi,uvicorn,granian,peregrine")
    parser.add_argument("--connections", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=5, help="how long to watch the CPU of idle connections")
    options = parser.parse_args(arguments)
    limit = raise_file_limit(options.connections + FIRST_BATCH + SPARE_FILES)
    count = min(options.connections, limit - FIRST_BATCH - SPARE_FILES)
    kinds, ground = kinds_of(options), ground_of(options, APPS)
    scenario = replace(IDLE, app="idle_app:app", connections=count, reflects=False)
    rows = []
    for kind in kinds:
        try:
            with RunningServer(kind, scenario, ground) as server:
                server.verify()
                rows.append(row(kind.name, measure(server, scenario, options.seconds)))
        except (Refused, WrongAnswer) as error:
            print(f"{kind.name}: {error}", file=sys.stderr)
    print(markdown_table(HEAD, rows))


if __name__ == "__main__":
    main()
