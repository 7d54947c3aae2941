"""How a WebSocket ends: the closing handshake, lost clients, the application's end, a server that stops; and pings."""

import asyncio

import pytest
from drive import complaints, turn
from ws import (
    BODIES,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    Gate,
    Room,
    closing,
    frame,
    talking,
    text,
)

from fastasgi.errors import ClientDisconnected

pytestmark = pytest.mark.parametrize("body", BODIES)


async def ended(talk, room):
    """The disconnect that the application got."""
    await talk.until(lambda: room.disconnect, "a disconnect")
    assert room.disconnect["type"] == "websocket.disconnect"
    return room.disconnect["code"], room.disconnect["reason"]


# --- the client closes ------------------------------------------------------------------------------------------------

CODES = [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999]


@pytest.mark.pins("websocket.close-by-client")
@pytest.mark.parametrize("code", CODES)
async def test_client_closes(body, code):
    room = Room()
    async with talking(room, body) as talk:
        wire = await talk.open()
        await wire.send(closing(code, "so long, é"))
        await wire.expect_close(code)
        await wire.expect_end()
        assert not wire.was_reset
        assert await ended(talk, room) == (code, "so long, é")


@pytest.mark.pins("websocket.close-codes")
async def test_client_closes_without_a_code(body):
    room = Room()
    async with talking(room, body) as talk:
        wire = await talk.open()
        await wire.send(closing())
        assert (await wire.frame()).code in (None, 1000)
        await wire.expect_end()
        assert await ended(talk, room) == (1005, "")


@pytest.mark.pins("websocket.close-by-client")
async def test_longest_reason(body):
    room = Room()
    async with talking(room, body) as talk:
        wire = await talk.open()
        await wire.send(closing(1000, "x" * 123))
        await wire.expect_close(1000)
        assert await ended(talk, room) == (1000, "x" * 123)


@pytest.mark.pins("websocket.close-by-client")
async def test_messages_before_the_close_are_delivered(body):
    room = Room()
    async with talking(room, body) as talk:
        wire = await talk.open()
        await wire.send(text("one") + text("two") + closing(1000) + text("behind"))
        await wire.expect_close(1000)
        await wire.expect_end()
        assert await ended(talk, room) == (1000, "")
    assert room.messages == ["one", "two"]


@pytest.mark.pins("websocket.close-by-client")
async def test_close_within_a_message(body):
    """An endpoint may close between fragments; the message is not delivered."""
    room = Room()
    async with talking(room, body) as talk:
        wire = await talk.open()
        await wire.send(frame(TEXT, b"unfini", fin=False) + closing(1000))
        await wire.expect_close(1000)
        assert await ended(talk, room) == (1000, "")
    assert room.messages == []


@pytest.mark.pins("websocket.close-by-client")
async def test_nothing_behind_a_close_is_answered(body):
    async with talking(Room(echo=True), body) as talk:
        wire = await talk.open()
        await wire.send(closing(1000), frame(PING, b"x"), text("x"))
        await wire.expect_close(1000)
        await wire.expect_end()


# --- the client is lost -----------------------------------------------------------------------------------------------


@pytest.mark.pins("websocket.close-codes")
@pytest.mark.parametrize("how", ["reset", "fin"])
async def test_client_is_lost(body, how):
    room = Room()
    async with talking(room, body) as talk:
        wire = await talk.open()
        await wire.send(text("one"))
        await talk.until(lambda: room.messages)
        getattr(wire, how)()
        code, _ = await ended(talk, room)
        assert code == 1006
        await talk.until(lambda: talk.runtime.connections == 0)


@pytest.mark.pins("websocket.close-codes")
async def test_client_is_lost_within_a_message(body):
    room = Room()
    async with talking(room, body) as talk:
        wire = await talk.open()
        await wire.send(frame(TEXT, b"unfini", fin=False), text("x")[:-1])
        wire.fin()
        assert (await ended(talk, room))[0] in (1002, 1006)
    assert room.messages == []


