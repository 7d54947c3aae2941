"""The load client tells the truth: whatever a server answers wrongly is noticed, and what is right is counted.

The servers here run in a thread and do what each test says.
"""

import asyncio
import contextlib
import json
import socket
import subprocess
import sys
import threading
import time
import zlib
from dataclasses import replace
from pathlib import Path

import pytest

if not sys.platform.startswith("linux"):
    pytest.skip("the load client needs epoll", allow_module_level=True)

import websockets
from websockets.frames import Frame, Opcode

from fastasgi.bench._load import LoadFailed
from fastasgi.bench._websocket import DEFLATE_TAIL, WebSocketLoad
from fastasgi.bench.websocket import (
    ACCEPT,
    Messages,
    clients,
    compress,
    make_frame,
    read_extension,
    result_of,
    sample,
)

ROOT = Path(__file__).resolve().parents[1]
PATIENCE_S = 10.0
HEAD = f"HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {ACCEPT}\r\n"


def frame(payload, first=0x81):
    """A frame as servers send it."""
    size = len(payload)
    if size < 126:
        return bytes([first, size]) + payload
    if size < 65536:
        return bytes([first, 126]) + size.to_bytes(2, "big") + payload
    return bytes([first, 127]) + size.to_bytes(8, "big") + payload


def read_exactly(sock, n):
    data = b""
    while len(data) < n:
        piece = sock.recv(n - len(data))
        if not piece:
            raise EOFError
        data += piece
    return data


