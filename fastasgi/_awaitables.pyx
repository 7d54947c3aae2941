# cython: freethreading_compatible=True
"""What send() returns when there is nothing to wait for."""

cimport cython


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
