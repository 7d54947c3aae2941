"""Two runs beside each other: what changed from the old to the new one, and whether that means anything.

A change counts as significant if the quartiles of the old rounds and those of the new ones do not overlap. Machines
drift between two runs; so each change is also shown relative to the reference server of the same run, which both runs
have measured: where that moved as much, the machine changed and not the contender.
"""

from dataclasses import dataclass

from . import figures
from .model import OURS, REFERENCE, Row, Run, Table

FEWEST_ROUNDS = 3
TEST = f"significant: the quartiles of the old and the new rounds, at least {FEWEST_ROUNDS}, do not overlap"


@dataclass(frozen=True)
class Change:
    """One contender in one scenario, old and new."""

    scenario: str
    title: str
    contender: str
    unit: str
    less_is_better: bool
    old: float
    new: float
    old_quartiles: tuple[float, float]
    new_quartiles: tuple[float, float]
    old_beside: float | None
    """Over the reference server's figure of the same run."""
    new_beside: float | None
    rounds: int
    """Of the run that has fewer."""

    @property
    def relative(self) -> float:
        """0.1 for ten percent more than before, of whatever it is."""
        return self.new / self.old - 1 if self.old else 0.0

    @property
    def is_significant(self) -> bool:
        """Whether the quartiles lie apart, of rounds enough to speak of quartiles."""
        if self.rounds < FEWEST_ROUNDS:
            return False
        return self.old_quartiles[1] < self.new_quartiles[0] or self.new_quartiles[1] < self.old_quartiles[0]

    @property
    def verdict(self) -> str:
        """`better`, `worse`, `as before`, or `too few rounds`."""
        if self.rounds < FEWEST_ROUNDS:
            return "too few rounds"
        if not self.is_significant:
            return "as before"
        return "better" if (self.new < self.old) == self.less_is_better else "worse"


@dataclass(frozen=True)
class Comparison:
    """Old and new, scenario by scenario, and what a reader must know before believing it."""

    old: Run
    new: Run
    changes: list[Change]
    warnings: list[str]
    only_old: list[str]
    only_new: list[str]
    """What only one of the two measured, as `scenario/contender`."""


def compare(old: Run, new: Run) -> Comparison:
    """What changed, for all that both runs measured."""
    before, after = _rows(old), _rows(new)
    changes = [
        _change(*before[key], *new_row)
        for key, new_row in after.items()
        if key in before and before[key][0].unit == new_row[0].unit
    ]
    return Comparison(
        old=old,
        new=new,
        changes=changes,
        warnings=_warnings(old, new),
        only_old=["/".join(key) for key in before if key not in after],
        only_new=["/".join(key) for key in after if key not in before],
    )


def _rows(run: Run) -> dict[tuple[str, str], tuple[Table, Row]]:
    return {
        (table.scenario, row.contender): (table, row)
        for table in run.tables
        for row in figures.measured(table)
    }


def _change(old_table: Table, old_row: Row, table: Table, row: Row) -> Change:
    headline = figures.headline(table)
    before, after = figures.values(old_table, old_row), figures.values(table, row)
    return Change(
        scenario=table.scenario,
        title=table.title,
        contender=row.contender,
        unit=headline.unit,
        less_is_better=headline.less_is_better,
        old=figures.middle(old_table, old_row),
        new=figures.middle(table, row),
        old_quartiles=figures.quartiles(before),
        new_quartiles=figures.quartiles(after),
        old_beside=figures.ratio(old_table, row.contender, REFERENCE),
        new_beside=figures.ratio(table, row.contender, REFERENCE),
        rounds=min(len(before), len(after)),
    )


def _warnings(old: Run, new: Run) -> list[str]:
    found = []
    for what, before, after in (
        ("machine", old.machine.cpu, new.machine.cpu),
        ("kernel", old.machine.kernel, new.machine.kernel),
        ("Python", old.python.get("version"), new.python.get("version")),
    ):
        if before != after:
            found.append(f"another {what}: {before}, now {after}")
    for name in sorted(old.settings.keys() & new.settings.keys()):
        if old.settings[name] != new.settings[name]:
            found.append(f"other settings: {name} {old.settings[name]}, now {new.settings[name]}")
    versions = {contender.name: contender.version for contender in old.contenders}
    for contender in new.contenders:
        before = versions.get(contender.name, contender.version)
        if contender.name != OURS and before != contender.version:
            found.append(f"another {contender.name}: {before}, now {contender.version}")
    return found
