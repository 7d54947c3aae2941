"""`RequestParser` by itself: every wire case, cut in every way, tells the same and tells what it must."""

import sys

import pytest
from wire import CASES, GARBAGE, TAIL, byte_by_byte, check_parsed, cut_in_two, fold, relevant, tails, ways

from fastasgi._probe import parse

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
PARSER_LIMITS = {
    "limit_request_line", "limit_request_head", "limit_request_headers", "limit_request_body",
    "limit_chunk_extension", "underscore_headers",
}  # fmt: skip


def limits_of(case):
    """What of a case's options a parser knows; None for the defaults."""
    return {name: value for name, value in case.limits.items() if name in PARSER_LIMITS} or None


def by_case(**more):
    return pytest.mark.parametrize(
        "case", [pytest.param(one, id=one.name, marks=pytest.mark.pins(*one.pins)) for one in CASES], **more
    )


@by_case()
def test_case(case):
    """Whole, byte by byte and cut in two at every place, alone and with a tail: what the case says."""
    limits = limits_of(case)
    for longer in tails(case):
        expected = relevant(longer, fold(parse([longer.send], limits)))
        try:
            check_parsed(longer, expected)
            for way, chunks in ways(longer.send):
                got = relevant(longer, fold(parse(chunks, limits)))
                assert got == expected, f"{way}: {got}\nwhole: {expected}"
        except AssertionError as error:
            error.add_note(f"{longer.name}: {longer.send[:300]!r}")
            raise


def test_parse_takes_any_bytes_like_pieces_count():
    """No bytes, no events; empty pieces are nothing."""
    assert parse([]) == []
    assert parse([b""]) == []
    assert parse([b"", b"", GET, b""]) == parse([GET])


def test_error_ends_the_events():
    """After an error nothing more is told, whatever is fed."""
    events = parse([b"\x00", GET, GET])
    assert [event[0] for event in events] == ["error"]


@pytest.mark.pins("head.error-answered")
@pytest.mark.parametrize("byte", range(256))
def test_any_first_byte(byte):
    """Any first byte waits for more or is refused with 400; nothing else happens."""
    events = parse([bytes([byte])])
    assert events == [] or (len(events) == 1 and events[0][:2] == ("error", 400))
    again = parse([bytes([byte])])
    assert events == again


@pytest.mark.pins("head.error-answered", "head.cut-anywhere")
@pytest.mark.parametrize("place", range(len(GET)))
def test_any_byte_at_any_place(place):
    """One byte replaced by each other value: a parse, or one error with a status; cuts change nothing."""
    for byte in range(256):
        data = GET[:place] + bytes([byte]) + GET[place + 1 :]
        whole = fold(parse([data]))
        assert fold(parse(byte_by_byte(data))) == whole, data
        assert fold(parse([data[:place], data[place:]])) == whole, data
        assert fold(parse([data[: place + 1], data[place + 1 :]])) == whole, data
        assert whole.error is None or whole.error[0] in (400, 505), (data, whole)


@pytest.mark.pins("head.names-lower")
def test_known_names_are_shared_and_unknown_are_right():
    """A name from the table of known names is one object; its value may be one too."""
    heads = [event for event in parse([GET + GET]) if event[0] == "head"]
    first, second = (head[4][0] for head in heads)
    assert first == second == (b"host", b"x")
    assert first[0] is second[0]


@pytest.mark.pins("head.cut-anywhere")
def test_fields_do_not_live_in_the_fed_bytes():
    """What was told stays the same when the memory that was fed is gone and used again."""
    told = []
    for number in range(50):
        data = b"".join([b"GET /%d HTTP/1.1\r\nHost: h%d\r\nX-%d: v%d\r\n\r\n" % ((number,) * 4)])
        told.append(parse(byte_by_byte(data) if number % 2 else [data]))
        del data
    for number, events in enumerate(told):
        _, _, target, _, headers, *_ = events[0]
        assert target == b"/%d" % number
        assert headers == [(b"host", b"h%d" % number), (b"x-%d" % number, b"v%d" % number)]


@pytest.mark.pins("head.cut-anywhere")
def test_parsers_do_not_share_state():
    """A head left unfinished in one parser is not seen by the next."""
    for way, chunks in cut_in_two(GET):
        parse(chunks[:1])
        assert parse([GET]) == parse([GET]), way
        assert [event[0] for event in parse([GET])] == ["head", "complete"], way


@pytest.mark.pins("head.pipelining")
@pytest.mark.parametrize("tail", [TAIL, GARBAGE])
def test_many_pipelined(tail):
    """A thousand requests in one piece, and what follows them."""
    parsed = fold(parse([GET * 1000 + tail]))
    assert len(parsed.messages) == 1000 + (tail is TAIL)
    assert all(message.complete for message in parsed.messages)
    assert (parsed.error is not None) is (tail is GARBAGE)


@pytest.mark.pins("head.cut-anywhere")
def test_no_reference_is_lost_or_kept():
    """References to the bytes fed, and to what was told, come and go evenly."""
    piece = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc" * 2
    bad = b"GET / HTTP/1.1\r\nHost: x\r\nA: b\rc\r\n\r\n"
    chunks = [bytes([byte]) for byte in piece] * 3
    before = sys.getrefcount(piece), sys.getrefcount(bad), sys.getrefcount(chunks[0])
    for _ in range(50):
        parse([piece])
        parse([piece, bad])
        parse(chunks)
    assert (sys.getrefcount(piece), sys.getrefcount(bad), sys.getrefcount(chunks[0])) == before
