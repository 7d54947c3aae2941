"""The HTTP load client believes no answer: whatever a server does wrong is noticed, and said in one sentence."""

import re
import socket
import struct
import sys
import threading
import time

import pytest

if not sys.platform.startswith("linux"):
    pytest.skip("the load client needs epoll", allow_module_level=True)

from http_load import (
    GET,
    HELLO,
    MIB,
    NONCE,
    PATIENCE_S,
    answer,
    byte_by_byte,
    chunked,
    failure,
    head,
    plan,
    post,
    serving,
)

from fastasgi.bench._load import LoadFailed
from fastasgi.bench.http import Exchange, Plan, Target, clients, measure

# --- answers that are wrong -------------------------------------------------------------------------------------------



def spoilt(old, new):
    """The answer in one chunk with another spelling of its framing."""
    begin, _, body = chunked(HELLO).partition(b"\r\n\r\n")
    assert old in body
    return begin + b"\r\n\r\n" + body.replace(old, new, 1)


WRONG = {
    "another status": (answer(status="500 Oh No"), "expected status 200, got b'HTTP/1.1 500 Oh No'"),
    "not modified": (head(status="304 Not Modified"), "expected status 200, got b'HTTP/1.1 304 Not Modified'"),
    "switched": (head(status="101 Switching"), "expected status 200, got b'HTTP/1.1 101 Switching'"),
    "another version": (b"HTTP/1.0 200 OK\r\nContent-Length: 13\r\n\r\n" + HELLO, "'HTTP/1.1 ' and a status, got b'"),
    "no number": (answer(status="2x0 OK"), "expected 'HTTP/1.1 ' and a status, got b'HTTP/1.1 2x0 OK'"),
    "long number": (answer(status="2000 OK"), "expected 'HTTP/1.1 ' and a status, got b'HTTP/1.1 2000 OK'"),
    "no HTTP": (b"Hello\r\n\r\n", "expected 'HTTP/1.1 ' and a status, got b'Hello'"),
    "another byte": (answer(b"Hello, world!"), "expected b'World!' at byte 7 of the body, got b'world!'"),
    "shorter": (answer(HELLO[:-1]), "expected a body of 13 bytes, got 12"),
    "longer": (answer(HELLO + b"!"), "expected a body of 13 bytes, got 14"),
    "empty": (answer(b""), "expected a body of 13 bytes, got 0"),
    "surplus": (answer() + b"!!", "expected the answer to end, got 2 bytes more: b'!!'"),
    "twice": (answer() * 2, f"expected the answer to end, got {len(answer())} bytes more: b'HTTP/1.1 200 OK"),
    "chunks another byte": (chunked(b"Hello, ", b"world!"), "expected b'World!' at byte 7 of the body, got b'world!'"),
    "chunks shorter": (chunked(b"Hello, ", b"World"), "expected a body of 13 bytes, got 12"),
    "chunks longer": (chunked(HELLO, b"!"), "expected a body of 13 bytes, got at least 14"),
    "chunks surplus": (chunked(HELLO) + b"\r\n", r"expected the answer to end, got 2 bytes more: b'\r\n'"),
    "chunk without CRLF": (spoilt(b"!\r\n", b"!"), "chunked framing behind byte 13 of the body, got b'0"),
    "chunk without LF": (spoilt(b"!\r\n", b"!\r"), "chunked framing behind byte 13 of the body"),
    "chunk of no size": (spoilt(b"d\r\n", b"\r\n"), "chunked framing behind byte 0 of the body"),
    "chunk of no number": (spoilt(b"d\r\n", b"g\r\n"), "chunked framing behind byte 0 of the body, got b'g"),
    "chunk of a sign": (spoilt(b"d\r\n", b"-d\r\n"), "chunked framing behind byte 0 of the body, got b'-d"),
    "chunk too large": (spoilt(b"d\r\n", b"1" + b"0" * 16 + b"\r\n"), "chunked framing behind byte 0"),
    "size with LF": (spoilt(b"d\r\n", b"d\n"), "chunked framing behind byte 0 of the body"),
    "size with CR": (spoilt(b"d\r\n", b"d\rH"), "chunked framing behind byte 0 of the body"),
    "endless size": (spoilt(b"d\r\n", b"d;" + b"x" * 5000), "chunked framing behind byte 0 of the body"),
    "endless zeros": (spoilt(b"d\r\n", b"0" * 5000), "chunked framing behind byte 0 of the body"),
    "endless trailers": (chunked(HELLO, end=b"0\r\n" + b"a: b\r\n" * 2000), "chunked framing behind byte 13"),
    "trailer with LF": (chunked(HELLO, end=b"0\r\na: b\n\r\n"), "chunked framing behind byte 13 of the body"),
    "trailer with CR": (chunked(HELLO, end=b"0\r\na: b\rc\r\n\r\n"), "chunked framing behind byte 13 of the body"),
    "end with CR": (chunked(HELLO, end=b"0\r\n\r\r"), "chunked framing behind byte 13 of the body"),
    "length and chunks": (
        head("Content-Length: 13", "Transfer-Encoding: chunked") + HELLO,
        "expected either Content-Length or Transfer-Encoding, got b'HTTP/1.1 200 OK'",
    ),
    "two lengths": (answer(HELLO, "Content-Length: 13"), "one Content-Length that is a number, got b'Content-L"),
    "length of words": (head("Content-Length: 13x") + HELLO, "one Content-Length that is a number, got b'Content-"),
    "length of nothing": (head("Content-Length:") + HELLO, "one Content-Length that is a number, got b'Cont"),
    "huge length": (head("Content-Length: " + "9" * 30), "one Content-Length that is a number, got b'Cont"),
    "another coding": (head("Transfer-Encoding: gzip, chunked"), "one Transfer-Encoding that is chunked, got b'Tr"),
    "two codings": (
        head("Transfer-Encoding: chunked", "transfer-encoding: chunked"),
        "one Transfer-Encoding that is chunked, got b'transfer-encoding: chunked'",
    ),
    "no framing": (head() + HELLO, "expected Content-Length or Transfer-Encoding: chunked, got neither"),
    "no field": (answer(HELLO, "nothing"), "expected a field and CRLF, got b'nothing'"),
    "no name": (answer(HELLO, ": x"), "expected a field and CRLF, got b': x'"),
    "space in front": (answer(HELLO, " a: x"), "expected a field and CRLF, got b' a: x'"),
    "space behind a name": (answer(HELLO, "a : x"), "expected a field and CRLF, got b'a : x'"),
    "bare LF": (answer(HELLO, "a: b\nc: d"), r"expected a field and CRLF, got b'a: b\nc: d'"),
    "LF behind the status": (answer().replace(b"OK\r\n", b"OK\n"), "expected a field and CRLF, got b'HTTP/1.1 200 OK"),
    "closes": (answer(HELLO, "Connection: x, close"), "the server ends the connection (Connection: close), and"),
    "endless head": (head("X: " + "x" * 70_000), "a head of less than 65536 bytes, got one that begins b'HTTP/"),
}  # fmt: skip


