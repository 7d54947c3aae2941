"""The opening handshake (RFC 6455 section 4) and what an application can answer to it."""

import asyncio
import base64

import pytest
from drive import complaints, turn
from ws import BODIES, KEY, TEXT, Gate, Room, request, talking, text

pytestmark = pytest.mark.parametrize("body", BODIES)
START = "websocket.http.response.start"
BODY = "websocket.http.response.body"


# --- accepted ---------------------------------------------------------------------------------------------------------


@pytest.mark.pins("websocket.handshake")
async def test_accepted(body):
    room = Room()
    async with talking(room, body) as talk:
        wire = await talk.open(target="/chat/%C3%A9?room=1")
        answer = wire.answered
        assert answer.version == "1.1"
        assert answer.one("upgrade").lower() == b"websocket"
        assert answer.one("connection").lower() == b"upgrade"
        assert answer.one("sec-websocket-protocol") is None
        assert answer.one("sec-websocket-extensions") is None
        assert answer.one("content-length") is None
        assert answer.one("server") == b"fastasgi" and answer.one("date")
    (scope,) = room.scopes
    assert scope["type"] == "websocket"
    assert scope["scheme"] == "ws"
    assert scope["http_version"] == "1.1"
    assert (scope["path"], scope["raw_path"], scope["query_string"]) == ("/chat/é", b"/chat/%C3%A9", b"room=1")
    assert scope["subprotocols"] == []
    assert "method" not in scope
    assert scope["asgi"]["version"] == "3.0"
    assert isinstance(scope["client"][1], int) and isinstance(scope["server"][1], int)
    assert (b"sec-websocket-key", KEY) in scope["headers"]


@pytest.mark.pins("websocket.handshake")
@pytest.mark.parametrize(
    ("connection", "upgrade"),
    [
        ("upgrade", "WebSocket"),
        ("UPGRADE", "WEBSOCKET"),
        ("keep-alive, Upgrade", "websocket"),
        ("Upgrade,keep-alive", "h2c, websocket"),
        ("keep-alive ,\tupgrade ,", " websocket , foo"),
    ],
)
async def test_token_lists(body, connection, upgrade):
    async with talking(Room(), body) as talk:
        await talk.open(f"Connection: {connection}", f"Upgrade: {upgrade}")


@pytest.mark.pins("websocket.handshake")
async def test_two_connection_fields(body):
    async with talking(Room(), body) as talk:
        data = request("Connection: keep-alive").replace(b"\r\n\r\n", b"\r\nConnection: Upgrade\r\n\r\n")
        wire = await talk.connect()
        await wire.send(data)
        assert (await wire.answer()).status == 101


@pytest.mark.pins("websocket.handshake")
async def test_frames_behind_the_head_are_kept(body):
    """A client may not send before it is answered, but may put both into one packet with the end of a head."""
    room = Room(echo=True)
    async with talking(room, body) as talk:
        wire, answer = await talk.ask(behind=text("early") + text("bird")[:3])
        assert answer.status == 101
        await wire.send(text("bird")[3:])
        assert [one.payload for one in await wire.frames(2)] == [b"early", b"bird"]


@pytest.mark.pins("websocket.handshake")
async def test_handshake_cut_anywhere(body):
    data = request() + text("hi")
    cuts = range(1, len(data)) if body == "memory" else range(1, len(data), 23)
    async with talking(Room(echo=True), body) as talk:
        for cut in cuts:
            wire = await talk.connect()
            await wire.send(data[:cut], data[cut:])
            assert (await wire.answer()).status == 101
            assert (await wire.frame()).payload == b"hi"
            wire.reset()


@pytest.mark.pins("websocket.handshake")
async def test_after_an_ordinary_request(body):
    """The same connection serves a request first, then becomes a WebSocket."""

    async def app(scope, receive, send):
        if scope["type"] == "websocket":
            return await Room(echo=True)(scope, receive, send)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})

    async with talking(app, body) as talk:
        wire = await talk.connect()
        await wire.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" + request())
        assert (await wire.answer()).body == b"ok"
        assert (await wire.answer()).status == 101
        await wire.send(text("hi"))
        assert (await wire.frame()).payload == b"hi"


# --- refused by us ----------------------------------------------------------------------------------------------------


@pytest.mark.pins("websocket.handshake-refused")
@pytest.mark.parametrize("version", ["8", "12", "14", "0", "255", "x"])
async def test_other_version(body, version):
    room = Room()
    async with talking(room, body) as talk:
        _, answer = await talk.ask(f"Sec-WebSocket-Version: {version}")
        assert answer.status == 426
        assert answer.one("sec-websocket-version") == b"13"
    assert not room.scopes


def key(n):
    return base64.b64encode(bytes(n)).decode()


