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
import inspect
import logging
import sys

cimport cython
from cpython.bytes cimport PyBytes_GET_SIZE
from cpython.dict cimport PyDict_Copy, PyDict_GetItemWithError
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF
from fastasgi import waits
from fastasgi.errors import ApplicationError, ClientDisconnected, is_departure
from fastasgi.fa cimport fa_monotonic_ns

from fastasgi._access cimport AccessLog, client_name
from fastasgi._channel cimport LOW_WATER
from fastasgi._response cimport FRAMING_LENGTH

cdef extern from "Python.h":
    object PyContext_Copy(object context)
    bint PyCoro_CheckExact(object coroutine)
    PyObject *PyObject_Call(PyObject *callable, PyObject *args, PyObject *kwargs)
    void PyErr_Clear()
    PyObject *PyObject_Vectorcall(PyObject *callable, PyObject **args, size_t n, PyObject *names)

    ctypedef struct PyMethodDef:
        pass
    ctypedef struct PyMethodDescrObject:
        PyMethodDef *d_method
    object PyCFunction_NewEx(PyMethodDef *method, object self, PyObject *module)

cdef object logger = logging.getLogger("fastasgi.error")
cdef object Task = asyncio.Task
cdef object receive_coroutine = waits.receive
cdef object writable_coroutine = waits.writable
cdef object next_turn = asyncio.sleep
cdef object TASK_DONE = Task.done
cdef object TASK_EXCEPTION = Task.exception
cdef object RECEIVE, SEND           # method descriptors of HttpExchange, set below
cdef bint CAN_START_EAGERLY = sys.version_info >= (3, 12)

cdef str START = "http.response.start"
cdef str BODY = "http.response.body"
cdef str TYPE = "type"

SPEC_VERSION = "2.5"
"""Version of the ASGI HTTP & WebSocket specification that is implemented."""


# --- awaitables -------------------------------------------------------------------------------------------------------

@cython.final
cdef class Ready:
    """An awaitable that is already done: what send() returns when there is nothing to wait for.

    It has the four methods of a coroutine, so that create_task(), TaskGroup and wait_for() take it. It is stateless:
    one object serves every call, and may be awaited any number of times.
    """

    def __await__(self):
        return self

    def __iter__(self):
        return self

    def __next__(self):
        raise StopIteration

    def send(self, value):
        raise StopIteration

    def throw(self, kind, value=None, traceback=None):
        if isinstance(kind, BaseException):
            raise kind
        raise kind() if value is None else value if isinstance(value, BaseException) else kind(value)

    def close(self):
        return None


cdef Ready READY = Ready()


# --- tables of a worker -----------------------------------------------------------------------------------------------

@cython.final
cdef class ExchangeTables:
    """What all exchanges of one worker share: the scope's template and how tasks are started."""

    def __init__(self, Runtime runtime not None):
        self.asgi = {"version": "3.0", "spec_version": SPEC_VERSION}
        self.template = {
            "type": "http", "asgi": None, "http_version": "1.1", "server": None, "client": None, "scheme": "http",
            "method": "GET", "root_path": runtime.root_path, "path": "/", "raw_path": b"/", "query_string": b"",
            "headers": None,
        }
        if runtime.state is not None:
            self.template["state"] = None
        self.task_options = {"loop": runtime.loop, "name": "fastasgi-request", "context": None}
        if CAN_START_EAGERLY:
            self.task_options["eager_start"] = True
        self.task_factory_of = runtime.loop.get_task_factory


cdef inline object call_method(object descriptor, object instance):
    """descriptor(instance), for a method descriptor of C."""
    cdef PyObject *argument = <PyObject *>instance
    cdef PyObject *result = PyObject_Vectorcall(<PyObject *>descriptor, &argument, 1, NULL)
    if result == NULL:
        raised()
    found = <object>result
    Py_DECREF(found)
    return found


cdef bint ended_well(object task) noexcept:
    """True when a Task of C is done, was not cancelled, and raised nothing."""
    cdef PyObject *argument = <PyObject *>task
    cdef PyObject *error = PyObject_Vectorcall(<PyObject *>TASK_EXCEPTION, &argument, 1, NULL)
    if error == NULL:
        PyErr_Clear()       # CancelledError: whoever judges asks again
        return False
    Py_DECREF(<object>error)
    return error == <PyObject *>None


cdef inline object bound(object descriptor, object instance):
    """A bound method made straight from its descriptor, without looking its name up."""
    return PyCFunction_NewEx((<PyMethodDescrObject *>descriptor).d_method, instance, NULL)


cdef int raised() except -1:
    """For an exception that is already set, in a `try` that costs nothing while there is none."""
    return -1


