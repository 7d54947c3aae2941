"""The task that an application runs in: one from beginning to end, real, and made as the loop wants it."""

import asyncio
import contextlib
import sys

import pytest
from drive import (
    BODY,
    GET,
    START,
    answering,
    exchange,
    hello,
    request,
    serving,
    turn,
    until,
)

anyio = pytest.importorskip("anyio")


async def test_one_task_from_beginning_to_end(event_loop_kind):
    """Two identities before and after the first suspension break anyio's cancel scopes."""
    tasks = []

    async def app(scope, receive, send):
        tasks.append(asyncio.current_task())
        with anyio.CancelScope():
            await turn()
            tasks.append(asyncio.current_task())
            await receive()
        await hello(scope, receive, send)
        tasks.append(asyncio.current_task())

    await exchange(app)
    assert isinstance(tasks[0], asyncio.Task)
    assert tasks[0] is tasks[1] is tasks[2]


async def test_each_request_has_its_own_task():
    tasks = []

    async def app(scope, receive, send):
        tasks.append(asyncio.current_task())
        await hello(scope, receive, send)

    async with serving(app) as bench:
        peer = bench.connect()
        peer.feed(GET * 3)
        await peer.several(3)
    assert len(set(map(id, tasks))) == 3
    assert asyncio.current_task() not in tasks


async def test_the_feeder_stays_the_current_task():
    """An eager start swaps the current task and must put it back."""

    async def app(scope, receive, send):
        await hello(scope, receive, send)

    async with serving(app) as bench:
        mine = asyncio.current_task()
        bench.connect().feed(GET)
        assert asyncio.current_task() is mine
        await turn(3)
        assert asyncio.current_task() is mine


async def test_all_tasks_shows_a_suspended_request():
    """Debuggers and graceful-shutdown code of applications look there."""
    gate = asyncio.Event()

    async def app(scope, receive, send):
        await gate.wait()
        await hello(scope, receive, send)

    async with serving(app) as bench:
        before = asyncio.all_tasks()
        peer = bench.connect()
        peer.feed(GET)
        await turn(3)
        assert len(asyncio.all_tasks() - before) == 1
        gate.set()
        await peer.answer()


async def test_a_request_can_cancel_itself_and_time_out(event_loop_kind):
    async def app(scope, receive, send):
        try:
            async with asyncio.timeout(0):
                await asyncio.Event().wait()
        except TimeoutError:
            pass
        with anyio.move_on_after(0):
            await anyio.sleep_forever()
        with anyio.CancelScope() as inner:
            inner.cancel()
            await anyio.sleep_forever()
        task = asyncio.current_task()
        task.cancel()
        try:
            await turn()
        except asyncio.CancelledError:
            task.uncancel()
        await hello(scope, receive, send)

    answer, _ = await exchange(app)
    assert answer.body == b"ok"


async def test_anyio_task_group_around_the_response(event_loop_kind):
    """Starlette's BaseHTTPMiddleware and StreamingResponse."""
    ended = []

    async def app(scope, receive, send):
        async def listen():
            while (await receive())["type"] != "http.disconnect":
                pass
            ended.append("listen")

        async def stream():
            await send(START)
            for _ in range(5):
                await send({"type": "http.response.body", "body": b"x", "more_body": True})
                await anyio.sleep(0)
            await send({"type": "http.response.body"})
            ended.append("stream")

        async with anyio.create_task_group() as group:
            group.start_soon(listen)
            await stream()
            group.cancel_scope.cancel()

    answer, _ = await exchange(app)
    assert answer.body == b"xxxxx"
    assert "stream" in ended


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came with 3.12")
async def test_an_application_runs_at_once_where_python_can():
    ran = []

    async def app(scope, receive, send):
        ran.append(1)
        await hello(scope, receive, send)

    async with serving(app) as bench:
        peer = bench.connect()
        peer.feed(GET)
        assert ran, "not started by the time that feed() returns"
        assert peer.output.endswith(b"ok")


# --- task factories -------------------------------------------------------------------------------


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came with 3.12")
async def test_the_application_sets_the_eager_task_factory(event_loop_kind):
    """uvloop with the eager factory fails in every create_task on some versions: ours must not."""

    async def app(scope, receive, send):
        asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
        if scope["path"] == "/suspend":
            await turn()
        await hello(scope, receive, send)

    async with serving(app) as bench:
        peer = bench.connect()
        for path in ("/", "/suspend", "/", "/suspend"):
            answer = await peer.answer(data=request(target=path))
            assert answer.body == b"ok"
            peer.forget()
        await turn(3)
        asyncio.get_running_loop().set_task_factory(None)


@pytest.mark.parametrize("kind", ["plain", "subclass"])
async def test_the_loop_has_a_task_factory_of_its_own(kind, event_loop_kind):
    """It is asked for each request, so that tracers see every task."""
    made = []

    class OwnTask(asyncio.Task):
        pass

    def factory(loop, coroutine, **options):
        task = (OwnTask if kind == "subclass" else asyncio.Task)(coroutine, loop=loop, **options)
        made.append(task)
        return task

    used = []

    async def app(scope, receive, send):
        used.append(asyncio.current_task())
        await receive()
        await hello(scope, receive, send)

    async with serving(app) as bench:
        peer = bench.connect()
        await peer.answer(data=GET)
        peer.forget()
        asyncio.get_running_loop().set_task_factory(factory)
        await peer.answer(data=GET)
        peer.forget()
        asyncio.get_running_loop().set_task_factory(None)
        await peer.answer(data=GET)
    assert used[0] not in made
    assert used[1] in made
    assert used[2] not in made


async def test_a_task_factory_without_context(event_loop_kind):
    """A factory of the old form takes loop and coroutine only; the request is served or refused, not hung."""

    def factory(loop, coroutine):
        return asyncio.Task(coroutine, loop=loop)

    async with serving(answering(START, BODY)) as bench:
        asyncio.get_running_loop().set_task_factory(factory)
        try:
            answer = await bench.connect().answer(data=GET)
        finally:
            asyncio.get_running_loop().set_task_factory(None)
        assert answer.status in (200, 500)


async def test_a_task_factory_that_raises(caplog):
    def factory(loop, coroutine, **options):
        coroutine.close()
        raise LookupError("no tasks today")

    async with serving(hello) as bench:
        peer = bench.connect()
        asyncio.get_running_loop().set_task_factory(factory)
        try:
            with contextlib.suppress(LookupError):
                peer.feed(GET)
            await until(lambda: peer.state != "open")
        finally:
            asyncio.get_running_loop().set_task_factory(None)
        assert peer.aborted or peer.output.startswith(b"HTTP/1.1 500")
        assert (await bench.connect().answer(data=GET)).status == 200
