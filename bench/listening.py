"""How evenly connections are spread over worker processes, what waking costs, and who waits when a worker goes.

    python bench/listening.py                         all ways, 8 workers
    python bench/listening.py --ways ours,reuseport --workers 4
    python bench/listening.py --record                the table into bench/results/
    python bench/listening.py --ways ours,transport --certfile cert.pem --keyfile key.pem       over TLS

Ways to listen with several processes, each with forked workers:

    shared      one socket, an ordinary reader in each worker: all wake for each connection
    exclusive   one socket with EPOLLEXCLUSIVE in each worker's set (a bare loop: within our set it has no effect)
    reuseport   a socket of its own for each worker (SO_REUSEPORT), kept open by the parent when a worker goes
    ours        one socket, EPOLLEXCLUSIVE, and counts in shared memory (fastasgi/_listener.pyx)
    transport   the same, where the loop reads and writes the connections, as it does with TLS (fastasgi/accepting.py)

Rows: the busiest worker's share of new connections (closed after one answer, 64 at once) and of kept ones, over the
mean; wakeups of all workers for one connection, one at a time; time from connect to answer; and of 3,000 new
connections, 64 at once, while one worker was killed, and while one was blocked for a second, how many failed, how many
waited half a second or more, and the longest. Those that the worker had taken already are among them. Nothing is
retried.
"""

import argparse
import asyncio
import collections
import os
import platform
import select
import signal
import socket
import ssl
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from fastasgi._scoreboard import Scoreboard
from fastasgi.config import Config
from fastasgi.worker import Server

WAYS = ("shared", "exclusive", "reuseport", "ours", "transport")
RESULTS = Path(__file__).resolve().parent / "results"
CLIENTS = 64
BLOCK_S = 1.0
PATIENCE_S = 15.0


async def app(scope, receive, send):
    """Answer with the process id; `/block` holds the worker up first, `/exit` kills it."""
    if scope["path"] == "/block":
        time.sleep(BLOCK_S)  # noqa: ASYNC251 - on purpose
    body = str(os.getpid()).encode()
    length = (b"content-length", str(len(body)).encode())
    await send({"type": "http.response.start", "status": 200, "headers": [length]})
    await send({"type": "http.response.body", "body": body})


# --- workers ------------------------------------------------------------------------------------------------------


def work_exclusive(listener: socket.socket) -> None:
    """A bare loop with EPOLLEXCLUSIVE, for what the flag does by itself; it answers as the application does."""
    epoll = select.epoll()
    epoll.register(listener, select.EPOLLIN | select.EPOLLEXCLUSIVE)
    connections: dict[int, socket.socket] = {}
    body = str(os.getpid()).encode()
    answer = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)
    while True:
        for fd, _ in epoll.poll():
            if fd == listener.fileno():
                try:
                    connection, _ = listener.accept()
                except BlockingIOError:
                    continue
                epoll.register(connection, select.EPOLLIN)
                connections[connection.fileno()] = connection
                continue
            data = connections[fd].recv(65536)
            if b"/block" in data:
                time.sleep(BLOCK_S)
            if data:
                connections[fd].send(answer)
            if not data or b"close" in data:
                connections.pop(fd).close()


class Workers:
    """Forked workers that listen in one of the ways; `options` are more of their configuration."""

    def __init__(self, way: str, count: int, **options) -> None:
        self.way, self.options = way, options
        self.board = Scoreboard(count)
        first = self._listener(0)
        self.port = first.getsockname()[1]
        own = way == "reuseport"
        self.listeners = [first] + [self._listener(self.port) for _ in range(count - 1)] if own else [first] * count
        self.pids = [self._start(index) for index in range(count)]

    def _listener(self, port: int) -> socket.socket:
        sock = socket.socket()
        if self.way == "reuseport":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind(("127.0.0.1", port))
        sock.listen(2048)
        sock.setblocking(False)
        return sock

    def _start(self, index: int) -> int:
        slot = self.board.slot(index)
        slot.begin()
        pid = os.fork()
        if pid:
            return pid
        try:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            if self.way == "exclusive":
                work_exclusive(self.listeners[index])
            io = "transport" if self.way == "transport" else "auto"
            config = Config(app, log_config=None, access_log=False, lifespan="off", io=io, **self.options)
            server = Server(config, slot=slot if self.way in ("ours", "transport") else None)
            server.run([self.listeners[index].dup()])
        finally:
            os._exit(1)

    def kill(self, index: int) -> None:
        """End one as the kernel would, and start it anew."""
        os.kill(self.pids[index], signal.SIGKILL)
        os.waitpid(self.pids[index], 0)
        self.board.slot(index).end()
        self.pids[index] = self._start(index)

    def close(self) -> None:
        """End all of them."""
        for pid in self.pids:
            os.kill(pid, signal.SIGKILL)
        for pid in self.pids:
            os.waitpid(pid, 0)
        for sock in set(self.listeners):
            sock.close()

    def wakeups(self) -> int:
        """How often they have slept so far."""
        total = 0
        for pid in self.pids:
            text = Path(f"/proc/{pid}/status").read_text()
            total += int(text.split("\nvoluntary_ctxt_switches:")[1].split()[0])
        return total


# --- the client ---------------------------------------------------------------------------------------------------


class Connection:
    """One connection: asks, and knows who answered."""

    def __init__(self, port: int, tls: ssl.SSLContext | None = None) -> None:
        self.port, self.tls = port, tls

    async def ask(self, *, path: str = "/", close: bool = False) -> int:
        """The process id of who answered; raises where the answer is not whole."""
        if not hasattr(self, "reader"):
            self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port, ssl=self.tls)
        ending = b"connection: close\r\n" if close else b""
        self.writer.write(b"GET %b HTTP/1.1\r\nhost: x\r\n%b\r\n" % (path.encode(), ending))
        head = await self.reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200 "):
            raise ConnectionError(f"expected 200, got {head[:40]!r}")
        length = int(head.lower().split(b"content-length:")[1].split()[0])
        return int(await self.reader.readexactly(length))

    def close(self) -> None:
        """Let go of it."""
        if hasattr(self, "writer"):
            self.writer.close()


