# cython: freethreading_compatible=True
"""One listening socket of a worker, and how connections are spread over the workers that share it.

All workers watch one socket. Nothing is handed from one to another, so no connection is lost or waits when a worker
ends or hangs: whoever is awake takes it. Three rules make it even:

- **One is woken.** The socket is in the loop's own epoll set with EPOLLEXCLUSIVE: the kernel wakes the first worker of
  its queue that sleeps, and passes over those that are busy. (In a set within a set, as the Poller's, the flag has no
  effect.)
- **Whoever took one goes to the end of the queue**, by leaving the set and entering it again, unless it has fewer
  connections than the mean: that one stays in front until it has caught up. Entering a set tells of what waits already,
  so nothing is missed between.
- **Whoever is above the mean yields** for YIELD_S to those that are awake too. What still waits then, and nobody took
  anything meanwhile, it takes: the others are busy or hang, and a connection never waits for them.

The mean is over workers that are ready and whose loop turns, from the scoreboard. Where the loop's epoll set cannot be
found (another kind of loop, no /proc), the loop's reader stays without the flag: all are woken, the other rules hold.
"""

import os

cimport cython
from libc.errno cimport errno

from fastasgi._runtime cimport Runtime
from fastasgi._socket cimport error_of
from fastasgi.fa cimport fa_board_load, fa_load
from fastasgi.linux cimport EPOLL_CTL_ADD, EPOLL_CTL_DEL, EPOLLEXCLUSIVE, EPOLLIN, epoll_ctl, epoll_event

YIELD_S = 0.001
"""How long a worker above the mean leaves new connections to the others."""


@cython.final
cdef class Listener:
    """A bound, listening, non-blocking socket in the running loop of `runtime`; the socket is the caller's.

    `callback(listener)` is called while connections wait. It asks may_accept() before each, and, unless that ended the
    turn, calls end_turn() behind the last.
    """

    def __init__(self, Runtime runtime not None, sock, callback):
        self.sock, self.fd = sock, sock.fileno()
        self.runtime, self.loop, self.callback = runtime, runtime.loop, callback
        self.epfd = -1
        if runtime.slot.board is not None:
            self.board = runtime.slot.board.board

    def start(self):
        """Watch it."""
        if self.watch == WATCH_NONE:
            self._enter()

    def stop(self):
        """Look away for good: what waits stays for whoever shares the socket. To be called before it is closed."""
        self.pause()
        if self.watch != WATCH_NONE:
            self.watch = WATCH_NONE
            self.loop.remove_reader(self.fd)    # formally a reader still, where only its entry in the set was changed

    def pause(self):
        """Look away: what waits would wake the loop without end."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
        elif self.watch == WATCH_SHARED or self.watch == WATCH_EXCLUSIVE:
            self._leave()
        if self.watch != WATCH_NONE:
            self.watch = WATCH_PAUSED

    def resume(self):
        """Watch it again."""
        if self.watch == WATCH_PAUSED:
            self._enter()

    def check(self):
        """Look whether something waits that no event told of, because whoever was woken for it has ended."""
        if self.watch == WATCH_EXCLUSIVE:
            self._leave()
            self._enter()

    @property
    def is_exclusive(self):
        """Whether one worker is woken for a connection, and not all."""
        return self.watch == WATCH_EXCLUSIVE

    # --- what the owner asks while it accepts -------------------------------------------------------------------------

    cpdef bint may_accept(self, int taken) except -1:
        """Whether the next connection is for us, who have taken so many in this turn. If not, the turn is over."""
        cdef fa_load load
        if self.board == NULL:
            return True
        if not taken:
            self.runtime.refresh()
        load = fa_board_load(self.board, self.runtime.counts, self.runtime.now_ns)
        if not load.is_above:
            return True
        if not taken and self.has_yielded and load.progress == self.progress:
            return True         # it still waits, and nobody else took anything meanwhile
        self.progress = load.progress
        self._leave()
        self.watch = WATCH_YIELDED
        self.timer = self.loop.call_later(YIELD_S, self._return)
        return False

    cpdef int end_turn(self) except -1:
        """The turn is over, and something was taken: go to the end of the queue, unless there is much to catch up."""
        self.has_yielded = False
        if self.watch == WATCH_EXCLUSIVE and not (
                fa_board_load(self.board, self.runtime.counts, self.runtime.now_ns).is_below):
            self._leave()
            self._enter()
        return 0

    # --- watching -----------------------------------------------------------------------------------------------------

    def _return(self):
        """The moment is over."""
        self.timer = None
        self.has_yielded = True
        self._enter()

    cdef int _leave(self) except -1:
        if self.epfd >= 0:
            self._control(EPOLL_CTL_DEL)
        else:
            self.loop.remove_reader(self.fd)
        return 0

    cdef int _enter(self) except -1:
        """Watch it. What waits already is told of at once."""
        if self.epfd >= 0:
            self._control(EPOLL_CTL_ADD)
            self.watch = WATCH_EXCLUSIVE
            return 0
        self.loop.add_reader(self.fd, self.callback, self)
        self.watch = WATCH_SHARED
        if self.board != NULL and not self.has_looked:
            self.loop.call_soon(self._make_exclusive)       # in a turn from now, libuv has entered it into its set
        return 0

    def _make_exclusive(self):
        """Change its entry in the loop's set. The loop does not mind: it touches the entry of a descriptor again only
        to watch for something else, and then to remove it."""
        if self.watch != WATCH_SHARED or self.has_looked:
            return
        self.has_looked = True
        self.epfd = epoll_set_of(self.fd)
        if self.epfd >= 0:
            self._control(EPOLL_CTL_DEL)
            self._enter()

    cdef int _control(self, int operation) except -1:
        cdef epoll_event event
        event.events = EPOLLIN | EPOLLEXCLUSIVE
        event.u64 = 0
        event.fd = self.fd
        if epoll_ctl(self.epfd, operation, self.fd, &event) < 0:
            raise error_of(errno)
        return 0


def epoll_set_of(int fd):
    """The descriptor of the one epoll set of this process that watches `fd`; -1 where it cannot be told.

    A line of a set, as proc(5) has it: "tfd: 7 events: 19 data: ffffffff00000007 pos:0 ino:1f3b sdev:8". Sets inherited
    from another process may watch something else by the same number, so the inode is compared too.
    """
    cdef list found = []
    inode = f"ino:{os.fstat(fd).st_ino:x}"
    try:
        for name in os.listdir("/proc/self/fd"):
            try:
                if os.readlink(f"/proc/self/fd/{name}") != "anon_inode:[eventpoll]":
                    continue
                with open(f"/proc/self/fdinfo/{name}") as lines:
                    for line in lines:
                        words = line.split()
                        if words[:2] == ["tfd:", str(fd)] and inode in words:
                            found.append(int(name))
            except OSError:
                continue        # that of listdir() itself, or of another thread: closed meanwhile
    except OSError:
        return -1               # no /proc
    return found[0] if len(found) == 1 else -1
