# cython: freethreading_compatible=True
"""Own socket I/O on Linux: one epoll set per worker, registered as a reader of its running event loop.

The loop stays in charge: tasks, timers and signals are asyncio's. It sees one descriptor, and calls `Poller.run()` once
for all connections that are ready. For each: one recv() into a buffer that all share, the handler in C, and, at the end
of the batch, one send().

Edge-triggered, so nothing is asked of epoll per request. What an edge does not tell again is remembered: `has_unread`
(bytes were left in the kernel) and `seen_events` (the peer's end came while nothing was read); resume() queues the
channel, and the queue is served from the loop while it is not empty.

Output of a batch is deferred to its end, because a send() that wakes a sleeping reader costs several times one that
does not; at most MAX_DEFERRED channels and DEFER_NS wait. Outside of a batch a write leaves at once.
"""

import logging
import os

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.errno cimport EAGAIN, ECONNRESET, EINTR, EMFILE, ENFILE, ENOBUFS, ENOMEM, errno
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from fastasgi._channel cimport (
    CHANNEL_CLOSED, CHANNEL_CLOSING, CHANNEL_LINGERING, CHANNEL_OPEN, HIGH_WATER, LOW_WATER, Channel,
)
from fastasgi._runtime cimport PHASE_WRITE, TIMEOUT_LINGER, TIMEOUT_STALL, Runtime
from fastasgi.fa cimport fa_monotonic_ns

cdef extern from "sys/epoll.h" nogil:
    int epoll_create1(int flags)
    int epoll_ctl(int epfd, int operation, int fd, epoll_event *event)
    int epoll_wait(int epfd, epoll_event *events, int n, int timeout_ms)
    enum:
        EPOLL_CLOEXEC
        EPOLL_CTL_ADD
        EPOLL_CTL_DEL
        EPOLL_CTL_MOD
    const uint32_t EPOLLIN, EPOLLOUT, EPOLLRDHUP, EPOLLHUP, EPOLLERR, EPOLLET

cdef extern from *:
    """
    #ifndef _GNU_SOURCE
    #define _GNU_SOURCE
    #endif
    #include <sys/types.h>
    #include <sys/socket.h>
    """

cdef extern from "sys/socket.h" nogil:
    struct sockaddr:
        unsigned short sa_family
    struct iovec:
        void *iov_base
        size_t iov_len
    struct msghdr:
        iovec *msg_iov
        size_t msg_iovlen
    struct linger:
        int l_onoff
        int l_linger
    ctypedef uint32_t socklen_t
    int accept4(int fd, sockaddr *address, socklen_t *n, int flags)
    int getsockname(int fd, sockaddr *address, socklen_t *n)
    int setsockopt(int fd, int level, int name, const void *value, socklen_t n)
    int shutdown(int fd, int how)
    ssize_t recv(int fd, void *p, size_t n, int flags)
    ssize_t send(int fd, const void *p, size_t n, int flags)
    ssize_t sendmsg(int fd, const msghdr *message, int flags)
    enum:
        SOCK_NONBLOCK
        SOCK_CLOEXEC
        SOL_SOCKET
        SO_LINGER
        SO_OOBINLINE
        MSG_NOSIGNAL
        MSG_PEEK
        SHUT_WR
        SHUT_RDWR
        AF_INET
        AF_INET6
        AF_UNIX

cdef extern from "netinet/in.h" nogil:
    struct in_addr:
        pass
    struct sockaddr_in:
        unsigned short sin_port
        in_addr sin_addr
    struct in6_addr:
        pass
    struct sockaddr_in6:
        unsigned short sin6_port
        in6_addr sin6_addr
    unsigned short ntohs(unsigned short port)
    enum:
        IPPROTO_TCP

cdef extern from "netinet/tcp.h" nogil:
    enum:
        TCP_NODELAY

cdef extern from "arpa/inet.h" nogil:
    const char *inet_ntop(int family, const void *address, char *text, socklen_t n)

cdef extern from "unistd.h" nogil:
    int close(int fd)

cdef extern from "Python.h":
    int _PyBytes_Resize(PyObject **data, Py_ssize_t n) except -1

cdef object logger = logging.getLogger("fastasgi.error")

cdef uint32_t LISTENER = 0xFFFFFFFF     # generation that marks a listener; constant

