"""reload: which files count, both ways of hearing of a change, and what the server makes of it."""

import itertools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import watchfiles
from supervised import running_workers, search_path
from waiting import open_fds, until

from fastasgi import reload
from fastasgi.reload import FileFilter, changes_of, forget_bytecode, poll_changes, run_watcher, watch_changes

EXCLUDES = [".*", ".py[cod]", ".sw.*", "~*"]  # the default

# --- which files --------------------------------------------------------------------------------------------------


@pytest.mark.pins("reload.files")
@pytest.mark.parametrize(
    ("path", "counts"),
    [
        ("app.py", True),
        ("package/inner/views.py", True),
        ("app.txt", False),
        (".app.py", False),
        (".venv/lib/x.py", False),
        ("~app.py", False),
        ("skipped/x.py", False),
        ("generated/x.py", False),
        ("generated_not/x.py", True),
    ],
)
def test_files(tmp_path, path, counts):
    (tmp_path / "generated").mkdir()
    wanted = FileFilter.of([str(tmp_path)], ["*.py"], [*EXCLUDES, "skipped", str(tmp_path / "generated")])
    assert wanted.accepts(tmp_path / path) is counts


@pytest.mark.pins("reload.files")
def test_an_included_directory_is_watched_and_its_files_need_a_pattern(tmp_path):
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    wanted = FileFilter.of([str(tmp_path / "one")], ["*.html", str(tmp_path / "two")], EXCLUDES)
    assert wanted.directories == [tmp_path / "one", tmp_path / "two"]
    assert wanted.accepts(tmp_path / "two" / "page.html")
    assert not wanted.accepts(tmp_path / "two" / "app.txt")


@pytest.mark.pins("reload.files")
@pytest.mark.parametrize(
    ("includes", "excludes", "path", "counts"),
    [
        (["*.html"], EXCLUDES, "app.py", True),
        (["*.html"], EXCLUDES, "page.html", True),
        (["*.html"], ["*.py"], "app.py", False),
        (["*.py"], ["*.log"], ".hidden.py", False),
        ([".*", "*.py"], ["*.log"], ".hidden.py", True),
        ([".env"], EXCLUDES, ".env", True),
        ([".env"], EXCLUDES, ".git/.env", False),
        (["*.py"], ["tests/*"], "tests/test_app.py", False),
        (["*.py"], ["tests/*"], "tests/inner/test_app.py", False),
        (["*.py"], ["*/migrations/*"], "shop/migrations/0001.py", False),
        (["*.py"], ["tests/*"], "app/views.py", True),
    ],
)
def test_patterns_add_to_the_defaults_as_in_uvicorn(tmp_path, includes, excludes, path, counts):
    assert FileFilter.of([str(tmp_path)], includes, excludes).accepts(tmp_path / path) is counts


def test_nested_directories_are_watched_once(tmp_path):
    (tmp_path / "inner").mkdir()
    wanted = FileFilter.of([str(tmp_path / "inner"), str(tmp_path), str(tmp_path)], ["*.py"], [])
    assert wanted.directories == [tmp_path]


# --- changes ------------------------------------------------------------------------------------------------------


def test_polling_sees_new_changed_and_removed_files(tmp_path):
    (tmp_path / "old.py").write_text("1")
    (tmp_path / "env").mkdir()
    (tmp_path / "env" / "pyvenv.cfg").write_text("")
    steps = iter(
        [
            lambda: None,
            lambda: (tmp_path / "new.py").write_text("1"),
            lambda: (tmp_path / "env" / "x.py").write_text("1"),
            lambda: (tmp_path / "old.py").write_text("12"),
            (tmp_path / "old.py").unlink,
        ]
    )
    slept = []

    def sleep(seconds):
        slept.append(seconds)
        next(steps)()

    wanted = FileFilter.of([str(tmp_path)], ["*.py"], EXCLUDES)
    changes = poll_changes(wanted, 0.25, sleep)
    found = [{path.name for path in changed} for changed in itertools.islice(changes, 5)]
    assert found == [set(), {"new.py"}, set(), {"old.py"}, {"old.py"}]
    assert slept == [0.25] * 5


def test_watchfiles_sees_a_change(tmp_path):
    before = open_fds()
    wanted = FileFilter.of([str(tmp_path)], ["*.py"], EXCLUDES)
    changes = watch_changes(wanted, 0.1, watchfiles.watch)
    assert next(changes) == set(), "nothing has changed within its time: it looks up now and then"
    (tmp_path / "app.txt").write_text("1")
    (tmp_path / "app.py").write_text("1")
    assert {path.name for path in itertools.chain.from_iterable(itertools.islice(changes, 1))} == {"app.py"}
    changes.close()
    until(lambda: open_fds() == before, "watchfiles' thread, which nobody waits for, has ended")


def test_what_changed_before_the_watching_began_comes_first(tmp_path, monkeypatch):
    monkeypatch.setattr(reload, "poll_changes", lambda wanted, delay_s: iter([set()]))
    monkeypatch.setattr(reload, "import_module", no_module)
    (tmp_path / "before.py").write_text("1")
    os.utime(tmp_path / "before.py", ns=(10, 10))
    (tmp_path / "since.py").write_text("1")
    wanted = FileFilter.of([str(tmp_path)], ["*.py"], EXCLUDES)
    assert [{path.name for path in changed} for changed in changes_of(wanted, 0.1, 11)] == [{"since.py"}, set()]


def no_module(name):
    raise ImportError(name)


