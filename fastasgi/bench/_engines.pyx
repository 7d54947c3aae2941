# cython: freethreading_compatible=True
"""The engines one by one, in loops without Python calls between them: what `micro` measures.

Each function does its work `times` times and raises if an engine gives another result than it must.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE

from fastasgi._deflate cimport Deflate, negotiate
from fastasgi._frames cimport FRAME_MESSAGE, FrameParser, encode_frame
from fastasgi._head cimport RequestTables
from fastasgi._memory import MemoryChannel
from fastasgi._request cimport EVENT_BODY, EVENT_COMPLETE, EVENT_ERROR, EVENT_MORE
from fastasgi._response cimport ResponseHead, ResponseTables
from fastasgi._runtime cimport Runtime
from fastasgi.fa cimport FA_UNDERSCORES_DROP_FORWARDED, FA_UNLIMITED, FA_WS_BINARY, FA_WS_FIN, fa_limits

cdef enum:
    MAX_FIELDS = 100
    LARGEST_MESSAGE = 1 << 24


cdef int parse_one(RequestParser parser, bytes request) except -1:
    """Feed one whole request and take what comes of it, as a connection would."""
    cdef const char *p = PyBytes_AS_STRING(request)
    cdef size_t n = PyBytes_GET_SIZE(request)
    cdef int seen = 0
    while n:
        seen = parser.feed(p, n)
        if seen & EVENT_ERROR:
            raise ValueError(f"expected a request that can be parsed, got {request!r:.200}")
        if seen & EVENT_BODY:
            parser.take_body(None)
        p += parser.consumed
        n -= parser.consumed
        if not seen & (EVENT_COMPLETE | EVENT_MORE | EVENT_BODY) and not n:
            break
    if not seen & EVENT_COMPLETE:
        raise ValueError(f"expected one whole request, got {request!r:.200}")
    parser.clear()
    return 0


def parse(list requests, Py_ssize_t times):
    """Parse requests of one connection, in turn: bytes to method, target, headers and body."""
    cdef fa_limits limits
    cdef RequestParser parser = RequestParser(RequestTables(MAX_FIELDS))
    cdef Py_ssize_t at, count = len(requests)
    limits.line_bytes, limits.head_bytes, limits.fields = 8192, 65536, MAX_FIELDS
    limits.body_bytes, limits.chunk_extension_bytes = FA_UNLIMITED, 4096
    limits.underscores = FA_UNDERSCORES_DROP_FORWARDED
    parser.set_limits(&limits)
    for at in range(times):
        parse_one(parser, requests[at % count])


def encode_head(Runtime runtime not None, int status, list headers, Py_ssize_t times):
    """Make the head of a response: status and headers to bytes, checked, with the fields that every response gets."""
    cdef ResponseHead head
    cdef ResponseTables tables = ResponseTables()
    cdef Py_ssize_t _
    cdef bytes made = b""
    runtime.tick()
    head.head_n = 0
    for _ in range(times):
        head.http_minor, head.is_head_method, head.keep_alive = 1, False, True
        made = tables.encode(status, headers, &head, runtime.block, runtime.common)
    return made[:head.head_n]


def parse_frame(bytes frame not None, expected, offers, Py_ssize_t times):
    """Parse one whole frame of a client, mask and all, to its message; `offers` turn compression on."""
    cdef FrameParser parser = FrameParser(LARGEST_MESSAGE, negotiate(offers) if offers else None)
    cdef const char *p = PyBytes_AS_STRING(frame)
    cdef size_t n = PyBytes_GET_SIZE(frame)
    cdef Py_ssize_t _
    message = None
    for _ in range(times):
        if parser.feed(p, n) != FRAME_MESSAGE or parser.consumed != n:
            raise ValueError("expected one whole frame, got another thing")
        message = parser.take_message()
    if times and message != expected:
        raise ValueError(f"expected {expected!r:.80}, got {message!r:.80}")


def make_frame(bytes payload not None, Py_ssize_t times):
    """Make the frame of a message to a client."""
    cdef const char *p = PyBytes_AS_STRING(payload)
    cdef size_t n = PyBytes_GET_SIZE(payload)
    cdef Py_ssize_t _
    cdef bytes frame = b""
    for _ in range(times):
        frame = encode_frame(FA_WS_FIN | FA_WS_BINARY, p, n)
    return frame


def compress(bytes payload not None, list offers, Py_ssize_t times):
    """Compress a message, as negotiated by these offers of a client; returns the last one."""
    cdef Deflate deflate = negotiate(offers)
    cdef Py_ssize_t _
    cdef bytes made = b""
    for _ in range(times):
        made = deflate.compress(payload)
    return made


def connect(Runtime runtime not None):
    """A connection in memory, with its protocol."""
    runtime.tick()
    return MemoryChannel(runtime)
