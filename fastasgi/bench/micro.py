"""The engines in process, measured through pyperf: no sockets, no kernel, no client.

    python -m fastasgi.bench micro                          all of them, a few minutes
    python -m fastasgi.bench micro --quick                  does it work, and roughly how fast
    python -m fastasgi.bench micro --only request,frame     those whose names begin so
    python -m fastasgi.bench micro -o NEW.json              a file for `python -m pyperf compare_to OLD.json NEW.json`

All options of pyperf's runner are taken as well. Each benchmark runs in processes of its own.
"""

import asyncio
import sys
import zlib
from argparse import Namespace, RawDescriptionHelpFormatter
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from time import perf_counter
from typing import Any, TypeVar

from .. import loops
from .._forwarded import Forwarder, TrustedPeers
from .._http1 import Http1
from .._runtime import Runtime
from ..config import Config
from . import _engines
from .store import require_pyperf

KIB = 1024
TURN_REQUESTS = 16
"""Requests answered in one turn of the loop, as a poller with so many ready sockets."""
TURNS_AT_MOST = 10
LATE = f"expected an answer within {TURNS_AT_MOST} turns of the loop, got none"

BROWSER = (
    b"Host: www.example.com\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0\r\n"
    b"Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\nAccept-Language: en-US,en;q=0.5\r\n"
    b"Accept-Encoding: gzip, deflate, br\r\nReferer: https://www.example.com/\r\nCookie: session=0123456789abcdef\r\n"
    b"Connection: keep-alive\r\nSec-Fetch-Mode: navigate\r\n"
)
MANY = b"".join(b"X-Field-%d: value of field number %d\r\n" % (at, at) for at in range(11))
BODY = bytes(range(256)) * 4
PLAIN = [(b"content-type", b"text/plain"), (b"content-length", b"13")]
TEN = PLAIN + [(b"x-field-%d" % at, b"value of field number %d" % at) for at in range(8)]
OFFERS = [b"permessage-deflate; client_max_window_bits"]
ASCII = b'{"id": 1234567, "name": "Ada", "tags": ["brass", "steam"], "price": 9.75}, '
EUROPEAN = "Zwölf Boxkämpfer jagen Viktor quer über den großen Sylter Deich. ".encode()

Result = TypeVar("Result")
Timed = Callable[[int], float]
"""Does its work so many times; returns the seconds that took."""


@dataclass(frozen=True)
class Case:
    """One benchmark; `prepare` makes what it needs, in the process that runs it."""

    name: str
    prepare: Callable[[], Timed]


# --- what is measured -------------------------------------------------------------------------------------------------


def _parsing(*requests: bytes) -> Callable[[], Timed]:
    return lambda: _timed(_engines.parse, list(requests))


def _answering(headers: list[tuple[bytes, bytes]]) -> Callable[[], Timed]:
    async def encode(times: int) -> float:
        runtime = _runtime()
        began = perf_counter()
        _engines.encode_head(runtime, 200, headers, times)
        return perf_counter() - began

    return lambda: lambda times: _in_loop(encode(times))


def _framing(payload: bytes, is_text: bool, deflated: bool = False) -> Callable[[], Timed]:
    expected = payload.decode() if is_text else payload
    return lambda: _timed(
        _engines.parse_frame, client_frame(payload, is_text, deflated), expected, OFFERS if deflated else None
    )


def _forwarding(*headers: tuple[bytes, bytes]) -> Callable[[], Timed]:
    """A scope is copied for each, because it is changed: what the copy costs is in the figure."""
    scope: dict[str, Any] = {"type": "http", "scheme": "http"}
    scope |= {"client": ("10.0.0.1", 50000), "server": ("10.0.0.2", 8000)}
    scope["headers"] = [(b"host", b"www.example.com"), (b"accept", b"*/*"), *headers]

    def prepare() -> Timed:
        forward = Forwarder(TrustedPeers("10.0.0.0/8")).forward

        def run(times: int) -> float:
            began = perf_counter()
            for _ in range(times):
                forward(scope.copy())
            return perf_counter() - began

        return run

    return prepare


