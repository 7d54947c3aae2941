"""The ASGI face of one WebSocket: scope, receive, send, and the task of the application."""

from libc.stdint cimport uint32_t

from fastasgi._awaitables cimport Waker
from fastasgi._call cimport AppCall
from fastasgi._exchange cimport HttpExchange
from fastasgi._handshake cimport Handshake
from fastasgi._websocket cimport WebSocket


cdef enum SessionState:
    SESSION_CONNECTING = 0      # neither accepted nor refused
    SESSION_DENYING = 1         # websocket.http.response.start was sent
    SESSION_OPEN = 2
    SESSION_CLOSED = 3          # refused, closed by either side, or lost


cdef class SessionSocket(WebSocket):
    cdef WebSocketSession session


cdef class WebSocketSession(AppCall):
    cdef SessionState state
    cdef HttpExchange opening       # the request that offers the handshake, until it is answered
    cdef Handshake handshake        # the same
    cdef bytes log_client           # told by a proxy, or None: the channel's
    cdef bytes target               # path and query, for the log
    cdef SessionSocket socket       # from the accept until the connection is lost
    cdef bint connect_taken         # websocket.connect was received
    # --- messages that wait for the application: the first, and a list of the others, or None
    cdef object next
    cdef list more
    cdef uint32_t waiting           # how many
    cdef size_t waiting_bytes       # their memory
    cdef Waker waker                # who waits for a message, or None
    # --- of websocket.disconnect
    cdef int close_code
    cdef str close_reason

    # --- called by the connection
    cdef int start(self, dict scope) except -1
    cdef int opening_gone(self) except -1
    # --- called by the socket
    cdef int add(self, object message) except -1
    cdef int wake(self) except -1
    cdef int closed(self, int code, str reason) except -1
    # --- private
    cdef object _take_next(self)
    cdef object _send_data(self, dict message)
    cdef int _accept(self, dict message) except -1
    cdef int _close(self, dict message) except -1
    cdef object _deny(self, str kind, dict message)
    cdef object _error(self, object kind)
    cdef list _accept_headers(self, dict message)
    cdef int _log(self, bint is_closed) except -1
    cdef int _give_up(self, int status, str text, int code) except -1
    cdef int _drop_messages(self) except -1


cdef WebSocketSession session_of(HttpExchange opening, Handshake handshake)
