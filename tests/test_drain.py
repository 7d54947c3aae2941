"""How a server stops: the order of the drain, second signals, bounds, exit codes.

The steps of the runtime first, in memory; then whole processes with real signals.
"""

import asyncio
import contextlib
import os
import re
import signal
import socket
import subprocess
import sys

import pytest
from drive import GET, START, body, hello, request, serving, turn, until
from net import IOS
from process import ROOT, running
from waiting import until as wait_until

# --- the steps, in memory -------------------------------------------------------------------------


@pytest.mark.pins("process.signal-drain")
async def test_a_response_that_could_not_announce_the_end_leaves_its_connection_open():
    """Its head had left before the drain: closed at once, it would cross a request that is on its way."""
    ends = asyncio.Event()

    async def app(scope, receive, send):
        if scope["path"] == "/stream":
            await send(START)
            await send({"type": "http.response.body", "body": b"piece", "more_body": True})
            await ends.wait()
            await send(body())
        else:
            await hello(scope, receive, send)

    async with serving(app) as bench:
        peers = [bench.connect() for _ in range(2)]
        for peer in peers:
            peer.feed(request(target="/stream"))
        await turn(3)
        bench.runtime.announce_drain()
        ends.set()
        await turn(3)
        assert [peer.state for peer in peers] == ["open", "open"]
        peers[0].feed(GET)
        await turn(3)
        assert peers[0].output.endswith(b"ok") and b"connection: close" in peers[0].output
        assert peers[0].state != "open"
        bench.runtime.drain()
        await turn(3)
        assert peers[1].state != "open"


@pytest.mark.pins("process.signal-drain")
async def test_idle_connections_close_at_once():
    async with serving(hello) as bench:
        fresh, kept = bench.connect(), bench.connect()
        await kept.answer(data=GET)
        kept.forget()
        bench.runtime.drain()
        await turn(3)
        assert fresh.state != "open" and kept.state != "open"
        assert fresh.output == kept.output == b""


@pytest.mark.pins("process.signal-drain")
@pytest.mark.parametrize("sent", [1, 20])
async def test_half_a_head_may_become_whole_and_is_answered_if_not(sent):
    async with serving(hello) as bench:
        completes, stays = bench.connect(), bench.connect()
        for peer in (completes, stays):
            peer.feed(GET[:sent])
        bench.runtime.drain()
        await turn(3)
        assert (completes.state, stays.state) == ("open", "open")
        assert (await completes.answer(data=GET[sent:])).announces_close
        bench.runtime.disconnect()
        (answer,) = stays.answers()
        assert (answer.status, answer.announces_close) == (503, True)
        await bench.pass_time(5)
        assert stays.closed


@pytest.mark.pins("process.signal-drain")
async def test_a_running_response_announces_the_close():
    gate = asyncio.Event()

    async def app(scope, receive, send):
        await gate.wait()
        await hello(scope, receive, send)

    async with serving(app) as bench:
        peer = bench.connect()
        peer.feed(GET + GET)
        await turn(3)
        bench.runtime.drain()
        await turn(3)
        assert peer.state == "open"
        gate.set()
        answer = await peer.answer()
        assert answer.announces_close
        await peer.until_ended()
        assert peer.closed
        await turn(5)
        assert bench.runtime.requests_total == 1, "what was pipelined behind is not begun"


@pytest.mark.pins("process.signal-drain")
async def test_a_response_whose_head_has_left_is_finished_then_closed():
    gate = asyncio.Event()

    async def app(scope, receive, send):
        await send(START)
        await send(body(b"x", True))
        await gate.wait()
        await send(body(b"y"))

    async with serving(app) as bench:
        peer = bench.connect()
        peer.feed(GET)
        await turn(3)
        bench.runtime.drain()
        await bench.pass_time(10)
        assert peer.state == "open"
        gate.set()
        assert (await peer.answer()).body == b"xy"
        assert peer.closed


