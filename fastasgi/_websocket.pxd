"""One WebSocket on a channel: frames in and out, pings, the closing handshake; what messages mean, a subclass says."""

from libc.stdint cimport int64_t, uint8_t, uint64_t

from fastasgi._channel cimport Channel, Handler
from fastasgi._deflate cimport Deflate
from fastasgi._frames cimport FrameParser
from fastasgi._runtime cimport Runtime


cdef enum WireState:
    WIRE_OPEN = 0
    WIRE_CLOSING = 1        # our close frame is sent, the client's is awaited
    WIRE_CLOSED = 2         # no frame goes or comes any more


cdef enum:
    JOIN_PAYLOAD = 16 * 1024    # a larger bytes payload goes beside its header, uncopied


cdef class WebSocket(Handler):
    cdef Channel channel            # None once lost
    cdef Runtime runtime
    cdef FrameParser parser
    cdef Deflate deflate            # None: no compression
    cdef WireState state
    cdef Handler before             # who led the handshake, while its frames may be on the stack
    cdef bint is_held               # enough messages wait: nothing is read until release()
    cdef bint saw_eof               # the client has ended its side, behind the tail
    cdef bytes tail                 # bytes received and not yet read, or None
    cdef size_t tail_at             # of them, already read
    cdef int late_end               # FrameEvent that ends the frames, put off by a turn, or FRAME_NONE
    cdef bytes late_pong            # payload of a ping that is answered when there is room, or None
    # --- pings
    cdef bytes ping                 # payload of the one that is not answered yet, or None
    cdef int64_t ping_ns            # when it was sent
    cdef uint64_t ping_bytes        # what had come of the frame that was being read then
    cdef int64_t round_trip_ns      # of the last ping that was answered; 0: none yet

    # --- called by the session
    cdef int send_message(self, uint8_t opcode, const char *p, size_t n, bytes owner) except -1
    cdef int close(self, int code, str reason) except -1
    cdef int fail(self, int code, str reason) except -1
    cdef int release(self) except -1
    # --- given by the subclass
    cdef int arrived(self, object message) except -1
    cdef int settle(self) except -1
    cdef int ended(self, int code, str reason) except -1
    cdef int drained(self) except -1
    # --- private
    cdef size_t _read(self, const char *p, size_t n) except? 0xFFFFFFFF
    cdef int _keep_tail(self, const char *p, size_t n) except -1
    cdef int _read_tail(self) except -1
    cdef int _end_late(self) except -1
    cdef int _control(self, int event) except -1
    cdef int _closed_by_peer(self) except -1
    cdef int _pong(self, bytes payload) except -1
    cdef int _ping(self) except -1
    cdef int _ping_expired(self) except -1
    cdef int _write(self, bytes frame) except -1
