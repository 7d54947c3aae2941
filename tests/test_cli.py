"""cli: each option reaches the configuration, errors are one sentence, and every end has its exit code."""

import contextlib
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click.testing
import pytest

from fastasgi import __version__, cli, launch
from fastasgi.config import Config
from fastasgi.fields import Field
from fastasgi.kinds import Switch
from fastasgi.options import FIELDS, GROUPS

ROOT = Path(__file__).resolve().parents[1]

Run = Callable[..., click.testing.Result]


@pytest.fixture
def started() -> list[Config]:
    return []


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Any, started: list[Config]) -> Run:
    """Run the command in this process, in an empty directory, with a server that ends at once."""

    def execute(config: Config) -> int:
        started.append(config)
        return 0

    monkeypatch.setattr(cli, "execute", execute)
    monkeypatch.setattr(launch, "end_executors", lambda: None)  # of this process, whose other tests need them
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if name.startswith(("FASTASGI_", "UVICORN_")):
            monkeypatch.delenv(name)

    def call(*args: str, **environ: str) -> click.testing.Result:
        return click.testing.CliRunner(env=environ).invoke(cli.main, args)

    return call


def test_defaults(run: Run, started: list[Config]) -> None:
    result = run("main:app")
    assert (result.exit_code, result.output) == (0, "")
    assert started[0].app == "main:app"
    assert started[0].given == {"app"}


SAMPLES = {
    "headers": ("X-A: b", [("X-A", "b")]),
    "interface": ("asgi3", "asgi3"),
    "lifespan": ("off", "off"),
    "http": ("h11", "h11"),
    "loop": ("asyncio", "asyncio"),
    "underscore_headers": ("keep", "keep"),
    "log_level": ("debug", "debug"),
    "log_config": ("none", None),
    "uds_permissions": ("0600", 0o600),
    "fd": ("7", 7),
    "uds": ("x.sock", "x.sock"),
    "workers": ("1", 1),
    "env_file": (__file__, __file__),
    "ws": ("wsproto", "wsproto"),
    "ws_per_message_deflate": ("false", False),
    "bind": ("a:1", ["a:1"]),
    "reuse_port": ("on", "on"),
    "preload": ("off", "off"),
    "forwarded_allow_ips": ("10.0.0.1,::1", ["10.0.0.1", "::1"]),
    "forwarded_fields": ("for,host", ["for", "host"]),
    "reload_dirs": ("a,b", ["a,b"]),
    "reload_includes": ("*.html", ["*.html"]),
    "reload_excludes": ("*.tmp", ["*.tmp"]),
    "access_log_exclude": ("/health", ["/health"]),
    "access_log_format": ("%(status)s", "%(status)s"),
    "log_format": ("json", "json"),
    "ssl_version": ("TLSv1.2", ssl.TLSVersion.TLSv1_2),
    "ssl_cert_reqs": ("2", ssl.CERT_REQUIRED),
    "user": ("33", 33),
    "group": ("www-data", "www-data"),
    "umask": ("027", 0o027),
}


@pytest.mark.parametrize("field", [f for f in FIELDS.values() if f.cli_name], ids=lambda field: field.name)
def test_every_option_reaches_the_configuration(run: Run, started: list[Config], field: Field) -> None:
    name = field.cli_name or ""
    if isinstance(field.kind, Switch) and not field.valued:
        assert run("a:b", name).exit_code == run("a:b", f"--no-{name[2:]}").exit_code == 0
        assert [getattr(config, field.name) for config in started] == [True, False]
        return
    text, value = SAMPLES.get(field.name, ("123", 123 if "int" in field.annotation else "123"))
    if field.unit == "s":
        value = 123.0
    result = run("a:b", name, text)
    assert result.exit_code == 0, result.output
    assert getattr(started[0], field.name) == value


def test_header_is_repeatable(run: Run, started: list[Config]) -> None:
    run("a:b", "--header", "X-A: b", "--header", "X-C:d")
    assert started[0].encoded_headers == [(b"x-a", b"b"), (b"x-c", b"d")]


def test_environment_file_and_command_line(run: Run, started: list[Config]) -> None:
    Path("fastasgi.toml").write_text('app = "file:app"\nport = 1\nhost = "file"\nbacklog = 1\n')
    result = run("--port", "3", FASTASGI_PORT="2", FASTASGI_HOST="environment")
    assert result.exit_code == 0
    config = started[0]
    assert (config.app, config.port, config.host, config.backlog) == ("file:app", 3, "environment", 1)


def test_switch_on_the_command_line_undoes_the_environment(run: Run, started: list[Config]) -> None:
    run("a:b", "--access-log", FASTASGI_ACCESS_LOG="false")
    assert started[0].access_log is True


