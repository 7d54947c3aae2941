# cython: freethreading_compatible=True
"""How the answer of a server is framed (RFC 9112): its head, and where its body ends.

Strict where a lenient reader would let a broken server win: HTTP/1.1, CRLF, one Content-Length or one
Transfer-Encoding: chunked, sizes that are numbers. Bytes may be cut anywhere behind the head, which comes whole.
"""

from libc.string cimport memchr, memcmp, memset

cdef enum:
    LEAST_HEAD_BYTES = 16           # "HTTP/1.1 200", end of line, blank line
    MAX_SIZE_BITS = 56              # of Content-Length and of a chunk's size


cdef bint is_name(const char *p, const char *wanted, size_t n) noexcept nogil:
    """Whether n bytes are a name, which is given in lower case."""
    cdef size_t i
    cdef char byte
    for i in range(n):
        byte = p[i]
        if c'A' <= byte <= c'Z':
            byte += 32
        if byte != wanted[i]:
            return False
    return True


cdef bint is_blank(char byte) noexcept nogil:
    return byte == c' ' or byte == c'\t'


cdef bint is_digit(char byte) noexcept nogil:
    return c'0' <= byte <= c'9'


cdef int digit_of(char byte) noexcept nogil:
    """The value of a hexadecimal digit, -1 if it is none."""
    if is_digit(byte):
        return byte - c'0'
    if c'a' <= byte <= c'f':
        return byte - c'a' + 10
    if c'A' <= byte <= c'F':
        return byte - c'A' + 10
    return -1


# --- the head ---------------------------------------------------------------------------------------------------------


cdef Trouble read_head(
    const char *p, size_t n, const Field *wanted, size_t n_wanted, Head *head
) noexcept nogil:
    """Read a whole head, up to its blank line; `wanted` are the fields that are looked for."""
    cdef const char *begin = p
    cdef const char *end = p + n - 2
    cdef const char *line_end
    cdef Trouble trouble
    memset(head, 0, sizeof(Head))
    if n < LEAST_HEAD_BYTES or memcmp(p, b"HTTP/1.1 ", 9) or not (
        is_digit(p[9]) and is_digit(p[10]) and is_digit(p[11]) and (p[12] == c' ' or p[12] == c'\r')
    ):
        return TROUBLE_STATUS_LINE
    head.status = 100 * (p[9] - c'0') + 10 * (p[10] - c'0') + (p[11] - c'0')
    line_end = <const char *>memchr(p, c'\n', n)
    while line_end[-1] == c'\r':
        p = line_end + 1
        if p == end:
            head.wrong = 0
            return TROUBLE_BOTH if head.has_length and head.is_chunked else TROUBLE_NONE
        head.wrong = <size_t>(p - begin)
        line_end = <const char *>memchr(p, c'\n', <size_t>(end - p))
        if line_end == NULL or line_end == p:
            break
        trouble = read_field(p, line_end - 1, wanted, n_wanted, head)
        if trouble != TROUBLE_NONE:
            return trouble
    return TROUBLE_FIELD


cdef Trouble read_field(
    const char *p, const char *end, const Field *wanted, size_t n_wanted, Head *head
) noexcept nogil:
    """Read one line of a head, without its CRLF."""
    cdef const char *value = <const char *>memchr(p, c':', <size_t>(end - p))
    cdef size_t name_bytes, value_bytes, i
    if value == NULL or value == p or is_blank(p[0]) or is_blank(value[-1]):
        return TROUBLE_FIELD
    name_bytes = <size_t>(value - p)
    value += 1
    while value < end and is_blank(value[0]):
        value += 1
    while value < end and is_blank(end[-1]):
        end -= 1
    value_bytes = <size_t>(end - value)
    for i in range(n_wanted):
        if name_bytes == wanted[i].name_bytes and value_bytes == wanted[i].value_bytes \
                and is_name(p, wanted[i].name, name_bytes) and memcmp(value, wanted[i].value, value_bytes) == 0:
            head.fields |= <uint64_t>1 << i
    if name_bytes == 14 and is_name(p, b"content-length", 14):
        return read_length(value, end, head)
    if name_bytes == 17 and is_name(p, b"transfer-encoding", 17):
        if head.is_chunked or value_bytes != 7 or not is_name(value, b"chunked", 7):
            return TROUBLE_CODING
        head.is_chunked = True
    elif name_bytes == 10 and is_name(p, b"connection", 10):
        head.closes = head.closes or has_close(value, end)
    return TROUBLE_NONE


