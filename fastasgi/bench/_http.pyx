# cython: freethreading_compatible=True, nonecheck=False
"""The load client of HTTP/1.1.

A request costs one send, its answer one recv; what is sent was made before, and what comes is compared where it lies,
in a buffer that all connections share. A head that came before, byte for byte, is not read again. No answer is
believed: status, fields, framing, length and content are checked, and a nonce that each request carries must come back.

On a schedule a request goes to the connection that was idle longest; it waits, its clock running, while there is none.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.mem cimport PyMem_Calloc, PyMem_Free
from libc.errno cimport EAGAIN, ECONNRESET, EINPROGRESS, EINTR, ENOMEM, EPIPE, errno
from libc.stdlib cimport free, malloc
from libc.string cimport memcmp, memcpy, memset, strerror

from fastasgi.bench._answer cimport (
    PART_BAD, PART_OPEN, PART_WHOLE, TROUBLE_BOTH, TROUBLE_CODING, TROUBLE_FIELD, TROUBLE_LENGTH, TROUBLE_NONE,
    TROUBLE_STATUS_LINE, Trouble, begin_body, read_head, take_data, take_framing,
)
from fastasgi.bench._load cimport FAULT_NONE, FAULT_STALLED, FAULT_SYSTEM, Fault, Load
from fastasgi.fa cimport fa_monotonic_ns
from fastasgi.linux cimport (
    EPOLL_CTL_ADD, EPOLLERR, EPOLLET, EPOLLHUP, EPOLLIN, EPOLLOUT, EPOLLRDHUP, IPPROTO_TCP, MSG_NOSIGNAL, SOCK_CLOEXEC,
    SOCK_NONBLOCK, SOCK_STREAM, TCP_NODELAY, AF_UNIX, close, connect, epoll_ctl, epoll_event, getpeername, iovec,
    msghdr, recv, send, sendmsg, setsockopt, sockaddr, socket,
)

from os import urandom

cdef extern from "string.h" nogil:
    void *memmem(const void *p, size_t n, const void *wanted, size_t wanted_bytes)

cdef enum:
    READ_BUDGET = 4                 # reads of one connection in one turn

cdef uint32_t WATCHED = EPOLLIN | EPOLLRDHUP | EPOLLET
cdef uint32_t ENDING = EPOLLRDHUP | EPOLLHUP | EPOLLERR
cdef const char *HEX = b"0123456789abcdef"

cdef dict TROUBLES = {
    TROUBLE_STATUS_LINE: "'HTTP/1.1 ' and a status",
    TROUBLE_FIELD: "a field and CRLF",
    TROUBLE_LENGTH: "one Content-Length that is a number",
    TROUBLE_CODING: "one Transfer-Encoding that is chunked",
    TROUBLE_BOTH: "either Content-Length or Transfer-Encoding",
}
cdef dict SENTENCES = {
    FAULT_ANNOUNCED: "the server ends the connection (Connection: close), and the load may not reconnect",
    FAULT_HEAD: "expected {trouble}, got {line!r}",
    FAULT_HEAD_BYTES: "expected a head of less than {number} bytes, got one that begins {came!r}",
    FAULT_STATUS: "expected status {status}, got {line!r}",
    FAULT_FIELD: "expected the field {field}, got an answer without",
    FAULT_UNFRAMED: "expected Content-Length or Transfer-Encoding: chunked, got neither",
    FAULT_CHUNK: "expected chunked framing behind byte {number} of the body, got {came!r}",
    FAULT_LENGTH: "expected a body of {size} bytes, got {number}",
    FAULT_LONGER: "expected a body of {size} bytes, got at least {number}",
    FAULT_CONTENT: "expected {wanted!r} at byte {number} of the body, got {came!r}",
    FAULT_NONCE: "expected this request's own nonce {nonce!r} in the body, got another one; byte {number} on: {came!r}",
    FAULT_SURPLUS: "expected the answer to end, got {number} bytes more: {came!r}",
    FAULT_UNASKED: "got {number} bytes that nobody asked for: {came!r}",
    FAULT_EARLY: "got the whole answer before the last {number} of {request_bytes} bytes of the request were sent",
}


@cython.final
cdef class HttpLoad(Load):
    """N connections and the requests that they send in turn.

    `fds`: connected, non-blocking sockets, all to one server; from here on they are this object's, which closes them.
    `requests`: whole requests as they are sent. `bodies`: what must come back for each, as bytes; or only how many; or
    None for anything. `status`: of each answer. `fields`: (name in lower case, value) that each answer must have.
    `nonce`: NONCE_BYTES that stand once in each request and each body; they stand for digits that are new in each
    request. `may_reconnect`: an answer may say Connection: close, and a new connection takes over.
    """

    def __init__(
        self, list fds not None, list requests not None, list bodies not None, *, int status=200, list fields=None,
        bytes nonce=None, bint may_reconnect=False
    ):
        fields = fields or []
        if not fds or not requests or len(requests) != len(bodies) or len(fields) > MAX_FIELDS:
            raise ValueError(f"expected connections, a body for each request, and up to {MAX_FIELDS} fields; got "
                             f"{len(fds)} connections, {len(requests)} requests, {len(bodies)} bodies, "
                             f"{len(fields)} fields")
        if nonce is not None and len(nonce) != NONCE_BYTES:
            raise ValueError(f"expected a nonce of {NONCE_BYTES} bytes, got {nonce!r}")
        self.status, self.may_reconnect = status, may_reconnect
        self.nonce_state = int.from_bytes(urandom(8), "little")
        self.n_exchanges = <size_t>len(requests)
        self.exchanges = <Exchange *>PyMem_Calloc(self.n_exchanges, sizeof(Exchange))
        self.clients = <Client *>PyMem_Calloc(<size_t>len(fds), sizeof(Client))
        self.idle = <size_t *>PyMem_Calloc(<size_t>len(fds), sizeof(size_t))
        if self.exchanges == NULL or self.clients == NULL or self.idle == NULL:
            raise MemoryError
        self._keep(requests, bodies, fields)
        for i, (request, body) in enumerate(zip(requests, bodies)):
            self._add_exchange(&self.exchanges[i], request, body, nonce)
        self._open(<size_t>len(fds))
        for i, fd in enumerate(fds):
            self._add_client(fd, i)
        self.is_owner = True

    cdef object _keep(self, list requests, list bodies, list fields):
        """Hold what is sent and expected; note the fields."""
        pairs = [(bytes(name), bytes(value)) for name, value in fields]
        self.kept = (list(requests), list(bodies), pairs)
        for name, value in pairs:
            self.fields[self.n_fields] = Field(
                PyBytes_AS_STRING(name), <size_t>PyBytes_GET_SIZE(name),
                PyBytes_AS_STRING(value), <size_t>PyBytes_GET_SIZE(value))
            self.all_fields |= <uint64_t>1 << self.n_fields
            self.n_fields += 1

    cdef int _add_exchange(self, Exchange *exchange, bytes request, object body, bytes nonce) except -1:
        """Note one request and what must come back; `kept` holds both."""
        if not request:
            raise ValueError("expected a request, got b''")
        exchange.request = PyBytes_AS_STRING(request)
        exchange.request_bytes = <size_t>PyBytes_GET_SIZE(request)
        exchange.is_head = request.startswith(b"HEAD ")
        exchange.has_length = body is not None
        if isinstance(body, bytes):
            exchange.body = PyBytes_AS_STRING(body)
            exchange.body_bytes = <uint64_t>PyBytes_GET_SIZE(body)
        elif body is not None:
            exchange.body_bytes = body
        if nonce is not None:
            self._add_nonce(exchange, request, body, nonce)
        return 0

    cdef int _add_nonce(self, Exchange *exchange, bytes request, object body, bytes nonce) except -1:
        """Find where the nonce goes out and comes back."""
        for data in (request, body):
            if not isinstance(data, bytes) or data.count(nonce) != 1:
                raise ValueError(f"expected {nonce!r} once in each request and each body, got {data!r:.200}")
        exchange.has_nonce = True
        exchange.request_nonce = request.index(nonce)
        exchange.body_nonce = body.index(nonce)
        return 0

    cdef int _add_client(self, int fd, size_t index) except -1:
        """Watch a socket; connections begin with different requests. All go where the first one goes."""
        cdef Client *client = &self.clients[index]
        if index == 0:
            self.address_bytes = sizeof(self.address)
            if getpeername(fd, <sockaddr *>&self.address, &self.address_bytes) < 0:
                raise OSError(errno, strerror(errno).decode())
        client.fd = fd
        client.turn = index % self.n_exchanges
        self._add(fd, index, WATCHED)
        return 0

    def __dealloc__(self):
        cdef size_t i
        if self.clients != NULL:
            for i in range(self.count):
                free(self.clients[i].head)
                if self.is_owner:
                    close(self.clients[i].fd)
        PyMem_Free(self.clients)
        PyMem_Free(self.exchanges)
        PyMem_Free(self.idle)

    def close(self):
        """Close the connections."""
        cdef size_t i
        if self.is_owner:
            self.is_owner = False
            for i in range(self.count):
                close(self.clients[i].fd)
        Load.close(self)

    def run(self, double seconds, double stall_s=10.0):
        """Each connection asks, waits for its answer and asks again, for so long; then the last answers are waited for.

        Raises LoadFailed at the first answer that is wrong, or when one makes no progress for `stall_s`.
        """
        self._run_for(seconds, stall_s)

    def run_at(self, double rate, double seconds, double stall_s=10.0):
        """Requests fall due at `rate` a second over all connections, whether or not answers come.

        A latency counts from when its request was due. Raises as `run()`.
        """
        self._run_at(rate, seconds, stall_s)

    # --- the run ------------------------------------------------------------------------------------------------------

    cdef void _begin(self) noexcept nogil:
        cdef size_t i
        self.asked = self.connections_closed = 0
        self.idle_first = self.n_idle = 0
        for i in range(self.count):
            self.clients[i].answered = 0
            if self.per_due_ns == 0:
                self.outstanding += 1
                self._ask(&self.clients[i], self.now_ns)
            else:
                self.idle[i] = i
                self.n_idle += 1

    cdef bint _is_over(self) noexcept nogil:
        cdef size_t index
        if self.per_due_ns == 0:
            return self.outstanding == 0
        self.now_ns = fa_monotonic_ns()
        while self._is_next_due():
            self.outstanding += 1
            if self.n_idle:
                index = self.idle[self.idle_first]
                self.idle_first = self.idle_first + 1 if self.idle_first + 1 < self.count else 0
                self.n_idle -= 1
                self._ask(&self.clients[index], self._due_ns(self.asked))
        return self.answered == self.total

    cdef void _find_stall(self) noexcept nogil:
        """Fail for a connection that waits for its answer too long; the others may go on as they like."""
        cdef size_t i
        for i in range(self.count):
            if self.clients[i].phase != PHASE_IDLE and self.now_ns - self.clients[i].progress_ns > self.stall_ns:
                self._fail(i, FAULT_STALLED, self.outstanding)

    # --- out ----------------------------------------------------------------------------------------------------------

    cdef void _ask(self, Client *client, int64_t since_ns) noexcept nogil:
        """Send the connection's next request, which was due at `since_ns`."""
        cdef Exchange *exchange = &self.exchanges[client.turn]
        client.turn = client.turn + 1 if client.turn + 1 < self.n_exchanges else 0
        client.exchange = exchange
        client.phase = PHASE_HEAD
        client.since_ns, client.progress_ns = since_ns, self.now_ns
        client.unsent = exchange.request_bytes
        client.seen = client.head_bytes = 0
        self.asked += 1
        if exchange.has_nonce:
            self._make_nonce(client)
        self._send(client)

    cdef void _make_nonce(self, Client *client) noexcept nogil:
        """Digits that no other request of this object carries: splitmix64, which maps numbers one to one."""
        cdef uint64_t number
        cdef size_t i
        self.nonce_state += <uint64_t>0x9E3779B97F4A7C15
        number = self.nonce_state
        number = (number ^ number >> 30) * <uint64_t>0xBF58476D1CE4E5B9
        number = (number ^ number >> 27) * <uint64_t>0x94D049BB133111EB
        number ^= number >> 31
        for i in range(NONCE_BYTES):
            client.nonce[i] = HEX[number & 15]
            number >>= 4

    cdef void _send(self, Client *client) noexcept nogil:
        """Send what is left of the request, as far as the kernel takes it."""
        cdef Exchange *exchange = client.exchange
        cdef ssize_t n
        while client.unsent:
            if exchange.has_nonce:
                n = self._send_with_nonce(client)
            else:
                n = send(client.fd, exchange.request + (exchange.request_bytes - client.unsent), client.unsent,
                         MSG_NOSIGNAL)
            if n >= 0:
                client.unsent -= <size_t>n
                client.progress_ns = self.now_ns
            elif errno == EAGAIN:
                self._watch_output(client, True)
                return
            elif errno == EPIPE or errno == ECONNRESET:
                return          # epoll tells of the end; what the server has said before is read first
            elif errno != EINTR:
                self._fail(client - self.clients, FAULT_SYSTEM, <uint64_t>errno)
                return
        self._watch_output(client, False)

    cdef ssize_t _send_with_nonce(self, Client *client) noexcept nogil:
        """Send the request with this connection's nonce in its place; what goes around it is not copied."""
        cdef Exchange *exchange = client.exchange
        cdef size_t sent = exchange.request_bytes - client.unsent
        cdef size_t after = exchange.request_nonce + NONCE_BYTES
        cdef iovec parts[3]
        cdef msghdr message
        cdef size_t i, n = 0
        parts[0] = iovec(<char *>exchange.request, exchange.request_nonce)
        parts[1] = iovec(<char *>client.nonce, NONCE_BYTES)
        parts[2] = iovec(<char *>exchange.request + after, exchange.request_bytes - after)
        for i in range(3):
            if sent >= parts[i].iov_len:
                sent -= parts[i].iov_len
                continue
            parts[n] = iovec(<char *>parts[i].iov_base + sent, parts[i].iov_len - sent)
            sent = 0
            n += 1
        memset(&message, 0, sizeof(message))
        message.msg_iov, message.msg_iovlen = parts, n
        return sendmsg(client.fd, &message, MSG_NOSIGNAL)

    cdef void _watch_output(self, Client *client, bint output) noexcept nogil:
        """Have epoll tell when the kernel takes output again, or no longer."""
        if client.is_watching_output != output:
            client.is_watching_output = output
            self._watch(client.fd, client - self.clients, WATCHED | EPOLLOUT if output else WATCHED)

    # --- in -----------------------------------------------------------------------------------------------------------

    cdef void _serve(self, size_t index, uint32_t ready) noexcept nogil:
        """Edges: read on until nothing is left, which a short read says, unless the connection ends."""
        cdef Client *client = &self.clients[index]
        cdef int budget = READ_BUDGET
        cdef ssize_t n
        if ready & EPOLLOUT:
            self._send(client)
        while self.fault == FAULT_NONE:
            n = recv(client.fd, self.buffer, self.read_size, 0)
            if n > 0:
                self.now_ns = self.progress_ns = client.progress_ns = fa_monotonic_ns()
                self.received_bytes += <uint64_t>n
                if not self._take(client, self.buffer, <size_t>n):
                    return
                if <size_t>n < self.read_size and not ready & ENDING:
                    return
                budget -= 1
                if budget == 0:     # the others' turn; this asks to be told again
                    self._watch(client.fd, index, WATCHED | EPOLLOUT if client.is_watching_output else WATCHED)
                    return
            elif n == 0:
                self._ended(client, FAULT_ENDED)
                return
            elif errno == EAGAIN:
                return
            elif errno == ECONNRESET or errno == EPIPE:
                self._ended(client, FAULT_RESET)
                return
            elif errno != EINTR:
                self._fail(index, FAULT_SYSTEM, <uint64_t>errno)

    cdef bint _take(self, Client *client, const char *p, size_t n) noexcept nogil:
        """Bytes came. Returns false if the connection is another one now."""
        cdef uint64_t closed = self.connections_closed
        cdef size_t taken
        if client.phase == PHASE_IDLE:
            self._blame(client, FAULT_UNASKED, n, p, n)
        while self.fault == FAULT_NONE:
            taken = self._take_head(client, p, n) if client.phase == PHASE_HEAD else self._take_body(client, p, n)
            p += taken
            n -= taken
            if client.phase == PHASE_IDLE:
                if n:
                    self._blame(client, FAULT_SURPLUS, n, p, n)
                elif self.fault == FAULT_NONE:
                    self._go_on(client)
                break
            if n == 0:
                break
        return self.connections_closed == closed

    cdef size_t _take_head(self, Client *client, const char *p, size_t n) noexcept nogil:
        """A head, or a part of it; returns how many bytes are of it."""
        cdef const char *blank
        cdef size_t head_bytes
        if client.head_bytes:
            return self._take_piece(client, p, n)
        if n >= self.known_bytes and self.known_bytes and memcmp(p, self.known_head, self.known_bytes) == 0:
            self._begin_body(client, &self.known)
            return self.known_bytes
        blank = <const char *>memmem(p, min(n, MAX_HEAD_BYTES), b"\r\n\r\n", 4)
        if blank == NULL:
            return self._take_piece(client, p, n)
        head_bytes = <size_t>(blank - p) + 4
        self._read_head(client, p, head_bytes)
        return head_bytes

    cdef size_t _take_piece(self, Client *client, const char *p, size_t n) noexcept nogil:
        """A piece of a head: it is kept until the rest is there."""
        cdef size_t before = client.head_bytes
        cdef size_t since = before - 3 if before > 3 else 0
        cdef const char *blank
        if client.head == NULL:
            client.head = <char *>malloc(MAX_HEAD_BYTES)
            if client.head == NULL:
                self._fail(client - self.clients, FAULT_SYSTEM, ENOMEM)
                return n
        n = min(n, MAX_HEAD_BYTES - before)
        memcpy(client.head + before, p, n)
        client.head_bytes += n
        blank = <const char *>memmem(client.head + since, before + n - since, b"\r\n\r\n", 4)
        if blank != NULL:
            client.head_bytes = 0
            n = <size_t>(blank - client.head) + 4
            self._read_head(client, client.head, n)
            return n - before
        if client.head_bytes == MAX_HEAD_BYTES:
            self._blame(client, FAULT_HEAD_BYTES, MAX_HEAD_BYTES, client.head, MAX_HEAD_BYTES)
        return n

    cdef void _read_head(self, Client *client, const char *p, size_t n) noexcept nogil:
        """A whole head of n bytes. Interim answers (RFC 9110 section 15.2) are nothing."""
        cdef Head head
        cdef Trouble trouble = read_head(p, n, self.fields, self.n_fields, &head)
        cdef uint64_t missing = self.all_fields & ~head.fields
        cdef uint64_t which = 0
        if trouble != TROUBLE_NONE:
            self._blame(client, FAULT_HEAD, trouble, p + head.wrong, n - head.wrong)
        elif 100 <= head.status < 200 and head.status != 101:
            return
        elif head.status != self.status:
            self._blame(client, FAULT_STATUS, <uint64_t>head.status, p, n)
        elif missing:
            while not missing >> which & 1:
                which += 1
            self._blame(client, FAULT_FIELD, which, p, n)
        else:
            if n <= KNOWN_BYTES:
                memcpy(self.known_head, p, n)
                self.known, self.known_bytes = head, n
            self._begin_body(client, &head)

    cdef void _begin_body(self, Client *client, const Head *head) noexcept nogil:
        """The final head of an answer is there."""
        cdef Exchange *exchange = client.exchange
        client.is_closing = head.closes
        client.phase = PHASE_BODY
        begin_body(&client.body, head)
        if exchange.is_head or head.status == 204 or head.status == 304:
            client.body.part = PART_WHOLE
        elif exchange.has_length and head.has_length and head.length != exchange.body_bytes:
            self._blame(client, FAULT_LENGTH, head.length, NULL, 0)
        elif client.body.part == PART_OPEN:
            client.is_closing = True
            if not self.may_reconnect:
                self._blame(client, FAULT_UNFRAMED, 0, NULL, 0)
        if client.body.part == PART_WHOLE:
            self._complete(client)

    cdef size_t _take_body(self, Client *client, const char *p, size_t n) noexcept nogil:
        """Bytes of a body or of its framing; returns how many."""
        cdef size_t taken
        if client.body.part <= PART_OPEN:
            taken = take_data(&client.body, n)
            self._compare(client, p, taken)
        else:
            taken = take_framing(&client.body, p, n)
            if client.body.part == PART_BAD:
                self._blame(client, FAULT_CHUNK, client.seen, p, n)
        if client.body.part == PART_WHOLE:
            self._complete(client)
        return taken

    cdef void _compare(self, Client *client, const char *p, size_t n) noexcept nogil:
        """The next n bytes of a body are those that must come."""
        cdef Exchange *exchange = client.exchange
        cdef uint64_t after = exchange.body_nonce + NONCE_BYTES
        if exchange.has_length and n > exchange.body_bytes - client.seen:
            self._blame(client, FAULT_LONGER, client.seen + n, p, n)
        elif exchange.has_nonce:
            self._compare_part(client, p, n, exchange.body, 0, exchange.body_nonce, FAULT_CONTENT)
            self._compare_part(client, p, n, client.nonce, exchange.body_nonce, after, FAULT_NONCE)
            self._compare_part(client, p, n, exchange.body + after, after, exchange.body_bytes, FAULT_CONTENT)
        elif exchange.body != NULL:
            self._compare_part(client, p, n, exchange.body, 0, exchange.body_bytes, FAULT_CONTENT)
        client.seen += n

    cdef void _compare_part(
        self, Client *client, const char *p, size_t n, const char *wanted, uint64_t begin, uint64_t end, Fault fault
    ) noexcept nogil:
        """What of the next n bytes stands from `begin` to `end` of the body is as `wanted`."""
        cdef uint64_t first = max(begin, client.seen)
        cdef uint64_t last = min(end, client.seen + n)
        if first >= last:
            return
        p += first - client.seen
        wanted += first - begin
        n = <size_t>(last - first)
        if memcmp(p, wanted, n):
            while p[0] == wanted[0]:
                p += 1
                wanted += 1
                n -= 1
            self._blame(client, fault, last - n, p, n)

    cdef void _complete(self, Client *client) noexcept nogil:
        """A whole answer came."""
        cdef Exchange *exchange = client.exchange
        if exchange.has_length and client.seen != exchange.body_bytes and not exchange.is_head:
            self._blame(client, FAULT_LENGTH, client.seen, NULL, 0)
        elif client.unsent:
            self._blame(client, FAULT_EARLY, client.unsent, NULL, 0)
        if self.fault == FAULT_NONE:
            client.phase = PHASE_IDLE
            client.answered += 1
            self._note(self.now_ns - client.since_ns)

    cdef void _go_on(self, Client *client) noexcept nogil:
        """An answer is done: ask again, or rest."""
        cdef size_t at
        if client.is_closing:
            if not self.may_reconnect:
                self._blame(client, FAULT_ANNOUNCED, 0, NULL, 0)
                return
            self._reconnect(client)
        if self.fault != FAULT_NONE:
            return
        if self.per_due_ns == 0:
            self.is_sending = self.is_sending and self.now_ns < self.end_ns
            if self.is_sending:
                self.outstanding += 1
                self._ask(client, self.now_ns)
        elif self.asked < self.due:
            self._ask(client, self._due_ns(self.asked))
        else:
            at = self.idle_first + self.n_idle
            self.idle[at if at < self.count else at - self.count] = client - self.clients
            self.n_idle += 1

    # --- how connections end ------------------------------------------------------------------------------------------

    cdef void _ended(self, Client *client, Fault fault) noexcept nogil:
        """The server has closed the connection, or reset it."""
        if client.phase == PHASE_IDLE and self.may_reconnect:
            self._reconnect(client)
        elif fault == FAULT_ENDED and client.phase == PHASE_BODY and client.body.part == PART_OPEN:
            self.now_ns = self.progress_ns = fa_monotonic_ns()
            client.body.part = PART_WHOLE
            self._complete(client)
            if self.fault == FAULT_NONE:
                self._go_on(client)
        else:
            self._blame(client, fault, client.body.left, NULL, 0)

    cdef void _reconnect(self, Client *client) noexcept nogil:
        """A new connection takes the place of one that the server closes. It becomes writable when it is there."""
        cdef epoll_event event
        cdef size_t index = client - self.clients
        cdef int yes = 1
        close(client.fd)
        self.connections_closed += 1
        client.is_closing = client.is_watching_output = False
        client.fd = socket(self.address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)
        if client.fd >= 0 and self.address.ss_family != AF_UNIX:
            setsockopt(client.fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof(yes))
        event.events, event.u64 = WATCHED, index
        if client.fd < 0 \
                or (connect(client.fd, <sockaddr *>&self.address, self.address_bytes) < 0 and errno != EINPROGRESS) \
                or epoll_ctl(self.epfd, EPOLL_CTL_ADD, client.fd, &event) < 0:
            self._fail(index, FAULT_SYSTEM, <uint64_t>errno)

    # --- what went wrong ----------------------------------------------------------------------------------------------

    cdef void _blame(self, Client *client, Fault fault, uint64_t number, const char *p, size_t n) noexcept nogil:
        """The run fails; the first of n bytes will be shown."""
        if self.fault == FAULT_NONE and n:
            self.shown_bytes = min(n, SHOWN_BYTES)
            memcpy(self.shown, p, self.shown_bytes)
        self._fail(client - self.clients, fault, number)

    cdef uint64_t _answers_of(self, size_t index) noexcept:
        return self.clients[index].answered

    cdef str _describe(self):
        cdef Client *client = &self.clients[self.fault_client]
        if self.fault == FAULT_ENDED or self.fault == FAULT_RESET:
            return self._describe_end(client)
        number = self.fault_number
        came = self.shown[:self.shown_bytes]
        known = {"number": number, "came": came, "line": came.partition(b"\r\n")[0], "status": self.status}
        if client.exchange != NULL:
            known["size"], known["request_bytes"] = client.exchange.body_bytes, client.exchange.request_bytes
            known["nonce"] = client.nonce[:NONCE_BYTES]
        if self.fault == FAULT_CONTENT:
            known["wanted"] = self.kept[1][client.exchange - self.exchanges][number:number + len(came)]
        elif self.fault == FAULT_FIELD:
            known["field"] = b": ".join(self.kept[2][number])
        return SENTENCES[self.fault].format(trouble=TROUBLES.get(number), **known)

    cdef str _describe_end(self, Client *client):
        """How far the server came before it ended the connection."""
        cdef Exchange *exchange = client.exchange
        did = "closed" if self.fault == FAULT_ENDED else "reset"
        if client.phase == PHASE_IDLE:
            return f"the server {did} an idle connection without a word"
        if client.unsent:
            sent = exchange.request_bytes - client.unsent
            return f"the server {did} the connection after {sent} of {exchange.request_bytes} bytes of the request"
        if client.phase == PHASE_HEAD:
            return f"the server {did} the connection after {client.head_bytes} bytes of an answer"
        if client.body.is_chunked:
            return f"the server {did} the connection after {client.seen} bytes of a chunked body, without its end"
        if client.body.part == PART_OPEN:
            return f"the server {did} the connection after {client.seen} bytes of a body without a length"
        size = client.seen + client.body.left
        return f"the server {did} the connection after {client.seen} of {size} bytes of the body"
