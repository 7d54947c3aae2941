"""Access lines: their bytes, when they are written, and what becomes of them when nobody reads."""

import asyncio
import contextlib
import logging
import os

import pytest
from answers import read_answers
from drive import GET, hello, turn

from fastasgi._access import FLUSH_S, AccessLog
from fastasgi._http1 import Http1
from fastasgi._memory import MemoryChannel
from fastasgi._runtime import Runtime
from fastasgi.config import Config

LINE = b'>127.0.0.1:50000 - "GET / HTTP/1.1" 200 OK\n'


@pytest.fixture
def pipe():
    """Both ends of a pipe; the end of the writer does not block."""
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    os.set_blocking(writing, False)
    yield reading, writing
    for fd in (reading, writing):
        with contextlib.suppress(OSError):
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
    access = AccessLog(asyncio.get_running_loop(), writing, b">")
    runtime = await serve(access, count=3)
    assert read(reading) == b""
    runtime.flush_access_log()
    assert read(reading) == LINE * 3
    runtime.flush_access_log()
    assert read(reading) == b""


async def test_a_line_does_not_wait_for_others(pipe):
    reading, writing = pipe
    await serve(AccessLog(asyncio.get_running_loop(), writing, b">"))
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


async def test_a_reader_that_has_gone_loses_lines_and_stops_nobody(pipe):
    reading, writing = pipe
    os.close(reading)
    access = AccessLog(asyncio.get_running_loop(), writing)
    await serve(access)
    access.flush()
    assert access.dropped == 1
    await serve(access)
    access.flush()
    assert access.dropped == 2


async def test_a_reader_that_is_late_gets_its_lines(pipe):
    reading, writing = pipe
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(writing, b"x" * 4096)
    access = AccessLog(asyncio.get_running_loop(), writing, b">")
    await serve(access, count=2)
    access.flush()
    while read(reading):
        pass
    access.flush()
    assert read(reading) == LINE * 2
    assert access.dropped == 0


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
