"""TransportChannel: output that is gathered, counted by the writes of a transport, on both event loops.

What goes over real connections stands in test_channels.py, test_tls.py and test_session_process.py.
"""

import asyncio
import sys

import frames
import pytest
from answers import read_answers
from drive import GET, START, body, complaints, hello, request, serving, start, turn, until
from frames import TEXT, handshake
from test_tls import Tls
from websocket_drive import Script, echo, text

from fastasgi._transport import TransportChannel, as_address

HIGH_WATER = 64 * 1024
PIECES = [f"{number}".encode() * (number + 1) for number in range(10)]


class Encrypted:
    """What a channel asks of an `ssl.SSLObject`."""

    def cipher(self):
        return None

    def version(self):
        return "TLSv1.3"

    def getpeercert(self, binary_form=False):
        return None


class Wire(asyncio.Transport):
    """A transport that keeps each write by itself; `stuck` keeps what was written as if nobody read."""

    def __init__(self, runtime, *, encrypted=False):
        super().__init__()
        self.writes, self.said, self.stuck, self.encrypted = [], [], False, encrypted
        self.channel = TransportChannel(runtime)
        self.channel.connection_made(self)

    def get_extra_info(self, name, default=None):
        return Encrypted() if self.encrypted and name == "ssl_object" else default

    def write(self, data):
        assert not self.said, f"written behind {self.said}"
        self.writes.append(bytes(data))

    def get_write_buffer_size(self):
        return sum(map(len, self.writes)) if self.stuck else 0

    def set_write_buffer_limits(self, high=None, low=None):
        pass

    def can_write_eof(self):
        return not self.encrypted

    def write_eof(self):
        self.said.append("eof")

    def close(self):
        self._end("close")

    def abort(self):
        self._end("abort")

    def _end(self, how):
        if not {"close", "abort"} & set(self.said):
            asyncio.get_running_loop().call_soon(self.channel.connection_lost, None)
        self.said.append(how)

    @property
    def output(self):
        return b"".join(self.writes)

    async def opened(self, script=None):
        """The handshake of a WebSocket, which `script`, or an application of its own, accepts; it is forgotten."""
        self.channel.data_received(handshake())
        if script is not None:
            await script.started.wait()
            await script.accept()
        await until(lambda: b"\r\n\r\n" in self.output)
        assert self.output.startswith(b"HTTP/1.1 101 "), self.output
        await turn(3)
        self.writes.clear()


@pytest.fixture(params=[False, True], ids=["clear", "tls"])
def encrypted(request):
    """Whether the channel takes its transport for one of TLS."""
    return request.param


# --- WebSockets ---------------------------------------------------------------------------------------------------


@pytest.mark.pins("websocket.one-write")
async def test_frames_of_one_turn_leave_in_one_write(event_loop_kind, encrypted):
    script = Script()
    async with serving(script) as bench:
        wire = Wire(bench.runtime, encrypted=encrypted)
        await wire.opened(script)
        for turns in range(2):
            for number in range(7):
                await script.send(text(f"{turns} {number}"))
            assert len(wire.writes) == turns
            await turn()
            assert len(wire.writes) == turns + 1
        sent = [frame.payload.decode() for frame in frames.read(wire.output)]
        assert sent == [f"{turns} {number}" for turns in range(2) for number in range(7)]
        script.finish()
        await until(lambda: wire.writes[-1].endswith((1000).to_bytes(2, "big")))
        wire.channel.connection_lost(None)
        await turn(3)


@pytest.mark.pins("websocket.batch")
async def test_answers_to_what_came_together_leave_in_one_write(event_loop_kind, encrypted):
    """Within the call that brought it: an application that waits in receive() is woken there."""
    async with serving(echo) as bench:
        wire = Wire(bench.runtime, encrypted=encrypted)
        await wire.opened()
        asyncio.get_running_loop().call_soon(wire.channel.data_received, frames.frame(TEXT, "ping") * 5)
        await turn()
        assert [frame.payload for frame in frames.read(wire.output)] == [b"ping"] * 5
        assert len(wire.writes) == 1
        wire.channel.connection_lost(None)
        await turn(3)


async def test_frames_of_many_connections_leave_with_the_same_turn(event_loop_kind):
    """A broadcast: one write for each connection, however many frames."""
    scripts = []

    async def app(scope, receive, send):
        scripts.append(Script())
        await scripts[-1](scope, receive, send)

    async with serving(app) as bench:
        wires = [Wire(bench.runtime) for _ in range(20)]
        for wire in wires:
            wire.channel.data_received(handshake())
        await turn(2)
        for script in scripts:
            await script.accept()
        await turn()
        for wire in wires:
            wire.writes.clear()
        for word in ("one", "two", "three"):
            for script in scripts:
                await script.send(text(word))
        await turn()
        for wire in wires:
            assert len(wire.writes) == 1
            assert [frame.payload for frame in frames.read(wire.output)] == [b"one", b"two", b"three"]
        for wire in wires:
            wire.channel.connection_lost(None)
        for script in scripts:
            script.finish()
        await turn(5)


