"""Nothing is left of a request when it is over: no object, no task, no memory that grows.

Descriptors are looked at by a fixture after every test; this file runs many requests of each kind and
compares what is there before and after.
"""

import asyncio
import gc
import logging
import os
import sys
import weakref
from collections import Counter

import pytest
from drive import (
    BODY,
    GET,
    MORE,
    START,
    answering,
    body,
    echo,
    hello,
    request,
    serving,
    start,
    turn,
    until,
)

PAGE = os.sysconf("SC_PAGE_SIZE")
POST = request("POST", body=b"hello")


def resident_bytes():
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * PAGE


# --- kinds of requests ----------------------------------------------------------------------------


async def raising(scope, receive, send):
    raise LookupError("boom")


async def raising_late(scope, receive, send):
    await send(START)
    await send(MORE)
    raise LookupError("boom")


async def suspending(scope, receive, send):
    await turn()
    await receive()
    await turn()
    await hello(scope, receive, send)


async def waiting(scope, receive, send):
    while (await receive())["type"] != "http.disconnect":
        pass


async def streaming(scope, receive, send):
    await send(START)
    for _ in range(3):
        await send(MORE)
    await send(body())


async def blocked(scope, receive, send):
    await send(START)
    for _ in range(100):
        await send(body(b"x" * 65536, True))


async def tasked(scope, receive, send):
    async with asyncio.TaskGroup() as group:
        listening = group.create_task(receive())
        await listening
        group.create_task(send(START))
        await turn()
        await group.create_task(send(BODY))


async def keep_alive(bench, data, count):
    peer = bench.connect()
    for _ in range(count):
        peer.feed(data)
        await until(peer.channel.take_output, "the answer")
        await turn(6)
        peer.channel.take_output()
    peer.lost()


async def one_each(bench, data, count):
    for _ in range(count):
        peer = bench.connect()
        peer.feed(data)
        await turn(6)
        peer.channel.take_output()
        if peer.state == "open":
            peer.eof()
        if peer.state not in ("closed", "aborted"):
            peer.lost()
        bench.peers.clear()


async def pipelined(bench, data, count):
    peer = bench.connect()
    peer.feed(data * count)
    await turn(6 * count)
    peer.channel.take_output()
    peer.lost()


async def gone(bench, data, count):
    """The client goes while the application waits."""
    for _ in range(count):
        peer = bench.connect()
        peer.channel.hold_output(10)
        peer.feed(data)
        await turn(2)
        peer.lost(ConnectionResetError(104, "reset"))
        bench.peers.clear()
        await turn(3)


KINDS = {
    "kept alive": (hello, keep_alive, GET),
    "closed": (hello, one_each, request(headers=("Connection: close",))),
    "left by the client": (hello, one_each, GET),
    "pipelined": (hello, pipelined, GET),
    "suspending": (suspending, keep_alive, GET),
    "pipelined and suspending": (suspending, pipelined, GET),
    "echo": (echo, keep_alive, POST),
    "body unread": (hello, keep_alive, POST),
    "streaming": (streaming, keep_alive, GET),
    "tasks": (tasked, keep_alive, GET),
    "raising": (raising, one_each, GET),
    "raising late": (raising_late, one_each, GET),
    "nothing answered": (answering(), one_each, GET),
    "wrong message": (answering(BODY), one_each, GET),
    "wrong header": (answering(start(200, [(b"a b", b"c")])), one_each, GET),
    "bad request": (hello, one_each, b"GET / HTTP/1.1\r\n\r\n"),
    "half a head": (hello, gone, GET[:-3]),
    "half a body": (echo, gone, POST[:-3]),
    "gone while waiting": (waiting, gone, GET),
    "gone while blocked": (blocked, gone, GET),
    "expect": (hello, one_each, request("POST", headers=("Expect: 100-continue",), length=5)),
}


def tracked():
    """How many tracked objects of each type there are."""
    gc.collect()
    gc.collect()
    found = Counter()  # not of a generator: whether that is a Mapping would be remembered, by each kind of Mapping
    for thing in gc.get_objects():
        found[f"{type(thing).__module__}.{type(thing).__qualname__}"] += 1
    return found


def blocks():
    """How many blocks of memory Python's own allocator has given out."""
    gc.collect()
    gc.collect()
    return sys.getallocatedblocks()


