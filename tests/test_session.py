"""One WebSocket towards the application: the scope, the handshake's outcomes, messages both ways, closes."""

import asyncio
import base64
import gc

import frames
import pytest
from drive import complaints, serving, turn, until
from frames import BINARY, CONTINUATION, PING, PONG, TEXT, Frame, close, frame, handshake
from websocket_drive import (
    ACCEPT,
    CONNECT,
    DENY,
    DENY_BODY,
    Client,
    Script,
    binary,
    closing,
    connected,
    disconnect,
    echo,
    offered,
    text,
)  # fmt: skip

from fastasgi.errors import ApplicationError, ClientDisconnected


@pytest.fixture
def script():
    return Script()


async def scripted(bench, *lines, **options):
    """A client, and the application that serves it, accepted."""
    client = await offered(bench, *lines, **options)
    script = bench.runtime.app
    await script.started.wait()
    await script.accept()
    await turn()
    return client, script


# --- the handshake ------------------------------------------------------------------------------------------------


@pytest.mark.pins("websocket.handshake")
async def test_the_answer_to_a_handshake():
    async with serving(echo, headers=[("x-all", "1")]) as bench:
        client = await connected(bench)
        lines = client.head.split(b"\r\n")
        assert lines[:4] == [
            b"HTTP/1.1 101 Switching Protocols", b"upgrade: websocket", b"connection: Upgrade",
            b"sec-websocket-accept: " + frames.SEC_ACCEPT,
        ]  # fmt: skip
        assert b"server: fastasgi" in lines and b"x-all: 1" in lines
        assert not any(line.startswith((b"content-length", b"transfer-encoding")) for line in lines)


@pytest.mark.pins("websocket.handshake")
@pytest.mark.parametrize("lines", [
    ("Connection: keep-alive, UPGRADE", "Upgrade: WebSocket"),
    ("Connection: keep-alive", "Connection: upgrade", "Upgrade: foo, WEBSOCKET"),
    ("Connection: Upgrade", "Upgrade: foo", "Upgrade: websocket"),
])  # fmt: skip
async def test_lists_of_tokens_in_any_case(lines):
    key = f"Sec-WebSocket-Key: {frames.SEC_KEY}"
    head = "\r\n".join(["GET / HTTP/1.1", "Host: a", "Sec-WebSocket-Version: 13", key, *lines, "", ""])
    async with serving(echo) as bench:
        peer = bench.connect()
        peer.feed(head.encode())
        await until(lambda: peer.output.startswith(b"HTTP/1.1 101 "))


KEY_15, KEY_17 = (base64.b64encode(bytes(n)).decode() for n in (15, 17))


@pytest.mark.pins("websocket.handshake-refused")
@pytest.mark.parametrize(("head", "status"), [
    (handshake(method="POST"), 400),
    (handshake(method="HEAD"), 400),
    (handshake("/", "Content-Length: 3") + b"abc", 400),
    (handshake("/", "Transfer-Encoding: chunked") + b"0\r\n\r\n", 400),
    (handshake(without="Sec-WebSocket-Key"), 400),
    (handshake(key=""), 400),
    (handshake(key=KEY_15), 400),
    (handshake(key=KEY_17), 400),
    (handshake(key="x" * 24), 400),
    (handshake(key=frames.SEC_KEY[:-2] + "*="), 400),
    (handshake("/", f"Sec-WebSocket-Key: {frames.SEC_KEY}"), 400),
    (handshake("/", "Sec-WebSocket-Protocol: a b"), 400),
    (handshake(without="Sec-WebSocket-Version"), 426),
    (handshake("/", "Sec-WebSocket-Version: 8", without="Sec-WebSocket-Version"), 426),
    (handshake("/", "Sec-WebSocket-Version: 8"), 426),
])  # fmt: skip
async def test_bad_handshakes(head, status):
    async with serving(echo) as bench:
        peer = bench.connect()
        peer.feed(head)
        await until(lambda: peer.state != "open")
        answer = peer.output
        assert answer.startswith(b"HTTP/1.1 %d " % status), answer
        assert (b"\r\nsec-websocket-version: 13\r\n" in answer) == (status == 426)
        assert b"\r\nconnection: close\r\n" in answer
        assert bench.runtime.requests_total == 0