# What follows an answer is seen where it comes with it; read bytewise it is the begin of the next one.
BYTEWISE = [(name, 1) for name, (_, says) in WRONG.items() if "the answer to end" not in says]


@pytest.mark.parametrize(("name", "read_bytes"), [*BYTEWISE, *((name, None) for name in WRONG)])
def test_wrong_answer_is_noticed(name, read_bytes):
    data, says = WRONG[name]
    with serving(lambda number, request: data) as server, clients(plan(server)) as load:
        if read_bytes:
            load.read_bytes = read_bytes
            # what follows the first wrong byte is not read yet
            says = re.sub(r"got b'.*", "got ", says).replace("World!", "W")
        with pytest.raises(LoadFailed) as caught:
            load.run(0.3)
    assert str(caught.value).startswith("client 0 of 1, after ")
    assert says in str(caught.value)


def test_wrong_answer_among_right_ones_is_noticed():
    said = failure(lambda number, request: answer(HELLO if number < 20 else HELLO[::-1]), connections=3)
    assert re.match(r"client \d of 3, after 20 answers: expected b'Hello, World!' at byte 0 of the body, got b'", said)


@pytest.mark.parametrize("each", [None, byte_by_byte])
@pytest.mark.parametrize("body", [HELLO, bytes(MIB)], ids=["small", "large"])
def test_truncating_server_is_noticed(body, each):
    """It announces the whole answer and closes in the middle, each time somewhere else."""
    whole = answer(body)
    size = len(whole) - len(body)
    for cut in (0, 1, 9, size - 1, size, size + 1, len(whole) - 1):
        if each and cut > 1000:
            continue

        def pieces(data, cut=cut):
            yield from each(data[:cut]) if each else [data[:cut]]
            raise EOFError

        said = failure(lambda number, request: whole, Exchange(GET, body), each=pieces)
        came = f"{cut} bytes of an answer" if cut < size else f"{cut - size} of {len(body)} bytes of the body"
        assert f"the server closed the connection after {came}" in said


