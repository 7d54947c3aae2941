# cython: freethreading_compatible=True
"""The ASGI face of one HTTP request, whatever its version: scope, receive, send, and the task of the application.

States of a response (`ResponseState`) and what moves it:

    INIT -> HELD            http.response.start: checked and encoded; it waits for the first body
    HELD -> BODY            http.response.body with more_body: head and body leave together
    HELD, BODY -> COMPLETE  http.response.body without more_body
    any but COMPLETE -> ABORTED     the client has gone, or the application failed

Sources: ASGI specification, HTTP & WebSocket 2.5; the errors are named in `errors.py`.
"""

import asyncio
import logging

from cpython.bytes cimport PyBytes_GET_SIZE
from cpython.dict cimport PyDict_GetItemWithError, PyDict_Size
from cpython.object cimport PyObject, PyTypeObject
from libc.string cimport memcmp, memset

from fastasgi import waits
from fastasgi.errors import ApplicationError, ClientDisconnected
from fastasgi.logging import log_app_error

from fastasgi._access cimport AccessLog, Answered, client_name
from fastasgi._awaitables cimport Ready
from fastasgi._call cimport bound, fa_has_weakrefs, fa_is_held_by
from fastasgi._channel cimport LOW_WATER, Channel, Handler
from fastasgi._response cimport FRAMING_LENGTH, FRAMING_NONE

cdef extern from "Python.h":
    PyObject *PyCFunction_GET_SELF(object method)

cdef extern from *:
    const bint FA_DEBUG         # a macro of the build

cdef object logger = logging.getLogger("fastasgi.error")
cdef object receive_coroutine = waits.receive
cdef object writable_coroutine = waits.writable
cdef object next_turn = asyncio.sleep
cdef object RECEIVE, SEND           # method descriptors of HttpExchange, set below
cdef Ready READY = Ready()          # stateless: one for all

cdef str START = "http.response.start"
cdef str BODY = "http.response.body"


# --- the exchange -----------------------------------------------------------------------------------------------------

