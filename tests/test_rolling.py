"""Restarts of all workers under load: no request is lost. The long form is `python tests/rolling.py`."""

import asyncio
import contextlib
import os
import random
import signal

import pytest
from rolling import Client, roll
from supervised import REPLACED, running_workers, search_path, until_gone

ROLLS = 3


async def under_load(server, act, connections=8):
    """Do something while a client sends numbered requests."""
    client = Client(server.open_connection, connections)
    load = asyncio.create_task(client.run())
    try:
        await act(client)
    finally:
        client.stop()
        await load
    return client


@pytest.mark.pins("workers.rolling")
@pytest.mark.parametrize(
    ("over", "environment"),
    [
        ("tcp", {}),
        ("unix", {}),
        ("tls", {}),
        ("tcp", {"FASTASGI_WORKER_START": "spawn"}),
        ("tcp", {"FASTASGI_IO": "transport"}),
    ],
    ids=["tcp", "unix", "tls", "spawned", "transport"],
)
async def test_restarts_lose_nothing(over, environment):
    with running_workers("numbered", over=over, **environment) as server:
        first = set(server.pids())

        async def act(client):
            await roll(server, client, ROLLS)

        client = await under_load(server, act)
        assert client.failed == [], client.report()
        assert client.sent > 200
        await asyncio.to_thread(until_gone, first)
        assert set(client.by_pid) - first, "the new ones have served"
        server.signal(signal.SIGTERM)
        assert server.wait() == 0
        assert "ERROR" not in server.log()


@pytest.mark.pins("workers.rolling")
async def test_an_idle_connection_is_answered_in_the_drain():
    """A close would cross the next request of its client."""
    with running_workers("numbered") as server:
        reader, writer = await server.open_connection()
        with contextlib.closing(writer):
            writer.write(b"GET /1 HTTP/1.1\r\nHost: x\r\n\r\n")
            assert b"connection: close" not in (await reader.readuntil(b"\r\n\r\n")).lower()
            assert (await reader.read(100)).startswith(b"1 ")
            server.signal(signal.SIGHUP)
            server.until_logged(REPLACED)
            server.until_logged("Shutting down", 2)  # both old ones know: the last may be told behind that line
            writer.write(b"GET /2 HTTP/1.1\r\nHost: x\r\n\r\n")
            answer = await reader.read()
        assert answer.startswith(b"HTTP/1.1 200 ") and b"connection: close" in answer.lower()


@pytest.mark.pins("workers.recycled")
async def test_recycling_loses_nothing():
    argv = ("--limit-max-requests", "200", "--limit-max-requests-jitter", "100")
    with running_workers("numbered", *argv) as server:

        async def act(client):
            while server.log().count("replacing it") < 3:
                await asyncio.sleep(0.05)

        client = await under_load(server, act)
        assert client.failed == [], client.report()


@pytest.mark.pins("workers.replaced")
async def test_killed_workers_lose_only_what_they_were_doing():
    """At most one request of each connection that the killed one had; all others are answered."""
    connections, kills = 6, 4
    chance = random.Random(1)
    with running_workers("numbered", workers=3) as server:

        async def act(client):
            for done in range(kills):
                await asyncio.sleep(0.2)
                os.kill(chance.choice(server.pids()), signal.SIGKILL)
                await asyncio.to_thread(server.until_logged, "was killed by SIGKILL", done + 1)

        client = await under_load(server, act, connections)
        assert len(client.failed) <= connections * kills, client.failed
        assert all("connect" not in error for _, error in client.failed), "nobody was refused"
        assert client.sent > 200
        assert server.ask()[0] == 200


@pytest.mark.pins("workers.no-orphans")
@pytest.mark.parametrize("over", ["tcp", "tls"])
async def test_a_killed_supervisor_takes_no_request_with_it(over):
    """Its workers drain. What fails is what nobody serves any more: new connections, and those of the backlog."""
    with running_workers("numbered", over=over) as server:
        workers = server.pids()

        async def act(client):
            while client.sent < 200:
                await asyncio.sleep(0.01)
            server.signal(signal.SIGKILL)
            server.wait()
            await asyncio.to_thread(until_gone, workers)

        client = await under_load(server, act)
        assert [why for _, why in client.failed if not why.startswith(("connect: ", "first: "))] == []


@pytest.mark.pins("workers.rolling-failure")
async def test_new_code_that_does_not_start_leaves_the_old_serving(tmp_path):
    module = tmp_path / "changing.py"
    module.write_text("from net_apps import numbered as app\n")
    with running_workers("changing:app", folder=tmp_path, PYTHONPATH=search_path(tmp_path)) as server:
        first = set(server.pids())
        module.write_text("import nothing_of_the_kind\n")

        async def act(client):
            server.signal(signal.SIGHUP)
            while "the restart failed: 2 workers stay" not in server.log():
                await asyncio.sleep(0.02)

        client = await under_load(server, act)
        assert client.failed == []
        assert set(server.pids()) == first
        log = server.log()
        assert log.count("it needs 'nothing_of_the_kind', which is not installed") == 1
        module.write_text("from net_apps import numbered as app\n\n")
        server.signal(signal.SIGHUP)
        server.until_logged(REPLACED)
