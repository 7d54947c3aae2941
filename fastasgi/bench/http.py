"""A load client for HTTP/1.1 that believes no answer: closed loop, or a fixed rate. Linux only.

    python -m fastasgi.bench.http http://127.0.0.1:8000/ --connections 64 --seconds 4
    python -m fastasgi.bench.http http://127.0.0.1:8000/ --rate 10000
    python -m fastasgi.bench.http - < plan.json

Prints one line of JSON. Status, framing, length and content of each answer are checked; the first wrong one ends the
run with a sentence and exit code 1. Given a URL, the server is asked twice before: what is the same in both answers
must be so in all others ("checked": "content", "length" or "framing").

Without --rate each connection asks again as soon as it is answered. With it requests fall due whether or not answers
come, and a latency counts from when its request was due (no coordinated omission); the client spins then, to be on
time.

Given "-", a plan comes as one line of JSON on standard input. All keys but these have the defaults shown; an unknown
one is an error (exit code 2):

    "host": "127.0.0.1", "port": 8000       or "uds": "/run/app.sock"
    "exchanges": [                          sent in turn; connection i begins with number i
      {"request": BASE64,                   the whole request, head and body, as it goes over the wire
       "body": BASE64}                      the body that must come back, chunks joined;
    ]                                       or "body_length": N: any of N bytes; or neither: any at all
    "connections": 64
    "seconds": 4.0
    "warm_up_s": 0.0                        the same load before, checked but not counted
    "rate": null                            requests a second over all connections; null: a closed loop
    "status": 200                           of each answer
    "fields": [["content-type", "text/plain"]]      that each answer must have (default: none)
    "nonce": null                           16 ASCII characters that stand once in each request and once in each body.
                                            Each request goes out with 16 new hexadecimal digits in their place, and
                                            they must come back: a server that answers from a cache is found out
    "stall_s": 10.0                         a request that makes no progress for so long ends the run
    "connect_s": 10.0                       how long connecting may take
    "may_reconnect": false                  answers may say Connection: close, or end with the connection: it is
                                            counted, and a new connection takes over
    "wait": false                           print "ready" once connected and warm; run at a line of input (at its end
                                            instead: exit code 0 without a run)
    "core": null                            the CPU to run on

The result: "answers", "seconds" (to the last answer), "rate", "received_bytes", "connections_closed" (by the server,
and opened anew), "p50_us", "p90_us", "p99_us", "p999_us", "longest_us", and the client's own CPU time during the run,
"cpu_user_s" and "cpu_system_s". A server that sends answers before they are asked for is found out for certain only by
nonces: use them wherever the application can send one back.
"""

import argparse
import base64
import binascii
import json
import os
import resource
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields, replace
from http.client import HTTPException, HTTPResponse
from typing import Any
from urllib.parse import urlsplit

from fastasgi.bench._http import HttpLoad
from fastasgi.bench._load import LoadFailed

SPARE_FILES = 64
"""Descriptors that a process has open beside its connections."""

KINDS: dict[str, Any] = {
    **dict.fromkeys(("host", "uds"), str),
    **dict.fromkeys(("port", "connections", "status"), int),
    **dict.fromkeys(("seconds", "warm_up_s", "stall_s", "connect_s"), int | float),
    **dict.fromkeys(("exchanges", "fields"), list),
    **dict.fromkeys(("may_reconnect", "wait"), bool),
    "rate": int | float | None,
    "nonce": str | None,
    "core": int | None,
}
"""What JSON gives for each key of a plan."""

Body = bytes | int | None
"""What must come back: these bytes; so many; anything."""


@dataclass(frozen=True, kw_only=True)
class Target:
    """Where the server listens: a Unix socket, or a TCP port."""

    host: str = "127.0.0.1"
    port: int = 8000
    uds: str | None = None

    def __str__(self) -> str:
        return self.uds or f"{self.host}:{self.port}"

    def resolve(self) -> tuple[int, Any]:
        """Address family and address. Raises OSError for a host that nobody knows."""
        if self.uds is not None:
            return socket.AF_UNIX, self.uds
        family, _, _, _, address = socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM)[0]
        return family, address


