"""The ASGI face of one request: messages in a wrong order, errors, `send` kept, pipelining.

`receive` is in `test_receive.py`, a client that goes in `test_disconnect.py`, the scope in
`test_scope.py`, what the calls return in `test_awaitables.py`.
"""

import asyncio
import contextlib
import enum

import pytest
from drive import (
    BODY,
    DISCONNECT,
    GET,
    MORE,
    START,
    answering,
    body,
    catching,
    catching_app,
    complaints,
    conversation,
    drain_body,
    echo,
    exchange,
    hello,
    request,
    serving,
    start,
    turn,
    until,
)

from fastasgi.errors import ApplicationError, ClientDisconnected

# --- order of messages ----------------------------------------------------------------------------

# (messages; the one that is refused; words of the error; does the client see a whole answer?)
WRONG = {
    "body first": ([BODY], 0, ("http.response.start", "http.response.body"), False),
    "start twice": ([START, START], 1, ("http.response.body", "http.response.start"), False),
    "start after a piece": ([START, MORE, START], 2, ("http.response.body", "http.response.start"), False),
    "start after the end": ([START, BODY, START], 2, ("http.response.start",), True),
    "body after the end": ([START, BODY, BODY], 2, ("http.response.body",), True),
    "unknown type first": ([{"type": "http.unknown"}], 0, ("http.response.start", "http.unknown"), False),
    "unknown type then": ([START, {"type": "x"}], 1, ("http.response.body", "x"), False),
    "a message of websockets": (
        [{"type": "websocket.accept"}],
        0,
        ("http.response.start", "websocket.accept"),
        False,
    ),
    "a message of receive": (
        [{"type": "http.disconnect"}],
        0,
        ("http.response.start", "http.disconnect"),
        False,
    ),
    "an extension not advertised": (
        [START, {"type": "http.response.pathsend", "path": "/etc/passwd"}],
        1,
        ("http.response.body", "http.response.pathsend"),
        False,
    ),
    "no type": ([{"status": 200}], 0, ("type",), False),
    "type None": ([{"type": None}], 0, ("http.response.start", "None"), False),
    "type in bytes": ([{"type": b"http.response.start"}], 0, ("http.response.start", "b'"), False),
    "type in capitals": ([{"type": "HTTP.RESPONSE.START"}], 0, ("http.response.start", "HTTP"), False),
    "type with a tail": ([{"type": "http.response.start\x00"}], 0, ("http.response.start",), False),
    "empty": ([{}], 0, ("type",), False),
    "None": ([None], 0, ("None",), False),
    "text": (["http.response.start"], 0, ("dict", "'http.response.start'"), False),
    "a list": ([[("type", "http.response.start")]], 0, ("dict", "[("), False),
}


@pytest.mark.pins("response.wrong-message")
@pytest.mark.parametrize(("messages", "refused", "words", "whole"), WRONG.values(), ids=WRONG)
async def test_wrong_messages(messages, refused, words, whole, caplog):
    taken = []

    async def app(scope, receive, send):
        for message in messages:
            await send(message)
            taken.append(message)

    wrapped, caught = catching_app(app)
    raw, state = await conversation(wrapped)
    assert len(taken) == refused
    assert isinstance(caught[0], ApplicationError), caught
    for word in words:
        assert word in str(caught[0]), str(caught[0])
    assert complaints(caplog)
    if whole:
        assert raw.count(b"ok\r\n0\r\n\r\n") == 1 and raw.count(b"HTTP/1.1 ") == 1
    elif MORE in messages[:refused] or (START in messages[:refused] and state == "aborted"):
        assert state == "aborted"
    else:
        assert raw.startswith(b"HTTP/1.1 500")
        assert b"connection: close" in raw.lower()
        assert state in ("closing", "closed")


