# cython: freethreading_compatible=True
"""The border between a connection's bytes and its protocol: what every Channel and Handler can be asked.

States of a channel, and who moves it:

    OPEN -> CLOSING         close() with output pending
    OPEN, CLOSING -> LINGERING      close(linger=True), once the output is written
    any -> CLOSED           everything written and closed; abort(); the peer is gone
"""

from libc.stdint cimport uint32_t

from fastasgi._runtime cimport TIMEOUT_LINGER, TIMEOUT_STALL, Member, Timeout


cdef class Handler:
    """What the bytes of one connection mean. Calls never nest: a channel does not call feed() from within feed()."""

    cdef int take_over(self, Handler before, Channel channel, bytes rest, bint saw_eof) except -1:
        """The channel is this handler's from now on, and no more that of `before`, which must live until resumed()
        because its frames may be on the stack; else None. `rest` came behind what that one read, or None; `saw_eof`
        when the peer has ended its side behind it."""
        raise AssertionError("take_over() is for subclasses")

    cdef int feed(self, const char *p, size_t n, object owner) except -1:
        """n bytes came, borrowed until the call returns, unless `owner` is the bytes object that holds them."""
        raise AssertionError("feed() is for subclasses")

    cdef int eof(self) except -1:
        """The peer has ended its side (FIN); ours stays open for the answer."""
        raise AssertionError("eof() is for subclasses")

    cdef int eof_ahead(self) except -1:
        """The peer has ended its side, behind bytes that are not read yet."""
        raise AssertionError("eof_ahead() is for subclasses")

    cdef int writable(self) except -1:
        """Pending output fell to LOW_WATER, or, after the peer had to be waited for, to nothing."""
        raise AssertionError("writable() is for subclasses")

    cdef int resumed(self) except -1:
        """schedule() was called before: go on with bytes kept aside. No application frame is below this call."""
        raise AssertionError("resumed() is for subclasses")

    cdef int lost(self, object error) except -1:
        """The connection is gone, by our wish (error None) or not. The last call."""
        raise AssertionError("lost() is for subclasses")

    cdef int expired(self, Timeout timeout) except -1:
        """A deadline of the channel passed. Returns 1 when an idle connection was closed for it."""
        raise AssertionError("expired() is for subclasses")

    cdef int drain(self) except -1:
        """The worker drains."""
        raise AssertionError("drain() is for subclasses")

    cdef int disconnect(self) except -1:
        """The application is to see its client as gone."""
        raise AssertionError("disconnect() is for subclasses")

    cdef bint wants_input(self) noexcept:
        """False while bytes had better stay in the kernel."""
        return True

    cdef size_t wanted(self) noexcept:
        """Bytes of payload surely to come, 0 when unknown: a channel may read that many into memory of their own."""
        return 0


cdef class Channel(Member):
    """Bytes in and out of one connection. See the subclasses for the sockets, transports and memory beneath."""

    cdef int opened(self) except -1:
        """The connection is there: become a member and make the handler."""
        self.join()
        self.runtime.connection_opened()
        self.handler = self.runtime.handler_factory(self, self.runtime)
        return 0

    cdef int write(self, bytes head, bytes body, bytes end, bint more) except -1:
        """Send the three, each bytes or None, in one system call where possible. They are kept by reference. With
        `more` output may wait for what else comes in this turn of the loop, and leave with it."""
        raise AssertionError("write() is for subclasses")

    cdef bint is_full(self) noexcept:
        """True when the peer takes less than it is given, and HIGH_WATER is passed."""
        return self.pending > HIGH_WATER

    cdef int pause(self) except -1:
        """Stop reading: what the peer sends stays in the kernel."""
        raise AssertionError("pause() is for subclasses")

    cdef int resume(self) except -1:
        """Read again. Never reads within this call."""
        raise AssertionError("resume() is for subclasses")

    cdef int close(self, bint linger) except -1:
        """Close once pending output is written. `linger` when the peer may still be sending: its bytes are read for a
        while, because a reset for unread bytes would take the answer away from it (RFC 9112 section 9.6)."""
        raise AssertionError("close() is for subclasses")

    cdef int abort(self) except -1:
        """Close at once, so that the peer sees a reset and no message looks whole."""
        raise AssertionError("abort() is for subclasses")

    cdef int schedule(self) except -1:
        """Call the handler's resumed() soon, from the loop."""
        raise AssertionError("schedule() is for subclasses")

    cdef bint has_input(self) noexcept:
        """True when bytes of the peer are known to wait."""
        return False

    cdef int take_addresses(self) except -1:
        """Set `client` and `server` once they are needed."""
        return 0

    cdef bint has_trusted_peer(self) except -1:
        """Whether the peer is believed in what it says of its clients. Asked once, because its address stays."""
        if self.trust == TRUST_UNASKED:
            if self.server is None:
                self.take_addresses()
            is_trusted = self.runtime.peers.is_trusted(self.client, self.server)
            self.trust = TRUST_GIVEN if is_trusted else TRUST_DENIED
        return self.trust == TRUST_GIVEN

    cdef int gone(self, object error) except -1:
        """The connection is closed: leave all lists and tell the handler. Does nothing the second time."""
        cdef Handler handler = self.handler
        if self.state == CHANNEL_CLOSED and handler is None:
            return 0
        self.state = CHANNEL_CLOSED
        self.leave()
        self.retired = handler
        self.handler = None
        if handler is not None:
            try:
                handler.lost(error)
            finally:
                self.runtime.connection_closed()
        return 0

    cdef int output_drained(self) except -1:
        """Pending output fell; called by subclasses, see Handler.writable()."""
        if self.handler is not None:
            self.handler.writable()
        return 0

    cdef uint32_t kernel_bytes(self) noexcept:
        """Bytes of output that the kernel holds because the peer has not taken them; 0 where it does not tell."""
        return 0

    cdef void arm_stall(self) noexcept:
        """Output waits: from now on the peer must take some of it. It makes progress long before the kernel has room
        for more, of which it tells only when a third of its buffer, megabytes perhaps, is free."""
        self.untaken = self.kernel_bytes()
        self.arm(TIMEOUT_STALL)

    cdef bint is_taking(self) noexcept:
        """Whether the peer is still taking output, in which the kernel alone has a part; from the second time on, as
        far as it has taken some since the last."""
        cdef uint32_t before = self.untaken
        if self.pending:
            return True         # TIMEOUT_STALL sees to it
        self.untaken = self.kernel_bytes()
        return self.untaken != 0 and self.untaken != before

    cdef int expired(self, Timeout timeout) except -1:
        if timeout == TIMEOUT_LINGER and self.is_taking():
            self.arm(TIMEOUT_LINGER)
            return 0
        if timeout == TIMEOUT_STALL and self.kernel_bytes() != self.untaken:
            self.arm_stall()
            return 0
        if timeout == TIMEOUT_STALL or timeout == TIMEOUT_LINGER:
            return self.abort()
        return self.handler.expired(timeout) if self.handler is not None else 0

    cdef int drain(self) except -1:
        if self.handler is not None:
            self.handler.drain()
        return 0

    cdef int disconnect(self) except -1:
        if self.handler is not None:
            self.handler.disconnect()
        return 0

    cdef int kill(self) except -1:
        return self.abort()
