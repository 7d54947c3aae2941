# cython: freethreading_compatible=True
"""What trusted proxies say of a request: X-Forwarded-* and Forwarded (RFC 7239), applied to its scope.

The rules, each with the attack that it stops, are in docs/proxies.md. In short: only peers of `forwarded_allow_ips`
are believed; lists are read from the right, and the first address that is not trusted is the client; a field counts
only if `forwarded_fields` names it; what is malformed never makes an exception, and never a client that someone
trusts: it makes the client "unknown".

Values repeat (a client sends many requests through its proxy), so what a value came to is kept in a direct-mapped
table, bounded in slots and bytes.
"""

from ipaddress import ip_network

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.mem cimport PyMem_Calloc, PyMem_Free
from cpython.object cimport PyObject, PyObject_Hash
from cpython.ref cimport Py_INCREF, Py_XDECREF
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memchr, memcmp, memcpy, memset

from fastasgi.fa cimport (
    FA_NODE_ADDRESS, FA_NODE_NAME, FA_NODE_NONE, fa_decimal, fa_format_address, fa_is_host,
    fa_is_within, fa_network, fa_parse_address, fa_parse_decimal, fa_percent_decode, fa_walk, fa_walk_for,
    fa_walk_forwarded,
)

cdef extern from "Python.h":
    const char *PyUnicode_AsUTF8AndSize(object text, Py_ssize_t *n) except NULL
    str PyUnicode_FromKindAndData(int kind, const void *buffer, Py_ssize_t size)

FIELDS = ("for", "proto", "host", "port", "prefix")
"""What `forwarded_fields` may name: X-Forwarded-For and so on, and the parameters of Forwarded with these names."""

DEFAULT_FIELDS = ("for", "proto")
"""What proxies are used to set themselves. The others pass most of them as the client sent them."""

cdef bytes HOST = b"host"
cdef dict SCHEMES = {           # of HTTP, of WebSocket
    b"http": ("http", "ws"), b"ws": ("http", "ws"), b"https": ("https", "wss"), b"wss": ("https", "wss"),
}
cdef dict DEFAULT_PORTS = {"http": 80, "ws": 80, "https": 443, "wss": 443}
cdef object MISSING = object()


# --- who is trusted ---------------------------------------------------------------------------------------------------

@cython.final
cdef class TrustedPeers:
    """A set of peers, made from a comma-separated text or a list: addresses, networks, names of peers that are no
    addresses, "unix" for whoever speaks through a Unix socket, paths of Unix sockets, or "*" for everybody.

    Raises ValueError for what looks like an address or a network and is none.
    """

    def __init__(self, peers):
        cdef fa_network *networks
        cdef bytes address
        cdef set literals = set()
        cdef list entries = []
        for word in peers.split(",") if isinstance(peers, str) else peers or ():
            word = word.strip()
            if word == "*":
                self.trust.everybody = True
            elif word in ("unix", "unix:"):
                self.trust.unix_peers = True
            elif looks_like_network(word):
                entries.append(as_network(word))
            elif word:
                literals.add(word)
        self.literals = frozenset(literals)
        networks = <fa_network *>PyMem_Calloc(len(entries) + 1, sizeof(fa_network))
        if networks == NULL:
            raise MemoryError
        self.trust.networks, self.trust.n = networks, len(entries)
        for i, (address, bits) in enumerate(entries):
            memcpy(networks[i].address, PyBytes_AS_STRING(address), 16)
            networks[i].bits = bits

    def __dealloc__(self):
        PyMem_Free(<void *>self.trust.networks)

    def trusts(self, client, server=None):
        """Whether the peer at this end of a connection is in the set; both as they stand in a scope."""
        return self.is_trusted(client, server)

    cdef bint is_trusted(self, object client, object server) except -1:
        cdef uint8_t address[16]
        cdef const char *p
        cdef const char *zone
        cdef Py_ssize_t n
        if self.trust.everybody:
            return True
        if client is not None and client[1] is not None:
            p = PyUnicode_AsUTF8AndSize(client[0], &n)
            zone = <const char *>memchr(p, c"%", n)
            if fa_parse_address(p, n if zone == NULL else zone - p, address):
                return fa_is_within(address, self.trust.networks, self.trust.n)
            return client[0] in self.literals
        # A Unix socket: its client has a name only if it took the trouble to bind one.
        if client is not None and client[0] in self.literals:
            return True
        if server is None or server[1] is not None:
            return False
        return self.trust.unix_peers or server[0] in self.literals


cdef bint looks_like_network(str word) except -1:
    """Digits and dots, or colons; or the same with a slash behind: not a name, and not a path."""
    start = word.partition("/")[0]
    return bool(start) and (":" in start or not start.strip("0123456789."))


