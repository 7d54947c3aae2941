"""How a response is framed on the wire: bodies, lengths, chunks, 100 (Continue), the 500.

Everything runs through `Http1` over an in-memory channel; answers are read by `answers.py`.
"""

import asyncio

import h11
import pytest
from drive import (
    BODY,
    GET,
    START,
    answering,
    body,
    catching,
    complaints,
    conversation,
    exchange,
    hello,
    request,
    serving,
    start,
    turn,
    until,
)

from fastasgi.errors import ApplicationError

CHUNKED = [(b"transfer-encoding", b"chunked")]
GET_10 = b"GET / HTTP/1.0\r\n\r\n"
GET_10_KEPT = b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"


def pieces(*data, status=200, headers=()):
    """An application that sends the body in these pieces."""
    parts = [body(piece, True) for piece in data[:-1]] + [body(data[-1], False)]
    return answering(start(status, list(headers)), *parts)


def length(value):
    return [(b"content-length", str(value).encode())]


# --- is there more? ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "first",
    [
        {"more_body": True},
        {"more_body": True, "x": 1},
        {"body": b"", "more_body": True},
        {"body": b"", "x": 1, "more_body": True},
        {"x": 1, "y": 2, "more_body": True},
    ],
)
async def test_that_more_will_come_is_seen_beside_any_other_keys(first):
    """A message says so with a body or without one, and may hold keys that nobody knows."""

    async def app(scope, receive, send):
        await send(START)
        await send({"type": BODY["type"], **first})
        await send({"type": BODY["type"], "body": b"the rest"})

    answer, _ = await exchange(app)
    assert answer.body == b"the rest"


# --- messages without a body ----------------------------------------------------------------------


@pytest.mark.pins("response.no-body-head")
@pytest.mark.parametrize(
    "app",
    [
        hello,
        pieces(b"hello"),
        pieces(b"a", b"b", b"c"),
        pieces(b"", b"", b""),
        pieces(b"hello", headers=CHUNKED),
        pieces(b"x" * 300_000, headers=length(300_000)),
        pieces(b"not found", status=404),
    ],
    ids=["length", "no length", "pieces", "empty pieces", "chunked", "large", "404"],
)
async def test_head_has_no_body(app):
    raw, state = await conversation(app, request("HEAD") + request("HEAD"))
    assert state == "open"
    assert raw.endswith(b"\r\n\r\n")
    assert raw.count(b"\r\n\r\n") == 2, raw
    assert raw.count(b"HTTP/1.1 ") == 2, raw


@pytest.mark.pins("response.no-body-head")
async def test_head_keeps_the_length_of_the_get():
    for size in (0, 5, 70_000):
        answer, _ = await exchange(
            answering(start(200, length(size)), body(b"x" * size)), request("HEAD"), method="HEAD"
        )
        assert answer.one("content-length") == b"%d" % size


@pytest.mark.pins("response.no-body-head")
async def test_head_need_not_send_the_announced_body(caplog):
    """A HEAD handler that announces a length and sends nothing is right (9110 9.3.2)."""
    answer, state = await exchange(
        answering(start(200, length(1234)), body()), request("HEAD"), method="HEAD"
    )
    assert answer.one("content-length") == b"1234"
    assert state == "open"
    assert not complaints(caplog)


@pytest.mark.pins("response.no-body-head")
async def test_head_on_http10_without_length_has_no_body():
    raw, state = await conversation(pieces(b"hello"), b"HEAD / HTTP/1.0\r\n\r\n")
    assert raw.endswith(b"\r\n\r\n") and raw.count(b"\r\n\r\n") == 1
    assert state in ("closing", "closed")


@pytest.mark.pins("response.no-body-status")
@pytest.mark.parametrize("status", [204, 304])
@pytest.mark.parametrize(
    "app_headers", [[], length(5), CHUNKED, length(0)], ids=["bare", "length", "chunked", "length 0"]
)
@pytest.mark.parametrize("data", [(b"",), (b"hello",), (b"a", b"b", b"c")], ids=["empty", "body", "pieces"])
async def test_statuses_without_a_body(status, app_headers, data):
    raw, state = await conversation(pieces(*data, status=status, headers=app_headers), GET + GET)
    assert state == "open"
    assert raw.endswith(b"\r\n\r\n") and raw.count(b"\r\n\r\n") == 2, raw
    assert raw.count(b"HTTP/1.1 %d " % status) == 2
    if status == 204:  # a 304 may say what the 200 would have had (9112 6.1, 9110 8.6)
        assert b"transfer-encoding" not in raw.lower()
        assert b"content-length" not in raw.lower()


