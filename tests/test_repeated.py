"""A field section that a client repeats is not parsed again: it must make no difference to any byte of the answer."""

import pytest

from fastasgi._probe import parse

FIELDS = b"Host: a\r\nX-One: 1\r\nCookie: secret\r\n\r\n"
SAME = b"GET /first?a=b HTTP/1.1\r\n" + FIELDS
METHODS = [b"GET", b"POST", b"HEAD", b"PUT", b"DELETE", b"PATCH", b"OPTIONS", b"CONNECT", b"BREW", b"get"]


def check(probe, limits=None, tail=b""):
    """Behind two requests with the same fields, the probe gives what it gives alone."""
    alone = parse([probe + tail], limits)
    for warm in ([SAME, SAME, probe + tail], [SAME + SAME + probe + tail]):
        told = parse(warm, limits)
        assert told[4:] == alone, probe
    return alone


@pytest.mark.pins("head.cut-anywhere")
@pytest.mark.parametrize("method", METHODS)
def test_methods(method):
    check(method + b" /second HTTP/1.1\r\n" + FIELDS)


@pytest.mark.parametrize("at", [0, 1, 3])
def test_every_byte_in_the_target(at):
    target = b"/abc"
    for byte in range(256):
        check(b"GET " + target[:at] + bytes([byte]) + target[at:] + b" HTTP/1.1\r\n" + FIELDS, tail=SAME)


@pytest.mark.parametrize(
    "line",
    [
        b"GET / HTTP/1.0", b"GET / HTTP/1.2", b"GET / HTTP/2.0", b"GET /", b"GET  / HTTP/1.1", b"GET /  HTTP/1.1",
        b"GET / HTTP/1.1 ", b"GET / RTSP/1.0", b"GET / http/1.1", b"GET http://other/x HTTP/1.1", b"GET * HTTP/1.1",
        b"OPTIONS * HTTP/1.1", b"GET x HTTP/1.1", b"GET /%41%zz%ff?%41 HTTP/1.1", b"GET /? HTTP/1.1",
        b"GET ?a HTTP/1.1", b"GET /a?b?c HTTP/1.1", b"GET / HTTP/1.1\r", b"GET /\r HTTP/1.1", b"GET  HTTP/1.1",
    ],
)
def test_request_lines(line):
    check(line + b"\r\n" + FIELDS, tail=SAME)
    check(line + b"\n" + FIELDS)


@pytest.mark.parametrize(
    "fields",
    [
        FIELDS[:-2], FIELDS[:-2] + b"A: b\r\n\r\n", b"A: b\r\n" + FIELDS, FIELDS.replace(b"1", b"2"), FIELDS[:-4],
        FIELDS.replace(b"Host", b"host"), FIELDS[:-2] + b"Content-Length: 3\r\n\r\nabc", b"\r\n",
    ],
)
def test_other_fields(fields):
    check(b"GET /second HTTP/1.1\r\n" + fields)


def test_limits_hold_for_repetitions():
    """Measured from the first byte, as for any head."""
    line = b"GET /" + b"x" * 100 + b" HTTP/1.1"
    for limit in range(len(line) - 2, len(line) + 3):
        check(line + b"\r\n" + FIELDS, {"limit_request_line": limit})
    size = len(line) + 2 + len(FIELDS)
    for limit in range(size - 2, size + 3):
        check(line + b"\r\n" + FIELDS, {"limit_request_head": limit})


def test_lists_of_fields_are_not_shared():
    """What one application does to its headers is not seen by the next request."""
    heads = [event for event in parse([SAME] * 5) if event[0] == "head"]
    lists = [head[4] for head in heads]
    assert len({id(one) for one in lists}) == 5
    lists[3].clear()
    assert lists[4] == lists[0] == [(b"host", b"a"), (b"x-one", b"1"), (b"cookie", b"secret")]


@pytest.mark.parametrize(
    "fields",
    [
        b"Host: a\r\nContent-Length: 3\r\n\r\nabc",
        b"Host: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        b"Host: a\r\nExpect: 100-continue\r\n\r\n",
        b"Host: a\r\nConnection: upgrade\r\nUpgrade: foo\r\n\r\n",
        b"Host: a\r\nConnection: close\r\n\r\n",
        b"Host: a\r\nContent-Length: 0\r\n\r\n",
    ],
)
def test_fields_with_a_meaning_mean_the_same_each_time(fields):
    request = b"GET / HTTP/1.1\r\n" + fields
    alone = parse([request])
    assert parse([request] * 6) == alone * 6
    assert parse([request * 6]) == alone * 6


def test_sections_of_many_clients():
    """More different ones than are kept, in turn."""
    requests = [b"GET /%d HTTP/1.1\r\nHost: h%d\r\n\r\n" % (number, number) for number in range(200)]
    for _ in range(2):
        told = parse(requests * 2)
        assert [event[4] for event in told if event[0] == "head"] == [
            [(b"host", b"h%d" % number)] for number in range(200)
        ] * 2


POST = b"POST /second HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nabcde"


def merged(events):
    """The same events with adjacent body parts as one."""
    found = []
    for event in events:
        if event[0] == "body" and found and found[-1][0] == "body":
            found[-1] = ("body", found[-1][1] + event[1])
        else:
            found.append(event)
    return found


@pytest.mark.pins("head.cut-anywhere")
@pytest.mark.parametrize("tail", [b"", SAME, POST, b"\r\n" + POST, b"nonsense\r\n\r\n"])
def test_a_body_behind_a_repeated_head_is_cut_anywhere(tail):
    expected = merged(parse([POST, POST, POST + tail]))
    bodies = [event[1] for event in expected if event[0] == "body"]
    assert bodies[:3] == [b"abcde"] * 3
    whole = POST + tail
    for at in range(1, len(whole)):
        assert merged(parse([POST, POST, whole[:at], whole[at:]])) == expected, at
    assert merged(parse([POST, POST, *(whole[at : at + 1] for at in range(len(whole)))])) == expected


def test_a_repeated_length_obeys_the_limit():
    limits = {"limit_request_body": 5}
    assert [event[0] for event in parse([POST] * 4, limits)] == ["head", "body", "complete"] * 4
    longer = POST.replace(b"5", b"6") + b"f"
    assert parse([POST] * 3 + [longer], limits)[-1][:2] == ("error", 413)
