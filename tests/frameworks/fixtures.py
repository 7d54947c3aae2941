"""Fixtures of `tests/test_frameworks_*.py`, a plugin of pytest: sites that serve a whole session of tests.

`visit` runs a test on every framework, on both channels and both loops; a site logs nothing that a test
does not expect.
"""

import contextlib
import signal
import ssl
import sys

import httpx
import pytest

from .serving import PATIENCE_S, WITHOUT_LIFESPAN, Site, Visit

FRAMEWORKS = ["starlette", "fastapi", "django", "quart"]
# The two ways to run it that differ most, for all; the other two for one.
ON = ["socket-uvloop", "transport-asyncio"] if sys.platform == "linux" else ["transport-asyncio"]
MORE = ["socket-asyncio", "transport-uvloop"] if sys.platform == "linux" else []
# Each of these on one of them, in turns: they differ in the framework alone.
ONCE = list(zip(["litestar", "falcon", "blacksheep", "channels"], ON * 4, strict=False))
ALL = [*((framework, on) for framework in FRAMEWORKS for on in ON), *(("starlette", on) for on in MORE), *ONCE]

NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # else each client reads all certificates first
SHUTDOWN = ["Shutting down", "Waiting for application shutdown.", "Application shutdown complete."]


@contextlib.contextmanager
def running(framework, *argv, signal_number=signal.SIGINT, **how):
    """A site; what it says at start and end is checked."""
    site = Site(framework, *argv, **how)
    try:
        has_lifespan = framework not in WITHOUT_LIFESPAN
        starting = [line for line in site.err.all[: site.started_with] if not line.startswith("event: ")]
        assert len(starting) == (5 if has_lifespan else 6), starting
        assert ("unsupported" in starting[2]) is not has_lifespan, starting
        yield site
        ending = [line for line in site.stop(signal_number) if not line.startswith("event: ")]
        expected = SHUTDOWN if has_lifespan else SHUTDOWN[:1]
        assert [line.partition(":")[2].strip() for line in ending[:-1]] == expected, ending
        assert "Finished server process" in ending[-1]
        assert "event: shutdown" in site.err.all or not has_lifespan
    finally:
        site.kill()


@pytest.fixture(scope="session")
def site(request):
    """The site of `@pytest.mark.parametrize("site", ..., indirect=True)`: (framework, "io-loop")."""
    framework, on = request.param
    io, _, loop = on.partition("-")
    with running(framework, io=io, loop=loop) as running_site:
        yield running_site


def pytest_generate_tests(metafunc):
    """Tests that use `site` run on all of them, or on those that `FRAMEWORK` or `SITES` of the module names."""
    if "site" not in metafunc.fixturenames:
        return
    only = getattr(metafunc.module, "FRAMEWORK", None)
    sites = getattr(metafunc.module, "SITES", None) or [one for one in ALL if only in (None, one[0])]
    lacking = getattr(metafunc.function, "lacking", ())
    sites = [one for one in sites if one[0] not in lacking]
    metafunc.parametrize("site", sites, ids=["-".join(one) for one in sites], indirect=True, scope="session")


@pytest.fixture
def visit(site):
    """One test's view; nothing may have been logged that the test did not ask for."""
    view = Visit(site)
    yield view
    said = view.said()
    assert not said, f"unexpected lines:\n{said}"


def client_options(visit):
    """Of an httpx client for this site."""
    return {"base_url": visit.url, "timeout": PATIENCE_S, "trust_env": False, "verify": NO_TLS}


@pytest.fixture
def options(visit):
    return client_options(visit)


@pytest.fixture
def client(visit):
    """An httpx client with a pool of connections."""
    with httpx.Client(**client_options(visit)) as session:
        yield session