@pytest.mark.pins("websocket.close-codes")
async def test_messages_that_came_before_the_loss_are_delivered(body):
    """A client that sends and leaves at once is heard."""
    gate = Gate()
    async with talking(gate, body) as talk:
        wire = await talk.open()
        await gate.opened()
        await wire.send(text("one") + text("two"))
        wire.fin()
        got = [await gate.receive(), await gate.receive(), await gate.receive()]
        assert [event.get("text") for event in got] == ["one", "two", None]
        assert got[2]["type"] == "websocket.disconnect" and got[2]["code"] == 1006
        gate.end()


@pytest.mark.pins("websocket.send-after-close")
@pytest.mark.parametrize("how", ["reset", "close"])
async def test_send_after_the_client_has_gone(body, how, caplog):
    gate = Gate()
    async with talking(gate, body) as talk:
        wire = await talk.open()
        await gate.opened()
        if how == "reset":
            wire.reset()
            await talk.until(lambda: talk.runtime.connections == 0)
        else:
            await wire.send(closing(1000))
            await wire.expect_close(1000)
            await wire.expect_end()
        for message in ({"type": "websocket.send", "text": "x"}, {"type": "websocket.send", "bytes": b"x"}):
            with pytest.raises(ClientDisconnected):
                await gate.send(message)
        event = await gate.receive()
        assert event["type"] == "websocket.disconnect" and event["code"] == (1006 if how == "reset" else 1000)
        assert (await gate.receive())["type"] == "websocket.disconnect"
        gate.end(ClientDisconnected("as raised by send"))
        await talk.until(lambda: talk.runtime.requests_active == 0)
    assert not complaints(caplog), "a client that leaves is no error of the application"


@pytest.mark.pins("websocket.send-after-close")
async def test_lost_client_wakes_a_receiver(body):
    gate = Gate()
    async with talking(gate, body) as talk:
        wire = await talk.open()
        await gate.opened()
        waiting = asyncio.ensure_future(gate.receive())
        await turn(3)
        assert not waiting.done()
        wire.reset()
        assert (await waiting)["type"] == "websocket.disconnect"
        gate.end()


# --- the application closes -------------------------------------------------------------------------------------------


@pytest.mark.pins("websocket.close-by-app")
@pytest.mark.parametrize(("code", "reason"), [(1000, ""), (1001, "x"), (1013, "later"), (3000, "é"), (4999, "x" * 123)])
async def test_application_closes(body, code, reason):
    gate = Gate()
    async with talking(gate, body) as talk:
        wire = await talk.open()
        await gate.opened()
        await gate.send({"type": "websocket.close", "code": code, "reason": reason})
        await wire.expect_close(code, reason)
        await wire.send(closing(code))
        await wire.expect_end()
        assert not wire.was_reset
        event = await gate.receive()
        assert (event["type"], event["code"]) == ("websocket.disconnect", code)
        gate.end()


@pytest.mark.pins("websocket.close-by-app")
async def test_application_closes_without_a_code(body):
    gate = Gate()
    async with talking(gate, body) as talk:
        wire = await talk.open()
        await gate.opened()
        await gate.send({"type": "websocket.close", "reason": None})
        await wire.expect_close(1000, "")
        gate.end()


@pytest.mark.pins("websocket.close-by-app")
@pytest.mark.parametrize("code", [0, 999, 1004, 1006, 1015, 2999, 5000, -1, True, 1000.0, None, "1000"])
async def test_codes_that_may_not_be_sent(body, code):
    gate = Gate()
    async with talking(gate, body) as talk:
        wire = await talk.open()
        await gate.opened()
        if code is None:  # ASGI: the default
            await gate.send({"type": "websocket.close", "code": None})
            await wire.expect_close(1000)
        else:
            with pytest.raises(Exception, match="expected"):
                await gate.send({"type": "websocket.close", "code": code})
        gate.end()


@pytest.mark.pins("websocket.close-by-app")
async def test_application_hands_on_that_there_was_no_code(body):
    """1005 is never on the wire: a close frame without a code says it."""
    gate = Gate()
    async with talking(gate, body) as talk:
        wire = await talk.open()
        await gate.opened()
        await gate.send({"type": "websocket.close", "code": 1005})
        await wire.expect_close(None)
        gate.end()