async def test_a_close_takes_along_what_was_gathered(event_loop_kind, encrypted):
    script = Script()
    async with serving(script) as bench:
        wire = Wire(bench.runtime, encrypted=encrypted)
        await wire.opened(script)
        await script.send(text("last"))
        wire.channel.data_received(frames.close(1000))      # answered, and the connection closed
        assert [frame.opcode for frame in frames.read(wire.output)] == [TEXT, frames.CLOSE]
        assert len(wire.writes) == 1 and wire.said == ["close"]
        script.finish()
        await turn(5)


# --- HTTP ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("outside", [False, True], ids=["in a batch", "outside"])
async def test_pieces_of_one_turn_leave_in_one_write(event_loop_kind, encrypted, outside):
    async def app(scope, receive, send):
        if outside:
            await turn()
        await send(START)
        for piece in PIECES:
            await send(body(piece, True))
        if not outside:
            assert not wire.writes
        await turn()
        assert len(wire.writes) == 1
        await send(body(b"end"))        # the end of a response does not wait
        assert len(wire.writes) == 2

    async with serving(app) as bench:
        wire = Wire(bench.runtime, encrypted=encrypted)
        wire.channel.data_received(GET)
        await until(lambda: read_answers(wire.output, ("GET",), ended=False))
        (answer,) = read_answers(wire.output, ("GET",), ended=False)
        assert answer.body == b"".join(PIECES) + b"end"
        wire.channel.connection_lost(None)
        await turn(3)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="no eager tasks: each answer has a turn of its own")
async def test_pipelined_answers_leave_in_one_write(event_loop_kind):
    async with serving(hello) as bench:
        wire = Wire(bench.runtime)
        wire.channel.data_received(GET * 5)
        assert len(read_answers(wire.output, ("GET",) * 5, ended=False)) == 5
        assert len(wire.writes) == 1
        wire.channel.connection_lost(None)


async def test_no_more_is_gathered_than_the_high_water_mark(event_loop_kind):
    async def app(scope, receive, send):
        await send(START)
        for _ in range(40):
            await send(body(b"x" * 4000, True))
            assert sum(map(len, wire.writes)) > before[0] - HIGH_WATER
            before[0] += 4000
        assert 2 <= len(wire.writes) <= 8
        await send(body(b""))

    before = [0]
    async with serving(app) as bench:
        wire = Wire(bench.runtime)
        wire.channel.data_received(GET)
        await until(lambda: read_answers(wire.output, ("GET",), ended=False))
        (answer,) = read_answers(wire.output, ("GET",), ended=False)
        assert answer.body == b"x" * 160_000
        wire.channel.connection_lost(None)


async def test_a_slow_reader_is_waited_for(event_loop_kind):
    """What is gathered counts as soon as the transport has it."""
    sent = []

    async def app(scope, receive, send):
        await send(START)
        for _ in range(100):
            await send(body(b"x" * 10_000, True))
            sent.append(10_000)
        await send(body(b""))

    async with serving(app) as bench:
        wire = Wire(bench.runtime)
        wire.stuck = True
        wire.channel.data_received(GET)
        await turn(20)
        assert HIGH_WATER - 10_000 < sum(sent) <= 3 * HIGH_WATER
        wire.stuck = False
        while len(sent) < 100:
            wire.channel.resume_writing()
            await turn()
        await until(lambda: read_answers(wire.output, ("GET",), ended=False))
        (answer,) = read_answers(wire.output, ("GET",), ended=False)
        assert answer.body == b"x" * 1_000_000
        wire.channel.connection_lost(None)


async def test_a_close_of_http_takes_along_what_was_gathered(event_loop_kind):
    async def app(scope, receive, send):
        await turn()
        await send(start(200, [(b"content-length", b"10")]))
        await send(body(b"01234", True))
        await send(body(b"56789"))

    async with serving(app) as bench:
        wire = Wire(bench.runtime)
        wire.channel.data_received(request(headers=("Connection: close",)))
        await until(lambda: wire.said)
        assert wire.output.endswith(b"\r\n\r\n0123456789")
        assert wire.said == ["close"]
        await turn(3)


