# cython: freethreading_compatible=True
"""What all connections of one worker read: limits and timeouts as numbers, the application, the clock, counters.

A Runtime also keeps the deadlines. Each timeout has one list; since its timeout is constant, the list is ordered by
due time, so arming is appending and a sweep looks at the heads only. No timer object exists per connection or request.
"""

import time
from contextvars import copy_context

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport UINT64_MAX, int64_t, uint64_t
from libc.string cimport memset

from fastasgi._forwarded cimport Forwarder, TrustedPeers
from fastasgi._scoreboard cimport Slot
from fastasgi.fa cimport (
    FA_DATE_SIZE, FA_UNDERSCORES_DROP, FA_UNDERSCORES_DROP_FORWARDED, FA_UNDERSCORES_KEEP, FA_UNLIMITED,
    fa_date, fa_deadline, fa_deadline_arm, fa_deadline_clear, fa_deadline_init_list, fa_deadline_pop,
    fa_latency_bucket, fa_monotonic_ns, fa_slot_samples,
)

cdef enum:
    NS_PER_S = 1_000_000_000


cdef inline Phase phase_of(Timeout timeout) noexcept nogil:
    if timeout == TIMEOUT_STALL:
        return PHASE_WRITE
    return PHASE_WHOLE if timeout == TIMEOUT_REQUEST else PHASE_READ


cdef dict UNDERSCORES = {
    "drop-forwarded": FA_UNDERSCORES_DROP_FORWARDED, "drop": FA_UNDERSCORES_DROP, "keep": FA_UNDERSCORES_KEEP,
}

LINGER_S = 2.0
"""How long a half-closed connection is read so that the client can take the answer; nginx lingers 5 s, Apache 2 s."""

WS_IDLE_S = 30.0
"""How often a WebSocket is looked at for memory to give back where there are no pings."""

MAX_TICK_S = 1.0
MIN_TICK_S = 0.02


cdef class Member:
    """What a Runtime keeps a list of: has deadlines, can be drained and aborted. The base of Channel."""

    def __cinit__(self, *args, **kwargs):
        cdef int i
        for i in range(N_PHASES):
            memset(&self.deadlines[i], 0, sizeof(fa_deadline))
            self.deadlines[i].owner = <void *>self
        memset(&self.membership, 0, sizeof(fa_deadline))
        self.membership.owner = <void *>self

    def __dealloc__(self):
        self.leave()

    # hot
    cdef void join(self) noexcept:
        """Enter the runtime's list of members. The list borrows; whoever owns the member calls leave()."""
        fa_deadline_arm(&self.runtime.members, &self.membership, 0)

    cdef void leave(self) noexcept:
        """Leave every list."""
        cdef int i
        for i in range(N_PHASES):
            fa_deadline_clear(&self.deadlines[i])
        fa_deadline_clear(&self.membership)

    cdef void arm(self, Timeout timeout) noexcept:
        """Set the deadline of this timeout's phase to now + timeout, in place of any other of the phase."""
        cdef int64_t after_ns = self.runtime.timeouts_ns[timeout]
        if after_ns:
            fa_deadline_arm(
                &self.runtime.lists[timeout], &self.deadlines[phase_of(timeout)], self.runtime.now_ns + after_ns)
        else:
            fa_deadline_clear(&self.deadlines[phase_of(timeout)])

    cdef void disarm(self, Phase phase) noexcept:
        fa_deadline_clear(&self.deadlines[phase])
    # end hot

    cdef int expired(self, Timeout timeout) except -1:
        """The deadline passed. It is no longer armed."""
        raise AssertionError("expired() is for subclasses")

    cdef int drain(self) except -1:
        """The worker drains: close if idle, and announce the close otherwise."""
        raise AssertionError("drain() is for subclasses")

    cdef int disconnect(self) except -1:
        """Tell the application that its client is to be seen as gone."""
        raise AssertionError("disconnect() is for subclasses")

    cdef int kill(self) except -1:
        """Abort at once."""
        raise AssertionError("kill() is for subclasses")


