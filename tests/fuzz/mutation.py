"""Bytes made from other bytes: the cases are the corpus, the fragments what protocols are made of."""

import random

FRAGMENTS = [
    b"\r\n", b"\n", b"\r", b" ", b"\t", b":", b";", b",", b"=", b"\x00", b"\x7f", b"\x80", b"\xff",
    b"\"", b"\\", b"%", b"#",
    b"?", b"*", b"/", b"//", b"@", b"[", b"]", b"0", b"1", b"-1", b"+1", b"0x1", b"ffffffffffffffff",
    b"10000000000000000", b"18446744073709551616", b"99999999999999999999", b"GET ", b"POST ", b"HEAD ", b"OPTIONS ",
    b"CONNECT ", b"PRI ", b"FOO ", b"SOURCE ", b"SETUP ", b" HTTP/1.1\r\n", b" HTTP/1.0\r\n", b" HTTP/2.0\r\n",
    b" HTTP/0.9\r\n", b" RTSP/1.0\r\n", b" ICE/1.0\r\n", b"Host: x\r\n", b"host:\r\n", b"Content-Length: 5\r\n",
    b"Content-Length: 0\r\n", b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: gzip, chunked\r\n",
    b"Transfer-Encoding:\r\n", b"chunked", b"identity", b"Connection: close\r\n", b"Connection: keep-alive\r\n",
    b"Connection: Upgrade\r\n", b"Upgrade: websocket\r\n", b"Upgrade: h2c\r\n", b"Expect: 100-continue\r\n",
    b"X_Forwarded_For: 1\r\n", b"http://y/p", b"http://[::1]:80", b"0\r\n\r\n", b"5\r\nhello\r\n", b"1;a=b\r\nx\r\n",
    b"1;a=\"b\r\n", b"0\r\nA: b\r\n\r\n", b"\r\n\r\n", b"a" * 70, b"A: b\r\n", b" folded\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
]  # fmt: skip


def mutate(rng: random.Random, data: bytes, corpus: list[bytes], most_bytes: int = 2000) -> bytes:
    """One to six small changes of `data`."""
    data = bytearray(data[:most_bytes])
    for _ in range(rng.choice((1, 1, 1, 2, 3, 6))):
        rng.choice(CHANGES)(rng, data, corpus)
    return bytes(data[:most_bytes])


def _place(rng: random.Random, data: bytearray) -> int:
    return rng.randint(0, len(data))


def _flip(rng: random.Random, data: bytearray, corpus: list[bytes]) -> None:
    if data:
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def _replace(rng: random.Random, data: bytearray, corpus: list[bytes]) -> None:
    if data:
        data[rng.randrange(len(data))] = rng.randrange(256)


def _insert(rng: random.Random, data: bytearray, corpus: list[bytes]) -> None:
    at = _place(rng, data)
    data[at:at] = rng.choice(FRAGMENTS)


def _overwrite(rng: random.Random, data: bytearray, corpus: list[bytes]) -> None:
    at, piece = _place(rng, data), rng.choice(FRAGMENTS)
    data[at : at + len(piece)] = piece


def _delete(rng: random.Random, data: bytearray, corpus: list[bytes]) -> None:
    at = _place(rng, data)
    del data[at : at + rng.choice((1, 1, 2, 4, 16))]


def _repeat(rng: random.Random, data: bytearray, corpus: list[bytes]) -> None:
    at = _place(rng, data)
    piece = bytes(data[at : at + rng.choice((1, 2, 8, 40))])
    data[at:at] = piece * rng.choice((1, 1, 2, 20))


def _swap_case(rng: random.Random, data: bytearray, corpus: list[bytes]) -> None:
    at = _place(rng, data)
    data[at : at + 8] = bytes(data[at : at + 8]).swapcase()


def _splice(rng: random.Random, data: bytearray, corpus: list[bytes]) -> None:
    other = rng.choice(corpus)
    data[_place(rng, data) :] = other[rng.randint(0, len(other)) :]


def _append(rng: random.Random, data: bytearray, corpus: list[bytes]) -> None:
    data += rng.choice(corpus)


CHANGES = (_flip, _replace, _insert, _insert, _overwrite, _delete, _repeat, _swap_case, _splice, _append)