@pytest.mark.pins("websocket.close-by-app")
async def test_client_that_answers_with_another_code(body):
    gate = Gate()
    async with talking(gate, body) as talk:
        wire = await talk.open()
        await gate.opened()
        await gate.send({"type": "websocket.close", "code": 4000})
        await wire.expect_close(4000)
        await wire.send(closing(4001, "mine"))
        await wire.expect_end()
        assert (await gate.receive())["code"] in (4000, 4001)
        gate.end()


@pytest.mark.pins("websocket.send-after-close")
async def test_send_after_the_application_closed(body):
    gate = Gate()
    async with talking(gate, body) as talk:
        wire = await talk.open()
        await gate.opened()
        await gate.send({"type": "websocket.close"})
        with pytest.raises((ClientDisconnected, RuntimeError)):
            await gate.send({"type": "websocket.send", "text": "x"})
        await wire.expect_close(1000)
        gate.end()


@pytest.mark.pins("websocket.close-bounded")
async def test_messages_that_cross_the_close_are_read(body):
    """What the client had sent before it saw our close does not reset the connection; its close ends it."""
    gate = Gate()
    async with talking(gate, body) as talk:
        wire = await talk.open()
        await gate.opened()
        await gate.send({"type": "websocket.close"})
        await wire.expect_close(1000)
        await wire.send(text("crossed"), frame(PING, b"x"), frame(TEXT, b"a", fin=False), frame(CONTINUATION, b"b"))
        await wire.send(closing(1000))
        while await wire.more():
            pass
        assert wire.unread in (b"", b"\x8a\x01x")
        assert not wire.was_reset
        gate.end()


@pytest.mark.pins("websocket.close-bounded")
async def test_client_that_never_answers_the_close(body):
    """`timeout_ws_close` ends it."""
    gate = Gate()
    async with talking(gate, body, timeout_ws_close=7) as talk:
        wire = await talk.open()
        await gate.opened()
        await gate.send({"type": "websocket.close"})
        await wire.expect_close(1000)
        gate.end()
        await talk.until(lambda: talk.runtime.requests_active == 0)
        await talk.pass_time(5)
        assert talk.runtime.connections == 1
        await talk.pass_time(4)
        await talk.until(lambda: talk.runtime.connections == 0)
        await wire.expect_end()


@pytest.mark.pins("websocket.close-bounded")
async def test_client_that_talks_on_after_the_close(body):
    """It may send for as long as it likes; the wait is not prolonged by it."""
    gate = Gate()
    async with talking(gate, body, timeout_ws_close=5) as talk:
        wire = await talk.open()
        await gate.opened()
        await gate.send({"type": "websocket.close"})
        await wire.expect_close(1000)
        gate.end()
        for _ in range(12):
            await wire.send(text("blah"))
            await talk.pass_time(1)
        await talk.until(lambda: talk.runtime.connections == 0)


@pytest.mark.pins("websocket.close-codes")
async def test_application_returns(body):
    gate = Gate()
    async with talking(gate, body) as talk:
        wire = await talk.open()
        await gate.opened()
        await gate.send({"type": "websocket.send", "text": "last words"})
        gate.end()
        assert (await wire.frame()).payload == b"last words"
        await wire.expect_close(1000)
        await wire.send(closing(1000))
        await wire.expect_end()
        assert not wire.was_reset


@pytest.mark.pins("websocket.close-codes")
async def test_application_raises(body, caplog):
    gate = Gate()
    async with talking(gate, body) as talk:
        wire = await talk.open()
        await gate.opened()
        gate.end(ValueError("boom"))
        await wire.expect_close(1011)
        await wire.send(closing(1011))
        await wire.expect_end()
    (record,) = complaints(caplog)
    assert "boom" in str(record.exc_info[1])


@pytest.mark.pins("websocket.close-codes")
async def test_application_raises_after_it_closed(body, caplog):
    gate = Gate()
    async with talking(gate, body) as talk:
        wire = await talk.open()
        await gate.opened()
        await gate.send({"type": "websocket.close", "code": 4000})
        gate.end(ValueError("boom"))
        await wire.expect_close(4000)
        await wire.send(closing(4000))
        await wire.expect_end()
    assert len(complaints(caplog)) == 1


