"""Own socket I/O on Linux: one epoll set per worker, registered as a reader of its running event loop."""

from libc.stdint cimport int64_t, uint32_t, uint64_t

from cpython.object cimport PyObject

from fastasgi._channel cimport Channel
from fastasgi._runtime cimport Runtime


cdef extern from "sys/epoll.h" nogil:
    cdef struct epoll_event:
        uint32_t events
        uint64_t u64 "data.u64"


cdef enum:
    READ_BYTES = 64 * 1024          # the buffer that all connections of a worker share
    DIRECT_BYTES = 256 * 1024       # at most read straight into memory of a body
    READ_BUDGET = 512 * 1024        # bytes of one connection in one turn
    MAX_EVENTS = 128                # of one epoll_wait
    MAX_ACCEPTS = 32                # of one listener in one turn
    MAX_DEFERRED = 16               # channels whose output waits for the end of the batch ...
    DEFER_NS = 250_000              # ... at most this long
    MAX_IOVECS = 64
    SOLO_HITS = 16                  # requests of one connection served without asking for the others
    ADDRESS_BYTES = 28              # sizeof(struct sockaddr_in6)


cdef class SocketChannel(Channel):
    cdef Poller poller
    cdef int fd                     # -1 once closed
    cdef uint32_t slot              # index in poller.slots
    cdef uint32_t seen_events       # RDHUP, HUP, ERR that came while nothing was read
    cdef bint waits_for_room        # EPOLLOUT is registered
    cdef bint is_deferred           # in poller.deferred
    cdef bint is_queued             # in poller.queue
    cdef bint wants_resumed         # the handler asked for resumed()
    cdef bint wants_lingering
    cdef PyObject *few[4]           # room for the common case of `out`
    cdef PyObject **out             # owned bytes objects, written in order
    cdef uint32_t out_first, out_n, out_room
    cdef size_t out_offset          # bytes of the first that are written
    cdef unsigned char address[ADDRESS_BYTES]   # struct sockaddr of the peer
    cdef uint32_t address_n

    cdef int push(self, bytes data) except -1
    cdef int flush(self) except -1
    cdef int _flushed(self, size_t before) except -1
    cdef int _lost(self, int error) except -1
    cdef int advance(self, size_t n) noexcept
    cdef void drop_output(self) noexcept
    cdef int watch(self, bint for_room) except -1
    cdef int finish(self) except -1
    cdef int discard(self) except -1
    cdef int shut(self, bint reset) except -1


cdef class Poller:
    cdef readonly Runtime runtime
    cdef object loop
    cdef int epfd                   # -1 once closed
    cdef char *buffer               # owned, READ_BYTES
    cdef epoll_event events[MAX_EVENTS]
    # --- channels by slot; epoll data is generation << 32 | slot, never a pointer
    cdef list slots                 # SocketChannel or None
    cdef list generations           # int, grows when a slot is freed
    cdef list free_slots
    cdef list dead                  # closed channels, released after the batch
    # --- listeners: epoll data is LISTENER << 32 | index
    cdef list listeners             # socket objects, borrowed from the Server
    cdef bint is_listening          # they are in the epoll set
    cdef bint is_accepting_paused   # taken out for want of room or descriptors
    cdef bint has_warned            # of EMFILE
    # --- one batch
    cdef bint is_running
    cdef PyObject *deferred[MAX_DEFERRED]   # borrowed from slots
    cdef uint32_t n_deferred
    cdef int64_t deferred_since_ns
    cdef list queue                 # channels to serve in the next turn
    cdef bint is_scheduled
    cdef object fatal               # SystemExit or KeyboardInterrupt of an application, re-raised behind the batch
    # --- the single active connection
    cdef uint64_t solo              # epoll data of the last event
    cdef int solo_streak            # how often in a row it was the only one
    cdef int solo_hits
    cdef dict servers               # sockaddr bytes of our end -> (host, port)

    cdef int _poll(self) except -1
    cdef int _poll_solo(self) except -1
    cdef int _dispatch(self, uint64_t data, uint32_t events) except -1
    cdef int _accept(self, int index) except -1
    cdef int _adopt(self, int fd, const unsigned char *address, uint32_t address_n) except -1
    cdef int _accept_failed(self, int error) except -1
    cdef int _serve(self, SocketChannel channel, uint32_t events) except -1
    cdef int _read(self, SocketChannel channel, uint32_t events) except -1
    cdef int _read_direct(self, SocketChannel channel, size_t wanted) except -2
    cdef int _peek(self, SocketChannel channel) except -1
    cdef int _enqueue(self, SocketChannel channel) except -1
    cdef int _defer(self, SocketChannel channel) except -1
    cdef int _flush_deferred(self) except -1
    cdef int _end_batch(self) except -1
    cdef int _guard(self, SocketChannel channel, object error) except -1
    cdef int _bury(self, SocketChannel channel) except -1
    cdef int _pause_accepting(self) except -1