cdef class HttpExchange(AppCall):
    """One request and its response. The connection holds it while it is current; its task as long as it runs."""

    # --- the application's calls ------------------------------------------------------------------------------------

    def receive(self):
        """ASGI receive(): an awaitable of http.request or http.disconnect."""
        return receive_coroutine(self)

    def send(self, message):
        """ASGI send(): check, encode and write one message; returns an awaitable.

        Raises ApplicationError for what the specification forbids, ClientDisconnected when the client has gone.
        """
        cdef object kind
        if type(message) is not dict:
            message = as_dict(message)
        kind = type_of(<dict>message)
        if is_word(kind, BODY):
            return self.send_body(<dict>message)
        if is_word(kind, START):
            self.start_response(<dict>message)
            return READY
        if self.state == RESPONSE_ABORTED:
            raise ClientDisconnected("the client has gone")
        raise ApplicationError(f"app sent {kind!r:.100}: expected {self._expected()}")

    def _expected(self):
        """What may be sent in this state, for error messages."""
        if self.state == RESPONSE_INIT:
            return f"{START!r}"
        return f"{BODY!r}" if self.state != RESPONSE_COMPLETE else "nothing more: the response is complete"

    cdef int start_response(self, dict message) except -1:
        if self.state != RESPONSE_INIT:
            if self.state == RESPONSE_ABORTED:
                raise ClientDisconnected("the client has gone")
            raise ApplicationError(f"app sent {START!r}: expected {self._expected()}")
        cdef PyObject *found = PyDict_GetItemWithError(message, "status")
        if found == NULL:
            raise ApplicationError(f"app sent {START!r} without 'status': expected an int")
        cdef object status = <object>found      # owned: iterating over headers may change the message
        found = PyDict_GetItemWithError(message, "headers")
        cdef object headers = <object>found if found != NULL else ()
        self.encode_head(status, headers)
        self.status = status
        self.state = RESPONSE_HELD
        return 0

    cdef object send_body(self, dict message):
        cdef PyObject *found
        cdef object body = b""
        cdef bint more = False
        cdef size_t n
        if self.state != RESPONSE_HELD and self.state != RESPONSE_BODY:
            if self.state == RESPONSE_ABORTED:
                raise ClientDisconnected("the client has gone")
            raise ApplicationError(f"app sent {BODY!r}: expected {self._expected()}")
        found = PyDict_GetItemWithError(message, "body")
        if found != NULL:
            body = <object>found
            if type(body) is not bytes:
                body = as_body(body)
        # "type" is there, "body" or not: is there anything else?
        if PyDict_Size(message) > 1 + (found != NULL):
            found = PyDict_GetItemWithError(message, "more_body")
            if found != NULL:
                more = <object>found
        n = PyBytes_GET_SIZE(body)
        if self.response.framing == FRAMING_LENGTH and self.sent_bytes + n > self.response.length:
            raise ApplicationError(
                f"app sent more body than its Content-Length: announced {self.response.length} bytes, "
                f"came {self.sent_bytes + n}")
        self.sent_bytes += n
        self.state = RESPONSE_BODY
        if not more and self.response.framing == FRAMING_LENGTH and self.sent_bytes < self.response.length:
            logger.error("app sent less body than its Content-Length: announced %d bytes, came %d; connection aborted",
                         self.response.length, self.sent_bytes)
            self.write_body(body, n, True)
            self.cut()
            return READY
        self.write_body(body, n, more)
        if self.state == RESPONSE_ABORTED:
            raise ClientDisconnected("the client has gone")     # found out by this write
        if not more:
            self.state = RESPONSE_COMPLETE
            self.runtime.answered(self.began_ns, self.status)
            if self.runtime.access is not None:
                self._log_access()
            if self.message_waiters is not None:
                self._wake(self.message_waiters)
            self.completed()
            return READY
        if self.channel is not None and self.channel.is_full():
            return writable_coroutine(self)
        if self._burst_is_over(n):
            return next_turn(0)
        return READY

    # --- what the coroutines of waits.py ask ------------------------------------------------------------------------

    def take_message(self):
        """The next message for the application, or None when it must wait."""
        cdef bytes body
        if self.yields:
            return None
        self.yields = self._burst_is_over(self.body_waiting)    # asked once more, it completes a turn later
        if self.state >= RESPONSE_COMPLETE or (self.is_disconnected and not self.body_complete):
            return {"type": "http.disconnect"}
        if self.body is not None:
            body = self.body[0] if len(self.body) == 1 else b"".join(self.body)
            self.body = None
            self.body_waiting = 0
            self.body_delivered = self.body_complete
            if not self.body_complete:
                self.body_taken()
            return {"type": "http.request", "body": body, "more_body": not self.body_complete}
        if self.body_complete and not self.body_delivered:
            self.body_delivered = True
            return {"type": "http.request", "body": b"", "more_body": False}
        return {"type": "http.disconnect"} if self.is_disconnected else None

    def message_waiter(self):
        """An awaitable that ends when take_message() is worth asking again."""
        if self.yields:
            self.yields = False
            return next_turn(0)
        if self.expects_continue and self.state <= RESPONSE_HELD and not self.body_complete:
            self.expects_continue = False
            self.write_continue()
        future = self.runtime.loop.create_future()
        self.message_waiters = waits.with_waiter(self.message_waiters, future)
        return future

    def writable_waiter(self):
        """A future that ends when pending output has fallen, or None when there is nothing to wait for."""
        if self.state == RESPONSE_ABORTED:
            raise ClientDisconnected("the client has gone")
        if self.channel is None or self.channel.pending <= LOW_WATER:
            return None
        future = self.runtime.loop.create_future()
        self.writable_waiters = waits.with_waiter(self.writable_waiters, future)
        return future

    # --- the connection's calls -------------------------------------------------------------------------------------

    cdef int start(self, dict scope) except -1:
        """Call the application in a task of its own."""
        cdef object receive = self.receive_method, send = self.send_method
        if send is None:
            receive, send = bound(RECEIVE, self), bound(SEND, self)
        else:
            self.receive_method = self.send_method = None
        self.call(scope, receive, send)
        if self.state == RESPONSE_COMPLETE and self.task is None and is_let_go(receive) and is_let_go(send):
            self.receive_method, self.send_method = receive, send
        return 0

    cdef int retire(self, CallTables tables) except -1:
        """The connection lets go of an exchange that has ended: it may serve the next request, which saves that one
        three objects that the collector tracks. Not where anybody else holds it, or its `send` or `receive`: who keeps
        one of them past the request must find it closed."""
        if self.send_method is None or not fa_is_held_by(self, 3):      # by the connection, and by each method
            return self.part()
        tables.spare_receive, tables.spare_send = self.receive_method, self.send_method     # which hold this
        self.renew()
        if FA_DEBUG:
            check_renewed(self)
        return 0

    cdef int part(self) except -1:
        """Let go of the two methods, which hold this."""
        self.receive_method = self.send_method = None
        return 0

    cdef int renew(self) except -1:
        """Be as when it was made: nothing of a request is there for the next one."""
        self.part()
        self.runtime, self.channel, self.notes, self.task = None, None, None, None
        self.message_waiters = self.writable_waiters = None
        self.burst_bytes, self.burst_calls, self.burst_since_ns, self.yields = 0, 0, 0, False
        self.log_client, self.method, self.raw_path, self.query, self.status = None, None, None, None, 0
        self.body, self.body_waiting, self.began_ns, self.sent_bytes = None, 0, 0, 0
        self.body_complete = self.body_delivered = self.expects_continue = self.is_disconnected = False
        self.state, self.head = RESPONSE_INIT, None
        memset(&self.response, 0, sizeof(self.response))
        return 0

    cdef bint is_settled(self) noexcept:
        return self.state == RESPONSE_COMPLETE

    cdef int judge(self, object task) except -1:
        """The only place where an application's failure becomes a log line, a 500 or an abort."""
        if task.cancelled():
            if self.state == RESPONSE_INIT and self.channel is not None:
                return self.reply(503, "Service Unavailable")
            return self.cut() if self.state < RESPONSE_COMPLETE else 0
        error = task.exception()
        if error is not None:
            return self.app_failed(error)
        if self.state == RESPONSE_INIT:
            if not self.is_disconnected:
                logger.error("app returned without a response: expected %r", START)
            return self.reply(500, "Internal Server Error")
        if self.state < RESPONSE_COMPLETE:
            if not self.is_disconnected:
                logger.error("app returned before its response was complete: expected %r with more_body=False", BODY)
            return self.cut()
        return 0

    cdef int app_failed(self, object error) except -1:
        if isinstance(error, (SystemExit, KeyboardInterrupt)):
            return self.cut()       # on its way through the loop
        log_app_error(error, self.method, self.raw_path, self.notes, self.is_disconnected)
        if self.state == RESPONSE_INIT:
            return self.reply(500, "Internal Server Error")
        if self.state < RESPONSE_COMPLETE:
            return self.cut()
        return 0

    cdef int add_body(self, bytes data) except -1:
        """Bytes of the request body came."""
        if self.body is None:
            self.body = [data]
        else:
            self.body.append(data)
        self.body_waiting += PyBytes_GET_SIZE(data)
        if self.message_waiters is not None:
            self._wake(self.message_waiters)
        return 0

    cdef int end_body(self) except -1:
        """The request is complete."""
        self.body_complete = True
        self.expects_continue = False
        if self.message_waiters is not None:
            self._wake(self.message_waiters)
        return 0

    cdef int disconnect(self) except -1:
        """receive() gives http.disconnect from now on, behind a body that has come whole; send() still writes."""
        self.is_disconnected = True
        if self.message_waiters is not None:
            self._wake(self.message_waiters)
        return 0

    cdef int lost(self) except -1:
        """The connection is gone: send() raises ClientDisconnected from now on."""
        if self.state < RESPONSE_COMPLETE:
            if self.state > RESPONSE_INIT:
                self._log_access()
            self.state = RESPONSE_ABORTED
            self.head = None
        self.channel = None
        self.disconnect()
        return self.output_drained()

    cdef int output_drained(self) except -1:
        """Pending output has fallen, or nothing will ever be written again."""
        if self.writable_waiters is not None:
            self._wake(self.writable_waiters)
        return 0

    cdef int cut(self) except -1:
        """End the response so that the client sees that it is not whole."""
        if self.state == RESPONSE_HELD:
            if self.response.framing == FRAMING_NONE or (
                    self.response.framing == FRAMING_LENGTH and self.response.length == 0):
                # Its head would look whole, and has not left yet.
                self.state, self.head = RESPONSE_INIT, None
                return self.reply(500, "Internal Server Error")
            self.write_body(b"", 0, True)
        self.runtime.counts.errors += 1
        return self.abort()

    cdef int _log_access(self) except -1:
        cdef Channel channel = self.channel
        cdef Answered answered
        cdef bint has_body
        if self.runtime.access is None or channel is None:
            return 0
        answered.http_minor, answered.status = self.response.http_minor, self.status
        has_body = self.response.framing != FRAMING_NONE or self.state == RESPONSE_INIT     # reply() in its place
        answered.body_bytes = self.sent_bytes if has_body else 0
        try:
            if self.log_client is None:
                if channel.log_client is None:
                    channel.log_client = client_name(channel.client)
                self.log_client = channel.log_client
            (<AccessLog>self.runtime.access).add(
                self.log_client, self.method, self.raw_path, self.query, &answered, self.notes)
        except Exception as error:          # of a handler that the user has plugged in: the answer goes on
            self._report(error)
        return 0

    # --- given by the HTTP version ----------------------------------------------------------------------------------

    cdef int write_continue(self) except -1:
        """Write 100 Continue."""
        raise AssertionError("write_continue() is for subclasses")

    cdef int encode_head(self, object status, object headers) except -1:
        """Check and encode the head into `head`, and set `response`. Raises ApplicationError."""
        raise AssertionError("encode_head() is for subclasses")

    cdef int write_body(self, object body, size_t n, bint more) except -1:
        """Write the held head, if any, and n bytes of body."""
        raise AssertionError("write_body() is for subclasses")

    cdef int reply(self, int status, str text) except -1:
        """Answer in the application's place, before its response has started."""
        raise AssertionError("reply() is for subclasses")

    cdef int completed(self) except -1:
        """The response is complete."""
        raise AssertionError("completed() is for subclasses")

    cdef int body_taken(self) except -1:
        """The application has taken the body that waited: more may be read."""
        raise AssertionError("body_taken() is for subclasses")

    cdef int upgrade(self, list headers, Handler handler) except -1:
        """Answer 101 with these fields and hand the connection over. Raises ApplicationError for illegal fields."""
        raise AssertionError("upgrade() is for subclasses")


