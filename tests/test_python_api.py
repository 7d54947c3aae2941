"""Every example of `docs/python-api.md` is run as it stands, and prints what the page says.

A block of Python is a file, named by its first line; a block of text behind it is what it prints.
"""

import ast
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from frameworks.serving import RUNNING, Lines
from process import no_alarm
from test_documents import blocks, rows, why_not, words_of
from test_pytest_plugin import PLUGIN

import fastasgi

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "python-api.md").read_text(encoding="utf-8")
PATIENCE_S = 20.0

FILES, OUTPUT = {}, {}
for language, text in blocks(PAGE):
    if language == "python":
        name = re.match(r"# (\w+\.py)\n", text)[1]
        FILES[name] = text
    elif language == "text":
        OUTPUT[name] = text
APPLICATIONS = {"main.py", "worker.py"}
PROGRAMS = {"program.py"}  # run until they are stopped
TESTS = {name for name in FILES if name.startswith("test_")}
SCRIPTS = sorted(set(FILES) - APPLICATIONS - PROGRAMS - TESTS)


@pytest.fixture
def folder(tmp_path):
    """All files of the page; a port is one that is free."""
    for name, text in FILES.items():
        (tmp_path / name).write_text(text.replace("port=8000", "port=0"), encoding="utf-8")
    return tmp_path


def environment():
    return {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}


def run(folder, *argv):
    return subprocess.run(
        [sys.executable, *argv], cwd=folder, env=environment(), capture_output=True, text=True, timeout=PATIENCE_S
    )


@pytest.mark.parametrize("name", SCRIPTS)
def test_scripts(folder, name):
    done = run(folder, name)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == OUTPUT[name]


@pytest.mark.parametrize("name", sorted(PROGRAMS))
def test_programs(folder, name):
    with no_alarm():
        child = subprocess.Popen(
            [sys.executable, name], cwd=folder, env=environment(), stderr=subprocess.PIPE, text=True
        )
    lines = Lines(child.stderr)
    try:
        lines.wait(RUNNING.pattern)
        child.send_signal(signal.SIGINT)
        assert child.wait(PATIENCE_S) == 0
    finally:
        child.kill()
        child.wait()
        lines.close()


def test_tests(folder):
    done = run(folder, "-m", "pytest", "-q", "--strict-markers", "-p", "no:cacheprovider", *PLUGIN)
    assert done.returncode == 0, done.stdout
    assert "3 passed" in done.stdout


def test_the_typed_program(tmp_path):
    """What type checkers accept also runs."""
    done = run(tmp_path, str(ROOT / "tests" / "typed_program.py"))
    assert (done.stdout, done.stderr) == ("0\n", "")


def test_worker_of_gunicorn():
    pytest.importorskip("gunicorn", reason="gunicorn is not installed")
    names = {}
    exec(compile(FILES["worker.py"], "worker.py", "exec"), names)
    fastasgi.Config("main:app", log_config=None, **names["Worker"].CONFIG_KWARGS)


def test_everything_is_run():
    assert set(OUTPUT) == set(SCRIPTS) and len(SCRIPTS) >= 5
    assert {"main.py", "test_main.py", *PROGRAMS} <= set(FILES)


@pytest.mark.parametrize("word", words_of(PAGE))
def test_what_is_named_exists(word):
    known = {"py.typed", "live_server_options", "fastasgi_app = main:app", "reload"}
    owner, _, member = word.partition(".")
    if owner == "server":
        assert hasattr(fastasgi.Server, member)
        return
    foreign = word.startswith(("pytest ", "[tool.", "FASTASGI_<")) or word in FILES or word in known
    assert foreign or is_gunicorns(word) or why_not(word) is None, why_not(word)


def is_gunicorns(word):
    """A setting in the table of gunicorn's settings."""
    table = PAGE.partition("| gunicorn | here |")[2]
    return any(word in names for names, _ in rows(table))


USED = {
    *("load", "bind_socket", "is_ssl", "should_reload", "get_loop_factory"),
    *("run", "serve", "startup", "main_loop", "on_tick", "shutdown", "started", "should_exit", "force_exit"),
    *("servers", "url", "urls", "exit_code", "handle_exit", "capture_signals"),
}


def test_the_tables_name_what_there_is():
    """The first names of a row: members of `Config` or `Server`; and none that programs use is left out. (A server
    has more, for the supervisor and the other faces of ours.)"""
    told = {name.removeprefix("await ").partition("(")[0] for names, _ in rows(PAGE) for name in names}
    config, server = fastasgi.Config("main:app", log_config=None), fastasgi.Server(fastasgi.Config("main:app"))
    public = {name for name in (*dir(fastasgi.Server), *vars(server)) if not name.startswith("_")}
    assert told & (public | set(dir(config))) >= USED, USED - told
    assert {name for name in told if not hasattr(config, name) and name not in public} <= {
        "keepalive", "worker_connections", "limit_request_fields", "max_requests", "max_requests_jitter",
        "graceful_timeout", "timeout", "accesslog", "errorlog", "loglevel",
    }  # fmt: skip
    for names, _ in rows(PAGE):
        for name in names:
            ast.parse(name.removeprefix("await "))
