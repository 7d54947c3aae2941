"""config: what is given wins, what is wrong is one sentence, and values are what the runtime reads."""

import asyncio
import inspect
import logging
import subprocess
import sys
from typing import Any

import pytest

import fastasgi.config
from fastasgi.config import FIELDS, LOGGING_CONFIG, Config
from fastasgi.errors import ConfigError, StartupError


async def app(scope: Any, receive: Any, send: Any) -> None: ...


def make(**options: Any) -> Config:
    return Config(app, log_config=None, **options)


def test_defaults_become_attributes() -> None:
    config = make()
    for name, field in FIELDS.items():
        if name not in ("app", "log_config", "io"):
            assert getattr(config, name) == field.convert(field.default), name
    assert config.app is app
    assert config.encoded_headers == []


def test_times_are_floats_and_ports_are_integers() -> None:
    config = Config(app, log_config=None, timeout_keep_alive=5, port="9000")  # type: ignore[arg-type]
    assert isinstance(config.timeout_keep_alive, float)
    assert type(config.port) is int


def test_parameters_are_the_fields() -> None:
    assert list(inspect.signature(Config).parameters) == list(FIELDS)


def test_unknown_option_suggests_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"unknown option 'prot'; did you mean 'port'\?"):
        make(prot=1)


def test_app_must_be_an_application_or_a_string() -> None:
    with pytest.raises(ConfigError, match="app: expected an import string"):
        Config(None, log_config=None)  # type: ignore[arg-type]


def test_uds_and_fd_exclude_each_other() -> None:
    with pytest.raises(ConfigError, match=r"uds and fd: expected one of them, got both"):
        make(uds="/tmp/x", fd=3)


def test_more_workers_come_later() -> None:
    with pytest.raises(ConfigError, match=r"workers: .* got 2; .* come with a later release"):
        make(workers=2)


def test_wsgi_has_a_cure() -> None:
    with pytest.raises(ConfigError, match=r"a2wsgi\.WSGIMiddleware"):
        make(interface="wsgi")


def test_headers_are_encoded() -> None:
    config = make(headers=[("X-Frame-Options", "DENY"), ("Server", "caf\xe9")])
    assert config.encoded_headers == [(b"x-frame-options", b"DENY"), (b"server", b"caf\xe9")]


def test_h11_size_sets_the_head_limit_unless_that_is_given() -> None:
    assert make(h11_max_incomplete_event_size=4096).limit_request_head == 4096
    assert make(h11_max_incomplete_event_size=4096, limit_request_head=99).limit_request_head == 99


@pytest.mark.parametrize("name", ["h11", "httptools", "zttp"])
def test_http_implementations_give_one_notice(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(logging.getLogger("fastasgi.error"), "info", said.append)
    config = make(http=name)
    config.load()
    config.load()
    assert said == [f"http={name} is accepted but chooses nothing here: fastasgi has its own parser"]


def test_http_class_is_refused() -> None:
    with pytest.raises(ConfigError, match="http: expected auto, h11, httptools or zttp"):
        make(http="my.protocol:Protocol")


def test_io_comes_from_the_environment_unless_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTASGI_IO", "transport")
    assert make().io == "transport"
    assert make(io="socket").io == "socket"
    monkeypatch.setenv("FASTASGI_PORT", "1")
    assert make().port == 8000


def test_load_resolves_the_application_once() -> None:
    config = make()
    assert not config.loaded
    config.load()
    assert config.loaded
    assert config.loaded_app is app


def test_load_fails_with_a_startup_error() -> None:
    config = Config("no_such_module_here:app", log_config=None)
    with pytest.raises(StartupError, match="no module named 'no_such_module_here'"):
        config.load()


def test_factory() -> None:
    config = Config(lambda: app, factory=True, log_config=None)
    config.load()
    assert config.loaded_app is app


def test_bind_socket_is_one_listening_socket() -> None:
    with make(port=0).bind_socket() as sock:
        assert sock.getsockname()[0] == "127.0.0.1"


def test_loop_factory() -> None:
    factory = make(loop="asyncio").get_loop_factory()
    assert factory is asyncio.SelectorEventLoop or sys.platform == "win32"
    assert make(loop="none").get_loop_factory() is None


def test_is_ssl_and_should_reload() -> None:
    assert (make().is_ssl, make().should_reload) == (False, False)


def test_env_file_needs_dotenv(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setitem(sys.modules, "dotenv", None)
    with pytest.raises(StartupError, match="pip install python-dotenv"):
        make(env_file=tmp_path / ".env").load()


def test_env_file_feeds_the_environment_only(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    class Dotenv:
        loaded: list[str] = []

        @classmethod
        def load_dotenv(cls, path: str) -> None:
            cls.loaded.append(path)

    monkeypatch.setitem(sys.modules, "dotenv", Dotenv)
    path = tmp_path / ".env"
    with pytest.raises(StartupError, match="does not exist"):
        make(env_file=path).load()
    path.write_text("FASTASGI_PORT=9\n")
    config = make(env_file=str(path))
    config.load()
    assert Dotenv.loaded == [str(path)]
    assert config.port == 8000


def test_logging_config_is_exposed_with_the_names_users_know() -> None:
    assert fastasgi.config.LOGGING_CONFIG is LOGGING_CONFIG
    assert set(LOGGING_CONFIG["formatters"]) == set(LOGGING_CONFIG["handlers"]) == {"default", "access"}
    assert set(LOGGING_CONFIG["loggers"]) == {"fastasgi", "fastasgi.error", "fastasgi.access"}


TYPED = """
from fastasgi.config import Config
from fastasgi.launch import run

config = Config("main:app", port=9000, headers=[("a", "b")], timeout_keep_alive=None)
reveal_type(config.port)
Config("main:app", port="x")
run("main:app", prot=1)
run(object(), host=3)
"""


def test_type_checkers_see_every_option(tmp_path: Any) -> None:
    pytest.importorskip("mypy")
    path = tmp_path / "typed.py"
    path.write_text(TYPED)
    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path), str(path)]
    output = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    assert 'note: Revealed type is "int"' in output
    assert 'typed.py:7: error: Argument "port" to "Config" has incompatible type "str"' in output
    assert 'typed.py:8: error: Unexpected keyword argument "prot" for "run"' in output
    assert 'typed.py:9: error: Argument "host" to "run" has incompatible type "int"' in output
    assert "typed.py:5" not in output
