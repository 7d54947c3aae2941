"""kinds: every kind takes text and objects, refuses what cannot be meant, and says what was expected."""

import pathlib
import ssl
from typing import Any

import pytest

from fastasgi import kinds
from fastasgi.errors import ConfigError
from fastasgi.fields import Field
from fastasgi.kinds import Binding, Kind, parse_binding

GOOD: list[tuple[Kind, object, object]] = [
    (kinds.Text(), "x", "x"),
    (kinds.Text(), "none", "none"),
    (kinds.Path(), pathlib.PurePosixPath("/run/x"), "/run/x"),
    (kinds.Path(nullable=True), "None", None),
    (kinds.Path(nullable=True), None, None),
    (kinds.Switch(), "Yes", True),
    (kinds.Switch(), "off", False),
    (kinds.Switch(), False, False),
    (kinds.Integer(0, 65535), "8000", 8000),
    (kinds.Integer(0, 65535), 0, 0),
    (kinds.Integer(1, nullable=True), "none", None),
    (kinds.Size(), "65536", 65536),
    (kinds.Seconds(), "2.5", 2.5),
    (kinds.Seconds(), 3, 3.0),
    (kinds.Seconds(), "none", None),
    (kinds.Seconds(zero=True), 0, 0.0),
    (kinds.Seconds(never=True), "0", None),
    (kinds.Seconds(never=True), 20, 20.0),
    (kinds.Choice("auto", "on", "off"), "AUTO", "auto"),
    (kinds.ImportChoice("auto", "none"), "my.loops:make", "my.loops:make"),
    (kinds.ImportChoice("auto", "none"), "none", "none"),
    (kinds.Level(), "WARN", "warning"),
    (kinds.Level(), "trace", "trace"),
    (kinds.Level(), "15", 15),
    (kinds.Level(), 5, 5),
    (kinds.Permissions(), "0660", 0o660),
    (kinds.Permissions(), "0o600", 0o600),
    (kinds.Permissions(), 0o666, 0o666),
    (kinds.Headers(), None, []),
    (kinds.Headers(), [("X-A", "b")], [("X-A", "b")]),
    (kinds.Headers(), [[b"X-A", b"b"]], [("X-A", "b")]),
    (kinds.Headers(), ["X-A: b:c"], [("X-A", "b:c")]),
    (kinds.Headers(), ("X-A:b", "X-A:c"), [("X-A", "b"), ("X-A", "c")]),
    (kinds.Headers(), "X-A: b\nX-B: c\n", [("X-A", "b"), ("X-B", "c")]),
    (kinds.Headers(), {"X-A": "b"}, [("X-A", "b")]),
    (kinds.Headers(), ["X-Empty:"], [("X-Empty", "")]),
    (kinds.Choice("auto", "on", "off"), True, "on"),
    (kinds.Choice("auto", "on", "off"), "no", "off"),
    (kinds.Implementation("auto", "none", cure="none needed"), "None", "none"),
    (kinds.Account(), "www-data", "www-data"),
    (kinds.Account(), "33", 33),
    (kinds.Account(nullable=True), 0, 0),
    (kinds.Account(nullable=True), "none", None),
    (kinds.Callback(), print, print),
    (kinds.Callback(), None, None),
    (kinds.HeaderName(), "X-Request-ID", "X-Request-ID"),
    (kinds.TlsVersion(), ssl.PROTOCOL_TLS_SERVER, ssl.PROTOCOL_TLS_SERVER),
    (kinds.TlsVersion(), "PROTOCOL_TLS_SERVER", ssl.PROTOCOL_TLS_SERVER),
    (kinds.TlsVersion(), "17", ssl.PROTOCOL_TLS_SERVER),
    (kinds.TlsVersion(), 2, ssl.PROTOCOL_TLS_SERVER),
    (kinds.TlsVersion(), 5, ssl.TLSVersion.TLSv1_2),
    (kinds.TlsVersion(), "TLSv1.2", ssl.TLSVersion.TLSv1_2),
    (kinds.TlsVersion(), "TLSv1_3", ssl.TLSVersion.TLSv1_3),
    (kinds.TlsVersion(), "ssl.PROTOCOL_TLSv1_2", ssl.TLSVersion.TLSv1_2),
    (kinds.TlsVersion(), ssl.TLSVersion.TLSv1_3, ssl.TLSVersion.TLSv1_3),
    (kinds.CertificateRequirement(), 0, ssl.CERT_NONE),
    (kinds.CertificateRequirement(), "2", ssl.CERT_REQUIRED),
    (kinds.CertificateRequirement(), "CERT_OPTIONAL", ssl.CERT_OPTIONAL),
    (kinds.CertificateRequirement(), "ssl.CERT_REQUIRED", ssl.CERT_REQUIRED),
    (kinds.CertificateRequirement(), "required", ssl.CERT_REQUIRED),
    (kinds.CertificateRequirement(), ssl.CERT_OPTIONAL, ssl.CERT_OPTIONAL),
    (kinds.Texts("words", "WORD"), "a, b,c", ["a", "b", "c"]),
    (kinds.Texts("words", "WORD"), "a\nb\n", ["a", "b"]),
    (kinds.Texts("words", "WORD"), ("a,b", pathlib.PurePosixPath("/c")), ["a,b", "/c"]),
    (kinds.Texts("words", "WORD"), pathlib.PurePosixPath("/c"), ["/c"]),
    (kinds.Texts("words", "WORD"), None, []),
    (kinds.Binds(), "0.0.0.0:80, unix:/run/x", ["0.0.0.0:80", "unix:/run/x"]),
    (kinds.Binds(), [":8000", "[::1]:0", "fd://3", "systemd"], [":8000", "[::1]:0", "fd://3", "systemd"]),
    (kinds.LogConfig(), "log.json", "log.json"),
    (kinds.LogConfig(), {"version": 1}, {"version": 1}),
    (kinds.LogConfig(nullable=True), None, None),
    (kinds.Application(), "main:app", "main:app"),
    (kinds.Application(), print, print),
]

