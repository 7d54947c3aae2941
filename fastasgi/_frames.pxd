"""WebSocket frames (RFC 6455 section 5) in and out: bytes to messages, messages to bytes."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t

from cpython.object cimport PyObject
from fastasgi._deflate cimport Deflate
from fastasgi.fa cimport fa_ws_header


cdef enum FrameEvent:
    FRAME_NONE = 0          # no event; bytes behind `consumed` are still to be fed
    FRAME_MESSAGE = 1       # take_message() gives it
    FRAME_PING = 2          # `payload` is set
    FRAME_PONG = 3          # the same
    FRAME_CLOSE = 4         # close_code and close_reason are set; the parser is finished
    FRAME_FAILED = 5        # `failure` is set; the parser is finished


cdef enum FrameState:
    FRAME_HEADER = 0        # between frames, or within a header
    FRAME_DATA = 1          # within the payload of a message's frame
    FRAME_CONTROL = 2       # within the payload of a control frame
    FRAME_FINISHED = 3      # nothing more is read


# What is wrong with a client's frames. The first are those of fa_ws_fault; FRAME_FAILURES has code and text of each.
cdef enum FrameFailure:
    FRAMES_OK = 0
    STRAY_CONTINUATION = 7
    MISSING_CONTINUATION = 8
    MESSAGE_TOO_BIG = 9
    BAD_TEXT = 10
    BAD_CLOSE = 11
    BAD_CLOSE_CODE = 12
    BAD_REASON = 13
    BAD_COMPRESSION = 14


cdef class FrameParser:
    cdef FrameState state
    cdef uint8_t header_n           # bytes of an unfinished header, in `header`
    cdef uint8_t kind               # FA_WS_TEXT or FA_WS_BINARY while a message is unfinished, else 0
    cdef bint is_compressed         # that message
    cdef uint32_t utf8              # state of its text
    cdef bint is_ascii              # so far
    cdef uint64_t frame_at          # bytes of the current payload that came
    cdef fa_ws_header frame         # the current one
    cdef uint8_t header[14]
    cdef char control[125]          # payload of a control frame
    cdef PyObject *partial          # owned bytes object, the message so far, or NULL
    cdef size_t partial_n           # of it, used
    cdef size_t max_bytes           # of a message
    cdef Deflate deflate            # None: no compression
    # --- results of feed()
    cdef size_t consumed
    cdef object message             # str or bytes
    cdef bytes payload
    cdef int close_code             # 1005: the frame had none
    cdef str close_reason
    cdef int failure                # fa_ws_fault or FrameFailure

    cdef int feed(self, const char *p, size_t n) except -1
    cdef object take_message(self)
    cdef bint is_within_frame(self) noexcept
    cdef void clear(self) noexcept
    cdef int _fail(self, int failure) except -1
    cdef int _read_header(self, const char *p, size_t n) except -1
    cdef int _parse_header(self, const uint8_t *p, size_t n) except -1
    cdef int _begin_frame(self) except -1
    cdef int _read_data(self, const char *p, size_t n) except -1
    cdef int _take_whole(self, const char *p, size_t n) except -1
    cdef int _append(self, const char *p, size_t n) except -1
    cdef int _make_room(self, size_t n) except -1
    cdef int _end_message(self) except -1
    cdef int _inflate(self, bytes data, bint is_text) except -1
    cdef int _read_control(self, const char *p, size_t n) except -1
    cdef int _end_control(self) except -1


cdef bytes encode_frame(uint8_t first, const char *p, size_t n)
cdef bytes encode_header(uint8_t first, size_t n)
cdef bytes encode_close(int code, bytes reason)
