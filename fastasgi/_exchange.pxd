"""The ASGI face of one HTTP request, whatever its version: scope, receive, send, and the task of the application."""

from libc.stdint cimport int64_t, uint32_t, uint64_t

from fastasgi._channel cimport Channel
from fastasgi._response cimport ResponseHead
from fastasgi._runtime cimport Runtime


cdef enum:
    BODY_HIGH_WATER = 64 * 1024     # bytes that wait for the application; above, reading pauses
    BURST_BYTES = 256 * 1024        # after so many bytes, or BURST_NS, without suspending,
    BURST_NS = 1_000_000            # a call completes a turn later
    BURST_CALLS = 8                 # the clock is read once in so many calls; a power of two


cdef enum ResponseState:
    RESPONSE_INIT = 0           # nothing sent
    RESPONSE_HELD = 1           # http.response.start was sent; the head waits for the first body
    RESPONSE_BODY = 2           # the head is written
    RESPONSE_COMPLETE = 3       # the last body was sent
    RESPONSE_ABORTED = 4        # cut off: nothing more can be sent


cdef class Ready:
    """An awaitable that is already done; stateless, so one serves all."""


cdef class ExchangeTables:
    """What all exchanges of one worker share."""

    cdef dict template          # a scope with every key present
    cdef dict asgi              # {"version", "spec_version"}
    cdef dict task_options      # keyword arguments of asyncio.Task; "context" changes
    cdef object task_factory_of     # loop.get_task_factory
    cdef object server              # the one in the template


cdef class HttpExchange:
    cdef Runtime runtime
    cdef Channel channel            # None once the exchange has no connection any more
    cdef object task                # the application's, while it is suspended
    # --- for the access line
    cdef str method
    cdef bytes raw_path, query
    cdef int status                 # of the response, 0 before
    # --- request body
    cdef list body                  # bytes objects that wait for the application, or None
    cdef size_t body_waiting        # their bytes
    cdef bint body_complete         # all of it has come
    cdef bint body_delivered        # the message with more_body=False was taken
    cdef bint expects_continue      # and 100 was not sent yet
    cdef bint is_disconnected       # receive() gives http.disconnect
    cdef list message_waiters       # futures, or None
    # --- response
    cdef ResponseState state
    cdef ResponseHead response
    cdef bytes head                 # while RESPONSE_HELD
    cdef uint64_t sent_bytes        # body bytes taken from the application
    cdef list writable_waiters      # futures, or None
    # --- fairness
    cdef size_t burst_bytes
    cdef uint32_t burst_calls
    cdef int64_t burst_since_ns
    cdef bint yields                # the next wait of receive() is for the next turn of the loop

    # --- called by the connection
    cdef int start(self, dict scope) except -1
    cdef int add_body(self, bytes data) except -1
    cdef int end_body(self) except -1
    cdef int disconnect(self) except -1
    cdef int lost(self) except -1
    cdef int output_drained(self) except -1
    cdef int cut(self) except -1
    # --- given by the subclass of the HTTP version
    cdef int write_continue(self) except -1
    cdef int encode_head(self, object status, object headers) except -1
    cdef int write_body(self, object body, size_t n, bint more) except -1
    cdef int reply(self, int status, str text) except -1
    cdef int completed(self) except -1
    cdef int abort(self) except -1
    cdef int body_taken(self) except -1
    # --- private
    cdef object _start_task(self, ExchangeTables tables, object coroutine)
    cdef object _start_by_factory(self, object factory, object coroutine, object context)
    cdef int _not_started(self) except -1
    cdef int _exited(self) except -1
    cdef int _ended_by_exit(self) except -1
    cdef int _start_response(self, dict message) except -1
    cdef object _send_body(self, dict message)
    cdef int _wake(self, list waiters) except -1
    cdef int _end_task(self, object task) except -1
    cdef int _judge_task(self, object task) except -1
    cdef int _app_failed(self, object error) except -1
    cdef int _log_access(self) except -1
    cdef int _report(self, object error) except -1
    cdef bint _burst_is_over(self, size_t n) noexcept


cdef dict build_scope(HttpExchange exchange, ExchangeTables tables)
cdef int raised() except -1
