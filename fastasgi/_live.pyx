# cython: freethreading_compatible=True
"""Counters of live objects, in debug builds: how many objects of a class exist, whoever holds them.

Unlike the garbage collector's list they see objects that it does not track, and unlike the counters of the Runtime they
follow the memory and not the state. A class is counted by wrapping the two functions that give and take the memory of
its objects, so the class itself knows nothing of it, and a release build does nothing.
"""


cdef extern from "Python.h":
    ctypedef struct PyObject:
        pass

    ctypedef PyObject *(*allocfunc)(PyTypeObject *, Py_ssize_t) noexcept
    ctypedef void (*freefunc)(void *) noexcept

    ctypedef struct PyTypeObject:
        const char *tp_name
        allocfunc tp_alloc
        freefunc tp_free

    PyTypeObject *Py_TYPE(void *thing)

cdef extern from *:
    const bint FA_DEBUG     # a macro of the build

cdef enum:
    MAX_COUNTED = 16

cdef struct Counted:
    PyTypeObject *cls       # borrowed; classes of modules live as long as the process
    allocfunc alloc
    freefunc free
    Py_ssize_t live         # objects

cdef Counted counted[MAX_COUNTED]
cdef int n_counted = 0


cdef Counted *entry_of(PyTypeObject *cls) noexcept:
    cdef int i
    for i in range(n_counted):
        if counted[i].cls == cls:
            return &counted[i]
    return NULL


cdef PyObject *counting_alloc(PyTypeObject *cls, Py_ssize_t n) noexcept:
    cdef Counted *entry = entry_of(cls)
    cdef PyObject *thing = entry.alloc(cls, n)
    entry.live += thing != NULL
    return thing


cdef void counting_free(void *thing) noexcept:
    cdef Counted *entry = entry_of(Py_TYPE(thing))
    entry.live -= 1
    entry.free(thing)


cdef int count_live(type cls) except -1:
    """Count the objects of this class from now on. It must be final: a subclass would inherit the wrapped functions."""
    global n_counted
    cdef PyTypeObject *found = <PyTypeObject *>cls
    if not FA_DEBUG:
        return 0
    assert n_counted < MAX_COUNTED
    assert entry_of(found) == NULL
    counted[n_counted] = Counted(found, found.tp_alloc, found.tp_free, 0)
    n_counted += 1
    found.tp_alloc = counting_alloc
    found.tp_free = counting_free
    return 0


def live_objects():
    """How many objects of each counted class exist, by the class's name; empty in a release build."""
    return {counted[i].cls.tp_name.decode().rpartition(".")[2]: counted[i].live for i in range(n_counted)}
