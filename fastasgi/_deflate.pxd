"""permessage-deflate (RFC 7692): what was negotiated for one WebSocket, and its two streams."""


cdef class Deflate:
    cdef int server_bits, client_bits       # window bits, 9 to 15
    cdef bint server_takeover, client_takeover      # a message may refer to those before it
    cdef readonly bytes response            # value of Sec-WebSocket-Extensions
    cdef object compressor                  # made on first use; None while idle
    cdef object decompressor
    cdef bint is_used                       # compressed something since the last release()

    cdef bytes compress(self, object data)
    cdef bytes inflate(self, bytes data, size_t most)
    cdef int release(self) except -1


cpdef Deflate negotiate(list offers)
