"""The benchmark tells the truth: wrong answers are refused by name, whoever gives them and whenever; figures add up.

Bounded: loads of a tenth of a second; servers are the floor program, our own, and `bench_server.py`.
"""

import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

if not sys.platform.startswith("linux"):
    pytest.skip("the benchmark is for Linux", allow_module_level=True)

from fastasgi.bench import (
    clients,
    contenders,
    floor,
    idle,
    machine,
    peers,
    runner,
    scenarios,
    servers,
)
from fastasgi.bench.contenders import KINDS, Kind
from fastasgi.bench.model import Row, Sample, Table
from fastasgi.bench.scenarios import IDLE, PLAIN, SCENARIOS

TESTS = Path(__file__).resolve().parent
needs_compiler = pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler is installed")
HERE = servers.Ground(python=Path(sys.executable), tree=peers.tree())


@pytest.fixture(scope="module")
def programs(tmp_path_factory):
    """The compiled floor programs (with warnings as errors)."""
    folder = tmp_path_factory.mktemp("bin")
    return replace(HERE, floor=floor.compile_c("floor", folder), websocket_floor=floor.compile_c("wsfloor", folder))


class Silent:
    """Progress that nobody sees; notes are kept."""

    def __init__(self):
        self.said, self.steps = [], 0

    def doing(self, text):
        pass

    def advance(self, steps=1):
        self.steps += steps

    def say(self, line):
        self.said.append(line)


def server_kind(how):
    """A contender of this name that runs `bench_server.py`."""

    def command(place):
        return [str(place.python), str(TESTS / "bench_server.py"), str(place.port), place.app, how]

    return Kind(how, None, "", "made for a test", command)


def short(ground=HERE, **changes):
    return runner.Settings(**{
        "ground": ground, "rounds": 1, "seconds": 0.1, "warm_up_s": 0.02, "connections": 4, "retries": 0, **changes
    })  # fmt: skip


def measure(kinds, chosen, settings):
    """A whole run of these; the runner."""
    running = runner.Runner(kinds, chosen, settings)
    running.run(Silent())
    return running


# --- wrong answers ----------------------------------------------------------------------------------------------------


def outcome(how, name, **changes):
    """The row of a server that runs the scenario in this way."""
    running = measure([server_kind(how)], [replace(SCENARIOS[name], **changes)], short())
    (table,) = running.tables
    (row,) = table.rows
    return row


@pytest.mark.parametrize("name", ["plain", "echo", "headers"])
def test_server_that_answers_rightly_is_measured(name):
    row = outcome("right", name)
    assert row.refusal is None
    (sample,) = row.samples
    assert sample.answers > 10
    assert sample.seconds >= 0.09
    assert sample.memory_bytes > 1 << 20
    assert 0 < sample.p50_us <= sample.p99_us <= sample.longest_us


REFUSED = {
    ("wrong", "plain"): "after [0-9]+ answers: expected b'Hello, World!' at byte 0 of the body",
    ("short", "download"): "(closed|reset) the connection after [0-9]+ of 1048576 bytes of the body",
    ("status", "plain"): "expected status 200, got b'HTTP/1.1 500 Oops",
    ("closing", "plain"): "after [0-9]+ answers: the server (closed|reset)",
    ("cached", "echo"): "expected 1024 bytes .*, got 1024 bytes",
    ("late-cache", "echo"): "after [0-9]+ answers: expected this request's own nonce",
    ("cached-bytes", "plain"): "the same one twice got the same answer: call 1 of the application, as from a cache",
    ("cached", "headers"): "the same one twice got the same answer: call 1 of the application, as from a cache",
    ("dropped", "plain"): r"expected the application to see the header \('cookie'",
}


@pytest.mark.parametrize(("how", "name"), REFUSED, ids=[f"{how}, {name}" for how, name in REFUSED])
def test_server_that_answers_wrongly_is_refused_by_name(how, name):
    row = outcome(how, name)
    assert row.samples == [] and not row.is_measured
    assert re.match(f"{how} is refused for {name}: .*{REFUSED[how, name]}", row.refusal), row.refusal


