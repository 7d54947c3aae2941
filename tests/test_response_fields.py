"""The status and fields of a response, and what counts as bytes, as headers, as a message.

Everything runs through `Http1` over an in-memory channel; answers are read by `answers.py`.
"""

import collections
import datetime
import email.utils
import time
import types

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
    serving,
    start,
    turn,
)

from fastasgi.errors import ApplicationError

CHUNKED = [(b"transfer-encoding", b"chunked")]


def length(value):
    return [(b"content-length", str(value).encode())]


# --- refusals -------------------------------------------------------------------------------------

EVIL_VALUES = [
    b"a\r\nx-evil: 1",
    b"a\nx-evil: 1",
    b"a\rx-evil: 1",
    b"a\x00b",
    b"a\x01b",
    b"a\x1fb",
    b"a\x7fb",
]
EVIL_NAMES = [
    b"",
    b"a b",
    b"a:b",
    b"a\r\nb",
    b"a\nb",
    b"a\rb",
    b"a\x00b",
    b" a",
    b"a ",
    b"a\tb",
    b"a(b",
    b"caf\xe9",
]
EVIL_NAMES += [b'a"b', b"a/b", b"a=b", b"a@b", b"a[b", b"a{b", b"a,b", b"a;b", b"a\x7fb", b"\x80"]


async def assert_refused(app_headers, caplog):
    """ApplicationError to the application, 500 to the client, nothing of the headers on the wire."""
    app, caught = catching(start(200, app_headers), BODY)
    raw, state = await conversation(app, GET + GET)
    assert len(caught) == 1, (caught, raw)
    assert isinstance(caught[0], ApplicationError), caught
    assert raw.startswith(b"HTTP/1.1 500"), raw
    assert raw.count(b"HTTP/1.1 ") == 1
    assert b"evil" not in raw and b"x-before" not in raw
    assert state in ("closing", "closed")
    assert complaints(caplog)
    return caught[0]


@pytest.mark.pins("response.header-injection")
@pytest.mark.parametrize("value", EVIL_VALUES)
async def test_illegal_values(value, caplog):
    await assert_refused([(b"x-before", b"1"), (b"x-name", value)], caplog)


@pytest.mark.pins("response.header-injection")
@pytest.mark.parametrize("value", [b"\r\nx-evil: 1", b"ok\r\n", b"ok\n", b"ok\r", b"\x00"])
@pytest.mark.parametrize(
    "name", [b"content-type", b"content-length", b"date", b"server", b"connection", b"location"]
)
async def test_illegal_values_of_known_names(name, value, caplog):
    """Names that the server looks at take other paths; none may skip the check."""
    await assert_refused([(b"x-before", b"1"), (name, value)], caplog)


@pytest.mark.pins("response.header-injection")
@pytest.mark.parametrize("name", EVIL_NAMES)
async def test_illegal_names(name, caplog):
    await assert_refused([(b"x-before", b"1"), (name, b"evil")], caplog)


@pytest.mark.pins("response.header-injection")
@pytest.mark.parametrize("where", [0, 1, 7, 8, 15, 16, 31, 32, 33, 63, 64, 1000])
async def test_an_illegal_byte_is_found_at_every_place(where, caplog):
    """Checks by words or vectors have seams."""
    value = bytearray(b"v" * 1001)
    value[where] = 0x0A
    await assert_refused([(b"x-name", bytes(value))], caplog)
    name = bytearray(b"n" * 1001)
    name[where] = 0x20
    await assert_refused([(bytes(name), b"v")], caplog)


@pytest.mark.pins("response.header-injection")
async def test_the_message_shows_the_header(caplog):
    error = await assert_refused([(b"x-odd", b"a\r\nb")], caplog)
    assert "x-odd" in str(error)


