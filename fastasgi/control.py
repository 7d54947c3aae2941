"""The control socket: a supervisor is asked and told over a Unix socket that only its user can open.

Both sides send one JSON object a line. A request names the version of the protocol and what to do; each gets one
answer, in order, and a connection may carry many:

    {"v": 1, "do": "status"}            {"v": 1, "ok": true, "result": {...}}
    {"v": 1, "do": "scale", "count": 4} {"v": 1, "ok": true, "result": null}
    {"v": 1, "do": "tea"}               {"v": 1, "ok": false, "error": "no such command: 'tea'"}

Commands: status, reload, stop, scale (with count), dump-stacks. The socket has mode 0600. By default it lies in a
folder of the user's own, named by the process id, so that `fastasgi ctl` finds it without being told.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from glob import glob
from typing import Any, Protocol

from .errors import FastasgiError, StartupError
from .logging import server_logger

VERSION = 1
AUTO = "auto"
MAX_REQUEST_BYTES = 64 * 1024
RETRY_S = 0.01
ANSWER_S = 5.0
"""How long a client may take to read its answer."""

TIMEOUT_S = 15.0
"""How long a client waits for an answer: the stacks of workers that hang take a while."""


class ControlError(FastasgiError):
    """The server cannot be asked, or refuses; one sentence for people."""


class Loop(Protocol):
    """What is needed of the loop that serves the socket."""

    def add_reader(self, watched: Any, callback: Callable[[], object]) -> object: ...
    def remove_reader(self, watched: Any) -> object: ...
    def call_later(self, delay_s: float, callback: Callable[[], object]) -> Any: ...


class Steered(Protocol):
    """What is steered: a `Supervisor`."""

    def status(self) -> dict[str, Any]: ...
    def reload(self) -> None: ...
    def stop(self) -> None: ...
    def scale(self, count: int) -> None: ...
    def dump_stacks(self) -> dict[int, str]: ...


# --- where ------------------------------------------------------------------------------------------------------------


def own_folder() -> str:
    """The folder for sockets of this user: in /run where we may, as the user's session has it, or the temporary one."""
    session = os.environ.get("XDG_RUNTIME_DIR")
    if os.geteuid() == 0:
        return "/run/fastasgi"
    if session and os.access(session, os.W_OK):
        return os.path.join(session, "fastasgi")
    return os.path.join(tempfile.gettempdir(), f"fastasgi-{os.geteuid()}")


def folders() -> list[str]:
    """Where to look for servers: in our own folder, and for root in those of all users."""
    found = [own_folder()]
    if os.geteuid() == 0:
        found += [*glob("/run/user/*/fastasgi"), *glob(os.path.join(tempfile.gettempdir(), "fastasgi-*"))]
    return [folder for folder in dict.fromkeys(found) if is_safe(folder)]


def is_safe(folder: str) -> bool:
    """Whether nobody but its owner, who is us unless we are root, can put something into a folder."""
    try:
        found = os.lstat(folder)
    except OSError:
        return False
    is_ours = os.geteuid() in (found.st_uid, 0)
    return stat.S_ISDIR(found.st_mode) and is_ours and not found.st_mode & 0o022


def _own_path() -> str:
    """A path of our own in our own folder. Raises `OSError` where that is not to be had."""
    folder = own_folder()
    with contextlib.suppress(FileExistsError):
        os.mkdir(folder, 0o700)
    if not is_safe(folder):
        raise OSError(f"{folder} is not ours alone")
    return os.path.join(folder, f"{os.getpid()}.sock")


# --- the server's side ------------------------------------------------------------------------------------------------


