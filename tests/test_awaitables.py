"""Every awaitable that `send` and `receive` return, in everything that applications do with one.

One table: five awaitables (`SOURCES`) by what is done with them (`USES`), on both event loops.
Applications and frameworks treat what `send(...)` and `receive()` return as the coroutines of the
classic servers: they make tasks of them, shield them, cancel them, drop them.
"""

import asyncio
import collections.abc
import contextvars
import gc
import inspect
import types

import pytest
from drive import (
    GET,
    START,
    Peer,
    body,
    complaints,
    drain_body,
    hello,
    request,
    serving,
    start,
    turn,
    until,
)

anyio = pytest.importorskip("anyio")

FIRST = {"type": "http.request", "body": b"hello", "more_body": False}
BLOCK = 1 << 20
FAIRNESS_BYTES = 256 * 1024


class Source:
    """How an application comes by one awaitable; `release` makes a blocked one complete."""

    data = GET
    expected: object = None
    ready = True

    def __init__(self, peer: Peer, receive, send) -> None:
        self.peer, self.receive, self.send = peer, receive, send
        self.sent = b""

    async def prepare(self) -> None:
        await self.send(start())

    def make(self):
        return self.sending(b"x")

    def sending(self, data: bytes):
        self.sent += data
        return self.send(body(data, True))

    def release(self) -> None:
        """Nothing holds it up."""

    async def finish(self) -> None:
        self.peer.channel.hold_output(None)
        await self.send(body())


class SendReady(Source):
    """The peer reads: the awaitable is done."""


class SendBlocked(Source):
    """The peer does not read: the awaitable completes when the buffer drains."""

    ready = False

    async def prepare(self) -> None:
        await self.send(start())
        self.peer.channel.hold_output(0)

    def make(self):
        return self.sending(b"x" * BLOCK)

    def release(self) -> None:
        self.peer.channel.hold_output(None)


class SendAtTurn(Source):
    """The send at which the loop gets its turn, after 256 KiB without suspending."""

    async def prepare(self) -> None:
        await self.send(start())
        await turn()
        size = 16 * 1024
        for _ in range(FAIRNESS_BYTES // size):
            await self.sending(b"y" * size)


class ReceiveReady(Source):
    """The body is there."""

    data = request("POST", body=b"hello")
    expected = FIRST

    async def prepare(self) -> None:
        pass

    def make(self):
        return self.receive()

    async def finish(self) -> None:
        await self.send(start())
        await self.send(body())


class ReceiveBlocked(ReceiveReady):
    """The body comes later."""

    data = request("POST", length=5)
    ready = False

    def release(self) -> None:
        if self.data and not self.fed:
            self.fed = True
            self.peer.feed(b"hello")

    fed = False


SOURCES = [SendReady, SendBlocked, SendAtTurn, ReceiveReady, ReceiveBlocked]


# --- uses -----------------------------------------------------------------------------------------


def soon(source: Source) -> None:
    """Release on a later turn of the loop."""
    asyncio.get_running_loop().call_soon(source.release)


async def use_await(source):
    soon(source)
    return await source.make()


async def use_await_later(source):
    """Kept for some turns before it is awaited."""
    awaitable = source.make()
    await turn(2)
    soon(source)
    return await awaitable


async def use_create_task(source):
    soon(source)
    task = asyncio.create_task(source.make())
    return await task


async def use_create_task_with_name_and_context(source):
    soon(source)
    return await asyncio.create_task(source.make(), name="mine", context=contextvars.copy_context())


async def use_ensure_future(source):
    soon(source)
    return await asyncio.ensure_future(source.make())


async def use_task_group(source):
    soon(source)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(source.make())
    return task.result()


async def use_gather(source):
    soon(source)
    result, nothing = await asyncio.gather(source.make(), asyncio.sleep(0))
    assert nothing is None
    return result


async def use_wait_for(source):
    soon(source)
    return await asyncio.wait_for(source.make(), 30)


async def use_wait(source):
    soon(source)
    done, _ = await asyncio.wait([asyncio.ensure_future(source.make())], timeout=30)
    return done.pop().result()


async def use_shield(source):
    soon(source)
    return await asyncio.shield(source.make())


async def use_timeout(source):
    soon(source)
    async with asyncio.timeout(30):
        return await source.make()


async def use_move_on_after(source):
    soon(source)
    with anyio.move_on_after(30) as scope:
        result = await source.make()
    assert not scope.cancelled_caught
    return result


async def use_fail_after(source):
    soon(source)
    with anyio.fail_after(30):
        return await source.make()


async def use_anyio_task_group(source):
    results = []

    async def work():
        results.append(await source.make())

    async with anyio.create_task_group() as group:
        group.start_soon(work)
        soon(source)
    return results[0]


async def use_anyio_start_soon(source):
    """`start_soon(receive)`: the call itself is given, as is done with the coroutine functions of others."""
    result = []

    def make():
        return source.make()

    async with anyio.create_task_group() as group:
        group.start_soon(make)
        soon(source)
        result.append(source.expected)
    return result[0]


async def use_run_coroutine_threadsafe(source):
    """From a worker thread (Starlette's WSGI middleware does it)."""
    loop = asyncio.get_running_loop()
    soon(source)
    awaitable = source.make()
    return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(awaitable, loop))


