"""`Expect: 100-continue` (RFC 9110 section 10.1.1)."""

import asyncio

import pytest
from drive import (
    BODY,
    answering,
    body,
    conversation,
    echo,
    exchange,
    hello,
    request,
    serving,
    start,
    turn,
    until,
)

EXPECT = request("POST", headers=("Expect: 100-continue",), length=5)
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


@pytest.mark.pins("response.expect-continue")
@pytest.mark.parametrize("value", ["100-continue", "100-Continue", "100-CONTINUE"])
async def test_expect_continue_is_answered_on_receive(value):
    async with serving(echo) as bench:
        peer = bench.connect()
        peer.feed(request("POST", headers=(f"Expect: {value}",), length=5))
        await until(lambda: b"\r\n\r\n" in peer.output, "100 Continue")
        assert peer.output == b"HTTP/1.1 100 Continue\r\n\r\n"
        peer.feed(b"hello")
        answer = await peer.answer("POST")
        assert answer.body == b"hello"
        assert [interim.status for interim in answer.interim] == [100]
        assert peer.state == "open"


@pytest.mark.pins("response.expect-continue")
async def test_expect_continue_waits_for_the_first_receive():
    gate = asyncio.Event()

    async def app(scope, receive, send):
        await gate.wait()
        await echo(scope, receive, send)

    async with serving(app) as bench:
        peer = bench.connect()
        peer.feed(EXPECT)
        await turn(10)
        assert peer.output == b""
        gate.set()
        await until(lambda: peer.output, "100 Continue")
        peer.feed(b"hello")
        assert (await peer.answer("POST")).body == b"hello"


@pytest.mark.pins("response.expect-continue")
async def test_expect_continue_is_sent_once():
    async with serving(echo) as bench:
        peer = bench.connect()
        peer.feed(EXPECT)
        await until(lambda: peer.output, "100 Continue")
        for byte in b"hello":
            peer.feed(bytes([byte]))
            await turn(3)
        answer = await peer.answer("POST")
        assert len(answer.interim) == 1


@pytest.mark.pins("response.expect-continue")
async def test_no_continue_when_the_body_is_already_there():
    """9110 10.1.1: a server MAY omit it when it has received some of the body; never after the answer."""
    answer, state = await exchange(echo, EXPECT + b"hello", method="POST")
    assert answer.body == b"hello"
    assert len(answer.interim) <= 1
    assert state == "open"


@pytest.mark.pins("response.expect-continue")
async def test_expect_continue_without_a_body():
    answer, _ = await exchange(echo, request("GET", headers=("Expect: 100-continue",)))
    assert answer.body == b""
    assert not answer.interim


@pytest.mark.pins("response.expect-continue")
async def test_expect_of_one_request_does_not_concern_the_next():
    async with serving(echo) as bench:
        peer = bench.connect()
        peer.feed(EXPECT)
        await until(lambda: peer.output, "100 Continue")
        peer.feed(b"hello")
        await peer.answer("POST")
        peer.forget()
        peer.feed(request("POST", length=5))
        await turn(5)
        assert peer.output == b""
        peer.feed(b"again")
        answer = await peer.answer("POST")
        assert answer.body == b"again" and not answer.interim


@pytest.mark.pins("response.expect-answered-first")
async def test_no_continue_when_the_application_answers_first():
    """The body then may or may not come (9110 10.1.1), so the connection cannot be read on."""
    raw, state = await conversation(answering(start(413, [(b"content-length", b"2")]), BODY), EXPECT)
    assert b" 100 " not in raw
    assert raw.startswith(b"HTTP/1.1 413")
    assert b"connection: close" in raw.lower()
    assert state in ("closing", "closed")


@pytest.mark.pins("response.expect-answered-first")
async def test_no_continue_after_the_start():
    async def app(scope, receive, send):
        await send(start(200, [(b"content-length", b"2")]))
        await send(body(b"o", True))
        await receive()
        await send(body(b"k"))

    async with serving(app) as bench:
        peer = bench.connect()
        peer.feed(EXPECT)
        await turn(5)
        assert b" 100 " not in peer.output
        peer.feed(b"hello")
        answer = await peer.answer("POST")
        assert answer.body == b"ok" and not answer.interim


@pytest.mark.pins("response.expect-http10")
async def test_expect_is_ignored_on_http10():
    async with serving(echo) as bench:
        peer = bench.connect()
        peer.feed(request("POST", version="1.0", headers=("Expect: 100-continue",), length=5))
        await turn(10)
        assert peer.output == b""
        peer.feed(b"hello")
        answer = await peer.answer("POST")
        assert answer.body == b"hello" and not answer.interim


async def test_an_unknown_expectation_is_417_or_ignored():
    """9110 10.1.1: a server MAY answer 417; it must not hang."""
    answer, _ = await exchange(
        echo, request("POST", headers=("Expect: the-moon",), body=b"hello"), method="POST"
    )
    assert answer.status in (200, 417)


@pytest.mark.pins("response.expect-continue")
async def test_a_client_that_waits_for_continue_is_not_slow():
    """However long the application takes to ask for the body."""
    asks = asyncio.Event()

    async def app(scope, receive, send):
        await asks.wait()
        await receive()
        await hello(scope, receive, send)

    async with serving(app, timeout_request_body=30) as bench:
        peer = bench.connect()
        peer.feed(EXPECT)
        await bench.pass_time(100)
        assert peer.output == b""
        asks.set()
        await turn(3)
        assert peer.output == CONTINUE
        await bench.pass_time(25)
        assert peer.output == CONTINUE, "its time begins when it is told"
        peer.feed(b"hello")
        await turn(3)
        assert b"HTTP/1.1 200 OK" in peer.output


@pytest.mark.pins("slow.body-stops")
async def test_a_client_that_was_told_to_continue_may_be_slow():
    async with serving(echo, timeout_request_body=30) as bench:
        peer = bench.connect()
        peer.feed(EXPECT)
        await turn(3)
        assert peer.output == CONTINUE
        await bench.pass_time(32)
        assert peer.output.startswith(CONTINUE + b"HTTP/1.1 408 ")