@pytest.mark.pins("websocket.handshake-refused")
@pytest.mark.parametrize(
    "header",
    [
        f"Sec-WebSocket-Key: {key(15)}",
        f"Sec-WebSocket-Key: {key(17)}",
        "Sec-WebSocket-Key: ",
        "Sec-WebSocket-Key: not base64 at all!!",
        f"Sec-WebSocket-Key: {KEY.decode()[:-1]}",
        f"Sec-WebSocket-Key: {KEY.decode()}=",
    ],
)
async def test_bad_key(body, header):
    room = Room()
    async with talking(room, body) as talk:
        _, answer = await talk.ask(header)
        assert answer.status == 400
    assert not room.scopes


@pytest.mark.pins("websocket.handshake-refused")
@pytest.mark.parametrize("name", ["Sec-WebSocket-Key", "Sec-WebSocket-Version"])
async def test_missing_field(body, name):
    room = Room()
    async with talking(room, body) as talk:
        _, answer = await talk.ask(drop=name)
        assert answer.status == (426 if answer.status == 426 and name.endswith("Version") else 400)
    assert not room.scopes


@pytest.mark.pins("websocket.handshake-refused")
async def test_two_keys(body):
    async with talking(Room(), body) as talk:
        wire = await talk.connect()
        await wire.send(request().replace(b"\r\n\r\n", b"\r\nSec-WebSocket-Key: " + KEY + b"\r\n\r\n"))
        assert (await wire.answer()).status == 400


@pytest.mark.pins("websocket.handshake-refused")
@pytest.mark.parametrize("how", [{"method": "POST"}, {"method": "HEAD"}, {"method": "PUT"}])
async def test_method_other_than_get(body, how):
    room = Room()
    async with talking(room, body) as talk:
        _, answer = await talk.ask("Content-Length: 0", **how)
        assert answer.status == 400
    assert not room.scopes


async def http_only(scope, receive, send):
    """200 with the type of the scope."""
    data = scope["type"].encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(data))]})
    await send({"type": "http.response.body", "body": data})


@pytest.mark.pins("websocket.handshake-refused")
async def test_http_10(body):
    """RFC 9110 section 7.8: Upgrade is ignored in HTTP/1.0; RFC 6455 section 4.1 lets us refuse as well."""
    async with talking(http_only, body) as talk:
        _, answer = await talk.ask(http="1.0")
        assert answer.status == 400 or answer.body == b"http"


@pytest.mark.pins("websocket.handshake")
@pytest.mark.parametrize("how", [{"drop": "Connection"}, {"drop": "Upgrade"}])
async def test_no_handshake_without_both_tokens(body, how):
    """An ordinary request (or 400): never a WebSocket."""
    async with talking(http_only, body) as talk:
        _, answer = await talk.ask(**how)
        assert answer.status == 400 or answer.body == b"http"


