"""The oracle itself: llhttp through cffi tells the same at every cut of the bytes."""

import pytest
from oracle import llhttp

GET = b"GET /a?b=c HTTP/1.1\r\nHost: example.org\r\nX-Empty:\r\nX-Space: \t v \t\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = (
    b"PUT /up HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"3;name=value\r\nabc\r\n2\r\nde\r\n0\r\nX-Sum: 1 \r\n\r\n"
)
UPGRADE = b"POST / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: h2c\r\nContent-Length: 2\r\n\r\nhi"

EXPECTED = {
    GET: [
        ("head", "GET", b"/a?b=c", "1.1", [(b"Host", b"example.org"), (b"X-Empty", b""), (b"X-Space", b"v")],
         True, "none", False),
        ("complete",),
    ],
    POST: [
        ("head", "POST", b"/", "1.1", [(b"Host", b"a"), (b"Content-Length", b"5")], True, "length", False),
        ("body", b"hello"),
        ("complete",),
    ],
    CHUNKED: [
        ("head", "PUT", b"/up", "1.1", [(b"Host", b"a"), (b"Transfer-Encoding", b"chunked")], True, "chunked", False),
        ("body", b"abcde"),
        ("trailer", b"X-Sum", b"1"),
        ("complete",),
    ],
    UPGRADE: [
        ("head", "POST", b"/", "1.1",
         [(b"Host", b"a"), (b"Connection", b"upgrade"), (b"Upgrade", b"h2c"), (b"Content-Length", b"2")],
         True, "length", True),
        ("body", b"hi"),
        ("complete",),
    ],
}


@pytest.mark.parametrize("request_bytes", EXPECTED, ids=["get", "post", "chunked", "upgrade"])
def test_every_cut_tells_the_same(request_bytes):
    data = request_bytes + GET
    expected = EXPECTED[request_bytes] + EXPECTED[GET]
    assert llhttp.merged(llhttp.parse([data], eof=True)) == expected
    assert llhttp.merged(llhttp.parse(data[i : i + 1] for i in range(len(data)))) == expected
    for cut in range(len(data)):
        assert llhttp.merged(llhttp.parse([data[:cut], data[cut:]])) == expected, cut


@pytest.mark.parametrize(
    ("data", "name", "position"),
    [
        (b"GET / HTTP/1.1\r\nHost: a\r\nBad Name: x\r\n\r\n", "HPE_INVALID_HEADER_TOKEN", 28),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: a\x00b\r\n\r\n", "HPE_INVALID_HEADER_TOKEN", 29),
        (b"FROB / HTTP/1.1\r\n\r\n", "HPE_INVALID_METHOD", None),
        (b"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n", "HPE_UNEXPECTED_CONTENT_LENGTH", None),
        (b"GET / HTTP/1.1\r\nHost: a\n\r\n", "HPE_CR_EXPECTED", 23),
    ],
    ids=["name", "nul", "method", "length twice", "bare LF"],
)
def test_an_error_names_the_byte_at_every_cut(data, name, position):
    whole = llhttp.parse([data])[-1]
    assert whole[:2] == ("error", name)
    if position is not None:
        assert whole[2] == position
    for cut in range(len(data)):
        assert llhttp.parse([data[:cut], data[cut:]])[-1] == whole, cut


def test_the_end_in_the_middle_of_a_message():
    assert llhttp.parse([POST[:-1]], eof=True)[-1][:2] == ("error", "HPE_INVALID_EOF_STATE")
    assert llhttp.parse([POST], eof=True)[-1] == ("complete",)


def test_the_raw_callbacks():
    assert llhttp.trace([b"GET / HTTP/1.1\r\nA: b\r\n\r\n"]) == [
        ("message_begin",),
        ("method", b"GET"),
        ("url", b"/"),
        ("version", b"1.1"),
        ("header_field", b"A"),
        ("header_value", b"b"),
        ("headers_complete",),
        ("message_complete",),
    ]
