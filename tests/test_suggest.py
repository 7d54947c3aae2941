"""suggest: near names, and what does here what an option of another server does there."""

import re

import pytest

from fastasgi.options import FIELDS
from fastasgi.suggest import ELSEWHERE, cure_for_option, did_you_mean, nearest

SPELLED = {"port": "--port", "workers": "--workers", "access_log": "--access-log"}


@pytest.mark.parametrize(("word", "guess"), [("prot", "port"), ("PORT", "port"), ("zzz", None)])
def test_nearest(word: str, guess: str | None) -> None:
    assert nearest(word, ["port", "host", "backlog"]) == guess


def test_did_you_mean() -> None:
    assert did_you_mean("prot", ["port"]) == "; did you mean 'port'?"
    assert did_you_mean("zzz", ["port"]) == ""


@pytest.mark.parametrize(
    ("name", "cure"),
    [
        ("--prot", "; did you mean '--port'?"),
        ("--access_log", "; did you mean '--access-log'?"),
        ("--zzz", ""),
        ("-w", "; use --workers"),
        ("--threads", "; an event loop needs no threads; use --workers"),
        ("--http2", "; HTTP/2 comes with a later release; a proxy in front can speak it meanwhile"),
    ],
)
def test_cure_for_option(name: str, cure: str) -> None:
    assert cure_for_option(name, SPELLED) == cure


def test_options_of_other_servers_are_none_of_ours_and_lead_to_some() -> None:
    assert not set(ELSEWHERE) & set(FIELDS)
    for cure in ELSEWHERE.values():
        assert set(re.findall(r"{(\w+)}", cure)) <= set(FIELDS)
        assert not cure.endswith(".")
