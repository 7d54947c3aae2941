# cython: freethreading_compatible=True
"""One WebSocket on a channel: frames in and out, pings, the closing handshake; what messages mean, a subclass says.

States (`WireState`) and what moves them:

    OPEN -> CLOSING         close(): our close frame is sent; messages are read and dropped until the client's comes
    OPEN -> CLOSED          the client's close frame, which is answered; fail(); the connection is lost
    CLOSING -> CLOSED       the client's close frame; a failure; timeout_ws_close; the connection is lost

The server closes the connection first (RFC 6455 section 7.1.1). A failure (section 7.1.7) sends its code and does not
wait for an answer.
"""

import logging

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport uint8_t

from fastasgi._frames import FRAME_FAILURES
from fastasgi._frames cimport (
    FRAME_CLOSE, FRAME_MESSAGE, FRAME_NONE, FRAME_PING, FRAME_PONG, FrameParser, encode_close,
    encode_frame, encode_header,
)
from fastasgi._runtime cimport TIMEOUT_WS_CLOSE, TIMEOUT_WS_PING, TIMEOUT_WS_PONG, Timeout
from fastasgi.fa cimport FA_WS_FIN, FA_WS_PING, FA_WS_PONG, FA_WS_RSV1

cdef object logger = logging.getLogger("fastasgi.error")


