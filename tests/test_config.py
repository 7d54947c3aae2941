"""config: what is given wins, what is wrong is one sentence, and values are what the runtime reads."""

import asyncio
import inspect
import logging
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


@pytest.mark.parametrize(
    ("places", "sentence"),
    [
        ({"uds": "/tmp/x", "bind": ":1"}, "uds and bind: expected one of them, got both; leave one out"),
        ({"uds": "/tmp/x", "fd": 3, "bind": ":1"}, "uds and fd and bind: expected one of them, got all"),
    ],
)
def test_places_exclude_each_other(places: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        make(**places)


def test_bind_leaves_host_and_port_unused_and_says_so() -> None:
    assert make(bind=":1", host="x", port=2).notices == ["host and port are not used: bind says where to listen"]
    assert make(bind=":1", port=2).notices == ["port is not used: bind says where to listen"]
    assert make(bind=":1").notices == make(port=2).notices == []


def test_workers_are_as_many_as_the_environment_says_unless_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WEB_CONCURRENCY", raising=False)
    assert make().workers == make(workers=None).workers == 1
    monkeypatch.setenv("WEB_CONCURRENCY", "3")
    assert make().workers == make(workers=None).workers == 3
    assert make(workers=2).workers == 2


def test_trusted_peers_come_from_the_environment_unless_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORWARDED_ALLOW_IPS", "10.0.0.0/8, 192.168.0.1")
    assert make().forwarded_allow_ips == ["10.0.0.0/8", "192.168.0.1"]
    assert make(forwarded_allow_ips="*").forwarded_allow_ips == ["*"]
    monkeypatch.delenv("FORWARDED_ALLOW_IPS")
    assert make(forwarded_allow_ips=None).forwarded_allow_ips == ["127.0.0.1", "::1"]


def test_misspelt_peers_and_fields_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"forwarded_allow_ips: .*10\.0\.0\.1/8 has host bits set; write an address"):
        make(forwarded_allow_ips="10.0.0.1/8")
    with pytest.raises(ConfigError, match=r"forwarded_fields: .*'hosts' is none of for, proto, host, port, prefix"):
        make(forwarded_fields="for,hosts")


def test_reload_watches_directories_that_exist(tmp_path: Any) -> None:
    assert make(reload=True, reload_dirs=tmp_path).reload_dirs == [str(tmp_path)]
    with pytest.raises(ConfigError, match="reload_dirs: 'nowhere/at/all' is not a directory"):
        make(reload=True, reload_dirs=["nowhere/at/all"])


def test_what_to_reload_without_reload_gives_a_notice() -> None:
    config = make(reload_dirs="nowhere/at/all", reload_includes=["*.html"], reload_excludes=None)
    assert config.notices == ["reload_dirs and reload_includes without reload: nothing is watched"]


def test_headers_are_encoded() -> None:
    config = make(headers=[("X-Frame-Options", "DENY"), ("Server", "caf\xe9")])
    assert config.encoded_headers == [(b"x-frame-options", b"DENY"), (b"server", b"caf\xe9")]


def test_h11_size_sets_the_head_limit_unless_that_is_given() -> None:
    assert make(h11_max_incomplete_event_size=4096).limit_request_head == 4096
    assert make(h11_max_incomplete_event_size=4096, limit_request_head=99).limit_request_head == 99


@pytest.mark.parametrize(
    ("option", "name", "what"),
    [
        ("http", "h11", "parser"),
        ("http", "httptools", "parser"),
        ("http", "zttp", "parser"),
        ("ws", "websockets", "implementation"),
        ("ws", "websockets-sansio", "implementation"),
        ("ws", "wsproto", "implementation"),
    ],
)
def test_implementations_give_one_notice(
    option: str, name: str, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr(logging.getLogger("fastasgi.error"), "info", said.append)
    config = make(**{option: name})
    config.load()
    config.load()
    assert said == [f"{option}={name} is accepted but chooses nothing here: fastasgi has its own {what}"]


def test_words_that_choose_nothing_give_no_notice() -> None:
    assert make(http="auto", ws="none").notices == make(ws="auto").notices == []


@pytest.mark.parametrize("value", ["my.protocol:Protocol", asyncio.Protocol])
def test_classes_of_other_implementations_are_refused(value: Any) -> None:
    with pytest.raises(ConfigError, match=r"http: expected auto, h11, .*; fastasgi has its own HTTP parser"):
        make(http=value)
    with pytest.raises(ConfigError, match=r"ws: expected auto, none, .*; fastasgi has its own WebSocket"):
        make(ws=value)


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
    assert make(ssl_certfile="x").is_ssl
    assert make(ssl_keyfile="x").is_ssl
    assert make(ssl_context_factory=lambda config, default: default()).is_ssl
    assert Config("main:app", log_config=None, reload=True).should_reload
    assert not make(reload=True).should_reload


def test_env_file_needs_dotenv(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setitem(sys.modules, "dotenv", None)
    with pytest.raises(StartupError, match=r"pip install 'fastasgi\[standard\]'"):
        make(env_file=tmp_path / ".env").load()


def test_env_file_feeds_the_environment_only(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    class Dotenv:
        loaded: list[str] = []

        @classmethod
        def load_dotenv(cls, path: str) -> None:
            cls.loaded.append(path)

    monkeypatch.setitem(sys.modules, "dotenv", Dotenv)
    path = tmp_path / ".env"
    said: list[str] = []
    logger = logging.getLogger("fastasgi.error")
    monkeypatch.setattr(logger, "warning", lambda text, *args: said.append(text % args))
    make(env_file=path).load()
    assert said == [f"env_file {str(path)!r} does not exist: nothing is loaded from it"]
    path.write_text("FASTASGI_PORT=9\n")
    config = make(env_file=str(path))
    config.load()
    assert Dotenv.loaded == [str(path)]
    assert config.port == 8000


def test_logging_config_is_exposed_with_the_names_users_know() -> None:
    assert fastasgi.config.LOGGING_CONFIG is LOGGING_CONFIG
    assert set(LOGGING_CONFIG["formatters"]) == set(LOGGING_CONFIG["handlers"]) == {"default", "access"}
    assert set(LOGGING_CONFIG["loggers"]) == {"fastasgi", "fastasgi.error", "fastasgi.access"}


@pytest.mark.parametrize("is_async", [False, True])
def test_wsgi_applications_have_no_websocket(is_async: bool) -> None:
    pytest.importorskip("a2wsgi")

    def wsgi(environ: Any, start_response: Any) -> Any: ...

    async def make_wsgi() -> Any:
        return wsgi

    config = Config(make_wsgi if is_async else wsgi, factory=is_async, log_config=None)
    asyncio.run(config.load_in_loop())
    assert config.ws == "none"