cdef enum:
    SOLO_NEEDED = 2                 # single events in a row before a connection counts as the only active one
    SOLO_PENALTY = -16              # streak after a guess that missed

RETRY_ACCEPT_S = 1.0
"""How long accepting rests when descriptors or memory have run out, unless a connection closes before."""


cdef object error_of(int number):
    """The OSError for an errno."""
    return OSError(number, os.strerror(number))


# --- one connection ---------------------------------------------------------------------------------------------------

cdef class SocketChannel(Channel):
    """One connection on a socket of ours. Held by its slot in the Poller until it is closed."""

    def __cinit__(self):
        self.fd = -1
        self.out = self.few
        self.out_room = 4

    def __dealloc__(self):
        self.drop_output()
        if self.out != self.few:
            PyMem_Free(self.out)
        if self.fd >= 0:
            close(self.fd)

    # --- output -------------------------------------------------------------------------------------------------------

    cdef int write(self, bytes head, bytes body, bytes end) except -1:
        if self.state != CHANNEL_OPEN:
            return 0
        if head is not None:
            self.push(head)
        if body is not None:
            self.push(body)
        if end is not None:
            self.push(end)
        if self.waits_for_room:
            return 0
        if self.poller.is_running and self.pending <= HIGH_WATER:
            return self.poller._defer(self)
        return self.flush()

    cdef int push(self, bytes data) except -1:
        """Append to the output, which keeps a reference."""
        cdef PyObject **grown
        cdef uint32_t end = self.out_first + self.out_n
        if PyBytes_GET_SIZE(data) == 0:
            return 0
        if end == self.out_room:
            if self.out_first:
                end = self.out_n
                for i in range(end):
                    self.out[i] = self.out[self.out_first + i]
                self.out_first = 0
            else:
                grown = <PyObject **>PyMem_Malloc(4 * self.out_room * sizeof(PyObject *))
                if grown == NULL:
                    raise MemoryError
                memcpy(grown, self.out, end * sizeof(PyObject *))
                if self.out != self.few:
                    PyMem_Free(self.out)
                self.out = grown
                self.out_room *= 4
        Py_INCREF(data)
        self.out[end] = <PyObject *>data
        self.out_n += 1
        self.pending += PyBytes_GET_SIZE(data)
        return 0

    cdef int flush(self) except -1:
        """Give the kernel what it takes; an error is the end of the connection."""
        cdef iovec vectors[MAX_IOVECS]
        cdef msghdr message
        cdef uint32_t count, i
        cdef size_t total, before = self.pending
        cdef ssize_t sent
        while self.out_n:
            count = min(self.out_n, <uint32_t>MAX_IOVECS)
            total = 0
            for i in range(count):
                vectors[i].iov_base = PyBytes_AS_STRING(<object>self.out[self.out_first + i])
                vectors[i].iov_len = PyBytes_GET_SIZE(<object>self.out[self.out_first + i])
                total += vectors[i].iov_len
            vectors[0].iov_base = <char *>vectors[0].iov_base + self.out_offset
            vectors[0].iov_len -= self.out_offset
            total -= self.out_offset
            if count == 1:
                sent = send(self.fd, vectors[0].iov_base, vectors[0].iov_len, MSG_NOSIGNAL)
            else:
                memset(&message, 0, sizeof(message))
                message.msg_iov, message.msg_iovlen = vectors, count
                sent = sendmsg(self.fd, &message, MSG_NOSIGNAL)
            if sent < 0:
                if errno == EINTR:
                    continue
                if errno != EAGAIN:
                    return self._lost(errno)
                break
            self.advance(sent)
            if <size_t>sent < total:
                break
        return self._flushed(before)

    cdef int _flushed(self, size_t before) except -1:
        """Watch for room, or stop watching; tell the handler when output has fallen."""
        if self.pending:
            if not self.waits_for_room:
                self.watch(True)
            if self.pending < before or self.deadlines[PHASE_WRITE].next == NULL:
                self.arm(TIMEOUT_STALL)
        else:
            if self.waits_for_room:
                self.watch(False)
                self.disarm(PHASE_WRITE)
            if self.state == CHANNEL_CLOSING:
                return self.finish()
        if self.pending <= LOW_WATER and before > LOW_WATER:
            return self.output_drained()
        return 0

    cdef int advance(self, size_t n) noexcept:
        """n bytes were written: let go of what is through."""
        cdef size_t left
        self.pending -= n
        while n:
            left = PyBytes_GET_SIZE(<object>self.out[self.out_first]) - self.out_offset
            if n < left:
                self.out_offset += n
                return 0
            n -= left
            self.out_offset = 0
            Py_DECREF(<object>self.out[self.out_first])
            self.out_first += 1
            self.out_n -= 1
        if self.out_n == 0:
            self.out_first = 0
        return 0

    cdef void drop_output(self) noexcept:
        while self.out_n:
            self.out_n -= 1
            Py_DECREF(<object>self.out[self.out_first + self.out_n])
        self.out_first = 0
        self.out_offset = 0
        self.pending = 0

    cdef int watch(self, bint for_room) except -1:
        """Have EPOLLOUT in the mask or not. It is there only while output waits, because the level of an outer epoll
        set would count a writable socket as ready."""
        cdef epoll_event event
        event.events = EPOLLIN | EPOLLRDHUP | EPOLLET | (EPOLLOUT if for_room else 0)
        event.u64 = <uint64_t>(<uint32_t>self.poller.generations[self.slot]) << 32 | self.slot
        self.waits_for_room = for_room
        if epoll_ctl(self.poller.epfd, EPOLL_CTL_MOD, self.fd, &event) < 0:
            raise error_of(errno)
        return 0

    # --- input --------------------------------------------------------------------------------------------------------

    cdef int pause(self) except -1:
        self.is_paused = True
        return 0

    cdef int resume(self) except -1:
        self.is_paused = False
        self.has_unread = True      # no edge will tell of what came before
        return self.poller._enqueue(self)

    cdef int schedule(self) except -1:
        self.wants_resumed = True
        return self.poller._enqueue(self)

    # --- the end ------------------------------------------------------------------------------------------------------

    cdef int close(self, bint linger) except -1:
        if self.state != CHANNEL_OPEN:
            return 0
        self.state = CHANNEL_CLOSING
        self.wants_lingering = linger
        if self.pending:
            return 0 if self.waits_for_room else self.flush()
        return self.finish()

    cdef int finish(self) except -1:
        """All output is written. Close, or read on for a while if the peer may still be sending: the kernel answers
        unread bytes with a reset, which would take our answer away from the peer (RFC 9112 section 9.6)."""
        cdef char first
        cdef ssize_t n = 1
        if not self.wants_lingering:
            n = recv(self.fd, &first, 1, 0)
        if n <= 0:
            return self.shut(False)
        self.state = CHANNEL_LINGERING
        shutdown(self.fd, SHUT_WR)
        self.arm(TIMEOUT_LINGER)
        return self.discard()

    cdef int discard(self) except -1:
        """Read and drop what a lingering peer sends, a bounded amount a turn."""
        cdef char waste[16 * 1024]
        cdef int left = 64
        cdef ssize_t n
        while left:
            n = recv(self.fd, waste, sizeof(waste), 0)
            if n < 0 and errno == EAGAIN:
                return 0
            if n == 0 or (n < 0 and errno != EINTR):
                return self.shut(False)
            left -= 1
        self.has_unread = True
        return self.poller._enqueue(self)

    cdef int abort(self) except -1:
        if self.state == CHANNEL_CLOSED:
            return 0
        return self.shut(self.state != CHANNEL_LINGERING)

    cdef int _lost(self, int error) except -1:
        """The kernel reports the end of the connection."""
        self.drop_output()
        self.poller._bury(self)
        return self.gone(error_of(error))

    cdef int shut(self, bint reset) except -1:
        """Close the socket: with a FIN, or with a reset so that nothing sent before looks whole."""
        cdef linger option
        if reset and self.fd >= 0:
            option.l_onoff, option.l_linger = 1, 0
            setsockopt(self.fd, SOL_SOCKET, SO_LINGER, &option, sizeof(option))
        elif self.fd >= 0:
            shutdown(self.fd, SHUT_RDWR)    # a forked child may hold a copy, and close() alone would send no FIN
        self.drop_output()
        self.poller._bury(self)
        return self.gone(None)

    # --- addresses ----------------------------------------------------------------------------------------------------

    cdef int take_addresses(self) except -1:
        cdef unsigned char ours[128]
        cdef socklen_t n = sizeof(ours)
        self.client = address_of(self.address, self.address_n)
        if getsockname(self.fd, <sockaddr *>ours, &n) == 0:
            key = PyBytes_FromStringAndSize(<char *>ours, min(n, <socklen_t>sizeof(ours)))
            self.server = self.poller.servers.get(key)
            if self.server is None:
                self.server = self.poller.servers[key] = address_of(ours, min(n, <socklen_t>sizeof(ours)))
        return 0


