# cython: freethreading_compatible=True
"""One HTTP/1 connection: reads requests one at a time, starts exchanges, and alone decides what is next.

States of reading (`Reading`) and what moves them:

    IDLE -> HEAD            the first bytes of a request, not yet its whole head
    IDLE, HEAD -> BODY | DONE       the head is complete; the exchange starts
    BODY -> DONE            the request is complete
    BODY -> SKIP            the response is complete before the request: the rest is dropped, up to a bound
    SKIP, DONE -> IDLE      _settle(): the response is complete too
    any -> CLOSED           an error, a close, the peer is gone

One writer, one reader, one request at a time: what a client sends ahead (pipelining) stays in `tail`, or in the
kernel, until the response before it is complete.
"""

import logging

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.string cimport memcpy

from fastasgi._access cimport note_taker
from fastasgi._call cimport CallTables
from fastasgi._channel cimport Channel, Handler
from fastasgi._exchange cimport (
    BODY_HIGH_WATER, RESPONSE_ABORTED, RESPONSE_COMPLETE, RESPONSE_HELD, RESPONSE_INIT, HttpExchange, take_spare,
)
from fastasgi._head import FAILURES
from fastasgi._handshake cimport Handshake, read_handshake
from fastasgi._head cimport BODY_NONE, RequestTables
from fastasgi._live cimport count_live
from fastasgi._notes cimport NoteTaker
from fastasgi._request cimport EVENT_BODY, EVENT_COMPLETE, EVENT_ERROR, EVENT_HEAD, RequestParser
from fastasgi._response cimport (
    FRAMING_CHUNKED, FRAMING_NONE, JOIN_BYTES, ResponseTables, chunk_size_line, error_reply, joined,
)
from fastasgi._runtime cimport (
    PHASE_READ, PHASE_WHOLE, TIMEOUT_BODY, TIMEOUT_BODY_RECHECK, TIMEOUT_FIRST_BYTE, TIMEOUT_HEAD, TIMEOUT_KEEP_ALIVE,
    TIMEOUT_REQUEST, Runtime, Timeout,
)
from fastasgi._scope cimport ScopeTables, build_scope
from fastasgi._session cimport session_of

cdef object logger = logging.getLogger("fastasgi.error")

cdef bytes CRLF = b"\r\n"
cdef bytes LAST_CHUNK = b"0\r\n\r\n"
cdef bytes DATA_END_LAST_CHUNK = b"\r\n0\r\n\r\n"
cdef bytes VERSION_FIELDS = b"upgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-version: 13\r\n"
cdef bytes CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