cdef tuple as_network(str word):
    """(16 bytes, how many bits count) of an address or a network."""
    if "%" in word:
        raise ValueError(f"{word!r} has a zone: leave out what stands behind '%'")
    try:
        network = ip_network(word)
    except ValueError as error:
        raise ValueError(f"{error}; write an address such as 10.0.0.1 or a network such as 10.0.0.0/8") from None
    packed, bits = network.network_address.packed, network.prefixlen
    return (packed, bits) if network.version == 6 else (b"\0" * 10 + b"\xff\xff" + packed, bits + 96)


# --- what a field says ------------------------------------------------------------------------------------------------

@cython.final
cdef class Origin:
    """Where a request came from, as a field value tells it."""


cdef str address_text(const uint8_t *address):
    """An address as text, IPv4 with dots."""
    cdef char text[64]
    return PyUnicode_FromKindAndData(1, text, fa_format_address(text, address))


cdef Origin as_origin(const fa_walk *walk):
    """Objects from what the walk has come to."""
    cdef Origin origin = Origin.__new__(Origin)
    cdef char text[128]
    cdef size_t n
    origin.back, origin.total = walk.back, walk.total
    if walk.proto.p != NULL:
        origin.proto = walk.proto.p[:walk.proto.n]
    if walk.host.p != NULL:
        origin.host = walk.host.p[:walk.host.n]
    if walk.client.kind == FA_NODE_NONE:
        return origin
    if walk.client.kind == FA_NODE_ADDRESS:
        n = fa_format_address(text, walk.client.address)
    elif walk.client.kind == FA_NODE_NAME:
        n = walk.client.name_n          # at most 64, all of ASCII
        memcpy(text, walk.client.name, n)
    else:       # RFC 7239 section 6.2: "the identity of the preceding entity is not known"
        n = 7
        memcpy(text, b"unknown", n)
    origin.client = (PyUnicode_FromKindAndData(1, text, n), walk.client.port)
    text[n] = c":"
    n += 1 + fa_decimal(text + n + 1, walk.client.port)
    origin.log_client = PyBytes_FromStringAndSize(text, n)
    return origin


cdef inline Part part_of(const char *name, Py_ssize_t n) noexcept:
    """Which of our fields a lower-case name is, or -1."""
    if n == 9:
        return PART_FORWARDED if memcmp(name, b"forwarded", 9) == 0 else -1
    if n < 15 or n > 18 or memcmp(name, b"x-forwarded-", 12) != 0:
        return -1
    name += 12
    if n == 15:
        return PART_FOR if memcmp(name, b"for", 3) == 0 else -1
    if n == 17:
        return PART_PROTO if memcmp(name, b"proto", 5) == 0 else -1
    if n == 18:
        return PART_PREFIX if memcmp(name, b"prefix", 6) == 0 else -1
    return PART_HOST if memcmp(name, b"host", 4) == 0 else PART_PORT if memcmp(name, b"port", 4) == 0 else -1


