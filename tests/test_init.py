"""The package itself: its names, its version, and what importing it costs."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import fastasgi

ROOT = Path(__file__).resolve().parents[1]


def test_public_names() -> None:
    from fastasgi import cli, config, launch, worker

    assert fastasgi.run is launch.run
    assert fastasgi.Config is config.Config
    assert fastasgi.Server is worker.Server
    assert fastasgi.main is cli.main
    assert set(fastasgi.__all__) <= set(dir(fastasgi))


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'fastasgi' has no attribute 'Sever'"):
        fastasgi.Sever  # noqa: B018


def test_version_is_that_of_the_build() -> None:
    with open(ROOT / "pyproject.toml", "rb") as file:
        attribute = tomllib.load(file)["tool"]["setuptools"]["dynamic"]["version"]["attr"]
    assert attribute == "fastasgi.version.__version__"
    assert fastasgi.__version__ == fastasgi.version.__version__


def fresh(code: str) -> str:
    command = [sys.executable, "-c", code]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()


def test_modules_are_reached_through_the_package() -> None:
    code = "import fastasgi; print(fastasgi.config.LOGGING_CONFIG['version'], fastasgi.logging.TRACE)"
    assert fresh(code) == "1 5"


def test_import_is_cheap() -> None:
    """Only the command line needs click, only a server the event loop; a count does not depend on the
    machine."""
    loaded = "import sys; before = set(sys.modules); {}; print(' '.join(set(sys.modules) - before))"
    assert not {"asyncio", "click", "uvloop", "logging"} & set(
        fresh(loaded.format("import fastasgi")).split()
    )
    heavy = {"click", "uvloop", "http.client", "email", "yaml", "dotenv", "multiprocessing"}
    assert not heavy & set(fresh(loaded.format("from fastasgi import Config")).split())
