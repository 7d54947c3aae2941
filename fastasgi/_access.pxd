"""Access lines: built in C, written in batches; or given to logging where the user has handlers of their own."""

from libc.stdint cimport int64_t, uint64_t

from fastasgi._notes cimport NoteTaker, Notes


cdef enum Field:
    FIELD_NONE
    FIELD_CLIENT
    FIELD_METHOD
    FIELD_PATH
    FIELD_QUERY
    FIELD_TARGET            # path?query
    FIELD_VERSION
    FIELD_STATUS
    FIELD_PHRASE            # the status with its phrase
    FIELD_DURATION          # seconds
    FIELD_DURATION_MS
    FIELD_BYTES
    FIELD_REQUEST_ID
    FIELD_USER_AGENT
    FIELD_REFERER
    FIELD_HOST
    FIELD_TIMESTAMP


cdef enum Form:
    FORM_TEXT = 0           # as people read it
    FORM_JSON = 1           # a JSON value
    FORM_INSIDE = 2         # within a JSON string


cdef struct Step:
    Field field
    Form form


cdef struct Answered:       # of one response
    int http_minor
    int status
    uint64_t body_bytes     # sent, without framing


cdef struct Waiting:        # lines of one log that are not written yet
    char *p                 # owned by the log
    size_t n
    int fd
    int pid                 # whose lines these are: not those of a forked child


cdef class AccessLog:
    cdef readonly int fd            # where lines are written; -1: through `logger`
    cdef object logger              # logging.Logger, used when fd < 0
    cdef object loop
    cdef object clock               # callable giving ns, or None: the monotonic clock
    cdef object outlet              # outlet.Outlet of `fd`, or None
    cdef object exclude             # compiled pattern of paths that are not logged, or None
    cdef dict verdicts              # path -> whether it is excluded; bounded
    cdef readonly bint wants_time
    cdef readonly bint wants_fields
    # --- steps of a line: texts[i], then steps[i]
    cdef list texts                 # bytes
    cdef Step *steps                # owned
    cdef size_t n_steps
    cdef list phrases               # by status
    # --- lines that wait
    cdef Waiting waiting
    cdef size_t room                # of waiting.p
    cdef object timer               # asyncio.TimerHandle of the next flush, or None
    cdef bint is_blocked            # whoever reads is late
    cdef bint is_gone               # whoever read has gone
    cdef readonly size_t dropped    # lines that could not be written
    cdef size_t told                # of them, those that were told of
    cdef int64_t stamp_s            # Unix time in `stamp`
    cdef bytes stamp
    cdef object __weakref__

    cdef int add(self, bytes client, str method, bytes path, bytes query, Answered *answered, Notes notes) except -1
    cdef int _set_steps(self, object line, bint use_colors) except -1
    cdef bint _is_excluded(self, bytes path) except -1
    cdef int _log(self, bytes client, str method, bytes path, bytes query, Answered *answered, Notes notes) except -1
    cdef int _add_line(
        self, bytes client, str method, bytes path, bytes query, Answered *answered, Notes notes) except -1
    cdef int _write_line(
        self, bytes client, str method, bytes path, bytes query, Answered *answered, Notes notes) except -1
    cdef int _note(self, Field field, Form form, Notes notes) except -1
    cdef int64_t _elapsed_us(self, Notes notes) except? -1
    cdef int _reserve(self, size_t n) except -1
    cdef int _copy(self, const char *p, size_t n) except -1
    cdef int _text(self, bytes data) except -1
    cdef int _quoted(self, bytes data, Form form) except -1
    cdef int _method(self, str method, Form form) except -1
    cdef int _full_path(self, bytes path, bytes query, Form form) except -1
    cdef int _target(self, bytes data, Form form) except -1
    cdef int _value(self, bytes data, Form form, bint is_utf8) except -1
    cdef int _number(self, uint64_t number) except -1
    cdef int _fraction(self, uint64_t number, uint64_t unit) except -1
    cdef int _timestamp(self, Form form) except -1
    cdef int _wait_for_more(self) except -1
    cdef size_t _write(self, double wait_s) except? 0
    cdef int _tell(self) except -1
    cdef int _take_off(self, size_t n) noexcept


cdef NoteTaker note_taker(object access, object config, object clock)
cdef bytes client_name(object client)