@cython.final
cdef class Forwarder:
    """Applies what trusted proxies say to scopes. `peers` are those who are believed, `fields` what they are believed
    in; one for each worker."""

    def __init__(self, TrustedPeers peers not None, fields=DEFAULT_FIELDS):
        self.peers = peers
        for field in fields:
            if field not in FIELDS:
                raise ValueError(f"{field!r} is none of {', '.join(FIELDS)}")
            self.believes[FIELDS.index(field)] = True
        self.believes[PART_FORWARDED] = True

    def __dealloc__(self):
        cdef int i
        for i in range(N_SLOTS):
            Py_XDECREF(self.slots[i].value)
            Py_XDECREF(self.slots[i].found)

    def forward(self, scope):
        """Change a scope as its fields say, if its client is trusted. Its list of headers is replaced, not changed."""
        cdef dict changed
        cdef list headers
        if self.peers.is_trusted(scope.get("client"), scope.get("server")):
            changed = dict(scope)
            changed["headers"] = headers = [(bytes(name), bytes(value)) for name, value in scope["headers"]]
            self.apply(changed, headers)
            scope.update(changed)

    cdef bytes apply(self, dict scope, list headers):
        """Change the scope of a request whose peer is trusted; Host is changed in `headers`, a list of pairs of bytes.
        Returns the client for access lines, or None if it stays."""
        cdef Lines lines
        cdef Origin origin
        cdef bytes proto = None, host = None, port, log_client = None
        cdef uint32_t back = 0, total = 0
        if not self._gather(headers, &lines):
            return None
        if lines.count[PART_FORWARDED]:
            origin = self._origin(PART_FORWARDED, headers, &lines)
            proto = origin.proto if self.believes[PART_PROTO] else None
            host = origin.host if self.believes[PART_HOST] else None
            back, total = origin.back, origin.total
            if origin.client is not None and self.believes[PART_FOR]:
                scope["client"], log_client = origin.client, origin.log_client
        else:
            if lines.count[PART_FOR]:
                origin = self._origin(PART_FOR, headers, &lines)
                back, total = origin.back, origin.total
                if origin.client is not None:
                    scope["client"], log_client = origin.client, origin.log_client
            proto = self._element(PART_PROTO, headers, &lines, back, total)
            host = self._element(PART_HOST, headers, &lines, back, total)
        if proto is not None:
            self._set_scheme(scope, proto)
        port = self._element(PART_PORT, headers, &lines, back, total)
        if host is not None:
            self._set_host(scope, headers, lines.host_at, host, port)
        elif port is not None:
            self._set_port(scope, port)
        if lines.count[PART_PREFIX]:
            self._set_prefix(scope, self._element(PART_PREFIX, headers, &lines, back, total))
        return log_client

    cdef bint _gather(self, list headers, Lines *lines) except -1:
        """Find the lines that count; False when there are none."""
        cdef Part part
        cdef bint is_any = False
        cdef Py_ssize_t n, at = -1
        cdef object name
        memset(lines, 0, sizeof(Lines))
        lines.host_at = -1
        for pair in headers:
            at += 1
            name = (<tuple>pair)[0]
            n = PyBytes_GET_SIZE(name)
            if n == 4 and lines.host_at < 0 and memcmp(PyBytes_AS_STRING(name), b"host", 4) == 0:
                lines.host_at = at
            if n != 9 and n < 15:
                continue
            part = part_of(PyBytes_AS_STRING(name), n)
            if part >= 0 and self.believes[part]:
                lines.latest[part] = <PyObject *>(<tuple>pair)[1]
                lines.count[part] += 1
                is_any = True
        # A proxy that sets one kind passes the other as the client sent it. Nearly all set X-Forwarded-*.
        if lines.count[PART_FOR] or lines.count[PART_PROTO] or lines.count[PART_HOST]:
            lines.count[PART_FORWARDED] = 0
        return is_any

    # --- values that were read before -------------------------------------------------------------------------------

    cdef object _recall(self, Part part, bytes value):
        """What the value came to before, or MISSING."""
        cdef Py_ssize_t n = PyBytes_GET_SIZE(value)
        cdef Slot *slot = &self.slots[(PyObject_Hash(value) + part) & (N_SLOTS - 1)]
        if slot.value == NULL or slot.part != part or PyBytes_GET_SIZE(<object>slot.value) != n:
            return MISSING
        if memcmp(PyBytes_AS_STRING(<object>slot.value), PyBytes_AS_STRING(value), n) != 0:
            return MISSING
        return <object>slot.found

    cdef int _keep(self, Part part, bytes value, object found) except -1:
        """Keep what the value came to, in place of another."""
        cdef Py_ssize_t n = PyBytes_GET_SIZE(value)
        cdef Slot *slot = &self.slots[(PyObject_Hash(value) + part) & (N_SLOTS - 1)]
        cdef PyObject *value_before = slot.value
        cdef PyObject *found_before = slot.found
        if n > MAX_VALUE:
            return 0
        Py_INCREF(value)
        Py_INCREF(found)
        slot.value, slot.found, slot.part = <PyObject *>value, <PyObject *>found, part
        Py_XDECREF(value_before)
        Py_XDECREF(found_before)
        return 0

    # --- reading ----------------------------------------------------------------------------------------------------

    cdef Origin _origin(self, Part part, list headers, const Lines *lines):
        """Walk through the lines of X-Forwarded-For or Forwarded, from the right end of the last one."""
        cdef fa_walk walk
        cdef bytes value = <bytes>lines.latest[part]
        cdef Origin origin
        if lines.count[part] == 1:
            found = self._recall(part, value)
            if found is not MISSING:
                return <Origin>found
        memset(&walk, 0, sizeof(walk))
        for value in [value] if lines.count[part] == 1 else reversed(values_of(headers, part)):
            if part == PART_FOR:
                fa_walk_for(&walk, PyBytes_AS_STRING(value), PyBytes_GET_SIZE(value), &self.peers.trust)
            else:
                fa_walk_forwarded(&walk, PyBytes_AS_STRING(value), PyBytes_GET_SIZE(value), &self.peers.trust)
        origin = as_origin(&walk)
        if lines.count[part] == 1:
            self._keep(part, value, origin)
        return origin

    cdef bytes _element(self, Part part, list headers, const Lines *lines, uint32_t back, uint32_t total):
        """The value of a field; of a list, the element at the client's place if each hop has written one, else the
        last, which our own peer has written. None if there is none."""
        cdef bytes value
        cdef list elements
        if not lines.count[part]:
            return None
        value = <bytes>lines.latest[part]
        if lines.count[part] == 1 and memchr(PyBytes_AS_STRING(value), c",", PyBytes_GET_SIZE(value)) == NULL:
            return value
        elements = [element.strip(b" \t") for element in b",".join(values_of(headers, part)).split(b",")]
        elements = [element for element in elements if element]
        if not elements:
            return None
        return elements[len(elements) - 1 - (back if total == <size_t>len(elements) else 0)]

    # --- changing the scope -----------------------------------------------------------------------------------------

    cdef int _set_scheme(self, dict scope, bytes value) except -1:
        pair = SCHEMES.get(value)
        if pair is None:
            pair = SCHEMES.get(value.strip(b" \t").lower())
        if pair is not None:
            scope["scheme"] = (<tuple>pair)[1] if scope["type"] == "websocket" else (<tuple>pair)[0]
        return 0

    cdef int _set_host(self, dict scope, list headers, Py_ssize_t host_at, bytes value, bytes port) except -1:
        found = self._recall(PART_HOST, value)
        if found is MISSING:
            found = as_host(value.strip(b" \t"))
            self._keep(PART_HOST, value, found)
        if found is None:
            return self._set_port(scope, port) if port is not None else 0
        pair, name, own_port = found
        if host_at < 0:
            headers.append(pair)
        else:
            headers[host_at] = pair
        number = as_port(port) if port is not None else 0
        scope["server"] = (name, number or own_port or DEFAULT_PORTS.get(scope["scheme"], 80))
        return 0

    cdef int _set_port(self, dict scope, bytes value) except -1:
        server = scope.get("server")
        number = as_port(value)
        if number and server is not None and server[1] is not None:
            scope["server"] = (server[0], number)
        return 0

    cdef int _set_prefix(self, dict scope, bytes value) except -1:
        """The path under which the proxy mounts the application takes the place of the option root_path."""
        cdef str before, path = scope["path"]
        if value is None:
            return 0
        found = self._recall(PART_PREFIX, value)
        if found is MISSING:
            found = as_prefix(value.strip(b" \t"))
            self._keep(PART_PREFIX, value, found)
        if found is None:
            return 0
        before = scope.get("root_path", "")
        scope["root_path"] = found
        scope["path"] = <str>found + (path[len(before):] if path.startswith(before) else path)
        return 0


