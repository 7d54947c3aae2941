"""options: the table is whole: types, defaults, groups and names fit together, and nothing is declared
twice."""

import inspect
import re
import sys
import typing

import pytest

from fastasgi import options
from fastasgi.fields import Field
from fastasgi.kinds import Callback, Seconds, Size, Switch, Texts
from fastasgi.options import FIELDS, GROUPS, Options
from fastasgi.options.declaring import Given

DECLARED = [pytest.param(field, id=name) for name, field in FIELDS.items()]


@pytest.mark.parametrize("field", DECLARED)
def test_field_is_whole(field: Field) -> None:
    assert field.group in GROUPS
    assert field.doc.endswith((".", ")."))
    assert re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", field.name)
    if field.name != "app":
        field.convert(field.default)


def accepted_and_read(name: str) -> tuple[typing.Any, typing.Any]:
    """What type checkers take for an option, and what they see when it is read."""
    hint = typing.get_type_hints(Options)[name]
    return typing.get_args(hint) if typing.get_origin(hint) is Given else (hint, hint)


@pytest.mark.parametrize("field", [param for param in DECLARED if param.id != "app"])
def test_annotation_fits_the_kind(field: Field) -> None:
    """What type checkers are told is what the kind takes: None where it is nullable, and the default."""
    accepted, read = accepted_and_read(field.name)
    assert (type(None) in typing.get_args(accepted)) == (field.kind.nullable or field.unset)
    assert (type(None) in typing.get_args(read)) == field.kind.nullable
    if isinstance(field.kind, Switch):
        assert field.annotation.startswith("bool")
    if isinstance(field.kind, Seconds):
        assert field.annotation.startswith("float")
    if isinstance(field.kind, Texts):
        assert read == list[str]
    if isinstance(read, type):
        assert isinstance(field.default_in({})[0], read)


@pytest.mark.parametrize("field", DECLARED)
def test_annotation_is_what_may_be_given(field: Field) -> None:
    """The text that `help` and the documentation show is the one that type checkers read."""
    if field.name != "app":
        part = next(part for part in Options.__mro__ if field.name in vars(part).get("__annotations__", ()))
        names = vars(sys.modules[part.__module__])
        assert eval(field.annotation, names) == accepted_and_read(field.name)[0]


@pytest.mark.parametrize("field", DECLARED)
def test_python_only_options_are_in_no_other_place(field: Field) -> None:
    if isinstance(field.kind, Callback):
        assert not field.in_env
    if not field.in_env:
        assert (field.cli_name, field.in_file) == (None, False)


@pytest.mark.parametrize("field", DECLARED)
def test_units(field: Field) -> None:
    assert (field.unit == "s") == isinstance(field.kind, Seconds)
    assert (field.unit == "B") == isinstance(field.kind, Size)


def test_help_groups_are_contiguous() -> None:
    groups = [field.group for field in FIELDS.values()]
    assert [g for i, g in enumerate(groups) if i == 0 or groups[i - 1] != g] == list(GROUPS)


def test_command_line_names_are_unique() -> None:
    names = [field.cli_name for field in FIELDS.values() if field.cli_name]
    assert len(names) == len(set(names))


def test_parameters_name_every_field_and_default() -> None:
    parameters = options.parameters()
    assert [p.name for p in parameters] == list(FIELDS)
    assert parameters[0].kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
    assert {p.name: p.default for p in parameters[1:]} == {
        n: f.default for n, f in FIELDS.items() if n != "app"
    }


DEFAULTS = {
    "host": "127.0.0.1",
    "port": 8000,
    "backlog": 2048,
    "timeout_keep_alive": 75,
    "timeout_graceful_shutdown": 20,
    "timeout_first_byte": 10,
    "timeout_request_head": 30,
    "timeout_request_body": 30,
    "min_body_rate": 240,
    "timeout_response_stall": 60,
    "timeout_request": None,
    "timeout_startup": None,
    "timeout_lifespan_shutdown": 10,
    "timeout_disconnect_grace": 5,
    "limit_request_line": 8192,
    "limit_request_head": 65536,
    "limit_request_headers": 100,
    "limit_request_body": None,
    "limit_unread_body": 65536,
    "limit_chunk_extension": 4096,
    "limit_connections": None,
    "limit_concurrency": None,
    "limit_max_requests": None,
    "underscore_headers": "drop-forwarded",
    "uds_permissions": 0o666,
    "log_level": "info",
    "access_log": True,
    "use_colors": None,
    "loop": "auto",
    "http": "auto",
    "ws": "auto",
    "ws_max_size": 16777216,
    "ws_max_queue": 32,
    "ws_max_queue_bytes": 1048576,
    "ws_ping_interval": 20.0,
    "ws_ping_timeout": 20.0,
    "ws_per_message_deflate": True,
    "ws_deflate_min_size": 256,
    "timeout_ws_close": 10,
    "timeout_tls_handshake": 10,
    "limit_max_requests_jitter": 0,
    "reload": False,
    "reload_delay": 0.25,
    "env_file": None,
    "proxy_headers": True,
    "forwarded_allow_ips": "127.0.0.1,::1",
    "forwarded_fields": "for,proto",
    "proxy_protocol": False,
    "timeout_worker_healthcheck": 5,
    "timeout_worker_startup": None,
    "worker_lifetime": None,
    "limit_worker_rss": None,
    "stop_on_crash_loop": True,
    "preload": "auto",
    "reuse_port": "auto",
    "timeout_notify": 30,
    "callback_notify": None,
    "drain_delay": 0,
    "log_format": "text",
    "access_log_format": None,
    "request_id_header": None,
    "pid_file": None,
    "user": None,
    "group": None,
    "umask": None,
    "ssl_keyfile": None,
    "ssl_certfile": None,
    "ssl_keyfile_password": None,
    "ssl_version": "PROTOCOL_TLS_SERVER",
    "ssl_cert_reqs": "CERT_NONE",
    "ssl_ca_certs": None,
    "ssl_ciphers": None,
    "ssl_context_factory": None,
    "h11_max_incomplete_event_size": None,
    "reset_contextvars": True,
    "lifespan": "auto",
    "interface": "auto",
    "root_path": "",
    "app_dir": "",
    "factory": False,
    "server_header": True,
    "date_header": True,
    "workers": 1,
    "io": "auto",
}


def test_defaults_are_those_of_the_manual() -> None:
    assert {name: FIELDS[name].default for name in DEFAULTS} == DEFAULTS


def test_lists_are_those_of_the_manual() -> None:
    expected = {
        "reload_dirs": ["."],
        "reload_includes": ["*.py"],
        "reload_excludes": [".*", ".py[cod]", ".sw.*", "~*"],
        "forwarded_allow_ips": ["127.0.0.1", "::1"],
        "forwarded_fields": ["for", "proto"],
        "bind": [],
        "access_log_exclude": [],
        "headers": [],
    }
    assert {name: FIELDS[name].default_in({})[0] for name in expected} == expected


def test_secrets() -> None:
    assert [name for name, field in FIELDS.items() if field.secret] == ["ssl_keyfile_password"]