cdef uint64_t or_unlimited(object value) except? 0:
    return UINT64_MAX if value is None else value


cdef int64_t as_ns(object seconds) except -1:
    """None (never) to 0; else nanoseconds, at least 1."""
    return 0 if seconds is None else max(1, <int64_t>(seconds * NS_PER_S))


@cython.final
cdef class Runtime:
    """The shared part of a worker.

    `config` is a loaded Config, `app` an ASGI 3 callable, `loop` the running (or about to run) event loop,
    `handler_factory` is called with (channel, runtime) for each connection. `state` is the lifespan state, copied
    shallowly into each scope, or None. `clock` gives monotonic nanoseconds and is replaced in tests. `slot` is where it
    counts: one of its own, or one of a scoreboard, where others see it.
    """

    def __init__(self, config, app, loop, *, handler_factory, state=None, clock=None, access=None, Slot slot=None):
        cdef int i
        self.slot = Slot() if slot is None else slot
        self.counts = self.slot.record
        self.config, self.app, self.loop, self.state = config, app, loop, state
        self.handler_factory, self.clock, self.access = handler_factory, clock, access
        self.context = copy_context()
        for i in range(N_TIMEOUTS):
            fa_deadline_init_list(&self.lists[i])
        fa_deadline_init_list(&self.members)
        self.tasks = set()
        self.room_waiters = []
        self.tickers = []
        self.gathering = []
        self.root_path = config.root_path
        self.peers = TrustedPeers(config.forwarded_allow_ips)
        self.forwarder = Forwarder(self.peers, config.forwarded_fields) if config.proxy_headers else None
        self._set_limits(config)
        self._set_websockets(config)
        self._set_timeouts(config)
        self._set_fields(config)
        self.refresh()
        self._refresh_date()

    def __dealloc__(self):
        # Collected together with its members, in any order: none may unlink itself from lists that are gone.
        cdef int i
        for i in range(N_TIMEOUTS):
            while self.lists[i].next != NULL and self.lists[i].next != &self.lists[i]:
                fa_deadline_clear(self.lists[i].next)
        while self.members.next != NULL and self.members.next != &self.members:
            fa_deadline_clear(self.members.next)

    def _set_limits(self, config):
        self.limits.body_bytes = FA_UNLIMITED if config.limit_request_body is None else config.limit_request_body
        self.limits.chunk_extension_bytes = config.limit_chunk_extension
        self.limits.line_bytes = config.limit_request_line
        self.limits.head_bytes = config.limit_request_head
        self.limits.fields = config.limit_request_headers
        self.limits.underscores = UNDERSCORES[config.underscore_headers]
        self.unread_body_bytes = or_unlimited(config.limit_unread_body)
        self.max_connections = or_unlimited(config.limit_connections)
        self.max_concurrency = or_unlimited(config.limit_concurrency)
        self.min_body_rate = config.min_body_rate or 0
        self.keeps_alive = config.timeout_keep_alive != 0

    def _set_websockets(self, config):
        self.serves_websockets = config.ws != "none"
        self.ws_pings = config.ws_ping_interval is not None
        self.ws_deflates = config.ws_per_message_deflate
        self.ws_deflate_min_bytes = config.ws_deflate_min_size
        self.ws_max_bytes = config.ws_max_size
        self.ws_max_queue = config.ws_max_queue
        self.ws_max_queue_bytes = config.ws_max_queue_bytes

    def _set_timeouts(self, config):
        cdef int i
        self.timeouts_ns[TIMEOUT_FIRST_BYTE] = as_ns(config.timeout_first_byte)
        self.timeouts_ns[TIMEOUT_HEAD] = as_ns(config.timeout_request_head)
        self.timeouts_ns[TIMEOUT_BODY] = as_ns(config.timeout_request_body)
        self.timeouts_ns[TIMEOUT_KEEP_ALIVE] = as_ns(config.timeout_keep_alive)
        self.timeouts_ns[TIMEOUT_STALL] = as_ns(config.timeout_response_stall)
        self.timeouts_ns[TIMEOUT_REQUEST] = as_ns(config.timeout_request)
        self.timeouts_ns[TIMEOUT_LINGER] = as_ns(LINGER_S)
        self.timeouts_ns[TIMEOUT_WS_PING] = as_ns(config.ws_ping_interval if self.ws_pings else WS_IDLE_S)
        self.timeouts_ns[TIMEOUT_WS_PONG] = as_ns(config.ws_ping_timeout if self.ws_pings else None)
        self.timeouts_ns[TIMEOUT_WS_CLOSE] = as_ns(config.timeout_ws_close)
        shortest_s = MAX_TICK_S * 4
        for i in range(N_TIMEOUTS):
            if self.timeouts_ns[i] and i != TIMEOUT_LINGER:
                shortest_s = min(shortest_s, self.timeouts_ns[i] / NS_PER_S)
        self.tick_interval_s = max(MIN_TICK_S, min(MAX_TICK_S, shortest_s / 4))
        self.timeouts_ns[TIMEOUT_BODY_RECHECK] = as_ns(self.tick_interval_s)

    def _set_fields(self, config):
        self.default_pairs = tuple(config.encoded_headers)
        names = {name for name, _ in self.default_pairs}
        self.server_field = b"server: fastasgi\r\n" if config.server_header and b"server" not in names else b""
        self.has_date = config.date_header and b"date" not in names

    # --- clock --------------------------------------------------------------------------------------------------------

    cdef int64_t refresh(self) except? -1:
        """Read the clock; returns monotonic nanoseconds."""
        self.now_ns = fa_monotonic_ns() if self.clock is None else self.clock()
        return self.now_ns

    cdef int _refresh_date(self) except -1:
        """Make the block of fields that every response gets anew when the second has changed."""
        cdef int64_t unix_s = <int64_t>time.time()
        cdef bytes date_field = b""
        if unix_s == self.date_s:
            return 0
        self.date_s = unix_s
        if self.has_date:
            date = PyBytes_FromStringAndSize(NULL, FA_DATE_SIZE)
            fa_date(PyBytes_AS_STRING(date), unix_s)
            date_field = b"date: " + date + b"\r\n"
        defaults = b"".join([b"%b: %b\r\n" % pair for pair in self.default_pairs])
        self.block = date_field + self.server_field + defaults
        names = frozenset([name for name, _ in self.default_pairs])
        self.common = (date_field, self.server_field, self.default_pairs, names)
        return 0

    def tick(self):
        """Refresh clock and Date, tell that the loop turns, and act on every deadline that has passed. Call it every
        `tick_interval_s`."""
        cdef fa_deadline *due
        cdef Member member
        cdef int i
        self.refresh()
        self.slot.beat(self.now_ns, self.now_ns - self.ticked_ns - as_ns(self.tick_interval_s) if self.ticked_ns else 0)
        self.ticked_ns = self.now_ns
        self._refresh_date()
        if self.request_tables is not None:
            self.request_tables.tick()
        for ticker in self.tickers:
            ticker()
        for i in range(N_TIMEOUTS):
            while True:
                due = fa_deadline_pop(&self.lists[i], self.now_ns)
                if due == NULL:
                    break
                member = <Member>due.owner
                try:
                    member.expired(<Timeout>i)
                except Exception as error:
                    self.guard(member, error)

    cpdef bint close_idle(self) except -1:
        """Close the connection that has been idle longest; True when there was one."""
        cdef fa_deadline *longest
        for _ in range(self.counts.connections):        # one whose client still takes its answer arms it again at once
            longest = self.lists[TIMEOUT_KEEP_ALIVE].next
            if longest == &self.lists[TIMEOUT_KEEP_ALIVE]:
                return False
            fa_deadline_clear(longest)      # whoever is busy arms it again when it is idle
            if (<Member>longest.owner).expired(TIMEOUT_KEEP_ALIVE) == 1:
                return True
        return False

    # --- members ------------------------------------------------------------------------------------------------------

    cdef list _members(self):
        """Strong references to all members, so that acting on one may remove any."""
        cdef list found = []
        cdef fa_deadline *entry = self.members.next
        while entry != &self.members:
            found.append(<Member>entry.owner)
            entry = entry.next
        return found

    cdef int guard(self, Member member, object error) except -1:
        """An error of ours while serving `member`: report it, and end that connection alone."""
        try:
            self._report(error)
        finally:
            self._kill(member)
        return 0

    cdef int _kill(self, Member member) except -1:
        try:
            return member.kill()
        except Exception as error:      # of a transport
            return self._report(error)

    cdef int _report(self, object error) except -1:
        self.loop.call_exception_handler({
            "message": "fastasgi: internal error on a connection, which is aborted",
            "exception": error,
        })
        return 0

    def announce_drain(self):
        """From now on every response announces `Connection: close`, and its connection closes behind it. Idle
        connections stay open, for requests that are on their way: a close would cross them."""
        self.draining = True

    def drain(self):
        """Close idle connections; busy ones announce `Connection: close` and close after their response."""
        cdef Member member
        self.draining = self.closes_idle = True
        self.refresh()
        for member in self._members():
            try:
                member.drain()
            except Exception as error:
                self.guard(member, error)

    def disconnect(self):
        """Give http.disconnect to every request that is left."""
        cdef Member member
        for member in self._members():
            try:
                member.disconnect()
            except Exception as error:
                self.guard(member, error)

    def cancel(self):
        """Cancel every task that is left."""
        for task in list(self.tasks):
            task.cancel()

    def abort(self):
        """Abort every connection that is left."""
        cdef Member member
        for member in self._members():
            self._kill(member)

    def wait_closed(self):
        """A future that is done when no connection, no handshake and no request is left."""
        future = self.closed
        if future is None:
            future = self.closed = self.loop.create_future()
            self._check_closed()
        return future

    cdef int _check_closed(self) except -1:
        cdef fa_slot *counts = self.counts
        if self.closed is not None and not (counts.connections or counts.connecting or counts.requests_active):
            if not self.closed.done():
                self.closed.set_result(None)
            self.closed = None
        return 0

    def begin_connecting(self):
        """A connection was accepted whose transport is still to be made: it has its place already."""
        self.counts.connecting += 1

    def end_connecting(self):
        """It is open, and counted as such, or was given up."""
        self.counts.connecting -= 1
        self._check_closed()

    cdef int connection_opened(self) except -1:
        self.counts.connections += 1
        self.counts.accepted += 1
        return 0

    cdef int connection_closed(self) except -1:
        self.counts.connections -= 1
        if self.room_waiters:
            for wake in self.room_waiters:
                wake()
        if self.closed is not None:
            self._check_closed()
        return 0

    cdef int request_ended(self) except -1:
        self.counts.requests_active -= 1
        if self.closed is not None:
            self._check_closed()
        return 0

    cdef int answered(self, int64_t began_ns, int status) except -1:
        """A response is complete, to a request whose head was read at `began_ns`. At a high rate only one of a few is
        timed, and stands for the others: so the clock is not read for each."""
        cdef int64_t now_ns
        if status >= 500:
            self.counts.errors += 1
        if fa_slot_samples(self.counts):
            now_ns = fa_monotonic_ns() if self.clock is None else self.clock()
            self.counts.latency[fa_latency_bucket(now_ns - began_ns)] += self.counts.sample_mask + 1
        return 0

    @property
    def connections(self):
        """Open channels."""
        return self.counts.connections

    @property
    def connecting(self):
        """Connections that were accepted, and are not open yet: in their TLS handshake."""
        return self.counts.connecting

    @property
    def requests_active(self):
        """Exchanges whose task has not ended."""
        return self.counts.requests_active

    @property
    def requests_total(self):
        """Exchanges since the start."""
        return self.counts.requests_total

    @property
    def now(self):
        """Monotonic nanoseconds of the last look at the clock."""
        return self.now_ns

    def flush_access_log(self):
        """Write access lines that wait in memory."""
        if self.access is not None:
            self.access.flush()
