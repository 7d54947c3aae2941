"""What is asked of everybody: the requests, the applications' answers, and the floor, which gives the same answers."""

import asyncio
import contextlib
import re
import shutil
import socket
import subprocess
import sys
import time
from dataclasses import replace
from http.client import HTTPResponse
from pathlib import Path

import pytest
from drive import turn, until

if not sys.platform.startswith("linux"):
    pytest.skip("the benchmark is for Linux", allow_module_level=True)

from fastasgi.bench import alone, floor, scenarios, servers, verify
from fastasgi.bench._application import ApplicationFloor
from fastasgi.bench.apps import raw_app
from fastasgi.bench.contenders import KINDS
from fastasgi.bench.scenarios import HTTP, PLAIN, SCENARIOS

ROOT = Path(__file__).resolve().parents[1]
needs_compiler = pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler is installed")
BY_LENGTH = [s for s in HTTP if s.floor_headers is not None and s.floor_body is None]
WITH_FLOOR = [s for s in HTTP if s.floor_headers is not None]
FLOORS = ["floor", "floor-application"]


@pytest.fixture(scope="module")
def programs(tmp_path_factory):
    """The compiled floor program (with warnings as errors)."""
    program = floor.compile_c("floor", tmp_path_factory.mktemp("bin"))
    return servers.Ground(python=Path(sys.executable), floor=program, tree=ROOT)


# --- the floors -------------------------------------------------------------------------------------------------------


@needs_compiler
@pytest.mark.parametrize(
    ("kind", "scenario"), [(kind, s) for s in WITH_FLOOR for kind in FLOORS if KINDS[kind].takes_part(s)],
    ids=lambda given: getattr(given, "name", given),
)  # fmt: skip
def test_floor_gives_the_right_answer_of_every_scenario(programs, kind, scenario):
    if scenario.needs and kind != "floor":
        pytest.importorskip(scenario.needs)
    with servers.RunningServer(KINDS[kind], scenario, programs) as server:
        server.verify()


@needs_compiler
@pytest.mark.parametrize("kind", FLOORS)
@pytest.mark.parametrize("name", ["plain", "echo"])
def test_floor_counts_requests_cut_anywhere_and_pipelined(programs, name, kind):
    scenario = SCENARIOS[name]
    with (
        servers.RunningServer(KINDS[kind], scenario, programs) as server,
        socket.create_connection((scenarios.HOST, server.port)) as peer,
    ):
        peer.settimeout(5)
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        head = scenario.request.index(b"\r\n\r\n")
        for cut in (1, 20, head, head + 1, head + 2, head + 3, head + 4, len(scenario.request) - 1):
            peer.sendall(scenario.request[:cut])
            time.sleep(0.002)  # not to wait for anything: so that the halves arrive apart
            peer.sendall(scenario.request[cut:])
            verify.check(scenario, verify.read_answer(HTTPResponse(peer)), scenario.body)
        peer.sendall(scenario.request * 3 + scenario.request[:30])
        received = b""
        while len(received) < 3 * len(scenario.floor_answer):
            received += peer.recv(65536)
        assert received == scenario.floor_answer * 3
        peer.sendall(scenario.request[30:])
        verify.check(scenario, verify.read_answer(HTTPResponse(peer)), scenario.body)


@needs_compiler
def test_floor_serves_a_slow_reader_whole_answers(programs):
    scenario = SCENARIOS["download"]
    with (
        servers.RunningServer(KINDS["floor"], scenario, programs) as server,
        socket.create_connection((scenarios.HOST, server.port)) as peer,
    ):
        peer.settimeout(5)
        peer.sendall(scenario.request * 4)
        want = len(scenario.floor_answer) * 4
        received = bytearray()
        while len(received) < want:
            received += peer.recv(min(100_000, want - len(received)))
        assert bytes(received) == scenario.floor_answer * 4


@contextlib.asynccontextmanager
async def floor_of(app):
    """A floor with this application, in the loop of the test: what ends it, and a function that connects to it."""
    ended = asyncio.get_running_loop().create_future()
    port = servers.free_port()
    clients = []

    def connect():
        clients.append(socket.create_connection((scenarios.HOST, port)))
        clients[-1].setblocking(False)
        return clients[-1]

    async def receive():
        return alone.content_of(PLAIN.request)

    floor = ApplicationFloor(app, alone.make_scope(PLAIN.request), receive, PLAIN.floor_answer, port, ended)
    try:
        yield ended, connect
    finally:
        for client in clients:
            client.close()
        await turn(20)
        floor.stop()


async def test_floor_with_an_application_answers_each_once():
    async def app(scope, receive, send):
        await send({})

    async with floor_of(app) as (_, connect):
        clients = [connect() for _ in range(3)]
        for client in clients:
            client.send(PLAIN.request * 2 + PLAIN.request[:9])
        await turn(20)
        assert [client.recv(100_000) for client in clients] == [PLAIN.floor_answer * 2] * 3


async def test_floor_with_an_application_forgets_who_has_left():
    """What comes late for a connection is not sent to the next one, which has its descriptor."""
    gate, started = asyncio.Event(), 0

    async def app(scope, receive, send):
        nonlocal started
        started += 1
        await gate.wait()

    async with floor_of(app) as (_, connect):
        first = connect()
        first.send(PLAIN.request)
        await until(lambda: started)
        first.close()
        await turn(20)
        second = connect()
        await turn(20)
        gate.set()
        await turn(20)
        with pytest.raises(BlockingIOError):
            second.recv(1)
        second.send(PLAIN.request)
        await turn(20)
        assert second.recv(100_000) == PLAIN.floor_answer


