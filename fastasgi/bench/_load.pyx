# cython: freethreading_compatible=True, nonecheck=False
"""The loop of the load clients: many connections, one epoll set, no Python while it runs.

`Load` knows when requests are due, how long answers took, and when a run is over; its subclasses know what is asked and
what must come back. In a closed loop each connection asks again as soon as it is answered. On a schedule requests fall
due whether or not answers come, and a latency counts from when its request was due: a server that stalls is charged for
all that it kept waiting (no coordinated omission).

Without checks for None, which a debug build makes elsewhere: they need the GIL, and only `self` is an object here.

A run ends with its last answer, or with the first fault, which is raised as `LoadFailed`.
"""

from cpython.exc cimport PyErr_CheckSignals
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from libc.errno cimport EINTR, errno
from libc.string cimport memset, strerror

from fastasgi.fa cimport fa_monotonic_ns
from fastasgi.linux cimport (
    EPOLL_CLOEXEC, EPOLL_CTL_ADD, EPOLL_CTL_MOD, close, epoll_create1, epoll_ctl, epoll_event, epoll_wait,
)

cdef extern from *:
    int __builtin_clzll(unsigned long long n) nogil

cdef enum:
    MAX_EVENTS = 256
    LONGEST_WAIT_MS = 50
    CHECK_NS = 50_000_000           # signals and stalls are looked for so often
    SECOND_NS = 1_000_000_000


class LoadFailed(Exception):
    """The server did not answer as it must; says which client saw what."""


cdef size_t bucket_of(uint64_t ns) noexcept nogil:
    """The bucket of a latency: STEPS equal ones in each power of two."""
    cdef int shift
    if ns < STEPS:
        return <size_t>ns
    shift = 57 - __builtin_clzll(ns)
    if shift >= BUCKETS // STEPS - 1:
        return BUCKETS - 1
    return <size_t>(shift + 1) * STEPS + <size_t>(ns >> shift) - STEPS


cdef uint64_t end_of(size_t bucket) noexcept:
    """The longest latency of a bucket."""
    cdef size_t shift = bucket // STEPS
    if shift == 0:
        return bucket
    return ((<uint64_t>(bucket % STEPS) + STEPS + 1) << (shift - 1)) - 1


