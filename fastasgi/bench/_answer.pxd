"""How the answer of a server is framed: its head, and where its body ends. Bytes only, no sockets."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t


cdef enum:
    MAX_FIELDS = 64         # that one answer can be asked to have
    MAX_LINE_BYTES = 4096   # of a chunk's size and extensions; of all trailers


# What is wrong with a head.
ctypedef uint8_t Trouble
cdef enum:
    TROUBLE_NONE
    TROUBLE_STATUS_LINE     # it does not begin with "HTTP/1.1 " and three digits
    TROUBLE_FIELD           # a line is no field
    TROUBLE_LENGTH          # Content-Length twice, or no number
    TROUBLE_CODING          # Transfer-Encoding twice, or other than chunked
    TROUBLE_BOTH            # Content-Length and chunked


# A field that answers must have.
ctypedef struct Field:
    const char *name                # in lower case; borrowed
    size_t name_bytes
    const char *value               # borrowed
    size_t value_bytes


ctypedef struct Head:
    int status
    bint has_length                 # Content-Length is there, and is `length`
    uint64_t length
    bint is_chunked
    bint closes                     # Connection: close
    uint64_t fields                 # bit i: the i-th field that was asked for is there
    size_t wrong                    # where the line stands that is in trouble


# What comes next of a body. Up to PART_BAD no framing is read.
ctypedef uint8_t Part
cdef enum:
    PART_DATA               # `left` bytes of the body
    PART_OPEN               # bytes of the body until the connection ends
    PART_WHOLE              # nothing
    PART_BAD                # the framing is broken
    PART_SIZE               # chunked, RFC 9112 section 7.1: digits of a chunk's size
    PART_EXTENSION          # chunk-ext, up to CR
    PART_SIZE_LF
    PART_CHUNK_CR           # behind the bytes of a chunk
    PART_CHUNK_LF
    PART_TRAILER            # behind the last chunk, at the begin of a line
    PART_TRAILER_LINE       # within it, up to CR
    PART_TRAILER_LF
    PART_LAST_LF


ctypedef struct Body:
    Part part
    bint is_chunked
    uint64_t left                   # bytes of the body, or of this chunk; of PART_SIZE the number so far
    uint32_t line_bytes             # of the line under way, or of all trailers


cdef Trouble read_head(
    const char *p, size_t n, const Field *wanted, size_t n_wanted, Head *head
) noexcept nogil
cdef void begin_body(Body *body, const Head *head) noexcept nogil
cdef size_t take_framing(Body *body, const char *p, size_t n) noexcept nogil
cdef size_t take_data(Body *body, size_t n) noexcept nogil