@pytest.mark.pins("response.no-body-status")
async def test_304_keeps_the_length_it_was_given():
    """9110 8.6: a 304 may carry the length that the 200 would have had."""
    answer, _ = await exchange(answering(start(304, length(77)), body()))
    assert answer.one("content-length") == b"77"


@pytest.mark.pins("response.no-body-status")
@pytest.mark.parametrize("status", [100, 101, 102, 103, 150, 199])
async def test_an_interim_status_has_no_body_and_no_length(status):
    """A 1xx is no final answer: refused, or sent bare; never with a body or a length."""
    raw, _ = await conversation(pieces(b"hello", status=status, headers=length(5)))
    head, _, rest = raw.partition(b"\r\n\r\n")
    if head.startswith(b"HTTP/1.1 %d" % status):
        assert b"content-length" not in head.lower()
        assert b"transfer-encoding" not in head.lower()
        assert b"hello" not in rest
    else:
        assert head.startswith(b"HTTP/1.1 500"), raw


# --- framing --------------------------------------------------------------------------------------


@pytest.mark.pins("response.chunked-default")
@pytest.mark.parametrize(
    "data",
    [
        (b"a", b"bc", b""),
        (b"a", b"", b"bc"),
        (b"", b"", b""),
        (b"", b"x"),
        (b"x" * 70_000, b"y" * 70_000, b""),
    ],
    ids=["last empty", "middle empty", "all empty", "first empty", "large"],
)
async def test_streamed_without_length_is_chunked(data):
    answer, state = await exchange(pieces(*data))
    assert answer.framing == "chunked"
    assert answer.body == b"".join(data)
    assert state == "open"


@pytest.mark.pins("response.chunked-default")
async def test_an_empty_piece_does_not_end_the_chunked_body():
    raw, _ = await conversation(answering(start(), body(b"a", True), body(b"", True), body(b"b")))
    assert raw.count(b"0\r\n\r\n") == 1
    assert raw.endswith(b"0\r\n\r\n")


@pytest.mark.pins("response.chunked-default")
async def test_a_single_body_is_delimited():
    """The whole body is known: a length or chunks, both delimit it; the connection stays."""
    answer, state = await exchange(answering(start(), body(b"hello")))
    assert answer.framing in ("length", "chunked")
    assert answer.body == b"hello"
    assert state == "open"


@pytest.mark.pins("response.chunked-default")
@pytest.mark.parametrize(
    "data", [b"", b"x", b"x" * 15, b"x" * 16, b"x" * 4095, b"x" * 4096, b"x" * 1_000_000]
)
async def test_chunk_sizes(data):
    answer, _ = await exchange(answering(start(), body(data, True), body()))
    assert answer.framing == "chunked"
    assert answer.body == data


@pytest.mark.pins("response.close-default-http10")
@pytest.mark.parametrize("data", [GET_10, GET_10_KEPT], ids=["plain", "keep-alive asked for"])
async def test_http10_without_length_is_closed(data):
    answer, state = await exchange(pieces(b"a", b"b", b""), data)
    assert answer.framing == "close"
    assert answer.body == b"ab"
    assert not answer.all("transfer-encoding")
    assert not answer.announces_keep_alive
    assert state in ("closing", "closed")


@pytest.mark.pins("response.close-default-http10")
async def test_http10_never_gets_chunks_even_if_the_application_asks():
    answer, _ = await exchange(pieces(b"a", b"b", headers=CHUNKED), GET_10)
    assert answer.body == b"ab"
    assert answer.framing in ("close", "length")


@pytest.mark.pins("response.keep-alive-http10")
async def test_http10_keep_alive():
    raw, state = await conversation(hello, GET_10_KEPT)
    assert state == "open"
    assert b"connection: keep-alive" in raw.lower()
    raw, state = await conversation(hello, GET_10_KEPT + GET_10_KEPT)
    assert raw.count(b"200 OK") == 2
    assert state == "open"


