# cython: freethreading_compatible=True
"""What is noted of a request when it begins: when that was, fields for its access line, and its id."""

import os

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.string cimport memchr, memcmp

from fastasgi.fa cimport fa_monotonic_ns

cdef enum:
    MAX_ID = 128                    # bytes of a request id that is taken over

cdef char *HEX = b"0123456789abcdef"
cdef bytes ID_SIGNS = b"-._~+/=:@;"


@cython.final
cdef class Notes:
    """What is noted of a request when it begins, for its access line and its id."""

    cdef bytes block(self, bytes block):
        """The fields that every response gets, with the request's id."""
        if self.request_id is None:
            return block
        return b"%b%b: %b\r\n" % (block, self.taker.id_name, self.request_id.encode("ascii"))

    cdef tuple common(self, tuple common):
        """The same in the form of Runtime.common."""
        if self.request_id is None:
            return common
        date, server, pairs, names = common
        pair = (self.taker.id_name, self.request_id.encode("ascii"))
        return date, server, (*pairs, pair), names | self.taker.id_names


@cython.final
cdef class NoteTaker:
    """Takes the notes of one worker's requests: when they began, three header fields, and their ids.

    The id of a request is what its header field `id_name` says, if that can be trusted not to break a line or a header,
    else a new one. New ones are random, unlikely to repeat, and no secret.
    """

    def __init__(self, bint wants_time, bint wants_fields, id_name, clock=None):
        self.wants_time, self.wants_fields, self.clock = wants_time, wants_fields, clock
        if id_name is not None:
            self.id_name = id_name.lower().encode("ascii")
        self.id_names = frozenset([self.id_name])
        seed = os.urandom(16)
        self.random[0] = int.from_bytes(seed[:8], "little") | 1         # never all zero
        self.random[1] = int.from_bytes(seed[8:], "little")

    cdef Notes take(self, list headers):
        """Notes of the request whose head has just come."""
        cdef Notes notes = Notes.__new__(Notes)
        notes.taker = self
        cdef size_t n
        cdef const char *p
        if self.wants_time:
            notes.begun_ns = fa_monotonic_ns() if self.clock is None else self.clock()
        if self.wants_fields:
            for pair in headers:
                p = PyBytes_AS_STRING(<bytes>(<tuple>pair)[0])
                n = PyBytes_GET_SIZE(<bytes>(<tuple>pair)[0])
                if n == 10 and memcmp(p, b"user-agent", 10) == 0:
                    notes.user_agent = <bytes>(<tuple>pair)[1]
                elif n == 7 and memcmp(p, b"referer", 7) == 0:
                    notes.referer = <bytes>(<tuple>pair)[1]
                elif n == 4 and memcmp(p, b"host", 4) == 0:
                    notes.host = <bytes>(<tuple>pair)[1]
        if self.id_name is not None:
            notes.request_id = self._identity(headers)
        return notes

    cdef str _identity(self, list headers):
        for pair in headers:
            if (<tuple>pair)[0] == self.id_name:
                if is_id(<bytes>(<tuple>pair)[1]):
                    return (<bytes>(<tuple>pair)[1]).decode("ascii")
                break
        cdef char text[32]
        cdef uint64_t drawn
        cdef int half, i
        for half in range(2):
            drawn = self._draw()
            for i in range(16):
                text[16 * half + i] = HEX[(drawn >> (4 * i)) & 15]
        return text[:32].decode("ascii")

    cdef uint64_t _draw(self) noexcept:
        """The next of xorshift128+."""
        cdef uint64_t first = self.random[0], second = self.random[1]
        self.random[0] = second
        first ^= first << 23
        self.random[1] = first ^ second ^ (first >> 18) ^ (second >> 5)
        return self.random[1] + second


cdef bint is_id(bytes value) noexcept:
    """Whether a client's request id may be taken over: short, and made of letters, digits and a few signs."""
    cdef const char *p = PyBytes_AS_STRING(value)
    cdef size_t n = PyBytes_GET_SIZE(value), i
    if n == 0 or n > MAX_ID:
        return False
    for i in range(n):
        if c"a" <= p[i] <= c"z" or c"A" <= p[i] <= c"Z" or c"0" <= p[i] <= c"9":
            continue
        if memchr(PyBytes_AS_STRING(ID_SIGNS), p[i], PyBytes_GET_SIZE(ID_SIGNS)) == NULL:
            return False
    return True