@pytest.mark.pins("response.wrong-message")
async def test_a_refused_message_leaves_no_trace():
    """An application that catches the error and then does it right is answered."""

    async def app(scope, receive, send):
        for wrong in (
            BODY,
            {"type": "x"},
            start("200"),
            start(200, [(b"a b", b"c")]),
            start(200, [(b"a", b"\n")]),
        ):
            with pytest.raises(ApplicationError):
                await send(wrong)
        await send(start(201, [(b"content-length", b"2")]))
        for wrong in (START, body("ok"), {"type": "x"}, body(b"too long")):
            with pytest.raises(ApplicationError):
                await send(wrong)
        await send(BODY)

    answer, state = await exchange(app)
    assert (answer.status, answer.body, state) == (201, b"ok", "open")


async def test_nothing_after_the_end_is_sent():
    """The error of a message too many does not damage what follows on the connection."""
    app, caught = catching(START, BODY, BODY)
    raw, state = await conversation(app, GET)
    assert caught and raw.count(b"ok") == 1
    assert raw.count(b"HTTP/1.1 ") == 1
    assert b"500" not in raw


# --- exceptions -----------------------------------------------------------------------------------


def raising(error, *messages):
    async def app(scope, receive, send):
        for message in messages:
            await send(message)
        raise error

    return app


ERRORS = [
    LookupError("boom"),
    asyncio.CancelledError(),
    ExceptionGroup("two", [ValueError("a"), OSError("b")]),
]


@pytest.mark.pins("response.raises-before")
@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("messages", [(), (START,)], ids=["nothing sent", "start sent"])
async def test_raises_before_anything_left(error, messages, caplog):
    """The start alone is held back, so the client may still be told the truth; or the response is cut."""
    raw, state = await conversation(raising(error, *messages), GET + GET)
    if messages and state == "aborted":
        assert raw.count(b"HTTP/1.1 ") <= 1
        return
    if isinstance(error, asyncio.CancelledError):  # it is how a drain ends requests: 503 is as true
        raw = raw.replace(b"503 Service Unavailable", b"500 Internal Server Error")
    assert raw.startswith(b"HTTP/1.1 500 Internal Server Error\r\n")
    assert raw.count(b"HTTP/1.1 ") == 1
    assert b"connection: close" in raw.lower()
    assert state in ("closing", "closed")
    if not isinstance(error, asyncio.CancelledError):
        (record,) = complaints(caplog)
        assert record.exc_info and record.exc_info[1] is error


@pytest.mark.pins("response.raises-after")
@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("headers", [[], [(b"content-length", b"100")]], ids=["chunked", "length"])
async def test_raises_within_the_body(error, headers, caplog):
    raw, state = await conversation(raising(error, start(200, headers), MORE), GET + GET)
    assert state == "aborted"
    assert raw.count(b"HTTP/1.1 ") <= 1
    assert not raw.endswith(b"0\r\n\r\n")
    if not isinstance(error, asyncio.CancelledError):
        (record,) = complaints(caplog)
        assert record.exc_info and record.exc_info[1] is error


@pytest.mark.pins("response.raises-after")
async def test_raises_within_a_body_that_ends_with_the_connection():
    """On HTTP/1.0 only a reset tells the client that the body is not whole."""
    _, state = await conversation(raising(LookupError(), START, MORE), b"GET / HTTP/1.0\r\n\r\n")
    assert state == "aborted"


@pytest.mark.pins("response.raises-after")
async def test_raises_after_the_answer(caplog):
    """The client has its answer, whole; the error is logged; the connection is still good."""
    raw, state = await conversation(raising(LookupError("late"), START, BODY), GET)
    assert raw.endswith((b"ok", b"0\r\n\r\n"))
    assert state != "aborted"
    (record,) = complaints(caplog)
    assert record.exc_info[1].args == ("late",)