async def test_an_abort_takes_along_what_was_gathered(event_loop_kind, caplog):
    """What the application has sent before it failed is on its way before the reset."""
    async def app(scope, receive, send):
        await send(start(200, [(b"content-length", b"10")]))
        await send(body(b"01234", True))
        raise LookupError("boom")

    async with serving(app) as bench:
        wire = Wire(bench.runtime)
        wire.channel.data_received(GET)
        await until(lambda: wire.said)
        assert wire.output.endswith(b"\r\n\r\n01234")
        assert wire.said == ["abort"]
        await turn(3)
    assert len(complaints(caplog)) == 1


async def test_a_client_that_goes_before_the_turn_ends(event_loop_kind, caplog):
    """What was gathered for it is dropped, without a word."""
    async def app(scope, receive, send):
        await turn()
        await send(START)
        await send(body(b"x", True))
        wire.channel.connection_lost(None)

    async with serving(app) as bench:
        wire = Wire(bench.runtime)
        wire.channel.data_received(GET)
        await until(lambda: bench.idle)
        await turn(3)
        assert wire.writes == []
    assert not complaints(caplog)


async def test_a_transport_that_fails_ends_its_own_connection_alone(event_loop_kind):
    """At the end of the turn nobody waits for the write: the error is the connection's, and reported."""
    async def app(scope, receive, send):
        await turn()
        await send(START)
        await send(body(b"x", True))
        while (await receive())["type"] == "http.request":
            pass

    def broken(data):
        raise RuntimeError("broken")

    reported = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: reported.append(context["exception"]))
    async with serving(app) as bench:
        bad, good = Wire(bench.runtime), Wire(bench.runtime)
        bad.write = broken
        for wire in (bad, good):
            wire.channel.data_received(GET)
        await until(lambda: good.writes)
        assert bad.said == ["abort"] and good.said == []
        assert [str(error) for error in reported] == ["broken"]
        good.channel.connection_lost(None)
        await turn(5)


async def test_a_stream_over_tls_is_whole(event_loop_kind):
    """Real encryption, pieces of every size around the marks."""
    sizes = [1, 100, 16_000, 16_384, 16_385, HIGH_WATER - 1, HIGH_WATER, HIGH_WATER + 1, 200_000, 3]
    data = [bytes([65 + index]) * size for index, size in enumerate(sizes)]

    async def app(scope, receive, send):
        await send(start(200, [(b"content-length", b"%d" % sum(sizes))]))
        for piece in data:
            await send(body(piece, True))
        await turn()
        await send(body(b""))

    async with Tls(app, None, {}) as tls:
        tls.writer.write(GET)
        await tls.reader.readuntil(b"\r\n\r\n")
        assert await tls.reader.readexactly(sum(sizes)) == b"".join(data)


@pytest.mark.parametrize(
    ("name", "address"),
    [("\0name", "@name"), (b"\0name", "@name"), ("/run/app.sock", "/run/app.sock"), (b"/run/a\xff", "/run/a\udcff")],
)
def test_names_of_unix_sockets(name, address):
    """As on sockets of our own, an abstract name begins with "@"."""
    assert as_address(name) == (address, None)


# --- ends that go wrong -------------------------------------------------------------------------------------------


class Patient(Wire):
    """A transport whose peer takes its time to end."""

    def _end(self, how):
        self.said.append(how)


async def test_tls_is_closed_once():
    """At a second close() asyncio's transport takes itself apart: whatever is asked of it then raises."""
    async with serving(hello) as bench:
        wire = Patient(bench.runtime, encrypted=True)
        wire.channel.data_received(request(headers=("Connection: close",)))
        await until(lambda: wire.said)
        assert wire.said == ["close"]
        for _ in range(2):
            wire.channel.resume_writing()
            await turn(2)
        bench.runtime.disconnect()
        assert wire.said == ["close", "abort"]
        wire.channel.connection_lost(None)


@pytest.mark.pins("process.drain-bounded")
@pytest.mark.parametrize("step", ["drain", "disconnect", "abort"])
async def test_a_connection_that_cannot_end_keeps_no_other_from_it(step):
    """A step of the drain goes to all of them, and the error is told."""
    told = []
    loop = asyncio.get_running_loop()
    async with serving(hello) as bench:
        wires = [Wire(bench.runtime) for _ in range(3)]
        broken = wires[1]
        usual = broken.close, broken.abort

        def fails():
            raise RuntimeError("a bug of a transport")

        broken.close = broken.abort = fails
        loop.set_exception_handler(lambda _, context: told.append(context["exception"]))
        getattr(bench.runtime, step)()
        loop.set_exception_handler(None)
        assert {str(error) for error in told} == {"a bug of a transport"}
        assert [wire.said for wire in wires] == [["close" if step == "drain" else "abort"], [], wires[0].said]
        broken.close, broken.abort = usual
        broken.channel.connection_lost(None)
        await turn(3)
