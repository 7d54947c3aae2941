"""The fuzz targets: each for a moment with a fixed seed; with FASTASGI_FUZZ set for that many seconds, seeds drawn.

`make fuzz` sets it (1 stands for a minute each).
"""

import os
import random

import pytest
from fuzz import fuzz_request

ASKED_S = float(os.environ.get("FASTASGI_FUZZ") or 0)
LONG_S = 60.0 if ASKED_S == 1 else ASKED_S
SHORT_S = 1.5
TARGETS = {"request": fuzz_request.run}


@pytest.mark.fuzz
@pytest.mark.time_limit(LONG_S + 60)
@pytest.mark.pins("head.cut-anywhere", "head.error-answered")
@pytest.mark.parametrize("name", TARGETS)
def test_fuzz(name):
    """Any bytes hold the invariant of the target's first line."""
    seed = random.SystemRandom().randrange(1 << 32) if ASKED_S else 20260101
    print(f"{name}: seed {seed}")
    tried = TARGETS[name](LONG_S or SHORT_S, seed)
    print(f"{name}: {tried} inputs")
