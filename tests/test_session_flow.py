"""One WebSocket over time: back-pressure both ways, pings, compression, and how whoever waits is woken."""

import asyncio
import contextlib
import contextvars
import zlib

import pytest
from drive import complaints, serving, turn, until
from frames import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, Frame, close, frame
from websocket_drive import ACCEPT, Script, binary, closing, connected, disconnect, echo, offered, text

from fastasgi._probe import negotiated
from fastasgi.errors import ClientDisconnected

anyio = pytest.importorskip("anyio")

KIB = 1024


@pytest.fixture
def script():
    return Script()


async def scripted(bench, *lines):
    """A client, and the application that serves it, accepted."""
    client = await offered(bench, *lines)
    await bench.runtime.app.started.wait()
    await bench.runtime.app.accept()
    await turn()
    return client


def received(data):
    return {"type": "websocket.receive", "text" if isinstance(data, str) else "bytes": data}


# --- back-pressure ------------------------------------------------------------------------------------------------


@pytest.mark.pins("websocket.receive-backpressure")
@pytest.mark.parametrize("piecewise", [False, True])
async def test_a_queue_full_of_messages(script, piecewise):
    async with serving(script, ws_max_queue=4) as bench:
        client = await scripted(bench)
        data = b"".join(frame(TEXT, str(n)) for n in range(20)) + frame(PING, b"behind")
        for part in [data[at : at + 1] for at in range(len(data))] if piecewise else [data]:
            client.feed(part)
        assert not client.peer.channel.reading
        assert client.frames == []      # what is behind the messages waits with them
        for n in range(20):
            assert await script.receive() == received(str(n))
            await turn(2)
        assert client.peer.channel.reading
        assert client.frames == [Frame(PONG, b"behind")]
        script.finish()


@pytest.mark.pins("websocket.receive-backpressure")
async def test_a_queue_full_of_bytes(script):
    async with serving(script, ws_max_queue_bytes=10 * KIB) as bench:
        client = await scripted(bench)
        client.feed(frame(BINARY, bytes(9 * KIB)))
        assert client.peer.channel.reading
        client.feed(frame(BINARY, bytes(2 * KIB)), frame(TEXT, "third"))
        assert not client.peer.channel.reading
        assert await script.receive() == received(bytes(9 * KIB))
        await turn(2)
        assert client.peer.channel.reading
        assert await script.receive() == received(bytes(2 * KIB))
        assert await script.receive() == received("third")
        script.finish()


@pytest.mark.pins("websocket.receive-backpressure")
@pytest.mark.parametrize("how", ["close frame", "eof", "drain", "closed by the application"])
async def test_the_end_while_the_queue_is_full(script, how):
    async with serving(script, ws_max_queue=2) as bench:
        client = await scripted(bench)
        client.feed(*(frame(TEXT, str(n)) for n in range(5)), close(1001) if how == "close frame" else b"")
        if how == "eof":
            client.peer.eof()
        if how == "drain":
            bench.runtime.drain()
        if how == "closed by the application":
            await script.send(closing(3000))
            assert await script.receive() == disconnect(3000)
            client.feed(close(3000))
            await client.ended()
            script.finish()
            return
        count = 5 if how != "drain" else 2
        for n in range(count):
            assert await script.receive() == received(str(n))
        assert await script.receive() == disconnect({"close frame": 1001, "eof": 1006, "drain": 1012}[how])
        script.finish()


@pytest.mark.pins("websocket.send-backpressure")
async def test_a_client_that_does_not_read(script):
    async with serving(script) as bench:
        client = await scripted(bench)
        client.peer.channel.hold_output(0)
        await script.send(binary(bytes(40 * KIB)))
        sending = asyncio.ensure_future(script.send(binary(bytes(40 * KIB))))
        await turn(5)
        assert not sending.done()
        client.peer.channel.hold_output(None)
        await sending
        assert [len(each.payload) for each in client.frames] == [40 * KIB] * 2
        script.finish()


@pytest.mark.pins("websocket.send-backpressure")
@pytest.mark.parametrize("how", ["lost", "stalls"])
async def test_a_client_that_goes_while_it_is_waited_for(script, how):
    async with serving(script, timeout_response_stall=5, ws_ping_interval=None) as bench:
        client = await scripted(bench)
        client.peer.channel.hold_output(0)
        sending = asyncio.ensure_future(script.send(binary(bytes(100 * KIB))))
        await turn(5)
        if how == "lost":
            client.peer.lost()
        else:
            await bench.pass_time(7)
            assert client.peer.aborted
        with pytest.raises(ClientDisconnected):
            await sending
        assert await script.receive() == disconnect(1006)
        script.finish()


