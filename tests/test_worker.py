"""worker: the steps of a Server alone and in order, twice, side by side, and what calls back on its ticks."""

import asyncio
import contextlib
import itertools
import logging
import socket
import threading
import time

import pytest
from drive import GET, echo, hello, request, until

from fastasgi.config import Config
from fastasgi.errors import StartupError
from fastasgi.worker import Server

PATIENCE_S = 15.0


def configured(app=hello, **options):
    return Config(app, **{"port": 0, "log_config": None, "access_log": False, **options})


async def answer(server):
    """What a client of this server gets."""
    loop = asyncio.get_running_loop()
    with socket.create_connection(server.servers[0].sockets[0].getsockname()[:2]) as client:
        client.setblocking(False)
        await loop.sock_sendall(client, GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        data = b""
        async with asyncio.timeout(PATIENCE_S):
            while piece := await loop.sock_recv(client, 65536):
                data += piece
    return data.partition(b"\r\n")[0]


def lifespan_app(seen):
    """Tells of its lifespan."""

    async def app(scope, receive, send):
        if scope["type"] == "lifespan":
            for _ in range(2):
                message = await receive()
                seen.append(message["type"])
                await send({"type": message["type"] + ".complete"})
            return
        await hello(scope, receive, send)

    return app


# ------------------------------------------------------------------------------------------- bare steps
@pytest.mark.parametrize("io", ["socket", "transport"])
async def test_the_steps_alone(io, event_loop_kind):
    """In this order, with nothing called before."""
    seen = []
    server = Server(configured(lifespan_app(seen), io=io))
    assert not server.started and server.servers == []
    await server.startup()
    assert server.started and seen == ["lifespan.startup"]
    assert await answer(server) == b"HTTP/1.1 200 OK"
    assert await server.on_tick(0) is False
    server.should_exit = True
    assert await server.on_tick(1) is True
    await server.main_loop()
    await server.shutdown()
    assert not server.started and seen == ["lifespan.startup", "lifespan.shutdown"]


async def test_ticks_of_ones_own():
    """Whoever has a loop of its own asks on_tick() by itself."""
    server = Server(configured(limit_max_requests=1))
    await server.startup()
    assert await server.on_tick(0) is False
    await answer(server)
    assert await server.on_tick(1) is True
    await server.shutdown()


async def test_shutdown_without_a_startup():
    server = Server(configured())
    await server.shutdown()
    await server.startup()
    await server.shutdown()


async def test_main_loop_of_a_server_that_was_stopped_before():
    server = Server(configured())
    server.should_exit = True
    await server.startup()
    assert not server.started
    await server.main_loop()
    await server.shutdown()


async def test_failed_startup_leaves_nothing_and_may_be_repeated():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        config = configured(port=taken.getsockname()[1])
        server = Server(config)
        with pytest.raises(StartupError, match="is in use"):
            await server.startup()
        assert not server.started
    await server.startup()
    assert await answer(server) == b"HTTP/1.1 200 OK"
    await server.shutdown()


async def test_a_socket_that_cannot_be_watched_leaves_nothing(tmp_path):
    """The first is watched already."""
    seen = []
    good, bad = socket.create_server(("127.0.0.1", 0)), socket.socket()
    bad.close()
    server = Server(configured(lifespan_app(seen)))
    with pytest.raises((OSError, ValueError)):
        await server.startup([good, bad])
    assert seen == ["lifespan.startup", "lifespan.shutdown"]
    assert good.fileno() == -1


# ------------------------------------------------------------------------------------------- again, beside
@pytest.mark.parametrize("io", ["socket", "transport"])
async def test_a_server_serves_twice(io):
    seen = []
    server = Server(configured(lifespan_app(seen), io=io))
    for times in (1, 2, 3):
        task = asyncio.create_task(server.serve())
        await until(lambda: server.started)
        assert await answer(server) == b"HTTP/1.1 200 OK"
        server.should_exit = True
        async with asyncio.timeout(PATIENCE_S):
            await task
        assert server.should_exit, "whoever looks afterwards sees why it ended"
        assert seen == ["lifespan.startup", "lifespan.shutdown"] * times


def test_a_server_runs_twice_each_in_a_loop_of_its_own():
    """`run()` ends with its loop; asking for the end before the second begins ends that one."""
    loops = []

    async def app(scope, receive, send):
        loops.append(asyncio.get_running_loop())
        server.should_exit = True

    server = Server(configured(app, lifespan="auto"))
    server.run()
    server.run()
    assert len({id(loop) for loop in loops}) == len(loops) == 2
    assert server.exit_code == 0
    server.should_exit = True
    server.run()
    assert len(loops) <= 3 and not server.started


async def test_several_servers_in_one_loop():
    """Each with an application, a port and an end of its own."""
    ended = [[], []]
    servers = [Server(configured(lifespan_app(seen))) for seen in ended]
    tasks = [asyncio.create_task(server.serve()) for server in servers]
    await until(lambda: all(server.started for server in servers))
    assert servers[0].url != servers[1].url
    for server in servers:
        assert await answer(server) == b"HTTP/1.1 200 OK"
    servers[0].should_exit = True
    await asyncio.wait_for(tasks[0], PATIENCE_S)
    assert ended[1] == ["lifespan.startup"]
    assert await answer(servers[1]) == b"HTTP/1.1 200 OK"
    servers[1].should_exit = True
    await asyncio.wait_for(tasks[1], PATIENCE_S)


async def test_the_end_is_asked_for_from_another_thread():
    server = Server(configured())
    task = asyncio.create_task(server.serve())
    await until(lambda: server.started)
    thread = threading.Thread(target=setattr, args=(server, "should_exit", True))
    thread.start()
    await asyncio.wait_for(task, PATIENCE_S)
    thread.join()


# ------------------------------------------------------------------------------------------- where it is
async def test_url():
    server = Server(configured())
    with pytest.raises(RuntimeError, match="before it has started"):
        server.url  # noqa: B018
    await server.startup()
    port = server.servers[0].sockets[0].getsockname()[1]
    assert server.url == f"http://127.0.0.1:{port}" and server.urls == (server.url,)
    await server.shutdown()


async def test_url_of_every_address_is_one_that_clients_can_use():
    server = Server(configured(host="0.0.0.0"))
    await server.startup()
    port = server.servers[0].sockets[0].getsockname()[1]
    assert (server.url, server.urls) == (f"http://127.0.0.1:{port}", (f"http://0.0.0.0:{port}",))
    await server.shutdown()


async def test_url_of_a_unix_socket(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    server = Server(configured(uds="app.sock"))
    await server.startup()
    assert server.url == "unix:app.sock"
    await server.shutdown()


# ------------------------------------------------------------------------------------------- callbacks
@contextlib.asynccontextmanager
async def ticking(**options):
    """A server whose main loop runs."""
    server = Server(configured(**options))
    task = asyncio.create_task(server.serve())
    await until(lambda: server.started)
    try:
        yield server
    finally:
        server.should_exit = True
        await asyncio.wait_for(task, PATIENCE_S)


async def test_callback_notify_is_called_again_and_again():
    """At once, then every so many seconds."""
    came = []

    async def notify():
        came.append(asyncio.get_running_loop().time())

    async with ticking(callback_notify=notify, timeout_notify=0.05), asyncio.timeout(PATIENCE_S):
        while len(came) < 4:
            await asyncio.sleep(0.01)
    assert all(later - earlier >= 0.04 for earlier, later in itertools.pairwise(came)), came


async def test_callback_notify_that_raises_is_logged_and_called_again(caplog):
    came = []

    async def notify():
        came.append(True)
        raise ValueError("no luck")

    async with ticking(callback_notify=notify, timeout_notify=0.02), asyncio.timeout(PATIENCE_S):
        while len(came) < 2:
            await asyncio.sleep(0.01)
    errors = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert {record.getMessage() for record in errors} == {"app's callback_notify raised; it is called again"}
    assert errors[0].exc_info[0] is ValueError


async def test_callback_notify_that_hangs_holds_nothing_up():
    """It is not called twice at once, and cancelled at the end."""
    came = []

    async def notify():
        came.append("called")
        try:
            await asyncio.Event().wait()
        finally:
            came.append("cancelled")

    async with ticking(callback_notify=notify, timeout_notify=0.01) as server:
        await until(lambda: came)
        await asyncio.sleep(0.05)
        assert await answer(server) == b"HTTP/1.1 200 OK"
        assert came == ["called"]
    assert came == ["called", "cancelled"]


# ------------------------------------------------------------------------------------------- limits
async def test_jitter_is_added_to_the_limit_of_requests(monkeypatch):
    monkeypatch.setattr("random.randint", lambda least, most: most)
    server = Server(configured(limit_max_requests=1, limit_max_requests_jitter=2))
    await server.startup()
    ends = []
    for count in range(3):
        await answer(server)
        ends.append(await server.on_tick(count))
    assert ends == [False, False, True]
    await server.shutdown()


# -------------------------------------------------------------------------------------- a loop that stood still
SHORT = dict.fromkeys(
    ("timeout_first_byte", "timeout_request_head", "timeout_request_body", "timeout_keep_alive"), 0.3
)
UPLOAD = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 20000\r\n\r\n"
# What a client has sent before the loop stands still, and what it sends meanwhile.
IN_TIME = {
    "a first request": (b"", GET),
    "another request": (GET, GET),
    "the rest of a head": (GET[:9], GET[9:]),
    "a body": (UPLOAD, b"x" * 20000),
}


@pytest.mark.pins("slow.progress")
@pytest.mark.parametrize("io", ["socket", "transport"])
async def test_what_came_while_the_loop_stood_still_is_read_before_it_is_judged(io, event_loop_kind):
    """A call that blocks is the application's fault, not that of the clients who were in time."""
    clients = []

    async def app(scope, receive, send):
        if scope["path"] == "/block":
            for client, (_, rest) in zip(clients, IN_TIME.values(), strict=True):
                client.sendall(rest)
            time.sleep(1)  # the loop itself, for longer than any of the timeouts and a tick
        await echo(scope, receive, send)

    server = Server(configured(app, io=io, lifespan="off", **SHORT))
    await server.startup()
    address = server.servers[0].sockets[0].getsockname()[:2]
    loop = asyncio.get_running_loop()
    with contextlib.ExitStack() as closing:
        for before, _ in IN_TIME.values():
            clients.append(closing.enter_context(socket.create_connection(address)))
            clients[-1].setblocking(False)
            clients[-1].sendall(before)
        async with asyncio.timeout(PATIENCE_S):
            assert (await loop.sock_recv(clients[1], 65536)).startswith(b"HTTP/1.1 200")
            blocking = closing.enter_context(socket.create_connection(address))
            blocking.setblocking(False)
            blocking.sendall(request(target="/block"))
            for client, name in zip([*clients, blocking], [*IN_TIME, "the one that blocks"], strict=True):
                assert (await loop.sock_recv(client, 65536)).startswith(b"HTTP/1.1 200"), name
    server.should_exit = True
    await server.shutdown()
