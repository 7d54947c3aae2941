# cython: freethreading_compatible=True
"""Own socket I/O on Linux: one epoll set per worker, registered as a reader of its running event loop.

The loop stays in charge: tasks, timers and signals are asyncio's. It sees one descriptor, and calls `Poller.run()` once
for all connections that are ready. For each: one recv() into a buffer that all share, the handler in C, and, at the end
of the batch, one send(). They come in runs: up to MAX_AHEAD connections are read before the first handler gets its
bytes, because the kernel's code and the application's push each other out of the caches.

Edge-triggered, so nothing is asked of epoll per request. What an edge does not tell again is remembered: `has_unread`
(bytes were left in the kernel) and `seen_events` (the peer's end came while nothing was read); resume() queues the
channel, and the queue is served from the loop while it is not empty.

Output of a batch is deferred to its end, because a send() that wakes a sleeping reader costs several times one that
does not; and the application runs slowly after each large one, which leaves nothing of it in the caches. At most
MAX_DEFERRED channels, DEFERRED_BYTES and DEFER_NS wait. Outside of a batch a lone write leaves at once, and those of
a burst with the turn of the loop.
"""

import logging
import os

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.errno cimport EAGAIN, ECONNRESET, EINTR, EMFILE, ENFILE, ENOBUFS, ENOMEM, errno
from libc.stdint cimport uint32_t, uint64_t

from fastasgi._channel cimport CHANNEL_CLOSED, CHANNEL_LINGERING, CHANNEL_OPEN
from fastasgi._listener cimport Listener
from fastasgi._runtime cimport Runtime
from fastasgi._socket cimport DEFERRED_BYTES, Owner, SocketChannel, address_of, error_of
from fastasgi.linux cimport (
    EPOLL_CLOEXEC, EPOLL_CTL_ADD, EPOLL_CTL_DEL, EPOLLERR, EPOLLET, EPOLLHUP, EPOLLIN, EPOLLOUT, EPOLLPRI,
    EPOLLRDHUP, IPPROTO_TCP, MSG_PEEK, SO_OOBINLINE, SOCK_CLOEXEC, SOCK_NONBLOCK, SOL_SOCKET, TCP_NODELAY,
    accept4, close, epoll_create1, epoll_ctl, epoll_event, epoll_wait, recv, setsockopt, sockaddr, socklen_t,
)

cdef extern from "Python.h":
    int _PyBytes_Resize(PyObject **data, Py_ssize_t n) except -1

cdef object logger = logging.getLogger("fastasgi.error")

cdef enum:
    AHEAD_ROOM = 8 * 1024           # without so much room in the buffer no further connection is read ahead
    ALIGNMENT = 64                  # of what is read ahead, in bytes: a line of the cache
    SOLO_NEEDED = 2                 # single events in a row before a connection counts as the only active one
    SOLO_PENALTY = -16              # streak after a guess that missed

RETRY_ACCEPT_S = 1.0
"""How long accepting rests when descriptors or memory have run out, unless a connection closes before."""


