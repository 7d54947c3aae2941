"""Bar charts in SVG: bars from zero, a whisker from the smallest to the largest round.

Lengths are percentages of the drawing's width and texts have sizes of their own, so that a chart in a page takes any
width without its letters shrinking. `charts` makes files of the same charts, which carry their colours with them.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from math import ceil, floor, log10

from . import figures
from .model import OURS, REFERENCE, Row, Run, Sample, Table

PERCENTILES = {"p50": "p50_us", "p90": "p90_us", "p99": "p99_us", "p99.9": "p999_us"}
FILE_WIDTH, MARGIN, HEADING = 760, 16, 62
FILE_CAPTION = "Medians over the rounds, from zero; whiskers from the smallest round to the largest."
TICKS_AT_MOST = 5
ROW, LABEL, THICK, AXIS = 42, 15, 14, 26
THIN, THIN_GAP, GUTTER = 11, 4, 36.0
"""Of the charts of percentiles: a bar's height, what is between two, and the percent that their figures take."""

MICROSECONDS = "\N{MICRO SIGN}s"
TIMES = "\N{MULTIPLICATION SIGN}"

COLOURS = """
:root{color-scheme:light dark;--paper:#fff;--ink:#1b2126;--soft:#5a6672;--rule:#e2e6ea;--ours:#0a6c8f;
--reference:#7d8995;--peer:#b3bcc5;--floor:#eef1f3;--edge:#9aa5b0;--wash:#f5f7f8;--bad:#a8321f}
@media (prefers-color-scheme:dark){:root{--paper:#12171b;--ink:#e6eaed;--soft:#9ca8b3;--rule:#2a323a;--ours:#3fb5da;
--reference:#77838f;--peer:#46515c;--floor:#1d242a;--edge:#66727e;--wash:#1a2026;--bad:#f0907c}}
"""
STYLE = """
.chart{overflow:visible;font:13px/1 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
.chart text{fill:var(--ink);paint-order:stroke;stroke:var(--paper);stroke-width:4px;stroke-linejoin:round}
.chart .small{font-size:12px;fill:var(--soft);font-variant-numeric:tabular-nums}
.chart .figure{font-variant-numeric:tabular-nums}
.chart .mine{font-weight:650}
.chart .grid{stroke:var(--rule)}
.chart .zero{stroke:var(--edge)}
.chart .bar{fill:var(--peer)}
.chart .bar.reference{fill:var(--reference)}
.chart .bar.ours{fill:var(--ours)}
.chart .bar.floor{fill:var(--floor);stroke:var(--edge);stroke-dasharray:3 2}
.chart .whisker{stroke:var(--ink);stroke-width:1.5;opacity:.75}
"""


@dataclass(frozen=True)
class Bar:
    """One bar: its value with the smallest and the largest round."""

    label: str
    value: float
    low: float
    high: float
    kind: str
    """`ours`, `reference`, `floor` or `peer`: which colour."""
    text: str
    """The value as it is written beside."""
    beside: str = ""
    """What is written behind that: the value over the reference's."""


def kind_of(contender: str) -> str:
    """Which colour a contender has, in every chart."""
    if contender == OURS:
        return "ours"
    if contender == REFERENCE:
        return "reference"
    return "floor" if figures.is_floor(contender) else "peer"


def scenario_bars(table: Table) -> list[Bar]:
    """The headline of a table, the best first; beside it how much that is of the reference's."""
    headline = figures.headline(table)
    unit = MICROSECONDS if headline.unit == "us" else headline.unit
    found = []
    for row in figures.ranked(table):
        values, middle = figures.values(table, row), figures.middle(table, row)
        text, kind = f"{figures.number(middle)} {unit}", kind_of(row.contender)
        ratio = figures.ratio(table, row.contender, REFERENCE)
        beside = "" if ratio is None or row.contender == REFERENCE else f"{ratio:.2f} {TIMES} {REFERENCE}"
        found.append(Bar(row.contender, middle, min(values), max(values), kind, text, beside))
    return found


