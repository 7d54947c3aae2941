# cython: freethreading_compatible=True
"""The head of an HTTP/1 request: from spans of bytes to the objects that an application sees, with our own checks.

What llhttp lets through and RFC 9112 does not is refused here: several spaces in the request line, a missing or doubled
Host, transfer codings that we cannot read, any of them in HTTP/1.0.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.list cimport PyList_New, PyList_SET_ITEM
from cpython.mem cimport PyMem_Free, PyMem_Malloc, PyMem_Realloc
from cpython.object cimport PyObject
from cpython.ref cimport Py_INCREF, Py_XDECREF
from cpython.tuple cimport PyTuple_GET_ITEM
from cpython.unicode cimport PyUnicode_DecodeUTF8
from libc.string cimport memchr, memcmp, memcpy

from fastasgi.fa cimport (
    FA_UNDERSCORES_DROP, FA_UNDERSCORES_KEEP, fa_equals_lower, fa_is_host, fa_lower, fa_percent_decode, fa_sample_hash,
    fa_scan_target, fa_target,
)

cdef extern from "Python.h":
    str PyUnicode_FromKindAndData(int kind, const void *buffer, Py_ssize_t size)

cdef bytes HOST = b"host", EMPTY = b"", SLASH = b"/"


# --- failures: one table from code to status to text ------------------------------------------------------------------

FAILURES = (
    (0, "", ""),
    (400, "bad-method", "expected a method of token characters and one space"),
    (501, "method-too-long", "expected a method of at most 64 bytes"),
    (501, "connect", "expected a method other than CONNECT: this is no proxy"),
    (414, "line-too-long", "the request line is longer than limit_request_line"),
    (431, "head-too-large", "the head is larger than limit_request_head"),
    (431, "too-many-fields", "the head has more fields than limit_request_headers"),
    (400, "bad-request-line", "expected method, target and HTTP/1.1, with one space between them, and CRLF"),
    (400, "bad-target", "expected a request target in origin, absolute or (for OPTIONS) asterisk form"),
    (505, "unsupported-version", "expected HTTP/1.0 or HTTP/1.1"),
    (400, "bad-field", "expected a field line of token, colon and visible characters"),
    (400, "bad-line-end", "expected CRLF"),
    (400, "no-host", "expected a Host field in an HTTP/1.1 request"),
    (400, "many-hosts", "expected one Host field"),
    (400, "bad-host", "expected host[:port] in Host"),
    (400, "bad-content-length", "expected one Content-Length of digits, and no Transfer-Encoding beside it"),
    (400, "bad-transfer-encoding", "expected a Transfer-Encoding that ends in chunked, once"),
    (501, "unknown-coding", "expected no transfer coding other than chunked"),
    (400, "coding-in-1.0", "expected no Transfer-Encoding in an HTTP/1.0 request"),
    (400, "bad-chunk", "expected a chunk of hexadecimal size, CRLF, data, CRLF"),
    (400, "chunk-extensions-too-large", "the chunk extensions are larger than limit_chunk_extension"),
    (413, "body-too-large", "the body is larger than limit_request_body"),
    (431, "trailers-too-large", "the trailers pass limit_request_head or limit_request_headers"),
    (400, "bad-syntax", "expected an HTTP/1.1 request"),
)


# --- tables of a worker -----------------------------------------------------------------------------------------------

cdef dict KINDS = {
    b"host": FIELD_HOST,
    b"transfer-encoding": FIELD_TRANSFER_ENCODING,
    b"expect": FIELD_EXPECT,
    b"authorization": FIELD_PRIVATE,
    b"proxy-authorization": FIELD_PRIVATE,
    b"cookie": FIELD_PRIVATE,
    b"x-api-key": FIELD_PRIVATE,
    b"x-auth-token": FIELD_PRIVATE,
    b"x-csrf-token": FIELD_PRIVATE,
    b"x-forwarded-for": FIELD_FORWARDED,
    b"x-forwarded-proto": FIELD_FORWARDED,
    b"x-forwarded-host": FIELD_FORWARDED,
    b"x-forwarded-port": FIELD_FORWARDED,
    b"x-forwarded-prefix": FIELD_FORWARDED,
    b"forwarded": FIELD_FORWARDED,
}

# Names that a proxy in front sets or overwrites, by their beginnings. An application that maps '-' to '_' (CGI, WSGI,
# Django's META) cannot tell X_Forwarded_For, which passes the proxy untouched, from the proxy's own field.
cdef tuple IMITATED = (
    b"x-forwarded", b"x-real-ip", b"x-client-", b"x-original-", b"x-scheme", b"x-ssl-", b"ssl-", b"x-cluster-",
    b"x-request-id", b"x-remote-", b"remote-", b"true-client-", b"cf-", b"fastly-client-", b"x-envoy-",
    b"x-accel-", b"x-authenticated-", b"x-auth-request-", b"x-amzn-", b"x-appengine-",
    b"content-length", b"content-type", b"transfer-encoding",
)


cdef uint8_t kind_of(bytes name) except 255:
    """FieldKind of a lower-case field name."""
    if b"_" in name:
        return FIELD_IMITATION if name.replace(b"_", b"-").startswith(IMITATED) else FIELD_UNDERSCORED
    return KINDS.get(name, FIELD_ORDINARY)


@cython.final
cdef class RequestTables:
    """What all parsers of one worker share: names and repeated fields as ready objects, and room for spans.

    Clients repeat most of their fields with every request. Names are kept in a direct-mapped table by the bytes that
    the client wrote, pairs (name, value) in another: a hit costs a cheap hash and a comparison and makes no object.
    Both are bounded in slots and bytes; an adversary can make them miss, no more, and never hold a value of
    FIELD_PRIVATE. Whole field sections are kept too (see RequestParser), until tick() has seen them unused.
    """

    def __cinit__(self, uint32_t max_fields):
        self.max_fields = max_fields
        self.fields = <FieldSpan *>PyMem_Malloc((<size_t>max_fields + 2) * sizeof(FieldSpan))
        self.body = <BodySpan *>PyMem_Malloc(MAX_BODY_SPANS * sizeof(BodySpan))
        if self.fields == NULL or self.body == NULL:
            raise MemoryError

    def __dealloc__(self):
        cdef int i
        PyMem_Free(self.fields)
        PyMem_Free(self.body)
        PyMem_Free(self.scratch)
        for i in range(N_MEMOS):
            self.forget(&self.memos[i])
        for i in range(N_NAMES):
            Py_XDECREF(self.names[i].name)
        for i in range(N_PAIRS):
            Py_XDECREF(self.pairs[i])

    cdef object field(self, const char *name, size_t name_n, const char *value, size_t value_n, uint8_t *kind):
        """The pair (lower-case name, value) of a field, and what the name means to the server. name_n > 0."""
        cdef uint32_t hashed = fa_sample_hash(name, name_n, 0)
        cdef NameSlot *known = &self.names[hashed & (N_NAMES - 1)]
        cdef object lower
        cdef PyObject **slot
        cdef PyObject *pair
        cdef PyObject *kept
        if known.n == name_n and memcmp(known.raw, name, name_n) == 0:
            kind[0] = known.kind
            lower = <object>known.name
        else:
            lower = self._new_name(known, name, name_n, kind)
        if value_n > MAX_PAIR_VALUE or kind[0] == FIELD_PRIVATE:
            return lower, PyBytes_FromStringAndSize(value, value_n)
        slot = &self.pairs[fa_sample_hash(value, value_n, hashed) & (N_PAIRS - 1)]
        pair = slot[0]
        if pair != NULL and PyTuple_GET_ITEM(<object>pair, 0) == <PyObject *>lower:
            kept = PyTuple_GET_ITEM(<object>pair, 1)
            if PyBytes_GET_SIZE(<object>kept) == <Py_ssize_t>value_n \
                    and memcmp(PyBytes_AS_STRING(<object>kept), value, value_n) == 0:
                return <object>pair
        made = (lower, PyBytes_FromStringAndSize(value, value_n))
        Py_INCREF(made)
        slot[0] = <PyObject *>made
        Py_XDECREF(pair)
        return made

    cdef object _new_name(self, NameSlot *slot, const char *name, size_t name_n, uint8_t *kind):
        """The name in lower case, kept in its slot unless it is long."""
        cdef bytes lower = PyBytes_FromStringAndSize(NULL, name_n)
        cdef PyObject *before = slot.name
        fa_lower(PyBytes_AS_STRING(lower), name, name_n)
        kind[0] = kind_of(lower)
        if name_n <= MAX_NAME:
            Py_INCREF(lower)
            slot.name, slot.kind, slot.n = <PyObject *>lower, kind[0], <uint8_t>name_n
            memcpy(slot.raw, name, name_n)
            Py_XDECREF(before)
        return lower

    cdef uint8_t remember(self, const char *block, uint32_t n, RequestHead head) except? 255:
        """Keep a field section and what it gave; returns its slot. The longest kept gives way."""
        cdef uint8_t slot = (self.latest_memo + 1) & (N_MEMOS - 1)
        cdef Memo *memo = &self.memos[slot]
        cdef list kept = head.headers[:]
        cdef char *copied = <char *>PyMem_Malloc(n)
        if copied == NULL:
            raise MemoryError
        memcpy(copied, block, n)
        self.forget(memo)
        Py_INCREF(kept)
        memo.block, memo.n, memo.headers, memo.is_used = copied, n, <PyObject *>kept, 1
        memo.keep_alive, memo.is_forwarded = head.keep_alive, head.is_forwarded
        memo.content_length = head.content_length
        self.latest_memo = slot
        return slot

    cdef void forget(self, Memo *memo) noexcept:
        PyMem_Free(memo.block)
        Py_XDECREF(memo.headers)
        memo.block, memo.headers = NULL, NULL

    def tick(self):
        """Forget the field sections that nobody has repeated since the last call: they may hold credentials."""
        cdef int i
        for i in range(N_MEMOS):
            if self.memos[i].block != NULL:
                if not self.memos[i].is_used:
                    self.forget(&self.memos[i])
                self.memos[i].is_used = 0

    cdef char *room(self, size_t n) except NULL:
        """Scratch memory of at least n bytes, valid until the next call."""
        cdef char *grown
        if n > self.scratch_n or self.scratch == NULL:
            grown = <char *>PyMem_Realloc(self.scratch, n + 64)
            if grown == NULL:
                raise MemoryError
            self.scratch, self.scratch_n = grown, n + 64
        return self.scratch


# --- the head ---------------------------------------------------------------------------------------------------------

cdef class RequestHead:
    """The head of the request that was read last. The base of RequestParser, which fills `progress`."""

    cdef void clear(self) noexcept:
        """Drop the objects of the head, which the exchange has taken over."""
        self.method = self.path = self.raw_path = self.query = self.authority = None
        self.headers = self.codings = None

    cdef size_t _take_repeated(self, Memo *memo, const char *p, size_t n) except? 1:
        """A head whose field section is, byte for byte, a remembered one; returns its size, or 0 when it is not.

        As HPACK refers to fields sent before, so here: the pairs are those of the first time, and only the request
        line is read. It takes nothing that the long way would not take: origin form of visible characters, one space
        on each side, HTTP/1.1. The method is known already.
        """
        cdef const fa_limits *limits = self.progress.limits
        cdef const char *end = <const char *>memchr(p, c"\r", min(n, <size_t>limits.line_bytes + 1))
        cdef size_t line_n
        if end == NULL:
            return 0
        line_n = end - p
        if n < line_n + 2 + memo.n or memcmp(end + 2, memo.block, memo.n) != 0 or end[1] != c"\n":
            return 0
        if line_n < self.method_n + 11 or p[self.method_n + 1] != c"/" or memcmp(end - 9, b" HTTP/1.1", 9) != 0:
            return 0
        if line_n + 2 + memo.n > limits.head_bytes:
            return 0
        if self._take_target(p + self.method_n + 1, line_n - self.method_n - 10) != OK:
            return 0
        memo.is_used = 1
        self.headers = (<list>memo.headers)[:]
        self.keep_alive, self.is_forwarded = memo.keep_alive, memo.is_forwarded
        self.http_minor = 1
        self.content_length = memo.content_length
        self.body_kind = BODY_LENGTH if memo.content_length else BODY_NONE
        self.expects_continue = self.wants_upgrade = False
        return line_n + 2 + memo.n

    cdef int _take_head(self, const char *base) except -1:
        """Check the head and set the fields of this parser; `base` is its first byte. Returns a Failure or OK."""
        cdef Progress *s = &self.progress
        cdef uint32_t target_end = s.target_at + s.target_n
        cdef int failure
        # llhttp tolerates several spaces in the request line; RFC 9112 section 3 has one.
        if s.target_at != self.method_n + 1 or s.line_end != target_end + 9:
            return BAD_LINE
        failure = self._take_target(base + s.target_at, s.target_n)
        if failure:
            return failure
        failure = self._take_fields(base)
        if failure:
            return failure
        return self._take_framing()

    cdef int _take_target(self, const char *p, size_t n) except -1:
        """Split the request target (RFC 9112 section 3.2)."""
        cdef fa_target found = fa_scan_target(p, n)
        self.authority = None
        if not found.is_valid:
            return BAD_TARGET
        if p[0] == c"*":
            if n != 1 or self.method != "OPTIONS":
                return BAD_TARGET
        elif p[0] != c"/":
            return self._take_authority(p, n)
        self.query = EMPTY if found.path_len + 1 >= n else PyBytes_FromStringAndSize(
            p + found.path_len + 1, n - found.path_len - 1)
        return self._take_path(p, found.path_len, found.has_escape)

    cdef int _take_authority(self, const char *p, size_t n) except -1:
        """Absolute form, http://authority/path: the authority takes the place of Host (section 3.2.2)."""
        cdef bytes target = p[:n]
        cdef bytes scheme, authority, rest
        cdef Py_ssize_t end
        scheme, slashes, rest = target.partition(b"://")
        if not slashes or scheme.lower() not in (b"http", b"https"):
            return BAD_TARGET
        end = len(rest)
        for mark in (b"/", b"?"):
            if mark in rest:
                end = min(end, rest.index(mark))
        authority = rest[:end]
        if not authority or not fa_is_host(authority, len(authority)):
            return BAD_TARGET
        path, _, query = rest[end:].partition(b"?")
        path = path or SLASH
        self.authority = authority
        self.query = query
        return self._take_path(path, len(path), b"%" in path)

    cdef int _take_path(self, const char *p, size_t n, bint has_escape) except -1:
        cdef char *decoded
        cdef size_t decoded_n
        self.raw_path = SLASH if n == 1 and p[0] == c"/" else PyBytes_FromStringAndSize(p, n)
        if not has_escape:
            self.path = PyUnicode_FromKindAndData(1, p, n)      # all ASCII, seen by fa_scan_target
        else:
            decoded = self.tables.room(n)
            decoded_n = fa_percent_decode(decoded, p, n)
            self.path = PyUnicode_DecodeUTF8(decoded, decoded_n, "replace")
        return OK

    cdef int _take_fields(self, const char *base) except -1:
        """Make the list of (name, value) pairs, and note the fields that mean something to the server."""
        cdef Progress *s = &self.progress
        cdef uint32_t i, taken = 0
        cdef size_t value_n
        cdef const char *value
        cdef FieldSpan *span
        cdef uint8_t kind
        cdef list headers = PyList_New(s.n_fields)
        self.n_hosts = 0
        self.codings = None
        self.expects_continue = self.is_forwarded = False
        for i in range(s.n_fields):
            span = &s.fields[i]
            value = base + span.value_at
            value_n = span.value_n
            while value_n and (value[value_n - 1] == c" " or value[value_n - 1] == c"\t"):
                value_n -= 1
            pair = self.tables.field(base + span.name_at, span.name_n, value, value_n, &kind)
            if kind != FIELD_ORDINARY:
                if kind == FIELD_HOST:
                    self.n_hosts += 1
                    if not fa_is_host(value, value_n):
                        headers = None
                        return BAD_HOST
                    if self.authority is not None:
                        pair = (HOST, self.authority)
                elif kind == FIELD_TRANSFER_ENCODING:
                    if self.codings is None:
                        self.codings = []
                    self.codings.append(pair[1])
                elif kind == FIELD_EXPECT:
                    if value_n == 12 and fa_equals_lower(value, b"100-continue", 12):
                        self.expects_continue = self.http_minor == 1
                elif kind == FIELD_FORWARDED:
                    self.is_forwarded = True
                elif kind != FIELD_PRIVATE and s.limits.underscores != FA_UNDERSCORES_KEEP:
                    if kind == FIELD_IMITATION or s.limits.underscores == FA_UNDERSCORES_DROP:
                        continue
            Py_INCREF(pair)
            PyList_SET_ITEM(headers, taken, pair)
            taken += 1
        if taken != s.n_fields:
            headers = headers[:taken]
        self.headers = headers
        return OK

    cdef int _take_framing(self) except -1:
        """Which body follows, and whether the connection persists (RFC 9112 sections 6.3 and 9.3)."""
        cdef Progress *s = &self.progress
        if self.n_hosts > 1:
            return MANY_HOSTS
        if self.n_hosts == 0:
            if self.http_minor == 1:
                return NO_HOST
            if self.authority is not None:
                self.headers.append((HOST, self.authority))
        if self.codings is not None:
            if self.http_minor == 0:
                return CODING_IN_1_0
            names = [name.strip(b" \t").lower() for name in b",".join(self.codings).split(b",")]
            names = [name for name in names if name]
            if not names or names[len(names) - 1] != b"chunked" or b"chunked" in names[:len(names) - 1]:
                return BAD_CODING
            if len(names) > 1:
                return UNKNOWN_CODING
        self.content_length = s.content_length if s.has_length else 0
        if self.codings is not None:
            self.body_kind = BODY_CHUNKED
        elif self.content_length:
            self.body_kind = BODY_LENGTH
            if self.content_length > s.limits.body_bytes:
                return BODY_TOO_LARGE
        else:
            self.body_kind = BODY_NONE
        if self.http_minor == 1:
            self.keep_alive = not s.says_close
        else:
            self.keep_alive = s.says_keep_alive and not s.says_close
        self.wants_upgrade = s.offers_upgrade and self.http_minor == 1
        return OK
