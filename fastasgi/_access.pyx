# cython: freethreading_compatible=True
"""Access lines: built in C, written in batches; or given to logging where the user has handlers of their own.

A line is made in steps, each a text and a field behind it (see `formatters.compile_line`). Lines wait at most FLUSH_S
in memory, so that a busy worker makes one system call for many requests. What waits is written when the process ends:
by close(), at exit, and by the handler of fatal signals.
"""

import atexit
import http
import logging
import time
import weakref

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.mem cimport PyMem_Free, PyMem_Malloc, PyMem_Realloc
from libc.string cimport memcpy, memmove

from fastasgi._notes cimport NoteTaker, Notes
from fastasgi.fa cimport (
    fa_decimal, fa_fatal, fa_fatal_install, fa_fatal_pass_on, fa_fatal_restore, fa_fatal_write, fa_monotonic_ns,
    fa_process,
)
from fastasgi.formatters import ACCESS_LINE, ACCESS_MESSAGE, compile_line
from fastasgi.outlet import EXIT_WAIT_S, Outlet

cdef extern from "Python.h":
    const char *PyUnicode_AsUTF8AndSize(object text, Py_ssize_t *size) except NULL

FLUSH_S = 0.1
"""How long a line may wait for others."""

cdef enum:
    FLUSH_BYTES = 32 * 1024         # a fuller buffer is written at once
    KEEP_BYTES = 1024 * 1024        # a reader that does not read loses what comes above
    N_OPEN = 16                     # logs that are written on a fatal signal
    MAX_VERDICTS = 1024             # paths whose exclusion is remembered ...
    MAX_VERDICT_PATH = 256          # ... and their bytes

cdef object logger = logging.getLogger("fastasgi.error")
cdef object unix_time = time.time
cdef char *HEX = b"0123456789abcdef"

cdef dict FIELDS = {
    "": FIELD_NONE, "client": FIELD_CLIENT, "client_addr": FIELD_CLIENT, "method": FIELD_METHOD, "path": FIELD_PATH,
    "query": FIELD_QUERY, "full_path": FIELD_TARGET, "http_version": FIELD_VERSION,
    "status": FIELD_STATUS, "status_code": FIELD_PHRASE, "duration": FIELD_DURATION, "duration_ms": FIELD_DURATION_MS,
    "bytes": FIELD_BYTES, "request_id": FIELD_REQUEST_ID, "user_agent": FIELD_USER_AGENT, "referer": FIELD_REFERER,
    "host": FIELD_HOST, "timestamp": FIELD_TIMESTAMP,
}
cdef dict FORMS = {"": FORM_TEXT, "json": FORM_JSON, "text": FORM_INSIDE}

cdef list PHRASES = [b"%d" % status for status in range(1000)]
for _status in http.HTTPStatus:
    PHRASES[_status.value] = b"%d %b" % (_status.value, _status.phrase.encode())
