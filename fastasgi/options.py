"""Every option of the server, once.

One attribute of `Options` is one option: its name, its type for type checkers, and by `option(...)` its kind,
group, explanation, default, unit and check. Everything else is derived from `FIELDS`: the command line and
its help, the variables `FASTASGI_<NAME>`, the keys of the configuration file, the parameters of `Config` and
`run`, and `--print-config`. An option is declared when its feature works, not before.

Where a default differs from what users of other servers know, its reason stands beside it.
"""

from __future__ import annotations

import configparser
import inspect
import os
from collections.abc import Callable, Iterable, Mapping
from typing import IO, Any, Literal, dataclass_transform, get_args

from .fields import (
    Application,
    Choice,
    Field,
    Headers,
    ImportChoice,
    Integer,
    Kind,
    Level,
    LogConfig,
    Path,
    Permissions,
    Seconds,
    Size,
    Switch,
    Text,
)

Group = Literal["Application", "Listening", "HTTP", "Limits", "Timeouts", "Logging", "Process"]
GROUPS: tuple[str, ...] = get_args(Group)
"""The headings of the help page, in their order."""

KIB = 1024

Pairs = Iterable[tuple[str | bytes, str | bytes]]
LogConfigValue = Mapping[str, Any] | str | os.PathLike[str] | configparser.RawConfigParser | IO[str]

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
        "default": {"formatter": "default", "class": "logging.StreamHandler", "stream": "ext://sys.stderr"},
        "access": {"formatter": "access", "class": "logging.StreamHandler", "stream": "ext://sys.stdout"},
    },
    "loggers": {
        "fastasgi": {"handlers": ["default"], "level": "INFO", "propagate": False},
        "fastasgi.error": {"level": "INFO"},
        "fastasgi.access": {"handlers": ["access"], "level": "INFO", "propagate": False},
    },
}
"""The built-in `log_config`: access lines to stdout, all else to stderr."""

_WSGI_HINT = "WSGI comes with a later release; until then wrap the application: a2wsgi.WSGIMiddleware(app)"


def option(
    kind: Kind,
    group: Group,
    doc: str,
    *,
    default: Any,
    unit: str = "",
    check: Callable[[Any], None] | None = None,
    flag: str | None = "",
    repeatable: bool = False,
    in_file: bool = True,
    secret: bool = False,
) -> Any:
    """Declare one option as the value of its attribute in `Options`; see `fields.Field` for the arguments."""
    return {
        "kind": kind,
        "group": group,
        "doc": doc,
        "default": default,
        "unit": unit,
        "check": check,
        "flag": flag,
        "repeatable": repeatable,
        "in_file": in_file,
        "secret": secret,
    }


def _one_worker(count: int) -> None:
    if count > 1:
        raise ValueError("this release runs one worker, more of them come with a later release")


def positional(*, kw_only: bool = False) -> Any:
    """Declare `app`, the one positional parameter."""
    return {"kw_only": kw_only}


def derived(*, init: bool = False) -> Any:
    """Declare an attribute that is computed, hence no parameter."""
    return {"init": init}


@dataclass_transform(kw_only_default=True, field_specifiers=(option, positional, derived))
class _Declared:
    """Lets type checkers derive the parameters of `Config` and `run` from the attributes below."""