@pytest.mark.pins("response.raises-before")
async def test_raises_before_it_is_awaited(caplog):
    """An application object that raises when called, or returns no coroutine."""

    def broken(scope, receive, send):
        raise LookupError("called")

    def no_coroutine(scope, receive, send):
        return None

    for app in (broken, no_coroutine):
        caplog.clear()
        raw, state = await conversation(app)
        assert raw.startswith(b"HTTP/1.1 500"), raw
        assert state in ("closing", "closed")
        assert complaints(caplog)


async def test_an_application_may_return_any_awaitable():
    class App:
        def __call__(self, scope, receive, send):
            return self.work(send)

        async def work(self, send):
            await send(START)
            await send(BODY)

    answer, _ = await exchange(App())
    assert answer.body == b"ok"


async def test_an_application_may_be_a_generator_based_future():
    """`app(...)` gives a future: ASGI asks for an awaitable, a task takes coroutines only."""

    def app(scope, receive, send):
        return asyncio.ensure_future(hello(scope, receive, send))

    answer, _ = await exchange(app)
    assert answer.body == b"ok"


@pytest.mark.pins("response.raises-before")
async def test_the_next_connection_is_served_after_an_error():
    fail = True

    async def app(scope, receive, send):
        if fail:
            raise LookupError
        await hello(scope, receive, send)

    async with serving(app) as bench:
        first = bench.connect()
        assert (await first.answer(data=GET)).status == 500
        fail = False
        assert (await bench.connect().answer(data=GET)).status == 200


async def test_an_error_with_the_request_body_unread():
    """The client must be able to read the 500, so the body is skipped or the close lingers: no abort."""
    raw, state = await conversation(raising(LookupError()), request("POST", body=b"x" * 1000))
    assert raw.startswith(b"HTTP/1.1 500")
    assert state in ("closing", "closed")


# --- kept past its request ------------------------------------------------------------------------


@pytest.mark.parametrize("returned", [True, False], ids=["task ended", "task runs on"])
async def test_send_kept_past_its_request_finds_it_closed(returned):
    """It must never speak into the answer of the next request."""
    kept, errors, gate = [], [], asyncio.Event()

    async def app(scope, receive, send):
        if scope["path"] == "/first":
            kept.extend((receive, send))
            await hello(scope, receive, send)
            if not returned:
                await gate.wait()
            return
        old_receive, old_send = kept
        for message in (START, MORE, BODY):
            try:
                await old_send(message)
            except Exception as error:
                errors.append(error)
        errors.append(await old_receive())
        await send(start(200, [(b"content-length", b"3")]))
        try:
            await old_send(body(b"bad"))
        except Exception as error:
            errors.append(error)
        await send(body(b"new"))

    async with serving(app) as bench:
        peer = bench.connect()
        await peer.answer(data=request(target="/first"))
        peer.forget()
        answer = await peer.answer(data=request(target="/second"))
        assert answer.body == b"new"
        gate.set()
        await turn(5)
    assert len(errors) == 5, errors
    assert errors[3] == DISCONNECT
    assert all(isinstance(error, (ApplicationError, ClientDisconnected)) for error in errors[:3] + errors[4:])


async def test_receive_kept_past_its_request_does_not_eat_the_next_body():
    kept, got = [], []

    async def app(scope, receive, send):
        if not kept:
            kept.append(receive)
            await hello(scope, receive, send)
            return
        got.append(await kept[0]())
        await echo(scope, receive, send)

    async with serving(app) as bench:
        peer = bench.connect()
        await peer.answer(data=GET)
        peer.forget()
        answer = await peer.answer("POST", data=request("POST", body=b"mine"))
        assert answer.body == b"mine"
    assert got == [DISCONNECT]


async def test_send_and_receive_outlive_the_connection():
    kept = []

    async def app(scope, receive, send):
        kept.extend((receive, send))
        await hello(scope, receive, send)

    async with serving(app) as bench:
        peer = bench.connect()
        await peer.answer(data=GET)
        peer.lost()
        await turn(3)
        del peer
        bench.peers.clear()
        assert await kept[0]() == DISCONNECT
        with pytest.raises((ApplicationError, ClientDisconnected)):
            await kept[1](START)


