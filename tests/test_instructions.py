"""The instruction budgets of `bench/budgets.json`: what a change to the engine costs, whatever the machine is doing.

Counted by callgrind in process, from `feed` to the bytes of the answer; repeatable to a fraction of a percent, so a
budget is a number and not a ratio. They hold for the builds of CPython that they were counted on.
"""

import importlib.util
import os
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).resolve().parent.parent / "bench"
sys.path.insert(0, str(BENCH))

import budgets  # noqa: E402
import callgrind  # noqa: E402

OTHER_BUILDS = ("FASTASGI_DEBUG", "FASTASGI_SANITIZE", "FASTASGI_COVERAGE")
BUDGET = budgets.Count(1000, {"parse": 600, "encode": 400})


def why_not():
    """Why the budgets say nothing here, None when they hold."""
    if reason := callgrind.why_not():
        return reason
    if budgets.build_name() not in budgets.load():
        return f"no budgets were counted for {budgets.build_name()}"
    if other := [name for name in OTHER_BUILDS if os.environ.get(name, "0") not in ("", "0")]:
        return f"{other[0]} is set: not the build that users run"
    if importlib.util.find_spec("uvloop") is None:
        return "uvloop is not installed"
    return None


@pytest.mark.time_limit(300)
@pytest.mark.parametrize("scenario", budgets.SCENARIOS)
def test_a_request_stays_within_its_instructions(scenario):
    if reason := why_not():
        pytest.skip(reason)
    budget = budgets.load()[budgets.build_name()].get(scenario)
    if budget is None:
        pytest.skip(f"no budget of {scenario} was counted for {budgets.build_name()}")
    fault = budgets.judge(scenario, budgets.measure(scenario), budget)
    assert fault is None, fault


def test_what_is_within_two_percent_passes():
    assert budgets.judge("plain", budgets.Count(1019, {"parse": 619, "encode": 400}), BUDGET) is None
    assert budgets.judge("plain", budgets.Count(981, {"parse": 581, "encode": 400}), BUDGET) is None


def test_what_grows_is_named_with_the_function_that_grew():
    fault = budgets.judge("plain", budgets.Count(1100, {"parse": 610, "encode": 400, "log": 90}), BUDGET)
    first, *functions = fault.splitlines()
    assert first.startswith("plain: 1,100 instructions, the budget is 1,000 (+10.0%)")
    assert [line.split() for line in functions] == [["+90", "log"], ["+10", "parse"]]


def test_what_was_won_asks_for_a_new_budget():
    fault = budgets.judge("plain", budgets.Count(600, {"parse": 600}), BUDGET)
    assert "--record" in fault
    assert "-400 encode" in fault


def test_recording_keeps_other_builds_and_scenarios(tmp_path, monkeypatch):
    monkeypatch.setattr(budgets, "FILE", tmp_path / "budgets.json")
    monkeypatch.setattr(budgets, "build_name", lambda: "one")
    budgets.record({"plain": BUDGET, "echo": BUDGET})
    monkeypatch.setattr(budgets, "build_name", lambda: "other")
    budgets.record({"plain": BUDGET})
    monkeypatch.setattr(budgets, "build_name", lambda: "one")
    budgets.record({"plain": budgets.Count(900, {})})
    kept = budgets.load()
    assert kept["other"]["plain"] == BUDGET
    assert kept["one"]["echo"] == BUDGET
    assert kept["one"]["plain"].total == 900
