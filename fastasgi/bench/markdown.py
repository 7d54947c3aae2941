"""A run as Markdown: what is recorded, and the block of the README. Nothing is typed by hand."""

import re
from collections.abc import Callable
from statistics import median
from textwrap import fill

from . import figures
from .compare import TEST, Comparison
from .figures import number, share, times, whole
from .model import FLOOR, FLOOR_APPLICATION, OURS, REFERENCE, Row, Run, Table

Column = tuple[str, Callable[[Row], str]]
Grid = tuple[list[str], list[list[str]]]
"""The head of a table and its rows, as plain text."""

PROSE = 115
"""Columns of a line of prose in the README."""

LEGEND = (
    "CPU per request or message, or memory per idle connection (less is better); throughput where MiB/s stand (more is"
    " better). The floor is a program in C that only reads and writes: what the kernel charges."
)


def render(run: Run, comparison: Comparison | None = None) -> str:
    """The whole record."""
    parts = [_title(run), _summary(run)]
    parts += [_scenario(run, table) for table in run.tables]
    parts += [_paced(run), _refusals(run), _notes(run), _how(run)]
    if comparison is not None:
        parts.append(render_comparison(comparison))
    return "\n\n".join(part for part in parts if part) + "\n"


def readme_block(run: Run, link: str) -> str:
    """What stands in the README between its markers: the summary, and where the rest is."""
    settings, others = run.settings, figures.others_shares(run)
    facts = [f"CPython {run.python.get('version', '?')} on {run.machine.cpu}", "one core for the server"]
    facts += [f"{settings['connections']} connections"] if settings.get("connections") else []
    rounds = settings.get("rounds")
    facts.append(f"medians of {rounds} interleaved rounds" if rounds and rounds > 1 else "one round each")
    facts += [f"other processes had {median(others):.0%} of that core in the median"] if others else []
    told = f"{', '.join(facts)}; {run.started_at[:10]}."
    told += f" [The whole record]({link}) has every figure, version and command."
    return "\n\n".join([fill(told, PROSE), fill(LEGEND, PROSE), _grid(summary(run))])


def render_comparison(comparison: Comparison) -> str:
    """What changed between two runs."""
    lines = [
        f"Old: {comparison.old.started_at}, {_code(comparison.old.command)}. {TEST[0].upper()}{TEST[1:]}."
    ]
    lines += [f"- Beware: {_plain(warning)}" for warning in comparison.warnings]
    for what, names in (("old", comparison.only_old), ("new", comparison.only_new)):
        if names:
            lines.append(f"- Only in the {what} run: {', '.join(names)}")
    return "\n".join(["## Compared with an older run", "", *lines, "", _grid(changes(comparison), left=2)])


# --- the tables, as plain text ----------------------------------------------------------------------------------------


def changes(comparison: Comparison) -> Grid:
    """Old and new of all that both runs measured."""
    head = [
        "scenario",
        "contender",
        "old",
        "new",
        "change",
        f"x {REFERENCE}, old",
        f"x {REFERENCE}, new",
        "verdict",
    ]
    rows = []
    for each in comparison.changes:
        cells = [
            each.title,
            each.contender,
            f"{number(each.old)} {each.unit}",
            f"{number(each.new)} {each.unit}",
        ]
        cells += [figures.change(each.relative), times(each.old_beside), times(each.new_beside), each.verdict]
        rows.append(cells)
    return head, rows


def summary(run: Run) -> Grid:
    """A row for each scenario: the floor, ours, the reference, the best of the others."""
    head = ["scenario", FLOOR, OURS, REFERENCE, f"of {REFERENCE}'s", "best peer", "of the best peer's"]
    head += ["of the floor", f"the floor is of {REFERENCE}'s"]
    rows = []
    for table in run.tables:
        headline, peer = figures.headline(table), figures.best_peer(table)
        shown = {row.contender: headline.text(figures.middle(table, row)) for row in figures.measured(table)}
        if not shown:
            continue
        cells = [table.title, *(shown.get(name, "") for name in (FLOOR, OURS, REFERENCE))]
        cells.append(times(figures.ratio(table, OURS, REFERENCE)))
        cells += [f"{peer} {shown[peer]}" if peer else "", times(figures.ratio(table, OURS, peer))]
        cells += [share(figures.of_the_floor(table, OURS)), times(figures.ratio(table, FLOOR, REFERENCE))]
        cells.append(times(figures.ratio(table, FLOOR_APPLICATION, REFERENCE)))
        rows.append(cells)
    if any(row[-1] for row in rows):
        return [*head, "and with the application"], rows
    return head, [row[:-1] for row in rows]


def scenario(run: Run, table: Table) -> Grid:
    """A row for each contender with every figure it has."""
    columns = _columns(run, table)
    rows = [[row.contender, *(of(row) for _, of in columns)] for row in figures.measured(table)]
    return ["server", *(name for name, _ in columns)], rows


def paced(tables: list[Table]) -> Grid:
    """Latencies at a fixed rate."""
    head = [
        "scenario",
        "server",
        "wanted/s",
        "reached/s",
        "p50 us",
        "p90 us",
        "p99 us",
        "p99.9 us",
        "longest us",
    ]
    rows = []
    for table in tables:
        for row in figures.measured(table):
            if row.paced:
                names = ("rate", "p50_us", "p90_us", "p99_us", "p999_us")
                found = [whole(figures.middle_of(row.paced, name)) for name in names]
                longest = max((sample.longest_us or 0.0 for sample in row.paced), default=0.0)
                rows.append([table.title, row.contender, whole(table.paced_rate), *found, whole(longest)])
    return head, rows


