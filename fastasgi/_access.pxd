"""Access lines: built in C, written in batches; or given to logging where the user has handlers of their own."""


cdef class AccessLog:
    cdef readonly int fd            # where lines are written; -1: through `logger`
    cdef bytes prefix               # of each line, such as b"INFO:     "
    cdef object logger              # logging.Logger, used when fd < 0
    cdef object loop
    cdef object poll                # select.poll of a pipe, else None
    cdef object socket              # socket object of a socket, else None
    cdef char *buffer               # owned
    cdef size_t n, room
    cdef object timer               # asyncio.TimerHandle of the next flush, or None
    cdef readonly size_t dropped    # lines that could not be written

    cdef int add(self, bytes client, str method, bytes path, bytes query, int minor, int status) except -1
    cdef int _add_line(self, bytes client, bytes method, bytes path, bytes query, int minor, int status) except -1
    cdef size_t _write(self) except? 0


cdef bytes client_name(object client)
