"""`python -m fastasgi.bench` as a user meets it: sentences for what cannot be done, files, Ctrl-C."""

import datetime
import json
import os
import re
import signal
import subprocess
import sys
import uuid
from pathlib import Path

import pytest
from click.testing import CliRunner

if not sys.platform.startswith("linux"):
    pytest.skip("the benchmark is for Linux", allow_module_level=True)

from fastasgi.bench import command, peers, prepare
from fastasgi.bench.command import main
from fastasgi.bench.contenders import KINDS, PEERS
from fastasgi.bench.prepare import Asked, CannotMeasure
from fastasgi.bench.runner import Runner
from fastasgi.bench.scenarios import SCENARIOS

ROOT = Path(__file__).resolve().parents[1]
PATIENCE_S = 25.0
INSTALLED = {"fastasgi": "0", "uvloop": "1", "uvicorn": "2", "gunicorn": "3", "fastapi": "4"}


@pytest.fixture
def interpreter(monkeypatch, tmp_path):
    """An interpreter with few packages, and no compiler's work."""
    found = peers.Interpreter(
        Path(sys.executable), "3.13.0", "CPython", "GCC", sys.implementation.cache_tag, True, True, dict(INSTALLED)
    )
    monkeypatch.setattr(prepare, "describe", lambda python: found)
    monkeypatch.setenv("FASTASGI_BENCH_HOME", str(tmp_path))
    return found


def said(*words):
    """What the command says on stderr, and its exit code."""
    result = CliRunner().invoke(main, list(words))
    return result.exit_code, result.stderr.strip()


# --- sentences --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--against", "uvicron"], r"bench: expected contenders of .*, got 'uvicron'; did you mean 'uvicorn'\?"),
        (["--scenarios", "plian"], r"bench: expected scenarios of .*, got 'plian'; did you mean 'plain'\?"),
        (["--round", "3"], r"bench: unknown option --round; did you mean '--rounds'\?"),
        (["--rounds", "0"], "bench: Invalid value for '--rounds'"),
        (["--rate", "fast"], "bench: --rate: expected requests a second, or 'half', got 'fast'"),
        (["--rate", "100", "--client", "wrk"], "bench: (--rate: wrk has no rate|--client wrk: wrk is not installed)"),
        (["--server-core", "9999"], "bench: --server-core: expected one of the cores .*, got 9999"),
        (["--compare", "/nowhere.json"], "bench: expected a recorded run, /nowhere.json cannot be read"),
        (["--python", "/nowhere"], "bench: Invalid value for '--python'"),
        (["--python", "/bin/ls"], "bench: expected a Python interpreter"),
    ],
)
def test_what_cannot_be_meant_is_one_sentence(words, sentence, monkeypatch, tmp_path):
    monkeypatch.setenv("FASTASGI_BENCH_HOME", str(tmp_path))
    code, text = said("--no-floor", *words)
    assert code == 2
    assert re.match(sentence, text) and "\n" not in text, text


def test_help_names_everybody():
    text = CliRunner().invoke(main, ["--help"]).output
    for name in (*PEERS, *SCENARIOS, "FASTASGI_BENCH_HOME", "micro"):
        assert name in text


# --- who takes part ---------------------------------------------------------------------------------------------------


def test_missing_servers_and_frameworks_are_left_out_with_the_cure(interpreter):
    asked = Asked(against=("granian", "uvicorn"), scenarios=("plain", "django", "fastapi"), floor=False)
    prepared = prepare.prepare(asked)
    assert [kind.name for kind in prepared.kinds] == ["fastasgi", "uvicorn"]
    assert [scenario.name for scenario in prepared.scenarios] == ["plain", "fastapi"]
    assert prepared.notes == [
        "granian is left out, it is not installed; install it with: pip install 'granian[uvloop]'",
        "django is left out, django is not installed; install it with: pip install django",
    ]


def test_all_is_all_that_are_installed(interpreter):
    prepared = prepare.prepare(Asked(against=("all",), floor=False))
    assert [kind.name for kind in prepared.kinds] == ["fastasgi", "uvicorn", "gunicorn"]


