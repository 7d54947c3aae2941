"""The load client of HTTP/1.1: what is asked, what must come back, and how far each connection has come."""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from fastasgi.bench._answer cimport MAX_FIELDS, Body, Field, Head
from fastasgi.bench._load cimport Fault, Load
from fastasgi.linux cimport sockaddr_storage, socklen_t


cdef enum:
    NONCE_BYTES = 16        # hexadecimal digits
    MAX_HEAD_BYTES = 64 * 1024
    KNOWN_BYTES = 1024      # of a head that is remembered
    SHOWN_BYTES = 80        # of what came, in a sentence


# What went wrong, beside the faults of every Load.
cdef enum:
    FAULT_ENDED = 8     # the server has closed the connection
    FAULT_RESET         # the same with a reset
    FAULT_ANNOUNCED     # it said Connection: close
    FAULT_HEAD          # a head that is none; `fault_number` is a Trouble
    FAULT_HEAD_BYTES    # a head that is too long
    FAULT_STATUS        # another status; it is `fault_number`
    FAULT_FIELD         # a field is missing; `fault_number` is which
    FAULT_UNFRAMED      # neither Content-Length nor chunked
    FAULT_CHUNK         # broken chunked framing
    FAULT_LENGTH        # a body of another length, `fault_number`
    FAULT_LONGER        # a body that is longer; `fault_number` is how long, at least
    FAULT_CONTENT       # a body that differs; `fault_number` is where
    FAULT_NONCE         # a body with the nonce of another request
    FAULT_SURPLUS       # bytes behind an answer; `fault_number` is how many
    FAULT_UNASKED       # bytes before anything was asked
    FAULT_EARLY         # an answer before the request was sent; `fault_number` is how much of it was not


# One request and its answer; the bytes are borrowed from HttpLoad.kept.
ctypedef struct Exchange:
    const char *request
    size_t request_bytes
    size_t request_nonce            # where in the request a nonce is written
    const char *body                # what must come back; NULL: anything
    uint64_t body_bytes
    bint has_length                 # the body is of `body_bytes`
    uint64_t body_nonce             # where the nonce must come back
    bint has_nonce
    bint is_head                    # HEAD: answered without a body


# What a connection is doing.
ctypedef uint8_t Phase
cdef enum:
    PHASE_IDLE          # nothing is asked
    PHASE_HEAD          # a request is under way; the head of its answer is read
    PHASE_BODY          # the body is read


ctypedef struct Client:
    int fd                          # owned
    Phase phase
    bint is_watching_output         # EPOLLOUT is in its mask
    bint is_closing                 # the answer says Connection: close
    size_t turn                     # which exchange is its next
    Exchange *exchange              # the one under way
    size_t unsent                   # bytes of the request that the kernel has not taken
    Body body
    uint64_t seen                   # bytes of the body so far
    int64_t since_ns                # when the request was due
    int64_t progress_ns             # when bytes came or went last
    uint64_t answered               # in this run
    char *head                      # the begin of a head that came in pieces, owned, MAX_HEAD_BYTES; or NULL
    size_t head_bytes
    char nonce[NONCE_BYTES]


cdef class HttpLoad(Load):
    cdef readonly uint64_t connections_closed
    cdef Client *clients            # owned
    cdef bint is_owner              # the sockets are ours to close
    cdef size_t n_exchanges
    cdef Exchange *exchanges        # owned
    cdef object kept                # keeps what is sent and expected alive
    cdef int status
    cdef Field fields[MAX_FIELDS]   # what each answer must have; bytes of `kept`
    cdef size_t n_fields
    cdef uint64_t all_fields        # one bit for each
    cdef bint may_reconnect
    cdef sockaddr_storage address   # of the server
    cdef socklen_t address_bytes
    cdef uint64_t nonce_state
    cdef Head known                 # the head that was read last, and its bytes
    cdef char known_head[KNOWN_BYTES]
    cdef size_t known_bytes         # 0: none
    # --- on a schedule
    cdef size_t *idle               # owned; a ring of the connections with nothing under way, longest idle first
    cdef size_t idle_first, n_idle
    cdef uint64_t asked             # requests begun
    # --- what came, for a sentence about the fault
    cdef char shown[SHOWN_BYTES]
    cdef size_t shown_bytes

    cdef object _keep(self, list requests, list bodies, list fields)
    cdef int _add_exchange(self, Exchange *exchange, bytes request, object body, bytes nonce) except -1
    cdef int _add_nonce(self, Exchange *exchange, bytes request, object body, bytes nonce) except -1
    cdef int _add_client(self, int fd, size_t index) except -1
    cdef void _ask(self, Client *client, int64_t since_ns) noexcept nogil
    cdef void _make_nonce(self, Client *client) noexcept nogil
    cdef void _send(self, Client *client) noexcept nogil
    cdef ssize_t _send_with_nonce(self, Client *client) noexcept nogil
    cdef void _watch_output(self, Client *client, bint output) noexcept nogil
    cdef bint _take(self, Client *client, const char *p, size_t n) noexcept nogil
    cdef size_t _take_body(self, Client *client, const char *p, size_t n) noexcept nogil
    cdef size_t _take_head(self, Client *client, const char *p, size_t n) noexcept nogil
    cdef size_t _take_piece(self, Client *client, const char *p, size_t n) noexcept nogil
    cdef void _read_head(self, Client *client, const char *p, size_t n) noexcept nogil
    cdef void _begin_body(self, Client *client, const Head *head) noexcept nogil
    cdef void _compare(self, Client *client, const char *p, size_t n) noexcept nogil
    cdef void _compare_part(
        self, Client *client, const char *p, size_t n, const char *wanted, uint64_t begin, uint64_t end, Fault fault
    ) noexcept nogil
    cdef void _complete(self, Client *client) noexcept nogil
    cdef void _go_on(self, Client *client) noexcept nogil
    cdef void _ended(self, Client *client, Fault fault) noexcept nogil
    cdef void _reconnect(self, Client *client) noexcept nogil
    cdef void _blame(self, Client *client, Fault fault, uint64_t number, const char *p, size_t n) noexcept nogil
    cdef str _describe_end(self, Client *client)
