"""Bytes of HTTP/1 requests to heads and bodies; the only module that touches llhttp.

A `RequestParser` is fed by its connection and answers with a set of events. Spans of the bytes fed live until `feed`
returns to the connection's caller: what must outlive it is copied to memory of the parser (unfinished heads) or made
into Python objects (finished heads, bodies).
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t

from fastasgi._head cimport FieldSpan, RequestHead
from fastasgi.fa cimport fa_limits
from fastasgi.llhttp cimport llhttp_errno_t, llhttp_t


# What feed() saw, as bits; 0 means that more bytes are needed.
cdef enum Event:
    EVENT_HEAD = 1          # head fields of the parser are set
    EVENT_BODY = 2          # take_body() gives bytes
    EVENT_COMPLETE = 4      # the message ended; bytes from `consumed` on belong to the next
    EVENT_ERROR = 8         # error_status, error_code, error_text are set; the parser is finished
    EVENT_MORE = 16         # bytes from `consumed` on are still to be fed, after take_body()


cdef enum ParseState:
    PARSE_START = 0         # before the first byte of a message
    PARSE_EMPTY_LINE = 1    # CR of a leading empty line seen
    PARSE_METHOD = 2        # within a method that is read by ourselves
    PARSE_HEAD = 3          # llhttp reads the rest of the head
    PARSE_BODY = 4          # llhttp reads body, chunks, trailers
    PARSE_COUNTED = 5       # a body of known length behind a repeated head, which llhttp did not see
    PARSE_FAILED = 6        # nothing more is read


cdef class RequestParser(RequestHead):
    cdef int failure                # after EVENT_ERROR: what FAILURES lists, else 0
    # --- progress
    cdef size_t consumed            # bytes of the last feed that belong to this message
    cdef uint64_t body_bytes        # body bytes read of this message
    cdef llhttp_t llhttp
    cdef ParseState state
    cdef char *head                 # owned copy of an unfinished head, else NULL
    cdef uint32_t head_n
    cdef uint32_t head_room
    cdef FieldSpan *own_fields      # owned, while a head is unfinished, else NULL
    cdef bint is_fresh              # llhttp stands at the start of a message
    cdef uint8_t memo               # slot of the field section that this client sent last
    cdef uint8_t memo_wait          # requests until a section is remembered again ...
    cdef uint8_t memo_pause         # ... and how many that was the last time

    cdef void set_limits(self, const fa_limits *limits) noexcept
    cdef bint is_blank(self) noexcept
    cdef int feed(self, const char *p, size_t n) except -1
    cdef object take_body(self, object owner)
    cdef uint64_t body_left(self) noexcept
    cdef void _begin(self) noexcept
    cdef int _fail(self, int failure) except -1
    cdef int _read_start(self, const char *p, size_t n) except -1
    cdef bint _know_method(self, const char *p) noexcept
    cdef int _read_repeated(self, const char *p, size_t n) except -1
    cdef int _count_body(self, const char *p, size_t n) noexcept
    cdef int _remember(self, const char *p, size_t n) except -1
    cdef int _read_method(self, const char *p, size_t n) except -1
    cdef int _read_head(self, const char *p, size_t n, size_t at) except -1
    cdef int _end_head(self, const char *p, size_t n, size_t at, llhttp_errno_t code) except -1
    cdef int _read_body(self, const char *p, size_t n) except -1
    cdef int _end_step(self, const char *p, size_t n, llhttp_errno_t code) except -1
    cdef int _keep_head(self, const char *p, size_t n) except -1
    cdef int _keep_fields(self) except -1
    cdef int _failure_of(self, llhttp_errno_t code) noexcept