# --- the parts --------------------------------------------------------------------------------------------------------


def _title(run: Run) -> str:
    partial = ["**Interrupted: not all rounds took place.**", ""] if run.is_partial else []
    facts = [f"- {name}: {_plain(text)}" for name, text in figures.conditions(run)]
    name = f"# CPython {run.python.get('version', '?')}, {run.started_at[:10]}"
    return "\n".join(
        [name, "", _code(run.command), "", *partial, *facts, f"- It took {run.minutes:.1f} minutes"]
    )


def _summary(run: Run) -> str:
    return f"## Summary\n\n{LEGEND}\n\n{_grid(summary(run))}" if run.tables else ""


def _scenario(run: Run, table: Table) -> str:
    if not figures.measured(table):
        return ""
    headline = figures.headline(table)
    intro = f"{headline.label[0].upper()}{headline.label[1:]}: {headline.direction}."
    return f"## {_plain(table.title)}\n\n{intro}\n\n" + _grid(scenario(run, table))


def _columns(run: Run, table: Table) -> list[Column]:
    """Every figure that a row has; the columns in which nobody has any are left out."""
    headline, beside = figures.headline(table), figures.table_named(run, table.beside)
    found: list[Column] = [
        (figures.heading(table), lambda row: number(figures.middle(table, row))),
        ("spread", lambda row: share(figures.spread(figures.values(table, row)))),
    ]
    found += _cost(table) + _tempo(table)
    found.append(("PSS MiB", _median("memory_bytes", lambda value: f"{value / figures.MIB:.1f}")))
    for name in figures.reference_names(table):
        found.append((f"x {name}", lambda row, name=name: times(figures.ratio(table, row.contender, name))))  # type: ignore[misc]
    found.append(("of the floor", lambda row: share(figures.of_the_floor(table, row.contender))))
    if beside is not None:
        found.append((f"{headline.unit} more than {beside.title.partition(',')[0]}", _more(table, beside)))
    found.append(("remarks", lambda row: ", ".join(figures.marks(row))))
    return [column for column in found if any(column[1](row) for row in figures.measured(table))]


def _cost(table: Table) -> list[Column]:
    if table.unit == "connection":
        busy = "CPU while idle"
        return [("connections", _median("answers", whole)), (busy, lambda row: f"{figures.busy(row):.1%}")]
    found: list[Column] = [
        ("user us", _median("user_us", number)),
        ("system us", _median("system_us", number)),
    ]
    return [("CPU us", _median("cpu_us", number)), *found] if table.unit == "throughput" else found


def _tempo(table: Table) -> list[Column]:
    if table.unit == "connection":
        return []
    found: list[Column] = [] if table.unit == "throughput" else [(f"{table.unit}s/s", _median("rate", whole))]
    latencies = {"p50 us": "p50_us", "p99 us": "p99_us", "p99.9 us": "p999_us"}
    return found + [(name, _median(figure, whole)) for name, figure in latencies.items()]


def _median(figure: str, text: Callable[[float], str]) -> Callable[[Row], str]:
    def of(row: Row) -> str:
        value = figures.middle_of(row.samples, figure)
        return "" if value is None else text(value)

    return of


def _more(table: Table, beside: Table) -> Callable[[Row], str]:
    def of(row: Row) -> str:
        value = figures.more_than(table, beside, row.contender)
        return "" if value is None else f"{value:+.1f}"

    return of


def _paced(run: Run) -> str:
    grid = paced(run.tables)
    note = "The client asks on schedule, whether or not answers come; latency counts from when a request was due."
    return f"## At a fixed rate below saturation\n\n{note}\n\n{_grid(grid, left=2)}" if grid[1] else ""


def _refusals(run: Run) -> str:
    found = figures.refusals(run)
    lines = [f"- {each.contender}, {_plain(each.scenario)}: {_plain(each.reason[:400])}" for each in found]
    return "## Refused, whatever their speed\n\n" + "\n".join(lines) if found else ""


def _notes(run: Run) -> str:
    return "## Notes\n\n" + "\n".join(f"- {_plain(note)}" for note in run.notes) if run.notes else ""


def _how(run: Run) -> str:
    lines = []
    for each in figures.took_part(run):
        told = f"- **{_plain(each.name)}** {_plain(each.version)}: {_plain(each.settings)}"
        lines += [told, "", "      " + " ".join(each.command.split()), ""]
    return "\n".join(["## How each was run", "", *lines]).rstrip() if lines else ""


def _grid(grid: Grid, left: int = 1) -> str:
    """A Markdown table: the first columns to the left, the others to the right."""
    head, rows = grid
    rule = ["---"] * left + ["---:"] * (len(head) - left)
    escaped = [[_plain(cell) for cell in cells] for cells in [head, *rows]]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [escaped[0], rule, *escaped[1:]])


def _code(text: str) -> str:
    """One line of code; its fence is longer than any run of backticks within."""
    line = " ".join(text.split())
    fence = "`" * (max((len(run) for run in re.findall("`+", line)), default=0) + 1)
    return f"{fence}{line}{fence}" if len(fence) == 1 else f"{fence} {line} {fence}"


def _plain(text: str) -> str:
    """One line that Markdown takes as text: no table, tag or link comes of what a server said."""
    escaped = " ".join(text.split())
    for sign in "\\|<>[]`*_":
        escaped = escaped.replace(sign, "\\" + sign)
    return escaped
