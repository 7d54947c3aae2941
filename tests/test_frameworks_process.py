"""Applications under options of the server, and inside a process that has a loop of its own."""

import asyncio
import contextlib
import http.client
import logging
import re
import signal
import socket
import subprocess

import aiohttp
import httpx
import pytest
from frameworks.common import BLOCK
from frameworks.serving import FRAMEWORKS, PATIENCE_S, WITHOUT_LIFESPAN, Site
from net import IOS

import fastasgi

pytest_plugins = ["frameworks.fixtures"]


def get(site, path, **headers):
    connection = http.client.HTTPConnection("127.0.0.1", site.port, timeout=PATIENCE_S)
    with contextlib.closing(connection):
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()


@pytest.fixture
def start():
    """Start sites that end with the test."""
    sites = []

    def run(*argv, **how):
        sites.append(Site(*argv, **how))
        return sites[-1]

    yield run
    for site in sites:
        site.kill()


@pytest.mark.parametrize("framework", ["starlette", "fastapi", "django", "quart"])
def test_root_path_is_in_absolute_urls(start, framework):
    """A proxy has cut the prefix off; URLs have it again."""
    site = start(framework, "--root-path", "/api")
    _, text = get(site, "/urls")
    item = re.search(r'"item": ?"([^"]+)"', text)[1]
    assert item == f"{site.url}/api/items/7"
    assert get(site, "/hello") == (200, "hello")


@pytest.mark.parametrize("framework", sorted(FRAMEWORKS))
def test_two_workers(start, framework):
    """Each starts and ends its application; both answer, also what was uploaded to them."""
    site = start(framework, "--workers", "2")
    assert {get(site, "/hello") for _ in range(8)} == {(200, "hello")}
    connection = http.client.HTTPConnection("127.0.0.1", site.port, timeout=PATIENCE_S)
    with contextlib.closing(connection):
        connection.request("POST", "/stream", BLOCK * 3, {"content-type": "application/octet-stream"})
        assert f'"size":{3 * len(BLOCK)}' in connection.getresponse().read().decode().replace(" ", "")
    site.stop(signal.SIGTERM)
    told = [line for line in site.err.all if line.startswith("event: ")]
    assert sorted(told) == ([] if framework in WITHOUT_LIFESPAN else ["event: shutdown"] * 2 + ["event: startup"] * 2)
    assert "ERROR" not in "\n".join(site.err.all)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stops_while_it_is_used(start, number):
    """The response that runs is finished first; idle connections do not hold the end up."""
    site = start("starlette")
    idle = http.client.HTTPConnection("127.0.0.1", site.port, timeout=PATIENCE_S)
    idle.request("GET", "/hello")
    idle.getresponse().read()
    busy = http.client.HTTPConnection("127.0.0.1", site.port, timeout=PATIENCE_S)
    with contextlib.closing(idle), contextlib.closing(busy):
        busy.request("GET", "/download?blocks=400")
        answer = busy.getresponse()
        answer.read(10)
        site.child.send_signal(number)
        site.err.wait("Shutting down")
        assert len(answer.read()) == 400 * len(BLOCK) - 10
        assert site.child.wait(PATIENCE_S) == 0
    site.err.wait("^event: shutdown$")
    assert "ERROR" not in "\n".join(site.err.all)


def test_background_work_is_awaited_at_the_end(start):
    site = start("starlette")
    assert get(site, "/background") == (200, "started")
    site.err.wait("^event: background waits$")
    open_connection = http.client.HTTPConnection("127.0.0.1", site.port, timeout=PATIENCE_S)
    with contextlib.closing(open_connection):
        open_connection.request("POST", "/release")
        open_connection.getresponse().read()
    ended = site.stop()
    told = [line for line in site.err.all if line.startswith("event: ")]
    assert told[-3:] == ["event: background done", "event: background in a thread", "event: shutdown"]
    assert not [line for line in ended if "ERROR" in line]


