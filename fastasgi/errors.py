"""The errors of the server, sorted by whose fault they are, and the exit codes of the process.

Three kinds are never mixed: the peer's (`RemoteProtocolError`), the application's (`ApplicationError`) and
ours (a plain `AssertionError`). `ConfigError` and `StartupError` speak to the person who started the server:
each carries one sentence that says what was expected, what came, and what to do about it.
"""

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


def is_departure(error: BaseException | None, seen: set[int] | None = None) -> bool:
    """Whether an error is nothing but the `ClientDisconnected` that `send()` raised, or what a framework made of it: an
    error raised from it, or a group that holds only such."""
    seen = set() if seen is None else seen
    while error is not None and id(error) not in seen:  # causes can form a ring
        seen.add(id(error))
        if isinstance(error, ClientDisconnected):
            return True
        nested = getattr(error, "exceptions", None)
        if isinstance(nested, tuple) and nested:
            return all(is_departure(each, seen) for each in nested)
        error = error.__cause__ or error.__context__
    return False