cdef class WebSocket(Handler):
    """The protocol of one connection behind its opening handshake. Held by its channel until that is lost."""

    # --- what the channel calls -------------------------------------------------------------------------------------

    cdef int take_over(self, Handler before, Channel channel, bytes rest, bint saw_eof) except -1:
        """The channel is ours; `rest` came behind the handshake, or None."""
        self.channel, self.saw_eof, self.before = channel, saw_eof, before
        self.parser = FrameParser(self.runtime.ws_max_bytes, self.deflate)
        channel.arm(TIMEOUT_WS_PING)
        self.tail = rest
        return channel.schedule() if rest is not None or saw_eof or before is not None else 0

    cdef bint wants_input(self) noexcept:
        return not self.is_held and self.tail is None

    cdef int feed(self, const char *p, size_t n, object owner) except -1:
        cdef size_t left
        if self.tail is not None:
            return self._keep_tail(p, n)
        left = self._read(p, n)
        if left:
            self._keep_tail(p + n - left, left)
        self.settle()
        return 0

    cdef int resumed(self) except -1:
        self.before = None
        if self.late_end:
            return self._end_late()
        if self.tail is not None and not self.is_held:
            self._read_tail()
            self.settle()
        if self.channel is None or self.is_held or self.tail is not None:
            return 0
        if self.saw_eof:
            return self.eof()
        if self.channel.is_paused or self.channel.has_unread:
            return self.channel.resume()
        return 0

    cdef int eof(self) except -1:
        """FIN. Without a close frame before it the connection is lost: a WebSocket has no half."""
        if self.late_end:
            self._end_late()
        elif self.tail is not None:
            self.saw_eof = True
            return 0
        self.state = WIRE_CLOSED
        self.ended(1006, "")
        return self.channel.close(False) if self.channel is not None else 0

    cdef int eof_ahead(self) except -1:
        return 0        # what came before it is read first

    cdef int writable(self) except -1:
        cdef bytes late = self.late_pong
        if late is not None:
            self.late_pong = None
            self._pong(late)
        return self.drained()

    cdef int lost(self, object error) except -1:
        if self.late_end:
            self._end_late()        # it tells more than the loss
        self.state = WIRE_CLOSED
        self.channel = None
        self.tail = None
        self.deflate = None
        self.parser.clear()
        return self.ended(1006, "")

    cdef int drain(self) except -1:
        if self.state == WIRE_OPEN:
            self.close(1012, "")
            self.ended(1012, "")
        return 0

    cdef int disconnect(self) except -1:
        return self.drain()

    cdef int expired(self, Timeout timeout) except -1:
        if timeout == TIMEOUT_WS_CLOSE:
            if not self.channel.is_taking():
                return self.channel.abort()
            self.channel.arm(TIMEOUT_WS_CLOSE)      # what came before
            return 0
        if self.state != WIRE_OPEN:
            return 0
        return self._ping() if timeout == TIMEOUT_WS_PING else self._ping_expired()

    # --- bytes in ---------------------------------------------------------------------------------------------------

    cdef size_t _read(self, const char *p, size_t n) except? 0xFFFFFFFF:
        """Read frames until there is no more, or no more is wanted; returns the bytes that are left."""
        cdef FrameParser parser = self.parser
        cdef int event
        while n and not self.is_held and self.state != WIRE_CLOSED:
            event = parser.feed(p, n)
            p += parser.consumed
            n -= parser.consumed
            if event == FRAME_MESSAGE:
                message = parser.take_message()
                if self.state == WIRE_OPEN:
                    self.arrived(message)
            elif event != FRAME_NONE:
                # What came before the end can still be answered, by who waits for it.
                if event >= FRAME_CLOSE and self.settle():
                    self.late_end = event
                    return self.channel.schedule()
                self._control(event)
        return n if self.state != WIRE_CLOSED else 0

    cdef int _end_late(self) except -1:
        """What came before the end has been taken, or never will be."""
        cdef int event = self.late_end
        self.late_end = FRAME_NONE
        self.tail = None        # nothing is read behind the end
        return self._control(event) if self.state != WIRE_CLOSED else 0

    cdef int _keep_tail(self, const char *p, size_t n) except -1:
        """Bytes that cannot be read yet."""
        if self.tail is None:
            self.tail = PyBytes_FromStringAndSize(p, n)
        else:
            self.tail = self.tail[self.tail_at:] + PyBytes_FromStringAndSize(p, n)
        self.tail_at = 0
        return self.channel.pause()

    cdef int _read_tail(self) except -1:
        cdef bytes tail = self.tail
        cdef size_t n = PyBytes_GET_SIZE(tail)
        cdef size_t left = self._read(PyBytes_AS_STRING(tail) + self.tail_at, n - self.tail_at)
        self.tail_at = n - left
        if not left:
            self.tail = None
            self.tail_at = 0
        return 0

    cdef int _control(self, int event) except -1:
        """A control frame, or the end of all frames."""
        cdef FrameParser parser = self.parser
        if event == FRAME_PING:
            return self._pong(parser.payload) if self.state == WIRE_OPEN else 0
        if event == FRAME_PONG:
            if self.ping is not None and parser.payload == self.ping:
                self.round_trip_ns = self.runtime.now_ns - self.ping_ns
                self.ping = None
                if self.state == WIRE_OPEN:
                    self.channel.arm(TIMEOUT_WS_PING)
            return 0
        if event == FRAME_CLOSE:
            return self._closed_by_peer()
        code, name, text = FRAME_FAILURES[parser.failure]
        logger.info("client sent a bad WebSocket frame: %s (%d %s)", text, code, name)
        return self.fail(code, text)

    cdef int _closed_by_peer(self) except -1:
        cdef FrameParser parser = self.parser
        if self.state == WIRE_OPEN:
            self._write(encode_close(parser.close_code, b""))
        self.state = WIRE_CLOSED
        self.ended(parser.close_code, parser.close_reason)
        return self.channel.close(False) if self.channel is not None else 0

    # --- pings ------------------------------------------------------------------------------------------------------

    cdef int _pong(self, bytes payload) except -1:
        """Answer a ping; of those that come while the client reads nothing, only the last (section 5.5.3)."""
        if self.channel is None:
            return 0
        if self.channel.is_full():
            self.late_pong = payload
            return 0
        return self._write(encode_frame(FA_WS_FIN | FA_WS_PONG, PyBytes_AS_STRING(payload), PyBytes_GET_SIZE(payload)))

    cdef int _ping(self) except -1:
        """The interval has passed: give back what an idle connection does not need, and ask for a sign of life."""
        if self.deflate is not None:
            self.deflate.release()
        if not self.runtime.ws_pings:
            self.channel.arm(TIMEOUT_WS_PING)
            return 0
        self.ping_ns = self.runtime.now_ns
        self.ping = self.ping_ns.to_bytes(8, "big")
        self.ping_bytes = self.parser.frame_at
        self.channel.arm(TIMEOUT_WS_PONG if self.runtime.timeouts_ns[TIMEOUT_WS_PONG] else TIMEOUT_WS_PING)
        return self._write(encode_frame(FA_WS_FIN | FA_WS_PING, PyBytes_AS_STRING(self.ping), 8))

    cdef int _ping_expired(self) except -1:
        """No pong. A client cannot answer while we do not read it, while it has not taken what was sent before the ping
        (TIMEOUT_STALL sees to that), or within a long frame, if it goes on with it."""
        if self.is_held or self.tail is not None or self.channel.is_paused or self.channel.is_taking():
            self.channel.arm(TIMEOUT_WS_PONG)
            return 0
        if self.parser.is_within_frame() and self.parser.frame_at != self.ping_bytes:
            self.ping_bytes = self.parser.frame_at
            self.channel.arm(TIMEOUT_WS_PONG)
            return 0
        return self.fail(1011, "keepalive ping timeout")

    # --- what the session calls ---------------------------------------------------------------------------------------

    cdef int send_message(self, uint8_t opcode, const char *p, size_t n, bytes owner) except -1:
        """One message in one frame: n bytes at p, which `owner` holds, or None where they are another object's."""
        cdef uint8_t first = FA_WS_FIN | opcode
        cdef bytes packed
        if self.deflate is not None and n >= self.runtime.ws_deflate_min_bytes:
            packed = self.deflate.compress(owner if owner is not None else PyBytes_FromStringAndSize(p, n))
            owner, p, n, first = packed, PyBytes_AS_STRING(packed), PyBytes_GET_SIZE(packed), first | FA_WS_RSV1
        if owner is not None and n > JOIN_PAYLOAD:
            return self.channel.write(encode_header(first, n), owner, None, True)
        return self.channel.write(encode_frame(first, p, n), None, None, True)

    cdef int close(self, int code, str reason) except -1:
        """Begin the closing handshake. The reason is at most 123 bytes in UTF-8."""
        if self.state != WIRE_OPEN:
            return 0
        self.state = WIRE_CLOSING
        self.channel.arm(TIMEOUT_WS_CLOSE)
        self._write(encode_close(code, reason.encode()))
        return self.release()       # the client's close frame must be read

    cdef int fail(self, int code, str reason) except -1:
        """End the connection with this code, without waiting for the client's (section 7.1.7)."""
        cdef bint was_open = self.state == WIRE_OPEN
        if self.state == WIRE_CLOSED:
            return 0
        self.state = WIRE_CLOSED
        if was_open:
            self._write(encode_close(code, reason.encode()))
        self.ended(code, reason)
        return self.channel.close(True) if self.channel is not None else 0

    cdef int release(self) except -1:
        """Messages were taken: read on."""
        self.is_held = False
        if self.channel is None:
            return 0
        if self.tail is not None:
            return self.channel.schedule()
        if self.channel.is_paused or self.channel.has_unread:
            return self.channel.resume()
        return 0

    cdef int _write(self, bytes frame) except -1:
        """A control frame; it leaves with what else is sent in this turn."""
        return self.channel.write(frame, None, None, True) if self.channel is not None else 0

    # --- given by the subclass --------------------------------------------------------------------------------------

    cdef int arrived(self, object message) except -1:
        """A message came, a str or bytes. Set `is_held` when it is enough."""
        raise AssertionError("arrived() is for subclasses")

    cdef int settle(self) except -1:
        """What came is read: wake who waits for it. The application may run; 1 when it will in a later turn."""
        raise AssertionError("settle() is for subclasses")

    cdef int ended(self, int code, str reason) except -1:
        """No message comes or goes any more; called again for a connection that is lost behind its end."""
        raise AssertionError("ended() is for subclasses")

    cdef int drained(self) except -1:
        """Pending output has fallen."""
        raise AssertionError("drained() is for subclasses")
