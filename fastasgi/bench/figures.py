"""What the outputs say of a run, worked out in one place: headlines, ratios, spread, marks, and numbers as words.

Every table has one headline: CPU per request or message, throughput, or memory per connection. Ratios are taken round
by round, because neighbours in time share the machine's mood, and their median is shown.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from statistics import median, quantiles

from .model import FLOOR, OURS, REFERENCE, Contender, Row, Run, Sample, Table

KIB = 1024
MIB = 1024 * 1024
NOISY_SHARE = 0.05
"""Above this share of the server's core for other processes, in the median of its rounds, a row is marked."""


@dataclass(frozen=True)
class Headline:
    """The figure that a table is about."""

    label: str
    unit: str
    less_is_better: bool
    of: Callable[[Sample], float]
    """The figure of one round, in `unit`."""

    @property
    def direction(self) -> str:
        """How to read it."""
        return "less is better" if self.less_is_better else "more is better"

    def text(self, value: float) -> str:
        """The figure with its unit."""
        return f"{number(value)} {self.unit}"


def headline(table: Table) -> Headline:
    """What this table is about."""
    if table.unit == "throughput":
        return Headline("throughput", "MiB/s", False, lambda sample: sample.rate * table.payload_bytes / MIB)
    if table.unit == "connection":
        return Headline("memory per idle connection", "KiB", True, lambda sample: sample.bytes_each / KIB)
    return Headline(f"CPU per {table.unit}", "us", True, lambda sample: sample.cpu_us)


def heading(table: Table) -> str:
    """What stands above the column of the headline."""
    return f"CPU {headline(table).unit}" if table.unit in ("request", "message") else headline(table).unit


def values(table: Table, row: Row) -> list[float]:
    """The headline of each round."""
    figure = headline(table)
    return [figure.of(sample) for sample in row.samples]


def middle(table: Table, row: Row) -> float:
    """The headline of a row: the median over its rounds."""
    return median(values(table, row))


def measured(table: Table) -> list[Row]:
    """The rows that have figures, in the table's order."""
    return [row for row in table.rows if row.is_measured]


def ranked(table: Table) -> list[Row]:
    """The rows that have figures, the best first."""
    rows = sorted(measured(table), key=lambda row: middle(table, row))
    return rows if headline(table).less_is_better else rows[::-1]


def is_floor(contender: str) -> bool:
    """Whether this is a program that does only what the kernel must be asked for, no server."""
    return contender == FLOOR or contender.startswith(f"{FLOOR}-")


def best_peer(table: Table) -> str | None:
    """The best of the others, never a floor and never ours."""
    peers = [row.contender for row in ranked(table) if row.contender != OURS and not is_floor(row.contender)]
    return peers[0] if peers else None


def ratio_of(mine: list[float], theirs: list[float]) -> float | None:
    """The median of the rounds' ratios; the ratio of the medians if one of the two has lost a round."""
    if not mine or not theirs:
        return None
    if len(mine) == len(theirs):
        ratios = [one / other for one, other in zip(mine, theirs) if other]
        return median(ratios) if ratios else None
    return median(mine) / median(theirs) if median(theirs) else None


def ratio(table: Table, contender: str, other: str | None) -> float | None:
    """A contender's headline over another's, None if one of them has none."""
    mine, theirs = table.row(contender), table.row(other) if other else None
    return ratio_of(values(table, mine), values(table, theirs)) if mine and theirs else None


def of_the_floor(table: Table, contender: str) -> float | None:
    """How near a contender comes to the floor, 1.0 at it, less below it; None of memory, where a floor says nothing."""
    if table.unit == "connection":
        return None
    if headline(table).less_is_better:
        return ratio(table, FLOOR, contender)
    return ratio(table, contender, FLOOR)


def spread(found: list[float]) -> float | None:
    """How far the rounds lie apart: (largest - smallest) / median; None for one round."""
    if len(found) < 2:
        return None
    return (max(found) - min(found)) / median(found) if median(found) else 0.0


def quartiles(found: list[float]) -> tuple[float, float]:
    """The first and the third quartile of the rounds; one round is both of its own."""
    if len(found) < 2:
        return found[0], found[0]
    low, _, high = quantiles(found, n=4, method="inclusive")
    return low, high


def middle_of(samples: Iterable[Sample], figure: str) -> float | None:
    """The median of a figure of samples, None if none of them has it."""
    found = [value for sample in samples if (value := getattr(sample, figure)) is not None]
    return median(found) if found else None


def busy(row: Row) -> float:
    """The largest share of a core that a row's rounds took: what idle connections cost while they are idle."""
    return max((sample.user_s + sample.system_s) / sample.seconds for sample in row.samples)