@pytest.mark.parametrize("cut", [3, 9, 11, -1])
def test_truncated_chunks_are_noticed(cut):
    whole = chunked(b"Hello", b", World!")
    begin = whole.index(b"\r\n\r\n") + 4

    def pieces(data):
        yield data[: begin + cut] if cut > 0 else data[:cut]
        raise EOFError

    said = failure(lambda number, request: whole, each=pieces)
    seen = {3: 0, 9: 5, 11: 5, -1: 13}[cut]
    assert f"the server closed the connection after {seen} bytes of a chunked body, without its end" in said


def test_reset_is_noticed():
    def reply(number, request):
        if number:
            server.sockets[0].setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            server.sockets[0].close()
            raise EOFError
        return answer()

    with serving(reply) as server, pytest.raises(LoadFailed) as caught:
        measure(plan(server))
    assert "after 1 answers: the server reset the connection after 0 bytes of an answer" in str(caught.value)


def test_no_answer_is_noticed():
    assert "after 1 answers: the server closed the connection after 0 bytes of an answer" in failure(
        lambda number, request: None if number else answer()
    )


def test_silent_server_is_noticed():
    """One of several connections gets no answer, while the others go on."""
    began = time.monotonic()
    lock = threading.Lock()

    def reply(number, request):
        return b"" if number == 5 and lock.acquire(blocking=False) else answer()

    with serving(reply) as server, clients(plan(server, connections=3)) as load:
        with pytest.raises(LoadFailed, match=r"nothing came for 0\.1 s, 3 answers are due"):
            load.run(PATIENCE_S, 0.1)
        assert load.answered > 15
    assert 0.1 <= time.monotonic() - began < PATIENCE_S


def test_answer_that_stops_is_noticed():
    assert "nothing came for 0.1 s" in failure(lambda number, request: answer()[:-3], stall_s=0.1)


def test_answer_before_the_request_is_noticed():
    """A server that answers an upload without reading it would win."""
    body = bytes(16 * MIB)
    answered = threading.Event()

    def serve():
        sock, _ = listener.accept()
        with sock:
            sock.recv(10)
            sock.sendall(answer())
            answered.wait(PATIENCE_S)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        target = Target(port=listener.getsockname()[1])
        with clients(Plan(target=target, exchanges=[Exchange(post(body), HELLO)], connections=1)) as load:
            with pytest.raises(LoadFailed, match=r"got the whole answer before the last \d+ of \d+ bytes of the re"):
                load.run(0)
            answered.set()
        thread.join(PATIENCE_S)
        assert not thread.is_alive()


def test_refused_upload_says_what_the_server_said():
    """It answers, and closes without reading: the answer is found before the end of the connection."""
    body = bytes(16 * MIB)

    def serve():
        sock, _ = listener.accept()
        with sock:
            sock.recv(10)
            sock.sendall(answer(status="413 Content Too Large"))
            sock.shutdown(socket.SHUT_RDWR)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        target = Target(port=listener.getsockname()[1])
        with (
            clients(Plan(target=target, exchanges=[Exchange(post(body), HELLO)], connections=1)) as load,
            pytest.raises(LoadFailed, match=r"expected status 200, got b'HTTP/1\.1 413 Content Too Large'"),
        ):
            load.run(0)
        thread.join(PATIENCE_S)
        assert not thread.is_alive()