@dataclass(frozen=True)
class Exchange:
    """A whole request, and the body that must come back."""

    request: bytes
    body: Body = None

    def as_data(self) -> dict[str, Any]:
        """As JSON takes it."""
        data: dict[str, Any] = {"request": base64.b64encode(self.request).decode()}
        if isinstance(self.body, bytes):
            data["body"] = base64.b64encode(self.body).decode()
        elif self.body is not None:
            data["body_length"] = self.body
        return data

    @classmethod
    def from_data(cls, data: dict[str, Any]) -> "Exchange":
        """What `as_data` gave. Raises ValueError."""
        check_keys(data, {"request"}, {"body", "body_length"})
        body: Body = data.get("body_length")
        if "body" in data:
            body = decode(data["body"])
        return cls(decode(data["request"]), body)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One load, as the text of this module describes it. Raises ValueError when it cannot be meant."""

    exchanges: list[Exchange]
    target: Target = Target()
    connections: int = 64
    seconds: float = 4.0
    warm_up_s: float = 0.0
    rate: float | None = None
    status: int = 200
    fields: list[tuple[str, str]] = field(default_factory=list)
    nonce: str | None = None
    stall_s: float = 10.0
    connect_s: float = 10.0
    may_reconnect: bool = False
    wait: bool = False
    core: int | None = None

    def __post_init__(self) -> None:
        if self.connections < 1 or not self.exchanges:
            raise ValueError(
                f"expected connections and exchanges, got {self.connections} and {len(self.exchanges)} of them"
            )
        if self.seconds < 0 or (self.rate is not None and not self.rate > 0):
            raise ValueError(f"expected seconds and a rate above 0, got {self.seconds} and {self.rate}")

    def as_line(self) -> str:
        """One line of JSON."""
        data = {each.name: getattr(self, each.name) for each in fields(self)}
        target = data.pop("target")
        data |= {"uds": target.uds} if target.uds else {"host": target.host, "port": target.port}
        data["exchanges"] = [exchange.as_data() for exchange in self.exchanges]
        return json.dumps(data)

    @classmethod
    def from_line(cls, line: str) -> "Plan":
        """The plan that `as_line` gave. Raises ValueError."""
        data = json.loads(line)
        places = {"host", "port", "uds"}
        check_keys(data, {"exchanges"}, places | {each.name for each in fields(cls)} - {"target"})
        for key, value in data.items():
            if not isinstance(value, KINDS[key]):
                raise ValueError(f"expected another kind of value for {key!r}, got {value!r:.100}")
        target = Target(**{key: data.pop(key) for key in places & data.keys()})
        exchanges = [Exchange.from_data(each) for each in data.pop("exchanges")]
        pairs = [(str(name), str(value)) for name, value in data.pop("fields", [])]
        return cls(target=target, exchanges=exchanges, fields=pairs, **data)


@dataclass(frozen=True, kw_only=True)
class Result:
    """What one run saw; latencies in microseconds, and the client's own CPU time."""

    answers: int
    seconds: float
    received_bytes: int
    connections_closed: int
    p50_us: float
    p90_us: float
    p99_us: float
    p999_us: float
    longest_us: float
    cpu_user_s: float
    cpu_system_s: float

    @property
    def rate(self) -> float:
        """Answers a second."""
        return self.answers / self.seconds if self.seconds else 0.0

    def as_data(self) -> dict[str, Any]:
        """As JSON takes it."""
        return {**asdict(self), "rate": self.rate}

    @classmethod
    def from_line(cls, line: str) -> "Result":
        """The result that a run printed."""
        data = json.loads(line)
        return cls(**{each.name: data[each.name] for each in fields(cls)})


def check_keys(data: Any, needed: set[str], possible: set[str]) -> None:
    """Raise ValueError unless this is an object with these keys."""
    if not isinstance(data, dict):
        raise ValueError(f"expected an object, got {data!r:.100}")
    if not needed <= data.keys() <= needed | possible:
        raise ValueError(f"expected the keys {sorted(needed)}, maybe {sorted(possible)}; got {sorted(data)}")


