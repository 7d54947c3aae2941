"""A run as Markdown, and what the documents show of the newest record."""

import importlib.util
import re
from pathlib import Path

import bench_run
import pytest

from fastasgi.bench import compare, markdown, store

ROOT = Path(__file__).resolve().parents[1]
RUN = bench_run.run()


def tables(text):
    """Each table as lists of cells, without its rule."""
    for block in re.findall(r"(?:^\|.*\n?)+", text, re.MULTILINE):
        rows = [re.split(r"(?<!\\)\|", line)[1:-1] for line in block.strip().split("\n")]
        yield [[cell.strip() for cell in cells] for cells in [rows[0], *rows[2:]]]


def test_every_table_has_cells_for_all_its_columns():
    for run in (RUN, bench_run.hostile_run()):
        found = list(tables(markdown.render(run, compare.compare(run, run))))
        assert len(found) >= 3
        for rows in found:
            assert {len(cells) for cells in rows} == {len(rows[0])}


def test_the_summary_has_a_row_for_each_scenario():
    rows = next(tables(markdown.render(RUN)))
    assert rows[0][:3] == ["scenario", "floor", "fastasgi"]
    assert rows[1] == [
        "plain GET, 13-byte answer", "5.0 us", "10.0 us", "40.0 us", "0.25 x", "granian 20.0 us", "0.50 x", "50%",
        "0.12 x",
    ]  # fmt: skip
    assert len(rows) == 1 + len(RUN.tables)


def test_the_summary_says_what_no_server_can_save():
    table = bench_run.plain_table()
    table.rows.append(bench_run.row("floor-application", 8.0, 8.0, 8.0))
    rows = next(tables(markdown.render(bench_run.run([table]))))
    assert rows[0][-2:] == ["the floor is of uvicorn's", "and with the application"]
    assert rows[1][-2:] == ["0.12 x", "0.20 x"]


def test_a_scenario_has_every_honest_column():
    rows = list(tables(markdown.render(RUN)))[1]
    ours = dict(zip(rows[0], next(cells for cells in rows if cells[0] == "fastasgi")))
    assert ours == {
        "server": "fastasgi", "CPU us": "10.0", "spread": "30%", "user us": "5.0", "system us": "5.0",
        "requests/s": "10,000", "p50 us": "500", "p99 us": "900", "p99.9 us": "1,500", "PSS MiB": "32.0",
        "x uvicorn": "0.25 x", "x granian": "0.50 x", "of the floor": "50%", "remarks": "",
    }  # fmt: skip


def test_the_readme_says_under_what_conditions():
    block = " ".join(markdown.readme_block(RUN, "bench/results/x.md").split())
    assert block.startswith(
        "CPython 3.13.0 on Abacus 3000, one core for the server, 64 connections, medians of 3 interleaved rounds, other"
        " processes had 0% of that core in the median; 2026-11-22. [The whole record](bench/results/x.md) has"
    )
    quick = markdown.readme_block(bench_run.run(settings={"rounds": 1}), "x.md")
    assert "one round each" in quick and "medians" not in quick.partition("\n\n")[0]


def test_a_variant_says_what_it_costs_more():
    rows = list(tables(markdown.render(RUN)))[2]
    assert dict(zip(rows[0], rows[1]))["us more than plain GET"] == "+1.0"


def test_conditions_commands_notes_and_refusals_are_there():
    text = markdown.render(RUN)
    assert "`python -m fastasgi.bench --against uvicorn`" in text
    assert "- Machine: Abacus 3000, 2 cores, virtual machine" in text
    assert "- **granian** 1.0: granian, as documented\n\n      granian --port PORT\n" in text
    assert "- liar, plain GET, 13-byte answer: liar is refused for plain: it answered from a cache" in text
    assert "- hypercorn is not installed" in text
    assert "Interrupted" not in text
    assert "Interrupted" in markdown.render(bench_run.run(is_partial=True))


def test_what_a_server_said_is_text_and_nothing_else():
    text = markdown.render(bench_run.hostile_run())
    prose = re.sub(r"^ {6}.*$|`` .* ``", "", text, flags=re.MULTILINE)  # commands are code, which Markdown leaves alone
    assert prose.count("<script") < text.count("<script")
    assert "\\<script" in prose
    assert not re.search(r"(?<!\\)<script", prose)


def test_an_empty_run_is_no_error():
    assert "## Summary" not in markdown.render(bench_run.run([]))


# --- what the documents show ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def maker():
    spec = importlib.util.spec_from_file_location("make_benchmarks", ROOT / "docs" / "make_benchmarks.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_what_is_shown_is_made_from_the_newest_record(maker):
    made = maker.outputs()
    if not made:
        pytest.skip("no run is recorded here in the form of this version")
    for path, text in made.items():
        assert path.read_text(encoding="utf-8") == text, f"{path.name}: run python docs/make_benchmarks.py"
    assert set(maker.IMAGES.glob("*.svg")) <= made.keys()


def test_the_newest_record_is_the_last_one_of_the_newest_python(maker, monkeypatch, tmp_path):
    pytest.importorskip("pyperf", reason="pyperf is not installed: pip install 'fastasgi[bench]'")
    monkeypatch.setattr(maker, "RESULTS", tmp_path)
    names = ["2026-01-03-py3.9.json", "2026-01-01-py3.13.json", "2026-01-02-py3.13.json"]
    for name in [*names, "2026-01-03-py3.13-websocket.json"]:
        store.write(RUN, tmp_path / name)
    (tmp_path / "2026-01-04-py3.13.json").write_text('{"run": {}, "tables": []}')  # of another form
    assert [path.name for path in maker.records()] == [names[2], names[1], names[0]]


def test_only_what_stands_between_the_markers_changes(maker):
    text = f"before\n{maker.BEGIN}\nold\n{maker.END}\nafter\n"
    record = maker.RESULTS / "2026-01-02-py3.13.json"
    made = maker.readme(text, RUN, record)
    assert made.startswith(f"before\n{maker.BEGIN}\n")
    assert made.endswith(f"\n{maker.END}\nafter\n")
    assert "old" not in made
    assert "(bench/results/2026-01-02-py3.13.md)" in made
    assert "(docs/images/bench/plain.svg)" in made
    assert maker.readme(made, RUN, record) == made
