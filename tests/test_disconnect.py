"""A client that goes before, within or after its answer; and work that goes on after it."""

import asyncio
import contextlib
import gc

import pytest
from drive import (
    BODY,
    DISCONNECT,
    GET,
    MORE,
    START,
    body,
    collecting,
    complaints,
    echo,
    hello,
    leave,
    request,
    serving,
    start,
    turn,
    until,
)

from fastasgi.errors import ClientDisconnected

# --- the client goes ------------------------------------------------------------------------------


@pytest.mark.pins("response.send-after-disconnect", "response.disconnect-not-logged")
@pytest.mark.parametrize("how", ["lost", "reset"])
@pytest.mark.parametrize(
    "before", [(), (START,), (START, MORE)], ids=["before the start", "started", "streaming"]
)
@pytest.mark.parametrize("swallow", [False, True], ids=["raises on", "caught"])
async def test_send_after_the_client_has_gone(how, before, swallow, caplog):
    caught = []
    gate = asyncio.Event()

    async def app(scope, receive, send):
        for message in before:
            await send(message)
        await gate.wait()
        try:
            for message in (START, MORE, BODY)[len(before) :]:
                await send(message)
        except OSError as error:
            caught.append(error)
            if not swallow:
                raise

    async with serving(app) as bench:
        peer = bench.connect()
        peer.feed(GET)
        await turn(5)
        leave(peer, how)
        gate.set()
        await until(lambda: caught, "ClientDisconnected")
        await turn(5)
    assert isinstance(caught[0], ClientDisconnected)
    assert not complaints(caplog)


@pytest.mark.pins("response.send-after-disconnect")
async def test_every_send_after_the_disconnect_raises():
    caught = []
    gate = asyncio.Event()

    async def app(scope, receive, send):
        await gate.wait()
        for message in (START, BODY, BODY, START):
            try:
                await send(message)
            except ClientDisconnected as error:
                caught.append(error)

    async with serving(app) as bench:
        peer = bench.connect()
        peer.feed(GET)
        await turn(3)
        peer.lost()
        gate.set()
        await until(lambda: len(caught) == 4, f"four errors {caught}")


@pytest.mark.pins("response.disconnect-not-logged")
async def test_the_disconnect_within_groups_and_causes_is_not_logged(caplog):
    """anyio task groups (every Starlette middleware) wrap it in an ExceptionGroup."""
    gate = asyncio.Event()
    ended = []

    async def app(scope, receive, send):
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(work(send))
        finally:
            ended.append(True)

    async def work(send):
        await gate.wait()
        await send(START)

    async with serving(app) as bench:
        peer = bench.connect()
        peer.feed(GET)
        await turn(5)
        peer.lost()
        gate.set()
        await until(lambda: ended)
        await turn(5)
    assert not complaints(caplog)


async def test_an_error_of_the_application_after_the_disconnect_is_logged(caplog):
    """Only ClientDisconnected is silent: a bug stays a bug."""
    gate = asyncio.Event()

    async def app(scope, receive, send):
        await gate.wait()
        raise LookupError("boom")

    async with serving(app) as bench:
        peer = bench.connect()
        peer.feed(GET)
        await turn(3)
        peer.lost()
        gate.set()
        await turn(10)
    (record,) = complaints(caplog)
    assert record.exc_info[1].args == ("boom",)


@pytest.mark.pins("response.disconnect-not-logged")
async def test_returning_without_a_response_after_the_disconnect_is_not_logged(caplog):
    app, got = collecting(2, answer=False)
    async with serving(app) as bench:
        peer = bench.connect()
        peer.feed(GET)
        await turn(3)
        peer.lost()
        await until(lambda: len(got) == 2)
        await turn(5)
        assert peer.output == b""
    assert not complaints(caplog)


@pytest.mark.pins("response.half-close")
async def test_a_half_closed_client_gets_its_answer():
    got = []

    async def app(scope, receive, send):
        got.append(await receive())
        got.append(await receive())
        await send(start(200, [(b"content-length", b"12")]))
        await send(body(b"still", True))
        await turn(3)
        await send(body(b"writing"))

    async with serving(app) as bench:
        peer = bench.connect()
        peer.feed(GET)
        await turn(3)
        peer.eof()
        answer = await peer.answer()
        await turn(5)
        assert answer.body == b"stillwriting"
        assert peer.closed
    assert got[1] == DISCONNECT


