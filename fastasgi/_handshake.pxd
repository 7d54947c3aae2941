"""The opening handshake of a WebSocket (RFC 6455 section 4), read from the head of a request."""

from fastasgi._deflate cimport Deflate


cdef class Handshake:
    cdef readonly int status            # 101, or what the request is refused with
    cdef readonly str reason            # of the refusal
    cdef readonly bytes accept          # value of Sec-WebSocket-Accept
    cdef readonly list subprotocols     # str, as the client offers them
    cdef readonly Deflate deflate       # compression that both sides want, or None

    cdef int _read(self, str method, list headers, bint has_body, bint wants_deflate) except -1


cpdef Handshake read_handshake(str method, list headers, bint has_body, bint wants_deflate)
