"""fields: every kind takes text and objects, refuses what cannot be meant, and says what was expected."""

import pathlib
from typing import Any

import pytest

from fastasgi import fields
from fastasgi.errors import ConfigError
from fastasgi.fields import Field, Kind

GOOD: list[tuple[Kind, object, object]] = [
    (fields.Text(), "x", "x"),
    (fields.Text(), "none", "none"),
    (fields.Path(), pathlib.PurePosixPath("/run/x"), "/run/x"),
    (fields.Path(nullable=True), "None", None),
    (fields.Path(nullable=True), None, None),
    (fields.Switch(), "Yes", True),
    (fields.Switch(), "off", False),
    (fields.Switch(), False, False),
    (fields.Integer(0, 65535), "8000", 8000),
    (fields.Integer(0, 65535), 0, 0),
    (fields.Integer(1, nullable=True), "none", None),
    (fields.Size(), "65536", 65536),
    (fields.Seconds(), "2.5", 2.5),
    (fields.Seconds(), 3, 3.0),
    (fields.Seconds(), "none", None),
    (fields.Seconds(zero=True), 0, 0.0),
    (fields.Choice("auto", "on", "off"), "AUTO", "auto"),
    (fields.ImportChoice("auto", "none"), "my.loops:make", "my.loops:make"),
    (fields.ImportChoice("auto", "none"), "none", "none"),
    (fields.Level(), "WARN", "warning"),
    (fields.Level(), "trace", "trace"),
    (fields.Level(), "15", 15),
    (fields.Level(), 5, 5),
    (fields.Permissions(), "0660", 0o660),
    (fields.Permissions(), "0o600", 0o600),
    (fields.Permissions(), 0o666, 0o666),
    (fields.Headers(), None, []),
    (fields.Headers(), [("X-A", "b")], [("X-A", "b")]),
    (fields.Headers(), [[b"X-A", b"b"]], [("X-A", "b")]),
    (fields.Headers(), ["X-A: b:c"], [("X-A", "b:c")]),
    (fields.Headers(), ("X-A:b", "X-A:c"), [("X-A", "b"), ("X-A", "c")]),
    (fields.Headers(), "X-A: b\nX-B: c\n", [("X-A", "b"), ("X-B", "c")]),
    (fields.Headers(), {"X-A": "b"}, [("X-A", "b")]),
    (fields.Headers(), ["X-Empty:"], [("X-Empty", "")]),
    (fields.LogConfig(), "log.json", "log.json"),
    (fields.LogConfig(), {"version": 1}, {"version": 1}),
    (fields.LogConfig(nullable=True), None, None),
    (fields.Application(), "main:app", "main:app"),
    (fields.Application(), print, print),
]

BAD: list[tuple[Kind, object, str]] = [
    (fields.Text(), 3, "expected text"),
    (fields.Path(), 3, "expected a path"),
    (fields.Switch(), "maybe", "expected true or false, got 'maybe'"),
    (fields.Switch(), 1, "expected true or false, got 1"),
    (fields.Integer(0, 65535), "eighty", "expected a whole number from 0 to 65535, got 'eighty'"),
    (fields.Integer(0, 65535), 65536, "got 65536"),
    (fields.Integer(0, 65535), True, "got True"),
    (fields.Integer(0, 65535), 80.0, "got 80.0"),
    (fields.Integer(0, 65535), None, "got None"),
    (fields.Size(), -1, "expected a number of bytes from 0 to 2**40, got -1"),
    (fields.Size(), 2**41, "got 2199023255552"),
    (fields.Seconds(), 0, "expected seconds above 0 or none, got 0"),
    (fields.Seconds(), "nan", "got 'nan'"),
    (fields.Seconds(), "inf", "got 'inf'"),
    (fields.Seconds(zero=True), -1, "expected seconds from 0 or none, got -1"),
    (fields.Seconds(), True, "got True"),
    (fields.Choice("auto", "on", "off"), "onn", "expected auto, on or off, got 'onn'; did you mean 'on'?"),
    (fields.Choice("auto", "on", hints={"wsgi": "wrap it"}), "wsgi", "got 'wsgi'; wrap it"),
    (fields.Choice("auto", "on"), 3, "expected auto or on, got 3"),
    (fields.ImportChoice("auto", "uvloop"), "uvlop", "did you mean 'uvloop'?"),
    (fields.Level(), "inof", "did you mean 'info'?"),
    (fields.Level(), True, "got True"),
    (fields.Permissions(), 666, "write 0o666"),
    (fields.Permissions(), "rw", "expected file permissions"),
    (fields.Headers(), 3, "expected header fields"),
    (fields.Headers(), ["X A: b"], "'X A' is not a header name"),
    (fields.Headers(), ["no colon"], "'no colon' is not a header name"),
    (fields.Headers(), [("X-A", "b\r\nSet-Cookie: c")], "holds a character that no header may"),
    (fields.Headers(), [("X-A", "\u20ac")], "holds a character that no header may"),
    (fields.Headers(), [("X-A", 3)], "expected header fields"),
    (fields.Headers(), ["Content-Length: 3"], "is set by the server for each response"),
    (fields.LogConfig(), 3, "expected a dict, the path of"),
    (fields.Application(), 3, "expected an import string"),
]


