"""Run a server until it stops: `run` for programs, `execute` for every face that ends with an exit code."""

from __future__ import annotations

import atexit
import os
import sys
from typing import Any, NoReturn

from .config import Config, with_parameters_of
from .ending import threads_left
from .errors import EXIT_OK, StartupError
from .logging import log_startup_error, server_logger
from .sources import gather
from .supervisor import Supervisor
from .worker import Server


def execute(config: Config) -> int:
    """Run the server of this configuration; the exit code of the process."""
    try:
        if config.workers > 1 or config.reload:
            return Supervisor(config).run()
        server = Server(config)
        server.run()
    except StartupError as error:
        log_startup_error(error)
        return error.exit_code
    except KeyboardInterrupt:  # before, or after, the server listens to signals itself
        return EXIT_OK
    return server.exit_code


def leave(code: int) -> NoReturn:
    """End the process with this exit code, also when threads that the application started never end.

    Python waits for every thread that is no daemon, without a bound: one that hangs in a call would hold a server
    for ever that has drained long ago.
    """
    names = threads_left()
    if not names:
        sys.exit(code)
    server_logger.warning("threads of the application are still running, left behind: %s", ", ".join(names))
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


@with_parameters_of(Config)
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
