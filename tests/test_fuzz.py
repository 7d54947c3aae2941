"""The fuzz targets, each for a moment and with a fixed seed; `make fuzz` runs them long."""

import pytest
from fuzz import fuzz_frames, fuzz_http1, fuzz_request

SECONDS = 1.5
SEED = 20260101
TARGETS = {"request": fuzz_request.run, "http1": fuzz_http1.run, "frames": fuzz_frames.run}


@pytest.mark.pins("head.cut-anywhere", "head.error-answered")
@pytest.mark.parametrize("name", TARGETS)
def test_fuzz(name):
    """Any bytes hold the invariant of the target's first line."""
    assert TARGETS[name](SECONDS, SEED)
