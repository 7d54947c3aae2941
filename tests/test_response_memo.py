"""Heads that come again: the same bytes as if each were the first, whatever came before."""

import asyncio
import gc
import re

import pytest
from drive import body, request, serving, start, turn
from hypothesis import given, settings
from hypothesis import strategies as st

TEXT = (b"content-type", b"text/plain")
JSON = (b"content-type", b"application/json")
TWO = (b"content-length", b"2")
THREE = (b"Content-Length", b"3")
COOKIE = (b"set-cookie", b"session=secret")
GZIP_CHUNKED = (b"transfer-encoding", b"gzip, chunked")
FIELDS = [
    TEXT,
    JSON,
    (b"content-type", b"text/plain" + b"!" * 4),  # as many fields and bytes: the slot of another one
    [b"content-type", b"text/plain"],
    (bytearray(b"content-type"), memoryview(b"text/plain")),
    (b"Content-Type", b"text/plain"),
    TWO,
    THREE,
    (b"content-length", b"02"),
    (b"x-empty", b""),
    (b"connection", b"close"),
    (b"connection", b"x-other"),
    (b"transfer-encoding", b"chunked"),
    GZIP_CHUNKED,
    COOKIE,
    (b"date", b"yesterday"),
    (b"server", b"other"),
    (b"x-bad", b"a\r\nb"),
    (b"bad name", b"x"),
    (b"content-length", b"-1"),
    (b"content-length",),
    "ab",
    (b"x-default", b"its own"),
]


class Answers:
    """An application that answers with the next of these heads, and two bytes of body."""

    def __init__(self, heads):
        self._heads = iter(heads)

    async def __call__(self, scope, receive, send):
        status, fields = next(self._heads)
        await send(start(status, fields))
        await send(body(b"ok", False))


async def answers(heads, method, **options):
    """What a runtime answers to these heads, each on a connection of its own."""
    found = []
    async with serving(Answers(heads), **options) as bench:
        for _ in heads:
            peer = bench.connect()
            peer.feed(request(method))
            await turn(3)
            found.append((re.sub(rb"\r\ndate: \w{3}, [^\r]+", b"", peer.output), peer.state))
    return found


heads = st.lists(
    st.tuples(
        st.sampled_from([200, 200, 200, 204, 304, 404, 777]),
        st.lists(st.sampled_from(FIELDS), max_size=3).map(lambda fields: [*fields]),
    ),
    min_size=2,
    max_size=12,
)


@settings(max_examples=60, deadline=None)
@given(heads=heads, method=st.sampled_from(["GET", "HEAD"]), has_default=st.booleans())
def test_as_if_each_were_the_first(heads, method, has_default):
    async def check():
        options = {"headers": [("x-default", "ours")]} if has_default else {}
        together = await answers(heads, method, **options)
        for head, answer in zip(heads, together, strict=True):
            assert [answer] == await answers([head], method, **options)

    asyncio.run(check())


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("second", FIELDS, ids=repr)
@pytest.mark.parametrize("first", [TEXT, TWO, COOKIE, GZIP_CHUNKED], ids=repr)
async def test_a_head_behind_another_one(first, second, method):
    """With an equal field before, and one that differs behind."""
    heads = [(200, [TEXT, first]), (200, [TEXT, second]), (200, [TEXT, first]), (404, [TEXT, first])]
    together = await answers(heads, method)
    assert together == [(await answers([head], method))[0] for head in heads]


async def test_only_the_length_differs():
    heads = [(200, [TEXT, (b"content-length", b"%d" % n)]) for n in (2, 2, 0, 2)]
    found = await answers(heads, "HEAD")
    lengths = [re.search(rb"content-length: (\d+)", raw)[1] for raw, _ in found]
    assert lengths == [b"2", b"2", b"0", b"2"]


async def test_two_lengths_that_differ_behind_two_that_do_not():
    """Which is an error, also where the first of them was seen before."""
    twice, differ = [TWO, TWO], [TWO, (b"content-length", b"3")]
    (first, *_), (second, *_) = await answers([(200, twice), (200, differ)], "GET")
    assert first.startswith(b"HTTP/1.1 200 ")
    assert second.startswith(b"HTTP/1.1 500 ")


def copies(thing):
    """An equal object with a count of references of its own."""
    name, value = thing
    return bytes(bytearray(name)), bytes(bytearray(value))


@pytest.mark.parametrize(("field", "is_kept"), [(TEXT, True), (COOKIE, False)], ids=["type", "cookie"])
async def test_cookies_are_not_kept(field, is_kept):
    """They are secrets of one client."""
    mine = copies(field)
    app = Answers([(200, [mine])])
    async with serving(app) as bench:
        peer = bench.connect()
        peer.feed(request())
        await turn(3)
        assert mine[1] in peer.output
        assert any(type(each) is tuple for each in gc.get_referrers(mine)) == is_kept


async def test_a_head_that_was_changed_behind_our_back():
    """The list is the application's, and so is what it does with it between two answers."""
    fields = [TEXT, TWO]
    sent = []

    async def app(scope, receive, send):
        await send(start(200, fields))
        await send(body(b"ok", False))
        sent.append(None)
        fields[0] = JSON

    async with serving(app) as bench:
        peer = bench.connect()
        for expected in (TEXT, JSON, JSON):
            peer.forget()
            peer.feed(request())
            await turn(3)
            assert expected[1] in peer.output
