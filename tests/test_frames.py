"""The frame parser: every cut of every case gives the same events; what is wrong is told as soon as it is certain."""

import itertools
import random
import zlib

import pytest
from frames import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, close, frame

from fastasgi._probe import read_frames

MAX = 1000
WRONG = "expected"

# name -> bytes, what comes of them
GOOD = {
    "text": (frame(TEXT, "hello"), [("message", "hello")]),
    "text beyond ASCII": (frame(TEXT, "hé€😀"), [("message", "hé€😀")]),
    "binary": (frame(BINARY, b"\x00\xff\x80"), [("message", b"\x00\xff\x80")]),
    "empty": (frame(TEXT) + frame(BINARY), [("message", ""), ("message", b"")]),
    "one byte": (frame(TEXT, "x") + frame(BINARY, b"y"), [("message", "x"), ("message", b"y")]),
    "125, 126, 127 bytes": (
        b"".join(frame(BINARY, bytes(n)) for n in (125, 126, 127)), [("message", bytes(n)) for n in (125, 126, 127)],
    ),
    "in fragments": (
        frame(TEXT, "he", fin=False) + frame(CONTINUATION, "l", fin=False) + frame(CONTINUATION, "lo"),
        [("message", "hello")],
    ),
    "a character over fragments": (
        frame(TEXT, b"\xe2", fin=False) + frame(CONTINUATION, b"\x82", fin=False) + frame(CONTINUATION, b"\xac"),
        [("message", "€")],
    ),
    "empty fragments": (
        frame(TEXT, fin=False) + frame(CONTINUATION, fin=False) + frame(CONTINUATION, "x"), [("message", "x")],
    ),
    "only empty fragments": (frame(BINARY, fin=False) + frame(CONTINUATION), [("message", b"")]),
    "control frames between": (
        frame(TEXT, "a", fin=False) + frame(PING, b"p") + frame(CONTINUATION, "b", fin=False) + frame(PONG)
        + frame(CONTINUATION, "c") + frame(TEXT, "d"),
        [("ping", b"p"), ("pong", b""), ("message", "abc"), ("message", "d")],
    ),
    "control of 125 bytes": (frame(PING, bytes(125)), [("ping", bytes(125))]),
    "close without a code": (close(), [("close", 1005, "")]),
    "close with a reason": (close(1000, "héllo"), [("close", 1000, "héllo")]),
    "nothing is read behind a close": (close(3000) + frame(TEXT, "x") + b"\xff\xff", [("close", 3000, "")]),
    "as large as allowed": (frame(BINARY, bytes(MAX)), [("message", bytes(MAX))]),
    "as large as allowed in fragments": (
        frame(TEXT, b"x" * 600, fin=False) + frame(CONTINUATION, b"y" * 400), [("message", "x" * 600 + "y" * 400)],
    ),
    "key of zeros": (frame(TEXT, "hello", key=bytes(4)), [("message", "hello")]),
}  # fmt: skip