@pytest.mark.pins("websocket.off")
@pytest.mark.parametrize(("options", "head"), [
    ({"ws": "none"}, handshake()),
    ({}, handshake("/", "Connection: keep-alive", without="Connection")),
    ({}, handshake().replace(b"HTTP/1.1", b"HTTP/1.0")),
    ({}, handshake().replace(b"Upgrade: websocket", b"Upgrade: websockets")),
])  # fmt: skip
async def test_what_is_served_as_an_ordinary_request(options, head):
    types = []

    async def app(scope, receive, send):
        types.append(scope["type"])
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body"})

    async with serving(app, **options) as bench:
        peer = bench.connect()
        peer.feed(head)
        await until(lambda: peer.output.startswith(b"HTTP/1.1 200 "))
        assert types == ["http"]


@pytest.mark.pins("websocket.scope")
@pytest.mark.parametrize(("given", "scheme"), [("http", "ws"), ("https", "wss")])
async def test_the_scope(script, given, scheme):
    async with serving(script, root_path="/app", state={"db": 1}) as bench:
        client = Client(bench.connect(scheme=given))
        client.peer.feed(handshake("/a%20b?q=%31", "Sec-WebSocket-Protocol: chat, v2.chat", "X-One: 1"))
        await script.started.wait()
        scope = script.scope
        headers = scope.pop("headers")
        assert scope == {
            "type": "websocket", "asgi": {"version": "3.0", "spec_version": "2.3"}, "http_version": "1.1",
            "scheme": scheme, "path": "/app/a b", "raw_path": b"/a%20b", "query_string": b"q=%31",
            "root_path": "/app", "client": ("127.0.0.1", 50000), "server": ("127.0.0.1", 8000),
            "subprotocols": ["chat", "v2.chat"], "state": {"db": 1}, "extensions": {"websocket.http.response": {}},
        }  # fmt: skip
        assert (b"x-one", b"1") in headers and (b"host", b"example.com") in headers
        script.finish()


@pytest.mark.pins("websocket.scope")
async def test_behind_a_proxy(script, caplog):
    """The scope and the log have the client and the scheme that a trusted proxy tells."""
    caplog.set_level("DEBUG", "fastasgi.error")
    async with serving(script) as bench:
        client = await offered(bench, "X-Forwarded-For: 198.51.100.7", "X-Forwarded-Proto: https")
        await script.accept()
        assert (script.scope["client"][0], script.scope["scheme"]) == ("198.51.100.7", "wss")
        client.feed(close(1000))
        lines = [record.getMessage() for record in caplog.records if "WebSocket" in record.getMessage()]
        assert lines[0].startswith("198.51.100.7") and lines[0].endswith(' - "WebSocket /" [accepted]')
        assert lines[1].startswith("198.51.100.7") and '[closed 1000]' in lines[1]
        script.finish()


@pytest.mark.pins("websocket.accept")
async def test_accept_with_subprotocol_and_headers(script):
    async with serving(script) as bench:
        client = await offered(bench, "Sec-WebSocket-Protocol: a, b")
        await script.accept(subprotocol="b", headers=[(b"x-one", b"1"), [b"set-cookie", b"c"]])
        await turn()
        head = client.peer.output.partition(b"\r\n\r\n")[0].split(b"\r\n")
        assert b"sec-websocket-protocol: b" in head
        assert b"x-one: 1" in head and b"set-cookie: c" in head
        script.finish()


