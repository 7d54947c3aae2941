"""The head of an HTTP/1 request: from spans of bytes to objects; what all parsers of a worker share."""

from libc.stdint cimport int32_t, uint8_t, uint32_t, uint64_t

from cpython.ref cimport PyObject

from fastasgi.fa cimport fa_limits


# What is wrong with a request; FAILURES has the status, the code and the text of each.
cdef enum Failure:
    OK
    BAD_METHOD
    METHOD_TOO_LONG
    CONNECT
    LINE_TOO_LONG
    HEAD_TOO_LARGE
    TOO_MANY_FIELDS
    BAD_LINE
    BAD_TARGET
    UNSUPPORTED_VERSION
    BAD_FIELD
    BAD_LINE_END
    NO_HOST
    MANY_HOSTS
    BAD_HOST
    BAD_LENGTH
    BAD_CODING
    UNKNOWN_CODING
    CODING_IN_1_0
    BAD_CHUNK
    EXTENSIONS_TOO_LARGE
    BODY_TOO_LARGE
    TRAILERS_TOO_LARGE
    BAD_SYNTAX


cdef enum BodyKind:
    BODY_NONE = 0
    BODY_LENGTH = 1
    BODY_CHUNKED = 2


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
    FIELD_FORWARDED = 7         # proxies tell of the client in it


cdef enum:
    N_NAMES = 128           # slots for field names, a power of two
    MAX_NAME = 30           # bytes; longer names are made anew each time
    N_PAIRS = 512           # slots for repeated fields, a power of two
    MAX_PAIR_VALUE = 256    # bytes; longer values are not kept


cdef struct NameSlot:
    PyObject *name          # owned bytes in lower case, or NULL
    uint8_t kind            # FieldKind
    uint8_t n
    char raw[MAX_NAME]      # as the client wrote it, which it does the same way each time


cdef enum:
    N_MEMOS = 64            # slots for repeated field sections, a power of two
    MAX_MEMO = 2048         # bytes; longer ones are parsed each time
    MAX_MEMO_WAIT = 64      # requests until the next try with a client that does not repeat itself


cdef struct Memo:           # a field section that was parsed before, byte for byte
    char *block             # owned; from behind the request line to the empty line, included; NULL: free
    uint32_t n
    PyObject *headers       # owned list of pairs, copied for each request
    uint64_t content_length     # of the body that followed, 0: none
    uint8_t keep_alive
    uint8_t is_forwarded
    uint8_t is_used         # since the last tick


cdef struct Progress:       # what the callbacks of the parser write while a message is read
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
    # --- at the end of the head
    uint8_t has_length          # Content-Length is there
    uint8_t says_close          # in Connection
    uint8_t says_keep_alive
    uint8_t offers_upgrade      # both Connection: upgrade and Upgrade are there
    uint8_t protocol_n          # bytes seen of the protocol's name
    uint64_t content_length     # announced


cdef class RequestHead


cdef class RequestTables:
    """What all parsers of one worker share: repeated fields as ready pairs, and room for spans."""

    cdef FieldSpan *fields      # owned, max_fields + 1 entries
    cdef BodySpan *body         # owned, MAX_BODY_SPANS entries
    cdef uint32_t max_fields
    cdef NameSlot names[N_NAMES]
    cdef PyObject *pairs[N_PAIRS]   # owned tuples (name, value), or NULL
    cdef Memo memos[N_MEMOS]
    cdef uint8_t latest_memo
    cdef char *scratch          # owned; percent-decoding
    cdef size_t scratch_n

    cdef object field(self, const char *name, size_t name_n, const char *value, size_t value_n, uint8_t *kind)
    cdef object _new_name(self, NameSlot *slot, const char *name, size_t name_n, uint8_t *kind)
    cdef uint8_t remember(self, const char *block, uint32_t n, RequestHead head) except? 255
    cdef void forget(self, Memo *memo) noexcept
    cdef char *room(self, size_t n) except NULL


cdef class RequestHead:
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
    cdef bint is_forwarded          # a proxy tells of the client in some field
    cdef bint wants_upgrade         # both Connection: upgrade and Upgrade are there
    cdef bint is_complete           # the message ended
    cdef uint32_t n_hosts
    cdef list codings               # values of Transfer-Encoding, or None
    # --- what it is made of
    cdef RequestTables tables
    cdef Progress progress
    cdef uint32_t method_n          # bytes of the method

    cdef void clear(self) noexcept
    cdef size_t _take_repeated(self, Memo *memo, const char *p, size_t n) except? 1
    cdef int _take_head(self, const char *base) except -1
    cdef int _take_target(self, const char *p, size_t n) except -1
    cdef int _take_authority(self, const char *p, size_t n) except -1
    cdef int _take_path(self, const char *p, size_t n, bint has_escape) except -1
    cdef int _take_fields(self, const char *base) except -1
    cdef int _take_framing(self) except -1