def test_server_that_lacks_a_header_is_refused():
    row = outcome("right", "plain", must_have=(("x-frame-options", "DENY"),))
    assert re.match(r"right is refused for plain: expected the header \('x-frame-options', 'DENY'\)", row.refusal)


def test_refused_server_is_out_and_the_others_go_on():
    kinds = [server_kind("cached-bytes"), server_kind("right")]
    running = runner.Runner(kinds, [PLAIN], short(rounds=2))
    seen = Silent()
    running.run(seen)
    (table,) = running.tables
    assert [len(row.samples) for row in table.rows] == [0, 2]
    assert seen.steps == running.planned == 4
    assert sum("cached-bytes is refused for plain" in line for line in seen.said) == 1


def test_server_that_works_out_of_sight_is_refused(monkeypatch):
    monkeypatch.setattr(runner, "cpu_of", lambda pids: machine.Cpu(1.0, 1.0))
    (table,) = measure([server_kind("right")], [PLAIN], short(seconds=0.3)).tables
    assert "expected its processes to use CPU time, they used none" in table.rows[0].refusal


def test_processes_that_start_during_a_round_are_counted(monkeypatch):
    """The first look sees one process, the last one two."""
    trees = [[1], [1, 2]]
    used = {(1,): machine.Cpu(1.0, 0.5), (1, 2): machine.Cpu(3.0, 1.0)}
    monkeypatch.setattr(servers, "process_tree", lambda root: trees.pop(0) if trees else [])
    monkeypatch.setattr(runner, "cpu_of", lambda pids: used[tuple(pids)])
    (table,) = measure([server_kind("right")], [PLAIN], short()).tables
    (sample,) = table.rows[0].samples
    assert (sample.user_s, sample.system_s) == (2.0, 0.5)


def ending_kind(source):
    return Kind("liar", None, "", "made for a test", lambda place: [sys.executable, "-c", source, str(place.port)])


def test_server_that_ends_is_refused_with_what_it_said():
    kind = ending_kind("raise SystemExit('no such thing')")
    with (
        pytest.raises(servers.Refused, match="liar is refused for plain: it ended with code 1: no such thing"),
        servers.RunningServer(kind, PLAIN, HERE),
    ):
        pytest.fail("it must not start")