def test_without_names_only_ours_takes_part(interpreter):
    prepared = prepare.prepare(Asked(floor=False))
    assert [kind.name for kind in prepared.kinds] == ["fastasgi"]
    left_out = {"starlette", "django"}
    assert {scenario.name for scenario in prepared.scenarios} == SCENARIOS.keys() - left_out


def test_nothing_left_to_measure_is_said(interpreter):
    with pytest.raises(CannotMeasure, match="nothing is left to measure: django is left out"):
        prepare.prepare(Asked(scenarios=("django",), floor=False))


def test_without_a_compiler_the_floor_is_left_out_with_a_sentence(interpreter, monkeypatch):
    def cannot(name):
        raise prepare.CannotCompile("no C compiler was found")

    monkeypatch.setattr(prepare, "compile_c", cannot)
    prepared = prepare.prepare(Asked())
    assert [kind.name for kind in prepared.kinds] == ["fastasgi"]
    assert prepared.notes[0].startswith("the floor (what the kernel charges) is left out: no C compiler")


def test_interpreter_without_our_modules_is_told_how_to_get_them(interpreter, monkeypatch):
    other = peers.Interpreter(Path("/x/python"), "3.9.0", "CPython", "GCC", "cpython-39", True, True, {})
    monkeypatch.setattr(prepare, "describe", lambda python: other)
    monkeypatch.setattr(prepare, "tree", lambda: ROOT)
    with pytest.raises(CannotMeasure, match=r"not built for CPython 3\.9\.0; build it: /x/python setup.py"):
        prepare.prepare(Asked(floor=False))
    monkeypatch.setattr(prepare, "tree", lambda: None)
    with pytest.raises(CannotMeasure, match="/x/python has no fastasgi to measure; install it: /x/python -m pip"):
        prepare.prepare(Asked(floor=False))


def test_too_few_files_leave_a_scenario_out(interpreter, monkeypatch):
    monkeypatch.setattr(prepare, "raise_file_limit", lambda wanted: 1024)
    prepared = prepare.prepare(Asked(scenarios=("plain", "idle", "ws-broadcast"), floor=False))
    assert [scenario.name for scenario in prepared.scenarios] == ["plain"]
    assert prepared.notes[0] == (
        "idle is left out: it needs 2700 open files, 1024 are allowed; raise it with: ulimit -n 2700"
    )


def test_cores_are_two_or_none(interpreter, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {3, 5, 7})
    settings = prepare.prepare(Asked(floor=False)).settings
    assert (settings.ground.core, settings.client_core) == (3, 5)
    settings = prepare.prepare(Asked(floor=False, server_core=5)).settings
    assert (settings.ground.core, settings.client_core) == (5, 3)
    settings = prepare.prepare(Asked(floor=False, pin=False)).settings
    assert (settings.ground.core, settings.client_core) == (None, None)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {3})
    prepared = prepare.prepare(Asked(floor=False))
    assert prepared.settings.ground.core is None
    assert "share the only core" in prepared.notes[0]


def test_repeated_command_is_read_as_it_was_meant(interpreter, monkeypatch):
    asked = Asked(against=("uvicorn", "gunicorn"), scenarios=("plain",), quick=True, rounds=3, seconds=0.5, rate="half",
                  connections=8, pin=False, warm_up_s=0.25)  # fmt: skip
    seen = []
    monkeypatch.setattr(command, "prepare", lambda found: seen.append(found) or prepare.prepare(found))
    monkeypatch.setattr(command, "_measure", lambda prepared: pytest.skip.Exception)
    words = asked.repeated().removeprefix("python -m fastasgi.bench ").split()
    CliRunner().invoke(main, words)
    (found,) = seen
    assert found.repeated() == asked.repeated()
    assert (found.against, found.rounds, found.rate, found.pin) == (asked.against, 3, "half", False)


def test_quick_changes_what_was_not_given(monkeypatch):
    seen = []
    monkeypatch.setattr(command, "prepare", lambda found: seen.append(found) or prepare.prepare(found))
    CliRunner().invoke(main, ["--quick", "--seconds", "3", "--scenarios", "x"])
    assert (seen[0].rounds, seen[0].seconds, seen[0].retries) == (1, 3.0, 0)