def _serving(request: bytes, body: bytes) -> Callable[[], Timed]:
    """The whole engine: from the bytes of a request over scope, task and application to the bytes of the answer."""

    def prepare() -> Timed:
        answered = _in_loop(_answer(request))
        if not answered.startswith(b"HTTP/1.1 200 ") or not answered.endswith(b"\r\n\r\n" + body):
            raise RuntimeError(f"expected 200 and {body!r:.60}, got {answered!r:.200}")
        return lambda times: _in_loop(_serve(request, times))

    return prepare


def _in_loop(coroutine: Coroutine[Any, Any, Result]) -> Result:
    """What a coroutine gives, in a loop of the kind that the server takes."""
    with asyncio.Runner(loop_factory=loops.loop_factory("auto")) as runner:
        return runner.run(coroutine)


async def _app(scope: Any, receive: Any, send: Any) -> None:
    """Greets, or gives a body back."""
    body = b"Hello, world!"
    if scope["method"] == "POST":
        body = (await receive())["body"]
    headers = [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _answer(request: bytes) -> bytes:
    connection = _engines.connect(_runtime())
    connection.feed(request)
    for _ in range(TURNS_AT_MOST):
        if output := connection.take_output():
            return output
        await asyncio.sleep(0)
    raise RuntimeError(LATE)


async def _serve(request: bytes, times: int) -> float:
    connection = _engines.connect(_runtime())
    began = perf_counter()
    for number in range(times):
        connection.feed(request)
        for _ in range(TURNS_AT_MOST):
            if connection.take_output():
                break
            await asyncio.sleep(0)
        else:
            raise RuntimeError(LATE)
        if number % TURN_REQUESTS == 0:
            await asyncio.sleep(0)
    return perf_counter() - began


def _timed(work: Callable[..., object], *arguments: object) -> Timed:
    def run(times: int) -> float:
        began = perf_counter()
        work(*arguments, times)
        return perf_counter() - began

    return run


def _runtime() -> Runtime:
    config = Config(_app, access_log=False, lifespan="off")
    config.load()
    return Runtime(config, _app, asyncio.get_running_loop(), handler_factory=Http1)


# --- bytes as clients send them ---------------------------------------------------------------------------------------


def _get(fields: bytes) -> bytes:
    return b"GET /items/42?q=lovelace HTTP/1.1\r\n" + fields + b"\r\n"


def _post(body: bytes) -> bytes:
    head = b"POST /items HTTP/1.1\r\n" + BROWSER + b"Content-Type: application/octet-stream\r\n"
    return head + b"Content-Length: %d\r\n\r\n" % len(body) + body


def _chunked(pieces: int) -> bytes:
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(BODY), BODY) for _ in range(pieces))
    return (
        b"POST /items HTTP/1.1\r\n" + BROWSER + b"Transfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n"
    )


def _of_many_clients() -> list[bytes]:
    """More heads than are remembered, no two alike."""
    return [_get(BROWSER + b"X-Request-Id: %032x\r\n" % (at * 2654435761)) for at in range(4096)]


def client_frame(payload: bytes, is_text: bool, deflated: bool = False) -> bytes:
    """A masked frame (RFC 6455 section 5.2), compressed where asked (RFC 7692)."""
    if deflated:
        compressor = zlib.compressobj(1, zlib.DEFLATED, -12)
        payload = (compressor.compress(payload) + compressor.flush(zlib.Z_SYNC_FLUSH))[:-4]
    first = 0x80 | (0x40 if deflated else 0) | (1 if is_text else 2)
    length = len(payload)
    if length < 126:
        size = bytes([0x80 | length])
    elif length < 1 << 16:
        size = b"\xfe" + length.to_bytes(2, "big")
    else:
        size = b"\xff" + length.to_bytes(8, "big")
    mask = b"\x37\xfa\x21\x3d"
    masked = bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))
    return bytes([first]) + size + mask + masked


