"""The scripts of `bench/`: they refuse wrong answers, and what they add up is right."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest

if not sys.platform.startswith("linux"):
    pytest.skip("the benchmarks are for Linux", allow_module_level=True)

BENCH = Path(__file__).resolve().parent.parent / "bench"
sys.path.insert(0, str(BENCH))

import common  # noqa: E402
import engine  # noqa: E402
import idle  # noqa: E402
import idle_app  # noqa: E402

from fastasgi.bench.machine import Memory  # noqa: E402
from fastasgi.bench.scenarios import PLAIN  # noqa: E402

# --- the engine in process --------------------------------------------------------------------------------------------


async def test_engine_rejects_a_wrong_answer():
    class Wrong:
        def feed(self, data):
            self.output = b"HTTP/1.1 500 Oops\r\n\r\n"

        def take_output(self):
            return self.output

    with pytest.raises(RuntimeError, match="expected 200"):
        engine.check(PLAIN, await engine.answer_one(Wrong(), PLAIN.request))


async def test_engine_does_not_wait_for_ever():
    class Silent:
        def feed(self, data):
            pass

        def take_output(self):
            return b""

    with pytest.raises(RuntimeError, match="turns of the loop"):
        await engine.answer_one(Silent(), PLAIN.request)


@pytest.mark.parametrize(
    "name", ["plain", "echo", "fastapi", pytest.param("websocket", marks=pytest.mark.leaves("tasks"))]
)
@pytest.mark.parametrize("kind", ["fastasgi", "alone"])
async def test_engine_gives_right_answers(kind, name):
    if kind == "alone" and (name == "websocket" or sys.version_info < (3, 12)):
        pytest.skip("the application alone speaks HTTP, and is started as CPython 3.12 and later can")
    await engine.run(kind, engine.work_of(name), 3)


async def test_engine_knows_a_wrong_frame():
    with pytest.raises(RuntimeError, match="in a frame"):
        engine.check_echo(b"\x81\x02no")


# --- idle connections, by allocator -----------------------------------------------------------------------------------


def test_growth_is_per_connection_and_unknown_stays_unknown():
    before = idle.Held(Memory(0, 0), 0, {"malloc": 1000, "pymalloc": None})
    after = replace(before, allocators={"malloc": 3000, "pymalloc": 5})
    assert idle.per_connection(before, after, 10, "malloc") == 200
    assert idle.per_connection(before, after, 10, "pymalloc") is None


def test_application_tells_what_its_allocators_hold():
    held = idle_app.pymalloc_bytes()
    assert held is None or held > 1000


# --- what they share --------------------------------------------------------------------------------------------------


def test_unknown_server_is_one_sentence():
    options = common.parser_of(None, "floor").parse_args(["--servers", "uvicron"])
    with pytest.raises(SystemExit, match="got 'uvicron'; did you mean 'uvicorn'"):
        common.kinds_of(options)


def test_table_is_markdown():
    assert common.markdown_table(["a", "b"], [["1", "2"]]) == "| a | b |\n| --- | ---: |\n| 1 | 2 |"
