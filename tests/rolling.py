"""Restarts under load, by a client that numbers its requests and checks each answer.

Resets, truncations, refusals, wrong answers and statuses of 500 and above all count; nothing is retried. A connection
is used again until the server announces its end, or, as by clients with a limit of their own, now and then given up.

    python tests/rolling.py --rolls 20 --requests 100000 --over tcp

prints what was counted; the exit code is 1 if anything failed. The load goes on until all restarts are done and all
requests were sent. `make soak` runs it over TCP, over a Unix socket and over TLS.
"""

import argparse
import asyncio
import contextlib
import re
import signal
import sys
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

PATIENCE_S = 30.0
PAUSE_EVERY = 40  # requests of a connection; then it idles, so that its next request may cross a close
PAUSE_S = 0.02
GIVE_UP_AFTER = 400  # requests of a connection


class Client:
    """Sends numbered requests over some connections, as long as it is told to."""

    def __init__(self, connect, connections=8, give_up_after=GIVE_UP_AFTER):
        self._connect, self._connections = connect, connections
        self._give_up_after = give_up_after
        self.sent = 0
        self.failed = []
        self.by_pid = Counter()
        self.connected = 0
        self._stopping = False

    def stop(self):
        """Finish the requests that are running, send no more."""
        self._stopping = True

    async def run(self):
        """Until `stop()`."""
        async with asyncio.TaskGroup() as group:
            for _ in range(self._connections):
                group.create_task(self._use())

    async def _use(self):
        while not self._stopping:
            try:
                reader, writer = await asyncio.wait_for(self._connect(), PATIENCE_S)
            except OSError as error:  # a failed handshake of TLS is one too
                self.sent += 1
                self.failed.append((self.sent, f"connect: {error!r}"))
                await asyncio.sleep(PAUSE_S)
                continue
            self.connected += 1
            try:
                await self._converse(reader, writer)
            finally:
                writer.close()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()

    async def _converse(self, reader, writer):
        for count in range(1, self._give_up_after):
            if self._stopping:
                return
            self.sent += 1
            number = self.sent
            try:
                goes_on = await asyncio.wait_for(self._ask(reader, writer, number), PATIENCE_S)
            except (OSError, EOFError, AssertionError, TimeoutError) as error:
                self.failed.append((number, ("first: " if count == 1 else "") + repr(error)))
                return
            if not goes_on:
                return
            if count % PAUSE_EVERY == 0:
                await asyncio.sleep(PAUSE_S)

    async def _ask(self, reader, writer, number):
        """One request; whether the connection may be used again."""
        writer.write(b"GET /%d HTTP/1.1\r\nHost: x\r\n\r\n" % number)
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 "), head
        length = int(re.search(rb"content-length: (\d+)\r\n", head)[1])
        body = await reader.readexactly(length)
        answered, pid = body.split()
        assert int(answered) == number, f"request {number} got the answer of {answered!r}"
        self.by_pid[int(pid)] += 1
        return b"connection: close" not in head.lower()

    def report(self):
        """One line."""
        return (
            f"{self.sent} requests over {self.connected} connections to {len(self.by_pid)} processes: "
            f"{len(self.failed)} failed"
        )


async def roll(server, client, rolls):
    """Restart all workers so often, one restart behind the other; the seconds that each took."""
    took = []
    for done in range(rolls):
        began = time.monotonic()
        server.signal(signal.SIGHUP)
        while server.log().count("All workers are replaced") <= done:
            assert server.child.poll() is None, server.log()
            assert time.monotonic() - began < PATIENCE_S, server.log()[-3000:]
            await asyncio.sleep(0.02)
        took.append(time.monotonic() - began)
    return took


def main():
    """The long form."""
    from supervised import running_workers

    parser = argparse.ArgumentParser()
    parser.add_argument("--rolls", type=int, default=20)
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--give-up-after", type=int, default=GIVE_UP_AFTER, help="requests of a connection")
    parser.add_argument("--over", choices=["tcp", "unix", "tls"], default="tcp")
    options = parser.parse_args()

    async def go(server):
        client = Client(server.open_connection, options.connections, options.give_up_after)
        load = asyncio.create_task(client.run())
        took = await roll(server, client, options.rolls)
        while client.sent < options.requests:
            await asyncio.sleep(0.05)
        client.stop()
        await load
        return client, took

    with running_workers("numbered", workers=options.workers, over=options.over) as server:
        client, took = asyncio.run(go(server))
        server.signal(signal.SIGTERM)
        code = server.wait()
    restarts = f"{len(took)} restarts of {options.workers} workers, {max(took):.2f} s at most"
    print(f"{options.over}: {restarts}; {client.report()}")
    for number, error in client.failed[:10]:
        print(f"  request {number}: {error}")
    return 1 if client.failed or code or len(took) < options.rolls else 0


if __name__ == "__main__":
    sys.exit(main())
