"""The instruction budget of a plain GET: what a change to the engine costs, whatever the machine is doing.

Counted by callgrind in process, from `feed` to the bytes of the answer (`bench/callgrind.py`); repeatable to a
fraction of a percent, so the budget is a number and not a ratio. Only for the version and the kind of build that
it was set for.
"""

import importlib.util
import os
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).resolve().parent.parent / "bench"
sys.path.insert(0, str(BENCH))

import callgrind  # noqa: E402

# For a CPython 3.13 that was built without profile-guided optimization and with a shared library, where uvicorn's
# httptools protocol takes 164,200; a better build of the interpreter takes less of both.
BUDGETS = {(3, 13): 22_000}
REQUESTS = 1000
OTHER_BUILDS = ("FASTASGI_DEBUG", "FASTASGI_SANITIZE", "FASTASGI_COVERAGE")


def why_not():
    """Why the budget says nothing here, None when it holds."""
    if reason := callgrind.why_not():
        return reason
    if sys.version_info[:2] not in BUDGETS:
        return f"the budget is set for CPython {', '.join('.'.join(map(str, v)) for v in BUDGETS)}"
    if other := [name for name in OTHER_BUILDS if os.environ.get(name, "0") not in ("", "0")]:
        return f"{other[0]} is set: not the build that users run"
    if importlib.util.find_spec("uvloop") is None:
        return "uvloop is not installed"
    return None


@pytest.mark.time_limit(300)
def test_plain_get_stays_within_its_instructions():
    if reason := why_not():
        pytest.skip(reason)
    figure = callgrind.instructions_per_request(Path(sys.executable), requests=REQUESTS)
    budget = BUDGETS[sys.version_info[:2]]
    print(f"plain GET: {figure:,.0f} instructions, the budget is {budget:,}")
    assert figure <= budget, f"a plain GET takes {figure:,.0f} instructions, the budget is {budget:,}"