async def once(port: int, tls: ssl.SSLContext | None = None) -> tuple[int, float]:
    """A new connection and one answer: who, and how long from connect to answer."""
    began = time.perf_counter()
    connection = Connection(port, tls)
    try:
        async with asyncio.timeout(PATIENCE_S):
            return await connection.ask(close=True), time.perf_counter() - began
    finally:
        connection.close()


async def many(
    port: int, count: int, tls: ssl.SSLContext | None = None
) -> tuple[collections.Counter, list[float], int]:
    """New connections, CLIENTS at once: who answered how many, times, and how many failed."""
    who: collections.Counter = collections.Counter()
    times: list[float] = []
    failed = 0
    left = iter(range(count))

    async def client() -> None:
        nonlocal failed
        for _ in left:
            try:
                pid, seconds = await once(port, tls)
            except (OSError, EOFError, TimeoutError):
                failed += 1
                continue
            who[pid] += 1
            times.append(seconds)

    await asyncio.gather(*(client() for _ in range(min(CLIENTS, count))))
    return who, times, failed


async def keep(port: int, count: int, tls: ssl.SSLContext | None = None) -> collections.Counter:
    """Connections that stay open: who has how many."""
    connections = [Connection(port, tls) for _ in range(count)]
    gate = asyncio.Semaphore(CLIENTS)

    async def ask(connection: Connection) -> int:
        async with gate:
            return await connection.ask()

    try:
        return collections.Counter(await asyncio.gather(*map(ask, connections)))
    finally:
        for connection in connections:
            connection.close()
        await asyncio.sleep(0.1)


# --- what is measured ---------------------------------------------------------------------------------------------


def share(who: collections.Counter, workers: int) -> str:
    """The busiest worker's part over the mean."""
    return f"{max(who.values()) * workers / who.total():.2f}"


def unverified() -> ssl.SSLContext:
    """A client's context that takes any certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


async def ready(port: int, tls: ssl.SSLContext | None) -> None:
    """Wait until all of them run, and none is busy with its start."""
    async with asyncio.timeout(PATIENCE_S):
        await once(port, tls)
    await asyncio.sleep(2)


async def disturbed(port: int, tls: ssl.SSLContext | None, disturb) -> str:
    """New connections while something happens to one worker: failed, waited for BLOCK_S / 2, and the longest wait."""
    load = asyncio.create_task(many(port, 3000, tls))
    await asyncio.sleep(0.3)
    await disturb()
    _, times, failed = await load
    waited = sum(seconds > BLOCK_S / 2 for seconds in times)
    return f"{failed} / {waited} / {max(times) * 1000:.0f} ms"


async def figures(workers: Workers, tls: ssl.SSLContext | None = None) -> dict[str, str]:
    """All figures of one way."""
    count, port = len(workers.pids), workers.port
    await ready(port, tls)
    found = {}
    for total in (1000, 64):
        who, _, failed = await many(port, total, tls)
        assert not failed, f"{failed} connections failed while nothing happened"
        found[f"new, {total}"] = share(who, count)
        found[f"kept, {total}"] = share(await keep(port, total, tls), count)
    before = workers.wakeups()
    times = [(await once(port, tls))[1] for _ in range(300)]
    found["wakeups each"] = f"{(workers.wakeups() - before) / 300:.1f}"
    found["answer p50"] = f"{statistics.median(times) * 1e6:.0f} us"
    _, times, _ = await many(port, 2000, tls)
    found["64 at once, p99"] = f"{statistics.quantiles(times, n=100)[98] * 1000:.1f} ms"

    async def kill() -> None:
        workers.kill(0)

    async def block() -> None:
        connection = Connection(port, tls)
        await connection.ask(path="/block")
        connection.close()

    found["killed: failed / waited / longest"] = await disturbed(port, tls, kill)
    found["blocked 1 s: failed / waited / longest"] = await disturbed(port, tls, block)
    return found


def table(rows: dict[str, dict[str, str]]) -> str:
    """The figures as a table, one column for each way."""
    ways = list(rows)
    lines = [f"| | {' | '.join(ways)} |", f"|---|{'---:|' * len(ways)}"]
    lines += [f"| {name} | {' | '.join(rows[way][name] for way in ways)} |" for name in rows[ways[0]]]
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ways", default=",".join(WAYS))
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--record", action="store_true")
    parser.add_argument("--certfile", help="serve TLS with this certificate (not for `exclusive`)")
    parser.add_argument("--keyfile")
    options = parser.parse_args(arguments)
    given = {"ssl_certfile": options.certfile, "ssl_keyfile": options.keyfile} if options.certfile else {}
    rows = {}
    for way in options.ways.split(","):
        workers = Workers(way, options.workers, **given)
        try:
            rows[way] = asyncio.run(figures(workers, unverified() if given else None))
        finally:
            workers.close()
    text = table(rows)
    print(text)
    if options.record:
        cores = len(os.sched_getaffinity(0))
        head = f"# Ways to listen, {options.workers} workers, {cores} cores, Linux {platform.release().split('-')[0]}"
        command = "`python bench/listening.py --record`; the head of that file says what the rows mean."
        (RESULTS / "listening.md").write_text(f"{head}\n\n{command}\n\n{text}\n")


if __name__ == "__main__":
    main()
