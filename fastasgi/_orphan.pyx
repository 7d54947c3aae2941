# cython: freethreading_compatible=True
"""What a worker asks of Linux so that it never outlives its supervisor, whatever it is doing.

A worker sees its supervisor's end as the end of their link, drains, and ends. One whose loop is blocked sees nothing.
So the kernel is asked for a signal when the parent dies (PR_SET_PDEATHSIG). Its handler is C and needs neither the loop
nor the GIL; it starts a timer of the process whose signal is SIGKILL. Until that comes, a loop that runs can drain.

"The parent" of PR_SET_PDEATHSIG is the thread that forked, so workers are forked by the supervisor's main thread only.
The kernel forgets the setting when the process changes its user or group: ask after that.
"""

import os
import signal

from libc.errno cimport errno
from libc.string cimport memset


cdef extern from "signal.h" nogil:
    struct sigaction_s "sigaction":
        void (*sa_handler)(int) noexcept nogil
        int sa_flags
    struct sigevent:
        int sigev_notify
        int sigev_signo
    int sigaction(int number, const sigaction_s *action, sigaction_s *before)
    int c_raise "raise"(int number)
    enum:
        SA_RESTART
        SIGEV_SIGNAL
        SIGKILL

cdef extern from "time.h" nogil:
    struct timespec:
        long tv_sec
        long tv_nsec
    struct itimerspec:
        timespec it_value
    enum:
        CLOCK_MONOTONIC

cdef extern from "sys/syscall.h" nogil:
    enum:
        SYS_timer_create
        SYS_timer_settime

cdef extern from "unistd.h" nogil:
    long syscall(long number, ...)

cdef extern from "sys/prctl.h" nogil:
    int prctl(int option, ...)
    enum:
        PR_SET_PDEATHSIG
        PR_SET_CHILD_SUBREAPER

ORPHAN_SIGNAL = int(signal.SIGRTMIN) + 6
"""The signal that a worker gets when its parent has died."""

# Of the process, as signal handlers are. The kernel's own calls, because older C libraries keep theirs in librt.
cdef int timer = -1
cdef itimerspec patience


cdef void on_orphaned(int number) noexcept nogil:
    """The parent has died: SIGKILL follows. Runs as a signal handler: nothing here but one system call."""
    syscall(SYS_timer_settime, timer, 0, &patience, NULL)


def die_with_parent(int parent, double grace_s):
    """Have this process killed `grace_s` seconds after its parent, of that process id, has ended."""
    global timer
    cdef sigevent event
    cdef sigaction_s action
    memset(&patience, 0, sizeof(patience))
    patience.it_value.tv_sec = <long>grace_s
    patience.it_value.tv_nsec = max(1, <long>((grace_s - <long>grace_s) * 1e9))     # all zero would disarm it
    if timer < 0:
        memset(&event, 0, sizeof(event))
        event.sigev_notify = SIGEV_SIGNAL
        event.sigev_signo = SIGKILL
        if syscall(SYS_timer_create, CLOCK_MONOTONIC, &event, &timer) < 0:
            raise OSError(errno, os.strerror(errno))
    memset(&action, 0, sizeof(action))
    action.sa_handler = on_orphaned
    action.sa_flags = SA_RESTART
    if sigaction(ORPHAN_SIGNAL, &action, NULL) < 0 or prctl(PR_SET_PDEATHSIG, <long>ORPHAN_SIGNAL) < 0:
        raise OSError(errno, os.strerror(errno))
    if os.getppid() != parent:      # it died before we asked
        c_raise(ORPHAN_SIGNAL)


def adopt_orphans(bint wanted):
    """Become the parent of descendants whose own parent has ended, or no longer."""
    if prctl(PR_SET_CHILD_SUBREAPER, <long>wanted) < 0:
        raise OSError(errno, os.strerror(errno))
