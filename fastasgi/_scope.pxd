"""The ASGI scope: from one template for each worker, with what this request has otherwise."""

from fastasgi._channel cimport Channel
from fastasgi._head cimport RequestHead
from fastasgi._runtime cimport Runtime


cdef class ScopeTables:
    """What the scopes of one worker are made from."""

    cdef dict template          # a scope with every key present
    cdef dict asgi              # {"version", "spec_version"}
    cdef object server          # the one in the template


cdef dict build_scope(Channel channel, Runtime runtime, ScopeTables tables, RequestHead head)