@cython.final
cdef class Poller(Owner):
    """The connections of one worker. To be made in the process and loop that use it, after any fork."""

    def __cinit__(self):
        self.epfd = -1

    def __init__(self, Runtime runtime not None):
        self.runtime = runtime
        self.loop = runtime.loop
        self.slots, self.free_slots = [], []
        self.dead, self.queue, self.listeners = [], [], []
        self.servers, self.hosts = {}, {}
        self.buffer = <char *>PyMem_Malloc(READ_BYTES)
        if self.buffer == NULL:
            raise MemoryError
        self.epfd = epoll_create1(EPOLL_CLOEXEC)
        if self.epfd < 0:
            raise error_of(errno)
        runtime.room_waiters.append(self._room_came)
        runtime.tickers.append(self._check_listeners)
        self.loop.add_reader(self.epfd, self.run)

    def __dealloc__(self):
        PyMem_Free(self.buffer)
        if self.epfd >= 0:
            close(self.epfd)

    def listen(self, sock):
        """Accept connections from a bound, listening socket object, the caller's, and make it non-blocking."""
        cdef int yes = 1
        cdef int fd = sock.fileno()
        sock.setblocking(False)
        # Both are inherited by what is accepted. Urgent data inline: out of band it would never be an edge.
        setsockopt(fd, SOL_SOCKET, SO_OOBINLINE, &yes, sizeof(yes))
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof(yes))
        self.is_listening = True
        self.listeners.append(Listener(self.runtime, sock, self.accept))
        self.listeners[-1].start()

    def stop_listening(self):
        """Accept no more; what waits in the backlog stays there for whoever shares the socket."""
        if self.is_listening:
            self.is_listening = False
            self.runtime.tickers.remove(self._check_listeners)
            for listener in self.listeners:
                listener.stop()

    def close(self):
        """Abort what is left and let go of the loop."""
        if self.epfd < 0:
            return
        self.stop_listening()
        self.n_deferred = 0
        for channel in list(self.slots):
            if channel is not None:
                (<SocketChannel>channel).abort()
        self.loop.remove_reader(self.epfd)
        self.runtime.room_waiters.remove(self._room_came)
        close(self.epfd)
        self.epfd = -1
        self.dead.clear()

    # --- one turn -----------------------------------------------------------------------------------------------------

    def run(self):
        """Serve every connection that is ready: the callback of the loop."""
        if not self._begin_batch():
            return
        try:
            if self.solo_streak < SOLO_NEEDED or not self._poll_solo():
                self._poll()
        finally:
            self._end_batch()

    def run_queue(self):
        """Serve the channels that asked for it: unread bytes, a tail, a full share of the last turn."""
        cdef SocketChannel channel
        cdef list batch
        if not self._begin_batch():
            self.loop.call_soon(self.run_queue)
            return
        batch, self.queue = self.queue, []
        self.is_scheduled = False
        try:
            for channel in batch:
                channel.is_queued = False
                if channel.state != CHANNEL_CLOSED:
                    self._serve(channel, 0)
                self._flush_overdue()
        finally:
            self._end_batch()

    cdef bint _begin_batch(self) except -1:
        """Returns 0 in a batch that is under way: an application turns the loop from within its call, as some notebooks
        do. Nothing may be received then, because others' bytes are in the buffer."""
        if self.is_running:
            return 0
        self.runtime.refresh()
        self.is_running = True
        return 1

    cdef int _poll_solo(self) except -1:
        """Try the connection that was the only active one of late, without asking epoll; returns 1 when it was.

        Saves one system call of four for a client that waits for its answers. The others are looked at after
        SOLO_HITS requests at the latest: the loop's own poll sees them meanwhile and calls again.
        """
        cdef SocketChannel channel = self._channel_of(self.solo)
        cdef ssize_t n
        if self.solo_hits >= SOLO_HITS or channel is None:
            self.solo_hits = 0
            return 0
        if (channel.state != CHANNEL_OPEN or channel.is_paused or channel.waits_for_room
                or not channel.handler.wants_input()):
            return 0
        n = recv(channel.fd, self.buffer, READ_BYTES, 0)
        if n <= 0:
            self.solo_streak = SOLO_PENALTY     # epoll tells what it is
            return 0
        self.solo_hits += 1
        try:
            channel.handler.feed(self.buffer, n, None)
            if n == READ_BYTES and channel.state == CHANNEL_OPEN:
                channel.has_unread = True
                self.enqueue(channel)
        except BaseException as error:
            self._guard(channel, error)
        return 1

    cdef int _poll(self) except -1:
        cdef SocketChannel channel
        cdef int n, i = 0, count
        n = epoll_wait(self.epfd, self.events, MAX_EVENTS, 0)
        if n < 0:
            if errno == EINTR:
                return 0
            raise error_of(errno)
        if n == 1 and self.events[0].u64 == self.solo:
            self.solo_streak += 1
        else:
            self.solo_streak = min(self.solo_streak, 0)
            self.solo = self.events[0].u64 if n == 1 else 0
        self.solo_hits = 0
        while i < n:
            count = self._read_ahead(&self.events[i], n - i)
            if count == 0:
                channel = self._channel_of(self.events[i].u64)
                if channel is not None:
                    self._serve(channel, self.events[i].events)
                self._flush_overdue()
                i += 1
            else:
                self._serve_ahead(&self.events[i], count)
                i += count
        return 0

    cdef SocketChannel _channel_of(self, uint64_t key):
        """The channel that an event is about, or None when it is closed, whoever may have its slot now."""
        cdef object found = self.slots[<uint32_t>key]
        return <SocketChannel>found if found is not None and (<SocketChannel>found).key == key else None

    cdef int _read_ahead(self, const epoll_event *events, int n) except -1:
        """recv() for the first of n events, as far as nothing but input came and the buffer goes; returns for how many.

        The last event of a batch is not read ahead alone: nothing is gained by that.
        """
        cdef SocketChannel channel
        cdef size_t used = 0
        cdef ssize_t got
        cdef int count = 0
        if n == 1:
            return 0
        n = min(n, MAX_AHEAD)
        while count < n and READ_BYTES - used >= AHEAD_ROOM:
            channel = self._channel_of(events[count].u64)
            if events[count].events != EPOLLIN or channel is None:
                break
            if (channel.state != CHANNEL_OPEN or channel.is_paused or channel.wants_resumed or channel.seen_events
                    or not channel.handler.wants_input() or channel.handler.wanted() >= DIRECT_BYTES // 2):
                break
            channel.has_unread = False
            got = recv(channel.fd, self.buffer + used, READ_BYTES - used, 0)
            self.ahead[count].at, self.ahead[count].n = used, got if got >= 0 else -errno
            channel.is_ahead = got > 0
            used += (max(got, 0) + ALIGNMENT - 1) & ~(ALIGNMENT - 1)
            count += 1
        return count

    cdef int _serve_ahead(self, const epoll_event *events, int count) except -1:
        """Give what was read ahead to the handlers, except those whose connection has closed meanwhile."""
        cdef SocketChannel channel
        cdef size_t at
        cdef ssize_t n
        cdef int i
        for i in range(count):
            channel = self._channel_of(events[i].u64)
            if channel is None:
                continue
            channel.is_ahead = False
            at, n = self.ahead[i].at, self.ahead[i].n
            try:
                # Nothing is received into the buffer before the last of the run is served.
                if channel.state != CHANNEL_OPEN:
                    channel.wants_lingering |= n > 0        # its client was still sending
                    self._serve(channel, EPOLLIN)
                elif n > 0:
                    channel.handler.feed(self.buffer + at, n, None)
                    if n == <ssize_t>(READ_BYTES - at):
                        self._read(channel, 0)      # this is the last: the buffer ended here
                elif n == 0:
                    channel.handler.eof()
                elif n == -EINTR:
                    channel.has_unread = True
                    self.enqueue(channel)
                elif n != -EAGAIN:      # of which a later edge tells
                    channel._lost(<int>-n)
            except BaseException as error:
                self._guard(channel, error)
            self._flush_overdue()
        return 0

    cdef int _serve(self, SocketChannel channel, uint32_t events) except -1:
        """What an event, or the queue, asks of one channel. An error of ours ends that connection alone."""
        try:
            if channel.wants_resumed:
                channel.wants_resumed = False
                if channel.handler is not None:
                    channel.handler.resumed()
            if events & EPOLLOUT and channel.waits_for_room and channel.fd >= 0:
                channel.flush()
            events |= channel.seen_events
            if channel.fd >= 0 and (
                channel.has_unread or events & (EPOLLIN | EPOLLPRI | EPOLLRDHUP | EPOLLHUP | EPOLLERR)
            ):
                self._read(channel, events)
        except BaseException as error:
            self._guard(channel, error)
        return 0

    cdef int _read(self, SocketChannel channel, uint32_t events) except -1:
        """recv() until the kernel has no more, the handler wants no more, or the share of this turn is used up."""
        cdef ssize_t n, room
        cdef int error
        cdef size_t wanted, budget = READ_BUDGET
        if channel.state == CHANNEL_LINGERING:
            return channel.discard()
        while channel.state == CHANNEL_OPEN:
            if channel.is_paused or not channel.handler.wants_input():
                channel.has_unread = True
                channel.seen_events = events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)
                return self._peek(channel) if channel.seen_events else 0
            channel.has_unread = False
            channel.seen_events = 0
            wanted = channel.handler.wanted()
            if wanted >= DIRECT_BYTES // 2:
                room = min(wanted, <size_t>DIRECT_BYTES)
                n = self._read_direct(channel, room)
                error = <int>-n
            else:
                room = READ_BYTES
                n = recv(channel.fd, self.buffer, READ_BYTES, 0)
                error = errno
                if n > 0:
                    channel.handler.feed(self.buffer, n, None)
            if n == 0:
                if events & (EPOLLHUP | EPOLLERR):
                    return channel._lost(ECONNRESET)    # a reset whose error an earlier recv() has taken
                return channel.handler.eof()
            if n < 0:
                if error == EINTR:
                    continue
                return 0 if error == EAGAIN else channel._lost(error)
            if n < room and not events & (EPOLLPRI | EPOLLRDHUP | EPOLLHUP | EPOLLERR):
                return 0        # drained; recv() also stops short at an urgent byte
            if <size_t>n >= budget:
                channel.has_unread = True
                channel.seen_events = events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)
                return self.enqueue(channel)
            budget -= n
        return 0

    cdef int _read_direct(self, SocketChannel channel, size_t wanted) except? -2:
        """Read body bytes into an object of their own, which goes to the application as it is; returns their number, 0
        at the end, -errno for an error: freeing the object may change errno itself."""
        cdef PyObject *data
        cdef ssize_t n
        data_object = PyBytes_FromStringAndSize(NULL, wanted)
        data = <PyObject *>data_object
        n = recv(channel.fd, PyBytes_AS_STRING(data_object), wanted, 0)
        if n <= 0:
            return -errno if n else 0
        if <size_t>n < wanted:
            Py_INCREF(data_object)
            data_object = None
            _PyBytes_Resize(&data, n)
            data_object = <object>data
            Py_DECREF(data_object)
        channel.handler.feed(PyBytes_AS_STRING(data_object), n, data_object)
        return <int>n

    cdef int _peek(self, SocketChannel channel) except -1:
        """The peer's end was seen while nothing is read: find out which end, without taking bytes."""
        cdef char first
        cdef ssize_t n
        if channel.seen_events & (EPOLLHUP | EPOLLERR):
            return channel._lost(ECONNRESET)     # both directions are gone
        n = recv(channel.fd, &first, 1, MSG_PEEK)
        if n == 0:
            channel.seen_events = 0
            channel.has_unread = False
            return channel.handler.eof()
        if n > 0:
            return channel.handler.eof_ahead()
        if errno != EAGAIN and errno != EINTR:
            return channel._lost(errno)
        return 0

    # --- accepting ----------------------------------------------------------------------------------------------------

    def accept(self, Listener listener not None):
        """Take new connections: the callback of the loop."""
        if not self._begin_batch():
            return
        self.solo_streak = 0
        try:
            if self.is_listening and not self.is_accepting_paused:
                self._accept(listener)
        except Exception as error:      # of one new connection
            self.loop.call_exception_handler(
                {"message": "fastasgi: cannot accept a connection", "exception": error})
        finally:
            self._end_batch()

    def _check_listeners(self):
        for listener in self.listeners:
            listener.check()

    cdef int _accept(self, Listener listener) except -1:
        """Take new connections, a bounded number a turn."""
        cdef unsigned char address[128]
        cdef socklen_t n
        cdef int fd, i
        for i in range(MAX_ACCEPTS):
            if self.runtime.counts.connections >= self.runtime.max_connections:
                if i:
                    return 0        # full; level-triggered, the listener tells again if one more waits
                if not self.runtime.close_idle():
                    self.runtime.wants_room = True
                    return self._pause_accepting()
            if not listener.may_accept(i):
                return 0
            n = sizeof(address)
            fd = accept4(listener.fd, <sockaddr *>address, &n, SOCK_NONBLOCK | SOCK_CLOEXEC)
            if fd < 0:
                self._accept_failed(errno)
                break
            self._adopt(fd, address, min(n, <socklen_t>sizeof(address)))
        return listener.end_turn() if i else 0

    cdef int _adopt(self, int fd, const unsigned char *address, uint32_t address_n) except -1:
        """Make a channel for an accepted socket."""
        cdef epoll_event event
        cdef uint32_t slot
        cdef SocketChannel channel = SocketChannel.__new__(SocketChannel)
        channel.fd = fd
        channel.runtime, channel.poller = self.runtime, self
        channel.client = address_of(address, address_n, self.hosts)
        if self.free_slots:
            slot = self.free_slots.pop()
            self.slots[slot] = channel
        else:
            slot = len(self.slots)
            self.slots.append(channel)
        self.generation += 1
        if self.generation == 0:
            self.generation = 1     # no key is 0, see `solo`
        event.events = EPOLLIN | EPOLLPRI | EPOLLRDHUP | EPOLLET
        event.u64 = channel.key = <uint64_t>self.generation << 32 | slot
        if epoll_ctl(self.epfd, EPOLL_CTL_ADD, fd, &event) < 0:
            error = error_of(errno)
            self.bury(channel)
            raise error
        try:
            return channel.opened()
        except BaseException:
            self.bury(channel)
            raise

    cdef int _accept_failed(self, int error) except -1:
        if error == EMFILE or error == ENFILE or error == ENOBUFS or error == ENOMEM:
            if not self.has_warned:
                self.has_warned = True
                logger.error(
                    "cannot accept connections: %s; they wait in the backlog until some close (see ulimit -n)",
                    os.strerror(error))
            self._pause_accepting()
            # An idle connection holds a descriptor that somebody else needs; its end wakes us. Otherwise those who keep
            # connections open could keep everybody else out.
            if not self.runtime.close_idle():
                self.runtime.wants_room = True
                self.loop.call_later(RETRY_ACCEPT_S, self._room_came)
        return 0        # none left, or one that has gone again: its turn is over either way

    cdef int _pause_accepting(self) except -1:
        """Take the listeners out of the set: level-triggered, they would wake us without end."""
        if not self.is_accepting_paused:
            self.is_accepting_paused = True
            for listener in self.listeners:
                listener.pause()
        return 0

    def _room_came(self):
        """A connection closed, or some time has passed: accept again."""
        if self.is_accepting_paused and self.epfd >= 0:
            self.is_accepting_paused = False
            self.runtime.wants_room = False
            if self.is_listening:
                for listener in self.listeners:
                    listener.resume()

    # --- batches ------------------------------------------------------------------------------------------------------

    cdef int enqueue(self, SocketChannel channel) except -1:
        """Serve the channel in the next turn of the loop."""
        if not channel.is_queued and channel.state != CHANNEL_CLOSED:
            channel.is_queued = True
            self.queue.append(channel)
            if not self.is_scheduled:
                self.is_scheduled = True
                self.loop.call_soon(self.run_queue)
        return 0

    cdef int defer(self, SocketChannel channel, size_t n) except -1:
        """Write the channel's output at the end of the batch, or, outside of one, behind what this turn still runs."""
        self.deferred_bytes += n
        if not channel.is_deferred:
            if self.n_deferred == 0:
                self.deferred_since_ns = self.runtime.now_ns
                if not self.is_running and not self.is_flush_scheduled:
                    self.is_flush_scheduled = True
                    self.loop.call_soon(self._flush_turn)
            channel.is_deferred = True
            self.deferred[self.n_deferred] = <PyObject *>channel
            self.n_deferred += 1
        if self.n_deferred == MAX_DEFERRED or self.deferred_bytes > DEFERRED_BYTES:
            return self._flush_deferred()
        return 0

    cdef bint is_burst(self, SocketChannel channel) except? -1:
        """Outside of a batch: whether several channels are written at about the same time, by tasks that go on in one
        turn of the loop. Their output leaves together, at the end of that turn; a lone answer does not wait."""
        cdef int64_t now_ns = self.runtime.refresh()
        cdef bint is_near = self.late_key != channel.key and now_ns - self.late_ns < NEAR_NS
        self.late_key, self.late_ns = channel.key, now_ns
        if self.n_deferred == 0:
            return is_near
        if now_ns - self.deferred_since_ns > DEFER_NS:
            self._flush_deferred()
        return True

    def _flush_turn(self):
        """Write what was gathered outside of a batch."""
        self.is_flush_scheduled = False
        self.runtime.refresh()
        self._flush_deferred()

    cdef int _flush_overdue(self) except -1:
        """Within a batch: write what has waited for long enough."""
        if self.n_deferred and self.runtime.refresh() - self.deferred_since_ns > DEFER_NS:
            return self._flush_deferred()
        return 0

    cdef int _flush_deferred(self) except -1:
        cdef SocketChannel channel
        cdef uint32_t i, n = self.n_deferred
        self.n_deferred = 0
        self.deferred_bytes = 0
        for i in range(n):
            channel = <SocketChannel>self.deferred[i]       # alive: closed channels are in `dead` until the batch ends
            channel.is_deferred = False
            if channel.fd >= 0 and not channel.waits_for_room:
                try:
                    channel.flush()
                except BaseException as error:
                    self._guard(channel, error)
        return 0

    cdef int _end_batch(self) except -1:
        """Write what was deferred, release what was closed, and let an application's exit go on its way."""
        cdef object fatal
        try:
            while self.n_deferred:
                self._flush_deferred()
        finally:
            self.is_running = False
        if self.dead:
            self.dead.clear()
        if self.fatal is not None:
            fatal, self.fatal = self.fatal, None
            raise fatal
        return 0

    cdef int _guard(self, SocketChannel channel, object error) except -1:
        """An exception came out of a connection: its end, not the worker's. Raises nothing, because others are still to
        be served; what comes out of the loop's exception handler waits for the end of the batch, as an exit does."""
        try:
            if not isinstance(error, (SystemExit, KeyboardInterrupt)):
                return self.runtime.guard(channel, error)
            self.fatal = error
            channel.abort()
        except BaseException as raised:
            self.fatal = raised
        return 0

    cdef int bury(self, SocketChannel channel) except -1:
        """Close the descriptor and free the slot. The object lives to the end of the batch, where its frames may be."""
        cdef epoll_event event
        if channel.fd < 0:
            return 0
        epoll_ctl(self.epfd, EPOLL_CTL_DEL, channel.fd, &event)
        close(channel.fd)
        channel.fd = -1
        channel.waits_for_room = False
        self.slots[<uint32_t>channel.key] = None
        self.free_slots.append(<uint32_t>channel.key)
        self.dead.append(channel)
        if not self.is_running and len(self.dead) == 1:
            self.loop.call_soon(self._release)
        return 0

    def _release(self):
        if not self.is_running:
            self._flush_deferred()      # borrows from them
            self.dead.clear()
