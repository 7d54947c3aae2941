"""Requests that Hypothesis thinks of: valid ones are read back whole, mutilated ones never depend on cuts."""

import random

import pytest
from fuzz.fuzz_request import CORPUS, LIMITS, check
from fuzz.mutation import FRAGMENTS, mutate
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from wire import Message, byte_by_byte, fold, in_pieces

from fastasgi._probe import parse

pytestmark = pytest.mark.pins("head.cut-anywhere")
# Repeatable here; `make fuzz` is for new ground.
steady = settings(
    max_examples=300,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)

TOKEN = "!#$%&'*+-.^`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
PATH = "/abcXYZ019-._~!$&'()*+,;=:@"
ACTIVE = {"host", "content-length", "transfer-encoding", "connection", "upgrade", "expect", "keep-alive"}

methods = st.one_of(
    st.sampled_from(["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "M-SEARCH", "PATCH", "get", "FOO"]),
    st.text(TOKEN, min_size=1, max_size=30).filter(lambda method: method != "CONNECT"),
)
pieces = st.one_of(st.text(PATH, max_size=8), st.binary(max_size=4).map(lambda raw: "".join(f"%{b:02X}" for b in raw)))
queries = st.one_of(st.none(), st.text(PATH + "?/%", max_size=20))
names = st.text(TOKEN, min_size=1, max_size=20).filter(lambda name: name.lower() not in ACTIVE)
values = (
    st.text([chr(c) for c in range(256) if c in (9, 32) or (c > 32 and c != 127)], max_size=40)
    .map(lambda value: value.strip(" \t").encode("latin-1"))
)  # fmt: skip
spaces = st.text(" \t", max_size=3).map(str.encode)
fields = st.lists(st.tuples(names, values, spaces, spaces), max_size=8)
bodies = st.one_of(st.none(), st.binary(max_size=60), st.lists(st.binary(min_size=1, max_size=20), max_size=5))


@st.composite
def requests(draw):
    """(the bytes of one valid request, the `Message` that must be told of it)."""
    method = draw(methods)
    query = draw(queries)
    target = "/" + "".join(draw(st.lists(pieces, max_size=4))) + ("" if query is None else "?" + query)
    lines = [f"{method} {target} HTTP/1.1".encode(), b"Host: x"]
    headers = [(b"host", b"x")]
    for name, value, before, behind in draw(fields):
        lines.append(name.encode() + b":" + before + value + behind)
        headers.append((name.lower().encode(), value))
    body, kind = draw(bodies), "none"
    sent = b""
    if isinstance(body, bytes):
        lines.append(b"Content-Length: %d" % len(body))
        headers.append((b"content-length", b"%d" % len(body)))
        sent, kind = body, "length" if body else "none"
    elif body is not None:
        lines.append(b"Transfer-Encoding: chunked")
        headers.append((b"transfer-encoding", b"chunked"))
        sent = b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in body) + b"0\r\n\r\n"
        body, kind = b"".join(body), "chunked"
    message = Message(method, target.encode(), "1.1", headers, True, kind, False, body or b"", True)
    return b"\r\n".join([*lines, b"", b""]) + sent, message


def told(data, rng):
    """The same bytes in several ways, which must agree; the messages, kinds as the generator knows them."""
    whole = fold(parse([data]))
    for chunks in (byte_by_byte(data), in_pieces(data, rng, 30), in_pieces(data, rng, 7)):
        assert fold(parse(chunks)) == whole, [len(chunk) for chunk in chunks]
    assert whole.error is None, whole.error
    return whole.messages


@steady
@given(st.lists(requests(), min_size=1, max_size=4), st.integers(0, 1 << 16))
def test_valid_requests_are_read_back(made, seed):
    """What was put together is told again, wherever it was cut, one request behind another."""
    messages = told(b"".join(data for data, _ in made), random.Random(seed))
    assert len(messages) == len(made)
    for ours, (_, message) in zip(messages, made, strict=True):
        message.target = ours.target if ours.target + b"?" == message.target else message.target
        message.kind = ours.kind if not message.body and message.kind == "none" else message.kind
        ours.headers = list(map(tuple, ours.headers))
        assert ours == message


@steady
@given(st.binary(max_size=200), st.sampled_from(LIMITS), st.integers(0, 1 << 16))
@example(b"\r", None, 0)
@example(b"\r\n" * 50, None, 0)
@example(b" " * 50, None, 0)
@example(b"0" * 5000, None, 0)
def test_any_bytes(data, limits, seed):
    """Any bytes: a parse or one error with a status, not depending on cuts."""
    check(data, limits, random.Random(seed), with_model=True)


@steady
@given(st.lists(st.sampled_from(FRAGMENTS), max_size=12), st.sampled_from(LIMITS), st.integers(0, 1 << 16))
def test_any_fragments(parts, limits, seed):
    """The same for what protocols are made of, in any order."""
    check(b"".join(parts), limits, random.Random(seed), with_model=True)


@steady
@given(st.integers(0, 1 << 30), st.sampled_from(LIMITS))
def test_mutilated_cases(seed, limits):
    """The same for the wire cases with small changes."""
    rng = random.Random(seed)
    check(mutate(rng, rng.choice(CORPUS), CORPUS), limits, rng, with_model=True)
