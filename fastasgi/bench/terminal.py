"""A run as text for a terminal: a summary, a table for each scenario, who was refused. Reads well at 80 columns.

Wider terminals get more columns, never other figures.
"""

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from textwrap import fill
from typing import TextIO

from . import figures
from .compare import TEST, Comparison
from .figures import number, share, times, whole
from .model import OURS, REFERENCE, Row, Run, Table

NARROW, WIDEST = 60, 132
BOLD, DIM, GREEN, RED, YELLOW, RESET = "\x1b[1m", "\x1b[2m", "\x1b[32m", "\x1b[31m", "\x1b[33m", "\x1b[0m"
GAP = 2
Style = Callable[[str, str], str]


def look(stream: TextIO) -> tuple[int, bool]:
    """Width, and whether colours are wanted: on a terminal, unless NO_COLOR is set; FORCE_COLOR wants them anywhere."""
    width = shutil.get_terminal_size().columns if stream.isatty() else 80
    if os.environ.get("NO_COLOR"):
        return width, False
    if os.environ.get("FORCE_COLOR"):
        return width, True
    return width, stream.isatty() and os.environ.get("TERM") != "dumb"


def render(run: Run, *, width: int = 80, colours: bool = False) -> str:
    """The whole report."""
    style = _style(colours)
    wide = max(NARROW, min(width, WIDEST))
    parts = [_title(run, style, wide), _summary(run, style, wide)]
    parts += [_scenario(run, table, style, wide) for table in run.tables if figures.measured(table)]
    parts += [_paced(run, style, wide), _remarks(run, style, wide), _refused(run, style, wide)]
    return "\n\n".join(part for part in parts if part) + "\n"


def render_comparison(comparison: Comparison, *, width: int = 80, colours: bool = False) -> str:
    """What changed between two runs."""
    style = _style(colours)
    wide = max(NARROW, min(width, WIDEST))
    colour = {"better": GREEN, "worse": RED, "as before": DIM, "too few rounds": YELLOW}
    rows = []
    for change in comparison.changes:
        told = [_cell(f"{number(change.old)} {change.unit}"), _cell(f"{number(change.new)} {change.unit}")]
        told += [_cell(figures.change(change.relative)), _cell(_beside(change.old_beside, change.new_beside))]
        rows.append(
            [
                _cell(f"{change.scenario}/{change.contender}"),
                *told,
                _Cell(change.verdict, colour[change.verdict]),
            ]
        )
    head = ["", "old", "new", "change", f"x {REFERENCE}", ""]
    parts = [style(f"{comparison.old.started_at} -> {comparison.new.started_at}", BOLD)]
    parts += [fill(f"! {warning}", wide) for warning in comparison.warnings]
    parts.append(_table(head, rows, style, wide, keep=5) if rows else "The two runs have nothing in common.")
    for what, names in (("old", comparison.only_old), ("new", comparison.only_new)):
        if names:
            parts.append(fill(f"Only in the {what} run: {', '.join(names)}", wide))
    return "\n".join([*parts, style(fill(TEST + ".", wide), DIM)]) + "\n"


def _beside(old: float | None, new: float | None) -> str:
    return "" if old is None or new is None else f"{old:.2f} -> {new:.2f}"


# --- the parts --------------------------------------------------------------------------------------------------------


def _title(run: Run, style: Style, width: int) -> str:
    lines = [style(f"fastasgi.bench, Python {run.python.get('version', '?')}, {run.started_at}", BOLD)]
    lines += [
        style(fill(f"{name}: {text}", width, subsequent_indent="  "), DIM)
        for name, text in figures.conditions(run)
    ]
    if run.is_partial:
        lines.append(style("Interrupted: not all rounds took place.", YELLOW))
    return "\n".join(lines)


def _summary(run: Run, style: Style, width: int) -> str:
    rows = []
    for table in run.tables:
        ours, headline = table.row(OURS), figures.headline(table)
        if ours is None:
            continue
        peer = figures.best_peer(table)
        cells = [_cell(table.scenario), _Cell(headline.text(figures.middle(table, ours)), BOLD)]
        cells += [
            _cell(times(figures.ratio(table, OURS, REFERENCE))),
            _cell(share(figures.of_the_floor(table, OURS))),
        ]
        cells += [_cell(times(figures.ratio(table, OURS, peer))), _Cell(peer or "", "", is_left=True)]
        rows.append(cells)
    if not rows:
        return ""
    head = [OURS, "", f"x {REFERENCE}", "floor", "x best", "peer"]
    return _table(head, rows, style, width, keep=4)


def _scenario(run: Run, table: Table, style: Style, width: int) -> str:
    headline, beside = figures.headline(table), figures.table_named(run, table.beside)
    rows = []
    for row in figures.ranked(table):
        found = figures.values(table, row)
        name = _Cell(
            row.contender, BOLD if row.contender == OURS else DIM if figures.is_floor(row.contender) else ""
        )
        marks = _Cell(", ".join(figures.marks(row)), YELLOW, is_left=True)
        cells = [name, _cell(number(figures.middle(table, row))), _cell(share(figures.spread(found)))]
        cells.append(_cell(times(figures.ratio(table, row.contender, REFERENCE))))
        cells.append(_cell(share(figures.of_the_floor(table, row.contender))))
        rows.append([*cells, *_details(table, row, beside), marks])
    head = ["", headline.unit, "spread", f"x {REFERENCE}", "floor"]
    head += [name for name, _ in _columns(table, beside)] + [""]
    title = _heading(table.title, f"{headline.label}, {headline.direction}", style, width)
    return title + "\n" + _table(head, rows, style, width, keep=5)