def _repeated(text: bytes, length: int) -> bytes:
    """So many bytes, or a few less where a character would be cut."""
    return (text * (length // len(text) + 1))[:length].decode(errors="ignore").encode()


CASES = [
    Case("request/small", _parsing(b"GET / HTTP/1.1\r\nHost: example.com\r\n\r\n")),
    Case("request/browser", _parsing(_get(BROWSER))),
    Case("request/browser-varied", lambda: _timed(_engines.parse, _of_many_clients())),
    Case("request/20-fields", _parsing(_get(BROWSER + MANY))),
    Case("request/post-1k", _parsing(_post(BODY))),
    Case("request/chunked-16k", _parsing(_chunked(16))),
    Case("response/plain", _answering(PLAIN)),
    Case("response/10-fields", _answering(TEN)),
    Case(
        "forwarded/x-forwarded",
        _forwarding((b"x-forwarded-for", b"198.51.100.7"), (b"x-forwarded-proto", b"https")),
    ),
    Case(
        "forwarded/forwarded",
        _forwarding((b"forwarded", b'for=198.51.100.7;proto=https;host="www.example.com"')),
    ),
    Case("frame/binary-125", _framing(BODY[:125], False)),
    Case("frame/text-125", _framing(_repeated(ASCII, 125), True)),
    Case("frame/text-4k", _framing(_repeated(ASCII, 4 * KIB), True)),
    Case("frame/utf8-4k", _framing(_repeated(EUROPEAN, 4 * KIB), True)),
    Case("frame/binary-64k", _framing(BODY * 64, False)),
    Case("frame/make-4k", lambda: _timed(_engines.make_frame, BODY * 4)),
    Case("deflate/inflate-4k", _framing(_repeated(ASCII, 4 * KIB), True, deflated=True)),
    Case("deflate/compress-4k", lambda: _timed(_engines.compress, _repeated(ASCII, 4 * KIB), OFFERS)),
    Case("engine/plain", _serving(_get(BROWSER), b"Hello, world!")),
    Case("engine/echo-1k", _serving(_post(BODY), BODY)),
]


# --- the command ------------------------------------------------------------------------------------------------------


def main(arguments: list[str] | None = None) -> int:
    """Run what the command line asks for; 2 where it cannot be meant."""
    given = sys.argv[1:] if arguments is None else arguments
    try:
        pyperf = require_pyperf()
    except ValueError as error:
        print(f"micro: {error}", file=sys.stderr)
        return 2
    size = (
        {"processes": 2, "values": 2, "min_time": 0.02}
        if "--quick" in given
        else {"processes": 6, "values": 5}
    )
    runner = pyperf.Runner(**size, program_args=("-m", "fastasgi.bench.micro"), add_cmdline_args=_pass_on)
    runner.argparser.prog, runner.argparser.formatter_class = (
        "fastasgi.bench micro",
        RawDescriptionHelpFormatter,
    )
    runner.argparser.description = __doc__
    runner.argparser.add_argument(
        "--quick", action="store_true", help="few and short: for function, not for figures"
    )
    runner.argparser.add_argument(
        "--only", default="", metavar="NAMES", help="those whose names begin so, by commas"
    )
    runner.argparser.add_argument("--list", action="store_true", help="show the names and end")
    options = runner.parse_args(given)
    chosen = choose(options.only)
    if not chosen:
        print(
            f"micro: expected the beginning of a name ({_names(CASES)}), got {options.only}", file=sys.stderr
        )
        return 2
    if options.list:
        print("\n".join(case.name for case in chosen))
        return 0
    for case in chosen:
        runner.bench_time_func(case.name, _Prepared(case))
    return 0


class _Prepared:
    """A case that is made ready when it is first run: the process that only starts others has nothing to do."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.run: Timed | None = None

    def __call__(self, times: int) -> float:
        if self.run is None:
            self.run = self.case.prepare()
        return self.run(times)


def choose(only: str) -> list[Case]:
    """The cases whose names begin with one of these, separated by commas; all for an empty text."""
    beginnings = tuple(part.strip() for part in only.split(",") if part.strip())
    return [case for case in CASES if not beginnings or case.name.startswith(beginnings)]


def _names(cases: list[Case]) -> str:
    return ", ".join(dict.fromkeys(case.name.partition("/")[0] for case in cases))


def _pass_on(command: list[str], options: Namespace) -> None:
    """What a worker of pyperf's must be told, so that it counts the same benchmarks."""
    if options.only:
        command.extend(("--only", options.only))


if __name__ == "__main__":
    sys.exit(main())
