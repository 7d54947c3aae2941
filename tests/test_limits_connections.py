"""`limit_connections`: who gives way to those who wait."""

import asyncio

import pytest
from drive import GET, body, hello, request, serving, start, turn
from net import IOS, listening

on_every_io = pytest.mark.parametrize("io", IOS)


def has_ended(client):
    """The server has closed this connection; nothing else may wait in it."""
    try:
        data = client.sock.recv(1)
    except BlockingIOError:
        return False
    assert data == b""
    return True


@on_every_io
@pytest.mark.parametrize("limit", [1, 3, 20])
async def test_one_idle_connection_gives_way_to_one_that_waits(io, limit):
    async with listening(hello, io, limit_connections=limit) as net:
        idle = [await net.dial() for _ in range(limit)]
        for client in idle:
            assert (await client.answer(data=GET)).status == 200
        assert net.runtime.connections == limit
        late = await net.dial()
        assert (await late.answer(data=GET)).status == 200
        await net.until(lambda: any(has_ended(client) for client in idle), "one gave way")
        left = [client for client in idle if not has_ended(client)]
        assert len(left) == limit - 1
        for client in left:
            assert (await client.answer(data=GET)).status == 200
        assert (await late.answer(data=GET)).status == 200
        assert net.runtime.connections == limit


async def test_who_still_takes_an_answer_is_not_idle():
    """Nor is it asked again and again."""
    async with serving(hello) as bench:
        peers = [bench.connect() for _ in range(3)]
        for peer in peers:
            peer.channel.hold_output(10)
            peer.feed(GET)
        await turn(3)
        assert not bench.runtime.close_idle()
        assert [peer.state for peer in peers] == ["open"] * 3
        peers[1].channel.hold_output(None)
        assert bench.runtime.close_idle()
        assert [peer.state for peer in peers] == ["open", "closed", "open"]


@on_every_io
async def test_who_waits_is_served_when_the_busy_one_has_its_answer(io):
    """Accepting rests while the only connection is busy; its answer makes room, no timeout does."""
    gate = asyncio.Event()

    async def app(scope, receive, send):
        if scope["path"] == "/wait":
            await gate.wait()
        await hello(scope, receive, send)

    async with listening(app, io, limit_connections=1) as net:
        busy = await net.dial()
        await busy.send(request(target="/wait"))
        await net.until(lambda: net.runtime.requests_active == 1, "a request runs")
        waiting = await net.dial()
        await waiting.send(GET)
        await net.pass_time(2)
        assert net.runtime.requests_total == 1
        gate.set()
        assert (await busy.answer()).status == 200
        assert (await waiting.answer()).status == 200
        assert await busy.rest() == b""


@on_every_io
async def test_a_client_that_goes_on_asking_does_not_starve_others(io):
    """Pipelined requests keep the only connection from being idle: an answer announces its end."""
    gate = asyncio.Event()

    async def app(scope, receive, send):
        await gate.wait()
        await hello(scope, receive, send)

    async with listening(app, io, limit_connections=1) as net:
        busy = await net.dial()
        await busy.send(GET)
        await net.until(lambda: net.runtime.requests_active == 1, "a request runs")
        await busy.send(GET * 3)
        waiting = await net.dial()
        await waiting.send(GET)
        await net.pass_time(2)
        gate.set()
        raw = await busy.rest()
        busy.close()
        assert 1 <= raw.count(b"HTTP/1.1 200") < 4
        assert b"connection: close" in raw
        assert (await waiting.answer()).status == 200


async def test_above_the_limit_a_server_of_the_loop_answers_503():
    """It accepts without asking, so nobody can wait in the backlog."""
    gate = asyncio.Event()

    async def app(scope, receive, send):
        await gate.wait()
        await send(start(200, [(b"content-length", b"2")]))
        await send(body(b"ok"))

    async with listening(app, "server", limit_connections=1) as net:
        busy = await net.dial()
        await busy.send(GET)
        await net.until(lambda: net.runtime.requests_active == 1, "a request runs")
        late = await net.dial()
        assert (await late.answer()).status == 503
        assert await late.rest() == b""
        assert net.runtime.connections == 1
        gate.set()
        assert (await busy.answer()).status == 200
