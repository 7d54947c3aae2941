"""errors: whose fault it is decides the type; standard handlers catch what they expect."""

from collections.abc import Callable

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


# --- departures ---------------------------------------------------------------------------------------------------


class ClientDisconnect(Exception):
    """As starlette names its own."""


class Wrapped(ClientDisconnect):
    pass


TOLD, NAMED, MEANWHILE = errors.Departure.TOLD, errors.Departure.NAMED, errors.Departure.MEANWHILE


def raised(function: Callable[[], None]) -> Exception:
    try:
        function()
    except Exception as error:
        return error
    raise AssertionError("expected an error")


def from_gone() -> None:
    try:
        raise errors.ClientDisconnected("gone")
    except OSError as error:
        raise LookupError("no answer") from error


def while_gone() -> None:
    try:
        raise errors.ClientDisconnected("gone")
    except OSError:
        raise LookupError("a mistake in the clean-up")  # noqa: B904


def while_named() -> None:
    try:
        raise ClientDisconnect
    except Exception:
        raise LookupError("a mistake in the clean-up")  # noqa: B904


def from_none() -> None:
    try:
        raise errors.ClientDisconnected("gone")
    except OSError:
        raise LookupError("an error of its own") from None


def named_while_gone() -> None:
    try:
        raise errors.ClientDisconnected("gone")
    except OSError:
        raise ClientDisconnect  # noqa: B904


def cause_beats_context() -> None:
    try:
        raise errors.ClientDisconnected("gone")
    except OSError:
        raise LookupError from KeyError("another")


@pytest.mark.parametrize(
    ("error", "departure"),
    [
        (errors.ClientDisconnected("gone"), TOLD),
        (raised(from_gone), TOLD),
        (ClientDisconnect(), NAMED),
        (Wrapped(), NAMED),
        (raised(named_while_gone), NAMED),
        (raised(while_gone), MEANWHILE),
        (raised(while_named), MEANWHILE),
        (raised(from_none), None),
        (raised(cause_beats_context), None),
        (LookupError(), None),
        (OSError(32, "Broken pipe"), None),
        (None, None),
        (ExceptionGroup("x", [errors.ClientDisconnected("a"), errors.ClientDisconnected("b")]), TOLD),
        (ExceptionGroup("x", [errors.ClientDisconnected("a"), ClientDisconnect()]), NAMED),
        (ExceptionGroup("x", [ExceptionGroup("y", [raised(while_gone)]), ClientDisconnect()]), MEANWHILE),
        (ExceptionGroup("x", [errors.ClientDisconnected("a"), LookupError("bug")]), None),
    ],
)
def test_departures(error: Exception | None, departure: errors.Departure | None) -> None:
    assert errors.departure_of(error) is departure


def test_a_ring_of_causes_ends() -> None:
    first, second = LookupError(), LookupError()
    first.__cause__, second.__cause__ = second, first
    assert errors.departure_of(first) is None


def test_the_place_of_an_error() -> None:
    assert errors.place_of(LookupError()) == ""
    path, _, line = errors.place_of(raised(from_none)).rpartition(":")
    assert path == __file__
    assert int(line) > 0
