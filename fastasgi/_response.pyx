# cython: freethreading_compatible=True
"""Status, header fields and body to the bytes of an HTTP/1.1 response: validation and framing.

Nothing that the application gives reaches the wire unseen: names are tokens (RFC 9110 section 5.6.2), values hold no
control bytes but HTAB (section 5.5), so that no field can smuggle another one or a second response.
"""

import http

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.mem cimport PyMem_Free, PyMem_Realloc
from cpython.object cimport PyObject
from cpython.tuple cimport PyTuple_CheckExact, PyTuple_GET_ITEM, PyTuple_GET_SIZE
from libc.string cimport memcmp, memcpy

from fastasgi.errors import ApplicationError
from fastasgi.fa cimport fa_decimal, fa_equals_lower, fa_hex, fa_is_field_value, fa_is_token, fa_parse_decimal

cdef extern from "Python.h":
    long PyLong_AsLongAndOverflow(object number, int *overflow)
    bint PyBytes_CheckExact(object thing)
    # Of an exact list or tuple.
    Py_ssize_t PySequence_Fast_GET_SIZE(object sequence)
    PyObject *PySequence_Fast_GET_ITEM(object sequence, Py_ssize_t at)

cdef enum:                      # fields that the server would add itself, as bits
    SEEN_LENGTH = 1
    SEEN_CODING = 2
    SEEN_DATE = 4
    SEEN_SERVER = 8
    SEEN_DEFAULT = 16           # one of the configured default fields
    SEEN_ONCE = 32              # one that is not for a memo: it decides more than its own line, or is a secret

cdef dict REASONS = {status.value: status.phrase for status in http.HTTPStatus}
cdef list STATUS_LINES = [
    b"HTTP/1.1 %d %b\r\n" % (status, REASONS.get(status, "").encode()) for status in range(100, 600)
]
cdef bytes CLOSE_FIELD = b"connection: close\r\n"
cdef bytes KEEP_ALIVE_FIELD = b"connection: keep-alive\r\n"
cdef bytes CHUNKED_FIELD = b"transfer-encoding: chunked\r\n"


cdef str reason_of(int status):
    """The reason phrase of a status, "" when there is none."""
    return REASONS.get(status, "")


cdef bytes chunk_size_line(size_t n):
    """The size line of a chunk with n bytes of data, with its CRLF."""
    cdef char line[20]
    cdef size_t digits = fa_hex(line, n)
    line[digits] = c"\r"
    line[digits + 1] = c"\n"
    return PyBytes_FromStringAndSize(line, digits + 2)


cdef bytes error_reply(int status, str text, bytes block, bint is_head_method):
    """A whole response that the server gives itself; the connection closes behind it."""
    body = text.encode()
    return b"HTTP/1.1 %d %b\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: %d\r\n%b%b\r\n%b" % (
        status, reason_of(status).encode(), len(body), CLOSE_FIELD, block, b"" if is_head_method else body)


cdef int read_status(object status, ResponseHead *head) except -1:
    """The status as a number, and what it says of the body. Raises ApplicationError."""
    cdef int code, overflow
    cdef long wide
    if type(status) is not int:
        if not isinstance(status, int) or isinstance(status, bool):
            raise ApplicationError(f"app gave the status {status!r:.100}: expected an int")
        status = int(status)
    wide = PyLong_AsLongAndOverflow(status, &overflow)
    code = <int>wide if 0 <= wide < 1000 and not overflow else 0
    if code < 100:
        raise ApplicationError(f"app gave the status {status}: expected 100 to 999")
    head.close = not head.keep_alive
    head.is_bodiless = code == 204 or code < 200
    head.framing = FRAMING_NONE if head.is_head_method or head.is_bodiless or code == 304 else FRAMING_CHUNKED
    return code


