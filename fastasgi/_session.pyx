# cython: freethreading_compatible=True
"""The ASGI face of one WebSocket: scope, receive, send, and the task of the application.

States (`SessionState`) and what moves them:

    CONNECTING -> OPEN      websocket.accept
    CONNECTING -> DENYING   websocket.http.response.start
    CONNECTING, DENYING -> CLOSED   websocket.close (403), the last body, an error (500), the client has gone
    OPEN -> CLOSED          websocket.close, the client's close, a failure, a drain (1012), the connection is lost

Until it is answered, the handshake is an HTTP request like any other: the session refuses it, or denies it with a
response of the application's, through its exchange, and takes the connection over when it accepts.

Source: ASGI specification, HTTP & WebSocket 2.5.
"""

import asyncio
import logging

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.dict cimport PyDict_GetItemWithError
from cpython.object cimport PyObject
from fastasgi import waits
from fastasgi.errors import ApplicationError, ClientDisconnected
from fastasgi.logging import log_app_error

from fastasgi._access cimport client_name
from fastasgi._awaitables cimport WAKER_PENDING, Ready, Waker
from fastasgi._call cimport bound
from fastasgi._channel cimport LOW_WATER, Channel
from fastasgi._exchange cimport RESPONSE_COMPLETE, RESPONSE_INIT, HttpExchange, as_body, as_dict, is_word, type_of
from fastasgi._live cimport count_live
from fastasgi._response cimport as_pairs
from fastasgi._runtime cimport Runtime
from fastasgi.fa cimport FA_WS_BINARY, FA_WS_TEXT, fa_ws_is_close_code

cdef extern from "Python.h":
    const char *PyUnicode_AsUTF8AndSize(object text, Py_ssize_t *n) except NULL
    Py_ssize_t PyUnicode_GET_LENGTH(object text)
    int PyUnicode_KIND(object text)

cdef object logger = logging.getLogger("fastasgi.error")
cdef object receive_coroutine = waits.receive
cdef object writable_coroutine = waits.writable
cdef object next_turn = asyncio.sleep
cdef object RECEIVE, SEND           # method descriptors of WebSocketSession, set below
cdef Ready READY = Ready()

cdef str ACCEPT = "websocket.accept"
cdef str DATA = "websocket.send"
cdef str CLOSE = "websocket.close"
cdef str DENIAL_START = "websocket.http.response.start"
cdef str DENIAL_BODY = "websocket.http.response.body"
cdef str MESSAGE = "websocket.receive"
cdef str TYPE = "type", TEXT = "text", BYTES = "bytes"
cdef dict EXPECTED = {
    SESSION_CONNECTING: f"{ACCEPT!r}, {CLOSE!r} or {DENIAL_START!r}",
    SESSION_DENYING: f"{DENIAL_BODY!r}",
    SESSION_OPEN: f"{DATA!r} or {CLOSE!r}",
}
cdef frozenset OURS = frozenset((       # fields of the answer that are the server's to set
    b"upgrade", b"connection", b"sec-websocket-accept", b"sec-websocket-protocol", b"sec-websocket-extensions",
    b"sec-websocket-version", b"content-length", b"transfer-encoding",
))
cdef enum:
    MAX_REASON = 123        # bytes: a control frame without the code


@cython.final
cdef class SessionSocket(WebSocket):
    """The connection of a session."""

    cdef int arrived(self, object message) except -1:
        return self.session.add(message)

    cdef int settle(self) except -1:
        return self.session.wake()

    cdef int ended(self, int code, str reason) except -1:
        return self.session.closed(code, reason)

    cdef int drained(self) except -1:
        cdef WebSocketSession session = self.session
        return session._wake(session.writable_waiters) if session.writable_waiters is not None else 0


