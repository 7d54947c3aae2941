"""Signals: every server of a process hears them, and the handlers of before come back."""

import asyncio
import contextlib
import signal

import pytest
from drive import hello

from fastasgi.config import Config
from fastasgi.worker import Server

PATIENCE_S = 15.0
SIGNALS = [signal.SIGINT, signal.SIGTERM]


def handlers():
    return [signal.getsignal(each) for each in SIGNALS]


@pytest.fixture(autouse=True)
def before():
    """Handlers that can be told from all others; none of ours may be left."""
    kept = handlers()
    mine = []
    for each in SIGNALS:
        mine.append(lambda number, frame: None)
        signal.signal(each, mine[-1])
    yield mine
    left = handlers()
    for each, handler in zip(SIGNALS, kept, strict=True):
        signal.signal(each, handler)
    assert left == mine


class Serving:
    """Servers that run in the loop of the test."""

    def __init__(self):
        self.tasks = []

    async def start(self):
        """One more server, which has started."""
        config = Config(hello, host="127.0.0.1", port=0, lifespan="off", log_config=None, access_log=False)
        server = Server(config)
        task = asyncio.ensure_future(server.serve())
        self.tasks.append((server, task))
        async with asyncio.timeout(PATIENCE_S):
            while not server.started:
                assert not task.done(), task.result()
                await asyncio.sleep(0)
        return server, task

    async def stop(self, server, task):
        server.should_exit = True
        async with asyncio.timeout(PATIENCE_S):
            await task


@contextlib.asynccontextmanager
async def servers():
    found = Serving()
    try:
        yield found
    finally:
        for server, task in found.tasks:
            await found.stop(server, task)


@pytest.mark.pins("process.signal-drain")
@pytest.mark.parametrize("number", SIGNALS)
async def test_two_servers_in_a_loop_both_hear_a_signal(number):
    async with servers() as running:
        _, first = await running.start()
        _, second = await running.start()
        signal.raise_signal(number)
        async with asyncio.timeout(PATIENCE_S):
            await asyncio.gather(first, second)


@pytest.mark.parametrize("ends_first", [0, 1])
async def test_the_end_of_one_server_leaves_the_other_its_signals(ends_first, before):
    """In the order of their start, and against it."""
    async with servers() as running:
        both = [await running.start(), await running.start()]
        await running.stop(*both.pop(ends_first))
        ((server, task),) = both
        assert server.started and not task.done()
        assert handlers() != before
        signal.raise_signal(signal.SIGTERM)
        async with asyncio.timeout(PATIENCE_S):
            await task
    assert handlers() == before


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
async def test_the_last_server_restores_the_handlers(order, before):
    async with servers() as running:
        both = [await running.start(), await running.start()]
        for index in order:
            await running.stop(*both[index])
        assert handlers() == before
