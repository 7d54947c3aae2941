"""What a connection says before its first request: the header of the PROXY protocol."""

from fastasgi._channel cimport Channel, Handler
from fastasgi._runtime cimport Runtime


cdef class ProxyPreface(Handler):
    cdef Channel channel        # None once the connection is lost, or its real handler has taken over
    cdef Runtime runtime
    cdef object handler_factory     # (channel, runtime) -> the handler of what follows
    cdef bytes seen             # bytes that came and are no whole header yet

    cdef int _refuse(self, str expected) except -1