def test_unix_socket(start, tmp_path):
    path = tmp_path / "site.sock"
    start("fastapi", "--uds", str(path))
    command = ["curl", "-sS", "-m", "5", "--unix-socket", str(path), "http://site/urls"]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S).stdout
    assert answer == '{"base":"http://site/","item":"http://site/items/7"}'


# --------------------------------------------------------------------------------------- in our own loop
@contextlib.asynccontextmanager
async def served(app, io, **options):
    """Serve in the loop of the test; the URL."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        sock.setblocking(False)
        config = fastasgi.Config(app, log_config=None, log_level="info", **options)
        config.io = io
        server = fastasgi.Server(config)
        url = f"http://127.0.0.1:{sock.getsockname()[1]}"
        task = asyncio.create_task(server.serve([sock]))
        async with asyncio.timeout(PATIENCE_S):
            while not server.started:
                assert not task.done(), task.exception()
                await asyncio.sleep(0)
        try:
            yield url
        finally:
            server.should_exit = True
            async with asyncio.timeout(PATIENCE_S):
                await task


@pytest.fixture(params=["starlette", "fastapi"])
def app(request):
    """Those whose state is made by each startup, so that loop after loop can serve them."""
    if request.param == "starlette":
        from frameworks.starlette_app import app
    else:
        from frameworks.fastapi_app import app
    return app


@pytest.mark.parametrize("io", IOS)
async def test_in_process_with_aiohttp(app, io, event_loop_kind, caplog):
    """Connections are kept, pipes are streamed both ways, an abandoned download is noticed."""
    caplog.set_level(logging.WARNING)

    async def blocks():
        for _ in range(40):
            yield BLOCK

    async with served(app, io) as url, aiohttp.ClientSession(url) as session:
        async with session.post("/stream", data=blocks()) as answer:
            assert (await answer.json())["size"] == 40 * len(BLOCK)
        async with session.get("/download", params={"blocks": 40}) as answer:
            assert await answer.read() == BLOCK * 40
        async with session.get("/endless") as answer:
            await answer.content.readexactly(len(BLOCK))
            answer.close()
        form = aiohttp.FormData({"note": "kept"})
        form.add_field("file", BLOCK * 3, filename="x.bin")
        async with session.post("/upload", data=form) as answer:
            assert (await answer.json())["size"] == 3 * len(BLOCK)
        texts = await asyncio.gather(*(text_of(session, f"/items/{number}") for number in range(20)))
        assert len(texts) == 20
    assert not caplog.records, caplog.text


async def text_of(session, path):
    async with session.get(path) as answer:
        return await answer.text()


@pytest.mark.parametrize("io", IOS)
async def test_in_process_with_httpx(app, io, event_loop_kind, caplog):
    """One error of a handler is one record; what follows is served."""
    caplog.set_level(logging.WARNING)
    async with served(app, io) as url:
        no_tls = {"verify": False, "trust_env": False, "timeout": PATIENCE_S}
        async with httpx.AsyncClient(base_url=url, **no_tls) as client:
            assert (await client.get("/lifespan")).text == "from startup"
            assert (await client.get("/boom")).status_code == 500
            assert (await client.get("/hello")).text == "hello"
    assert [record.name for record in caplog.records] == ["fastasgi.error"], caplog.text
    assert caplog.records[0].exc_info[0] is ValueError


@pytest.mark.parametrize("io", IOS)
async def test_given_socket_is_made_non_blocking(io):
    """asyncio does it with the sockets it is given; one that blocks would stop the whole worker in accept()."""
    async def app(scope, receive, send):
        pass

    server = fastasgi.Server(fastasgi.Config(app, log_config=None, lifespan="off"))
    server.config.io = io
    with socket.create_server(("127.0.0.1", 0)) as sock:
        await server.startup([sock])
        blocking = sock.getblocking()
        await server.shutdown([sock])
    assert not blocking
