"""What nobody should do to the core, and some do: none of it stops, crashes or leaks."""

import asyncio
import contextlib
import gc
import logging
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from drive import (
    BODY,
    GET,
    START,
    body,
    echo,
    hello,
    request,
    serving,
    start,
    turn,
    until,
)
from net import ON_LINUX, PATIENCE_S, listener, listening

from fastasgi._access import AccessLog
from fastasgi._http1 import Http1
from fastasgi._runtime import Runtime

TESTS = Path(__file__).parent
PROCESS_S = 20.0

on_linux = pytest.mark.skipif(not ON_LINUX, reason="the socket I/O of our own needs epoll")


def run_script(script, **environment):
    """Run a script that has the harness at hand, in a process of its own; returns what it wrote."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", script],
            cwd=TESTS.parent,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS.parent), str(TESTS)]), **environment},
            capture_output=True,
            text=True,
            timeout=PROCESS_S,
        )
    except subprocess.TimeoutExpired:
        raise AssertionError(f"still running after {PROCESS_S} s") from None
    assert done.returncode == 0, (done.returncode, done.stderr[-3000:])
    return done.stdout


@contextlib.contextmanager
def reported():
    """What the exception handler of the loop is told, instead of the harness."""
    loop = asyncio.get_running_loop()
    before = loop.get_exception_handler()
    contexts = []
    loop.set_exception_handler(lambda loop, context: contexts.append(context))
    yield contexts
    loop.set_exception_handler(before)


class Failing(logging.Filter):
    """A filter that the user has plugged in, with a bug."""

    def filter(self, record):
        raise RuntimeError("bug of a filter")


class FailingHandler(logging.Handler):
    """A handler with a bug."""

    def handle(self, record):
        raise RuntimeError("bug of a handler")


def failing_logger(what):
    logger = logging.Logger("access", logging.INFO)
    logger.addHandler(FailingHandler() if what == "handler" else logging.NullHandler())
    if what == "filter":
        logger.addFilter(Failing())
    return logger


def with_access(bench, access):
    """Have the bench write access lines."""
    loop = asyncio.get_running_loop()
    bench.runtime = Runtime(
        bench.config, bench.config.app, loop, handler_factory=Http1, clock=bench.clock, access=access
    )
    bench.runtime.tick()


async def late(scope, receive, send):
    """`hello`, from a later turn of the loop."""
    await asyncio.sleep(0)
    await hello(scope, receive, send)


# ------------------------------------------------------------------------------------------ memory
COLLECTED_TOGETHER = """
import asyncio, gc
from drive import Bench, MemoryChannel, hello

async def main():
    for _ in range(20):
        bench = Bench(hello, None, {})
        bench.cycle = [bench, [MemoryChannel(bench.runtime) for _ in range(5)]]
        del bench
        gc.collect()

asyncio.run(main())
gc.collect()
print("ended")
"""


@pytest.mark.parametrize("allocator", ["debug", "malloc"])
def test_a_runtime_is_collected_together_with_its_channels(allocator):
    """None may unlink itself from the lists of a Runtime that is freed. A release build may survive
    such a write; the address sanitizer does not."""
    output = run_script(COLLECTED_TOGETHER, PYTHONMALLOC=allocator)
    assert output == "ended\n"


async def test_iterating_over_headers_may_replace_the_status():
    async def app(scope, receive, send):
        message = start(int("404"))

        def headers():
            message["status"] = None
            message["headers"] = None
            for number in range(300, 600):
                assert int(str(number)) == number  # others take the freed memory
            yield (b"x-first", b"1")
            yield (b"x-second", b"2")

        message["headers"] = headers()
        await send(message)
        await send(body(b"x"))

    async with serving(app) as bench:
        answer = await bench.connect().answer(data=GET)
        assert answer.status == 404
        assert answer.body == b"x"
        assert (b"x-second", b"2") in answer.fields


def test_the_status_outlives_its_message_in_a_checking_allocator():
    script = """
import asyncio
from drive import GET, body, serving
async def app(scope, receive, send):
    message = {"type": "http.response.start", "status": int("404")}
    def headers():
        message["status"] = None
        junk = [object() for _ in range(100)]
        yield (b"a", b"b")
    message["headers"] = headers()
    await send(message)
    await send(body(b"x"))
async def main():
    async with serving(app) as bench:
        print((await bench.connect().answer(data=GET)).status)
