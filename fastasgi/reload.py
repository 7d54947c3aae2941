"""Watching files for `--reload`: which files count, and two ways to hear of a change.

The watcher is a process of its own, because the threads of `watchfiles` must not be where workers are forked. It writes
one JSON list of paths a line, and ends when its reader has gone.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import cache_from_source
from pathlib import Path, PurePath
from typing import Any

from .config import FIELDS, Config
from .logging import server_logger
from .reactor import Reactor

LOOK_AGAIN_S = 1.0
"""How often a watcher sees whether anybody still reads."""

MAX_NAMES = 20
"""Of so many changed files the names are told."""

INCLUDES, EXCLUDES = (FIELDS[name].convert(FIELDS[name].default) for name in ("reload_includes", "reload_excludes"))
"""What counts and does not, besides what the options name. Each goes when the other option names it."""

_VENV_MARK = "pyvenv.cfg"


@dataclass
class FileFilter:
    """Which paths are watched: by the options `reload_dirs`, `reload_includes` and `reload_excludes`.

    The last two add to `INCLUDES` and `EXCLUDES`. An entry of theirs that is a directory stands for all that is in it.
    A pattern is matched against the file, an excluding one also against each directory on the way to it from the
    watched one: `.*` leaves out `.git/x.py`. A file that is included by its name counts whatever it matches.
    """

    directories: list[Path]
    includes: list[str]
    excludes: list[str]
    left_out: list[Path]

    @classmethod
    def of(cls, directories: Sequence[str], includes: Sequence[str], excludes: Sequence[str]) -> FileFilter:
        """From the values of the options; a directory that is not there is left out with a word."""
        watched = []
        for name in directories:
            if Path(name).is_dir():
                watched.append(Path(name).resolve())
            else:
                server_logger.warning("reload: there is no directory %r to watch", name)
        watched += [Path(name).resolve() for name in includes if Path(name).is_dir()]
        added_includes, added_excludes = includes, excludes
        includes = list(dict.fromkeys([name for name in INCLUDES if name not in added_excludes] + [*added_includes]))
        excludes = list(dict.fromkeys([name for name in EXCLUDES if name not in added_includes] + [*added_excludes]))
        return cls(
            directories=_outermost(watched or [Path.cwd()]),
            includes=[name for name in includes if not Path(name).is_dir()],
            excludes=[name for name in excludes if not Path(name).is_dir()],
            left_out=[Path(name).resolve() for name in excludes if Path(name).is_dir()],
        )

    def accepts(self, path: Path) -> bool:
        """Whether a change of this file counts."""
        by = [pattern for pattern in self.includes if path.match(pattern)]
        is_named = any(PurePath(pattern).name == path.name for pattern in by)
        return bool(by) and not self._is_excluded(path.parent if is_named else path)

    def enters(self, directory: Path) -> bool:
        """Whether anything below this directory can count."""
        return not self._is_excluded(directory) and not (directory / _VENV_MARK).exists()

    def _is_excluded(self, path: Path) -> bool:
        if any(path.is_relative_to(directory) for directory in self.left_out):
            return True
        return any(below.match(pattern) for below in self._below(path) for pattern in self.excludes)

    def _below(self, path: Path) -> list[Path]:
        """The path and its parents that are within the watched directory."""
        for directory in self.directories:
            if path.is_relative_to(directory):
                return [p for p in (path, *path.parents) if p != directory and p.is_relative_to(directory)]
        return [path]


def _outermost(directories: list[Path]) -> list[Path]:
    unique = list(dict.fromkeys(directories))
    return [d for d in unique if not any(d != other and d.is_relative_to(other) for other in unique)]


Changes = Iterator[set[Path]]


def poll_changes(wanted: FileFilter, delay_s: float, sleep: Callable[[float], None] = time.sleep) -> Changes:
    """Sets of changed files, by looking at all of them every `delay_s`; an empty set where nothing has changed."""
    before = _modified(wanted)
    while True:
        sleep(max(delay_s, 0.05))
        after = _modified(wanted)
        yield {path for path in before.keys() | after.keys() if before.get(path) != after.get(path)}
        before = after


def _modified(wanted: FileFilter) -> dict[Path, tuple[int, int]]:
    found = {}
    for directory in wanted.directories:
        for folder, folders, files in os.walk(directory):
            here = Path(folder)
            folders[:] = [name for name in folders if wanted.enters(here / name)]
            for name in files:
                path = here / name
                if wanted.accepts(path):
                    with contextlib.suppress(OSError):  # gone meanwhile
                        status = path.stat()
                        found[path] = (status.st_mtime_ns, status.st_size)
    return found


def watch_changes(wanted: FileFilter, delay_s: float, watch: Callable[..., Any]) -> Changes:
    """The same by `watchfiles.watch`, which the kernel tells."""
    for changes in watch(
        *wanted.directories,
        watch_filter=lambda change, path: wanted.accepts(Path(path)),
        debounce=max(1, int(delay_s * 1000)),
        step=50,
        rust_timeout=int(LOOK_AGAIN_S * 1000),
        yield_on_timeout=True,
        raise_interrupt=False,
    ):
        yield {Path(path) for _, path in changes}


def changes_of(wanted: FileFilter, delay_s: float, since_ns: int = 0) -> Changes:
    """By watchfiles where it is installed and works, else by looking. With `since_ns`, a time of files, what has
    changed since then comes first."""
    if since_ns:
        yield {path for path, (modified_ns, _) in _modified(wanted).items() if modified_ns > since_ns}
    try:
        watchfiles = import_module("watchfiles")  # an optional extra
    except ImportError:
        yield from poll_changes(wanted, delay_s)
        return
    try:
        yield from watch_changes(wanted, delay_s, watchfiles.watch)
    except OSError as error:  # out of inotify watches, for one
        server_logger.warning("reload: watchfiles cannot watch (%s); looking at all files every %g s", error, delay_s)
        yield from poll_changes(wanted, delay_s)


def run_watcher(changes: Changes, fd: int) -> None:
    """The life of a watcher: write changes to `fd` until nobody reads, or the parent has gone."""
    parent = os.getppid()
    for changed in changes:
        if os.getppid() != parent:
            return
        if not changed:
            continue
        for path in changed:
            forget_bytecode(path)
        line = json.dumps([str(path) for path in sorted(changed)[:MAX_NAMES]]) + "\n"
        try:
            os.write(fd, line.encode())
        except BrokenPipeError:
            return


def forget_bytecode(path: Path) -> None:
    """Remove what was compiled of a source that has changed. Python takes it for current while size and second of the
    change are the same, and a reload is quicker than that: an editor's second save would be overlooked."""
    if path.suffix == ".py":
        with contextlib.suppress(OSError, NotImplementedError):
            os.unlink(cache_from_source(path))


