"""What a proxy says of a connection that it passes on: the header of the PROXY protocol, read."""

from fastasgi._channel cimport Channel
from fastasgi.fa cimport fa_proxy_header, fa_proxy_kind


cdef class ProxyHeader:
    cdef fa_proxy_kind kind
    cdef readonly Py_ssize_t size       # bytes of the header; what follows is of the client
    cdef object client                  # as a scope has them; None where the header does not tell
    cdef object server

    cdef int apply_to(self, Channel channel) except -1


cdef ProxyHeader as_proxy_header(const fa_proxy_header *header)