@pytest.mark.pins("websocket.accept")
@pytest.mark.parametrize("more", [
    {"subprotocol": "c"}, {"subprotocol": "A"}, {"subprotocol": 1},
    {"headers": [(b"x", b"a\r\nb: c")]}, {"headers": [(b"x y", b"1")]}, {"headers": [("x", "1")]},
    {"headers": [(b"Sec-WebSocket-Protocol", b"a")]}, {"headers": [(b"connection", b"close")]}, {"headers": [b"x"]},
])  # fmt: skip
async def test_what_accept_may_not_have(script, more):
    async with serving(script) as bench:
        client = await offered(bench, "Sec-WebSocket-Protocol: a, b")
        assert await script.receive() == CONNECT
        with pytest.raises(ApplicationError, match="expected"):
            await script.send({**ACCEPT, **more})
        assert client.peer.output == b""
        await script.send(ACCEPT)
        await turn()
        assert client.peer.output.startswith(b"HTTP/1.1 101 ")
        script.finish()


async def answer_of(app, caplog, **options):
    """The whole answer to a handshake, and what was logged of it."""
    async with serving(app, **options) as bench:
        client = await offered(bench)
        await until(lambda: b"\r\n\r\n" in client.peer.output)
        await turn(3)
        return client.peer.output, complaints(caplog)


@pytest.mark.pins("websocket.refused")
async def test_refused(caplog):
    async def app(scope, receive, send):
        await receive()
        await send(closing(3000, "ignored here"))
        with pytest.raises(ClientDisconnected):
            await send(ACCEPT)
        assert await receive() == disconnect(1006)

    answer, logged = await answer_of(app, caplog)
    assert answer.startswith(b"HTTP/1.1 403 Forbidden\r\n") and not logged


@pytest.mark.pins("websocket.refused")
@pytest.mark.parametrize("raises", [False, True])
async def test_an_application_that_ends_before_it_answers(raises, caplog):
    async def app(scope, receive, send):
        if raises:
            raise LookupError("boom")

    answer, logged = await answer_of(app, caplog)
    assert answer.startswith(b"HTTP/1.1 500 ") and len(logged) == 1


@pytest.mark.pins("websocket.denial")
async def test_denial_with_a_response(script, caplog):
    async with serving(script) as bench:
        client = await offered(bench)
        await script.receive()
        with pytest.raises(ApplicationError, match=r"expected 'websocket.accept', 'websocket.close' or"):
            await script.send(DENY_BODY)
        await script.send(DENY)
        for wrong in (ACCEPT, DENY, closing(), text("x")):
            with pytest.raises(ApplicationError, match=r"expected 'websocket.http.response.body'"):
                await script.send(wrong)
        await script.send({**DENY_BODY, "body": b"no", "more_body": True})
        await script.send({**DENY_BODY, "body": b"pe"})
        answer = await client.peer.answer()
        assert (answer.status, answer.body) == (401, b"nope")
        assert await script.receive() == disconnect(1006)
        with pytest.raises(ClientDisconnected):
            await script.send(DENY_BODY)
        script.finish()
        await turn(5)
        assert client.state == "open" and not complaints(caplog)


@pytest.mark.pins("websocket.denial")
@pytest.mark.parametrize("how", ["returns", "raises"])
async def test_a_denial_that_ends_early(script, how, caplog):
    async with serving(script) as bench:
        client = await offered(bench)
        await script.send(DENY)
        await script.send({**DENY_BODY, "body": b"no", "more_body": True})
        script.finish() if how == "returns" else script.fail(LookupError("boom"))
        await client.ended()
        assert client.peer.aborted and len(complaints(caplog)) == 1


async def test_bytes_behind_the_handshake_are_kept():
    async with serving(echo) as bench:
        client = await connected(bench, behind=frame(TEXT, "a") + frame(TEXT, "b", fin=False))
        assert await client.frame() == Frame(TEXT, b"a")
        client.feed(frame(CONTINUATION, "c"))
        assert await client.frame(2) == Frame(TEXT, b"bc")


async def test_a_handshake_cut_anywhere():
    data = handshake() + frame(TEXT, "hello")
    async with serving(echo) as bench:
        for at in range(1, len(data)):
            client = Client(bench.connect())
            client.peer.feed(data[:at])
            await turn()
            client.peer.feed(data[at:])
            assert await client.frame() == Frame(TEXT, b"hello"), at
            client.peer.lost()


