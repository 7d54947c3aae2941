"""The rounds: every contender once in each (A B C A B C ...), freshly started, verified, warmed up, loaded and ended.

Each round gives one `Sample`; a contender that fails in a scenario is out for the rest of that scenario, by name.
"""

import os
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from statistics import median
from typing import Protocol

from ._load import LoadFailed
from .clients import Client, Load, Seen, Wrk, http_client, websocket_client, wrk_client
from .contenders import KINDS, Kind
from .idle import idle
from .machine import Cpu, core_busy_s, cpu_of, memory_of
from .model import FLOOR, Row, Sample, Table
from .scenarios import PLAIN, HttpScenario, IdleScenario, Scenario, WebSocketScenario
from .servers import Ground, Refused, RunningServer
from .verify import WrongAnswer

SEEN_S = 0.25
"""From here on a server that answers must show in the kernel's clocks, which count in hundredths of a second."""
BUSY_CLIENT = 0.95
"""A client that is this busy, or this near to its limit, sets the rate."""
KIB = 1024


class Progress(Protocol):
    """Who is told how far the run is, in rounds of one contender in one scenario."""

    def doing(self, text: str) -> None:
        """Say what is being done now."""

    def advance(self, steps: int = 1) -> None:
        """So many rounds are over, or will not take place."""

    def say(self, line: str) -> None:
        """A line that stays."""


@dataclass(frozen=True)
class Settings:
    """How to measure."""

    ground: Ground
    rounds: int = 5
    seconds: float = 2.0
    warm_up_s: float = 0.5
    connections: int = 64
    client_core: int | None = None
    client: str = "own"
    """Or "wrk", for HTTP."""
    rate: float | None = None
    """Also at this many requests a second; 0: at half of the slowest contender's rate."""
    quiet_share: float = 0.05
    """A round in which others had more of the server's core is taken again."""
    retries: int = 2
    """How often at most."""

    @property
    def load(self) -> Load:
        """The load of a round."""
        return Load(self.seconds, self.warm_up_s, self.connections, self.client_core)


def default_cores() -> tuple[int, int] | None:
    """Return a core for servers and another one for clients; None where this process may use only one."""
    cores = sorted(os.sched_getaffinity(0))
    return (cores[0], cores[1]) if len(cores) > 1 else None


def grouped(scenarios: list[Scenario]) -> list[list[Scenario]]:
    """Put each scenario that is only a variant of another one beside it, if that one is measured too."""
    groups: dict[str, list[Scenario]] = {}
    for scenario in scenarios:
        key = scenario.beside if scenario.beside in groups else scenario.name
        groups.setdefault(key or scenario.name, []).append(scenario)
    return list(groups.values())


