# cython: freethreading_compatible=True
"""One call of the application, for a request or a WebSocket: its task, its waits, its share of the loop.

A real asyncio.Task runs the application's coroutine, in a context of its own. Where Python can, it takes its first step
at once; an application that never suspends is done when call() returns. What its end means, the subclass says.
"""

import asyncio
import inspect
import sys

cimport cython
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF, Py_INCREF, Py_XDECREF
from cpython.tuple cimport PyTuple_GET_ITEM, PyTuple_New, PyTuple_SET_ITEM
from fastasgi import waits
from fastasgi.fa cimport fa_monotonic_ns
from fastasgi.formatters import request_id

cdef extern from "Python.h":
    object PyContext_Copy(object context)
    bint PyCoro_CheckExact(object coroutine)
    PyObject *PyObject_Call(PyObject *callable, PyObject *args, PyObject *kwargs)
    void PyErr_Clear()
    PyObject *PyObject_Vectorcall(PyObject *callable, PyObject **args, size_t n, PyObject *names)

cdef object Task = asyncio.Task
cdef object set_request_id = request_id.set
cdef object TASK_DONE = Task.done
cdef object TASK_EXCEPTION = Task.exception
cdef bint CAN_START_EAGERLY = sys.version_info >= (3, 12)


@cython.final
cdef class CallTables:
    """How all tasks of one worker are started."""

    def __init__(self, Runtime runtime not None):
        self.task_options = {"loop": runtime.loop, "name": "fastasgi-request", "context": None}
        if CAN_START_EAGERLY:
            self.task_options["eager_start"] = True
        self.task_arguments = PyTuple_New(1)
        set_only_item(self.task_arguments, None)
        self.task_factory_of = runtime.loop.get_task_factory


cdef inline void set_only_item(tuple single, object item) noexcept:
    """Put another item into a tuple of one that nobody else has seen."""
    Py_INCREF(item)
    Py_XDECREF(PyTuple_GET_ITEM(single, 0))
    PyTuple_SET_ITEM(single, 0, item)


cdef inline object call_method(object descriptor, object instance):
    """descriptor(instance), for a method descriptor of C."""
    cdef PyObject *argument = <PyObject *>instance
    cdef PyObject *result = PyObject_Vectorcall(<PyObject *>descriptor, &argument, 1, NULL)
    if result == NULL:
        raised()
    found = <object>result
    Py_DECREF(found)
    return found


cdef bint ended_well(object task) noexcept:
    """True when a Task of C is done, was not cancelled, and raised nothing."""
    cdef PyObject *argument = <PyObject *>task
    cdef PyObject *error = PyObject_Vectorcall(<PyObject *>TASK_EXCEPTION, &argument, 1, NULL)
    if error == NULL:
        PyErr_Clear()       # CancelledError: whoever judges asks again
        return False
    Py_DECREF(<object>error)
    return error == <PyObject *>None


cdef int raised() except -1:
    """For an exception that is already set, in a `try` that costs nothing while there is none."""
    return -1


