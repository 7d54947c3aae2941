"""`RequestParser` against other parsers: llhttp itself with our additional checks (`model`), and h11."""

import h11
import pytest
from model import KEEP, agrees, verdict
from wire import BY_NAME, CASES, fold, relevant, tails, until_close

from fastasgi._probe import parse

pytestmark = pytest.mark.pins("head.cut-anywhere")

# The model knows no limits; h11 has limits of its own.
UNLIMITED = [case for case in CASES if not case.name.startswith("limit-")]
TAKEN = [case for case in UNLIMITED if case.seen and not case.refused and not case.instead]


@pytest.mark.parametrize("case", [pytest.param(c, id=c.name) for c in UNLIMITED])
def test_case_against_llhttp(case):
    """Where we accept llhttp accepted the same; where only we refuse it is one of our own checks."""
    for longer in tails(case):
        agrees(longer.send, until_close(fold(parse([longer.send], KEEP))))


@pytest.mark.parametrize("case", [pytest.param(c, id=c.name) for c in CASES if c.name.startswith("limit-")])
def test_limits_only_add_refusals(case):
    """What is accepted under limits is accepted the same without them, by llhttp too."""
    limits = {name: value for name, value in case.limits.items() if name.startswith("limit_")}
    parsed = fold(parse([case.send], KEEP | limits))
    if parsed.error is None:
        agrees(case.send, until_close(parsed))


# --------------------------------------------------------------------------------------------- h11
# What h11 0.16 does not take, or takes otherwise, although it is right.
NOT_H11 = {
    "host-http10-keep-alive-missing": "h11 closes every HTTP/1.0 connection",
    "keep-alive-http10-any-case": "h11 closes every HTTP/1.0 connection",
    "keep-alive-http10-in-list": "h11 closes every HTTP/1.0 connection",
    "pipeline-http10-keep-alive": "h11 closes every HTTP/1.0 connection",
    "empty-line-before": "h11 takes no empty line before a request",
    "empty-line-before-second": "h11 takes no empty line before a request",
    "empty-line-before-each": "h11 takes no empty line before a request",
    "empty-line-behind-body": "h11 takes no empty line before a request",
}


def read_with_h11(data: bytes) -> list[tuple]:
    """(method, target, version, headers, body) of every request, each answered so that the next can come."""
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
    connection.receive_data(data)
    found = []
    while True:
        event = connection.next_event()
        if isinstance(event, h11.Request):
            found.append([event.method, event.target, event.http_version, list(event.headers), b""])
        elif isinstance(event, h11.Data):
            found[-1][4] += bytes(event.data)
        elif isinstance(event, h11.EndOfMessage):
            connection.send(h11.Response(status_code=204, headers=[]))
            connection.send(h11.EndOfMessage())
            if connection.our_state is not h11.DONE or connection.their_state is not h11.DONE:
                return found
            connection.start_next_cycle()
        else:
            return found


@pytest.mark.parametrize("case", [pytest.param(c, id=c.name) for c in TAKEN if c.reads])
def test_valid_case_against_h11(case):
    """What we accept h11 reads the same."""
    if NOT_H11.get(case.name):
        pytest.skip(NOT_H11[case.name])
    ours = relevant(case, fold(parse([case.send], KEEP)))
    theirs = read_with_h11(case.send)
    assert len(ours.messages) == len(theirs)
    for message, (method, target, version, headers, body) in zip(ours.messages, theirs, strict=True):
        assert (message.method.encode(), message.version.encode(), message.body) == (method, version, body)
        if target.startswith((b"/", b"*")):
            assert message.target.removesuffix(b"?") == target.removesuffix(b"?")
            lowered = [(n, v.lower() if n == b"transfer-encoding" else v) for n, v in message.headers]
            lowered = [(n, v.lower() if n == b"expect" else v) for n, v in lowered]
            assert lowered == [(n, v.lower() if n == b"expect" else v) for n, v in headers]


def test_the_model_refuses_what_the_cases_refuse():
    """Model and cases were written apart from each other: they agree."""
    for case in UNLIMITED:
        if case.instead:
            continue
        expected = verdict(case.send)
        if 0 in expected.refused:
            continue
        assert bool(expected.refused) == bool(case.refused), (case.name, expected)
        if case.refused:
            assert expected.refused & set(case.refused), (case.name, expected)


def test_names_of_exceptions_exist():
    """The list of what h11 does otherwise names cases that there are."""
    assert set(NOT_H11) <= set(BY_NAME)
