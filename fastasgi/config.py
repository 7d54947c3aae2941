"""`Config`: the checked options of one server, as plain attributes.

Built from what is given explicitly (`Config(app, port=9000)`) and the defaults of `options/`. The command
line and `run` look at the environment and the configuration file too, see `sources.py`, and then build a
`Config` as well. Compiled code never reads a `Config`: `Runtime` copies what it needs once.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import socket
from collections.abc import Callable
from importlib import import_module
from ssl import SSLContext
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from . import importer, loops, sockets, tls
from .asgi import ASGI3Application
from .errors import ConfigError, StartupError
from .formatters import check_access_format
from .logging import configure, server_logger, takes_formats
from .middleware.wsgi import WSGIMiddleware
from .options import FIELDS, LOGGING_CONFIG, Options, parameters
from .options.declaring import derived, positional
from .suggest import cure_for_option

__all__ = ["FIELDS", "LOGGING_CONFIG", "Config", "with_parameters_of"]

P = ParamSpec("P")
R = TypeVar("R")


class Config(Options):
    """The options of one server.

    `app` is an import string `module:attribute`, an ASGI application, or with `factory` a function that
    returns one. Every option of `Options` is a keyword parameter and afterwards an attribute holding the
    checked value: times are float seconds, sizes int bytes, None is unlimited. Raises `ConfigError` for a
    value that cannot be meant.

    `encoded_headers` holds the default headers as `(lower-case name, value)` in bytes. `load()` sets
    `loaded_app`, an ASGI 3 callable, and `loaded`. `notices` are sentences that `load()` logs once.
    """

    app: str | Callable[..., Any] = positional(kw_only=False)
    given: frozenset[str] = derived(init=False)
    loaded: bool = derived(init=False)
    loaded_app: ASGI3Application = derived(init=False)
    encoded_headers: list[tuple[bytes, bytes]] = derived(init=False)
    notices: list[str] = derived(init=False)
    ssl: SSLContext | None = derived(init=False)
    ssl_certificate: str | None = derived(init=False)

    if not TYPE_CHECKING:  # type checkers derive the parameters from Options
        __signature__ = inspect.Signature(parameters())

        def __init__(self, app: Any, **options: Any) -> None:
            given = {"app": app, **options}
            for name in given:
                if name not in FIELDS:
                    cure = cure_for_option(name, {known: known for known in FIELDS})
                    raise ConfigError(f"unknown option {name!r}{cure}", name)
            if "io" not in given and os.environ.get("FASTASGI_IO"):
                given["io"] = os.environ["FASTASGI_IO"]
            given = {name: value for name, value in given.items() if FIELDS[name].is_given(value)}
            for name, field in FIELDS.items():
                value = field.convert(given[name]) if name in given else field.default_in(os.environ)[0]
                setattr(self, name, value)
            self.given = frozenset(given)
            self.loaded = False
            self.ssl = self.ssl_certificate = None
            self.notices = []
            self._settle()
            self.configure_logging()

    def _settle(self) -> None:
        """Rules that concern more than one option, and values derived from others."""
        self._settle_listening()
        self._settle_reload()
        if self.h11_max_incomplete_event_size is not None and "limit_request_head" not in self.given:
            self.limit_request_head = self.h11_max_incomplete_event_size
        if self.http != "auto":
            self.notices.append(
                f"http={self.http} is accepted but chooses nothing here: fastasgi has its own parser"
            )
        if self.ws not in ("auto", "none"):
            self.notices.append(
                f"ws={self.ws} is accepted but chooses nothing here: fastasgi has its own implementation"
            )
        self.encoded_headers = [
            (name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in self.headers
        ]
        self._settle_logging()

    def _settle_listening(self) -> None:
        places = [name for name in ("uds", "fd", "bind") if getattr(self, name) not in (None, [])]
        if len(places) > 1:
            raise ConfigError(
                f"{' and '.join(places)}: expected one of them, got {'both' if len(places) == 2 else 'all'}; "
                "leave one out",
                places[0],
            )
        unused = [name for name in ("host", "port") if name in self.given]
        if self.bind and unused:
            verb = "is" if len(unused) == 1 else "are"
            self.notices.append(f"{' and '.join(unused)} {verb} not used: bind says where to listen")

    def _settle_reload(self) -> None:
        if not self.reload:
            unused = [name for name in ("reload_dirs", "reload_includes", "reload_excludes") if name in self.given]
            if unused:
                self.notices.append(f"{' and '.join(unused)} without reload: nothing is watched")
            return
        for directory in self.reload_dirs:
            if not os.path.isdir(directory):
                raise ConfigError(f"reload_dirs: {directory!r} is not a directory", "reload_dirs")

    def _settle_logging(self) -> None:
        if self.access_log_format is not None:
            try:
                check_access_format(self.access_log_format, is_json=self.log_format == "json")
            except ValueError as error:
                given = self.access_log_format
                message = f"access_log_format: expected fields of an access line, got {given!r}; {error}"
                raise ConfigError(message, "access_log_format") from None
        unused = [name for name in ("log_format", "access_log_format") if name in self.given]
        if unused and not takes_formats(self.log_config):
            verb = "is" if len(unused) == 1 else "are"
            self.notices.append(f"{' and '.join(unused)} {verb} not used: log_config brings its own formatters")
        name = self.request_id_header
        if name is not None and any(name.lower() == each.decode("latin-1") for each, _ in self.encoded_headers):
            raise ConfigError(
                f"request_id_header: {name!r} is set by headers for every response; leave one of them out",
                "request_id_header",
            )

    def configure_logging(self) -> None:
        """Set up `logging` by the options; called by the constructor."""
        if isinstance(self.app, str) and "log_config" in self.given:
            importer.put_on_path(self.app_dir)  # its handlers and filters may be the application's
        configure(
            self.log_config,
            # An explicit log_config brings its own levels; the default of log_level must not undo them.
            level=self.log_level if "log_level" in self.given or "log_config" not in self.given else None,
            access_log=self.access_log,
            use_colors=self.use_colors,
            log_format=self.log_format,
            access_log_format=self.access_log_format,
            with_request_id=self.request_id_header is not None,
        )

    def load(self) -> None:
        """Import the application and set `loaded_app`. Raises `StartupError`; does nothing the second
        time."""
        if self.loaded:
            return
        for notice in self.notices:
            server_logger.info(notice)
        if self.is_ssl:
            self.ssl, self.ssl_certificate = tls.make_context(self), tls.certificate_of(self)
        if self.env_file is not None:
            load_env_file(self.env_file)
        self._take(
            importer.load_app(
                self.app, app_dir=self.app_dir, factory=self.factory, interface=self.interface
            )
        )
        self.loaded = True

    async def load_in_loop(self) -> None:
        """`load()`, and make the application where an async factory does, in the running loop. Raises
        `StartupError`."""
        self.load()
        if isinstance(self.loaded_app, importer.AsyncFactory):
            self._take(await self.loaded_app.made())

    def _take(self, app: ASGI3Application) -> None:
        self.loaded_app = app
        if isinstance(app, WSGIMiddleware):
            self.ws = "none"  # WSGI has no WebSocket

    def get_loop_factory(self) -> Callable[[], asyncio.AbstractEventLoop] | None:
        """What makes the event loop: for `asyncio.Runner(loop_factory=...)`; None leaves it to asyncio."""
        return loops.loop_factory(self.loop)

    def bind_socket(self) -> socket.socket:
        """The one listening socket of this configuration, for code that hands it to
        `Server.run(sockets=[...])`."""
        return sockets.bind(self, single=True)[0]

    @property
    def is_ssl(self) -> bool:
        """Whether connections are encrypted."""
        return bool(self.ssl_keyfile or self.ssl_certfile or self.ssl_context_factory)

    @property
    def should_reload(self) -> bool:
        """Whether the server restarts when a file changes: asked for, and possible with an import string."""
        return self.reload and isinstance(self.app, str)


def load_env_file(path: str) -> None:
    """Put the variables of a `.env` file into the environment; those already set stay. Raises `StartupError`
    where python-dotenv is missing."""
    try:
        dotenv = import_module("dotenv")  # an optional extra
    except ImportError:
        message = "env_file needs python-dotenv, which is not installed; run: pip install 'fastasgi[standard]'"
        raise StartupError(message) from None
    if not os.path.isfile(path):
        # No error: programs that name a file which only developers have are served elsewhere too.
        server_logger.warning("env_file %r does not exist: nothing is loaded from it", path)
        return
    server_logger.info("Loading environment from %r", path)
    dotenv.load_dotenv(path)


def with_parameters_of(
    constructor: Callable[P, object],
) -> Callable[[Callable[..., R]], Callable[P, R]]:
    """Give a function the parameters of a class: `options/` declares each option once, for all faces."""

    def give(function: Callable[..., R]) -> Callable[P, R]:
        function.__signature__ = inspect.signature(constructor)  # type: ignore[attr-defined]
        return function

    return give
