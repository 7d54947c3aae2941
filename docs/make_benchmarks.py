"""Writes what is shown of the newest recorded run: python docs/make_benchmarks.py. A test compares.

From bench/results/DATE-pyX.Y.json: the table in README.md between its markers, docs/benchmark.html, the charts in
docs/images/bench/. And the .md beside each record.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # of this checkout, installed or not

from fastasgi.bench import charts, markdown, page, store  # noqa: E402
from fastasgi.bench.model import Run  # noqa: E402

RESULTS = ROOT / "bench" / "results"
README = ROOT / "README.md"
PAGE = ROOT / "docs" / "benchmark.html"
IMAGES = ROOT / "docs" / "images" / "bench"
BEGIN, END = "<!-- table: begin -->", "<!-- table: end -->"
SHOWN = ("plain", "fastapi")
"""Scenarios whose charts stand in the README."""

RECORD = re.compile(r"(\d{4}-\d\d-\d\d)-py(\d+)\.(\d+)\.json")


def records() -> list[Path]:
    """The recorded runs, that of the newest Python first; of one Python, the newest."""
    found = [(match, path) for path in RESULTS.glob("*.json") if (match := RECORD.fullmatch(path.name))]
    ordered = sorted(found, key=lambda each: (int(each[0][2]), int(each[0][3]), each[0][1]), reverse=True)
    return [path for _, path in ordered if store.KEY in json.loads(path.read_text(encoding="utf-8"))]


def outputs() -> dict[Path, str]:
    """Every file that is made, with what belongs into it; the README only if there is a record."""
    made = {path.with_suffix(".md"): markdown.render(store.read(path)) for path in records()}
    if records():
        newest = records()[0]
        run = store.read(newest)
        made[PAGE] = page.render(run)
        made |= {IMAGES / name: text for name, text in charts.charts(run).items()}
        made[README] = readme(README.read_text(encoding="utf-8"), run, newest)
    return made


def readme(text: str, run: Run, record: Path) -> str:
    """The README with the run between its markers."""
    before, _, rest = text.partition(BEGIN)
    after = rest.partition(END)[2]
    link = record.with_suffix(".md").relative_to(ROOT).as_posix()
    block = [markdown.readme_block(run, link)]
    for table in run.tables:
        if table.scenario in SHOWN and f"{table.scenario}.svg" in charts.charts(run):
            picture = (IMAGES / f"{table.scenario}.svg").relative_to(ROOT).as_posix()
            block.append(f"{table.title}, the same as a chart:\n\n![{table.title}]({picture})")
    return before + BEGIN + "\n" + "\n\n".join(block) + "\n" + END + after


def main() -> None:
    """Write them all; charts of scenarios that the newest run has not are taken away."""
    made = outputs()
    IMAGES.mkdir(parents=True, exist_ok=True)
    for path, text in made.items():
        path.write_text(text, encoding="utf-8")
    for stale in set(IMAGES.glob("*.svg")) - made.keys():
        stale.unlink()


if __name__ == "__main__":
    main()
