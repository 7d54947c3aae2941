"""What all connections of one worker read: made once from Config, never asked for by name in hot code."""

from libc.stdint cimport int64_t, uint32_t, uint64_t

from fastasgi._forwarded cimport Forwarder, TrustedPeers
from fastasgi._scoreboard cimport Slot
from fastasgi.fa cimport fa_deadline, fa_limits, fa_slot


# The timeouts; each has one list of deadlines, ordered by due time because its timeout is constant.
ctypedef int Timeout
cdef enum:
    TIMEOUT_FIRST_BYTE      # connect to first byte
    TIMEOUT_HEAD            # first byte to end of head
    TIMEOUT_BODY            # grace of a request body
    TIMEOUT_BODY_RECHECK    # the next look at a body that is within its grace
    TIMEOUT_KEEP_ALIVE      # idle between requests
    TIMEOUT_STALL           # output without progress
    TIMEOUT_REQUEST         # a whole request
    TIMEOUT_LINGER          # reading what a client still sends to a closed side
    TIMEOUT_WS_PING         # until the next ping of a WebSocket, or look at an idle one
    TIMEOUT_WS_PONG         # for its answer
    TIMEOUT_WS_CLOSE        # for the client's close frame
    N_TIMEOUTS


# A Member has one deadline of each kind of phase at a time.
ctypedef int Phase
cdef enum:
    PHASE_READ              # FIRST_BYTE, HEAD, BODY, BODY_RECHECK, KEEP_ALIVE, LINGER, WS_... exclude each other
    PHASE_WRITE             # STALL
    PHASE_WHOLE             # REQUEST
    N_PHASES


cdef class Member:
    """What a Runtime keeps a list of: has deadlines, can be drained and aborted. The base of Channel."""

    cdef Runtime runtime
    cdef fa_deadline deadlines[N_PHASES]
    cdef fa_deadline membership         # in Runtime.members

    cdef void join(self) noexcept
    cdef void leave(self) noexcept
    cdef void arm(self, Timeout timeout) noexcept
    cdef void disarm(self, Phase phase) noexcept
    cdef int expired(self, Timeout timeout) except -1
    cdef int drain(self) except -1
    cdef int disconnect(self) except -1
    cdef int kill(self) except -1


cdef class Runtime:
    # --- from Config
    cdef fa_limits limits
    cdef int64_t timeouts_ns[N_TIMEOUTS]    # 0: never
    cdef readonly double tick_interval_s
    cdef readonly uint64_t min_body_rate    # bytes a second
    cdef readonly uint64_t unread_body_bytes    # skipped before the connection closes
    cdef readonly uint64_t max_connections  # UINT64_MAX: unlimited
    cdef readonly uint64_t max_concurrency
    cdef bint serves_websockets             # False with ws=none
    cdef bint ws_pings                      # False without ws_ping_interval
    cdef bint ws_deflates                   # compression may be negotiated
    cdef size_t ws_deflate_min_bytes        # shorter messages are not compressed
    cdef size_t ws_max_bytes                # of a message
    cdef uint32_t ws_max_queue              # messages that wait for the application; then reading pauses
    cdef size_t ws_max_queue_bytes          # the same in bytes
    cdef bint keeps_alive                   # False with timeout_keep_alive=0: one request a connection
    cdef readonly str root_path
    cdef readonly TrustedPeers peers                 # who is believed in what it says of its clients
    cdef Forwarder forwarder                # what they say in header fields, or None: nobody is believed there
    cdef readonly object config
    # --- the application and its loop
    cdef readonly object app                # ASGI 3 callable
    cdef readonly object loop
    cdef readonly object state              # lifespan state dict, or None
    cdef readonly object handler_factory    # (channel, runtime) -> Handler
    cdef object context                     # contextvars.Context copied for each request
    # --- clock
    cdef object clock                       # callable giving ns, or None: the monotonic clock
    cdef int64_t now_ns
    cdef int64_t date_s                     # Unix time in `block`
    # --- header fields that every response gets
    cdef bint has_date
    cdef bytes server_field                 # with CRLF; b"" when switched off
    cdef tuple default_pairs                # ((name, value), ...)
    cdef bytes block                        # all of them, each with CRLF
    cdef tuple common                       # (date line, server line, default_pairs, frozenset of their names)

    # --- tables of other rooms, made by the handler factory, one per worker
    cdef object request_tables
    cdef object response_tables
    cdef object scope_tables
    cdef object call_tables
    cdef object note_taker                  # _notes.NoteTaker, or None where nobody asks for notes
    cdef readonly object access             # AccessLog, or None
    # --- deadlines and members
    cdef fa_deadline lists[N_TIMEOUTS]      # sentinels
    cdef fa_deadline members                # sentinel
    cdef readonly set tasks                 # tasks of exchanges that have suspended
    # --- counters, where other processes may see them
    cdef readonly Slot slot                 # of the scoreboard, or one of our own
    cdef fa_slot *counts                    # its record: connections, requests, answers, latencies
    cdef int64_t ticked_ns                  # when tick() was called last
    cdef readonly bint draining             # responses announce the close
    cdef bint closes_idle                   # and idle connections close at once
    cdef public bint wants_room             # connections wait because max_connections is reached: idle ones close
    cdef object closed                      # future of wait_closed(), or None
    cdef readonly list room_waiters         # callables to call when a connection closes
    cdef readonly list tickers              # callables to call with each tick
    cdef list gathering                     # TransportChannels whose output leaves at the end of this turn

    cdef int64_t refresh(self) except? -1
    cdef int _refresh_date(self) except -1
    cpdef bint close_idle(self) except -1
    cdef int connection_opened(self) except -1
    cdef int connection_closed(self) except -1
    cdef int request_ended(self) except -1
    cdef int answered(self, int64_t began_ns, int status) except -1
    cdef int _check_closed(self) except -1
    cdef list _members(self)
    cdef int _report(self, object error) except -1
    cdef int _kill(self, Member member) except -1
    cdef int guard(self, Member member, object error) except -1