# --- the server stops -------------------------------------------------------------------------------------------------


@pytest.mark.pins("websocket.shutdown")
async def test_drain(body):
    """1012 at once, also to one that says nothing; the application is told."""
    room = Room()
    async with talking(room, body) as talk:
        wire = await talk.open()
        talk.runtime.drain()
        await wire.expect_close(1012)
        await wire.send(closing(1012))
        await wire.expect_end()
        assert (await ended(talk, room))[0] == 1012
        await talk.until(lambda: talk.runtime.requests_active == 0)


@pytest.mark.pins("websocket.shutdown")
async def test_drain_of_a_client_that_does_not_answer(body):
    room = Room()
    async with talking(room, body) as talk:
        wire = await talk.open()
        talk.runtime.drain()
        await wire.expect_close(1012)
        assert (await ended(talk, room))[0] == 1012
        await talk.pass_time(15)
        await talk.until(lambda: talk.runtime.connections == 0)


@pytest.mark.pins("websocket.shutdown")
async def test_drain_before_the_application_accepts(body):
    gate = Gate(accept=False)
    async with talking(gate, body) as talk:
        wire = await talk.connect()
        from ws import request

        await wire.send(request())
        await gate.opened()
        talk.runtime.drain()
        assert (await gate.receive())["type"] == "websocket.connect"
        gate.end()
        while await wire.more():
            pass
        assert not wire.unread or wire.unread.startswith((b"HTTP/1.1 5", b"HTTP/1.1 403"))


# --- pings of ours ----------------------------------------------------------------------------------------------------


@pytest.mark.pins("websocket.pings")
async def test_ping_in_intervals(body):
    async with talking(Room(), body, ws_ping_interval=10, ws_ping_timeout=5) as talk:
        wire = await talk.open()
        for _ in range(3):
            await talk.pass_time(12)
            ping = await wire.frame()
            assert ping.opcode == PING
            await wire.send(frame(PONG, ping.payload))
        await turn(5)
        assert talk.runtime.connections == 1


@pytest.mark.pins("websocket.pings")
async def test_client_that_does_not_answer_pings(body):
    room = Room()
    async with talking(room, body, ws_ping_interval=10, ws_ping_timeout=5) as talk:
        wire = await talk.open()
        await talk.pass_time(12)
        assert (await wire.frame()).opcode == PING
        await talk.pass_time(3)
        assert talk.runtime.connections == 1
        await talk.pass_time(20)
        await wire.expect_close(1011)
        await wire.expect_end()
        assert (await ended(talk, room))[0] in (1006, 1011)


@pytest.mark.pins("websocket.pings")
async def test_pong_that_nobody_asked_for_answers_nothing(body):
    """Only the payload of our ping counts (RFC 6455 section 5.5.3)."""
    room = Room()
    async with talking(room, body, ws_ping_interval=10, ws_ping_timeout=5) as talk:
        wire = await talk.open()
        await talk.pass_time(12)
        ping = await wire.frame()
        assert ping.opcode == PING and ping.payload, "a payload tells our pings apart"
        await wire.send(frame(PONG, b"something else"))
        await talk.pass_time(25)
        one = await wire.frame()
        assert one.opcode == CLOSE and one.code == 1011


@pytest.mark.pins("websocket.pings")
async def test_pings_can_be_switched_off(body):
    async with talking(Room(), body, ws_ping_interval=None, ws_ping_timeout=None) as talk:
        wire = await talk.open()
        await talk.pass_time(200)
        await wire.send(frame(PING, b"mine"))
        assert (await wire.frame()).payload == b"mine"


@pytest.mark.pins("websocket.pings")
async def test_no_deadline_of_requests_ends_a_websocket(body):
    """Neither keep-alive nor the body's deadlines are for WebSockets."""
    async with talking(Room(echo=True), body, ws_ping_interval=None) as talk:
        wire = await talk.open()
        await talk.pass_time(400)
        await wire.send(text("still here"))
        assert (await wire.frame()).payload == b"still here"
