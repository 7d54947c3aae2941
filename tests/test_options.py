"""options: the table is whole: types, defaults, groups and names fit together, and nothing is declared
twice."""

import inspect
import re
import typing

import pytest

from fastasgi import options
from fastasgi.fields import Field, Seconds, Size, Switch
from fastasgi.options import FIELDS, GROUPS, Options

DECLARED = [pytest.param(field, id=name) for name, field in FIELDS.items()]


@pytest.mark.parametrize("field", DECLARED)
def test_field_is_whole(field: Field) -> None:
    assert field.group in GROUPS
    assert field.doc.endswith((".", ")."))
    assert re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", field.name)
    if field.name != "app":
        field.convert(field.default)


@pytest.mark.parametrize("field", [param for param in DECLARED if param.id != "app"])
def test_annotation_fits_the_kind(field: Field) -> None:
    """What type checkers are told is what the kind takes: None where it is nullable, and the default."""
    hints = typing.get_type_hints(Options)
    nullable = type(None) in typing.get_args(hints[field.name])
    assert nullable == (field.kind.nullable or field.name == "headers")
    if isinstance(field.kind, Switch):
        assert field.annotation.startswith("bool")
    if isinstance(field.kind, Seconds):
        assert field.annotation.startswith("float")


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


def test_defaults_are_those_of_the_manual() -> None:
    expected = {
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
    assert {name: FIELDS[name].default for name in expected} == expected
