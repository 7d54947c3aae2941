"""The options that concern processes: the drain, workers, reload, logs, the process itself."""

from __future__ import annotations

import configparser
import os
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import IO, Any

from ..kinds import (
    Account,
    Callback,
    Choice,
    HeaderName,
    ImportChoice,
    Integer,
    Level,
    LogConfig,
    Path,
    Permissions,
    Seconds,
    Size,
    Switch,
    Text,
    Texts,
)
from .declaring import Declared, Given, PathLike, option

LogConfigValue = Mapping[str, Any] | str | os.PathLike[str] | configparser.RawConfigParser | IO[str]
Names = PathLike | Iterable[PathLike]

LOGGING_CONFIG: dict[str, Any] = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "default": {
            "()": "fastasgi.logging.DefaultFormatter",
            "fmt": "%(levelprefix)s %(message)s",
            "use_colors": None,
        },
        "access": {
            "()": "fastasgi.logging.AccessFormatter",
            "fmt": '%(levelprefix)s %(client_addr)s - "%(request_line)s" %(status_code)s',
            "use_colors": None,
        },
    },
    "handlers": {
        "default": {"formatter": "default", "class": "fastasgi.logging.ConsoleHandler", "stream": "ext://sys.stderr"},
        "access": {"formatter": "access", "class": "fastasgi.logging.ConsoleHandler", "stream": "ext://sys.stdout"},
    },
    "loggers": {
        "fastasgi": {"handlers": ["default"], "level": "INFO", "propagate": False},
        "fastasgi.error": {"level": "INFO"},
        "fastasgi.access": {"handlers": ["access"], "level": "INFO", "propagate": False},
    },
}
"""The built-in `log_config`: access lines to stdout, all else to stderr."""