async def test_pings_of_a_client_that_does_not_read(script):
    """Their answers do not pile up: of those that come meanwhile, the last is answered."""
    async with serving(script) as bench:
        client = await scripted(bench)
        client.peer.channel.hold_output(0)
        sending = asyncio.ensure_future(script.send(binary(bytes(80 * KIB))))
        await turn(2)
        for n in range(1000):
            client.feed(frame(PING, b"%d" % n * 20))
        assert client.peer.channel.pending < 90 * KIB
        client.peer.channel.hold_output(None)
        await sending
        assert client.frames[1:] == [Frame(PONG, b"999" * 20)]
        script.finish()


async def test_messages_in_a_row_leave_the_loop_its_turns():
    """An application that always finds a message gives way once it has had its share."""
    turns = 0

    async def counting():
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async with serving(echo, ws_max_queue=10_000, ws_max_queue_bytes=1 << 30) as bench:
        client = await connected(bench)
        counter = asyncio.ensure_future(counting())
        before = turns
        client.feed(*(frame(BINARY, bytes(32 * KIB)) for _ in range(100)))
        await until(lambda: len(client.frames) == 100)
        counter.cancel()
        assert turns - before >= 100 * 32 * KIB // (256 * KIB)


# --- pings --------------------------------------------------------------------------------------------------------


@pytest.mark.pins("websocket.pings")
async def test_pings_that_are_answered(script):
    async with serving(script, ws_ping_interval=10, ws_ping_timeout=5) as bench:
        client = await scripted(bench)
        await bench.pass_time(9)
        assert client.frames == []
        for count in range(1, 4):
            await bench.pass_time(2)
            assert len(client.frames) == count
            ping = client.frames[-1]
            assert ping.opcode == PING
            await bench.pass_time(3)
            client.feed(frame(PONG, b"another"), frame(PONG, ping.payload))
            await bench.pass_time(8.9)
            assert len(client.frames) == count and client.state == "open"
        script.finish()


@pytest.mark.pins("websocket.pings")
@pytest.mark.parametrize("pong", [None, b"wrong"])
async def test_a_ping_that_is_not_answered(script, pong):
    async with serving(script, ws_ping_interval=10, ws_ping_timeout=5) as bench:
        client = await scripted(bench)
        await bench.pass_time(11.5)
        assert [each.opcode for each in client.frames] == [PING]
        if pong:
            client.feed(frame(PONG, pong), frame(TEXT, "alive, but says nothing of the ping"))
        await bench.pass_time(3)
        assert client.state == "open"
        await bench.pass_time(3)
        assert client.frames[-1] == Frame(CLOSE, (1011).to_bytes(2, "big") + b"keepalive ping timeout")
        assert client.state != "open"
        if pong:
            await script.receive()
        assert await script.receive() == disconnect(1011, "keepalive ping timeout")
        script.finish()


@pytest.mark.pins("websocket.pings")
@pytest.mark.parametrize(("options", "count"), [
    ({"ws_ping_interval": None}, 0), ({"ws_ping_interval": 10, "ws_ping_timeout": None}, 10),
])  # fmt: skip
async def test_pings_switched_off(script, options, count):
    async with serving(script, **options) as bench:
        client = await scripted(bench)
        await bench.pass_time(110)
        assert abs(len(client.frames) - count) <= 1 and client.state == "open"
        script.finish()


@pytest.mark.pins("websocket.pings")
async def test_a_client_that_we_do_not_read_is_not_blamed(script):
    async with serving(script, ws_max_queue=1, ws_ping_interval=10, ws_ping_timeout=5) as bench:
        client = await scripted(bench)
        client.feed(frame(TEXT, "first"), frame(TEXT, "second"))
        await bench.pass_time(60)
        assert client.state == "open" and [each.opcode for each in client.frames] == [PING]
        client.feed(frame(PONG, client.frames[0].payload))
        assert await script.receive() == received("first")
        assert await script.receive() == received("second")
        await bench.pass_time(5)
        assert client.state == "open"
        await bench.pass_time(7)
        assert len(client.frames) == 2
        script.finish()


