"""The figures of a server as people read them: a summary, a table of workers, and a screen that renews itself.

All of it is made from what `Supervisor.status()` tells; rates and latencies of the last second are differences of two
such answers.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import IO, Any

from ._scoreboard import quantile
from .banner import counted

if sys.platform != "win32":
    import termios
    import tty

PERIOD_S = 1.0
HEADINGS = ("PID", "STATE", "AGE", "REQ/S", "REQUESTS", "ERRORS", "P50", "P99", "ACTIVE", "CONNS", "LAG", "MEMORY")
SILENT_S = 2.5
"""Without a heartbeat for so long, a worker's state says so."""

Row = tuple[str, ...]
Status = dict[str, Any]


# --- words for numbers ------------------------------------------------------------------------------------------------


def duration(seconds: float) -> str:
    """`850us`, `12ms`, `3.4s`, `5m12s`, `3h05m`, `2d04h`."""
    if seconds < 0.001:
        return f"{seconds * 1e6:.0f}us"
    if seconds < 0.9995:
        milliseconds = seconds * 1000
        return f"{milliseconds:.0f}ms" if milliseconds >= 9.95 else f"{milliseconds:.1f}ms"
    if seconds < 60:
        return f"{seconds:.1f}s" if seconds < 9.95 else f"{seconds:.0f}s"
    minutes, rest = divmod(int(seconds), 60)
    if minutes < 60:
        return f"{minutes}m{rest:02d}s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02d}m" if hours < 24 else f"{hours // 24}d{hours % 24:02d}h"


def count(number: float) -> str:
    """`950`, `12.3k`, `4.5M`."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e4)):
        if number >= size:
            return f"{number / min(size, 1e3 if unit == 'k' else size):.1f}{unit}"
    return f"{number:.0f}"


def size(number: int) -> str:
    """`48M`, `1.2G`."""
    return f"{number / 2**30:.1f}G" if number >= 2**30 else f"{number / 2**20:.0f}M"


def latency(counts: Sequence[int], share: float) -> str:
    """A quantile of latencies; `-` where there are none."""
    found = quantile(counts, share)
    return "-" if found is None else duration(found / 1e9)


# --- tables -----------------------------------------------------------------------------------------------------------


def table(lines: Sequence[Row]) -> str:
    """Columns as wide as they need; the first two to the left, numbers to the right."""
    lines = [HEADINGS, *lines]
    widths = [max(len(line[i]) for line in lines) for i in range(len(HEADINGS))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i in (0, 1) else cell.rjust(width) for i, (cell, width) in enumerate(zip(line, widths))
        ).rstrip()
        for line in lines
    )


def rows(status: Status, now_ns: int, before: Status | None = None, passed_s: float = 0.0) -> list[Row]:
    """A row for each worker. With an answer of `passed_s` before, rates and latencies are of that time; else the rate
    is left out, and latencies are since the worker's start."""
    earlier = {worker["pid"]: worker for worker in before["workers"]} if before is not None else {}
    found = []
    for worker in status["workers"]:
        past = earlier.get(worker["pid"])
        counts, rate = worker["latency"], "-"
        if past is not None and passed_s:
            counts = [new - old for new, old in zip(counts, past["latency"])]
            rate = count((worker["requests_total"] - past["requests_total"]) / passed_s)
        found.append(_row(worker, now_ns, counts, rate))
    return found


def _row(worker: dict[str, Any], now_ns: int, counts: Sequence[int], rate: str) -> Row:
    state = worker["state"]
    silent_s = (now_ns - worker["heartbeat_ns"]) / 1e9
    if state in ("ready", "retiring") and silent_s > SILENT_S:
        state = f"silent {duration(silent_s)}"
    return (
        str(worker["pid"]),
        state,
        duration(worker["age_s"]),
        rate,
        count(worker["requests_total"]),
        count(worker["errors"]),
        latency(counts, 0.5),
        latency(counts, 0.99),
        count(worker["requests_active"]),
        count(worker["connections"]),
        duration(worker["lag_ns"] / 1e9) if worker["lag_ns"] else "0",
        size(worker["rss_bytes"]),
    )


