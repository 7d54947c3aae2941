"""The helper that runs whole servers: none of them outlives its test, whenever the alarm strikes."""

import signal
import subprocess

import pytest
from process import running


def test_alarm_while_a_server_is_started(monkeypatch):
    """The child runs, and nobody has been told of it yet: the alarm comes a moment later."""
    real, children = subprocess.Popen, []

    def start(*args, **kwargs):
        children.append(real(*args, **kwargs))
        signal.raise_signal(signal.SIGALRM)
        return children[0]

    monkeypatch.setattr(subprocess, "Popen", start)
    with pytest.raises(BaseException, match="longer than its time limit"), running("main"):
        raise ValueError("the alarm is not lost")
    assert children[0].returncode == -signal.SIGKILL
