"""loops: uvloop where it is installed, a sentence where it is asked for and missing."""

import asyncio
import sys

import pytest

from fastasgi.errors import StartupError
from fastasgi.loops import loop_factory, run_bounded

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


@pytest.mark.pins("process.lifespan-shutdown", "process.exit-codes")
@pytest.mark.parametrize("exits_after_turns", [(0,), (0, 0), (0, 1), (0, 3), (3, 0), (8,)], ids=str)
@pytest.mark.parametrize("name", ["auto", "asyncio"])
def test_who_exits_does_not_keep_the_main_task_from_its_end(
    name: str, exits_after_turns: tuple[int, ...]
) -> None:
    """However many do, and whenever: also while it ends, on its own or for one before. The first gives the code."""
    done: list[str] = []
    exited: list[int] = []
    stopped: list[asyncio.Event] = []

    async def exit_after(turns: int, code: int) -> None:
        for _ in range(turns):
            await asyncio.sleep(0)
        exited.append(code)
        raise SystemExit(code)

    async def main() -> None:
        stopped.append(asyncio.Event())
        for at, turns in enumerate(exits_after_turns):
            tasks.append(asyncio.ensure_future(exit_after(turns, 7 + at)))
        if exits_after_turns[0] == 8:
            stopped[0].set()
        await stopped[0].wait()
        for _ in range(20):
            await asyncio.sleep(0)
        done.append("in order")

    def stop() -> None:
        stopped[0].set()

    tasks: list[asyncio.Future[None]] = []
    with pytest.raises(SystemExit) as raised:
        run_bounded(main(), loop_factory(name), stop)
    assert done == ["in order"]
    assert len(exited) == len(exits_after_turns)
    of_one_turn = 2 if exits_after_turns == (0, 0) else 1  # uvloop tells of the last
    assert raised.value.code in exited[:of_one_turn]
