# cython: freethreading_compatible=True
"""One connection on a socket of ours: output, the end, addresses. Its input is read by the Poller.

Output is a list of bytes objects, written in one system call. What the kernel does not take waits, and only then is
EPOLLOUT asked for.
"""

import os

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.errno cimport EAGAIN, EINTR, errno
from libc.stdint cimport uint32_t
from libc.string cimport memcpy, memset

from fastasgi._channel cimport (
    CHANNEL_CLOSED, CHANNEL_CLOSING, CHANNEL_LINGERING, CHANNEL_OPEN, HIGH_WATER, LOW_WATER, Channel,
)
from fastasgi._live cimport count_live
from fastasgi._runtime cimport PHASE_WRITE, TIMEOUT_LINGER
from fastasgi.fa cimport fa_unsent
from fastasgi.linux cimport (
    AF_INET, AF_INET6, AF_UNIX, EPOLL_CTL_MOD, EPOLLET, EPOLLIN, EPOLLOUT, EPOLLPRI, EPOLLRDHUP, MSG_NOSIGNAL, MSG_PEEK,
    SHUT_RDWR, SHUT_WR, SO_LINGER, SOL_SOCKET, close as close_fd, epoll_ctl, epoll_event, getsockname, inet_ntop,
    iovec, linger as so_linger, msghdr, ntohs, recv, send, sendmsg, setsockopt, shutdown, sockaddr, sockaddr_in,
    sockaddr_in6, socklen_t,
)


cdef object error_of(int number):
    """The OSError for an errno."""
    return OSError(number, os.strerror(number))


# --- one connection ---------------------------------------------------------------------------------------------------

@cython.final
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
            close_fd(self.fd)

    # --- output -------------------------------------------------------------------------------------------------------

    cdef int write(self, bytes head, bytes body, bytes end, bint more) except -1:
        cdef size_t grown, before = self.pending
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
        grown = self.pending - before
        # One large answer may wait; the next behind it shows whether the peer takes them (see is_full()).
        if before <= GATHER_BYTES and self.pending <= DEFERRED_BYTES and (
            more or self.poller.is_running or self.poller.is_burst(self)
        ):
            return self.poller.defer(self, grown)
        return self.flush()

    cdef bint is_full(self) noexcept:
        return self.waits_for_room and self.pending > HIGH_WATER

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
                self.arm_stall()
        elif self.state == CHANNEL_CLOSING:
            return self.finish()
        elif self.waits_for_room:
            self.watch(False)
            self.disarm(PHASE_WRITE)
            return self.output_drained()
        if self.pending <= LOW_WATER and before > LOW_WATER:
            return self.output_drained()
        return 0

    cdef uint32_t kernel_bytes(self) noexcept:
        return fa_unsent(self.fd)

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
        event.events = EPOLLIN | EPOLLPRI | EPOLLRDHUP | EPOLLET | (EPOLLOUT if for_room else 0)
        event.u64 = self.key
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
        return self.poller.enqueue(self)

    cdef int schedule(self) except -1:
        self.wants_resumed = True
        return self.poller.enqueue(self)

    cdef bint has_input(self) noexcept:
        cdef char first
        return self.is_ahead or recv(self.fd, &first, 1, MSG_PEEK) > 0

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
        if not self.wants_lingering and not self.is_ahead:
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
        return self.poller.enqueue(self)

    cdef int abort(self) except -1:
        if self.state == CHANNEL_OPEN and self.pending and not self.waits_for_room:
            self.flush()        # what the application has sent is on its way before the reset
        if self.state == CHANNEL_CLOSED:
            return 0
        return self.shut(self.state != CHANNEL_LINGERING)

    cdef int _lost(self, int error) except -1:
        """The kernel reports the end of the connection."""
        self.drop_output()
        self.poller.bury(self)
        return self.gone(error_of(error))

    cdef int shut(self, bint reset) except -1:
        """Close the socket: with a FIN, or with a reset so that nothing sent before looks whole."""
        cdef so_linger option
        if reset and self.fd >= 0:
            option.l_onoff, option.l_linger = 1, 0
            setsockopt(self.fd, SOL_SOCKET, SO_LINGER, &option, sizeof(option))
        elif self.fd >= 0:
            shutdown(self.fd, SHUT_RDWR)    # a forked child may hold a copy, and close() alone would send no FIN
        self.drop_output()
        self.poller.bury(self)
        return self.gone(None)

    # --- addresses ----------------------------------------------------------------------------------------------------

    cdef int take_addresses(self) except -1:
        cdef unsigned char ours[128]
        cdef socklen_t n = sizeof(ours)
        if getsockname(self.fd, <sockaddr *>ours, &n) == 0:
            key = PyBytes_FromStringAndSize(<char *>ours, min(n, <socklen_t>sizeof(ours)))
            self.server = self.poller.servers.get(key)
            if self.server is None:
                self.server = self.poller.servers[key] = address_of(ours, min(n, <socklen_t>sizeof(ours)), {})
        return 0


cdef object address_of(const unsigned char *address, uint32_t n, dict hosts):
    """A struct sockaddr as (host, port), (path, None) for a named Unix socket, or None. Equal hosts share one text."""
    cdef char text[64]
    cdef int family = (<const sockaddr *>address).sa_family
    cdef unsigned short port
    if n == 0:
        return None
    if family == AF_INET:
        inet_ntop(AF_INET, &(<const sockaddr_in *>address).sin_addr, text, sizeof(text))
        port = ntohs((<const sockaddr_in *>address).sin_port)
    elif family == AF_INET6:
        inet_ntop(AF_INET6, &(<const sockaddr_in6 *>address).sin6_addr, text, sizeof(text))
        port = ntohs((<const sockaddr_in6 *>address).sin6_port)
    elif family == AF_UNIX and n > 2:
        path = PyBytes_FromStringAndSize(<const char *>address + 2, n - 2)
        return os.fsdecode(path.rstrip(b"\0") if path[0] else b"@" + path[1:]), None
    else:
        return None
    if len(hosts) >= N_HOSTS:
        hosts.clear()
    host = text.decode("ascii")
    return hosts.setdefault(host, host), port


cdef class Owner:
    """What a SocketChannel asks of the Poller that holds it."""

    cdef int enqueue(self, SocketChannel channel) except -1:
        """Serve the channel in the next turn of the loop."""
        raise AssertionError("enqueue() is for the Poller")

    cdef int defer(self, SocketChannel channel, size_t n) except -1:
        """Write the channel's output at the end of the batch; it has grown by n bytes."""
        raise AssertionError("defer() is for the Poller")

    cdef bint is_burst(self, SocketChannel channel) except? -1:
        """Outside of a batch: whether several channels are written at about the same time."""
        raise AssertionError("is_burst() is for the Poller")

    cdef int bury(self, SocketChannel channel) except -1:
        """Close the descriptor and free the slot."""
        raise AssertionError("bury() is for the Poller")


count_live(SocketChannel)