def test_notices(run: Run, started: list[Config]) -> None:
    run("a:b", UVICORN_PORT="1", FASTASGI_PROT="2")
    assert [notice.partition(" ")[0] for notice in started[0].notices] == ["UVICORN_PORT", "FASTASGI_PROT"]


def test_workers_by_the_variable_that_other_servers_read(run: Run, started: list[Config]) -> None:
    run("a:b", WEB_CONCURRENCY="2")
    run("a:b", WEB_CONCURRENCY="2", FASTASGI_WORKERS="3")
    assert [config.workers for config in started] == [2, 3]


@pytest.mark.pins("process.exit-codes")
@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (["a:b", "--port", "x"], "--port: expected a whole number from 0 to 65535, got 'x'"),
        (["a:b", "--workers", "0"], "--workers: expected a whole number of at least 1, got '0'"),
        (["a:b", "--prot", "1"], "unknown option '--prot'; did you mean '--port'?"),
        (["a:b", "--print_config"], "unknown option '--print_config'; did you mean '--print-config'?"),
        (["a:b", "--no-acces-log"], "unknown option '--no-acces-log'; did you mean '--no-access-log'?"),
        (["a:b", "-w", "4"], "unknown option '-w'; use --workers"),
        (["a:b", "--keyfile", "x"], "unknown option '--keyfile'; use --ssl-keyfile"),
        (["a:b", "--zzzz"], "unknown option '--zzzz'"),
        (["a:b", "--lifespan", "onn"], "--lifespan: expected auto, on or off, got 'onn'; did you mean 'on'?"),
        (["a:b", "--header", "X A: b"], "--header: expected header fields such as 'X-Frame-Options: DENY'"),
        (["a:b", "--uds", "x", "--fd", "3"], "uds and fd: expected one of them, got both"),
        (["a:b", "--env-file", "nowhere.env"], "--env-file: 'nowhere.env' does not exist; check the path"),
        (["a:b", "--log-config", "nowhere.ini"], "log_config: cannot read 'nowhere.ini'"),
        (["a:b", "c:d"], "Got unexpected extra argument"),
        (["a:b", "--port"], "Option '--port' requires an argument"),
        ([], "no application given, and none found in '"),
    ],
)
def test_usage_errors_are_one_sentence_and_exit_code_two(run: Run, args: list[str], sentence: str) -> None:
    result = run(*args)
    assert result.exit_code == 2
    assert result.stdout == ""
    lines = result.stderr.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith(f"Error: {sentence}")


def test_unknown_option_suggests_the_nearest(run: Run) -> None:
    assert "--limit-request-line" in run("a:b", "--limit-request-lin", "1").stderr


def test_version(run: Run) -> None:
    result = run("--version")
    assert result.exit_code == 0
    assert re.fullmatch(
        rf"Running fastasgi {re.escape(__version__)} with CPython 3\.\S+ on \w+\n", result.output
    )


def test_help_has_every_option_under_its_heading(run: Run) -> None:
    result = run("--help")
    assert result.exit_code == 0
    headings = [line[:-1] for line in result.output.splitlines() if re.fullmatch(r"\w+:", line)]
    assert headings == [*GROUPS, "Help"]
    sections = re.split(r"^(\w+):$", result.output, flags=re.MULTILINE)
    by_heading = dict(zip(sections[1::2], sections[2::2], strict=True))
    for field in FIELDS.values():
        if field.cli_name:
            assert f"  {field.cli_name} " in by_heading[field.group], field.name
    for name in ("--help", "--version", "--print-config", "--check-config"):
        assert name in by_heading["Help"]
    assert "[default: 8000]" in " ".join(result.output.split())


def test_print_config(run: Run, started: list[Config]) -> None:
    result = run("--port", "3", "--print-config", FASTASGI_HOST="x")
    assert result.exit_code == 0
    words = [line.split() for line in result.output.splitlines()]
    assert ["port", "=", "3", "#", "command", "line"] in words
    assert ["host", "=", '"x"', "#", "FASTASGI_HOST"] in words
    assert started == []


def test_check_config(run: Run, started: list[Config]) -> None:
    Path("a.py").write_text("async def b(scope, receive, send): ...")
    assert run("a:b", "--check-config").output == "The configuration is valid.\n"
    assert run("a:b", "--check-config", "--port", "x").exit_code == 2
    assert started == []


# ------------------------------------------------------------------------------- whole processes
APP = """
async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        print("lifespan", flush=True)
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


async def broken(scope, receive, send):
    await receive()
    await send({"type": "lifespan.startup.failed", "message": "no database"})
"""