def test_bytes_that_nobody_asked_for_are_noticed():
    with serving() as server, clients(plan(server)) as load:
        load.run(0)
        server.sockets[0].sendall(b"more")
        with pytest.raises(LoadFailed, match="got 4 bytes that nobody asked for: b'more'"):
            load.run(0)


# --- nonces -----------------------------------------------------------------------------------------------------------

ASK = f"GET /?n={NONCE} HTTP/1.1\r\nHost: a\r\n\r\n".encode()
TOLD = f'{{"nonce": "{NONCE}", "more": 1}}'.encode()


def told(request):
    return TOLD.replace(NONCE.encode(), request.split()[1].removeprefix(b"/?n="))


@pytest.mark.parametrize("read_bytes", [1, 7, None])
def test_each_request_carries_a_nonce_of_its_own(read_bytes):
    with (
        serving(lambda number, request: answer(told(request))) as server,
        clients(plan(server, Exchange(ASK, TOLD), connections=3, nonce=NONCE)) as load,
    ):
        load.read_bytes = read_bytes or load.read_bytes
        load.run(0.05)
        load.run_at(100, 0.05)
    nonces = [request.split()[1].removeprefix(b"/?n=") for request in server.requests]
    assert len(set(nonces)) == len(nonces) > 5
    assert all(re.fullmatch(rb"[0-9a-f]{16}", nonce) for nonce in nonces)


def test_nonce_in_a_large_body():
    """The kernel takes it in parts, which end before the nonce and behind it."""
    some = bytes(range(251)) * (4 * MIB // 251)
    body = some + NONCE.encode() + some * 2

    def reply(number, request):
        return answer(request.partition(b"\r\n\r\n")[2])

    with serving(reply) as server:
        assert measure(plan(server, Exchange(post(body), body), nonce=NONCE)).answers >= 1
    assert len(server.requests[0]) == len(post(body)) and NONCE.encode() not in server.requests[0]
    edges = Exchange(post(NONCE.encode()), NONCE.encode())
    with serving(reply) as server:
        assert measure(plan(server, edges, nonce=NONCE)).answers >= 1


def test_server_that_answers_from_a_cache_is_noticed():
    first = []

    def cached(number, request):
        first.append(answer(told(request)))
        return first[0]

    said = failure(cached, Exchange(ASK, TOLD), nonce=NONCE)
    assert re.search(r"after 1 answers: expected this request's own nonce b'[0-9a-f]{16}' in the body, got ano", said)


def test_answers_that_are_mixed_up_are_noticed():
    """Two connections get each other's answers."""
    waiting = []
    both = threading.Barrier(2, timeout=PATIENCE_S)

    def swapped(number, request):
        waiting.append(request)
        both.wait()
        return answer(told(next(other for other in waiting if other != request)))

    with serving(swapped) as server, pytest.raises(LoadFailed, match="expected this request's own nonce"):
        measure(plan(server, Exchange(ASK, TOLD), connections=2, nonce=NONCE))


@pytest.mark.parametrize(("old", "new"), [(b"nonce\"", b"nonse\""), (b"1}", b"2}")])
def test_what_stands_around_the_nonce_is_checked(old, new):
    said = failure(lambda number, request: answer(told(request).replace(old, new)), Exchange(ASK, TOLD), nonce=NONCE)
    at = next(at for at, byte in enumerate(TOLD) if byte != TOLD.replace(old, new)[at])
    assert f"at byte {at} of the body" in said


@pytest.mark.parametrize(
    "exchange",
    [Exchange(GET, TOLD), Exchange(ASK, HELLO), Exchange(ASK, 30), Exchange(ASK), Exchange(ASK * 2, TOLD)],
)
def test_nonce_that_stands_elsewhere(exchange):
    with serving() as server, pytest.raises(ValueError, match="once in each request and each body"):
        measure(plan(server, exchange, nonce=NONCE))