cdef object wrong_field(object name, object value):
    """The error for a field that is not made of two bytes objects, or holds an illegal byte."""
    for role, given in (("name", name), ("value", value)):
        if not isinstance(given, (bytes, bytearray, memoryview)):
            return ApplicationError(
                f"app gave a header {role} of type {type(given).__name__}: expected bytes, came {given!r:.100}")
    name, value = bytes(name), bytes(value)
    if not fa_is_token(name, len(name)):
        return ApplicationError(
            f"app gave the header name {name!r:.100}: expected token characters (RFC 9110 section 5.1)")
    return ApplicationError(
        f"app gave header {name!r:.100} an illegal value: expected no CR, LF, NUL or other control byte, "
        f"came {value!r:.100}")


# --- heads that come again --------------------------------------------------------------------------------------------

cdef inline bint is_pair(PyObject *thing) noexcept:
    """Whether it is an exact tuple of two exact bytes objects, which nothing can change."""
    return (PyTuple_CheckExact(<object>thing) and PyTuple_GET_SIZE(<object>thing) == 2
            and PyBytes_CheckExact(<object>PyTuple_GET_ITEM(<object>thing, 0))
            and PyBytes_CheckExact(<object>PyTuple_GET_ITEM(<object>thing, 1)))


cdef inline bint are_same(PyObject *left, PyObject *right) noexcept:
    """left == right, for bytes objects."""
    return left == right or (
        PyBytes_GET_SIZE(<object>left) == PyBytes_GET_SIZE(<object>right)
        and memcmp(PyBytes_AS_STRING(<object>left), PyBytes_AS_STRING(<object>right),
                   PyBytes_GET_SIZE(<object>left)) == 0)


cdef int slot_of(object headers) noexcept:
    """Where a list or tuple of fields has its memo, told by their number and the length of the first value."""
    cdef Py_ssize_t n = PySequence_Fast_GET_SIZE(headers)
    cdef PyObject *first
    if n == 0:
        return 0
    first = PySequence_Fast_GET_ITEM(headers, 0)
    if is_pair(first):
        n += PyBytes_GET_SIZE(<object>PyTuple_GET_ITEM(<object>first, 1))
    return <int>(n & (N_MEMOS - 1))


@cython.final
cdef class HeadMemo:
    """The beginning of a head that was made before, and for which fields: most of what applications answer repeats the
    fields of an earlier answer, all but the length. It is copied then, and not checked and put together anew.

    The fields are compared byte by byte. Those that set a cookie are never kept.
    """

    cdef bint is_for(self, int code, object headers, frozenset defaults) noexcept:
        """Whether a head with this status and these fields, a list or tuple, begins like this one."""
        cdef Py_ssize_t at, n = PyTuple_GET_SIZE(self.pairs)
        cdef PyObject *kept
        cdef PyObject *given
        if code != self.code or defaults is not self.defaults or PySequence_Fast_GET_SIZE(headers) != n:
            return False
        for at in range(n):
            kept, given = PyTuple_GET_ITEM(self.pairs, at), PySequence_Fast_GET_ITEM(headers, at)
            if kept == given:
                continue
            if not is_pair(given):
                return False
            if not are_same(PyTuple_GET_ITEM(<object>kept, 0), PyTuple_GET_ITEM(<object>given, 0)):
                return False
            if at != self.length_at and not are_same(
                    PyTuple_GET_ITEM(<object>kept, 1), PyTuple_GET_ITEM(<object>given, 1)):
                return False
        return True