class Watcher:
    """The watcher's process, as a supervisor sees it. `on_change` gets the paths that have changed."""

    def __init__(self, config: Config, reactor: Reactor, on_change: Callable[[list[str]], object]) -> None:
        self._reactor, self._on_change = reactor, on_change
        self._seen = b""
        told = json.dumps(
            {
                "dirs": config.reload_dirs,
                "includes": config.reload_includes,
                "excludes": config.reload_excludes,
                "delay_s": config.reload_delay,
                "since_ns": time.time_ns(),
            }
        )
        self._popen = subprocess.Popen(
            [sys.executable, "-m", "fastasgi.reload", told], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
        )
        assert self._popen.stdout is not None
        self._reader = self._popen.stdout.fileno()
        reactor.add_reader(self._reader, self._hear)
        watched = FileFilter.of(config.reload_dirs, config.reload_includes, config.reload_excludes).directories
        server_logger.info("Watching for changes in %s", ", ".join(map(str, watched)))

    def _hear(self) -> None:
        data = os.read(self._reader, 65536)
        if not data:
            self.stop()
            server_logger.error("reload: the watcher has ended; changes are no longer seen")
            return
        *lines, self._seen = (self._seen + data).split(b"\n")
        changed = [path for line in lines for path in json.loads(line)]
        if changed:
            self._on_change(changed)

    def stop(self) -> None:
        """Watch no more."""
        if self._reader >= 0:
            self._reactor.remove_reader(self._reader)
            self._popen.kill()
            self._popen.wait()
            self.forget()

    def forget(self) -> None:
        """Close our end; also in a process just forked."""
        self._reader = -1
        assert self._popen.stdout is not None
        self._popen.stdout.close()


def main(arguments: Sequence[str]) -> None:
    """`python -m fastasgi.reload JSON`: the watcher; it writes to its standard output."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # sent to the whole group of a terminal; the supervisor ends us
    told = json.loads(arguments[0])
    wanted = FileFilter.of(told["dirs"], told["includes"], told["excludes"])
    run_watcher(changes_of(wanted, told["delay_s"], told["since_ns"]), 1)


if __name__ == "__main__":
    main(sys.argv[1:])
