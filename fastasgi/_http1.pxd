"""One HTTP/1 connection: reads requests one at a time, starts exchanges, and alone decides what is next."""

from libc.stdint cimport int64_t, uint64_t

from fastasgi._channel cimport Channel, Handler
from fastasgi._exchange cimport HttpExchange
from fastasgi._request cimport RequestParser
from fastasgi._runtime cimport Runtime
from fastasgi._session cimport WebSocketSession


cdef enum Reading:
    READING_IDLE = 0        # between requests
    READING_HEAD = 1        # a head is unfinished
    READING_BODY = 2        # the body of the current exchange
    READING_SKIP = 3        # a body that nobody will take, up to a bound
    READING_DONE = 4        # the request is complete; what follows waits for its response
    READING_CLOSED = 5      # nothing more is read


cdef enum:
    NS_PER_S = 1_000_000_000
    MAX_TAIL = 16 * 1024    # bytes of what a client sends ahead; above, reading pauses
    TURN_REQUESTS = 16      # pipelined requests answered in one go; then other connections have their turn


cdef class Http1(Handler):
    cdef Channel channel            # None once lost
    cdef Runtime runtime
    cdef RequestParser parser
    cdef Http1Exchange exchange     # current, None between requests
    cdef bytes tail                 # bytes received behind the current request, or None
    cdef size_t tail_at             # of them, already read
    cdef Reading reading
    cdef bint keep_alive            # of the current request and its response
    cdef bint is_feeding            # feed() or resumed() is on the stack
    cdef bint saw_eof               # the peer has ended its side
    cdef uint64_t skipped           # bytes of READING_SKIP
    cdef int64_t body_due_ns        # when the request body is too late

    cdef bint has_begun             # a first request has come
    cdef bint is_head_timed         # TIMEOUT_HEAD is armed for the current head

    cdef int _keep_tail(self, const char *p, size_t n) except -1
    cdef int _read(self, const char *p, size_t n, object owner) except -1
    cdef int _read_tail(self) except -1
    cdef int _read_message(self, const char *p, size_t n, object owner) except -1
    cdef int _set_tail(self, const char *p, size_t n, bint is_borrowed) except -1
    cdef int _end_message(self) except -1
    cdef int _take_body(self, bytes data) except -1
    cdef int _refuse(self) except -1
    cdef Http1Exchange _begin(self)
    cdef int _start(self, Http1Exchange exchange) except -1
    cdef int _start_session(self, Http1Exchange exchange, dict scope) except -1
    cdef int _hand_over(self, bytes head, Handler handler) except -1
    cdef int _part(self) except -1
    cdef int _settle(self) except -1
    cdef int _skip_rest(self, size_t skipped) except -1
    cdef bint _may_persist(self, Http1Exchange exchange) noexcept
    cdef int _close(self, bint linger) except -1
    cdef int _fail(self, int status, str text) except -1
    cdef int _request_expired(self) except -1
    cdef int _body_expired(self) except -1


cdef class Http1Exchange(HttpExchange):
    cdef Http1 connection           # None when it is no longer current
    cdef dict scope                 # until the application is started
    cdef WebSocketSession session   # whose handshake this is, or None

    cdef int _write_chunk(self, bytes head, bytes body, size_t n, bint more) except -1