class Options(_Declared):
    """The options as typed attributes; `Config` gives them their values."""

    # -- Application -----------------------------------------------------------------------------------------
    factory: bool = option(
        Switch(), "Application", "APP is a function that makes the application.", default=False
    )
    app_dir: str | os.PathLike[str] = option(
        Path(),
        "Application",
        "Directory that import strings start from; empty is the current one.",
        default="",
    )
    interface: str = option(
        Choice("auto", "asgi3", "asgi2", hints={"wsgi": _WSGI_HINT}),
        "Application",
        "How the application is called; auto looks at its parameters.",
        default="auto",
    )
    lifespan: str = option(
        Choice("auto", "on", "off"),
        "Application",
        "Startup and shutdown events: auto accepts applications that have none, on does not.",
        default="auto",
    )
    root_path: str = option(
        Text(), "Application", "Path under which a proxy mounts the application.", default=""
    )
    env_file: str | os.PathLike[str] | None = option(
        Path(nullable=True),
        "Application",
        "File of variables for the application's environment (needs python-dotenv).",
        default=None,
    )
    reset_contextvars: bool = option(
        Switch(),
        "Application",
        "Accepted for compatibility: each request always has its own context.",
        default=True,
    )

    # -- Listening -------------------------------------------------------------------------------------------
    host: str = option(
        Text(),
        "Listening",
        "Address or name to listen on; empty or :: is every address.",
        default="127.0.0.1",
    )
    port: int = option(
        Integer(0, 65535), "Listening", "TCP port to listen on; 0 picks a free one.", default=8000
    )
    uds: str | os.PathLike[str] | None = option(
        Path(nullable=True), "Listening", "Unix socket to listen on instead of host and port.", default=None
    )
    uds_permissions: int | None = option(
        Permissions(nullable=True),
        "Listening",
        "Permissions of the Unix socket's file; none leaves them to the umask.",
        default=0o666,
    )
    fd: int | None = option(
        Integer(0, nullable=True),
        "Listening",
        "Descriptor of an inherited socket to listen on instead of host and port.",
        default=None,
    )
    backlog: int = option(
        Integer(1, 2**31 - 1), "Listening", "Connections that may wait to be accepted.", default=2048
    )

    # -- HTTP ------------------------------------------------------------------------------------------------
    http: str = option(
        Choice("auto", "h11", "httptools", "zttp"),
        "HTTP",
        "Accepted for compatibility: there is one HTTP implementation, our own.",
        default="auto",
    )
    headers: Pairs | Iterable[str] | Mapping[str, str] | None = option(
        Headers(), "HTTP", "Header for every response.", default=None, flag="header", repeatable=True
    )
    server_header: bool = option(Switch(), "HTTP", "Send 'Server: fastasgi'.", default=True)
    date_header: bool = option(Switch(), "HTTP", "Send 'Date'.", default=True)
    # Gateways turn '-' into '_': a client that sends X_Forwarded_For may imitate the header that the proxy
    # sets.
    underscore_headers: str = option(
        Choice("drop-forwarded", "drop", "keep"),
        "HTTP",
        "Request headers with '_': drop those that imitate what proxies set, drop all, or keep all.",
        default="drop-forwarded",
    )

    # -- Limits (each worker) --------------------------------------------------------------------------------
    limit_concurrency: int | None = option(
        Integer(1, nullable=True), "Limits", "Requests served at once; above it 503.", default=None
    )
    limit_connections: int | None = option(
        Integer(1, nullable=True),
        "Limits",
        "Open connections; above it new ones wait in the backlog, idle ones are closed first.",
        default=None,
    )
    limit_max_requests: int | None = option(
        Integer(1, nullable=True), "Limits", "Requests after which the process ends.", default=None
    )
    limit_request_line: int = option(
        Size(16), "Limits", "Length of the request line; above it 414.", default=8 * KIB, unit="B"
    )
    limit_request_head: int = option(
        Size(16), "Limits", "Length of all request headers; above it 431.", default=64 * KIB, unit="B"
    )
    limit_request_headers: int = option(
        Integer(1, 2**20), "Limits", "Number of request headers; above it 431.", default=100
    )
    limit_request_body: int | None = option(
        Size(nullable=True), "Limits", "Length of a request body; above it 413.", default=None, unit="B"
    )
    limit_unread_body: int = option(
        Size(),
        "Limits",
        "Length of a body left unread that is skipped to keep the connection; above it the connection closes.",
        default=64 * KIB,
        unit="B",
    )
    limit_chunk_extension: int = option(
        Size(), "Limits", "Length of all chunk extensions of a body; above it 400.", default=4 * KIB, unit="B"
    )
    h11_max_incomplete_event_size: int | None = option(
        Size(16, nullable=True),
        "Limits",
        "Accepted for compatibility: sets limit_request_head.",
        default=None,
        unit="B",
    )

    # -- Timeouts --------------------------------------------------------------------------------------------
    # 75 and not 5: balancers keep idle connections for 60 s; one that is reused while we close it is a
    # 502.
    timeout_keep_alive: float | None = option(
        Seconds(zero=True), "Timeouts", "Wait for the next request of a connection.", default=75, unit="s"
    )
    timeout_first_byte: float | None = option(
        Seconds(),
        "Timeouts",
        "From connect to the first byte; then closed without an answer.",
        default=10,
        unit="s",
    )
    timeout_request_head: float | None = option(
        Seconds(), "Timeouts", "From the first byte to the end of the head; then 408.", default=30, unit="s"
    )
    timeout_request_body: float | None = option(
        Seconds(), "Timeouts", "Grace before min_body_rate is asked for; then 408.", default=30, unit="s"
    )
    min_body_rate: int | None = option(
        Integer(0, 2**40, nullable=True),
        "Timeouts",
        "Average speed below which a request body ends with 408.",
        default=240,
        unit="B/s",
    )
    timeout_response_stall: float | None = option(
        Seconds(),
        "Timeouts",
        "Without progress of a client that reads; then the connection is aborted.",
        default=60,
        unit="s",
    )
    timeout_request: float | None = option(
        Seconds(), "Timeouts", "The whole of a request in the application.", default=None, unit="s"
    )
    timeout_startup: float | None = option(
        Seconds(),
        "Timeouts",
        "The application's startup; then the server does not start.",
        default=None,
        unit="s",
    )
    # 20 and not for ever: a restart that waits for one open event stream never ends.
    timeout_graceful_shutdown: float | None = option(
        Seconds(zero=True),
        "Timeouts",
        "For requests to end by themselves at shutdown; then they get http.disconnect.",
        default=20,
        unit="s",
    )
    timeout_disconnect_grace: float | None = option(
        Seconds(zero=True),
        "Timeouts",
        "For requests to end after http.disconnect at shutdown; then they are cancelled.",
        default=5,
        unit="s",
    )
    timeout_lifespan_shutdown: float | None = option(
        Seconds(zero=True), "Timeouts", "The application's shutdown.", default=10, unit="s"
    )

    # -- Logging ---------------------------------------------------------------------------------------------
    log_level: str | int | None = option(
        Level(nullable=True), "Logging", "Least severe level that is logged.", default="info"
    )
    access_log: bool = option(Switch(), "Logging", "One line for each request.", default=True)
    use_colors: bool | None = option(
        Switch(nullable=True), "Logging", "Colours; none is when on a terminal.", default=None
    )
    log_config: LogConfigValue | None = option(
        LogConfig(nullable=True),
        "Logging",
        "Logging configuration (.json, .yaml or .ini); none leaves logging alone.",
        default=LOGGING_CONFIG,
    )

    # -- Process ---------------------------------------------------------------------------------------------
    loop: str = option(
        ImportChoice("auto", "asyncio", "uvloop", "none"),
        "Process",
        "Event loop: auto is uvloop where it is installed, none leaves the choice to asyncio.",
        default="auto",
    )
    workers: int = option(
        Integer(1), "Process", "Worker processes; only 1 in this release.", default=1, check=_one_worker
    )
    io: str = option(
        Choice("auto", "socket", "transport"),
        "Process",
        "For developers: who reads and writes the sockets.",
        default="auto",
        flag=None,
        in_file=False,
    )


def _collect() -> dict[str, Field]:
    declared = {"app": _app_field()}
    for name, annotation in Options.__annotations__.items():
        declared[name] = Field(name=name, annotation=annotation, **vars(Options)[name])
    return declared


def _app_field() -> Field:
    """`app` is the one positional parameter, hence no attribute of `Options`."""
    doc = "The application: 'module:attribute' or the object itself."
    return Field("app", "str | Callable[..., Any]", Application(), None, "Application", doc, flag=None)


FIELDS: Mapping[str, Field] = _collect()
"""All options by name, in the order of the help page's groups."""


def parameters() -> list[inspect.Parameter]:
    """`app` and every option by keyword, as `help` shows the parameters of `Config` and `run`."""
    app, *rest = FIELDS.values()
    return [
        inspect.Parameter(app.name, inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=app.annotation),
        *(
            inspect.Parameter(
                field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=field.annotation
            )
            for field in rest
        ),
    ]