async def use_delegation(source):
    """Through `__await__`, as an awaitable of the application's own."""

    class Own:
        def __await__(self):
            return (yield from source.make().__await__())

    soon(source)
    return await Own()


async def use_stepped_by_hand(source):
    """A coroutine that drives it with send(None), as trampolines and tracers do."""
    awaitable = source.make()
    soon(source)

    @types.coroutine
    def drive():
        while True:
            try:
                yielded = awaitable.send(None)
            except StopIteration as stop:
                return stop.value
            yield yielded

    return await drive()


USES = [value for name, value in list(globals().items()) if name.startswith("use_")]


async def play(kind, use, *, check=None):
    """Run `use` within a request; the result, and the whole answer must be right afterwards."""
    results = []

    async def app(scope, receive, send):
        source = sources[0] = kind(peer, receive, send)
        await source.prepare()
        results.append(await use(source))
        if check is not None:
            await check(source)
        await source.finish()

    sources = [None]
    async with serving(app) as bench:
        peer = bench.connect()
        peer.feed(kind.data)
        await until(lambda: results or peer.state != "open", "the use to end")
        await until(lambda: peer.answers("POST"), f"the answer; {peer.state}")
        (answer,) = peer.answers("POST")
        assert answer.status == 200
        assert answer.body == sources[0].sent
        assert peer.state == "open"
        peer.forget()
        peer.channel.hold_output(None)
    assert len(results) == 1
    return results[0]


@pytest.mark.parametrize("use", USES, ids=lambda use: use.__name__[4:])
@pytest.mark.parametrize("kind", SOURCES, ids=lambda kind: kind.__name__)
async def test_uses(kind, use, event_loop_kind, caplog):
    assert await play(kind, use) == kind.expected
    assert not complaints(caplog)


@pytest.mark.parametrize("kind", SOURCES, ids=lambda kind: kind.__name__)
async def test_they_are_coroutines_to_those_who_ask(kind, event_loop_kind):
    async def use(source):
        awaitable = source.make()
        assert asyncio.iscoroutine(awaitable)
        assert isinstance(awaitable, collections.abc.Coroutine)
        assert isinstance(awaitable, collections.abc.Awaitable)
        assert inspect.isawaitable(awaitable)
        assert not inspect.isasyncgen(awaitable)
        assert repr(awaitable)
        soon(source)
        return await awaitable

    assert await play(kind, use) == kind.expected