def field_of(kind: Kind, **more: Any) -> Field:
    return Field("option", "Any", kind, None, "HTTP", "doc", **more)


@pytest.mark.parametrize(("kind", "value", "converted"), GOOD)
def test_good_values(kind: Kind, value: object, converted: object) -> None:
    result = field_of(kind).convert(value)
    assert result == converted
    assert type(result) is type(converted)


@pytest.mark.parametrize(("kind", "value", "converted"), GOOD)
def test_converted_values_convert_to_themselves(kind: Kind, value: object, converted: object) -> None:
    assert field_of(kind).convert(converted) == converted


@pytest.mark.parametrize(("kind", "value", "text"), BAD)
def test_bad_values_say_what_was_expected_and_what_came(kind: Kind, value: object, text: str) -> None:
    with pytest.raises(ConfigError) as raised:
        field_of(kind).convert(value, "--option")
    message = str(raised.value)
    assert text in message
    assert message.startswith("--option: expected ")
    assert "\n" not in message
    assert raised.value.option == "option"


def test_check_adds_its_cure() -> None:
    def even(number: int) -> None:
        if number % 2:
            raise ValueError("even numbers only")

    declared = field_of(fields.Integer(), check=even)
    assert declared.convert("4") == 4
    with pytest.raises(ConfigError, match="got 3; even numbers only"):
        declared.convert(3)


def test_secrets_are_never_shown() -> None:
    declared = field_of(fields.Integer(), secret=True)
    assert declared.show(5) == "(hidden)"
    with pytest.raises(ConfigError, match=r"got \(hidden\)"):
        declared.convert("hunter2")


@pytest.mark.parametrize(
    ("kind", "value", "shown"),
    [
        (fields.Text(), 'say "a\\b"', r'"say \"a\\b\""'),
        (fields.Switch(), True, "true"),
        (fields.Integer(), 5, "5"),
        (fields.Seconds(), 2.5, "2.5"),
        (fields.Seconds(), None, '"none"'),
        (fields.Permissions(), 0o66, "0o066"),
        (fields.Headers(), [("A", "b"), ("C", '"')], r'["A: b", "C: \""]'),
        (fields.LogConfig(), {}, "<dict>"),
        (fields.Application(), "a:b", '"a:b"'),
    ],
)
def test_values_are_shown_as_toml(kind: Kind, value: object, shown: str) -> None:
    assert field_of(kind).show(value) == shown


def test_names_on_the_command_line_and_in_the_environment() -> None:
    declared = Field("limit_request_head", "int", fields.Size(), 1, "Limits", "doc")
    assert (declared.cli_name, declared.env_name) == ("--limit-request-head", "FASTASGI_LIMIT_REQUEST_HEAD")
    assert field_of(fields.Text(), flag="header").cli_name == "--header"
    assert field_of(fields.Text(), flag=None).cli_name is None


@pytest.mark.parametrize(("word", "guess"), [("prot", "port"), ("PORT", "port"), ("zzz", None)])
def test_nearest(word: str, guess: str | None) -> None:
    assert fields.nearest(word, ["port", "host", "backlog"]) == guess
