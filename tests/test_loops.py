"""loops: uvloop where it is installed, a sentence where it is asked for and missing."""

import asyncio
import sys

import pytest

from fastasgi.errors import StartupError
from fastasgi.loops import loop_factory

selector_only = pytest.mark.skipif(sys.platform == "win32", reason="the selector loop is not Windows' loop")


def made_up() -> asyncio.AbstractEventLoop:
    return asyncio.SelectorEventLoop()


def test_auto_prefers_uvloop() -> None:
    uvloop = pytest.importorskip("uvloop")
    assert loop_factory("auto") is uvloop.new_event_loop
    assert loop_factory("uvloop") is uvloop.new_event_loop


@selector_only
def test_auto_without_uvloop_is_asyncio(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uvloop", None)
    assert loop_factory("auto") is asyncio.SelectorEventLoop


def test_uvloop_that_is_missing_has_a_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uvloop", None)
    with pytest.raises(StartupError, match="uvloop is not installed; run 'pip install uvloop'") as raised:
        loop_factory("uvloop")
    assert raised.value.exit_code == 3


@selector_only
def test_asyncio() -> None:
    assert loop_factory("asyncio") is asyncio.SelectorEventLoop


def test_none_leaves_it_to_asyncio() -> None:
    assert loop_factory("none") is None


def test_import_string() -> None:
    assert loop_factory(f"{__name__}:made_up") is made_up


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("zzz_loops:make", "no module named 'zzz_loops'"),
        ("os:sep", "loop=os:sep is str; expected a function that returns an event loop"),
    ],
)
def test_import_string_that_is_wrong(name: str, text: str) -> None:
    with pytest.raises(StartupError, match=text):
        loop_factory(name)
