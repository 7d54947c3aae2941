"""draining: how long each step of an end may take, and when that is too long."""

import pytest

from fastasgi.config import Config
from fastasgi.draining import LINGER_S, SLACK_S, Manner, abort_bound_s, drain_bound_s
from fastasgi.loops import CANCEL_GRACE_S


def config(**options):
    given = {"timeout_graceful_shutdown": 20, "timeout_disconnect_grace": 5, "timeout_lifespan_shutdown": 10, **options}
    return Config("a:b", log_config=None, **given)


def test_bounds():
    assert abort_bound_s(config()) == CANCEL_GRACE_S + 10 + SLACK_S
    assert drain_bound_s(config()) == 20 + 5 + CANCEL_GRACE_S + 10 + SLACK_S


@pytest.mark.parametrize(
    "name", ["timeout_graceful_shutdown", "timeout_disconnect_grace", "timeout_lifespan_shutdown"]
)
def test_without_a_bound(name):
    assert drain_bound_s(config(**{name: None})) is None


def test_manners():
    stop = Manner.of_stop(config(), delay_s=3)
    assert (stop.delay_s, stop.linger_s, stop.timeout_s, stop.grace_s) == (3, 0, 20, 5)
    assert stop.bound_s == drain_bound_s(config()) + 3
    assert Manner.of_replacement(config()) == Manner(0, LINGER_S, 20, 5, drain_bound_s(config()))
    assert Manner.of_reload().timeout_s == 0
    assert Manner.of_abort(config()) == Manner(0, 0, 0, 0, abort_bound_s(config()), is_forced=True)
