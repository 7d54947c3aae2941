"""A load test with aiohttp: 1,000 requests at the same time, each answer checked, a summary at the end.

    python examples/load_test.py http://127.0.0.1:8000 --requests 1000 --connections 1000

It asks `examples.demo:app` for items; each answer must be that to its own request. The exit code is 1 where one is not.
How fast a server is, it does not say: a client in Python is slower than what it asks. `python -m fastasgi.bench` does.
"""

import argparse
import asyncio
import contextlib
import statistics
import sys
import time
from collections import Counter
from dataclasses import dataclass, field

import aiohttp

with contextlib.suppress(ImportError):  # not on Windows, which has no such limit
    import resource


@dataclass
class Outcome:
    """What came of all requests."""

    seconds: list[float] = field(default_factory=list)
    """How long each right answer took."""

    faults: Counter[str] = field(default_factory=Counter)
    """What was wrong, and how often."""


async def ask(session: aiohttp.ClientSession, number: int, outcome: Outcome) -> None:
    """Send one request and check its answer."""
    began = time.perf_counter()
    try:
        async with session.get(f"/items/{number}", params={"q": f"tea {number}"}) as answer:
            if answer.status != 200:
                outcome.faults[f"status {answer.status}"] += 1
                return
            came = await answer.json()
    except (aiohttp.ClientError, TimeoutError) as error:
        outcome.faults[f"{type(error).__name__}: {error}"] += 1
        return
    if came != {"item_id": number, "q": f"tea {number}"}:
        outcome.faults["the answer to another request"] += 1
        return
    outcome.seconds.append(time.perf_counter() - began)


async def load(url: str, requests: int, connections: int, timeout_s: float) -> Outcome:
    """Send all requests at once, over at most so many connections."""
    outcome = Outcome()
    connector = aiohttp.TCPConnector(limit=connections)
    timeout = aiohttp.ClientTimeout(total=timeout_s)
    async with aiohttp.ClientSession(url, connector=connector, timeout=timeout) as session:
        await asyncio.gather(*(ask(session, number, outcome) for number in range(requests)))
    return outcome


def allow_files(count: int) -> None:
    """Let this process open so many files, connections among them; most systems begin with 1,024."""
    if "resource" in sys.modules:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = count if hard == resource.RLIM_INFINITY else min(count, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))


def summary(outcome: Outcome, took_s: float) -> str:
    """A few lines for people."""
    right = len(outcome.seconds)
    lines = [f"{right} right answers in {took_s:.2f} s"]
    if right > 1:
        cuts = statistics.quantiles(outcome.seconds, n=100, method="inclusive")
        times = {"fastest": min(outcome.seconds), "median": cuts[49], "p99": cuts[98], "slowest": max(outcome.seconds)}
        lines.append(", ".join(f"{name} {seconds * 1000:.0f} ms" for name, seconds in times.items()))
    lines += [f"{count} times: {fault}" for fault, count in outcome.faults.most_common()]
    return "\n".join(lines)


def main() -> int:
    """Read the command line, run, print; the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("url", nargs="?", default="http://127.0.0.1:8000")
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--connections", type=int, default=1000, help="open at the same time")
    parser.add_argument("--timeout", type=float, default=30.0, help="seconds for each request")
    options = parser.parse_args()
    allow_files(options.connections + 100)
    began = time.perf_counter()
    outcome = asyncio.run(load(options.url, options.requests, options.connections, options.timeout))
    print(summary(outcome, time.perf_counter() - began))
    return 1 if outcome.faults or len(outcome.seconds) != options.requests else 0


if __name__ == "__main__":
    sys.exit(main())
