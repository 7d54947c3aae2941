# cython: freethreading_compatible=True
"""Access lines: built in C, written in batches; or given to logging where the user has handlers of their own.

A line is `PREFIXclient - "METHOD target HTTP/1.1" 200 OK`. Lines wait at most FLUSH_S in memory, so that a busy worker
makes one system call for many requests.
"""

import http
import os
import select
import socket
import stat

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.mem cimport PyMem_Free, PyMem_Realloc
from libc.string cimport memcpy, memmove

FLUSH_S = 0.1
"""How long a line may wait for others."""

cdef enum:
    FLUSH_BYTES = 32 * 1024         # a fuller buffer is written at once
    KEEP_BYTES = 1024 * 1024        # a reader that does not read loses what is above

PIPE_BYTES = getattr(select, "PIPE_BUF", 512)
MSG_DONTWAIT = getattr(socket, "MSG_DONTWAIT", 0)

cdef list SUFFIXES = [b'" %d\n' % status for status in range(1000)]
for _status in http.HTTPStatus:
    SUFFIXES[_status.value] = b'" %d %b\n' % (_status.value, _status.phrase.encode())


@cython.final
cdef class AccessLog:
    """Access lines of one worker. `fd` >= 0: written there with `prefix`; else given to `logger`."""

    def __init__(self, loop, int fd=-1, bytes prefix=b"", logger=None):
        self.loop, self.fd, self.prefix, self.logger = loop, fd, prefix, logger
        mode = os.fstat(fd).st_mode if fd >= 0 else 0
        if stat.S_ISSOCK(mode):
            self.socket = socket.socket(fileno=os.dup(fd))
        elif stat.S_ISFIFO(mode) and hasattr(select, "poll"):
            self.poll = select.poll()
            self.poll.register(fd, select.POLLOUT)

    def __dealloc__(self):
        PyMem_Free(self.buffer)

    cdef int add(self, bytes client, str method, bytes path, bytes query, int minor, int status) except -1:
        """One request was answered. `client` is "host:port" or b"", `path` and `query` as received."""
        if self.fd >= 0:
            return self._add_line(client, method.encode(), path, query, minor, status)
        if self.logger.isEnabledFor(20):
            target = (path + b"?" + query if query else path).decode("ascii", "replace").replace('"', "%22")
            self.logger.info(
                '%s - "%s %s HTTP/%s" %d', client.decode(), method, target, "1.1" if minor else "1.0", status)
        return 0

    cdef int _add_line(self, bytes client, bytes method, bytes path, bytes query, int minor, int status) except -1:
        cdef bytes suffix = <bytes>SUFFIXES[status]
        cdef size_t longest = 32 + len(self.prefix) + len(client) + len(method) + len(suffix)
        longest += 3 * (len(path) + len(query))
        cdef char *grown
        cdef char *out
        if self.n + longest > self.room:
            grown = <char *>PyMem_Realloc(self.buffer, 2 * (self.n + longest))
            if grown == NULL:
                raise MemoryError
            self.buffer, self.room = grown, 2 * (self.n + longest)
        out = self.buffer + self.n
        out = copied(out, self.prefix)
        out = copied(out, client)
        out = copied(out, b' - "')
        out = copied(out, method)
        out[0] = c" "
        out = quoted(out + 1, path)
        if query:
            out[0] = c"?"
            out = quoted(out + 1, query)
        out = copied(out, b" HTTP/1.1" if minor else b" HTTP/1.0")
        out = copied(out, suffix)
        self.n = out - self.buffer
        if self.n >= FLUSH_BYTES:
            self.flush()
        elif self.timer is None:
            self.timer = self.loop.call_later(FLUSH_S, self.flush)
        return 0

    def flush(self):
        """Write what waits. A reader that has gone, or does not read, loses lines; it never stops the worker."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
        if not self.n:
            return
        cdef size_t written
        try:
            written = self._write()
        except BlockingIOError:
            written = 0
        except OSError:
            written = self.n        # nobody reads any more
            self.dropped += 1
        memmove(self.buffer, self.buffer + written, self.n - written)
        self.n -= written
        if self.n > KEEP_BYTES:
            self.dropped += 1
            self.n = 0
        if self.n:
            self.timer = self.loop.call_later(FLUSH_S, self.flush)

    cdef size_t _write(self) except? 0:
        """Write what can be written without blocking; returns the bytes.

        A pipe or socket is shared with others, so it is left in its blocking mode: a pipe that polls as writable takes
        PIPE_BUF bytes (POSIX), a socket can be asked not to wait.
        """
        cdef size_t done = 0
        data = PyBytes_FromStringAndSize(self.buffer, self.n)
        if self.socket is not None:
            return self.socket.send(data, MSG_DONTWAIT)
        if self.poll is None:
            return os.write(self.fd, data)
        while done < self.n and self.poll.poll(0):
            done += os.write(self.fd, data[done:done + PIPE_BYTES])
        return done


cdef inline char *copied(char *out, bytes data) noexcept:
    memcpy(out, PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))
    return out + PyBytes_GET_SIZE(data)


cdef inline char *quoted(char *out, bytes data) noexcept:
    """Copy a target. Its quotation marks would end the field of the line, so they are escaped; the parser has let
    nothing else pass that could break a line."""
    cdef const char *p = PyBytes_AS_STRING(data)
    cdef Py_ssize_t i
    for i in range(PyBytes_GET_SIZE(data)):
        if p[i] == c'"':
            out[0], out[1], out[2] = c"%", c"2", c"2"
            out += 3
        else:
            out[0] = p[i]
            out += 1
    return out


cdef bytes client_name(object client):
    """A client as it stands in access lines: host:port, or the path of a Unix socket, without control bytes."""
    if client is None:
        return b""
    name = client[0] if client[1] is None else f"{client[0]}:{client[1]}"
    return "".join([c if c.isprintable() else "?" for c in name]).encode("utf-8", "backslashreplace")
