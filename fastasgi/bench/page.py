"""A run as one page of HTML: charts with their tables, the machine, every command, and who was refused.

One file that needs nothing else: no script, no font, no request. It reads in light and dark, on paper and on a phone.
All text comes from elsewhere (servers say what they like in refusals) and is escaped where it is put in.
"""

from html import escape
from pathlib import Path

from . import charts, figures, markdown
from .compare import TEST, Comparison
from .model import FLOOR, OURS, REFERENCE, Contender, Run, Table

STYLE = """
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%}
body{margin:0;background:var(--paper);color:var(--ink);
font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
header,main,footer{max-width:66rem;margin:0 auto;padding:0 1.25rem}
header{padding-top:2.5rem}
h1{font-size:1.9rem;line-height:1.2;margin:0 0 .4rem;letter-spacing:-.01em}
h2{font-size:1.3rem;margin:3rem 0 .2rem;letter-spacing:-.005em}
h3{font-size:1rem;margin:2rem 0 .6rem}
p{margin:.4rem 0 1rem;max-width:46rem}
.soft,figcaption{color:var(--soft)}
.lead{font-size:1.1rem}
a{color:var(--ours)}
nav ul{display:flex;flex-wrap:wrap;gap:.35rem .5rem;list-style:none;margin:1.4rem 0 0;padding:0}
nav a{display:inline-block;padding:.15rem .65rem;border:1px solid var(--rule);border-radius:1rem;font-size:.875rem;
text-decoration:none}
nav a:hover,nav a:focus-visible{border-color:var(--ours)}
figure{margin:1rem 0 0}
.chart{display:block;width:100%}
figcaption{font-size:.875rem;margin:.4rem 0 0}
.wide{overflow-x:auto;margin:1rem 0 0;border:1px solid var(--rule);border-radius:.5rem}
.wide:focus-visible{outline:2px solid var(--ours)}
table{border-collapse:collapse;width:100%;font-size:.85rem;font-variant-numeric:tabular-nums}
caption{text-align:left;padding:.6rem .7rem 0;color:var(--soft)}
th,td{padding:.42rem .6rem;text-align:right;white-space:nowrap;border-bottom:1px solid var(--rule)}
tr:last-child>*{border-bottom:0}
thead th{font-weight:500;color:var(--soft);vertical-align:bottom;white-space:normal}
thead th:first-child,tbody th{position:sticky;left:0;background:var(--paper)}
th:first-child,td.words,th.words{text-align:left}
tbody th{font-weight:500}
tr.ours>*{background:var(--wash);font-weight:650}
pre{margin:.4rem 0 1rem;padding:.7rem .9rem;background:var(--wash);border-radius:.5rem;font:.82rem/1.5 ui-monospace,
SFMono-Regular,Menlo,Consolas,monospace;white-space:pre-wrap;overflow-wrap:anywhere}
dl{display:grid;grid-template-columns:minmax(7rem,12rem) 1fr;gap:.35rem 1.2rem;margin:1rem 0;font-size:.925rem}
dt{color:var(--soft)}
dd{margin:0;overflow-wrap:anywhere}
.warning{border-left:3px solid var(--bad);padding:.1rem 0 .1rem .9rem}
.refused li{margin:.4rem 0;overflow-wrap:anywhere}
.worse{color:var(--bad)}.better{color:var(--ours)}
footer{padding-top:3rem;padding-bottom:3rem;font-size:.875rem;color:var(--soft)}
@media (max-width:40rem){dl{grid-template-columns:1fr;gap:.1rem}dd{margin-bottom:.6rem}header{padding-top:1.5rem}
h1{font-size:1.5rem}}
@media print{nav{display:none}.wide{overflow:visible;border:0}figure,.wide,h2,h3{break-inside:avoid;break-after:auto}}
"""
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def write(run: Run, path: Path, comparison: Comparison | None = None) -> None:
    """Write the page."""
    path.write_text(render(run, comparison), encoding="utf-8")


