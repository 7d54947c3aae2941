"""The tables: Markdown from the figures of a run, nothing typed by hand.

    python bench/report.py RESULT.json        prints the table of a recorded run again
"""

import json
import sys
from pathlib import Path
from statistics import median

from measure import round_ratios, spread

MIB = 1024 * 1024
OURS = "fastasgi"
REFERENCE = "uvicorn"
FLOOR = "floor"
NOT_PEERS = (OURS, FLOOR, "floor-gathered")


def render(result: dict) -> str:
    """Return the whole report."""
    run, tables = result["run"], result["tables"]
    parts = [_title(run), _summary(tables)]
    parts += [_scenario(table, _find(tables, table["beside"])) for table in tables]
    parts += [_paced(tables), _idle(result.get("idle", [])), _refusals(tables), _conditions(run, tables)]
    return "\n\n".join(part for part in parts if part) + "\n"


def markdown_table(head: list[str], rows: list[list[str]]) -> str:
    """Return a Markdown table: the first column left, the others right."""
    rule = ["---"] + ["---:"] * (len(head) - 1)
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [head, rule, *rows])


def _find(tables: list[dict], name: str | None) -> dict | None:
    return next((table for table in tables if table["scenario"] == name), None)


def _measured(table: dict) -> dict[str, dict]:
    return {row["server"]: row for row in table["rows"] if row["cpu_us"] and not row["refused"]}


def is_throughput(table: dict) -> bool:
    """Tell whether the table counts bytes per second rather than CPU per request."""
    return table["unit"] == "throughput"


def best_peer(table: dict) -> str | None:
    """Return the best of the others: least CPU per request, or most throughput; never the floor, never ours."""
    peers = [row for name, row in _measured(table).items() if name not in NOT_PEERS]
    if not peers:
        return None
    if is_throughput(table):
        return max(peers, key=lambda row: median(row["rate"]))["server"]
    return min(peers, key=lambda row: median(row["cpu_us"]))["server"]


def ratio(table: dict, server: str, other: str | None, figure: str) -> float | None:
    """Return the median over the rounds of server's figure over other's, None if one of them is missing."""
    rows = _measured(table)
    if server not in rows or other not in rows:
        return None
    ratios = round_ratios(rows[server][figure], rows[other][figure])
    return median(ratios) if ratios else None


def of_the_floor(table: dict, server: str) -> float | None:
    """Return how near to the floor a server is, 1.0 at it: CPU per request, or throughput."""
    if is_throughput(table):
        return ratio(table, server, FLOOR, "rate")
    return ratio(table, FLOOR, server, "cpu_us")


def times(value: float | None) -> str:
    """Return a ratio as tables show it."""
    return "" if value is None else f"{value:.2f} x"


def share(value: float | None) -> str:
    """Return a share as tables show it."""
    return "" if value is None else f"{value:.0%}"


def _title(run: dict) -> str:
    machine, python = run["machine"], run["python"]
    versions = ", ".join(f"{name} {version}" for name, version in run["packages"].items() if version)
    virtual = ", virtual machine" if machine["hypervisor"] else ""
    build = "optimized build" if "--enable-optimizations" in (python["config_args"] or "") else "build without PGO"
    pinned = run["settings"]["server_core"] is not None
    lines = [
        f"# CPython {python['python']}, {run['date'][:10]}",
        "",
        f"`{run['command']}`",
        "",
        f"- Machine: {machine['cpu']}, {machine['cores']} cores{virtual}; Linux {machine['kernel']},"
        f" {machine['libc']}; load average {machine['load_average']:.2f} at the start",
        f"- Python: {python['python']}, {python['compiler']}, {build}; floor: {machine['gcc']}, -O2",
        f"- Versions: {versions}",
        f"- Load: {run.get('load') or machine['wrk'] + ', ' + str(run['settings']['connections']) + ' connections'};"
        " server and client"
        f" {'each on a core of its own' if pinned else 'not pinned'}",
        f"- Medians over {run['settings']['rounds']} interleaved rounds of {run['settings']['seconds']:g} s;"
        " ratios are medians of the rounds' own ratios; CPU is user + system of the whole process tree over the"
        " answers that the client counted; spread is (largest - smallest) / median",
    ]
    return "\n".join(lines)


def _summary(tables: list[dict]) -> str:
    head = ["scenario", "floor", "fastasgi", "uvicorn", "of uvicorn's", "best peer", "of the best peer's"]
    head += ["of the floor", "the floor is of uvicorn's"]
    lines = []
    for table in tables:
        rows, peer = _measured(table), best_peer(table)
        figure = "rate" if is_throughput(table) else "cpu_us"
        cells = [_figure(table, rows.get(name)) for name in (FLOOR, OURS, REFERENCE)]
        cells.append(times(ratio(table, OURS, REFERENCE, figure)))
        cells.append(f"{peer} {_figure(table, rows.get(peer))}" if peer else "")
        cells += [times(ratio(table, OURS, peer, figure)), share(of_the_floor(table, OURS))]
        lines.append([table["title"], *cells, times(ratio(table, FLOOR, REFERENCE, figure))])
    note = (
        f"CPU per {tables[0].get('noun', 'request') if tables else 'request'} (less is better), or throughput where"
        " MiB/s stand (more is better). The last column is"
        " what a server without any work of its own would reach on this machine."
    )
    return f"## Summary\n\n{note}\n\n" + markdown_table(head, lines)