class Runner:
    """One whole run; `tables` grows while it goes on, so that what was measured stays when it is interrupted."""

    def __init__(self, kinds: list[Kind], scenarios: list[Scenario], settings: Settings) -> None:
        """Prepare."""
        self.tables: list[Table] = []
        self.commands: dict[str, str] = {}
        """What each contender was started with first."""
        self.client_limit: float | None = None
        """Requests a second of plain that the client could reach, seen against the floor."""
        self._kinds = kinds
        self._groups = grouped(scenarios)
        self._settings = settings
        self._progress: Progress

    @property
    def planned(self) -> int:
        """How many rounds there are to do."""
        runs = sum(len(self._able(scenario)) for group in self._groups for scenario in group)
        if self._settings.rate is not None:
            paced = [scenario for group in self._groups for scenario in group if self._is_paced(scenario)]
            runs += sum(len(self._able(scenario)) for scenario in paced)
        return runs * self._settings.rounds

    def _able(self, scenario: Scenario) -> list[Kind]:
        return [kind for kind in self._kinds if kind.takes_part(scenario)]

    @staticmethod
    def _is_paced(scenario: Scenario) -> bool:
        return isinstance(scenario, HttpScenario) and scenario.unit == "request"

    def run(self, progress: Progress) -> None:
        """Measure everything."""
        self._progress = progress
        if any(kind.name == FLOOR for kind in self._kinds) and any(self._has_http(group) for group in self._groups):
            self._progress.doing("the load client's own limit")
            self.client_limit = self._measure_limit()
        for group in self._groups:
            tables = [self._make_table(scenario) for scenario in group]
            self.tables += tables
            for number in range(self._settings.rounds):
                self._run_round(group, tables, number)
            if self._settings.rate is not None:
                for scenario, table in zip(group, tables, strict=True):
                    if self._is_paced(scenario):
                        self._run_paced(scenario, table)

    @staticmethod
    def _has_http(group: list[Scenario]) -> bool:
        return any(isinstance(scenario, HttpScenario) and scenario.unit != "connection" for scenario in group)

    def _make_table(self, scenario: Scenario) -> Table:
        return Table(
            scenario=scenario.name,
            title=scenario.title,
            unit=scenario.unit,
            rows=[Row(contender=kind.name) for kind in self._able(scenario)],
            payload_bytes=scenario.payload_bytes,
            beside=scenario.beside,
        )

    def _measure_limit(self) -> float | None:
        """What the client would reach if it were never idle; None, with a note, where the floor fails."""
        try:
            with RunningServer(KINDS[FLOOR], PLAIN, self._settings.ground) as server:
                seen, _, _ = self._load_once(server, self._settings.load)
        except (Refused, LoadFailed) as error:
            self._progress.say(f"the load client's limit is not known: {error}")
            return None
        return seen.answers / seen.seconds / min(1.0, max(seen.client_share, 0.01))

    def _run_round(self, group: list[Scenario], tables: list[Table], number: int) -> None:
        """Every contender once in every scenario of the group."""
        for kind in self._kinds:
            for scenario, table in zip(group, tables, strict=True):
                row = next((row for row in table.rows if row.contender == kind.name), None)
                if row is None or row.refusal:
                    continue
                round_name = f"round {number + 1} of {self._settings.rounds}"
                self._progress.doing(f"{scenario.name}, {kind.name}, {round_name}")
                try:
                    sample = self._measure(kind, scenario)
                except Refused as error:
                    row.refusal = " ".join(str(error).split())
                    self._progress.say(row.refusal)
                    self._progress.advance(self._settings.rounds - number)
                    continue
                row.samples.append(sample)
                self._progress.say(f"{scenario.name:14} {kind.name:14} {shown(sample, table)}")
                self._progress.advance()

    def _run_paced(self, scenario: Scenario, table: Table) -> None:
        """Latency at one fixed rate for all that were measured, interleaved."""
        rows = [row for row in table.rows if row.is_measured]
        self._progress.advance(self._settings.rounds * (len(table.rows) - len(rows)))
        if not rows:
            return
        table.paced_rate = self._settings.rate or min(median(row.values("rate")) for row in rows) / 2
        kinds = {kind.name: kind for kind in self._kinds}
        for number in range(self._settings.rounds):
            for row in rows:
                what = f"{scenario.name}, {row.contender}, {table.paced_rate:.0f}/s"
                self._progress.doing(f"{what}, round {number + 1} of {self._settings.rounds}")
                try:
                    row.paced.append(self._measure(kinds[row.contender], scenario, rate=table.paced_rate))
                except Refused as error:
                    self._progress.say(f"at {table.paced_rate:.0f}/s {error}")
                self._progress.advance()

    # --- one round ----------------------------------------------------------------------------------------------------

    def _measure(self, kind: Kind, scenario: Scenario, rate: float | None = None) -> Sample:
        """One round of one contender; raises Refused."""
        with RunningServer(kind, scenario, self._settings.ground) as server:
            self.commands.setdefault(kind.name, server.shown_command)
            server.verify()
            with server.refusing(LoadFailed, WrongAnswer):
                if isinstance(scenario, IdleScenario):
                    return self._idle_sample(server, scenario)
                sample = self._quietest(server, replace(self._settings.load, rate=rate))
            server.verify()
            return sample

    def _idle_sample(self, server: RunningServer, scenario: IdleScenario) -> Sample:
        found = idle(server, scenario, self._settings.seconds)
        return Sample(
            seconds=found.seconds,
            answers=found.connections,
            user_s=found.cpu.user_s,
            system_s=found.cpu.system_s,
            memory_bytes=(found.after.pss_kib - found.before.pss_kib) * KIB,
        )

    def _quietest(self, server: RunningServer, load: Load) -> Sample:
        """Measure; again, a few times at most, when other processes had too much of the server's core."""
        taken = [self._take(server, load)]
        while taken[-1].others_share > self._settings.quiet_share and len(taken) <= self._settings.retries:
            taken.append(self._take(server, load))
        return min(taken, key=lambda sample: sample.others_share)

    def _take(self, server: RunningServer, load: Load) -> Sample:
        seen, used, others_s = self._load_once(server, load)
        return Sample(
            seconds=seen.seconds,
            answers=seen.answers,
            user_s=used.user_s,
            system_s=used.system_s,
            received_bytes=seen.received_bytes,
            p50_us=seen.p50_us,
            p90_us=seen.p90_us,
            p99_us=seen.p99_us,
            p999_us=seen.p999_us,
            longest_us=seen.longest_us,
            memory_bytes=memory_of(server.pids).pss_kib * KIB,
            others_share=others_s / seen.seconds,
            client_share=min(1.0, seen.client_share),
            is_client_bound=load.rate is None and self._is_client_bound(server.scenario, seen),
        )

    def _is_client_bound(self, scenario: Scenario, seen: Seen) -> bool:
        if seen.client_share > BUSY_CLIENT:
            return True
        is_like_plain = isinstance(scenario, HttpScenario) and scenario.unit == "request"
        rate = seen.answers / seen.seconds
        return is_like_plain and self.client_limit is not None and rate > BUSY_CLIENT * self.client_limit

    def _load_once(self, server: RunningServer, load: Load) -> tuple[Seen, Cpu, float]:
        """Load a server; return what the client saw, the CPU time it took, and others' seconds on its core."""
        core = server.core
        with self._client(server, load) as client:
            # Both times all that there are: a server may accept before its workers live, and start more of them.
            before, busy_before = cpu_of(server.pids), core_busy_s(core) if core is not None else 0.0
            seen = client.run()
            used = cpu_of(server.pids) - before
            busy_s = core_busy_s(core) - busy_before if core is not None else used.total_s
        if used.total_s <= 0 and seen.seconds >= SEEN_S:
            raise LoadFailed("expected its processes to use CPU time, they used none: it works where we do not see it")
        return seen, used, max(0.0, busy_s - used.total_s)

    def _client(self, server: RunningServer, load: Load) -> AbstractContextManager[Client | Wrk]:
        scenario, port = server.scenario, server.port
        if isinstance(scenario, WebSocketScenario):
            return websocket_client(port, scenario, load)
        assert isinstance(scenario, HttpScenario)
        if self._settings.client == "wrk" and load.rate is None:
            return wrk_client(port, scenario, load)
        return http_client(port, scenario, load, is_floor=server.kind.is_floor)


def shown(sample: Sample, table: Table) -> str:
    """One sample as a line of progress."""
    if table.unit == "connection":
        return f"{sample.bytes_each / KIB:9.2f} KiB each"
    marks = f", others {sample.others_share:.0%}" if sample.others_share >= 0.005 else ""
    marks += ", client-bound" if sample.is_client_bound else ""
    return f"{sample.cpu_us:9.1f} us {sample.rate:10,.0f}/s{marks}"
