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
    START -> COUNTED | START                a head that repeats the last one, read at a glance
    BODY, COUNTED -> START                  the message is complete
    any  -> FAILED                          an error, with its status
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.mem cimport PyMem_Free, PyMem_Malloc, PyMem_Realloc
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy, strcmp

from fastasgi._head cimport (
    BAD_CHUNK, BAD_CODING, BAD_FIELD, BAD_LENGTH, BAD_LINE, BAD_LINE_END, BAD_METHOD, BAD_SYNTAX, BODY_CHUNKED,
    BODY_LENGTH, BODY_NONE, BODY_TOO_LARGE, CONNECT, EXTENSIONS_TOO_LARGE, HEAD_TOO_LARGE, LINE_TOO_LONG,
    MAX_BODY_SPANS, MAX_MEMO, MAX_MEMO_WAIT, METHOD_TOO_LONG, OK, TOO_MANY_FIELDS, TRAILERS_TOO_LARGE,
    UNSUPPORTED_VERSION, BodySpan, FieldSpan, Memo, Progress, RequestTables,
)
from fastasgi._live cimport count_live
from fastasgi.fa cimport fa_is_token, fa_limits
from fastasgi.llhttp cimport (
    F_CHUNKED, F_CONNECTION_CLOSE, F_CONNECTION_KEEP_ALIVE, F_CONTENT_LENGTH, F_TRANSFER_ENCODING,
    HPE_CR_EXPECTED, HPE_INVALID_CONTENT_LENGTH, HPE_INVALID_METHOD, HPE_INVALID_TRANSFER_ENCODING,
    HPE_INVALID_VERSION, HPE_LF_EXPECTED, HPE_OK, HPE_PAUSED, HPE_UNEXPECTED_CONTENT_LENGTH,
    HTTP_REQUEST, llhttp_errno_t, llhttp_execute, llhttp_init, llhttp_resume, llhttp_settings_init,
    llhttp_settings_t, llhttp_t,
)

cdef str GET = "GET", POST = "POST", HEAD = "HEAD", PUT = "PUT", DELETE = "DELETE", PATCH = "PATCH"
cdef str OPTIONS = "OPTIONS"
cdef enum:
    MAX_METHOD = 64         # bytes; RFC 9112 section 3: 501 above
    AS_CONNECTION = 1       # llhttp's number for Connection, and for Proxy-Connection
    CONNECTION_BYTES = 10   # of the name


# --- callbacks of llhttp: spans and counts, no Python -----------------------------------------------------------------

# hot
cdef inline uint32_t offset(Progress *s, const char *at) noexcept nogil:
    return s.base + <uint32_t>(at - s.fed)


cdef int on_url(llhttp_t *parser, const char *at, size_t n) noexcept nogil:
    cdef Progress *s = <Progress *>parser.data
    if s.target_n == 0:
        s.target_at = offset(s, at)
    s.target_n += <uint32_t>n
    return 0


cdef int on_protocol(llhttp_t *parser, const char *at, size_t n) noexcept nogil:
    cdef Progress *s = <Progress *>parser.data
    if s.protocol_n == 0 and at[0] != c"H":     # RTSP and ICE, which llhttp reads too
        s.failure = BAD_LINE
        return -1
    s.protocol_n += <uint8_t>n
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
        s.failure = BAD_LINE
        return -1
    if parser.header_state == AS_CONNECTION and s.fields[s.n_fields].name_n != CONNECTION_BYTES:
        parser.header_state = 0     # Proxy-Connection, which means nothing to a server (RFC 9112 appendix C.2.2)
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
    s.trailer_bytes += <uint32_t>n
    if s.trailer_bytes > s.limits.head_bytes:
        s.failure = TRAILERS_TOO_LARGE
        return -1
    return 0


cdef int on_headers_complete(llhttp_t *parser) noexcept nogil:
    cdef Progress *s = <Progress *>parser.data
    if not s.is_line_done:
        s.failure = BAD_LINE
        return -1
    s.is_head_done = 1
    s.has_length = (parser.flags & F_CONTENT_LENGTH) != 0
    s.says_close = (parser.flags & F_CONNECTION_CLOSE) != 0
    s.says_keep_alive = (parser.flags & F_CONNECTION_KEEP_ALIVE) != 0
    s.content_length = parser.content_length
    s.offers_upgrade = parser.upgrade
    # llhttp does not see through a tab behind the last coding. Our own check of the codings follows in
    # _take_framing(); until then let chunks be read rather than refused.
    if parser.flags & F_TRANSFER_ENCODING:
        parser.flags |= F_CHUNKED
    # An Upgrade is an offer, which we have not taken yet: the request keeps its body, and what follows it is the
    # next request. Whoever takes the offer stops feeding this parser.
    parser.upgrade = 0
    return 0


cdef int on_chunk_header(llhttp_t *parser) noexcept nogil:
    cdef Progress *s = <Progress *>parser.data
    s.is_trailing = parser.content_length == 0
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
    # What the head said of the connection is noted already; a trailer has no say in it. Whoever wants to close stops
    # feeding.
    parser.flags = (parser.flags & ~F_CONNECTION_CLOSE) | F_CONNECTION_KEEP_ALIVE
    return HPE_PAUSED
# end hot


cdef llhttp_settings_t SETTINGS      # constant after import
llhttp_settings_init(&SETTINGS)
SETTINGS.on_url = on_url
SETTINGS.on_protocol = on_protocol
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


# --- the parser -------------------------------------------------------------------------------------------------------