cdef list COLORED_PHRASES = [
    b"\x1b[%bm%b\x1b[0m" % ((b"97", b"32", b"33", b"31", b"91")[status // 100 - 1], phrase)
    if 100 <= status < 600 else phrase
    for status, phrase in enumerate(PHRASES)
]


# --- the end of the process -------------------------------------------------------------------------------------------

cdef Waiting *OPEN[N_OPEN]          # lines that a fatal signal writes; NULL: free
cdef fa_fatal BEFORE
cdef int n_open = 0
ALL = weakref.WeakSet()


cdef void on_fatal(int number) noexcept nogil:
    """The handler of fatal signals: nothing of Python may be touched."""
    cdef int i
    cdef size_t n
    for i in range(N_OPEN):
        if OPEN[i] != NULL and OPEN[i].n and OPEN[i].pid == fa_process():
            n, OPEN[i].n = OPEN[i].n, 0         # once, whatever happens meanwhile
            fa_fatal_write(OPEN[i].fd, OPEN[i].p, n)
    fa_fatal_pass_on(&BEFORE, number)


cdef int enlist(Waiting *waiting) noexcept:
    global n_open
    cdef int i
    for i in range(N_OPEN):
        if OPEN[i] == NULL:
            OPEN[i] = waiting
            n_open += 1
            if n_open == 1:
                fa_fatal_install(&BEFORE, on_fatal)
            return 0
    return 0            # so many logs of one process: those beyond lose their last lines in a crash


cdef int strike(Waiting *waiting) noexcept:
    global n_open
    cdef int i
    for i in range(N_OPEN):
        if OPEN[i] == waiting:
            OPEN[i] = NULL
            n_open -= 1
            if n_open == 0:
                fa_fatal_restore(&BEFORE, on_fatal)
    return 0


@atexit.register
def close_all():
    """Write what waits in logs that nobody has closed."""
    for access in list(ALL):
        access.close()


# --- the log ----------------------------------------------------------------------------------------------------------

@cython.final
cdef class AccessLog:
    """Access lines of one worker. `fd` >= 0: written there by the steps of `line`; else given to `logger`.

    `exclude` is a compiled pattern of paths (bytes) whose requests are not logged. `clock` is replaced in tests.
    """

    def __init__(self, loop, int fd=-1, line=None, logger=None, *, use_colors=False, exclude=None, clock=None):
        self.loop, self.fd, self.logger, self.exclude, self.clock = loop, fd, logger, exclude, clock
        self.verdicts = {}
        if fd < 0:
            self.wants_time = self.wants_fields = True      # a record has everything
            return
        self._set_steps(compile_line(ACCESS_LINE) if line is None else line, use_colors)
        self.outlet = Outlet(fd)
        self.waiting.fd, self.waiting.pid = fd, fa_process()
        enlist(&self.waiting)
        ALL.add(self)

    def __dealloc__(self):
        strike(&self.waiting)
        PyMem_Free(self.waiting.p)
        PyMem_Free(self.steps)

    cdef int _set_steps(self, object line, bint use_colors) except -1:
        self.phrases = COLORED_PHRASES if use_colors else PHRASES
        self.texts = [text for text, _ in line]
        self.n_steps = len(self.texts)
        self.steps = <Step *>PyMem_Malloc(max(1, self.n_steps) * sizeof(Step))
        if self.steps == NULL:
            raise MemoryError
        for i, (_, name) in enumerate(line):
            form, _, field = name.rpartition(":")
            self.steps[i].field, self.steps[i].form = FIELDS[field], FORMS[form]
            if self.steps[i].field in (FIELD_DURATION, FIELD_DURATION_MS):
                self.wants_time = True
            elif self.steps[i].field in (FIELD_USER_AGENT, FIELD_REFERER, FIELD_HOST):
                self.wants_fields = True
        return 0

    cdef int add(self, bytes client, str method, bytes path, bytes query, Answered *answered, Notes notes) except -1:
        """One request was answered. `client` is "host:port" or b"", `path` and `query` as received."""
        if self.exclude is not None and self._is_excluded(path):
            return 0
        if self.fd < 0:
            return self._log(client, method, path, query, answered, notes)
        return self._add_line(client, method, path, query, answered, notes)

    cdef bint _is_excluded(self, bytes path) except -1:
        found = self.verdicts.get(path)
        if found is None:
            found = self.exclude.fullmatch(path) is not None
            if PyBytes_GET_SIZE(path) <= MAX_VERDICT_PATH:
                if len(self.verdicts) >= MAX_VERDICTS:
                    self.verdicts.clear()
                self.verdicts[path] = found
        return found

    # --- through logging ----------------------------------------------------------------------------------------------

    cdef int _log(self, bytes client, str method, bytes path, bytes query, Answered *answered, Notes notes) except -1:
        """A record with uvicorn's args, and each field as an attribute."""
        if not self.logger.isEnabledFor(20):
            return 0
        cdef str target = as_target(path + b"?" + query if query else path)
        cdef str peer = client.decode("utf-8", "replace")
        cdef str version = "1.1" if answered.http_minor else "1.0"
        args = (peer, method, target, version, answered.status)
        record = self.logger.makeRecord(self.logger.name, 20, "", 0, ACCESS_MESSAGE, args, None)
        elapsed_us = self._elapsed_us(notes)
        seconds = None if elapsed_us < 0 else elapsed_us / 1e6
        record.__dict__.update(
            client=peer, client_addr=peer, method=method, full_path=target, path=as_target(path),
            query=as_target(query), request_line=f"{method} {target} HTTP/{version}", http_version=version,
            status=answered.status, status_code=answered.status, bytes=answered.body_bytes, duration=seconds,
            duration_ms=None if seconds is None else seconds * 1000,
            request_id=None if notes is None else notes.request_id,
            user_agent=as_text(None if notes is None else notes.user_agent),
            referer=as_text(None if notes is None else notes.referer),
            host=as_text(None if notes is None else notes.host),
        )
        self.logger.handle(record)
        return 0

    # --- by ourselves -------------------------------------------------------------------------------------------------

    cdef int _add_line(
            self, bytes client, str method, bytes path, bytes query, Answered *answered, Notes notes) except -1:
        cdef size_t begun = self.waiting.n
        if self.outlet is None:
            return 0                        # closed
        if begun >= KEEP_BYTES:
            self.dropped += 1
            return self._wait_for_more()
        try:
            self._write_line(client, method, path, query, answered, notes)
        except BaseException:
            self.waiting.n = begun          # no half of a line
            raise
        if self.waiting.n >= FLUSH_BYTES and not self.is_blocked:
            self.flush()
            return 0
        return self._wait_for_more()

    cdef int _write_line(
            self, bytes client, str method, bytes path, bytes query, Answered *answered, Notes notes) except -1:
        cdef size_t i
        cdef Form form
        cdef Field field
        for i in range(self.n_steps):
            self._text(<bytes>self.texts[i])
            field, form = self.steps[i].field, self.steps[i].form
            if field == FIELD_CLIENT:
                self._value(client, form, True)
            elif field == FIELD_METHOD:
                self._method(method, form)
            elif field == FIELD_PATH:
                self._target(path, form)
            elif field == FIELD_QUERY:
                self._target(query, form)
            elif field == FIELD_TARGET:
                self._full_path(path, query, form)
            elif field == FIELD_VERSION:
                self._quoted(b"1.1" if answered.http_minor else b"1.0", form)
            elif field == FIELD_PHRASE and form == FORM_TEXT:
                self._text(<bytes>self.phrases[answered.status])
            elif field == FIELD_STATUS or field == FIELD_PHRASE:
                self._number(answered.status)
            elif field == FIELD_BYTES:
                self._number(answered.body_bytes)
            elif field == FIELD_TIMESTAMP:
                self._timestamp(form)
            elif field != FIELD_NONE:
                self._note(field, form, notes)
        return 0

    cdef int _note(self, Field field, Form form, Notes notes) except -1:
        """A field of what was noted when the request began."""
        cdef int64_t elapsed_us
        cdef bytes value = None
        if field == FIELD_DURATION or field == FIELD_DURATION_MS:
            elapsed_us = self._elapsed_us(notes)
            if elapsed_us >= 0:
                return self._fraction(elapsed_us, 1000000 if field == FIELD_DURATION else 1000)
        elif notes is None:
            pass
        elif field == FIELD_REQUEST_ID:
            value = notes.request_id.encode("ascii") if notes.request_id is not None else None
        elif field == FIELD_USER_AGENT:
            value = notes.user_agent
        elif field == FIELD_REFERER:
            value = notes.referer
        elif field == FIELD_HOST:
            value = notes.host
        if value is None or not value:
            return self._text(b"null" if form == FORM_JSON else b"-")
        return self._value(value, form, False)

    cdef int64_t _elapsed_us(self, Notes notes) except? -1:
        """Microseconds since the request began, -1 when that was not noted."""
        if notes is None or notes.begun_ns == 0:
            return -1
        cdef int64_t now_ns = fa_monotonic_ns() if self.clock is None else self.clock()
        return max(<int64_t>0, now_ns - notes.begun_ns) // 1000

    # --- pieces of a line ---------------------------------------------------------------------------------------------

    cdef int _reserve(self, size_t n) except -1:
        """Room for n bytes more."""
        cdef size_t used = self.waiting.n
        cdef char *grown
        if used + n <= self.room:
            return 0
        self.waiting.n = 0              # a fatal signal must not look at memory that moves
        grown = <char *>PyMem_Realloc(self.waiting.p, 2 * (used + n))
        if grown == NULL:
            self.waiting.n = used
            raise MemoryError
        self.waiting.p, self.room = grown, 2 * (used + n)
        self.waiting.n = used
        return 0

    cdef int _copy(self, const char *p, size_t n) except -1:
        if n:       # memcpy() takes no null pointer, which an empty buffer is
            self._reserve(n)
            memcpy(self.waiting.p + self.waiting.n, p, n)
            self.waiting.n += n
        return 0

    cdef int _text(self, bytes data) except -1:
        return self._copy(PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))

    cdef int _quoted(self, bytes data, Form form) except -1:
        """What needs no escape."""
        if form != FORM_JSON:
            return self._text(data)
        self._text(b'"')
        self._text(data)
        return self._text(b'"')

    cdef int _method(self, str method, Form form) except -1:
        cdef Py_ssize_t n
        cdef const char *p = PyUnicode_AsUTF8AndSize(method, &n)    # a token: nothing to escape
        if form == FORM_JSON:
            self._text(b'"')
        self._copy(p, n)
        return self._text(b'"') if form == FORM_JSON else 0

    cdef int _full_path(self, bytes path, bytes query, Form form) except -1:
        if form == FORM_JSON:
            self._text(b'"')
        self._target(path, FORM_TEXT if form == FORM_TEXT else FORM_INSIDE)
        if query:
            self._text(b"?")
            self._target(query, FORM_TEXT if form == FORM_TEXT else FORM_INSIDE)
        return self._text(b'"') if form == FORM_JSON else 0

    cdef int _target(self, bytes data, Form form) except -1:
        """A target or a part of one. Its quotation marks would end the field of the line, so they are escaped; the
        parser has let nothing else pass that could break a line."""
        cdef const char *p = PyBytes_AS_STRING(data)
        cdef size_t n = PyBytes_GET_SIZE(data), i
        cdef char *out
        self._reserve(3 * n + 2)
        out = self.waiting.p + self.waiting.n
        if form == FORM_JSON:
            out[0] = c'"'
            out += 1
        for i in range(n):
            if p[i] == c'"':
                out[0], out[1], out[2] = c"%", c"2", c"2"
                out += 3
                continue
            if p[i] == c"\\" and form != FORM_TEXT:
                out[0] = c"\\"
                out += 1
            out[0] = p[i]
            out += 1
        if form == FORM_JSON:
            out[0] = c'"'
            out += 1
        self.waiting.n = out - self.waiting.p
        return 0

    cdef int _value(self, bytes data, Form form, bint is_utf8) except -1:
        """Any bytes: escaped as \\xNN in text, as JSON asks for in JSON. UTF-8 text of ours passes."""
        cdef const unsigned char *p = <const unsigned char *>PyBytes_AS_STRING(data)
        cdef size_t n = PyBytes_GET_SIZE(data), i
        cdef char *out
        if form == FORM_TEXT and is_utf8:
            return self._text(data)
        if form == FORM_JSON and n == 0:
            return self._text(b"null")
        self._reserve(6 * n + 2)
        out = self.waiting.p + self.waiting.n
        if form == FORM_JSON:
            out[0] = c'"'
            out += 1
        for i in range(n):
            if 0x20 <= p[i] < 0x7F and p[i] != c'"' and p[i] != c"\\" or (is_utf8 and p[i] >= 0x80):
                out[0] = p[i]
                out += 1
            elif form == FORM_TEXT:
                out[0], out[1], out[2], out[3] = c"\\", c"x", HEX[p[i] >> 4], HEX[p[i] & 15]
                out += 4
            elif p[i] == c'"' or p[i] == c"\\":
                out[0], out[1] = c"\\", p[i]
                out += 2
            else:
                out[0], out[1], out[2], out[3] = c"\\", c"u", c"0", c"0"
                out[4], out[5] = HEX[p[i] >> 4], HEX[p[i] & 15]
                out += 6
        if form == FORM_JSON:
            out[0] = c'"'
            out += 1
        self.waiting.n = out - self.waiting.p
        return 0

    cdef int _number(self, uint64_t number) except -1:
        self._reserve(20)
        self.waiting.n += fa_decimal(self.waiting.p + self.waiting.n, number)
        return 0

    cdef int _fraction(self, uint64_t number, uint64_t unit) except -1:
        """number / unit, a power of ten, with all its decimals."""
        self._number(number // unit)
        self._text(b".")
        self._reserve(20)
        number %= unit
        while unit > 1:
            unit //= 10
            self.waiting.p[self.waiting.n] = c"0" + <char>(number // unit)
            self.waiting.n += 1
            number %= unit
        return 0

    cdef int _timestamp(self, Form form) except -1:
        """The time of day in UTC, as RFC 3339 writes it."""
        cdef int64_t now_ms = <int64_t>(unix_time() * 1000)
        if now_ms // 1000 != self.stamp_s:
            self.stamp_s = now_ms // 1000
            self.stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(self.stamp_s)).encode()
        if form == FORM_JSON:
            self._text(b'"')
        self._text(self.stamp)
        self._text(b".%03dZ" % (now_ms % 1000))
        return self._text(b'"') if form == FORM_JSON else 0

    # --- writing ------------------------------------------------------------------------------------------------------

    cdef int _wait_for_more(self) except -1:
        if self.timer is None:
            self.timer = self.loop.call_later(FLUSH_S, self.flush)
        return 0

    def flush(self):
        """Write what waits. A reader that has gone, or does not read, loses lines; it never stops the worker."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
        if not self.waiting.n or self.outlet is None:
            return
        if self.waiting.pid != fa_process():
            self.waiting.n = 0          # a forked child: these are its parent's to write
            return
        self._take_off(self._write(0.0))
        self.is_blocked = self.waiting.n > 0
        if self.is_blocked:
            self._wait_for_more()
        if self.dropped != self.told and (not self.told or not self.is_blocked):
            self._tell()

    cdef size_t _write(self, double wait_s) except? 0:
        """Write what the reader takes; returns the bytes that are done with."""
        data = PyBytes_FromStringAndSize(self.waiting.p, self.waiting.n)
        try:
            return self.outlet.write_all(data, wait_s) if wait_s else self.outlet.write(data)
        except OSError:                 # nobody reads any more
            self.is_gone = True
            self.dropped += data.count(b"\n")
            return len(data)

    cdef int _tell(self) except -1:
        """Say how many lines were dropped: at the first, when the reader goes on, and at the end."""
        if self.is_gone and self.told and self.outlet is not None:
            return 0                    # once; the end says how many there were
        self.told = self.dropped
        logger.warning("%d access lines were dropped so far: whoever reads them %s", self.dropped,
                       "has gone" if self.is_gone else "does not read in time")
        return 0

    cdef int _take_off(self, size_t n) noexcept:
        """n bytes are written."""
        memmove(self.waiting.p, self.waiting.p + n, self.waiting.n - n)
        self.waiting.n -= n
        return 0

    def close(self):
        """Write what waits, and nothing more; a late reader has EXIT_WAIT_S."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
        if self.outlet is None:
            return
        ALL.discard(self)
        if self.waiting.n and self.waiting.pid == fa_process():
            self._take_off(self._write(EXIT_WAIT_S))
            self.dropped += PyBytes_FromStringAndSize(self.waiting.p, self.waiting.n).count(b"\n")
        self.waiting.n = 0
        strike(&self.waiting)
        self.outlet.close()
        self.outlet = None
        if self.dropped != self.told:
            self._tell()


cdef str as_target(bytes target):
    return target.decode("ascii", "replace").replace('"', "%22")


cdef object as_text(bytes value):
    return None if value is None else value.decode("latin-1")


cdef NoteTaker note_taker(object access, object config, object clock):
    """Who takes notes for a worker, None when nobody asks for any."""
    cdef bint wants_time = access is not None and (<AccessLog>access).wants_time
    cdef bint wants_fields = access is not None and (<AccessLog>access).wants_fields
    if not wants_time and not wants_fields and config.request_id_header is None:
        return None
    return NoteTaker(wants_time, wants_fields, config.request_id_header, clock)


cdef bytes client_name(object client):
    """A client as it stands in access lines: host:port, or the path of a Unix socket, without control bytes."""
    if client is None:
        return b""
    name = client[0] if client[1] is None else f"{client[0]}:{client[1]}"
    return "".join([c if c.isprintable() else "?" for c in name]).encode("utf-8", "backslashreplace")
