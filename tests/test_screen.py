"""The figures as people read them: words for numbers, tables, and a screen on a real terminal."""

import os
import select
import sys
import time

import pytest

from fastasgi import screen
from fastasgi._scoreboard import bucket

MS = 1_000_000


def worker(pid, **figures):
    counts = [0] * 112
    for ns in figures.pop("took", []):
        counts[bucket(ns)] += 1
    return {
        "pid": pid, "state": "ready", "age_s": 75.0, "heartbeat_ns": 10**12, "lag_ns": 2 * MS, "rss_bytes": 50 << 20,
        "connections": 3, "requests_active": 1, "requests_total": 100, "errors": 2, "latency": counts, **figures,
    }  # fmt: skip


def status(*workers, **more):
    listening = ["http://127.0.0.1:8000"]
    return {
        "pid": 1, "phase": "running", "listening": listening, "target": 2, "restarts": 4, "workers": workers, **more,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0us"), (0.00085, "850us"), (0.0012, "1.2ms"), (0.012, "12ms"), (0.9996, "1.0s"), (3.44, "3.4s"),
        (42, "42s"), (312, "5m12s"), (3 * 3600 + 300, "3h05m"), (52 * 3600, "2d04h"),
    ],
)  # fmt: skip
def test_durations(seconds, text):
    assert screen.duration(seconds) == text


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0"), (9999, "9999"), (12_345, "12.3k"), (4_500_000, "4.5M"), (2e9, "2.0G")]
)
def test_counts(number, text):
    assert screen.count(number) == text


@pytest.mark.parametrize(("number", "text"), [(0, "0M"), (48 << 20, "48M"), (1288490188, "1.2G")])
def test_sizes(number, text):
    assert screen.size(number) == text


def cells(row):
    return dict(zip(screen.HEADINGS, row))


def test_a_row_since_the_start():
    (row,) = screen.rows(status(worker(7, took=[10 * MS] * 99 + [500 * MS] * 9)), 10**12)
    found = cells(row)
    assert {name: found[name] for name in ("PID", "STATE", "AGE", "REQ/S", "REQUESTS", "ERRORS", "LAG", "MEMORY")} == {
        "PID": "7", "STATE": "ready", "AGE": "1m15s", "REQ/S": "-", "REQUESTS": "100", "ERRORS": "2", "LAG": "2.0ms",
        "MEMORY": "50M",
    }  # fmt: skip
    assert 8 < float(found["P50"].removesuffix("ms")) < 12
    assert 400 < float(found["P99"].removesuffix("ms")) < 600


def test_rates_and_latencies_are_of_the_time_between():
    before = status(worker(7, took=[500 * MS] * 100), worker(8))
    now = status(worker(7, requests_total=300, took=[500 * MS] * 100 + [MS] * 50), worker(9))
    first, second = map(cells, screen.rows(now, 10**12, before, 2.0))
    assert first["REQ/S"] == "100"
    assert first["P50"].endswith("us") or first["P50"].startswith("1.")
    assert (second["PID"], second["REQ/S"]) == ("9", "-"), "a fresh worker has no past"
    assert "100 requests/s" in screen.frame(now, 10**12, before, 2.0)


def test_a_worker_that_says_nothing():
    rows = screen.rows(status(worker(7), worker(8, state="draining")), 10**12 + 4 * 10**9)
    assert [cells(row)["STATE"] for row in rows] == ["silent 4.0s", "draining"]


def test_a_table_is_in_columns():
    lines = screen.table(screen.rows(status(worker(7), worker(12345, requests_total=1)), 10**12)).splitlines()
    at = lines[0].index("REQUESTS") + len("REQUESTS")
    assert lines[1][:at].endswith("100")
    assert lines[2][:at].endswith("  1")
    assert len({len(line) for line in lines}) == 1


def test_a_summary():
    text = screen.summary(status(worker(7), worker(8, state="draining")))
    assert "1 ready, 1 draining; 2 wanted; 4 died" in text
    assert "2 active, 200 in all, 4 errors" in text
    assert "memory      100M" in text


def test_without_workers():
    assert "none; 2 wanted" in screen.summary(status())
    assert "0 workers of 2" in screen.frame(status(), 0, status(), 1.0)


@pytest.mark.skipif(sys.platform == "win32", reason="no terminals of this kind")
def test_a_real_terminal_is_drawn_on_and_left_as_it_was():
    import pty
    import termios

    leader, follower = pty.openpty()
    before = termios.tcgetattr(follower)
    asked = []

    def ask():
        asked.append(time.monotonic())
        if len(asked) == 2:
            os.write(leader, b"xq")
        return status(worker(7, requests_total=100 * len(asked)))

    with open(follower, closefd=False) as keys, open(follower, "w", closefd=False) as out:
        screen.watch(ask, keys, out)
    seen = ""
    while not seen.endswith("\x1b[?25h\x1b[?1049l"):  # the kernel hands it over in pieces
        assert select.select([leader], [], [], 20)[0], f"it was left as {seen[-100:]!r}"
        seen += os.read(leader, 65536).decode()
    assert termios.tcgetattr(follower) == before
    os.close(leader)
    os.close(follower)
    assert len(asked) == 2
    assert asked[1] - asked[0] >= 0.9 * screen.PERIOD_S
    assert seen.startswith("\x1b[?1049h\x1b[?25l\x1b[H")
    assert "99" in seen or "100 requests/s" in seen
