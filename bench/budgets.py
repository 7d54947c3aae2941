"""The instruction budget of each scenario: a change that makes a request dearer is named, with the function that grew.

    python bench/budgets.py                           count all scenarios, compare with bench/budgets.json
    python bench/budgets.py --scenarios plain,echo    some of them
    python bench/budgets.py --record                  keep what was counted as the new budgets

Counted by callgrind in process (`callgrind.py`). How many instructions the interpreter itself takes depends on how it
was built, so budgets are kept for each build that they were counted on, and say nothing on others. More than
TOLERANCE above its budget fails; as much below asks for a new budget, so that what was won is kept.
"""

import argparse
import json
import platform
import sys
import sysconfig
import tempfile
from dataclasses import dataclass
from pathlib import Path

import callgrind

FILE = Path(__file__).resolve().parent / "budgets.json"
SCENARIOS = ("plain", "json", "headers", "echo", "websocket")
TOLERANCE = 0.02
REQUESTS = 500
FUNCTIONS = 150  # kept by name; what costs less than ten instructions a request is left out
NAMED = 5  # functions that a failure names


@dataclass(frozen=True)
class Count:
    """Instructions of one request, in all and by function."""

    total: int
    functions: dict[str, int]


def build_name() -> str:
    """Return what instructions depend on besides our code: version, compiler and options of the interpreter."""
    words = (sysconfig.get_config_var("CONFIG_ARGS") or "").replace("'", "").split()
    options = " ".join(sorted(word for word in words if word.startswith("--") and "=" not in word))
    return f"CPython {platform.python_version()}, {platform.python_compiler()}, {platform.machine()}, {options}"


def load() -> dict[str, dict[str, Count]]:
    """Return all budgets, by build and scenario."""
    if not FILE.exists():
        return {}
    return {
        build: {name: Count(**count) for name, count in scenarios.items()}
        for build, scenarios in json.loads(FILE.read_text()).items()
    }


def measure(scenario: str, python: Path = Path(sys.executable)) -> Count:
    """Count one scenario; raises callgrind.CannotCount."""
    with tempfile.TemporaryDirectory(prefix="fastasgi-bench-") as scratch:
        total = callgrind.instructions_per_request(python, scenario=scenario, requests=REQUESTS, folder=Path(scratch))
        costs = callgrind.profile(Path(scratch), REQUESTS, FUNCTIONS)
    return Count(round(total), {name: round(cost) for cost, name in costs if cost >= 10})


def judge(scenario: str, found: Count, budget: Count) -> str | None:
    """Return what is wrong in one paragraph, None when the scenario is within its budget."""
    change = found.total / budget.total - 1
    if abs(change) <= TOLERANCE:
        return None
    grown = {name: cost - budget.functions.get(name, 0) for name, cost in found.functions.items()}
    grown |= {name: -cost for name, cost in budget.functions.items() if name not in found.functions}
    first = sorted(grown, key=lambda name: grown[name], reverse=change > 0)[:NAMED]
    lines = [f"    {grown[name]:+7,} {name}" for name in first if grown[name]]
    advice = "find out why" if change > 0 else "keep it: python bench/budgets.py --record"
    return "\n".join(
        [f"{scenario}: {found.total:,} instructions, the budget is {budget.total:,} ({change:+.1%}); {advice}", *lines]
    )


def record(found: dict[str, Count]) -> None:
    """Keep these as the budgets of this build; other builds' and scenarios' stay."""
    kept = load()
    kept[build_name()] = {**kept.get(build_name(), {}), **found}
    data = {
        build: {name: {"total": count.total, "functions": count.functions} for name, count in scenarios.items()}
        for build, scenarios in kept.items()
    }
    FILE.write_text(json.dumps(data, indent=1) + "\n")


def main(arguments: list[str] | None = None) -> None:
    """Count, print, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenarios", default=",".join(SCENARIOS))
    parser.add_argument("--record", action="store_true")
    options = parser.parse_args(arguments)
    budgets = load().get(build_name(), {})
    found: dict[str, Count] = {}
    faults = []
    for scenario in options.scenarios.split(","):
        try:
            found[scenario] = measure(scenario)
        except callgrind.CannotCount as error:
            sys.exit(f"budgets: {error}")
        budget = budgets.get(scenario)
        print(f"{scenario:12s} {found[scenario].total:8,}  budget {budget.total if budget else 0:8,}")
        if budget and (fault := judge(scenario, found[scenario], budget)):
            faults.append(fault)
    if options.record:
        record(found)
    elif faults:
        sys.exit("\n".join(faults))


if __name__ == "__main__":
    main()
