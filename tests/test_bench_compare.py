"""Two runs beside each other: what changed, what that means, and what makes them unlike."""

from dataclasses import replace

import bench_run
import pytest

from fastasgi.bench import compare, markdown, terminal
from fastasgi.bench.model import Table


def run_of(*cpu_us, reference=(40.0, 41.0, 42.0), **more):
    rows = [bench_run.row("fastasgi", *cpu_us), bench_run.row("uvicorn", *reference)]
    return bench_run.run([Table(scenario="plain", title="plain", unit="request", rows=rows)], **more)


def change_between(old, new, contender="fastasgi"):
    return next(each for each in compare.compare(old, new).changes if each.contender == contender)


@pytest.mark.parametrize(
    ("old", "new", "verdict"),
    [
        ((10.0, 10.1, 10.2), (8.0, 8.1, 8.2), "better"),
        ((10.0, 10.1, 10.2), (12.0, 12.1, 12.2), "worse"),
        ((10.0, 10.1, 10.2), (10.0, 10.1, 10.2), "as before"),
        ((8.0, 10.0, 14.0), (9.0, 11.0, 15.0), "as before"),  # more, but no more than rounds differ anyway
    ],
)
def test_a_change_counts_when_the_quartiles_lie_apart(old, new, verdict):
    assert change_between(run_of(*old), run_of(*new)).verdict == verdict


def test_too_few_rounds_say_nothing():
    assert change_between(run_of(10.0, 10.0), run_of(20.0, 20.0, 20.0)).verdict == "too few rounds"
    assert "too few rounds" in terminal.render_comparison(compare.compare(run_of(10.0), run_of(20.0)))


def test_more_throughput_is_better():
    def run(answers):
        rows = [bench_run.row("fastasgi", 1.0, 1.0, 1.0, answers=answers)]
        return bench_run.run([Table(scenario="d", title="d", unit="throughput", payload_bytes=1 << 20, rows=rows)])

    assert change_between(run(100), run(200)).verdict == "better"
    assert change_between(run(100), run(200)).relative == pytest.approx(1.0)


def test_a_slower_machine_shows_in_the_reference():
    found = change_between(run_of(10.0, 10.0, 10.0), run_of(20.0, 20.0, 20.0, reference=(80.0, 80.0, 80.0)))
    assert found.verdict == "worse"
    assert found.new_beside == pytest.approx(found.old_beside, rel=0.05)


def test_only_what_both_measured_is_compared():
    old, new = run_of(10.0), run_of(11.0)
    new.tables[0].rows[1].refusal = "uvicorn is refused"
    new.tables[0].rows.append(bench_run.row("granian", 5.0))
    found = compare.compare(old, new)
    assert [each.contender for each in found.changes] == ["fastasgi"]
    assert (found.only_old, found.only_new) == (["plain/uvicorn"], ["plain/granian"])


def test_runs_that_are_unlike_say_so():
    old = run_of(10.0)
    new = run_of(10.0, machine=bench_run.machine("Abacus 4000"), settings={**old.settings, "connections": 16})
    new.contenders = [replace(each, version="2.0") for each in new.contenders]
    warnings = compare.compare(old, new).warnings
    assert "another machine: Abacus 3000, now Abacus 4000" in warnings
    assert "other settings: connections 64, now 16" in warnings
    assert "another uvicorn: 1.0, now 2.0" in warnings
    assert not any("fastasgi" in warning for warning in warnings)  # that is what is compared
    assert compare.compare(old, old).warnings == []


def test_the_comparison_as_text_and_as_markdown():
    found = compare.compare(run_of(*[10.0] * 3, reference=[40.0] * 3), run_of(*[8.0] * 3, reference=[40.0] * 3))
    text = terminal.render_comparison(found)
    assert next(line.split() for line in text.splitlines() if line.startswith("plain/fastasgi")) == [
        "plain/fastasgi", "10.0", "us", "8.0", "us", "-20.0%", "0.25", "->", "0.20", "better"
    ]  # fmt: skip
    assert "quartiles" in text
    assert max(map(len, text.splitlines())) <= 80
    row = "| plain | fastasgi | 10.0 us | 8.0 us | -20.0% | 0.25 x | 0.20 x | better |"
    assert row in markdown.render_comparison(found)


def test_runs_with_nothing_in_common_say_so():
    assert "nothing in common" in terminal.render_comparison(compare.compare(bench_run.run([]), run_of(1.0)))