class ControlSocket:
    """Serves the socket in the supervisor's loop until `close()`. With `takes_over` it takes the place of one in use,
    that of the server which this one succeeds. Raises `StartupError` where it cannot be made, unless its place is our
    own choice."""

    def __init__(self, loop: Loop, steered: Steered, path: str | None, *, takes_over: bool = False) -> None:
        self._loop, self._steered = loop, steered
        self._listener: socket.socket | None = None
        self._peers: set[_Peer] = set()
        self._made: tuple[int, int, int] | None = None
        self.path = ""
        if path is None or not hasattr(socket, "AF_UNIX"):
            return
        try:
            self.path = _own_path() if path == AUTO else os.path.abspath(path)
            self._listen(takes_over)
        except OSError as error:
            if path != AUTO:
                reason = error.strerror or str(error)
                raise StartupError(f"cannot listen on control_socket {self.path!r}: {reason}") from None
            server_logger.debug("no control socket: %s", error)

    def _listen(self, takes_over: bool) -> None:
        place = self.path
        if takes_over and _is_in_use(self.path):  # and answers until ours is there
            place = os.path.join(os.path.dirname(self.path), f".{os.getpid()}.sock")
        remove_stale(place)
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            before = os.umask(0o177)  # nobody gets in between bind and chmod
            try:
                sock.bind(place)
            finally:
                os.umask(before)
            found = os.stat(place)
            self._made = (os.getpid(), found.st_dev, found.st_ino)
            sock.listen(16)
            sock.setblocking(False)
            if place != self.path:
                os.rename(place, self.path)
        except OSError:
            sock.close()
            raise
        self._listener = sock
        self._loop.add_reader(sock, self._accept)

    def _accept(self) -> None:
        assert self._listener is not None
        with contextlib.suppress(BlockingIOError, ConnectionError):
            self._peers.add(_Peer(self._loop, self._listener.accept()[0], self.answer, self._peers.discard))

    def answer(self, line: bytes) -> dict[str, Any]:
        """Do what a line asks for."""
        try:
            request = json.loads(line)
            if not isinstance(request, dict) or request.get("v") != VERSION:
                raise ValueError(f"expected an object with 'v': {VERSION}, the version of the protocol")
            return {"v": VERSION, "ok": True, "result": self._do(request)}
        except (ValueError, UnicodeDecodeError) as error:
            return {"v": VERSION, "ok": False, "error": str(error)}

    def _do(self, request: dict[str, Any]) -> Any:
        what = request.get("do")
        if what == "status":
            return self._steered.status()
        if what == "dump-stacks":
            return {str(pid): text for pid, text in self._steered.dump_stacks().items()}
        if what == "reload":
            return self._steered.reload()
        if what == "stop":
            return self._steered.stop()
        if what == "scale":
            count = request.get("count")
            if not isinstance(count, int) or isinstance(count, bool) or count < 1:
                raise ValueError(f"scale: expected a count of at least 1, got {count!r}")
            return self._steered.scale(count)
        raise ValueError(f"no such command: {what!r}")

    def close(self) -> None:
        """Stop serving, and remove the file, if it is still ours."""
        if self._listener is not None:
            self._loop.remove_reader(self._listener)
        for peer in list(self._peers):
            peer.close()
        self.forget()
        made, self._made = self._made, None
        if made is not None and made[0] == os.getpid():
            with contextlib.suppress(OSError):
                found = os.stat(self.path)
                if (found.st_dev, found.st_ino) == made[1:]:
                    os.unlink(self.path)

    def forget(self) -> None:
        """In a process just forked: close our copies."""
        for peer in self._peers:
            peer.sock.close()
        if self._listener is not None:
            self._listener.close()
            self._listener = None


class _Peer:
    """One client of the control socket. It never holds the supervisor up."""

    def __init__(
        self,
        loop: Loop,
        sock: socket.socket,
        answer: Callable[[bytes], dict[str, Any]],
        gone: Callable[[_Peer], object],
    ) -> None:
        self.sock = sock
        self._loop, self._answer, self._gone = loop, answer, gone
        self._seen = b""
        self._pending = b""
        self._due_s = 0.0
        sock.setblocking(False)
        loop.add_reader(sock, self._read)

    def _read(self) -> None:
        try:
            data = self.sock.recv(4096)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        *lines, self._seen = (self._seen + data).split(b"\n")
        for line in lines:
            self._pending += json.dumps(self._answer(line)).encode() + b"\n"
        if not data or len(self._seen) > MAX_REQUEST_BYTES:
            self.close()
        elif self._pending:
            self._loop.remove_reader(self.sock)  # one answer at a time
            self._due_s = time.monotonic() + ANSWER_S
            self._write()

    def _write(self) -> None:
        try:
            sent = self.sock.send(self._pending)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._finish()
            return
        self._pending = self._pending[sent:]
        if not self._pending:
            self._loop.add_reader(self.sock, self._read)
        elif time.monotonic() < self._due_s:
            self._loop.call_later(RETRY_S, self._write)
        else:
            self._finish()  # it does not read

    def close(self) -> None:
        """End the connection."""
        self._loop.remove_reader(self.sock)
        self._finish()

    def _finish(self) -> None:
        self.sock.close()
        self._gone(self)


