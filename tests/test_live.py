"""The counters of live objects of a debug build: every object of a connection is gone when the connection is."""

import asyncio
import contextlib
import gc
import socket

import pytest
from drive import GET, hello, request, serving, turn, until

from fastasgi._http1 import Http1
from fastasgi._live import live_objects
from fastasgi._poller import Poller
from fastasgi._runtime import Runtime
from fastasgi.config import Config

pytestmark = pytest.mark.skipif(not live_objects(), reason="counted in debug builds only")


@pytest.fixture
def no_collection():
    """By reference counts alone."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


IS_EAGER = hasattr(asyncio, "eager_task_factory")
SPARE = {"Http1Exchange": 1} if IS_EAGER else {}
"""The one that a runtime keeps, where tasks end at once."""


def grown(before):
    """What there is more of than before."""
    return {name: n - before[name] for name, n in live_objects().items() if n != before[name]}


async def test_objects_of_a_connection(no_collection):
    before = live_objects()
    async with serving(hello) as bench:
        peer = bench.connect()
        assert grown(before) == {"MemoryChannel": 1, "Http1": 1, "RequestParser": 1}
        peer.feed(GET)
        await turn(3)
        peer.lost()
        bench.peers.clear()
        del peer
        await turn(3)
        assert grown(before) == SPARE
        del bench
    assert grown(before) == {}


@pytest.mark.skipif(not IS_EAGER, reason="eager tasks came with 3.12")
async def test_one_exchange_is_kept_for_the_next_request(no_collection):
    before = live_objects()
    async with serving(hello) as bench:
        peers = [bench.connect() for _ in range(3)]
        for peer in peers * 3:
            peer.feed(GET)
        assert grown(before)["Http1Exchange"] == 1


async def test_an_exchange_lives_as_long_as_its_application(no_collection):
    before = live_objects()
    going = asyncio.Event()

    async def app(scope, receive, send):
        await going.wait()
        await hello(scope, receive, send)

    async with serving(app) as bench:
        peer = bench.connect()
        peer.feed(request())
        await turn(3)
        assert grown(before)["Http1Exchange"] == 1
        going.set()
        await until(peer.channel.take_output, "the answer")
        await turn(5)
        assert "Http1Exchange" not in grown(before)


async def test_objects_of_a_socket(no_collection, event_loop_kind):
    loop = asyncio.get_running_loop()
    before = live_objects()
    config = Config(hello, log_config=None)
    config.load()
    poller = Poller(Runtime(config, hello, loop, handler_factory=Http1))
    with socket.create_server(("127.0.0.1", 0)) as listener, contextlib.closing(poller):
        listener.setblocking(False)
        poller.listen(listener)
        with socket.socket() as client:
            client.setblocking(False)
            await loop.sock_connect(client, listener.getsockname())
            await loop.sock_sendall(client, GET)
            assert await loop.sock_recv(client, 65536)
            assert grown(before) == {"SocketChannel": 1, "Http1": 1, "RequestParser": 1, **SPARE}
        await until(lambda: grown(before) == SPARE, "the connection to be gone")
