"""The HTTP load client counts what is right: bodies, framings, cuts, rates, connections that come and go."""

import signal
import socket
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

from fastasgi.bench._http import HttpLoad
from fastasgi.bench._load import LoadFailed
from fastasgi.bench.http import Exchange, Plan, Target, clients, connect_all, measure

# --- answers that are right -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("connections", [1, 5])
def test_answers_are_counted(connections):
    with serving() as server:
        result = measure(plan(server, connections=connections))
    assert result.answers == len(server.requests) >= connections
    assert len(server.sockets) == connections
    assert set(server.requests) == {GET}
    assert result.received_bytes == result.answers * len(answer())
    assert 0 < result.p50_us <= result.p90_us <= result.p99_us <= result.p999_us <= result.longest_us
    assert 0 < result.seconds < PATIENCE_S and result.rate == result.answers / result.seconds
    assert result.connections_closed == 0
    assert 0 <= result.cpu_user_s + result.cpu_system_s < PATIENCE_S


def test_no_time_is_one_answer_each():
    with serving() as server:
        assert measure(plan(server, connections=3, seconds=0)).answers == 3


def test_warm_up_is_not_counted():
    with serving() as server:
        result = measure(plan(server, warm_up_s=0.05))
    assert 0 < result.answers < len(server.requests)


def test_each_connection_sends_what_is_its_turn():
    exchanges = [Exchange(GET.replace(b"/ ", b"/%d " % n), b"%d" % n * n) for n in range(1, 4)]

    def reply(number, request):
        n = int(request[5:6])
        return answer(b"%d" % n * n)

    with serving(reply) as server, clients(plan(server, *exchanges, connections=2)) as load:
        load.run(0)
        first = {request[5:6] for request in server.requests}
        load.run(0.05)
    assert first == {b"1", b"2"}
    assert {request[5:6] for request in server.requests} == {b"1", b"2", b"3"}


RIGHT = {
    "length": answer(),
    "chunks": chunked(b"Hello", b", ", b"World!"),
    "chunks with extensions and trailers": chunked(
        b"Hel", b"lo, World!", extension=b' ; name="value"', end=b"000;last\r\nX-Sum: 1\r\nX-More:\r\n\r\n"
    ),
    "large digits": head("transfer-encoding:CHUNKED") + b"0000D\r\nHello, World!\r\n0\r\n\r\n",
    "interim answers": head(status="100 Continue") + head("Link: </a>", status="103 Early Hints") + answer(),
    "odd spaces": head("Content-Length:\t13  ", "X-Empty:", "X:y:z") + HELLO,
    "connection": answer(HELLO, "Connection: Keep-Alive, closed, x-close"),
    "no reason": head("Content-Length: 13", status="200") + HELLO,
}


@pytest.mark.parametrize("name", RIGHT)
@pytest.mark.parametrize("read_bytes", [1, 2, 3, 5, 64, None])
def test_answer_cut_anywhere(name, read_bytes):
    with serving(lambda number, request: RIGHT[name]) as server, clients(plan(server)) as load:
        if read_bytes:
            load.read_bytes = read_bytes
        load.run(0.01)
        load.run(0.01)
        assert load.received_bytes == load.answered * len(RIGHT[name])
    assert len(server.requests) > 1


def test_answer_that_comes_byte_by_byte():
    with serving(lambda number, request: RIGHT["interim answers"], each=byte_by_byte) as server:
        assert measure(plan(server, seconds=0.05)).answers == len(server.requests)


def test_how_much_is_read_at_once():
    with serving() as server, clients(plan(server)) as load:
        assert load.read_bytes >= 65536
        for wrong in (0, load.read_bytes + 1):
            with pytest.raises(ValueError, match="expected 1 to"):
                load.read_bytes = wrong


@pytest.mark.parametrize(
    ("exchange", "data", "status"),
    [
        (Exchange(GET.replace(b"GET", b"HEAD"), b""), head("Content-Length: 13"), 200),
        (Exchange(GET.replace(b"GET", b"HEAD")), head("Transfer-Encoding: chunked"), 200),
        (Exchange(GET, b""), head(status="204 No Content"), 204),
        (Exchange(GET, b""), head("Content-Length: 13", status="304 Not Modified"), 304),
        (Exchange(GET, b""), answer(b""), 200),
        (Exchange(GET, b""), chunked(), 200),
        (Exchange(GET, b"gone"), answer(b"gone", status="404 Not Found"), 404),
    ],
)
def test_answers_without_a_body_and_others(exchange, data, status):
    with serving(lambda number, request: data) as server:
        assert measure(plan(server, exchange, status=status, seconds=0.02)).answers == len(server.requests)


@pytest.mark.parametrize("body", [13, None, HELLO])
def test_how_much_is_known_of_the_body(body):
    with serving() as server:
        assert measure(plan(server, Exchange(GET, body), seconds=0.02)).answers >= 1


