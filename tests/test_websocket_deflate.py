"""permessage-deflate (RFC 7692): what is negotiated, what is compressed, and what it may cost."""

import ctypes
import gc
import os
import random
import sys
import zlib

import pytest
from drive import turn
from ws import (
    BODIES,
    CONTINUATION,
    DEFLATE_TAIL,
    OFFER,
    PING,
    PONG,
    RSV1,
    TEXT,
    Gate,
    Room,
    binary,
    deflated,
    frame,
    talking,
    text,
)

pytestmark = pytest.mark.parametrize("body", BODIES)
WORDS = ("lorem ipsum dolor sit amet " * 100).encode()


def parameters(wire):
    """What the server accepted, as a dict; None without an extension."""
    value = wire.answered.one("sec-websocket-extensions")
    if value is None:
        return None
    name, *rest = [part.strip() for part in value.decode().split(";")]
    assert name == "permessage-deflate", value
    found = dict(part.partition("=")[::2] for part in rest)
    assert len(found) == len(rest), f"a parameter twice: {value}"
    return {key: int(bits) if bits else True for key, bits in found.items()}


class Reader:
    """Inflates what the server sends, by what was negotiated."""

    def __init__(self, wire):
        self.accepted = parameters(wire)
        self.bits = self.accepted.get("server_max_window_bits", 15)
        self.forgets = "server_no_context_takeover" in self.accepted
        self.stream = None

    def read(self, one):
        if not one.rsv:
            return one.payload
        if self.stream is None or self.forgets:
            self.stream = zlib.decompressobj(wbits=-max(9, self.bits))
        return self.stream.decompress(one.payload + DEFLATE_TAIL)


class Writer:
    """Compresses what the client sends, by what was negotiated."""

    def __init__(self, wire):
        accepted = parameters(wire)
        self.bits = accepted.get("client_max_window_bits", 15)
        self.forgets = "client_no_context_takeover" in accepted
        self.stream = None

    def write(self, payload, opcode=TEXT):
        if self.stream is None or self.forgets:
            self.stream = zlib.compressobj(wbits=-max(9, self.bits))
        return frame(opcode, deflated(payload, self.stream), rsv=RSV1)


# --- negotiation ------------------------------------------------------------------------------------------------------

OFFERS = [
    "permessage-deflate",
    OFFER,
    "permessage-deflate; server_no_context_takeover",
    "permessage-deflate; client_no_context_takeover",
    "permessage-deflate; client_no_context_takeover; server_no_context_takeover",
    "permessage-deflate; server_max_window_bits=10",
    'permessage-deflate; server_max_window_bits="11"',
    "permessage-deflate; client_max_window_bits=10",
    "permessage-deflate; client_max_window_bits=15; server_max_window_bits=15",
    "permessage-deflate; server_max_window_bits=9; client_max_window_bits=9",
    "permessage-deflate;client_max_window_bits ;  server_no_context_takeover",
    "x-webkit-deflate-frame, permessage-deflate",
    "permessage-deflate; unknown, permessage-deflate; client_max_window_bits",
    "permessage-deflate; server_max_window_bits=8, permessage-deflate",
]


@pytest.mark.pins("websocket.deflate-offers")
@pytest.mark.parametrize("offer", OFFERS)
async def test_negotiated(body, offer):
    """What is accepted was offered, and holds: ten messages go both ways, remembered or not."""
    room = Room(echo=True)
    async with talking(room, body) as talk:
        wire = await talk.open(offer=offer)
        accepted = parameters(wire)
        check_accepted(offer, accepted)
        reader, writer = Reader(wire), Writer(wire)
        for number in range(10):
            payload = WORDS + b"%d" % number
            await wire.send(writer.write(payload))
            one = await wire.message()
            assert one.rsv == RSV1, "a long message is worth compressing"
            assert len(one.payload) < len(payload) // 4
            assert reader.read(one) == payload
    assert len(room.messages) == 10


def check_accepted(offer, accepted):
    """RFC 7692 section 7.1: a response may hold only what its offer allows."""
    first = offer.split(",")[-1 if "," in offer else 0]
    alternatives = [first] if "max_window_bits=8" not in offer else offer.split(",")
    assert any(is_allowed(one, accepted) for one in alternatives), (offer, accepted)


