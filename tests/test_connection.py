"""The `Connection` field, the client's and the application's (RFC 9112 section 9)."""

import pytest
from drive import BODY, GET, HOST, answering, conversation, exchange, hello, serving, start

GET_10_KEPT = b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"


def asking(value):
    return b"GET / HTTP/1.1\r\n" + HOST + b"Connection: " + value + b"\r\n\r\n"


@pytest.mark.pins("response.connection-close")
@pytest.mark.parametrize(
    "value",
    [
        b"close",
        b"Close",
        b"CLOSE",
        b"cLoSe",
        b"foo, close",
        b"close, foo",
        b"keep-alive, Close",
        b"foo,CLOSE,bar",
    ]
    + [b" close\t", b"close,", b",close"],
)
async def test_the_client_asks_to_close(value):
    async with serving(hello) as bench:
        peer = bench.connect()
        answer = await peer.answer(data=asking(value))
        assert answer.status == 200 and answer.body == b"ok"
        assert answer.announces_close
        assert peer.closed


@pytest.mark.pins("response.connection-close")
@pytest.mark.parametrize("value", [b"keep-alive", b"closed", b"xclose", b"not-close", b"clos", b'"close"'])
async def test_what_only_looks_like_close(value):
    answer, state = await exchange(hello, asking(value))
    assert not answer.announces_close
    assert state == "open"


@pytest.mark.pins("response.connection-close")
async def test_close_in_a_second_field():
    data = b"GET / HTTP/1.1\r\n" + HOST + b"Connection: foo\r\nConnection: close\r\n\r\n"
    answer, state = await exchange(hello, data)
    assert answer.announces_close and state in ("closing", "closed")


@pytest.mark.pins("response.connection-close")
async def test_nothing_after_close_is_served():
    """9112 9.6: the server that sent `close` MUST NOT process further requests."""
    calls = []

    async def app(scope, receive, send):
        calls.append(scope["path"])
        await hello(scope, receive, send)

    raw, state = await conversation(app, asking(b"close") + GET + GET)
    assert calls == ["/"]
    assert raw.count(b"HTTP/1.1 ") == 1
    assert state in ("closing", "closed")


@pytest.mark.pins("response.connection-close")
@pytest.mark.parametrize("value", [b"close", b"Close", b"foo, CLOSE"])
@pytest.mark.parametrize("name", [b"connection", b"Connection"])
async def test_the_application_asks_to_close(name, value):
    app = answering(start(200, [(name, value)]), BODY)
    raw, state = await conversation(app, GET + GET)
    assert raw.count(b"HTTP/1.1 200") == 1
    assert raw.lower().count(b"close") == 1
    assert state in ("closing", "closed")


async def test_the_application_cannot_keep_open_what_the_client_closes():
    app = answering(start(200, [(b"connection", b"keep-alive")]), BODY)
    raw, state = await conversation(app, asking(b"close") + GET)
    assert raw.count(b"HTTP/1.1 200") == 1
    assert state in ("closing", "closed")
    assert b"close" in raw.lower()


async def test_the_application_says_keep_alive():
    app = answering(start(200, [(b"connection", b"keep-alive")]), BODY)
    raw, state = await conversation(app, GET + GET)
    assert raw.count(b"HTTP/1.1 200") == 2
    assert state == "open"
    assert raw.lower().count(b"\r\nconnection:") <= 2


async def test_http10_keep_alive_is_announced_once_if_the_application_says_it_too():
    app = answering(start(200, [(b"connection", b"keep-alive"), (b"content-length", b"2")]), BODY)
    raw, state = await conversation(app, GET_10_KEPT)
    assert raw.lower().count(b"keep-alive") == 1
    assert state == "open"