@pytest.mark.pins("response.half-close")
async def test_fin_together_with_the_request():
    async with serving(echo) as bench:
        peer = bench.connect()
        peer.feed(request("POST", body=b"hello"))
        peer.eof()
        answer = await peer.answer("POST")
        await turn(5)
        assert answer.body == b"hello"
        assert peer.closed


@pytest.mark.pins("response.half-close")
async def test_a_whole_body_is_given_before_the_disconnect():
    """The FIN came behind a complete request, before the application asked for its body."""
    got = []
    gate = asyncio.Event()

    async def app(scope, receive, send):
        await gate.wait()
        got.append(await receive())
        got.append(await receive())
        await hello(scope, receive, send)

    async with serving(app) as bench:
        peer = bench.connect()
        peer.feed(request("POST", body=b"hello"))
        peer.eof()
        await turn(3)
        gate.set()
        assert (await peer.answer("POST")).body == b"ok"
    assert got == [{"type": "http.request", "body": b"hello", "more_body": False}, DISCONNECT]


@pytest.mark.pins("response.half-close")
async def test_pipelined_requests_before_the_fin_are_answered():
    async with serving(hello) as bench:
        peer = bench.connect()
        peer.feed(GET * 3)
        peer.eof()
        await turn(20)
        assert len(peer.answers()) == 3
        assert peer.closed


@pytest.mark.pins("response.half-close-error")
@pytest.mark.parametrize("how", ["lost", "reset"])
async def test_after_a_fin_only_a_loss_makes_send_raise(how):
    caught = []
    step = asyncio.Event()

    async def app(scope, receive, send):
        await send(START)
        await send(MORE)
        await step.wait()
        await send(MORE)
        step.clear()
        await step.wait()
        try:
            await send(MORE)
        except ClientDisconnected as error:
            caught.append(error)

    async with serving(app) as bench:
        peer = bench.connect()
        peer.feed(GET)
        peer.eof()
        await turn(3)
        step.set()
        await until(lambda: peer.output.count(b"piece") == 2, "the second piece")
        leave(peer, how)
        step.set()
        await until(lambda: caught, "ClientDisconnected")


async def test_fin_of_an_idle_client_closes():
    async with serving(hello) as bench:
        silent, kept = bench.connect(), bench.connect()
        silent.eof()
        await kept.answer(data=GET)
        kept.eof()
        await turn(5)
        assert silent.state == kept.state == "closed"
        assert silent.output == b""
        assert bench.runtime.connections == 0


async def test_fin_within_the_head():
    """A head that will never be complete: closed, with 400 or without a word; the application not called."""
    calls = []

    async def app(scope, receive, send):
        calls.append(scope)

    async with serving(app) as bench:
        peer = bench.connect()
        peer.feed(GET[:-2])
        peer.eof()
        await turn(5)
        assert peer.state != "open"
        assert peer.output == b"" or peer.output.startswith(b"HTTP/1.1 4")
    assert calls == []


async def test_a_blocked_send_wakes_when_the_client_goes():
    caught = []

    async def app(scope, receive, send):
        await send(START)
        try:
            for _ in range(1000):
                await send(body(b"x" * 65536, True))
        except ClientDisconnected as error:
            caught.append(error)

    async with serving(app) as bench:
        peer = bench.connect()
        peer.channel.hold_output(1000)
        peer.feed(GET)
        await turn(20)
        assert not caught
        peer.lost(ConnectionResetError(104, "reset"))
        await until(lambda: caught, "ClientDisconnected")


# --- after the response ---------------------------------------------------------------------------


async def test_background_work_goes_on_after_the_response():
    done, gate = [], asyncio.Event()

    async def app(scope, receive, send):
        await hello(scope, receive, send)
        await gate.wait()
        done.append(scope["path"])

    async with serving(app) as bench:
        peer = bench.connect()
        answer = await peer.answer(data=GET)
        assert answer.body == b"ok" and not done
        gate.set()
        await until(lambda: done, "the background work")