def _details(table: Table, row: Row, beside: Table | None) -> list["_Cell"]:
    return [_cell(of(row)) for _, of in _columns(table, beside)]


def _columns(table: Table, beside: Table | None) -> list[tuple[str, Callable[[Row], str]]]:
    """What follows the ratios, the most telling first: the last go where there is no room."""

    def middle(figure: str, by: float = 1.0) -> Callable[[Row], str]:
        def of(row: Row) -> str:
            value = figures.middle_of(row.samples, figure)
            return whole(None if value is None else value / by)

        return of

    if table.unit == "connection":
        return [("connections", middle("answers")), ("CPU", lambda row: f"{figures.busy(row):.1%}")]
    found: list[tuple[str, Callable[[Row], str]]] = []
    if table.unit == "throughput":
        found.append(("CPU us", middle("cpu_us")))
    else:
        found.append((f"{table.unit}s/s", middle("rate")))
    if beside is not None:
        found.append((f"+ {beside.scenario}", lambda row: _more(table, beside, row)))
    found += [
        ("p50 us", middle("p50_us")),
        ("p99 us", middle("p99_us")),
        ("MiB", middle("memory_bytes", figures.MIB)),
    ]
    found += [
        ("user us", _tenths("user_us")),
        ("system us", _tenths("system_us")),
        ("p99.9 us", middle("p999_us")),
    ]
    return found


def _tenths(figure: str) -> Callable[[Row], str]:
    return lambda row: number(figures.middle_of(row.samples, figure) or 0.0)


def _more(table: Table, beside: Table, row: Row) -> str:
    found = figures.more_than(table, beside, row.contender)
    return "" if found is None else f"{found:+.1f}"


def _paced(run: Run, style: Style, width: int) -> str:
    parts = []
    for table in run.tables:
        rows = []
        for row in figures.measured(table):
            if row.paced:
                found = [
                    figures.middle_of(row.paced, name) for name in ("p50_us", "p90_us", "p99_us", "p999_us")
                ]
                worst = max((sample.longest_us or 0.0 for sample in row.paced), default=0.0)
                rows.append(
                    [_cell(row.contender), *(_cell(whole(value)) for value in found), _cell(whole(worst))]
                )
        if rows:
            rate = f"{table.paced_rate:,.0f} {table.unit}s/s" if table.paced_rate else "a fixed rate"
            title = _heading(
                table.title, f"latency in us at {rate}, counted from when each was due", style, width
            )
            parts.append(
                title
                + "\n"
                + _table(["", "p50", "p90", "p99", "p99.9", "longest"], rows, style, width, keep=6)
            )
    return "\n\n".join(parts)


def _heading(title: str, rest: str, style: Style, width: int) -> str:
    return fill(f"{title}: {rest}", width).replace(title, style(title, BOLD), 1)


def _remarks(run: Run, style: Style, width: int) -> str:
    return "\n".join(fill(f"Note: {note}", width, subsequent_indent="  ") for note in run.notes)


def _refused(run: Run, style: Style, width: int) -> str:
    found = figures.refusals(run)
    if not found:
        return ""
    lines = [
        fill(
            f"{each.contender}, {each.scenario}: {each.reason}",
            width,
            initial_indent="  ",
            subsequent_indent="    ",
        )
        for each in found
    ]
    return "\n".join([style("Refused, whatever their speed:", BOLD + RED), *lines])


# --- tables -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Cell:
    text: str
    colour: str = ""
    is_left: bool = False


def _cell(text: str) -> _Cell:
    return _Cell(text)


def _style(colours: bool) -> Style:
    return (
        (lambda text, colour: f"{colour}{text}{RESET}" if colour and text else text)
        if colours
        else (lambda text, _: text)
    )


def _table(head: list[str], rows: list[list[_Cell]], style: Style, width: int, *, keep: int) -> str:
    """Aligned columns, the first and those that ask for it to the left; of the columns behind the first `keep`, the
    last but one go first where there is no room, so that remarks in the last column stay."""
    columns = list(range(len(head)))
    sizes = [max(len(head[at]), *(len(row[at].text) for row in rows)) for at in columns]
    columns = [at for at in columns if at < keep or any(row[at].text for row in rows)]
    while sum(sizes[at] + GAP for at in columns) - GAP > width and len(columns) > keep:
        droppable = [at for at in columns if at >= keep and head[at]] or [columns[-1]]
        columns.remove(droppable[-1])
    lines = [
        _line(
            [_Cell(head[at], DIM, rows[0][at].is_left) for at in columns],
            [sizes[at] for at in columns],
            style,
        )
    ]
    lines += [_line([row[at] for at in columns], [sizes[at] for at in columns], style) for row in rows]
    return "\n".join(lines)


def _line(cells: list[_Cell], sizes: list[int], style: Style) -> str:
    shown = []
    for at, (cell, size) in enumerate(zip(cells, sizes)):
        padding = " " * (size - len(cell.text))
        text = style(cell.text, cell.colour)
        shown.append(text + padding if at == 0 or cell.is_left else padding + text)
    return (" " * GAP).join(shown).rstrip()