class Running(Declared):
    """Drain, workers, reload, logs, process."""

    # -- Drain -----------------------------------------------------------------------------------------------
    drain_delay: float = option(
        Seconds(zero=True, nullable=False),
        "Drain",
        "From the signal to stop to the start of the drain, for balancers to look elsewhere meanwhile.",
        default=0,
        unit="s",
    )
    # 20 and not for ever: a restart that waits for one open event stream never ends.
    timeout_graceful_shutdown: float | None = option(
        Seconds(zero=True),
        "Drain",
        "For requests to end by themselves at shutdown; then they get http.disconnect.",
        default=20,
        unit="s",
    )
    timeout_disconnect_grace: float | None = option(
        Seconds(zero=True),
        "Drain",
        "For requests to end after http.disconnect at shutdown; then they are cancelled.",
        default=5,
        unit="s",
    )
    timeout_lifespan_shutdown: float | None = option(
        Seconds(zero=True), "Drain", "The application's shutdown.", default=10, unit="s"
    )

    # -- Workers ---------------------------------------------------------------------------------------------
    workers: Given[int | None, int] = option(
        Integer(1), "Workers", "Worker processes.", default=1, fallback="WEB_CONCURRENCY", unset=True
    )
    preload: Given[str | bool, str] = option(
        Choice("auto", "on", "off"),
        "Workers",
        "Import the application once, before the workers are forked.",
        default="auto",
    )
    limit_worker_rss: int | None = option(
        Size(1, nullable=True),
        "Workers",
        "Memory (RSS) of a worker; above it the worker is replaced.",
        default=None,
        unit="B",
    )
    worker_lifetime: float | None = option(
        Seconds(), "Workers", "Age at which a worker is replaced.", default=None, unit="s"
    )
    timeout_worker_startup: float | None = option(
        Seconds(), "Workers", "For a worker to be ready; then it is replaced.", default=None, unit="s"
    )
    timeout_worker_healthcheck: float | None = option(
        Seconds(), "Workers", "Without a sign of life of a worker; then it is replaced.", default=5, unit="s"
    )
    stop_on_crash_loop: bool = option(
        Switch(), "Workers", "End, rather than start workers for ever that end at once.", default=True
    )

    # -- Reload ----------------------------------------------------------------------------------------------
    reload: bool = option(Switch(), "Reload", "Restart when a file changes.", default=False)
    reload_dirs: Given[Names | None, list[str]] = option(
        Texts("directories", "PATH"),
        "Reload",
        "Directory to watch.",
        default=".",
        flag="reload-dir",
        repeatable=True,
        unset=True,
    )
    reload_includes: Given[Names | None, list[str]] = option(
        Texts("patterns of file names, or directories", "PATTERN"),
        "Reload",
        "Files to watch, in addition to the default.",
        default="*.py",
        flag="reload-include",
        repeatable=True,
        unset=True,
    )
    reload_excludes: Given[Names | None, list[str]] = option(
        Texts("patterns of file names, or directories", "PATTERN"),
        "Reload",
        "Files not to watch, in addition to the default.",
        default=".*, .py[cod], .sw.*, ~*",
        flag="reload-exclude",
        repeatable=True,
        unset=True,
    )
    reload_delay: float = option(
        Seconds(zero=True, nullable=False),
        "Reload",
        "Between two looks for changes; what changes meanwhile is one change.",
        default=0.25,
        unit="s",
    )

    # -- Logs ------------------------------------------------------------------------------------------------
    log_level: str | int | None = option(
        Level(nullable=True), "Logs", "Least severe level that is logged.", default="info"
    )
    log_format: str = option(Choice("text", "json"), "Logs", "Form of all log lines.", default="text")
    log_config: LogConfigValue | None = option(
        LogConfig(nullable=True),
        "Logs",
        "Logging configuration (.json, .yaml or .ini); none leaves logging alone.",
        default=LOGGING_CONFIG,
    )
    use_colors: bool | None = option(
        Switch(nullable=True), "Logs", "Colours; none is when on a terminal.", default=None
    )
    access_log: bool = option(Switch(), "Logs", "One line for each request.", default=True)
    access_log_format: str | None = option(
        Text(nullable=True), "Logs", "Access line, such as '%(client_addr)s %(status_code)s'.", default=None
    )
    access_log_exclude: Given[Names | None, list[str]] = option(
        Texts("paths", "PATH"),
        "Logs",
        "Path of requests without an access line, such as /health.",
        default=None,
        repeatable=True,
        unset=True,
    )
    request_id_header: str | None = option(
        HeaderName(nullable=True),
        "Logs",
        "Header that carries a request's id; one is made where there is none.",
        default=None,
    )

    # -- Process ---------------------------------------------------------------------------------------------
    loop: str = option(
        ImportChoice("auto", "asyncio", "uvloop", "none"),
        "Process",
        "Event loop: auto is uvloop where it is installed, none leaves the choice to asyncio.",
        default="auto",
    )
    pid_file: Given[PathLike | None, str | None] = option(
        Path(nullable=True), "Process", "File to write the process id to.", default=None
    )
    user: str | int | None = option(
        Account(nullable=True), "Process", "User to become once the sockets are bound.", default=None
    )
    group: str | int | None = option(
        Account(nullable=True), "Process", "Group to become once the sockets are bound.", default=None
    )
    umask: int | None = option(
        Permissions(nullable=True), "Process", "Permissions that files are made without.", default=None
    )
    control_socket: Given[PathLike | None, str | None] = option(
        Path(nullable=True),
        "Process",
        "Socket for 'fastasgi ctl' and 'fastasgi top', with several workers; auto is one in the user's own folder.",
        default="auto",
    )
    callback_notify: Callable[[], Awaitable[None]] | None = option(
        Callback(),
        "Process",
        "Async function to call every timeout_notify seconds.",
        default=None,
        flag=None,
        in_file=False,
        in_env=False,
    )
    worker_start: str = option(
        Choice("auto", "fork", "spawn"),
        "Process",
        "For developers: how worker processes are started.",
        default="auto",
        flag=None,
        in_file=False,
    )
    io: str = option(
        Choice("auto", "socket", "transport"),
        "Process",
        "For developers: who reads and writes the sockets.",
        default="auto",
        flag=None,
        in_file=False,
    )