@pytest.fixture
def process(tmp_path: Any) -> Iterator[Callable[..., "subprocess.Popen[str]"]]:
    """Start `python -m fastasgi` in a directory that has `main.py`."""
    (tmp_path / "main.py").write_text(APP)
    (tmp_path / "wrong.py").write_text("import main\nmain.nothing\n")
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("FASTASGI_", "UVICORN_"))}
    if os.environ.get("FASTASGI_IO"):
        kept["FASTASGI_IO"] = os.environ["FASTASGI_IO"]
    environ = {**kept, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}

    with contextlib.ExitStack() as stack:

        def start(*args: str) -> "subprocess.Popen[str]":
            command = [sys.executable, "-m", "fastasgi", *args]
            pipe = subprocess.PIPE
            server = subprocess.Popen(command, cwd=tmp_path, env=environ, text=True, stdout=pipe, stderr=pipe)
            stack.enter_context(server)
            stack.callback(server.kill)
            return server

        yield start


def end_of(server: "subprocess.Popen[str]") -> tuple[int, str, str]:
    out, err = server.communicate(timeout=20)
    return server.returncode, out, err


@pytest.mark.pins("process.exit-codes")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_serves_until_it_is_told_to_stop(process: Any, number: signal.Signals) -> None:
    server = process("main:app", "--port", "0")
    address = next(line for line in server.stderr if "http://127.0.0.1:" in line)
    port = int(re.findall(r"http://127\.0\.0\.1:(\d+)", address)[0])
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        answer = b"".join(iter(lambda: client.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert answer.endswith(b"\r\n\r\nok")
    server.send_signal(number)
    code, out, err = end_of(server)
    assert code == 0, err
    assert out.startswith("lifespan\n")
    assert re.search(r'INFO:     127\.0\.0\.1:\d+ - "GET / HTTP/1\.1" 200 OK\n', out)
    assert "Traceback" not in err


@pytest.mark.pins("process.exit-codes", "process.startup-failure")
@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (["nowhere:app"], "no module named 'nowhere' in "),
        (["main:ap"], "module 'main' has no attribute 'ap'; did you mean 'app'?"),
        (["wrong:app"], "importing 'wrong' failed: AttributeError: module 'main' has no attribute 'nothing'"),
        (["main:APP"], "module 'main' has no attribute 'APP'; did you mean 'app'?"),
        (["main:broken"], "app failed to start: no database"),
        (
            ["main:app", "--host", "203.0.113.1"],
            "cannot listen on 203.0.113.1:8000: 203.0.113.1 is not an address",
        ),
        (["main:app", "--uds", "nowhere/x.sock"], "cannot listen on 'nowhere/x.sock': the directory "),
        (["main:app", "--fd", "99"], "file descriptor 99 is not open"),
    ],
)
def test_what_prevents_the_start_is_one_sentence_and_exit_code_three(
    process: Any, args: list[str], sentence: str
) -> None:
    code, _, err = end_of(process(*args, "--log-level", "error"))
    assert code == 3, err
    lines = err.splitlines()
    assert lines[-1].startswith(f"ERROR:    {sentence}")
    assert ("Traceback" in err) is (args[0] == "wrong:app")
    if args[0] != "wrong:app":
        assert len(lines) == 1


CHECKED = """
import asyncio, sys
print("imported", file=sys.stderr)

async def app(scope, receive, send):
    raise AssertionError("the lifespan does not run")

async def make():
    asyncio.get_running_loop()
    return app

async def make_none():
    return None
"""


@pytest.mark.pins("process.check-config")
@pytest.mark.parametrize(
    ("args", "code", "sentence"),
    [
        (["checked:app"], 0, ""),
        (["checked:make", "--factory", "--workers", "4"], 0, ""),
        (["checked:app", "--uds", "x.sock", "--pid-file", "x.pid"], 0, ""),
        (["checked:ap"], 3, "module 'checked' has no attribute 'ap'; did you mean 'app'?"),
        (["checked:make_none", "--factory"], 3, "the factory 'checked:make_none' returned None"),
        (["nowhere:app"], 3, "no module named 'nowhere' in "),
        (["wrong:app"], 3, "importing 'wrong' failed: AttributeError"),
        (["checked:app", "--ssl-certfile", "no.pem"], 3, "ssl_certfile: cannot read 'no.pem'"),
        (["checked:app", "--loop", "checked:no_loop"], 3, "module 'checked' has no attribute 'no_loop'"),
        (["checked:app", "--uds", "nowhere/x.sock"], 3, "cannot listen on 'nowhere/x.sock': the directory "),
        (["checked:app", "--host", "203.0.113.1"], 3, "cannot listen on 203.0.113.1:8000: 203.0.113.1 is not"),
        (["checked:app", "--pid-file", "nowhere/x.pid"], 3, "cannot write pid_file "),
        (["checked:app", "--user", "nobody-of-this-name"], 3, "user: there is no user 'nobody-of-this-name'"),
        (["checked:app", "--workers", "none"], 2, "Error: --workers"),
    ],
)
def test_check_config_finds_what_would_make_the_start_fail(
    process: Any, tmp_path: Path, args: list[str], code: int, sentence: str
) -> None:
    (tmp_path / "checked.py").write_text(CHECKED)
    before = {path.name for path in tmp_path.iterdir()}
    ended, out, err = end_of(process(*args, "--check-config"))
    assert ended == code, err
    assert out == ("The configuration is valid.\n" if code == 0 else "")
    assert sentence in (err.splitlines()[-1] if code else err)
    assert {path.name for path in tmp_path.iterdir()} - before <= {"__pycache__"}, "nothing is left behind"


