"""Where lines of the log leave: a descriptor that is never waited for.

A pipe whose reader sleeps takes nothing more once it is full (64 KiB), and whoever writes to it then stands still: a
server that logs to such a pipe would stop serving because of its log. `Outlet` writes what the descriptor takes and
says how much that was. `ConsoleHandler` is the handler for it: what is not taken waits, up to a bound, and beyond it
lines are dropped and counted.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import socket
import stat
import time
from collections.abc import Callable
from typing import IO, Any

PIPE_BYTES = getattr(select, "PIPE_BUF", 512)
"""What a pipe takes whole or not at all (POSIX), so that lines of several processes do not mix."""

KEEP_BYTES = 256 * 1024
"""What may wait for a reader; above it lines are dropped."""

EXIT_WAIT_S = 1.0
"""How long the end of the process waits for a reader that is late."""

_MSG_DONTWAIT = getattr(socket, "MSG_DONTWAIT", 0)


class Outlet:
    """A descriptor of the caller's, written to without waiting. `close()` lets go of what was opened for it."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._own_fd = -1
        self._socket: socket.socket | None = None
        self._write: Callable[[bytes], int] = self._write_file
        mode = os.fstat(fd).st_mode
        self.can_block = False
        self._is_pipe = False
        if stat.S_ISSOCK(mode):
            self._socket = socket.socket(fileno=os.dup(fd))
            self._write = self._write_socket
            self.can_block = True
        elif stat.S_ISFIFO(mode) and hasattr(select, "poll"):
            self.can_block = self._is_pipe = True
            self._open_pipe()

    def _open_pipe(self) -> None:
        """A description of our own for the same pipe, which does not block; the one that we were given is shared with
        other processes, whose way of writing is not ours to change."""
        try:
            self._own_fd = os.open(f"/proc/self/fd/{self.fd}", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            self._write = self._write_own
        except OSError:  # no /proc, or a pipe that another user made
            self._poll = select.poll()
            self._poll.register(self.fd, select.POLLOUT)
            self._write = self._write_polled

    def _write_file(self, data: bytes) -> int:
        return os.write(self.fd, data)

    def _write_own(self, data: bytes) -> int:
        return os.write(self._own_fd, data)

    def _write_socket(self, data: bytes) -> int:
        assert self._socket is not None
        return self._socket.send(data, _MSG_DONTWAIT)

    def _write_polled(self, data: bytes) -> int:
        # A pipe that polls as writable takes PIPE_BUF bytes, unless another process is quicker: then this waits.
        if not self._poll.poll(0):
            raise BlockingIOError
        return os.write(self.fd, data)

    def write(self, data: bytes) -> int:
        """Write whole lines; returns the bytes that were taken, perhaps none. Raises `OSError` when nobody reads any
        more."""
        done = 0
        while done < len(data):
            end = len(data)
            if self._is_pipe and end - done > PIPE_BYTES:
                end = data.rfind(b"\n", done, done + PIPE_BYTES) + 1 or done + PIPE_BYTES
            try:
                taken = self._write(data[done:end])
            except BlockingIOError:
                break
            done += taken
        return done

    def wait(self, seconds: float) -> bool:
        """Wait until the descriptor takes more; False when it did not in time."""
        if not self.can_block:
            return True
        poll = select.poll()
        poll.register(self._own_fd if self._own_fd >= 0 else self.fd, select.POLLOUT)
        return bool(poll.poll(max(0.0, seconds) * 1000))

    def write_all(self, data: bytes, seconds: float) -> int:
        """Write, and wait for a late reader in all so long; returns the bytes that were taken."""
        end_s = time.monotonic() + seconds
        done = self.write(data)
        while done < len(data) and self.wait(end_s - time.monotonic()):
            done += self.write(data[done:])
        return done

    def close(self) -> None:
        """Close what was opened for this outlet; the descriptor itself stays."""
        if self._own_fd >= 0:
            os.close(self._own_fd)
            self._own_fd = -1
            self._write = self._write_file
        if self._socket is not None:
            self._socket.close()
            self._socket = None
            self._write = self._write_file

    def __del__(self) -> None:
        self.close()


_late: set[ConsoleHandler] = set()  # handlers whose lines wait for a reader


def flush_late() -> None:
    """Write what waits for readers that were late; a server calls it now and then."""
    for handler in list(_late):
        handler.flush()


class ConsoleHandler(logging.StreamHandler):  # type: ignore[type-arg]
    """A `logging.StreamHandler` that never waits for the reader of a pipe or a socket, and survives its end.

    Lines that are not taken wait, up to `KEEP_BYTES`; more of them are dropped, and one line says how many when the
    reader goes on. Files, terminals and streams without a descriptor are written as `StreamHandler` writes them.
    """

    def __init__(self, stream: IO[str] | None = None) -> None:
        super().__init__(stream)
        self.dropped = 0
        self._waiting = bytearray()
        self._outlet: Outlet | None = None
        self._outlet_of: Any = None

    def _find_outlet(self) -> Outlet | None:
        """The outlet of the present stream, or None when the stream may be written as usual."""
        if self.stream is not self._outlet_of:
            self._outlet_of = self.stream
            self._outlet = None
            try:
                outlet = Outlet(self.stream.fileno())
            except (AttributeError, OSError, ValueError):  # no descriptor behind it
                return None
            if outlet.can_block:
                self._outlet = outlet
        return self._outlet

    def emit(self, record: logging.LogRecord) -> None:
        """Write the line of a record, or keep it until its reader takes it."""
        outlet = self._find_outlet()
        if outlet is None:
            super().emit(record)
            return
        try:
            line = (self.format(record) + self.terminator).encode(
                getattr(self.stream, "encoding", None) or "utf-8", "backslashreplace"
            )
        except RecursionError:
            raise
        except Exception:
            self.handleError(record)
            return
        if len(self._waiting) + len(line) > KEEP_BYTES:
            self.dropped += 1
            return
        self._waiting += line
        self._write_waiting(outlet)

    def _write_waiting(self, outlet: Outlet) -> None:
        try:
            del self._waiting[: outlet.write(bytes(self._waiting))]
            if not self._waiting and self.dropped:
                line = (self.format(self._about_dropped()) + self.terminator).encode("utf-8", "backslashreplace")
                self.dropped = 0
                self._waiting += line[outlet.write(line) :]
        except OSError:  # nobody reads any more
            self.dropped += self._waiting.count(b"\n")
            self._waiting.clear()
        if self._waiting:
            _late.add(self)
        else:
            _late.discard(self)

    def _about_dropped(self) -> logging.LogRecord:
        message = "%d lines of the log were dropped here: their reader did not take them in time"
        return logging.LogRecord("fastasgi.error", logging.WARNING, "", 0, message, (self.dropped,), None)

    def flush(self) -> None:
        """Write what waits, as far as its reader takes it."""
        self.acquire()
        try:
            if self._outlet is None or self.stream is not self._outlet_of:
                super().flush()
            elif self._waiting:
                self._write_waiting(self._outlet)
        finally:
            self.release()

    def close(self) -> None:
        """The last chance for a reader that is late: it has `EXIT_WAIT_S`."""
        self.acquire()
        try:
            outlet, self._outlet, self._outlet_of = self._outlet, None, None
            if outlet is not None:
                with contextlib.suppress(OSError):  # nobody reads any more
                    outlet.write_all(bytes(self._waiting), EXIT_WAIT_S)
                self._forget()
                outlet.close()
        finally:
            self.release()
        super().close()

    def _forget(self) -> None:
        self._waiting.clear()
        _late.discard(self)


def _forget_in_child() -> None:
    """What waits is the parent's to write."""
    for handler in list(_late):
        handler._forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_in_child)
