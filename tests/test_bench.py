"""The benchmarks tell the truth: the floor answers, wrong answers are refused by name, figures add up.

Bounded: no load, no peers from the index; servers are the floor program and small ones made here.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from dataclasses import replace
from http.client import HTTPResponse
from pathlib import Path

import pytest

BENCH = Path(__file__).resolve().parent.parent / "bench"
sys.path.insert(0, str(BENCH))

import apps  # noqa: E402
import bound  # noqa: E402
import compare  # noqa: E402
import engine  # noqa: E402
import idle  # noqa: E402
import load  # noqa: E402
import measure  # noqa: E402
import report  # noqa: E402
import scenarios  # noqa: E402
import servers  # noqa: E402

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the benchmarks are for Linux")
needs_compiler = pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler is installed")

PLAIN = scenarios.SCENARIOS["plain"]
BY_LENGTH = [s for s in scenarios.SCENARIOS.values() if s.floor_body is None]


@pytest.fixture(scope="module")
def floor(tmp_path_factory):
    """The compiled floor program (with warnings as errors)."""
    return load.compile_c("floor", tmp_path_factory.mktemp("bin"))


def run_floor(floor, scenario=PLAIN):
    return servers.RunningServer(
        servers.KINDS["floor"], scenario, python=Path(sys.executable), floor=floor, core=None
    )


# ---------------------------------------------------------------------------------------- the floor
@needs_compiler
@pytest.mark.parametrize("scenario", scenarios.SCENARIOS.values(), ids=lambda scenario: scenario.name)
def test_floor_gives_the_right_answer_of_every_scenario(floor, scenario):
    with run_floor(floor, scenario) as server:
        server.verify()


@needs_compiler
@pytest.mark.parametrize("name", ["plain", "echo"])
def test_floor_counts_requests_cut_anywhere_and_pipelined(floor, name):
    scenario = scenarios.SCENARIOS[name]
    with run_floor(floor, scenario) as server, socket.create_connection((servers.HOST, server.port)) as peer:
        peer.settimeout(5)
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        head = scenario.request.index(b"\r\n\r\n")
        for cut in (1, 20, head, head + 1, head + 2, head + 3, head + 4, len(scenario.request) - 1):
            peer.sendall(scenario.request[:cut])
            time.sleep(0.002)  # not to wait for anything: so that the halves arrive apart
            peer.sendall(scenario.request[cut:])
            scenario.verify(scenarios.read_answer(HTTPResponse(peer)))
        peer.sendall(scenario.request * 3 + scenario.request[:30])
        received = b""
        while len(received) < 3 * len(scenario.floor_answer):
            received += peer.recv(65536)
        assert received == scenario.floor_answer * 3
        peer.sendall(scenario.request[30:])
        scenario.verify(scenarios.read_answer(HTTPResponse(peer)))


@needs_compiler
def test_floor_serves_a_slow_reader_whole_answers(floor):
    scenario = scenarios.SCENARIOS["download"]
    with run_floor(floor, scenario) as server, socket.create_connection((servers.HOST, server.port)) as peer:
        peer.settimeout(5)
        peer.sendall(scenario.request * 4)
        want = len(scenario.floor_answer) * 4
        received = bytearray()
        while len(received) < want:
            received += peer.recv(min(100_000, want - len(received)))
        assert bytes(received) == scenario.floor_answer * 4


@needs_compiler
@pytest.mark.parametrize("words", [["--port", "x"], ["--port", "70000"], ["--host", "nowhere"], ["--what"]])
def test_floor_refuses_bad_options(floor, words):
    run = subprocess.run([floor, *words], capture_output=True, text=True, timeout=5)
    assert run.returncode == 2 and run.stderr


@needs_compiler
def test_paced_client_reports_what_it_was_answered(floor):
    with run_floor(floor) as server:
        result = load.run_paced(
            server.port, PLAIN.request, rate=500, seconds=0.2, connections=4, core=None
        )
    assert result.requests == 101
    assert 0 < result.p50_us <= result.p99_us <= result.p999_us <= result.max_us


# -------------------------------------------------------------------------------- wrong answers
def kind_of(source):
    """A server kind that runs this Python source with the port as its argument."""
    return servers.ServerKind(
        "liar", None, "made for a test", lambda place: [str(place.python), "-c", source, str(place.port)]
    )


LIAR = """
import socket, sys
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
while True:
    connection, _ = listener.accept()
    while connection.recv(65536):
        connection.sendall(b"HTTP/1.1 %s\\r\\n%scontent-length: 13\\r\\n\\r\\n%s")