@pytest.mark.pins("process.check-config")
def test_check_config_beside_a_running_server(process: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        code, out, err = end_of(process("main:app", "--port", port, "--check-config"))
    assert (code, out, err) == (0, "The configuration is valid.\n", "")


def test_port_in_use(process: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        code, _, err = end_of(process("main:app", "--port", str(port), "--log-level", "error"))
    assert code == 3
    owner = rf"process {os.getpid()} \(\S.*\)" if sys.platform == "linux" else "another program"
    assert re.fullmatch(
        rf"ERROR:    127\.0\.0\.1:{port} is in use by {owner}; stop it, or choose another port with --port\n", err
    )


@pytest.mark.pins("process.exit-codes")
def test_nothing_is_said_to_have_started_before_the_port_is_ours(process: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        code, out, err = end_of(process("main:app", "--port", str(other.getsockname()[1])))
    assert (code, out, len(err.splitlines())) == (3, "", 1)


def test_banner(process: Any) -> None:
    server = process("main:app", "--port", "0", "--loop", "asyncio")
    lines = [next(server.stderr) for _ in range(5)]
    assert [re.sub(r"\d+\.\d\d s|\[\d+\]|:\d{4,}", "#", line) for line in lines] == [
        "INFO:     Started server process #\n",
        "INFO:     Waiting for application startup.\n",
        "INFO:     Application startup complete.\n",
        "INFO:     Serving main:app with 1 worker, asyncio, HTTP/1.1 and WebSocket; ready in #\n",
        "INFO:     fastasgi running on http://127.0.0.1# (Press CTRL+C to quit)\n",
    ]
    server.terminate()
    assert end_of(server)[0] == 0


def test_application_that_is_found(process: Any) -> None:
    server = process("--port", "0")
    assert next(server.stderr) == "INFO:     no application given: serving main:app, found in main.py\n"
    next(line for line in server.stderr if "running on" in line)
    server.terminate()
    assert end_of(server)[0] == 0


def test_application_of_an_async_factory(process: Any, tmp_path: Any) -> None:
    (tmp_path / "made.py").write_text("from main import app\nasync def make():\n    return app\n")
    server = process("made:make", "--factory", "--port", "0")
    line = next(line for line in server.stderr if "running on" in line)
    port = int(re.search(r":(\d+) ", line)[1])
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert client.makefile("rb").read().endswith(b"ok")
    server.terminate()
    assert end_of(server)[0] == 0


def test_application_of_an_async_factory_that_fails(process: Any, tmp_path: Any) -> None:
    (tmp_path / "made.py").write_text("async def make():\n    return 1 / 0\n")
    code, _, err = end_of(process("made:make", "--factory"))
    assert code == 3
    assert err.splitlines()[-1] == (
        "ERROR:    the factory 'made:make' failed: ZeroDivisionError: division by zero (made.py, line 2)"
    )


@pytest.mark.pins("process.exit-codes")
def test_usage_error_of_the_process(process: Any) -> None:
    assert end_of(process("main:app", "--port", "x")) == (
        2,
        "",
        "Error: --port: expected a whole number from 0 to 65535, got 'x'\n",
    )


@pytest.mark.pins("process.exit-codes")
def test_crash_of_the_loop_is_exit_code_one(process: Any, tmp_path: Any) -> None:
    (tmp_path / "crash.py").write_text("def make():\n    raise RuntimeError('no loop today')\n")
    code, _, err = end_of(process("main:app", "--loop", "crash:make"))
    assert code == 1
    assert "RuntimeError: no loop today" in err


def test_unix_socket_file_is_removed_at_the_end(process: Any, tmp_path: Any) -> None:
    server = process("main:app", "--uds", "x.sock")
    next(line for line in server.stderr if "unix:x.sock" in line)
    assert (tmp_path / "x.sock").is_socket()
    server.terminate()
    code, _, err = end_of(server)
    assert code == 0, err
    assert not (tmp_path / "x.sock").exists()