@pytest.mark.pins("websocket.concurrency")
async def test_limit_concurrency_counts_websockets():
    async with serving(echo, limit_concurrency=1) as bench:
        client = await connected(bench)
        other = bench.connect()
        other.feed(handshake())
        await until(lambda: other.state != "open")
        assert other.output.startswith(b"HTTP/1.1 503 ")
        client.peer.lost()
        await until(lambda: bench.runtime.requests_active == 0)
        await connected(bench)


# --- messages -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("message", ["", "x", "hello", "hé€😀", "x" * 125, "x" * 126, "é" * 40_000, "x" * 70_000,
                                     b"", b"\x00\xff", b"x" * 65535, b"x" * 65536])  # fmt: skip
async def test_echo(message):
    opcode = TEXT if isinstance(message, str) else BINARY
    payload = message.encode() if isinstance(message, str) else message
    async with serving(echo) as bench:
        client = await connected(bench)
        client.feed(frame(opcode, message))
        assert await client.frame() == Frame(opcode, payload)


async def test_messages_of_other_types(script):
    class Text(str):
        pass

    async with serving(script) as bench:
        client, _ = await scripted(bench)
        await script.send(binary(bytearray(b"a")))
        await script.send(binary(memoryview(b"b")))
        await script.send({"type": "websocket.send", "text": None, "bytes": b"c"})
        await script.send({"type": "websocket.send", "text": "d", "bytes": None})
        await script.send({"type": Text("websocket.send"), "text": "e"})
        assert [each.payload for each in client.frames] == [b"a", b"b", b"c", b"d", b"e"]
        script.finish()


WRONG = {
    "neither": ({"type": "websocket.send"}, "without 'text' and 'bytes'"),
    "both none": ({"type": "websocket.send", "text": None, "bytes": None}, "without 'text' and 'bytes'"),
    "text of bytes": (text(b"x"), "type bytes: expected str"),
    "bytes of str": (binary("x"), "type str: expected bytes"),
    "a lone surrogate": (text("a\ud800"), "lone surrogate at 1"),
    "accepted twice": (ACCEPT, "expected 'websocket.send' or 'websocket.close'"),
    "denied behind": (DENY, "expected 'websocket.send' or 'websocket.close'"),
    "no such type": ({"type": "http.response.start", "status": 200}, "expected 'websocket.send'"),
    "no type": ({"text": "x"}, "without 'type'"),
    "no dict": (["x"], "expected a dict"),
    "code 1006": (closing(1006), "expected 1000 to 1003"),
    "code 0": (closing(0), "expected 1000 to 1003"),
    "code 5000": (closing(5000), "expected 1000 to 1003"),
    "code -1": (closing(-1), "expected 1000 to 1003"),
    "code '1000'": (closing("1000"), "expected 1000 to 1003"),
    "a long reason": (closing(1000, "é" * 62), "at most 123 bytes"),
    "a reason of bytes": (closing(1000, b"x"), "at most 123 bytes"),
    "a reason with a surrogate": (closing(1000, "\udc00"), "lone surrogate"),
}


@pytest.mark.pins("websocket.wrong-message")
@pytest.mark.parametrize("name", WRONG)
async def test_wrong_messages(script, name):
    message, says = WRONG[name]
    async with serving(script) as bench:
        client, _ = await scripted(bench)
        with pytest.raises(ApplicationError, match=says):
            await script.send(message)
        await script.send(text("still open"))
        assert client.frames == [Frame(TEXT, b"still open")]
        script.finish()


@pytest.mark.pins("websocket.wrong-message")
@pytest.mark.parametrize("message", [text("x"), DENY_BODY, {"type": "http.response.body"}])
async def test_wrong_messages_before_the_answer(script, message):
    async with serving(script) as bench:
        await offered(bench)
        with pytest.raises(ApplicationError, match=r"expected 'websocket.accept', 'websocket.close' or"):
            await script.send(message)
        await script.send(closing())
        script.finish()