def test_large_bodies_both_ways():
    """What is sent arrives whole although the kernel takes it in parts; what comes is compared to its last byte."""
    body = bytes(range(256)) * 4096 + b"end"

    def reply(number, request):
        return answer(request.partition(b"\r\n\r\n")[2])

    with serving(reply) as server:
        measure(plan(server, Exchange(post(body), body), connections=3))
    assert {len(request) for request in server.requests} == {len(post(body))}
    spoilt = body[:-1] + b"!"
    said = failure(lambda number, request: answer(spoilt), Exchange(GET, body))
    assert f"expected b'd' at byte {len(body) - 1} of the body, got b'!'" in said


def test_answer_that_streams_while_the_request_is_sent():
    """Neither side may wait for the other: the server sends back what it has read so far."""
    body = bytes(4 * MIB)

    def serve(sock):
        with sock:
            for _ in range(2):
                while b"\r\n\r\n" not in (data := sock.recv(4096, socket.MSG_PEEK)):
                    pass
                sock.recv(data.index(b"\r\n\r\n") + 4)
                sock.sendall(head(f"Content-Length: {len(body)}"))
                left = len(body)
                while left:
                    data = sock.recv(65536)
                    left -= len(data)
                    sock.sendall(data)
            sock.recv(1)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        target = Target(port=listener.getsockname()[1])
        one = Plan(target=target, exchanges=[Exchange(post(body), body)], connections=1)
        with clients(one) as load:
            sock, _ = listener.accept()
            sock.settimeout(PATIENCE_S)
            thread = threading.Thread(target=serve, args=(sock,))
            thread.start()
            load.run(0)
            load.run(0)
        thread.join(PATIENCE_S)
        assert not thread.is_alive()


def test_fields_that_must_be_there():
    fields = [("Content-Type", "text/plain"), ("x-two", "")]
    with serving(lambda number, request: answer(HELLO, "content-type: text/plain", "X-Two:")) as server:
        assert measure(plan(server, fields=fields)).answers > 1
    says = "expected the field b'content-type: text/plain', got an answer without"
    for line in ("Content-Type: text/html", "Content-Types: text/plain", "Content-Type: text/plainer"):
        assert says in failure(lambda number, request, line=line: answer(HELLO, line, "X-Two:"), fields=fields)
    once = ["x-two: ", "content-type: text/plain"]
    late = failure(lambda number, request: answer(HELLO, *once[: 1 if number else 2]), fields=fields)
    assert late.startswith("client 0 of 1, after 1 answers: expected the field")


# --- at a fixed rate --------------------------------------------------------------------------------------------------


def test_rate_is_kept():
    with serving() as server, clients(plan(server, connections=3)) as load:
        load.run_at(400, 0.25)
        assert load.answered == len(server.requests) == 100
        assert 0.24 <= load.seconds < PATIENCE_S
        load.run_at(1000, 0.001)
        assert load.answered == 1
        for wrong in (0, -1, float("nan")):
            with pytest.raises(ValueError, match="rate above 0"):
                load.run_at(wrong, 1)


def test_all_connections_take_their_turn_at_a_rate():
    by_connection = []
    with serving(lambda number, request: by_connection.append(number) or answer()) as server:
        assert measure(plan(server, connections=10, rate=200, seconds=0.1)).answers == 20
    assert sorted(by_connection) == [0] * 10 + [1] * 10


def test_stalling_server_is_charged_for_all_that_it_kept_waiting():
    """One pause of 0.3 s at 200 a second: some sixty requests were late, not only the one that it paused at."""

    def reply(number, request):
        if number == 10:
            time.sleep(0.3)  # is slow: nothing is waited for
        return answer()

    with serving(reply) as server, clients(plan(server)) as load:
        load.run_at(200, 0.5)
        assert load.answered == 100
        assert load.longest_us >= 290_000
        assert load.percentile_us(0.5) >= 10_000


def test_client_that_is_late_is_charged_for_it():
    """What fell due while the client itself was held up is late, although its connections were idle."""
    me = threading.main_thread().ident

    def reply(number, request):
        if len(server.requests) == 10:
            signal.pthread_kill(me, signal.SIGUSR1)
        return answer()

    before = signal.signal(signal.SIGUSR1, lambda signum, frame: time.sleep(0.4))
    try:
        with serving(reply) as server, clients(plan(server, connections=64)) as load:
            load.run_at(200, 0.5)
            assert load.answered == 100
            assert load.percentile_us(0.5) >= 50_000
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_closed_loop_forgives_the_same_pause():
    """Beside the test above: why a fixed rate is needed. Only one request waits."""

    def reply(number, request):
        if number == 10:
            time.sleep(0.3)  # is slow: nothing is waited for
        return answer()

    with serving(reply) as server, clients(plan(server)) as load:
        while load.answered < 50:
            load.run(0.6)
        assert load.percentile_us(0.5) < 290_000


def test_wrong_answer_at_a_rate_is_noticed():
    with serving(lambda number, request: answer(HELLO[::-1])) as server:
        one = plan(server, rate=100)
        with pytest.raises(LoadFailed, match="at byte 0 of the body"):
            measure(one)