cdef HttpExchange take_spare(CallTables tables):
    """The exchange that was kept, or None."""
    cdef HttpExchange spare
    if tables.spare_send is None:
        return None
    spare = <HttpExchange>PyCFunction_GET_SELF(tables.spare_send)
    spare.receive_method, spare.send_method = tables.spare_receive, tables.spare_send
    tables.spare_receive = tables.spare_send = None
    return spare


cdef int check_renewed(HttpExchange exchange) except -1:
    """It must be as one that is new, byte for byte: then no field was forgotten in renew()."""
    cdef type cls = type(exchange)
    cdef HttpExchange new = cls.__new__(cls)
    cdef size_t n = (<PyTypeObject *>cls).tp_basicsize - sizeof(PyObject)
    if memcmp(<char *><void *>new + sizeof(PyObject), <char *><void *>exchange + sizeof(PyObject), n) != 0:
        raise AssertionError("expected renew() to reset every field")
    return 0


cdef bint is_let_go(object method) noexcept:
    """Whether the application holds no reference to this bound method any more: ours, and the argument's."""
    return fa_is_held_by(method, 1) and not fa_has_weakrefs(method)


RECEIVE = HttpExchange.__dict__["receive"]
SEND = HttpExchange.__dict__["send"]


cdef object as_dict(object message):
    """A mapping as a plain dict."""
    if not hasattr(message, "keys"):
        raise ApplicationError(f"app sent {message!r:.100}: expected a dict with 'type'")
    return dict(message)


cdef object no_type(dict message):
    """The error for a message without a type."""
    return ApplicationError(f"app sent a message without 'type': {message!r:.200}")


cdef bytes as_body(object body):
    """A body as bytes: what is mutable is copied, because it leaves after send() has returned."""
    if isinstance(body, (bytes, bytearray, memoryview)):
        return bytes(body)
    raise ApplicationError(f"app sent a body of type {type(body).__name__}: expected bytes")
