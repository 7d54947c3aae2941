"""What a process is to the system that runs it: pid file, user and group, service manager, init of a container.

Everything here is called by `launch`, once, in the order in which it has to happen:

    set_umask()             before any file is made
    become_init()           in process 1 of a container: the server goes on in a child
    end_on_sigterm()        until the server handles signals itself
    PidFile.take()          once the sockets are bound, if rights are to be given up then
    Rights.take()           become the user and group of the configuration, before the application is imported
    Notifier                READY=1, RELOADING=1, STOPPING=1, WATCHDOG=1 to systemd
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

from .errors import StartupError
from .logging import server_logger

if sys.platform != "win32":
    import grp
    import pwd

CLOCK_SLACK_S = 2.0
"""Start times are known to a hundredth of a second, the clock that they are compared with to a second."""


# --- pid file ---------------------------------------------------------------------------------------------------------


class PidFile:
    """A file with the process id, for as long as the process lives. `take()` before use; `release()` at the end."""

    def __init__(self, path: str) -> None:
        self.path = os.path.abspath(path)
        self._pid: int | None = None

    def take(self, successor_of: int | None = None) -> None:
        """Write it. Raises `StartupError` where another process that still runs has written it, unless that is
        `successor_of`, whose place this one takes."""
        holder = holder_of(self.path)
        if holder is not None and holder != successor_of:
            raise StartupError(
                f"pid_file {self.path!r} names process {holder}, which is running; stop it, or choose another file"
            )
        self._pid = os.getpid()
        beside = f"{self.path}.{self._pid}"
        try:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(beside)
            fd = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0), 0o644)
            try:
                os.write(fd, f"{self._pid}\n".encode())
            finally:
                os.close(fd)
            os.replace(beside, self.path)  # whoever reads it reads all of it
        except OSError as error:
            raise StartupError(
                f"cannot write pid_file {self.path!r}: {error.strerror}; check that its directory exists and is ours"
            ) from None

    def check(self) -> None:
        """Whether it could be written. Raises `StartupError`."""
        folder = os.path.dirname(self.path)
        if not os.path.isdir(folder):
            raise StartupError(f"cannot write pid_file {self.path!r}: there is no folder {folder!r}; make it first")
        if os.path.isdir(self.path):
            raise StartupError(f"cannot write pid_file {self.path!r}: it is a folder; name a file")
        if not os.access(folder, os.W_OK):
            raise StartupError(f"cannot write pid_file {self.path!r}: {folder!r} is not ours to write to")

    def release(self) -> None:
        """Remove it, if this process wrote it and nobody has since. Where the directory is not ours any more, because
        rights were given up, it is left, and found stale by the next one."""
        if self._pid == os.getpid() and _pid_in(self.path) == self._pid:
            with contextlib.suppress(OSError):
                os.unlink(self.path)
        self._pid = None


def _pid_in(path: str) -> int | None:
    """The process id that a file holds; None where there is none, or something else."""
    try:
        with open(path, encoding="ascii") as file:
            return int(file.read(32))
    except (OSError, ValueError):
        return None


def holder_of(path: str) -> int | None:
    """The running process that has written a pid file; None when it is stale.

    A process that started after the file was written has only got the number of one that ended, as after a restart of
    the machine or the container.
    """
    pid = _pid_in(path)
    if pid is None or pid <= 0 or pid == os.getpid():
        return None
    try:
        os.kill(pid, 0)
    except PermissionError:
        pass  # it runs, as another user
    except (OSError, OverflowError):
        return None
    try:
        written_s = os.stat(path).st_mtime
    except OSError:
        return None
    started_s = _started_s(pid)
    if started_s is not None and started_s > written_s + CLOCK_SLACK_S:
        return None
    return pid


def _started_s(pid: int) -> float | None:
    """When a process started, in Unix time; None where the system does not tell."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
            ticks = int(file.read().rpartition(")")[2].split()[19])
        with open("/proc/stat", encoding="ascii") as file:
            boot_s = next(int(line.split()[1]) for line in file if line.startswith("btime "))
    except (OSError, ValueError, IndexError, StopIteration):
        return None
    return boot_s + ticks / os.sysconf("SC_CLK_TCK")


# --- rights -----------------------------------------------------------------------------------------------------------


def set_umask(umask: int | None) -> None:
    """What files of this process are made without."""
    if umask is not None:
        os.umask(umask)


class Rights:
    """The user and group that a server is to run as: numbers, and the name whose further groups it joins.

    `user` and `group` are names or numbers; without a group it is the user's own. Raises `StartupError` for one that
    is not there.
    """

    def __init__(self, user: str | int | None, group: str | int | None) -> None:
        if sys.platform == "win32" and (user is not None or group is not None):
            raise StartupError("user and group need a POSIX system; leave them out and run the service as that user")
        self.uid: int | None = None
        self.gid: int | None = None
        self.name: str | None = None
        if user is not None:
            entry = _account(user, pwd.getpwuid, pwd.getpwnam, "user")
            self.uid = user if isinstance(user, int) else entry.pw_uid
            if entry is not None:
                self.name, self.gid = entry.pw_name, entry.pw_gid
        if group is not None:
            entry = _account(group, grp.getgrgid, grp.getgrnam, "group")
            self.gid = group if isinstance(group, int) else entry.gr_gid

    @property
    def are_ours(self) -> bool:
        """Whether there is nothing to give up: none are asked for, or the process has them already."""
        return self.uid in (None, _own("geteuid")) and self.gid in (None, _own("getegid"))

    def take(self, sockets: Sequence[socket.socket] = ()) -> None:
        """Become user and group, for good. The files of Unix sockets become theirs, so that they can remove them.
        Raises `StartupError`."""
        if self.are_ours:
            return
        try:
            for sock in sockets:
                self._give(sock)
            if self.name is not None and self.gid is not None:
                os.initgroups(self.name, self.gid)
            elif self.gid is not None:
                os.setgroups([self.gid])
            if self.gid is not None:
                os.setgid(self.gid)
            if self.uid is not None:
                os.setuid(self.uid)
        except PermissionError:
            raise StartupError(
                "not permitted to change user or group; start as root, or leave user and group out"
            ) from None
        if self.uid and _can_return():
            raise StartupError("user was changed, but root's rights came back: refusing to serve")

    def _give(self, sock: socket.socket) -> None:
        name = sock.getsockname()
        if sock.family == socket.AF_UNIX and name and not name.startswith("\0"):
            os.chown(name, -1 if self.uid is None else self.uid, -1 if self.gid is None else self.gid)


