"""pytest_plugin: `live_server` as users write it, in a pytest of its own."""

import importlib.metadata
import tomllib
from pathlib import Path

import pytest

from fastasgi import pytest_plugin

pytest_plugins = ["pytester"]

ROOT = Path(__file__).resolve().parents[1]
# Installed, the plugin is there by itself, under this name.
INSTALLED = any(one.name == "fastasgi" for one in importlib.metadata.entry_points(group="pytest11"))
PLUGIN = [] if INSTALLED else ["-p", "fastasgi.pytest_plugin"]

APP = """
def saying(text):
    async def app(scope, receive, send):
        if scope["type"] == "lifespan":
            assert (await receive())["type"] == "lifespan.startup"
            print("app starts")
            await send({"type": "lifespan.startup.complete"})
            await receive()
            print("app ends")
            await send({"type": "lifespan.shutdown.complete"})
            return
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": text.encode()})

    return app

app = saying("of the configuration")
"""
GET = """
from urllib.request import urlopen

def get(server):
    with urlopen(server.url, timeout=10) as answer:
        return answer.read().decode()
"""


@pytest.fixture
def run(pytester, monkeypatch):
    """Run these tests, which find `main` and `get`."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    pytester.makepyfile(main=APP, get=GET)

    def call(test, *argv, how=pytester.runpytest_inprocess):
        pytester.makepyfile(test_it="import pytest\nfrom get import get\nfrom main import app, saying\n" + test)
        return how("-q", "--strict-markers", "-p", "no:cacheprovider", *PLUGIN, *argv)

    return call


def test_the_plugin_is_declared():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["entry-points"]["pytest11"] == {"fastasgi": pytest_plugin.__name__}


def test_what_is_served(run, pytester):
    """The mark before the fixture before the configuration; the closest mark before all."""
    pytester.makeini("[pytest]\nfastasgi_app = main:app\n")
    result = run(
        """
def test_configured(live_server):
    assert get(live_server) == "of the configuration"

@pytest.mark.fastasgi(app="main:app")
def test_named(live_server):
    assert get(live_server) == "of the configuration"

@pytest.mark.fastasgi(app=saying("of the class"), limit_concurrency=3)
class TestClass:
    def test_class(self, live_server):
        assert get(live_server) == "of the class"
        assert live_server.config.limit_concurrency == 3

    @pytest.mark.fastasgi(app=saying("of the test"))
    def test_mark(self, live_server):
        assert get(live_server) == "of the test"
        assert live_server.config.limit_concurrency == 3

    @pytest.mark.fastasgi(limit_concurrency=5)
    def test_option(self, live_server):
        assert get(live_server) == "of the class"
        assert live_server.config.limit_concurrency == 5

class TestFixtures:
    @pytest.fixture
    def live_server_app(self):
        return saying("of the fixture")

    @pytest.fixture
    def live_server_options(self):
        return {"root_path": "/api"}

    def test_fixtures(self, live_server):
        assert get(live_server) == "of the fixture"
        assert live_server.config.root_path == "/api"

    @pytest.mark.fastasgi(root_path="/other")
    def test_both(self, live_server):
        assert live_server.config.root_path == "/other"
"""
    )
    result.assert_outcomes(passed=7)


def test_it_starts_and_ends_with_the_test(run):
    """In a thread of its own, also for tests that run in a loop."""
    result = run(
        """
import asyncio, threading

@pytest.mark.fastasgi(app=app)
def test_one(live_server):
    assert live_server.started
    print("test runs")
    async def ask():
        return await asyncio.to_thread(get, live_server)
    assert asyncio.run(ask()) == "of the configuration"

def test_two():
    assert "fastasgi-server" not in [thread.name for thread in threading.enumerate()]
""",
        "-s",
    )
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["*app starts", "*test runs", "*app ends"], consecutive=True)


def test_nothing_to_serve(run):
    result = run("def test_it(live_server):\n    pass\n")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*live_server has no application to serve; override the fixture live_server_app*"])


def test_what_cannot_start_is_the_error_of_the_test(run):
    result = run('@pytest.mark.fastasgi(app="no_such_module:app")\ndef test_it(live_server):\n    pass\n')
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*StartupError*no_such_module*"])


def test_mark_without_a_name(run):
    """With nothing but a function it would mark that one: it asks for `app=` in any case."""
    result = run('@pytest.mark.fastasgi("main:app")\ndef test_it(live_server):\n    pass\n')
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*expected @pytest.mark.fastasgi(app=...), got 'main:app' without app=*"])


def test_it_costs_nothing_where_it_is_not_used(run, pytester):
    """Every pytest of the environment imports it."""
    result = run(
        """
import sys

def test_it():
    assert "fastasgi.pytest_plugin" in sys.modules
    assert not {"fastasgi.worker", "fastasgi.config", "uvloop", "click"} & set(sys.modules)
""",
        how=pytester.runpytest_subprocess,
    )
    result.assert_outcomes(passed=1)
