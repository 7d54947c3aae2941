"""`receive()`: the pieces of a request body, and the disconnect after them."""

import asyncio

import pytest
from drive import (
    BODY,
    DISCONNECT,
    GET,
    START,
    collecting,
    complaints,
    exchange,
    leave,
    request,
    serving,
    turn,
    until,
)

# --- receive --------------------------------------------------------------------------------------


async def test_receive_without_a_body():
    app, got = collecting(1)
    await exchange(app)
    assert got == [{"type": "http.request", "body": b"", "more_body": False}]


async def test_receive_a_whole_body():
    app, got = collecting(1)
    await exchange(app, request("POST", body=b"hello"), method="POST")
    assert got == [{"type": "http.request", "body": b"hello", "more_body": False}]
    assert type(got[0]["body"]) is bytes


@pytest.mark.parametrize("size", [1, 100, 70_000])
async def test_receive_pieces(size):
    got = []

    async def app(scope, receive, send):
        while True:
            message = await receive()
            got.append(message)
            if not message["more_body"]:
                break
        await send(START)
        await send(BODY)

    data = b"x" * size
    async with serving(app) as bench:
        peer = bench.connect()
        peer.feed(request("POST", length=3 * size))
        for _ in range(3):
            peer.feed(data)
            await turn(3)
        await peer.answer("POST")
    assert b"".join(message["body"] for message in got) == data * 3
    assert [message["more_body"] for message in got] == [True] * (len(got) - 1) + [False]
    assert all(type(message["body"]) is bytes for message in got)
    assert all(set(message) == {"type", "body", "more_body"} for message in got)


async def test_a_chunked_body_and_its_end():
    """Whether the end comes with the last data or alone, `more_body` is False exactly once."""
    got = []

    async def app(scope, receive, send):
        while True:
            got.append(await receive())
            if not got[-1]["more_body"]:
                break
        await send(START)
        await send(BODY)

    async with serving(app) as bench:
        peer = bench.connect()
        peer.feed(request("POST", headers=("Transfer-Encoding: chunked",)))
        for piece in (b"3\r\nabc\r\n", b"2\r\nde", b"\r\n", b"0\r\n", b"\r\n"):
            peer.feed(piece)
            await turn(3)
        await peer.answer("POST")
    assert b"".join(message["body"] for message in got) == b"abcde"


async def test_receive_waits_for_what_has_not_come():
    app, got = collecting(1)
    async with serving(app) as bench:
        peer = bench.connect()
        peer.feed(request("POST", length=2))
        await turn(10)
        assert got == [] and peer.output == b""
        peer.feed(b"ok")
        await peer.answer("POST")
    assert got[0]["body"] == b"ok"


@pytest.mark.pins("response.receive-disconnect")
async def test_receive_after_the_response():
    got = []

    async def app(scope, receive, send):
        await send(START)
        await send(BODY)
        got.append(await receive())
        got.append(await receive())

    await exchange(app)
    assert got == [DISCONNECT, DISCONNECT]


@pytest.mark.pins("response.receive-disconnect")
async def test_receive_after_the_response_with_an_unread_body():
    """What remains of the body is not the application's any more."""
    got = []

    async def app(scope, receive, send):
        await send(START)
        await send(BODY)
        got.append(await receive())

    await exchange(app, request("POST", body=b"hello"), method="POST")
    assert got == [DISCONNECT]


@pytest.mark.pins("response.receive-disconnect", "response.receive-wakes")
@pytest.mark.parametrize("how", ["eof", "lost", "reset"])
async def test_a_blocked_receive_wakes_when_the_client_goes(how):
    app, got = collecting(3, answer=False)
    async with serving(app) as bench:
        peer = bench.connect()
        peer.feed(GET)
        await turn(5)
        assert len(got) == 1
        leave(peer, how)
        await until(lambda: len(got) == 3, "http.disconnect")
    assert got[1:] == [DISCONNECT, DISCONNECT]


