"""What the server answers by itself, in place of the application or of a response that it did not finish."""

import asyncio

import pytest
from drive import HOST, conversation, hello, request, serving, start, turn

from fastasgi.errors import ClientDisconnected

NO_CONTENT = {
    "204": ("GET", start(204)),
    "304": ("GET", start(304)),
    "length 0": ("GET", start(200, [(b"content-length", b"0")])),
    "HEAD": ("HEAD", start(200, [(b"content-length", b"5")])),
    "HEAD without length": ("HEAD", start(200)),
}
REFUSED_HEADS = {
    "no host": (400, b"HEAD / HTTP/1.1\r\n\r\n"),
    "bad field": (400, b"HEAD / HTTP/1.1\r\n" + HOST + b"A : b\r\n\r\n"),
    "bad line": (400, b"HEAD /  HTTP/1.1\r\n" + HOST + b"\r\n"),
    "version": (505, b"HEAD / HTTP/3.0\r\n" + HOST + b"\r\n"),
    "coding": (501, b"HEAD / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: foo, chunked\r\n\r\n"),
    "body": (413, b"HEAD / HTTP/1.1\r\n" + HOST + b"Content-Length: 100\r\n\r\n"),
    "line": (414, b"HEAD /" + 200 * b"x" + b" HTTP/1.1\r\n" + HOST + b"\r\n"),
    "fields": (431, b"HEAD / HTTP/1.1\r\n" + HOST + b"A: " + 500 * b"x" + b"\r\n\r\n"),
}


async def waits(scope, receive, send):
    """Answers nothing."""
    await asyncio.Event().wait()


@pytest.mark.pins("response.no-body-head")
@pytest.mark.parametrize(("status", "data"), REFUSED_HEADS.values(), ids=REFUSED_HEADS)
async def test_a_refused_head_request_gets_no_body(status, data):
    limits = {"limit_request_body": 10, "limit_request_line": 100, "limit_request_head": 400}
    for whole in (True, False):
        async with serving(waits, **limits) as bench:
            peer = bench.connect()
            for piece in [data] if whole else [data[at : at + 1] for at in range(len(data))]:
                if peer.state == "open":
                    peer.feed(piece)
            await turn(3)
            assert peer.output.startswith(b"HTTP/1.1 %d " % status)
            assert peer.output.endswith(b"\r\n\r\n") and peer.output.count(b"\r\n\r\n") == 1
            assert peer.closed


@pytest.mark.pins("response.no-body-head")
@pytest.mark.parametrize("late", ["head", "body", "answer"])
async def test_a_late_head_request_gets_no_body(late):
    data = {
        "head": b"HEAD / HTTP/1.1\r\nHost:",
        "body": request("HEAD", length=5),
        "answer": request("HEAD"),
    }[late]
    async with serving(waits, timeout_request=20, timeout_request_head=20, timeout_request_body=10) as bench:
        peer = bench.connect()
        peer.feed(data)
        await bench.pass_time(40)
        assert peer.output.startswith(b"HTTP/1.1 503 " if late == "answer" else b"HTTP/1.1 408 ")
        assert peer.output.endswith(b"\r\n\r\n") and peer.output.count(b"\r\n\r\n") == 1


@pytest.mark.parametrize("method", ["GET", "HEADS", "HEA", "POST"])
async def test_a_refused_request_of_another_method_is_told_why(method):
    raw, _ = await conversation(waits, f"{method} / HTTP/1.1\r\n\r\n".encode())
    assert raw.startswith(b"HTTP/1.1 400 ") and not raw.endswith(b"\r\n\r\n")


@pytest.mark.pins("response.no-body-head")
async def test_what_was_asked_before_does_not_count():
    raw, _ = await conversation(hello, request("HEAD") + b"BAD\r\n\r\n")
    first, _, second = raw.partition(b"\r\n\r\n")
    assert first.startswith(b"HTTP/1.1 200 ")
    assert second.startswith(b"HTTP/1.1 400 ") and not second.endswith(b"\r\n\r\n")


@pytest.mark.pins("response.raises-after")
@pytest.mark.parametrize("how", ["raises", "returns", "is cancelled"])
@pytest.mark.parametrize(("method", "started"), NO_CONTENT.values(), ids=NO_CONTENT)
async def test_a_head_that_would_look_whole_is_not_sent(method, started, how):
    """It waits for the body: what fails between them is a 500, not a whole answer with a reset behind it."""

    async def app(scope, receive, send):
        await send(started)
        if how == "raises":
            raise LookupError("between them")
        if how == "is cancelled":
            asyncio.current_task().cancel()
            await asyncio.sleep(0)

    raw, state = await conversation(app, request(method) + request(method))
    assert raw.startswith(b"HTTP/1.1 500 "), raw
    assert raw.count(b"HTTP/1.1 ") == 1
    assert raw.endswith(b"\r\n\r\n") == (method == "HEAD")
    assert state in ("closing", "closed")


@pytest.mark.pins("response.raises-after")
@pytest.mark.parametrize("headers", [[], [(b"content-length", b"5")]], ids=["chunked", "length"])
async def test_a_head_that_announces_more_is_cut_off(headers):
    async def app(scope, receive, send):
        await send(start(200, headers))
        raise LookupError("between them")

    raw, state = await conversation(app, request())
    assert raw.startswith(b"HTTP/1.1 200 ") and raw.endswith(b"\r\n\r\n")
    assert state == "aborted"


@pytest.mark.pins("response.raises-after")
async def test_a_send_behind_the_500_raises():
    """What still runs of the application sees its client gone."""
    sends = []

    async def app(scope, receive, send):
        sends.append(send)
        await send(start(204))
        raise LookupError("between them")

    await conversation(app, request())
    with pytest.raises(ClientDisconnected):
        await sends[0]({"type": "http.response.body"})