cdef class AppCall:
    """The base of what an application is called for. The connection holds it while it is current; its task as long as
    it runs."""

    # --- the task -------------------------------------------------------------------------------------------------

    cdef int call(self, dict scope, object receive, object send) except -1:
        """Call the application in a task of its own."""
        cdef Runtime runtime = self.runtime
        cdef PyObject *arguments[3]
        cdef PyObject *called
        runtime.counts.requests_active += 1
        runtime.counts.requests_total += 1
        arguments[0], arguments[1], arguments[2] = <PyObject *>scope, <PyObject *>receive, <PyObject *>send
        called = PyObject_Vectorcall(<PyObject *>runtime.app, arguments, 3, NULL)
        if called == NULL:
            return self._not_started()
        coroutine = <object>called
        Py_DECREF(coroutine)
        if not PyCoro_CheckExact(coroutine) and not asyncio.iscoroutine(coroutine):
            coroutine = waits.result_of(coroutine)
        task = self._start_task(runtime.call_tables, coroutine)
        if task is None:
            return 0
        if task.done() if type(task) is not Task else call_method(TASK_DONE, task):
            return self._end_task(task)
        self.task = task
        runtime.tasks.add(task)
        task.add_done_callback(self.on_task_done, context=runtime.context)
        return 0

    cdef object _start_task(self, CallTables tables, object coroutine):
        """A real Task for the application's coroutine, in a fresh copy of the worker's context.

        Where Python can, the task takes its first step at once: an application that never suspends is done on return,
        at no cost of a handle, a callback or a turn of the loop. Raises the application's SystemExit and
        KeyboardInterrupt; the exchange has ended then.
        """
        cdef object context = PyContext_Copy(self.runtime.context)
        if self.notes is not None and self.notes.request_id is not None:
            context.run(set_request_id, self.notes.request_id)
        cdef object factory = tables.task_factory_of()
        cdef tuple arguments = tables.task_arguments
        cdef PyObject *made
        if factory is not None:
            return self._start_by_factory(factory, coroutine, context)
        tables.task_options["context"] = context
        set_only_item(arguments, coroutine)
        made = PyObject_Call(<PyObject *>Task, <PyObject *>arguments, <PyObject *>tables.task_options)
        set_only_item(arguments, None)
        if made == NULL:
            self._exited()
        task = <object>made
        Py_DECREF(task)
        return task

    cdef object _start_by_factory(self, object factory, object coroutine, object context):
        """The application chose its own kind of tasks. Factories differ in the keywords they take across versions."""
        cdef object loop = self.runtime.loop
        try:
            try:
                return factory(loop, coroutine, context=context)
            except TypeError:
                if inspect.getcoroutinestate(coroutine) != inspect.CORO_CREATED:
                    raise
            return Task(coroutine, loop=loop, context=context)
        except Exception as error:
            coroutine.close()
            self.app_failed(error)
            self.runtime.request_ended()
            return None
        except BaseException:
            self._ended_by_exit()
            raise

    cdef int _not_started(self) except -1:
        """The application was no coroutine function, or its call raised; the exception is set."""
        try:
            raised()
        except Exception as error:
            self.app_failed(error)
        finally:
            self.runtime.request_ended()
        return 0

    cdef int _exited(self) except -1:
        """An exception that is already set came out of the task's first step: pass it on, the exchange has ended."""
        try:
            raised()
        except BaseException:
            self._ended_by_exit()
            raise
        return 0

    cdef int _ended_by_exit(self) except -1:
        self.abort()
        return self.runtime.request_ended()

    cdef int end_if_done(self) except -1:
        """See the end of a task before its callback comes, later in this turn."""
        if self.task is not None and self.task.done():
            self.on_task_done(self.task)
        return 0

    def on_task_done(self, task):
        """Callback of a task that had suspended."""
        if self.task is None:
            return          # seen before
        self.runtime.tasks.discard(task)
        self.task = None
        self._end_task(task)

    cdef int _end_task(self, object task) except -1:
        """The application has ended. The common end, complete and without an error, is seen at once."""
        if not self.is_settled() or type(task) is not Task or not ended_well(task):
            try:
                self.judge(task)
            except Exception as error:      # of a logging handler, say: the call ends all the same
                self._report(error)
                self.abort()
        return self.runtime.request_ended()

    cdef int _report(self, object error) except -1:
        """An error of ours, or of what the user has plugged in."""
        self.runtime.loop.call_exception_handler({
            "message": "fastasgi: error while ending a request", "exception": error,
        })
        return 0

    # --- waiting --------------------------------------------------------------------------------------------------

    cdef int _wake(self, list waiters) except -1:
        """Complete the futures of a list, and forget them."""
        cdef list woken = waiters[:]
        waiters.clear()
        for future in woken:
            if not future.done():
                future.set_result(None)
        return 0

    cdef bint _burst_is_over(self, size_t n) noexcept:
        """True when the application has had its share of this turn of the loop."""
        cdef int64_t now_ns
        self.burst_bytes += n
        self.burst_calls += 1
        if self.burst_bytes < BURST_BYTES:
            if self.burst_calls & (BURST_CALLS - 1):
                return False
            now_ns = fa_monotonic_ns()
            if self.burst_since_ns == 0:
                self.burst_since_ns = now_ns
                return False
            if now_ns - self.burst_since_ns < BURST_NS:
                return False
        self.burst_bytes = 0
        self.burst_since_ns = 0
        return True

    # --- given by the subclass ------------------------------------------------------------------------------------

    cdef bint is_settled(self) noexcept:
        """True when everything was sent that the application owes: its end needs no judgement, if it was a good one."""
        return False

    cdef int judge(self, object task) except -1:
        """The task has ended: the one place where an application's failure becomes a log line and an answer."""
        raise AssertionError("judge() is for subclasses")

    cdef int app_failed(self, object error) except -1:
        """The application raised, or could not be started."""
        raise AssertionError("app_failed() is for subclasses")

    cdef int abort(self) except -1:
        """End the answer now, cut off."""
        raise AssertionError("abort() is for subclasses")
