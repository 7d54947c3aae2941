"""A Channel over an asyncio transport, for loops and platforms without own socket I/O, and for TLS."""

from fastasgi._channel cimport Channel
from fastasgi._proxied cimport ProxyHeader


cdef class TransportChannel(Channel):
    cdef object transport           # asyncio.Transport, None before and after the connection
    cdef object made                # callable, until the loop has made the connection; or None
    cdef ProxyHeader proxied        # who the client is, as its proxy said before the transport was made; or None
    cdef list gathered              # bytes objects that wait to leave together, or None
    cdef size_t gathered_bytes      # of them
    cdef bint is_batch              # the handler reads: what is written leaves when it returns
    cdef bint is_deferred           # in Runtime.gathering
    cdef bint is_scheduled
    cdef bint wants_lingering
    cdef bint has_closed_tls        # transport.close() was called
    cdef bint saw_eof               # the peer has ended its side
    cdef bint can_end               # transport.can_write_eof()

    cdef int _end_batch(self) except -1
    cdef int _defer(self) except -1
    cdef int _flush(self) except -1
    cdef int _finish(self) except -1
    cdef int _exit(self, object error) except -1
    cdef int _end_tls(self) except -1
    cdef int _measure(self) except -1
    cdef int _write_pieces(self, bytes data) except -1