# --- a run as data ----------------------------------------------------------------------------------------------------


def test_run_tells_who_and_what(interpreter):
    prepared = prepare.prepare(Asked(against=("uvicorn",), scenarios=("plain",), floor=False))
    runner = Runner(prepared.kinds, prepared.scenarios, prepared.settings)
    runner.commands = {"fastasgi": "python -m fastasgi raw_app:plain"}
    began = datetime.datetime(2026, 11, 22, 12, tzinfo=datetime.UTC)
    run = prepare.describe_run(prepared, runner, began, is_partial=True)
    assert run.started_at == "2026-11-22T12:00:00+00:00" and run.is_partial
    (ours,) = run.contenders
    assert (ours.name, ours.command) == ("fastasgi", runner.commands["fastasgi"])
    assert ours.settings == KINDS["fastasgi"].settings
    assert run.versions == {"uvloop": "1", "fastapi": "4"}
    assert run.python["build"] == "optimized build"
    assert prepare.version_of(KINDS["uvicorn"], prepared) == "2"


def test_interpreter_tells_of_itself():
    found = peers.describe(Path(sys.executable))
    assert found.version == ".".join(map(str, sys.version_info[:3]))
    assert found.packages["click"] and found.cache_tag == sys.implementation.cache_tag
    with pytest.raises(peers.MissingPeers, match="expected a Python interpreter"):
        peers.describe(Path("/bin/ls"))
    with pytest.raises(peers.MissingPeers, match="expected a Python interpreter"):
        peers.describe(Path("/nowhere"))


# --- the process ------------------------------------------------------------------------------------------------------


def start(tmp_path, *words):
    """The command as a process; all that it starts carries the mark."""
    mark = uuid.uuid4().hex
    process = subprocess.Popen(
        [sys.executable, "-m", "fastasgi.bench", "--no-floor", "--no-pin", "--retries", "0", "--warm-up", "0", *words],
        cwd=ROOT,
        env={**os.environ, "FASTASGI_BENCH_HOME": str(tmp_path), "BENCH_MARK": mark},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    return process, mark


def marked(mark):
    """Processes that carry the mark."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdecimal() and mark.encode() in (entry / "environ").read_bytes():
                found.append(int(entry.name))
        except (FileNotFoundError, PermissionError, ProcessLookupError):
            continue
    return found


@pytest.mark.time_limit(90)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_run_ends_all_processes_and_shows_what_it_has(tmp_path, number):
    process, mark = start(
        tmp_path, "--scenarios", "plain,json", "--rounds", "1", "--seconds", "0.1", "--json", str(tmp_path / "run.json")
    )
    try:
        while "json, fastasgi" not in (line := process.stderr.readline()):
            assert line, process.stdout.read()
        process.send_signal(number)
        out, err = process.communicate(timeout=PATIENCE_S)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == command.EXIT_INTERRUPTED, err
    assert "interrupted" in err
    assert "plain GET, 13-byte answer" in out
    assert marked(mark) == []
    assert json.loads((tmp_path / "run.json").read_text())


@pytest.mark.time_limit(90)
def test_all_files_are_written_and_compared_with(tmp_path):
    words = ["--scenarios", "plain", "--rounds", "1", "--seconds", "0.1", "--label", "x"]
    process, mark = start(tmp_path, *words, "--output", str(tmp_path / "out"))
    out, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, err
    assert marked(mark) == []
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    stem = re.fullmatch(r"(\d{4}-\d\d-\d\d-py3\.\d+-x)\.html", names[0])[1]
    assert names == [f"{stem}.html", f"{stem}.json", f"{stem}.md"]
    process, _ = start(
        tmp_path, *words, "--compare", str(tmp_path / "out" / f"{stem}.json"), "--markdown", str(tmp_path / "new.md")
    )
    out, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, err
    assert "plain/fastasgi" in out
    assert "plain" in (tmp_path / "new.md").read_text()