def remove_stale(path: str) -> None:
    """Remove the socket of a server that was killed. Raises `OSError` where it is in use, or no socket."""
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise OSError(f"{path!r} exists and is not a socket")
    except FileNotFoundError:
        return
    if _is_in_use(path):
        raise OSError(f"{path!r} is in use by another server")
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


def _is_in_use(path: str) -> bool:
    """Whether somebody listens on it."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(path)
        except (ConnectionRefusedError, FileNotFoundError):
            return False
    return True


# --- the client's side ------------------------------------------------------------------------------------------------


class Control:
    """A connection to a control socket. Raises `ControlError`."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._sock.settimeout(TIMEOUT_S)
        try:
            self._sock.connect(path)
        except OSError as error:
            self._sock.close()
            raise ControlError(_why_not(path, error)) from None
        self._lines = self._sock.makefile("rb")

    def ask(self, what: str, **more: Any) -> Any:
        """Send one command; its result."""
        try:
            self._sock.sendall(json.dumps({"v": VERSION, "do": what, **more}).encode() + b"\n")
            line = self._lines.readline()
        except OSError as error:
            raise ControlError(f"the server at {self.path!r} does not answer: {error}") from None
        if not line:
            raise ControlError(f"the server at {self.path!r} has ended")
        answer = json.loads(line)
        if not answer["ok"]:
            raise ControlError(f"the server refuses: {answer['error']}")
        return answer["result"]

    def close(self) -> None:
        """Let go of it."""
        self._lines.close()
        self._sock.close()


def _why_not(path: str, error: OSError) -> str:
    if isinstance(error, PermissionError):
        return f"not permitted to use {path!r}; run this as the user of the server, or as root"
    if isinstance(error, (FileNotFoundError, ConnectionRefusedError)):
        return (
            f"no server listens on {path!r}; start one with two workers or more, and --control-socket {path}, "
            "or name the socket of the one that runs with --socket"
        )
    return f"cannot connect to {path!r}: {error.strerror or error}"


def found() -> Iterator[tuple[int, str]]:
    """Process ids and paths of the servers whose sockets we find; those of dead ones are removed."""
    for folder in folders():
        for path in sorted(glob(os.path.join(folder, "*.sock"))):
            name = os.path.basename(path).removesuffix(".sock")
            if not name.isdecimal():
                continue
            try:
                remove_stale(path)
            except OSError:
                if os.path.exists(path):
                    yield int(name), path


def find(pid: int | None = None) -> str:
    """The path of the only server, or of that with this process id. Raises `ControlError`."""
    if not hasattr(socket, "AF_UNIX"):
        raise ControlError("this platform has no Unix sockets; use the signals of the server's process")
    servers = dict(found())
    if pid is not None and pid in servers:
        return servers[pid]
    if pid is not None:
        raise ControlError(f"no server with process id {pid} has a control socket{_listed(servers)}")
    if len(servers) == 1:
        return next(iter(servers.values()))
    if servers:
        raise ControlError(f"several servers run{_listed(servers)}; choose one with --pid")
    raise ControlError(
        "no server with a control socket runs for this user; start one with --workers 2 or more, or name its "
        "socket with --socket PATH"
    )


def _listed(servers: dict[int, str]) -> str:
    return f": {', '.join(map(str, servers))}" if servers else ""