async def test_control_frames(script):
    async with serving(script) as bench:
        client, _ = await scripted(bench)
        client.feed(frame(PING, b"a"), frame(TEXT, "x", fin=False), frame(PING, b"b" * 125), frame(PONG, b"unasked"))
        assert client.frames == [Frame(PONG, b"a"), Frame(PONG, b"b" * 125)]
        client.feed(frame(CONTINUATION, "y"))
        assert await script.receive() == {"type": "websocket.receive", "text": "xy"}
        script.finish()


async def test_several_receivers(script):
    """Nobody should, but each message goes to one of them."""
    async with serving(script) as bench:
        client, _ = await scripted(bench)
        waiting = [asyncio.ensure_future(script.receive()) for _ in range(3)]
        await turn(2)
        client.feed(frame(TEXT, "a"), frame(TEXT, "b"), frame(TEXT, "c"))
        got = await asyncio.gather(*waiting)
        assert sorted(each["text"] for each in got) == ["a", "b", "c"]
        script.finish()


async def test_a_cancelled_receive_loses_nothing(script):
    async with serving(script) as bench:
        client, _ = await scripted(bench)
        for _ in range(3):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(script.receive(), 0.001)
        waiting = asyncio.ensure_future(script.receive())
        await turn(2)
        client.feed(frame(TEXT, "a"))
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert await script.receive() == {"type": "websocket.receive", "text": "a"}
        script.finish()


# --- closing ------------------------------------------------------------------------------------------------------


@pytest.mark.pins("websocket.close-by-client")
@pytest.mark.parametrize(("sent", "told", "echoed"), [
    (close(), disconnect(1005), (1005, "")),
    (close(1000), disconnect(1000), (1000, "")),
    (close(1001, "away"), disconnect(1001, "away"), (1001, "")),
    (close(4999, "é"), disconnect(4999, "é"), (4999, "")),
])  # fmt: skip
async def test_closed_by_the_client(script, sent, told, echoed):
    async with serving(script) as bench:
        client, _ = await scripted(bench)
        client.feed(frame(TEXT, "first"), sent)
        assert await client.close_frame() == echoed
        assert client.peer.closed
        assert await script.receive() == {"type": "websocket.receive", "text": "first"}
        assert await script.receive() == told
        assert await script.receive() == told
        for message in (text("x"), closing(), ACCEPT):
            with pytest.raises(ClientDisconnected):
                await script.send(message)
        script.finish()


@pytest.mark.pins("websocket.close-by-app")
@pytest.mark.parametrize(("message", "code", "reason"), [
    ({"type": "websocket.close"}, 1000, ""),
    (closing(1008, "no"), 1008, "no"),
    (closing(3999, "é" * 61), 3999, "é" * 61),
    ({"type": "websocket.close", "code": None, "reason": None}, 1000, ""),
    (closing(1005), 1005, ""),
])  # fmt: skip
async def test_closed_by_the_application(script, message, code, reason):
    async with serving(script) as bench:
        client, _ = await scripted(bench)
        client.feed(frame(TEXT, "not asked for any more"))
        await script.send(message)
        assert await client.close_frame() == (code, reason)
        assert client.state == "open"       # the client's half is waited for
        with pytest.raises(ClientDisconnected):
            await script.send(text("x"))
        assert await script.receive() == disconnect(code, reason)
        client.feed(frame(TEXT, "crossing"), frame(PING), close(code if code != 1005 else None))
        assert client.peer.closed
        assert len(client.frames) == 1
        script.finish()


@pytest.mark.pins("websocket.close-bounded")
async def test_a_client_that_never_closes(script):
    async with serving(script, timeout_ws_close=3) as bench:
        client, _ = await scripted(bench)
        await script.send(closing())
        script.finish()
        await bench.pass_time(2.5)
        assert client.state == "open"
        client.feed(frame(TEXT, "x"))       # no reason to wait longer
        await bench.pass_time(2)
        assert client.peer.aborted