@cython.final
cdef class Http1(Handler):
    """The protocol of one connection. Made by its channel, which holds it until the connection is lost."""

    def __cinit__(self, Channel channel not None, Runtime runtime not None):
        self.channel, self.runtime = channel, runtime
        if runtime.request_tables is None:
            runtime.request_tables = RequestTables(runtime.limits.fields)
            runtime.response_tables = ResponseTables()
            runtime.scope_tables = ScopeTables(runtime)
            runtime.call_tables = CallTables(runtime)
            runtime.note_taker = note_taker(runtime.access, runtime.config, runtime.clock)
        self.parser = RequestParser(runtime.request_tables)
        self.parser.set_limits(&runtime.limits)
        channel.arm(TIMEOUT_FIRST_BYTE)

    # --- what the channel calls ---------------------------------------------------------------------------------------

    cdef bint wants_input(self) noexcept:
        return self.reading < READING_DONE

    cdef size_t wanted(self) noexcept:
        return self.parser.body_left() if self.reading == READING_BODY else 0

    cdef int feed(self, const char *p, size_t n, object owner) except -1:
        if self.tail is not None or self.reading >= READING_DONE:
            return self._keep_tail(p, n)
        return self._read(p, n, owner)

    cdef int resumed(self) except -1:
        if self.channel is None:
            return 0
        self._settle()
        if self.tail is not None and self.reading < READING_DONE:
            self._read_tail()
        return 0

    cdef int eof(self) except -1:
        """FIN: the client sends no more, and may still read."""
        self.saw_eof = True
        if self.tail is not None:
            return self.eof_ahead()     # what it sent is answered first
        if self.reading == READING_IDLE or self.reading == READING_SKIP:
            return self._close(False)
        if self.reading == READING_HEAD:
            return self._fail(400, "expected the rest of the request head, came the end of the connection")
        self.keep_alive &= self.reading != READING_BODY
        return self._part()

    cdef int eof_ahead(self) except -1:
        """The client has gone, perhaps, and left a pipelined request behind: who waits for its end must know."""
        return self._part() if self.reading == READING_DONE else 0

    cdef int _part(self) except -1:
        """The client has gone, perhaps, or must. A response goes on; behind a handshake nothing could."""
        cdef Http1Exchange exchange = self.exchange
        if exchange is None or exchange.session is None or exchange.state != RESPONSE_INIT:
            return exchange.disconnect() if exchange is not None else 0
        if self.runtime.draining:
            return self._fail(503, "Service Unavailable")
        return self._fail(400, "expected an open connection for the WebSocket, came its end")

    cdef int writable(self) except -1:
        if self.exchange is not None:
            self.exchange.output_drained()
        elif self.reading == READING_DONE:
            self.channel.schedule()     # _settle() waited for this
        elif self.reading == READING_IDLE:
            if self.runtime.wants_room:
                return self._close(False)
            self.channel.arm(TIMEOUT_KEEP_ALIVE)    # idle only now that the answer is taken
        return 0

    cdef int lost(self, object error) except -1:
        cdef Http1Exchange exchange = self.exchange
        self.reading = READING_CLOSED
        self.exchange = None
        self.channel = None
        self.tail = None
        self.parser.clear()
        if exchange is not None:
            exchange.connection = None
            exchange.part()
            exchange.lost()
        return 0

    cdef int drain(self) except -1:
        self.keep_alive = False
        cdef bint is_idle = self.reading == READING_IDLE and self.tail is None
        return self._close(False) if is_idle and not self.channel.has_input() else 0

    cdef int disconnect(self) except -1:
        if self.reading == READING_HEAD:
            return self._fail(503, "Service Unavailable")
        return self._part() if self.exchange is not None or self.channel is None else self.channel.abort()

    cdef int expired(self, Timeout timeout) except -1:
        if timeout == TIMEOUT_REQUEST:
            return self._request_expired()
        if timeout == TIMEOUT_FIRST_BYTE or timeout == TIMEOUT_KEEP_ALIVE:
            # Left armed when a request begins, because taking it back would cost every request.
            if self.reading != READING_IDLE or self.tail is not None:
                return 0
            if self.channel.pending:        # not idle: the client is still taking the last answer
                self.channel.arm(TIMEOUT_KEEP_ALIVE)
                return 0
            self._close(False)
            return 1
        if timeout == TIMEOUT_HEAD:
            return self._fail(408, "expected the rest of the request head") if self.reading == READING_HEAD else 0
        if self.reading == READING_BODY or self.reading == READING_SKIP:
            return self._body_expired()
        return 0

    cdef int _request_expired(self) except -1:
        cdef Http1Exchange exchange = self.exchange
        if exchange is None or exchange.state >= RESPONSE_COMPLETE:
            return 0
        logger.warning("app took longer than timeout_request to answer %s %s", exchange.method,
                       exchange.raw_path.decode("ascii", "replace"))
        if exchange.task is not None:
            exchange.task.cancel()
        return self._fail(503, "Service Unavailable")

    cdef int _body_expired(self) except -1:
        """The grace of the request body is used up, unless its bytes have earned more of it, or we do not read, or the
        client waits to be told to send it."""
        if self.channel.is_paused or (self.exchange is not None and self.exchange.expects_continue):
            self.body_due_ns = self.runtime.now_ns + self.runtime.timeouts_ns[TIMEOUT_BODY]
        if self.body_due_ns > self.runtime.now_ns:
            self.channel.arm(TIMEOUT_BODY_RECHECK)
            return 0
        if self.reading == READING_SKIP:
            return self._close(True)
        return self._fail(408, "expected the rest of the request body")

    # --- bytes in -----------------------------------------------------------------------------------------------------

    cdef int _keep_tail(self, const char *p, size_t n) except -1:
        """Bytes that cannot be read yet, on a channel that could not leave them in the kernel."""
        if self.reading == READING_CLOSED:
            return 0
        rest = self.tail[self.tail_at:] if self.tail is not None else b""
        self.tail = rest + PyBytes_FromStringAndSize(p, n)
        self.tail_at = 0
        # Up to a bound it is read on, because what tells of the client's end may be behind it.
        return self.channel.pause() if PyBytes_GET_SIZE(self.tail) > MAX_TAIL else 0

    cdef int _read(self, const char *p, size_t n, object owner) except -1:
        """Read one message from borrowed bytes; what is behind it becomes the tail, read in a loop."""
        # An error that comes out of here ends the connection, so nothing needs to be put back.
        self.is_feeding = True
        self._read_message(p, n, owner)
        if self.exchange is None or self.exchange.state >= RESPONSE_COMPLETE:
            self._settle()
        if self.tail is not None and self.reading < READING_DONE:
            self._read_tail()
        self.is_feeding = False
        return 0

    cdef int _read_tail(self) except -1:
        """Read requests from the tail until one has to wait, or the connection has had its turn."""
        cdef int left = TURN_REQUESTS
        cdef bint was_feeding = self.is_feeding
        cdef bytes tail
        self.is_feeding = True
        while self.tail is not None and self.reading < READING_DONE and left:
            left -= 1
            tail = self.tail
            self._read_message(PyBytes_AS_STRING(tail) + self.tail_at, PyBytes_GET_SIZE(tail) - self.tail_at, None)
            if self.exchange is None or self.exchange.state >= RESPONSE_COMPLETE:
                self._settle()
        self.is_feeding = was_feeding
        if self.tail is not None and self.reading < READING_DONE:
            return self.channel.schedule()
        if self.tail is not None:
            return self.eof_ahead() if self.saw_eof else 0
        if self.channel is not None:
            if self.channel.is_paused and self.reading < READING_DONE:
                self.channel.resume()
            if self.saw_eof:
                self.eof()
        return 0

    cdef int _read_message(self, const char *p, size_t n, object owner) except -1:
        """Read up to the end of one message, then start its exchange if its head came with these bytes.

        Nothing borrowed is left when the application runs: heads and bodies are objects by then, and what is behind
        the message is copied to the tail.
        """
        cdef Http1Exchange begun = None
        cdef bint is_borrowed = self.tail is None
        cdef int events = 0
        if self.reading == READING_IDLE:
            self.reading = READING_HEAD
            self.is_head_timed = False
        while n and not events & (EVENT_COMPLETE | EVENT_ERROR) and self.reading != READING_CLOSED:
            events = self.parser.feed(p, n)
            p += self.parser.consumed
            n -= self.parser.consumed
            if events & EVENT_HEAD:
                begun = self._begin()
            if events & EVENT_BODY:
                self._take_body(self.parser.take_body(owner))
        if events & EVENT_COMPLETE and self.reading != READING_CLOSED:
            self._end_message()
            self._set_tail(p, n, is_borrowed)
        else:
            self._set_tail(p, 0, is_borrowed)
        if begun is not None:
            self._start(begun)
        if events & EVENT_ERROR and self.reading != READING_CLOSED:
            return self._refuse()
        if self.reading == READING_HEAD and self.parser.is_blank():
            self.reading = READING_IDLE         # an empty line, tolerated before the next request
            if self.runtime.closes_idle or self.runtime.wants_room:
                return self._close(False)
            if self.has_begun:                  # else it is still the first byte that is waited for
                self.channel.arm(TIMEOUT_KEEP_ALIVE)
        elif self.reading == READING_HEAD and not self.is_head_timed:
            self.is_head_timed = True       # from the first byte of the head
            self.channel.arm(TIMEOUT_HEAD)
        return 0

    cdef int _set_tail(self, const char *p, size_t n, bint is_borrowed) except -1:
        """n bytes at p are behind the message: copied out of borrowed memory, or a place in the tail that we own."""
        if n == 0:
            self.tail = None
            self.tail_at = 0
        elif is_borrowed:
            self.tail = PyBytes_FromStringAndSize(p, n)
            self.tail_at = 0
        else:
            self.tail_at = p - PyBytes_AS_STRING(self.tail)
        return 0

    cdef int _end_message(self) except -1:
        if self.exchange is not None and self.reading == READING_BODY:
            self.exchange.end_body()
        self.reading = READING_DONE
        return 0

    cdef int _refuse(self) except -1:
        """The bytes are no request: answer with the parser's status, and close."""
        cdef Http1Exchange exchange = self.exchange
        status, code, text = FAILURES[self.parser.failure]
        logger.info("client sent a bad request: %s (%d %s)", text, status, code)
        if self.reading == READING_SKIP or (exchange is not None and exchange.state >= RESPONSE_COMPLETE):
            return self._close(True)
        return self._fail(status, text)

    cdef int _take_body(self, bytes data) except -1:
        """Body bytes: for the application, or dropped."""
        cdef size_t n = PyBytes_GET_SIZE(data)
        cdef Runtime runtime = self.runtime
        cdef int64_t latest
        if runtime.min_body_rate:
            # Each byte earns time at the slowest rate that is allowed, up to one grace ahead.
            latest = runtime.now_ns + runtime.timeouts_ns[TIMEOUT_BODY]
            self.body_due_ns = min(latest, self.body_due_ns + <int64_t>(n * NS_PER_S // runtime.min_body_rate))
        else:
            self.body_due_ns = runtime.now_ns + runtime.timeouts_ns[TIMEOUT_BODY]
        if self.reading == READING_SKIP:
            self.skipped += n
            if self.skipped > runtime.unread_body_bytes:
                return self._close(True)
            return 0
        self.exchange.add_body(data)
        if self.exchange.body_waiting > BODY_HIGH_WATER:
            self.channel.pause()
        return 0

    # --- exchanges ----------------------------------------------------------------------------------------------------

    cdef Http1Exchange _begin(self):
        """A head is complete: the exchange and its scope, not started yet."""
        cdef RequestParser parser = self.parser
        cdef Runtime runtime = self.runtime
        cdef Http1Exchange exchange = take_spare(runtime.call_tables)
        cdef dict scope
        if exchange is None:
            exchange = Http1Exchange.__new__(Http1Exchange)
        exchange.runtime, exchange.began_ns = runtime, runtime.now_ns
        exchange.channel = self.channel
        exchange.connection = self
        exchange.method, exchange.raw_path, exchange.query = parser.method, parser.raw_path, parser.query
        if runtime.note_taker is not None:
            exchange.notes = (<NoteTaker>runtime.note_taker).take(parser.headers)
        exchange.response.http_minor = parser.http_minor
        exchange.response.is_head_method = parser.method_n == 4 and parser.method == "HEAD"
        scope = build_scope(self.channel, runtime, runtime.scope_tables, parser)
        if parser.is_forwarded and runtime.forwarder is not None and self.channel.has_trusted_peer():
            exchange.log_client = runtime.forwarder.apply(scope, parser.headers)
        exchange.scope, exchange.expects_continue = scope, parser.expects_continue
        self.keep_alive = parser.keep_alive and runtime.keeps_alive and not runtime.draining
        self.exchange = exchange
        self.reading = READING_BODY
        self.has_begun = True
        parser.clear()
        return exchange

    cdef int _start(self, Http1Exchange exchange) except -1:
        """Start the application, unless the worker is at its bound."""
        cdef Runtime runtime = self.runtime
        cdef dict scope = exchange.scope
        exchange.scope = None
        if self.reading == READING_DONE:
            exchange.body_complete = True
        else:
            self.body_due_ns = runtime.now_ns + runtime.timeouts_ns[TIMEOUT_BODY]
            self.channel.arm(TIMEOUT_BODY)
        if runtime.timeouts_ns[TIMEOUT_REQUEST]:
            self.channel.arm(TIMEOUT_REQUEST)
        if runtime.counts.requests_active >= runtime.max_concurrency:
            return self._fail(503, "Service Unavailable")
        if self.parser.wants_upgrade and runtime.serves_websockets:
            return self._start_session(exchange, scope)
        return exchange.start(scope)

    cdef int _start_session(self, Http1Exchange exchange, dict scope) except -1:
        """The client offers an upgrade: a WebSocket is taken, anything else is served as an ordinary request."""
        cdef Handshake handshake = read_handshake(
            exchange.method, scope["headers"], self.parser.body_kind != BODY_NONE, self.runtime.ws_deflates)
        if handshake is None:
            return exchange.start(scope)
        if handshake.status != 101:
            logger.info("client sent a bad WebSocket handshake: %s (%d)", handshake.reason, handshake.status)
            self.keep_alive = False
            return exchange.reply(handshake.status, handshake.reason)
        exchange.session = session_of(exchange, handshake)
        return exchange.session.start(scope)

    cdef int _hand_over(self, bytes head, Handler handler) except -1:
        """Write the head of a 101 and leave the channel to another handler, with what came behind the request."""
        cdef Channel channel = self.channel
        cdef bytes rest = self.tail[self.tail_at:] if self.tail is not None else None
        self.reading = READING_CLOSED
        self.exchange = None
        self.channel = None
        self.tail = None
        self.parser.clear()
        channel.disarm(PHASE_READ)
        channel.disarm(PHASE_WHOLE)
        channel.handler = handler
        handler.take_over(self if self.is_feeding else None, channel, rest, self.saw_eof)
        channel.write(head, None, None, True)
        if rest is None and (channel.is_paused or channel.has_unread):
            return channel.resume()
        return 0

    cdef int _settle(self) except -1:
        """The one place that decides what is next: the next request, waiting, or the end of the connection."""
        cdef Http1Exchange exchange = self.exchange
        cdef size_t unread
        if self.channel is None or self.reading == READING_CLOSED:
            return 0
        if exchange is not None:
            if exchange.state < RESPONSE_COMPLETE:
                return 0        # not yet
            self.exchange = None
            exchange.connection = None
            exchange.channel = None
            unread = exchange.body_waiting
            if self.tail is not None and exchange.session is None:
                exchange.end_if_done()      # what follows need not count it
            exchange.retire(self.runtime.call_tables)
            if self.runtime.timeouts_ns[TIMEOUT_REQUEST]:
                self.channel.disarm(PHASE_WHOLE)
            if not self.keep_alive or unread > self.runtime.unread_body_bytes:
                return self._close(self.reading == READING_BODY or self.tail is not None)
            if self.reading == READING_BODY:
                return self._skip_rest(unread)
        if self.reading != READING_DONE or self.channel.is_full():
            return 0        # a client that does not read its answers gets no more of them; writable() goes on
        self.reading = READING_IDLE
        if self.tail is None:
            # What was not announced is not closed while a request may be on its way: the two would cross.
            if self.saw_eof or self.runtime.closes_idle or self.runtime.wants_room:
                return self._close(False)
            self.channel.arm(TIMEOUT_KEEP_ALIVE)
            if self.channel.is_paused or self.channel.has_unread:
                self.channel.resume()
        return 0

    cdef int _skip_rest(self, size_t skipped) except -1:
        """The response is complete before the request: read the rest, so that the connection can go on. `skipped`
        bytes came already and were not taken."""
        if skipped + self.parser.body_left() > self.runtime.unread_body_bytes or self.saw_eof:
            return self._close(True)
        self.reading = READING_SKIP
        self.skipped = skipped
        if self.channel.is_paused or self.channel.has_unread:
            self.channel.resume()
        return 0

    cdef bint _may_persist(self, Http1Exchange exchange) noexcept:
        """Whether the connection can go on behind the response that now begins."""
        if not self.keep_alive or self.runtime.draining or self.runtime.wants_room or (
                self.saw_eof and self.tail is None):
            return False
        if self.reading == READING_BODY and exchange.expects_continue:
            # A client that was not told to continue may send its body, or not: nobody can say where the next
            # request begins (RFC 9110 section 10.1.1).
            return False
        return exchange.body_waiting + self.parser.body_left() <= self.runtime.unread_body_bytes

    cdef int _close(self, bint linger) except -1:
        self.reading = READING_CLOSED
        self.tail = None
        return self.channel.close(linger) if self.channel is not None else 0

    cdef int _fail(self, int status, str text) except -1:
        """Answer with an error of the server's own, if nothing was answered yet, and close."""
        cdef Http1Exchange exchange = self.exchange
        self.keep_alive = False
        if exchange is None:
            answer = error_reply(status, text, self.runtime.block, self.parser.method == "HEAD")
            self.channel.write(answer, None, None, False)
        elif exchange.state <= RESPONSE_HELD:
            exchange.state, exchange.head = RESPONSE_INIT, None     # held back, and not sent any more
            exchange.reply(status, text)
        elif exchange.state < RESPONSE_COMPLETE:
            return self.channel.abort()
        return self._close(True)


@cython.final
cdef class Http1Exchange(HttpExchange):
    """One request of an HTTP/1 connection and its response."""

    cdef int renew(self) except -1:
        self.connection = self.scope = self.session = None
        return HttpExchange.renew(self)

    cdef int write_continue(self) except -1:
        cdef Http1 connection = self.connection
        if connection is not None and self.channel is not None:
            # Its time begins now.
            connection.body_due_ns = self.runtime.now_ns + self.runtime.timeouts_ns[TIMEOUT_BODY]
            self.channel.write(CONTINUE, None, None, False)
        return 0

    cdef int encode_head(self, object status, object headers) except -1:
        cdef Http1 connection = self.connection
        self.response.keep_alive = connection is not None and connection._may_persist(self)
        cdef bytes block = self.runtime.block
        cdef tuple common = self.runtime.common
        if self.notes is not None:
            block, common = self.notes.block(block), self.notes.common(common)
        self.head = (<ResponseTables>self.runtime.response_tables).encode(
            status, headers, &self.response, block, common)
        if self.response.is_bodiless and <int>status < 200:
            self.response.close = True      # no final answer comes: that of the next request must not be taken for it
        return 0

    cdef int write_body(self, object body, size_t n, bint more) except -1:
        cdef bytes head = self.head
        cdef Channel channel = self.channel
        self.head = None
        if channel is None:
            return 0
        if head is not None and self.response.room:
            if n == self.response.room:     # the whole body, into the room that was left for it
                memcpy(PyBytes_AS_STRING(head) + self.response.head_n, PyBytes_AS_STRING(body), n)
                return channel.write(head, None, None, more)
            head = head[:self.response.head_n]
        if self.response.framing == FRAMING_CHUNKED:
            return self._write_chunk(head, <bytes>body, n, more)
        if n == 0 or self.response.framing == FRAMING_NONE:
            return channel.write(head, None, None, more) if head is not None else 0
        if head is not None and n <= JOIN_BYTES:
            return channel.write(joined(head, <bytes>body), None, None, more)
        return channel.write(head, <bytes>body, None, more)

    cdef int _write_chunk(self, bytes head, bytes body, size_t n, bint more) except -1:
        """A chunk (RFC 9112 section 7.1), and the last one behind it unless there is more."""
        cdef bytes start, end
        if n == 0:
            end = None if more else LAST_CHUNK
            return self.channel.write(head, end, None, more) if head is not None or end is not None else 0
        start = chunk_size_line(n)
        end = CRLF if more else DATA_END_LAST_CHUNK
        if head is not None:
            start = joined(head, start)
        if n <= JOIN_BYTES:
            return self.channel.write(joined(joined(start, body), end), None, None, more)
        return self.channel.write(start, body, end, more)

    cdef int reply(self, int status, str text) except -1:
        cdef bytes block
        self.status = status
        self.runtime.answered(self.began_ns, status)
        if self.channel is not None:
            block = self.runtime.block if status != 426 else VERSION_FIELDS + self.runtime.block
            block = block if self.notes is None else self.notes.block(block)
            self.sent_bytes = 0 if self.response.is_head_method else len(text)
            self.channel.write(error_reply(status, text, block, self.response.is_head_method), None, None, False)
            self._log_access()
        self.response.close = True
        self.state = RESPONSE_ABORTED       # the application, if it still runs, sees its client gone
        self.disconnect()
        return self.completed()

    cdef int completed(self) except -1:
        cdef Http1 connection = self.connection
        if connection is None:
            return 0
        if self.response.close:
            connection.keep_alive = False
        if connection.is_feeding:
            return 0        # whoever feeds settles, when the application has returned
        if connection.tail is not None:
            return connection.channel.schedule()
        return connection._settle()

    cdef int abort(self) except -1:
        if self.channel is not None:
            return self.channel.abort()
        self.state = RESPONSE_ABORTED
        return 0

    cdef int disconnect(self) except -1:
        HttpExchange.disconnect(self)
        if self.session is None or (self.channel is not None and self.state < RESPONSE_COMPLETE):
            return 0        # also a denial goes on
        return self.session.opening_gone()

    cdef int upgrade(self, list headers, Handler handler) except -1:
        cdef Http1 connection = self.connection
        self.response.keep_alive = True     # the connection is not for another request, but it goes on
        head = (<ResponseTables>self.runtime.response_tables).encode(
            101, headers, &self.response, self.runtime.block, self.runtime.common)
        self.status = 101
        self.state = RESPONSE_COMPLETE
        self.connection, self.channel = None, None
        self.part()
        return connection._hand_over(head, handler)

    cdef int body_taken(self) except -1:
        cdef Http1 connection = self.connection
        if connection is not None and connection.reading == READING_BODY and connection.channel.is_paused:
            return connection.channel.resume()
        return 0


count_live(Http1)
count_live(Http1Exchange)
