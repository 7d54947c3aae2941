"""What send() returns when there is nothing to wait for."""


cdef class Ready:
    """An awaitable that is already done; stateless, so one serves all."""