cdef class Load:
    """Connections, one epoll set, and what was measured in the last run. Abstract."""

    def __cinit__(self):
        self.epfd = -1

    def __dealloc__(self):
        PyMem_Free(self.buffer)
        if self.epfd >= 0:
            close(self.epfd)

    def close(self):
        """Let go of the sockets; they stay open."""
        if self.epfd >= 0:
            close(self.epfd)
            self.epfd = -1

    def percentile_us(self, double share):
        """The latency in microseconds that this share (0 to 1) of the answers did not exceed, within 1.6 %."""
        cdef uint64_t wanted = max(1, <uint64_t>(share * self.answered + 0.999999))
        cdef uint64_t seen = 0
        cdef size_t bucket
        for bucket in range(BUCKETS):
            seen += self.histogram[bucket]
            if seen >= wanted:
                return min(end_of(bucket), <uint64_t>self.longest_ns) / 1000.0
        return 0.0

    @property
    def longest_us(self):
        """The longest latency in microseconds."""
        return self.longest_ns / 1000.0

    @property
    def read_bytes(self):
        """How many bytes are read at once, at most; fewer than usual show whether answers may be cut anywhere."""
        return self.read_size

    @read_bytes.setter
    def read_bytes(self, size_t n):
        if not 0 < n <= RECEIVE_BYTES:
            raise ValueError(f"expected 1 to {RECEIVE_BYTES} bytes, got {n}")
        self.read_size = n

    # --- for subclasses -----------------------------------------------------------------------------------------------

    cdef object _open(self, size_t count):
        """Make what `count` connections need."""
        self.count = count
        self.read_size = RECEIVE_BYTES
        self.buffer = <char *>PyMem_Malloc(RECEIVE_BYTES)
        if self.buffer == NULL:
            raise MemoryError
        self.epfd = epoll_create1(EPOLL_CLOEXEC)
        if self.epfd < 0:
            raise OSError(errno, strerror(errno).decode())

    cdef int _add(self, int fd, size_t index, uint32_t events) except -1:
        """Have epoll tell of a socket."""
        cdef epoll_event event
        event.events = events
        event.u64 = index
        if epoll_ctl(self.epfd, EPOLL_CTL_ADD, fd, &event) < 0:
            raise OSError(errno, strerror(errno).decode())
        return 0

    cdef void _watch(self, int fd, size_t index, uint32_t events) noexcept nogil:
        """Have epoll tell of other events; anew of those that it told of before."""
        cdef epoll_event event
        event.events = events
        event.u64 = index
        if epoll_ctl(self.epfd, EPOLL_CTL_MOD, fd, &event) < 0:
            self._fail(index, FAULT_SYSTEM, <uint64_t>errno)

    cdef void _note(self, int64_t took_ns) noexcept nogil:
        """One more answer is whole; so long it took."""
        took_ns = max(0, took_ns)
        self.histogram[bucket_of(<uint64_t>took_ns)] += 1
        self.longest_ns = max(self.longest_ns, took_ns)
        self.answered += 1
        self.outstanding -= 1

    cdef void _fail(self, size_t index, Fault fault, uint64_t number) noexcept nogil:
        if self.fault == FAULT_NONE:
            self.fault, self.fault_client, self.fault_number = fault, index, number

    cdef int64_t _due_ns(self, uint64_t number) noexcept nogil:
        """When the request of this number, from 0, falls due."""
        return self.begin_ns + <int64_t>(number * self.per_due_ns)

    cdef bint _is_next_due(self) noexcept nogil:
        """Whether one more request has fallen due; counts it."""
        if self.due == self.total or self._due_ns(self.due) > self.now_ns:
            return False
        if not self.outstanding:
            self.progress_ns = self.now_ns
        self.due += 1
        return True

    # --- the run ------------------------------------------------------------------------------------------------------

    cdef object _run_for(self, double seconds, double stall_s):
        """A closed loop for so long; then the last answers are waited for."""
        self.end_ns = fa_monotonic_ns() + <int64_t>(seconds * SECOND_NS)
        self.per_due_ns = 0
        self._run(stall_s)

    cdef object _run_at(self, double rate, double seconds, double stall_s):
        """Requests fall due at `rate` a second over all connections, for so long."""
        if not rate > 0:
            raise ValueError(f"expected a rate above 0, got {rate}")
        self.total = max(1, <uint64_t>(rate * seconds))
        self.per_due_ns = SECOND_NS / rate
        self._run(stall_s)

    cdef object _run(self, double stall_s):
        if self.epfd < 0:
            raise ValueError("expected an open Load, got one that was closed")
        if self.fault != FAULT_NONE:
            raise ValueError(f"expected a Load without a fault, got one that failed: {self._complaint()}")
        if self.outstanding:
            raise ValueError(f"expected a Load at rest, got one that was interrupted: {self.outstanding} answers due")
        self._turn(0)
        self.is_sending = True
        self.stall_ns = <int64_t>(stall_s * SECOND_NS)
        self.due = self.answered = self.received_bytes = 0
        self.longest_ns = 0
        memset(self.histogram, 0, sizeof(self.histogram))
        self.begin_ns = self.now_ns = self.progress_ns = fa_monotonic_ns()
        with nogil:
            if self.fault == FAULT_NONE:
                self._begin()
            self._turns()
        self.seconds = (self.progress_ns - self.begin_ns) / <double>SECOND_NS
        if self.fault != FAULT_NONE:
            raise LoadFailed(self._complaint())

    cdef int _turns(self) except -1 nogil:
        """Turn until the run is over or a fault was found."""
        while self.fault == FAULT_NONE and not self._is_over():
            self._turn(self._wait_ms())
            if self.now_ns >= self.check_ns:
                self.check_ns = self.now_ns + CHECK_NS
                with gil:
                    PyErr_CheckSignals()
                if self.outstanding:
                    self._find_stall()
        return 0

    cdef void _turn(self, int wait_ms) noexcept nogil:
        """Wait so long at most, and serve what is ready. Before a run this is what came without being asked for."""
        cdef epoll_event events[MAX_EVENTS]
        cdef int at
        cdef int n = epoll_wait(self.epfd, events, MAX_EVENTS, wait_ms)
        if n < 0 and errno != EINTR:
            self._fail(0, FAULT_SYSTEM, <uint64_t>errno)
        self.now_ns = fa_monotonic_ns()
        for at in range(n):
            self._serve(<size_t>events[at].u64, events[at].events)

    cdef int _wait_ms(self) noexcept nogil:
        """How long to wait for events; below a millisecond from the next request not at all, to be on time."""
        cdef int64_t left
        if self.per_due_ns == 0 or self.due == self.total:
            return LONGEST_WAIT_MS
        left = self._due_ns(self.due) - self.now_ns
        return 0 if left < 1_000_000 else min(LONGEST_WAIT_MS, <int>(left // 1_000_000))

    cdef str _complaint(self):
        """One sentence about the fault."""
        if self.fault == FAULT_SYSTEM:
            said = f"a system call failed: {strerror(<int>self.fault_number).decode()}"
        elif self.fault == FAULT_STALLED:
            said = f"nothing came for {self.stall_ns / SECOND_NS:g} s, {self.fault_number} answers are due"
        else:
            said = self._describe()
        answers = self._answers_of(self.fault_client)
        return f"client {self.fault_client} of {self.count}, after {answers} answers: {said}"

    # --- of each protocol ---------------------------------------------------------------------------------------------

    cdef void _begin(self) noexcept nogil:
        """A run begins; in a closed loop with a request on each connection."""

    cdef bint _is_over(self) noexcept nogil:
        """Begin what is to be begun; true when everything was answered."""
        return True

    cdef void _serve(self, size_t index, uint32_t ready) noexcept nogil:
        """epoll has told of a connection."""

    cdef void _find_stall(self) noexcept nogil:
        """Fail if nothing came for too long."""
        if self.now_ns - self.progress_ns > self.stall_ns:
            self._fail(0, FAULT_STALLED, self.outstanding)

    cdef uint64_t _answers_of(self, size_t index) noexcept:
        """How many answers this connection got in this run."""
        return 0

    cdef str _describe(self):
        """What went wrong, where the fault is of the protocol."""
        raise AssertionError("_describe() is for subclasses")