asyncio.run(main())
"""
    assert run_script(script, PYTHONMALLOC="debug") == "404\n"


async def test_receive_polled_and_cancelled_does_not_grow(only_new):
    seen = []

    def futures():
        return sum(type(each) is asyncio.Future for each in gc.get_objects())

    async def app(scope, receive, send):
        await receive()
        for count in range(1, 401):
            task = asyncio.ensure_future(receive())
            await asyncio.sleep(0)
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            if count % 200 == 0:
                seen.append(futures())
        await send(START)
        await send(BODY)

    async with serving(app) as bench:
        await bench.connect().answer(data=GET)
    assert max(seen) < 50, seen


# ------------------------------------------------------------------------------------------ errors
@pytest.mark.time_limit(5)
@pytest.mark.parametrize("ring", ["itself", "two", "group"])
async def test_causes_in_a_ring_end(ring, caplog):
    """An error raised after the client has gone is searched for ClientDisconnected, and the search ends."""

    async def app(scope, receive, send):
        await receive()
        await receive()
        error, other = ValueError("one"), KeyError("two")
        error.__cause__ = error
        if ring == "two":
            error.__cause__, other.__cause__ = other, error
        elif ring == "group":
            error.__cause__ = ExceptionGroup("three", [error, other])
        raise error

    async with serving(app) as bench:
        peer = bench.connect()
        peer.feed(GET)
        await turn(3)
        peer.lost()
        await until(lambda: bench.idle, "the request has ended")


@pytest.mark.parametrize("what", ["filter", "handler"])
@pytest.mark.parametrize("app", [hello, late])
async def test_a_failing_access_log_costs_no_answer(app, what):
    """The first answer is whole, the connection goes on, and the error is told."""
    async with serving(app) as bench:
        with_access(bench, AccessLog(asyncio.get_running_loop(), logger=failing_logger(what)))
        peer = bench.connect()
        with reported() as contexts:
            for _ in range(3):
                assert (await peer.answer(data=GET)).status == 200
                await turn(5)
                peer.forget()
        assert len(contexts) == 3
        assert peer.state == "open"
        assert bench.runtime.requests_active == 0
        bench.runtime.drain()
        assert peer.closed


@pytest.mark.parametrize("what", ["filter", "handler"])
@pytest.mark.parametrize("turns", [0, 1])
async def test_a_failing_error_log_leaks_no_request(turns, what, monkeypatch):
    """The application fails, and so does the report of it."""
    logger = logging.getLogger("fastasgi.error")
    plugged = Failing() if what == "filter" else FailingHandler()
    monkeypatch.setattr(logger, "filters" if what == "filter" else "handlers", [plugged])

    async def app(scope, receive, send):
        for _ in range(turns):
            await asyncio.sleep(0)
        raise ValueError("bug of an application")

    async with serving(app) as bench:
        peer = bench.connect()
        with reported() as contexts:
            peer.feed(GET)
            await until(lambda: bench.idle or peer.answers(), "the request has ended")
            await turn(5)
        assert contexts
        assert bench.runtime.requests_active == 0
        peer.lost()
        assert bench.runtime.connections == 0


@on_linux
async def test_a_client_bound_to_a_name_that_is_no_text(tmp_path, monkeypatch):
    """A Unix socket may be named by any bytes; its access line has none that could break it."""
    monkeypatch.chdir(tmp_path)
    reading, writing = os.pipe()
    from fastasgi._poller import Poller

    loop = asyncio.get_running_loop()
    async with serving(late) as bench:
        with_access(bench, AccessLog(loop, fd=writing))
        poller = Poller(bench.runtime)
        where = listener("unix", "s")
        poller.listen(where)
        try:
            for name in (b"c\xff", b'c\n1.2.3.4:5 - "GET'):
                with socket.socket(socket.AF_UNIX) as sock:
                    sock.bind(name)
                    sock.setblocking(False)
                    sock.connect("s")
                    for _ in range(2):
                        async with asyncio.timeout(PATIENCE_S):
                            await loop.sock_sendall(sock, GET)
                            assert (await loop.sock_recv(sock, 1000)).startswith(b"HTTP/1.1 200 OK")
                await until(lambda: bench.idle, "the client has gone")
            bench.runtime.flush_access_log()
            lines = os.read(reading, 1 << 16).splitlines()
        finally:
            poller.close()
            where.close()
            os.close(reading)
            os.close(writing)
    assert len(lines) == 4
    assert all(line.endswith(b' - "GET / HTTP/1.1" 200 OK') for line in lines)


@pytest.mark.pins("response.raises-before")
@pytest.mark.parametrize("app", [hello, late])
async def test_a_task_factory_that_raises_gives_500(app, caplog):
    def factory(loop, coroutine, **options):
        coroutine.close()
        raise RuntimeError("bug of a factory")

    loop = asyncio.get_running_loop()
    async with serving(app) as bench:
        peer = bench.connect()
        loop.set_task_factory(factory)
        try:
            peer.feed(GET)
        finally:
            loop.set_task_factory(None)
        answer = await peer.answer()
        assert answer.status == 500
        assert answer.announces_close
        assert bench.runtime.requests_active == 0


# ------------------------------------------------------------------------------------ access lines
NOBODY_READS = """
import asyncio, os, sys
from drive import GET, Bench, hello
from fastasgi._access import AccessLog
from fastasgi._http1 import Http1
from fastasgi._runtime import Runtime

async def main():
    access = AccessLog(asyncio.get_running_loop(), 1)
    bench = Bench(hello, None, {})
    loop = asyncio.get_running_loop()
    bench.runtime = Runtime(
        bench.config, hello, loop, handler_factory=Http1, clock=bench.clock, access=access)
    peer = bench.connect()
    for _ in range(4000):
        peer.feed(GET)
        await asyncio.sleep(0)
        peer.channel.take_output()
    bench.runtime.flush_access_log()
    assert bench.runtime.requests_total == 4000
    sys.stderr.write("served\\n")
    sys.stderr.flush()
    os._exit(0)