def render(run: Run, comparison: Comparison | None = None) -> str:
    """The whole page."""
    sections = [_summary(run), *(_scenario(run, table) for table in run.tables if figures.measured(table))]
    if comparison is not None:
        sections.append(_comparison(comparison))
    sections += [_refused(run), _notes(run), _conditions(run), _contenders(run)]
    title = f"fastasgi benchmark, {run.started_at[:10]}"
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<title>{escape(title)}</title>\n<link rel="icon" href="data:,">\n'
        f"<style>{charts.COLOURS}{charts.STYLE}{STYLE}</style>\n</head>\n<body>\n"
        f"{_header(run, comparison)}\n<main>\n" + "\n".join(part for part in sections if part) + "\n</main>\n"
        f"<footer>Made by <code>python -m fastasgi.bench</code>. {escape(_took(run))}</footer>\n</body>\n</html>\n"
    )


# --- the parts --------------------------------------------------------------------------------------------------------


def _header(run: Run, comparison: Comparison | None) -> str:
    machine = run.machine
    where = f"CPython {run.python.get('version', '?')} on {machine.cpu}, {machine.cores} cores, {run.started_at[:10]}"
    links = [(_id(table.scenario), table.scenario) for table in run.tables if figures.measured(table)]
    links += [("compared", "compared")] if comparison else []
    links += [("refused", "refused")] if figures.refusals(run) else []
    links += [("conditions", "conditions"), ("contenders", "how each was run")]
    items = "".join(f'<li><a href="#{escape(name)}">{escape(text)}</a></li>' for name, text in links)
    partial = (
        '<p class="warning">The run was interrupted: not all rounds took place.</p>' if run.is_partial else ""
    )
    return (
        f'<header>\n<h1>What a request costs</h1>\n<p class="soft">{escape(where)}</p>\n{_lead(run)}{partial}'
        f'<nav aria-label="On this page"><ul>{items}</ul></nav>\n</header>'
    )


def _lead(run: Run) -> str:
    """One sentence of what the run found, from its first table."""
    table = next((table for table in run.tables if table.row(OURS)), None)
    if table is None:
        return ""
    headline = figures.headline(table)
    shown = {
        row.contender: _micro(headline.text(figures.middle(table, row))) for row in figures.measured(table)
    }
    others = [f"{REFERENCE} {shown[REFERENCE]}"] if REFERENCE in shown else []
    others += [f"what the kernel alone charges is {shown[FLOOR]}"] if FLOOR in shown else []
    text = "; ".join([f"{headline.label}, {table.title}: {OURS} {shown[OURS]}", *others])
    return f'<p class="lead">{escape(text)}.</p>\n'


def _summary(run: Run) -> str:
    head, rows = markdown.summary(run)
    if not rows:
        return ""
    intro = f"<p>{escape(markdown.LEGEND)}</p>"
    table = _grid(head, rows, "Summary", strong=head.index(OURS))
    return f'<section id="summary">\n<h2>Summary</h2>\n{intro}\n{table}\n</section>'


def _scenario(run: Run, table: Table) -> str:
    headline, name = figures.headline(table), _id(table.scenario)
    label = f"{headline.label[0].upper()}{headline.label[1:]}"
    rounds = max(len(row.samples) for row in figures.measured(table))
    caption = f"{label}, {headline.direction}. {_drawn(rounds)}"
    parts = [f'<section id="{escape(name)}">', f"<h2>{escape(table.title)}</h2>"]
    parts.append(
        f"<figure>{charts.scenario_chart(table, name)}<figcaption>{escape(caption)}</figcaption></figure>"
    )
    head, rows = markdown.scenario(run, table)
    parts.append(_grid(head, rows, f"{table.title}: all figures"))
    return "\n".join([*parts, *_latency(table, name), "</section>"])


def _drawn(rounds: int) -> str:
    if rounds == 1:
        return "Bars are of one round and begin at zero; there is nothing to say how far rounds lie apart."
    return f"Bars are medians of {rounds} rounds and begin at zero; whiskers go from the smallest round to the largest."


def _latency(table: Table, name: str) -> list[str]:
    chart = charts.latency_chart(table, f"{name}-latency")
    if not chart:
        return []
    rate = f"{table.paced_rate:,.0f} {table.unit}s/s" if table.paced_rate else "a fixed rate"
    caption = (
        f"The client asks on schedule, whether or not answers come, and counts from when a {table.unit} was due."
        f" Less is better. {_drawn(max(len(row.paced) for row in figures.measured(table)))}"
    )
    head, rows = markdown.paced([table])
    head, rows = head[1:], [cells[1:] for cells in rows]  # the scenario is that of the section
    title = f"{table.title}: latency at {rate}"
    figure = f"<figure>{chart}<figcaption>{escape(caption)}</figcaption></figure>"
    return [f"<h3>Latency at {escape(rate)}</h3>", figure, _grid(head, rows, title)]