"""


def verify_liar(status, fields, body, scenario=PLAIN):
    kind = kind_of(LIAR % (status, fields, body))
    with servers.RunningServer(
        kind, scenario, python=Path(sys.executable), floor=Path("floor"), core=None
    ) as server:
        server.verify()


def test_server_with_the_right_answer_is_taken():
    verify_liar("200 OK", "", "Hello, World!")


@pytest.mark.parametrize(
    ("status", "body", "told"),
    [("200 OK", "Hello, world?", "expected 13 bytes"), ("404 No", "Hello, World!", "expected status 200")],
)
def test_server_answering_wrongly_is_refused_by_name(status, body, told):
    with pytest.raises(servers.Refused, match=rf"liar is refused for plain: WrongAnswer: {told}"):
        verify_liar(status, "", body)


def test_server_that_drops_headers_is_refused():
    with pytest.raises(servers.Refused, match="liar is refused for headers: WrongAnswer: expected header"):
        verify_liar("200 OK", "cache-control: no\\r\\n", "Hello, World!", scenarios.SCENARIOS["headers"])


def test_server_that_ends_is_refused_with_what_it_said():
    kind = kind_of("raise SystemExit('no such thing')")
    place = {"python": Path(sys.executable), "floor": Path("floor"), "core": None}
    with (
        pytest.raises(servers.Refused, match="liar is refused for plain: it ended with code 1: no such thing"),
        servers.RunningServer(kind, PLAIN, **place),
    ):
        pytest.fail("it must not start")


def test_refused_server_is_named_in_the_table_and_the_others_go_on(monkeypatch):
    def run_round(kind, scenario, settings, row):
        if kind.name == "uvicorn":
            raise servers.Refused("uvicorn is refused for plain: WrongAnswer")
        row.add(a_load(), measure.Cpu(0.5, 0.5), 0.0, 100)

    monkeypatch.setattr(compare, "run_round", run_round)
    kinds = [servers.KINDS[name] for name in ("floor", "uvicorn", "peregrine")]
    settings = compare.Settings(Path("p"), Path("f"), 3, 1, 1, 64, 0, 1, True, 0.05, 0)
    rows = compare.run_group([PLAIN], kinds, settings, lambda line: None)["plain"]
    assert [len(row.cpu_us) for row in rows] == [3, 0, 3]
    text = report.render({"run": a_run(), "tables": [compare.as_table(PLAIN, rows)]})
    assert "- uvicorn is refused for plain: WrongAnswer" in text


def test_nothing_of_a_server_is_left_when_its_block_ends():
    kind = kind_of(
        "import os, socket, sys, time\n"
        "socket.create_server(('127.0.0.1', int(sys.argv[1])))\n"
        "keep = socket.create_server(('127.0.0.1', int(sys.argv[1])))\n"
        "os.fork()\ntime.sleep(60)"
    )
    place = {"python": Path(sys.executable), "floor": Path("floor"), "core": None}
    with servers.RunningServer(kind, PLAIN, **place) as server:
        deadline = time.monotonic() + 5
        while len(server.pids) < 2 and time.monotonic() < deadline:
            time.sleep(0.01)
        pids = server.pids
        assert len(pids) == 2
    deadline = time.monotonic() + 5
    while any(os.path.exists(f"/proc/{pid}") for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not [pid for pid in pids if os.path.exists(f"/proc/{pid}")]


# ------------------------------------------------------------------------------------ statistics
def test_summary_of_rounds():
    assert measure.summarize([3.0, 1.0, 2.0]) == {"median": 2.0, "min": 1.0, "max": 3.0, "spread": 1.0}
    assert measure.spread([5.0]) == 0 and measure.spread([0.0, 0.0]) == 0


def test_ratios_are_taken_round_by_round():
    # A machine that was twice as slow in the second round changes no ratio.
    assert measure.round_ratios([10.0, 20.0], [40.0, 80.0]) == [0.25, 0.25]
    assert measure.round_ratios([1.0], [0.0]) == []


@pytest.mark.parametrize(("share", "value"), [(0.0, 1), (0.5, 2), (0.51, 3), (0.75, 3), (0.99, 4), (1.0, 4)])
def test_percentile_is_the_nearest_rank(share, value):
    assert measure.percentile([1, 2, 3, 4], share) == value


def test_percentile_of_nothing_is_an_error():
    with pytest.raises(ValueError, match="at least one"):
        measure.percentile([], 0.5)


def test_cpu_time_counts_the_whole_tree():
    burn = "import time\nend = time.process_time() + 0.15\nwhile time.process_time() < end: pass\n"
    child = subprocess.Popen(
        [sys.executable, "-c", f"import os, time\npid = os.fork()\n{burn}\ninput()"], stdin=subprocess.PIPE
    )
    try:
        deadline = time.monotonic() + 10
        used = measure.Cpu(0, 0)
        while used.total_s < 0.26 and time.monotonic() < deadline:
            time.sleep(0.02)
            used = measure.cpu_of(measure.process_tree(child.pid))
        assert used.total_s >= 0.26  # two burn 0.15 s each; the kernel counts in ticks of 10 ms
    finally:
        child.communicate(b"\n\n", timeout=5)


def test_memory_of_this_process_is_seen():
    memory = measure.memory_of([os.getpid()])
    assert 0 < memory.uss_kib <= memory.pss_kib


# ------------------------------------------------------------------------------------ the tables
def a_load(requests=1000):
    return load.LoadResult(requests, 1.0, 1000, 10, 20, 30, 40)


def a_run():
    return {
        "date": "2026-11-22T12:00:00+00:00",
        "command": "python bench/compare.py",
        "machine": measure.describe_machine(),
        "python": {"python": "3.13.0", "compiler": "GCC", "config_args": ""},
        "packages": {"uvicorn": "0.54.0"},
        "settings": {"server_core": 0, "connections": 64, "rounds": 3, "seconds": 1},
        "how": {"floor": "C"},
    }


def a_row(server, cpu_us, rate=1000.0):
    names = ("user_us", "system_us", "p50_us", "p99_us", "p999_us", "others_share", "pss_kib")
    return {
        "server": server,
        "command": f"{server} run",
        "refused": None,
        "cpu_us": cpu_us,
        "rate": [rate] * len(cpu_us),
        "paced": {},
        **{name: [0.0] * len(cpu_us) for name in names},
    }


def test_table_holds_the_ratios_of_the_run():
    rows = [
        a_row("floor", [5.0]),
        a_row("fastasgi", [10.0]),
        a_row("uvicorn", [50.0]),
        a_row("granian", [40.0]),
        a_row("peregrine", [20.0]),
    ]
    table = {**compare.as_table(PLAIN, []), "rows": rows}
    assert report.best_peer(table) == "peregrine"
    text = report.render({"run": a_run(), "tables": [table]})
    summary = next(line for line in text.splitlines() if line.startswith("| plain GET"))
    assert summary.split(" | ")[1:] == [
        "5.0 us", "10.0 us", "50.0 us", "0.20 x", "peregrine 20.0 us", "0.50 x", "50%", "0.10 x |"
    ]  # fmt: skip


def test_throughput_counts_the_other_way_round():
    rows = [
        a_row("floor", [1.0], 2048.0),
        a_row("fastasgi", [1.0], 1024.0),
        a_row("uvicorn", [1.0], 256.0),
        a_row("granian", [9.0], 512.0),
    ]
    table = {**compare.as_table(scenarios.SCENARIOS["download"], []), "rows": rows}
    assert report.best_peer(table) == "granian"
    assert report.of_the_floor(table, "fastasgi") == 0.5
    assert "1024 MiB/s" in report.render({"run": a_run(), "tables": [table]})


def test_access_log_is_measured_beside_the_row_without():
    wanted = [scenarios.SCENARIOS[name] for name in ("plain", "json", "plain-log")]
    assert [[s.name for s in group] for group in compare.grouped(wanted)] == [["plain", "plain-log"], ["json"]]
    assert [[s.name for s in group] for group in compare.grouped(wanted[1:])] == [["json"], ["plain-log"]]


def test_any_error_that_wrk_counts_fails_the_run():
    good = {
        **dict.fromkeys(("connect_errors", "read_errors", "write_errors", "status_errors", "timeouts"), 0),
        **dict.fromkeys(("duration_us", "bytes", "p50_us", "p99_us", "p999_us", "max_us"), 1),
        "requests": 10,
    }
    assert load.parse_wrk(good).requests == 10
    for name in ("read_errors", "status_errors", "timeouts"):
        with pytest.raises(load.LoadFailed, match=name):
            load.parse_wrk({**good, name: 1})
    with pytest.raises(load.LoadFailed, match="none"):
        load.parse_wrk({**good, "requests": 0})


# ------------------------------------------------------------------------------------ the requests
def test_browser_like_head_is_about_450_bytes():
    assert 430 <= len(PLAIN.request) <= 470
    assert len(scenarios.BROWSER_HEADERS + scenarios.MORE_HEADERS) == 20
    assert len({name.lower() for name, _ in scenarios.BROWSER_HEADERS + scenarios.MORE_HEADERS}) == 20


@pytest.mark.parametrize("scenario", BY_LENGTH, ids=lambda scenario: scenario.name)
def test_floor_answer_says_its_own_length(scenario):
    head, _, body = scenario.floor_answer.partition(b"\r\n\r\n")
    assert f"content-length: {len(body)}".encode() in head


@pytest.mark.parametrize("app", ["plain", "json", "headers", "echo", "upload", "download", "stream", "idle"])
async def test_application_gives_its_scenario_s_answer(app):
    scenario = scenarios.SCENARIOS.get(app, PLAIN)
    messages = [
        {"type": "http.request", "body": part, "more_body": more}
        for part, more in halves(scenario.request.partition(b"\r\n\r\n")[2])
    ]
    sent = []

    async def receive():
        return messages.pop(0)

    async def send(message):
        sent.append(message)

    await getattr(apps, app)({"type": "http", "path": "/", "headers": []}, receive, send)
    fields = [(name.decode(), value.decode()) for name, value in sent[0]["headers"]]
    body = b"".join(message["body"] for message in sent[1:])
    scenario.verify(scenarios.Answer(sent[0]["status"], fields, body))


def halves(body):
    middle = len(body) // 2
    return [(body[:middle], True), (body[middle:], False)]


async def test_application_refuses_other_scopes():
    with pytest.raises(NotImplementedError, match="lifespan"):
        await apps.plain({"type": "lifespan"}, None, None)


def test_application_tells_what_its_allocators_hold():
    held = apps.pymalloc_bytes()
    assert held is None or held > 1000


# ------------------------------------------------------------------------------ idle connections
@needs_compiler
def test_idle_connections_are_counted_and_found_open(floor):
    with run_floor(floor) as server:
        opened = idle.open_connections(server.port, 20, PLAIN.request, 0)
        try:
            assert all(idle.is_open(connection) for connection in opened)
            assert len({connection.getsockname()[0] for connection in opened}) == idle.ADDRESSES
        finally:
            for connection in opened:
                connection.close()


def test_closed_connection_is_noticed():
    listener = socket.create_server(("127.0.0.1", 0))
    with listener, socket.create_connection(listener.getsockname()) as peer:
        accepted, _ = listener.accept()
        assert idle.is_open(peer)
        accepted.close()
        closer = threading.Event()
        deadline = time.monotonic() + 5
        while idle.is_open(peer) and time.monotonic() < deadline:
            closer.wait(0.01)
        assert not idle.is_open(peer)


def test_growth_is_per_connection_and_unknown_stays_unknown():
    before = idle.Held(measure.Memory(0, 0), 0, {"malloc": 1000, "pymalloc": None})
    after = replace(before, allocators={"malloc": 3000, "pymalloc": 5})
    assert idle.per_connection(before, after, 10, "malloc") == 200
    assert idle.per_connection(before, after, 10, "pymalloc") is None


# ------------------------------------------------------------------------------------ the engine
async def test_engine_rejects_a_wrong_answer():
    class Wrong:
        def feed(self, data):
            self.output = b"HTTP/1.1 500 Oops\r\n\r\n"

        def take_output(self):
            return self.output

    with pytest.raises(RuntimeError, match="expected 200"):
        engine.check(PLAIN, await engine.answer_one(Wrong(), PLAIN.request))


async def test_engine_does_not_wait_for_ever():
    class Silent:
        def feed(self, data):
            pass

        def take_output(self):
            return b""

    with pytest.raises(RuntimeError, match="turns of the loop"):
        await engine.answer_one(Silent(), PLAIN.request)


@pytest.mark.parametrize(
    "name", ["plain", "echo", "fastapi", pytest.param("websocket", marks=pytest.mark.leaves("tasks"))]
)
@pytest.mark.parametrize("kind", ["fastasgi", "alone"])
async def test_engine_gives_right_answers(kind, name):
    if kind == "alone" and (name == "websocket" or sys.version_info < (3, 12)):
        pytest.skip("the application alone speaks HTTP, and is started as CPython 3.12 and later can")
    await engine.run(kind, engine.work_of(name), 3)


async def test_engine_knows_a_wrong_frame():
    with pytest.raises(RuntimeError, match="in a frame"):
        engine.check_echo(b"\x81\x02no")


# ------------------------------------------------------------------------------------ the bound
@pytest.mark.skipif(sys.version_info < (3, 12), reason="no eager tasks before CPython 3.12")
@pytest.mark.parametrize("name", ["plain", "json", "headers", "echo", "fastapi"])
async def test_bound_runs_each_application_to_its_end(name, monkeypatch):
    monkeypatch.setattr(bound, "BATCHES", 2)
    monkeypatch.setattr(bound, "BATCH_REQUESTS", 3)
    assert all(figure > 0 for figure in await bound.measure(scenarios.SCENARIOS[name]))


async def test_bound_refuses_an_application_that_answers_wrongly():
    with pytest.raises(RuntimeError, match="expected"):
        await bound.check(engine.find_app(PLAIN.app), replace(PLAIN, body=b"Hello, nobody"))


@needs_compiler
@pytest.mark.parametrize("name", ["plain", "echo"])
def test_the_kernels_part_of_the_bound(name, tmp_path, monkeypatch):
    monkeypatch.setenv("FASTASGI_BENCH_HOME", str(tmp_path))
    best, median = bound.measure_kernel(scenarios.SCENARIOS[name], rounds=20)
    assert 0 < best <= median


def test_the_bound_says_what_part_of_others_it_is():
    against = bound.others("uvicorn=20,peregrine=12.5")
    line = bound.describe("plain", [3.0, 2.0, 2.5], (2.0, 2.5), against)
    assert line.endswith("bound 5.00 us of CPU per request, 0.25 x uvicorn, 0.40 x peregrine")


def test_recorded_results_are_data_and_their_tables_are_generated():
    for file in sorted((BENCH / "results").glob("*.json")):
        text = file.with_suffix(".md").read_text()
        assert report.render(json.loads(file.read_text())) == text, f"{file.name}: table was edited by hand"
