"""One connection on a socket of ours (Linux)."""

from libc.stdint cimport int64_t, uint32_t, uint64_t

from cpython.object cimport PyObject

from fastasgi._channel cimport Channel


cdef enum:
    MAX_IOVECS = 64                 # of one sendmsg
    GATHER_BYTES = 256 * 1024       # output of a channel behind which more may wait
    DEFERRED_BYTES = 8 * 1024 * 1024    # output that may wait for the end of the batch or turn, of all together
    N_HOSTS = 1024                  # texts of client addresses that are shared


cdef class Owner:
    cdef int epfd                   # the epoll set, -1 once closed
    cdef bint is_running            # a batch is served: output may be deferred
    cdef dict servers               # sockaddr bytes of our end -> (host, port)
    cdef dict hosts                 # host -> itself: clients of one address share its text

    cdef int enqueue(self, SocketChannel channel) except -1
    cdef int defer(self, SocketChannel channel, size_t n) except -1
    cdef bint is_burst(self, SocketChannel channel) except? -1
    cdef int bury(self, SocketChannel channel) except -1


cdef class SocketChannel(Channel):
    cdef Owner poller
    cdef int fd                     # -1 once closed
    cdef uint64_t key               # what epoll knows it by: generation << 32 | slot
    cdef uint32_t seen_events       # RDHUP, HUP, ERR that came while nothing was read
    cdef bint waits_for_room        # EPOLLOUT is registered
    cdef bint is_ahead              # its bytes are in the poller's buffer, to be served in this run
    cdef bint is_deferred           # in poller.deferred
    cdef bint is_queued             # in poller.queue
    cdef bint wants_resumed         # the handler asked for resumed()
    cdef bint wants_lingering
    cdef PyObject *few[4]           # room for the common case of `out`
    cdef PyObject **out             # owned bytes objects, written in order
    cdef uint32_t out_first, out_n, out_room
    cdef size_t out_offset          # bytes of the first that are written

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


cdef object error_of(int number)
cdef object address_of(const unsigned char *address, uint32_t n, dict hosts)