@pytest.mark.pins("websocket.off")
async def test_switched_off(body):
    """`ws=none`: an ordinary request, and the next one follows."""
    async with talking(http_only, body, ws="none") as talk:
        wire, answer = await talk.ask(behind=b"GET /next HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (answer.status, answer.body) == (200, b"http")
        assert (await wire.answer()).status == 200


# --- refused by the application ---------------------------------------------------------------------------------------


@pytest.mark.pins("websocket.refused")
async def test_refused(body):
    async def app(scope, receive, send):
        await receive()
        await send({"type": "websocket.close", "code": 4001, "reason": "not today"})

    async with talking(app, body) as talk:
        _, answer = await talk.ask()
        assert answer.status == 403


@pytest.mark.pins("websocket.refused")
async def test_refused_then_disconnected(body):
    """What the application sees behind its own refusal: an end, not a wait for ever."""
    seen = []

    async def app(scope, receive, send):
        await receive()
        await send({"type": "websocket.close"})
        seen.append(await receive())

    async with talking(app, body) as talk:
        _, answer = await talk.ask()
        assert answer.status == 403
        await talk.until(lambda: seen)
    assert seen[0]["type"] == "websocket.disconnect"


@pytest.mark.pins("websocket.refused")
@pytest.mark.parametrize("received", [True, False])
async def test_raises_before_it_accepts(body, received, caplog):
    async def app(scope, receive, send):
        if received:
            await receive()
        raise RuntimeError("no")

    async with talking(app, body) as talk:
        _, answer = await talk.ask()
        assert answer.status == 500
    assert len(complaints(caplog)) == 1


@pytest.mark.pins("websocket.refused")
async def test_returns_before_it_accepts(body, caplog):
    async def app(scope, receive, send):
        return

    async with talking(app, body) as talk:
        _, answer = await talk.ask()
        assert answer.status == 500
    assert len(complaints(caplog)) == 1


# --- denial response --------------------------------------------------------------------------------------------------


@pytest.mark.pins("websocket.denial")
async def test_denial_response(body):
    async def app(scope, receive, send):
        assert "websocket.http.response" in scope["extensions"]
        await receive()
        headers = [(b"content-type", b"text/plain"), (b"content-length", b"10")]
        await send({"type": START, "status": 401, "headers": headers})
        await send({"type": BODY, "body": b"who ", "more_body": True})
        await send({"type": BODY, "body": b"is it?"})

    async with talking(app, body) as talk:
        _, answer = await talk.ask()
        assert (answer.status, answer.body) == (401, b"who is it?")
        assert answer.one("content-type") == b"text/plain"


@pytest.mark.pins("websocket.denial")
async def test_denial_response_of_unknown_length(body):
    async def app(scope, receive, send):
        await receive()
        await send({"type": START, "status": 404, "headers": []})
        await send({"type": BODY, "body": b"nobody here"})

    async with talking(app, body) as talk:
        _, answer = await talk.ask()
        assert (answer.status, answer.body) == (404, b"nobody here")


@pytest.mark.pins("websocket.denial")
async def test_denial_response_that_ends_too_early(body, caplog):
    """Started and never finished: the client sees a message cut short, not a whole one."""

    async def app(scope, receive, send):
        await receive()
        await send({"type": START, "status": 401, "headers": [(b"content-length", b"10")]})
        await send({"type": BODY, "body": b"who", "more_body": True})

    async with talking(app, body) as talk:
        wire = await talk.connect()
        await wire.send(request())
        while await wire.more():
            pass
        assert b"who" in wire.unread or not wire.unread
        assert not wire.unread.endswith(b"who is it?")
    assert complaints(caplog)


@pytest.mark.pins("websocket.denial")
async def test_no_accept_within_a_denial(body):
    caught = []

    async def app(scope, receive, send):
        await receive()
        await send({"type": START, "status": 401, "headers": [(b"content-length", b"0")]})
        try:
            await send({"type": "websocket.accept"})
        except Exception as error:
            caught.append(error)
        await send({"type": BODY, "body": b""})

    async with talking(app, body) as talk:
        _, answer = await talk.ask()
        assert answer.status == 401
    assert len(caught) == 1 and "accept" in str(caught[0])


# --- headers and subprotocol ------------------------------------------------------------------------------------------


@pytest.mark.pins("websocket.accept")
async def test_headers_of_accept(body):
    room = Room(accept={"headers": [(b"x-room", b"7"), (b"set-cookie", b"a=b")]})
    async with talking(room, body) as talk:
        wire = await talk.open()
        assert wire.answered.one("x-room") == b"7"
        assert wire.answered.one("set-cookie") == b"a=b"


BAD_HEADERS = [
    [(b"x-room", b"7\r\nx-evil: 1")],
    [(b"x room", b"7")],
    [(b"x-room", b"7\x00")],
    [("x-room", b"7")],
    [(b"sec-websocket-accept", b"mine")],
    [(b"sec-websocket-extensions", b"permessage-deflate")],
    [(b"upgrade", b"h2c")],
    [(b"connection", b"close")],
]


@pytest.mark.pins("websocket.accept")
@pytest.mark.parametrize("headers", BAD_HEADERS)
async def test_bad_headers_of_accept(body, headers, caplog):
    """An error for the application; nothing of it reaches the client, who never sees two fields of one name."""
    async with talking(Room(accept={"headers": headers}), body) as talk:
        wire = await talk.connect()
        await wire.send(request())
        answer = await wire.answer()
        if answer.status == 101:  # what is ours was kept, theirs left out
            assert headers[0][0] in (b"upgrade", b"connection", b"sec-websocket-accept", b"sec-websocket-extensions")
            assert answer.one("upgrade").lower() == b"websocket"
            assert answer.one("connection").lower() == b"upgrade"
            assert answer.one("sec-websocket-accept") != b"mine"
            assert answer.one("sec-websocket-extensions") is None
            return
        assert answer.status == 500
        assert answer.one("x-evil") is None
    assert complaints(caplog)


@pytest.mark.pins("websocket.accept")
async def test_subprotocol(body):
    room = Room(accept={"subprotocol": "soap"})
    async with talking(room, body) as talk:
        wire = await talk.open("Sec-WebSocket-Protocol: graphql-ws, soap ,wamp")
        assert wire.answered.all("sec-websocket-protocol") == [b"soap"]
    assert room.scopes[0]["subprotocols"] == ["graphql-ws", "soap", "wamp"]


@pytest.mark.pins("websocket.accept")
async def test_subprotocols_in_two_fields(body):
    room = Room()
    async with talking(room, body) as talk:
        wire = await talk.connect()
        data = request("Sec-WebSocket-Protocol: a, b").replace(b"\r\n\r\n", b"\r\nSec-WebSocket-Protocol: c\r\n\r\n")
        await wire.send(data)
        assert (await wire.answer()).status == 101
    assert room.scopes[0]["subprotocols"] == ["a", "b", "c"]


@pytest.mark.pins("websocket.accept")
@pytest.mark.parametrize("chosen", ["other", "so ap", "soap\r\nX-Evil: 1", ""])
async def test_subprotocol_that_was_not_offered(body, chosen, caplog):
    """RFC 6455 section 4.1: the client would have to fail the connection. An error for the application."""
    async with talking(Room(accept={"subprotocol": chosen}), body) as talk:
        _, answer = await talk.ask("Sec-WebSocket-Protocol: soap")
        assert answer.one("x-evil") is None
        if chosen == "" and answer.status == 101:
            assert answer.one("sec-websocket-protocol") is None
            return
        assert answer.status == 500
    assert complaints(caplog)


# --- order of messages ------------------------------------------------------------------------------------------------


@pytest.mark.pins("websocket.wrong-message")
@pytest.mark.parametrize(
    "message",
    [
        {"type": "websocket.send", "text": "too early"},
        {"type": "http.response.start", "status": 200},
        {"type": "websocket.nonsense"},
        {"type": BODY, "body": b"x"},
        {},
    ],
)
async def test_wrong_first_message(body, message):
    caught = []

    async def app(scope, receive, send):
        await receive()
        try:
            await send(message)
        except Exception as error:
            caught.append(error)
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "text": "well"})
        await receive()

    async with talking(app, body) as talk:
        wire = await talk.open()
        one = await wire.frame()
        assert (one.opcode, one.payload) == (TEXT, b"well")
    (error,) = caught
    assert "expected" in str(error) or "without 'type'" in str(error), error


