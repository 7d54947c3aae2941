"""A worker class for gunicorn: its sockets, signals, hooks and logs, our own reading and writing.

    gunicorn main:app --worker-class fastasgi.workers.FastASGIWorker

gunicorn's settings that mean the same here are taken over when they differ from gunicorn's defaults, so that what
nobody has chosen stays what fastasgi finds best. What gunicorn has no setting for comes from `FASTASGI_<NAME>`,
`fastasgi.toml`, or a subclass with `CONFIG_KWARGS`.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import signal
import sys
from collections.abc import Iterator
from types import FrameType
from typing import Any, ClassVar

from gunicorn.arbiter import Arbiter
from gunicorn.workers.base import Worker

from .config import Config
from .errors import ConfigError, StartupError
from .logging import access_logger, log_startup_error, server_logger
from .loops import CANCEL_GRACE_S, run_bounded
from .sources import gather
from .worker import Server

BEAT_S = 1.0
"""How often gunicorn hears of a loop that turns; more often where its timeout is short."""

LINGER_S = 0.5
"""How long a worker at its `max_requests` keeps idle connections for a request that is on its way. Short, because
gunicorn starts the next worker only behind its end."""

# gunicorn's setting -> option, for those that mean the same.
_SAME_MEANING = {
    "backlog": "backlog",
    "keepalive": "timeout_keep_alive",
    "worker_connections": "limit_connections",
    "limit_request_line": "limit_request_line",
    "limit_request_fields": "limit_request_headers",
}
_TLS = ("keyfile", "certfile", "cert_reqs", "ca_certs", "ciphers")


class _Server(Server):
    """The worker handles the signals."""

    owns_process = True

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Handle none."""
        yield

    def ends_at_limit(self, limit: int) -> bool:
        """The next worker takes new connections; those that are here may have sent something."""
        self.drain_linger_s = LINGER_S
        return super().ends_at_limit(limit)


class FastASGIWorker(Worker):  # type: ignore[misc]
    """Serves gunicorn's application. `CONFIG_KWARGS` of a subclass are options that win over all others."""

    CONFIG_KWARGS: ClassVar[dict[str, Any]] = {}

    _server: Server | None = None

    def run(self) -> None:
        """Serve until gunicorn asks for the end."""
        if not self.alive:  # asked for while the application was imported
            return
        self._take_logs()
        try:
            settings = gather(self._options(), os.environ)
            config = Config(**settings.values)
            config.notices.extend(settings.notices)
            self._server = server = _Server(config)
            config.load()
            stop = functools.partial(setattr, server, "should_exit", True)
            run_bounded(self._serve(server), config.get_loop_factory(), stop)
        except ConfigError as error:
            server_logger.error("%s", error)
            sys.exit(Arbiter.WORKER_BOOT_ERROR)
        except StartupError as error:
            log_startup_error(error)
            sys.exit(Arbiter.WORKER_BOOT_ERROR)

    async def _serve(self, server: Server) -> None:
        self._beat(asyncio.get_running_loop())
        await server.serve([each.sock for each in self.sockets])

    def _beat(self, loop: asyncio.AbstractEventLoop) -> None:
        """Tell gunicorn that the loop turns, from its start to its end, and look at what may end the worker."""
        self.notify()
        loop.call_later(min(BEAT_S, self.timeout / 2) if self.timeout else BEAT_S, self._beat, loop)
        assert self._server is not None
        if self._server.should_exit:
            return
        if os.getppid() != self.ppid:
            server_logger.info("gunicorn's main process has gone: shutting down")
            self._server.should_exit = True
        elif not self.alive:  # gunicorn's reloader
            self._server.should_exit = True

    # --- options ----------------------------------------------------------------------------------------------

    def _options(self) -> dict[str, Any]:
        settings = self.cfg.settings
        found = {
            ours: value
            for name, ours in _SAME_MEANING.items()
            if (value := settings[name].get()) != settings[name].default and (value or name == "keepalive")
        }
        if self.cfg.max_requests:
            found["limit_max_requests"] = self.max_requests  # with gunicorn's jitter
        if self.cfg.is_ssl:
            found.update((f"ssl_{name}", value) for name in _TLS if (value := settings[name].get()))
        return {
            "app": self.wsgi,
            "workers": 1,
            "log_config": None,
            "log_level": self.log.error_log.level,
            "access_log": self.log.access_log_enabled,
            "forwarded_allow_ips": self.cfg.forwarded_allow_ips,
            **self._ending_within(self.cfg.graceful_timeout),
            **found,
            **self.CONFIG_KWARGS,
        }

    @staticmethod
    def _ending_within(graceful_s: float) -> dict[str, float]:
        """gunicorn kills after graceful_timeout: all steps of the drain together take no longer."""
        step_s = min(5.0, graceful_s / 6)
        return {
            "timeout_graceful_shutdown": max(0.0, graceful_s - 2 * step_s - 2 * CANCEL_GRACE_S),
            "timeout_disconnect_grace": step_s,
            "timeout_lifespan_shutdown": step_s,
        }

    def _take_logs(self) -> None:
        """What fastasgi says goes where gunicorn writes."""
        for ours, theirs in (
            (server_logger, self.log.error_log),
            (access_logger, self.log.access_log),
        ):
            ours.handlers = theirs.handlers
            ours.propagate = False
            ours.setLevel(theirs.level)

    # --- signals ----------------------------------------------------------------------------------------------

    def init_signals(self) -> None:
        """gunicorn's handlers, those below among them; the loop wakes itself up."""
        super().init_signals()
        signal.set_wakeup_fd(-1)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """SIGTERM: drain. gunicorn repeats it, so that a second one is no more than the first."""
        self.alive = False
        if self._server is not None:
            self._server.should_exit = True

    def handle_quit(self, sig: int, frame: FrameType | None) -> None:
        """SIGINT, SIGQUIT: end without waiting for requests."""
        if self._server is None:
            super().handle_quit(sig, frame)
            return
        self.alive = False
        if not self._server.force_exit:  # of a terminal come both, and that is one wish
            self.cfg.worker_int(self)
            self._server.should_exit = self._server.force_exit = True