@cython.final
cdef class WebSocketSession(AppCall):
    """One WebSocket towards the application. Its connection holds it while there is one; its task as long as it runs.

    Made by `session_of()`, then started.
    """

    # --- the application's calls ------------------------------------------------------------------------------------

    def receive(self):
        """ASGI receive(): an awaitable of websocket.connect, websocket.receive or websocket.disconnect."""
        return receive_coroutine(self)

    def send(self, message):
        """ASGI send(): check, encode and write one message; returns an awaitable.

        Raises ApplicationError for what the specification forbids, ClientDisconnected once the WebSocket is closed.
        """
        cdef object kind
        if type(message) is not dict:
            message = as_dict(message)
        kind = type_of(<dict>message)
        if is_word(kind, DATA):
            return self._send_data(<dict>message)
        if kind == DENIAL_START or kind == DENIAL_BODY:
            return self._deny(kind, <dict>message)
        if kind == ACCEPT and self.state == SESSION_CONNECTING:
            self._accept(<dict>message)
        elif kind == CLOSE and (self.state == SESSION_CONNECTING or self.state == SESSION_OPEN):
            self._close(<dict>message)
        else:
            raise self._error(kind)
        return READY

    cdef object _error(self, object kind):
        """The error for a message that may not be sent in this state."""
        if self.state == SESSION_CLOSED:
            return ClientDisconnected("the WebSocket is closed")
        return ApplicationError(f"app sent {kind!r:.100}: expected {EXPECTED[self.state]}")

    cdef object _send_data(self, dict message):
        cdef PyObject *found
        cdef const char *p
        cdef Py_ssize_t n
        if self.state != SESSION_OPEN:
            raise self._error(DATA)
        found = PyDict_GetItemWithError(message, TEXT)
        if found != NULL and found != <PyObject *>None:
            data = <object>found
            if type(data) is not str:
                raise ApplicationError(f"app sent a text of type {type(data).__name__}: expected str")
            try:
                p = PyUnicode_AsUTF8AndSize(data, &n)
            except UnicodeEncodeError as error:
                raise ApplicationError(f"app sent a text with a lone surrogate at {error.start}: expected "
                                       "what UTF-8 can express") from None
            self.socket.send_message(FA_WS_TEXT, p, n, None)
        else:
            found = PyDict_GetItemWithError(message, BYTES)
            if found == NULL or found == <PyObject *>None:
                raise ApplicationError(f"app sent {DATA!r} without 'text' and 'bytes': expected one of them")
            data = <object>found
            if type(data) is not bytes:
                data = as_body(data)
            n = PyBytes_GET_SIZE(data)
            self.socket.send_message(FA_WS_BINARY, PyBytes_AS_STRING(data), n, <bytes>data)
        if self.channel is None:
            raise ClientDisconnected("the client has gone")     # found out by this write
        if self.channel.is_full():
            return writable_coroutine(self)
        if self._burst_is_over(n):
            return next_turn(0)
        return READY

    # --- the handshake ----------------------------------------------------------------------------------------------

    cdef int _accept(self, dict message) except -1:
        """101: the connection is a WebSocket from now on."""
        cdef HttpExchange opening = self.opening
        cdef SessionSocket socket
        cdef list headers = self._accept_headers(message)
        socket = SessionSocket.__new__(SessionSocket)
        socket.session, socket.runtime, socket.deflate = self, self.runtime, self.handshake.deflate
        opening.upgrade(headers, socket)        # raises what is wrong with the headers
        self.socket = socket
        self.state = SESSION_OPEN if socket.channel is not None else SESSION_CLOSED
        self.opening = None
        self.handshake = None
        self._log(False)
        return socket.drain() if self.runtime.draining else 0

    cdef list _accept_headers(self, dict message):
        """The fields of the answer: ours, then the application's."""
        cdef Handshake handshake = self.handshake
        cdef list headers = [
            (b"upgrade", b"websocket"), (b"connection", b"Upgrade"), (b"sec-websocket-accept", handshake.accept),
        ]
        subprotocol = message.get("subprotocol")
        if subprotocol is not None:
            if subprotocol not in handshake.subprotocols:
                raise ApplicationError(
                    f"app accepted with the subprotocol {subprotocol!r:.100}: expected one that the client offers, "
                    f"{handshake.subprotocols!r:.200}, or None")
            headers.append((b"sec-websocket-protocol", subprotocol.encode()))
        if handshake.deflate is not None:
            headers.append((b"sec-websocket-extensions", handshake.deflate.response))
        for name, value in as_pairs(message.get("headers")):
            if isinstance(name, (bytes, bytearray, memoryview)) and bytes(name).lower() in OURS:
                raise ApplicationError(f"app accepted with {bytes(name)!r}: expected no header of the server's own")
            headers.append((name, value))
        return headers

    cdef int _log(self, bint is_closed) except -1:
        """The lines for the beginning, as other servers have it, and for the end, with the last ping's round trip."""
        cdef Channel channel = self.channel
        if channel is None or not logger.isEnabledFor(10 if is_closed else 20):
            return 0
        try:
            client = (self.log_client or client_name(channel.client)).decode()
            target = self.target.decode("ascii", "replace")
            if is_closed:
                logger.debug('%s - "WebSocket %s" [closed %d] ping %.1f ms', client, target, self.close_code,
                             self.socket.round_trip_ns / 1e6)
            else:
                logger.info('%s - "WebSocket %s" [accepted]', client, target)
        except Exception as error:          # of a handler that the user has plugged in: the WebSocket goes on
            self._report(error)
        return 0

    cdef object _deny(self, str kind, dict message):
        """The extension websocket.http.response: the messages are those of an HTTP response under another name."""
        cdef HttpExchange opening = self.opening    # held: a write may find the client gone, and closed() lets go
        if kind == DENIAL_START:
            if self.state != SESSION_CONNECTING:
                raise self._error(kind)
            opening.start_response(message)
            self.state = SESSION_DENYING
            return READY
        if self.state != SESSION_DENYING:
            raise self._error(kind)
        awaitable = opening.send_body(message)
        if self.opening is not None and self.opening.state >= RESPONSE_COMPLETE:
            self.closed(1006, "")
        return awaitable

    cdef int _close(self, dict message) except -1:
        """Refuse the handshake, or close the WebSocket."""
        cdef HttpExchange opening = self.opening    # held, as above
        if self.state == SESSION_CONNECTING:
            opening.reply(403, "Forbidden")
            return self.closed(1006, "")
        code, reason = message.get("code"), message.get("reason")
        code = 1000 if code is None else code
        reason = "" if reason is None else reason
        # 1005 says that there is no code: an application that hands on what it was told closes without one.
        if not isinstance(code, int) or not (code == 1005 or 0 <= code < 5000 and fa_ws_is_close_code(code)):
            raise ApplicationError(f"app closed with the code {code!r:.100}: expected 1000 to 1003, 1005, "
                                   "1007 to 1014, or 3000 to 4999")
        if not isinstance(reason, str) or len(reason.encode("utf-8", "replace")) > MAX_REASON:
            raise ApplicationError(f"app closed with the reason {reason!r:.200}: expected at most 123 bytes of text")
        try:
            reason.encode()
        except UnicodeEncodeError:
            raise ApplicationError("app closed with a reason that holds a lone surrogate: expected text") from None
        self.socket.close(code, reason)
        self._drop_messages()
        return self.closed(code, reason)

    cdef int _drop_messages(self) except -1:
        """What was not received before the application closed is not asked for any more."""
        self.next = self.more = None
        self.waiting = 0
        self.waiting_bytes = 0
        return 0

    # --- what the coroutines of waits.py ask ------------------------------------------------------------------------

    def take_message(self):
        """The next message for the application, or None when it must wait."""
        if self.yields:
            return None
        if self.next is not None:
            message = self._take_next()
            return {TYPE: MESSAGE, TEXT: message} if type(message) is str else {TYPE: MESSAGE, BYTES: message}
        if not self.connect_taken:
            self.connect_taken = True
            return {TYPE: "websocket.connect"}
        if self.state == SESSION_CLOSED:
            self.yields = self._burst_is_over(0)
            return {TYPE: "websocket.disconnect", "code": self.close_code, "reason": self.close_reason}
        return None

    cdef object _take_next(self):
        """The message that waits longest, and room for others behind it."""
        cdef Runtime runtime = self.runtime
        cdef object message = self.next
        cdef size_t size = size_of(message)
        self.next = self.more.pop(0) if self.more else None
        self.waiting -= 1
        self.waiting_bytes -= size
        self.yields = self._burst_is_over(size)     # asked once more, it completes a turn later
        if self.socket is not None and self.socket.is_held and self.waiting <= runtime.ws_max_queue // 2 \
                and self.waiting_bytes <= runtime.ws_max_queue_bytes // 2:
            self.socket.release()
        return message

    def message_waiter(self):
        """An awaitable that ends when take_message() is worth asking again."""
        cdef Waker waker
        if self.yields:
            self.yields = False
            return next_turn(0)
        self.burst_bytes = 0        # it suspends: the next burst begins behind that
        self.burst_since_ns = 0
        if self.waker is None or self.waker.state != WAKER_PENDING:
            waker = self.waker = Waker.__new__(Waker)
            waker._loop = self.runtime.loop
            return waker
        future = self.runtime.loop.create_future()      # somebody waits already
        self.message_waiters = waits.with_waiter(self.message_waiters, future)
        return future

    def writable_waiter(self):
        """A future that ends when pending output has fallen, or None when there is nothing to wait for."""
        if self.channel is None:
            raise ClientDisconnected("the client has gone")
        if self.channel.pending <= LOW_WATER:
            return None
        future = self.runtime.loop.create_future()
        self.writable_waiters = waits.with_waiter(self.writable_waiters, future)
        return future

    # --- the connection's and the socket's calls --------------------------------------------------------------------

    cdef int start(self, dict scope) except -1:
        """Complete the scope and call the application in a task of its own."""
        self.log_client = self.opening.log_client
        scope["type"] = "websocket"
        scope["scheme"] = "wss" if scope["scheme"] in ("https", "wss") else "ws"
        scope["subprotocols"] = self.handshake.subprotocols
        scope.setdefault("extensions", {})["websocket.http.response"] = {}
        del scope["method"]
        self.call(scope, bound(RECEIVE, self), bound(SEND, self))
        if self.opening is not None:
            self.opening.task = self.task       # to be cancelled if the handshake takes too long
        return 0

    cdef int opening_gone(self) except -1:
        """The client went before its handshake was answered, or it was answered in the application's place."""
        return self.closed(1006, "") if self.state < SESSION_OPEN else 0

    cdef int add(self, object message) except -1:
        """A message came."""
        if self.next is None:
            self.next = message
        elif self.more is None:
            self.more = [message]
        else:
            self.more.append(message)
        self.waiting += 1
        self.waiting_bytes += size_of(message)
        self.socket.is_held = self.waiting >= self.runtime.ws_max_queue \
            or self.waiting_bytes >= self.runtime.ws_max_queue_bytes
        return 0

    cdef int wake(self) except -1:
        """Wake who waits for a message, if there is one. The application may run within this call; 1 when somebody
        goes on in a later turn."""
        cdef Waker waker = self.waker
        if self.next is None:
            return 0
        if self.message_waiters is not None:
            self._wake(self.message_waiters)
        if waker is not None and waker.state == WAKER_PENDING:
            self.waker = None
            return waker.wake()
        return 0

    cdef int closed(self, int code, str reason) except -1:
        """No message comes or goes any more. The first call says why; the one for the lost connection lets go of it."""
        if self.state != SESSION_CLOSED:
            self.close_code, self.close_reason = code, reason
            if self.state == SESSION_OPEN:
                self._log(True)
            self.state = SESSION_CLOSED
            self.opening = None
            self.handshake = None
        if self.socket is None or self.socket.channel is None:
            self.channel = None
            self.socket = None
        if self.writable_waiters is not None:
            self._wake(self.writable_waiters)
        if self.message_waiters is not None:
            self._wake(self.message_waiters)
        # Not at once: this may be called from anywhere, also while the output of several connections is written.
        return self.waker.wake_soon() if self.waker is not None else 0

    # --- the end of the application ---------------------------------------------------------------------------------

    cdef bint is_settled(self) noexcept:
        return self.state == SESSION_CLOSED

    cdef int judge(self, object task) except -1:
        """The only place where an application's failure becomes a log line, a status or a close code."""
        if task.cancelled():
            return self._give_up(503, "Service Unavailable", 1012 if self.runtime.draining else 1011)
        error = task.exception()
        if error is not None:
            return self.app_failed(error)
        if self.state == SESSION_CONNECTING:
            logger.error("app returned without an answer to the handshake: expected %s", EXPECTED[SESSION_CONNECTING])
        elif self.state == SESSION_DENYING:
            logger.error("app returned before its response was complete: expected %r with more_body=False", DENIAL_BODY)
        return self._give_up(500, "Internal Server Error", 1000)

    cdef int app_failed(self, object error) except -1:
        if isinstance(error, (SystemExit, KeyboardInterrupt)):
            return self.abort()     # on its way through the loop
        log_app_error(error, "WebSocket", self.target, self.notes, self.state == SESSION_CLOSED)
        return self._give_up(500, "Internal Server Error", 1011)

    cdef int _give_up(self, int status, str text, int code) except -1:
        """End what the application has left open."""
        cdef HttpExchange opening = self.opening
        if self.state == SESSION_OPEN:
            self.socket.close(code, "")
            return self.closed(code, "")
        if opening is not None:
            return opening.reply(status, text) if opening.state == RESPONSE_INIT else opening.cut()
        return 0

    cdef int abort(self) except -1:
        cdef Channel channel = self.channel
        return channel.abort() if channel is not None else 0


cdef WebSocketSession session_of(HttpExchange opening, Handshake handshake):
    """The session that a handshake offers, not started."""
    cdef WebSocketSession session = WebSocketSession.__new__(WebSocketSession)
    session.runtime, session.channel, session.opening = opening.runtime, opening.channel, opening
    session.handshake, session.notes = handshake, opening.notes
    session.target = opening.raw_path + b"?" + opening.query if opening.query else opening.raw_path
    return session


RECEIVE = WebSocketSession.__dict__["receive"]
SEND = WebSocketSession.__dict__["send"]


cdef inline size_t size_of(object message) noexcept:
    """Bytes of memory that a message takes."""
    if type(message) is str:
        return PyUnicode_GET_LENGTH(message) * PyUnicode_KIND(message)
    return PyBytes_GET_SIZE(message)


count_live(SessionSocket)
count_live(WebSocketSession)
