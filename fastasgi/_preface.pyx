# cython: freethreading_compatible=True
"""What a connection says before its first request: the header of the PROXY protocol, versions 1 and 2.

A proxy that passes bytes on without looking into them tells in this header who its client is. With the option
`proxy_protocol` every connection begins with one: a receiver "MUST not try to guess whether the protocol header is
present or not", because a client that may leave it out may also write one. It is taken from peers of
`forwarded_allow_ips` alone; what anybody else sends is refused, header or not. Before TLS `Acceptor` reads it.

Source: "The PROXY protocol, versions 1 & 2", HAProxy, 2020-03-05.
"""

import logging

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE

from fastasgi._access cimport client_name
from fastasgi._channel cimport Channel
from fastasgi._live cimport count_live
from fastasgi._proxied cimport as_proxy_header
from fastasgi._response cimport error_reply
from fastasgi._runtime cimport TIMEOUT_FIRST_BYTE, TIMEOUT_HEAD, Runtime, Timeout
from fastasgi.fa cimport FA_PROXY_BAD, FA_PROXY_MORE, fa_proxy_header, fa_read_proxy_header

cdef object logger = logging.getLogger("fastasgi.error")


@cython.final
cdef class ProxyPreface(Handler):
    """Reads the header, puts its addresses into the channel, and gives the channel its real handler, which
    `handler_factory` makes, with the bytes behind the header."""

    def __cinit__(self, handler_factory not None, Channel channel not None, Runtime runtime not None):
        self.handler_factory, self.channel, self.runtime = handler_factory, channel, runtime
        channel.arm(TIMEOUT_FIRST_BYTE)

    cdef int feed(self, const char *p, size_t n, object owner) except -1:
        cdef ProxyPreface _alive = self      # the channel lets go of us
        cdef Channel channel = self.channel
        cdef bytes seen = None
        cdef fa_proxy_header header
        if channel is None:
            return 0
        if not channel.has_trusted_peer():
            return self._refuse("one that a peer of forwarded_allow_ips has sent")
        if self.seen is None:
            channel.arm(TIMEOUT_HEAD)
        else:
            seen = self.seen + p[:n]
            p, n = PyBytes_AS_STRING(seen), PyBytes_GET_SIZE(seen)
        header = fa_read_proxy_header(p, n)
        if header.kind == FA_PROXY_MORE:
            self.seen = PyBytes_FromStringAndSize(p, n) if seen is None else seen
            return 0
        if header.kind == FA_PROXY_BAD:
            return self._refuse(header.fault.decode("ascii"))
        as_proxy_header(&header).apply_to(channel)
        self.channel = None
        channel.handler = self.handler_factory(channel, self.runtime)
        if n > header.size:
            channel.handler.feed(p + header.size, n - header.size, None)
        return 0

    cdef int _refuse(self, str expected) except -1:
        """Say why, for a person who looks: what was sent is no header, so it may be a request."""
        cdef Channel channel = self.channel
        self.channel = None
        logger.info("client %s sent no PROXY header that can be taken: expected %s",
                    client_name(channel.client).decode("utf-8", "replace") or "of a Unix socket", expected)
        answer = error_reply(400, "expected a PROXY protocol header: " + expected, self.runtime.block, False)
        channel.write(answer, None, None, False)
        return channel.close(True)

    cdef int eof(self) except -1:
        return self.channel.close(False) if self.channel is not None else 0

    cdef int eof_ahead(self) except -1:
        return 0

    cdef int writable(self) except -1:
        return 0

    cdef int resumed(self) except -1:
        return 0

    cdef int lost(self, object error) except -1:
        self.channel = None
        return 0

    cdef int expired(self, Timeout timeout) except -1:
        return self.eof()

    cdef int drain(self) except -1:
        if self.seen is None and self.channel is not None and not self.channel.has_input():
            return self.eof()
        return 0

    cdef int disconnect(self) except -1:
        return self.channel.abort() if self.channel is not None else 0


count_live(ProxyPreface)
