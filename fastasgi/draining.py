"""How a worker is told to end: how long for what, and when that is too long."""

from __future__ import annotations

from dataclasses import dataclass

from .config import Config
from .loops import CANCEL_GRACE_S

SLACK_S = 5.0
"""What a worker may take beyond its drain."""

LINGER_S = 5.0
"""How long a worker that is replaced keeps idle connections open for a request that is on its way."""

RELOAD_GRACE_S = 0.2
"""What a request may still take when files have changed, once its application was told that the client has gone."""

RELOAD_BOUND_S = 3.0
"""What a worker may take in all when files have changed."""


@dataclass(frozen=True)
class Manner:
    """Seconds for each step of a drain, None without end; and after how many the worker is killed."""

    delay_s: float  # serve on before
    linger_s: float  # keep idle connections
    timeout_s: float | None  # until requests get http.disconnect
    grace_s: float | None  # until they are cancelled
    bound_s: float | None
    is_forced: bool = False  # cancel at once what runs

    @classmethod
    def of_stop(cls, config: Config, *, delay_s: float = 0.0) -> Manner:
        """The server ends."""
        times = (config.timeout_graceful_shutdown, config.timeout_disconnect_grace)
        bound_s = drain_bound_s(config)
        return cls(delay_s, 0.0, *times, None if bound_s is None else bound_s + delay_s)

    @classmethod
    def of_abort(cls, config: Config) -> Manner:
        """The server ends, and no request is waited for. The application's shutdown is."""
        return cls(0.0, 0.0, 0.0, 0.0, abort_bound_s(config), is_forced=True)

    @classmethod
    def of_replacement(cls, config: Config) -> Manner:
        """Another worker has taken its place: there is time for idle connections."""
        times = (config.timeout_graceful_shutdown, config.timeout_disconnect_grace)
        return cls(0.0, LINGER_S, *times, drain_bound_s(config))

    @classmethod
    def of_reload(cls) -> Manner:
        """Files have changed: nothing is waited for."""
        return cls(0.0, 0.0, 0.0, RELOAD_GRACE_S, RELOAD_BOUND_S)


def drain_bound_s(config: Config) -> float | None:
    """How long a worker may take to end once its drain begins; None is without end."""
    return _total_s(config.timeout_graceful_shutdown, config.timeout_disconnect_grace, abort_bound_s(config))


def abort_bound_s(config: Config) -> float | None:
    """The same where nothing is waited for."""
    return _total_s(CANCEL_GRACE_S, config.timeout_lifespan_shutdown, SLACK_S)


def _total_s(*parts: float | None) -> float | None:
    known = [part for part in parts if part is not None]
    return sum(known) if len(known) == len(parts) else None
