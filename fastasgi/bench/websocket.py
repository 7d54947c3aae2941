"""A load client for WebSockets: echo in a closed loop, echo at a fixed rate, broadcast. Linux only.

    python -m fastasgi.bench.websocket ws://127.0.0.1:8000/ --clients 64 --size 100 --seconds 4

Each answer is compared with what was sent, length and content; the first wrong one ends the run with a sentence and
exit code 1. Prints one line of JSON. The server is to echo each message as it came (`--broadcast`: to send each message
of one client to all that are connected).

`--size` counts what the application sees. Messages look like JSON and differ from each other, so that compression has
something to do and nothing to remember. `--deflate` offers permessage-deflate as browsers do; what is sent is
compressed once, before the run, each message by itself.
"""

import argparse
import base64
import hashlib
import json
import os
import random
import socket
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any
from urllib.parse import urlsplit

from fastasgi.bench._load import LoadFailed
from fastasgi.bench._websocket import DEFLATE_TAIL, WebSocketLoad

TIMEOUT_S = 10.0
VARIANTS = 32
"""How many different messages take turns."""
VARIANT_BYTES = 8 * 1024 * 1024
"""What all of them may take together: large ones are fewer."""
MAX_HEAD_BYTES = 16 * 1024
WORDS = "engine notes bernoulli brass steam lovelace difference loom analytical cards".split()

# The key should be random (RFC 6455 section 4.1), which protects from caches. With a fixed one a server without SHA-1,
# such as a C program that measures the floor, can answer; it is the example of section 1.3.
KEY = "dGhlIHNhbXBsZSBub25jZQ=="
GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
ACCEPT = base64.b64encode(hashlib.sha1((KEY + GUID).encode()).digest()).decode()


