# cython: freethreading_compatible=True
"""Bytes of HTTP/1 requests to heads and bodies, driven by llhttp.

The way of a head: bytes go to llhttp, whose callbacks (C, without Python) record spans and count limits; when the
head is complete, the functions below `_take_head` look at the spans once and make two objects per field. Checks of
our own are made at points that do not depend on where the bytes were cut: in the `..._complete` callbacks, at limits
by clamping what llhttp is fed, and at the end of the head. So the same bytes always get the same answer.

States of a parser (`ParseState`):

    START -> EMPTY_LINE -> START            one leading CRLF, tolerated (RFC 9112 section 2.2)
    START -> METHOD -> HEAD                 a method that llhttp may not know, read by ourselves
    START -> HEAD                           a common method
    HEAD -> BODY | START                    the head is complete
    BODY -> START                           the message is complete
    any  -> FAILED                          an error, with its status
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.list cimport PyList_New, PyList_SET_ITEM
from cpython.mem cimport PyMem_Free, PyMem_Malloc, PyMem_Realloc
from cpython.object cimport PyObject
from cpython.ref cimport Py_INCREF, Py_XDECREF
from cpython.tuple cimport PyTuple_GET_ITEM
from cpython.unicode cimport PyUnicode_DecodeUTF8
from libc.string cimport memchr, memcmp, memcpy, strcmp

from fastasgi.fa cimport (
    FA_UNDERSCORES_DROP, FA_UNDERSCORES_DROP_FORWARDED, FA_UNDERSCORES_KEEP, FA_UNLIMITED,
    fa_equals_lower, fa_hash, fa_is_token, fa_limits, fa_lower, fa_name_hash, fa_percent_decode, fa_scan_target,
    fa_target,
)
from fastasgi.llhttp cimport (
    F_CHUNKED, F_CONNECTION_CLOSE, F_CONNECTION_KEEP_ALIVE, F_CONTENT_LENGTH, F_TRANSFER_ENCODING,
    HPE_CR_EXPECTED, HPE_INVALID_CHUNK_SIZE, HPE_INVALID_CONTENT_LENGTH, HPE_INVALID_HEADER_TOKEN,
    HPE_INVALID_METHOD, HPE_INVALID_TRANSFER_ENCODING, HPE_INVALID_URL, HPE_INVALID_VERSION, HPE_LF_EXPECTED,
    HPE_OK, HPE_PAUSED, HPE_UNEXPECTED_CONTENT_LENGTH,
    HTTP_REQUEST, llhttp_errno_t, llhttp_execute, llhttp_init, llhttp_resume, llhttp_settings_init,
    llhttp_settings_t, llhttp_t,
)

cdef extern from "Python.h":
    str PyUnicode_FromKindAndData(int kind, const void *buffer, Py_ssize_t size)


# --- failures: one table from code to status to text ------------------------------------------------------------------

cdef enum Failure:
    OK
    BAD_METHOD
    METHOD_TOO_LONG
    CONNECT
    LINE_TOO_LONG
    HEAD_TOO_LARGE
    TOO_MANY_FIELDS
    BAD_TARGET
    BAD_VERSION
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

cdef tuple FAILURES = (
    (0, "", ""),
    (400, "bad-method", "expected a method of token characters and one space"),
    (501, "method-too-long", "expected a method of at most 64 bytes"),
    (501, "connect", "expected a method other than CONNECT: this is no proxy"),
    (414, "line-too-long", "the request line is longer than limit_request_line"),
    (431, "head-too-large", "the head is larger than limit_request_head"),
    (431, "too-many-fields", "the head has more fields than limit_request_headers"),
    (400, "bad-target", "expected a request target in origin, absolute or (for OPTIONS) asterisk form"),
    (400, "bad-version", "expected HTTP/1.0 or HTTP/1.1 and CRLF behind the target"),
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

cdef str GET = "GET", POST = "POST", HEAD = "HEAD", PUT = "PUT", DELETE = "DELETE", PATCH = "PATCH"
cdef str OPTIONS = "OPTIONS"
cdef bytes HOST = b"host", EMPTY = b"", SLASH = b"/"
cdef enum:
    MAX_METHOD = 64         # bytes; RFC 9112 section 3: 501 above


# --- callbacks of llhttp: spans and counts, no Python -----------------------------------------------------------------

cdef inline uint32_t offset(Progress *s, const char *at) noexcept nogil:
    return s.base + <uint32_t>(at - s.fed)


cdef int on_url(llhttp_t *parser, const char *at, size_t n) noexcept nogil:
    cdef Progress *s = <Progress *>parser.data
    if s.target_n == 0:
        s.target_at = offset(s, at)
    s.target_n += <uint32_t>n
    return 0


cdef int on_version(llhttp_t *parser, const char *at, size_t n) noexcept nogil:
    cdef Progress *s = <Progress *>parser.data
    s.line_end = offset(s, at + n)
    return 0


cdef int on_version_complete(llhttp_t *parser) noexcept nogil:
    cdef Progress *s = <Progress *>parser.data
    s.is_line_done = 1
    if parser.http_major != 1:
        s.failure = UNSUPPORTED_VERSION
        return -1
    return 0


cdef int on_header_field(llhttp_t *parser, const char *at, size_t n) noexcept nogil:
    cdef Progress *s = <Progress *>parser.data
    cdef FieldSpan *field
    if s.is_head_done:
        return count_trailer(s, n)
    field = &s.fields[s.n_fields]
    if s.is_new_field:
        s.is_new_field = 0
        field.name_at = offset(s, at)
        field.name_n = 0
        field.value_at = field.name_at
        field.value_n = 0
    field.name_n += <uint32_t>n
    return 0


cdef int on_header_field_complete(llhttp_t *parser) noexcept nogil:
    cdef Progress *s = <Progress *>parser.data
    s.is_new_field = 1
    if s.is_head_done:
        s.trailer_fields += 1
        if s.trailer_fields > s.limits.fields:
            s.failure = TRAILERS_TOO_LARGE
            return -1
        return 0
    if not s.is_line_done:      # an HTTP/0.9 line: no version
        s.failure = BAD_VERSION
        return -1
    s.n_fields += 1
    if s.n_fields > s.limits.fields:
        s.failure = TOO_MANY_FIELDS
        return -1
    return 0


cdef int on_header_value(llhttp_t *parser, const char *at, size_t n) noexcept nogil:
    cdef Progress *s = <Progress *>parser.data
    cdef FieldSpan *field
    if s.is_head_done:
        return count_trailer(s, n)
    field = &s.fields[s.n_fields - 1]
    if field.value_n == 0:
        field.value_at = offset(s, at)
    field.value_n += <uint32_t>n
    return 0


cdef inline int count_trailer(Progress *s, size_t n) noexcept nogil:
    s.is_trailing = 1
    s.trailer_bytes += <uint32_t>n
    if s.trailer_bytes > s.limits.head_bytes:
        s.failure = TRAILERS_TOO_LARGE
        return -1
    return 0


cdef int on_headers_complete(llhttp_t *parser) noexcept nogil:
    cdef Progress *s = <Progress *>parser.data
    if not s.is_line_done:
        s.failure = BAD_VERSION
        return -1
    s.is_head_done = 1
    s.flags = parser.flags
    s.content_length = parser.content_length
    s.wants_upgrade = parser.upgrade
    # An Upgrade is an offer, which we have not taken yet: the request keeps its body, and what follows it is the
    # next request. Whoever takes the offer stops feeding this parser.
    parser.upgrade = 0
    return 0


cdef int on_chunk_header(llhttp_t *parser) noexcept nogil:
    cdef Progress *s = <Progress *>parser.data
    if parser.content_length > s.limits.body_bytes - s.chunked_bytes:
        s.failure = BODY_TOO_LARGE
        return -1
    s.chunked_bytes += parser.content_length
    return 0


cdef int on_chunk_extension(llhttp_t *parser, const char *at, size_t n) noexcept nogil:
    cdef Progress *s = <Progress *>parser.data
    s.extension_bytes += n
    if s.extension_bytes > s.limits.chunk_extension_bytes:
        s.failure = EXTENSIONS_TOO_LARGE
        return -1
    return 0


cdef int on_body(llhttp_t *parser, const char *at, size_t n) noexcept nogil:
    cdef Progress *s = <Progress *>parser.data
    s.body[s.n_body].at = at
    s.body[s.n_body].n = n
    s.n_body += 1
    return 0


cdef int on_chunk_complete(llhttp_t *parser) noexcept nogil:
    # A chunk gives at most one span a feed, so there is room for the next one.
    cdef Progress *s = <Progress *>parser.data
    return HPE_PAUSED if s.n_body >= MAX_BODY_SPANS - 1 else 0


cdef int on_message_complete(llhttp_t *parser) noexcept nogil:
    (<Progress *>parser.data).is_message_done = 1
    return HPE_PAUSED


cdef llhttp_settings_t SETTINGS      # constant after import
llhttp_settings_init(&SETTINGS)
SETTINGS.on_url = on_url
SETTINGS.on_version = on_version
SETTINGS.on_version_complete = on_version_complete
SETTINGS.on_header_field = on_header_field
SETTINGS.on_header_field_complete = on_header_field_complete
SETTINGS.on_header_value = on_header_value
SETTINGS.on_headers_complete = on_headers_complete
SETTINGS.on_chunk_header = on_chunk_header
SETTINGS.on_chunk_extension_name = on_chunk_extension
SETTINGS.on_chunk_extension_value = on_chunk_extension
SETTINGS.on_body = on_body
SETTINGS.on_chunk_complete = on_chunk_complete
SETTINGS.on_message_complete = on_message_complete


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


cdef class RequestTables:
    """What all parsers of one worker share: repeated fields as ready pairs, and room for spans.

    Clients repeat most of their fields with every request, so the pair (name, value) is kept in a direct-mapped
    table: a hit costs a hash and a comparison and makes no object. The table is bounded in slots and bytes, and
    never holds a field of FIELD_PRIVATE.
    """

    def __cinit__(self, uint32_t max_fields):
        self.max_fields = max_fields
        self.fields = <FieldSpan *>PyMem_Malloc((max_fields + 2) * sizeof(FieldSpan))
        self.body = <BodySpan *>PyMem_Malloc(MAX_BODY_SPANS * sizeof(BodySpan))
        if self.fields == NULL or self.body == NULL:
            raise MemoryError

    def __dealloc__(self):
        cdef int i
        PyMem_Free(self.fields)
        PyMem_Free(self.body)
        PyMem_Free(self.scratch)
        for i in range(N_PAIRS):
            Py_XDECREF(self.pairs[i])

    cdef object field(self, const char *name, size_t name_n, const char *value, size_t value_n, uint8_t *kind):
        """The pair (lower-case name, value) and what the name means; the value without surrounding white space."""
        cdef size_t slot
        cdef PyObject *pair
        cdef PyObject *known
        if value_n > MAX_PAIR_VALUE:
            return self._new_field(name, name_n, value, value_n, kind)
        slot = fa_hash(value, value_n, fa_name_hash(name, name_n)) & (N_PAIRS - 1)
        pair = self.pairs[slot]
        if pair != NULL:
            known = PyTuple_GET_ITEM(<object>pair, 1)
            if PyBytes_GET_SIZE(<object>known) == <Py_ssize_t>value_n \
                    and memcmp(PyBytes_AS_STRING(<object>known), value, value_n) == 0:
                known = PyTuple_GET_ITEM(<object>pair, 0)
                if PyBytes_GET_SIZE(<object>known) == <Py_ssize_t>name_n \
                        and fa_equals_lower(name, PyBytes_AS_STRING(<object>known), name_n):
                    kind[0] = self.kinds[slot]
                    return <object>pair
        made = self._new_field(name, name_n, value, value_n, kind)
        if kind[0] != FIELD_PRIVATE:
            Py_INCREF(made)
            self.pairs[slot] = <PyObject *>made
            self.kinds[slot] = kind[0]
            Py_XDECREF(pair)
        return made

    cdef object _new_field(self, const char *name, size_t name_n, const char *value, size_t value_n, uint8_t *kind):
        cdef bytes lower = PyBytes_FromStringAndSize(NULL, name_n)
        fa_lower(PyBytes_AS_STRING(lower), name, name_n)
        kind[0] = kind_of(lower)
        return lower, PyBytes_FromStringAndSize(value, value_n)

    cdef char *room(self, size_t n) except NULL:
        """Scratch memory of at least n bytes, valid until the next call."""
        cdef char *grown
        if n > self.scratch_n or self.scratch == NULL:
            grown = <char *>PyMem_Realloc(self.scratch, n + 64)
            if grown == NULL:
                raise MemoryError
            self.scratch, self.scratch_n = grown, n + 64
        return self.scratch


# --- the parser -------------------------------------------------------------------------------------------------------

cdef class RequestParser:
    """Reads the requests of one connection, one at a time.

    `feed` takes bytes and returns a set of Event bits. It never reads past the end of a message: what is left of the
    bytes (from `consumed`) is fed again when the next message may begin.
    """

    def __cinit__(self, RequestTables tables not None):
        self.tables = tables
        llhttp_init(&self.llhttp, HTTP_REQUEST, &SETTINGS)
        self.llhttp.data = &self.progress
        self.progress.fields = tables.fields
        self.progress.body = tables.body
        self.is_fresh = True

    def __dealloc__(self):
        PyMem_Free(self.head)
        PyMem_Free(self.own_fields)

    cdef void set_limits(self, const fa_limits *limits) noexcept:
        """`limits` is borrowed and must outlive the parser; its `fields` at most the tables' max_fields."""
        self.progress.limits = limits

    cdef bint is_idle(self) noexcept:
        """True between messages, when nothing of the next one has come."""
        return self.state == PARSE_START

    cdef void clear(self) noexcept:
        """Drop the objects of the head, which the exchange has taken over."""
        self.method = self.path = self.raw_path = self.query = self.authority = None
        self.headers = self.codings = None

    cdef int feed(self, const char *p, size_t n) except -1:
        """Read n bytes; returns Event bits. Not to be called after EVENT_ERROR or with n == 0."""
        self.consumed = 0
        self.progress.n_body = 0
        if self.state == PARSE_BODY:
            return self._read_body(p, n)
        if self.state == PARSE_START or self.state == PARSE_EMPTY_LINE:
            return self._read_start(p, n)
        if self.state == PARSE_METHOD:
            return self._read_method(p, n)
        if self.state == PARSE_HEAD:
            return self._read_head(p, n, 0)
        raise AssertionError("fed after an error")

    cdef object take_body(self, object owner):
        """The body bytes of the last feed, as one bytes object.

        `owner` is the bytes object that was fed, or None; when the body is all of it, it is returned itself.
        """
        cdef BodySpan *span = self.progress.body
        cdef size_t total = 0
        cdef uint32_t i
        cdef char *out
        if self.progress.n_body == 1:
            if owner is not None and span.at == PyBytes_AS_STRING(owner) and <Py_ssize_t>span.n == PyBytes_GET_SIZE(owner):
                return owner
            return PyBytes_FromStringAndSize(span.at, span.n)
        for i in range(self.progress.n_body):
            total += span[i].n
        joined = PyBytes_FromStringAndSize(NULL, total)
        out = PyBytes_AS_STRING(joined)
        for i in range(self.progress.n_body):
            memcpy(out, span[i].at, span[i].n)
            out += span[i].n
        return joined

    cdef uint64_t body_left(self) noexcept:
        """Body bytes still to come of a BODY_LENGTH message; 0 otherwise."""
        if self.state == PARSE_BODY and self.body_kind == BODY_LENGTH:
            return self.content_length - self.body_bytes
        return 0

    cdef void _begin(self) noexcept:
        """A message begins with the next byte."""
        cdef Progress *s = &self.progress
        if not self.is_fresh:
            llhttp_resume(&self.llhttp)
        self.is_fresh = False
        s.fields = self.tables.fields
        s.n_fields = s.target_n = s.target_at = s.line_end = 0
        s.trailer_bytes = s.trailer_fields = 0
        s.extension_bytes = s.chunked_bytes = 0
        s.failure = OK
        s.is_line_done = s.is_head_done = s.is_trailing = s.is_message_done = 0
        s.is_new_field = 1
        self.body_bytes = 0
        self.is_complete = False
        self.head_n = 0

    cdef int _fail(self, int failure) except -1:
        """Set the error; returns EVENT_ERROR."""
        self.state = PARSE_FAILED
        self.error_status, self.error_code, self.error_text = FAILURES[failure]
        return EVENT_ERROR

    cdef int _read_start(self, const char *p, size_t n) except -1:
        cdef size_t skipped = 0
        cdef int events
        if self.state == PARSE_START:
            self._begin()
            if n >= 8:
                if memcmp(p, b"GET ", 4) == 0:
                    self.method, self.method_n = GET, 3
                elif memcmp(p, b"POST ", 5) == 0:
                    self.method, self.method_n = POST, 4
                elif memcmp(p, b"HEAD ", 5) == 0:
                    self.method, self.method_n = HEAD, 4
                elif memcmp(p, b"PUT ", 4) == 0:
                    self.method, self.method_n = PUT, 3
                elif memcmp(p, b"DELETE ", 7) == 0:
                    self.method, self.method_n = DELETE, 6
                elif memcmp(p, b"PATCH ", 6) == 0:
                    self.method, self.method_n = PATCH, 5
                elif memcmp(p, b"OPTIONS ", 8) == 0:
                    self.method, self.method_n = OPTIONS, 7
                else:
                    self.method_n = 0
                if self.method_n:
                    self.state = PARSE_HEAD
                    return self._read_head(p, n, 0)
            if p[0] == c"\r":
                self.state = PARSE_EMPTY_LINE
                skipped = 1
        if self.state == PARSE_EMPTY_LINE and skipped < n:
            if p[skipped] != c"\n":
                return self._fail(BAD_LINE_END)
            skipped += 1
            self.state = PARSE_METHOD
        if skipped == n:
            self.consumed = n
            return 0
        self.state = PARSE_METHOD
        events = self._read_method(p + skipped, n - skipped)
        self.consumed += skipped
        return events

    cdef int _read_method(self, const char *p, size_t n) except -1:
        """Read a method that llhttp need not know, and let it read PUT in its place.

        llhttp treats methods other than CONNECT alike, save those of RTSP and ICE, which it refuses with HTTP/1.1;
        RFC 9110 section 9.1 leaves methods open, so any token is passed on to the application.
        """
        cdef size_t i = 0
        while i < n and p[i] != c" ":
            if not fa_is_token(p + i, 1):
                return self._fail(BAD_METHOD)
            if self.head_n + i >= MAX_METHOD:
                return self._fail(METHOD_TOO_LONG)
            i += 1
        if i == n:
            self._keep_head(p, n)
            self.consumed = n
            return 0
        self.method_n = self.head_n + <uint32_t>i
        if self.method_n == 0:
            return self._fail(BAD_METHOD)
        method = PyBytes_FromStringAndSize(self.head, self.head_n) if self.head_n else b""
        self.method = (method + p[:i]).decode("ascii")
        if self.method == "CONNECT":
            return self._fail(CONNECT)
        if llhttp_execute(&self.llhttp, b"PUT", 3) != HPE_OK:
            return self._fail(BAD_SYNTAX)
        self.state = PARSE_HEAD
        return self._read_head(p, n, i)

    cdef int _read_head(self, const char *p, size_t n, size_t at) except -1:
        """Feed llhttp from p[at], never past a limit, until the head is complete or the bytes are used up."""
        cdef Progress *s = &self.progress
        cdef llhttp_errno_t code
        cdef size_t limit, step
        cdef const char *behind
        s.fed, s.base = p, self.head_n
        while True:
            limit = s.limits.head_bytes
            if not s.is_line_done and s.limits.line_bytes < limit:
                limit = s.limits.line_bytes + 1     # its CR shows that the version is complete
            if s.base + at >= limit:
                return self._fail(HEAD_TOO_LARGE if s.is_line_done or limit == s.limits.head_bytes else LINE_TOO_LONG)
            step = min(n - at, limit - (s.base + at))
            code = llhttp_execute(&self.llhttp, p + at, step)
            if s.line_end > s.limits.line_bytes:
                return self._fail(LINE_TOO_LONG)
            if s.is_head_done:
                return self._end_head(p, n, at + step, code)
            if code != HPE_OK:
                return self._fail(self._failure_of(code))
            at += step
            if at == n:
                break
        if not s.is_line_done and s.target_n:
            # An HTTP/0.9 line ends behind the target. llhttp would wait for fields; answer at once.
            behind = p + (s.target_at + s.target_n - s.base) if s.target_at + s.target_n >= s.base else NULL
            if behind != NULL and behind < p + n and behind[0] != c" ":
                return self._fail(BAD_VERSION)
        self._keep_head(p, n)
        self._keep_fields()
        self.consumed = n
        return 0

    cdef int _end_head(self, const char *p, size_t n, size_t at, llhttp_errno_t code) except -1:
        """The head is complete, and perhaps bytes of the body up to p[at] were read by the same step."""
        cdef const char *base = p
        cdef int failure
        if self.head_n:
            self._keep_head(p, min(n, <size_t>self.progress.limits.head_bytes - self.head_n))
            base = self.head
        self.state = PARSE_BODY
        failure = self._take_head(base)
        if self.head != NULL:
            PyMem_Free(self.head)
            self.head, self.head_room = NULL, 0
        if self.own_fields != NULL:
            PyMem_Free(self.own_fields)
            self.own_fields = NULL
        self.progress.fields = self.tables.fields
        self.head_n = 0
        if failure:
            return self._fail(failure)
        cdef int events = EVENT_HEAD | self._end_step(p, at, code)
        if at < n and not events & (EVENT_COMPLETE | EVENT_ERROR | EVENT_MORE):
            events |= EVENT_MORE    # the step ended at a limit of the head
        return events

    cdef int _read_body(self, const char *p, size_t n) except -1:
        self.progress.fed = p
        self.progress.base = 0
        return self._end_step(p, n, llhttp_execute(&self.llhttp, p, n))

    cdef int _end_step(self, const char *p, size_t n, llhttp_errno_t code) except -1:
        """Events of a step that read (part of) p[:n] of a body."""
        cdef Progress *s = &self.progress
        cdef int events = 0
        cdef uint32_t i
        for i in range(s.n_body):
            self.body_bytes += s.body[i].n
            events = EVENT_BODY
        if code == HPE_OK:
            self.consumed = n
        elif code == HPE_PAUSED:
            self.consumed = self.llhttp.error_pos - p
            if s.is_message_done:
                self.state = PARSE_START
                self.is_complete = True
                return events | EVENT_COMPLETE
            llhttp_resume(&self.llhttp)
            return events | EVENT_MORE
        else:
            events |= self._fail(self._failure_of(code))
        return events

    cdef int _keep_head(self, const char *p, size_t n) except -1:
        """Append n bytes to our copy of an unfinished head: the caller's bytes do not outlive the feed."""
        cdef char *grown
        cdef size_t room
        if self.head_n + n > self.head_room:
            room = max(<size_t>1024, 2 * (self.head_n + n))
            grown = <char *>PyMem_Realloc(self.head, room)
            if grown == NULL:
                raise MemoryError
            self.head, self.head_room = grown, <uint32_t>room
        memcpy(self.head + self.head_n, p, n)
        self.head_n += <uint32_t>n
        return 0

    cdef int _keep_fields(self) except -1:
        """Move the spans of an unfinished head out of the shared table."""
        cdef size_t size = (self.tables.max_fields + 2) * sizeof(FieldSpan)
        if self.own_fields == NULL:
            self.own_fields = <FieldSpan *>PyMem_Malloc(size)
            if self.own_fields == NULL:
                raise MemoryError
            memcpy(self.own_fields, self.tables.fields, (self.progress.n_fields + 1) * sizeof(FieldSpan))
            self.progress.fields = self.own_fields
        return 0

    cdef int _failure_of(self, llhttp_errno_t code) noexcept:
        """Our failure for an error of llhttp, or for the one that a callback left."""
        cdef Progress *s = &self.progress
        if s.failure:
            return s.failure
        if s.is_trailing and self.llhttp._span_pos0 != NULL and (
            s.trailer_bytes + <size_t>(self.llhttp.error_pos - <const char *>self.llhttp._span_pos0) > s.limits.head_bytes
        ):
            return TRAILERS_TOO_LARGE   # fed byte by byte it would have been seen before the bad byte
        if code == HPE_INVALID_METHOD:
            return BAD_METHOD
        if code == HPE_INVALID_URL:
            return BAD_TARGET
        if code == HPE_INVALID_VERSION:
            return UNSUPPORTED_VERSION if strcmp(self.llhttp.reason, b"Invalid HTTP version") == 0 else BAD_VERSION
        if code == HPE_INVALID_CONTENT_LENGTH or code == HPE_UNEXPECTED_CONTENT_LENGTH:
            return BAD_LENGTH
        if code == HPE_INVALID_TRANSFER_ENCODING:
            return BAD_CODING
        if s.is_head_done and not s.is_trailing:
            return BAD_CHUNK
        if code == HPE_LF_EXPECTED or code == HPE_CR_EXPECTED:
            return BAD_LINE_END
        if not s.is_line_done:
            return BAD_VERSION if s.target_n else BAD_TARGET
        return BAD_FIELD

    # --- a complete head: spans to objects ----------------------------------------------------------------------------

    cdef int _take_head(self, const char *base) except -1:
        """Check the head and set the fields of this parser; `base` is its first byte. Returns a Failure or OK."""
        cdef Progress *s = &self.progress
        cdef uint32_t target_end = s.target_at + s.target_n
        cdef int failure
        self.http_minor = self.llhttp.http_minor
        # llhttp tolerates several spaces in the request line; RFC 9112 section 3 has one.
        if s.target_at != self.method_n + 1 or s.line_end != target_end + 9:
            return BAD_TARGET
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
        if not authority or not is_host(authority, len(authority)):
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
        self.expects_continue = False
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
                    if not is_host(value, value_n):
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
        self.content_length = s.content_length if s.flags & F_CONTENT_LENGTH else 0
        if s.flags & F_CHUNKED:
            self.body_kind = BODY_CHUNKED
        elif self.content_length:
            self.body_kind = BODY_LENGTH
            if self.content_length > s.limits.body_bytes:
                return BODY_TOO_LARGE
        else:
            self.body_kind = BODY_NONE
        if self.http_minor == 1:
            self.keep_alive = not s.flags & F_CONNECTION_CLOSE
        else:
            self.keep_alive = (s.flags & F_CONNECTION_KEEP_ALIVE) != 0 and not s.flags & F_CONNECTION_CLOSE
        self.wants_upgrade = s.wants_upgrade and self.http_minor == 1
        return OK


