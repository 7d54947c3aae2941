"""Wire cases cut in every way, and what a parser makes of them (no server in here; see `wire_serve`).

`ways(data)` are the ways in which the same bytes may arrive: whole, byte by byte, cut in two at every
place. `tails(case)` are the case alone, and followed by a request and by garbage. `Message`s are what a
parser saw, in a form that does not depend on how body pieces were handed out.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from urllib.parse import unquote_to_bytes

from cases import Case, Seen, load

CASES = load()
BY_NAME = {case.name: case for case in CASES}

# Up to here every cut is tried; longer inputs are cut near their ends and at places drawn from a fixed seed.
EVERY_CUT_BYTES = 400
SAMPLED_CUTS = 60

TAIL = b"GET /tail?q HTTP/1.1\r\nHost: tail\r\nX-Tail: 1\r\n\r\n"
TAIL_SEEN = Seen(target=b"/tail?q", headers=((b"host", b"tail"), (b"x-tail", b"1")))
GARBAGE = b"\x00\xffgarbage\r\n\r\n"


@dataclass
class Message:
    """One request as a parser told it; `complete` when its end was seen."""

    method: str
    target: bytes
    version: str
    headers: list[tuple[bytes, bytes]]
    keep_alive: bool
    kind: str
    upgrade: bool
    body: bytes = b""
    complete: bool = False


@dataclass
class Parsed:
    """Everything that a parser told of some bytes; equal when no observer can tell two apart."""

    messages: list[Message]
    error: tuple[int, str, str] | None = None  # status, code, message


def fold(events: list[tuple]) -> Parsed:
    """Events of `_probe.parse` as messages; the order of events is checked on the way."""
    parsed = Parsed([])
    last = None  # the message that is not complete yet
    for kind, *values in events:
        assert parsed.error is None, f"{kind} after the error {parsed.error}"
        if kind == "head":
            assert last is None, f"a head within the message {last}"
            method, target, version, headers, keep_alive, body_kind, upgrade = values
            last = Message(method, target, version, headers, bool(keep_alive), body_kind, bool(upgrade))
            parsed.messages.append(last)
        elif kind == "body":
            assert last is not None, "a body outside of a message"
            assert type(values[0]) is bytes, f"a body piece is {type(values[0])}"
            last.body += values[0]
        elif kind == "complete":
            assert last is not None, "the end of no message"
            last.complete, last = True, None
        else:
            assert kind == "error", f"unknown event {kind}"
            parsed.error = tuple(values)
    return parsed


# --------------------------------------------------------------------------------------------- cuts
def cut_places(n: int, seed: int = 0) -> list[int]:
    """Where n bytes are cut in two: everywhere, or at a sample of places when they are many."""
    if n <= EVERY_CUT_BYTES:
        return list(range(1, n))
    drawn = random.Random(seed + n).sample(range(1, n), SAMPLED_CUTS)
    return sorted({*range(1, 20), *range(n - 20, n), *drawn})


def cut_in_two(data: bytes) -> Iterator[tuple[str, list[bytes]]]:
    """Every cut into two pieces, each with a name for failures."""
    for place in cut_places(len(data)):
        yield f"cut at {place}", [data[:place], data[place:]]


def byte_by_byte(data: bytes) -> list[bytes]:
    """One byte each; very long inputs in pieces of 1 to 97 bytes."""
    if len(data) <= 20 * EVERY_CUT_BYTES:
        return [data[i : i + 1] for i in range(len(data))]
    return in_pieces(data, random.Random(len(data)), 97)


def in_pieces(data: bytes, rng: random.Random, most: int) -> list[bytes]:
    """Pieces of 1 to `most` bytes."""
    pieces, at = [], 0
    while at < len(data):
        n = rng.randint(1, most)
        pieces.append(data[at : at + n])
        at += n
    return pieces


def ways(data: bytes) -> Iterator[tuple[str, list[bytes]]]:
    """All ways in which these bytes may arrive."""
    yield "whole", [data]
    yield "byte by byte", byte_by_byte(data)
    yield from cut_in_two(data)
    yield "with empty pieces", [b"", data[: len(data) // 2], b"", data[len(data) // 2 :], b""]


def tails(case: Case) -> Iterator[Case]:
    """The case, and the case followed by something: what must follow is worked out here."""
    yield case
    if case.waits:
        return
    if case.keeps_open:
        yield replace(case, name=case.name + "+request", send=case.send + TAIL, seen=(*case.seen, TAIL_SEEN))
        yield replace(case, name=case.name + "+garbage", send=case.send + GARBAGE, refused=(400,), closes=True)
    else:  # nothing that follows is looked at
        yield replace(case, name=case.name + "+request", send=case.send + TAIL)
        yield replace(case, name=case.name + "+garbage", send=case.send + GARBAGE)


# --------------------------------------------------------------------------------------------- what must follow
def path_of(seen: Seen) -> str:
    """The decoded path that the application must see, by the standard library's decoder where not told."""
    if seen.path is not None:
        return seen.path
    return unquote_to_bytes(seen.target.partition(b"?")[0]).decode("utf-8", "replace")


