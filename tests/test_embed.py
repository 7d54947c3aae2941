"""embed: servers within other programs, in their loop or beside it."""

import asyncio
import concurrent.futures
import http.client
import logging
import signal
import subprocess
import sys
import threading
import urllib.request
from pathlib import Path

import pytest
from drive import hello, until

import fastasgi
from fastasgi.errors import ConfigError, StartupError
from fastasgi.worker import Server

ROOT = Path(__file__).resolve().parents[1]
PATIENCE_S = 15.0


def get(server, path="/"):
    """The body that a plain client gets."""
    with urllib.request.urlopen(server.url + path, timeout=PATIENCE_S) as found:
        return found.read()


async def failing(scope, receive, send):
    """Cannot start."""
    await receive()
    await send({"type": "lifespan.startup.failed", "message": "no database today"})


class Lifespan:
    """An application that keeps what happened to it, and in which thread."""

    def __init__(self):
        self.seen = []
        self.gate = None

    async def __call__(self, scope, receive, send):
        if scope["type"] == "lifespan":
            self.gate = asyncio.Event()
            for _ in range(2):
                message = await receive()
                self.seen.append((message["type"], threading.current_thread().name))
                await send({"type": message["type"] + ".complete"})
            return
        if scope["path"] == "/wait":
            self.seen.append(("waits", threading.current_thread().name))
            await self.gate.wait()
        await hello(scope, receive, send)

    @property
    def events(self):
        return [name for name, _ in self.seen]


WHOLE = ["lifespan.startup", "lifespan.shutdown"]


# ------------------------------------------------------------------------------------------- in our loop
@pytest.mark.parametrize("io", ["socket", "transport"])
async def test_serve(event_loop_kind, io):
    app = Lifespan()
    async with fastasgi.serve(app, port=0, io=io) as server:
        assert isinstance(server, Server) and server.started
        assert await asyncio.to_thread(get, server) == b"ok"
    assert not server.started and app.events == WHOLE


async def test_several_in_one_loop_and_each_again():
    first, second = fastasgi.serve(hello, port=0), fastasgi.serve(hello, port=0)
    for _ in range(2):
        async with first as one, second as other:
            assert one.url != other.url
            assert await asyncio.to_thread(get, one) == await asyncio.to_thread(get, other) == b"ok"


async def test_serve_that_cannot_start():
    with pytest.raises(StartupError, match="no database today"):
        async with fastasgi.serve(failing, port=0):
            raise AssertionError("the block does not begin")


async def test_bad_option():
    with pytest.raises(ConfigError, match=r"unknown option 'prot'; did you mean 'port'"):
        fastasgi.serve(hello, prot=0)


@pytest.mark.parametrize(("name", "value"), [("workers", 2), ("reload", True)])
def test_what_needs_processes_is_refused(name, value, monkeypatch):
    with pytest.raises(ConfigError, match=f"^{name}: a server within another program is one process; use run"):
        fastasgi.serve("main:app", **{name: value})
    monkeypatch.setenv("WEB_CONCURRENCY", "4")  # meant for whoever runs the program
    fastasgi.serve_in_thread("main:app", workers=1)
    fastasgi.serve_in_thread("main:app")


async def test_signals_and_logging_are_left_to_the_program():
    before = signal.getsignal(signal.SIGINT), list(logging.getLogger("fastasgi").handlers)
    async with fastasgi.serve(hello, port=0):
        assert (signal.getsignal(signal.SIGINT), logging.getLogger("fastasgi").handlers) == before


async def test_an_error_of_the_block_ends_the_server():
    app = Lifespan()
    with pytest.raises(ValueError, match="of the block"):
        async with fastasgi.serve(app, port=0):
            raise ValueError("of the block")
    assert app.events == WHOLE


