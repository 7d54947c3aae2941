"""What is noted of a request when it begins: when that was, fields for its access line, and its id."""

from libc.stdint cimport int64_t, uint64_t


cdef class Notes:
    """What is noted of a request when it begins, for its access line and its id."""

    cdef NoteTaker taker
    cdef int64_t begun_ns       # monotonic
    cdef readonly str request_id    # or None
    cdef bytes user_agent       # or None, as the next two
    cdef bytes referer
    cdef bytes host

    cdef bytes block(self, bytes block)
    cdef tuple common(self, tuple common)


cdef class NoteTaker:
    """Takes the notes of one worker's requests; there is none where nobody asks for notes."""

    cdef bint wants_time
    cdef bint wants_fields      # of the request's head
    cdef bytes id_name          # header field of the request id in lower case, or None
    cdef object id_names        # frozenset of it
    cdef object clock           # callable giving ns, or None: the monotonic clock
    cdef uint64_t random[2]

    cdef Notes take(self, list headers)
    cdef str _identity(self, list headers)
    cdef uint64_t _draw(self) noexcept


cdef bint is_id(bytes value) noexcept