@pytest.fixture
def silence():
    """No log records: pytest keeps them, with the frames of their exceptions, until a test has ended."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize(("app", "play", "data"), KINDS.values(), ids=KINDS)
async def test_no_object_is_left(app, play, data, silence, only_new):
    """What 40 more requests leave behind is less than one thing each."""
    async with serving(app) as bench:

        async def some(count):
            await play(bench, data, count)
            await until(lambda: bench.idle, "everything to end")
            bench.peers.clear()
            await turn(3)

        await some(40)
        before = tracked()
        await some(40)
        grown = {name: count for name, count in (tracked() - before).items() if count >= 20}
        assert not grown, grown
        before = blocks()
        await some(40)
        assert blocks() - before < 40
        assert not [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]


class Canary:
    """Dies with what holds it."""


@pytest.mark.parametrize(
    ("app", "play", "data"),
    [
        KINDS[name]
        for name in ("kept alive", "closed", "suspending", "echo", "streaming", "gone while waiting")
    ],
    ids=["kept alive", "closed", "suspending", "echo", "streaming", "gone while waiting"],
)
async def test_a_scope_dies_with_its_request(app, play, data):
    """By reference counts alone: a cycle would hold the application's objects until some collection."""
    canaries = []

    async def wrapped(scope, receive, send):
        canary = scope["canary"] = Canary()
        canaries.append(weakref.ref(canary))
        del canary
        await app(scope, receive, send)

    async with serving(wrapped) as bench:
        gc.collect()
        gc.disable()
        try:
            await play(bench, data, 5)
            await until(lambda: bench.idle, "everything to end")
            bench.peers.clear()
            await turn(3)
            assert len(canaries) == 5
            assert [canary() for canary in canaries] == [None] * 5
        finally:
            gc.enable()


async def test_an_idle_connection_holds_nothing_of_its_last_request():
    canaries = []

    async def app(scope, receive, send):
        canary = scope["canary"] = Canary()
        canaries.append(weakref.ref(canary))
        await receive()
        await hello(scope, receive, send)

    async with serving(app) as bench:
        peer = bench.connect()
        gc.disable()
        try:
            await peer.answer(data=GET)
            await turn(3)
            assert canaries[0]() is None
        finally:
            gc.enable()
        assert peer.state == "open"


@pytest.mark.parametrize("hold", [False, True], ids=["taken at once", "pending for a while"])
async def test_a_body_is_not_held_after_it_was_given(hold):
    """`bytes` of a response are released once they are on the wire."""
    data = b"x" * 100_000 + b"y"
    before = sys.getrefcount(data)

    async def app(scope, receive, send):
        await send(start(200, [(b"content-length", b"100001")]))
        await send(body(data))

    async with serving(app) as bench:
        peer = bench.connect()
        if hold:
            peer.channel.hold_output(10)
        peer.feed(GET)
        await turn(3)
        peer.channel.hold_output(None)
        await peer.answer()
        await turn(3)
        assert sys.getrefcount(data) == before


async def test_the_runtime_dies_with_its_connections(event_loop_kind):
    """Neither channels nor the poller hold it once all is closed."""
    canaries = []

    class App:
        async def __call__(self, scope, receive, send):
            await hello(scope, receive, send)

    async def life():
        app = App()
        canaries.append(weakref.ref(app))
        async with serving(app) as bench:
            await bench.connect().answer(data=GET)

    await life()
    await turn(2)
    gc.collect()
    assert canaries[0]() is None


async def test_errors_hold_no_frames(silence):
    """The traceback of a failed request is not kept by the exchange, the channel or the runtime."""
    canaries = []

    async def app(scope, receive, send):
        canary = Canary()
        canaries.append(weakref.ref(canary))
        raise LookupError("boom")

    async with serving(app) as bench:
        peer = bench.connect()
        await peer.answer(data=GET)
        await turn(3)
        gc.collect()
        assert canaries[0]() is None


@pytest.mark.time_limit(60)
@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="resident memory is read from /proc")
async def test_memory_is_flat_over_200_000_requests():
    """In batches on several connections, kept alive and replaced; measured after the first quarter."""
    served = 0
    start_message = start(200, [(b"content-length", b"2"), (b"content-type", b"text/plain")])

    async def app(scope, receive, send):
        nonlocal served
        served += 1
        await send(start_message)
        await send(BODY)

    batch, count = 100, 200_000
    data = request(target="/plain?x=1", headers=("Accept: */*", "Cookie: a=1")) * batch
    async with serving(app) as bench:
        peer = bench.connect()
        before = None
        for index in range(count // batch):
            peer.feed(data)
            await until(lambda: served == (index + 1) * batch, "the batch")  # noqa: B023
            await turn()
            peer.channel.take_output()
            if index % 50 == 49:
                peer.lost()
                bench.peers.clear()
                peer = bench.connect()
            if index == count // batch // 4:
                gc.collect()
                before = resident_bytes()
        gc.collect()
        grown = resident_bytes() - before
        assert served == count == bench.runtime.requests_total
        assert grown < 512 * 1024, f"{grown} bytes in 150,000 requests"
