"""How log lines look: as people read them, and as JSON. And the fields of an access line.

An access record has the args `(client_addr, method, full_path, http_version, status_code)` and each field of
`ACCESS_FIELDS` as an attribute. `compile_line` turns a format into the steps by which `_access.pyx` writes the same
line without a record.
"""

from __future__ import annotations

import copy
import http
import json
import logging
import os
import re
import sys
from collections.abc import Iterable
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, Literal

TRACE = 5
"""Below debug: every message between server and application."""

logging.addLevelName(TRACE, "TRACE")

request_id: ContextVar[str | None] = ContextVar("fastasgi_request_id", default=None)
"""The id of the request that is served, for the application's own log lines; see the option request_id_header."""

ACCESS_LOGGER = "fastasgi.access"
ACCESS_MESSAGE = '%s - "%s %s HTTP/%s" %d'
ACCESS_LINE = '%(client_addr)s - "%(request_line)s" %(status_code)s'
"""The default of access_log_format; in front of it stands the level."""

ACCESS_FIELDS = (
    "client", "client_addr", "method", "path", "query", "full_path", "request_line", "http_version", "status",
    "status_code", "duration", "duration_ms", "bytes", "request_id", "user_agent", "referer", "host", "timestamp",
)  # fmt: skip
"""The fields of an access line by name; docs/logging.md explains them."""

JSON_ACCESS_FIELDS = ("client", "method", "path", "query", "http_version", "status", "duration", "bytes")
"""What a JSON access line holds unless access_log_format says otherwise."""

_FROM_CLIENT = frozenset({"request_id", "user_agent", "referer", "host"})  # header values: escaped in text
_RECORD = frozenset(logging.LogRecord("", 0, "", 0, "", None, None).__dict__) | {"message", "asctime", "taskName"}

Style = Literal["%", "{", "$"]
Line = tuple[tuple[bytes, str], ...]
"""Steps of a line: text to write, then a field, "" for none. A field with `json:` before its name is written as a JSON
value, with `text:` as the inside of a JSON string."""

_PLACE = re.compile(r"%\((\w+)\)([sd])|%%|%")
_UNSAFE = re.compile(r'[^\x20-\x7e]|["\\]')
_LEVEL_COLORS = {TRACE: "34", 10: "36", 20: "32", 30: "33", 40: "31", 50: "91"}
_STATUS_COLORS = {1: "97", 2: "32", 3: "33", 4: "31", 5: "91"}
_PHRASES = {int(status): f"{int(status)} {status.phrase}" for status in http.HTTPStatus}


class Seconds(float):
    """A duration, shown with six decimals whatever its size."""

    def __str__(self) -> str:
        return f"{self:.6f}"


def colored(text: str, code: str | None) -> str:
    """Text in a colour of the terminal."""
    return f"\x1b[{code}m{text}\x1b[0m" if code else text


def escaped(text: str) -> str:
    """What a client sent, so that it cannot end the field or the line that it stands in."""
    return _UNSAFE.sub(lambda found: f"\\x{ord(found[0]):02x}", text)


