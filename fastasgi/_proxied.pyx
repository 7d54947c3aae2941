# cython: freethreading_compatible=True
"""What a proxy says of a connection that it passes on: the header of the PROXY protocol, versions 1 and 2, read.

Two places read one: `ProxyPreface` from a channel in clear text, `Acceptor` from the socket before TLS begins.

Source: "The PROXY protocol, versions 1 & 2", HAProxy, 2020-03-05.
"""

import os

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE

from fastasgi._channel cimport TRUST_DENIED, TRUST_UNASKED, Channel
from fastasgi._forwarded cimport address_text
from fastasgi.fa cimport (
    FA_PROXY_ADDRESSES, FA_PROXY_BAD, FA_PROXY_LOCAL, FA_PROXY_MORE, FA_PROXY_PATH, FA_PROXY_PATHS, FA_PROXY_UNKNOWN,
    fa_proxy_header, fa_read_proxy_header,
)


@cython.final
cdef class ProxyHeader:
    """One whole header; `size` is its length in bytes."""

    cdef int apply_to(self, Channel channel) except -1:
        """Put the client in the place of the proxy, and the address that it has connected to in the place of ours,
        which are both known."""
        if self.kind == FA_PROXY_UNKNOWN:
            # Somebody else speaks from here on, whose fields must not be believed because the proxy is.
            channel.trust = TRUST_DENIED
        if self.kind == FA_PROXY_UNKNOWN or self.kind == FA_PROXY_LOCAL:
            return 0        # LOCAL: the proxy itself
        channel.client = self.client
        channel.server = self.server or channel.server
        channel.log_client = None
        channel.trust = TRUST_UNASKED
        return 0


def read_proxy_header(bytes data not None):
    """Return the `ProxyHeader` at the beginning of `data`, None if more bytes are needed for a whole one.

    Raises `ValueError`, which says what was expected, for bytes that cannot become a header.
    """
    cdef fa_proxy_header header = fa_read_proxy_header(PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))
    if header.kind == FA_PROXY_MORE:
        return None
    if header.kind == FA_PROXY_BAD:
        raise ValueError(header.fault.decode("ascii"))
    return as_proxy_header(&header)


cdef ProxyHeader as_proxy_header(const fa_proxy_header *header):
    """Objects from a whole header."""
    cdef ProxyHeader made = ProxyHeader.__new__(ProxyHeader)
    made.kind, made.size = header.kind, header.size
    if header.kind == FA_PROXY_ADDRESSES:
        made.client = (address_text(header.source), header.source_port)
        made.server = (address_text(header.destination), header.destination_port)
    elif header.kind == FA_PROXY_PATHS:
        made.client = path_address(header.source_path)
        made.server = path_address(header.destination_path)
    return made


cdef object path_address(const char *path):
    """The path of a Unix socket as it stands in a scope, (path, None), or None for a socket without a name."""
    cdef bytes name = path[:FA_PROXY_PATH]
    if name[0]:
        return os.fsdecode(name.partition(b"\0")[0]), None
    name = name.rstrip(b"\0")
    return (os.fsdecode(b"@" + name[1:]), None) if name else None