def is_allowed(offer, accepted):
    asked = dict(part.strip().partition("=")[::2] for part in offer.split(";")[1:])
    asked = {key: value.strip('"') for key, value in asked.items()}
    if "server_no_context_takeover" in asked and "server_no_context_takeover" not in accepted:
        return False
    if asked.get("server_max_window_bits") and accepted.get("server_max_window_bits", 15) > int(
        asked["server_max_window_bits"]
    ):
        return False
    if "client_max_window_bits" not in asked:
        return "client_max_window_bits" not in accepted
    return accepted.get("client_max_window_bits", 15) <= int(asked["client_max_window_bits"] or 15)


BAD_OFFERS = [
    "permessage-deflate; unknown",
    "permessage-deflate; server_max_window_bits",
    "permessage-deflate; server_max_window_bits=7",
    "permessage-deflate; server_max_window_bits=16",
    "permessage-deflate; server_max_window_bits=x",
    "permessage-deflate; server_max_window_bits=010",
    "permessage-deflate; client_max_window_bits=7",
    "permessage-deflate; client_max_window_bits=16",
    "permessage-deflate; server_no_context_takeover=1",
    "permessage-deflate; client_no_context_takeover=true",
    "permessage-deflate; server_no_context_takeover; server_no_context_takeover",
    "permessage-bzip2",
    "x-webkit-deflate-frame",
]


@pytest.mark.pins("websocket.deflate-offers")
@pytest.mark.parametrize("offer", BAD_OFFERS)
async def test_offer_that_is_declined(body, offer):
    """RFC 7692 section 7.1: a server MUST decline an offer with what it does not know. No compression then."""
    async with talking(Room(echo=True), body) as talk:
        wire = await talk.open(offer=offer)
        assert parameters(wire) is None
        await wire.send(text(WORDS))
        one = await wire.message()
        assert (one.rsv, one.payload) == (0, WORDS)


@pytest.mark.pins("websocket.deflate-offers")
async def test_offers_in_two_fields(body):
    async with talking(Room(), body) as talk:
        wire = await talk.open("X-Other: 1", offer="permessage-bzip2\r\nSec-WebSocket-Extensions: permessage-deflate")
        assert parameters(wire) is not None


@pytest.mark.pins("websocket.deflate")
async def test_switched_off(body):
    async with talking(Room(echo=True), body, ws_per_message_deflate=False) as talk:
        wire = await talk.open(offer=OFFER)
        assert parameters(wire) is None
        await wire.send(text(WORDS))
        assert (await wire.message()).payload == WORDS
        await wire.send(frame(TEXT, deflated(b"x"), rsv=RSV1))
        await wire.expect_failure(1002)


# --- what is compressed -----------------------------------------------------------------------------------------------


@pytest.mark.pins("websocket.deflate")
@pytest.mark.parametrize("limit", [0, 10, 256])
async def test_short_messages_are_sent_as_they_are(body, limit):
    gate = Gate()
    async with talking(gate, body, ws_deflate_min_size=limit) as talk:
        wire = await talk.open(offer=OFFER)
        await gate.opened()
        reader = Reader(wire)
        for size in (1, 9, 10, 255, 256, 1000):
            for kind, value in (("text", "a" * size), ("bytes", b"a" * size)):
                await gate.send({"type": "websocket.send", kind: value})
                one = await wire.message()
                assert reader.read(one) == b"a" * size
                assert bool(one.rsv) is (size >= limit), (size, one)
        gate.end()


@pytest.mark.pins("websocket.deflate-offers")
async def test_uncompressed_messages_are_welcome(body):
    room = Room()
    async with talking(room, body) as talk:
        wire = await talk.open(offer=OFFER)
        writer = Writer(wire)
        await wire.send(text("plain"), writer.write(b"packed"), binary(b"plain"), writer.write(b"packed too", 2))
        await talk.until(lambda: len(room.messages) == 4)
    assert room.messages == ["plain", "packed", b"plain", b"packed too"]