@dataclass(frozen=True)
class Messages:
    """What is sent: how many bytes the application sees of each, of which kind, and of how many in turn."""

    size: int
    is_text: bool = True

    @property
    def variants(self) -> int:
        """How many different ones take turns."""
        return max(2, min(VARIANTS, VARIANT_BYTES // max(1, self.size)))

    def payloads(self) -> list[bytes]:
        """The messages, the same in every run."""
        return [sample(self.size, number) for number in range(self.variants)]


@dataclass(frozen=True)
class Result:
    """What the clients saw; latencies in microseconds."""

    messages: int
    seconds: float
    received_bytes: int
    p50_us: float
    p90_us: float
    p99_us: float
    p999_us: float
    max_us: float

    @property
    def rate(self) -> float:
        """Answers a second."""
        return self.messages / self.seconds if self.seconds else 0.0


def sample(size: int, number: int) -> bytes:
    """A text of so many ASCII bytes that looks like JSON, another one for each number."""
    rng = random.Random(number)
    parts: list[str] = []
    length = 0
    while length < size:
        record = {"id": rng.randrange(10**6), "name": rng.choice(WORDS), "price": rng.randrange(10**4) / 100}
        parts.append(json.dumps(record) + ",")
        length += len(parts[-1])
    return "".join(parts)[:size].encode()


def make_frame(payload: bytes, opcode: int, mask: bytes, *, compressed: bool = False) -> bytes:
    """A whole masked frame, as a client sends it (RFC 6455 section 5.2)."""
    first = 0x80 | opcode | (0x40 if compressed else 0)
    size = len(payload)
    if size < 126:
        head = bytes([first, 0x80 | size])
    elif size < 1 << 16:
        head = bytes([first, 0x80 | 126]) + size.to_bytes(2, "big")
    else:
        head = bytes([first, 0x80 | 127]) + size.to_bytes(8, "big")
    repeated = mask * (size // 4 + 1)
    masked = int.from_bytes(payload, "big") ^ int.from_bytes(repeated[:size], "big")
    return head + mask + masked.to_bytes(size, "big")


def compress(payload: bytes, window_bits: int) -> bytes:
    """One message by itself, as permessage-deflate sends it (RFC 7692 section 7.2.1)."""
    compressor = zlib.compressobj(wbits=-window_bits)
    data = compressor.compress(payload) + compressor.flush(zlib.Z_SYNC_FLUSH)
    return data.removesuffix(DEFLATE_TAIL)


# --- the handshake ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Extension:
    """The parameters of permessage-deflate that the server chose, for messages of the client."""

    window_bits: int = 15


def read_head(sock: socket.socket) -> bytes:
    """The head of the response, and not a byte behind it."""
    head = b""
    while b"\r\n\r\n" not in head:
        ahead = sock.recv(MAX_HEAD_BYTES, socket.MSG_PEEK)
        if not ahead or len(head) > MAX_HEAD_BYTES:
            raise LoadFailed(f"expected an answer to the handshake, got {head + ahead!r}")
        end = (head[-3:] + ahead).find(b"\r\n\r\n")
        head += sock.recv(len(ahead) if end < 0 else end + 4 - len(head[-3:]))
    return head


def read_extension(value: str) -> Extension:
    """The accepted extension. Raises LoadFailed for one that was not offered."""
    name, *parameters = [part.strip() for part in value.split(";")]
    found = dict(parameter.partition("=")[::2] for parameter in parameters)
    known = {"client_max_window_bits", "client_no_context_takeover", "server_no_context_takeover"}
    bits = found.get("client_max_window_bits", "15").strip('"')
    if name != "permessage-deflate" or found.keys() - known - {"server_max_window_bits"} or not bits.isdecimal():
        raise LoadFailed(f"expected permessage-deflate with parameters of RFC 7692, got {value!r}")
    return Extension(max(9, int(bits)))


def check_handshake(head: bytes, *, deflate: bool) -> Extension | None:
    """What the server accepted. Raises LoadFailed unless it is what was asked for."""
    first, *lines = head.decode("latin-1").split("\r\n")
    fields = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    if first.split(" ")[1:2] != ["101"] or fields.get("sec-websocket-accept") != ACCEPT:
        raise LoadFailed(f"expected 101 with the right Sec-WebSocket-Accept, got {head[:300]!r}")
    extension = fields.get("sec-websocket-extensions")
    if (extension is not None) is not deflate:
        asked = "permessage-deflate" if deflate else "no extension"
        raise LoadFailed(f"expected {asked}, got Sec-WebSocket-Extensions {extension!r}")
    return read_extension(extension) if extension is not None else None


def connect(url: str, *, deflate: bool) -> tuple[socket.socket, Extension | None]:
    """One WebSocket, its handshake done. Raises LoadFailed, or OSError without a server."""
    parts = urlsplit(url)
    if parts.scheme != "ws" or not parts.hostname:
        raise LoadFailed(f"expected a URL such as ws://127.0.0.1:8000/, got {url!r}")
    sock = socket.create_connection((parts.hostname, parts.port or 80), TIMEOUT_S)
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        lines = [f"GET {target} HTTP/1.1", f"Host: {parts.netloc}", "Upgrade: websocket", "Connection: Upgrade"]
        lines += [f"Sec-WebSocket-Key: {KEY}", "Sec-WebSocket-Version: 13"]
        if deflate:
            lines.append("Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits")
        sock.sendall("\r\n".join([*lines, "", ""]).encode())
        extension = check_handshake(read_head(sock), deflate=deflate)
    except BaseException:
        sock.close()
        raise
    sock.setblocking(False)
    return sock, extension


@contextmanager
def clients(url: str, count: int, messages: Messages, *, deflate: bool = False) -> Iterator[WebSocketLoad]:
    """So many connected WebSockets and what they will send. Raises LoadFailed, or OSError without a server."""
    sockets: list[socket.socket] = []
    try:
        extensions = []
        for _ in range(count):
            sock, extension = connect(url, deflate=deflate)
            sockets.append(sock)
            extensions.append(extension)
        fds = [sock.fileno() for sock in sockets]
        load = WebSocketLoad(fds, *wire(messages, extensions[0]), **decompressors(extensions))
        try:
            yield load
        finally:
            load.close()
    finally:
        for sock in sockets:
            sock.close()


def wire(messages: Messages, extension: Extension | None) -> tuple[list[bytes], list[bytes], bool]:
    """Frames, payloads, and whether they are text."""
    payloads = messages.payloads()
    opcode = 1 if messages.is_text else 2
    frames = []
    for payload in payloads:
        data = compress(payload, extension.window_bits) if extension else payload
        frames.append(make_frame(data, opcode, os.urandom(4), compressed=extension is not None))
    return frames, payloads, messages.is_text


def decompressors(extensions: list[Extension | None]) -> dict[str, Any]:
    """The decompressor of each client: one window for all its messages, as large as any server's."""
    if extensions[0] is None:
        return {}
    return {"inflaters": [zlib.decompressobj(wbits=-15) for _ in extensions]}


def result_of(load: WebSocketLoad) -> Result:
    """The figures of the last run."""
    p50_us, p90_us, p99_us, p999_us = map(load.percentile_us, (0.5, 0.9, 0.99, 0.999))
    return Result(
        load.answered, load.seconds, load.received_bytes, p50_us, p90_us, p99_us, p999_us, load.longest_us
    )


# --- the command line -------------------------------------------------------------------------------------------------


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m fastasgi.bench.websocket",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("url", help="ws://HOST:PORT/PATH")
    add("--clients", type=int, default=64)
    add("--size", type=int, default=100, help="bytes of a message")
    add("--binary", action="store_true", help="send binary messages, not text")
    add("--deflate", action="store_true", help="offer permessage-deflate, and insist on it")
    add("--seconds", type=float, default=4.0)
    add("--warm-up", type=float, default=0.0, help="seconds of the same before")
    add("--rate", type=float, help="messages a second over all clients, on a schedule that does not wait for answers")
    add("--broadcast", type=int, help="the first client sends so many messages, and all must receive each")
    add("--wait", action="store_true", help="print 'ready' once connected and warm; run at a line of input")
    options = parser.parse_args(arguments)
    if options.clients < 1 or options.size < 0:
        parser.error(f"expected at least one client and a size of 0 or more, got {options.clients}, {options.size}")
    return options


def warm_up(load: WebSocketLoad, options: argparse.Namespace) -> None:
    """The same for a while; of a broadcast one message."""
    if options.broadcast is not None:
        load.broadcast(1)
    else:
        load.echo(options.warm_up)


def run(load: WebSocketLoad, options: argparse.Namespace) -> None:
    """One run of the kind that was asked for."""
    if options.broadcast is not None:
        load.broadcast(options.broadcast)
    elif options.rate is not None:
        load.echo_at(options.rate, options.seconds)
    else:
        load.echo(options.seconds)


def main(arguments: list[str] | None = None) -> int:
    """Run what the command line asks for; exit code 1 with a sentence when the server fails."""
    options = parse_arguments(arguments)
    messages = Messages(options.size, not options.binary)
    try:
        with clients(options.url, options.clients, messages, deflate=options.deflate) as load:
            if options.warm_up:
                warm_up(load, options)
            if options.wait:
                print("ready", flush=True)
                if not sys.stdin.readline():
                    return 0
            run(load, options)
            result = result_of(load)
    except (LoadFailed, OSError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    print(json.dumps({**asdict(result), "rate": result.rate}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
