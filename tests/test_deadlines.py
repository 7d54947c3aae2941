"""Slow and silent clients: the timeouts of the first byte, the head and the body, on a fake clock.

A deadline may be noticed late by as long as the runtime ticks apart, never early. Each option set to
None never ends anything, however long one waits.
"""

import asyncio

import pytest
from deadlines import ages, ends_after, only
from drive import GET, START, body, echo, hello, request, serving, turn, until


def assert_408(peer):
    assert peer.output.startswith(b"HTTP/1.1 408 "), peer.output[:200]
    assert b"connection: close" in peer.output.lower()
    assert peer.output.count(b"HTTP/1.1 ") == 1
    assert peer.closed


# --- the first byte -------------------------------------------------------------------------------


@pytest.mark.pins("slow.first-byte")
@pytest.mark.parametrize("seconds", [10, 1.0, 0.5, 3.25])
async def test_a_client_that_says_nothing(seconds):
    """Closed without an answer: nothing was asked (pre-connecting browsers would show a 408)."""
    async with serving(hello, **only(timeout_first_byte=seconds)) as bench:
        peer = bench.connect()
        await ends_after(bench, peer, seconds)
        assert peer.output == b""


@pytest.mark.pins("slow.first-byte", "slow.options")
async def test_the_default_of_the_first_byte():
    async with serving(hello) as bench:
        peer = bench.connect()
        await ends_after(bench, peer, 10)
        assert peer.output == b""


@pytest.mark.pins("slow.options")
async def test_a_client_may_be_silent_for_ever():
    async with serving(hello, **only()) as bench:
        peer = bench.connect()
        await ages(bench)
        assert (await peer.answer(data=GET)).body == b"ok"


@pytest.mark.pins("slow.first-byte")
async def test_an_empty_line_is_a_first_byte_but_no_excuse():
    """CRLF before the request line is tolerated; the head must still come in its time."""
    async with serving(hello, **only(timeout_first_byte=10, timeout_request_head=5)) as bench:
        peer = bench.connect()
        await bench.pass_time(9)
        peer.feed(b"\r\n")
        await bench.pass_time(20)
        assert peer.state != "open"


# --- the head -------------------------------------------------------------------------------------


@pytest.mark.pins("slow.head")
@pytest.mark.parametrize("seconds", [30, 2.5])
async def test_a_head_a_byte_at_a_time(seconds):
    """From the first byte to the end of the head; further bytes do not extend it."""
    async with serving(hello, **only(timeout_request_head=seconds)) as bench:
        peer = bench.connect()
        passed = 0.0
        for byte in (GET[:-4] + b"a" * 10_000).replace(b"a" * 10_000, b"\r\nx: " + b"a" * 10_000):
            peer.feed(bytes([byte]))
            if passed + 0.1 >= seconds:
                break
            await bench.pass_time(0.1)
            passed += 0.1
            assert peer.state == "open", passed
        await bench.pass_time(0.1 + 1.5 * bench.runtime.tick_interval_s)
        assert_408(peer)


@pytest.mark.pins("slow.head", "slow.options")
async def test_the_default_of_the_head():
    async with serving(hello) as bench:
        peer = bench.connect()
        peer.feed(GET[:-1])
        await ends_after(bench, peer, 30)
        assert_408(peer)


@pytest.mark.pins("slow.head")
async def test_the_head_of_a_later_request():
    """The time runs from its own first byte, not from the end of the answer before it."""
    async with serving(hello, **only(timeout_request_head=10, timeout_keep_alive=100)) as bench:
        peer = bench.connect()
        await peer.answer(data=GET)
        peer.forget()
        await bench.pass_time(50)
        peer.feed(b"G")
        await ends_after(bench, peer, 10)
        assert_408(peer)


@pytest.mark.pins("slow.head")
async def test_the_beginning_of_a_head_behind_a_whole_request():
    """It was pipelined with its predecessor: the wait for the answer is not the client's fault."""
    gate = asyncio.Event()

    async def app(scope, receive, send):
        await gate.wait()
        await hello(scope, receive, send)

    async with serving(app, **only(timeout_request_head=10)) as bench:
        peer = bench.connect()
        peer.feed(GET + GET[:10])
        await bench.pass_time(100)
        assert peer.state == "open"
        gate.set()
        await peer.answer()
        peer.forget()
        await ends_after(bench, peer, 10)
        assert_408(peer)


@pytest.mark.pins("slow.options")
async def test_a_head_may_take_for_ever():
    async with serving(hello, **only()) as bench:
        peer = bench.connect()
        peer.feed(GET[:-1])
        await ages(bench)
        assert (await peer.answer(data=GET[-1:])).body == b"ok"


@pytest.mark.pins("slow.head")
async def test_a_client_without_a_listening_ear_is_closed_all_the_same():
    """The 408 cannot leave: the connection must still end, bounded."""
    async with serving(hello, **only(timeout_request_head=10, timeout_response_stall=20)) as bench:
        peer = bench.connect()
        peer.channel.hold_output(0)
        peer.feed(b"G")
        await bench.pass_time(60)
        assert bench.runtime.connections == 0


# --- the body -------------------------------------------------------------------------------------


@pytest.mark.pins("slow.body-stops")
@pytest.mark.parametrize("framing", ["length", "chunked"])
@pytest.mark.parametrize("some", [b"", b"abc"], ids=["nothing", "some"])
async def test_a_body_that_stops(framing, some):
    got = []

    async def app(scope, receive, send):
        while True:
            got.append(await receive())
            if got[-1]["type"] == "http.disconnect":
                break

    async with serving(app, **only(timeout_request_body=30)) as bench:
        peer = bench.connect()
        if framing == "length":
            peer.feed(request("POST", length=10_000) + some)
        else:
            peer.feed(request("POST", headers=("Transfer-Encoding: chunked",)) + b"fff\r\n" + some)
        await ends_after(bench, peer, 30)
        await turn(3)
        assert_408(peer)
    assert got[-1]["type"] == "http.disconnect"


