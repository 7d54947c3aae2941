"""Wire cases through a whole connection: in memory, and over real sockets.

`Recorder` is the application: it notes what it sees and answers each request with its number, so that
the order of the answers shows. `Outcome` is what a client and the application can tell of a run; it must
be the same however the bytes were cut.
"""

import asyncio
import contextlib
import socket
from dataclasses import dataclass, field, replace

from answers import WireError, read_answers
from cases import Case, Seen
from drive import Bench, turn
from wire import path_of, query_of, raw_path_of

# The connection is settled when this many turns of the loop brought nothing new.
QUIET_TURNS = 4
MOST_TURNS = 400
SOCKET_TIMEOUT_S = 2.0
AFTER_FIN = {400, 500}


@dataclass
class Taken:
    """One request as the application saw it."""

    scope: dict
    body: bytes = b""
    complete: bool = False

    def shown(self) -> tuple:
        """What must not depend on how the bytes arrived (how much of a broken body came does)."""
        scope = {key: value for key, value in self.scope.items() if key not in ("state", "client", "server", "asgi")}
        scope["headers"] = [tuple(pair) for pair in scope["headers"]]
        return tuple(sorted(scope.items())), self.body if self.complete else None, self.complete


class Recorder:
    """An ASGI application that notes requests and answers 200 with the number of the request."""

    def __init__(self, *, reads: bool = True, pause_turns: int = 0) -> None:
        self.reads = reads
        self.pause_turns = pause_turns
        self.taken: list[Taken] = []

    async def __call__(self, scope, receive, send) -> None:
        number = len(self.taken)
        taken = Taken(scope)
        self.taken.append(taken)
        if self.reads and not await self.read(taken, receive):
            return
        for _ in range(self.pause_turns):
            await asyncio.sleep(0)
        body = b"%d" % number
        headers = [(b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def read(self, taken: Taken, receive) -> bool:
        """The whole body; False when the client went away before its end."""
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return False
            taken.body += message.get("body", b"")
            if not message.get("more_body", False):
                taken.complete = True
                return True


@dataclass
class Outcome:
    """What a run came to."""

    answers: list[tuple[int, bytes]]  # status and body of each answer
    taken: list[tuple]
    ended: bool  # the server ended the connection
    raw: bytes = field(repr=False, compare=False, default=b"")
    announced: bool = field(compare=False, default=False)  # the last answer said Connection: close


def read_outcome(case: Case, raw: bytes, recorder: Recorder, ended: bool) -> Outcome:
    """Put together what was seen; fails when the bytes are no proper answers."""
    methods = tuple(taken.scope["method"] for taken in recorder.taken)
    answers = read_answers(raw, methods, ended=ended)
    if b"HEAD " in case.send:
        with contextlib.suppress(WireError):  # a refusal with a body
            answers = max(answers, read_answers(raw, (*methods, "HEAD"), ended=ended), key=len)
    if raw.replace(b"HTTP/1.1 100 Continue\r\n\r\n", b"") and not answers:  # the body may not have come whole
        raise WireError(f"no whole answer in {raw!r}")
    return Outcome(
        [(answer.status, answer.body) for answer in answers],
        [taken.shown() for taken in recorder.taken],
        ended,
        raw,
        bool(answers) and answers[-1].announces_close,
    )


# ------------------------------------------------------------------------------------------- in memory
async def settled(peer, recorder: Recorder) -> None:
    """Turn the loop until nothing more happens."""
    quiet, before = 0, None
    for _ in range(MOST_TURNS):
        await asyncio.sleep(0)
        now = (len(peer.output), len(recorder.taken), peer.state, recorder.taken and len(recorder.taken[-1].body))
        quiet = quiet + 1 if now == before else 0
        before = now
        if quiet >= QUIET_TURNS + recorder.pause_turns:
            return
    raise AssertionError("the connection does not come to rest")


async def in_memory(case: Case, chunks: list[bytes], bench: Bench, *, turns: int = 0) -> Outcome:
    """Feed the pieces to a new connection, with so many turns of the loop between them."""
    recorder = bench.app
    recorder.taken = []
    recorder.reads = case.reads
    peer = bench.connect()
    for chunk in chunks:
        if peer.state != "open":
            break
        peer.feed(chunk)
        if turns:
            await turn(turns)
    await settled(peer, recorder)
    ended = peer.state != "open"
    assert not peer.aborted, f"aborted after {peer.output!r}"
    outcome = read_outcome(case, peer.output, recorder, ended)
    peer.lost()
    await turn(2)
    bench.peers.remove(peer)
    return outcome


# ------------------------------------------------------------------------------------------- over sockets
END = b"GET /end HTTP/1.1\r\nHost: end\r\nConnection: close\r\n\r\n"
END_SEEN = Seen(target=b"/end", headers=((b"host", b"end"), (b"connection", b"close")))


def made_to_end(case: Case) -> Case:
    """The case so that the server ends the connection: a last request is appended where it would be kept."""
    if not case.keeps_open:
        return case
    return replace(case, send=case.send + END, seen=(*case.seen, END_SEEN), closes=True)


async def over_socket(case: Case, chunks: list[bytes], address: tuple, recorder: Recorder) -> Outcome:
    """Send the pieces over a real connection and read to its end. A request that waits ends with our FIN."""
    recorder.taken = []
    recorder.reads = case.reads
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as client:
        client.setblocking(False)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await loop.sock_connect(client, address)
        raw = await asyncio.wait_for(exchange_bytes(loop, client, case, chunks), SOCKET_TIMEOUT_S)
    await turn(2)
    outcome = read_outcome(case, raw, recorder, not case.waits)
    if case.waits and outcome.answers and outcome.answers[-1][0] in AFTER_FIN:
        outcome.answers.pop()  # RFC 9112 section 8: an incomplete request may be refused before the end, or not
    return outcome


async def exchange_bytes(loop, client, case: Case, chunks: list[bytes]) -> bytes:
    """Send everything, read everything. A reset loses only what had not arrived; that is for the caller to judge."""
    raw = b""
    with contextlib.suppress(ConnectionResetError, BrokenPipeError):  # the server has closed before we were done
        for chunk in chunks:
            await loop.sock_sendall(client, chunk)
            await turn(1)
        if case.waits:
            client.shutdown(socket.SHUT_WR)
    with contextlib.suppress(ConnectionResetError):
        while piece := await loop.sock_recv(client, 65536):
            raw += piece
    return raw


# ------------------------------------------------------------------------------------------- what must be
def expected_statuses(case: Case) -> list[tuple[int, ...]]:
    """The statuses allowed for each answer, in order."""
    answered = [seen for seen in case.seen if seen.complete or not case.reads]
    return [(200,)] * len(answered) + ([case.refused] if case.refused else [])


def check_outcome(case: Case, outcome: Outcome) -> None:
    """The run came to what the case says. Raises AssertionError."""
    statuses = [status for status, _ in outcome.answers]
    if case.instead and statuses == [case.instead] and not outcome.taken:
        assert outcome.ended, "refused, and the connection is kept"
        return
    expected = expected_statuses(case)
    assert len(statuses) == len(expected), f"{statuses} are not {expected}: {outcome.raw!r}"
    for status, allowed in zip(statuses, expected, strict=True):
        assert status in allowed, f"{statuses} are not {expected}: {outcome.raw!r}"
    assert outcome.ended is case.closes, f"ended is {outcome.ended}"
    if case.closes and statuses and case.reads:  # that too much is left unread shows only behind the answer
        assert outcome.announced, f"the last answer does not announce the end: {outcome.raw!r}"
    check_order(case, outcome)
    assert len(outcome.taken) == len(case.seen), f"{len(outcome.taken)} requests: {outcome.taken}"
    for seen, taken in zip(case.seen, outcome.taken, strict=True):
        check_taken(case, seen, taken)


def check_order(case: Case, outcome: Outcome) -> None:
    """Each answer carries the number of its request."""
    for number, (status, body) in enumerate(outcome.answers):
        if status == 200 and case.seen[number].method != "HEAD":
            assert body == b"%d" % number, f"answer {number} is {body!r}"


def check_taken(case: Case, seen, taken: tuple) -> None:
    """The application saw what the case says."""
    items, body, complete = taken
    scope = dict(items)
    assert scope["type"] == "http"
    assert (scope["method"], scope["http_version"]) == (seen.method, seen.version), scope
    assert scope["path"] == path_of(seen), scope
    if raw_path_of(seen) is not None:
        assert scope["raw_path"] == raw_path_of(seen), scope
    if query_of(seen) is not None:
        assert scope["query_string"] == query_of(seen), scope
    assert all(type(scope[key]) is bytes for key in ("raw_path", "query_string")), scope
    assert type(scope["path"]) is str and type(scope["method"]) is str, scope
    if seen.headers is not None:
        assert scope["headers"] == list(seen.headers), scope["headers"]
    if case.reads:
        assert complete is seen.complete, (complete, seen)
        assert not complete or seen.body is None or body == seen.body, body
