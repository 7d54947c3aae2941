"""Whether a server answers rightly: before it is loaded and after. During a run the load client compares each answer.

Asked is the scenario's request, twice over one connection; then, where the application answers a query string with
what arrived, the same request with a query that was never asked before, twice, byte for byte the same. The application
counts these calls, so the second answer differs from the first: a server that answers from a cache cannot know it.
"""

import hashlib
import json
import secrets
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from typing import Any

from .scenarios import HOST, NONCE, HttpScenario, excerpt

TIMEOUT_S = 10.0


class WrongAnswer(Exception):
    """A server answered something else than the scenario asks for; says what was expected and what came."""


@dataclass(frozen=True)
class Answer:
    """One response: status, headers (names in lower case, in order), whole body."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes


def read_answer(stream: HTTPResponse) -> Answer:
    """Read one response to its end."""
    stream.begin()
    body = stream.read()
    return Answer(stream.status, [(name.lower(), value) for name, value in stream.getheaders()], body)


def ask(port: int, *requests: bytes) -> Iterator[Answer]:
    """Send requests one after the other over one connection; give the answer to each."""
    with socket.create_connection((HOST, port), timeout=TIMEOUT_S) as connection:
        for request in requests:
            connection.sendall(request)
            yield read_answer(HTTPResponse(connection))


def verify(port: int, scenario: HttpScenario, *, is_floor: bool = False) -> None:
    """Raise WrongAnswer unless the server on this port answers as the scenario asks for.

    The floor program has one fixed answer: it is asked for no other.
    """
    try:
        for answer in ask(port, scenario.request, scenario.request):
            check(scenario, answer, scenario.body)
        if is_floor:
            return
        if scenario.live:
            _verify_live(port, scenario, *scenario.live)
        if scenario.reflects:
            _verify_reflected(port, scenario)
    except HTTPException as error:
        raise WrongAnswer(f"expected a whole answer, got {type(error).__name__}: {error}") from error
    except OSError as error:
        raise WrongAnswer(f"expected an answer, the connection failed: {error}") from error


def check(scenario: HttpScenario, answer: Answer, body: bytes) -> None:
    """Raise WrongAnswer unless this is an answer with this body."""
    if answer.status != 200:
        raise WrongAnswer(f"expected status 200, got {answer.status}")
    if answer.body != body:
        raise WrongAnswer(f"expected {excerpt(body)}, got {excerpt(answer.body)}")
    missing = [pair for pair in scenario.must_have if pair not in answer.headers]
    if missing:
        raise WrongAnswer(f"expected the header {missing[0]}, got {answer.headers}")


def _verify_live(port: int, scenario: HttpScenario, request: bytes, body: bytes) -> None:
    """Ask with two nonces that were never used before."""
    nonces = [fresh_nonce(), fresh_nonce()]
    requests = [request.replace(NONCE.encode(), nonce) for nonce in nonces]
    for nonce, answer in zip(nonces, ask(port, *requests), strict=True):
        check(scenario, answer, body.replace(NONCE.encode(), nonce))


def fresh_nonce() -> bytes:
    """Return hexadecimal digits that nobody has seen, as many as NONCE has characters."""
    return secrets.token_hex(len(NONCE) // 2).encode()


def with_query(request: bytes, query: bytes) -> bytes:
    """Return the request with this query."""
    method, target, rest = request.split(b" ", 2)
    return b" ".join([method, target.partition(b"?")[0] + b"?" + query, rest])


def _verify_reflected(port: int, scenario: HttpScenario) -> None:
    """Ask what arrived, the same twice: both tell what was sent, and the application counted both."""
    nonce = fresh_nonce()
    request = with_query(scenario.request, nonce)
    first, second = (_read_reflection(answer) for answer in ask(port, request, request))
    for arrived in (first, second):
        _check_arrived(request, nonce, arrived)
    if first["call"] == second["call"]:
        raise WrongAnswer(
            "expected each request to reach the application, the same one twice got the same answer:"
            f" call {first['call']} of the application, as from a cache"
        )


def _read_reflection(answer: Answer) -> dict[str, Any]:
    if answer.status != 200:
        raise WrongAnswer(f"expected status 200 for a request with a query, got {answer.status}")
    try:
        arrived = json.loads(answer.body)
    except ValueError:
        arrived = None
    if not isinstance(arrived, dict) or not {"call", "method", "path", "query", "headers", "body"} <= arrived.keys():
        raise WrongAnswer(f"expected what the application saw of a request with a query, got {excerpt(answer.body)}")
    return arrived


def _check_arrived(request: bytes, nonce: bytes, arrived: dict[str, Any]) -> None:
    """Raise WrongAnswer unless the application saw the request as it was sent (a server may add headers)."""
    head, _, body = request.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    method, target, _ = first.split(" ")
    sent = {"method": method, "path": target.partition("?")[0], "query": nonce.decode()}
    sent["body"] = hashlib.sha256(body).hexdigest()
    for name, value in sent.items():
        if arrived[name] != value:
            raise WrongAnswer(f"expected the application to see the {name} {value!r}, it saw {arrived[name]!r}")
    seen = [tuple(pair) for pair in arrived["headers"]]
    for line in lines:
        name, _, value = line.partition(": ")
        if (name.lower(), value) not in seen:
            raise WrongAnswer(f"expected the application to see the header {(name.lower(), value)}, it saw {seen}")