PROTOCOL, DATA, SIZE = 1002, 1007, 1009
BAD = {
    "RSV2": (frame(TEXT, rsv=0x20), PROTOCOL, "bad-rsv"),
    "RSV3": (frame(TEXT, rsv=0x10), PROTOCOL, "bad-rsv"),
    "RSV1 without an extension": (frame(TEXT, rsv=0x40), PROTOCOL, "bad-rsv"),
    "RSV1 on a control frame": (frame(PING, rsv=0x40), PROTOCOL, "bad-rsv"),
    **{f"opcode {n}": (frame(n), PROTOCOL, "bad-opcode") for n in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)},
    "ping in fragments": (frame(PING, fin=False), PROTOCOL, "cut-control"),
    "close in fragments": (frame(CLOSE, fin=False), PROTOCOL, "cut-control"),
    "ping of 126 bytes": (frame(PING, bytes(126)), PROTOCOL, "big-control"),
    "close of 126 bytes": (frame(CLOSE, b"\x03\xe8" + b"x" * 124), PROTOCOL, "big-control"),
    "without a mask": (frame(TEXT, "x", key=None), PROTOCOL, "no-mask"),
    "a long form for 125": (frame(TEXT, bytes(125), wide=2), PROTOCOL, "bad-length"),
    "a longer form for 65535": (frame(TEXT, length=65535, wide=8), PROTOCOL, "bad-length"),
    "a length of 64 bits": (frame(TEXT, length=1 << 63), PROTOCOL, "bad-length"),
    "a stray continuation": (frame(CONTINUATION, "x"), PROTOCOL, "stray-continuation"),
    "a stray continuation behind a message": (
        frame(TEXT, "x") + frame(CONTINUATION, "x"), PROTOCOL, "stray-continuation",
    ),
    "no continuation": (frame(TEXT, "x", fin=False) + frame(TEXT, "y"), PROTOCOL, "missing-continuation"),
    "larger than allowed": (frame(BINARY, bytes(MAX + 1)), SIZE, "too-big"),
    "larger by its announcement": (frame(BINARY, length=(1 << 63) - 1), SIZE, "too-big"),
    "larger in fragments": (frame(BINARY, bytes(MAX), fin=False) + frame(CONTINUATION, b"x"), SIZE, "too-big"),
    "a byte that is no UTF-8": (frame(TEXT, b"ab\xffcd"), DATA, "bad-text"),
    "a surrogate": (frame(TEXT, b"\xed\xa0\x80"), DATA, "bad-text"),
    "a long form of a slash": (frame(TEXT, b"\xc0\xaf"), DATA, "bad-text"),
    "above the last character": (frame(TEXT, b"\xf4\x90\x80\x80"), DATA, "bad-text"),
    "a cut character": (frame(TEXT, b"\xe2\x82"), DATA, "bad-text"),
    "a cut character in fragments": (frame(TEXT, b"\xe2", fin=False) + frame(CONTINUATION), DATA, "bad-text"),
    "bad text in a fragment": (frame(TEXT, b"a\xff", fin=False) + frame(PING, b"x"), DATA, "bad-text"),
    "close of one byte": (frame(CLOSE, b"\x03"), PROTOCOL, "bad-close"),
    **{
        f"close code {code}": (close(code), PROTOCOL, "bad-close-code")
        for code in (0, 999, 1004, 1005, 1006, 1015, 1016, 1999, 2999, 5000, 65535)
    },
    "a reason that is no UTF-8": (close(1000, b"\xff"), DATA, "bad-reason"),
}  # fmt: skip


def cuts(data):
    """Whole, byte by byte, and at every split (for long data at some)."""
    yield [data]
    yield [data[at : at + 1] for at in range(len(data))]
    for at in range(1, len(data)) if len(data) < 300 else range(1, len(data), 37):
        yield [data[:at], data[at:]]


@pytest.mark.parametrize("name", GOOD)
def test_good_frames(name):
    data, expected = GOOD[name]
    for chunks in cuts(data):
        assert read_frames(chunks, MAX) == expected, [len(chunk) for chunk in chunks]


@pytest.mark.parametrize("name", BAD)
def test_bad_frames(name):
    data, code, kind = BAD[name]
    for chunks in cuts(data):
        *before, last = read_frames(chunks, MAX)
        assert last == ("failed", code, kind)
        assert all(event[0] == "message" for event in before)


@pytest.mark.parametrize(("name", "where"), [
    ("RSV2", 1), ("opcode 3", 1), ("ping in fragments", 1), ("a stray continuation", 1), ("without a mask", 2),
    ("ping of 126 bytes", 2), ("a long form for 125", 4), ("larger by its announcement", 14),
])  # fmt: skip
def test_headers_are_refused_at_their_first_wrong_byte(name, where):
    data, _, kind = BAD[name]
    assert read_frames([data[: where - 1]] if where > 1 else [], MAX) == []
    assert read_frames([data[:where]], MAX)[-1][2] == kind


@pytest.mark.parametrize(("text", "where"), [
    (b"ab\xffcd", 3), (b"\xc0\xaf", 1), (b"\xed\xa0\x80", 2), (b"\xf4\x90\x80\x80", 2), (b"\xe0\x80\x80", 2),
    (b"\xf0\x80\x80\x80", 2), (b"\xf5", 1), (b"\xe2\x82x", 3), (b"0123456789\x80", 11),
])  # fmt: skip
def test_text_is_refused_at_its_first_impossible_byte(text, where):
    data = frame(TEXT, text + b"x" * 50)
    assert read_frames([data[: 6 + where - 1]], MAX) == []
    assert read_frames([data[: 6 + where]], MAX) == [("failed", 1007, "bad-text")]