@cython.final
cdef class ResponseTables:
    """The scratch buffer of one worker in which heads are assembled, and the fields every response gets."""

    def __cinit__(self):
        self.memos = [None] * N_MEMOS

    def __dealloc__(self):
        PyMem_Free(self.buffer)

    cdef int reserve(self, size_t n) except -1:
        """Room for n bytes more."""
        cdef char *grown
        if self.n + n > self.room:
            grown = <char *>PyMem_Realloc(self.buffer, 2 * (self.n + n) + 1024)
            if grown == NULL:
                raise MemoryError
            self.buffer, self.room = grown, 2 * (self.n + n) + 1024
        return 0

    cdef int append(self, const char *p, size_t n) except -1:
        self.reserve(n)
        memcpy(self.buffer + self.n, p, n)
        self.n += n
        return 0

    cdef int append_bytes(self, bytes data) except -1:
        return self.append(PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))

    cdef int append_field(self, bytes name, bytes value) except -1:
        """name: value CRLF, checked byte by byte."""
        cdef size_t name_n = PyBytes_GET_SIZE(name), value_n = PyBytes_GET_SIZE(value)
        cdef const char *name_p = PyBytes_AS_STRING(name)
        cdef const char *value_p = PyBytes_AS_STRING(value)
        cdef char *out
        if not fa_is_token(name_p, name_n) or not fa_is_field_value(value_p, value_n):
            raise wrong_field(name, value)
        self.reserve(name_n + value_n + 4)
        out = self.buffer + self.n
        memcpy(out, name_p, name_n)
        out += name_n
        out[0], out[1] = c":", c" "
        memcpy(out + 2, value_p, value_n)
        out += 2 + value_n
        out[0], out[1] = c"\r", c"\n"
        self.n += name_n + value_n + 4
        return 0

    cdef bytes encode(self, object status, object headers, ResponseHead *head, bytes block, tuple common):
        """The head of a response, its empty line included, and room for a short body behind it.

        `status` is an int from 100 to 999, `headers` an iterable of pairs of bytes. `block` holds the fields that
        every response gets, `common` the same as (date line, server line, default pairs, their names). Decides the
        framing (RFC 9112 section 6) and whether the connection persists, and writes both to `head`. Raises
        ApplicationError.
        """
        cdef int seen, code
        cdef bytes encoded
        cdef HeadMemo memo
        if type(headers) is not list and type(headers) is not tuple:
            headers = as_pairs(headers)
        self.n = 0
        self.coding = None
        self.suppressed = None
        code = read_status(status, head)
        memo = self.memos[slot_of(headers)]
        if memo is not None and memo.is_for(code, headers, <frozenset>common[3]):
            seen = self._recall(memo, headers, head)
        else:
            seen = self._fields(code, headers, head, <frozenset>common[3])
            if seen < 0:
                return self.encode(status, as_pairs(headers), head, block, common)
        self._framing(head, seen)
        self._defaults(seen, block, common)
        self.append(b"\r\n", 2)
        head.head_n = self.n
        head.room = head.length if head.framing == FRAMING_LENGTH and head.length <= JOIN_BYTES else 0
        encoded = PyBytes_FromStringAndSize(NULL, self.n + head.room)
        memcpy(PyBytes_AS_STRING(encoded), self.buffer, self.n)
        return encoded

    cdef int _fields(self, int code, object headers, ResponseHead *head, frozenset defaults) except -1:
        """Check and write status line and fields of the application; returns the bits of `seen`, -2 where a field is
        no tuple of two: iterating over what an application made may run its code, not while the buffer is in use."""
        cdef int seen = 0
        cdef bint is_kept = True
        if code < 600:
            self.append_bytes(<bytes>STATUS_LINES[code - 100])
        else:
            self.append_bytes(b"HTTP/1.1 %d \r\n" % code)
        for pair in headers:
            if type(pair) is not tuple or len(<tuple>pair) != 2:
                return -2
            name, value = (<tuple>pair)[0], (<tuple>pair)[1]
            if type(name) is not bytes or type(value) is not bytes:
                name, value = as_bytes(name, value)
                is_kept = False
            seen |= self._field(<bytes>name, <bytes>value, head, seen, defaults)
        self.misses += 1
        if is_kept and not seen & (SEEN_CODING | SEEN_DEFAULT | SEEN_ONCE) and self.n <= MEMO_BYTES \
                and (self.misses < MISSES or self.misses % MISSES == 0):
            self._remember(code, headers, seen, defaults)
        return seen

    cdef int _remember(self, int code, object headers, int seen, frozenset defaults) except -1:
        """Keep what _fields() has just written."""
        cdef HeadMemo memo = HeadMemo.__new__(HeadMemo)
        cdef Py_ssize_t at
        memo.code, memo.seen, memo.length_at = code, seen & ~SEEN_LENGTH, -1
        memo.pairs, memo.defaults = tuple(headers), defaults
        if seen & SEEN_LENGTH:
            for at in range(len(memo.pairs)):
                if len(memo.pairs[at][0]) == 14 and memo.pairs[at][0].lower() == b"content-length":
                    memo.length_at = at
        memo.written = PyBytes_FromStringAndSize(self.buffer, self.n)
        self.memos[slot_of(headers)] = memo
        return 0

    cdef int _recall(self, HeadMemo memo, object headers, ResponseHead *head) except -1:
        """What _fields() would write and return; only the length is this head's own."""
        self.misses = 0
        self.append_bytes(memo.written)
        if memo.length_at < 0:
            return memo.seen
        return memo.seen | self._length((<tuple>headers[memo.length_at])[1], head, 0)

    cdef int _field(self, bytes name, bytes value, ResponseHead *head, int seen, frozenset defaults) except -1:
        """One field of the application; returns the bits of `seen` that it sets."""
        cdef const char *p = PyBytes_AS_STRING(name)
        cdef size_t n = PyBytes_GET_SIZE(name)
        cdef int bits = 0
        if n == 14 and (memcmp(p, b"content-length", 14) == 0 or fa_equals_lower(p, b"content-length", 14)):
            return self._length(value, head, seen)
        if n == 17 and fa_equals_lower(p, b"transfer-encoding", 17):
            return self._coding(value, head, seen)
        if n == 10 and fa_equals_lower(p, b"connection", 10):
            self._connection(value, head)
            return SEEN_ONCE
        if n == 10 and fa_equals_lower(p, b"set-cookie", 10):
            bits = SEEN_ONCE
        elif n == 4 and fa_equals_lower(p, b"date", 4):
            bits = SEEN_DATE
        elif n == 6 and fa_equals_lower(p, b"server", 6):
            bits = SEEN_SERVER
        if defaults and name.lower() in defaults:
            bits |= SEEN_DEFAULT
            if self.suppressed is None:
                self.suppressed = []
            self.suppressed.append(name.lower())
        self.append_field(name, value)
        return bits

    cdef int _length(self, bytes value, ResponseHead *head, int seen) except -1:
        """Content-Length is written once, by _framing(), if the framing has one."""
        cdef uint64_t length
        if fa_parse_decimal(PyBytes_AS_STRING(value), PyBytes_GET_SIZE(value), &length):
            raise ApplicationError(f"app gave the Content-Length {value!r:.100}: expected digits")
        if seen & SEEN_LENGTH and length != head.length:
            raise ApplicationError(f"app gave two Content-Lengths, {head.length} and {length}: expected one")
        head.length = length
        return SEEN_LENGTH | (SEEN_ONCE if seen & SEEN_LENGTH else 0)

    cdef int _coding(self, bytes value, ResponseHead *head, int seen) except -1:
        """Transfer-Encoding is honoured when it ends in chunked: the server does the chunking, once."""
        names = [name.strip(b" \t").lower() for name in value.split(b",")]
        if names[len(names) - 1] != b"chunked" or names.count(b"chunked") != 1:
            raise ApplicationError(f"app gave the Transfer-Encoding {value!r:.100}: expected one that ends in chunked")
        if not fa_is_field_value(PyBytes_AS_STRING(value), PyBytes_GET_SIZE(value)):
            raise wrong_field(b"transfer-encoding", value)
        if seen & SEEN_CODING and value != self.coding:
            raise ApplicationError(
                f"app gave two Transfer-Encodings, {self.coding!r:.100} and {value!r:.100}: expected one")
        self.coding = value
        return SEEN_CODING

    cdef int _connection(self, bytes value, ResponseHead *head) except -1:
        """The server writes close and keep-alive itself; other options pass."""
        rest = []
        for option in value.split(b","):
            lower = option.strip(b" \t").lower()
            if lower == b"close":
                head.close = True
            elif lower and lower != b"keep-alive":
                rest.append(option.strip(b" \t"))
        if rest:
            self.append_field(b"connection", b", ".join(rest))
        return 0

    cdef int _framing(self, ResponseHead *head, int seen) except -1:
        """Decide how the body is delimited, and write the fields that say so (RFC 9112 section 6)."""
        cdef char line[48]
        cdef size_t n
        cdef bint has_length = seen & SEEN_LENGTH and not seen & SEEN_CODING and not head.is_bodiless
        if head.framing == FRAMING_CHUNKED:
            if has_length:
                head.framing = FRAMING_LENGTH
            elif head.http_minor == 0:
                if self.coding is not None and self.coding.strip(b" \t").lower() != b"chunked":
                    raise ApplicationError(
                        f"app gave the Transfer-Encoding {self.coding!r:.100}: expected none but chunked for HTTP/1.0")
                head.framing = FRAMING_CLOSE
                head.close = True
        if has_length:
            memcpy(line, b"content-length: ", 16)
            n = 16 + fa_decimal(line + 16, head.length)
            line[n], line[n + 1] = c"\r", c"\n"
            self.append(line, n + 2)
        elif head.framing == FRAMING_CHUNKED or (seen & SEEN_CODING and not head.is_bodiless and head.http_minor):
            if self.coding is None:
                self.append_bytes(CHUNKED_FIELD)
            else:
                self.append_field(b"transfer-encoding", self.coding)
        if head.close:
            self.append_bytes(CLOSE_FIELD)
        elif head.http_minor == 0:
            self.append_bytes(KEEP_ALIVE_FIELD)
        return 0

    cdef int _defaults(self, int seen, bytes block, tuple common) except -1:
        """Date, Server and the configured fields, save those that the application has set itself."""
        if not seen & (SEEN_DATE | SEEN_SERVER | SEEN_DEFAULT):
            return self.append_bytes(block)
        if not seen & SEEN_DATE:
            self.append_bytes(<bytes>common[0])
        if not seen & SEEN_SERVER:
            self.append_bytes(<bytes>common[1])
        for name, value in <tuple>common[2]:
            if self.suppressed is None or name not in self.suppressed:
                self.append_field(name, value)
        return 0


