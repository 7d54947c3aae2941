"""A WebSocket client made of bytes, over each body of a connection: in memory, our own sockets, asyncio's transports.

It shares no code with the server. `talking(app, body)` serves; `Talk.open()` is a client whose handshake is done.
Written from RFC 6455 and RFC 7692.
"""

import asyncio
import base64
import contextlib
import hashlib
import zlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from answers import Response, read_one
from drive import MAX_TURNS, serving, turn, until
from net import IOS, PATIENCE_S, listening

BODIES = ["memory", *IOS]
KEY = base64.b64encode(bytes(range(16)))
ACCEPT = base64.b64encode(hashlib.sha1(KEY + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
RSV1 = 4
MASK = b"\x37\xfa\x21\x3d"
DEFLATE_TAIL = b"\x00\x00\xff\xff"
OFFER = "permessage-deflate; client_max_window_bits"


# --- bytes ------------------------------------------------------------------------------------------------------------


def request(
    *headers: str, method: str = "GET", target: str = "/", http: str = "1.1", drop: str = "", offer: str | None = None
) -> bytes:
    """A handshake; `headers` replace those of the same name or are added, `drop` leaves one out."""
    fields = {
        "host": "Host: example.com",
        "upgrade": "Upgrade: websocket",
        "connection": "Connection: Upgrade",
        "sec-websocket-key": f"Sec-WebSocket-Key: {KEY.decode()}",
        "sec-websocket-version": "Sec-WebSocket-Version: 13",
    }
    added = [] if offer is None else [f"Sec-WebSocket-Extensions: {offer}"]
    for header in headers:
        name = header.partition(":")[0].lower()
        if name in fields:
            fields[name] = header
        else:
            added.append(header)
    fields.pop(drop.lower(), None)
    return "\r\n".join([f"{method} {target} HTTP/{http}", *fields.values(), *added, "", ""]).encode("latin-1")


def xored(payload: bytes, mask: bytes) -> bytes:
    size = len(payload)
    repeated = (mask * (size // 4 + 1))[:size]
    return (int.from_bytes(payload, "big") ^ int.from_bytes(repeated, "big")).to_bytes(size, "big")


def frame(opcode: int, payload: bytes = b"", *, fin: bool = True, rsv: int = 0, mask: bytes | None = MASK,
          size: int | None = None) -> bytes:  # fmt: skip
    """A frame of a client; `size` announces another length, `mask` None leaves the payload as it is."""
    announced = len(payload) if size is None else size
    first = bytes([(0x80 if fin else 0) | rsv << 4 | opcode])
    masked = 0x80 if mask is not None else 0
    if announced < 126:
        head = bytes([masked | announced])
    elif announced < 65536:
        head = bytes([masked | 126]) + announced.to_bytes(2, "big")
    else:
        head = bytes([masked | 127]) + announced.to_bytes(8, "big")
    return first + head + (mask + xored(payload, mask) if mask is not None else payload)


def text(payload: str | bytes, **how: object) -> bytes:
    return frame(TEXT, payload.encode() if isinstance(payload, str) else payload, **how)


def binary(payload: bytes, **how: object) -> bytes:
    return frame(BINARY, payload, **how)


def closing(code: int | None = None, reason: bytes | str = b"", **how: object) -> bytes:
    """A close frame; without a code it is empty."""
    reason = reason.encode() if isinstance(reason, str) else reason
    return frame(CLOSE, b"" if code is None else code.to_bytes(2, "big") + reason, **how)


def deflated(payload: bytes, compressor: object = None, window_bits: int = 15) -> bytes:
    """A compressed payload (RFC 7692 section 7.2.1); `compressor` remembers earlier ones."""
    compressor = compressor or zlib.compressobj(wbits=-window_bits)
    return (compressor.compress(payload) + compressor.flush(zlib.Z_SYNC_FLUSH)).removesuffix(DEFLATE_TAIL)


@dataclass(frozen=True)
class Frame:
    """A frame of the server."""

    opcode: int
    payload: bytes = b""
    fin: bool = True
    rsv: int = 0

    @property
    def code(self) -> int | None:
        """Of a close frame; None where it has none."""
        assert self.opcode == CLOSE, self
        return int.from_bytes(self.payload[:2], "big") if self.payload else None

    @property
    def reason(self) -> str:
        """Of a close frame."""
        assert self.opcode == CLOSE, self
        return self.payload[2:].decode()


def read_frame(data: bytes) -> tuple[Frame, int] | None:
    """The first frame of a server in `data` and its size, None while it is not whole."""
    if len(data) < 2:
        return None
    first, size, at = data[0], data[1], 2
    assert not size & 0x80, f"a server must not mask: {data[:20]!r}"
    if size >= 126:
        at = 4 if size == 126 else 10
        if len(data) < at:
            return None
        announced, size = size, int.from_bytes(data[2:at], "big")
        assert size > (125 if announced == 126 else 65535), f"a length that is longer than it need be: {data[:20]!r}"
    if len(data) < at + size:
        return None
    opcode, fin, rsv = first & 15, bool(first & 0x80), first >> 4 & 7
    assert opcode in (CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG), f"opcode {opcode}"
    assert opcode < CLOSE or (fin and size <= 125 and not rsv), f"a control frame {data[:20]!r}"
    assert not rsv & 3, f"reserved bits {data[:20]!r}"
    return Frame(opcode, data[at : at + size], fin, rsv), at + size


# --- the client's end of a connection ---------------------------------------------------------------------------------


class Wire:
    """One connection. Every wait is bounded."""

    def __init__(self) -> None:
        self.unread = b""
        self.has_ended = False
        self.was_reset = False

    async def send(self, *pieces: bytes) -> None:
        """Send, each piece by itself."""
        raise NotImplementedError

    async def more(self) -> bool:
        """Wait for bytes; False when the server has ended the connection instead."""
        raise NotImplementedError

    async def answer(self, method: str = "GET") -> Response:
        """The next HTTP answer."""
        while (found := read_one(self.unread, 0, method, self.has_ended)) is None:
            assert not self.has_ended, f"ended within {self.unread!r}"
            await self.more()
        answer, end = found
        self.unread = self.unread[end:]
        return answer

    async def frame(self) -> Frame:
        """The next frame."""
        while (found := read_frame(self.unread)) is None:
            assert await self.more(), f"the server ended the connection, unread {self.unread!r}"
        one, size = found
        self.unread = self.unread[size:]
        return one

    async def frames(self, count: int) -> list[Frame]:
        return [await self.frame() for _ in range(count)]

    async def message(self) -> Frame:
        """The next message, put together of its fragments."""
        first = await self.frame()
        assert first.opcode in (TEXT, BINARY), first
        payload, last = first.payload, first
        while not last.fin:
            last = await self.frame()
            assert (last.opcode, last.rsv) == (CONTINUATION, 0), last
            payload += last.payload
        return Frame(first.opcode, payload, True, first.rsv)

    async def expect_close(self, code: int | None, reason: str | None = None) -> Frame:
        """The next frame closes with this code."""
        one = await self.frame()
        assert one.opcode == CLOSE and one.code == code, f"{one}, code {one.opcode == CLOSE and one.code}"
        assert reason is None or one.reason == reason, one
        return one

    async def expect_end(self) -> None:
        """The server ends the connection and says nothing before."""
        while await self.more():
            pass
        assert self.unread == b"", self.unread

    async def expect_failure(self, code: int) -> None:
        """The server fails the connection: a close frame with this code, then the end. It waits for nothing more."""
        await self.expect_close(code)
        await self.expect_end()

    def fin(self) -> None:
        """End our side."""
        raise NotImplementedError

    def reset(self) -> None:
        """Be gone without a word."""
        raise NotImplementedError


class MemoryWire(Wire):
    """Over a `MemoryChannel`."""

    def __init__(self, peer: object) -> None:
        super().__init__()
        self.peer = peer

    async def send(self, *pieces: bytes) -> None:
        for piece in pieces:  # from the loop, as bytes come: within our task no other task could run
            asyncio.get_running_loop().call_soon(self._feed, piece)
            await turn()

    def _feed(self, piece: bytes) -> None:
        if self.peer.state == "open":
            self.peer.feed(piece)

    async def more(self) -> bool:
        for _ in range(MAX_TURNS):
            has_ended = self.peer.state != "open"  # looked at first: the last bytes come before the end
            if data := self.peer.channel.take_output():
                self.unread += data
                return True
            if has_ended:
                self.has_ended, self.was_reset = True, self.peer.aborted
                return False
            await turn()
        raise AssertionError(f"neither bytes nor the end came; unread {self.unread!r}")

    def fin(self) -> None:
        self.peer.eof()

    def reset(self) -> None:
        self.peer.lost()


class SocketWire(Wire):
    """Over a real socket."""

    def __init__(self, client: object) -> None:
        super().__init__()
        self.client = client

    async def send(self, *pieces: bytes) -> None:
        with contextlib.suppress(ConnectionError):  # what the server has said is still to be read
            for piece in pieces:
                await self.client.send(piece)
                await turn()

    async def more(self) -> bool:
        try:
            data = await self.client.receive()
        except ConnectionResetError:
            data, self.was_reset = b"", True
        self.unread += data
        self.has_ended = not data
        return bool(data)

    def fin(self) -> None:
        self.client.shut()

    def reset(self) -> None:
        self.client.reset()


# --- both ends --------------------------------------------------------------------------------------------------------


class Talk:
    """A running server with its fake clock, and clients to it."""

    def __init__(self, bench: object, body: str) -> None:
        self.bench, self.body = bench, body
        self.runtime = bench.runtime

    async def connect(self, **how: object) -> Wire:
        """A client that has said nothing."""
        if self.body == "memory":
            return MemoryWire(self.bench.connect())
        return SocketWire(await self.bench.dial(**how))

    async def ask(self, *headers: str, behind: bytes = b"", **how: object) -> tuple[Wire, Response]:
        """Send a handshake, with bytes right behind it; the answer."""
        wire = await self.connect()
        await wire.send(request(*headers, **how) + behind)
        return wire, await wire.answer(how.get("method", "GET"))

    async def open(self, *headers: str, **how: object) -> Wire:
        """A client whose handshake is done."""
        wire, answer = await self.ask(*headers, **how)
        assert answer.status == 101, answer
        assert answer.one("sec-websocket-accept") == ACCEPT, answer
        wire.answered = answer
        return wire

    async def pass_time(self, seconds: float) -> None:
        """Move the fake clock."""
        await self.bench.pass_time(seconds)

    async def until(self, condition: Callable[[], object], what: str = "") -> None:
        """Wait, bounded."""
        if self.body == "memory":
            await until(condition, what)
        else:
            await self.bench.until(condition, what)


@contextlib.asynccontextmanager
async def talking(app: Callable, body: str, **options: object) -> AsyncIterator[Talk]:
    """Serve `app` over this body; on leaving nothing of a connection may be left."""
    serve = serving(app, **options) if body == "memory" else listening(app, body, **options)
    async with serve as bench:
        yield Talk(bench, body)


# --- applications -----------------------------------------------------------------------------------------------------


class Room:
    """Accepts, keeps every event that it receives, and echoes if told to."""

    def __init__(self, *, echo: bool = False, accept: dict | None = None) -> None:
        self.echo, self.accept = echo, accept or {}
        self.events: list[dict] = []
        self.scopes: list[dict] = []
        self.ended = 0

    async def __call__(self, scope: dict, receive: Callable, send: Callable) -> None:
        self.scopes.append(scope)
        assert (await receive()) == {"type": "websocket.connect"}
        await send({"type": "websocket.accept", **self.accept})
        while True:
            event = await receive()
            self.events.append(event)
            if event["type"] == "websocket.disconnect":
                self.ended += 1
                return
            if self.echo:
                await send({"type": "websocket.send", **answer_to(event)})

    @property
    def messages(self) -> list[str | bytes]:
        """What was received, text as `str` and binary as `bytes`."""
        return [payload_of(event) for event in self.events if event["type"] == "websocket.receive"]

    @property
    def disconnect(self) -> dict | None:
        """The last event, if it is a disconnect."""
        return self.events[-1] if self.events and self.events[-1]["type"] == "websocket.disconnect" else None


def payload_of(event: dict) -> str | bytes:
    """Exactly one of the two is there (ASGI `websocket.receive`)."""
    values = [event[key] for key in ("text", "bytes") if event.get(key) is not None]
    assert len(values) == 1, event
    assert type(values[0]) is (str if event.get("text") is not None else bytes), event
    return values[0]


def answer_to(event: dict) -> dict:
    """Text as text, bytes as bytes."""
    payload = payload_of(event)
    return {"text": payload} if isinstance(payload, str) else {"bytes": payload}


class Gate:
    """Accepts, then does what the test says, a step at a time: `await gate(lambda send: send(...))`."""

    def __init__(self, *, accept: bool = True) -> None:
        self.accepts = accept
        self.ready = asyncio.Event()
        self.leave = asyncio.Event()
        self.failure: BaseException | None = None

    async def __call__(self, scope: dict, receive: Callable, send: Callable) -> None:
        self.scope, self.receive, self.send = scope, receive, send
        if self.accepts:
            assert (await receive())["type"] == "websocket.connect"
            await send({"type": "websocket.accept"})
        self.ready.set()
        await self.leave.wait()
        if self.failure is not None:
            raise self.failure

    async def opened(self) -> None:
        """Wait until a client is there."""
        async with asyncio.timeout(PATIENCE_S):
            await self.ready.wait()

    def end(self, failure: BaseException | None = None) -> None:
        """Return, or raise."""
        self.failure = failure
        self.leave.set()
