"""Run a server until it stops: `run` for programs, `execute` for every face that ends with an exit code."""

from __future__ import annotations

import atexit
import os
import sys
import threading
import time
from typing import Any, NoReturn

from .config import Config, with_parameters_of
from .errors import EXIT_OK, StartupError
from .logging import log_startup_error, server_logger
from .sources import gather
from .worker import Server

THREADS_GRACE_S = 5.0
"""How long threads of the application may go on when everything else has ended."""


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


def leave(code: int) -> NoReturn:
    """End the process with this exit code, also when threads that the application started never end.

    Python waits for every thread that is no daemon, without a bound: one that hangs in a call would hold a server
    for ever that has drained long ago.
    """
    deadline_s = time.monotonic() + THREADS_GRACE_S
    left = [thread for thread in threading.enumerate() if _is_waited_for(thread)]
    for thread in left:
        thread.join(max(0.0, deadline_s - time.monotonic()))
    names = [thread.name for thread in left if thread.is_alive()]
    if not names:
        sys.exit(code)
    server_logger.warning("threads of the application are still running, left behind: %s", ", ".join(names))
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _is_waited_for(thread: threading.Thread) -> bool:
    # The threads of executors are daemons in name on some versions, and joined at exit on all of them.
    in_executor = thread.name.startswith(("asyncio_", "ThreadPoolExecutor"))
    return thread is not threading.current_thread() and (not thread.daemon or in_executor)


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