@pytest.mark.pins("websocket.wrong-message")
@pytest.mark.parametrize(
    "message",
    [
        {"type": "websocket.accept"},
        {"type": "websocket.send"},
        {"type": "websocket.send", "text": None, "bytes": None},
        {"type": "websocket.send", "text": b"bytes"},
        {"type": "websocket.send", "bytes": "text"},
        {"type": "websocket.send", "text": "\ud800"},
        {"type": "websocket.close", "code": 1006},
        {"type": "websocket.close", "code": "1000"},
        {"type": "websocket.close", "code": 70000},
        {"type": "websocket.close", "code": 1000, "reason": "x" * 124},
        {"type": START, "status": 200, "headers": []},
    ],
)
async def test_wrong_message_when_open(body, message):
    """An error that says what was expected; the connection lives on."""
    gate = Gate()
    async with talking(gate, body) as talk:
        wire = await talk.open()
        await gate.opened()
        with pytest.raises(Exception, match="expected") as caught:
            await gate.send(message)
        assert not isinstance(caught.value, AssertionError)
        await gate.send({"type": "websocket.send", "text": "well"})
        assert (await wire.frame()).payload == b"well"
        gate.end()


@pytest.mark.pins("websocket.handshake")
async def test_client_that_leaves_before_it_is_answered(body):
    gate, seen = Gate(accept=False), []

    async def app(scope, receive, send):
        await gate(scope, receive, send)
        seen.append(await receive())
        seen.append(await receive())
        try:
            await send({"type": "websocket.accept"})
        except OSError as error:
            seen.append(error)

    async with talking(app, body) as talk:
        wire = await talk.connect()
        await wire.send(request())
        await gate.opened()
        wire.reset()
        await talk.until(lambda: talk.runtime.connections == 0)
        gate.end()
        await talk.until(lambda: len(seen) == 3)
    assert [event["type"] for event in seen[:2]] == ["websocket.connect", "websocket.disconnect"]
    assert seen[1]["code"] == 1006


@pytest.mark.pins("websocket.handshake")
async def test_no_bytes_before_the_application_accepts(body):
    gate = Gate(accept=False)
    async with talking(gate, body) as talk:
        wire = await talk.connect()
        await wire.send(request())
        await gate.opened()
        await turn(20)
        if body == "memory":
            assert wire.peer.output == b""
        assert (await gate.receive())["type"] == "websocket.connect"
        await gate.send({"type": "websocket.accept"})
        assert (await wire.answer()).status == 101
        gate.end()
        await wire.expect_close(1000)


@pytest.mark.pins("websocket.handshake")
async def test_task_and_context_are_its_own(body):
    seen = []

    async def app(scope, receive, send):
        seen.append(asyncio.current_task())
        await Room()(scope, receive, send)
        seen.append(asyncio.current_task())

    async with talking(app, body) as talk:
        wire = await talk.open()
        wire.reset()
        await talk.until(lambda: len(seen) == 2)
    assert seen[0] is seen[1] is not None
