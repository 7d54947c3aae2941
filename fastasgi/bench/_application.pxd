"""The floor with an application."""

from libc.stdint cimport uint32_t, uint64_t


cdef enum:
    MAX_ASKED = 256             # events of one turn
    MAX_DUE = 64


cdef struct Asked:
    int fd
    uint64_t n                  # requests that were read


cdef class ApplicationFloor:
    cdef object app, loop, receive, send, base, ended
    cdef bytes answer
    cdef dict scope, options
    cdef list headers
    cdef dict serials               # how often each descriptor was closed: an answer that comes later is not its own
    cdef set tasks
    cdef Asked asked[MAX_ASKED]
    cdef int asked_count
    cdef int due[MAX_DUE]           # a descriptor for each answer that is to be sent
    cdef int due_count
    cdef uint64_t due_since_ns
    cdef bint is_flush_planned

    cdef int serve(self, int fd, uint32_t events) except -1
    cdef int close(self, int fd) except -1
    cdef bint read(self, int fd, bint is_ending) except -1
    cdef int call_all(self) except -1
    cdef int call(self, int fd) except -1
    cdef int fail(self, object error) except -1
    cdef int answer_is_due(self, int fd) except -1