# --- connections that end ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("over", ["tcp", "unix"])
@pytest.mark.parametrize("rate", [None, 200])
def test_announced_ends_are_counted(over, rate, tmp_path):
    def reply(number, request):
        return answer(HELLO, *["Connection: close"] * (number == 2))

    def until_close(data):
        yield data
        if b"close" in data:
            raise EOFError

    with serving(reply, each=until_close, uds=str(tmp_path / "s") if over == "unix" else None) as server:
        result = measure(plan(server, connections=2, may_reconnect=True, rate=rate, seconds=0.3))
    assert result.answers == len(server.requests)
    assert result.connections_closed >= 2
    assert len(server.sockets) <= 2 + result.connections_closed
    assert len(server.requests) - 6 <= 3 * result.connections_closed <= len(server.requests)


def test_body_that_ends_with_the_connection():
    def once(data):
        yield data
        raise EOFError

    with serving(lambda number, request: head() + HELLO, each=once) as server:
        result = measure(plan(server, may_reconnect=True))
    assert result.answers == result.connections_closed == len(server.requests) > 1
    for spoilt, says in ((HELLO[:-1], "13 bytes, got 12"), (HELLO + b"!", "13 bytes, got at least 14")):
        said = failure(lambda number, request, spoilt=spoilt: head() + spoilt, each=once, may_reconnect=True)
        assert f"expected a body of {says}" in said


def test_large_body_that_ends_with_the_connection():
    body = bytes(range(256)) * 8192

    def once(data):
        yield data
        raise EOFError

    with serving(lambda number, request: head() + body, each=once) as server:
        assert measure(plan(server, Exchange(GET, body), may_reconnect=True)).answers >= 1


def test_idle_connection_that_ends():
    """Between two requests; with leave it is made anew."""

    with serving() as server, clients(plan(server, may_reconnect=True)) as load:
        load.run(0)
        server.sockets[0].shutdown(socket.SHUT_RDWR)
        load.run_at(100, 0.05)
        assert load.answered == 5
    assert len(server.sockets) == 2
    with serving() as server, clients(plan(server)) as load:
        load.run(0)
        server.sockets[0].shutdown(socket.SHUT_RDWR)
        with pytest.raises(LoadFailed, match="the server closed an idle connection without a word"):
            load.run_at(100, 0.05)


def test_server_that_is_gone_when_reconnecting():
    def reply(number, request):
        server.listener.shutdown(socket.SHUT_RDWR)
        return answer(HELLO, "Connection: close")

    with (
        serving(reply) as server,
        clients(plan(server, may_reconnect=True)) as load,
        pytest.raises(LoadFailed, match="a system call failed: Connection refused"),
    ):
        load.run(PATIENCE_S)


def test_interrupted_run():
    """Ctrl-C and its like end a run; what is under way then has no end, and no other run may begin."""
    me = threading.main_thread().ident

    def reply(number, request):
        signal.pthread_kill(me, signal.SIGUSR1)
        return b""

    def interrupt(signum, frame):
        raise InterruptedError("by hand")

    before = signal.signal(signal.SIGUSR1, interrupt)
    try:
        with serving(reply) as server, clients(plan(server)) as load:
            with pytest.raises(InterruptedError):
                load.run(PATIENCE_S)
            with pytest.raises(ValueError, match="one that was interrupted"):
                load.run(0)
    finally:
        signal.signal(signal.SIGUSR1, before)


# --- connecting -------------------------------------------------------------------------------------------------------


def test_unix_socket(tmp_path):
    with serving(uds=str(tmp_path / "s")) as server:
        assert measure(plan(server, connections=3)).answers == len(server.requests) >= 3


def test_connecting_has_an_end():
    """A server whose queue is full lets nobody in."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        target = Target(port=listener.getsockname()[1])
        with pytest.raises(LoadFailed, match=rf"expected 9 connections to {target}, got \d: no answer within 0.2 s"):
            connect_all(target, 9, 0.2)


def test_nobody_listens():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        target = Target(port=listener.getsockname()[1])
    with pytest.raises(LoadFailed, match=r"expected 2 connections to .*, got 0: Connection refused"):
        connect_all(target, 2, 1.0)


def test_closed_load():
    with serving() as server:
        with clients(plan(server)) as load:
            load.run(0)
        with pytest.raises(ValueError, match="one that was closed"):
            load.run(0)
        load.close()


@pytest.mark.parametrize(
    "arguments",
    [
        ([], [GET], [HELLO]),
        ([0], [], []),
        ([0], [GET], []),
        ([0], [b""], [HELLO]),
    ],
)
def test_load_that_cannot_be_meant(arguments):
    with pytest.raises(ValueError, match="expected"):
        HttpLoad(*arguments)


def test_more_that_cannot_be_meant():
    with pytest.raises(ValueError, match="expected a nonce of 16 bytes"):
        HttpLoad([0], [GET], [HELLO], nonce=b"short")
    with pytest.raises(ValueError, match="up to 64 fields"):
        HttpLoad([0], [GET], [HELLO], fields=[(b"a", b"b")] * 65)
    with pytest.raises(TypeError):
        HttpLoad([0], ["GET"], [HELLO])
    with socket.socket() as unconnected, pytest.raises(OSError, match="not connected"):
        HttpLoad([unconnected.fileno()], [GET], [HELLO])