@pytest.mark.parametrize(
    "value", [b"caf\xc3\xa9", b"\xff", b"a\tb", b"", b"a" * 20_000, b'"quoted; (x)"', b" ! "]
)
async def test_legal_values_are_kept(value):
    answer, _ = await exchange(answering(start(200, [(b"x-name", value)]), BODY))
    assert answer.one("x-name") == value.strip()


@pytest.mark.parametrize("name", [b"x", b"X-Mixed-Case", b"!#$%&'*+-.^_`|~09azAZ", b"n" * 5000])
async def test_legal_names_are_kept(name):
    answer, _ = await exchange(answering(start(200, [(name, b"1")]), BODY))
    assert [value for key, value in answer.fields if key.lower() == name.lower()] == [b"1"]


@pytest.mark.pins("response.wrong-message")
@pytest.mark.parametrize(
    ("app_headers", "came"),
    [
        ([("x-name", b"1")], "str"),
        ([(b"x-name", "1")], "str"),
        ([(b"x-name", 1)], "int"),
        ([(b"x-name", None)], "None"),
        ([(1, b"1")], "int"),
        ([(b"x-name",)], ""),
        ([(b"x-name", b"1", b"2")], ""),
        ([b"x-name"], ""),
        ([None], "None"),
        ([1], "1"),
        (1, "1"),
        ("abc", "'a'"),
        (b"abc", ""),
        (True, "True"),
    ],
    ids=repr,
)
async def test_headers_of_a_wrong_type(app_headers, came, caplog):
    app, caught = catching(start(200, app_headers), BODY)
    raw, _ = await conversation(app)
    assert caught, raw
    assert isinstance(caught[0], ApplicationError), caught
    assert came in str(caught[0]), str(caught[0])
    assert "expected" in str(caught[0]) and "bytes" in str(caught[0])
    assert raw.startswith(b"HTTP/1.1 500")


class Status(int):
    """`http.HTTPStatus` is such a subclass of int."""


@pytest.mark.parametrize("status", [200, 201, 299, 404, 418, 451, 500, 599, 600, 799, 999, Status(202)])
async def test_every_three_digit_status_is_sent(status):
    answer, state = await exchange(answering(start(status), BODY))
    assert answer.status == int(status)
    assert state == "open"


async def test_reason_phrases():
    assert (await exchange(answering(start(200), BODY)))[0].reason == "OK"
    assert (await exchange(answering(start(404), BODY)))[0].reason == "Not Found"
    assert (await exchange(answering(start(422), BODY)))[0].reason.startswith("Unprocessable")


@pytest.mark.pins("response.wrong-message")
@pytest.mark.parametrize(
    "status", ["200", b"200", 200.0, None, -1, 0, 99, 1000, 2**31, 2**64, 2**64 + 200, -(2**64)]
)
async def test_a_wrong_status(status, caplog):
    app, caught = catching(start(status), BODY)
    raw, state = await conversation(app)
    assert caught and isinstance(caught[0], ApplicationError), caught
    assert "status" in str(caught[0])
    assert raw.startswith(b"HTTP/1.1 500")
    assert state in ("closing", "closed")


@pytest.mark.pins("response.wrong-message")
async def test_no_status(caplog):
    app, caught = catching({"type": "http.response.start", "headers": []}, BODY)
    raw, _ = await conversation(app)
    assert caught and "status" in str(caught[0])
    assert isinstance(caught[0], ApplicationError)
    assert raw.startswith(b"HTTP/1.1 500")


@pytest.mark.pins("response.wrong-message")
@pytest.mark.parametrize("data", ["text", 1, None, [b"x"], {}], ids=repr)
async def test_a_body_of_a_wrong_type(data, caplog):
    app, caught = catching(start(), body(data))
    raw, state = await conversation(app)
    assert caught and isinstance(caught[0], ApplicationError), (caught, raw)
    assert "bytes" in str(caught[0]) and type(data).__name__ in str(caught[0])
    assert not raw.startswith(b"HTTP/1.1 200") or state == "aborted"


