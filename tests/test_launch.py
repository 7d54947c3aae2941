"""launch: run has the parameters of Config, fills in what is not given, and ends with the exit code."""

import inspect
import logging
from typing import Any

import pytest

import fastasgi
from fastasgi import launch
from fastasgi.config import Config
from fastasgi.errors import ConfigError, StartupError
from fastasgi.options import FIELDS


class FakeServer:
    """Stands for the server: keeps its configuration and ends as told."""

    ends: int | BaseException = 0
    started: list[Config] = []

    def __init__(self, config: Config, notifier: Any) -> None:
        self.config = config
        self.exit_code = 0

    def run(self, sockets: Any = None) -> None:
        self.started.append(self.config)
        if isinstance(self.ends, BaseException):
            raise self.ends
        self.exit_code = self.ends


@pytest.fixture(autouse=True)
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> type[FakeServer]:
    class Server(FakeServer):
        started = []

    monkeypatch.setattr(launch, "MainServer", Server)
    monkeypatch.chdir(tmp_path)
    for field in FIELDS.values():
        if field.env_name:
            monkeypatch.delenv(field.env_name, raising=False)
    return Server


def test_signature_is_the_table_of_fields() -> None:
    parameters = inspect.signature(fastasgi.run).parameters
    assert list(parameters) == list(FIELDS)
    assert parameters["port"].default == 8000
    assert parameters["port"].kind is inspect.Parameter.KEYWORD_ONLY


def test_clean_stop_returns(server: type[FakeServer]) -> None:
    fastasgi.run("a:b", port=9000, log_config=None)
    assert [(c.app, c.port) for c in server.started] == [("a:b", 9000)]


@pytest.mark.parametrize("code", [1, 3])
def test_other_ends_exit(server: type[FakeServer], code: int) -> None:
    server.ends = code
    with pytest.raises(SystemExit) as raised:
        fastasgi.run("a:b", log_config=None)
    assert raised.value.code == code


def test_startup_error_is_logged_and_exits(server: type[FakeServer], monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(
        logging.getLogger("fastasgi.error"), "error", lambda text, *args: said.append(text % args)
    )
    server.ends = StartupError("no application", details="Traceback")
    with pytest.raises(SystemExit) as raised:
        fastasgi.run("a:b", log_config=None)
    assert (raised.value.code, said) == (3, ["Traceback", "no application"])


def test_interrupt_before_the_server_listens_to_signals_is_a_clean_stop(server: type[FakeServer]) -> None:
    server.ends = KeyboardInterrupt()
    fastasgi.run("a:b", log_config=None)


def test_environment_and_file_fill_in(
    server: type[FakeServer], monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    (tmp_path / "fastasgi.toml").write_text("port = 1\nbacklog = 2\nhost = 'h'\n")
    monkeypatch.setenv("FASTASGI_PORT", "3")
    fastasgi.run("a:b", log_config=None, host="127.0.0.1")
    config = server.started[0]
    assert (config.port, config.backlog, config.host) == (3, 2, "127.0.0.1")


def test_notices_of_the_environment_reach_the_log(
    server: type[FakeServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UVICORN_PORT", "3")
    fastasgi.run("a:b", log_config=None)
    assert server.started[0].notices == ["UVICORN_PORT in the environment is not read; use FASTASGI_PORT"]


def test_bad_option_raises() -> None:
    with pytest.raises(ConfigError, match="port: expected a whole number"):
        fastasgi.run("a:b", port=-1)