@pytest.mark.pins("process.signal-drain")
async def test_a_body_that_is_on_its_way_is_still_read():
    async def app(scope, receive, send):
        while (await receive())["more_body"]:
            pass
        await hello(scope, receive, send)

    async with serving(app) as bench:
        peer = bench.connect()
        peer.feed(request("POST", length=4) + b"bo")
        await turn(3)
        bench.runtime.drain()
        await turn(3)
        peer.feed(b"dy")
        answer = await peer.answer("POST")
        assert answer.body == b"ok" and answer.announces_close


async def test_wait_closed_with_nothing_to_wait_for():
    async with serving(hello) as bench:
        bench.runtime.drain()
        await asyncio.wait_for(bench.runtime.wait_closed(), 5)


async def test_wait_closed_waits_for_connections_and_background_work():
    gate = asyncio.Event()

    async def app(scope, receive, send):
        await hello(scope, receive, send)
        await gate.wait()

    async with serving(app) as bench:
        peer = bench.connect()
        await peer.answer(data=GET)
        bench.runtime.drain()
        closed = bench.runtime.wait_closed()
        peer.lost() if peer.state in ("open", "closing") else None
        await turn(5)
        assert bench.runtime.connections == 0
        assert not closed.done(), "the exchange still runs"
        gate.set()
        await asyncio.wait_for(closed, 5)


@pytest.mark.pins("process.drain-bounded")
async def test_disconnect_then_cancel_then_abort():
    seen = []

    async def app(scope, receive, send):
        await send(START)
        await send(body(b"x", True))
        try:
            while True:
                seen.append((await receive())["type"])
                if seen[-1] == "http.disconnect":
                    await asyncio.Event().wait()
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    async with serving(app) as bench:
        peer = bench.connect()
        peer.feed(GET)
        await turn(3)
        bench.runtime.drain()
        await turn(3)
        assert seen == ["http.request"]
        bench.runtime.disconnect()
        await turn(3)
        assert seen == ["http.request", "http.disconnect"]
        bench.runtime.cancel()
        await turn(3)
        assert seen == ["http.request", "http.disconnect", "cancelled"]
        await until(lambda: bench.runtime.requests_active == 0)
        bench.runtime.abort()
        await until(lambda: bench.idle, "nothing left")


@pytest.mark.pins("process.drain-bounded")
async def test_disconnect_wakes_also_a_send():
    """A stream to a stopped reader is told as well."""
    ended = []

    async def app(scope, receive, send):
        await send(START)
        try:
            while True:
                await send(body(b"x" * 65536, True))
        except OSError:
            ended.append(True)

    async with serving(app) as bench:
        peer = bench.connect()
        peer.channel.hold_output(1000)
        peer.feed(GET)
        await turn(10)
        bench.runtime.drain()
        bench.runtime.disconnect()
        await turn(5)
        bench.runtime.cancel()
        await until(lambda: bench.runtime.requests_active == 0)
        bench.runtime.abort()
        await until(lambda: bench.idle)


async def test_connections_made_while_draining_are_closed():
    """Accepted in the same turn as the signal: nobody serves them any more."""
    async with serving(hello) as bench:
        bench.runtime.drain()
        late = bench.connect()
        late.feed(GET)
        await turn(5)
        answers = late.answers()
        assert late.state != "open"
        assert not answers or answers[0].announces_close


# --- whole processes ------------------------------------------------------------------------------

QUICK = ("--timeout-graceful-shutdown", "0.2", "--timeout-disconnect-grace", "0.2")


@pytest.fixture(params=["socket", "transport"])
def io(request):
    return request.param


@pytest.mark.pins("process.signal-drain", "process.exit-codes", "process.lifespan-shutdown")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_idle_server_stops_at_once(number, io):
    """Also with a client that keeps its connection."""
    with running("main", io=io) as server:
        client = server.connect()
        assert client.get().body == b"Hello, world!"
        server.signal(number)
        assert client.rest() == b""
        assert server.wait() == 0
        assert server.events() == ["startup", "shutdown"]
        assert not server.is_listening()


