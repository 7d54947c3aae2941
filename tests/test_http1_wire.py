"""Wire cases through a whole connection: statuses, order, close, and what the application sees."""

from dataclasses import replace

import pytest
from drive import serving, turn
from wire import CASES, byte_by_byte, cut_in_two, tails
from wire_serve import Recorder, check_outcome, in_memory

from fastasgi.config import Config

SAMPLED_SPLITS = 12  # of the case with a tail; without one every cut is tried


def by_case(cases):
    return pytest.mark.parametrize(
        "case", [pytest.param(one, id=one.name, marks=pytest.mark.pins(*one.pins)) for one in cases]
    )


def serve(recorder, case):
    """A runtime with the options of the case; those of later issues are left out until they exist."""
    return serving(recorder, **{name: value for name, value in case.limits.items() if hasattr(Config, name)})


def ways_of(case, longer):
    """(name, pieces, turns of the loop between pieces): every cut of the case, some of its longer forms."""
    data = longer.send
    yield "whole", [data], 0
    yield "byte by byte", byte_by_byte(data), 0
    yield "byte by byte, with turns between", byte_by_byte(data), 1
    cuts = list(cut_in_two(data))
    step = 1 if longer is case else max(1, len(cuts) // SAMPLED_SPLITS)
    for number, (name, chunks) in enumerate(cuts[::step]):
        yield name, chunks, number % 2


@by_case(CASES)
async def test_case_in_memory(case):
    """Whole, byte by byte and cut in two, alone and with a tail: the same answers, and those of the case."""
    recorder = Recorder()
    async with serve(recorder, case) as bench:
        bench.app = recorder
        for longer in tails(case):
            expected = None
            for way, chunks, turns in ways_of(case, longer):
                try:
                    outcome = await in_memory(longer, chunks, bench, turns=turns)
                    expected = expected or outcome
                    check_outcome(longer, outcome)
                    assert outcome == expected, f"{outcome}\nwhole: {expected}"
                except AssertionError as error:
                    error.add_note(f"{way} of {longer.name}: {longer.send[:300]!r}")
                    raise


@pytest.mark.pins("head.pipelining")
@by_case([case for case in CASES if case.name.startswith(("pipeline-", "unread-"))])
async def test_pipeline_with_slow_application(case):
    """The same when every answer takes some turns of the loop: the next request waits."""
    recorder = Recorder(pause_turns=5)
    async with serve(recorder, case) as bench:
        bench.app = recorder
        for chunks in ([case.send], byte_by_byte(case.send)):
            check_outcome(case, await in_memory(case, chunks, bench))


async def test_requests_do_not_overlap():
    """A pipelined request is started when the answer before it is out."""
    active = most = 0

    class Counting(Recorder):
        async def __call__(self, scope, receive, send):
            nonlocal active, most
            active += 1
            most = max(most, active)
            await super().__call__(scope, receive, send)
            active -= 1

    recorder = Counting(pause_turns=3)
    case = next(case for case in CASES if case.name == "pipeline-ten")
    async with serving(recorder) as bench:
        bench.app = recorder
        check_outcome(case, await in_memory(case, [case.send], bench))
        check_outcome(case, await in_memory(case, byte_by_byte(case.send), bench))

    assert (active, most) == (0, 1)


@pytest.mark.pins("head.limit-concurrency")
@pytest.mark.parametrize("limit", [1, 3])
async def test_concurrency(limit):
    """Requests beyond limit_concurrency get 503; when one has ended the next is served again."""
    body = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n"

    recorder = Recorder()
    async with serving(recorder, limit_concurrency=limit) as bench:
        busy = [bench.connect() for _ in range(limit)]
        for peer in busy:
            peer.feed(body)
        idle = bench.connect()  # an idle connection does not count
        late = bench.connect()
        refused = await late.answer(data=b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert refused.status == 503
        await turn(3)  # on 3.11 applications start a turn later
        assert len(recorder.taken) == limit, "the application was started"
        for peer in busy:
            assert (await peer.answer(data=b"b")).status == 200
        await turn(3)  # an answer may be seen before its task has ended
        assert (await idle.answer(data=b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")).status == 200


@pytest.mark.pins("head.unread-body")
async def test_unread_body_that_breaks():
    """A body that nobody reads and that is broken ends the connection after the answer, without a second one."""
    first = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"

    recorder = Recorder(reads=False)
    async with serving(recorder) as bench:
        peer = bench.connect()
        peer.feed(first)
        await peer.answer()
        peer.feed(b"5\r\nhello\r\ng")
        await peer.until_ended()
        assert [answer.status for answer in peer.answers()] == [200]
        assert not peer.aborted


@pytest.mark.pins("head.unread-body", "head.limit-request-body")
async def test_unread_body_over_the_body_limit():
    """The body limit holds for a body that nobody reads: the connection ends."""
    first = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"

    async with serving(Recorder(reads=False), limit_request_body=10) as bench:
        peer = bench.connect()
        peer.feed(first)
        await peer.answer()
        peer.feed(b"b\r\nhello world\r\n0\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n")
        await peer.until_ended()
        assert [answer.status for answer in peer.answers()] == [200]


@pytest.mark.pins("head.error-answered", "head.pipelining")
async def test_error_waits_for_answers_before_it():
    """Garbage behind a request is refused when that request has been answered, not before."""
    recorder = Recorder(pause_turns=20)
    async with serving(recorder) as bench:
        peer = bench.connect()
        peer.feed(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n\x00garbage")
        answers = await peer.several(2)
        assert [answer.status for answer in answers] == [200, 400]
        assert answers[1].announces_close and not answers[0].announces_close
        await peer.until_ended()


@pytest.mark.pins("head.target-absolute")
async def test_scheme_is_that_of_the_connection():
    """An absolute-form target does not turn a clear connection into an encrypted one (9112 3.3)."""
    recorder = Recorder()
    async with serving(recorder) as bench:
        await bench.connect().answer(data=b"GET http://y/ HTTP/1.1\r\nHost: x\r\n\r\n")
        assert recorder.taken[0].scope["scheme"] == "http"


@pytest.mark.pins("head.raw-path", "head.path-decoded")
async def test_root_path_is_in_front():
    """With root_path the path begins with it; the raw path stays as received (both by the ASGI specification)."""
    recorder = Recorder()
    async with serving(recorder, root_path="/api") as bench:
        await bench.connect().answer(data=b"GET /a%20b?c HTTP/1.1\r\nHost: x\r\n\r\n")
        scope = recorder.taken[0].scope
        assert (scope["root_path"], scope["path"]) == ("/api", "/api/a b")
        assert (scope["raw_path"], scope["query_string"]) == (b"/a%20b", b"c")


@pytest.mark.pins("head.error-answered")
@by_case([case for case in CASES if case.refused and not case.seen][::7])
async def test_refusal_is_a_whole_answer(case):
    """A refusal has a length or a chunked body, a date, and says that the connection ends."""
    async with serve(Recorder(), replace(case)) as bench:
        peer = bench.connect()
        peer.feed(case.send)
        answer = await peer.answer("HEAD" if case.send.startswith(b"HEAD") else "GET")
        assert answer.status in case.refused
        assert answer.announces_close
        assert answer.framing in ("length", "none")
        assert answer.one("date") and answer.one("server")
        await peer.until_ended()