# --- what counts as bytes, as headers, as a message -----------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        b"hello",
        bytearray(b"hello"),
        memoryview(b"hello"),
        memoryview(b"xhellox")[1:-1],
        memoryview(b"h_e_l_l_o_")[::2],
        memoryview(b"hello").cast("b"),
    ],
    ids=["bytes", "bytearray", "memoryview", "slice", "strided", "signed"],
)
@pytest.mark.parametrize("framing", [[], length(5), CHUNKED], ids=["none", "length", "chunked"])
@pytest.mark.parametrize("more", [False, True])
async def test_bodies_of_bytes(data, framing, more):
    messages = [start(200, framing), body(data, more)] + ([body()] if more else [])
    answer, _ = await exchange(answering(*messages))
    assert answer.body == b"hello"


async def test_a_wide_memoryview_is_its_bytes():
    """The length is in bytes, not in items."""
    view = memoryview(b"abcdefgh").cast("I")
    answer, _ = await exchange(answering(start(200, length(8)), body(view)))
    assert answer.body == b"abcdefgh"
    answer, _ = await exchange(answering(start(), body(view, True), body()))
    assert answer.body == b"abcdefgh"


@pytest.mark.parametrize(
    "make", [bytearray, lambda data: memoryview(bytearray(data))], ids=["bytearray", "memoryview"]
)
@pytest.mark.parametrize("size", [5, 100_000])
async def test_a_body_that_changes_after_send_is_sent_as_it_was(make, size):
    """Pending output holds `bytes` by reference, but copies what can change before `send` returns."""

    async def app(scope, receive, send):
        await send(start(200, length(size)))
        data = make(b"a" * size)
        sending = send(body(data))
        for index in range(size):
            data[index] = 0x62
        await sending

    async with serving(app) as bench:
        peer = bench.connect()
        peer.channel.hold_output(0)
        peer.feed(GET)
        await turn(5)
        peer.channel.hold_output(None)
        answer = await peer.answer()
        assert answer.body == b"a" * size


async def test_a_bytearray_can_be_resized_after_send():
    """No export of the buffer may outlive `send`."""

    async def app(scope, receive, send):
        data = bytearray(b"x" * 300_000)
        await send(start(200, length(300_000)))
        sending = send(body(data))
        data.clear()
        data += b"y"
        await sending

    async with serving(app) as bench:
        peer = bench.connect()
        peer.channel.hold_output(10)
        peer.feed(GET)
        await turn(5)
        peer.channel.hold_output(None)
        answer = await peer.answer()
        assert answer.body == b"x" * 300_000


HEADERS = [(b"X-One", b"1"), (b"x-two", b"2"), (b"x-one", b"3")]


class Sequence(collections.abc.Sequence):
    def __init__(self, items):
        self.items = items

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        return self.items[index]


class ListSubclass(list):
    pass


class BytesSubclass(bytes):
    pass


@pytest.mark.parametrize(
    "make",
    [
        list,
        tuple,
        iter,
        lambda items: (item for item in items),
        lambda items: [list(item) for item in items],
        lambda items: [iter(item) for item in items],
        lambda items: [(BytesSubclass(name), BytesSubclass(value)) for name, value in items],
        ListSubclass,
        Sequence,
        collections.deque,
        lambda items: zip([name for name, _ in items], [value for _, value in items], strict=True),
        lambda items: dict(enumerate(items)).values(),
    ],
    ids=[
        "list",
        "tuple",
        "iterator",
        "generator",
        "lists",
        "iterators",
        "subclasses",
        "list subclass",
        "sequence",
    ]
    + ["deque", "zip", "values"],
)
async def test_containers_of_headers(make):
    async def app(scope, receive, send):
        await send(start(200, make(HEADERS)))
        await send(BODY)

    answer, _ = await exchange(app)
    assert answer.all("x-one") == [b"1", b"3"]
    assert answer.all("x-two") == [b"2"]