def raw_path_of(seen: Seen) -> bytes | None:
    """The raw path, or None where it does not matter."""
    if seen.raw_path is not None or not seen.target.startswith(b"/"):
        return seen.raw_path
    return seen.target.partition(b"?")[0]


def query_of(seen: Seen) -> bytes | None:
    """The query, or None where it does not matter."""
    if seen.query is not None or not seen.target.startswith(b"/"):
        return seen.query
    return seen.target.partition(b"?")[2]


def targets_of(seen: Seen) -> set[bytes]:
    """What a parser may call the target: as received, or of an absolute-form its path and query."""
    targets = {seen.target, seen.target.removesuffix(b"?")}
    if b"://" in seen.target and not seen.target.startswith(b"/"):
        rest = seen.target.partition(b"://")[2]
        at = min((i for i in (rest.find(b"/"), rest.find(b"?")) if i >= 0), default=len(rest))
        targets.add(rest[at:] if rest[at : at + 1] == b"/" else b"/" + rest[at:])
    return targets


def check_parsed(case: Case, parsed: Parsed) -> None:
    """What the parser told is what the case says. Raises AssertionError."""
    if case.instead and parsed.error and parsed.error[0] == case.instead and not parsed.messages:
        return
    if parsed.error is not None:
        status, code, text = parsed.error
        assert isinstance(code, str) and code, f"no code of the error: {parsed.error}"
        assert isinstance(text, str) and text, f"no message of the error: {parsed.error}"
        assert case.refused, f"refused with {parsed.error}"
        assert status in case.refused, f"refused with {parsed.error}, not with {case.refused}"
    else:
        assert not case.refused, f"not refused with {case.refused}: {parsed.messages}"
    assert len(parsed.messages) == len(case.seen), f"{len(parsed.messages)} requests: {parsed}"
    for seen, message in zip(case.seen, parsed.messages, strict=True):
        check_message(seen, message)
    if case.seen and case.seen[-1].complete and case.reads and not (case.refused or case.waits):
        last = parsed.messages[len(case.seen) - 1]
        assert last.keep_alive is not case.closes, f"keep_alive is {last.keep_alive}"


def goes_on(case: Case) -> bool:
    """The connection ends after an answer: what a bare parser makes of the bytes behind it does not matter."""
    return case.closes and not case.refused


def until_close(parsed: Parsed) -> Parsed:
    """What was told up to the end of the first message that closes the connection: nothing behind it is looked at."""
    for place, message in enumerate(parsed.messages):
        if message.complete and not message.keep_alive:
            return Parsed(parsed.messages[: place + 1])
    return parsed


def relevant(case: Case, parsed: Parsed) -> Parsed:
    """What of all that a parser told a connection would have looked at."""
    return Parsed(parsed.messages[: len(case.seen)]) if goes_on(case) else parsed


def check_message(seen: Seen, message: Message) -> None:
    """One request is what the case says."""
    assert (message.method, message.version) == (seen.method, seen.version), message
    assert isinstance(message.method, str) and isinstance(message.version, str), message
    assert message.target in targets_of(seen), message
    if seen.headers is not None:
        headers = [tuple(pair) for pair in message.headers]
        assert headers == list(seen.headers), f"headers {headers}"
        assert all(type(part) is bytes for pair in headers for part in pair), headers
    assert seen.body is None or message.body == seen.body, f"body {message.body!r}"
    assert message.complete is seen.complete, message
    assert seen.kind is None or message.kind == seen.kind, message
    assert seen.upgrade is None or message.upgrade is seen.upgrade, message