@pytest.mark.pins("websocket.pings")
async def test_a_client_that_takes_what_came_before_the_ping_is_not_blamed(script):
    async with serving(script, ws_ping_interval=10, ws_ping_timeout=5) as bench:
        client = await scripted(bench)
        client.peer.channel.hold_output(0)
        sending = asyncio.ensure_future(script.send(binary(bytes(100 * KIB))))
        for _ in range(20):
            await bench.pass_time(2)
            client.peer.channel.hold_output(1000)
        assert client.state == "open"
        client.peer.channel.hold_output(None)
        await sending
        await bench.pass_time(7)
        assert client.frames[-1].opcode == CLOSE
        script.finish()


@pytest.mark.pins("websocket.pings")
async def test_a_long_frame_that_goes_on_is_a_sign_of_life(script):
    """Nothing can be said between its bytes. One that stops is none."""
    async with serving(script, ws_ping_interval=10, ws_ping_timeout=5) as bench:
        client = await scripted(bench)
        data = frame(BINARY, bytes(100))
        client.feed(data[:10])
        for at in range(10, 40):
            await bench.pass_time(2)
            client.feed(data[at : at + 1])
        assert client.state == "open"
        await bench.pass_time(12)
        assert client.frames[-1].opcode == CLOSE
        script.finish()


# --- compression --------------------------------------------------------------------------------------------------


DEFLATE = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits"
LONG = "".join(f"line {n * n % 97} of a text that repeats itself, " for n in range(30))


def inflated(client, bits=12):
    """The messages of the server's compressed frames, by one stream."""
    stream = zlib.decompressobj(-bits)
    for each in client.frames:
        data = stream.decompress(each.payload + b"\0\0\xff\xff") if each.rsv else each.payload
        yield data.decode()


@pytest.mark.pins("websocket.deflate")
async def test_compressed_both_ways():
    async with serving(echo) as bench:
        client = await connected(bench, DEFLATE)
        assert b"\r\nsec-websocket-extensions: permessage-deflate; server_max_window_bits=12; " \
               b"client_max_window_bits=12" in client.head  # fmt: skip
        stream = zlib.compressobj(wbits=-12)
        for message in (LONG, "short", LONG, "é" * 300):
            packed = stream.compress(message.encode()) + stream.flush(zlib.Z_SYNC_FLUSH)
            client.feed(frame(TEXT, packed[:-4], rsv=0x40))
        assert (await client.frame(4)).rsv == 0x40
        assert list(inflated(client)) == [LONG, "short", LONG, "é" * 300]
        assert [bool(each.rsv) for each in client.frames] == [True, False, True, True]
        assert len(client.frames[2].payload) < len(client.frames[0].payload) / 2     # it refers to the first


@pytest.mark.pins("websocket.deflate")
@pytest.mark.parametrize(("options", "size", "packed"), [
    ({}, 255, False), ({}, 256, True), ({"ws_deflate_min_size": 0}, 1, True),
    ({"ws_per_message_deflate": False}, 999, False),
])  # fmt: skip
async def test_what_is_compressed(script, options, size, packed):
    async with serving(script, **options) as bench:
        client = await scripted(bench, DEFLATE)
        await script.send(text("x" * size))
        await script.send(binary(b"x" * size))
        assert [bool(each.rsv) for each in client.frames] == [packed, packed]
        script.finish()


@pytest.mark.pins("websocket.deflate")
async def test_without_takeover_each_message_stands_alone(script):
    async with serving(script) as bench:
        client = await scripted(bench, "Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover")
        await script.send(text(LONG))
        await script.send(text(LONG))
        first, second = client.frames
        assert first.payload == second.payload
        script.finish()


@pytest.mark.pins("websocket.deflate-memory")
@pytest.mark.parametrize("interval", [10, None])
async def test_an_idle_connection_gives_its_compressor_back(script, interval):
    """Seen by its next message, which refers to nothing before it."""
    async with serving(script, ws_ping_interval=interval, ws_ping_timeout=None) as bench:
        client = await scripted(bench, DEFLATE)
        await script.send(text(LONG))
        await script.send(text(LONG))
        await bench.pass_time(70)
        await script.send(text(LONG))
        first, second, third = (each.payload for each in client.frames if each.opcode == TEXT)
        assert first == third != second
        script.finish()