@pytest.mark.pins("response.receive-wakes")
async def test_a_blocked_receive_wakes_when_the_response_is_complete():
    """One task waits for the disconnect (Starlette does), another one answers."""
    got = []

    async def app(scope, receive, send):
        await receive()
        waiting = asyncio.create_task(receive())
        await turn(3)
        await send(START)
        await send(BODY)
        got.append(await waiting)

    await exchange(app)
    assert got == [DISCONNECT]


@pytest.mark.pins("response.receive-disconnect")
async def test_pieces_that_came_before_the_disconnect():
    """What had arrived whole may be given first; then the disconnect; never `more_body` False."""
    got = []

    async def app(scope, receive, send):
        await gate.wait()
        while True:
            got.append(await receive())
            if got[-1]["type"] == "http.disconnect":
                break

    gate = asyncio.Event()
    async with serving(app) as bench:
        peer = bench.connect()
        peer.feed(request("POST", length=10) + b"abc")
        peer.lost()
        gate.set()
        await until(lambda: got and got[-1] == DISCONNECT, "http.disconnect")
    assert b"".join(message.get("body", b"") for message in got) in (b"", b"abc")
    assert all(message["more_body"] for message in got[:-1])


@pytest.mark.pins("response.fin-in-body")
@pytest.mark.parametrize("framing", ["length", "chunked"])
async def test_fin_within_the_body(framing, caplog):
    got = []

    async def app(scope, receive, send):
        while True:
            got.append(await receive())
            if got[-1]["type"] == "http.disconnect":
                break

    async with serving(app) as bench:
        peer = bench.connect()
        if framing == "length":
            peer.feed(request("POST", length=10) + b"abc")
        else:
            peer.feed(request("POST", headers=("Transfer-Encoding: chunked",)) + b"a\r\nabc")
        await turn(3)
        peer.eof()
        await until(lambda: got and got[-1] == DISCONNECT, "http.disconnect")
        await turn(5)
        assert peer.state != "open"
    assert not complaints(caplog), "the client's fault is not the application's error"


async def test_two_receives_at_once():
    """Not foreseen by ASGI: an error to the second, or both served; never a hang of the first."""
    got = []

    async def app(scope, receive, send):
        async def one():
            try:
                got.append(await receive())
            except Exception as error:
                got.append(error)

        await asyncio.gather(one(), one())
        await send(START)
        await send(BODY)

    async with serving(app) as bench:
        peer = bench.connect()
        peer.feed(request("POST", length=4))
        await turn(5)
        peer.feed(b"ab")
        await turn(5)
        peer.feed(b"cd")
        await peer.answer("POST")
    assert len(got) == 2
    assert b"".join(message["body"] for message in got if isinstance(message, dict)) in (b"abcd", b"ab")


async def test_a_cancelled_receive_loses_nothing():
    """What arrives after the cancellation is there for the next `receive()`."""
    got = []

    async def app(scope, receive, send):
        waiting = asyncio.create_task(receive())
        await turn(3)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        gate.set()
        got.append(await receive())
        await send(START)
        await send(BODY)

    gate = asyncio.Event()
    async with serving(app) as bench:
        peer = bench.connect()
        peer.feed(request("POST", length=5))
        await gate.wait()
        peer.feed(b"hello")
        await peer.answer("POST")
    assert got == [{"type": "http.request", "body": b"hello", "more_body": False}]


async def test_receive_cancelled_in_the_turn_in_which_the_body_comes():
    """The future is done and its waiter cancelled at once: the piece must not vanish."""
    got = []

    async def app(scope, receive, send):
        nonlocal waiting
        waiting = asyncio.create_task(receive())
        try:
            got.append(await waiting)
        except asyncio.CancelledError:
            got.append(await receive())
        await send(START)
        await send(BODY)

    waiting = None
    async with serving(app) as bench:
        peer = bench.connect()
        peer.feed(request("POST", length=5))
        await until(lambda: waiting is not None)
        await turn(3)
        peer.feed(b"hello")
        waiting.cancel()
        await peer.answer("POST")
    assert b"".join(message["body"] for message in got) == b"hello"
