"""What the fields of a proxy cost: the engine in process, the same requests believed and not believed.

    python bench/forwarded.py

Each line is a head as a proxy sends it, in requests of a few clients, of many (so that nothing is remembered), or
of none. The figures are nanoseconds of CPU per request with and without `proxy_headers`, the best of some batches; the
difference is what reading the fields and changing the scope costs.
"""

import argparse
import asyncio
import gc
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from fastasgi.bench.apps import raw_app

REQUESTS = 2000
BATCHES = 25
FEW, MANY = 4, 4096
FIELDS = ("for", "proto", "host", "port", "prefix")
BROWSER = (
    b"GET / HTTP/1.1\r\nHost: www.example.com\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64) Gecko/20100101\r\n"
    b"Accept: text/html,application/xhtml+xml;q=0.9,*/*;q=0.8\r\nAccept-Language: en-US,en;q=0.5\r\n"
    b"Accept-Encoding: gzip, deflate, br\r\nReferer: https://www.example.com/\r\nSec-Fetch-Mode: navigate\r\n"
)
HEADS = {
    "no such field": b"X-Request-Start: %s\r\nX-Other: https\r\n",
    "For and Proto": b"X-Forwarded-For: %s\r\nX-Forwarded-Proto: https\r\n",
    "For with two hops, Proto": b"X-Forwarded-For: %s, 10.0.0.7\r\nX-Forwarded-Proto: https\r\n",
    "all of X-Forwarded": b"X-Forwarded-For: %s\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: www.example.com\r\n"
    b"X-Forwarded-Port: 443\r\nX-Forwarded-Prefix: /api\r\n",
    "Forwarded": b'Forwarded: for=%s;proto=https;host="www.example.com"\r\n',
}


def connect(loop: asyncio.AbstractEventLoop, believed: bool):
    """Return a connection of a proxy in 10.0.0.0/8."""
    from fastasgi._http1 import Http1
    from fastasgi._memory import MemoryChannel
    from fastasgi._runtime import Runtime
    from fastasgi.config import Config

    options = {"proxy_headers": believed, "forwarded_allow_ips": "127.0.0.1,10.0.0.0/8", "forwarded_fields": FIELDS}
    config = Config(raw_app.plain, access_log=False, lifespan="off", **options)
    config.load()
    runtime = Runtime(config, raw_app.plain, loop, handler_factory=Http1)
    runtime.tick()
    return MemoryChannel(runtime, client=("10.0.0.1", 50000), server=("10.0.0.2", 8000), scheme="http")


def requests_of(head: bytes, clients: int) -> list[bytes]:
    """One request of each client."""
    addresses = [b"198.%d.%d.%d" % (18 + i // 65536, i // 256 % 256, i % 256) for i in range(clients)]
    return [BROWSER + head.replace(b"%s", address) + b"\r\n" for address in addresses]


async def batch_ns(connection, requests: list[bytes], start: int) -> float:
    """Nanoseconds of CPU per request of one batch."""
    chosen = [requests[(start + i) % len(requests)] for i in range(REQUESTS)]
    began = time.process_time_ns()
    for number, request in enumerate(chosen):
        connection.feed(request)
        if not connection.take_output():
            raise RuntimeError("expected an answer at once, got none")
        if number % 16 == 0:
            await asyncio.sleep(0)
    return (time.process_time_ns() - began) / REQUESTS


async def measure(head: bytes, clients: int) -> tuple[float, float]:
    """The best batch with and without, taken in turns."""
    loop = asyncio.get_running_loop()
    requests = requests_of(head, clients)
    connections = [connect(loop, True), connect(loop, False)]
    best = [float("inf"), float("inf")]
    gc.collect()
    for number in range(BATCHES):
        for which, connection in enumerate(connections):
            best[which] = min(best[which], await batch_ns(connection, requests, number * REQUESTS))
    return best[0], best[1]


def main(arguments: list[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args(arguments)
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        for name, head in HEADS.items():
            for clients in (1, FEW, MANY):
                believed, ignored = runner.run(measure(head, clients))
                who = f"{clients} client{'s' if clients > 1 else ''}"
                print(f"{name}, {who}: {believed:.0f} ns, {ignored:.0f} ns without; {believed - ignored:+.0f} ns")


if __name__ == "__main__":
    main()