def test_text_is_judged_as_cpython_judges_it():
    """All sequences of up to four bytes out of the ones at which UTF-8 turns."""
    edges = bytes.fromhex("00 7f 80 8f 90 9f a0 bf c0 c1 c2 df e0 e1 ec ed ee ef f0 f1 f3 f4 f5 ff")
    for length in (1, 2, 3):
        for text in map(bytes, itertools.product(edges, repeat=length)):
            judge(text)
    chosen = random.Random(6455)
    for _ in range(3000):
        judge(bytes(chosen.choices(edges, k=chosen.randrange(4, 12))))


def judge(text):
    try:
        expected = [("message", text.decode())]
    except UnicodeDecodeError:
        expected = [("failed", 1007, "bad-text")]
    data = frame(TEXT, text)
    assert read_frames([data]) == expected
    assert read_frames([data[:7], data[7:]]) == expected


def test_a_long_message_in_pieces():
    body = random.Random(1).randbytes(300_000)
    data = frame(BINARY, body)
    for size in (1000, 4096, 65536):
        assert read_frames([data[at : at + size] for at in range(0, len(data), size)]) == [("message", body)]
    text = "aé€😀" * 30_000
    data = frame(TEXT, text)
    assert read_frames([data[at : at + 999] for at in range(0, len(data), 999)]) == [("message", text)]


# --- compression --------------------------------------------------------------------------------------------------

OFFER = [b"permessage-deflate; client_max_window_bits"]


def deflated(*messages, bits=12):
    """The payloads of these messages, compressed by one stream."""
    stream = zlib.compressobj(wbits=-bits)
    for message in messages:
        yield (stream.compress(message) + stream.flush(zlib.Z_SYNC_FLUSH))[:-4]


def test_compressed_messages():
    texts = ["hello hello hello", "hello again, hello", "", "é" * 100]
    data = b"".join(frame(TEXT, part, rsv=0x40) for part in deflated(*(text.encode() for text in texts)))
    for chunks in cuts(data):
        assert read_frames(chunks, MAX, OFFER) == [("message", text) for text in texts]


def test_compressed_fragments():
    (whole,) = deflated(b"hello" * 20)
    data = frame(TEXT, whole[:3], fin=False, rsv=0x40) + frame(PING) + frame(CONTINUATION, whole[3:])
    for chunks in cuts(data):
        assert read_frames(chunks, MAX, OFFER) == [("ping", b""), ("message", "hello" * 20)]


def test_a_message_of_last_blocks():
    """BFINAL is allowed (RFC 7692 section 7.2.3.4), and the stream goes on behind it."""
    stream = zlib.compressobj(wbits=-12)
    data = stream.compress(b"one") + stream.flush() + b"\x00"
    more = next(deflated(b"two"))
    assert read_frames([frame(BINARY, data, rsv=0x40) + frame(BINARY, more, rsv=0x40)], MAX, OFFER) == [
        ("message", b"one"), ("message", b"two"),
    ]  # fmt: skip


def test_a_bomb_ends_before_it_is_inflated():
    (bomb,) = deflated(bytes(50_000_000))
    assert len(bomb) < 60_000
    data = frame(BINARY, bomb, rsv=0x40)
    assert read_frames([data], 100_000, OFFER) == [("failed", 1009, "too-big")]
    (exact,) = deflated(bytes(100_000))
    assert read_frames([frame(BINARY, exact, rsv=0x40)], 100_000, OFFER) == [("message", bytes(100_000))]


def test_bad_compression():
    assert read_frames([frame(BINARY, b"\xff" * 20, rsv=0x40)], MAX, OFFER) == [("failed", 1002, "bad-compression")]
    (bad,) = deflated(b"\xff")
    assert read_frames([frame(TEXT, bad, rsv=0x40)], MAX, OFFER) == [("failed", 1007, "bad-text")]
    assert read_frames([frame(CONTINUATION, rsv=0x40)], MAX, OFFER) == [("failed", 1002, "bad-rsv")]


def test_what_is_not_compressed_may_come_between():
    one, two = deflated(b"one one one", b"one one two")
    data = frame(TEXT, one, rsv=0x40) + frame(TEXT, "plain") + frame(TEXT, two, rsv=0x40)
    expected = [("message", "one one one"), ("message", "plain"), ("message", "one one two")]
    assert read_frames([data], MAX, OFFER) == expected