cdef bytes joined(bytes first, bytes second):
    """Both in one object."""
    cdef Py_ssize_t first_n = PyBytes_GET_SIZE(first), second_n = PyBytes_GET_SIZE(second)
    cdef bytes both = PyBytes_FromStringAndSize(NULL, first_n + second_n)
    memcpy(PyBytes_AS_STRING(both), PyBytes_AS_STRING(first), first_n)
    memcpy(PyBytes_AS_STRING(both) + first_n, PyBytes_AS_STRING(second), second_n)
    return both


cdef list as_pairs(object headers):
    """Any iterable of pairs as a list of tuples of two."""
    if headers is None:
        return []
    if not hasattr(headers, "__iter__"):
        raise ApplicationError(f"app gave the headers {headers!r:.100}: expected pairs of bytes")
    return [as_pair(pair) for pair in headers]


cdef tuple as_pair(object pair):
    """Two items out of any iterable that has two."""
    if isinstance(pair, (str, bytes, bytearray)) or not hasattr(pair, "__iter__"):
        raise ApplicationError(f"app gave the header {pair!r:.100}: expected a pair of bytes")
    items = tuple(pair)
    if len(items) != 2:
        raise ApplicationError(f"app gave the header {pair!r:.100}: expected a pair of bytes, came {len(items)} items")
    return items


cdef tuple as_bytes(object name, object value):
    for part in (name, value):
        if not isinstance(part, (bytes, bytearray, memoryview)):
            raise wrong_field(name, value)
    return bytes(name), bytes(value)
