# cython: freethreading_compatible=True
"""WebSocket frames (RFC 6455 section 5) in and out: bytes to messages, messages to bytes.

A FrameParser is fed any pieces and answers with one event at a time. What is wrong is told as soon as it is certain:
the header by its first byte, its second byte or its length, text by the first byte that cannot belong to it.

States (`FrameState`):

    HEADER -> DATA | CONTROL        the header is complete; an empty payload goes on at once
    DATA, CONTROL -> HEADER         the payload is complete
    HEADER, CONTROL -> FINISHED     a close frame
    any -> FINISHED                 a failure

A message that comes whole, in one frame and one piece, becomes its str or bytes with one copy, which takes the mask
off. One that comes in pieces is gathered in a bytes object that grows with what has come, not with what is announced.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF, Py_INCREF, Py_XDECREF
from cpython.unicode cimport PyUnicode_DecodeUTF8
from libc.stdint cimport uint8_t, uint64_t
from libc.string cimport memcpy

from fastasgi._deflate import BadDeflate, TooBig
from fastasgi._live cimport count_live
from fastasgi.fa cimport (
    FA_UTF8_BAD, FA_WS_BAD_RSV, FA_WS_BINARY, FA_WS_CLOSE, FA_WS_CONTINUATION, FA_WS_FIN, FA_WS_NOT_ASCII, FA_WS_PING,
    FA_WS_RSV1, FA_WS_TEXT, fa_utf8_step, fa_ws_is_close_code, fa_ws_read_header, fa_ws_unmask, fa_ws_write_header,
)

cdef extern from "Python.h":
    int _PyBytes_Resize(PyObject **data, Py_ssize_t n) except -1
    str PyUnicode_New(Py_ssize_t size, Py_UCS4 highest)
    void *PyUnicode_DATA(object text)

cdef enum:
    FIRST_ROOM = 1024           # bytes, when a message begins to be gathered

FRAME_FAILURES = (
    (1000, "", ""),
    (1002, "bad-rsv", "expected RSV bits only as an extension defines them"),
    (1002, "bad-opcode", "expected an opcode that is not reserved"),
    (1002, "cut-control", "expected control frames in one piece"),
    (1002, "big-control", "expected control frames of at most 125 bytes"),
    (1002, "no-mask", "expected masked frames"),
    (1002, "bad-length", "expected the length in its shortest form"),
    (1002, "stray-continuation", "expected no continuation frame without a message"),
    (1002, "missing-continuation", "expected a continuation frame"),
    (1009, "too-big", "the message is larger than ws_max_size"),
    (1007, "bad-text", "expected text in UTF-8"),
    (1002, "bad-close", "expected a close code of two bytes"),
    (1002, "bad-close-code", "expected a close code that may be sent"),
    (1007, "bad-reason", "expected a reason in UTF-8"),
    (1002, "bad-compression", "expected compressed data"),
)
"""Close code, constant name and text of each failure."""


@cython.final
cdef class FrameParser:
    """Reads the frames of one client. `deflate` is None unless compression was negotiated."""

    def __cinit__(self, size_t max_bytes, Deflate deflate=None):
        self.max_bytes, self.deflate = max_bytes, deflate

    def __dealloc__(self):
        Py_XDECREF(self.partial)

    cdef int feed(self, const char *p, size_t n) except -1:
        """Read what belongs to one frame out of n > 0 bytes; returns a FrameEvent and sets `consumed`."""
        cdef int used = 0
        if self.state == FRAME_HEADER:
            used = self._read_header(p, n)
            if used <= 0:
                self.consumed = n
                return FRAME_FAILED if self.failure else FRAME_NONE
        elif self.state == FRAME_FINISHED:
            self.consumed = n
            return FRAME_NONE
        self.consumed = used
        if self.state == FRAME_CONTROL:
            return self._read_control(p + used, n - used)
        return self._read_data(p + used, n - used)

    cdef object take_message(self):
        """The message of FRAME_MESSAGE, a str or bytes; the parser lets go of it."""
        cdef object message = self.message
        self.message = None
        return message

    cdef bint is_within_frame(self) noexcept:
        """True when the payload of a frame is unfinished: no other frame can come before its end."""
        return self.state == FRAME_DATA or self.state == FRAME_CONTROL

    cdef void clear(self) noexcept:
        """Let go of all memory; nothing more is read."""
        self.state = FRAME_FINISHED
        Py_XDECREF(self.partial)
        self.partial = NULL
        self.deflate = None

    cdef int _fail(self, int failure) except -1:
        self.failure = failure
        self.clear()
        return FRAME_FAILED

    # --- headers --------------------------------------------------------------------------------------------------

    cdef int _read_header(self, const char *p, size_t n) except -1:
        """Bytes of p that ended a header, or 0: it is not complete, and all were kept, or it has failed."""
        cdef size_t taken
        cdef int size
        if self.header_n == 0:
            size = self._parse_header(<const uint8_t *>p, n)
            if size == 0 and not self.failure:
                memcpy(self.header, p, n)
                self.header_n = <uint8_t>n
            return size
        taken = min(n, sizeof(self.header) - self.header_n)
        memcpy(self.header + self.header_n, p, taken)
        size = self._parse_header(self.header, self.header_n + taken)
        if size == 0:
            self.header_n += <uint8_t>taken
            return 0
        size -= self.header_n
        self.header_n = 0
        return size

    cdef int _parse_header(self, const uint8_t *p, size_t n) except -1:
        """The size of the header at p, or 0: it is not complete, or it has failed."""
        cdef uint8_t opcode = p[0] & 0xF
        cdef int size = fa_ws_read_header(p, n, &self.frame)
        if size < 0:
            self._fail(-size)
            return 0
        if opcode <= FA_WS_BINARY:
            if opcode == FA_WS_CONTINUATION:
                if not self.kind:
                    self._fail(STRAY_CONTINUATION)
                    return 0
            elif self.kind:
                self._fail(MISSING_CONTINUATION)
                return 0
            if p[0] & FA_WS_RSV1 and self.deflate is None:
                self._fail(FA_WS_BAD_RSV)
                return 0
        if size and self._begin_frame():
            return 0
        return size

    cdef int _begin_frame(self) except -1:
        """The header in `frame` is complete; returns 0, or FRAME_FAILED."""
        cdef uint8_t opcode = self.frame.first & 0xF
        self.frame_at = 0
        if opcode >= FA_WS_CLOSE:
            self.state = FRAME_CONTROL
            return 0
        if opcode != FA_WS_CONTINUATION:
            self.kind = opcode
            self.is_compressed = self.frame.first & FA_WS_RSV1
            self.is_ascii = True
            self.utf8 = 0
            self.partial_n = 0
        self.state = FRAME_DATA
        if self.frame.length > self.max_bytes - self.partial_n:
            return self._fail(MESSAGE_TOO_BIG)
        return 0

    # --- messages -------------------------------------------------------------------------------------------------

    cdef int _read_data(self, const char *p, size_t n) except -1:
        """Payload of a message's frame."""
        cdef uint64_t left = self.frame.length - self.frame_at
        cdef bint is_last = self.frame.first & FA_WS_FIN
        if n >= left:
            n = <size_t>left
            self.state = FRAME_HEADER
        self.consumed += n
        if self.state == FRAME_HEADER and is_last and self.frame_at == 0 and self.partial_n == 0 \
                and not self.is_compressed and self.utf8 == 0:
            return self._take_whole(p, n)
        if n and self._append(p, n):
            return FRAME_FAILED
        if self.state == FRAME_HEADER and is_last:
            return self._end_message()
        return FRAME_NONE

    cdef int _take_whole(self, const char *p, size_t n) except -1:
        """A message in one piece."""
        cdef uint64_t seen
        cdef char *out
        cdef bint is_text = self.kind == FA_WS_TEXT
        self.kind = 0
        if not is_text:
            message = PyBytes_FromStringAndSize(NULL, n)
            fa_ws_unmask(PyBytes_AS_STRING(message), p, n, self.frame.key, 0)
            self.message = message
            return FRAME_MESSAGE
        text = PyUnicode_New(n, 127)
        out = <char *>PyUnicode_DATA(text)
        seen = fa_ws_unmask(out, p, n, self.frame.key, 0)
        if seen & FA_WS_NOT_ASCII:
            try:
                self.message = PyUnicode_DecodeUTF8(out, n, NULL)
            except UnicodeDecodeError:
                return self._fail(BAD_TEXT)
        else:
            self.message = text
        return FRAME_MESSAGE

    cdef int _append(self, const char *p, size_t n) except -1:
        """Gather n bytes of payload; returns 0, or FRAME_FAILED."""
        cdef uint64_t seen
        cdef char *out
        self._make_room(n)
        out = PyBytes_AS_STRING(<object>self.partial) + self.partial_n
        seen = fa_ws_unmask(out, p, n, self.frame.key, self.frame_at)
        self.frame_at += n
        self.partial_n += n
        if self.kind == FA_WS_TEXT and not self.is_compressed and (seen & FA_WS_NOT_ASCII or self.utf8):
            self.is_ascii = False
            self.utf8 = fa_utf8_step(self.utf8, out, n)
            if self.utf8 == FA_UTF8_BAD:
                return self._fail(BAD_TEXT)
        return 0

    cdef int _make_room(self, size_t n) except -1:
        """Room for n bytes more: twice what is there, but not more than the current frame announces."""
        cdef size_t needed = self.partial_n + n, announced, room
        if self.partial != NULL and needed <= <size_t>PyBytes_GET_SIZE(<object>self.partial):
            return 0
        announced = self.partial_n + <size_t>(self.frame.length - self.frame_at)
        room = max(needed, min(announced, max(2 * needed, <size_t>FIRST_ROOM)))
        if self.partial != NULL:
            _PyBytes_Resize(&self.partial, room)
            return 0
        made = PyBytes_FromStringAndSize(NULL, room)
        Py_INCREF(made)
        self.partial = <PyObject *>made
        return 0

    cdef int _end_message(self) except -1:
        """The last frame is complete: make the message of what was gathered."""
        cdef bint is_text = self.kind == FA_WS_TEXT
        cdef bytes data
        cdef str text
        self.kind = 0
        if self.utf8:
            return self._fail(BAD_TEXT)
        if self.partial == NULL:
            data = b""
        elif is_text and self.is_ascii and not self.is_compressed:
            text = PyUnicode_New(self.partial_n, 127)
            memcpy(PyUnicode_DATA(text), PyBytes_AS_STRING(<object>self.partial), self.partial_n)
            Py_DECREF(<object>self.partial)
            self.partial = NULL
            self.message = text
            return FRAME_MESSAGE
        else:
            if self.partial_n != <size_t>PyBytes_GET_SIZE(<object>self.partial):
                _PyBytes_Resize(&self.partial, self.partial_n)
            data = <bytes>self.partial
            Py_DECREF(data)
            self.partial = NULL
        if self.is_compressed:
            return self._inflate(data, is_text)
        self.message = PyUnicode_DecodeUTF8(PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data), NULL) if is_text else data
        return FRAME_MESSAGE

    cdef int _inflate(self, bytes data, bint is_text) except -1:
        """A compressed message: too big as soon as it passes the limit, whatever it would become."""
        try:
            data = self.deflate.inflate(data, self.max_bytes)
            self.message = PyUnicode_DecodeUTF8(PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data), NULL) \
                if is_text else data
        except TooBig:
            return self._fail(MESSAGE_TOO_BIG)
        except BadDeflate:
            return self._fail(BAD_COMPRESSION)
        except UnicodeDecodeError:
            return self._fail(BAD_TEXT)
        return FRAME_MESSAGE

    # --- control frames -------------------------------------------------------------------------------------------

    cdef int _read_control(self, const char *p, size_t n) except -1:
        """Payload of a control frame, which is at most 125 bytes."""
        n = min(n, <size_t>(self.frame.length - self.frame_at))
        fa_ws_unmask(self.control + self.frame_at, p, n, self.frame.key, self.frame_at)
        self.frame_at += n
        self.consumed += n
        return self._end_control() if self.frame_at == self.frame.length else FRAME_NONE

    cdef int _end_control(self) except -1:
        cdef size_t n = <size_t>self.frame.length
        cdef uint8_t opcode = self.frame.first & 0xF
        cdef const char *p = self.control
        self.state = FRAME_HEADER
        if opcode != FA_WS_CLOSE:
            self.payload = PyBytes_FromStringAndSize(p, n)
            return FRAME_PING if opcode == FA_WS_PING else FRAME_PONG
        self.close_code, self.close_reason = 1005, ""
        if n == 1:
            return self._fail(BAD_CLOSE)
        if n:
            self.close_code = <uint8_t>p[0] << 8 | <uint8_t>p[1]
            if not fa_ws_is_close_code(self.close_code):
                return self._fail(BAD_CLOSE_CODE)
            try:
                self.close_reason = PyUnicode_DecodeUTF8(p + 2, n - 2, NULL)
            except UnicodeDecodeError:
                return self._fail(BAD_REASON)
        self.clear()
        return FRAME_CLOSE


# --- out --------------------------------------------------------------------------------------------------------------

cdef bytes encode_frame(uint8_t first, const char *p, size_t n):
    """A server's frame with its payload; `first` is FIN, RSV bits and opcode."""
    cdef char header[14]
    cdef size_t header_n = fa_ws_write_header(header, first, n)
    cdef bytes frame = PyBytes_FromStringAndSize(NULL, header_n + n)
    memcpy(PyBytes_AS_STRING(frame), header, header_n)
    if n:       # of an empty payload p may be null, which memcpy() does not take
        memcpy(PyBytes_AS_STRING(frame) + header_n, p, n)
    return frame


cdef bytes encode_header(uint8_t first, size_t n):
    """The header alone, for a payload of n bytes that goes beside it."""
    cdef char header[14]
    return PyBytes_FromStringAndSize(header, fa_ws_write_header(header, first, n))


cdef bytes encode_close(int code, bytes reason):
    """A close frame; without payload for 1005, which means that there is none."""
    if code == 1005:
        return encode_frame(FA_WS_FIN | FA_WS_CLOSE, NULL, 0)
    data = code.to_bytes(2, "big") + reason
    return encode_frame(FA_WS_FIN | FA_WS_CLOSE, data, len(data))


count_live(FrameParser)
