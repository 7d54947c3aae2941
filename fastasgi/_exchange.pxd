"""The ASGI face of one HTTP request, whatever its version: scope, receive, send, and the task of the application."""

from libc.stdint cimport int64_t, uint64_t

from cpython.dict cimport PyDict_GetItemWithError
from cpython.object cimport PyObject
from libc.string cimport memcmp
from fastasgi._call cimport AppCall, CallTables
from fastasgi._channel cimport Handler
from fastasgi._response cimport ResponseHead

cdef extern from "Python.h":
    Py_ssize_t PyUnicode_GET_LENGTH(object text)
    int PyUnicode_KIND(object text)
    const void *PyUnicode_DATA(object text)


cdef enum:
    BODY_HIGH_WATER = 64 * 1024     # bytes that wait for the application; above, reading pauses


cdef enum ResponseState:
    RESPONSE_INIT = 0           # nothing sent
    RESPONSE_HELD = 1           # http.response.start was sent; the head waits for the first body
    RESPONSE_BODY = 2           # the head is written
    RESPONSE_COMPLETE = 3       # the last body was sent
    RESPONSE_ABORTED = 4        # cut off: nothing more can be sent


cdef class HttpExchange(AppCall):
    cdef object receive_method, send_method     # bound to this; before its task, and behind it until part(), or None
    cdef int64_t began_ns           # when its head was read
    # --- for the access line
    cdef bytes log_client           # told by a proxy, or None: the channel's
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
    # --- response
    cdef ResponseState state
    cdef ResponseHead response
    cdef bytes head                 # while RESPONSE_HELD
    cdef uint64_t sent_bytes        # body bytes taken from the application

    # --- the application's messages
    cdef int start_response(self, dict message) except -1
    cdef object send_body(self, dict message)
    # --- called by the connection
    cdef int start(self, dict scope) except -1
    cdef int retire(self, CallTables tables) except -1
    cdef int part(self) except -1
    cdef int renew(self) except -1
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
    cdef int body_taken(self) except -1
    cdef int upgrade(self, list headers, Handler handler) except -1
    # --- private
    cdef int _log_access(self) except -1


cdef HttpExchange take_spare(CallTables tables)
cdef object as_dict(object message)
cdef bytes as_body(object body)
cdef object no_type(dict message)


cdef inline object type_of(dict message):
    """The type of an application's message. Raises ApplicationError where there is none."""
    cdef PyObject *found = PyDict_GetItemWithError(message, "type")
    if found == NULL:
        raise no_type(message)
    return <object>found


cdef inline bint is_word(object given, str wanted) except -1:
    """given == wanted, for a word of ASCII. Python shares no literals that hold a dot: those of an application are
    objects of its own, and are compared byte by byte."""
    cdef Py_ssize_t n = PyUnicode_GET_LENGTH(wanted)
    if type(given) is not str:
        return given == wanted
    return given is wanted or (PyUnicode_GET_LENGTH(given) == n and PyUnicode_KIND(given) == 1 and
                               memcmp(PyUnicode_DATA(given), PyUnicode_DATA(wanted), n) == 0)