class Word(enum.StrEnum):
    """Texts as some applications name them: equal to those of the specification, and not of the type `str`."""

    TYPE = "type"
    STATUS = "status"
    HEADERS = "headers"
    BODY_KEY = "body"
    MORE_BODY = "more_body"
    START = "http.response.start"
    BODY = "http.response.body"


class Restless(str):
    """A text whose comparison changes the message that it stands in."""

    def __eq__(self, other):
        message = self.message
        message.clear()
        message.update((f"other {number}", bytes(100)) for number in range(30))
        return str.__eq__(self, other)

    __hash__ = str.__hash__


SPELLINGS = {
    "literals": lambda text: text,
    "made at run time": lambda text: "".join(list(text)),
    "members of an enum": Word,
}


@pytest.mark.parametrize(
    "others", [{}, {"trailers": False}, {7: 8, None: b"x"}], ids=["all known", "one more", "no texts"]
)
@pytest.mark.parametrize("spell", SPELLINGS.values(), ids=SPELLINGS)
async def test_keys_of_messages_may_be_any_text(spell, others):
    async def app(scope, receive, send):
        fields = [(b"x-a", b"b")]
        await send(
            {spell("status"): 201, spell("headers"): fields, **others, spell("type"): spell(START["type"])}
        )
        await send(
            {**others, spell("type"): spell(BODY["type"]), spell("body"): b"one ", spell("more_body"): True}
        )
        await send(
            {spell("body"): b"two", spell("type"): spell(BODY["type"]), spell("more_body"): False, **others}
        )

    answer, _ = await exchange(app)
    assert (answer.status, answer.one("x-a"), answer.body) == (201, b"b", b"one two")


@pytest.mark.parametrize("where", ["type", "key", "body"])
async def test_a_message_that_changes_while_it_is_read(where):
    """By code of the application that our reading runs: what was there is used, or the message is refused."""

    async def app(scope, receive, send):
        await send(dict(START))
        word = Restless("body" if where == "key" else BODY["type"])
        message = {"type": word if where == "type" else BODY["type"], "body": b"x" * 100, "more_body": True}
        if where == "key":
            message = {"type": BODY["type"], "more_body": True, word: b"x" * 100}
        if where == "body":
            message["more_body"] = Truth(message)
        word.message = message
        with contextlib.suppress(ApplicationError):
            await send(message)
        await send(dict(BODY))

    answer, _ = await exchange(app)
    assert answer.status == 200


class Truth:
    """Is true, and changes its message when it is asked."""

    def __init__(self, message):
        self.message = message

    def __bool__(self):
        self.message.clear()
        return True


async def test_send_and_receive_check_their_arguments():
    errors = []

    async def app(scope, receive, send):
        for call in (send, lambda: send(START, BODY), lambda: receive(1)):
            with pytest.raises(TypeError) as caught:
                await call()
            errors.append(caught.value)
        await hello(scope, receive, send)

    answer, _ = await exchange(app)
    assert answer.status == 200 and len(errors) == 3


# --- pipelining -----------------------------------------------------------------------------------


@pytest.mark.pins("head.pipelining")
@pytest.mark.parametrize("suspend", [False, True], ids=["at once", "suspending"])
async def test_ten_thousand_pipelined_requests_in_one_buffer(suspend):
    """They start from a loop, never by recursion; and are answered in order."""
    count = 10_000
    order = []

    async def app(scope, receive, send):
        if suspend and len(order) % 10 == 0:
            await turn()
        order.append(scope["path"])
        await send(start(200, [(b"content-length", b"2")]))
        await send(BODY)

    data = b"".join(request(target=f"/{index}") for index in range(count))
    async with serving(app) as bench:
        peer = bench.connect()
        peer.feed(data)
        await until(lambda: len(order) == count, "all requests", turns=100_000)
        await turn(3)
        assert peer.output.count(b"HTTP/1.1 200 OK\r\n") == count
        assert peer.state == "open"
    assert order == [f"/{index}" for index in range(count)]


