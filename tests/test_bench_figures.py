"""What the outputs say of a run: headlines, ratios, spread, marks; numbers as words."""

from dataclasses import replace

import bench_run
import pytest

from fastasgi.bench import figures
from fastasgi.bench.model import Row, Table

PLAIN = bench_run.plain_table()


def tables():
    return {table.scenario: table for table in bench_run.run().tables}


def test_each_unit_has_its_headline():
    shown = {
        name: (headline.label, headline.text(figures.middle(table, table.row("fastasgi"))))
        for name, table in tables().items()
        if (headline := figures.headline(table))
    }
    assert shown == {
        "plain": ("CPU per request", "10.0 us"),
        "plain-log": ("CPU per request", "11.0 us"),
        "download": ("throughput", "2,048 MiB/s"),
        "ws-100": ("CPU per message", "2.0 us"),
        "idle": ("memory per idle connection", "1.0 KiB"),
    }


def test_the_best_stand_first_whichever_way_is_better():
    assert [row.contender for row in figures.ranked(PLAIN)] == ["floor", "fastasgi", "granian", "uvicorn"]
    assert [row.contender for row in figures.ranked(tables()["download"])] == ["fastasgi", "uvicorn"]


def test_who_was_refused_is_nowhere_however_fast():
    assert "liar" not in {row.contender for row in figures.measured(PLAIN)}
    assert figures.ratio(PLAIN, "liar", "uvicorn") is None
    assert figures.best_peer(PLAIN) == "granian"
    assert [(each.contender, each.scenario) for each in figures.refusals(bench_run.run())] == [("liar", PLAIN.title)]


def test_ratios_are_those_of_each_round():
    # A machine that is twice as slow in the second round changes nothing.
    rows = [bench_run.row("fastasgi", 10.0, 20.0, 11.0), bench_run.row("uvicorn", 40.0, 80.0, 44.0)]
    table = Table(scenario="x", title="x", unit="request", rows=rows)
    assert figures.ratio(table, "fastasgi", "uvicorn") == pytest.approx(0.25)


def test_a_lost_round_leaves_the_ratio_of_the_medians():
    rows = [bench_run.row("fastasgi", 10.0, 20.0), bench_run.row("uvicorn", 40.0, 80.0, 60.0)]
    table = Table(scenario="x", title="x", unit="request", rows=rows)
    assert figures.ratio(table, "fastasgi", "uvicorn") == pytest.approx(15 / 60)
    assert figures.ratio(table, "fastasgi", "granian") is None


def test_of_the_floor_is_one_at_it_and_less_below():
    assert figures.of_the_floor(PLAIN, "fastasgi") == pytest.approx(0.5)
    assert figures.of_the_floor(PLAIN, "floor") == 1
    rows = [bench_run.row("floor", 1.0, answers=100), bench_run.row("fastasgi", 1.0, answers=80)]
    download = Table(scenario="d", title="d", unit="throughput", payload_bytes=1, rows=rows)
    assert figures.of_the_floor(download, "fastasgi") == pytest.approx(0.8)
    assert figures.of_the_floor(tables()["plain-log"], "fastasgi") is None
    idle = replace(tables()["idle"], rows=[bench_run.row("floor", 1.0), bench_run.row("fastasgi", 1.0)])
    assert figures.of_the_floor(idle, "fastasgi") is None


def test_a_variant_says_what_it_costs_more():
    found = tables()
    assert figures.more_than(found["plain-log"], found["plain"], "fastasgi") == pytest.approx(1.0)
    assert figures.more_than(found["plain-log"], found["plain"], "granian") is None
    assert figures.more_than(found["plain-log"], None, "fastasgi") is None


def test_spread_and_quartiles():
    assert figures.spread([3.0, 1.0, 2.0]) == 1.0
    assert figures.spread([0.0, 0.0]) == 0
    assert figures.spread([5.0]) is None
    assert figures.quartiles([1.0, 2.0, 3.0, 4.0, 5.0]) == (2.0, 4.0)
    assert figures.quartiles([7.0]) == (7.0, 7.0)


def test_rows_that_need_a_word_have_it():
    assert figures.marks(PLAIN.row("granian")) == ["noisy: others 25%"]
    assert figures.marks(PLAIN.row("fastasgi")) == []
    bound = Row(contender="x", samples=[bench_run.sample(), bench_run.sample(is_client_bound=True)])
    assert figures.marks(bound) == ["client-bound"]


def test_conditions_hold_what_was_set_and_nothing_that_was_not():
    found = dict(figures.conditions(bench_run.run()))
    assert found["Load"] == "3 rounds, of 1.0 s each, 1.0 s of warm-up, 64 connections, server on core 0"
    assert found["Machine"].startswith("Abacus 3000, 2 cores, virtual machine; kernel 6.1, glibc 2.36")
    assert found["Limit of the client"].startswith("150,000 requests/s")
    assert found["Other processes"] == "on the server's core: median 0.0%, at most 25% of a round"
    assert "Limit of the client" not in dict(figures.conditions(bench_run.run(client_limit=None)))
    assert "Versions" not in dict(figures.conditions(bench_run.run(versions={})))


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0.0"), (0.042, "0.04"), (9.24, "9.2"), (999.94, "999.9"), (999.96, "1,000"), (12345.6, "12,346")],
)
def test_numbers_as_words(value, text):
    assert figures.number(value) == text


def test_what_is_unknown_is_empty():
    assert figures.whole(None) == figures.times(None) == figures.share(None) == ""
