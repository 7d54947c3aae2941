# cython: freethreading_compatible=True
"""A Channel over an asyncio transport: the same job as `_socket`, for loops and platforms without it.

The transport buffers what the kernel does not take; `pending` follows its size, so that the application waits at the
same marks on both bodies. The transport's own marks are set by us: uvloop's default for the lower one is 16 bytes.

Each write of a transport is a system call, and under TLS a record too: neither asyncio nor uvloop joins several. So
output is gathered here first, up to HIGH_WATER, and leaves as one: at the end of the call that brought bytes, or, what
may wait for more (`more`) and was written outside of one, behind what this turn of the loop still runs.
"""

import os
import select
import socket
import struct

cimport cython
from cpython.bytes cimport PyBytes_GET_SIZE
from libc.stdint cimport uint32_t

from fastasgi._channel cimport (
    CHANNEL_CLOSED, CHANNEL_CLOSING, CHANNEL_LINGERING, CHANNEL_OPEN, HIGH_WATER, LOW_WATER, Channel,
)
from fastasgi._live cimport count_live
from fastasgi._proxied cimport ProxyHeader
from fastasgi._response cimport error_reply
from fastasgi._runtime cimport PHASE_WRITE, TIMEOUT_LINGER, TIMEOUT_STALL, Runtime, Timeout
from fastasgi.fa cimport fa_unsent
from fastasgi.tls import extension_of

cdef enum:
    TLS_PIECE = 64 * 1024       # of what is given to be encrypted at once

cdef bytes RESET = struct.pack("ii", 1, 0)      # struct linger: on, 0 s