def latency_bars(row: Row) -> list[Bar]:
    """The percentiles at a fixed rate of one row."""
    found = []
    for name, figure in PERCENTILES.items():
        values = [value for sample in row.paced if (value := _figure(sample, figure)) is not None]
        middle = figures.middle_of(row.paced, figure)
        if middle is not None:
            text = f"{name}  {figures.whole(middle)} {MICROSECONDS}"
            found.append(Bar(name, middle, min(values), max(values), kind_of(row.contender), text))
    return found


def _figure(sample: Sample, name: str) -> float | None:
    value: float | None = getattr(sample, name)
    return value


def scenario_chart(table: Table, name: str) -> str:
    """The chart of a table's headline; `name` makes its ids unique in a page."""
    bars, headline = scenario_bars(table), figures.headline(table)
    most = _scale(bars)
    unit = MICROSECONDS if headline.unit == "us" else headline.unit
    parts = [_grid(most, 100.0, len(bars) * ROW, unit)]
    for at, bar in enumerate(bars):
        top = at * ROW
        parts.append(_label(bar, top + LABEL))
        parts.append(_bar(bar, most, 100.0, top + LABEL + 6, THICK))
    spoken = "; ".join(f"{bar.label} {bar.text} {bar.beside}".strip() for bar in bars)
    return _svg(
        name, f"{table.title}: {headline.label}, {headline.direction}", spoken, len(bars) * ROW + AXIS, parts
    )


def _label(bar: Bar, y: int) -> str:
    """Above a bar: whose it is, its value, and that over the reference's."""
    mine = ' class="mine"' if bar.kind == "ours" else ""
    figure = f'<tspan class="figure" dx="8">{escape(bar.text)}</tspan>'
    beside = f'<tspan class="small" dx="8">{escape(bar.beside)}</tspan>' if bar.beside else ""
    return f'<text x="0" y="{y}"><tspan{mine}>{escape(bar.label)}</tspan>{figure}{beside}</text>'


def latency_chart(table: Table, name: str) -> str:
    """The chart of latencies at a fixed rate; nothing if none were measured."""
    groups = [(row.contender, latency_bars(row)) for row in figures.measured(table) if row.paced]
    groups = [(contender, bars) for contender, bars in groups if bars]
    if not groups:
        return ""
    most, reach, top = _scale(bar for _, bars in groups for bar in bars), 100.0 - GUTTER, 0
    parts, spoken = [], []
    for contender, bars in groups:
        mine = ' class="mine"' if contender == OURS else ""
        parts.append(f'<text x="0" y="{top + LABEL}"{mine}>{escape(contender)}</text>')
        top += LABEL + 6
        for bar in bars:
            parts.append(_bar(bar, most, reach, top, THIN))
            place = f"{bar.high / most * reach:.3f}%"
            words = f'<text x="{place}" dx="7" y="{top + THIN - 1}" class="small">{escape(bar.text)}</text>'
            parts.append(words)
            top += THIN + THIN_GAP
        top += 8
        spoken.append(f"{contender}: " + ", ".join(bar.text for bar in bars))
    parts.insert(0, _grid(most, reach, top, MICROSECONDS))
    return _svg(name, f"{table.title}: latency at a fixed rate", "; ".join(spoken), top + AXIS, parts)


def charts(run: Run) -> dict[str, str]:
    """Every chart of a run as a file of its own: names and contents."""
    found = {}
    for table in run.tables:
        if figures.measured(table):
            found[f"{table.scenario}.svg"] = _as_file(scenario_chart(table, table.scenario))
            if latency := latency_chart(table, f"{table.scenario}-latency"):
                found[f"{table.scenario}-latency.svg"] = _as_file(latency)
    return found


# --- the drawing ------------------------------------------------------------------------------------------------------


