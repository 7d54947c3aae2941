# cython: freethreading_compatible=True
"""permessage-deflate (RFC 7692): what was negotiated for one WebSocket, and its two streams.

Memory of a connection that compresses, in both directions at work: the compressor takes 32 KiB (window of 12 bits,
memLevel 5) and is made by the first message that is compressed; an idle connection gives it back, because a new one may
begin at any message. The decompressor takes 11 KiB, or 40 KiB when the client does not let us choose its window; it
must remember what the client may refer to, so it stays, unless the client said that it will not.
"""

import re
import zlib

cimport cython
from cpython.bytes cimport PyBytes_GET_SIZE

cdef enum:
    LEVEL = 1               # level 6 takes three times as long for a tenth less
    MEMORY_LEVEL = 5
    WINDOW_BITS = 12        # 4 KiB: messages are short, and every connection has its own window
    MAX_BITS = 15
    MAX_ENDS = 16           # last blocks in one message: each costs a copy of what is behind it

cdef bytes TAIL = b"\x00\x00\xff\xff"       # of every flushed block, left out on the wire (section 7.2.1)

cdef bytes TOKEN = b"([!#$%&'*+.^_`|~0-9A-Za-z-]+)"
cdef object OFFER = re.compile(rb"""[ \t]*%b((?:[^,"]|"(?:[^"\\]|\\.)*")*)(?:,|\Z)""" % TOKEN)
cdef object PARAMETER = re.compile(rb"""[ \t]*;[ \t]*%b(?:[ \t]*=[ \t]*(?:%b|"([^"\\]*)"))?[ \t]*""" % (TOKEN, TOKEN))
cdef object BITS = re.compile(rb"[89]|1[0-5]")
cdef bytes NAME = b"permessage-deflate"


class BadDeflate(Exception):
    """The client's compressed bytes cannot be read."""


class TooBig(Exception):
    """The message would be longer than allowed."""


cdef object chosen = None


cdef object library():
    """zlib-ng where it is installed (the extra `deflate`), two to four times as fast; else zlib."""
    global chosen
    if chosen is None:
        try:
            from zlib_ng import zlib_ng
            chosen = zlib_ng
        except ImportError:
            chosen = zlib
    return chosen


@cython.final
cdef class Deflate:
    """The compression of one WebSocket, made by negotiate()."""

    cdef bytes compress(self, object data):
        """The payload of one message, compressed, without the four bytes that every one ends with. `data` is bytes."""
        cdef object lib = library()
        cdef object compressor = self.compressor
        cdef bytes first, rest
        if compressor is None:
            compressor = lib.compressobj(LEVEL, lib.DEFLATED, -self.server_bits, MEMORY_LEVEL)
            if self.server_takeover:
                self.compressor = compressor
        self.is_used = True
        first = compressor.compress(data)
        rest = compressor.flush(lib.Z_SYNC_FLUSH)
        rest = rest[:PyBytes_GET_SIZE(rest) - 4]
        return first + rest if first else rest

    cdef bytes inflate(self, bytes data, size_t most):
        """The payload of one message, at most so many bytes. Raises TooBig before it has inflated more, and BadDeflate.
        """
        cdef object lib = library()
        cdef list parts = []
        cdef size_t n = 0
        cdef int ends = 0
        cdef object decompressor = self.decompressor
        try:
            for piece in (data, TAIL):
                while piece:
                    if decompressor is None:
                        decompressor = lib.decompressobj(-self.client_bits)
                    part = decompressor.decompress(piece, most - n + 1)
                    n += len(part)
                    if part:
                        parts.append(part)
                    if n > most or decompressor.unconsumed_tail:
                        raise TooBig
                    piece = b""
                    if decompressor.eof:        # a last block, which is allowed (section 7.2.3.4)
                        piece = decompressor.unused_data
                        decompressor = None
                        ends += 1
                        if ends > MAX_ENDS:
                            raise BadDeflate(f"more than {MAX_ENDS} last blocks in one message")
        except lib.error as error:
            raise BadDeflate(str(error)) from None
        self.decompressor = decompressor if self.client_takeover else None
        return parts[0] if len(parts) == 1 else b"".join(parts)

    cdef int release(self) except -1:
        """Give the compressor back if nothing was compressed since the last call."""
        if not self.is_used:
            self.compressor = None
        self.is_used = False
        return 0


cpdef Deflate negotiate(list offers):
    """The first offer of the client that we take (section 5), or None. `offers` are values of Sec-WebSocket-Extensions.

    One that is malformed, or has a parameter that is unknown, doubled, or of an impossible value, is declined.
    """
    cdef Deflate made
    for value in offers:
        at = 0
        while at < len(value):
            offer = OFFER.match(value, at)
            if offer is None:
                break
            at = offer.end()
            if offer[1].lower() == NAME:
                made = accepted(offer[2])
                if made is not None:
                    return made
    return None


cdef dict parameters_of(bytes text):
    """Parameters by name, None for those without a value; None where the text is malformed or one is doubled."""
    cdef dict found = {}
    at = 0
    while at < len(text):
        match = PARAMETER.match(text, at)
        if match is None or match[1].lower() in found:
            return None if text[at:].strip(b" \t") else found
        found[match[1].lower()] = match[2] if match[2] is not None else match[3]
        at = match.end()
    return found


cdef Deflate accepted(bytes text):
    """One offer as we take it, or None (section 7.1)."""
    cdef Deflate made
    cdef dict found = parameters_of(text)
    if found is None:
        return None
    server_alone, client_alone = b"server_no_context_takeover" in found, b"client_no_context_takeover" in found
    client_limits = b"client_max_window_bits" in found
    if found.pop(b"server_no_context_takeover", None) is not None \
            or found.pop(b"client_no_context_takeover", None) is not None:
        return None     # a value where none belongs
    server_bits = found.pop(b"server_max_window_bits", b"15")
    client_bits = found.pop(b"client_max_window_bits", None)
    if client_bits is None:
        client_bits = b"15"
    if found or server_bits is None or not BITS.fullmatch(server_bits) or not BITS.fullmatch(client_bits):
        return None     # a name that is unknown, or a value that is none
    if server_bits == b"8":
        return None     # zlib cannot write with a window of 8 bits
    made = Deflate()
    made.server_takeover, made.client_takeover = not server_alone, not client_alone
    made.server_bits = min(int(server_bits), <int>WINDOW_BITS)
    made.client_bits = min(int(client_bits), <int>WINDOW_BITS) if client_limits else MAX_BITS
    made.response = b"%b; server_max_window_bits=%d%b%b%b" % (
        NAME, made.server_bits,
        b"; client_max_window_bits=%d" % made.client_bits if client_limits else b"",
        b"" if made.server_takeover else b"; server_no_context_takeover",
        b"" if made.client_takeover else b"; client_no_context_takeover",
    )
    made.client_bits = max(made.client_bits, 9)     # a larger window reads the same
    return made