def _figure(table: dict, row: dict | None) -> str:
    if row is None:
        return ""
    if is_throughput(table):
        return f"{_mib_per_s(table, row):.0f} MiB/s"
    return f"{median(row['cpu_us']):.1f} us"


def _mib_per_s(table: dict, row: dict) -> float:
    return median(row["rate"]) * table["payload_bytes"] / MIB


def _scenario(table: dict, beside: dict | None) -> str:
    rows, peer = _measured(table), best_peer(table)
    amount = "MiB/s" if is_throughput(table) else f"{table.get('noun', 'request')}s/s"
    head = ["server", "CPU us", "user", "system", "spread", amount, "p50 us", "p99 us", "p99.9 us", "PSS MiB"]
    beside_these = list(dict.fromkeys(name for name in (REFERENCE, peer) if name in rows))
    head += [*(f"CPU, x {name}" for name in beside_these), "of the floor"]
    if beside:
        head.append(f"us more than {beside['title'].partition(',')[0]}")
    lines = []
    for name, row in rows.items():
        rate = _mib_per_s(table, row) if is_throughput(table) else median(row["rate"])
        cells = [name, *(f"{median(row[key]):.1f}" for key in ("cpu_us", "user_us", "system_us"))]
        cells += [share(spread(row["cpu_us"])), f"{rate:,.0f}"]
        cells += [f"{median(row[key]):,.0f}" for key in ("p50_us", "p99_us", "p999_us")]
        cells.append(f"{median(row['pss_kib']) / 1024:.1f}")
        cells += [times(ratio(table, name, other, "cpu_us")) for other in beside_these]
        cells.append(share(of_the_floor(table, name)))
        if beside:
            cells.append(_more(row, _measured(beside).get(name)))
        lines.append(cells)
    return f"## {table['title']}\n\n" + markdown_table(head, lines)


def _more(row: dict, other: dict | None) -> str:
    if other is None:
        return ""
    return f"{median([mine - base for mine, base in zip(row['cpu_us'], other['cpu_us'])]):+.1f}"


def _paced(tables: list[dict]) -> str:
    lines = []
    for table in tables:
        for name, row in _measured(table).items():
            if row["paced"]:
                figures = [f"{median(row['paced'][key]):,.0f}" for key in ("rate", "p50_us", "p99_us", "p999_us")]
                lines.append([table["title"], name, *figures, f"{max(row['paced']['max_us']):,.0f}"])
    if not lines:
        return ""
    note = "The paced client asks on schedule whether or not answers come; latency counts from when a request was due."
    head = ["scenario", "server", "requests/s", "p50 us", "p99 us", "p99.9 us", "longest us"]
    return f"## At a fixed rate below saturation\n\n{note}\n\n" + markdown_table(head, lines)


def _idle(rows: list[list[str]]) -> str:
    if not rows:
        return ""
    note = (
        "Accepted WebSockets without compression that say nothing; growth from a first batch on. PSS and USS are of the"
        " server's processes: sockets in the kernel are not in it."
    )
    head = ["server", "sockets", "PSS at rest, MiB", "PSS KiB each", "USS KiB each", "CPU while idle"]
    return f"## Idle sockets\n\n{note}\n\n" + markdown_table(head, rows)


def _refusals(tables: list[dict]) -> str:
    refused = [row["refused"] for table in tables for row in table["rows"] if row["refused"]]
    if not refused:
        return ""
    return "## Refused\n\n" + "\n".join(f"- {' '.join(reason.split())[:400]}" for reason in refused)


def _conditions(run: dict, tables: list[dict]) -> str:
    lines = [f"- {name}: {how}" for name, how in run["how"].items()]
    seen: set[str] = set()
    for table in tables:
        for row in table["rows"]:
            if row["command"] and row["server"] not in seen:
                seen.add(row["server"])
                lines.append(f"- {row['server']}: `{row['command']}`")
    others = [value for table in tables for row in table["rows"] for value in row["others_share"]]
    if others:
        worst = f"median {median(others):.1%}, at most {max(others):.0%} of a run's time"
        lines.append(f"- Other processes on the server's core: {worst}")
    return "## How each was run\n\n" + "\n".join(lines)


if __name__ == "__main__":
    print(render(json.loads(Path(sys.argv[1]).read_text())), end="")
