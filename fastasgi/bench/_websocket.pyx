# cython: freethreading_compatible=True, nonecheck=False
"""The load client of WebSockets.

The sockets come connected, with their handshake done. What is sent was made before, frames and masks too, so sending
costs a system call; each answer is compared with what it must be, byte by byte as it comes. Only answers that are
compressed go through Python, which has zlib.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.mem cimport PyMem_Calloc, PyMem_Free
from libc.errno cimport EAGAIN, EINTR, ENOMEM, errno
from libc.stdlib cimport free, realloc
from libc.string cimport memcmp, memcpy, memset

from fastasgi.bench._load cimport FAULT_NONE, FAULT_SYSTEM, Fault, Load
from fastasgi.fa cimport fa_monotonic_ns
from fastasgi.linux cimport EPOLLIN, EPOLLOUT, MSG_NOSIGNAL, recv, send

# RFC 6455 section 5.2
cdef enum:
    CONTINUATION = 0
    TEXT = 1
    BINARY = 2
    CLOSE = 8
    PING = 9
    PONG = 10
    FIN_BIT = 0x80
    RSV1_BIT = 0x40
    RSV23_BITS = 0x30
    MASK_BIT = 0x80

DEFLATE_TAIL = b"\x00\x00\xff\xff"
"""What a sender leaves out at the end of a compressed message (RFC 7692 section 7.2.1)."""


@cython.final
cdef class WebSocketLoad(Load):
    """N clients and the messages that they send in turn.

    `fds`: non-blocking sockets, the caller's, to be kept open until `close()`. `frames`: what is sent, whole masked
    frames; `payloads`: what must come back for each. `inflaters`: a decompressor for each client where compression was
    negotiated, else None. `is_text`: whether the messages are text.
    """

    def __init__(
        self, list fds not None, list frames not None, list payloads not None, bint is_text, list inflaters=None
    ):
        if not fds or not frames or len(frames) != len(payloads):
            raise ValueError(f"expected clients, and a payload for each frame; got {len(fds)} clients, "
                             f"{len(frames)} frames, {len(payloads)} payloads")
        self.opcode = TEXT if is_text else BINARY
        self.kept = ([bytes(frame) for frame in frames], [bytes(payload) for payload in payloads])
        self.inflaters = inflaters
        self.n_messages = <size_t>len(frames)
        self.messages = <Message *>PyMem_Calloc(self.n_messages, sizeof(Message))
        self.clients = <Client *>PyMem_Calloc(<size_t>len(fds), sizeof(Client))
        if self.messages == NULL or self.clients == NULL:
            raise MemoryError
        self._open(<size_t>len(fds))
        for i, (frame, payload) in enumerate(zip(*self.kept)):
            self.messages[i] = Message(PyBytes_AS_STRING(frame), <size_t>PyBytes_GET_SIZE(frame),
                                       PyBytes_AS_STRING(payload), <size_t>PyBytes_GET_SIZE(payload))
        for i, fd in enumerate(fds):
            self.clients[i].fd = fd
            self._add(fd, i, EPOLLIN)

    def __dealloc__(self):
        cdef size_t i
        if self.clients != NULL:
            for i in range(self.count):
                free(self.clients[i].packed)
        PyMem_Free(self.clients)
        PyMem_Free(self.messages)

    def echo(self, double seconds, double stall_s=10.0):
        """Each client sends, waits for its echo and sends again, for so long; then the last answers are waited for.

        Raises LoadFailed at the first answer that is wrong, or when nothing comes for `stall_s`.
        """
        self.mode = MODE_ECHO
        self._run_for(seconds, stall_s)

    def echo_at(self, double rate, double seconds, double stall_s=10.0):
        """Messages fall due at `rate` a second over all clients in turn, whether or not answers come.

        A latency counts from when its message was due, so a server that stalls is charged for all that it kept
        waiting (no coordinated omission). Raises as `echo()`.
        """
        self.mode = MODE_PACED
        self._run_at(rate, seconds, stall_s)

    def broadcast(self, uint64_t times, double stall_s=10.0):
        """The first client sends a message, which all must receive; then the next one, so often.

        Latencies count from the sending to each client's receiving. Raises as `echo()`.
        """
        self.mode, self.total, self.per_due_ns = MODE_BROADCAST, times * self.count, 0
        self._run(stall_s)

    # --- the run ------------------------------------------------------------------------------------------------------

    cdef void _begin(self) noexcept nogil:
        cdef size_t i
        for i in range(self.count):
            self.clients[i].sent = self.clients[i].answered = 0
        if self.mode == MODE_ECHO:
            for i in range(self.count):
                self._owe(&self.clients[i])

    cdef bint _is_over(self) noexcept nogil:
        """Begin what is to be begun; true when everything was answered."""
        if self.mode == MODE_PACED:
            self._release_due()
            return self.answered == self.total
        if self.outstanding:
            return False
        if self.mode == MODE_ECHO:
            return True
        if self.answered == self.total:
            return True
        self._owe(&self.clients[0])
        self.outstanding = self.count
        return False

    cdef void _release_due(self) noexcept nogil:
        """MODE_PACED: begin the messages whose time has come."""
        self.now_ns = fa_monotonic_ns()
        while self._is_next_due():
            self._owe(&self.clients[(self.due - 1) % self.count])

    cdef Message *_expected(self, Client *client) noexcept nogil:
        """The message whose echo this client gets next. Clients begin at different ones, but all get a broadcast."""
        cdef uint64_t index = 0 if self.mode == MODE_BROADCAST else <uint64_t>(client - self.clients)
        return &self.messages[(index + client.answered) % self.n_messages]

    cdef void _blame(self, Client *client, Fault fault, uint64_t number) noexcept nogil:
        self._fail(client - self.clients, fault, number)

    # --- out ----------------------------------------------------------------------------------------------------------

    cdef void _owe(self, Client *client) noexcept nogil:
        """One more message is to be sent."""
        client.owed += 1
        self.outstanding += 1
        if client.out_bytes == 0:
            self._flush(client)

    cdef bint _next_frame(self, Client *client) noexcept nogil:
        """Choose what is sent next; false when there is nothing. A pong goes first, between two frames."""
        cdef Message *message
        cdef uint64_t index = 0 if self.mode == MODE_BROADCAST else <uint64_t>(client - self.clients)
        client.is_ponging = client.pong_bytes != 0
        if client.is_ponging:
            client.out, client.out_bytes = <char *>client.pong, client.pong_bytes
            client.pong_bytes = 0
            return True
        if client.owed == 0:
            return False
        message = &self.messages[(index + client.sent) % self.n_messages]
        client.out, client.out_bytes = message.frame, message.frame_bytes
        client.owed -= 1
        client.sent += 1
        client.since_ns = fa_monotonic_ns()
        return True

    cdef void _flush(self, Client *client) noexcept nogil:
        """Send what is to be sent, as far as the kernel takes it."""
        cdef ssize_t n
        while client.out_bytes or self._next_frame(client):
            n = send(client.fd, client.out, client.out_bytes, MSG_NOSIGNAL)
            if n >= 0:
                client.out += n
                client.out_bytes -= <size_t>n
            elif errno == EAGAIN:
                self._watch_output(client, True)
                return
            elif errno != EINTR:
                self._blame(client, FAULT_SYSTEM, <uint64_t>errno)
                return
        self._watch_output(client, False)

    cdef void _watch_output(self, Client *client, bint output) noexcept nogil:
        """Have epoll tell when the kernel takes output again, or no longer."""
        if client.is_watching_output != output:
            client.is_watching_output = output
            self._watch(client.fd, client - self.clients, EPOLLIN | EPOLLOUT if output else EPOLLIN)

    # --- in -----------------------------------------------------------------------------------------------------------

    cdef void _serve(self, size_t index, uint32_t ready) noexcept nogil:
        cdef Client *client = &self.clients[index]
        cdef ssize_t n
        if ready & EPOLLOUT:
            self._flush(client)
        while self.fault == FAULT_NONE:
            n = recv(client.fd, self.buffer, self.read_size, 0)
            if n > 0:
                self.now_ns = self.progress_ns = fa_monotonic_ns()
                self.received_bytes += <uint64_t>n
                self._take(client, self.buffer, <size_t>n)
                if <size_t>n < self.read_size:
                    return
            elif n == 0:
                self._blame(client, FAULT_ENDED, client.seen)
            elif errno == EAGAIN:
                return
            elif errno != EINTR:
                self._blame(client, FAULT_SYSTEM, <uint64_t>errno)

    cdef void _take(self, Client *client, const char *p, size_t n) noexcept nogil:
        """Bytes came: frames, cut anywhere."""
        cdef size_t taken
        while n and self.fault == FAULT_NONE:
            if not client.is_in_payload:
                taken = self._take_head(client, p, n)
            else:
                taken = n if n < client.left else <size_t>client.left
                self._take_payload(client, p, taken)
                client.left -= taken
            p += taken
            n -= taken
            if client.is_in_payload and client.left == 0 and self.fault == FAULT_NONE:
                client.is_in_payload = False
                client.head_bytes = 0
                self._end_frame(client)

    cdef size_t _take_head(self, Client *client, const char *p, size_t n) noexcept nogil:
        """The head of a frame, or a part of it; returns how many bytes are of it."""
        cdef uint8_t wanted
        cdef size_t taken = 0
        while taken < n:
            client.head[client.head_bytes] = <uint8_t>p[taken]
            client.head_bytes += 1
            taken += 1
            if client.head_bytes >= 2:
                wanted = 4 if client.head[1] == 126 else 10 if client.head[1] == 127 else 2
                if client.head_bytes == wanted:
                    self._begin_frame(client)
                    return taken
        return taken

    cdef void _begin_frame(self, Client *client) noexcept nogil:
        """The head of a frame is there. A server's frames carry no mask (RFC 6455 section 5.1)."""
        cdef uint8_t first = client.head[0]
        cdef uint8_t opcode = first & 0x0F
        cdef size_t i
        client.is_in_payload = True
        client.left = client.head[1]
        if client.head_bytes > 2:
            client.left = 0
            for i in range(2, client.head_bytes):
                client.left = client.left << 8 | client.head[i]
        if client.head[1] & MASK_BIT or first & RSV23_BITS:
            self._blame(client, FAULT_FRAME, first)
        elif opcode == CLOSE or opcode == PING or opcode == PONG:
            client.control_bytes = 0
            if client.left > MAX_CONTROL_BYTES or not first & FIN_BIT or first & RSV1_BIT:
                self._blame(client, FAULT_FRAME, first)
        else:
            self._begin_data(client, opcode, first & RSV1_BIT)

    cdef void _begin_data(self, Client *client, uint8_t opcode, uint8_t rsv) noexcept nogil:
        """A frame of a message: its first one, or a continuation."""
        cdef uint64_t sent = self.clients[0].sent if self.mode == MODE_BROADCAST else client.sent
        if (opcode == CONTINUATION) != (client.opcode != 0) or opcode > BINARY or (rsv and self.inflaters is None):
            self._blame(client, FAULT_FRAME, client.head[0])
        elif opcode != CONTINUATION:
            client.opcode = opcode
            client.is_packed = rsv != 0
            client.seen = 0
            if client.answered >= sent:
                self._blame(client, FAULT_UNASKED, client.left)
            elif opcode != self.opcode:
                self._blame(client, FAULT_KIND, opcode)
        elif rsv:
            self._blame(client, FAULT_FRAME, client.head[0])
        if self.fault == FAULT_NONE and not client.is_packed:
            if client.seen + client.left > self._expected(client).payload_bytes:
                self._blame(client, FAULT_LENGTH, client.seen + client.left)

    cdef void _take_payload(self, Client *client, const char *p, size_t n) noexcept nogil:
        if client.head[0] & 0x08:
            memcpy(&client.control[client.control_bytes], p, n)
            client.control_bytes += <uint8_t>n
            return
        if client.is_packed:
            self._keep_packed(client, p, n)
        else:
            self._compare(client, p, n)
        client.seen += n

    cdef void _compare(self, Client *client, const char *p, size_t n) noexcept nogil:
        """The next n bytes of an answer are those that were sent."""
        cdef const char *wanted = self._expected(client).payload + client.seen
        cdef size_t at = 0
        if memcmp(p, wanted, n):
            while p[at] == wanted[at]:
                at += 1
            self._blame(client, FAULT_CONTENT, client.seen + at)

    cdef void _keep_packed(self, Client *client, const char *p, size_t n) noexcept nogil:
        """Compressed bytes wait for the end of their message."""
        cdef char *grown
        if client.seen + n > client.packed_room:
            client.packed_room = (client.seen + n) * 2
            grown = <char *>realloc(client.packed, client.packed_room)
            if grown == NULL:
                self._blame(client, FAULT_SYSTEM, ENOMEM)
                return
            client.packed = grown
        memcpy(client.packed + client.seen, p, n)

    cdef void _end_frame(self, Client *client) noexcept nogil:
        cdef uint8_t first = client.head[0]
        if first & 0x08:
            self._end_control(client, first & 0x0F)
        elif first & FIN_BIT:
            self._end_message(client)

    cdef void _end_control(self, Client *client, uint8_t opcode) noexcept nogil:
        """Answer a ping with its payload; a close is a fault, because nobody asked for it."""
        cdef size_t i
        if opcode == CLOSE:
            self._blame(client, FAULT_CLOSE,
                        1005 if client.control_bytes < 2 else client.control[0] << 8 | client.control[1])
        elif opcode == PING and not client.is_ponging:  # section 5.5.3: of several pings the last may be answered
            client.pong[0] = FIN_BIT | PONG
            client.pong[1] = MASK_BIT | client.control_bytes
            memset(&client.pong[2], 0, 4)               # a mask of zeros
            for i in range(client.control_bytes):
                client.pong[6 + i] = client.control[i]
            client.pong_bytes = 6 + client.control_bytes
            if client.out_bytes == 0:
                self._flush(client)

    cdef void _end_message(self, Client *client) noexcept nogil:
        """A whole answer came."""
        client.opcode = 0
        if client.is_packed:
            self._inflate(client)
        elif client.seen != self._expected(client).payload_bytes:
            self._blame(client, FAULT_LENGTH, client.seen)
        if self.fault == FAULT_NONE:
            self._answered(client)

    cdef int _inflate(self, Client *client) noexcept with gil:
        """Inflate a compressed answer and compare it."""
        cdef Message *message = self._expected(client)
        cdef bytes payload
        cdef size_t n
        try:
            payload = self.inflaters[client - self.clients].decompress(
                PyBytes_FromStringAndSize(client.packed, <Py_ssize_t>client.seen) + DEFLATE_TAIL)
        except Exception:
            self._blame(client, FAULT_INFLATE, client.seen)
            return 0
        n = <size_t>PyBytes_GET_SIZE(payload)
        if n != message.payload_bytes:
            self._blame(client, FAULT_LENGTH, n)
        else:
            client.seen = 0
            self._compare(client, PyBytes_AS_STRING(payload), n)
        return 0

    cdef void _answered(self, Client *client) noexcept nogil:
        """Count an answer, note how long it took, and let the client go on."""
        cdef int64_t since = client.since_ns
        if self.mode == MODE_PACED:
            since = self._due_ns(client.answered * self.count + <uint64_t>(client - self.clients))
        elif self.mode == MODE_BROADCAST:
            since = self.clients[0].since_ns
        self._note(fa_monotonic_ns() - since)
        client.answered += 1
        client.seen = 0
        if self.mode == MODE_ECHO and self.is_sending:
            if self.now_ns < self.end_ns:
                self._owe(client)
            else:
                self.is_sending = False

    # --- what went wrong ----------------------------------------------------------------------------------------------

    cdef uint64_t _answers_of(self, size_t index) noexcept:
        return self.clients[index].answered

    cdef str _describe(self):
        number = self.fault_number
        size = self._expected(&self.clients[self.fault_client]).payload_bytes
        return {
            FAULT_ENDED: f"the server closed the connection after {number} bytes of an answer of {size}",
            FAULT_CLOSE: f"the server closed the WebSocket with code {number}",
            FAULT_FRAME: f"the server sent a frame that it may not send here, first byte 0x{number:02x}",
            FAULT_KIND: f"expected {'text' if self.opcode == TEXT else 'binary'}, got a message of opcode {number}",
            FAULT_UNASKED: f"the server sent a message of at least {number} bytes that nobody waits for",
            FAULT_LENGTH: f"expected an answer of {size} bytes, got {number}",
            FAULT_CONTENT: f"expected the echo of what was sent, got one that differs at byte {number}",
            FAULT_INFLATE: f"{number} compressed bytes cannot be inflated",
        }[self.fault]
