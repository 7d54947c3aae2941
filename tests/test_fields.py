"""fields: what an option is called in each place, where its default comes from, and what its errors say."""

from typing import Any

import pytest

from fastasgi import kinds
from fastasgi.errors import ConfigError
from fastasgi.fields import Field
from fastasgi.kinds import Kind


def field_of(kind: Kind, **more: Any) -> Field:
    return Field("option", "Any", kind, None, "HTTP", "doc", **more)


def test_check_adds_its_cure() -> None:
    def even(number: int) -> None:
        if number % 2:
            raise ValueError("even numbers only")

    declared = field_of(kinds.Integer(), check=even)
    assert declared.convert("4") == 4
    with pytest.raises(ConfigError, match="got 3; even numbers only"):
        declared.convert(3)


def test_secrets_are_never_shown() -> None:
    declared = field_of(kinds.Integer(), secret=True)
    assert declared.show(5) == "(hidden)"
    with pytest.raises(ConfigError, match=r"got \(hidden\)"):
        declared.convert("hunter2")


def test_names_on_the_command_line_and_in_the_environment() -> None:
    declared = Field("limit_request_head", "int", kinds.Size(), 1, "Limits", "doc")
    assert (declared.cli_name, declared.env_name) == ("--limit-request-head", "FASTASGI_LIMIT_REQUEST_HEAD")
    assert field_of(kinds.Text(), flag="header").cli_name == "--header"
    assert field_of(kinds.Text(), flag=None).cli_name is None
    assert field_of(kinds.Text(), in_env=False).env_name is None


def test_default_comes_from_the_variable_that_other_servers_read() -> None:
    declared = Field("workers", "int", kinds.Integer(1), 1, "Workers", "doc", fallback="WEB_CONCURRENCY")
    assert declared.default_in({}) == (1, "default")
    assert declared.default_in({"WEB_CONCURRENCY": ""}) == (1, "default")
    assert declared.default_in({"WEB_CONCURRENCY": "4"}) == (4, "WEB_CONCURRENCY")
    with pytest.raises(ConfigError, match="WEB_CONCURRENCY: expected a whole number of at least 1, got 'many'"):
        declared.default_in({"WEB_CONCURRENCY": "many"})


def test_none_is_a_value_unless_it_stands_for_none_given() -> None:
    assert field_of(kinds.Text(nullable=True)).is_given(None)
    assert not field_of(kinds.Text(), unset=True).is_given(None)
    assert field_of(kinds.Text(), unset=True).is_given("")
