"""What the process says: formatters, set-up, and the shape of an access line.

Access lines go to stdout, all else to stderr. Loggers: `fastasgi`, `fastasgi.error` (the server, whose level
changes with `log_level`), `fastasgi.access`, `fastasgi.asgi`.
"""

from __future__ import annotations

import configparser
import contextlib
import copy
import fnmatch
import json
import logging
import logging.config
import re
import sys
from collections.abc import Iterable, Mapping
from importlib import import_module
from typing import Any, NamedTuple, Protocol, cast

from .errors import ConfigError, Departure, StartupError, departure_of, place_of
from .formatters import (
    ACCESS_LINE,
    JSON_ACCESS_FIELDS,
    TRACE,
    AccessFormatter,
    ColourizedFormatter,
    DefaultFormatter,
    JsonFormatter,
    Line,
    RequestIdFilter,
    compile_json,
    compile_line,
    request_id,
)
from .outlet import ConsoleHandler

__all__ = [
    "TRACE_LOG_LEVEL",
    "AccessFormatter",
    "ColourizedFormatter",
    "ConsoleHandler",
    "DefaultFormatter",
    "JsonFormatter",
    "RequestIdFilter",
    "reopen_files",
    "request_id",
]

LOGGER_NAMES = ("fastasgi.error", "fastasgi.access", "fastasgi.asgi")

server_logger = logging.getLogger("fastasgi.error")
access_logger = logging.getLogger("fastasgi.access")
asgi_logger = logging.getLogger("fastasgi.asgi")

ACCESS_FORMAT = f"%(levelprefix)s {ACCESS_LINE}"

TRACE_LOG_LEVEL = TRACE

_OURS = {
    f"fastasgi.logging.{kind.__name__}": kind for kind in (DefaultFormatter, AccessFormatter, JsonFormatter)
}


class Bypass(NamedTuple):
    """How compiled code writes access lines itself: where to, and by which steps."""

    fd: int
    line: Line
    use_colors: bool


def can_bypass(logger: logging.Logger) -> Bypass | None:
    """Where compiled code may write access lines itself, or None.

    Not None only if a record sent to `logger` would come out as exactly the line that the steps make: one handler that
    is ours or a plain StreamHandler, on the real stdout or stderr, with one of our formatters and a format that can be
    compiled; no filters, no propagation, no record factory. What the stream holds is flushed; ask again after logging
    was set up anew.
    """
    if logger.propagate or logger.filters or len(logger.handlers) != 1 or type(logger) is not logging.Logger:
        return None
    if not logger.isEnabledFor(logging.INFO) or logging.getLogRecordFactory() is not logging.LogRecord:
        return None
    handler = logger.handlers[0]
    if type(handler) not in (logging.StreamHandler, ConsoleHandler):
        return None
    assert isinstance(handler, logging.StreamHandler)
    if handler.filters or handler.level > logging.INFO or handler.terminator != "\n":
        return None
    if handler.stream not in (sys.stdout, sys.stderr):
        return None
    line = _compiled(handler.formatter)
    if line is None:
        return None
    try:
        fd = handler.stream.fileno()
        handler.flush()
    except (AttributeError, OSError, ValueError):  # no file behind it, as under a test that captures output
        return None
    return Bypass(fd, line, bool(getattr(handler.formatter, "use_colors", False)))


def _compiled(formatter: logging.Formatter | None) -> Line | None:
    """The steps of a formatter that is exactly one of ours."""
    if type(formatter) is JsonFormatter:
        return compile_json(formatter.access_fields)
    if type(formatter) is AccessFormatter and type(formatter._style) is logging.PercentStyle:
        return compile_line(formatter._style._fmt, formatter.use_colors)
    return None


def log_startup_error(error: StartupError) -> None:
    """Say why the server does not start: the user's traceback, if any, then the sentence."""
    if error.details:
        server_logger.error("%s", error.details)
    server_logger.error("%s", error)


class Noted(Protocol):
    """What is known of a request; `_notes.Notes`."""

    @property
    def request_id(self) -> str | None: ...


_DEPARTURE_LEVELS = {
    Departure.TOLD: logging.DEBUG,
    Departure.NAMED: logging.INFO,
    Departure.MEANWHILE: logging.WARNING,
}


def log_app_error(
    error: BaseException, method: str, raw_path: bytes, notes: Noted | None, client_gone: bool
) -> None:
    """Say that the application ended with an error while it served a request.

    When the client has gone and the error comes of that, it is one line instead of a traceback: at debug for the
    `ClientDisconnected` that we raised ourselves, at info for a framework's class of that meaning, at warning for
    another error that was raised while one of these was handled.
    """
    extra = None if notes is None or notes.request_id is None else {"request_id": notes.request_id}
    departure = departure_of(error) if client_gone else None
    if departure is None:
        server_logger.error("Exception in ASGI application", exc_info=error, extra=extra)
        return
    kind = type(error)
    server_logger.log(
        _DEPARTURE_LEVELS[departure],
        "client left: %s %s ended with %s.%s: %s (%s)",
        method,
        raw_path.decode("ascii", "replace"),
        kind.__module__,
        kind.__qualname__,
        error,
        place_of(error),
        exc_info=error if server_logger.isEnabledFor(TRACE) else None,
        extra=extra,
    )