@cython.final
cdef class TransportChannel(Channel):
    """One connection as an asyncio.Protocol. Whoever has reserved a place for it among `max_connections` gives
    `made`, which is called when it takes it; `proxied` is the PROXY header that was read of it."""

    def __init__(self, Runtime runtime not None, made=None, ProxyHeader proxied=None):
        self.runtime = runtime
        self.made = made
        self.proxied = proxied

    # --- asyncio.Protocol ---------------------------------------------------------------------------------------------

    def connection_made(self, transport):
        """The loop has accepted a connection."""
        self.runtime.refresh()
        self.transport = transport
        self.can_end = transport.can_write_eof()
        encrypted = transport.get_extra_info("ssl_object")
        if encrypted is not None:
            self.scheme = "https"
            self.tls = extension_of(encrypted, self.runtime.config.ssl_certificate)
        transport.set_write_buffer_limits(high=HIGH_WATER, low=LOW_WATER)
        sock = transport.get_extra_info("socket")
        if sock is not None and sock.family in (socket.AF_INET, socket.AF_INET6):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        made, self.made = self.made, None
        if made is None and (
                self.runtime.counts.connections >= self.runtime.max_connections and not self.runtime.close_idle()):
            # The loop's own server accepts without asking: what is too much cannot wait in the backlog.
            self.state = CHANNEL_CLOSED
            transport.write(error_reply(503, "Service Unavailable", self.runtime.block, False))
            transport.close()
            return
        if self.proxied is not None:
            self.take_addresses()
            self.proxied.apply_to(self)
            self.proxied = None
        self.opened()
        if made is not None:
            made()      # behind opened(): there is no moment in which nobody counts it
        if self.runtime.closes_idle:
            # A handshake that ended too late, perhaps with a request behind it, which is read first.
            self.runtime.loop.call_soon(self._drain)

    def data_received(self, bytes data not None):
        """Bytes came. Lingering connections drop them."""
        cdef const char *p = data
        if self.state != CHANNEL_OPEN or not data:
            return
        self.runtime.refresh()
        self.is_batch = True
        try:
            self.handler.feed(p, len(data), data)
            self._end_batch()
        except (SystemExit, KeyboardInterrupt) as error:
            self._exit(error)
        except Exception as error:
            self.runtime.guard(self, error)

    def eof_received(self):
        """FIN; True keeps our side open for the answer."""
        self.runtime.refresh()
        self.saw_eof = True
        if self.state == CHANNEL_LINGERING:
            self.transport.close()
        elif self.state == CHANNEL_OPEN:
            self.is_batch = True
            try:
                self.handler.eof()
                self._end_batch()       # before the loop closes a transport that cannot end one side alone
            except Exception as error:
                self.runtime.guard(self, error)
        return self.can_end

    def connection_lost(self, error):
        """The connection is closed, by whomever."""
        self.runtime.refresh()
        self.transport = None
        self.gathered = None
        self.pending = 0
        self.gone(error)

    def pause_writing(self):
        """The transport's buffer passed HIGH_WATER; write() has seen it already."""

    def resume_writing(self):
        """The transport's buffer fell to LOW_WATER."""
        self.runtime.refresh()
        if self.transport is None:
            return
        self._measure()
        if not self.pending:
            self.disarm(PHASE_WRITE)
        if self.state == CHANNEL_CLOSING and self.tls is not None:
            self.runtime.loop.call_soon(self._close_tls)
        self.output_drained()       # low enough; nothing tells when it is empty

    # --- the handler's calls ------------------------------------------------------------------------------------------

    cdef int write(self, bytes head, bytes body, bytes end, bint more) except -1:
        if self.state != CHANNEL_OPEN or self.transport is None:
            return 0
        for part in (head, body, end):
            if part:
                if self.gathered is None:
                    self.gathered, self.gathered_bytes = [], 0
                self.gathered.append(part)
                self.gathered_bytes += PyBytes_GET_SIZE(part)
        if self.gathered is None:
            return 0
        if self.gathered_bytes > HIGH_WATER or not (more or self.is_batch):
            return self._flush()
        return 0 if self.is_batch else self._defer()

    cdef int _end_batch(self) except -1:
        """The call that brought bytes ends: what it wrote leaves."""
        self.is_batch = False
        return self._flush()

    cdef int _defer(self) except -1:
        """Write what is gathered behind what this turn of the loop still runs."""
        cdef list gathering = self.runtime.gathering
        if not self.is_deferred:
            self.is_deferred = True
            if not gathering:
                self.runtime.loop.call_soon(flush_gathered, self.runtime)
            gathering.append(self)
        return 0

    cdef int _flush(self) except -1:
        """Give the transport what was gathered, in one write."""
        cdef list parts = self.gathered
        if parts is None or self.transport is None:
            return 0
        self.gathered = None
        data = <bytes>parts[0] if len(parts) == 1 else b"".join(parts)
        if self.tls is not None and len(data) > TLS_PIECE:
            self._write_pieces(data)
        else:
            self.transport.write(data)
        self._measure()
        if self.pending and self.deadlines[PHASE_WRITE].next == NULL:
            self.arm_stall()
        return 0

    cdef int _write_pieces(self, bytes data) except -1:
        """What is encrypted leaves our sight: the loop hands it to the transport beneath, whose buffer nobody tells of.
        Given piece by piece it stops doing so once that is full, and the rest counts as pending."""
        cdef Py_ssize_t at
        view = memoryview(data)
        for at in range(0, len(data), TLS_PIECE):
            self.transport.write(view[at:at + TLS_PIECE])
        return 0

    cdef int _measure(self) except -1:
        self.pending = self.transport.get_write_buffer_size()
        return 0

    cdef uint32_t kernel_bytes(self) noexcept:
        cdef int fd = -1
        try:
            fd = self.transport.get_extra_info("socket").fileno()
        except (AttributeError, OSError, ValueError):
            pass        # no transport or no socket beneath it, or one that is closed: nothing is held
        return fa_unsent(fd)

    cdef int expired(self, Timeout timeout) except -1:
        """A stalled transport may have made progress that nobody told of: look before judging."""
        cdef size_t before = self.pending
        if timeout == TIMEOUT_STALL and self.transport is not None:
            self._measure()
            if not self.pending:
                return 0
            if self.pending < before:
                self.arm_stall()
                return 0
        if timeout == TIMEOUT_LINGER and self.transport is not None:
            self._measure()
            # The peer may still be taking the answer: TIMEOUT_STALL bounds that, or, with TLS, the loop's own timeout.
            if self.pending or (self.tls is not None and self.kernel_bytes()):
                self.arm(TIMEOUT_LINGER)
                return 0
        return Channel.expired(self, timeout)

    cdef int pause(self) except -1:
        if not self.is_paused and self.transport is not None:
            self.is_paused = True
            self.transport.pause_reading()
        return 0

    cdef int resume(self) except -1:
        if self.is_paused and self.transport is not None:
            self.is_paused = False
            self.transport.resume_reading()
        return 0

    cdef int close(self, bint linger) except -1:
        if self.state != CHANNEL_OPEN or self.transport is None:
            return 0
        self._flush()
        self.state = CHANNEL_CLOSING
        # Behind its FIN the client sends no more, and asyncio would no longer hold a transport that does not read.
        self.wants_lingering = linger and self.can_end and not self.saw_eof
        return self._finish()

    cdef int _finish(self) except -1:
        """The transport writes what it holds before it ends our side."""
        if self.tls is not None:
            return self._end_tls()
        if not self.wants_lingering:
            self.transport.close()
            return 0
        self.state = CHANNEL_LINGERING
        try:
            self.transport.write_eof()
        except (OSError, RuntimeError):
            return self.abort()     # the peer has reset the connection already
        self.resume()
        if self.pending:
            self.arm_stall()
        self.arm(TIMEOUT_LINGER)
        return 0

    cdef int _end_tls(self) except -1:
        """The transport says close_notify behind what it holds, drops what still comes, and waits for the peer's. A
        peer that does not answer has LINGER_S; one that is slow to read first gets its answer: the loop would cut it
        off. Done once: asyncio's transport takes itself apart at a second close(), and cannot even be aborted then."""
        if self.pending > HIGH_WATER or self.has_closed_tls:
            return 0        # resume_writing() comes back, unless TIMEOUT_STALL ends it
        self.has_closed_tls = True
        self.transport.close()
        self.arm(TIMEOUT_LINGER)
        return 0

    def _close_tls(self):
        if self.transport is not None:
            self._end_tls()

    def _drain(self):
        if self.handler is not None:
            self.handler.drain()

    cdef int abort(self) except -1:
        if self.state == CHANNEL_CLOSED:
            return 0
        if self.state == CHANNEL_OPEN:
            self._flush()       # what the application has sent is on its way before the reset
        transport = self.transport
        if transport is not None:
            sock = transport.get_extra_info("socket")
            if self.state != CHANNEL_LINGERING and sock is not None:
                try:
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                except OSError:
                    pass    # already closed beneath us
            transport.abort()
        self.pending = 0
        return self.gone(None)

    cdef int schedule(self) except -1:
        if not self.is_scheduled:
            self.is_scheduled = True
            self.runtime.loop.call_soon(self._run)
        return 0

    cdef bint has_input(self) noexcept:
        """Also an end of the peer's that the loop has not told of yet: it will, and that closes too."""
        try:
            return self.transport is not None and is_readable(self.transport.get_extra_info("socket"))
        except (OSError, ValueError):
            return False            # closed beneath us

    cdef int _exit(self, object error) except -1:
        """The application ends the process: from a callback of its own, because uvloop lets nothing out of those of a
        transport."""
        self.runtime.loop.call_soon(_raise, error)
        return self.abort()

    def _run(self):
        self.is_scheduled = False
        if self.handler is not None:
            self.runtime.refresh()
            self.is_batch = True
            try:
                self.handler.resumed()
                self._end_batch()
            except (SystemExit, KeyboardInterrupt) as error:
                self._exit(error)
            except Exception as error:
                self.runtime.guard(self, error)

    cdef int take_addresses(self) except -1:
        if self.transport is not None:
            self.client = as_address(self.transport.get_extra_info("peername"))
            self.server = as_address(self.transport.get_extra_info("sockname"))
        return 0


def _raise(error):
    """The loop's callback for an exit."""
    raise error


def flush_gathered(Runtime runtime not None):
    """Write what the channels of a worker have gathered outside of a batch: the loop's callback."""
    cdef TransportChannel channel
    cdef list channels = runtime.gathering
    runtime.gathering = []
    runtime.refresh()
    for channel in channels:
        channel.is_deferred = False
        try:
            channel._flush()
        except Exception as error:
            runtime.guard(channel, error)


cdef bint is_readable(object sock) except -1:
    """The kernel holds something of the peer for this socket."""
    if sock is None:
        return False
    if hasattr(select, "poll"):
        poll = select.poll()
        poll.register(sock.fileno(), select.POLLIN)
        return bool(poll.poll(0))
    return bool(select.select([sock.fileno()], [], [], 0)[0])


cpdef object as_address(object name):
    """A socket name as (host, port), (path, None) for a named Unix socket, or None."""
    if isinstance(name, (tuple, list)) and len(name) >= 2:
        return str(name[0]), int(name[1])
    if isinstance(name, (str, bytes)) and name:
        text = os.fsdecode(name)
        return ("@" + text[1:] if text[0] == "\0" else text), None     # "@": an abstract name (Linux)
    return None


count_live(TransportChannel)
