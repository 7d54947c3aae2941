# cython: freethreading_compatible=True
"""The scoreboard: what each worker tells of itself, in memory that all processes of a server share.

A supervisor makes a `Scoreboard` before it starts workers; each worker works in one `Slot`. A worker that stands alone
has a slot of its own. The counters of `Runtime` lie in the slot itself, so counting costs one add and reading costs the
worker nothing. States of a slot, and who moves it:

    GONE -> BOOTING         begin(): whoever starts the worker
    BOOTING -> READY        the worker: it accepts connections
    READY -> DRAINING       the worker: it accepts no more
    any -> GONE             the worker, or end(): whoever buries it
"""

import enum
import mmap
import os
import tempfile

cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport int64_t
from libc.string cimport memset

from fastasgi.fa cimport (
    FA_BOOTING, FA_DRAINING, FA_GONE, FA_LATENCY_BUCKETS, FA_READY, fa_board, fa_latency_bound, fa_latency_bucket,
    fa_monotonic_ns, fa_slot, fa_slot_is_live,
)

cdef enum:
    NS_PER_S = 1_000_000_000
    BUSY_ANSWERS = 1000             # a second: above, one answer of eight is timed; below, each
    BUSY_MASK = 7

PAGE_BYTES = mmap.PAGESIZE


class State(enum.IntEnum):
    """What the worker of a slot does."""

    GONE = FA_GONE
    BOOTING = FA_BOOTING
    READY = FA_READY
    DRAINING = FA_DRAINING


@cython.final
cdef class Scoreboard:
    """Records of at most `slots` workers, all zero at first. To be made before the workers are.

    A forked worker inherits it. One that is spawned inherits `fileno()`, once that is made inheritable, and makes
    `Scoreboard(slots, fd)` of it, which takes the descriptor over. The memory is given back with the last object that
    uses it.
    """

    def __init__(self, Py_ssize_t slots, fd=None):
        cdef Py_buffer buffer
        cdef size_t size = (slots + 1) * sizeof(fa_slot)
        if slots < 1:
            raise ValueError(f"expected at least one slot, got {slots}")
        self.fd = new_file(size) if fd is None else fd
        self.memory = mmap.mmap(self.fd, size)
        self.view = memoryview(self.memory)
        PyObject_GetBuffer(self.view, &buffer, PyBUF_SIMPLE | PyBUF_WRITABLE)
        self.board = <fa_board *>buffer.buf
        PyBuffer_Release(&buffer)       # `view` still exports the memory: it stays where it is
        self.board.n_slots = slots

    def __cinit__(self):
        self.fd = -1

    def __dealloc__(self):
        if self.fd >= 0:
            os.close(self.fd)

    def __len__(self):
        return self.board.n_slots

    def fileno(self):
        """The descriptor of the memory, to be inherited by a spawned worker."""
        return self.fd

    def slot(self, index):
        """The slot of this index; IndexError if there is none."""
        return Slot(self, index)


