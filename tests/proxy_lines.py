"""Headers of the PROXY protocol, versions 1 and 2: those that are whole, and what is none."""

import socket
import struct

from drive import GET

PROXY = ("127.0.0.1", 50000)
SERVER = ("127.0.0.1", 8000)
SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
LINE = b"PROXY TCP4 192.0.2.1 198.51.100.2 4711 443\r\n"
CLIENT, REACHED = ("192.0.2.1", 4711), ("198.51.100.2", 443)


def v2(family=0x11, addresses=b"", *, command=0x21, length=None, extras=b""):
    payload = addresses + extras
    return (
        SIGNATURE + struct.pack("!BBH", command, family, len(payload) if length is None else length) + payload
    )


def ipv4(source="192.0.2.1", destination="198.51.100.2", ports=(4711, 443)):
    return socket.inet_aton(source) + socket.inet_aton(destination) + struct.pack("!HH", *ports)


def ipv6(source="2001:db8::1", destination="2001:db8::2", ports=(4711, 443)):
    pack = socket.inet_pton
    return pack(socket.AF_INET6, source) + pack(socket.AF_INET6, destination) + struct.pack("!HH", *ports)


def paths(source=b"/run/client", destination=b"/run/front"):
    return source.ljust(108, b"\0") + destination.ljust(108, b"\0")


def tlv(kind, value):
    return struct.pack("!BH", kind, len(value)) + value


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def with_checksum(extras=b"", flip=0):
    empty = v2(0x11, ipv4(), extras=extras + tlv(3, b"\0\0\0\0") + tlv(4, b"xx"))
    crc = crc32c(empty) ^ flip
    return v2(0x11, ipv4(), extras=extras + tlv(3, struct.pack("!I", crc)) + tlv(4, b"xx"))


# Each with the client and the server of the scope.
HEADERS = {
    "v1 IPv4": (LINE, CLIENT, REACHED),
    "v1 IPv6": (
        b"PROXY TCP6 2001:db8::1 2001:DB8:0::2 65535 0\r\n",
        ("2001:db8::1", 65535),
        ("2001:db8::2", 0),
    ),
    "v1 mapped": (b"PROXY TCP6 ::ffff:192.0.2.1 ::1 1 2\r\n", ("192.0.2.1", 1), ("::1", 2)),
    "v1 longest": (
        b"PROXY TCP6 " + b"ffff:" * 7 + b"ffff " + b"ffff:" * 7 + b"ffff 65535 65535\r\n",
        ("ffff" + 7 * ":ffff", 65535),
        ("ffff" + 7 * ":ffff", 65535),
    ),
    "v1 unknown": (b"PROXY UNKNOWN\r\n", PROXY, SERVER),
    "v1 unknown, with more": (b"PROXY UNKNOWN ffff::1 \x00whatever 65535\r\n", PROXY, SERVER),
    "v2 IPv4": (v2(0x11, ipv4()), CLIENT, REACHED),
    "v2 IPv4, datagrams": (v2(0x12, ipv4()), CLIENT, REACHED),
    "v2 IPv6": (v2(0x21, ipv6()), ("2001:db8::1", 4711), ("2001:db8::2", 443)),
    "v2 mapped": (v2(0x21, ipv6("::ffff:192.0.2.1")), CLIENT, ("2001:db8::2", 443)),
    "v2 paths": (v2(0x31, paths()), ("/run/client", None), ("/run/front", None)),
    "v2 paths without names": (v2(0x31, paths(b"", b"")), None, SERVER),
    "v2 abstract paths": (v2(0x31, paths(b"\0a", b"\0b c")), ("@a", None), ("@b c", None)),
    "v2 whole path": (v2(0x31, paths(b"/" * 108)), ("/" * 108, None), ("/run/front", None)),
    "v2 unspecified": (v2(0x00, b""), PROXY, SERVER),
    "v2 unspecified, with more": (v2(0x00, b"anything"), PROXY, SERVER),
    "v2 local": (v2(0x00, b"", command=0x20), PROXY, SERVER),
    "v2 local, with addresses": (v2(0x11, ipv4(), command=0x20), PROXY, SERVER),
    "v2 TLVs": (
        v2(0x11, ipv4(), extras=tlv(1, b"h2") + tlv(0x20, b"\1" * 40) + tlv(0xE0, b"")),
        CLIENT,
        REACHED,
    ),
    "v2 no-op TLVs": (
        v2(0x21, ipv6(), extras=tlv(4, b"\0" * 3000)),
        ("2001:db8::1", 4711),
        ("2001:db8::2", 443),
    ),
    "v2 checksum": (with_checksum(tlv(1, b"http/1.1")), CLIENT, REACHED),
}

BAD = {
    "a request": GET,
    "a request with P": b"POST / HTTP/1.1\r\nHost: a\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "lower case": b"proxy TCP4 192.0.2.1 198.51.100.2 1 2\r\n",
    "two blanks": b"PROXY  TCP4 192.0.2.1 198.51.100.2 1 2\r\n",
    "a blank at the end": b"PROXY TCP4 192.0.2.1 198.51.100.2 1 2 \r\n",
    "LF alone": b"PROXY TCP4 192.0.2.1 198.51.100.2 1 2\n\r\n",
    "CR alone": b"PROXY TCP4 192.0.2.1 198.51.100.2 1 2\rx",
    "no ports": b"PROXY TCP4 192.0.2.1 198.51.100.2\r\n",
    "other family": b"PROXY TCP4 ::1 ::1 1 2\r\n",
    "mixed families": b"PROXY TCP6 ::1 192.0.2.1 1 2\r\n",
    "UDP": b"PROXY UDP4 192.0.2.1 192.0.2.1 1 2\r\n",
    "TCP5": b"PROXY TCP5 192.0.2.1 192.0.2.1 1 2\r\n",
    "a large port": b"PROXY TCP4 192.0.2.1 198.51.100.2 1 65536\r\n",
    "a port with a zero": b"PROXY TCP4 192.0.2.1 198.51.100.2 01 2\r\n",
    "a signed port": b"PROXY TCP4 192.0.2.1 198.51.100.2 +1 2\r\n",
    "a bad address": b"PROXY TCP4 192.0.2.256 198.51.100.2 1 2\r\n",
    "nothing": b"PROXY \r\n",
    "a long line": b"PROXY UNKNOWN " + b"x" * 92 + b"\r\n",
    "an endless line": b"PROXY UNKNOWN " + b"x" * 500,
    "almost a signature": SIGNATURE[:-1] + b"\r!\x11\x00\x00",
    "version 1 in binary": v2(0x11, ipv4(), command=0x11),
    "version 3": v2(0x11, ipv4(), command=0x31),
    "an unknown command": v2(0x11, ipv4(), command=0x22),
    "an unknown family": v2(0x41, ipv4()),
    "an unknown protocol": v2(0x13, ipv4()),
    "too short for IPv4": v2(0x11, b"x" * 11),
    "too short for IPv6": v2(0x21, b"x" * 35),
    "too short for paths": v2(0x31, b"x" * 215),
    "too long": v2(0x11, ipv4(), length=4081),
    "a TLV cut off": v2(0x11, ipv4(), extras=b"\x01\x00"),
    "a TLV past the end": v2(0x11, ipv4(), extras=b"\x01\x00\x02x"),
    "a wrong checksum": with_checksum(flip=1),
    "a short checksum": v2(0x11, ipv4(), extras=tlv(3, b"\0\0")),
}