@pytest.mark.parametrize("waits", [False, True], ids=["at once", "later"])
async def test_floor_with_an_application_ends_when_that_raises(waits):
    async def app(scope, receive, send):
        if waits:
            await turn()
        raise LookupError("nothing there")

    async with floor_of(app) as (ended, connect):
        connect().send(PLAIN.request * 3)
        with pytest.raises(LookupError):
            await ended


@needs_compiler
@pytest.mark.parametrize("words", [["--port", "x"], ["--port", "70000"], ["--host", "nowhere"], ["--what"]])
def test_floor_refuses_bad_options(programs, words):
    run = subprocess.run([programs.floor, *words], capture_output=True, text=True, timeout=5)
    assert run.returncode == 2 and run.stderr


async def test_floor_with_an_application_refuses_one_that_answers_wrongly():
    with pytest.raises(RuntimeError, match="expected"):
        await alone.check(alone.find_app(PLAIN.app), replace(PLAIN, body=b"Hello, nobody"))


def test_without_a_compiler_the_floor_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(floor.CannotCompile, match="install gcc or clang"):
        floor.compile_c("floor", tmp_path)


@needs_compiler
def test_program_that_does_not_compile_says_why(tmp_path):
    (tmp_path / "bad.c").write_text("int main(void) { return x; }\n")
    with pytest.raises(floor.CannotCompile, match=r"(?s)bad\.c did not compile: .*undeclared"):
        floor.compile_c("bad", tmp_path, sources=tmp_path)
    assert not (tmp_path / "bad").exists()


# --- the requests -----------------------------------------------------------------------------------------------------


def test_browser_like_head_is_about_450_bytes():
    assert 430 <= len(PLAIN.request) <= 470
    assert len(scenarios.BROWSER_HEADERS + scenarios.MORE_HEADERS) == 20
    assert len({name.lower() for name, _ in scenarios.BROWSER_HEADERS + scenarios.MORE_HEADERS}) == 20


@pytest.mark.parametrize("scenario", BY_LENGTH, ids=lambda scenario: scenario.name)
def test_floor_answer_says_its_own_length(scenario):
    head, _, body = scenario.floor_answer.partition(b"\r\n\r\n")
    assert f"content-length: {len(body)}".encode() in head


@pytest.mark.parametrize("scenario", [s for s in HTTP if s.live], ids=lambda scenario: scenario.name)
def test_live_requests_differ_in_the_nonce_only(scenario):
    nonce = scenarios.NONCE.encode()
    assert len(nonce) == 16
    for text, other in zip(scenario.live, (scenario.request, scenario.body), strict=True):
        assert text.count(nonce) == 1 and other.count(nonce) == 0
    method, target, rest = scenario.live[0].split(b" ", 2)
    length = re.search(rb"Content-Length: (\d+)", rest)
    assert length is None or int(length[1]) == len(rest.partition(b"\r\n\r\n")[2])


def halves(body):
    middle = len(body) // 2
    return [(body[:middle], True), (body[middle:], False)]


async def answer_of(app, request):
    """What an application sends to a request that comes in two pieces."""
    head, _, content = request.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    method, target, _ = first.split(" ")
    path, _, query = target.partition("?")
    pairs = [line.partition(": ")[::2] for line in lines]
    scope = {"type": "http", "method": method, "path": path, "query_string": query.encode()}
    scope["headers"] = [(name.lower().encode(), value.encode()) for name, value in pairs]
    messages = [{"type": "http.request", "body": part, "more_body": more} for part, more in halves(content)]
    sent = []

    async def receive():
        return messages.pop(0)

    async def send(message):
        sent.append(message)

    await app(scope, receive, send)
    fields = [(name.decode(), value.decode()) for name, value in sent[0]["headers"]]
    return verify.Answer(sent[0]["status"], fields, b"".join(message["body"] for message in sent[1:]))


RAW = [scenario for scenario in HTTP if scenario.app.startswith("raw_app:")]


@pytest.mark.parametrize("scenario", RAW, ids=lambda scenario: scenario.name)
async def test_application_gives_its_scenario_s_answer(scenario):
    app = getattr(raw_app, scenario.app.partition(":")[2])
    verify.check(scenario, await answer_of(app, scenario.request), scenario.body)


@pytest.mark.parametrize("scenario", RAW, ids=lambda scenario: scenario.name)
async def test_application_tells_what_arrived(scenario):
    app = getattr(raw_app, scenario.app.partition(":")[2])
    request = verify.with_query(scenario.request, b"abc")
    first, second = [verify._read_reflection(await answer_of(app, request)) for _ in range(2)]
    verify._check_arrived(request, b"abc", first)
    assert second == {**first, "call": first["call"] + 1}
    wrong = {"method": "PUT", "path": "/x", "query": "x", "body": "x", "headers": first["headers"][1:]}
    for name, value in wrong.items():
        with pytest.raises(verify.WrongAnswer, match="expected the application to see the"):
            verify._check_arrived(request, b"abc", {**first, name: value})


async def test_application_refuses_other_scopes():
    with pytest.raises(NotImplementedError, match="lifespan"):
        await raw_app.plain({"type": "lifespan"}, None, None)
