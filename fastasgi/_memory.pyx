# cython: freethreading_compatible=True
"""A Channel without a socket: bytes are fed by the caller and collected for it.

The third body of a Channel, beside `_socket` and `_transport`: tests feed it every cut of every case under a fake
clock, and `bench/engine.py` counts the instructions between `feed` and the bytes of the answer.
"""

cimport cython
from fastasgi._channel cimport (
    CHANNEL_CLOSED, CHANNEL_CLOSING, CHANNEL_LINGERING, CHANNEL_OPEN, LOW_WATER, Channel,
)
from fastasgi._live cimport count_live
from fastasgi._runtime cimport PHASE_WRITE, TIMEOUT_LINGER, Runtime

cdef list STATES = ["open", "closing", "closing", "closed"]


@cython.final
cdef class MemoryChannel(Channel):
    """One connection in memory. `client`, `server` and `scheme` are those of the scope.

    All methods are to be called inside the running loop of the runtime.
    """

    def __init__(
        self, Runtime runtime not None, client=("127.0.0.1", 50000), server=("127.0.0.1", 8000), scheme="http"
    ):
        self.runtime = runtime
        self.client, self.server, self.scheme = client, server, scheme
        self.output, self.taken = [], []
        self.room = -1
        runtime.refresh()
        self.opened()

    # --- the peer -----------------------------------------------------------------------------------------------------

    def feed(self, bytes data not None):
        """As if recv() had returned `data`."""
        cdef const char *p = data
        self.runtime.refresh()
        if self.state == CHANNEL_OPEN and len(data):
            self.handler.feed(p, len(data), None)

    def eof(self):
        """The peer ends its side (FIN)."""
        self.runtime.refresh()
        if self.state == CHANNEL_LINGERING:
            self.gone(None)
        elif self.state == CHANNEL_OPEN:
            self.handler.eof()

    def lost(self, error=None):
        """The connection is reset."""
        self.runtime.refresh()
        self.output.clear()
        self.pending = 0
        self.gone(error if error is not None else ConnectionResetError("connection reset by peer"))

    def take_output(self):
        """All bytes that the peer took since the last call."""
        cdef list taken = self.taken
        self.taken = []
        return taken[0] if len(taken) == 1 else b"".join(taken)

    def hold_output(self, limit_bytes):
        """The peer takes only this many bytes more; None: all, beginning with what is pending."""
        self.runtime.refresh()
        self.room = -1 if limit_bytes is None else limit_bytes
        self._flush()

    @property
    def state(self):
        """"open"; "closing": closed by the server, which waits for the peer; "closed"; "aborted"."""
        return "aborted" if self.was_aborted else STATES[(<Channel>self).state]

    @property
    def reading(self):
        """False while back-pressure stops reading."""
        return (<Channel>self).state == CHANNEL_OPEN and not self.is_paused

    @property
    def pending(self):
        """Bytes that the peer has not taken."""
        return (<Channel>self).pending

    # --- the handler's calls ------------------------------------------------------------------------------------------

    cdef int write(self, bytes head, bytes body, bytes end, bint more) except -1:
        if (<Channel>self).state != CHANNEL_OPEN:
            return 0
        cdef list takers = self.output
        if self.room < 0 and not (<Channel>self).pending:
            takers = self.taken         # a peer that takes all
        if head is not None:
            takers.append(head)
        if body is not None:
            takers.append(body)
        if end is not None:
            takers.append(end)
        if takers is self.taken:
            return 0
        for data in (head, body, end):
            if data is not None:
                (<Channel>self).pending += len(<bytes>data)
        return self._flush()

    cdef int _flush(self) except -1:
        """Hand the peer what it takes."""
        cdef size_t before = (<Channel>self).pending
        while self.output and self.room != 0:
            data = <bytes>self.output[0]
            if self.room < 0 or len(data) <= self.room:
                self.output.pop(0)
            else:
                self.output[0] = data[self.room:]
                data = data[:self.room]
            if self.room > 0:
                self.room -= len(data)
            self.taken.append(data)
            (<Channel>self).pending -= len(data)
        cdef bint was_blocked = self.deadlines[PHASE_WRITE].next != NULL
        if not (<Channel>self).pending:
            self.disarm(PHASE_WRITE)
            if (<Channel>self).state == CHANNEL_CLOSING:
                return self._end_output()
        elif (<Channel>self).pending < before or not was_blocked:
            self.arm_stall()
        if (before > LOW_WATER or was_blocked) and (<Channel>self).pending <= LOW_WATER:
            self.output_drained()
        return 0

    cdef int _end_output(self) except -1:
        if self.wants_lingering:
            (<Channel>self).state = CHANNEL_LINGERING
            self.arm(TIMEOUT_LINGER)
            return 0
        return self.gone(None)

    cdef int pause(self) except -1:
        self.is_paused = True
        return 0

    cdef int resume(self) except -1:
        self.is_paused = False
        return 0

    cdef int close(self, bint linger) except -1:
        if (<Channel>self).state == CHANNEL_OPEN:
            (<Channel>self).state = CHANNEL_CLOSING
            self.wants_lingering = linger
            if not (<Channel>self).pending:
                return self._end_output()
        return 0

    cdef int abort(self) except -1:
        if (<Channel>self).state != CHANNEL_CLOSED:
            # Lingering ends this way too: the peer has had its time, and everything was written.
            self.was_aborted = (<Channel>self).state != CHANNEL_LINGERING
            self.output.clear()
            (<Channel>self).pending = 0
            return self.gone(None)
        return 0

    cdef int schedule(self) except -1:
        if not self.is_scheduled:
            self.is_scheduled = True
            self.runtime.loop.call_soon(self._run)
        return 0

    def _run(self):
        self.is_scheduled = False
        if self.handler is not None:
            self.handler.resumed()


count_live(MemoryChannel)