def read_frame(sock):
    """First byte and payload of the next frame of a client."""
    first, size = read_exactly(sock, 2)
    assert size & 0x80, "a client masks"
    size &= 0x7F
    if size >= 126:
        size = int.from_bytes(read_exactly(sock, 2 if size == 126 else 8), "big")
    mask = read_exactly(sock, 4)
    data = read_exactly(sock, size)
    repeated = (mask * (size // 4 + 1))[:size]
    return first, bytes(a ^ b for a, b in zip(data, repeated)) if size < 10_000 else unmask_large(data, repeated)


def unmask_large(data, repeated):
    return (int.from_bytes(data, "big") ^ int.from_bytes(repeated, "big")).to_bytes(len(data), "big")


def same(number, first, payload):
    """What a right server answers."""
    return frame(payload, first)


class Server:
    """Answers each frame with `reply(number, first, payload)`: bytes, or None to close the connection."""

    def __init__(self, reply, head=HEAD, each=None):
        self.reply, self.head, self.each = reply, head, each
        self.frames = []
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.threads, self.sockets = [], []
        self.thread = threading.Thread(target=self.accept)
        self.thread.start()

    @property
    def url(self):
        return f"ws://127.0.0.1:{self.listener.getsockname()[1]}/"

    def accept(self):
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self.listener.accept()
                sock.settimeout(PATIENCE_S)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self.sockets.append(sock)
                thread = threading.Thread(target=self.serve, args=(sock,))
                self.threads.append(thread)
                thread.start()

    def serve(self, sock):
        with contextlib.suppress(OSError, EOFError), sock:
            while b"\r\n\r\n" not in sock.recv(4096, socket.MSG_PEEK):
                pass
            sock.recv(4096)
            if self.head is None:
                return
            sock.sendall(self.head.encode("latin-1") + b"\r\n")
            number = 0
            while True:
                first, payload = read_frame(sock)
                self.frames.append((first, payload))
                answer = self.reply(number, first, payload)
                number += 1
                if answer is None:
                    return
                for piece in self.each(answer) if self.each else [answer]:
                    sock.sendall(piece)

    def close(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for sock in self.sockets:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in [self.thread, *self.threads]:
            thread.join(PATIENCE_S)
            assert not thread.is_alive()


@contextlib.contextmanager
def serving(reply=same, **how):
    server = Server(reply, **how)
    try:
        yield server
    finally:
        server.close()


def failure(reply, size=100, *, seconds=0.3, stall_s=5.0, count=1, **how):
    """The sentence of a run that must fail."""
    with serving(reply, **how) as server, clients(server.url, count, Messages(size)) as load:
        with pytest.raises(LoadFailed) as caught:
            load.echo(seconds, stall_s)
        with pytest.raises(ValueError, match="one that failed"):
            load.echo(seconds)
    return str(caught.value)


# --- answers that are right -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65535, 65536, 1 << 20])
def test_echo_is_counted(size):
    with serving() as server, clients(server.url, 2, Messages(size)) as load:
        load.echo(0.05)
        result = result_of(load)
    assert result.messages == len(server.frames) >= 2
    assert result.received_bytes >= result.messages * size
    assert 0 < result.p50_us <= result.p90_us <= result.p99_us <= result.p999_us <= result.max_us == load.longest_us
    assert 0 < result.seconds < PATIENCE_S and result.rate == result.messages / result.seconds
    assert {len(payload) for _, payload in server.frames} == {size}


def test_each_client_sends_what_is_its_turn():
    with serving() as server, clients(server.url, 1, Messages(300)) as load:
        load.echo(0.1)
        payloads = Messages(300).payloads()
    sent = [payload for _, payload in server.frames]
    assert sent == [payloads[number % len(payloads)] for number in range(len(sent))]


def byte_by_byte(data):
    return [data[at : at + 1] for at in range(len(data))]


def test_answer_cut_anywhere():
    with serving(each=byte_by_byte) as server, clients(server.url, 1, Messages(200)) as load:
        load.echo(0.1)
        assert load.answered == len(server.frames)


def test_fragments_with_a_ping_between():
    def reply(number, first, payload):
        if first & 0x0F == 10:
            return b""
        return frame(payload[:10], 0x01) + frame(b"are you there", 0x89) + frame(b"", 0x00) + frame(payload[10:], 0x80)

    with serving(reply) as server, clients(server.url, 1, Messages(100)) as load:
        load.echo(0.1)
        assert load.answered >= 1
    pongs = [payload for first, payload in server.frames if first == 0x8A]
    assert pongs and set(pongs) == {b"are you there"}


def test_pongs_nobody_asked_for_are_nothing():
    def reply(number, first, payload):
        return frame(b"x", 0x8A) + frame(payload, first)

    with serving(reply) as server, clients(server.url, 1, Messages(100)) as load:
        load.echo(0.05)
        assert load.answered >= 1


def test_binary_messages():
    with serving() as server, clients(server.url, 1, Messages(50, is_text=False)) as load:
        load.echo(0.05)
    assert {first for first, _ in server.frames} == {0x82}


# --- answers that are wrong -------------------------------------------------------------------------------------------

WRONG = {
    "another byte": (lambda n, f, p: frame(p[:7] + b"\x00" + p[8:], f), "differs at byte 7"),
    "another message": (lambda n, f, p: frame(sample(100, 1000 + n), f), "differs at byte"),
    "shorter": (lambda n, f, p: frame(p[:-1], f), "expected an answer of 100 bytes, got 99"),
    "empty": (lambda n, f, p: frame(b"", f), "expected an answer of 100 bytes, got 0"),
    "longer": (lambda n, f, p: frame(p + b"!", f), "expected an answer of 100 bytes, got 101"),
    "longer in fragments": (
        lambda n, f, p: frame(p, 0x01) + frame(b"!", 0x80), "expected an answer of 100 bytes, got 101",
    ),
    "binary for text": (lambda n, f, p: frame(p, 0x82), "expected text, got a message of opcode 2"),
    "twice": (lambda n, f, p: frame(p, f) * 2, r"nobody waits for|differs at byte"),
    "no answer, closed": (lambda n, f, p: None, "closed the connection after 0 bytes"),
    "close frame": (lambda n, f, p: frame(b"\x03\xf3oh", 0x88), "closed the WebSocket with code 1011"),
    "close frame without a code": (lambda n, f, p: frame(b"", 0x88), "closed the WebSocket with code 1005"),
    "masked": (lambda n, f, p: make_frame(p, 1, b"abcd"), "may not send here, first byte 0x81"),
    "reserved bits": (lambda n, f, p: frame(p, 0x91), "may not send here, first byte 0x91"),
    "compressed without leave": (lambda n, f, p: frame(p, 0xC1), "may not send here, first byte 0xc1"),
    "reserved opcode": (lambda n, f, p: frame(p, 0x83), "may not send here, first byte 0x83"),
    "continuation of nothing": (lambda n, f, p: frame(p, 0x80), "may not send here, first byte 0x80"),
    "text within text": (lambda n, f, p: frame(p[:9], 0x01) + frame(p, 0x81), "may not send here, first byte 0x81"),
    "long ping": (lambda n, f, p: frame(b"x" * 126, 0x89), "may not send here, first byte 0x89"),
    "cut ping": (lambda n, f, p: frame(b"x", 0x09), "may not send here, first byte 0x09"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_wrong_answer_is_noticed(name):
    reply, says = WRONG[name]
    message = failure(reply)
    assert message.startswith("client 0 of 1, after ")
    with pytest.raises(AssertionError, match=says):
        raise AssertionError(message)


def test_wrong_answer_among_right_ones_is_noticed():
    message = failure(lambda n, f, p: frame(p if n < 20 else p[::-1], f), count=3, seconds=5)
    assert "of 3, after 20 answers: expected the echo of what was sent, got one that differs at byte" in message


@pytest.mark.parametrize("size", [100, 1 << 20])
def test_truncating_server_is_noticed(size):
    """It announces the whole message and closes in the middle."""

    def half(answer):
        yield answer[: len(answer) // 2]
        raise EOFError

    message = failure(same, size, each=half)
    came = len(frame(bytes(size))) // 2 - (len(frame(bytes(size))) - size)
    assert f"closed the connection after {came} bytes of an answer of {size}" in message


def test_silent_server_is_noticed():
    began = time.monotonic()
    message = failure(lambda n, f, p: b"" if n else frame(p, f), stall_s=0.1, seconds=0.01)
    assert "nothing came for 0.1 s, 1 answers are due" in message
    assert 0.1 <= time.monotonic() - began < PATIENCE_S


# --- at a fixed rate, and to all --------------------------------------------------------------------------------------


def test_rate_is_kept():
    with serving() as server, clients(server.url, 3, Messages(10)) as load:
        load.echo_at(400, 0.25)
        assert load.answered == len(server.frames) == 100
        assert 0.24 <= load.seconds < PATIENCE_S
        load.echo_at(1000, 0.001)
        assert load.answered == 1
        with pytest.raises(ValueError, match="rate above 0"):
            load.echo_at(0, 1)


def test_stalling_server_is_charged_for_all_that_it_kept_waiting():
    """One pause of 0.3 s at 200 a second: some sixty messages were late, not only the one that it paused at."""

    def reply(number, first, payload):
        if number == 10:
            time.sleep(0.3)  # is slow: nothing is waited for
        return frame(payload, first)

    with serving(reply) as server, clients(server.url, 1, Messages(10)) as load:
        load.echo_at(200, 0.5)
        assert load.answered == 100
        assert load.longest_us >= 290_000
        assert load.percentile_us(0.5) >= 10_000


def test_wrong_answer_at_a_rate_is_noticed():
    with (
        serving(lambda n, f, p: frame(p[::-1], f)) as server,
        clients(server.url, 1, Messages(10)) as load,
        pytest.raises(LoadFailed, match="differs at byte"),
    ):
        load.echo_at(100, 0.1)


def broadcasting(spoil=None):
    """A server that sends each message of any client to all; `spoil(data, index)` changes what one gets."""
    server = None
    lock = threading.Lock()

    def reply(number, first, payload):
        with lock:
            for index, sock in enumerate(server.sockets):
                data = frame(payload, first)
                sock.sendall(spoil(data, index) if spoil else data)
        return b""

    server = Server(reply)
    return contextlib.closing(server)


def test_broadcast_reaches_all():
    with broadcasting() as server, clients(server.url, 20, Messages(100)) as load:
        load.broadcast(5)
        assert load.answered == 100
        assert len(server.frames) == 5
        assert [payload for _, payload in server.frames] == Messages(100).payloads()[:5]
        load.broadcast(1)
        assert load.answered == 20


def test_broadcast_that_misses_one_is_noticed():
    with (
        broadcasting(lambda data, index: b"" if index == 7 else data) as server,
        clients(server.url, 10, Messages(100)) as load,
        pytest.raises(LoadFailed, match="1 answers are due"),
    ):
        load.broadcast(3, stall_s=0.1)


def test_broadcast_that_differs_for_one_is_noticed():
    with (
        broadcasting(lambda data, index: data[:-1] + b"\x00" if index == 7 else data) as server,
        clients(server.url, 10, Messages(100)) as load,
        pytest.raises(LoadFailed, match="differs at byte 99"),
    ):
        load.broadcast(3)


# --- compression ------------------------------------------------------------------------------------------------------

DEFLATE = HEAD + "Sec-WebSocket-Extensions: permessage-deflate\r\n"


def inflated(payload):
    return zlib.decompressobj(-15).decompress(payload + DEFLATE_TAIL)


def packing(change):
    """Answers with what `change` makes of the message, compressed by itself."""
    return lambda n, first, payload: frame(compress(change(inflated(payload)), 15), first)


def run_deflated(reply):
    with serving(reply, head=DEFLATE) as server, clients(server.url, 1, Messages(1000), deflate=True) as load:
        load.echo_at(200, 0.05)
        return load.answered, server.frames


def test_compressed_echo():
    answered, frames = run_deflated(packing(bytes))
    assert answered == len(frames) > 1
    assert {first for first, _ in frames} == {0xC1}
    assert [inflated(payload) for _, payload in frames[:3]] == Messages(1000).payloads()[:3]
    assert max(len(payload) for _, payload in frames) < 700


def test_uncompressed_answer_is_one_too():
    answered, _ = run_deflated(lambda n, first, payload: frame(inflated(payload), 0x81))
    assert answered > 1


@pytest.mark.parametrize(
    ("reply", "says"),
    [
        (packing(lambda data: data[:-1]), "expected an answer of 1000 bytes, got 999"),
        (packing(lambda data: data[:500] + b"?" + data[501:]), "differs at byte 500"),
        (lambda n, first, payload: frame(b"\xff\xff" + payload, first), "cannot be inflated"),
        (lambda n, first, payload: frame(payload[:-20], first), "expected an answer of 1000|cannot be inflated"),
        (lambda n, first, payload: frame(payload[:9], 0x41) + frame(payload[9:], 0xC0), "first byte 0xc0"),
    ],
)
def test_wrong_compressed_answer_is_noticed(reply, says):
    with pytest.raises(LoadFailed, match=says):
        run_deflated(reply)


async def test_library_with_context_takeover():
    """A server of `websockets`, which remembers earlier messages when it compresses."""

    async def echo(connection):
        async for message in connection:
            await connection.send(message)

    async with websockets.serve(echo, "127.0.0.1", 0) as server:
        url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/"

        def run():
            with clients(url, 2, Messages(4096), deflate=True) as load:
                load.echo(0.2)
                return result_of(load)

        result = await asyncio.to_thread(run)
    assert result.messages > 5
    assert result.received_bytes < result.messages * 2000


# --- the handshake ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("head", "deflate"),
    [
        ("HTTP/1.1 403 Forbidden\r\n", False),
        (HEAD.replace(ACCEPT, "x"), False),
        (HEAD.replace("101", "200"), False),
        (DEFLATE, False),
        (HEAD, True),
        (DEFLATE.replace("permessage-deflate", "x-webkit-deflate-frame"), True),
        (DEFLATE.replace("permessage-deflate", "permessage-deflate; window=9"), True),
        (None, False),
    ],
)
def test_wrong_handshake_is_noticed(head, deflate):
    with (
        serving(head=head) as server,
        pytest.raises(LoadFailed, match="expected"),
        clients(server.url, 1, Messages(10), deflate=deflate),
    ):
        pass


def test_frames_right_behind_the_head_are_seen():
    with (
        serving(head=HEAD + "\r\n\x81\x02hi", reply=lambda n, f, p: b"") as server,
        clients(server.url, 1, Messages(10)) as load,
        pytest.raises(LoadFailed, match="of at least 2 bytes that nobody waits for"),
    ):
        load.echo(0.1)


@pytest.mark.parametrize(("value", "bits"), [
    ("permessage-deflate", 15),
    ("permessage-deflate; client_max_window_bits=12; server_no_context_takeover", 12),
    ('permessage-deflate; client_max_window_bits="10"', 10),
    ("permessage-deflate; client_max_window_bits=8", 9),
])  # fmt: skip
def test_window_of_the_client(value, bits):
    assert read_extension(value).window_bits == bits


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/", "wss://x/", "ws:///x"])
def test_url_that_cannot_be_meant(url):
    with pytest.raises(LoadFailed, match="expected a URL"), clients(url, 1, Messages(10)):
        pass


# --- what is sent -----------------------------------------------------------------------------------------------------


class Noting:
    """An extension that notes the bit and takes it away: the payload stays as it is."""

    def decode(self, frame, *, max_size=None):
        Noting.rsv1 = frame.rsv1
        return replace(frame, rsv1=False)


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65535, 65536, 100_000])
@pytest.mark.parametrize("compressed", [False, True])
def test_frames_are_frames(size, compressed):
    """`websockets` reads what we write."""
    payload = sample(size, 3)
    data = make_frame(payload, 1, b"\x01\xfe\x03\x80", compressed=compressed)
    reader = websockets.streams.StreamReader()
    reader.feed_data(data)
    reader.feed_eof()
    parser = Frame.parse(reader.read_exact, mask=True, extensions=[Noting()])
    with pytest.raises(StopIteration) as stop:
        next(parser)
    found = stop.value.value
    assert (found.opcode, found.fin, bytes(found.data)) == (Opcode.TEXT, True, payload)
    assert Noting.rsv1 is compressed


@pytest.mark.parametrize("size", [0, 1, 100, 5000])
def test_samples_differ_and_have_their_size(size):
    found = Messages(size).payloads()
    assert {len(payload) for payload in found} == {size}
    assert all(payload.isascii() for payload in found)
    assert size < 20 or len(set(found)) == len(found) == 32
    assert found == Messages(size).payloads()


def test_large_samples_are_few():
    assert Messages(1 << 20).variants == 8
    assert Messages(100 << 20).variants == 2


def test_load_that_cannot_be_meant():
    for arguments in ([], [b"x"], [b"x"]), ([0], [], []), ([0], [b"x"], []):
        with pytest.raises(ValueError, match="expected clients"):
            WebSocketLoad(*arguments, True)


# --- the command line -------------------------------------------------------------------------------------------------


def command(*words, given=None):
    return subprocess.run(
        [sys.executable, "-m", "fastasgi.bench.websocket", *words],
        input=given, capture_output=True, text=True, cwd=ROOT, timeout=PATIENCE_S,
    )  # fmt: skip


def test_command_prints_the_figures():
    with serving() as server:
        done = command(server.url, "--clients", "2", "--seconds", "0.1", "--warm-up", "0.05", "--wait", given="\n")
    ready, line = done.stdout.splitlines()
    assert ready == "ready"
    result = json.loads(line)
    assert 0 < result["messages"] < len(server.frames)
    assert result["rate"] == pytest.approx(result["messages"] / result["seconds"])


def test_command_without_a_line_of_input_only_connects():
    with serving() as server:
        done = command(server.url, "--clients", "3", "--wait", given="")
    assert (done.returncode, done.stdout, len(server.sockets), server.frames) == (0, "ready\n", 3, [])


def test_command_says_what_was_wrong():
    with serving(lambda n, f, p: frame(p[::-1], f)) as server:
        done = command(server.url, "--seconds", "0.1")
    assert done.returncode == 1 and not done.stdout
    assert done.stderr.startswith("bench: client ") and "differs at byte" in done.stderr


def test_command_without_a_server():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    done = command(f"ws://127.0.0.1:{port}/")
    assert (done.returncode, done.stdout) == (1, "")
    assert "refused" in done.stderr