BOTH = b"permessage-deflate; server_max_window_bits=12; client_max_window_bits=12"
SERVER = b"permessage-deflate; server_max_window_bits=12"
OFFERS = {
    b"permessage-deflate": SERVER,
    b"PerMessage-Deflate": SERVER,
    b"permessage-deflate; client_max_window_bits": BOTH,
    b"permessage-deflate ;client_max_window_bits = 15": BOTH,
    b'permessage-deflate; client_max_window_bits="10"': SERVER + b"; client_max_window_bits=10",
    b"permessage-deflate; client_max_window_bits=8": SERVER + b"; client_max_window_bits=8",
    b"permessage-deflate; server_max_window_bits=9": b"permessage-deflate; server_max_window_bits=9",
    b"permessage-deflate; server_max_window_bits=15": SERVER,
    b"permessage-deflate; server_no_context_takeover": SERVER + b"; server_no_context_takeover",
    b"permessage-deflate; client_no_context_takeover": SERVER + b"; client_no_context_takeover",
    b"permessage-deflate; client_no_context_takeover; server_no_context_takeover; client_max_window_bits":
        BOTH + b"; server_no_context_takeover; client_no_context_takeover",
    b"x-webkit-deflate-frame, permessage-deflate": SERVER,
    b'foo; a="b, permessage-deflate", permessage-deflate; client_max_window_bits': BOTH,
    b"permessage-deflate; server_max_window_bits=8, permessage-deflate": SERVER,
    b"permessage-deflate; x=1, permessage-deflate; client_max_window_bits": BOTH,
    b"": None,
    b"foo": None,
    b"permessage-deflate; unknown": None,
    b"permessage-deflate; server_max_window_bits": None,
    b"permessage-deflate; server_max_window_bits=8": None,
    b"permessage-deflate; server_max_window_bits=7": None,
    b"permessage-deflate; server_max_window_bits=16": None,
    b"permessage-deflate; server_max_window_bits=09": None,
    b"permessage-deflate; server_max_window_bits=": None,
    b"permessage-deflate; client_max_window_bits=16": None,
    b"permessage-deflate; client_max_window_bits=x": None,
    b'permessage-deflate; client_max_window_bits=""': None,
    b"permessage-deflate; server_no_context_takeover=1": None,
    b"permessage-deflate; client_no_context_takeover=true": None,
    b'permessage-deflate; client_no_context_takeover=""': None,
    b"permessage-deflate; server_no_context_takeover; server_no_context_takeover": None,
    b"permessage-deflate; server_max_window_bits=10; Server_Max_Window_Bits=10": None,
    b"permessage-deflate;": None,
    b"permessage-deflate; ; client_max_window_bits": None,
    b"permessage-deflate client_max_window_bits": None,
    b'permessage-deflate; client_max_window_bits="10': None,
    b"permessage-deflate/1": None,
    b"; permessage-deflate": None,
}  # fmt: skip


@pytest.mark.pins("websocket.deflate-offers")
@pytest.mark.parametrize("offer", OFFERS)
def test_offers(offer):
    assert negotiated([offer]) == OFFERS[offer]


def test_offers_over_several_lines():
    assert negotiated([b"foo", b"permessage-deflate; x", b"permessage-deflate"]) == SERVER


@pytest.mark.pins("websocket.deflate-offers")
async def test_an_offer_that_is_declined_is_no_fault(script):
    async with serving(script) as bench:
        client = await scripted(bench, "Sec-WebSocket-Extensions: permessage-deflate; unknown")
        assert b"sec-websocket-extensions" not in client.peer.output
        client.feed(frame(TEXT, "x", rsv=0x40))
        assert (await client.close_frame())[0] == 1002
        script.finish()


# --- who waits is woken -------------------------------------------------------------------------------------------


def from_the_loop(function, *arguments):
    """Call it as the loop calls what has read a socket: with no task running. Give its result or error."""
    loop = asyncio.get_running_loop()
    done = loop.create_future()

    def call():
        try:
            done.set_result(function(*arguments))
        except BaseException as error:
            done.set_exception(RuntimeError(repr(error)) if isinstance(error, SystemExit) else error)

    loop.call_soon(call)
    return done


@pytest.mark.pins("websocket.batch")
async def test_an_answer_leaves_with_the_batch(event_loop_kind):
    """Who waits in receive() goes on within the call that fed the message."""
    async with serving(echo) as bench:
        client = await connected(bench)

        def ask():
            client.feed(frame(TEXT, "a"), frame(TEXT, "b"))
            return client.frames

        assert await from_the_loop(ask) == [Frame(TEXT, b"a"), Frame(TEXT, b"b")]
        assert await from_the_loop(ask) == [Frame(TEXT, b"a"), Frame(TEXT, b"b")] * 2


