"""What the process says: formatters, set-up, and the shape of an access line.

Access lines go to stdout, all else to stderr. Loggers: `fastasgi`, `fastasgi.error` (the server, whose level
changes with `log_level`), `fastasgi.access`, `fastasgi.asgi`.
"""

from __future__ import annotations

import configparser
import copy
import http
import json
import logging
import logging.config
import sys
from collections.abc import Mapping
from importlib import import_module
from typing import Any, Literal, cast

from .errors import ConfigError, StartupError

TRACE = 5
"""Below debug: every message between server and application."""

logging.addLevelName(TRACE, "TRACE")

LOGGER_NAMES = ("fastasgi.error", "fastasgi.access", "fastasgi.asgi")

server_logger = logging.getLogger("fastasgi.error")
access_logger = logging.getLogger("fastasgi.access")
asgi_logger = logging.getLogger("fastasgi.asgi")

ACCESS_FORMAT = '%(levelprefix)s %(client_addr)s - "%(request_line)s" %(status_code)s'

Style = Literal["%", "{", "$"]

_LEVEL_COLORS = {TRACE: "34", 10: "36", 20: "32", 30: "33", 40: "31", 50: "91"}
_STATUS_COLORS = {1: "97", 2: "32", 3: "33", 4: "31", 5: "91"}
_PHRASES = {int(status): f"{int(status)} {status.phrase}" for status in http.HTTPStatus}


def _colored(text: str, code: str | None) -> str:
    return f"\x1b[{code}m{text}\x1b[0m" if code else text


class _ColorFormatter(logging.Formatter):
    """Adds `levelprefix`: the level in its colour, a colon, and spaces to nine columns."""

    stream_name = "stderr"

    def __init__(
        self,
        fmt: str | None = None,
        datefmt: str | None = None,
        style: Style = "%",
        use_colors: bool | None = None,
    ) -> None:
        if use_colors is None:
            use_colors = _is_terminal(getattr(sys, self.stream_name))
        self.use_colors = use_colors
        super().__init__(fmt=fmt, datefmt=datefmt, style=style)

    def level_prefix(self, record: logging.LogRecord) -> str:
        name = record.levelname
        shown = _colored(name, _LEVEL_COLORS.get(record.levelno)) if self.use_colors else name
        return f"{shown}:{' ' * (8 - len(name))}"

    def formatMessage(self, record: logging.LogRecord) -> str:
        """The line of a record."""
        record = copy.copy(record)
        record.__dict__["levelprefix"] = self.level_prefix(record)
        if self.use_colors and "color_message" in record.__dict__:
            record.msg = record.__dict__["color_message"]
            record.__dict__["message"] = record.getMessage()
        return super().formatMessage(record)


class DefaultFormatter(_ColorFormatter):
    """For everything but access lines. `%(levelprefix)s` is the coloured level."""


class AccessFormatter(_ColorFormatter):
    """For access records, whose args are `(client_addr, method, full_path, http_version, status_code)`.

    Gives the format `client_addr`, `method`, `full_path`, `http_version`, `request_line` and `status_code`
    (with its phrase). A record with other args, by an application that uses this logger, is formatted as it
    is.
    """

    stream_name = "stdout"

    def formatMessage(self, record: logging.LogRecord) -> str:
        """The line of a record."""
        if not isinstance(record.args, tuple) or len(record.args) != 5:
            return f"{self.level_prefix(record)} {record.getMessage()}"
        client_addr, method, full_path, http_version, status = record.args
        request_line = f"{method} {full_path} HTTP/{http_version}"
        record = copy.copy(record)
        record.__dict__.update(
            client_addr=client_addr,
            method=method,
            full_path=full_path,
            http_version=http_version,
            request_line=_colored(request_line, "1") if self.use_colors else request_line,
            status_code=self._status(cast(int, status)),
        )
        return super().formatMessage(record)

    def _status(self, status: int) -> str:
        text = _PHRASES.get(status, str(status))
        return _colored(text, _STATUS_COLORS.get(status // 100)) if self.use_colors else text


def _is_terminal(stream: Any) -> bool:
    try:
        return bool(stream.isatty())
    except (AttributeError, ValueError):  # no stream (a service without one), or closed
        return False


def can_bypass(logger: logging.Logger) -> tuple[int, str, bool] | None:
    """Where compiled code may write access lines itself: `(file descriptor, prefix, colours)`, or None.

    Not None only if a record sent to `logger` would come out as exactly one line of our own: one plain
    StreamHandler on the real stdout, an `AccessFormatter` with the built-in format, no filters, no
    propagation, no record factory. A line is then the prefix (`INFO:     `), `client_addr - "METHOD path
    HTTP/x.y" status phrase`, and a newline. What the stream holds is flushed; ask again after logging was set
    up anew.
    """
    if logger.propagate or logger.filters or len(logger.handlers) != 1 or type(logger) is not logging.Logger:
        return None
    if not logger.isEnabledFor(logging.INFO) or logging.getLogRecordFactory() is not logging.LogRecord:
        return None
    handler = logger.handlers[0]
    if type(handler) is not logging.StreamHandler or handler.filters or handler.level > logging.INFO:
        return None
    formatter = handler.formatter
    if (
        type(formatter) is not AccessFormatter
        or handler.stream is not sys.stdout
        or handler.terminator != "\n"
    ):
        return None
    if formatter._fmt != ACCESS_FORMAT or type(formatter._style) is not logging.PercentStyle:
        return None
    try:
        fd = handler.stream.fileno()
        handler.flush()
    except (AttributeError, OSError, ValueError):  # no file behind it, as under a test that captures output
        return None
    level = logging.getLevelName(logging.INFO)
    prefix = (
        f"{_colored(level, _LEVEL_COLORS[20]) if formatter.use_colors else level}:{' ' * (8 - len(level))} "
    )
    return fd, prefix, formatter.use_colors


def log_startup_error(error: StartupError) -> None:
    """Say why the server does not start: the user's traceback, if any, then the sentence."""
    if error.details:
        server_logger.error("%s", error.details)
    server_logger.error("%s", error)


def level_number(level: str | int) -> int:
    """The number of a level given as a lower-case name or a number."""
    if isinstance(level, int):
        return level
    return TRACE if level == "trace" else logging.getLevelNamesMapping()[level.upper()]


def configure(
    log_config: Any, *, level: str | int | None, access_log: bool = True, use_colors: bool | None = None
) -> None:
    """Set up `logging`: a dict, a ConfigParser, an open .ini file, or the path of a .json, .yaml or .ini
    file.

    None leaves logging as it is, except for what `level` (None: as it is) and `access_log` ask for. Raises
    `ConfigError`.
    """
    if log_config is not None:
        try:
            _apply(read_log_config(log_config), use_colors)
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


def _apply(source: Any, use_colors: bool | None) -> None:
    # A ConfigParser is a Mapping too.
    if isinstance(source, configparser.RawConfigParser) or not isinstance(source, Mapping):
        ini = cast("str | configparser.RawConfigParser", source)
        logging.config.fileConfig(ini, disable_existing_loggers=False)
        return
    settings = copy.deepcopy(dict(source))
    if use_colors is not None:
        for name in ("default", "access"):
            if name in settings.get("formatters", {}):
                settings["formatters"][name]["use_colors"] = use_colors
    logging.config.dictConfig(settings)