def decode(text: Any) -> bytes:
    """The bytes of a base64 text. Raises ValueError."""
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, TypeError) as error:
        raise ValueError(f"expected base64, got {text!r:.100}: {error}") from None


# --- connections ------------------------------------------------------------------------------------------------------


def raise_file_limit(connections: int) -> None:
    """Let this process have so many connections, as far as it may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = connections + SPARE_FILES
    if soft != resource.RLIM_INFINITY and soft < needed:
        limit = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))


def connect_all(target: Target, count: int, timeout_s: float) -> list[socket.socket]:
    """So many connections, non-blocking. Raises LoadFailed when they cannot be had in time."""
    raise_file_limit(count)
    until = time.monotonic() + timeout_s
    sockets: list[socket.socket] = []
    try:
        family, address = target.resolve()
        for _ in range(count):
            sock = socket.socket(family, socket.SOCK_STREAM)
            sockets.append(sock)
            sock.settimeout(max(0.001, until - time.monotonic()))
            sock.connect(address)
            if family != socket.AF_UNIX:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setblocking(False)
    except OSError as error:
        for sock in sockets:
            sock.close()
        why = f"no answer within {timeout_s:g} s" if isinstance(error, TimeoutError) else error.strerror or error
        raise LoadFailed(f"expected {count} connections to {target}, got {max(0, len(sockets) - 1)}: {why}") from None
    return sockets


@contextmanager
def clients(plan: Plan) -> Iterator[HttpLoad]:
    """The plan's connections and what they will send. Raises LoadFailed without a server, ValueError."""
    sockets = connect_all(plan.target, plan.connections, plan.connect_s)
    try:
        load = HttpLoad(
            [sock.fileno() for sock in sockets],
            [exchange.request for exchange in plan.exchanges],
            [exchange.body for exchange in plan.exchanges],
            status=plan.status,
            fields=[(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in plan.fields],
            nonce=None if plan.nonce is None else plan.nonce.encode("ascii"),
            may_reconnect=plan.may_reconnect,
        )
    except BaseException:
        for sock in sockets:
            sock.close()
        raise
    for sock in sockets:
        sock.detach()
    try:
        yield load
    finally:
        load.close()


def run(load: HttpLoad, plan: Plan, seconds: float) -> None:
    """Load the server as planned, for so long."""
    if plan.rate is None:
        load.run(seconds, plan.stall_s)
    else:
        load.run_at(plan.rate, seconds, plan.stall_s)


def measure(plan: Plan, may_begin: Callable[[], bool] = lambda: True) -> Result | None:
    """Connect, warm up, ask `may_begin`, and run; None if it may not. Raises LoadFailed, ValueError."""
    if plan.core is not None:
        os.sched_setaffinity(0, {plan.core})
    with clients(plan) as load:
        if plan.warm_up_s:
            run(load, plan, plan.warm_up_s)
        if not may_begin():
            return None
        before = resource.getrusage(resource.RUSAGE_SELF)
        run(load, plan, plan.seconds)
        after = resource.getrusage(resource.RUSAGE_SELF)
        p50, p90, p99, p999 = (load.percentile_us(share) for share in (0.5, 0.9, 0.99, 0.999))
        return Result(
            answers=load.answered,
            seconds=load.seconds,
            received_bytes=load.received_bytes,
            connections_closed=load.connections_closed,
            p50_us=p50,
            p90_us=p90,
            p99_us=p99,
            p999_us=p999,
            longest_us=load.longest_us,
            cpu_user_s=after.ru_utime - before.ru_utime,
            cpu_system_s=after.ru_stime - before.ru_stime,
        )


# --- the command line -------------------------------------------------------------------------------------------------


def answer_of(plan: Plan, request: bytes) -> bytes:
    """The body with which the server answers a request now. Raises LoadFailed."""
    (sock,) = connect_all(plan.target, 1, plan.connect_s)
    with sock:
        sock.settimeout(plan.stall_s)
        try:
            sock.sendall(request)
            response = HTTPResponse(sock, method=request.partition(b" ")[0].decode("latin-1"))
            response.begin()
            body = response.read()
        except (OSError, HTTPException) as error:
            raise LoadFailed(f"expected an answer of {plan.target}, got {error!r}") from None
    if response.status != plan.status:
        raise LoadFailed(f"expected status {plan.status}, got {response.status}, and {body!r:.200}")
    return body


def learn(plan: Plan) -> tuple[Plan, str]:
    """The plan with what the server answers as the expected bodies, and how far it answers the same twice."""
    request = plan.exchanges[0].request
    first, second = answer_of(plan, request), answer_of(plan, request)
    body: Body = None
    checked = "framing"
    if first == second:
        body, checked = first, "content"
    elif len(first) == len(second):
        body, checked = len(first), "length"
    return replace(plan, exchanges=[Exchange(request, body)]), checked


def make_request(url: str, method: str, headers: list[str], body_size: int | None) -> tuple[Target, bytes]:
    """Where to ask, and the bytes of the request. Raises ValueError."""
    parts = urlsplit(url)
    if parts.scheme != "http" or not parts.hostname:
        raise ValueError(f"expected a URL such as http://127.0.0.1:8000/, got {url!r}")
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    lines = [f"{method} {target} HTTP/1.1"]
    if not any(line.lower().startswith("host:") for line in headers):
        lines.append(f"Host: {parts.netloc}")
    lines += headers
    if body_size is not None:
        lines.append(f"Content-Length: {body_size}")
    body = bytes(number % 251 for number in range(body_size or 0))
    return Target(host=parts.hostname, port=parts.port or 80), "\r\n".join([*lines, "", ""]).encode() + body


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m fastasgi.bench.http",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("url", help="http://HOST:PORT/PATH, or - for a plan on standard input")
    add("--connections", type=int, default=64)
    add("--seconds", type=float, default=4.0)
    add("--warm-up", type=float, default=0.0, help="seconds of the same before")
    add("--rate", type=float, help="requests a second over all connections, on a schedule that waits for no answer")
    add("--method", default="GET")
    add("--header", action="append", default=[], metavar="NAME: VALUE", help="may be given again")
    add("--body-size", type=int, help="bytes that each request carries")
    add("--status", type=int, default=200, help="of each answer")
    add("--uds", metavar="PATH", help="connect to this Unix socket")
    add("--may-reconnect", action="store_true", help="answers may say Connection: close")
    add("--stall", type=float, default=10.0, help="seconds without progress that end the run")
    add("--core", type=int, help="the CPU to run on")
    add("--wait", action="store_true", help="print 'ready' once connected and warm; run at a line of input")
    return parser.parse_args(arguments)


def plan_of(options: argparse.Namespace) -> Plan:
    """The plan that a command line asks for. Raises ValueError."""
    target, request = make_request(options.url, options.method, options.header, options.body_size)
    if options.uds:
        target = Target(uds=options.uds)
    return Plan(
        target=target,
        exchanges=[Exchange(request)],
        connections=options.connections,
        seconds=options.seconds,
        warm_up_s=options.warm_up,
        rate=options.rate,
        status=options.status,
        stall_s=options.stall,
        may_reconnect=options.may_reconnect,
        wait=options.wait,
        core=options.core,
    )


def may_begin() -> bool:
    """Say that all is ready; whether a line of input came."""
    print("ready", flush=True)
    return bool(sys.stdin.readline())


def main(arguments: list[str] | None = None) -> int:
    """Run what the command line asks for; exit code 1 with a sentence when the server fails, 2 for a wrong plan."""
    options = parse_arguments(arguments)
    more: dict[str, Any] = {}
    try:
        if options.url == "-":
            plan = Plan.from_line(sys.stdin.readline())
        else:
            plan, more["checked"] = learn(plan_of(options))
        result = measure(plan, *[may_begin] if plan.wait else [])
    except (LoadFailed, OSError, ValueError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2 if isinstance(error, ValueError) else 1
    if result is not None:
        print(json.dumps(result.as_data() | more), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