def _comparison(comparison: Comparison) -> str:
    head, rows = markdown.changes(comparison)
    intro = f"Old: {comparison.old.started_at}, {comparison.old.command}. {TEST[0].upper()}{TEST[1:]}."
    warnings = "".join(f'<p class="warning">{escape(warning)}</p>' for warning in comparison.warnings)
    return (
        f'<section id="compared">\n<h2>Compared with an older run</h2>\n<p>{escape(intro)}</p>{warnings}'
        + _grid(head, rows, "What changed", words=2)
        + "</section>"
    )


def _refused(run: Run) -> str:
    found = figures.refusals(run)
    if not found:
        return ""
    items = "".join(
        f"<li><strong>{escape(each.contender)}</strong>, {escape(each.scenario)}: {escape(each.reason)}</li>"
        for each in found
    )
    title = "<h2>Refused, whatever their speed</h2>"
    return f'<section id="refused">\n{title}\n<ul class="refused">{items}</ul>\n</section>'


def _notes(run: Run) -> str:
    items = "".join(f"<li>{escape(note)}</li>" for note in run.notes)
    return f"<section>\n<h2>Notes</h2>\n<ul>{items}</ul>\n</section>" if items else ""


def _conditions(run: Run) -> str:
    facts = "".join(
        f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in figures.conditions(run)
    )
    return (
        '<section id="conditions">\n<h2>Conditions</h2>\n<p>The command that repeats the run:</p>\n'
        f"<pre>{escape(run.command)}</pre>\n<dl>{facts}</dl>\n</section>"
    )


def _contenders(run: Run) -> str:
    found = figures.took_part(run)
    if not found:
        return ""
    return (
        '<section id="contenders">\n<h2>How each was run</h2>\n'
        + "\n".join(map(_contender, found))
        + "\n</section>"
    )


def _contender(contender: Contender) -> str:
    return (
        f"<h3>{escape(contender.name)} <span class='soft'>{escape(contender.version)}</span></h3>"
        f"<p>{escape(contender.settings)}</p><pre>{escape(contender.command)}</pre>"
    )


# --- pieces -----------------------------------------------------------------------------------------------------------


def _grid(
    head: list[str], rows: list[list[str]], title: str, *, words: int = 1, strong: int | None = None
) -> str:
    """A table in a box of its own, which scrolls sideways where it is too wide, also by keyboard."""
    heads = "".join(
        f'<th scope="col"{_class(at < words)}>{escape(_micro(name))}</th>' for at, name in enumerate(head)
    )
    lines = []
    for cells in rows:
        ours = ' class="ours"' if cells[0] == OURS or (words > 1 and cells[1] == OURS) else ""
        shown = [f'<th scope="row">{escape(cells[0])}</th>']
        for at, cell in enumerate(cells[1:], 1):
            text = escape(_micro(cell))
            shown.append(
                f"<td{_class(at < words)}>{f'<strong>{text}</strong>' if at == strong else text}</td>"
            )
        lines.append(f"<tr{ours}>{''.join(shown)}</tr>")
    table = f"<table><thead><tr>{heads}</tr></thead><tbody>{''.join(lines)}</tbody></table>"
    return f'<div class="wide" role="region" tabindex="0" aria-label="{escape(title)}">{table}</div>'


def _class(is_words: bool) -> str:
    return ' class="words"' if is_words else ""


def _micro(text: str) -> str:
    """Microseconds as they are written in print: `us` is for terminals."""
    words = [charts.MICROSECONDS if word == "us" else word for word in text.split(" ")]
    return " ".join(words)


def _id(scenario: str) -> str:
    """The anchor of a scenario, unlike those of the page's own sections."""
    return "in-" + "".join(sign if sign.isalnum() or sign == "-" else "-" for sign in scenario)


def _took(run: Run) -> str:
    return (
        f"The run took {run.minutes:.0f} minutes." if run.minutes >= 1 else "The run took less than a minute."
    )