def level_number(level: str | int) -> int:
    """The number of a level given as a lower-case name or a number."""
    if isinstance(level, int):
        return level
    return TRACE if level == "trace" else logging.getLevelNamesMapping()[level.upper()]


def configure(
    log_config: Any,
    *,
    level: str | int | None,
    access_log: bool = True,
    use_colors: bool | None = None,
    log_format: str = "text",
    access_log_format: str | None = None,
    with_request_id: bool = False,
) -> None:
    """Set up `logging`: a dict, a ConfigParser, an open .ini file, or the path of a .json, .yaml or .ini
    file.

    None leaves logging as it is, except for what `level` (None: as it is) and `access_log` ask for. The formats are
    given to those formatters of a dict that are ours. Raises `ConfigError`.
    """
    if log_config is not None:
        formats = (log_format, access_log_format, with_request_id)
        try:
            _apply(read_log_config(log_config), use_colors, formats)
        except ConfigError:
            raise
        except Exception as error:  # logging.config raises whatever the handlers' constructors raise
            cause = f": {error.__cause__}" if error.__cause__ else ""
            raise ConfigError(f"log_config: {error}{cause}", "log_config") from error
    if level is not None:
        for name in LOGGER_NAMES:
            logging.getLogger(name).setLevel(level_number(level))
    if not access_log:
        access_logger.handlers = []
        access_logger.propagate = False


def takes_formats(log_config: Any) -> bool:
    """Whether the options for formats reach this log_config: it is a dict, or a file that holds one."""
    if isinstance(log_config, str):
        return log_config.endswith((".json", ".yaml", ".yml"))
    return isinstance(log_config, Mapping) and not isinstance(log_config, configparser.RawConfigParser)


def read_log_config(source: Any) -> Any:
    """A dict for `dictConfig`, or what `fileConfig` takes."""
    if not isinstance(source, str):
        return source
    try:
        if source.endswith(".json"):
            with open(source, encoding="utf-8") as file:
                return json.load(file)
        if source.endswith((".yaml", ".yml")):
            return _read_yaml(source)
        with open(source, encoding="utf-8"):
            return source
    except OSError as error:
        raise ConfigError(f"log_config: cannot read {source!r}: {error.strerror}", "log_config") from None


def _read_yaml(path: str) -> Any:
    try:
        yaml = import_module("yaml")  # an optional extra
    except ImportError:
        message = "log_config: reading .yaml needs PyYAML, which is not installed; run: pip install PyYAML"
        raise ConfigError(message, "log_config") from None
    with open(path, encoding="utf-8") as file:
        return yaml.safe_load(file)


def _apply(source: Any, use_colors: bool | None, formats: tuple[str, str | None, bool]) -> None:
    # A ConfigParser is a Mapping too.
    if isinstance(source, configparser.RawConfigParser) or not isinstance(source, Mapping):
        ini = cast("str | configparser.RawConfigParser", source)
        logging.config.fileConfig(ini, disable_existing_loggers=False)
        return
    settings = copy.deepcopy(dict(source))
    for name, formatter in settings.get("formatters", {}).items():
        if use_colors is not None and name in ("default", "access"):
            formatter["use_colors"] = use_colors
        _set_format(formatter, *formats)
    logging.config.dictConfig(settings)


def _set_format(
    formatter: dict[str, Any], log_format: str, access_log_format: str | None, with_request_id: bool
) -> None:
    """Let a formatter of a dict, if it is ours, make the lines that the options ask for."""
    kind = _OURS.get(formatter.get("()", ""), formatter.get("()"))
    if log_format == "json" and kind in (DefaultFormatter, AccessFormatter):
        formatter.clear()
        kind = formatter["()"] = JsonFormatter
    if kind is JsonFormatter and "access_fields" not in formatter:
        extra = ("request_id",) if with_request_id else ()
        formatter["access_fields"] = access_log_format or (*JSON_ACCESS_FIELDS, *extra)
    elif kind is AccessFormatter and access_log_format is not None:
        formatter["fmt"] = f"%(levelprefix)s {access_log_format}"


def exclusion(globs: Iterable[str] | None) -> re.Pattern[bytes] | None:
    """The pattern of paths that are not logged; None when there are none. `*` is anything, also `/`."""
    found = [fnmatch.translate(glob) for glob in globs or ()]
    return re.compile("|".join(found).encode("utf-8")) if found else None


def reopen_files() -> int:
    """Close and open anew every file that handlers write to, for tools that move log files away; returns how many.

    Safe to call from any thread; on a signal, by `loop.add_signal_handler`, not from within a line that is written.
    """
    loggers = [logging.getLogger(), *logging.Logger.manager.loggerDict.values()]
    found = {id(each): each for logger in loggers for each in getattr(logger, "handlers", [])}
    targets = [getattr(each, "target", None) for each in found.values()]  # of MemoryHandler
    found |= {id(each): each for each in targets if each is not None}
    reopened = 0
    for handler in found.values():
        if isinstance(handler, logging.FileHandler):
            reopened += _reopen(handler)
    return reopened


def _reopen(handler: logging.FileHandler) -> bool:
    """Open the file of one handler anew. If that fails, the next record tries again, and says so if it must."""
    handler.acquire()
    try:
        stream, handler.stream = handler.stream, None
        if stream is None:
            return False  # `delay`: not open yet
        stream.close()
        with contextlib.suppress(OSError):
            handler.stream = handler._open()
        return handler.stream is not None
    finally:
        handler.release()
