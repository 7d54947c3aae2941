"""Messages in both directions, and what the protocol forbids (RFC 6455 sections 5, 7 and 8)."""

import asyncio

import pytest
from drive import turn
from ws import (
    BINARY,
    BODIES,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    Gate,
    Room,
    binary,
    closing,
    frame,
    talking,
    text,
)

pytestmark = pytest.mark.parametrize("body", BODIES)
SIZES = [0, 1, 125, 126, 127, 65535, 65536, 200_000]


def pattern(size: int) -> bytes:
    return (bytes(range(97, 123)) * (size // 26 + 1))[:size]


def in_fragments(data: bytes) -> list[bytes]:
    """A text message with each byte in a frame of its own."""
    return [
        frame(TEXT, b"", fin=False),
        *(frame(CONTINUATION, data[at : at + 1], fin=False) for at in range(len(data))),
        frame(CONTINUATION),
    ]


# --- messages ---------------------------------------------------------------------------------------------------------


@pytest.mark.pins("websocket.messages")
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("make", [text, binary])
async def test_echo(body, size, make):
    room = Room(echo=True)
    async with talking(room, body) as talk:
        wire = await talk.open()
        await wire.send(make(pattern(size)))
        one = await wire.message()
        assert (one.opcode, one.payload) == (TEXT if make is text else BINARY, pattern(size))


@pytest.mark.pins("websocket.messages")
async def test_text_that_is_not_ascii(body):
    words = ["Grüße", "κόσμε", "日本語", "🎉🏁", "\x00", "\U0010ffff", "é" * 5000]
    room = Room(echo=True)
    async with talking(room, body) as talk:
        wire = await talk.open()
        for word in words:
            await wire.send(text(word))
            assert (await wire.frame()).payload == word.encode()
    assert room.messages == words


@pytest.mark.pins("websocket.messages")
@pytest.mark.parametrize("mask", [b"\x00\x00\x00\x00", b"\xff\xff\xff\xff", b"\x01\x02\x03\x04"])
async def test_masks(body, mask):
    """At every length up to some words, so that heads and tails of the unmasking are met."""
    room = Room()
    payloads = [bytes(range(size)) for size in range(70)]
    async with talking(room, body) as talk:
        wire = await talk.open()
        await wire.send(b"".join(binary(payload, mask=mask) for payload in payloads))
        await talk.until(lambda: len(room.messages) == len(payloads))
    assert room.messages == payloads


@pytest.mark.pins("websocket.messages", "websocket.fragments")
async def test_cut_anywhere(body):
    """The same events, wherever the bytes are cut."""
    data = text("hé") + frame(TEXT, "日".encode()[:2], fin=False) + frame(PING, b"p") \
        + frame(CONTINUATION, "日".encode()[2:] + b"!") + binary(b"\x00\xff" * 70) + closing(4000, "bye")  # fmt: skip
    cuts = range(len(data)) if body == "memory" else range(0, len(data), 17)
    room = Room()

    async def app(scope, receive, send):
        await room(scope, receive, send)

    async with talking(app, body) as talk:
        for cut in cuts:
            room = Room()
            wire = await talk.open()
            await wire.send(data[:cut], data[cut:]) if cut else await wire.send(data)
            assert (await wire.frame()).payload == b"p"
            await wire.expect_close(4000)
            await talk.until(lambda room=room: room.disconnect)
            assert room.messages == ["hé", "日!", b"\x00\xff" * 70]
            assert room.disconnect == {"type": "websocket.disconnect", "code": 4000, "reason": "bye"}


# --- fragments and control frames -------------------------------------------------------------------------------------


@pytest.mark.pins("websocket.fragments")
async def test_fragments_with_control_frames_between(body):
    room = Room()
    async with talking(room, body) as talk:
        wire = await talk.open()
        await wire.send(
            frame(TEXT, b"one ", fin=False), frame(PING, b"1"), frame(CONTINUATION, b"", fin=False),
            frame(PONG, b"x"), frame(CONTINUATION, b"two", fin=False), frame(PING), frame(CONTINUATION),
        )  # fmt: skip
        assert [(one.opcode, one.payload) for one in await wire.frames(2)] == [(PONG, b"1"), (PONG, b"")]
        await talk.until(lambda: room.messages)
    assert room.messages == ["one two"]


@pytest.mark.pins("websocket.fragments")
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
async def test_many_fragments(body, opcode):
    room = Room()
    data = pattern(3000)
    async with talking(room, body) as talk:
        wire = await talk.open()
        pieces = [frame(opcode, b"", fin=False)]
        pieces += [frame(CONTINUATION, data[at : at + 1], fin=False) for at in range(len(data))]
        await wire.send(b"".join(pieces) + frame(CONTINUATION))
        await talk.until(lambda: room.messages)
    assert room.messages == [data.decode() if opcode == TEXT else data]


@pytest.mark.pins("websocket.ping")
@pytest.mark.parametrize("payload", [b"", b"x", bytes(125)])
async def test_ping_is_answered_with_its_payload(body, payload):
    async with talking(Room(), body) as talk:
        wire = await talk.open()
        await wire.send(frame(PING, payload))
        one = await wire.frame()
        assert (one.opcode, one.payload) == (PONG, payload)


@pytest.mark.pins("websocket.ping")
async def test_pings_are_answered_while_the_application_is_busy(body):
    gate = Gate()
    async with talking(gate, body) as talk:
        wire = await talk.open()
        await gate.opened()
        for number in range(5):
            await wire.send(frame(PING, b"%d" % number))
        assert [one.payload for one in await wire.frames(5)] == [b"0", b"1", b"2", b"3", b"4"]
        gate.end()


# --- what is forbidden ------------------------------------------------------------------------------------------------

FORBIDDEN = {
    "unmasked text": text("x", mask=None),
    "unmasked ping": frame(PING, mask=None),
    "unmasked close": closing(1000, mask=None),
    "rsv1": text("x", rsv=4),
    "rsv2": text("x", rsv=2),
    "rsv3": text("x", rsv=1),
    "all rsv": text("x", rsv=7),
    "rsv1 of a ping": frame(PING, rsv=4),
    "rsv1 of a continuation": frame(TEXT, b"x", fin=False) + frame(CONTINUATION, b"x", rsv=4),
    **{f"opcode {opcode}": frame(opcode, b"x") for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)},
    "continuation of nothing": frame(CONTINUATION, b"x"),
    "continuation of nothing, unfinished": frame(CONTINUATION, b"x", fin=False),
    "continuation of what is finished": frame(TEXT, b"a", fin=False) + frame(CONTINUATION, b"b") + frame(CONTINUATION),
    "text within text": frame(TEXT, b"a", fin=False) + text("b"),
    "binary within text": frame(TEXT, b"a", fin=False) + binary(b"b"),
    "ping of 126 bytes": frame(PING, bytes(126)),
    "pong of 126 bytes": frame(PONG, bytes(126)),
    "close of 126 bytes": closing(1000, bytes(124)),
    "ping in fragments": frame(PING, b"a", fin=False),
    "close in fragments": closing(1000, fin=False),
    "length with its highest bit": b"\x82\xff" + b"\xff" * 8 + b"abcd",
    "close of one byte": frame(CLOSE, b"\x03"),
    **{f"close code {code}": closing(code) for code in (0, 999, 1004, 1005, 1006, 1015, 1016, 2000, 2999, 5000, 65535)},
}


@pytest.mark.pins("websocket.bad-frames")
@pytest.mark.parametrize("name", FORBIDDEN)
async def test_forbidden(body, name):
    """1002, then the end; messages that came before are delivered, nothing behind is."""
    room = Room()
    async with talking(room, body) as talk:
        wire = await talk.open()
        await wire.send(text("before") + FORBIDDEN[name] + text("behind"))
        await wire.expect_failure(1002)
        await talk.until(lambda: room.disconnect)
    assert room.messages[:1] == ["before"] and "behind" not in room.messages
    assert room.disconnect["code"] in (1002, 1006), room.disconnect


@pytest.mark.pins("websocket.bad-frames")
@pytest.mark.parametrize("cut", [True, False])
async def test_messages_before_it_are_answered_first(body, cut):
    """What an application that waits for messages says to those before leaves before the close frame."""
    room = Room(echo=True)
    async with talking(room, body) as talk:
        wire = await talk.open()
        await turn(5)  # the application waits for a message by now
        data = [text("one"), FORBIDDEN["rsv2"], text("behind")]
        await wire.send(*(data if cut else [b"".join(data)]))
        assert (await wire.frame()).payload == b"one"
        await wire.expect_failure(1002)
        await talk.until(lambda: room.disconnect)
    assert room.messages == ["one"]
    assert room.disconnect["code"] == 1002


@pytest.mark.pins("websocket.bad-frames")
@pytest.mark.parametrize(
    "name", ["unmasked text", "opcode 3", "ping of 126 bytes", "rsv2", "length with its highest bit"]
)
async def test_forbidden_is_known_from_the_head(body, name):
    """Nobody waits for a payload that will not be read."""
    async with talking(Room(), body) as talk:
        wire = await talk.open()
        await wire.send(FORBIDDEN[name][:2] if name != "length with its highest bit" else FORBIDDEN[name][:10])
        await wire.expect_failure(1002)


@pytest.mark.pins("websocket.bad-frames")
async def test_lengths_longer_than_they_need_be(body):
    """RFC 6455 section 5.2: the minimal number of bytes MUST be used. Refused, or read as what they say."""
    for head in (b"\x82\xfe\x00\x03", b"\x82\xff" + bytes(7) + b"\x03"):
        room = Room(echo=True)
        async with talking(room, body) as talk:
            wire = await talk.open()
            await wire.send(head + b"\0\0\0\0abc")
            one = await wire.frame()
            assert (one.opcode == CLOSE and one.code == 1002) or one.payload == b"abc"


# --- UTF-8 ------------------------------------------------------------------------------------------------------------

INVALID = {
    "lone continuation": b"\x80",
    "overlong slash": b"\xc0\xaf",
    "overlong nul": b"\xe0\x80\x80",
    "surrogate": b"\xed\xa0\x80",
    "above U+10FFFF": b"\xf4\x90\x80\x80",
    "five bytes": b"\xf8\x88\x80\x80\x80",
    "0xff": b"\xff",
    "cut short, then ASCII": b"\xe6\x97a",
}


@pytest.mark.pins("websocket.bad-frames")
@pytest.mark.parametrize("name", INVALID)
async def test_invalid_text(body, name):
    room = Room()
    async with talking(room, body) as talk:
        wire = await talk.open()
        await wire.send(text(b"fine so far " + INVALID[name] + b" never seen"))
        await wire.expect_failure(1007)
        await talk.until(lambda: room.disconnect)
    assert room.messages == []


@pytest.mark.pins("websocket.bad-frames")
@pytest.mark.parametrize("name", [*INVALID, "ends within a character"])
async def test_invalid_text_in_fragments(body, name):
    data = INVALID.get(name, b"\xe6\x97")
    async with talking(Room(), body) as talk:
        wire = await talk.open()
        await wire.send(*in_fragments(data))
        await wire.expect_failure(1007)


@pytest.mark.pins("websocket.utf8-early")
@pytest.mark.parametrize("name", INVALID)
async def test_invalid_text_is_refused_at_once(body, name):
    """The frame announces more and the message is not finished; what came can never become valid."""
    async with talking(Room(), body) as talk:
        wire = await talk.open()
        await wire.send(frame(TEXT, b"fine " + INVALID[name], fin=False, size=1000))
        await wire.expect_failure(1007)


@pytest.mark.pins("websocket.utf8-early")
async def test_invalid_text_of_an_unfinished_message(body):
    async with talking(Room(), body) as talk:
        wire = await talk.open()
        await wire.send(frame(TEXT, b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5", fin=False))
        await wire.send(frame(CONTINUATION, b"\xed\xa0", fin=False))
        await wire.expect_failure(1007)


@pytest.mark.pins("websocket.bad-frames")
async def test_character_across_fragments_and_cuts(body):
    room = Room()
    word = "κόσμε🎉日本"
    async with talking(room, body) as talk:
        wire = await talk.open()
        data = word.encode()
        await wire.send(*(bytes([byte]) for byte in b"".join(in_fragments(data))))
        await talk.until(lambda: room.messages)
    assert room.messages == [word]


@pytest.mark.pins("websocket.bad-frames")
@pytest.mark.parametrize("name", [*INVALID, "ends within a character"])
async def test_invalid_reason(body, name):
    async with talking(Room(), body) as talk:
        wire = await talk.open()
        await wire.send(closing(1000, b"fine " + INVALID.get(name, b"\xe6\x97")))
        one = await wire.frame()
        assert one.opcode == CLOSE and one.code == 1007, one
        await wire.expect_end()


@pytest.mark.pins("websocket.bad-frames")
async def test_binary_is_not_text(body):
    room = Room()
    async with talking(room, body) as talk:
        wire = await talk.open()
        await wire.send(binary(b"\xff\xfe\x80"))
        await talk.until(lambda: room.messages)
    assert room.messages == [b"\xff\xfe\x80"]


# --- size -------------------------------------------------------------------------------------------------------------


@pytest.mark.pins("websocket.too-big")
@pytest.mark.parametrize("make", [text, binary])
async def test_message_of_the_size_that_is_allowed(body, make):
    room = Room()
    async with talking(room, body, ws_max_size=1000) as talk:
        wire = await talk.open()
        await wire.send(make(pattern(1000)))
        await wire.send(frame(BINARY, pattern(600), fin=False), frame(CONTINUATION, pattern(400)))
        await talk.until(lambda: len(room.messages) == 2)


@pytest.mark.pins("websocket.too-big")
@pytest.mark.parametrize(
    "pieces",
    [
        [frame(BINARY, b"", size=1001)],
        [frame(TEXT, b"", size=1001)],
        [frame(BINARY, b"", size=(1 << 63) - 1)],
        [frame(BINARY, pattern(600), fin=False), frame(CONTINUATION, b"", size=401)],
        [frame(TEXT, pattern(999), fin=False), frame(CONTINUATION, b"", fin=False), frame(CONTINUATION, b"", size=2)],
    ],
)
async def test_announced_length_is_refused_before_it_comes(body, pieces):
    room = Room()
    async with talking(room, body, ws_max_size=1000) as talk:
        wire = await talk.open()
        await wire.send(*pieces)
        await wire.expect_failure(1009)
        await talk.until(lambda: room.disconnect)
    assert room.messages == []


# --- out --------------------------------------------------------------------------------------------------------------


@pytest.mark.pins("websocket.messages")
async def test_kinds_of_bytes(body):
    """bytearray and memoryview are copied before `send` returns."""
    gate = Gate()
    async with talking(gate, body) as talk:
        wire = await talk.open()
        await gate.opened()
        changing = bytearray(b"now")
        await gate.send({"type": "websocket.send", "bytes": changing})
        changing[:] = b"new"
        await gate.send({"type": "websocket.send", "bytes": memoryview(b"view"), "text": None})
        await gate.send({"type": "websocket.send", "bytes": None, "text": "word"})
        found = [(one.opcode, one.payload) for one in await wire.frames(3)]
        assert found == [(BINARY, b"now"), (BINARY, b"view"), (TEXT, b"word")]
        gate.end()


@pytest.mark.pins("websocket.messages")
async def test_sends_of_many_tasks_do_not_mix(body):
    gate = Gate()
    async with talking(gate, body) as talk:
        wire = await talk.open()
        await gate.opened()

        async def send_some(letter):
            for _ in range(10):
                await gate.send({"type": "websocket.send", "text": letter * 3000})

        sending = asyncio.gather(*(send_some(letter) for letter in "abc"))
        found = [(await wire.message()).payload for _ in range(30)]
        await sending
        assert {len(set(one)) for one in found} == {1} and {len(one) for one in found} == {3000}
        gate.end()