cdef Trouble read_length(const char *p, const char *end, Head *head) noexcept nogil:
    """The value of Content-Length."""
    if head.has_length or p == end:
        return TROUBLE_LENGTH
    head.has_length = True
    while p < end:
        if not is_digit(p[0]) or head.length >> (MAX_SIZE_BITS - 4):
            return TROUBLE_LENGTH
        head.length = head.length * 10 + <uint64_t>(p[0] - c'0')
        p += 1
    return TROUBLE_NONE


cdef bint has_close(const char *p, const char *end) noexcept nogil:
    """Whether one of the options of Connection is `close`."""
    cdef const char *begin
    while p < end:
        while p < end and (is_blank(p[0]) or p[0] == c','):
            p += 1
        begin = p
        while p < end and not is_blank(p[0]) and p[0] != c',':
            p += 1
        if p - begin == 5 and is_name(begin, b"close", 5):
            return True
    return False


# --- the body ---------------------------------------------------------------------------------------------------------


cdef void begin_body(Body *body, const Head *head) noexcept nogil:
    """A body that is framed as its head says; without a word about it, it ends with the connection."""
    body.is_chunked = head.is_chunked
    body.left = 0 if head.is_chunked else head.length
    body.line_bytes = 0
    if head.is_chunked:
        body.part = PART_SIZE
    elif not head.has_length:
        body.part = PART_OPEN
    else:
        body.part = PART_DATA if head.length else PART_WHOLE


cdef size_t take_data(Body *body, size_t n) noexcept nogil:
    """Of n bytes at PART_DATA or PART_OPEN, so many are of the body, and taken."""
    if body.part == PART_OPEN:
        return n
    if n < body.left:
        body.left -= n
        return n
    n = <size_t>body.left
    body.left = 0
    body.part = PART_CHUNK_CR if body.is_chunked else PART_WHOLE
    return n


cdef size_t take_framing(Body *body, const char *p, size_t n) noexcept nogil:
    """Take what is no data, up to data, the end, or what may not stand there; returns how many bytes."""
    cdef size_t at = 0
    while at < n and body.part > PART_BAD:
        if body.part <= PART_SIZE_LF:
            body.part = part_after_size(body, p[at])
        else:
            body.part = part_after(body, p[at])
        at += 1
    return at


cdef Part part_after_size(Body *body, char byte) noexcept nogil:
    """The line before a chunk: its size, and extensions, which mean nothing to us."""
    cdef int digit
    if body.part == PART_SIZE_LF:
        if byte != c'\n':
            return PART_BAD
        body.line_bytes = 0
        return PART_DATA if body.left else PART_TRAILER
    if byte == c'\r':
        return PART_SIZE_LF if body.line_bytes else PART_BAD
    body.line_bytes += 1
    if byte == c'\n' or body.line_bytes > MAX_LINE_BYTES:
        return PART_BAD
    if body.part == PART_EXTENSION:
        return PART_EXTENSION
    digit = digit_of(byte)
    if digit < 0:
        return PART_EXTENSION if body.line_bytes > 1 and (byte == c';' or is_blank(byte)) else PART_BAD
    if body.left >> (MAX_SIZE_BITS - 4):
        return PART_BAD
    body.left = body.left << 4 | <uint64_t>digit
    return PART_SIZE


cdef Part part_after(Body *body, char byte) noexcept nogil:
    """Behind a chunk, or behind the last one."""
    if body.part == PART_CHUNK_CR:
        return PART_CHUNK_LF if byte == c'\r' else PART_BAD
    if body.part == PART_CHUNK_LF:
        return PART_SIZE if byte == c'\n' else PART_BAD
    if body.part == PART_TRAILER_LF:
        return PART_TRAILER if byte == c'\n' else PART_BAD
    if body.part == PART_LAST_LF:
        return PART_WHOLE if byte == c'\n' else PART_BAD
    if byte == c'\r':
        return PART_LAST_LF if body.part == PART_TRAILER else PART_TRAILER_LF
    body.line_bytes += 1
    return PART_BAD if byte == c'\n' or body.line_bytes > MAX_LINE_BYTES else PART_TRAILER_LINE