@pytest.mark.parametrize("kind", SOURCES, ids=lambda kind: kind.__name__)
async def test_awaited_twice(kind, event_loop_kind):
    """RuntimeError as from a coroutine, or the same result again; never another message, never a hang."""

    async def use(source):
        awaitable = source.make()
        soon(source)
        first = await awaitable
        try:
            second = await asyncio.wait_for(awaitable, 5)
        except (RuntimeError, asyncio.InvalidStateError):
            second = first
        assert second == first
        return first

    assert await play(kind, use) == kind.expected


@pytest.mark.parametrize("kind", SOURCES, ids=lambda kind: kind.__name__)
async def test_awaited_by_two_at_once(kind, event_loop_kind):
    """RuntimeError to one of them, or the same to both; the other is served in any case."""

    async def use(source):
        awaitable = source.make()

        async def one():
            return await awaitable

        tasks = [asyncio.create_task(one()) for _ in range(2)]
        await turn(2)
        source.release()
        done = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 5)
        good = [result for result in done if not isinstance(result, BaseException)]
        bad = [result for result in done if isinstance(result, BaseException)]
        assert good and all(isinstance(error, RuntimeError) for error in bad), done
        assert all(result == good[0] for result in good)
        return good[0]

    assert await play(kind, use) == kind.expected


async def remaining(source):
    """After a receive that nobody took: the body must still be there."""
    if isinstance(source, ReceiveReady):
        source.release()
        assert await drain_body(source.receive) == b"hello"
    source.release()


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("kind", SOURCES, ids=lambda kind: kind.__name__)
async def test_closed_unawaited(kind, event_loop_kind):
    async def use(source):
        awaitable = source.make()
        assert awaitable.close() is None
        assert awaitable.close() is None

    await play(kind, use, check=remaining)


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited")
@pytest.mark.parametrize("kind", SOURCES, ids=lambda kind: kind.__name__)
async def test_dropped_unawaited(kind, event_loop_kind):
    """`send(...)` without await: Python may warn, as it does of any coroutine; nothing is lost or out of balance."""

    async def use(source):
        awaitable = source.make()
        del awaitable
        gc.collect()

    await play(kind, use, check=remaining)


@pytest.mark.parametrize("kind", SOURCES, ids=lambda kind: kind.__name__)
async def test_thrown_into(kind, event_loop_kind):
    """`throw` gives the exception back and leaves the exchange as it was."""

    async def use(source):
        awaitable = source.make()
        with pytest.raises(LookupError, match="thrown"):
            awaitable.throw(LookupError("thrown"))
        other = source.make() if not source.ready else None
        if other is not None:
            with pytest.raises(LookupError):
                other.throw(LookupError)
            other.close()

    await play(kind, use, check=remaining)


@pytest.mark.parametrize("when", ["before it runs", "while it waits"])
@pytest.mark.parametrize("kind", SOURCES, ids=lambda kind: kind.__name__)
async def test_cancelled_as_a_task(kind, when, event_loop_kind):
    """Cancelled in time it is cancelled; the exchange goes on and no byte of the body is lost."""

    async def use(source):
        task = asyncio.create_task(source.make())
        if when == "while it waits":
            await turn(2)
        done_before = task.done()
        task.cancel()
        done = await asyncio.gather(task, return_exceptions=True)
        if not done_before:
            assert isinstance(done[0], asyncio.CancelledError), done
        if source.ready and when == "while it waits" and kind is not SendAtTurn:
            assert done == [source.expected]
            if source.expected is not None:
                taken.append(True)

    taken = []

    async def check(source):
        if not taken:
            await remaining(source)
        source.release()

    await play(kind, use, check=check)


