"""Access lines: their bytes, when they are written, and what becomes of them when nobody reads."""

import asyncio
import contextlib
import io
import logging
import os
import re

import pytest
from answers import read_answers
from drive import GET, Bench, body, hello, request, start, turn

from fastasgi._access import FLUSH_S, AccessLog
from fastasgi._http1 import Http1
from fastasgi._memory import MemoryChannel
from fastasgi._runtime import Runtime
from fastasgi.config import Config
from fastasgi.formatters import ACCESS_FIELDS, ACCESS_LINE, compile_line, request_id
from fastasgi.logging import exclusion

STEPS = compile_line(">" + ACCESS_LINE)
LINE = b'>127.0.0.1:50000 - "GET / HTTP/1.1" 200 OK\n'


@pytest.fixture
def pipe():
    """Both ends of a pipe; the end of the writer does not block."""
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    os.set_blocking(writing, False)
    yield reading, writing
    for fd in (reading, writing):
        os.close(fd)


async def serve(access, data=GET, client=("127.0.0.1", 50000), count=1):
    """Have requests answered, one connection each."""
    loop = asyncio.get_running_loop()
    config = Config(hello, log_config=None)
    config.load()
    runtime = Runtime(config, hello, loop, handler_factory=Http1, access=access)
    for _ in range(count):
        channel = MemoryChannel(runtime, client=client)
        channel.feed(data)
        await turn(3)
        assert len(read_answers(channel.take_output(), ["GET"])) == 1
        channel.lost()
    await turn(3)
    return runtime


def read(fd):
    """What waits in the pipe."""
    try:
        return os.read(fd, 1 << 20)
    except BlockingIOError:
        return b""


async def test_lines_are_written_together(pipe):
    reading, writing = pipe
    access = AccessLog(asyncio.get_running_loop(), writing, STEPS)
    runtime = await serve(access, count=3)
    assert read(reading) == b""
    runtime.flush_access_log()
    assert read(reading) == LINE * 3
    runtime.flush_access_log()
    assert read(reading) == b""


async def test_a_line_does_not_wait_for_others(pipe):
    reading, writing = pipe
    await serve(AccessLog(asyncio.get_running_loop(), writing, STEPS))
    async with asyncio.timeout(100 * FLUSH_S):
        while not (found := read(reading)):
            await asyncio.sleep(FLUSH_S / 4)
    assert found == LINE


@pytest.mark.parametrize(
    ("data", "client", "line"),
    [
        (GET.replace(b"/ ", b'/a"b?q="c" ', 1), ("h", 1), b'h:1 - "GET /a%22b?q=%22c%22 HTTP/1.1" 200 OK\n'),
        (GET.replace(b"HTTP/1.1", b"HTTP/1.0"), ("::1", 5), b'::1:5 - "GET / HTTP/1.0" 200 OK\n'),
        (GET, None, b' - "GET / HTTP/1.1" 200 OK\n'),
    ],
)
async def test_the_fields_of_a_line(pipe, data, client, line):
    reading, writing = pipe
    access = AccessLog(asyncio.get_running_loop(), writing)
    await serve(access, data, client)
    access.flush()
    assert read(reading) == line


async def test_a_reader_that_has_gone_loses_lines_and_stops_nobody(caplog):
    reading, writing = os.pipe()
    access = AccessLog(asyncio.get_running_loop(), writing)
    os.close(reading)
    try:
        await serve(access)
        access.flush()
        assert access.dropped == 1
        await serve(access, count=2)
        access.flush()
        assert access.dropped == 3
        access.close()
    finally:
        os.close(writing)
    told = [message for message in caplog.messages if "dropped" in message]
    assert told == [f"{n} access lines were dropped so far: whoever reads them has gone" for n in (1, 3)]


async def test_a_reader_that_is_late_gets_its_lines(pipe):
    reading, writing = pipe
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(writing, b"x" * 4096)
    access = AccessLog(asyncio.get_running_loop(), writing, STEPS)
    await serve(access, count=2)
    access.flush()
    while read(reading):
        pass
    access.flush()
    assert read(reading) == LINE * 2
    assert access.dropped == 0