def test_nothing_of_a_server_is_left_when_its_block_ends():
    kind = ending_kind(
        "import os, socket, sys, time\n"
        "keep = socket.create_server(('127.0.0.1', int(sys.argv[1])))\n"
        "os.fork()\ntime.sleep(60)"
    )
    with servers.RunningServer(kind, PLAIN, HERE) as server:
        deadline = time.monotonic() + 5
        while len(server.pids) < 2 and time.monotonic() < deadline:
            time.sleep(0.01)
        pids = server.pids
        assert len(pids) == 2
    deadline = time.monotonic() + 5
    while any(os.path.exists(f"/proc/{pid}") for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not [pid for pid in pids if os.path.exists(f"/proc/{pid}")]


def test_shown_command_names_no_place_of_the_machine():
    server = servers.RunningServer(KINDS["uvicorn"], PLAIN, HERE)
    server.__exit__(None, None, None)
    assert server.shown_command.startswith("python -m uvicorn raw_app:plain --host 127.0.0.1 --port PORT --http ")
    assert "/" not in server.shown_command


# --- a round of each sort ---------------------------------------------------------------------------------------------


SMALLER = {"idle": {"connections": 20}, "ws-broadcast": {"sockets": 10, "broadcasts": 3}}
QUICKLY = ("plain-log", "stream", "workers", "ws-100-deflate", "ws-broadcast", "idle", "django")  # of each sort one


@pytest.mark.parametrize(
    "name", [name if name in QUICKLY else pytest.param(name, marks=pytest.mark.slow) for name in SCENARIOS]
)
def test_each_scenario_is_measured(name):
    scenario = replace(SCENARIOS[name], **SMALLER.get(name, {}))
    if scenario.needs:
        pytest.importorskip(scenario.needs)
    running = measure([KINDS["fastasgi"]], [scenario], short(seconds=0.05))
    (table,) = running.tables
    (row,) = table.rows
    assert row.refusal is None
    (sample,) = row.samples
    assert (table.scenario, table.unit, table.payload_bytes) == (name, scenario.unit, scenario.payload_bytes)
    assert running.commands["fastasgi"].startswith(f"python -m fastasgi {scenario.app} ")
    if name == "idle":
        assert sample.answers == 20
    else:
        assert sample.answers > 0 and sample.memory_bytes > 0 and sample.p50_us > 0


@needs_compiler
def test_floor_is_measured_and_tells_the_limit_of_the_client(programs):
    running = measure([KINDS["floor"]], [PLAIN, SCENARIOS["ws-100"]], short(programs, seconds=0.05))
    assert [len(row.samples) for table in running.tables for row in table.rows] == [1, 1]
    assert running.client_limit > 100


@pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed")
@pytest.mark.time_limit(60)
def test_wrk_is_used_where_asked():
    (table,) = measure([server_kind("right")], [PLAIN], short(client="wrk")).tables
    (sample,) = table.rows[0].samples
    assert sample.seconds >= 0.9  # it counts in whole seconds
    assert 0 < sample.p50_us <= sample.p90_us <= sample.p99_us


def test_paced_rounds_follow():
    (table,) = measure([server_kind("right")], [PLAIN], short(rate=200.0)).tables
    (sample,) = table.rows[0].paced
    assert table.paced_rate == 200
    assert sample.answers == 20 and not sample.is_client_bound


def test_half_is_half_of_the_slowest():
    kinds = [server_kind("right"), replace(server_kind("right"), name="again")]
    running = runner.Runner(kinds, [PLAIN], short(rate=0.0))
    paced = []
    running._measure = lambda kind, scenario, rate=None: (
        paced.append((kind.name, rate)) or a_sample(answers={"right": 300, "again": 100}[kind.name])
    )
    running.run(Silent())
    assert paced == [("right", None), ("again", None), ("right", 50.0), ("again", 50.0)]


def a_sample(answers=1000, **changes):
    return Sample(**{"seconds": 1.0, "answers": answers, "user_s": 0.5, "system_s": 0.5, **changes})


def test_round_that_others_disturbed_is_taken_again():
    running = runner.Runner([], [], short(retries=2))
    taken = [a_sample(others_share=share) for share in (0.5, 0.2, 0.3, 0.0)]
    running._take = lambda server, load: taken.pop(0)
    assert running._quietest(None, None).others_share == 0.2
    assert len(taken) == 1
    running = runner.Runner([], [], short(retries=2))
    taken = [a_sample(others_share=share) for share in (0.06, 0.04, 0.0)]
    running._take = lambda server, load: taken.pop(0)
    assert running._quietest(None, None).others_share == 0.04


@pytest.mark.parametrize(
    ("rate", "share", "limit", "name", "expected"),
    [
        (1000, 0.5, 2000.0, "plain", False),
        (1000, 0.96, 2000.0, "plain", True),
        (1000, 0.5, 1040.0, "plain", True),
        (1000, 0.5, 1060.0, "plain", False),
        (1000, 0.5, None, "plain", False),
        (1000, 0.5, 1040.0, "download", False),
        (1000, 0.5, 1040.0, "ws-100", False),
        (1000, 0.96, None, "ws-100", True),
    ],
)
def test_client_that_sets_the_rate_is_marked(rate, share, limit, name, expected):
    running = runner.Runner([], [], short())
    running.client_limit = limit
    seen = clients.Seen(rate, 1.0, 0, 1.0, 1.0, 1.0, 1.0, 1.0, share)
    assert running._is_client_bound(SCENARIOS[name], seen) is expected


def test_access_log_is_measured_beside_the_row_without():
    wanted = [SCENARIOS[name] for name in ("plain", "json", "plain-log")]
    assert [[s.name for s in group] for group in runner.grouped(wanted)] == [["plain", "plain-log"], ["json"]]
    assert [[s.name for s in group] for group in runner.grouped(wanted[1:])] == [["json"], ["plain-log"]]


def test_sample_is_told_in_one_line():
    table = Table(scenario="plain", title="", unit="request")
    assert runner.shown(a_sample(), table).split() == ["1000.0", "us", "1,000/s"]
    noisy = a_sample(others_share=0.25, is_client_bound=True)
    assert runner.shown(noisy, table).endswith("/s, others 25%, client-bound")
    memory = replace(table, unit="connection")
    assert runner.shown(a_sample(answers=10, memory_bytes=20480), memory).split() == ["2.00", "KiB", "each"]


def test_load_client_that_fails_blames_no_server(monkeypatch):
    monkeypatch.setattr(clients, "GUARD_S", 0.0)
    monkeypatch.setattr(clients, "STALL_S", 0.1)
    load = clients.Load(0.0, 0.0, 1)
    with (
        pytest.raises(clients.ClientFailed, match="it said nothing"),
        clients.Client([sys.executable, "-c", "input(); input()"], "plan\n", load),
    ):
        pytest.fail("it is not ready")


@pytest.mark.parametrize(
    ("name", "connections", "clients_"),
    [("ws-100", 64, "64"), ("ws-1m", 64, "8"), ("ws-1m", 4, "4"), ("ws-broadcast", 64, "1000")],
)
def test_large_messages_come_from_fewer_clients(name, connections, clients_):
    words = clients.websocket_client(8000, SCENARIOS[name], clients.Load(1.0, 0.0, connections))._command
    assert words[words.index("--clients") + 1] == clients_


# --- who and what -----------------------------------------------------------------------------------------------------


def test_names_are_chosen_in_order_and_once():
    assert contenders.choose(["b", " a", "b", ""], ["a", "b", "c"], "letters") == ["b", "a"]


def test_unknown_name_is_told_with_the_nearest():
    with pytest.raises(contenders.UnknownName, match=r"contenders of .*, got 'uvicron'; did you mean 'uvicorn'"):
        contenders.choose(["uvicron"], KINDS, "contenders")


def test_who_takes_part_where():
    def names(scenario):
        return {kind.name for kind in KINDS.values() if kind.takes_part(SCENARIOS[scenario])}

    everywhere = {"fastasgi", "uvicorn", "granian", "peregrine", "h2corn", "gunicorn", "hypercorn"}
    assert names("plain") == {*everywhere, "floor", "floor-application", "daphne"}
    assert names("stream") == {*everywhere, "floor", "floor-gathered", "daphne"}
    assert names("sleep") == {*everywhere, "daphne"}
    assert names("workers") == everywhere
    assert names("ws-100") == {*everywhere, "floor", "daphne", "picows", "socketify"}
    assert names("ws-100-deflate") == {*everywhere, "daphne", "socketify"} - {"granian"}


@pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.name)
def test_commands_ask_for_what_the_scenario_is_about(kind):
    def words(scenario):
        place = contenders.Place(Path("python"), Path("floor"), 8123, scenario, scenario.app, Path("answer"))
        return " ".join(kind.command(place))

    plain = words(SCENARIOS["plain"])
    assert "8123" in plain
    if kind.has_http and not kind.is_floor:
        assert "raw_app:plain" in plain
        assert words(SCENARIOS["plain-log"]) != plain, "the access log is on"
        assert kind.install and kind.settings
    if kind.has_workers and kind.has_http and not kind.is_floor:
        assert "--workers 2" in words(SCENARIOS["workers"])


