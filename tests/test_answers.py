"""The strict client of the tests is strict: it refuses what a sloppy server could send."""

import pytest
from answers import WireError, read_answers

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    "data",
    [
        b"oops",
        b"HTTP/2 200 OK\r\n\r\n",
        b"HTTP/1.1 20 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        b"HTTP/1.1 200 OK\r\na b: c\r\n\r\n",
        b"HTTP/1.1 200 OK\r\na: b\x00\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\ncontent-length: +2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\nok",
        b"HTTP/1.1 204 No Content\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\ncontent-length: 0\r\n\r\n" + OK,
        CHUNKED + b"0x2\r\nok\r\n0\r\n\r\n",
        CHUNKED + b"\r\nok\r\n0\r\n\r\n",
        CHUNKED + b"2\r\nokok\r\n0\r\n\r\n",
        OK + b"more",
    ],
)
def test_refused(data):
    with pytest.raises(WireError):
        read_answers(data, ended=True)


def test_read():
    data = b"HTTP/1.1 100 Continue\r\n\r\n" + OK + CHUNKED + b"2\r\nok\r\n0\r\n\r\n" + OK[:-2] + OK
    first, second, third, fourth = read_answers(data, ("GET", "GET", "HEAD"))
    assert [interim.status for interim in first.interim] == [100]
    assert (first.body, second.body, third.body, fourth.body) == (b"ok", b"ok", b"", b"ok")
    assert (second.framing, fourth.framing) == ("chunked", "length")


@pytest.mark.parametrize("whole", [OK, CHUNKED + b"2\r\nok\r\n0\r\n\r\n"])
def test_incomplete(whole):
    for end in range(len(whole)):
        assert read_answers(whole[:end], ended=True) == []
    assert len(read_answers(whole)) == 1


def test_until_the_end():
    data = b"HTTP/1.1 200 OK\r\n\r\nok"
    assert read_answers(data) == []
    (answer,) = read_answers(data, ended=True)
    assert (answer.framing, answer.body) == ("close", b"ok")