def _own(what: str) -> int | None:
    return getattr(os, what)() if hasattr(os, what) else None


def _account(given: str | int, by_number: Any, by_name: Any, what: str) -> Any:
    """The entry of an account; None for a number that has none. Raises `StartupError` for an unknown name."""
    try:
        return by_number(given) if isinstance(given, int) else by_name(given)
    except KeyError:
        if isinstance(given, int):
            return None
        raise StartupError(f"{what}: there is no {what} {given!r} on this machine; check its name") from None


def _can_return() -> bool:
    try:
        os.setuid(0)
    except PermissionError:
        return False
    return True


# --- the service manager ----------------------------------------------------------------------------------------------


class Notifier:
    """Speaks to a service manager as sd_notify(3) does: datagrams of lines to the socket NOTIFY_SOCKET.

    Without that variable every method does nothing. `watchdog_s` is how often `ping()` is due, None for never: half of
    WATCHDOG_USEC, where WATCHDOG_PID is this process, its parent, or not given.
    """

    def __init__(self, environment: dict[str, str] | os._Environ[str] = os.environ) -> None:
        address = environment.get("NOTIFY_SOCKET", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self.watchdog_s: float | None = None
        usec = environment.get("WATCHDOG_USEC", "")
        us = (str(os.getpid()), str(os.getppid()))  # the successor of a server is its child
        is_ours = environment.get("WATCHDOG_PID", us[0]) in us
        if self._address and is_ours and usec.isdecimal() and int(usec):
            self.watchdog_s = int(usec) / 2e6
        self._pinged_s = 0.0
        self._has_failed = False

    def ready(self, status: str = "") -> None:
        """The server is started, or reloaded."""
        self._send("READY=1", f"MAINPID={os.getpid()}", *([f"STATUS={status}"] if status else []))

    def reloading(self) -> None:
        """A restart of all workers begins; `ready()` ends it."""
        self._send("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}", "STATUS=Replacing all workers")

    def stopping(self) -> None:
        """The server begins to end."""
        self._send("STOPPING=1", "STATUS=Shutting down")

    def successor(self, pid: int) -> None:
        """Another process is the service from now on."""
        self._send(f"MAINPID={pid}")

    def status(self, text: str) -> None:
        """A line for people."""
        self._send(f"STATUS={text}")

    def ping(self) -> None:
        """The process is alive; sent only when it is due, so it may be called as often as one likes."""
        if self.watchdog_s is not None and time.monotonic() - self._pinged_s >= self.watchdog_s / 2:
            self._pinged_s = time.monotonic()
            self._send("WATCHDOG=1")

    def _send(self, *lines: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
                sock.setblocking(False)
                sock.sendto("\n".join(lines).encode(), self._address)
        except OSError as error:
            if not self._has_failed:
                self._has_failed = True
                server_logger.warning("cannot tell the service manager (NOTIFY_SOCKET): %s", error.strerror)


# --- signals before the server hears them -----------------------------------------------------------------------------


@contextlib.contextmanager
def end_on_sigterm() -> Iterator[None]:
    """Let SIGTERM raise KeyboardInterrupt within the block, as Ctrl+C does, where nobody handles it: a start that is
    stopped ends cleanly, and process 1, which gets no signal that it does not handle, ends at all."""
    if (
        threading.current_thread() is not threading.main_thread()
        or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
    ):
        yield
        return
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


# --- process 1 --------------------------------------------------------------------------------------------------------


_with_init: list[int] = []  # the process id of our init


def become_init() -> bool:
    """In process 1, as in a container: let the server go on in a child, and be its init here.

    Process 1 has two duties of its own. The kernel gives it every orphan of the container, to wait for when it ends;
    and it gets no signal that it does not handle. The server's own child processes are the application's, so it could
    not tell whom to wait for. So the child serves; this process passes signals on, waits for all that end, and ends as
    the child does. Returns True in the child; False, having done nothing, in any other process than 1, or where there
    are threads already, which a fork would lose.
    """
    if os.getpid() != 1 or threading.active_count() > 1:
        return False
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    child = os.fork()
    if child:
        os._exit(_be_init(child))
    _with_init.append(os.getppid())
    os.setpgid(0, 0)  # Ctrl+C is for the group of the terminal: else the server would get it twice
    if sys.stdin is not None and sys.stdin.isatty():
        os.tcsetpgrp(sys.stdin.fileno(), os.getpgrp())  # SIGTTOU is blocked
    signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return True


def has_own_init() -> bool:
    """Whether `become_init()` has left process 1 behind, which ends when this process does."""
    return bool(_with_init)


def _be_init(child: int) -> int:
    """Pass signals on to the child and wait for everybody; the exit code of the child."""
    everything = signal.valid_signals()
    while True:
        number = signal.sigwait(everything)
        if number != signal.SIGCHLD:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, number)
            continue
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == child:
                code = os.waitstatus_to_exitcode(status)
                return code if code >= 0 else 128 - code
            if not pid:
                break
