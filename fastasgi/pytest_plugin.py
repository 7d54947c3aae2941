"""A plugin of pytest: the fixture `live_server`, a real server for the length of one test.

Installing fastasgi brings it. What it serves, the first of these that there is:

    @pytest.mark.fastasgi(app=app, limit_concurrency=5)     on the test, its class or module
    def live_server_app(): return app                       a fixture of yours, in conftest.py for instance
    fastasgi_app = main:app                                 in pytest's configuration file

Options of the server come from the mark, or from a fixture `live_server_options` that returns a dictionary.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest

import fastasgi

MARK = "fastasgi"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare `fastasgi_app`."""
    parser.addini("fastasgi_app", "the application that live_server serves: module:attribute", default="")


def pytest_configure(config: pytest.Config) -> None:
    """Declare the mark."""
    config.addinivalue_line(
        "markers", f"{MARK}(app=app, **options): what live_server serves, and options of the server"
    )


@pytest.fixture
def live_server_app(request: pytest.FixtureRequest) -> Any:
    """The application that `live_server` serves; override it in conftest.py."""
    named = request.config.getini("fastasgi_app")
    if not named:
        raise pytest.UsageError(
            "live_server has no application to serve; override the fixture live_server_app, mark the test with "
            f"@pytest.mark.{MARK}(app=app), or set fastasgi_app = module:attribute in pytest's configuration"
        )
    return named


@pytest.fixture
def live_server_options() -> Mapping[str, Any]:
    """Options of the server, those of `fastasgi.Config`; override it in conftest.py."""
    return {}


@pytest.fixture
def live_server(
    request: pytest.FixtureRequest, live_server_options: Mapping[str, Any]
) -> Iterator[fastasgi.Server]:
    """A server that accepts connections at `live_server.url`, in a thread of its own; it ends with the test."""
    options: dict[str, Any] = {"port": 0, "app_dir": request.config.rootpath, **live_server_options}
    for mark in reversed(list(request.node.iter_markers(MARK))):  # the closest comes last, and wins
        if mark.args:  # and a mark with nothing but a function would mark that function
            raise pytest.UsageError(f"expected @pytest.mark.{MARK}(app=...), got {mark.args[0]!r} without app=")
        options.update(mark.kwargs)
    app = options.pop("app", None)
    if app is None:
        app = request.getfixturevalue("live_server_app")
    with fastasgi.serve_in_thread(app, **options) as server:
        yield server
