# cython: freethreading_compatible=True
"""The floor with an application: what no server can save, on the sockets and in the process where a server pays it.

The floor program (`native/floor.c`) accepts, reads, and counts requests; for each the application is called as every
server must call it: in a task of its own, which takes its first step at once where Python can, with a context and a
scope of its own. Nothing is parsed, checked, logged or encoded. `send` and `receive` are done at once; when the task
has ended the floor's fixed answer is due. All that can be read is read, then the application runs, then answers leave
together, as long as none waits for more than a millisecond: each of the three is cheaper among its own kind, and a send
that wakes the client costs most.
"""

import asyncio
import contextvars
import functools
import itertools
import sys

cimport cython
from libc.errno cimport EAGAIN, EINTR, errno
from libc.stdint cimport uint32_t, uint64_t

from fastasgi._awaitables cimport Ready
from fastasgi.fa cimport fa_monotonic_ns
from fastasgi.linux cimport (
    EPOLLERR, EPOLLHUP, EPOLLOUT, EPOLLRDHUP, close as close_fd, epoll_event, epoll_wait, recv,
)

cdef extern from *:
    """
    #define main floor_main
    #include "floor.c"
    #undef main
    """
    struct connection:
        uint64_t answers
    # `floor` is a function of the C library, too
    struct fa_floor "floor":
        int epoll
        int listener
        const char *answer
        size_t answer_bytes
        connection *connections
        size_t slots
        char *buffer
    enum:
        READ_BYTES
        EVENTS
    void make_slots(fa_floor *floor)
    void listen_on(fa_floor *floor, const char *host, long port)
    void cut_into_pieces(fa_floor *floor, size_t piece_bytes)
    void accept_all(fa_floor *floor)
    void close_connection(fa_floor *floor, int fd)
    bint count_requests(connection *of, const char *data, size_t n)
    bint send_answers(fa_floor *floor, int fd)

cdef extern from "Python.h":
    object PyContext_Copy(object context)
    object PyObject_Call(object callable, object args, object kwargs)

cdef enum:
    DUE_NS = 1_000_000
    GONE = -1

cdef object Task = asyncio.Task
cdef object is_done = Task.done
cdef object result_of = Task.result
cdef fa_floor floor                 # as the program has it: too large for a stack, and there is one


@cython.final
cdef class ApplicationFloor:
    """The one floor of this process, in the running loop, until `ended`: a future that gets the application's error.

    `scope` is copied for each request, its headers too. `receive` gives what it gives at each call.
    """

    def __init__(self, app, dict scope not None, receive, bytes answer not None, port, ended):
        self.app, self.receive, self.answer, self.ended = app, receive, answer, ended
        self.send = functools.partial(next, itertools.repeat(Ready()))
        self.scope, self.headers = scope, scope["headers"]
        self.loop, self.base = asyncio.get_running_loop(), contextvars.copy_context()
        self.options = {"loop": self.loop, "name": "request", "context": None}
        if sys.version_info >= (3, 12):
            self.options["eager_start"] = True
        self.serials = {}
        self.tasks = set()
        floor.answer, floor.answer_bytes = answer, len(answer)
        cut_into_pieces(&floor, 0)
        make_slots(&floor)
        listen_on(&floor, b"127.0.0.1", port)
        self.loop.add_reader(floor.epoll, self.run)

    def run(self):
        """Serve what epoll has to tell: one turn of the loop."""
        cdef epoll_event events[EVENTS]
        cdef int i, fd, ready = epoll_wait(floor.epoll, events, EVENTS, 0)
        for i in range(ready):
            fd = events[i].fd
            if fd == floor.listener:
                accept_all(&floor)
            else:
                self.serve(fd, events[i].events)
        try:
            self.call_all()
        except Exception as error:
            self.fail(error)
        self.flush()

    cdef int serve(self, int fd, uint32_t events) except -1:
        if events & EPOLLOUT and not send_answers(&floor, fd):
            return self.close(fd)
        if events & ~EPOLLOUT and not self.read(fd, (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0):
            return self.close(fd)
        return 0

    cdef int close(self, int fd) except -1:
        cdef int i
        for i in range(self.asked_count):
            if self.asked[i].fd == fd:
                self.asked[i].n = 0
        for i in range(self.due_count):
            if self.due[i] == fd:
                self.due[i] = GONE
        self.serials[fd] = self.serials.get(fd, 0) + 1
        close_connection(&floor, fd)
        return 0

    cdef bint read(self, int fd, bint is_ending) except -1:
        """Read what there is; False when the connection is gone."""
        cdef connection *of = &floor.connections[fd]
        cdef uint64_t before, owed = 0
        cdef ssize_t n
        while True:
            n = recv(fd, floor.buffer, READ_BYTES, 0)
            if n < 0 and errno == EINTR:
                continue
            if n < 0 and errno == EAGAIN:
                break
            before = of.answers
            if n <= 0 or not count_requests(of, floor.buffer, n):
                return False
            owed += of.answers - before
            of.answers = before
            if n < READ_BYTES and not is_ending:
                break
        if owed:
            self.asked[self.asked_count].fd, self.asked[self.asked_count].n = fd, owed
            self.asked_count += 1       # once at most for each event
        return True

    cdef int call_all(self) except -1:
        """Call the application for each request that was read."""
        cdef int i
        try:
            for i in range(self.asked_count):
                while self.asked[i].n:      # 0 when its connection is closed meanwhile
                    self.asked[i].n -= 1
                    self.call(self.asked[i].fd)
        finally:
            self.asked_count = 0
        return 0

    cdef int call(self, int fd) except -1:
        cdef dict scope = self.scope.copy()
        scope["headers"] = self.headers[:]
        self.options["context"] = PyContext_Copy(self.base)
        task = PyObject_Call(Task, (self.app(scope, self.receive, self.send),), self.options)
        if is_done(task):
            result_of(task)
            self.answer_is_due(fd)
        else:
            self.tasks.add(task)
            task.add_done_callback(functools.partial(self.end, fd, self.serials.get(fd, 0)), context=self.base)
        return 0

    def end(self, int fd, serial, task):
        """A task that has waited is done."""
        self.tasks.discard(task)
        try:
            task.result()
        except Exception as error:
            self.fail(error)
            return
        if self.serials.get(fd, 0) == serial:
            self.answer_is_due(fd)
            if not self.is_flush_planned:
                self.is_flush_planned = True
                self.loop.call_soon(self.flush)

    cdef int fail(self, object error) except -1:
        if not self.ended.done():
            self.ended.set_exception(error)
        return 0

    cdef int answer_is_due(self, int fd) except -1:
        cdef uint64_t now_ns = fa_monotonic_ns()
        if self.due_count == 0:
            self.due_since_ns = now_ns
        self.due[self.due_count] = fd
        self.due_count += 1
        if self.due_count == MAX_DUE or now_ns - self.due_since_ns > DUE_NS:
            self.flush()
        return 0

    def flush(self):
        """Send all answers that are due."""
        cdef int i, fd
        self.is_flush_planned = False
        for i in range(self.due_count):
            fd = self.due[i]
            if fd == GONE:
                continue
            floor.connections[fd].answers += 1
            if not send_answers(&floor, fd):
                self.close(fd)
        self.due_count = 0

    def stop(self):
        """Stop listening, for a program that goes on."""
        self.loop.remove_reader(floor.epoll)
        close_fd(floor.listener)
        close_fd(floor.epoll)