async def test_a_cancellation_cuts_the_drain_short():
    app = Lifespan()

    asking, draining = [], asyncio.Event()

    async def program():
        async with fastasgi.serve(app, port=0, timeout_graceful_shutdown=60) as server:
            asking.append(asyncio.create_task(asyncio.to_thread(open_and_wait, server.url)))
            await until_true(lambda: "waits" in app.events)
            draining.set()

    task = asyncio.create_task(program())
    await draining.wait()
    for _ in range(20):
        await asyncio.sleep(0)
    assert not task.done()
    task.cancel()
    async with asyncio.timeout(PATIENCE_S):
        with pytest.raises(asyncio.CancelledError):
            await task
        await asking[0]
    assert app.events == ["lifespan.startup", "waits", "lifespan.shutdown"]


async def until_true(condition):
    async with asyncio.timeout(PATIENCE_S):
        while not condition():
            await asyncio.sleep(0.005)


def open_and_wait(url):
    """Ask for /wait; the connection ends without an answer."""
    host, _, port = url.removeprefix("http://").partition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=PATIENCE_S)
    try:
        connection.request("GET", "/wait")
        connection.getresponse()
    except (ConnectionError, http.client.HTTPException):
        pass
    finally:
        connection.close()


async def test_a_server_that_ended_by_itself():
    """The block goes on, and ends as usual."""
    async with fastasgi.serve(hello, port=0, limit_max_requests=1) as server:
        await asyncio.to_thread(get, server)
        server.should_exit = True
        await until(lambda: not server.started)
    async with server:
        assert server.started


# ------------------------------------------------------------------------------------------- in a thread
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_serve_in_thread(loop):
    app = Lifespan()
    with fastasgi.serve_in_thread(app, port=0, loop=loop) as server:
        assert get(server) == b"ok"
        assert app.seen == [("lifespan.startup", "fastasgi-server")]
    assert app.events == WHOLE
    assert "fastasgi-server" not in [thread.name for thread in threading.enumerate()]


async def test_in_a_notebook():
    """A loop runs in this thread already, and is held up meanwhile; another cell stops it."""
    server = fastasgi.serve_in_thread(hello, port=0)
    server.start()
    assert get(server) == b"ok"
    with pytest.raises(RuntimeError, match="runs already"):
        server.start()
    server.stop()
    server.stop()
    server.start()
    assert get(server) == b"ok"
    server.stop()


def test_many_threads_ask_and_one_of_them_stops():
    with fastasgi.serve_in_thread(hello, port=0) as server:
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            assert list(pool.map(lambda _: get(server), range(40))) == [b"ok"] * 40
            pool.submit(server.stop).result(PATIENCE_S)
        assert not server.started


def test_thread_that_cannot_start():
    with pytest.raises(StartupError, match="no database today"), fastasgi.serve_in_thread(failing, port=0):
        raise AssertionError("the block does not begin")
    with pytest.raises(StartupError, match="no_such_module"):
        fastasgi.serve_in_thread("no_such_module:app", port=0).start()


def test_port_that_is_taken():
    with (
        fastasgi.serve_in_thread(hello, port=0) as server,
        pytest.raises(StartupError, match="is in use"),
    ):
        fastasgi.serve_in_thread(hello, port=int(server.url.rpartition(":")[2])).start()


def test_what_the_server_raised_comes_out_at_the_end(monkeypatch):
    async def on_tick(self, counter):
        raise ValueError("a bug")

    monkeypatch.setattr(Server, "on_tick", on_tick)
    app = Lifespan()
    with pytest.raises(ValueError, match="a bug"), fastasgi.serve_in_thread(app, port=0):
        pass
    assert app.events == WHOLE


def test_ctrl_c_ends_the_block_and_the_server():
    """The main thread is interrupted, whatever it waits for."""
    code = (
        "import fastasgi, signal, time\n"
        "async def app(scope, receive, send):\n"
        "    if scope['type'] == 'lifespan':\n"
        "        await receive(); await send({'type': 'lifespan.startup.complete'})\n"
        "        await receive(); print('ended', flush=True); await send({'type': 'lifespan.shutdown.complete'})\n"
        "with fastasgi.serve_in_thread(app, port=0) as server:\n"
        "    signal.raise_signal(signal.SIGINT)\n"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=20)
    assert run.stdout == "ended\n"
    assert run.stderr.splitlines()[-1] == "KeyboardInterrupt"