# --- the kernel's figures ---------------------------------------------------------------------------------------------


def test_cpu_time_counts_the_whole_tree():
    burn = "import time\nend = time.process_time() + 0.15\nwhile time.process_time() < end: pass\n"
    child = subprocess.Popen(
        [sys.executable, "-c", f"import os, time\npid = os.fork()\n{burn}\ninput()"], stdin=subprocess.PIPE
    )
    try:
        deadline = time.monotonic() + 10
        used = machine.Cpu(0, 0)
        while used.total_s < 0.26 and time.monotonic() < deadline:
            time.sleep(0.02)
            used = machine.cpu_of(machine.process_tree(child.pid))
        assert used.total_s >= 0.26  # two burn 0.15 s each; the kernel counts in ticks of 10 ms
    finally:
        child.communicate(b"\n\n", timeout=5)


def test_memory_of_this_process_is_seen():
    memory = machine.memory_of([os.getpid()])
    assert 0 < memory.uss_kib <= memory.pss_kib


def test_what_is_started_runs_on_the_core_asked_for():
    own = os.sched_getaffinity(0)
    core = min(own)
    with machine.starting_on(core):
        said = subprocess.run(
            [sys.executable, "-c", "import os; print(os.sched_getaffinity(0))"], capture_output=True, text=True
        )
    assert said.stdout.strip() == str({core})
    assert os.sched_getaffinity(0) == own