@pytest.mark.pins("process.signal-drain", "process.lifespan-shutdown")
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_a_running_request_is_finished(loop, io):
    """Order: no new connections, idle ones close, the running one ends, then the lifespan."""
    with running("main", "--loop", loop, io=io) as server:
        idle, busy = server.connect(), server.connect()
        assert idle.get().status == 200
        assert loop.encode() in idle.get("/loop").body
        busy.send(b"POST /slow HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\n")
        while "slow begins" not in server.events():
            idle.get()
        server.signal(signal.SIGTERM)
        assert idle.rest() == b""
        assert not server.is_listening()
        assert server.child.poll() is None
        answer = busy.answer(b"body", "POST")
        assert answer.body == b"slow"
        assert answer.announces_close
        assert busy.rest() == b""
        assert server.wait() == 0
        assert server.events() == ["startup", "slow begins", "slow ends", "shutdown"]


@pytest.mark.pins("process.drain-bounded", "process.signal-drain", "process.lifespan-shutdown")
@pytest.mark.parametrize(
    ("path", "events"),
    [
        ("/stream", ["startup", "disconnect", "cancelled", "shutdown"]),
        ("/patient", ["startup", "disconnect", "cancelled", "shutdown"]),
    ],
)
def test_an_open_stream_never_holds_the_server(path, events, io):
    """http.disconnect after the one bound, cancellation after the other, the lifespan in any case."""
    with running("main", *QUICK, io=io) as server:
        client = server.connect()
        client.send(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        client.until(b"data: hello")
        server.signal(signal.SIGTERM)
        rest = client.rest()
        assert not rest.endswith(b"0\r\n\r\n"), "a stream that was cut must not look whole"
        assert f"1 request is (GET {path} of 127.0.0.1:" in server.log()
        assert server.wait(15) == 0
        found = [name for name in server.events() if name != "cancelled again"]
        assert found == events


@pytest.mark.pins("process.drain-bounded")
def test_a_stopped_download_never_holds_the_server(io):
    with running("main", *QUICK, io=io) as server:
        client, other = server.connect(), server.connect()
        client.send(b"GET /download HTTP/1.1\r\nHost: x\r\n\r\n")
        client.until(b"\r\n\r\n")
        while other.get("/progress").body == b"0 0":
            pass
        server.signal(signal.SIGTERM)
        assert server.wait(15) == 0
        assert server.events() == ["startup", "shutdown"]


@pytest.mark.pins("process.second-signal")
@pytest.mark.parametrize(
    "numbers",
    [(signal.SIGTERM, signal.SIGTERM), (signal.SIGINT, signal.SIGINT), (signal.SIGTERM, signal.SIGINT)],
)
def test_a_second_signal_cancels_at_once(numbers):
    """The bounds are a minute each: only the second signal can end it."""
    slow = ("--timeout-graceful-shutdown", "60", "--timeout-disconnect-grace", "60")
    with running("main", *slow) as server:
        idle, client = server.connect(), server.connect()
        idle.get()
        client.send(b"GET /stream HTTP/1.1\r\nHost: x\r\n\r\n")
        client.until(b"data: hello")
        server.signal(numbers[0])
        assert idle.rest() == b""
        assert server.child.poll() is None
        server.signal(numbers[1])
        client.rest()
        assert server.wait(15) == 0
        assert server.events()[-2:] == ["cancelled", "shutdown"]


@pytest.mark.pins("process.signal-drain")
def test_background_work_is_waited_for():
    with running("main", io="socket") as server:
        first, second = server.connect(), server.connect()
        assert first.get("/background").body == b"ok"
        server.signal(signal.SIGTERM)
        # both idle connections close, the work after the response does not count as idle
        first.rest()
        second.rest()
        assert server.child.poll() is None
        server.signal(signal.SIGTERM)
        assert server.wait(15) == 0
        assert server.events() == ["startup", "background cancelled", "shutdown"]


@pytest.mark.pins("process.signal-drain", "process.exit-codes")
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_a_thread_that_never_ends_does_not_hold_the_process(loop):
    """Python joins an executor's threads at exit, without a bound."""
    with running("main", "--loop", loop) as server:
        assert server.connect().get("/thread").body == b"ok"
        server.signal(signal.SIGTERM)
        server.signal(signal.SIGINT)
        assert server.wait(15) == 0
        assert "threads of the application are still running" in server.log()


@pytest.mark.pins("process.signal-drain", "process.exit-codes")
@pytest.mark.parametrize("workers", ["1", "2"])
def test_idle_threads_of_an_executor_do_not_hold_the_process(workers):
    """Those of the application's own, which the interpreter tells of the end before it waits for threads."""
    with running("main", "--workers", workers) as server:
        assert server.connect().get("/pool").body == b"ok"
        server.signal(signal.SIGTERM)
        assert server.wait() == 0
        assert "threads of the application" not in server.log()


@pytest.mark.pins("process.exit-codes", "process.startup-failure")
@pytest.mark.parametrize(
    ("app", "argv", "code", "says"),
    [
        ("failing", (), 3, "no database today"),
        ("no_such_module:app", (), 3, "no_such_module"),
        ("net_apps:nothing", (), 3, "nothing"),
        ("main", ("--no-such-option",), 2, "--no-such-option"),
        ("main", ("--timeout-keep-alive", "soon"), 2, "soon"),
    ],
    ids=["startup failed", "no module", "no attribute", "unknown option", "bad value"],
)
def test_exit_codes(app, argv, code, says):
    with running(app, *argv) as server:
        assert server.wait() == code
        assert says in server.log()
        assert "Traceback" not in server.log() or app == "failing"


@pytest.mark.pins("process.exit-codes", "process.lifespan-shutdown")
@pytest.mark.parametrize("when", ["now", "late", "answered"])
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("io", IOS)
def test_an_application_that_exits_ends_the_process(io, loop, when):
    """SystemExit is no error of a request: it goes to the loop, after the batch, and the server drains."""
    with running("exits", "--loop", loop, io=io) as server:
        other, client = server.connect(), server.connect()
        other.send(b"GET /other HTTP/1.1\r\nHost: x\r\n\r\n")
        wait_until(lambda: "event: waits" in server.log(), server.log)
        client.send(b"GET /%b HTTP/1.1\r\nHost: x\r\n\r\n" % when.encode())
        client.rest()
        assert other.rest().endswith(b"done")
        assert server.wait(15) == 7
        log = server.log()
        assert "app called sys.exit(7): the process has ended with it" in log
        assert "event: shutdown" in log
        assert "never retrieved" not in log and "Traceback" not in log


STUCK = """
import asyncio

async def app(scope, receive, send):
    if scope["type"] == "http":
        print("event: begins", flush=True)
        await asyncio.sleep(60)
    await receive()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await asyncio.sleep(60)
"""


@contextlib.contextmanager
def running_stuck(folder):
    """A server whose application answers nothing, and has no end: the program and what it writes."""
    (folder / "stuck.py").write_text(STUCK)
    words = [sys.executable, "-m", "fastasgi", "stuck:app", "--port", "0", "--timeout-lifespan-shutdown", "60"]
    with subprocess.Popen(
        words,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as server:
        try:
            yield server
        finally:
            server.kill()


def line_with(output, text):
    return next(line for line in output if text in line)


@pytest.mark.pins("process.second-signal")
def test_a_second_signal_cuts_the_applications_shutdown_short(tmp_path):
    with running_stuck(tmp_path) as server:
        for awaited in ("Press CTRL+C", "Waiting for application shutdown"):
            line_with(server.stdout, awaited)
            server.send_signal(signal.SIGINT)
        assert server.wait(15) == 0


@pytest.mark.pins("process.second-signal")
def test_a_third_signal_cuts_the_applications_shutdown_short_after_the_requests(tmp_path):
    """The second one has cancelled these."""
    with running_stuck(tmp_path) as server:
        port = int(re.search(r":(\d+) ", line_with(server.stdout, "Press CTRL+C"))[1])
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            for awaited in ("event: begins", "Shutting down", "Waiting for application shutdown"):
                line_with(server.stdout, awaited)
                server.send_signal(signal.SIGINT)
            assert server.wait(15) == 0
