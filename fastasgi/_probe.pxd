"""A Python face of the request parser, for tests and fuzzing."""

from fastasgi._request cimport RequestParser
from fastasgi.fa cimport fa_limits


cdef class _Reader:
    cdef RequestParser parser
    cdef fa_limits limits
    cdef list events            # as parse() gives them

    cdef bint read(self, bytes data) except -1