cdef dict build_scope(HttpExchange exchange, ExchangeTables tables):
    """A scope with everything that does not depend on the request; nothing in it is shared with another request."""
    cdef Runtime runtime = exchange.runtime
    cdef Channel channel = exchange.channel
    cdef dict scope = PyDict_Copy(tables.template)
    if channel.server is None:
        channel.take_addresses()
    scope["asgi"] = PyDict_Copy(tables.asgi)
    scope["client"] = channel.client
    if channel.server is not tables.server:
        scope["server"] = tables.template["server"] = tables.server = channel.server
    if channel.scheme is not None:
        scope["scheme"] = channel.scheme
    if runtime.state is not None:
        scope["state"] = dict(runtime.state)
    return scope


# --- the exchange -----------------------------------------------------------------------------------------------------

cdef class HttpExchange:
    """One request and its response. The connection holds it while it is current; its task as long as it runs."""

    # --- the application's calls ------------------------------------------------------------------------------------

    def receive(self):
        """ASGI receive(): an awaitable of http.request or http.disconnect."""
        return receive_coroutine(self)

    def send(self, message):
        """ASGI send(): check, encode and write one message; returns an awaitable.

        Raises ApplicationError for what the specification forbids, ClientDisconnected when the client has gone.
        """
        cdef PyObject *found
        cdef object kind
        if type(message) is not dict:
            message = as_dict(message)
        found = PyDict_GetItemWithError(message, TYPE)
        if found == NULL:
            raise ApplicationError(f"app sent a message without 'type': {message!r:.200}")
        kind = <object>found
        if kind is not START and kind is not BODY:      # applications use the literals, which are one object each
            kind = BODY if kind == BODY else START if kind == START else kind
        if kind is BODY:
            return self._send_body(<dict>message)
        if kind is START:
            self._start_response(<dict>message)
            return READY
        if self.state == RESPONSE_ABORTED:
            raise ClientDisconnected("the client has gone")
        raise ApplicationError(f"app sent {kind!r:.100}: expected {self._expected()}")

    def _expected(self):
        """What may be sent in this state, for error messages."""
        if self.state == RESPONSE_INIT:
            return f"{START!r}"
        return f"{BODY!r}" if self.state != RESPONSE_COMPLETE else "nothing more: the response is complete"

    cdef int _start_response(self, dict message) except -1:
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

    cdef object _send_body(self, dict message):
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

    cdef bint _burst_is_over(self, size_t n) noexcept:
        """True when the application has had its share of this turn of the loop."""
        cdef int64_t now_ns
        self.burst_bytes += n
        self.burst_calls += 1
        if self.burst_bytes < BURST_BYTES:
            if self.burst_calls & (BURST_CALLS - 1):
                return False
            now_ns = fa_monotonic_ns()
            if self.burst_since_ns == 0:
                self.burst_since_ns = now_ns
                return False
            if now_ns - self.burst_since_ns < BURST_NS:
                return False
        self.burst_bytes = 0
        self.burst_since_ns = 0
        return True

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

    cdef int _wake(self, list waiters) except -1:
        """Complete the futures of a list, and forget them."""
        cdef list woken = waiters[:]
        waiters.clear()
        for future in woken:
            if not future.done():
                future.set_result(None)
        return 0

    # --- the connection's calls -------------------------------------------------------------------------------------

    cdef int start(self, dict scope) except -1:
        """Call the application in a task of its own."""
        cdef Runtime runtime = self.runtime
        cdef ExchangeTables tables = runtime.exchange_tables
        cdef object receive = bound(RECEIVE, self), send = bound(SEND, self)
        cdef PyObject *arguments[3]
        cdef PyObject *called
        runtime.requests_active += 1
        runtime.requests_total += 1
        arguments[0], arguments[1], arguments[2] = <PyObject *>scope, <PyObject *>receive, <PyObject *>send
        called = PyObject_Vectorcall(<PyObject *>runtime.app, arguments, 3, NULL)
        if called == NULL:
            return self._not_started()
        coroutine = <object>called
        Py_DECREF(coroutine)
        if not PyCoro_CheckExact(coroutine) and not asyncio.iscoroutine(coroutine):
            coroutine = waits.result_of(coroutine)
        task = self._start_task(tables, coroutine)
        if task is None:
            return 0
        if task.done() if type(task) is not Task else call_method(TASK_DONE, task):
            return self._end_task(task)
        self.task = task
        runtime.tasks.add(task)
        task.add_done_callback(self.on_task_done, context=runtime.context)
        return 0

    cdef object _start_task(self, ExchangeTables tables, object coroutine):
        """A real Task for the application's coroutine, in a fresh copy of the worker's context.

        Where Python can, the task takes its first step at once: an application that never suspends is done on return,
        at no cost of a handle, a callback or a turn of the loop. Raises the application's SystemExit and
        KeyboardInterrupt; the exchange has ended then.
        """
        cdef object context = PyContext_Copy(self.runtime.context)
        cdef object factory = tables.task_factory_of()
        cdef tuple arguments
        cdef PyObject *made
        if factory is not None:
            return self._start_by_factory(factory, coroutine, context)
        tables.task_options["context"] = context
        arguments = (coroutine,)
        made = PyObject_Call(<PyObject *>Task, <PyObject *>arguments, <PyObject *>tables.task_options)
        if made == NULL:
            self._exited()
        task = <object>made
        Py_DECREF(task)
        return task

    cdef object _start_by_factory(self, object factory, object coroutine, object context):
        """The application chose its own kind of tasks. Factories differ in the keywords they take across versions."""
        cdef object loop = self.runtime.loop
        try:
            try:
                return factory(loop, coroutine, context=context)
            except TypeError:
                if inspect.getcoroutinestate(coroutine) != inspect.CORO_CREATED:
                    raise
            return Task(coroutine, loop=loop, context=context)
        except Exception as error:
            coroutine.close()
            self._app_failed(error)
            self.runtime.request_ended()
            return None
        except BaseException:
            self._ended_by_exit()
            raise

    cdef int _not_started(self) except -1:
        """The application was no coroutine function, or its call raised; the exception is set."""
        try:
            raised()
        except Exception as error:
            self._app_failed(error)
        finally:
            self.runtime.request_ended()
        return 0

    cdef int _exited(self) except -1:
        """An exception that is already set came out of the task's first step: pass it on, the exchange has ended."""
        try:
            raised()
        except BaseException:
            self._ended_by_exit()
            raise
        return 0

    cdef int _ended_by_exit(self) except -1:
        self.abort()
        return self.runtime.request_ended()

    def on_task_done(self, task):
        """Callback of a task that had suspended."""
        self.runtime.tasks.discard(task)
        self.task = None
        self._end_task(task)

    cdef int _end_task(self, object task) except -1:
        """The application has ended. The common end, complete and without an error, is seen at once."""
        if self.state != RESPONSE_COMPLETE or type(task) is not Task or not ended_well(task):
            try:
                self._judge_task(task)
            except Exception as error:      # of a logging handler, say: the exchange ends all the same
                self._report(error)
                self.abort()
        return self.runtime.request_ended()

    cdef int _judge_task(self, object task) except -1:
        """The only place where an application's failure becomes a log line, a 500 or an abort."""
        if task.cancelled():
            if self.state == RESPONSE_INIT and self.channel is not None:
                return self.reply(503, "Service Unavailable")
            return self.cut() if self.state < RESPONSE_COMPLETE else 0
        error = task.exception()
        if error is not None:
            return self._app_failed(error)
        if self.state == RESPONSE_INIT:
            if not self.is_disconnected:
                logger.error("app returned without a response: expected %r", START)
            return self.reply(500, "Internal Server Error")
        if self.state < RESPONSE_COMPLETE:
            if not self.is_disconnected:
                logger.error("app returned before its response was complete: expected %r with more_body=False", BODY)
            return self.cut()
        return 0

    cdef int _app_failed(self, object error) except -1:
        if self.state == RESPONSE_ABORTED and is_departure(error):
            return 0        # it was told so by send(), and let it pass
        if isinstance(error, (SystemExit, KeyboardInterrupt)):
            return self.cut()       # on its way through the loop
        logger.error("Exception in ASGI application", exc_info=error)
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
            self.write_body(b"", 0, True)
        return self.abort()

    cdef int _report(self, object error) except -1:
        """An error of ours, or of what the user has plugged in."""
        self.runtime.loop.call_exception_handler({
            "message": "fastasgi: error while ending a request", "exception": error,
        })
        return 0

    cdef int _log_access(self) except -1:
        cdef Channel channel = self.channel
        if self.runtime.access is None or channel is None:
            return 0
        try:
            if channel.log_client is None:
                channel.log_client = client_name(channel.client)
            (<AccessLog>self.runtime.access).add(
                channel.log_client, self.method, self.raw_path, self.query, self.response.http_minor, self.status)
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

    cdef int abort(self) except -1:
        """End the response now, cut off."""
        raise AssertionError("abort() is for subclasses")

    cdef int body_taken(self) except -1:
        """The application has taken the body that waited: more may be read."""
        raise AssertionError("body_taken() is for subclasses")


RECEIVE = HttpExchange.__dict__["receive"]
SEND = HttpExchange.__dict__["send"]


cdef object as_dict(object message):
    """A mapping as a plain dict."""
    if not hasattr(message, "keys"):
        raise ApplicationError(f"app sent {message!r:.100}: expected a dict with 'type'")
    return dict(message)


cdef bytes as_body(object body):
    """A body as bytes: what is mutable is copied, because it leaves after send() has returned."""
    if isinstance(body, (bytes, bytearray, memoryview)):
        return bytes(body)
    raise ApplicationError(f"app sent a body of type {type(body).__name__}: expected bytes")
