"""Own socket I/O on Linux: one epoll set per worker, registered as a reader of its running event loop."""

from libc.stdint cimport int64_t, uint32_t, uint64_t

from cpython.object cimport PyObject

from fastasgi._listener cimport Listener
from fastasgi._runtime cimport Runtime
from fastasgi._socket cimport Owner, SocketChannel
from fastasgi.linux cimport epoll_event


cdef enum:
    READ_BYTES = 64 * 1024          # the buffer that all connections of a worker share
    DIRECT_BYTES = 96 * 1024         # at most read straight into memory of a body
    READ_BUDGET = 512 * 1024        # bytes of one connection in one turn
    MAX_EVENTS = 128                # of one epoll_wait
    MAX_AHEAD = 32                  # connections that are read before the first one's bytes are looked at
    MAX_ACCEPTS = 32                # of one listener in one turn
    MAX_DEFERRED = 64               # channels whose output waits for the end of the batch or turn ...
    DEFER_NS = 1_000_000            # ... at most this long
    NEAR_NS = 250_000               # between writes of two channels that count as one burst
    SOLO_HITS = 16                  # requests of one connection served without asking for the others


cdef struct Ahead:
    size_t at                       # where in the buffer
    ssize_t n                       # what recv() returned; -errno for an error


cdef class Poller(Owner):
    cdef readonly Runtime runtime
    cdef object loop
    cdef char *buffer               # owned, READ_BYTES
    cdef epoll_event events[MAX_EVENTS]
    cdef Ahead ahead[MAX_AHEAD]     # by event of a run
    # --- channels by slot; epoll data is their key, never a pointer
    cdef list slots                 # SocketChannel or None
    cdef uint32_t generation        # of the channel that was made last
    cdef list free_slots
    cdef list dead                  # closed channels, released after the batch
    # --- listeners
    cdef list listeners             # Listener
    cdef bint is_listening          # they are watched, unless
    cdef bint is_accepting_paused   # for want of room or descriptors
    cdef bint has_warned            # of EMFILE
    # --- one batch
    cdef PyObject *deferred[MAX_DEFERRED]   # borrowed from slots
    cdef uint32_t n_deferred
    cdef size_t deferred_bytes
    cdef int64_t deferred_since_ns
    cdef bint is_flush_scheduled    # _flush_turn() comes in the next turn
    cdef uint64_t late_key          # the channel that was last written outside of a batch
    cdef int64_t late_ns            # and when
    cdef list queue                 # channels to serve in the next turn
    cdef bint is_scheduled
    cdef object fatal               # SystemExit or KeyboardInterrupt of an application, re-raised behind the batch
    # --- the single active connection
    cdef uint64_t solo              # epoll data of the last event
    cdef int solo_streak            # how often in a row it was the only one
    cdef int solo_hits

    cdef int _poll(self) except -1
    cdef int _poll_solo(self) except -1
    cdef SocketChannel _channel_of(self, uint64_t key)
    cdef int _read_ahead(self, const epoll_event *events, int n) except -1
    cdef int _serve_ahead(self, const epoll_event *events, int count) except -1
    cdef int _accept(self, Listener listener) except -1
    cdef int _adopt(self, int fd, const unsigned char *address, uint32_t address_n) except -1
    cdef int _accept_failed(self, int error) except -1
    cdef int _serve(self, SocketChannel channel, uint32_t events) except -1
    cdef int _read(self, SocketChannel channel, uint32_t events) except -1
    cdef int _read_direct(self, SocketChannel channel, size_t wanted) except? -2
    cdef int _peek(self, SocketChannel channel) except -1
    cdef int _flush_overdue(self) except -1
    cdef int _flush_deferred(self) except -1
    cdef bint _begin_batch(self) except -1
    cdef int _end_batch(self) except -1
    cdef int _guard(self, SocketChannel channel, object error) except -1
    cdef int _pause_accepting(self) except -1
