"""Autobahn's suite, as far as it is quick: every section, of the two long ones the small messages. `make autobahn` runs
all 517 cases over both bodies, which takes ten minutes, most of them in the suite."""

import subprocess
import sys
from pathlib import Path

import pytest
from net import IOS

RUN = Path(__file__).parent / "autobahn" / "run.py"
# sections 1 to 7, 9 and 10 whole; of 12 and 13 each data set and each offer, with 16 and 64 bytes
CASES = "[1-79].*,10.*,12.*.[12],13.*.[12]"
COUNT = 325


@pytest.mark.slow
@pytest.mark.time_limit(120)
@pytest.mark.pins("websocket.autobahn")
@pytest.mark.parametrize("io", IOS)
def test_cases(io):
    command = [sys.executable, RUN, "--io", io, "--cases", CASES]
    done = subprocess.run(command, capture_output=True, text=True, timeout=110)
    assert done.returncode == 0, done.stdout + done.stderr
    print(done.stdout)
    assert f"io={io}: {COUNT} of {COUNT} cases ran" in done.stdout
    assert "NON-STRICT" not in done.stdout
