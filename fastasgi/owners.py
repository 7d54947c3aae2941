"""Who listens where we would: the processes behind a port or a socket file, as far as /proc shows them.

Linux only, and of other users' processes nothing is seen; elsewhere nobody is found.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

_PROC = "/proc"
_LISTENING = "0A"  # the state of a TCP socket in /proc/net/tcp
_ACCEPTING = "00010000"  # the flag of a Unix socket in /proc/net/unix
_SHOWN = 60


def owner_of_port(port: int) -> str | None:
    """`process 4711 (python -m http.server)`: who listens on a TCP port, on whatever address; None if unknown."""
    inodes = set()
    for table in ("tcp", "tcp6"):
        for fields in _rows(table):
            if fields[3] == _LISTENING and int(fields[1].rpartition(":")[2], 16) == port:
                inodes.add(fields[9])
    return _describe(inodes)


def owner_of_path(path: str) -> str | None:
    """The same for the socket file of a Unix socket."""
    inodes = {
        fields[6]
        for fields in _rows("unix")
        if len(fields) > 7 and fields[3] == _ACCEPTING and fields[7] in (path, os.path.abspath(path))
    }
    return _describe(inodes)


def _rows(table: str) -> Iterator[list[str]]:
    try:
        with open(f"{_PROC}/net/{table}") as file:
            next(file)  # the heading
            for line in file:
                yield line.split()
    except OSError:
        return


def _describe(inodes: set[str]) -> str | None:
    pids = sorted(_holders(inodes)) if inodes else []
    if not pids:
        return None
    # Workers share the socket of the process that made them, which is the one to stop.
    first = next((pid for pid in pids if _parent(pid) not in pids), pids[0])
    if first == os.getpid():
        return "this process"
    command = _command(first)
    others = f" and {len(pids) - 1} more" if len(pids) > 1 else ""
    return f"process {first}{f' ({command})' if command else ''}{others}"


def _holders(inodes: set[str]) -> Iterator[int]:
    links = {f"socket:[{inode}]" for inode in inodes}
    for name in os.listdir(_PROC):
        if name.isdecimal() and not links.isdisjoint(_descriptors(name)):
            yield int(name)


def _descriptors(pid: str) -> Iterator[str]:
    try:
        numbers = os.listdir(f"{_PROC}/{pid}/fd")
    except OSError:  # another user's, or gone
        return
    for number in numbers:
        try:
            yield os.readlink(f"{_PROC}/{pid}/fd/{number}")
        except OSError:
            continue


def _parent(pid: int) -> int | None:
    try:
        with open(f"{_PROC}/{pid}/status") as file:
            found = re.search(r"^PPid:\s*(\d+)", file.read(), re.MULTILINE)
    except OSError:
        return None
    return int(found[1]) if found else None


def _command(pid: int) -> str:
    """The program and what it runs, without its options: a password may be among them."""
    try:
        with open(f"{_PROC}/{pid}/cmdline", "rb") as file:
            program, *words = file.read().decode(errors="replace").rstrip("\0").split("\0")
    except OSError:
        return ""
    shown = [os.path.basename(program)]
    for word in words:
        if word.startswith("-") and word != "-m":
            break
        shown.append(word)
    text = " ".join(shown)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."