@cython.final
cdef class Slot:
    """The record of one worker: `Slot(board, index)`, or `Slot()` for a worker that stands alone.

    Times are nanoseconds of the monotonic clock, which is one for all processes of a machine.
    """

    def __cinit__(self, Scoreboard board=None, Py_ssize_t index=0):
        memset(&self.own, 0, sizeof(fa_slot))
        self.own.sample_mask = BUSY_MASK        # until the rate is known
        self.record = &self.own
        if board is not None:
            if not 0 <= index < <Py_ssize_t>board.board.n_slots:
                raise IndexError(f"the scoreboard has slots 0 to {board.board.n_slots - 1}, not {index}")
            self.record = &board.board.slots[index]
        self.board, self.index = board, index

    # --- whoever starts and buries workers ----------------------------------------------------------------------------

    def begin(self, pid=0, generation=0):
        """A worker is about to start here: everything of the one before is forgotten."""
        memset(self.record, 0, sizeof(fa_slot))
        self.record.started_ns = self.record.heartbeat_ns = fa_monotonic_ns()
        self.record.pid, self.record.generation = pid, generation
        self.record.sample_mask = BUSY_MASK
        if self.board is not None and self.board.board.n_used <= <size_t>self.index:
            self.board.board.n_used = self.index + 1
        self.record.state = FA_BOOTING

    def end(self):
        """The worker has ended: nothing is open or running any more. Its totals stay."""
        self.record.state = FA_GONE
        self.record.connections = self.record.connecting = self.record.requests_active = 0

    # --- the worker ---------------------------------------------------------------------------------------------------

    cdef int beat(self, int64_t now_ns, int64_t lag_ns) except -1:
        """The loop turns: its timer came `lag_ns` late. About once a second memory is measured, and it is decided how
        many answers are timed."""
        cdef fa_slot *record = self.record
        record.heartbeat_ns = now_ns
        record.lag_ns = max(<int64_t>0, lag_ns)
        if now_ns - self.rated_ns >= NS_PER_S:
            if self.rated_ns:
                record.sample_mask = BUSY_MASK if (
                    <double>(record.answers - self.rated_answers) * NS_PER_S / (now_ns - self.rated_ns) > BUSY_ANSWERS
                ) else 0
            self.rated_ns, self.rated_answers = now_ns, record.answers
            record.rss_bytes = resident_bytes()
        return 0

    @property
    def state(self):
        """What the worker does: a `State`."""
        return State(self.record.state)

    @state.setter
    def state(self, value):
        self.record.state = State(value)

    @property
    def pid(self):
        """Of the worker's process; 0 before it is known."""
        return self.record.pid

    @pid.setter
    def pid(self, value):
        self.record.pid = value

    @property
    def generation(self):
        """How often workers were started here, or whatever else `begin()` was told."""
        return self.record.generation

    # --- what it tells ------------------------------------------------------------------------------------------------

    @property
    def is_live(self):
        """Whether it takes its share: it is ready, and its loop turns."""
        return fa_slot_is_live(self.record, fa_monotonic_ns())

    @property
    def heartbeat_ns(self):
        """When the loop's timer last came."""
        return self.record.heartbeat_ns

    @property
    def started_ns(self):
        """When begin() was called."""
        return self.record.started_ns

    @property
    def lag_ns(self):
        """How late the last heartbeat was."""
        return self.record.lag_ns

    @property
    def rss_bytes(self):
        """Resident memory of the process, measured about once a second."""
        return self.record.rss_bytes

    @property
    def connections(self):
        """Open connections."""
        return self.record.connections

    @property
    def connecting(self):
        """Connections that were accepted, and are not open yet: in their TLS handshake."""
        return self.record.connecting

    @property
    def accepted(self):
        """Connections since the start."""
        return self.record.accepted

    @property
    def requests_active(self):
        """Requests whose application has not ended."""
        return self.record.requests_active

    @property
    def requests_total(self):
        """Requests since the start."""
        return self.record.requests_total

    @property
    def errors(self):
        """Answers of 500 and above since the start, and answers that were cut off by the application's fault."""
        return self.record.errors

    @property
    def latency(self):
        """How many answers took how long: counts by bucket, see `quantile()`."""
        return [self.record.latency[i] for i in range(FA_LATENCY_BUCKETS)]

    def read(self):
        """All figures by name. They are not of one moment: the worker goes on."""
        return {
            "index": self.index, "state": self.state.name.lower(), "pid": self.pid, "generation": self.generation,
            "heartbeat_ns": self.heartbeat_ns, "started_ns": self.started_ns, "lag_ns": self.lag_ns,
            "rss_bytes": self.rss_bytes, "connections": self.connections, "connecting": self.connecting,
            "accepted": self.accepted,
            "requests_active": self.requests_active, "requests_total": self.requests_total, "errors": self.errors,
            "latency": self.latency,
        }


def bucket(ns):
    """The bucket of a latency in nanoseconds."""
    return fa_latency_bucket(ns)


def quantile(counts, q):
    """The latency in nanoseconds that a share `q` of the answers stayed below; None where none was counted.

    `counts` are those of `Slot.latency`, or a difference of two. Within a bucket, a fifth wide, it is interpolated.
    """
    cdef double wanted, below = 0
    total = sum(counts)
    if not total:
        return None
    wanted = q * total
    for i, count in enumerate(counts):
        if count and below + count >= wanted:
            low = fa_latency_bound(i)
            return low + (fa_latency_bound(i + 1) - low) * (wanted - below) / count
        below += count
    raise AssertionError("the last bucket holds the largest")


cdef int new_file(size_t size) except -1:
    """The descriptor of a file without a name, of zeros."""
    if hasattr(os, "memfd_create"):
        fd = os.memfd_create("fastasgi-scoreboard")
    else:
        with tempfile.TemporaryFile() as file:
            fd = os.dup(file.fileno())
    os.ftruncate(fd, size)
    return fd


cdef object resident_bytes():
    """Resident memory of this process; where the system does not tell it, 0."""
    try:
        fd = os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC)
    except (OSError, AttributeError):       # no /proc, or not one that we may read
        return 0
    try:
        return int(os.read(fd, 128).split()[1]) * PAGE_BYTES
    finally:
        os.close(fd)