@pytest.mark.pins("response.keep-alive-http10")
async def test_http10_closes_when_not_asked():
    answer, state = await exchange(hello, GET_10)
    assert answer.body == b"ok"
    assert not answer.announces_keep_alive
    assert state in ("closing", "closed")


@pytest.mark.pins("response.keep-alive-http10")
async def test_http10_keep_alive_ends_with_the_request_that_does_not_ask():
    raw, state = await conversation(hello, GET_10_KEPT + GET_10 + GET_10)
    assert raw.count(b"200 OK") == 2
    assert state in ("closing", "closed")


async def test_the_given_length_is_used():
    raw, state = await conversation(pieces(b"ab", b"c", b"", headers=length(3)))
    assert raw.lower().count(b"content-length: 3\r\n") == 1
    assert raw.endswith(b"\r\n\r\nabc")
    assert state == "open"


@pytest.mark.parametrize("name", [b"Content-Length", b"content-length", b"CONTENT-LENGTH"])
async def test_the_given_length_is_known_in_any_case(name):
    answer, _ = await exchange(answering(start(200, [(name, b"2")]), BODY))
    assert answer.framing == "length"


async def test_zero_length():
    answer, state = await exchange(answering(start(200, length(0)), body()))
    assert (answer.framing, answer.body, state) == ("length", b"", "open")


@pytest.mark.pins("response.coding-by-app")
@pytest.mark.parametrize("name", [b"transfer-encoding", b"Transfer-Encoding"])
@pytest.mark.parametrize("value", [b"chunked", b"Chunked", b" chunked "])
async def test_transfer_encoding_by_the_application_is_not_doubled(name, value):
    raw, state = await conversation(pieces(b"a", b"b", headers=[(name, value)]))
    assert raw.lower().count(b"transfer-encoding") == 1
    assert raw.count(b"1\r\na\r\n") == 1, raw
    assert raw.endswith(b"0\r\n\r\n")
    assert state == "open"


@pytest.mark.pins("response.coding-by-app")
async def test_transfer_encoding_beside_a_length_leaves_one_of_them():
    """`read_answers` refuses both at once (9112 6.2: a sender MUST NOT)."""
    answer, _ = await exchange(pieces(b"a", b"b", headers=CHUNKED + length(2)))
    assert answer.body == b"ab" or answer.status == 500


@pytest.mark.pins("response.coding-by-app")
async def test_transfer_encoding_twice_leaves_one():
    answer, _ = await exchange(pieces(b"a", b"b", headers=CHUNKED + CHUNKED))
    assert (answer.framing, answer.body) == ("chunked", b"ab") or answer.status == 500


@pytest.mark.pins("response.coding-by-app")
@pytest.mark.parametrize("value", [b"gzip", b"gzip, chunked", b"identity", b""])
async def test_a_coding_that_we_do_not_apply_never_misleads(value):
    """The body is not what the application says it is unless it coded it itself: delimited, or 500."""
    raw, state = await conversation(pieces(b"a", b"b", headers=[(b"transfer-encoding", value)]))
    assert raw.lower().count(b"transfer-encoding") <= 1
    head, _, rest = raw.partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 500"):
        assert rest == b"1\r\na\r\n1\r\nb\r\n0\r\n\r\n" or (rest == b"ab" and state in ("closing", "closed"))


@pytest.mark.pins("response.coding-by-app")
@pytest.mark.parametrize("value", [b"chunked", b"Chunked", b"gzip, chunked"])
async def test_a_coding_for_a_client_that_knows_none(value, caplog):
    """HTTP/1.0: the server does not chunk then, but cannot undo what the application has done to the body."""
    raw, state = await conversation(
        pieces(b"a", b"b", headers=[(b"transfer-encoding", value)]), b"GET / HTTP/1.0\r\n\r\n"
    )
    assert b"transfer-encoding" not in raw.lower()
    assert state in ("closing", "closed")
    if value == b"gzip, chunked":
        assert raw.startswith(b"HTTP/1.1 500 ")
        assert "expected none but chunked for HTTP/1.0" in caplog.text
    else:
        assert raw.endswith(b"\r\n\r\nab")


# --- more and less than was announced -------------------------------------------------------------


