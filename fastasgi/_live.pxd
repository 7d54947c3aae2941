"""Counters of live objects, in debug builds."""

cdef int count_live(type cls) except -1