async def test_an_answer_waits_for_the_one_before():
    """One request of a connection at a time: its successor is not even started."""
    started, gate = [], asyncio.Event()

    async def app(scope, receive, send):
        started.append(scope["path"])
        if scope["path"] == "/1":
            await gate.wait()
        await send(start(200, [(b"content-length", b"2")]))
        await send(body(scope["path"].encode()))

    async with serving(app) as bench:
        peer = bench.connect()
        peer.feed(b"".join(request(target=f"/{index}") for index in range(4)))
        await turn(10)
        assert started == ["/0", "/1"]
        gate.set()
        answers = await peer.several(4)
        assert [answer.body for answer in answers] == [b"/0", b"/1", b"/2", b"/3"]


async def test_requests_with_bodies_pipelined():
    data = b"".join(request("POST", body=b"%d" % index * 10) for index in range(50))
    async with serving(echo) as bench:
        peer = bench.connect()
        peer.feed(data)
        answers = await peer.several(50)
        assert [answer.body for answer in answers] == [b"%d" % index * 10 for index in range(50)]


async def test_a_feed_from_within_the_application():
    """`feed` is never re-entered: bytes that come while the application runs wait."""
    peers = []

    async def app(scope, receive, send):
        if scope["path"] == "/first":
            peers[0].feed(request(target="/second"))
        await send(start(200, [(b"content-length", b"2")]))
        await send(BODY)

    async with serving(app) as bench:
        peers.append(bench.connect())
        peers[0].feed(request(target="/first"))
        answers = await peers[0].several(2)
        assert [answer.status for answer in answers] == [200, 200]
        peers.clear()


async def test_a_loss_from_within_the_application():
    caught = []
    peers = []

    async def app(scope, receive, send):
        peers[0].lost()
        try:
            await send(START)
            await send(BODY)
        except ClientDisconnected as error:
            caught.append(error)

    async with serving(app) as bench:
        peers.append(bench.connect())
        peers[0].feed(GET + GET)
        await until(lambda: caught, "ClientDisconnected")
        await turn(5)
        assert len(caught) == 1
        peers.clear()


async def test_drain_body_helper_is_honest():
    """The helpers of these tests read what was sent."""
    seen = []

    async def app(scope, receive, send):
        seen.append(await drain_body(receive))
        await hello(scope, receive, send)

    await exchange(app, request("POST", body=b"abc"), method="POST")
    assert seen == [b"abc"]


async def test_answering_sends_what_it_is_told():
    answer, _ = await exchange(answering(start(202), BODY))
    assert (answer.status, answer.body) == (202, b"ok")


# --- errors of the client while the start is held ---------------------------------------------------

HELD = {
    "a bad chunk": ({}, b"XX\r\n", 400),
    "a body that stops": ({}, b"", 408),
    "a request that takes too long": ({"timeout_request": 100.0, "timeout_request_body": None}, b"", 503),
}


@pytest.mark.parametrize("name", HELD)
async def test_an_error_while_the_start_is_held_is_answered(name, caplog):
    """Nothing has left yet: the client is told what was wrong, not cut off without a word."""
    options, rest, status = HELD[name]

    async def app(scope, receive, send):
        await send(start(200))
        while (await receive()).get("more_body"):
            pass
        await send(body(b"ok", False))

    async with serving(app, **options) as bench:
        peer = bench.connect()
        peer.feed(request("POST", headers=("Transfer-Encoding: chunked",)) + b"1\r\na\r\n")
        await turn(3)
        if rest:
            peer.feed(rest)
        else:
            await bench.pass_time(200, 100)
        await turn(3)
        assert peer.output.startswith(b"HTTP/1.1 %d " % status)
        assert b"200 OK" not in peer.output