@pytest.mark.pins("logs.drops-counted")
async def test_lines_beyond_the_bound_are_dropped_and_counted(pipe, caplog):
    """The oldest are kept. It is said when they are first dropped, and how many they were when the reader goes on."""
    reading, writing = pipe
    access = AccessLog(asyncio.get_running_loop(), writing)
    bench = await bench_with(hello, access)
    peer = bench.connect()
    count = 3000
    for n in range(count):
        peer.feed(request(target=f"/{n:05d}" + "x" * 1000))
        await turn(3)
        peer.forget()
    assert 0 < access.dropped < count
    found = b""
    while piece := read(reading):
        found += piece
        access.flush()
    numbers = [int(line.split(b" /")[1][:5]) for line in found.splitlines()]
    assert numbers == list(range(count - access.dropped))
    text = "%d access lines were dropped so far: whoever reads them does not read in time"
    assert caplog.messages[-1] == text % access.dropped
    assert len(caplog.messages) <= 2
    access.close()
    await bench.close()


async def test_through_logging(caplog):
    """Where the user has handlers of their own; the arguments are those of `AccessFormatter`."""
    logger = logging.getLogger("test_access")
    with caplog.at_level(logging.INFO, logger.name):
        access = AccessLog(asyncio.get_running_loop(), logger=logger)
        await serve(access, GET.replace(b"/ ", b"/a?b ", 1))
        logger.setLevel(logging.WARNING)
        await serve(access)
    assert [record.args for record in caplog.records] == [("127.0.0.1:50000", "GET", "/a?b", "1.1", 200)]
    assert caplog.messages == ['127.0.0.1:50000 - "GET /a?b HTTP/1.1" 200']


# --- ids, exclusion, departures -----------------------------------------------------------------------------------

ID = re.compile(rb"\r\nx-request-id: ([^\r]*)\r\n")


async def bench_with(app, access=None, **options):
    bench = Bench(app, None, options)
    loop = asyncio.get_running_loop()
    bench.runtime = Runtime(bench.config, app, loop, handler_factory=Http1, clock=bench.clock, access=access)
    return bench


async def ids(app, *fields, **options):
    """The request ids in the answer to a request with these header fields."""
    bench = await bench_with(app, request_id_header="X-Request-ID", **options)
    peer = bench.connect()
    peer.feed(request(headers=fields))
    await turn(5)
    found = ID.findall(peer.output)
    await bench.close()
    return found


@pytest.mark.pins("logs.request-id")
@pytest.mark.parametrize("given", [b"a", b"abc-DEF_1.2~3+4/5=6:7@8;9", b"x" * 128])
async def test_a_valid_request_id_is_taken_over(given):
    assert await ids(hello, f"x-request-ID: {given.decode()}") == [given]


@pytest.mark.pins("logs.request-id")
@pytest.mark.parametrize("given", ["", "x" * 129, "a b", 'a"b', "caf\xe9", "a,b", "{a}", "a\tb"])
async def test_any_other_is_replaced(given):
    (found,) = await ids(hello, f"X-Request-ID: {given}")
    assert re.fullmatch(rb"[0-9a-f]{32}", found)


@pytest.mark.pins("logs.request-id")
async def test_request_ids_differ():
    found = [(await ids(hello))[0] for _ in range(20)]
    bench = await bench_with(hello, request_id_header="x-request-id")
    for _ in range(200):
        peer = bench.connect()
        peer.feed(GET)
        await turn(3)
        found += ID.findall(peer.output)
    await bench.close()
    assert len(set(found)) == len(found) == 220


@pytest.mark.pins("logs.request-id")
async def test_the_id_is_in_the_context_of_the_application_alone():
    seen = []

    async def app(scope, receive, send):
        seen.append(request_id.get())
        await asyncio.sleep(0)
        seen.append(request_id.get())
        await hello(scope, receive, send)

    assert await ids(app, "X-Request-ID: abc") == [b"abc"]
    assert seen == ["abc", "abc"]
    assert request_id.get() is None
    asyncio.get_running_loop().set_task_factory(lambda loop, coro, **given: asyncio.Task(coro, loop=loop, **given))
    assert await ids(app, "X-Request-ID: def") == [b"def"]
    assert seen[2:] == ["def", "def"]