async def test_a_generator_of_headers_that_raises():
    def broken():
        yield (b"x-before", b"1")
        raise LookupError("no more headers")

    async def app(scope, receive, send):
        await send(start(200, broken()))
        await send(BODY)

    raw, state = await conversation(app)
    assert raw.startswith(b"HTTP/1.1 500") and b"x-before" not in raw
    assert state in ("closing", "closed")


async def test_a_generator_of_headers_that_sends():
    """Application code runs while headers are read: it may call `send` again; nothing is corrupted."""
    inner = []

    async def app(scope, receive, send):
        def sneaky():
            yield (b"x-one", b"1")
            try:
                inner.append(send(start(201, [(b"x-inner", b"1")])))
            except Exception as error:
                inner.append(error)
            yield (b"x-two", b"2")

        try:
            await send(start(200, sneaky()))
        finally:
            await send(BODY)

    async with serving(app) as bench:
        peer = bench.connect()
        peer.feed(GET)
        await turn(10)
        output = peer.output
        assert inner
        assert output.count(b"HTTP/1.1 ") <= 1
        assert not (b"x-inner" in output and b"x-one" in output)


async def test_headers_that_change_while_they_are_read():
    """A list that the application changes from within (a `bytes` subclass cannot, an iterator can)."""
    headers = [(b"x-%d" % index, b"v") for index in range(50)]

    class Cutting:
        def __iter__(self):
            headers.clear()
            yield b"x-cut"
            yield b"1"

    headers.insert(1, Cutting())
    raw, _ = await conversation(answering(start(200, headers), BODY))
    assert raw.startswith((b"HTTP/1.1 200", b"HTTP/1.1 500"))


@pytest.mark.parametrize(
    "make",
    [dict, types.MappingProxyType, collections.OrderedDict, collections.UserDict, collections.ChainMap],
    ids=["dict", "proxy", "ordered", "user", "chain"],
)
async def test_messages_that_are_mappings(make):
    async def app(scope, receive, send):
        await send(make(start(200, length(2))))
        await send(make(BODY))

    answer, _ = await exchange(app)
    assert answer.body == b"ok"


async def test_message_types_are_compared_by_value():
    """A type that is equal but not the interned string."""
    answer, _ = await exchange(
        answering(
            {"type": "".join(["http.response", ".start"]), "status": 200},
            {"type": "".join(["http.response", ".body"]), "body": b"ok"},
        )
    )
    assert answer.body == b"ok"


async def test_defaults_of_the_messages():
    """`headers`, `body` and `more_body` may be left out; ASGI has their defaults."""
    answer, state = await exchange(
        answering({"type": "http.response.start", "status": 200}, {"type": "http.response.body"})
    )
    assert (answer.body, state) == (b"", "open")


@pytest.mark.parametrize("value", [1, "yes", [0]])
async def test_more_body_is_a_truth_value(value):
    answer, _ = await exchange(
        answering(start(), {"type": "http.response.body", "body": b"a", "more_body": value}, BODY)
    )
    assert answer.body == b"aok"


async def test_unknown_keys_are_ignored():
    answer, _ = await exchange(answering({**start(), "x-private": 1}, {**BODY, "x-private": object()}))
    assert answer.body == b"ok"


async def test_messages_are_not_changed():
    first, last = start(200, [(b"X-Name", b"1")]), body(b"ok")
    before = (repr(first), repr(last))
    await exchange(answering(first, last))
    assert (repr(first), repr(last)) == before


async def test_the_same_message_twice():
    """Applications keep their messages as constants."""
    app = answering(START, BODY)
    raw, _ = await conversation(app, GET * 3)
    assert raw.count(b"HTTP/1.1 200 OK") == 3
    assert START == {"type": "http.response.start", "status": 200, "headers": []}


# --- Date, Server, default headers ----------------------------------------------------------------


