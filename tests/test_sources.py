"""sources: command line, environment, file, default, in this order; misspelt names are not passed over."""

import ssl
import tomllib
from typing import Any

import pytest

from fastasgi.errors import ConfigError
from fastasgi.fields import Field
from fastasgi.options import FIELDS
from fastasgi.sources import Settings, gather, print_config, read_file


def write(directory: Any, name: str, text: str) -> str:
    (directory / name).write_text(text)
    return str(directory)


def test_nothing_given_is_nothing(tmp_path: Any) -> None:
    assert gather({}, {}, str(tmp_path)) == Settings()


def test_precedence(tmp_path: Any) -> None:
    directory = write(tmp_path, "fastasgi.toml", 'host = "a"\nport = 1\nbacklog = 1\n')
    environ = {"FASTASGI_HOST": "b", "FASTASGI_PORT": "2"}
    settings = gather({"host": "c"}, environ, directory, origin="command line")
    assert settings.values == {"host": "c", "port": 2, "backlog": 1}
    assert settings.origins == {"host": "command line", "port": "FASTASGI_PORT", "backlog": "fastasgi.toml"}


def test_none_that_is_given_is_stronger_than_the_environment(tmp_path: Any) -> None:
    settings = gather({"log_config": None}, {"FASTASGI_LOG_CONFIG": "log.json"}, str(tmp_path))
    assert settings.values == {"log_config": None}


def test_empty_variable_is_not_set(tmp_path: Any) -> None:
    assert gather({}, {"FASTASGI_UDS": "", "FASTASGI_PORT": ""}, str(tmp_path)).values == {}


def test_every_field_is_read_from_the_environment(tmp_path: Any) -> None:
    given = {
        "app": "a:b",
        "headers": "X-A: b",
        "log_config": "x.json",
        "uds_permissions": "0660",
        "request_id_header": "X-Id",
    }
    for field in FIELDS.values():
        text = given.get(field.name, "none" if field.default is None else str(field.default))
        if text and field.env_name and field.name != "bind":
            assert field.name in gather({}, {field.env_name: text}, str(tmp_path)).values


def test_lists_in_the_environment_and_in_a_file(tmp_path: Any) -> None:
    environ = {"FASTASGI_BIND": ":80,unix:/run/x", "FASTASGI_RELOAD_DIRS": "src, lib"}
    directory = write(tmp_path, "fastasgi.toml", 'reload_includes = ["*.py", "*.html"]\nreload_excludes = "a, b"\n')
    assert gather({}, environ, directory).values == {
        "bind": [":80", "unix:/run/x"],
        "reload_dirs": ["src", "lib"],
        "reload_includes": ["*.py", "*.html"],
        "reload_excludes": ["a", "b"],
    }


def test_none_that_stands_for_none_given_leaves_room_for_others(tmp_path: Any) -> None:
    settings = gather({"workers": None, "app_dir": None}, {"FASTASGI_WORKERS": "3"}, str(tmp_path))
    assert settings.values == {"workers": 3}


@pytest.mark.parametrize(
    ("given", "environ", "text", "message"),
    [
        ({"port": "x"}, {}, "", "--port: expected a whole number from 0 to 65535, got 'x'"),
        ({"prot": 1}, {}, "", "unknown option 'prot'; did you mean 'port'?"),
        ({}, {"FASTASGI_PORT": "x"}, "", "FASTASGI_PORT: expected a whole number"),
        ({"port": 1}, {"FASTASGI_PORT": "x"}, "", "FASTASGI_PORT: expected a whole number"),
        ({}, {}, 'port = "x"', "fastasgi.toml: port: expected a whole number"),
        ({}, {}, "prot = 1", "fastasgi.toml: unknown key 'prot'; did you mean 'port'?"),
        ({}, {}, 'io = "auto"', "fastasgi.toml: unknown key 'io'"),
        ({}, {}, "callback_notify = 1", "fastasgi.toml: unknown key 'callback_notify'"),
        ({}, {}, "graceful_timeout = 1", "unknown key 'graceful_timeout'; use timeout_graceful_shutdown"),
        ({"max_requests": 1}, {}, "", "unknown option 'max_requests'; use limit_max_requests"),
        ({}, {}, "port = ", "fastasgi.toml is not valid TOML: "),
    ],
)
def test_errors_name_their_source(
    tmp_path: Any, given: dict[str, Any], environ: dict[str, str], text: str, message: str
) -> None:
    def label(field: Field) -> str:
        return field.cli_name or ""

    with pytest.raises(ConfigError) as raised:
        gather(given, environ, write(tmp_path, "fastasgi.toml", text), label=label)
    assert message in str(raised.value)


