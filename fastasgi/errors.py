"""The errors of the server, sorted by whose fault they are, and the exit codes of the process.

Three kinds are never mixed: the peer's (`RemoteProtocolError`), the application's (`ApplicationError`) and
ours (a plain `AssertionError`). `ConfigError` and `StartupError` speak to the person who started the server:
each carries one sentence that says what was expected, what came, and what to do about it.
"""

from __future__ import annotations

import enum

EXIT_OK = 0
"""The server stopped because it was asked to, and everything was handed over."""

EXIT_CRASH = 1
"""The server ended by an error of its own or of the event loop."""

EXIT_USAGE = 2
"""The command line, an environment variable or the configuration file holds something that cannot be
meant."""

EXIT_STARTUP = 3
"""The server could not start: no application, no socket, or the lifespan startup failed."""


class FastasgiError(Exception):
    """The root of everything this package raises on purpose."""


class RemoteProtocolError(FastasgiError):
    """The peer sent something that HTTP forbids or that exceeds a limit.

    `status` is the HTTP status that answers it (400 to 599), `code` a short constant name for logs and tests,
    such as `"bad-content-length"`.
    """

    def __init__(self, message: str, status: int = 400, code: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class ApplicationError(FastasgiError, RuntimeError):
    """The application broke the ASGI contract: the message says what was expected and what came."""


class ClientDisconnected(FastasgiError, OSError):
    """`send()` after the client has gone (ASGI 2.4). Never logged as an error of the application."""


class ConfigError(FastasgiError, ValueError):
    """An option has a value that cannot be meant.

    `option` is the name of the field at fault (`"port"`), or None when the fault is not in one option. Faces
    end the process with `EXIT_USAGE`.
    """

    exit_code = EXIT_USAGE

    def __init__(self, message: str, option: str | None = None) -> None:
        super().__init__(message)
        self.option = option


class StartupError(FastasgiError):
    """The server cannot start.

    `str(error)` is one sentence for the last line of the output; `details` is what is shown before it, such
    as the shortened traceback of the user's module, and is empty when the sentence says everything. Faces end
    the process with `exit_code`.
    """

    def __init__(self, message: str, exit_code: int = EXIT_STARTUP, details: str = "") -> None:
        super().__init__(message)
        self.exit_code = exit_code
        self.details = details


class Departure(enum.Enum):
    """What an application's error has to do with its client's having gone; see `departure_of`."""

    TOLD = enum.auto()
    """It is the `ClientDisconnected` that `send()` raised, or was raised from it (`raise ... from`)."""

    NAMED = enum.auto()
    """It is a framework's own class for a client that has gone, such as `starlette.requests.ClientDisconnect`."""

    MEANWHILE = enum.auto()
    """It was raised while one of these was handled. It may be a wrapper, or a mistake in the clean-up."""


DEPARTURE_NAMES = frozenset(
    {
        *("ClientDisconnect", "ClientDisconnected", "ClientDisconnectedError", "RequestAborted"),
        *("WebSocketDisconnect", "WebSocketDisconnected"),
    }
)
"""Names of classes by which frameworks tell that a client has gone."""


def departure_of(error: BaseException | None, seen: frozenset[int] = frozenset()) -> Departure | None:
    """How an error came of a client's having gone; None when it did not, as far as can be seen.

    To be asked only when the client has gone. What is raised from a departure (`from error`) is one too, and a group
    is one when all in it are. What is raised *while* a departure is handled is told apart, because a mistake in the
    handler looks the same; with `from None` it is an error of its own.
    """
    if error is None or id(error) in seen:  # causes can form a ring
        return None
    seen |= {id(error)}
    if isinstance(error, ClientDisconnected):
        return Departure.TOLD
    if any(kind.__name__ in DEPARTURE_NAMES for kind in type(error).__mro__):
        return Departure.NAMED
    if isinstance(error, BaseExceptionGroup):
        found = [departure_of(each, seen) for each in error.exceptions]
        kinds = [kind for kind in found if kind is not None]
        return max(kinds, key=lambda kind: kind.value) if len(kinds) == len(found) else None
    if error.__cause__ is not None:
        return departure_of(error.__cause__, seen)
    if not error.__suppress_context__ and departure_of(error.__context__, seen) is not None:
        return Departure.MEANWHILE
    return None


def place_of(error: BaseException) -> str:
    """Where an error was raised, as `file.py:12`; "" when it has no traceback."""
    traceback = error.__traceback__
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    if traceback is None:
        return ""
    return f"{traceback.tb_frame.f_code.co_filename}:{traceback.tb_lineno}"
