"""What an idle keep-alive connection costs: KiB of user memory each, and CPU of all of them together.

    python bench/idle.py --python INTERPRETER --servers fastasgi,uvicorn,peregrine
    python bench/idle.py --connections 20000 --servers fastasgi

Opens connections from several loopback addresses, asks once on each, and waits. Growth is taken from a first
batch on, so that what a server allocates once is not charged to connections. The kernel's memory for both
ends is told apart. Raises the limit of open files as far as the system lets it.
"""

import argparse
import json
import os
import resource
import socket
import sys
import time
from dataclasses import dataclass, replace
from http.client import HTTPResponse
from pathlib import Path

from compare import choose
from load import LoadFailed, compile_c
from measure import Cpu, Memory, cpu_of, memory_of, slab_kib
from report import markdown_table
from scenarios import HOST, SCENARIOS, TIMEOUT_S, Scenario, encode_request, read_answer
from servers import KINDS, Refused, RunningServer, ServerKind, ask
from venvs import peers_python

ADDRESSES = 8  # 127.0.0.1 to 127.0.0.8: each has ports for some 28,000 connections to one server
FIRST_BATCH = 200
SETTLE_S = 1.0
SPARE_FILES = 500
KEEP_ALIVE_S = 900
LONGER = {  # how to keep each from closing the connections while we look
    "fastasgi": ["--timeout-keep-alive", str(KEEP_ALIVE_S)],
    "uvicorn": ["--timeout-keep-alive", str(KEEP_ALIVE_S)],
    "granian": ["--http1-header-read-timeout", "60000", "--backpressure", "1000000"],
    "peregrine": ["--keep-alive", str(KEEP_ALIVE_S * 1000), "--max-connections", "40000"],
    "h2corn": ["--timeout-keep-alive", str(KEEP_ALIVE_S)],
    "gunicorn": ["--keep-alive", str(KEEP_ALIVE_S), "--worker-connections", "1000000"],
    "hypercorn": ["--keep-alive", str(KEEP_ALIVE_S)],
}
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


def raise_file_limit(files: int) -> int:
    """Raise the limit of open files for us and for the servers we start; return what it is now."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < files:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
            return files
        except (ValueError, PermissionError, OSError):
            print(f"the system allows {hard} open files, {files} are wanted", file=sys.stderr)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(files, hard)), hard))
    return min(files, hard)


def open_connections(port: int, count: int, request: bytes, start: int) -> list[socket.socket]:
    """Open so many connections and take one answer on each."""
    opened = []
    for number in range(start, start + count):
        connection = socket.socket()
        connection.settimeout(TIMEOUT_S)
        # Without this option every bind takes a port for all peers at once.
        connection.setsockopt(socket.IPPROTO_IP, getattr(socket, "IP_BIND_ADDRESS_NO_PORT", 24), 1)
        connection.bind((f"127.0.0.{1 + number % ADDRESSES}", 0))
        connection.connect((HOST, port))
        connection.sendall(request)
        read_answer(HTTPResponse(connection))
        opened.append(connection)
    return opened


def is_open(connection: socket.socket) -> bool:
    """Tell whether the server has kept this connection."""
    connection.setblocking(False)
    try:
        return connection.recv(1, socket.MSG_PEEK) != b""
    except BlockingIOError:
        return True
    except OSError:
        return False


def held_by(server: RunningServer) -> Held:
    """Return what the server holds now; the allocators' figures come from the application inside it."""
    allocators: dict[str, int | None] = {}
    if server.kind.name != "floor":
        allocators = json.loads(ask(server.port, MEMORY_REQUEST)[0].body)
    time.sleep(SETTLE_S)
    return Held(memory_of(server.pids), slab_kib(), allocators)


def per_connection(before: Held, after: Held, count: int, name: str) -> float | None:
    """Return the growth of one allocator, None where it does not tell."""
    first, second = before.allocators.get(name), after.allocators.get(name)
    return None if first is None or second is None else (second - first) / count


def measure(server: RunningServer, count: int, seconds: float) -> IdleResult:
    """Open the connections, let them idle, and return what they cost."""
    request = server.scenario.request
    connections = open_connections(server.port, FIRST_BATCH, request, 0)
    try:
        before = held_by(server)
        connections += open_connections(server.port, count, request, FIRST_BATCH)
        after = held_by(server)
        pids = server.pids
        cpu = cpu_of(pids)
        time.sleep(seconds)
        used = cpu_of(pids) - cpu
        closed = sum(not is_open(connection) for connection in connections)
    finally:
        for connection in connections:
            connection.close()
    return IdleResult(
        connections=len(connections),
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


def lasting(kind: ServerKind) -> ServerKind:
    """Return the server with a keep-alive timeout that outlasts the measurement; the application comes last."""

    def command(place) -> list[str]:
        words = kind.command(place)
        more = LONGER.get(kind.name, [])
        return [words[0], *more, *words[1:]] if words[0] != str(place.python) else [*words, *more]

    return replace(kind, command=command)


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
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--python", type=Path, default=Path(sys.executable))
    add("--servers", default="floor,fastasgi,uvicorn,granian,peregrine", help=f"of {','.join(KINDS)}")
    add("--connections", type=int, default=10_000)
    add("--seconds", type=float, default=5, help="how long to watch the CPU of idle connections")
    add("--wheel", help="measure this wheel or requirement, not this checkout")
    add("--server-core", type=int, default=0)
    add("--no-pin", action="store_true")
    options = parser.parse_args(arguments)
    limit = raise_file_limit(options.connections + FIRST_BATCH + SPARE_FILES)
    count = min(options.connections, limit - FIRST_BATCH - SPARE_FILES)
    core = None if options.no_pin or (os.cpu_count() or 1) < 2 else options.server_core
    floor, python = compile_c("floor"), peers_python(options.python, wheel=options.wheel)
    scenario: Scenario = replace(SCENARIOS["plain"], app="apps:idle")
    rows = []
    for kind in choose(options.servers, KINDS, "servers"):
        place = {"python": python, "floor": floor, "core": core, "tree": not options.wheel}
        try:
            with RunningServer(lasting(kind), scenario, **place) as server:
                server.verify()
                rows.append(row(kind.name, measure(server, count, options.seconds)))
        except (Refused, LoadFailed, OSError) as error:
            print(f"{kind.name}: {error}", file=sys.stderr)
    print(markdown_table(HEAD, rows))


if __name__ == "__main__":
    main()