@pytest.mark.pins("websocket.deflate-offers")
@pytest.mark.parametrize("payload", [b"", b"x", WORDS, os.urandom(1 << 17), bytes(1 << 20)])
async def test_payloads(body, payload):
    room = Room(echo=True)
    async with talking(room, body) as talk:
        wire = await talk.open(offer=OFFER)
        reader, writer = Reader(wire), Writer(wire)
        for _ in range(2):
            await wire.send(writer.write(payload, 2))
            assert reader.read(await wire.message()) == payload


@pytest.mark.pins("websocket.deflate-offers")
async def test_compressed_fragments_with_control_frames_between(body):
    """Only the first frame carries the bit; control frames are never compressed."""
    room = Room()
    async with talking(room, body) as talk:
        wire = await talk.open(offer=OFFER)
        data = deflated(WORDS)
        await wire.send(
            frame(TEXT, data[:5], fin=False, rsv=RSV1), frame(PING, b"p"), frame(CONTINUATION, b"", fin=False),
            frame(CONTINUATION, data[5:9], fin=False), frame(CONTINUATION, data[9:]),
        )  # fmt: skip
        pong = await wire.frame()
        assert (pong.opcode, pong.rsv, pong.payload) == (PONG, 0, b"p")
        await talk.until(lambda: room.messages)
    assert room.messages == [WORDS.decode()]


@pytest.mark.pins("websocket.deflate-offers")
async def test_other_shapes_of_deflate(body):
    """Stored blocks, fixed codes, several flushes, a final block: RFC 7692 section 7.2.3 has them all."""
    shapes = {
        "stored": (zlib.compressobj(0, wbits=-15), WORDS),
        "fixed": (zlib.compressobj(9, wbits=-15, strategy=zlib.Z_FIXED), WORDS),
        "huffman only": (zlib.compressobj(9, wbits=-15, strategy=zlib.Z_HUFFMAN_ONLY), WORDS),
    }
    room = Room()
    async with talking(room, body) as talk:
        wire = await talk.open(offer="permessage-deflate; client_no_context_takeover")
        for compressor, payload in shapes.values():
            await wire.send(frame(TEXT, deflated(payload, compressor), rsv=RSV1))
        twice = zlib.compressobj(wbits=-15)
        data = twice.compress(b"Hel") + twice.flush(zlib.Z_SYNC_FLUSH) + deflated(b"lo", twice)
        await wire.send(frame(TEXT, data, rsv=RSV1))
        final = zlib.compressobj(wbits=-15)  # section 7.2.3.4: BFINAL set, then a byte of zeros
        await wire.send(frame(TEXT, final.compress(b"Hello") + final.flush() + b"\x00", rsv=RSV1))
        await talk.until(lambda: len(room.messages) == 5 or room.disconnect)
    assert room.messages == [WORDS.decode()] * 3 + ["Hello"] * 2


# --- what is wrong ----------------------------------------------------------------------------------------------------


@pytest.mark.pins("websocket.deflate-offers")
@pytest.mark.parametrize(
    "data", [b"\xff\xff\xff", b"\x07", bytes(range(100, 200)), b"\x00\x01\x00\x00\x00x", b"\x03\x00" * 17]
)
async def test_data_that_cannot_be_inflated(body, data):
    async with talking(Room(), body) as talk:
        wire = await talk.open(offer=OFFER)
        await wire.send(frame(TEXT, data, rsv=RSV1))
        one = await wire.frame()
        assert one.code in (1002, 1003, 1007), one
        await wire.expect_end()


@pytest.mark.pins("websocket.bad-frames")
async def test_invalid_text_after_inflation(body):
    async with talking(Room(), body) as talk:
        wire = await talk.open(offer=OFFER)
        await wire.send(frame(TEXT, deflated(WORDS + b"\xed\xa0\x80"), rsv=RSV1))
        await wire.expect_failure(1007)


@pytest.mark.pins("websocket.too-big-inflated")
@pytest.mark.parametrize("packed_whole", [True, False])
async def test_bomb(body, packed_whole):
    """A megabyte of zeros in a kilobyte: refused at the limit, not inflated first."""
    room = Room()
    async with talking(room, body, ws_max_size=10_000) as talk:
        wire = await talk.open(offer=OFFER)
        data = deflated(bytes(1 << 23))
        if packed_whole:
            await wire.send(frame(2, data, rsv=RSV1))
        else:
            await wire.send(frame(2, data[:3000], fin=False, rsv=RSV1), frame(CONTINUATION, data[3000:]))
        await wire.expect_failure(1009)
        await talk.until(lambda: room.disconnect)
    assert room.messages == []