def more_than(table: Table, beside: Table | None, contender: str) -> float | None:
    """How much more a contender's headline is here than in the table that this one varies, round by round."""
    mine, base = table.row(contender), beside.row(contender) if beside else None
    if mine is None or base is None or beside is None:
        return None
    here, there = values(table, mine), values(beside, base)
    if len(here) == len(there):
        return median([one - other for one, other in zip(here, there)])
    return median(here) - median(there)


def table_named(run: Run, scenario: str | None) -> Table | None:
    """The table of a scenario, None if it was not measured."""
    return next((table for table in run.tables if table.scenario == scenario), None)


def reference_names(table: Table) -> list[str]:
    """Whom a table's rows are set beside: the reference and the best peer, as far as they took part."""
    names = [REFERENCE if table.row(REFERENCE) else None, best_peer(table)]
    return list(dict.fromkeys(name for name in names if name))


def marks(row: Row) -> list[str]:
    """What a reader must know before believing a row."""
    found = []
    if any(sample.is_client_bound for sample in row.samples):
        found.append("client-bound")
    others = median(sample.others_share for sample in row.samples)
    if others > NOISY_SHARE:
        found.append(f"noisy: others {share(others)}")
    return found


@dataclass(frozen=True)
class Refusal:
    """A contender that is out of a scenario, and why."""

    contender: str
    scenario: str
    reason: str


def refusals(run: Run) -> list[Refusal]:
    """All who are out, in the order of the tables."""
    return [
        Refusal(row.contender, table.title, " ".join(row.refusal.split()))
        for table in run.tables
        for row in table.rows
        if row.refusal is not None
    ]


def others_shares(run: Run) -> list[float]:
    """Of each round: the share of the server's core that other processes had."""
    return [sample.others_share for table in run.tables for row in table.rows for sample in row.samples]


def took_part(run: Run) -> list[Contender]:
    """The contenders of which there is anything to say, in the run's order."""
    named = {row.contender for table in run.tables for row in table.rows}
    return [contender for contender in run.contenders if contender.name in named]


# --- the conditions, as sentences -------------------------------------------------------------------------------------


def conditions(run: Run) -> list[tuple[str, str]]:
    """What a reader needs to judge the figures: a heading and a sentence each."""
    machine, python = run.machine, run.python
    virtual = ", virtual machine" if machine.is_virtual else ""
    found = [
        (
            "Machine",
            f"{machine.cpu}, {machine.cores} cores{virtual}; kernel {machine.kernel}, {machine.libc}; load average"
            f" {machine.load_average:.2f} at the start",
        ),
        ("Python", ", ".join(value for value in python.values() if value)),
        ("Versions", ", ".join(f"{name} {version}" for name, version in run.versions.items())),
        ("Load", _load(run)),
        ("Figures", FIGURES),
    ]
    if run.client_limit is not None:
        found.append(("Limit of the client", f"{run.client_limit:,.0f} requests/s against the floor program"))
    if others := others_shares(run):
        least, most = f"median {median(others):.1%}", f"at most {max(others):.0%} of a round"
        found.append(("Other processes", f"on the server's core: {least}, {most}"))
    return [(name, text) for name, text in found if text]


FIGURES = (
    "medians over interleaved rounds, each with freshly started servers; ratios are medians of the rounds' own ratios;"
    " CPU is user + system time of the server's whole process tree over the answers that the client counted and"
    " verified; spread is (largest - smallest) / median"
)


def _load(run: Run) -> str:
    words = {
        "rounds": "{} rounds", "seconds": "of {} s each", "warm_up_s": "{} s of warm-up",
        "connections": "{} connections", "client": "client: {}", "server_core": "server on core {}",
        "client_core": "client on core {}", "rate": "also at a fixed rate: {}",
    }  # fmt: skip
    shown = [
        text.format(run.settings[key]) for key, text in words.items() if run.settings.get(key) is not None
    ]
    return ", ".join(shown)


# --- words for numbers ------------------------------------------------------------------------------------------------


def number(value: float) -> str:
    """`0.42`, `9.2`, `138.6`, `1,760`."""
    if abs(value) < 1 and value:
        return f"{value:.2f}"
    return f"{value:.1f}" if abs(value) < 999.95 else f"{value:,.0f}"


def whole(value: float | None) -> str:
    """`12,031`; nothing for None."""
    return "" if value is None else f"{value:,.0f}"


def times(value: float | None) -> str:
    """`0.30 x`; nothing for None."""
    return "" if value is None else f"{value:.2f} x"


def share(value: float | None) -> str:
    """`69%`; nothing for None."""
    return "" if value is None else f"{value:.0%}"


def change(value: float) -> str:
    """`+3.1%`, `-12.0%`."""
    return f"{value:+.1%}"