BAD: list[tuple[Kind, object, str]] = [
    (kinds.Text(), 3, "expected text"),
    (kinds.Path(), 3, "expected a path"),
    (kinds.Switch(), "maybe", "expected true or false, got 'maybe'"),
    (kinds.Switch(), 1, "expected true or false, got 1"),
    (kinds.Integer(0, 65535), "eighty", "expected a whole number from 0 to 65535, got 'eighty'"),
    (kinds.Integer(0, 65535), 65536, "got 65536"),
    (kinds.Integer(0, 65535), True, "got True"),
    (kinds.Integer(0, 65535), 80.0, "got 80.0"),
    (kinds.Integer(0, 65535), None, "got None"),
    (kinds.Size(), -1, "expected a number of bytes from 0 to 2**40, got -1"),
    (kinds.Size(), 2**41, "got 2199023255552"),
    (kinds.Seconds(), 0, "expected seconds above 0 or none, got 0"),
    (kinds.Seconds(), "nan", "got 'nan'"),
    (kinds.Seconds(), "inf", "got 'inf'"),
    (kinds.Seconds(zero=True), -1, "expected seconds from 0 or none, got -1"),
    (kinds.Seconds(), True, "got True"),
    (kinds.Choice("auto", "on", "off"), "onn", "expected auto, on or off, got 'onn'; did you mean 'on'?"),
    (kinds.Choice("asgi3", "wsgi"), True, "expected asgi3 or wsgi, got True"),
    (kinds.Implementation("auto", "none", cure="leave it out"), "my.ws:Protocol", "leave it out"),
    (kinds.Implementation("auto", "none", cure="leave it out"), int, "leave it out"),
    (kinds.Implementation("auto", "none", cure="leave it out"), "auot", "did you mean 'auto'?"),
    (kinds.Account(), "", "expected a name or a number, got ''"),
    (kinds.Account(), -1, "got -1"),
    (kinds.Callback(), "print", "expected a function or None, got 'print'"),
    (kinds.HeaderName(), "X Request", "expected a header name"),
    (kinds.TlsVersion(), "TLSv9", "expected PROTOCOL_TLS_SERVER, TLSv1.2, TLSv1.3 or"),
    (kinds.TlsVersion(), ssl.PROTOCOL_TLS_CLIENT, "expected PROTOCOL_TLS_SERVER"),
    (kinds.TlsVersion(), True, "got True"),
    (kinds.CertificateRequirement(), "maybe", "expected CERT_NONE, CERT_OPTIONAL, CERT_REQUIRED or"),
    (kinds.CertificateRequirement(), 3, "expected CERT_NONE"),
    (kinds.Texts("words", "WORD"), 3, "expected words, got 3"),
    (kinds.Texts("words", "WORD"), [b"a"], "expected words"),
    (kinds.Texts("words", "WORD"), {"a": 1}, "expected words"),
    (kinds.Binds(), "localhost", "'localhost' has no port"),
    (kinds.Binds(), "::1:80", "an IPv6 address belongs between brackets"),
    (kinds.Binds(), "a:70000", "70000 is no port"),
    (kinds.Binds(), "fd://x", "a number belongs behind fd://"),
    (kinds.Binds(), "unix:", "a path belongs behind unix:"),
    (kinds.Binds(), "systemd:", "a name belongs behind systemd:"),
    (kinds.Choice("auto", "on"), 3, "expected auto or on, got 3"),
    (kinds.ImportChoice("auto", "uvloop"), "uvlop", "did you mean 'uvloop'?"),
    (kinds.Level(), "inof", "did you mean 'info'?"),
    (kinds.Level(), True, "got True"),
    (kinds.Permissions(), 666, "write 0o666"),
    (kinds.Permissions(), "rw", "expected file permissions"),
    (kinds.Headers(), 3, "expected header fields"),
    (kinds.Headers(), ["X A: b"], "'X A' is not a header name"),
    (kinds.Headers(), ["no colon"], "expected header fields"),
    (kinds.Headers(), ["nocolon"], "expected header fields"),
    (kinds.Headers(), [("X-A", "b\r\nSet-Cookie: c")], "holds a character that no header may"),
    (kinds.Headers(), [("X-A", "\u20ac")], "holds a character that no header may"),
    (kinds.Headers(), [("X-A", 3)], "expected header fields"),
    (kinds.Headers(), ["Content-Length: 3"], "is set by the server for each response"),
    (kinds.LogConfig(), 3, "expected a dict, the path of"),
    (kinds.Application(), 3, "expected an import string"),
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


@pytest.mark.parametrize(
    ("kind", "value", "shown"),
    [
        (kinds.Text(), 'say "a\\b"', r'"say \"a\\b\""'),
        (kinds.Switch(), True, "true"),
        (kinds.Integer(), 5, "5"),
        (kinds.Seconds(), 2.5, "2.5"),
        (kinds.Seconds(), None, '"none"'),
        (kinds.Permissions(), 0o66, "0o066"),
        (kinds.Headers(), [("A", "b"), ("C", '"')], r'["A: b", "C: \""]'),
        (kinds.LogConfig(), {}, "<dict>"),
        (kinds.Callback(), print, "<print>"),
        (kinds.TlsVersion(), ssl.PROTOCOL_TLS_SERVER, '"PROTOCOL_TLS_SERVER"'),
        (kinds.TlsVersion(), ssl.TLSVersion.TLSv1_2, '"TLSv1.2"'),
        (kinds.CertificateRequirement(), ssl.CERT_NONE, '"CERT_NONE"'),
        (kinds.Texts("words", "WORD"), ["a", 'b"'], r'["a", "b\""]'),
        (kinds.Application(), "a:b", '"a:b"'),
    ],
)
def test_values_are_shown_as_toml(kind: Kind, value: object, shown: str) -> None:
    assert field_of(kind).show(value) == shown


@pytest.mark.parametrize(
    ("text", "binding"),
    [
        ("127.0.0.1:8000", Binding("tcp", host="127.0.0.1", port=8000)),
        ("tcp://example:80", Binding("tcp", host="example", port=80)),
        (":8000", Binding("tcp", host="", port=8000)),
        ("[::1]:8000", Binding("tcp", host="::1", port=8000)),
        ("unix:/run/x.sock", Binding("unix", path="/run/x.sock")),
        ("fd://3", Binding("fd", fd=3)),
        ("systemd", Binding("systemd")),
        ("systemd:web", Binding("systemd", name="web")),
        ("systemd:80", Binding("tcp", host="systemd", port=80)),
    ],
)
def test_bindings(text: str, binding: Binding) -> None:
    assert parse_binding(text) == binding