@pytest.mark.pins("response.date")
async def test_date_is_an_imf_date():
    answer, _ = await exchange(hello)
    value = answer.one("date").decode()
    parsed = email.utils.parsedate_to_datetime(value)
    assert value == email.utils.format_datetime(parsed.astimezone(datetime.UTC), usegmt=True)


@pytest.mark.pins("response.date")
async def test_date_is_renewed():
    """Wall-clock time is the kernel's, so only that the answer follows a second's tick is looked at."""

    async with serving(hello) as bench:
        peer = bench.connect()
        first = (await peer.answer(data=GET)).one("date")
        moment = email.utils.parsedate_to_datetime(first.decode()).timestamp()
        while time.time() < moment + 1:
            await turn()
        await bench.pass_time(1.0)
        peer.forget()
        second = (await peer.answer(data=GET)).one("date")
        assert email.utils.parsedate_to_datetime(second.decode()).timestamp() > moment


@pytest.mark.pins("response.date")
async def test_no_date():
    answer, _ = await exchange(hello, date_header=False)
    assert answer.one("date") is None


@pytest.mark.pins("response.server-header")
async def test_server():
    assert (await exchange(hello))[0].one("server") == b"fastasgi"
    assert (await exchange(hello, server_header=False))[0].one("server") is None


@pytest.mark.pins("response.default-headers")
async def test_default_headers():
    options = {"headers": [("X-Default", "one"), ("X-Other", "two")]}
    answer, _ = await exchange(hello, **options)
    assert answer.one("x-default") == b"one"
    assert answer.one("x-other") == b"two"


@pytest.mark.pins("response.default-headers")
@pytest.mark.parametrize(
    "name", [b"date", b"Date", b"DATE", b"server", b"Server", b"x-default", b"X-DEFAULT"]
)
async def test_a_default_header_gives_way_to_the_applications(name):
    app = answering(start(200, [(name, b"mine")]), BODY)
    answer, _ = await exchange(app, headers=[("X-Default", "one")])
    assert answer.all(name.decode()) == [b"mine"]
    for other in {"date", "server", "x-default"} - {name.decode().lower()}:
        assert len(answer.all(other)) == 1


@pytest.mark.pins("response.default-headers")
async def test_repeated_default_headers_are_all_sent_unless_the_application_sets_one():
    options = {"headers": [("X-Default", "one"), ("X-Default", "two")]}
    assert (await exchange(hello, **options))[0].all("x-default") == [b"one", b"two"]
    app = answering(start(200, [(b"x-default", b"mine")]), BODY)
    assert (await exchange(app, **options))[0].all("x-default") == [b"mine"]


@pytest.mark.pins("response.default-headers")
@pytest.mark.parametrize("name", ["Server", "Date"])
async def test_a_configured_header_replaces_ours(name):
    answer, _ = await exchange(hello, headers=[(name, "configured")])
    assert answer.all(name) == [b"configured"]


@pytest.mark.pins("response.default-headers")
async def test_error_answers_carry_date_and_server():
    raw, _ = await conversation(answering())
    assert raw.startswith(b"HTTP/1.1 500")
    assert raw.lower().count(b"\r\ndate: ") == 1
    assert raw.lower().count(b"\r\nserver: fastasgi\r\n") == 1


async def test_one_header_set_by_the_application_does_not_hide_others_of_its_length():
    """Names are compared whole, not by length and first byte."""
    app = answering(start(200, [(b"dote", b"1"), (b"sirver", b"2"), (b"dat", b"3")]), BODY)
    answer, _ = await exchange(app)
    assert len(answer.all("date")) == 1 and len(answer.all("server")) == 1


async def test_several_cookies_are_several_fields():
    app = answering(start(200, [(b"set-cookie", b"a=1"), (b"set-cookie", b"b=2")]), BODY)
    answer, _ = await exchange(app)
    assert answer.all("set-cookie") == [b"a=1", b"b=2"]