cdef bint is_host(const char *p, size_t n) noexcept nogil:
    """True when the bytes can be uri-host[:port] (RFC 9110 section 7.2); empty is allowed."""
    cdef size_t i
    cdef char c
    for i in range(n):
        c = p[i]
        if c <= 0x20 or c >= 0x7f or memchr(b"/\\?#@,<>\"{}|^`", c, 14) != NULL:
            return False
    return True


# --- a face for the tests ---------------------------------------------------------------------------------------------

cdef list TEST_BODY_KINDS = ["none", "length", "chunked"]
cdef dict TEST_UNDERSCORES = {
    "drop-forwarded": FA_UNDERSCORES_DROP_FORWARDED, "drop": FA_UNDERSCORES_DROP, "keep": FA_UNDERSCORES_KEEP,
}


cdef class _Reader:
    """Drives a RequestParser from Python."""

    cdef RequestParser parser
    cdef fa_limits limits
    cdef list events

    def __init__(self, dict limits):
        self.limits.line_bytes = limits.get("limit_request_line", 8192)
        self.limits.head_bytes = limits.get("limit_request_head", 65536)
        self.limits.fields = limits.get("limit_request_headers", 100)
        body = limits.get("limit_request_body")
        self.limits.body_bytes = FA_UNLIMITED if body is None else body
        self.limits.chunk_extension_bytes = limits.get("limit_chunk_extension", 4096)
        self.limits.underscores = TEST_UNDERSCORES[limits.get("underscore_headers", "drop-forwarded")]
        self.parser = RequestParser(RequestTables(self.limits.fields))
        self.parser.set_limits(&self.limits)
        self.events = []

    cdef bint read(self, bytes data) except -1:
        """Feed all of `data`; False after an error."""
        cdef const char *p = data
        cdef size_t n = len(data)
        cdef int seen
        cdef RequestParser parser = self.parser
        while n:
            seen = parser.feed(p, n)
            if seen & EVENT_HEAD:
                target = parser.raw_path + (b"?" + parser.query if parser.query else b"")
                self.events.append((
                    "head", parser.method, target, f"1.{parser.http_minor}", parser.headers, parser.keep_alive,
                    TEST_BODY_KINDS[parser.body_kind], parser.wants_upgrade,
                ))
                parser.clear()
            if seen & EVENT_BODY:
                self.events.append(("body", parser.take_body(None)))
            if seen & EVENT_COMPLETE:
                self.events.append(("complete",))
            if seen & EVENT_ERROR:
                self.events.append(("error", parser.error_status, parser.error_code, parser.error_text))
                return False
            p += parser.consumed
            n -= parser.consumed
        return True


def parse(list data_chunks, limits=None):
    """Events of the requests in `data_chunks` (bytes objects, in order), for tests.

    Each is ("head", method, target, version, headers, keep_alive, body_kind, upgrade), ("body", data), ("complete",)
    or, last, ("error", status, code, text). `limits` holds options named limit_request_*, limit_chunk_extension and
    underscore_headers; absent ones have their defaults.
    """
    cdef _Reader reader = _Reader(limits or {})
    for data in data_chunks:
        if not reader.read(data):
            break
    return reader.events
