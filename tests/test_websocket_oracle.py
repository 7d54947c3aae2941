"""The same bytes come to the same as in the library `websockets`, wherever they are cut; and it understands ours."""

import random
import zlib

import pytest
from drive import serving, turn
from websockets.client import ClientProtocol
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory
from websockets.frames import Opcode
from websockets.protocol import State
from websockets.uri import parse_uri
from wire import cut_places
from ws import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    RSV1,
    TEXT,
    Gate,
    binary,
    closing,
    deflated,
    frame,
    text,
)
from ws_oracle import difference, expected, observed, switching

pytestmark = pytest.mark.pins("websocket.messages", "websocket.bad-frames", "websocket.close-by-client")
WORDS = ("lorem ipsum dolor sit amet " * 20).encode()

CASES = {
    "nothing": b"",
    "text": text("héllo"),
    "empty messages": text("") + binary(b""),
    "many": text("a") + binary(b"b") + text("c") + frame(PING, b"d"),
    "medium": text("x" * 126) + binary(bytes(300)),
    "fragments": frame(TEXT, "日".encode()[:1], fin=False) + frame(CONTINUATION, "日".encode()[1:]) + text("x"),
    "fragments with control frames": frame(BINARY, b"a", fin=False) + frame(PING, b"p") + frame(PONG, b"q")
    + frame(CONTINUATION, b"", fin=False) + frame(CONTINUATION, b"b"),
    "close": text("a") + closing(1000, "bye") + text("b"),
    "close without a code": closing(),
    "close, own code": closing(4999, "é" * 60),
    "close within a message of no fragments": frame(PING) + closing(1001),
    **{f"close {code}": closing(code) for code in (0, 999, 1003, 1004, 1005, 1006, 1014, 1015, 1016, 2999, 3000, 5000)},
    "close of one byte": frame(CLOSE, b"\x03"),
    "close with a bad reason": closing(1000, b"\xff"),
    "unmasked": text("a") + text("b", mask=None),
    **{f"reserved bit {rsv}": text("a") + text("b", rsv=rsv) for rsv in (1, 2, 4)},
    **{f"opcode {opcode}": text("a") + frame(opcode, b"b") for opcode in (3, 7, 11, 15)},
    "continuation of nothing": frame(CONTINUATION, b"a"),
    "text within text": frame(TEXT, b"a", fin=False) + text("b"),
    "long ping": frame(PING, bytes(126)),
    "cut ping": frame(PING, b"a", fin=False),
    "bad text": text("a") + text(b"b\xed\xa0\x80") + text("c"),
    "bad text in fragments": frame(TEXT, b"\xe6", fin=False) + frame(CONTINUATION, b"\x97", fin=False)
    + frame(CONTINUATION, b"a"),
    "text that ends early": text(b"\xe6\x97"),
    "bytes that are no text": binary(b"\xff\xfe"),
    "too big": text("a") + binary(bytes(1001)),
    "too big in fragments": frame(TEXT, b"a" * 600, fin=False) + frame(CONTINUATION, b"a" * 401),
    "as big as allowed": binary(bytes(1000)),
}  # fmt: skip


def packed(*payloads, opcode=TEXT):
    """Compressed messages, with what came before remembered."""
    compressor = zlib.compressobj(wbits=-12)  # no larger than any window that a server of ours asks for
    return [frame(opcode, deflated(payload, compressor), rsv=RSV1) for payload in payloads]


DEFLATED = {
    "one": packed(WORDS)[0],
    "several": b"".join(packed(WORDS, b"", WORDS, b"x")),
    "mixed": packed(WORDS)[0] + text("plain") + frame(PING, b"p"),
    "fragments": frame(TEXT, deflated(WORDS)[:9], fin=False, rsv=RSV1) + frame(CONTINUATION, deflated(WORDS)[9:]),
    "bit on a continuation": frame(TEXT, deflated(WORDS)[:9], fin=False, rsv=RSV1)
    + frame(CONTINUATION, deflated(WORDS)[9:], rsv=RSV1),
    "bit on a ping": frame(PING, b"p", rsv=RSV1),
    "bad data": text("a") + frame(TEXT, b"\xff\xff\xff", rsv=RSV1),
    "bad text": frame(TEXT, deflated(b"a\xff"), rsv=RSV1),
    "bomb": frame(BINARY, deflated(bytes(100_000)), rsv=RSV1),
    "close": packed(WORDS)[0] + closing(1000),
}  # fmt: skip


async def compare(data, *, deflate, every_cut=True):
    theirs = expected(data, max_size=1000, deflate=deflate)
    room_of, app = switching()
    async with serving(app, ws_max_size=1000, ws_ping_interval=None) as bench:
        cuts = cut_places(len(data)) if every_cut else []
        ways = [[data], [data[at : at + 1] for at in range(len(data))], *([data[:cut], data[cut:]] for cut in cuts)]
        for number, chunks in enumerate(ways):
            ours = await observed(bench, room_of, chunks, deflate=deflate, turns=number % 2)
            differs = difference(ours, theirs)
            assert not differs, f"cut at {[len(chunk) for chunk in chunks][:5]}\n{differs}"


@pytest.mark.parametrize("name", CASES)
async def test_case(name):
    await compare(CASES[name], deflate=False)