asyncio.run(main())
"""


def test_a_pipe_that_nobody_reads_does_not_stop_the_worker():
    """Its standard output is a pipe, which stays in its blocking mode as others write to it too."""
    child = subprocess.Popen(
        [sys.executable, "-c", NOBODY_READS],
        cwd=TESTS.parent,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS.parent), str(TESTS)])},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        try:
            assert child.wait(10) == 0
        except subprocess.TimeoutExpired:
            raise AssertionError("the worker has stopped") from None
        assert child.stderr.read() == b"served\n"
        lines = child.stdout.read().split(b"\n")
        assert set(lines[:-1]) == {b'127.0.0.1:50000 - "GET / HTTP/1.1" 200 OK'}
    finally:
        child.kill()
        child.wait()
        child.stdout.close()
        child.stderr.close()


class Keeping(logging.Handler):
    """Keeps the lines."""

    def __init__(self):
        super().__init__()
        self.lines = []

    def emit(self, record):
        self.lines.append(record.getMessage())


@pytest.mark.parametrize("by", ["fd", "logger"])
async def test_quotation_marks_do_not_end_the_field_of_an_access_line(by):
    loop = asyncio.get_running_loop()
    reading, writing = os.pipe()
    logger, kept = logging.Logger("access", logging.INFO), Keeping()
    logger.addHandler(kept)
    try:
        async with serving(hello) as bench:
            with_access(bench, AccessLog(loop, fd=writing) if by == "fd" else AccessLog(loop, logger=logger))
            await bench.connect().answer(data=request(target='/a"-200-"b?q"r'))
            bench.runtime.flush_access_log()
        (line,) = os.read(reading, 1 << 16).decode().splitlines() if by == "fd" else kept.lines
    finally:
        os.close(reading)
        os.close(writing)
    assert line.startswith('127.0.0.1:50000 - "GET /a%22-200-%22b?q%22r HTTP/1.1" 200')


# ----------------------------------------------------------------------------------- the connection
@on_linux
@pytest.mark.pins("process.signal-drain")
async def test_a_request_that_came_before_the_drain_is_answered():
    """It waits in the kernel and the loop has not looked yet: no reset; the answer announces the end."""
    async with listening(hello, "socket") as net:
        client = await net.dial()
        assert (await client.answer(data=GET)).status == 200
        client.sock.send(GET)
        net.runtime.drain()
        answer = await client.answer()
        assert answer.status == 200
        assert answer.announces_close
        assert await client.rest() == b""
        assert not client.was_reset


@on_linux
@pytest.mark.pins("response.receive-wakes")
async def test_an_end_behind_pipelined_bytes_is_a_disconnect():
    got = []

    async def app(scope, receive, send):
        got.append((await receive())["type"])
        got.append((await receive())["type"])

    async with listening(app, "socket") as net:
        client = await net.dial()
        await client.send(GET)
        await net.until(lambda: got, "the request has begun")
        await client.send(GET)
        client.close()
        await net.until(lambda: len(got) == 2, "the end was seen")
        assert got == ["http.request", "http.disconnect"]


@pytest.mark.pins("response.expect-continue")
async def test_continue_is_sent_although_the_response_has_begun():
    """A start is held until the first piece of the body, so the client can still be told to continue."""

    async def app(scope, receive, send):
        await send(start(200, [(b"content-length", b"5")]))
        message = await receive()
        await send(body(message["body"]))

    async with serving(app) as bench:
        peer = bench.connect()
        peer.feed(request("POST", headers=("Expect: 100-continue",), length=5))
        await until(lambda: peer.output, "100 Continue")
        assert peer.output == b"HTTP/1.1 100 Continue\r\n\r\n"
        peer.feed(b"hello")
        answer = await peer.answer("POST")
        assert answer.body == b"hello"
        assert [interim.status for interim in answer.interim] == [100]


@pytest.mark.pins("head.leading-empty-line", "slow.keep-alive")
@pytest.mark.parametrize(
    ("end", "cut"),
    [("keep-alive", True), ("drain", True), ("drain", False), ("request", True), ("request", False)],
)
async def test_an_empty_line_behind_a_body_leaves_the_connection_idle(end, cut):
    """Old clients send one behind a POST. It begins no head: no 408 comes, and a drain need not wait.
    `cut`: it comes in a piece of its own."""
    options = {"timeout_keep_alive": 5, "timeout_request_head": 60}
    async with serving(echo, **options) as bench:
        peer = bench.connect()
        data = request("POST", body=b"hello")
        peer.feed(data if cut else data + b"\r\n")
        assert (await peer.answer("POST")).body == b"hello"
        if cut:
            peer.feed(b"\r\n")
        peer.forget()
        await turn(5)
        if end == "keep-alive":
            await bench.pass_time(4)
            assert peer.state == "open"
            await bench.pass_time(3)
        elif end == "drain":
            bench.runtime.drain()
        else:
            assert (await peer.answer(data=GET)).status == 200
            return
        assert peer.closed
        assert peer.output == b""