def test_project_file(tmp_path: Any) -> None:
    directory = write(
        tmp_path, "pyproject.toml", "[tool.fastasgi]\ntimeout-keep-alive = 3\nheaders = ['X-A: b']\n"
    )
    settings = gather({}, {}, directory)
    assert settings.values == {"timeout_keep_alive": 3.0, "headers": [("X-A", "b")]}
    assert settings.origins["headers"] == "pyproject.toml"


def test_own_file_hides_the_project_file(tmp_path: Any) -> None:
    write(tmp_path, "pyproject.toml", "[tool.fastasgi]\nport = 1\n")
    directory = write(tmp_path, "fastasgi.toml", "")
    assert read_file(directory) == ("fastasgi.toml", {})


def test_project_file_without_our_table(tmp_path: Any) -> None:
    assert read_file(write(tmp_path, "pyproject.toml", "[project]\nname = 'x'\n")) is None


def test_table_must_be_a_table(tmp_path: Any) -> None:
    with pytest.raises(ConfigError, match=r"expected tool\.fastasgi to be a table, got 3"):
        read_file(write(tmp_path, "pyproject.toml", "[tool]\nfastasgi = 3\n"))


@pytest.mark.parametrize(
    ("environ", "notices"),
    [
        (
            {"UVICORN_PORT": "1", "UVICORN_HOST": "x"},
            ["UVICORN_HOST, UVICORN_PORT in the environment are not read; use FASTASGI_HOST, FASTASGI_PORT"],
        ),
        (
            {"UVICORN_RELOAD": "1", "UVICORN_HTTP2": "1"},
            ["UVICORN_HTTP2, UVICORN_RELOAD in the environment are not read; use FASTASGI_RELOAD"],
        ),
        ({"UVICORN_HTTP2": "1"}, ["UVICORN_HTTP2 in the environment is not read"]),
        ({"WEB_CONCURRENCY": "4"}, []),
        (
            {"FASTASGI_PROT": "1"},
            ["FASTASGI_PROT in the environment is no option; did you mean FASTASGI_PORT?"],
        ),
        ({"FASTASGI_DEBUG": "1", "FASTASGI_VENDOR_DIR": "x", "FASTASGI_IO": "socket"}, []),
        ({"FASTASGI_SERVICE_HOST": "10.0.0.1", "FASTASGI_PORT_80_TCP_PORT": "80"}, []),
        ({"FASTASGI_PORT": "tcp://10.0.0.1:80"}, []),
        ({"PATH": "/bin"}, []),
    ],
)
def test_notices(tmp_path: Any, environ: dict[str, str], notices: list[str]) -> None:
    settings = gather({}, environ, str(tmp_path))
    assert settings.notices == notices
    assert "port" not in settings.values


def test_print_config_is_a_configuration_file_that_says_the_same(tmp_path: Any) -> None:
    given = {
        "app": "a:b",
        "headers": [("X-A", '"b"')],
        "uds_permissions": 0o600,
        "log_level": 15,
        "use_colors": True,
        "bind": [":1", "unix:x"],
        "ssl_version": ssl.TLSVersion.TLSv1_3,
        "user": 33,
    }
    environ = {"FASTASGI_PORT": "9"}
    text = print_config(gather(given, environ, str(tmp_path), origin="command line"), environ)
    table = tomllib.loads(text)
    assert set(table) == {name for name, field in FIELDS.items() if field.in_file} - {"log_config"}
    again = gather({}, {}, write(tmp_path, "fastasgi.toml", text))
    expected = {
        **{n: f.convert(f.default) for n, f in FIELDS.items() if n in table and n != "app"},
        **given,
        "port": 9,
    }
    assert again.values == expected


def lines_of_print_config(tmp_path: Any, given: dict[str, Any], environ: dict[str, str]) -> list[list[str]]:
    text = print_config(gather(given, environ, str(tmp_path), origin="argument"), environ)
    return [line.split() for line in text.splitlines()]


def test_print_config_says_where_each_value_comes_from(tmp_path: Any) -> None:
    words = lines_of_print_config(tmp_path, {}, {"FASTASGI_PORT": "9", "WEB_CONCURRENCY": "3"})
    assert ["port", "=", "9", "#", "FASTASGI_PORT"] in words
    assert ["host", "=", '"127.0.0.1"', "#", "default"] in words
    assert ["workers", "=", "3", "#", "WEB_CONCURRENCY"] in words
    assert ["#", "log_config", "=", "<dict>", "#", "default"] in words
    assert ["#", "app", "=", '"none"', "#", "default"] in words
    assert ["#", "callback_notify", "=", '"none"', "#", "default"] in words


def test_print_config_hides_secrets(tmp_path: Any) -> None:
    words = lines_of_print_config(tmp_path, {"ssl_keyfile_password": "hunter2"}, {})
    assert ["#", "ssl_keyfile_password", "=", "(hidden)", "#", "argument"] in words
    assert "hunter2" not in str(words)
