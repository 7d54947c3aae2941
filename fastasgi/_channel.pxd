"""The border between a connection's bytes and its protocol.

A `Channel` carries bytes for one `Handler`: it reads when it may, writes what it is given, keeps deadlines, closes.
A `Handler` says what the bytes mean. Each holds the other until the connection is lost; then both let go.
"""

from libc.stdint cimport uint32_t

from fastasgi._runtime cimport Member, Phase, Runtime, Timeout


cdef enum:
    KIB = 1024
    HIGH_WATER = 64 * KIB       # bytes of pending output above which the application waits
    LOW_WATER = 16 * KIB        # bytes at which it goes on


cdef enum ChannelState:
    CHANNEL_OPEN = 0
    CHANNEL_CLOSING = 1         # close() was called; pending output is still to be written
    CHANNEL_LINGERING = 2       # our side is shut; the peer's bytes are read and dropped, for a bounded time
    CHANNEL_CLOSED = 3


ctypedef int Trust
cdef enum:
    TRUST_UNASKED = 0
    TRUST_GIVEN = 1             # the peer is one of forwarded_allow_ips
    TRUST_DENIED = 2


cdef class Handler:
    cdef int take_over(self, Handler before, Channel channel, bytes rest, bint saw_eof) except -1
    cdef int feed(self, const char *p, size_t n, object owner) except -1
    cdef int eof(self) except -1
    cdef int eof_ahead(self) except -1
    cdef int writable(self) except -1
    cdef int resumed(self) except -1
    cdef int lost(self, object error) except -1
    cdef int expired(self, Timeout timeout) except -1
    cdef int drain(self) except -1
    cdef int disconnect(self) except -1
    cdef bint wants_input(self) noexcept
    cdef size_t wanted(self) noexcept


cdef class Channel(Member):
    cdef Handler handler        # None once the connection is gone
    cdef Handler retired        # the same then: calls into it may still be on the stack
    cdef str scheme             # "http", "https"
    cdef dict tls               # the ASGI extension, copied into each scope; None in clear text
    cdef object client          # (host, port), (path, None) or None; take_addresses() sets both
    cdef object server
    cdef bytes log_client       # "host:port" for access lines, or None until the first
    cdef ChannelState state
    cdef Trust trust            # in what the peer says of others; has_trusted_peer() tells
    cdef bint is_paused         # reading is paused by the handler
    cdef bint has_unread        # bytes were left in the kernel, because the handler did not want them; resume() reads
    cdef uint32_t untaken       # kernel_bytes() when TIMEOUT_STALL was armed, or is_taking() asked
    cdef size_t pending         # bytes of output taken over and not yet handed to the kernel (or transport)

    cdef int opened(self) except -1
    cdef int write(self, bytes head, bytes body, bytes end, bint more) except -1
    cdef bint is_full(self) noexcept
    cdef int pause(self) except -1
    cdef int resume(self) except -1
    cdef int close(self, bint linger) except -1
    cdef int abort(self) except -1
    cdef int schedule(self) except -1
    cdef bint has_input(self) noexcept
    cdef int take_addresses(self) except -1
    cdef bint has_trusted_peer(self) except -1
    cdef int gone(self, object error) except -1
    cdef uint32_t kernel_bytes(self) noexcept
    cdef void arm_stall(self) noexcept
    cdef bint is_taking(self) noexcept
    cdef int output_drained(self) except -1