cdef list values_of(list headers, Part part):
    """All values of a field, in their order."""
    return [value for name, value in headers if part_of(PyBytes_AS_STRING(name), PyBytes_GET_SIZE(name)) == part]


cdef object as_port(bytes value):
    """A port number, or 0."""
    cdef uint64_t number = 0
    cdef Py_ssize_t n
    value = value.strip(b" \t")
    n = PyBytes_GET_SIZE(value)
    if n > 5 or fa_parse_decimal(PyBytes_AS_STRING(value), n, &number) < 0 or number > 65535:
        return 0
    return number


cdef object as_host(bytes value):
    """(the Host field, its name, its port or 0), or None for what no Host field may hold."""
    if not value or not fa_is_host(PyBytes_AS_STRING(value), PyBytes_GET_SIZE(value)):
        return None
    name, colon, port = value.rpartition(b":")
    if not colon or b"]" in port:
        name, port = value, b""
    if not name:
        return None
    return (HOST, value), name.strip(b"[]").decode("ascii"), as_port(port)


cdef object as_prefix(bytes value):
    """A root_path, or None for what is no plain absolute path: an application puts it in front of its links, where
    '//evil.example' or '/\\evil.example' would lead elsewhere."""
    cdef bytes decoded = PyBytes_FromStringAndSize(NULL, PyBytes_GET_SIZE(value))
    cdef size_t n = fa_percent_decode(PyBytes_AS_STRING(decoded), PyBytes_AS_STRING(value), PyBytes_GET_SIZE(value))
    cdef str path
    try:
        path = decoded[:n].decode("utf-8")
    except UnicodeDecodeError:
        return None
    path = path[:-1] if path.endswith("/") else path
    if not path:
        return "" if value else None
    steps = path.split("/")
    if steps[0] or any(step in ("", ".", "..") for step in steps[1:]):
        return None
    if not path.isprintable() or any(mark in path for mark in "\\?# "):
        return None
    return path
