"""What trusted proxies say of a request: X-Forwarded-* and Forwarded, applied to its scope."""

from libc.stdint cimport uint8_t, uint32_t

from cpython.object cimport PyObject

from fastasgi.fa cimport fa_trust


ctypedef int Part
cdef enum:
    PART_FOR                # the order of FIELDS
    PART_PROTO
    PART_HOST
    PART_PORT
    PART_PREFIX
    PART_FORWARDED          # RFC 7239, which holds the first three
    N_PARTS


cdef struct Lines:          # the fields of one head, borrowed from its list of pairs
    PyObject *latest[N_PARTS]   # value of the last line of each, or NULL
    uint32_t count[N_PARTS]
    Py_ssize_t host_at          # place of Host, or -1


cdef enum:
    N_SLOTS = 256           # values that were read before, a power of two
    MAX_VALUE = 256         # bytes; longer values are read anew each time


cdef struct Slot:
    PyObject *value         # owned bytes, or NULL
    PyObject *found         # owned; what the value came to
    int part


cdef class TrustedPeers:
    cdef fa_trust trust         # `networks` is owned
    cdef frozenset literals     # names of peers, and paths of Unix sockets

    cdef bint is_trusted(self, object client, object server) except -1


cdef class Origin:              # what X-Forwarded-For or Forwarded come to
    cdef tuple client           # (host, port), or None: nothing was said
    cdef bytes log_client       # "host:port" for access lines
    cdef bytes proto, host      # of Forwarded, or None
    cdef uint32_t back          # elements to the right of the client's
    cdef uint32_t total


cdef class Forwarder:
    cdef readonly TrustedPeers peers
    cdef bint believes[N_PARTS]
    cdef Slot slots[N_SLOTS]

    cdef bytes apply(self, dict scope, list headers)
    cdef bint _gather(self, list headers, Lines *lines) except -1
    cdef object _recall(self, Part part, bytes value)
    cdef int _keep(self, Part part, bytes value, object found) except -1
    cdef Origin _origin(self, Part part, list headers, const Lines *lines)
    cdef bytes _element(self, Part part, list headers, const Lines *lines, uint32_t back, uint32_t total)
    cdef int _set_scheme(self, dict scope, bytes value) except -1
    cdef int _set_host(self, dict scope, list headers, Py_ssize_t host_at, bytes value, bytes port) except -1
    cdef int _set_port(self, dict scope, bytes value) except -1
    cdef int _set_prefix(self, dict scope, bytes value) except -1


cdef str address_text(const uint8_t *address)
