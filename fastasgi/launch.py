"""Run a server until it stops: `run` for programs, `execute` for every face that ends with an exit code."""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable
from typing import Any, ParamSpec

from .config import Config
from .errors import EXIT_OK, StartupError
from .logging import log_startup_error
from .sources import gather
from .worker import Server

P = ParamSpec("P")


def execute(config: Config) -> int:
    """Run the server of this configuration; the exit code of the process."""
    server = Server(config)
    try:
        server.run()
    except StartupError as error:
        log_startup_error(error)
        return error.exit_code
    except KeyboardInterrupt:  # before, or after, the server listens to signals itself
        return EXIT_OK
    return server.exit_code


def _with_parameters_of(
    constructor: Callable[P, object],
) -> Callable[[Callable[..., None]], Callable[P, None]]:
    """Give a function the parameters of a class: `options.py` declares each option once, for all faces."""

    def give(function: Callable[..., None]) -> Callable[P, None]:
        function.__signature__ = inspect.signature(constructor)  # type: ignore[attr-defined]
        return function

    return give


@_with_parameters_of(Config)
def run(app: Any, **options: Any) -> None:
    """Run `app` (an import string `module:attribute`, or the application itself) until the server stops.

    Each option is a keyword parameter; what is not given comes from the environment, the configuration file
    of the current directory, or the default. Raises `ConfigError` for a bad value, `SystemExit` with the exit
    code if the server could not start (3) or crashed (1), and returns after a clean stop.
    """
    settings = gather({"app": app, **options}, os.environ)
    config = Config(**settings.values)
    config.notices.extend(settings.notices)
    code = execute(config)
    if code != EXIT_OK:
        sys.exit(code)
