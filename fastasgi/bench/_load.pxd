"""What the load clients have in common: sockets in one epoll set, a schedule, latencies, the first fault."""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t


cdef enum:
    STEPS = 64                      # buckets of the histogram in each power of two: within 1.6 %
    BUCKETS = (64 - 5) * STEPS
    RECEIVE_BYTES = 256 * 1024


# What went wrong; the first fault ends the run.
ctypedef uint8_t Fault
cdef enum:
    FAULT_NONE
    FAULT_SYSTEM            # a system call failed; `fault_number` is errno
    FAULT_STALLED           # nothing came for `stall_ns` although answers are due
    FAULT_OF_PROTOCOL = 8   # from here on, each client has its own


cdef class Load:
    cdef readonly size_t count      # connections
    cdef int epfd
    cdef char *buffer               # owned, RECEIVE_BYTES
    cdef size_t read_size           # bytes of one read, at most
    # --- the run
    cdef bint is_sending            # without a schedule: whether an answer is followed by a request
    cdef int64_t begin_ns, end_ns, now_ns
    cdef int64_t progress_ns        # when bytes came last, or the first answer became due
    cdef int64_t stall_ns           # how long nothing may come
    cdef int64_t check_ns           # when signals and stalls are looked for next
    cdef double per_due_ns          # on a schedule: from one request to the next; 0: there is none
    cdef uint64_t total             # answers to come in this run, where it is known before
    cdef uint64_t due               # requests that have fallen due
    cdef uint64_t outstanding       # answers that are due
    cdef readonly uint64_t answered
    cdef readonly uint64_t received_bytes
    cdef readonly double seconds    # of the last run, from its begin to the last answer
    cdef int64_t longest_ns
    cdef uint64_t histogram[BUCKETS]
    # --- the first fault
    cdef Fault fault
    cdef size_t fault_client
    cdef uint64_t fault_number

    cdef object _open(self, size_t count)
    cdef int _add(self, int fd, size_t index, uint32_t events) except -1
    cdef void _watch(self, int fd, size_t index, uint32_t events) noexcept nogil
    cdef object _run(self, double stall_s)
    cdef object _run_for(self, double seconds, double stall_s)
    cdef object _run_at(self, double rate, double seconds, double stall_s)
    cdef int _turns(self) except -1 nogil
    cdef void _turn(self, int wait_ms) noexcept nogil
    cdef int _wait_ms(self) noexcept nogil
    cdef int64_t _due_ns(self, uint64_t number) noexcept nogil
    cdef bint _is_next_due(self) noexcept nogil
    cdef void _note(self, int64_t took_ns) noexcept nogil
    cdef void _fail(self, size_t index, Fault fault, uint64_t number) noexcept nogil
    cdef str _complaint(self)
    # --- of each protocol
    cdef void _begin(self) noexcept nogil
    cdef bint _is_over(self) noexcept nogil
    cdef void _serve(self, size_t index, uint32_t ready) noexcept nogil
    cdef void _find_stall(self) noexcept nogil
    cdef uint64_t _answers_of(self, size_t index) noexcept
    cdef str _describe(self)