def test_polling_where_watchfiles_cannot(tmp_path, monkeypatch):
    def watch(*directories, **options):
        raise OSError("no more watches")
        yield

    monkeypatch.setattr(watchfiles, "watch", watch)
    monkeypatch.setattr(reload, "poll_changes", lambda wanted, delay_s: iter([{Path("polled.py")}]))
    wanted = FileFilter.of([str(tmp_path)], ["*.py"], [])
    assert list(changes_of(wanted, 0.1)) == [{Path("polled.py")}]


def test_a_watcher_ends_when_nobody_reads():
    reader, writer = os.pipe()
    seen = []

    def changes():
        yield set()
        yield {Path("b.py"), Path("a.py")}
        seen.append(os.read(reader, 100))
        os.close(reader)
        yield {Path("c.py")}
        raise AssertionError("it goes on")

    run_watcher(changes(), writer)
    os.close(writer)
    assert seen == [b'["a.py", "b.py"]\n']


def test_bytecode_of_a_changed_source_is_removed(tmp_path):
    """Python takes it for current while size and second of the source are the same."""
    cache = tmp_path / "__pycache__"
    cache.mkdir()
    compiled = Path(reload.cache_from_source(str(tmp_path / "app.py")))
    compiled.write_bytes(b"")
    forget_bytecode(tmp_path / "app.py")
    assert not compiled.exists()
    forget_bytecode(tmp_path / "app.py")
    forget_bytecode(tmp_path / "page.html")


# --- whole processes ----------------------------------------------------------------------------------------------

APP = """
from net_apps import answer, quiet_lifespan, stream

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await quiet_lifespan(receive, send)
    elif scope["path"] == "/stream":
        await stream(receive, send, patient=False)
    else:
        await answer(send, b"%s")
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "dev.py").write_text(APP % "one")
    return tmp_path


def reloading(folder, *argv, **environment):
    path = search_path(folder)
    argv = ("--reload", "--reload-dir", str(folder), *argv)
    return running_workers("dev:app", *argv, folder=folder, cwd=folder, PYTHONPATH=path, **environment)


@pytest.mark.pins("reload.change")
@pytest.mark.parametrize(("workers", "start"), [(1, "fork"), (2, "fork"), (1, "spawn")])
def test_new_code_within_a_second_with_an_open_stream(folder, workers, start):
    with reloading(folder, "--workers", str(workers), FASTASGI_WORKER_START=start) as server:
        client = server.connect()
        client.send(b"GET /stream HTTP/1.1\r\nHost: x\r\n\r\n")
        client.until(b"data: hello")
        assert server.ask() == (200, b"one")
        (folder / "dev.py").write_text(APP % "two")
        server.until_logged("dev.py changed: reloading")
        noticed_s = time.monotonic()
        server.until_logged("Shutting down", workers)
        assert server.ask() == (200, b"two"), "nobody is refused, nobody gets the old code"
        assert time.monotonic() - noticed_s < 10, "far below the grace of the open stream, on a busy machine too"
        assert not client.rest().endswith(b"0\r\n\r\n")
        server.signal(signal.SIGTERM)
        assert server.wait() == 0


@pytest.mark.pins("reload.waits")
def test_code_that_does_not_start_is_waited_for(folder):
    with reloading(folder, "--workers", "2") as server:
        (folder / "dev.py").write_text("def (\n")
        log = server.until_logged("Waiting for a change of the application")
        assert log.count("importing 'dev' failed: SyntaxError") == 1, "said once"
        client = server.connect()
        client.send(b"GET /1 HTTP/1.1\r\nHost: x\r\n\r\n")
        (folder / "dev.py").write_text("import nothing_of_the_kind\n")
        server.until_logged("it needs 'nothing_of_the_kind'")
        (folder / "dev.py").write_text(APP % "two")
        assert client.answer().body == b"two", "the connection has waited"
        server.signal(signal.SIGINT)
        assert server.wait() == 0


@pytest.mark.pins("reload.waits")
def test_also_at_the_first_start(folder):
    (folder / "dev.py").write_text("1 / 0\n")
    path = search_path(folder)
    argv = ("--reload", "--reload-dir", str(folder))
    with running_workers("dev:app", *argv, folder=folder, cwd=folder, is_ready=False, PYTHONPATH=path) as server:
        server.until_logged("ZeroDivisionError: division by zero")
        (folder / "dev.py").write_text(APP % "one")
        assert server.ask() == (200, b"one")
        server.signal(signal.SIGTERM)
        assert server.wait() == 0


def test_an_application_object_cannot_be_reloaded():
    code = "import fastasgi\nfrom net_apps import plain\nfastasgi.run(plain, reload=True, port=0)\n"
    run = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": search_path()}, capture_output=True, text=True
    )
    assert run.returncode == 3
    assert "reload needs an import string such as 'main:app', to import it anew; it got an object" in run.stderr


# Makes standard input the terminal of a new session, then becomes the interpreter with these arguments.
TAKE_TERMINAL = (
    "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); "
    "os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
)


@pytest.mark.skipif(sys.platform == "win32", reason="terminals of POSIX")
@pytest.mark.parametrize("argv", [["--reload"], ["--workers", "2"]], ids=["reload", "workers"])
def test_a_closed_terminal_ends_the_server(folder, argv):
    """The kernel's SIGHUP, and not one that asks for new workers: else the server would live on, on its port."""
    leader, terminal = os.openpty()
    words = [sys.executable, "-c", TAKE_TERMINAL, "-m", "fastasgi", "dev:app", "--port", "0", *argv]
    environment = {**os.environ, "PYTHONPATH": search_path(folder)}
    with subprocess.Popen(
        words,
        cwd=folder,
        env=environment,
        stdin=terminal,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    ) as server:
        os.close(terminal)
        try:
            for line in server.stderr:
                if b"Press CTRL+C" in line:
                    break
            os.close(leader)
            assert server.wait(10) == 0
        finally:
            server.kill()
