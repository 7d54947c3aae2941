"""Wire cases: bytes of a client, and what a correct server makes of them.

One `case(...)` is: a name, the ids of `behaviours.toml` that it pins, the section of the RFC, the bytes,
and what must follow: the requests that the application sees, in order (`Seen`), and the status with
which the rest is refused, if it is. `wire.py` runs each case through the parser, through a whole
connection in memory and over real sockets, and cuts its bytes in every way.

Where a case ends at the offending byte, it says at the same time that the refusal comes at once.
"""

from dataclasses import dataclass, field

HOST = ((b"host", b"x"),)


@dataclass(frozen=True)
class Seen:
    """One request as parser and application must see it. None: follows from the others, or does not matter."""

    method: str = "GET"
    target: bytes = b"/"
    version: str = "1.1"
    headers: tuple[tuple[bytes, bytes], ...] = HOST
    body: bytes | None = b""  # None: how much is delivered before the refusal does not matter
    complete: bool = True  # False: refused, or still open, within the body
    path: str | None = None
    raw_path: bytes | None = None
    query: bytes | None = None
    kind: str | None = None  # body_kind of the parser
    upgrade: bool | None = None  # whether the client asks for another protocol


@dataclass(frozen=True)
class Case:
    """Bytes and what must follow."""

    name: str
    pins: tuple[str, ...]
    rfc: str
    send: bytes
    seen: tuple[Seen, ...] = ()
    refused: tuple[int, ...] = ()  # the statuses allowed for the refusal; empty: not refused
    closes: bool = False  # the connection ends after the last answer
    waits: bool = False  # more bytes are needed: no answer to the last request, or to a part of one
    instead: int = 0  # a server may refuse the first request with this status instead
    limits: dict = field(default_factory=dict)  # options by name
    reads: bool = True  # whether the application reads bodies

    @property
    def keeps_open(self) -> bool:
        """Another request may follow on the same connection."""
        return not (self.refused or self.closes or self.waits)


def case(name, pins, rfc, send, *seen, refused=(), closes=False, limits=None, **more) -> Case:
    """A `Case`; `pins` is one id or several parted by white space, `refused` a status or several."""
    refused = (refused,) if isinstance(refused, int) else tuple(refused)
    return Case(
        name, tuple(pins.split()), rfc, send, seen,
        refused=refused, closes=closes or bool(refused), limits=limits or {}, **more,
    )  # fmt: skip


def head(*lines: bytes, start: bytes = b"GET / HTTP/1.1", host: bytes | None = b"x") -> bytes:
    """A request head: the request line, `Host: x`, then these lines, then the empty line."""
    first = [start] if host is None else [start, b"Host: " + host]
    return b"\r\n".join([*first, *lines, b"", b""])


def with_host(*headers: tuple[bytes, bytes]) -> tuple[tuple[bytes, bytes], ...]:
    """What is seen of `head(...)`."""
    return HOST + headers


def load() -> list[Case]:
    """Every case of every file, names checked to be unique."""
    from cases import bodies, chunks, coding, fields, hosts, limits, methods, pipelines, targets, versions

    modules = (hosts, coding, fields, methods, targets, versions, limits, bodies, chunks, pipelines)
    found = [one for module in modules for one in module.CASES]
    names = [one.name for one in found]
    doubled = {name for name in names if names.count(name) > 1}
    assert not doubled, f"names used twice: {doubled}"
    return found