def timestamp_of(created: float) -> str:
    """A Unix time as `2026-11-22T18:30:00.123Z`."""
    moment = datetime.fromtimestamp(int(created * 1000) / 1000, UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


def _is_terminal(stream: Any) -> bool:
    try:
        return bool(stream.isatty())
    except (AttributeError, ValueError):  # no stream (a service without one), or closed
        return False


class ColourizedFormatter(logging.Formatter):
    """Adds `levelprefix` (the level in its colour, a colon, and spaces to nine columns) and `request_id`.

    `use_colors` None is colours on a terminal. A record's `color_message` replaces its message in colours.
    """

    def __init__(
        self,
        fmt: str | None = None,
        datefmt: str | None = None,
        style: Style = "%",
        use_colors: bool | None = None,
    ) -> None:
        self.use_colors = self.should_use_colors() if use_colors is None else bool(use_colors)
        super().__init__(fmt=fmt, datefmt=datefmt, style=style)

    def should_use_colors(self) -> bool:
        """Whether there are colours where nobody said so."""
        return _is_terminal(sys.stderr)

    def color_level_name(self, level_name: str, level_no: int) -> str:
        """The name of a level in its colour."""
        return colored(level_name, _LEVEL_COLORS.get(level_no))

    def level_prefix(self, record: logging.LogRecord) -> str:
        """The level with a colon, in nine columns."""
        name = record.levelname
        shown = self.color_level_name(name, record.levelno) if self.use_colors else name
        return f"{shown}:{' ' * (8 - len(name))}"

    def formatMessage(self, record: logging.LogRecord) -> str:
        """The line of a record."""
        record = copy.copy(record)
        record.__dict__["levelprefix"] = self.level_prefix(record)
        if record.__dict__.get("request_id") is None:
            record.__dict__["request_id"] = request_id.get() or "-"
        if self.use_colors and "color_message" in record.__dict__:
            record.msg = record.__dict__["color_message"]
            record.__dict__["message"] = record.getMessage()
        return super().formatMessage(record)


class DefaultFormatter(ColourizedFormatter):
    """For everything but access lines. `%(levelprefix)s` is the coloured level."""


class AccessFormatter(ColourizedFormatter):
    """For access records: gives the format each of `ACCESS_FIELDS`.

    `status_code` has its phrase, `request_line` is bold in colours, header values are escaped, and what is not known
    is `-`. A record with other args, by an application that uses this logger, is formatted as it is.
    """

    def should_use_colors(self) -> bool:
        """Whether there are colours where nobody said so."""
        return _is_terminal(sys.stdout)

    def get_status_code(self, status_code: int) -> str:
        """A status with its phrase, in its colour."""
        text = _PHRASES.get(status_code, str(status_code))
        return colored(text, _STATUS_COLORS.get(status_code // 100)) if self.use_colors else text

    def formatMessage(self, record: logging.LogRecord) -> str:
        """The line of a record."""
        if not isinstance(record.args, tuple) or len(record.args) != 5:
            return f"{self.level_prefix(record)} {record.getMessage()}"
        fields = access_fields(record)
        for name, value in fields.items():
            if value is None or (value == "" and name in _FROM_CLIENT):
                fields[name] = "-"
            elif name in _FROM_CLIENT:
                fields[name] = escaped(value)
        request_line = fields["request_line"]
        fields["request_line"] = colored(request_line, "1") if self.use_colors else request_line
        fields["status_code"] = self.get_status_code(int(fields["status"]))
        record = copy.copy(record)
        record.__dict__.update(fields)
        return super().formatMessage(record)


def access_fields(record: logging.LogRecord) -> dict[str, Any]:
    """The fields of an access record; what it does not say is None."""
    assert isinstance(record.args, tuple)
    client_addr, method, full_path, http_version, status = record.args
    given = record.__dict__
    path, _, query = str(full_path).partition("?")
    fields = {name: given.get(name) for name in ACCESS_FIELDS}
    fields |= {"client": client_addr, "client_addr": client_addr, "method": method, "full_path": full_path}
    fields |= {"path": path, "query": query, "http_version": http_version, "status": status}
    fields |= {"status_code": status, "request_line": f"{method} {full_path} HTTP/{http_version}"}
    fields["timestamp"] = timestamp_of(record.created)
    duration = given.get("duration")
    if duration is not None:
        fields["duration"], fields["duration_ms"] = Seconds(duration), f"{duration * 1000:.3f}"
    return fields


class JsonFormatter(logging.Formatter):
    """One JSON object a line: `timestamp` (ISO 8601, UTC), `level`, `logger`, `message`; then the fields of an access
    line, or what the record was given by `extra`; `request_id` within a request; an exception as `exception`.

    `access_fields` names the fields of access lines, in their order, in a list or in a text (`method path status`, or
    the names in a format with `%`). The other parameters are those of other formatters and mean nothing here.
    """

    _KNOWN = _RECORD | {"color_message", "levelprefix", "request_id"}

    def __init__(
        self,
        fmt: str | None = None,
        datefmt: str | None = None,
        style: Style = "%",
        use_colors: bool | None = None,
        access_fields: str | Iterable[str] | None = None,
    ) -> None:
        super().__init__()
        self.access_fields = JSON_ACCESS_FIELDS if access_fields is None else field_names(access_fields)

    def format(self, record: logging.LogRecord) -> str:
        """The line of a record."""
        line: dict[str, Any] = {
            "timestamp": timestamp_of(record.created),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.name == ACCESS_LOGGER and isinstance(record.args, tuple) and len(record.args) == 5:
            fields = access_fields(record)
            line |= {name: _json_value(name, fields[name]) for name in self.access_fields}
        else:
            identity = record.__dict__.get("request_id") or request_id.get()
            if identity is not None:
                line["request_id"] = identity
            for name, value in record.__dict__.items():
                if name not in self._KNOWN:
                    line[name] = value
        if record.exc_info and record.exc_info[1] is not None:
            line["exception"] = self._exception(record)
        if record.stack_info:
            line["stack"] = record.stack_info
        return json.dumps(line, separators=(",", ":"), default=repr, skipkeys=True)

    def _exception(self, record: logging.LogRecord) -> dict[str, str]:
        assert record.exc_info
        error = record.exc_info[1]
        kind = type(error)
        return {
            "type": kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}",
            "message": str(error),
            "traceback": self.formatException(record.exc_info),
        }


def _json_value(name: str, value: Any) -> Any:
    if value is None or value == "":
        return "" if name == "query" else None
    return float(value) if name in ("duration", "duration_ms") else value


def field_names(given: str | Iterable[str]) -> tuple[str, ...]:
    """Names of access fields out of a list, a text with spaces or commas, or a format with `%`. Raises ValueError."""
    if isinstance(given, str):
        places = [found[1] for found in _PLACE.finditer(given) if found[1]]
        given = places if "%" in given else re.split(r"[\s,]+", given)
    names = tuple(name for name in dict.fromkeys(given) if name)
    for name in names:
        if name not in ACCESS_FIELDS:
            raise ValueError(f"{name!r} is no field of an access line; there are {', '.join(ACCESS_FIELDS)}")
    if not names:
        raise ValueError("it names no field")
    return names


def check_access_format(given: str, *, is_json: bool) -> None:
    """Raise ValueError for an access_log_format that cannot be meant."""
    if is_json:
        field_names(given)
        return
    if "%(" not in given:
        raise ValueError("it names no field, as '%(status)s' would")
    logging.PercentStyle(given).validate()
    for name in re.findall(r"%\((\w+)\)", given):
        if name not in ACCESS_FIELDS and name not in _RECORD:
            raise ValueError(f"{name!r} is no field of an access line; there are {', '.join(ACCESS_FIELDS)}")


def compile_line(fmt: str, use_colors: bool = False) -> Line | None:
    """The steps by which a format of `AccessFormatter` is written, or None when only `logging` can write it."""
    level = logging.getLevelName(logging.INFO)
    shown = colored(level, _LEVEL_COLORS[logging.INFO]) if use_colors else level
    bold, plain = ("\x1b[1m", "\x1b[0m") if use_colors else ("", "")
    texts = {
        "levelprefix": f"{shown}:{' ' * (8 - len(level))}",
        "levelname": level,
        "name": ACCESS_LOGGER,
        "process": str(os.getpid()),
        "%": "%",
    }
    wholes = {
        "request_line": f"{bold}%(method)s %(full_path)s HTTP/%(http_version)s{plain}",
        "message": '%(client_addr)s - "%(method)s %(full_path)s HTTP/%(http_version)s" %(status)s',
    }
    for name, whole in wholes.items():
        fmt = fmt.replace(f"%({name})s", whole)
    steps: list[tuple[bytes, str]] = []
    text, at = "", 0
    for found in _PLACE.finditer(fmt):
        text, at = text + fmt[at : found.start()], found.end()
        name = found[1] or found[0][1:]
        if name in texts:
            text += texts[name]
        elif name in ACCESS_FIELDS and (found[2] == "s" or name in ("status", "bytes")):
            steps.append((text.encode("utf-8", "backslashreplace"), name))
            text = ""
        else:
            return None
    return (*steps, ((text + fmt[at:] + "\n").encode("utf-8", "backslashreplace"), ""))


def compile_json(names: Iterable[str]) -> Line:
    """The steps by which the access line of a `JsonFormatter` is written."""
    level = json.dumps(logging.getLevelName(logging.INFO))
    steps = [
        (b'{"timestamp":', "json:timestamp"),
        (f',"level":{level},"logger":"{ACCESS_LOGGER}","message":"'.encode(), "text:client"),
        (b' - \\"', "text:method"),
        (b" ", "text:full_path"),
        (b" HTTP/", "text:http_version"),
        (b'\\" ', "status"),
    ]
    before = '"'
    for name in names:
        start = f'{before},"{name}":'.encode()
        before = ""
        if name == "request_line":
            steps += [(start + b'"', "text:method"), (b" ", "text:full_path"), (b" HTTP/", "text:http_version")]
            before = '"'
        else:
            steps.append((start, f"json:{name}"))
    return (*steps, (f"{before}}}\n".encode(), ""))


class RequestIdFilter(logging.Filter):
    """Gives every record `request_id`, for formats of any formatter: `-` outside of requests."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Let the record pass."""
        if record.__dict__.get("request_id") is None:
            record.__dict__["request_id"] = request_id.get() or "-"
        return True
