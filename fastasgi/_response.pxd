"""Status, header fields and body to the bytes of an HTTP/1.1 response: validation and framing."""

from libc.stdint cimport uint32_t, uint64_t


cdef enum:
    JOIN_BYTES = 2048       # a body up to this size is copied behind its head: dearer to send apart than to copy
    N_MEMOS = 4             # beginnings of heads that are kept; a power of two
    MEMO_BYTES = 2048       # each of them at most
    MISSES = 8              # in a row; from then on one head in MISSES is kept


cdef enum Framing:
    FRAMING_NONE = 0        # no body on the wire: HEAD, 1xx, 204, 304
    FRAMING_LENGTH = 1      # Content-Length
    FRAMING_CHUNKED = 2
    FRAMING_CLOSE = 3       # the body ends with the connection


cdef struct ResponseHead:
    # --- in
    int http_minor          # of the request
    bint is_head_method     # HEAD
    bint keep_alive         # what the server would like
    # --- out
    Framing framing
    uint64_t length         # of FRAMING_LENGTH
    bint is_bodiless        # 1xx and 204, which carry no length either
    size_t head_n           # bytes of the head
    size_t room             # bytes behind it in the same object, for a body of at most JOIN_BYTES; 0: none
    bint close              # the connection closes behind this response


cdef class HeadMemo:
    """The beginning of a head that was made before."""

    cdef int code               # status
    cdef int seen               # bits of its fields
    cdef Py_ssize_t length_at   # which of the fields is Content-Length, -1: none
    cdef tuple pairs            # the application's fields: exact tuples of two exact bytes objects
    cdef frozenset defaults     # names that were looked out for
    cdef bytes written          # status line and fields without Content-Length, as they go over the wire

    cdef bint is_for(self, int code, object headers, frozenset defaults) noexcept


cdef class ResponseTables:
    """The scratch buffer of one worker in which heads are assembled, and beginnings of heads that come again."""

    cdef char *buffer           # owned
    cdef size_t room
    cdef size_t n
    cdef bytes coding           # Transfer-Encoding of the application for the head being made, or None
    cdef list suppressed        # names of default fields that the application sets itself, or None
    cdef list memos             # HeadMemo or None, by slot_of()
    cdef uint32_t misses        # heads in a row that were not found there

    cdef int reserve(self, size_t n) except -1
    cdef int append(self, const char *p, size_t n) except -1
    cdef int append_bytes(self, bytes data) except -1
    cdef int append_field(self, bytes name, bytes value) except -1
    cdef bytes encode(self, object status, object headers, ResponseHead *head, bytes block, tuple common)
    cdef int _fields(self, int code, object headers, ResponseHead *head, frozenset defaults) except -1
    cdef int _recall(self, HeadMemo memo, object headers, ResponseHead *head) except -1
    cdef int _remember(self, int code, object headers, int seen, frozenset defaults) except -1
    cdef int _field(self, bytes name, bytes value, ResponseHead *head, int seen, frozenset defaults) except -1
    cdef int _length(self, bytes value, ResponseHead *head, int seen) except -1
    cdef int _coding(self, bytes value, ResponseHead *head, int seen) except -1
    cdef int _connection(self, bytes value, ResponseHead *head) except -1
    cdef int _framing(self, ResponseHead *head, int seen) except -1
    cdef int _defaults(self, int seen, bytes block, tuple common) except -1


cdef int read_status(object status, ResponseHead *head) except -1
cdef bytes chunk_size_line(size_t n)
cdef bytes error_reply(int status, str text, bytes block, bint is_head_method)
cdef str reason_of(int status)
cdef bytes joined(bytes first, bytes second)
cdef list as_pairs(object headers)
