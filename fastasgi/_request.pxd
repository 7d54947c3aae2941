"""Bytes of HTTP/1 requests to heads and bodies; the only module that touches llhttp.

A `RequestParser` is fed by its connection and answers with a set of events. Spans of the bytes fed live until `feed`
returns to the connection's caller: what must outlive it is copied to memory of the parser (unfinished heads) or made
into Python objects (finished heads, bodies).
"""

from libc.stdint cimport int32_t, uint8_t, uint16_t, uint32_t, uint64_t

from cpython.ref cimport PyObject

from fastasgi.fa cimport fa_limits
from fastasgi.llhttp cimport llhttp_errno_t, llhttp_t


# What feed() saw, as bits; 0 means that more bytes are needed.
cdef enum Event:
    EVENT_HEAD = 1          # head fields of the parser are set
    EVENT_BODY = 2          # take_body() gives bytes
    EVENT_COMPLETE = 4      # the message ended; bytes from `consumed` on belong to the next
    EVENT_ERROR = 8         # error_status, error_code, error_text are set; the parser is finished
    EVENT_MORE = 16         # bytes from `consumed` on are still to be fed, after take_body()


cdef enum BodyKind:
    BODY_NONE = 0
    BODY_LENGTH = 1
    BODY_CHUNKED = 2


cdef enum ParseState:
    PARSE_START = 0         # before the first byte of a message
    PARSE_EMPTY_LINE = 1    # CR of a leading empty line seen
    PARSE_METHOD = 2        # within a method that is read by ourselves
    PARSE_HEAD = 3          # llhttp reads the rest of the head
    PARSE_BODY = 4          # llhttp reads body, chunks, trailers
    PARSE_FAILED = 5        # nothing more is read


cdef struct FieldSpan:      # offsets in bytes from the first byte of the head
    uint32_t name_at
    uint32_t name_n
    uint32_t value_at
    uint32_t value_n


cdef struct BodySpan:
    const char *at          # borrowed from the bytes fed
    size_t n


cdef enum:
    MAX_BODY_SPANS = 64     # spans of one feed; then the parser pauses and they are joined


cdef enum FieldKind:        # what a field name means to the server itself
    FIELD_ORDINARY = 0
    FIELD_HOST = 1
    FIELD_TRANSFER_ENCODING = 2
    FIELD_EXPECT = 3
    FIELD_PRIVATE = 4           # its value is never kept beyond the request
    FIELD_UNDERSCORED = 5       # its name holds '_'
    FIELD_IMITATION = 6         # the same, and with '-' it would be one that proxies or framing set


cdef enum:
    N_PAIRS = 512           # slots for repeated fields, a power of two
    MAX_PAIR_VALUE = 256    # bytes; longer values are not kept


cdef struct Progress:       # what the callbacks of llhttp write; llhttp_t.data points at it
    const fa_limits *limits     # borrowed from the Runtime
    FieldSpan *fields           # the shared table, or our own while a head is unfinished
    BodySpan *body              # the shared table
    const char *fed             # the bytes of this feed ...
    uint32_t base               # ... and the offset of their first byte in the head
    uint32_t n_fields
    uint32_t n_body
    uint32_t target_at
    uint32_t target_n
    uint32_t line_end           # offset behind the version
    uint32_t trailer_bytes
    uint32_t trailer_fields
    uint64_t extension_bytes
    uint64_t chunked_bytes      # announced by chunk sizes so far
    int32_t failure             # a Failure of our own found in a callback, or 0
    uint8_t is_line_done
    uint8_t is_new_field
    uint8_t is_head_done
    uint8_t is_trailing
    uint8_t is_message_done
    uint8_t wants_upgrade
    uint16_t flags              # llhttp's, at the end of the head
    uint64_t content_length     # announced, at the end of the head


cdef class RequestTables:
    """What all parsers of one worker share: repeated fields as ready pairs, and room for spans."""

    cdef FieldSpan *fields      # owned, max_fields + 1 entries
    cdef BodySpan *body         # owned, MAX_BODY_SPANS entries
    cdef uint32_t max_fields
    cdef PyObject *pairs[N_PAIRS]   # owned tuples (name, value) by slot of hash, or NULL
    cdef uint8_t kinds[N_PAIRS]     # their FieldKind
    cdef char *scratch          # owned; percent-decoding
    cdef size_t scratch_n

    cdef object field(self, const char *name, size_t name_n, const char *value, size_t value_n, uint8_t *kind)
    cdef object _new_field(self, const char *name, size_t name_n, const char *value, size_t value_n, uint8_t *kind)
    cdef char *room(self, size_t n) except NULL


cdef class RequestParser:
    # --- the head last read, valid from EVENT_HEAD until the next message begins; references are moved out by clear()
    cdef object method          # str
    cdef object path            # str, percent-decoded UTF-8
    cdef object raw_path        # bytes as received
    cdef object query           # bytes as received, without '?'
    cdef list headers           # (bytes, bytes) pairs, names in lower case
    cdef uint64_t content_length    # of BODY_LENGTH
    cdef uint8_t http_minor         # 0 or 1
    cdef BodyKind body_kind
    cdef bint keep_alive
    cdef bint expects_continue
    cdef object authority           # bytes of an absolute-form target, else None
    cdef bint wants_upgrade         # both Connection: upgrade and Upgrade are there
    cdef bint is_complete           # the message ended
    cdef uint32_t n_hosts
    cdef list codings               # values of Transfer-Encoding, or None
    # --- after EVENT_ERROR
    cdef int error_status           # HTTP status that answers it
    cdef object error_code          # str constant
    cdef object error_text          # str for the log
    # --- progress
    cdef size_t consumed            # bytes of the last feed that belong to this message
    cdef uint64_t body_bytes        # body bytes read of this message
    cdef llhttp_t llhttp
    cdef Progress progress
    cdef ParseState state
    cdef RequestTables tables
    cdef char *head                 # owned copy of an unfinished head, else NULL
    cdef uint32_t head_n
    cdef uint32_t head_room
    cdef uint32_t method_n          # bytes of the method
    cdef FieldSpan *own_fields      # owned, while a head is unfinished, else NULL
    cdef bint is_fresh              # llhttp stands at the start of a message

    cdef void set_limits(self, const fa_limits *limits) noexcept
    cdef bint is_idle(self) noexcept
    cdef int feed(self, const char *p, size_t n) except -1
    cdef object take_body(self, object owner)
    cdef uint64_t body_left(self) noexcept
    cdef void clear(self) noexcept
    cdef void _begin(self) noexcept
    cdef int _fail(self, int failure) except -1
    cdef int _read_start(self, const char *p, size_t n) except -1
    cdef int _read_method(self, const char *p, size_t n) except -1
    cdef int _read_head(self, const char *p, size_t n, size_t at) except -1
    cdef int _end_head(self, const char *p, size_t n, size_t at, llhttp_errno_t code) except -1
    cdef int _read_body(self, const char *p, size_t n) except -1
    cdef int _end_step(self, const char *p, size_t n, llhttp_errno_t code) except -1
    cdef int _keep_head(self, const char *p, size_t n) except -1
    cdef int _keep_fields(self) except -1
    cdef int _failure_of(self, llhttp_errno_t code) noexcept
    cdef int _take_head(self, const char *base) except -1
    cdef int _take_target(self, const char *p, size_t n) except -1
    cdef int _take_authority(self, const char *p, size_t n) except -1
    cdef int _take_path(self, const char *p, size_t n, bint has_escape) except -1
    cdef int _take_fields(self, const char *base) except -1
    cdef int _take_framing(self) except -1
