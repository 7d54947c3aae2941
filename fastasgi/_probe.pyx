# cython: freethreading_compatible=True
"""A Python face of the parsers of requests and frames, for tests and fuzzing; the server does not import it."""

cimport cython

from fastasgi._deflate import negotiate
from fastasgi._frames import FRAME_FAILURES
from fastasgi._frames cimport FRAME_FAILED, FRAME_MESSAGE, FRAME_NONE, FRAME_PING, FRAME_PONG, FrameParser
from fastasgi._head import FAILURES
from fastasgi._head cimport RequestTables
from fastasgi._request cimport EVENT_BODY, EVENT_COMPLETE, EVENT_ERROR, EVENT_HEAD, RequestParser
from fastasgi.fa cimport (
    FA_UNDERSCORES_DROP, FA_UNDERSCORES_DROP_FORWARDED, FA_UNDERSCORES_KEEP, FA_UNLIMITED,
)

cdef list TEST_BODY_KINDS = ["none", "length", "chunked"]
cdef dict TEST_UNDERSCORES = {
    "drop-forwarded": FA_UNDERSCORES_DROP_FORWARDED, "drop": FA_UNDERSCORES_DROP, "keep": FA_UNDERSCORES_KEEP,
}


@cython.final
cdef class _Reader:
    """Drives a RequestParser from Python."""

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
                self.events.append(("error", *FAILURES[parser.failure]))
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


def read_frames(list data_chunks, size_t max_bytes=1 << 24, offers=None):
    """Events of the frames in `data_chunks` (bytes objects, in order), for tests.

    Each is ("message", str or bytes), ("ping", payload), ("pong", payload), ("close", code, reason) or, last,
    ("failed", code, name). `offers` are a client's values of Sec-WebSocket-Extensions.
    """
    cdef FrameParser parser = FrameParser(max_bytes, negotiate(offers) if offers else None)
    cdef list events = []
    cdef const char *p
    cdef size_t n
    cdef int event
    for data in data_chunks:
        p, n = <bytes>data, len(data)
        while n:
            event = parser.feed(p, n)
            p += parser.consumed
            n -= parser.consumed
            if event == FRAME_MESSAGE:
                events.append(("message", parser.take_message()))
            elif event == FRAME_PING or event == FRAME_PONG:
                events.append(("ping" if event == FRAME_PING else "pong", parser.payload))
            elif event == FRAME_FAILED:
                events.append(("failed", *FRAME_FAILURES[parser.failure][:2]))
            elif event != FRAME_NONE:
                events.append(("close", parser.close_code, parser.close_reason))
    return events


def negotiated(list offers):
    """The value of Sec-WebSocket-Extensions that answers these of a client, or None; for tests."""
    found = negotiate(offers)
    return None if found is None else found.response