cdef object address_of(const unsigned char *address, uint32_t n):
    """A struct sockaddr as (host, port), (path, None) for a named Unix socket, or None."""
    cdef char text[64]
    cdef int family = (<const sockaddr *>address).sa_family
    if n == 0:
        return None
    if family == AF_INET:
        inet_ntop(AF_INET, &(<const sockaddr_in *>address).sin_addr, text, sizeof(text))
        return text.decode("ascii"), ntohs((<const sockaddr_in *>address).sin_port)
    if family == AF_INET6:
        inet_ntop(AF_INET6, &(<const sockaddr_in6 *>address).sin6_addr, text, sizeof(text))
        return text.decode("ascii"), ntohs((<const sockaddr_in6 *>address).sin6_port)
    if family == AF_UNIX and n > 2:
        path = PyBytes_FromStringAndSize(<const char *>address + 2, n - 2)
        return os.fsdecode(path.rstrip(b"\0") if path[0] else b"@" + path[1:]), None
    return None


# --- all connections --------------------------------------------------------------------------------------------------

cdef class Poller:
    """The connections of one worker. To be made in the process and loop that use it, after any fork."""

    def __cinit__(self):
        self.epfd = -1

    def __init__(self, Runtime runtime not None):
        self.runtime = runtime
        self.loop = runtime.loop
        self.slots, self.generations, self.free_slots = [], [], []
        self.dead, self.queue, self.listeners = [], [], []
        self.servers = {}
        self.buffer = <char *>PyMem_Malloc(READ_BYTES)
        if self.buffer == NULL:
            raise MemoryError
        self.epfd = epoll_create1(EPOLL_CLOEXEC)
        if self.epfd < 0:
            raise error_of(errno)
        runtime.room_waiters.append(self._room_came)
        self.loop.add_reader(self.epfd, self.run)

    def __dealloc__(self):
        PyMem_Free(self.buffer)
        if self.epfd >= 0:
            close(self.epfd)

    def listen(self, sock):
        """Accept connections from a bound, listening, non-blocking socket object, which stays the caller's."""
        cdef int yes = 1
        cdef int fd = sock.fileno()
        # Both are inherited by what is accepted. Urgent data inline: out of band it would never be an edge.
        setsockopt(fd, SOL_SOCKET, SO_OOBINLINE, &yes, sizeof(yes))
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof(yes))
        self.listeners.append(sock)
        self.is_listening = True
        self._watch_listener(len(self.listeners) - 1, True)

    def stop_listening(self):
        """Accept no more; what waits in the backlog stays there for whoever shares the socket."""
        if self.is_listening:
            self.is_listening = False
            if not self.is_accepting_paused:
                for index in range(len(self.listeners)):
                    self._watch_listener(index, False)

    def close(self):
        """Abort what is left and let go of the loop."""
        if self.epfd < 0:
            return
        self.stop_listening()
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
        self.runtime.refresh()
        self.is_running = True
        try:
            if self.solo_streak < SOLO_NEEDED or not self._poll_solo():
                self._poll()
        finally:
            self._end_batch()

    def run_queue(self):
        """Serve the channels that asked for it: unread bytes, a tail, a full share of the last turn."""
        cdef SocketChannel channel
        cdef list batch = self.queue
        self.queue = []
        self.is_scheduled = False
        self.runtime.refresh()
        self.is_running = True
        try:
            for channel in batch:
                channel.is_queued = False
                if channel.state != CHANNEL_CLOSED:
                    self._serve(channel, 0)
        finally:
            self._end_batch()

    cdef int _poll_solo(self) except -1:
        """Try the connection that was the only active one of late, without asking epoll; returns 1 when it was.

        Saves one system call of four for a client that waits for its answers. The others are looked at after
        SOLO_HITS requests at the latest: the loop's own poll sees them meanwhile and calls again.
        """
        cdef uint32_t slot = <uint32_t>self.solo
        cdef SocketChannel channel
        cdef ssize_t n
        if self.solo_hits >= SOLO_HITS or <uint32_t>self.generations[slot] != <uint32_t>(self.solo >> 32):
            self.solo_hits = 0
            return 0
        channel = <SocketChannel>self.slots[slot]
        if channel.state != CHANNEL_OPEN or channel.is_paused or channel.waits_for_room or not channel.handler.wants_input():
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
                self._enqueue(channel)
        except BaseException as error:
            self._guard(channel, error)
        return 1

    cdef int _poll(self) except -1:
        cdef int i, n
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
        for i in range(n):
            self._dispatch(self.events[i].u64, self.events[i].events)
            if self.n_deferred and self.runtime.refresh() - self.deferred_since_ns > DEFER_NS:
                self._flush_deferred()
        return 0

    cdef int _dispatch(self, uint64_t data, uint32_t events) except -1:
        """One event, if its channel is still the one it was registered for."""
        cdef uint32_t slot = <uint32_t>data
        cdef uint32_t generation = <uint32_t>(data >> 32)
        if generation == LISTENER:
            self.solo_streak = 0
            return self._accept(slot)
        if <uint32_t>self.generations[slot] != generation:
            return 0
        return self._serve(<SocketChannel>self.slots[slot], events)

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
            if channel.fd >= 0 and (channel.has_unread or events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)):
                self._read(channel, events)
        except BaseException as error:
            self._guard(channel, error)
        return 0

    cdef int _read(self, SocketChannel channel, uint32_t events) except -1:
        """recv() until the kernel has no more, the handler wants no more, or the share of this turn is used up."""
        cdef ssize_t n, room
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
            if wanted > READ_BYTES:
                room = min(wanted, <size_t>DIRECT_BYTES)
                n = self._read_direct(channel, room)
            else:
                room = READ_BYTES
                n = recv(channel.fd, self.buffer, READ_BYTES, 0)
                if n > 0:
                    channel.handler.feed(self.buffer, n, None)
            if n == 0:
                return channel.handler.eof()
            if n < 0:
                if errno == EINTR:
                    continue
                return 0 if errno == EAGAIN else channel._lost(errno)
            if n < room and not events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR):
                return 0        # drained
            if <size_t>n >= budget:
                channel.has_unread = True
                channel.seen_events = events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)
                return self._enqueue(channel)
            budget -= n
        return 0

    cdef int _read_direct(self, SocketChannel channel, size_t wanted) except -2:
        """Read body bytes into an object of their own, which goes to the application as it is; returns what recv()
        returns, errno included."""
        cdef PyObject *data
        cdef ssize_t n
        cdef int saved
        data_object = PyBytes_FromStringAndSize(NULL, wanted)
        data = <PyObject *>data_object
        n = recv(channel.fd, PyBytes_AS_STRING(data_object), wanted, 0)
        if n <= 0:
            return <int>n
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
        if n < 0 and errno != EAGAIN and errno != EINTR:
            return channel._lost(errno)
        return 0

    # --- accepting ----------------------------------------------------------------------------------------------------

    def _watch_listener(self, uint32_t index, bint watched):
        """Put a listener into the epoll set, level-triggered, or take it out."""
        cdef epoll_event event
        event.events = EPOLLIN
        event.u64 = <uint64_t>LISTENER << 32 | index
        cdef int fd = self.listeners[index].fileno()
        if fd >= 0 and epoll_ctl(self.epfd, EPOLL_CTL_ADD if watched else EPOLL_CTL_DEL, fd, &event) < 0:
            raise error_of(errno)

    cdef int _accept(self, int index) except -1:
        """Take new connections, a bounded number a turn."""
        cdef unsigned char address[128]
        cdef socklen_t n
        cdef int fd, left
        cdef int listener = self.listeners[index].fileno()
        if not self.is_listening or self.is_accepting_paused:
            return 0
        for left in range(MAX_ACCEPTS):
            if self.runtime.connections >= self.runtime.max_connections \
                    and not self.runtime.close_idle(MAX_ACCEPTS):
                return self._pause_accepting()
            n = sizeof(address)
            fd = accept4(listener, <sockaddr *>address, &n, SOCK_NONBLOCK | SOCK_CLOEXEC)
            if fd < 0:
                return self._accept_failed(errno)
            self._adopt(fd, address, min(n, <socklen_t>ADDRESS_BYTES))
        return 0

    cdef int _adopt(self, int fd, const unsigned char *address, uint32_t address_n) except -1:
        """Make a channel for an accepted socket."""
        cdef epoll_event event
        cdef SocketChannel channel = SocketChannel.__new__(SocketChannel)
        channel.fd = fd
        channel.runtime, channel.poller = self.runtime, self
        memcpy(channel.address, address, address_n)
        channel.address_n = address_n
        if self.free_slots:
            channel.slot = self.free_slots.pop()
            self.slots[channel.slot] = channel
        else:
            channel.slot = len(self.slots)
            self.slots.append(channel)
            self.generations.append(1)
        event.events = EPOLLIN | EPOLLRDHUP | EPOLLET
        event.u64 = <uint64_t>(<uint32_t>self.generations[channel.slot]) << 32 | channel.slot
        if epoll_ctl(self.epfd, EPOLL_CTL_ADD, fd, &event) < 0:
            error = error_of(errno)
            self._bury(channel)
            raise error
        return channel.opened()

    cdef int _accept_failed(self, int error) except -1:
        if error == EMFILE or error == ENFILE or error == ENOBUFS or error == ENOMEM:
            if not self.has_warned:
                self.has_warned = True
                logger.error(
                    "cannot accept connections: %s; they wait in the backlog until some close (see ulimit -n)",
                    os.strerror(error))
            self.loop.call_later(RETRY_ACCEPT_S, self._room_came)
            return self._pause_accepting()
        return 0        # none left, or one that has gone again: its turn is over either way

    cdef int _pause_accepting(self) except -1:
        """Take the listeners out of the set: level-triggered, they would wake us without end."""
        if not self.is_accepting_paused:
            self.is_accepting_paused = True
            for index in range(len(self.listeners)):
                self._watch_listener(index, False)
        return 0

    def _room_came(self):
        """A connection closed, or some time has passed: accept again."""
        if self.is_accepting_paused and self.epfd >= 0:
            self.is_accepting_paused = False
            if self.is_listening:
                for index in range(len(self.listeners)):
                    self._watch_listener(index, True)

    # --- batches ------------------------------------------------------------------------------------------------------

    cdef int _enqueue(self, SocketChannel channel) except -1:
        """Serve the channel in the next turn of the loop."""
        if not channel.is_queued and channel.state != CHANNEL_CLOSED:
            channel.is_queued = True
            self.queue.append(channel)
            if not self.is_scheduled:
                self.is_scheduled = True
                self.loop.call_soon(self.run_queue)
        return 0

    cdef int _defer(self, SocketChannel channel) except -1:
        """Write the channel's output at the end of the batch."""
        if not channel.is_deferred:
            if self.n_deferred == 0:
                self.deferred_since_ns = self.runtime.now_ns
            channel.is_deferred = True
            self.deferred[self.n_deferred] = <PyObject *>channel
            self.n_deferred += 1
            if self.n_deferred == MAX_DEFERRED:
                return self._flush_deferred()
        return 0

    cdef int _flush_deferred(self) except -1:
        cdef SocketChannel channel
        cdef uint32_t i, n = self.n_deferred
        self.n_deferred = 0
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
        while self.n_deferred:
            self._flush_deferred()
        self.is_running = False
        if self.dead:
            self.dead.clear()
        if self.fatal is not None:
            fatal, self.fatal = self.fatal, None
            raise fatal
        return 0

    cdef int _guard(self, SocketChannel channel, object error) except -1:
        """An exception came out of a connection: its end, not the worker's."""
        if isinstance(error, (SystemExit, KeyboardInterrupt)):
            self.fatal = error
            return channel.abort()
        return self.runtime.guard(channel, error)

    cdef int _bury(self, SocketChannel channel) except -1:
        """Close the descriptor and free the slot. The object lives to the end of the batch, where its frames may be."""
        cdef epoll_event event
        if channel.fd < 0:
            return 0
        epoll_ctl(self.epfd, EPOLL_CTL_DEL, channel.fd, &event)
        close(channel.fd)
        channel.fd = -1
        channel.waits_for_room = False
        self.generations[channel.slot] = (self.generations[channel.slot] + 1) & 0x7FFFFFFF
        self.slots[channel.slot] = None
        self.free_slots.append(channel.slot)
        self.dead.append(channel)
        if not self.is_running and len(self.dead) == 1:
            self.loop.call_soon(self._release)
        return 0

    def _release(self):
        if not self.is_running:
            self.dead.clear()
