"""What each worker tells of itself, in memory that all processes of a server share."""

from libc.stdint cimport int64_t

from fastasgi.fa cimport fa_board, fa_slot


cdef class Scoreboard:
    cdef fa_board *board            # borrowed from `memory`
    cdef object memory              # mmap, shared
    cdef int fd                     # of `memory`: a memfd, or a file without a name; owned
    cdef object view                # memoryview: keeps `memory` from being closed


cdef class Slot:
    cdef fa_slot own                # for a worker that stands alone
    cdef fa_slot *record            # that, or one of the board's
    cdef readonly Scoreboard board  # None: alone
    cdef readonly int index         # in the board
    cdef int64_t measured_ns        # when rss_bytes was read
    cdef int64_t rated_ns           # when sample_mask was set ...
    cdef long long rated_answers    # ... and how many answers there were

    cdef int beat(self, int64_t now_ns, int64_t lag_ns) except -1
