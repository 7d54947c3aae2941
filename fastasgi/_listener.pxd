"""One listening socket of a worker, shared with other workers (Linux)."""

from libc.stdint cimport uint64_t

from fastasgi._runtime cimport Runtime
from fastasgi.fa cimport fa_board


# How the loop watches the socket.
cdef enum Watch:
    WATCH_NONE = 0              # not at all: not started, or stopped
    WATCH_SHARED = 1            # as a reader like any other
    WATCH_EXCLUSIVE = 2         # the same, with EPOLLEXCLUSIVE
    WATCH_YIELDED = 3           # not for a moment: it is left to the others
    WATCH_PAUSED = 4            # not until resume()


cdef class Listener:
    cdef readonly object sock       # borrowed from the Server
    cdef readonly int fd
    cdef Runtime runtime
    cdef object loop
    cdef object callback            # called with the listener when connections wait
    cdef const fa_board *board      # NULL: no other worker to leave anything to
    cdef Watch watch
    cdef bint has_looked            # for the loop's epoll set
    cdef int epfd                   # that set, borrowed; -1: not found
    cdef object timer               # while YIELDED
    cdef bint has_yielded           # and took nothing since
    cdef uint64_t progress          # what the others had accepted when it yielded

    cpdef bint may_accept(self, int taken) except -1
    cpdef int end_turn(self) except -1
    cdef int _control(self, int operation) except -1
    cdef int _leave(self) except -1
    cdef int _enter(self) except -1
