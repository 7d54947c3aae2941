"""The load client of WebSockets: what is sent, and how far each client has come."""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from fastasgi.bench._load cimport Fault, Load


cdef enum:
    FRAME_HEAD_BYTES = 14           # RFC 6455 section 5.2: two bytes, eight of length, four of mask
    MAX_CONTROL_BYTES = 125


# What went wrong, beside the faults of every Load.
cdef enum:
    FAULT_ENDED = 8     # the server has closed the connection
    FAULT_CLOSE         # it sent a close frame; `fault_number` is the code
    FAULT_FRAME         # it sent what RFC 6455 forbids; `fault_number` is the first byte
    FAULT_KIND          # text for binary or the reverse; `fault_number` is the opcode
    FAULT_UNASKED       # a message that nobody waits for
    FAULT_LENGTH        # an answer of another length; `fault_number` is how long it is, or at least
    FAULT_CONTENT       # an answer that differs; `fault_number` is where
    FAULT_INFLATE       # an answer that cannot be inflated


# What one run does.
ctypedef uint8_t Mode
cdef enum:
    MODE_ECHO           # each client sends, waits for its echo, sends again, until `end_ns`
    MODE_PACED          # messages fall due on a schedule that does not wait for answers, until `total` are answered
    MODE_BROADCAST      # client 0 sends, all receive it, `total` times


ctypedef struct Message:
    const char *frame               # the masked frame as it is sent; borrowed from Load.kept
    size_t frame_bytes
    const char *payload             # what must come back; borrowed from Load.kept
    size_t payload_bytes


ctypedef struct Client:
    int fd                          # the caller's
    bint is_watching_output         # EPOLLOUT is in its mask
    # --- outgoing
    const char *out                 # of the frame being sent, the part that the kernel has not taken
    size_t out_bytes
    uint8_t pong[FRAME_HEAD_BYTES + MAX_CONTROL_BYTES]
    uint8_t pong_bytes              # of an answer to a ping that waits for its turn; 0: none
    bint is_ponging                 # `out` points into `pong`
    uint64_t owed                   # messages that wait to be sent
    uint64_t sent, answered         # messages in this run; begun, and answered in full
    int64_t since_ns                # when the last message was begun
    # --- incoming
    uint8_t head[FRAME_HEAD_BYTES]
    uint8_t head_bytes              # of the head that has come so far
    bint is_in_payload
    uint64_t left                   # payload bytes of this frame still to come
    uint8_t control[MAX_CONTROL_BYTES]
    uint8_t control_bytes
    uint8_t opcode                  # of the message under way; 0: none
    bint is_packed                  # it is compressed
    uint64_t seen                   # payload bytes of it so far
    char *packed                    # compressed bytes of it, owned
    size_t packed_room


cdef class WebSocketLoad(Load):
    cdef Client *clients            # owned
    cdef size_t n_messages
    cdef Message *messages          # owned; they hold bytes of `kept`
    cdef object kept                # keeps frames and payloads alive
    cdef list inflaters             # one decompressor a client, or None without compression
    cdef uint8_t opcode             # 1 text, 2 binary
    cdef Mode mode

    cdef void _release_due(self) noexcept nogil
    cdef void _owe(self, Client *client) noexcept nogil
    cdef bint _next_frame(self, Client *client) noexcept nogil
    cdef void _flush(self, Client *client) noexcept nogil
    cdef void _watch_output(self, Client *client, bint output) noexcept nogil
    cdef void _take(self, Client *client, const char *p, size_t n) noexcept nogil
    cdef size_t _take_head(self, Client *client, const char *p, size_t n) noexcept nogil
    cdef void _begin_frame(self, Client *client) noexcept nogil
    cdef void _begin_data(self, Client *client, uint8_t opcode, uint8_t rsv) noexcept nogil
    cdef void _take_payload(self, Client *client, const char *p, size_t n) noexcept nogil
    cdef void _compare(self, Client *client, const char *p, size_t n) noexcept nogil
    cdef void _keep_packed(self, Client *client, const char *p, size_t n) noexcept nogil
    cdef void _end_frame(self, Client *client) noexcept nogil
    cdef void _end_control(self, Client *client, uint8_t opcode) noexcept nogil
    cdef void _end_message(self, Client *client) noexcept nogil
    cdef int _inflate(self, Client *client) noexcept with gil
    cdef Message *_expected(self, Client *client) noexcept nogil
    cdef void _answered(self, Client *client) noexcept nogil
    cdef void _blame(self, Client *client, Fault fault, uint64_t number) noexcept nogil
