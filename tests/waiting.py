"""Waiting for what other threads and processes do, and a look at what this one holds open."""

import contextlib
import os
import time

PATIENCE_S = 20.0


def until(condition, what):
    """Ask until it is so; bounded. What it was asked for, and found. `what` is told else: a text, or what makes one."""
    end = time.monotonic() + PATIENCE_S
    while not (found := condition()):
        assert time.monotonic() < end, f"not within {PATIENCE_S} s: {what() if callable(what) else what}"
        time.sleep(0.01)
    return found


def open_fds():
    """The descriptors of this process, with what each is; None where /proc is missing."""
    try:
        names = os.listdir("/proc/self/fd")
    except OSError:
        return None
    found = {}
    for name in names:
        with contextlib.suppress(OSError):
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
    return found