@pytest.mark.pins("response.body-too-long")
@pytest.mark.parametrize(
    "data",
    [(b"abcd",), (b"ab", b"cd"), (b"abc", b"d"), (b"abc", b"", b"d"), (b"a" * 300_000,)],
    ids=["one", "two", "after the end", "after an empty one", "large"],
)
async def test_more_body_than_announced(data, caplog):
    parts = [body(piece, True) for piece in data[:-1]] + [body(data[-1])]
    app, caught = catching(start(200, length(3)), *parts)
    raw, state = await conversation(app)
    assert len(caught) == 1 and isinstance(caught[0], ApplicationError)
    assert "3" in str(caught[0]) and "content-length" in str(caught[0]).lower()
    head, _, rest = raw.partition(b"\r\n\r\n")
    if head.startswith(b"HTTP/1.1 200"):
        assert rest in (b"", b"ab", b"abc")
        assert state == "aborted" or rest == b"abc"
    elif raw:
        assert head.startswith(b"HTTP/1.1 500")
    assert state != "open"
    assert complaints(caplog)


@pytest.mark.pins("response.body-too-long")
async def test_more_body_than_announced_never_reaches_the_next_answer():
    """Response splitting: what is over must not be read as the beginning of the next answer."""
    app, _ = catching(start(200, length(1)), body(b"aHTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil"))
    raw, state = await conversation(app, GET + GET)
    assert b"evil" not in raw
    assert state != "open"


@pytest.mark.pins("response.body-too-long")
async def test_a_body_too_long_for_head_is_no_error():
    """Nothing of it is sent, so nothing can go wrong; frameworks answer HEAD with the body of GET."""
    answer, state = await exchange(
        answering(start(200, length(3)), body(b"abc")), request("HEAD"), method="HEAD"
    )
    assert (answer.status, state) == (200, "open")


@pytest.mark.pins("response.body-too-short")
@pytest.mark.parametrize(
    "data", [(b"ab",), (b"a", b"b"), (b"",), (b"a", b"")], ids=["one", "two", "none", "empty last"]
)
async def test_less_body_than_announced(data, caplog):
    raw, state = await conversation(pieces(*data, headers=length(3)))
    assert state == "aborted"
    assert complaints(caplog)
    assert not raw.endswith(b"abc")
    assert raw.count(b"HTTP/1.1") <= 1


@pytest.mark.pins("response.body-too-short")
async def test_an_application_that_returns_within_the_body(caplog):
    raw, state = await conversation(answering(start(200, length(3)), body(b"a", True)))
    assert state == "aborted"
    assert complaints(caplog)
    raw, state = await conversation(answering(start(), body(b"a", True)))
    assert state == "aborted"
    assert not raw.endswith(b"0\r\n\r\n"), "a truncated chunked body must not look whole"


@pytest.mark.pins("response.body-too-short")
async def test_less_body_does_not_answer_the_next_request():
    raw, _ = await conversation(pieces(b"ab", headers=length(3)), GET + GET)
    assert raw.count(b"HTTP/1.1") <= 1


@pytest.mark.parametrize(
    "value", [b"-1", b"+2", b"2, 2", b"two", b"", b"0x2", b"2 2", b"99999999999999999999999"]
)
async def test_a_length_that_is_no_number(value, caplog):
    app, caught = catching(start(200, [(b"content-length", value)]), BODY)
    raw, state = await conversation(app)
    assert caught and isinstance(caught[0], ApplicationError)
    assert raw.startswith(b"HTTP/1.1 500")
    assert b"\r\n2\r\n" not in raw and state in ("closing", "closed")


async def test_two_lengths():
    """Two that differ are refused; two that agree leave once, or are refused."""
    app, caught = catching(start(200, length(2) + length(3)), BODY)
    raw, _ = await conversation(app)
    assert caught and raw.startswith(b"HTTP/1.1 500")
    answer, _ = await exchange(answering(start(200, length(2) + length(2)), BODY))
    assert answer.one("content-length") == b"2" or answer.status == 500


# --- the 500 itself -------------------------------------------------------------------------------


@pytest.mark.pins("response.returns-without")
@pytest.mark.parametrize("data", [GET, GET + GET, request("POST", body=b"hello"), request("POST", length=5)])
async def test_returns_without_a_response(data, caplog):
    raw, state = await conversation(answering(), data)
    assert raw.startswith(b"HTTP/1.1 500 Internal Server Error\r\n")
    assert raw.count(b"HTTP/1.1 ") == 1
    assert b"connection: close" in raw.lower()
    assert state in ("closing", "closed")
    assert complaints(caplog)