async def test_the_task_and_its_context_are_the_same_behind_a_wait(event_loop_kind):
    variable = contextvars.ContextVar("variable")
    seen = []

    async def app(scope, receive, send):
        variable.set("mine")
        task = asyncio.current_task()
        await receive()
        await send(ACCEPT)
        while (await receive())["type"] == "websocket.receive":
            seen.append((asyncio.current_task() is task, variable.get()))
            await asyncio.sleep(0)
            seen.append((asyncio.current_task() is task, variable.get()))

    async with serving(app) as bench:
        client = await connected(bench)
        await from_the_loop(client.feed, frame(TEXT, "a"))
        await turn(2)
        assert seen == [(True, "mine")] * 2
        assert variable.get("nothing") == "nothing"


async def gathered(receive):
    return (await asyncio.gather(receive(), asyncio.sleep(0)))[0]


async def grouped(receive):
    async with asyncio.TaskGroup() as group:
        task = group.create_task(receive())
    return task.result()


async def scoped(receive):
    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            group.start_soon(anyio.sleep, 0)
            return await receive()


async def waited(receive):
    task = asyncio.ensure_future(receive())
    await asyncio.wait({task}, timeout=5)
    return task.result()


async def after_timeouts(receive):
    for _ in range(3):
        with anyio.move_on_after(0.0001):
            return await receive()
        with contextlib.suppress(TimeoutError):
            return await asyncio.wait_for(receive(), 0.0001)
    return await receive()


WAITS = {
    "awaited": lambda receive: receive(),
    "a task": lambda receive: asyncio.ensure_future(receive()),
    "wait_for": lambda receive: asyncio.wait_for(receive(), 5),
    "shield": lambda receive: asyncio.shield(receive()),
    "gather": gathered,
    "TaskGroup": grouped,
    "anyio": scoped,
    "wait": waited,
    "timeouts before": after_timeouts,
}


@pytest.mark.parametrize("how", WAITS)
@pytest.mark.parametrize("fed", ["by the loop", "by a task"])
async def test_receive_in_what_applications_do_with_it(how, fed, event_loop_kind):
    got = []

    async def app(scope, receive, send):
        await receive()
        await send(ACCEPT)
        for _ in range(3):
            got.append(await WAITS[how](receive))

    async with serving(app) as bench:
        client = await connected(bench)
        for n in range(3):
            await asyncio.sleep(0.002)
            if fed == "by the loop":
                await from_the_loop(client.feed, frame(TEXT, str(n)))
            else:
                client.feed(frame(TEXT, str(n)))
            await until(lambda n=n: len(got) == n + 1)
        assert got == [received(str(n)) for n in range(3)]
        assert await client.close_frame() == (1000, "")


async def test_cancelled_while_it_waits(event_loop_kind, caplog):
    async with serving(echo) as bench:
        client = await connected(bench)
        bench.runtime.cancel()
        assert await client.close_frame() == (1011, "")
        await turn(2)
        assert bench.runtime.requests_active == 0 and not complaints(caplog)


async def test_an_exit_comes_out_of_the_call_that_woke_it():
    async def app(scope, receive, send):
        await receive()
        await send(ACCEPT)
        await receive()
        raise SystemExit(3)

    async with serving(app) as bench:
        client = await connected(bench)
        with pytest.raises(RuntimeError, match=r"SystemExit\(3\)"):
            await from_the_loop(client.feed, frame(TEXT, "a"))
        await turn(3)
        assert client.peer.aborted


async def test_a_client_that_is_lost_wakes_in_a_later_turn():
    """The loss may be seen while the output of others is written: no application runs within that."""
    woken = []

    async def app(scope, receive, send):
        await receive()
        await send(ACCEPT)
        woken.append((await receive())["type"])

    async with serving(app) as bench:
        client = await connected(bench)

        def lose():
            client.peer.lost()
            return list(woken)

        assert await from_the_loop(lose) == []
        await turn(2)
        assert woken == ["websocket.disconnect"]


async def test_fragments_and_closes_from_the_loop():
    """What came before a fault is answered before it ends the connection."""
    async with serving(echo) as bench:
        client = await connected(bench)
        await from_the_loop(
            client.feed, frame(TEXT, "a", fin=False) + frame(CONTINUATION, "b") + frame(CONTINUATION, "c"))  # fmt: skip
        assert [each.opcode for each in client.frames] == [TEXT, CLOSE]
        assert client.frames[0].payload == b"ab"