def summary(status: Status) -> str:
    """A server in a few lines."""
    workers = status["workers"]
    total = {
        name: sum(worker[name] for worker in workers)
        for name in ("connections", "requests_active", "requests_total", "errors", "rss_bytes")
    }
    states: dict[str, int] = {}
    for worker in workers:
        states[worker["state"]] = states.get(worker["state"], 0) + 1
    shown = ", ".join(f"{number} {state}" for state, number in states.items()) or "none"
    return "\n".join(
        [
            f"supervisor  {status['pid']}, {status['phase']}",
            f"listening   {', '.join(status['listening'])}",
            f"workers     {shown}; {status['target']} wanted; {status['restarts']} died",
            f"requests    {count(total['requests_active'])} active, {count(total['requests_total'])} in all, "
            f"{count(total['errors'])} errors",
            f"connections {count(total['connections'])}",
            f"memory      {size(total['rss_bytes'])}, pages that workers share counted in each",
        ]
    )


def frame(status: Status, now_ns: int, before: Status | None, passed_s: float) -> str:
    """One picture of the screen."""
    rate = "-"
    counts = [sum(each) for each in zip(*(worker["latency"] for worker in status["workers"]))]
    if before is not None and passed_s:
        rows_before = {worker["pid"]: worker for worker in before["workers"]}
        pairs = [(worker, rows_before[worker["pid"]]) for worker in status["workers"] if worker["pid"] in rows_before]
        rate = count(sum(new["requests_total"] - old["requests_total"] for new, old in pairs) / passed_s)
        counts = [
            sum(new["latency"][i] - old["latency"][i] for new, old in pairs) for i in range(len(counts))
        ]
    head = (
        f"fastasgi [{status['pid']}] {status['phase']}  {' '.join(status['listening'])}\n"
        f"{counted(len(status['workers']))} of {status['target']}, {status['restarts']} died  "
        f"{rate} requests/s, p50 {latency(counts, 0.5)}, p99 {latency(counts, 0.99)}\n"
    )
    return f"{head}\n{table(rows(status, now_ns, before, passed_s))}\n"


# --- the screen -------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _terminal(keys: IO[str], out: IO[str]) -> Iterator[None]:
    """Keys one by one, and the other screen of the terminal; everything as before behind it."""
    before = termios.tcgetattr(keys)
    try:
        tty.setcbreak(keys)
        out.write("\x1b[?1049h\x1b[?25l")
        yield
    finally:
        out.write("\x1b[?25h\x1b[?1049l")
        out.flush()
        termios.tcsetattr(keys, termios.TCSADRAIN, before)


def watch(ask: Callable[[], Status], keys: IO[str], out: IO[str]) -> None:
    """Show the workers, once a second, until q. Where that is no terminal: one picture, of one second."""
    if sys.platform == "win32" or not (keys.isatty() and out.isatty()):
        before, began = ask(), time.monotonic()
        time.sleep(PERIOD_S)
        out.write(frame(ask(), time.monotonic_ns(), before, time.monotonic() - began))
        return
    with _terminal(keys, out):
        _renew(ask, keys, out)


def _renew(ask: Callable[[], Status], keys: IO[str], out: IO[str]) -> None:
    before: Status | None = None
    before_s = 0.0
    while True:
        status, now_s = ask(), time.monotonic()
        width, height = shutil.get_terminal_size()
        picture = frame(status, time.monotonic_ns(), before, now_s - before_s)
        lines = [line[:width] for line in picture.split("\n")][: height - 1]
        out.write("\x1b[H" + "".join(f"{line}\x1b[K\r\n" for line in lines) + "\x1b[Jq: quit")
        out.flush()
        before, before_s = status, now_s
        if _quits(keys, now_s + PERIOD_S):
            return


def _quits(keys: IO[str], until_s: float) -> bool:
    """Wait until then; True as soon as q was pressed, or nobody can press it any more."""
    while (left_s := until_s - time.monotonic()) > 0:
        if select.select([keys], [], [], left_s)[0] and os.read(keys.fileno(), 1) in (b"q", b"Q", b""):
            return True
    return False
