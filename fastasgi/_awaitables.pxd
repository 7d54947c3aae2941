"""What send() and receive() return, or wait for, beside the coroutines of `waits.py`."""

from libc.stdint cimport uint8_t


cdef class Ready:
    """An awaitable that is already done; stateless, so one serves all."""


cdef enum WakerState:
    WAKER_PENDING = 0
    WAKER_DONE = 1
    WAKER_CANCELLED = 2


cdef class Waker:
    cdef public bint _asyncio_future_blocking   # as asyncio's tasks ask of what they wait for
    cdef readonly object _loop      # the task's
    cdef object callback            # what wakes the task, or None before it waits
    cdef object context             # contextvars.Context to call it in
    cdef object message             # of the cancellation
    cdef WakerState state

    cdef int wake(self) except -1
    cdef int wake_soon(self) except -1
    cdef int _soon(self) except -1
