"""A WebSocket client's bytes, made and read by hand: so that tests say what goes over the wire, right or wrong."""

from typing import NamedTuple

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
KEY = bytes((0x37, 0xFA, 0x21, 0x3D))
SEC_KEY = "dGhlIHNhbXBsZSBub25jZQ=="  # of RFC 6455 section 1.3, and what it is answered with:
SEC_ACCEPT = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


def masked(data: bytes, key: bytes = KEY) -> bytes:
    """The payload as a client sends it, or back again."""
    return bytes(byte ^ key[at % 4] for at, byte in enumerate(data))


def frame(opcode: int, payload: bytes | str = b"", *, fin: bool = True, rsv: int = 0, key: bytes | None = KEY,
          length: int | None = None, wide: int | None = None) -> bytes:  # fmt: skip
    """One frame of a client. `rsv` has the bits as in the first byte (0x40, 0x20, 0x10); `length` is announced in
    place of the payload's own, `wide` the bytes of its long form; without `key` the frame is not masked."""
    payload = payload.encode() if isinstance(payload, str) else payload
    length = len(payload) if length is None else length
    if wide is None:
        wide = 0 if length < 126 else 2 if length < 1 << 16 else 8
    short = {0: length, 2: 126, 8: 127}[wide]
    head = bytes((opcode | rsv | (0x80 if fin else 0), short | (0x80 if key else 0)))
    head += length.to_bytes(wide, "big") if wide else b""
    return head + key + masked(payload, key) if key else head + payload


def close(code: int | None = None, reason: bytes | str = b"") -> bytes:
    """A client's close frame."""
    reason = reason.encode() if isinstance(reason, str) else reason
    return frame(CLOSE, (b"" if code is None else code.to_bytes(2, "big")) + reason)


class Frame(NamedTuple):
    """A frame of the server."""

    opcode: int
    payload: bytes
    fin: bool = True
    rsv: int = 0


def read(data: bytes) -> list[Frame]:
    """The server's frames in `data`, which must end with one, be unmasked, and have lengths in the shortest form."""
    found = []
    while data:
        first, second = data[:2]
        assert not second & 0x80, "a server's frame is masked"
        wide = {126: 2, 127: 8}.get(second, 0)
        length = int.from_bytes(data[2 : 2 + wide], "big") if wide else second
        assert wide == (0 if length < 126 else 2 if length < 1 << 16 else 8), "the length is not in its shortest form"
        assert len(data) >= 2 + wide + length, "the last frame is cut"
        payload = data[2 + wide : 2 + wide + length]
        found.append(Frame(first & 0xF, payload, bool(first & 0x80), first & 0x70))
        data = data[2 + wide + length :]
    return found


def handshake(path: str = "/", *lines: str, without: str = "", key: str = SEC_KEY, method: str = "GET") -> bytes:
    """The opening handshake of a client; `without` leaves the field of this name out."""
    fields = ["Host: example.com", "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13",
              f"Sec-WebSocket-Key: {key}"]  # fmt: skip
    fields = [field for field in fields if field.partition(":")[0].lower() != without.lower()]
    return "\r\n".join([f"{method} {path} HTTP/1.1", *fields, *lines, "", ""]).encode("latin-1")
