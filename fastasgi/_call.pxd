"""One call of the application, for a request or a WebSocket: its task, its waits, its share of the loop."""

from libc.stdint cimport int64_t, uint32_t

from cpython.object cimport PyObject
from fastasgi._channel cimport Channel
from fastasgi._notes cimport Notes
from fastasgi._runtime cimport Runtime

cdef extern from "Python.h":
    ctypedef struct PyMethodDef:
        pass
    ctypedef struct PyMethodDescrObject:
        PyMethodDef *d_method
    object PyCFunction_NewEx(PyMethodDef *method, object self, PyObject *module)

cdef extern from *:
    """
    #ifdef Py_GIL_DISABLED      /* another thread may hold a reference that is not counted yet */
    #define fa_is_held_by(thing, n) 0
    #else
    #define fa_is_held_by(thing, n) (Py_REFCNT(thing) == (n))
    #endif
    #define fa_has_weakrefs(method) (((PyCFunctionObject *)(method))->m_weakreflist != NULL)
    """
    bint fa_is_held_by(object thing, Py_ssize_t n)      # exactly n references, ours included
    bint fa_has_weakrefs(object method)                 # of a bound method of C


cdef enum:
    BURST_BYTES = 256 * 1024        # after so many bytes, or BURST_NS, without suspending,
    BURST_NS = 1_000_000            # a call completes a turn later
    BURST_CALLS = 8                 # the clock is read once in so many calls; a power of two


cdef class CallTables:
    """How all tasks of one worker are started."""

    cdef dict task_options          # keyword arguments of asyncio.Task; "context" changes
    cdef tuple task_arguments       # of asyncio.Task: its one item is the coroutine while it is called, else None
    cdef object task_factory_of     # loop.get_task_factory
    cdef object spare_receive, spare_send   # methods of an exchange that has ended, for the next request; or None


cdef class AppCall:
    cdef Runtime runtime
    cdef Channel channel            # None once there is no connection any more
    cdef Notes notes                # of the request, None where nobody asks for any
    cdef object task                # the application's, while it is suspended
    cdef list message_waiters       # futures, or None
    cdef list writable_waiters      # futures, or None
    # --- fairness
    cdef size_t burst_bytes
    cdef uint32_t burst_calls
    cdef int64_t burst_since_ns
    cdef bint yields                # the next wait of receive() is for the next turn of the loop

    # --- for subclasses
    cdef int call(self, dict scope, object receive, object send) except -1
    cdef int end_if_done(self) except -1
    cdef int _wake(self, list waiters) except -1
    cdef int _report(self, object error) except -1
    cdef bint _burst_is_over(self, size_t n) noexcept
    # --- given by the subclass
    cdef bint is_settled(self) noexcept
    cdef int judge(self, object task) except -1
    cdef int app_failed(self, object error) except -1
    cdef int abort(self) except -1
    # --- private
    cdef object _start_task(self, CallTables tables, object coroutine)
    cdef object _start_by_factory(self, object factory, object coroutine, object context)
    cdef int _not_started(self) except -1
    cdef int _exited(self) except -1
    cdef int _ended_by_exit(self) except -1
    cdef int _end_task(self, object task) except -1


cdef inline object bound(object descriptor, object instance):
    """A bound method made straight from its descriptor, without looking its name up."""
    return PyCFunction_NewEx((<PyMethodDescrObject *>descriptor).d_method, instance, NULL)