async def test_background_work_goes_on_after_the_client_has_gone():
    done, gate = [], asyncio.Event()

    async def app(scope, receive, send):
        await hello(scope, receive, send)
        await gate.wait()
        await turn(5)
        done.append(True)

    async with serving(app) as bench:
        peer = bench.connect()
        await peer.answer(data=request(headers=("Connection: close",)))
        peer.lost()
        await turn(5)
        await bench.pass_time(200)
        assert bench.runtime.requests_active == 1
        gate.set()
        await until(lambda: done, "the background work")
        await turn(3)
        assert bench.runtime.requests_active == 0


async def test_background_work_does_not_hold_up_the_next_request():
    gate = asyncio.Event()

    async def app(scope, receive, send):
        await hello(scope, receive, send)
        if scope["path"] == "/slow":
            await gate.wait()

    async with serving(app) as bench:
        peer = bench.connect()
        peer.feed(request(target="/slow") + request(target="/fast"))
        await peer.several(2)
        await turn(3)
        assert bench.runtime.requests_active == 1
        gate.set()
        await until(lambda: bench.idle or bench.runtime.requests_active == 0)


async def test_a_suspended_application_is_not_collected():
    """The loop does not hold a suspended eager task: the exchange must."""
    gate = []

    async def app(scope, receive, send):
        future = asyncio.get_running_loop().create_future()
        gate.append(future)
        await future
        await hello(scope, receive, send)
        gate.append(asyncio.get_running_loop().create_future())
        await gate[-1]
        gate.append("done")

    async with serving(app) as bench:
        peer = bench.connect()
        peer.feed(GET)
        await turn(3)
        gc.collect()
        gate[0].set_result(None)
        await peer.answer()
        peer.lost()
        gc.collect()
        gate[1].set_result(None)
        await until(lambda: gate[-1] == "done")


# --- errors that come of it -----------------------------------------------------------------------


class ClientDisconnect(Exception):
    """As starlette names what `request.stream()` raises on http.disconnect."""


async def reads_all(receive):
    """The way of starlette."""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect("reading the upload")
        if not message["more_body"]:
            return


async def an_upload(app, how):
    """The client leaves in the middle of it: what was logged."""
    async with serving(app) as bench:
        peer = bench.connect()
        peer.feed(request("POST", "/upload", length=10) + b"half")
        await turn(5)
        if how != "stays":
            leave(peer, how)
        await turn(10)
        return peer.output


@pytest.mark.pins("response.departure-one-line")
@pytest.mark.parametrize("how", ["eof", "lost", "reset"])
async def test_a_frameworks_own_disconnect_is_one_line(how, caplog):
    async def app(scope, receive, send):
        await reads_all(receive)

    with caplog.at_level("DEBUG", "fastasgi.error"):
        await an_upload(app, how)
    (record,) = [record for record in caplog.records if "client left" in record.message]
    assert record.levelname == "INFO"
    assert record.message.startswith(
        "client left: POST /upload ended with test_disconnect.ClientDisconnect: "
        "reading the upload (" + __file__
    )
    assert record.exc_info is None
    assert not complaints(caplog)


@pytest.mark.pins("response.departure-one-line")
@pytest.mark.parametrize("how", ["eof", "lost", "reset"])
async def test_an_error_in_the_clean_up_is_not_hidden(how, caplog):
    async def app(scope, receive, send):
        try:
            await reads_all(receive)
        except ClientDisconnect:
            {}["no such key"]

    await an_upload(app, how)
    (record,) = [record for record in caplog.records if "client left" in record.message]
    assert record.levelname == "WARNING"
    assert "ended with builtins.KeyError: 'no such key' (" + __file__ in record.message


@pytest.mark.pins("response.departure-one-line")
@pytest.mark.parametrize("how", ["eof", "lost", "reset"])
async def test_an_error_beside_the_disconnect_is_an_error(how, caplog):
    async def app(scope, receive, send):
        with contextlib.suppress(ClientDisconnect):
            await reads_all(receive)
        raise LookupError("bug")

    await an_upload(app, how)
    (record,) = complaints(caplog)
    assert record.exc_info[0] is LookupError


@pytest.mark.pins("response.departure-one-line")
async def test_such_an_error_while_the_client_is_there_is_an_error(caplog):
    async def app(scope, receive, send):
        raise ClientDisconnect("of a client of the application")

    assert (await an_upload(app, "stays")).startswith(b"HTTP/1.1 500 ")
    (record,) = complaints(caplog)
    assert record.exc_info[0] is ClientDisconnect