def test_machine_is_described():
    found = machine.describe_machine()
    assert found.cpu and found.cores >= 1 and found.kernel and found.load_average >= 0


def test_any_error_that_wrk_counts_refuses_the_server():
    good = {
        **dict.fromkeys(("connect_errors", "read_errors", "write_errors", "status_errors", "timeouts"), 0),
        **dict.fromkeys(("bytes", "p50_us", "p90_us", "p99_us", "p999_us", "max_us"), 1),
        "duration_us": 2_000_000,
        "requests": 10,
    }
    assert clients.parse_wrk(good, 1.0).answers == 10
    assert clients.parse_wrk(good, 1.0).client_share == 0.5
    for name in ("read_errors", "status_errors", "timeouts"):
        with pytest.raises(clients.LoadFailed, match=name):
            clients.parse_wrk({**good, name: 1}, 1.0)
    with pytest.raises(clients.LoadFailed, match="none"):
        clients.parse_wrk({**good, "requests": 0}, 1.0)


# --- idle connections -------------------------------------------------------------------------------------------------


@needs_compiler
def test_idle_connections_are_counted_and_found_open(programs):
    with (
        servers.RunningServer(KINDS["floor"], IDLE, programs) as server,
        idle.connections(server, IDLE, range(20)) as opened,
    ):
        assert all(idle.is_open(connection) for connection in opened)
        assert len({connection.getsockname()[0] for connection in opened}) == idle.ADDRESSES


def test_server_that_closes_idle_connections_is_refused(monkeypatch):
    monkeypatch.setattr(idle, "FIRST_BATCH", scenarios.KIB // 256)
    kind = ending_kind(
        "import socket, sys, threading\n"
        "listener = socket.create_server(('127.0.0.1', int(sys.argv[1])), backlog=64)\n"
        "def serve(sock):\n"
        "    while sock.recv(65536):\n"
        "        sock.sendall(b'HTTP/1.1 200 OK\\r\\ncontent-length: 13\\r\\n\\r\\nHello, World!')\n"
        "        threading.Timer(0.05, sock.shutdown, [socket.SHUT_RDWR]).start()\n"
        "while True:\n"
        "    threading.Thread(target=serve, args=[listener.accept()[0]], daemon=True).start()\n"
    )
    scenario = replace(IDLE, connections=6, reflects=False)
    (table,) = measure([kind], [scenario], short()).tables
    told = "liar is refused for idle: expected 10 idle connections to be kept, it closed [0-9]"
    assert re.match(told, table.rows[0].refusal)


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


def test_rows_of_a_model_without_samples_are_not_measured():
    assert not Row(contender="x").is_measured
    assert not Row(contender="x", samples=[a_sample()], refusal="x is refused").is_measured