@pytest.mark.parametrize("name", DEFLATED)
async def test_compressed_case(name):
    await compare(DEFLATED[name], deflate=True)


def random_frames(rng, *, deflate):
    """A conversation of a client: mostly right, sometimes not."""
    data, compressor = b"", zlib.compressobj(wbits=-12)
    for _ in range(rng.randint(1, 8)):
        kind = rng.random()
        payload = rng.choice((b"", b"x", "é日🎉".encode(), WORDS[: rng.randint(0, 400)], bytes(rng.randint(0, 200))))
        if kind < 0.2:
            data += frame(rng.choice((PING, PONG)), payload[:125])
        elif kind < 0.3:
            data += rng.choice(list(CASES.values()))
        elif kind < 0.35:
            data += closing(rng.choice((1000, 1001, 3000, 1005)), payload[:20])
        else:
            data += random_message(rng, payload, compressor if deflate and rng.random() < 0.6 else None)
    return data


def random_message(rng, payload, compressor):
    """One message in some fragments."""
    rsv = RSV1 if compressor else 0
    data = deflated(payload, compressor) if compressor else payload
    cuts = sorted(rng.randint(0, len(data)) for _ in range(rng.choice((0, 0, 1, 3))))
    parts = [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]
    opcode, last = rng.choice((TEXT, BINARY)), len(parts) - 1
    out = b""
    for at, part in enumerate(parts):
        if rng.random() < 0.2:
            out += frame(PING, b"between")
        out += frame(CONTINUATION if at else opcode, part, fin=at == last, rsv=0 if at else rsv)
    return out


@pytest.mark.parametrize("deflate", [False, True])
@pytest.mark.parametrize("seed", range(60))
async def test_random_conversation(seed, deflate):
    rng = random.Random(seed)
    data = random_frames(rng, deflate=deflate)
    theirs = expected(data, max_size=1000, deflate=deflate)
    room_of, app = switching()
    async with serving(app, ws_max_size=1000, ws_ping_interval=None) as bench:
        for _ in range(6):
            cuts = sorted(rng.randint(0, len(data)) for _ in range(rng.randint(0, 12)))
            chunks = [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]
            ours = await observed(bench, room_of, chunks, deflate=deflate, turns=rng.choice((0, 1)))
            differs = difference(ours, theirs)
            assert not differs, f"{data!r}\ncut into {[len(chunk) for chunk in chunks]}\n{differs}"


# --- the library as a client ------------------------------------------------------------------------------------------


def client_protocol(*, deflate):
    extensions = [ClientPerMessageDeflateFactory(client_max_window_bits=True)] if deflate else None
    return ClientProtocol(parse_uri("ws://example.com/"), extensions=extensions)


class Conversation:
    """The library's client over a connection in memory."""

    def __init__(self, peer, *, deflate):
        self.peer, self.protocol = peer, client_protocol(deflate=deflate)
        self.protocol.send_request(self.protocol.connect())
        self.frames = []

    async def exchange(self):
        """Carry bytes both ways until there are none."""
        quiet = 0
        while quiet < 5:
            data = b"".join(self.protocol.data_to_send())
            if data and self.peer.state == "open":
                self.peer.feed(data)
            await turn(2)
            answer = self.peer.channel.take_output()
            if answer:
                self.protocol.receive_data(answer)
            quiet = 0 if data or answer else quiet + 1
        self.frames += self.protocol.events_received()
        assert self.protocol.parser_exc is None, self.protocol.parser_exc


@pytest.mark.pins("websocket.deflate-offers")
@pytest.mark.parametrize("deflate", [False, True])
@pytest.mark.parametrize("seed", range(8))
async def test_library_understands_us(seed, deflate):
    rng = random.Random(seed)
    gate = Gate()
    async with serving(gate, ws_ping_interval=None) as bench:
        talk = Conversation(bench.connect(), deflate=deflate)
        await talk.exchange()
        assert talk.protocol.state is State.OPEN
        assert bool(talk.protocol.extensions) is deflate
        del talk.frames[:]
        sent = []
        for _ in range(25):
            size = rng.choice((0, 1, 125, 126, 300, 5000, 70_000))
            if rng.random() < 0.5:
                sent.append("é" * (size // 2) + "x" * rng.randint(0, 3))
                await gate.send({"type": "websocket.send", "text": sent[-1]})
            else:
                sent.append(rng.randbytes(size))
                await gate.send({"type": "websocket.send", "bytes": sent[-1]})
        await gate.send({"type": "websocket.close", "code": 4321, "reason": "enough é"})
        gate.end()
        await talk.exchange()
        assert messages_of(talk.frames) == sent
        assert (talk.protocol.close_rcvd.code, talk.protocol.close_rcvd.reason) == (4321, "enough é")
        assert talk.peer.state != "open"


def messages_of(frames):
    """Frames of the library put together."""
    found, parts, kind = [], [], None
    for one in frames:
        if one.opcode in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
            if one.opcode is not Opcode.CONT:
                parts, kind = [], one.opcode
            parts.append(bytes(one.data))
            if one.fin:
                data = b"".join(parts)
                found.append(data.decode() if kind is Opcode.TEXT else data)
    return found