def _scale(bars: Iterable[Bar]) -> float:
    """What the whole width stands for: the longest whisker and a little."""
    return max((bar.high for bar in bars), default=0.0) * 1.02 or 1.0


def _bar(bar: Bar, most: float, reach: float, top: float, thick: int) -> str:
    """A bar from zero and its whisker; `reach` percent of the width are `most`."""

    def at(value: float) -> str:
        return f"{value / most * reach:.3f}%"

    middle = top + thick / 2
    edge = f'data-value="{bar.value:.6g}" data-low="{bar.low:.6g}" data-high="{bar.high:.6g}"'
    lines = [
        f'<rect class="bar {bar.kind}" x="0" y="{top}" width="{at(bar.value)}" height="{thick}" {edge}/>'
    ]
    if bar.high > bar.low:
        ends = [(bar.low, bar.high, middle, middle)]
        ends += [(end, end, middle - 3.5, middle + 3.5) for end in (bar.low, bar.high)]
        lines += [
            f'<line class="whisker" x1="{at(left)}" x2="{at(right)}" y1="{high:g}" y2="{low:g}"/>'
            for left, right, high, low in ends
        ]
    return "".join(lines)


def ticks(most: float, at_most: int = TICKS_AT_MOST) -> list[float]:
    """Round numbers from zero to `most`, so many behind the zero."""
    rough = most / at_most
    size = 10.0 ** floor(log10(rough))
    step = next(size * factor for factor in (1, 2, 5, 10) if size * factor >= rough)
    return [step * at for at in range(ceil(most / step) + 1) if step * at <= most]


def _grid(most: float, reach: float, height: float, unit: str) -> str:
    found: Sequence[float] = ticks(most, round(TICKS_AT_MOST * reach / 100))
    lines = []
    for at, value in enumerate(found):
        place = value / most * reach
        kind = "grid" if at else "zero"
        lines.append(f'<line class="{kind}" x1="{place:.3f}%" x2="{place:.3f}%" y1="0" y2="{height}"/>')
        anchor = "start" if not at else "end" if place > 90 else "middle"
        words = f"{value:,.10g}" + ("" if at else f" {unit}")
        lines.append(
            f'<text x="{place:.3f}%" y="{height + 17}" class="small" text-anchor="{anchor}">{words}</text>'
        )
    return "".join(lines)


def _svg(name: str, title: str, description: str, height: float, parts: list[str]) -> str:
    return (
        f'<svg class="chart" role="img" aria-labelledby="{escape(name)}-t {escape(name)}-d" height="{height:g}">'
        f'<title id="{escape(name)}-t">{escape(title)}</title><desc id="{escape(name)}-d">{escape(description)}</desc>'
        + "".join(parts)
        + "</svg>"
    )


def _as_file(chart: str) -> str:
    """The same with a size, a background, a heading and its colours: an image may stand on any page."""
    height = float(chart.partition('height="')[2].partition('"')[0]) + MARGIN + HEADING
    box = f'viewBox="0 0 {FILE_WIDTH} {height:g}" width="{FILE_WIDTH}" height="{height:g}"'
    inner = chart.replace("<svg ", f'<svg x="{MARGIN}" y="{HEADING}" width="{FILE_WIDTH - 2 * MARGIN}" ', 1)
    title = chart.partition("<title ")[2].partition(">")[2].partition("</title>")[0]
    heading = (
        f'<g class="chart" aria-hidden="true"><text x="{MARGIN}" y="26" class="mine">{title}</text>'
        f'<text x="{MARGIN}" y="45" class="small">{FILE_CAPTION}</text></g>'
    )
    style = f"<style>{COLOURS}{STYLE}.paper{{fill:var(--paper)}}</style>"
    paper = '<rect class="paper" width="100%" height="100%" rx="6"/>'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {box}>{style}{paper}{heading}{inner}</svg>\n'
