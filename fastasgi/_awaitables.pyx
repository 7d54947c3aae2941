# cython: freethreading_compatible=True
"""What send() and receive() return, or wait for, beside the coroutines of `waits.py`.

States of a Waker (`WakerState`):

    PENDING -> DONE         wake(), wake_soon()
    PENDING -> CANCELLED    the task that waits is cancelled
"""

import asyncio

cimport cython

cdef extern from "Python.h":
    int PyContext_Enter(object context) except -1
    int PyContext_Exit(object context) except -1

cdef object current_task = asyncio.current_task
cdef object CancelledError = asyncio.CancelledError


class NoLoop:
    """What a future asks of its loop when it is made."""

    def get_debug(self):
        return False


# What a task that goes on is given: it asks for the result only, and that of a future of asyncio's own at no cost.
cdef object DONE = asyncio.Future(loop=NoLoop())
DONE.set_result(None)


@cython.final
cdef class Ready:
    """An awaitable that is already done: what send() returns when there is nothing to wait for.

    It has the four methods of a coroutine, so that create_task(), TaskGroup and wait_for() take it. It is stateless:
    one object serves every call, and may be awaited any number of times.
    """

    def __await__(self):
        return self

    def __iter__(self):
        return self

    def __next__(self):
        raise StopIteration

    def send(self, value):
        raise StopIteration

    def throw(self, kind, value=None, traceback=None):
        if isinstance(kind, BaseException):
            raise kind
        raise kind() if value is None else value if isinstance(value, BaseException) else kind(value)

    def close(self):
        return None


@cython.final
@cython.freelist(64)
cdef class Waker:
    """What a task waits for until wake() is called: a future that wakes its task at once, and not in a later turn.

    The loop's callback that has read the bytes goes on in the application: no handle, no turn of the loop, and what the
    application sends leaves with the batch. Where a task runs already, its turn is waited for. It has what asyncio asks
    of anything that a task waits for, and no more; it is never handed to an application.
    """

    def __await__(self):
        return self

    def __iter__(self):
        return self

    def __next__(self):
        if self.state == WAKER_PENDING:
            self._asyncio_future_blocking = True
            return self
        if self.state == WAKER_CANCELLED:
            self.result()
        raise StopIteration

    def add_done_callback(self, callback, *, context=None):
        """asyncio's task waits from now on."""
        self.callback, self.context = callback, context
        if self.state != WAKER_PENDING:
            self._soon()

    def done(self):
        return self.state != WAKER_PENDING

    def result(self):
        if self.state == WAKER_CANCELLED:
            raise CancelledError() if self.message is None else CancelledError(self.message)

    def cancel(self, msg=None):
        """The task is cancelled: it goes on in a later turn, as with any future."""
        if self.state != WAKER_PENDING:
            return False
        self.state, self.message = WAKER_CANCELLED, msg
        if self.callback is not None:
            self._soon()
        return True

    cdef int wake(self) except -1:
        """Let the task go on; 1 when it does in a later turn. What comes out of it is its own, except SystemExit and
        KeyboardInterrupt."""
        cdef object callback = self.callback, context = self.context
        if self.state != WAKER_PENDING:
            return 0
        self.state = WAKER_DONE
        if callback is None:
            return 0
        if current_task(self._loop) is not None:
            self._soon()        # a task runs: its frames are below this call
            return 1
        self.callback = self.context = None
        PyContext_Enter(context)
        try:
            callback(DONE)
        finally:
            PyContext_Exit(context)
        return 0

    cdef int wake_soon(self) except -1:
        """The same in a later turn: for a caller whose own state the application must not meet."""
        if self.state != WAKER_PENDING:
            return 0
        self.state = WAKER_DONE
        return self._soon() if self.callback is not None else 0

    cdef int _soon(self) except -1:
        self._loop.call_soon(self.callback, self if self.state == WAKER_CANCELLED else DONE, context=self.context)
        self.callback = self.context = None
        return 0
