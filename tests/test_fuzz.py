"""The fuzz targets, each for a moment and with a fixed seed; `make fuzz` runs them long."""

import pytest
from fuzz import fuzz_connections, fuzz_frames, fuzz_http1, fuzz_request
from fuzz.command import Shrinking

SECONDS = 1.5
SEED = 20260101
TARGETS = {
    "request": fuzz_request.run,
    "http1": fuzz_http1.run,
    "frames": fuzz_frames.run,
    "connections": fuzz_connections.run,
}


@pytest.mark.pins("head.cut-anywhere", "head.error-answered")
@pytest.mark.parametrize("name", TARGETS)
def test_fuzz(name):
    """Any bytes hold the invariant of the target's first line."""
    assert TARGETS[name](SECONDS, SEED)


def test_a_failing_input_is_made_as_small_as_fails():
    small = Shrinking(b"a lot of text, a < and much later a > too")
    for shorter in small.shorter():
        if b"<" in shorter and b">" in shorter:
            small.data = shorter
    assert small.data == b"<>"