@pytest.mark.pins("logs.request-id")
async def test_the_application_may_set_the_header_itself():
    async def app(scope, receive, send):
        await send(start(200, [(b"X-Request-ID", b"own"), (b"content-length", b"0")]))
        await send(body())

    bench = await bench_with(app, request_id_header="x-request-id")
    peer = bench.connect()
    peer.feed(request(headers=("x-request-id: theirs",)))
    await turn(3)
    assert peer.output.lower().count(b"x-request-id") == 1
    assert b"X-Request-ID: own\r\n" in peer.output
    assert b"\r\ndate: " in peer.output
    await bench.close()


@pytest.mark.pins("logs.request-id")
async def test_answers_of_the_server_and_log_lines_carry_the_id(caplog):
    async def app(scope, receive, send):
        await asyncio.sleep(0)
        raise LookupError("bug")

    assert await ids(app, "X-Request-ID: abc") == [b"abc"]
    assert [record.request_id for record in caplog.records if record.exc_info] == ["abc"]


@pytest.mark.pins("logs.exclude")
@pytest.mark.parametrize("by", ["fd", "logger"])
async def test_excluded_paths(by, pipe):
    reading, writing = pipe
    logger, lines = logging.Logger("fastasgi.access", logging.INFO), io.StringIO()
    logger.addHandler(logging.StreamHandler(lines))
    options = {"fd": writing} if by == "fd" else {"logger": logger}
    excluded = exclusion(["/health", "/metrics/*", "/a+b", "*.ico"])
    access = AccessLog(asyncio.get_running_loop(), exclude=excluded, **options)
    bench = await bench_with(hello, access)
    targets = ["/health", "/health?x", "/healthy", "/metrics/a/b", "/metrics", "/a+b", "/aab", "/x.ico"]
    targets.append("/" + "y" * 500)
    for target in targets * 2:
        bench.connect().feed(request(target=target))
        await turn(3)
    access.close()
    await bench.close()
    text = read(reading).decode() if by == "fd" else lines.getvalue()
    shown = [line.split('"')[1].split()[1] for line in text.splitlines()]
    assert shown == ["/healthy", "/metrics", "/aab", "/" + "y" * 500] * 2


def test_nothing_is_excluded_by_default():
    assert exclusion([]) is None
    assert exclusion(None) is None


async def test_after_close_nothing_is_written(pipe):
    reading, writing = pipe
    access = AccessLog(asyncio.get_running_loop(), writing)
    access.close()
    await serve(access)
    access.flush()
    access.close()
    assert read(reading) == b""


async def test_a_record_has_every_field_by_name():
    logger, kept = logging.Logger("fastasgi.access", logging.INFO), []
    logger.addFilter(lambda record: bool(kept.append(record)))
    access = AccessLog(asyncio.get_running_loop(), logger=logger)
    bench = await bench_with(hello, access, request_id_header="X-Request-ID")
    fields = ("User-Agent: me", "Referer: there", "X-Request-ID: abc")
    bench.connect().feed(request(target="/a?b", headers=fields))
    await turn(3)
    await bench.close()
    (record,) = kept
    assert record.args == ("127.0.0.1:50000", "GET", "/a?b", "1.1", 200)
    assert record.getMessage() == '127.0.0.1:50000 - "GET /a?b HTTP/1.1" 200'
    found = {name: getattr(record, name) for name in ACCESS_FIELDS if name not in ("timestamp", "duration_ms")}
    assert 0 <= found.pop("duration") < 60
    assert found == {
        "client": "127.0.0.1:50000", "client_addr": "127.0.0.1:50000", "method": "GET", "path": "/a", "query": "b",
        "full_path": "/a?b", "request_line": "GET /a?b HTTP/1.1", "http_version": "1.1", "status": 200,
        "status_code": 200, "bytes": 2, "request_id": "abc", "user_agent": "me", "referer": "there",
        "host": "example.com",
    }  # fmt: skip
