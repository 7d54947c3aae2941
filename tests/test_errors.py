"""errors: whose fault it is decides the type; standard handlers catch what they expect."""

import pytest

from fastasgi import errors


def test_remote_protocol_error_carries_status_and_code() -> None:
    error = errors.RemoteProtocolError("two lengths", 400, "bad-length")
    assert (str(error), error.status, error.code) == ("two lengths", 400, "bad-length")


@pytest.mark.parametrize(
    ("error", "bases"),
    [
        (errors.ApplicationError("x"), (errors.FastasgiError, RuntimeError)),
        (errors.ClientDisconnected("x"), (errors.FastasgiError, OSError)),
        (errors.ConfigError("x"), (errors.FastasgiError, ValueError)),
        (errors.StartupError("x"), (errors.FastasgiError,)),
    ],
)
def test_errors_are_caught_as_what_they_are(error: Exception, bases: tuple[type, ...]) -> None:
    assert all(isinstance(error, base) for base in bases)
    assert str(error) == "x"


def test_client_disconnected_needs_no_errno() -> None:
    assert errors.ClientDisconnected("client has gone").errno is None


def test_startup_error_ends_with_three_and_keeps_details_apart() -> None:
    error = errors.StartupError("no module", details="Traceback ...")
    assert (error.exit_code, error.details, str(error)) == (3, "Traceback ...", "no module")


def test_config_error_names_its_option() -> None:
    error = errors.ConfigError("port: expected a number", "port")
    assert (error.option, error.exit_code) == ("port", 2)


def test_exit_codes_are_those_of_the_manual() -> None:
    assert (errors.EXIT_OK, errors.EXIT_CRASH, errors.EXIT_USAGE, errors.EXIT_STARTUP) == (0, 1, 2, 3)
