"""What a client's bytes must come to, by the library `websockets`; and what they come to here.

`expected(data)` runs the bytes behind a handshake through the library's own protocol (no sockets), and adds what it
leaves to others: putting fragments together and checking text. `observed(...)` feeds them to a connection in memory.
An `Outcome` is all that application and client can tell of a run; it must not depend on where the bytes were cut.
"""

import codecs
import logging
from dataclasses import dataclass, field

from answers import read_one
from drive import Bench, turn
from websockets.extensions.permessage_deflate import ServerPerMessageDeflateFactory
from websockets.frames import Opcode
from websockets.http11 import Request
from websockets.protocol import State
from websockets.server import ServerProtocol
from ws import CLOSE, OFFER, PONG, Room, read_frame, request

# Errors of inflation: RFC 7692 names no code.
INFLATION = (1002, 1003, 1007)
FAILURES = (1002, 1003, 1007, 1009)
SETTLING_TURNS = 12


@dataclass
class Outcome:
    """What a run came to."""

    messages: list[str | bytes]
    pongs: list[bytes]
    closed: int | None = None  # the code that the server sent; 1005 for none; None: it is still open
    disconnect: tuple | None = None  # code and reason that the application got
    raw: bytes = field(default=b"", repr=False, compare=False)


class Refused(Exception):
    """The message is no text."""


class Assembler:
    """Fragments to messages, text checked as it comes."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self.decoder = None

    def add(self, opcode: int, data: bytes, fin: bool) -> str | bytes | None:
        if opcode != Opcode.CONT:
            self.parts = []
            self.decoder = codecs.getincrementaldecoder("utf-8")() if opcode == Opcode.TEXT else None
        if self.decoder is None:
            self.parts.append(bytes(data))
            return b"".join(self.parts) if fin else None
        try:
            self.parts.append(self.decoder.decode(bytes(data), fin))
        except UnicodeDecodeError:
            raise Refused from None
        return "".join(self.parts) if fin else None


def library(max_size: int, *, deflate: bool) -> ServerProtocol:
    """The library's side of a connection whose handshake is done."""
    extensions = [ServerPerMessageDeflateFactory(client_max_window_bits=15)] if deflate else None
    protocol = ServerProtocol(extensions=extensions, max_size=max_size, logger=logging.getLogger("silent"))
    protocol.receive_data(request(offer=OFFER if deflate else None))
    (asked,) = protocol.events_received()
    assert isinstance(asked, Request)
    protocol.send_response(protocol.accept(asked))
    protocol.data_to_send()
    assert protocol.state is State.OPEN
    return protocol


def expected(data: bytes, *, max_size: int = 1 << 24, deflate: bool = False) -> Outcome:
    """The outcome by the library."""
    protocol = library(max_size, deflate=deflate)
    assembler, outcome = Assembler(), Outcome([], [])
    protocol.receive_data(data)
    for event in protocol.events_received():
        if event.opcode == Opcode.CLOSE:
            break
        if event.opcode == Opcode.PING:
            outcome.pongs.append(bytes(event.data))
        elif event.opcode != Opcode.PONG:
            try:
                message = assembler.add(event.opcode, event.data, event.fin)
            except Refused:
                outcome.closed, outcome.disconnect = 1007, (1007, "")
                return outcome
            if message is not None:
                outcome.messages.append(message)
    if str(protocol.parser_exc) == "incomplete fragmented message":
        # RFC 6455 section 5.5.1 allows a close at any time; Autobahn's case 7.1.5 wants it echoed
        outcome.closed = protocol.close_rcvd.code
        outcome.disconnect = protocol.close_rcvd.code, protocol.close_rcvd.reason
    elif protocol.close_sent is not None:
        outcome.closed = protocol.close_sent.code
        received = protocol.close_rcvd if protocol.close_rcvd_then_sent else None
        told = (received.code, received.reason) if received else (outcome.closed, "")
        outcome.disconnect = (told[0], "" if told[0] in FAILURES else told[1])
    return outcome


async def observed(
    bench: Bench, room_of: dict, chunks: list[bytes], *, deflate: bool = False, turns: int = 0
) -> Outcome:
    """The outcome here; `room_of["now"]` is the application, see `switching`."""
    room = room_of["now"] = Room()
    peer = bench.connect()
    try:
        peer.feed(request(offer=OFFER if deflate else None))
        for chunk in chunks:
            if peer.state != "open":
                break
            for _ in range(100):
                if peer.channel.reading:
                    break
                await turn()
            peer.feed(chunk)
            await turn(turns)
        await settled(peer, room)
        return outcome_of(peer, room)
    finally:
        peer.lost()
        await turn(3)
        bench.peers.remove(peer)


async def settled(peer: object, room: Room) -> None:
    """Turn the loop until nothing more happens."""
    quiet, before = 0, None
    while quiet < SETTLING_TURNS:
        await turn()
        now = len(peer.output), len(room.events), peer.state
        quiet = quiet + 1 if now == before else 0
        before = now


def outcome_of(peer: object, room: Room) -> Outcome:
    """Read what was sent and what was received."""
    head = read_one(peer.output, 0, "GET", False)
    assert head is not None and head[0].status == 101, peer.output[:200]
    rest = peer.output[head[1] :]
    outcome = Outcome(room.messages, [], raw=rest)
    while rest:
        found = read_frame(rest)
        assert found is not None, f"an unfinished frame {rest!r}"
        one, size = found
        rest = rest[size:]
        assert outcome.closed is None, f"{one} behind the close frame"
        assert one.opcode in (PONG, CLOSE), one
        if one.opcode == PONG:
            outcome.pongs.append(one.payload)
        else:
            outcome.closed = 1005 if one.code is None else one.code
    if room.disconnect is not None:
        code, reason = room.disconnect["code"], room.disconnect["reason"]
        # bytes that break two rules: which of the two is told may depend on what of them has come
        outcome.disconnect = (code, "" if code in FAILURES else reason)
    assert (outcome.closed is None) is (peer.state == "open"), (outcome, peer.state)
    return outcome


def switching() -> tuple[dict, object]:
    """A place for the application of the next connection, and the application that looks there."""
    room_of: dict = {}

    async def app(scope: dict, receive: object, send: object) -> None:
        await room_of["now"](scope, receive, send)

    return room_of, app


def difference(ours: Outcome, theirs: Outcome) -> str:
    """How two outcomes differ where they may not, or an empty text.

    The reason of a failure is ours to choose, and so is what the application is told then: our code, or 1006, because
    no close frame of the client came. RFC 7692 names no code for data that cannot be inflated.
    """
    if (ours.messages, ours.pongs) != (theirs.messages, theirs.pongs):
        return f"ours {ours}\ntheirs {theirs}"
    if ours.closed == theirs.closed:
        well = ours.disconnect == theirs.disconnect or (
            theirs.closed in (1002, 1007, 1009) and ours.disconnect and ours.disconnect[0] in (1006, ours.closed)
        )
        return "" if well else f"ours {ours}\ntheirs {theirs}"
    return "" if ours.closed in INFLATION and theirs.closed in INFLATION else f"ours {ours}\ntheirs {theirs}"