@pytest.mark.pins("slow.body-stops", "slow.options")
async def test_the_default_of_the_body():
    async with serving(echo) as bench:
        peer = bench.connect()
        peer.feed(request("POST", length=10_000))
        await ends_after(bench, peer, 30)
        assert_408(peer)


@pytest.mark.pins("slow.body-stops")
async def test_a_body_that_stops_while_the_application_does_not_ask():
    """A response has begun: no 408 can be told any more, but the connection ends."""
    gate = asyncio.Event()

    async def app(scope, receive, send):
        await send(START)
        await send(body(b"x", True))
        await gate.wait()
        assert (await receive())["type"] == "http.disconnect"

    async with serving(app, **only(timeout_request_body=30)) as bench:
        peer = bench.connect()
        peer.feed(request("POST", length=10_000))
        await bench.pass_time(40)
        assert peer.state != "open"
        assert b" 408 " not in peer.output
        gate.set()


@pytest.mark.pins("slow.body-rate")
async def test_a_body_below_the_rate():
    """30 s of grace, then the average since the head: a byte a second is far below."""
    async with serving(echo, **only(timeout_request_body=30, min_body_rate=240)) as bench:
        peer = bench.connect()
        peer.feed(request("POST", length=1_000_000))
        for _ in range(30):
            assert peer.state == "open"
            peer.feed(b"x")
            await bench.pass_time(1)
        await bench.pass_time(1.5)
        assert_408(peer)


@pytest.mark.pins("slow.body-rate")
async def test_a_body_below_and_above_the_rate():
    """`min_body_rate` bytes a second: 10 % below ends soon after the grace, 10 % above never."""
    for rate, lives in ((216, False), (264, True)):
        async with serving(echo, **only(timeout_request_body=30, min_body_rate=240)) as bench:
            peer = bench.connect()
            total = rate * 2000
            peer.feed(request("POST", length=total))
            seconds = 0
            while peer.state == "open" and seconds < 2000:
                peer.feed(b"x" * rate)
                await bench.pass_time(1)
                seconds += 1
            if lives:
                assert len((await peer.answer("POST")).body) == total
            else:
                assert seconds <= 400, "ten times the grace"
                assert_408(peer)


@pytest.mark.pins("slow.progress")
async def test_an_upload_that_makes_progress_never_ends():
    """In bursts, over hours, with all defaults: only the average counts."""
    total = 0

    async def app(scope, receive, send):
        nonlocal total
        while True:
            message = await receive()
            total += len(message["body"])
            if not message["more_body"]:
                break
        await hello(scope, receive, send)

    async with serving(app) as bench:
        peer = bench.connect()
        peer.feed(request("POST", length=2000 * 6000))
        for _ in range(2000):
            peer.feed(b"x" * 6000)
            await bench.pass_time(20)
            assert peer.state == "open"
        assert (await peer.answer("POST")).body == b"ok"
    assert total == 2000 * 6000


@pytest.mark.pins("slow.progress")
async def test_an_upload_is_not_slow_while_the_application_is():
    """We stopped reading (back-pressure): the time that passes is the application's, not the client's."""
    gate = asyncio.Event()

    async def app(scope, receive, send):
        await gate.wait()
        await echo(scope, receive, send)

    async with serving(app, **only(timeout_request_body=30, min_body_rate=240)) as bench:
        peer = bench.connect()
        size = 3_000_000
        peer.feed(request("POST", length=size))
        sent = 0
        while peer.channel.reading and sent < size:
            peer.feed(b"x" * 10_000)
            sent += 10_000
        assert not peer.channel.reading
        await bench.pass_time(1000, step_s=10)
        assert peer.state == "open", peer.output[:100]
        gate.set()
        await turn(5)
        while sent < size:
            await until(lambda: peer.channel.reading, "reading again")
            peer.feed(b"x" * 10_000)
            sent += 10_000
        assert len((await peer.answer("POST")).body) == size


@pytest.mark.pins("slow.progress")
async def test_a_body_already_there_is_not_slow():
    """The whole body has come; an application may take hours over it."""
    gate = asyncio.Event()

    async def app(scope, receive, send):
        await gate.wait()
        await echo(scope, receive, send)

    async with serving(app) as bench:
        peer = bench.connect()
        peer.feed(request("POST", body=b"hello"))
        await ages(bench)
        gate.set()
        assert (await peer.answer("POST")).body == b"hello"


@pytest.mark.pins("slow.options")
@pytest.mark.parametrize(
    "options", [{"timeout_request_body": None}, {"min_body_rate": 0, "timeout_request_body": None}]
)
async def test_a_body_may_take_for_ever(options):
    async with serving(echo, **only(**options)) as bench:
        peer = bench.connect()
        peer.feed(request("POST", length=2) + b"o")
        await ages(bench)
        assert (await peer.answer("POST", data=b"k")).body == b"ok"


@pytest.mark.pins("slow.body-stops")
async def test_the_rest_of_an_unread_body_is_not_awaited_for_ever():
    """The answer is out, the client owes the rest of its body: skipped, but bounded in time."""
    async with serving(hello, **only(timeout_request_body=30, timeout_keep_alive=5)) as bench:
        peer = bench.connect()
        peer.feed(request("POST", length=1000) + b"x")
        assert (await peer.answer("POST")).body == b"ok"
        await bench.pass_time(40)
        assert peer.state != "open"