@cython.final
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
        self.memo = tables.latest_memo
        self.memo_wait = 1      # a client that comes once is not worth it

    def __dealloc__(self):
        PyMem_Free(self.head)
        PyMem_Free(self.own_fields)

    cdef void set_limits(self, const fa_limits *limits) noexcept:
        """`limits` is borrowed and must outlive the parser; its `fields` at most the tables' max_fields."""
        self.progress.limits = limits

    cdef bint is_blank(self) noexcept:
        """True when nothing but an empty line has come of the next message."""
        return self.state <= PARSE_METHOD and self.head_n == 0

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
        if self.state == PARSE_COUNTED:
            return self._count_body(p, n)
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
            if (owner is not None and span.at == PyBytes_AS_STRING(owner)
                    and <Py_ssize_t>span.n == PyBytes_GET_SIZE(owner)):
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
        if (self.state == PARSE_BODY or self.state == PARSE_COUNTED) and self.body_kind == BODY_LENGTH:
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
        s.protocol_n = 0
        s.is_line_done = s.is_head_done = s.is_trailing = s.is_message_done = 0
        s.is_new_field = 1
        self.body_bytes = 0
        self.is_complete = False
        self.head_n = 0

    cdef int _fail(self, int failure) except -1:
        """Set the error; returns EVENT_ERROR."""
        self.state = PARSE_FAILED
        self.failure = failure
        return EVENT_ERROR

    cdef int _read_start(self, const char *p, size_t n) except -1:
        cdef size_t skipped = 0
        cdef int events
        if self.state == PARSE_START:
            if n >= 8 and self._know_method(p):
                events = self._read_repeated(p, n)
                if events:
                    return events
                self._begin()
                self.state = PARSE_HEAD
                return self._read_head(p, n, 0)
            self._begin()
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

    cdef bint _know_method(self, const char *p) noexcept:
        """Set the method when the first 8 bytes begin with a common one and a space."""
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
            return False
        return True

    cdef int _read_repeated(self, const char *p, size_t n) except -1:
        """A request whose field section is, byte for byte, the one that this client sent before; see _take_repeated().
        Returns Event bits, or 0 when it is no repetition."""
        cdef Memo *memo = &self.tables.memos[self.memo]
        cdef size_t head_n = 0 if memo.block == NULL else self._take_repeated(memo, p, n)
        if head_n == 0:
            return 0
        self.memo_pause = 0
        self.body_bytes = 0
        self.consumed = head_n
        self.is_complete = self.body_kind == BODY_NONE
        if self.is_complete:
            return EVENT_HEAD | EVENT_COMPLETE
        self.state = PARSE_COUNTED
        return EVENT_HEAD | (self._count_body(p + head_n, n - head_n) if n > head_n else 0)

    cdef int _count_body(self, const char *p, size_t n) noexcept:
        """Bytes of a body of known length, which llhttp does not see, since it did not see the head either."""
        cdef size_t taken = <size_t>min(<uint64_t>n, self.content_length - self.body_bytes)
        self.progress.body[0].at = p
        self.progress.body[0].n = taken
        self.progress.n_body = 1
        self.body_bytes += taken
        self.consumed += taken
        if self.body_bytes < self.content_length:
            return EVENT_BODY
        self.state = PARSE_START
        self.is_complete = True
        return EVENT_BODY | EVENT_COMPLETE

    cdef int _remember(self, const char *p, size_t n) except -1:
        """The n bytes at p were a whole head: keep its field section, if the client is likely to repeat it."""
        cdef size_t at = self.progress.line_end + 2
        if self.memo_wait:
            self.memo_wait -= 1
            return 0
        if n - at > MAX_MEMO or self.body_kind == BODY_CHUNKED or self.http_minor == 0 or self.authority is not None \
                or self.expects_continue or self.wants_upgrade:
            return 0
        self.memo = self.tables.remember(p + at, <uint32_t>(n - at), self)
        self.memo_wait = self.memo_pause
        self.memo_pause = min(2 * self.memo_pause + 1, MAX_MEMO_WAIT)
        return 0

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
        cdef size_t limit, step, behind
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
            if not s.is_line_done and s.target_n and s.target_at + s.target_n >= s.base:
                # An HTTP/0.9 line ends behind the target. llhttp would wait for fields; answer at once.
                behind = s.target_at + s.target_n - s.base
                if behind < at and p[behind] != c" ":
                    return self._fail(BAD_LINE)
            if at == n:
                break
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
        self.http_minor = self.llhttp.http_minor
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
        if base == p and not events & EVENT_ERROR:
            self._remember(p, self.progress.body[0].at - p if self.progress.n_body else self.consumed)
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
        cdef size_t size = (<size_t>self.tables.max_fields + 2) * sizeof(FieldSpan)
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
            s.trailer_bytes + <size_t>(self.llhttp.error_pos - <const char *>self.llhttp._span_pos0)
            > s.limits.head_bytes
        ):
            return TRAILERS_TOO_LARGE   # fed byte by byte it would have been seen before the bad byte
        if code == HPE_INVALID_METHOD:
            return BAD_METHOD
        if code == HPE_INVALID_VERSION and strcmp(self.llhttp.reason, b"Invalid HTTP version") == 0:
            return UNSUPPORTED_VERSION
        if not s.is_line_done:
            return BAD_LINE
        if code == HPE_INVALID_CONTENT_LENGTH or code == HPE_UNEXPECTED_CONTENT_LENGTH:
            return BAD_LENGTH
        if code == HPE_INVALID_TRANSFER_ENCODING:
            return BAD_CODING
        if s.is_head_done and not s.is_trailing:
            return BAD_CHUNK
        if code == HPE_LF_EXPECTED or code == HPE_CR_EXPECTED:
            return BAD_LINE_END
        return BAD_FIELD


count_live(RequestParser)
