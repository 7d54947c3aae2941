# cython: freethreading_compatible=True
"""The opening handshake of a WebSocket (RFC 6455 section 4), read from the head of a request.

That the request has HTTP/1.1, `Connection: upgrade` and some `Upgrade` is the parser's finding; only such come here.
"""

import binascii
import hashlib

cimport cython
from fastasgi._deflate cimport negotiate
from fastasgi.fa cimport fa_is_token

cdef bytes GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
cdef enum:
    KEY_BYTES = 16


cdef list items_of(list values):
    """The elements of a comma-separated list over several field lines (RFC 9110 section 5.6.1)."""
    cdef list found = []
    for value in values:
        for item in value.split(b","):
            item = item.strip(b" \t")
            if item:
                found.append(item)
    return found


cdef list values_of(list headers, bytes wanted):
    return [value for name, value in headers if name == wanted]


@cython.final
cdef class Handshake:
    """One opening handshake, made by read_handshake()."""

    cdef int _read(self, str method, list headers, bint has_body, bint wants_deflate) except -1:
        """Check the request (section 4.2.1) and keep what the answer needs; returns the status."""
        if method != "GET":
            self.reason = "expected the method GET for a WebSocket"
            return 400
        if has_body:
            self.reason = "expected no body in a WebSocket's handshake"
            return 400
        versions = values_of(headers, b"sec-websocket-version")
        if versions != [b"13"]:
            self.reason = "expected Sec-WebSocket-Version: 13"
            return 426
        keys = values_of(headers, b"sec-websocket-key")
        if len(keys) != 1 or not is_key(keys[0]):
            self.reason = "expected one Sec-WebSocket-Key of 16 bytes in base64"
            return 400
        for name in items_of(values_of(headers, b"sec-websocket-protocol")):
            if not fa_is_token(name, len(name)):
                self.reason = "expected tokens in Sec-WebSocket-Protocol"
                return 400
            self.subprotocols.append(name.decode("ascii"))
        digest = hashlib.sha1(keys[0] + GUID, usedforsecurity=False).digest()
        self.accept = binascii.b2a_base64(digest, newline=False)
        if wants_deflate:
            self.deflate = negotiate(values_of(headers, b"sec-websocket-extensions"))
        return 101


cdef bint is_key(bytes value) except -1:
    """True for 16 bytes in base64."""
    try:
        return len(value) == 24 and len(binascii.a2b_base64(value, strict_mode=True)) == KEY_BYTES
    except binascii.Error:
        return False


cpdef Handshake read_handshake(str method, list headers, bint has_body, bint wants_deflate):
    """The handshake in a request that offers an upgrade, or None when a WebSocket is not what it offers.

    `headers` are pairs of bytes, names in lower case. `wants_deflate`: compression may be negotiated.
    """
    cdef Handshake made
    if b"websocket" not in [item.lower() for item in items_of(values_of(headers, b"upgrade"))]:
        return None
    made = Handshake()
    made.subprotocols = []
    made.reason = ""
    made.status = made._read(method, headers, has_body, wants_deflate)
    return made