@pytest.mark.parametrize("kind", [SendBlocked, ReceiveBlocked], ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("how", ["wait_for", "timeout", "move_on_after", "cancel scope", "anyio group"])
async def test_cancelled_while_blocked(kind, how, event_loop_kind):
    async def use(source):
        if how == "wait_for":
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(source.make(), 0.0001)
        elif how == "timeout":
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0):
                    await source.make()
        elif how == "move_on_after":
            with anyio.move_on_after(0) as scope:
                await source.make()
            assert scope.cancelled_caught
        elif how == "cancel scope":
            with anyio.CancelScope() as scope:
                scope.cancel()
                await source.make()
            assert scope.cancelled_caught
        else:

            async def work():
                await source.make()

            async with anyio.create_task_group() as group:
                group.start_soon(work)
                await turn(2)
                group.cancel_scope.cancel()

    await play(kind, use, check=remaining)


@pytest.mark.parametrize("kind", SOURCES, ids=lambda kind: kind.__name__)
async def test_shielded_and_abandoned(kind, event_loop_kind):
    """The outer is cancelled, the inner goes on."""

    async def use(source):
        inner = asyncio.ensure_future(source.make())
        outer = asyncio.ensure_future(asyncio.shield(inner))
        outer.cancel()
        with pytest.raises(asyncio.CancelledError):
            await outer
        assert not inner.cancelled()
        soon(source)
        return await inner

    assert await play(kind, use) == kind.expected


async def test_many_sends_at_once_by_tasks(event_loop_kind):
    """Tasks made of sends run in the order in which they were made, or the sends had their effect at the call."""

    async def app(scope, receive, send):
        await send(start())
        await asyncio.gather(*[send(body(b"%03d" % index, True)) for index in range(100)])
        await send(body())

    async with serving(app) as bench:
        answer = await bench.connect().answer(data=GET)
        assert answer.body == b"".join(b"%03d" % index for index in range(100))


async def test_sends_of_several_blocked_tasks_all_complete(event_loop_kind):
    """Back-pressure with more than one task waiting: all wake."""
    done = []

    async def app(scope, receive, send):
        await send(start())

        async def one(index):
            await send(body(bytes([65 + index]) * BLOCK, True))
            done.append(index)

        async with asyncio.TaskGroup() as group:
            for index in range(3):
                group.create_task(one(index))
        await send(body())

    async with serving(app) as bench:
        peer = bench.connect()
        peer.channel.hold_output(0)
        peer.feed(GET)
        await turn(10)
        assert done == []
        peer.channel.hold_output(None)
        answer = await peer.answer()
        assert answer.body == b"".join(bytes([65 + index]) * BLOCK for index in range(3))
    assert sorted(done) == [0, 1, 2]


async def test_a_blocked_send_cancelled_by_the_disconnect_scope(event_loop_kind):
    """Starlette's streaming: the listener sees the disconnect and cancels the writer."""
    ended = []

    async def app(scope, receive, send):
        async with anyio.create_task_group() as group:

            async def listen():
                while (await receive())["type"] != "http.disconnect":
                    pass
                group.cancel_scope.cancel()

            group.start_soon(listen)
            try:
                await send(START)
                while True:
                    await send(body(b"x" * 65536, True))
            except BaseException as error:
                ended.append(type(error).__name__)
                raise

    async with serving(app) as bench:
        peer = bench.connect()
        peer.channel.hold_output(100_000)
        peer.feed(GET)
        await turn(20)
        assert not ended
        peer.eof()
        await until(lambda: ended, "the end of the stream")
        assert ended[0] in ("CancelledError", "ClientDisconnected")
        await turn(5)


async def test_the_ready_awaitable_is_one_for_all():
    """It is stateless, so that a send costs no object; a cancelled one must not poison the others."""
    ready = []

    async def app(scope, receive, send):
        ready.append(send(start(200, [(b"content-length", b"2")])))
        ready[0].close()
        await ready[0]
        ready.append(send(body(b"ok")))
        await ready[1]

    async with serving(app) as bench:
        await bench.connect().answer(data=GET)
        await bench.connect().answer(data=GET)
    for awaitable in ready:
        assert await awaitable is None


async def test_hello_is_served_on_both_loops(event_loop_kind):
    async with serving(hello) as bench:
        assert (await bench.connect().answer(data=GET)).body == b"ok"
