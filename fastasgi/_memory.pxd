"""A Channel without a socket, for tests and for measuring the engine alone."""

from fastasgi._channel cimport Channel


cdef class MemoryChannel(Channel):
    cdef list output            # bytes objects that the peer has not taken
    cdef Py_ssize_t room        # bytes that the peer still takes, or -1 for all
    cdef bint is_scheduled
    cdef bint wants_lingering
    cdef bint was_aborted
    cdef size_t written         # bytes accepted by the peer, in `taken`
    cdef list taken

    cdef int _flush(self) except -1
    cdef int _end_output(self) except -1