@pytest.mark.pins("websocket.close-codes")
@pytest.mark.parametrize(("how", "code"), [("returns", 1000), ("raises", 1011)])
async def test_an_application_that_ends(script, how, code, caplog):
    async with serving(script) as bench:
        client, _ = await scripted(bench)
        script.finish() if how == "returns" else script.fail(LookupError("boom"))
        assert await client.close_frame() == (code, "")
        client.feed(close(code))
        assert client.peer.closed
        assert len(complaints(caplog)) == (how == "raises")


@pytest.mark.pins("websocket.close-codes")
@pytest.mark.parametrize("how", ["eof", "lost", "reset"])
async def test_a_lost_client(script, how, caplog):
    async with serving(script) as bench:
        client, _ = await scripted(bench)
        waiting = asyncio.ensure_future(script.receive())
        await turn(2)
        client.feed(frame(TEXT, "half", fin=False))
        client.peer.eof() if how == "eof" else client.peer.lost(None if how == "lost" else ConnectionResetError())
        assert await waiting == disconnect(1006)
        assert bench.runtime.connections == 0
        with pytest.raises(ClientDisconnected) as caught:
            await script.send(text("x"))
        script.fail(caught.value)
        await turn(3)
        assert not complaints(caplog)


async def test_a_client_that_goes_before_the_answer(script):
    async with serving(script) as bench:
        client = await offered(bench)
        assert await script.receive() == CONNECT
        waiting = asyncio.ensure_future(script.receive())
        await turn(2)
        client.peer.lost()
        assert await waiting == disconnect(1006)
        with pytest.raises(ClientDisconnected):
            await script.send(ACCEPT)
        script.finish()


@pytest.mark.pins("websocket.bad-frames")
@pytest.mark.parametrize(("data", "code"), [
    (frame(TEXT, "x", key=None), 1002), (frame(TEXT, b"\xff"), 1007), (frame(TEXT, length=1 << 30), 1009),
])  # fmt: skip
async def test_bad_frames(script, data, code):
    async with serving(script) as bench:
        client, _ = await scripted(bench)
        client.feed(frame(TEXT, "before"), data, frame(TEXT, "behind"))
        assert (await client.close_frame())[0] == code
        assert client.state != "open"
        assert await script.receive() == {"type": "websocket.receive", "text": "before"}
        told = await script.receive()
        assert (told["type"], told["code"]) == ("websocket.disconnect", code)
        script.finish()


@pytest.mark.pins("websocket.shutdown")
async def test_drain(script):
    async with serving(script) as bench:
        client, _ = await scripted(bench)
        waiting = asyncio.ensure_future(script.receive())
        await turn(2)
        bench.runtime.drain()
        assert await client.close_frame() == (1012, "")
        assert await waiting == disconnect(1012)
        client.feed(close(1012))
        assert client.peer.closed
        script.finish()


@pytest.mark.pins("websocket.shutdown")
async def test_a_handshake_answered_while_draining(script):
    async with serving(script) as bench:
        client = await offered(bench)
        bench.runtime.drain()
        await script.accept()
        assert await client.close_frame() == (1012, "")
        assert await script.receive() == disconnect(1012)
        script.finish()


@pytest.mark.parametrize("how", ["cancel", "abort"])
async def test_the_end_of_the_worker(script, how):
    async with serving(script) as bench:
        client, _ = await scripted(bench)
        getattr(bench.runtime, how)()
        if how == "abort":
            assert client.peer.aborted
            assert await script.receive() == disconnect(1006)
            script.finish()
        else:
            assert (await client.close_frame())[0] == 1011


async def test_nothing_is_left_of_a_session():
    async with serving(echo) as bench:
        client = await connected(bench)
        client.feed(frame(TEXT, "x"), close())
        await client.ended()
        await turn(3)
        gc.collect()
        assert bench.runtime.requests_active == 0 and bench.runtime.connections == 0