@pytest.mark.pins("websocket.too-big-inflated")
async def test_size_is_counted_after_inflation(body):
    room = Room()
    async with talking(room, body, ws_max_size=10_000) as talk:
        wire = await talk.open(offer=OFFER)
        writer = Writer(wire)
        await wire.send(writer.write(bytes(10_000), 2))
        await talk.until(lambda: room.messages)
        await wire.send(writer.write(bytes(10_001), 2))
        await wire.expect_failure(1009)
    assert room.messages == [bytes(10_000)]


# --- what it costs ----------------------------------------------------------------------------------------------------


def heap_bytes():
    """What glibc's malloc has given out, where zlib keeps its state; None elsewhere."""
    if not sys.platform.startswith("linux") or not hasattr(ctypes.CDLL(None), "mallinfo2"):
        return None

    class Info(ctypes.Structure):
        _fields_ = [(name, ctypes.c_size_t) for name in "arena a b c hblkhd d e uordblks f g".split()]

    mallinfo2 = ctypes.CDLL(None).mallinfo2
    mallinfo2.restype = Info
    gc.collect()
    info = mallinfo2()
    return info.uordblks + info.hblkhd


@pytest.mark.pins("websocket.deflate-memory")
async def test_memory_is_bounded_and_given_back(body):
    """docs/websocket.md: 32 KiB for the compressor, which goes with the first idle interval; 11 KiB to decompress. The
    message that the application keeps, and what the allocator rounds up, come on top."""
    if heap_bytes() is None:
        pytest.skip("only glibc tells what malloc has given out")
    count = 60
    async with talking(Room(echo=True), body, ws_ping_interval=None) as talk:
        wires = [await talk.open(offer=OFFER) for _ in range(count)]
        before = heap_bytes()
        for wire in wires:
            await wire.send(Writer(wire).write(WORDS))
            assert (await wire.message()).rsv
        used = (heap_bytes() - before) / count
        await talk.pass_time(65)
        kept = (heap_bytes() - before) / count
        assert 10_000 < used < 60_000, f"{used:.0f} bytes a connection"
        assert kept < 20_000, f"{kept:.0f} bytes a connection that is idle"
        for wire in wires[:3]:
            await wire.send(Writer(wire).write(WORDS))
            assert Reader(wire).read(await wire.message()) == WORDS, "as new"


# --- the bytes of random conversations --------------------------------------------------------------------------------


@pytest.mark.pins("websocket.deflate-offers")
@pytest.mark.parametrize("seed", range(4))
async def test_conversation(body, seed):
    """Messages of all kinds, cut and fragmented at random, compressed or not."""
    rng = random.Random(seed)
    room = Room(echo=True)
    async with talking(room, body) as talk:
        wire = await talk.open(offer=rng.choice(OFFERS[:6]))
        reader, writer = Reader(wire), Writer(wire)
        for _ in range(40):
            payload = (WORDS * 3)[: rng.choice((0, 1, 200, 300, 5000))] + b"%d" % rng.randrange(1000)
            opcode = rng.choice((1, 2))
            await wire.send(*pieces(rng, payload, opcode, writer))
            one = await wire.message()
            assert (one.opcode, reader.read(one)) == (opcode, payload)
        await turn()


def pieces(rng, payload, opcode, writer):
    """A message in one to three frames, as bytes in one to three pieces."""
    if rng.random() < 0.5:
        if writer.stream is None or writer.forgets:
            writer.stream = zlib.compressobj(wbits=-max(9, writer.bits))
        data, rsv = deflated(payload, writer.stream), RSV1
    else:
        data, rsv = payload, 0
    cuts = sorted(rng.randint(0, len(data)) for _ in range(rng.choice((0, 1, 2))))
    parts = [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]
    out = b"".join(
        frame(opcode if not at else CONTINUATION, part, fin=at == len(parts) - 1, rsv=0 if at else rsv)
        for at, part in enumerate(parts)
    )
    at = rng.randint(0, len(out))
    return [out[:at], out[at:]] if rng.random() < 0.5 else [out]
