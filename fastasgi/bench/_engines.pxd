"""The engines one by one, in loops: what `micro` measures. Its functions are called from Python only."""

from fastasgi._request cimport RequestParser

cdef int parse_one(RequestParser parser, bytes request) except -1
