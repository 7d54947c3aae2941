"""What a client sends ahead of its answers, and its end behind that."""

import asyncio

import pytest
from drive import GET, body, hello, start
from net import IOS, listening

# What is sent, and how many of the requests are told of the end.
ENDS = {
    "two in one piece": ([GET + GET], 1),
    "one, then another": ([GET, GET], 1),
    "two, then another": ([GET + GET, GET], 1),
    "an empty line": ([GET, b"\r\n"], 1),
    "each of three": ([GET + GET + GET], 3),
    "each of one and two": ([GET, GET + GET], 3),
    "each of two and one": ([GET + GET, GET], 3),
}


@pytest.mark.pins("response.receive-disconnect", "response.half-close")
@pytest.mark.parametrize("name", ENDS)
@pytest.mark.parametrize("io", IOS)
async def test_the_end_behind_what_was_sent_ahead_is_told(io, name, event_loop_kind):
    """However it was cut: to the request that is answered, and to those behind it, which are answered all the same."""
    pieces, count = ENDS[name]
    begun, told = [], []

    async def app(scope, receive, send):
        begun.append(scope)
        while (await receive())["type"] != "http.disconnect":
            pass
        told.append(scope)
        await send(start(200, [(b"content-length", b"2")]))
        await send(body(b"ok"))

    async with listening(app, io) as net:
        client = await net.dial()
        for piece in pieces:
            await client.send(piece)
            await net.until(lambda: begun, "the first request")
            await asyncio.sleep(0)
        client.shut()
        await net.until(lambda: len(told) >= count, f"{count} requests to be told, {len(told)} were")


@pytest.mark.pins("head.limit-concurrency")
@pytest.mark.parametrize("waits", [0, 1, 3])
@pytest.mark.parametrize("io", IOS)
async def test_a_request_that_has_ended_does_not_count_against_the_next(io, waits, event_loop_kind):
    """Its connection goes on in the turn in which its task has ended."""

    async def app(scope, receive, send):
        for _ in range(waits):
            await asyncio.sleep(0)
        await hello(scope, receive, send)

    async with listening(app, io, limit_concurrency=1) as net:
        client = await net.dial()
        await client.send(GET * 3)
        assert [answer.status for answer in await client.answers(3)] == [200] * 3