@pytest.mark.pins("response.returns-without")
async def test_returns_with_the_start_alone(caplog):
    """A 500, as nothing has left yet, or a head that is cut; never something that looks whole."""
    raw, state = await conversation(answering(START), GET + GET)
    assert complaints(caplog)
    assert raw.count(b"HTTP/1.1 ") <= 1
    if state == "aborted":
        assert not raw.endswith(b"0\r\n\r\n")
    else:
        assert raw.startswith(b"HTTP/1.1 500") and state in ("closing", "closed")


@pytest.mark.pins("response.returns-without")
async def test_500_to_head_has_no_body():
    raw, _ = await conversation(answering(), request("HEAD"))
    assert raw.startswith(b"HTTP/1.1 500")
    assert raw.endswith(b"\r\n\r\n") and raw.count(b"\r\n\r\n") == 1


async def test_500_says_nothing_about_the_application():
    async def app(scope, receive, send):
        raise LookupError("the secret")

    raw, _ = await conversation(app)
    assert b"secret" not in raw and b"Lookup" not in raw and b"Traceback" not in raw


# --- against h11 ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "app",
    [
        hello,
        pieces(b"a", b"", b"bc"),
        pieces(b"x" * 70_000, headers=length(70_000)),
        answering(),
        pieces(b"", status=204),
    ],
    ids=["hello", "chunked", "large", "500", "204"],
)
async def test_h11_reads_the_same(app):
    """The second opinion: h11 as the client agrees with `answers.py`."""
    answer, state = await exchange(app)
    raw, _ = await conversation(app)
    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method="GET", target="/", headers=[("Host", "x")]))
    client.send(h11.EndOfMessage())
    client.receive_data(raw)
    if state != "open":
        client.receive_data(b"")
    head = client.next_event()
    assert isinstance(head, h11.Response)
    data = b""
    while isinstance(event := client.next_event(), h11.Data):
        data += bytes(event.data)
    assert isinstance(event, h11.EndOfMessage)
    assert (head.status_code, data) == (answer.status, answer.body)
    assert dict(head.headers).keys() == {name.lower() for name, _ in answer.fields}


# --- one write ------------------------------------------------------------------------------------


async def test_head_waits_for_the_body():
    """The start alone is held: head and body leave together, and a failure can still become a 500."""

    gate = asyncio.Event()

    async def app(scope, receive, send):
        await send(start(200, length(2)))
        await gate.wait()
        await send(BODY)

    async with serving(app) as bench:
        peer = bench.connect()
        peer.feed(GET)
        await turn(5)
        assert peer.output == b""
        gate.set()
        assert (await peer.answer()).body == b"ok"


async def test_pieces_leave_as_they_are_sent():
    """Server-sent events must not wait for more."""

    gate = asyncio.Event()

    async def app(scope, receive, send):
        await send(start())
        await send(body(b"data: 1\n\n", True))
        await gate.wait()
        await send(body())

    async with serving(app) as bench:
        peer = bench.connect()
        peer.feed(GET)
        await until(lambda: b"data: 1\n\n" in peer.output, "the first event")
        gate.set()
        assert (await peer.answer()).body == b"data: 1\n\n"


async def test_an_empty_first_piece_sends_the_head():
    """The way an application flushes its head (Starlette's event streams do)."""

    gate = asyncio.Event()

    async def app(scope, receive, send):
        await send(start())
        await send(body(b"", True))
        await gate.wait()
        await send(body(b"x"))

    async with serving(app) as bench:
        peer = bench.connect()
        peer.feed(GET)
        await until(lambda: b"\r\n\r\n" in peer.output, "the head")
        gate.set()
        assert (await peer.answer()).body == b"x"


@pytest.mark.parametrize("status", [100, 101, 103, 199])
async def test_a_final_answer_that_is_none_ends_the_connection(status):
    """The next answer would be taken for the one that is missing."""

    async def app(scope, receive, send):
        if scope["path"] == "/a":
            await answering(start(status), body())(scope, receive, send)
        else:
            await hello(scope, receive, send)

    raw, state = await conversation(app, request(target="/a") + request(target="/b"))
    assert raw.startswith(b"HTTP/1.1 %d " % status)
    assert b" 200 OK" not in raw
    assert state != "open"
