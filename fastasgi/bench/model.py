"""What a run of the benchmark is made of: plain data, from the runner to every output.

A `Run` holds one `Table` for each scenario, a table one `Row` for each contender, a row one `Sample` for each round.
Nothing here measures or prints. Times are in seconds or microseconds, sizes in bytes, as the names say.
"""

from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any, Literal

Unit = Literal["request", "message", "throughput", "connection"]
"""What a table counts: CPU per request or message (less is better), bytes a second (more is better), bytes of memory
per idle connection (less is better)."""

OURS = "fastasgi"
REFERENCE = "uvicorn"
FLOOR = "floor"
"""The contender that is no server: epoll, recv and send of a fixed answer, what the kernel charges."""
FLOOR_APPLICATION = "floor-application"
"""The same with the application in a task for each request: what no server can save."""

MICRO = 1e6


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Where a run took place."""

    cpu: str
    cores: int
    is_virtual: bool
    kernel: str
    libc: str
    load_average: float
    """Over one minute, when the run began."""


@dataclass(frozen=True, kw_only=True)
class Contender:
    """A server as it ran: its version, its whole command and why these settings."""

    name: str
    version: str
    command: str
    """As a reader would type it, without paths of the machine."""
    settings: str
    """In words: what was chosen and why it is its best documented production setting."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One round of one contender in one scenario. Latencies are None where the load is open-ended."""

    seconds: float
    answers: int
    """Whole, verified answers (or messages, or connections) that the client counted."""
    user_s: float
    """CPU time of the server's whole process tree, in user space."""
    system_s: float
    received_bytes: int = 0
    p50_us: float | None = None
    p90_us: float | None = None
    p99_us: float | None = None
    p999_us: float | None = None
    longest_us: float | None = None
    memory_bytes: int = 0
    """Proportional set size of the process tree at the end of the round."""
    others_share: float = 0.0
    """CPU time of other processes on the server's core, over `seconds`."""
    client_share: float = 0.0
    """CPU time of the load client over `seconds`: near 1, the client was the limit."""
    is_client_bound: bool = False
    """Whether the client, not the server, set the rate: requests/s say nothing then, CPU per request does."""

    @property
    def rate(self) -> float:
        """Answers a second."""
        return self.answers / self.seconds

    @property
    def user_us(self) -> float:
        """CPU in user space per answer."""
        return self.user_s / self.answers * MICRO

    @property
    def system_us(self) -> float:
        """CPU in the kernel per answer."""
        return self.system_s / self.answers * MICRO

    @property
    def cpu_us(self) -> float:
        """CPU per answer, user and system together."""
        return self.user_us + self.system_us

    @property
    def bytes_each(self) -> float:
        """Memory per answer: what one idle connection takes, where `memory_bytes` is the growth for all of them."""
        return self.memory_bytes / self.answers


@dataclass(kw_only=True)
class Row:
    """All rounds of one contender in one scenario; `refusal` says why it is out, by name and in one sentence."""

    contender: str
    samples: list[Sample] = field(default_factory=list)
    paced: list[Sample] = field(default_factory=list)
    """Rounds in an open loop at `Table.paced_rate`, latency counted from when a request was due."""
    refusal: str | None = None

    @property
    def is_measured(self) -> bool:
        """Whether the row has figures to show: a contender that was refused has none, however fast it was."""
        return bool(self.samples) and self.refusal is None

    def values(self, figure: str) -> list[float]:
        """The figure of each round, such as "cpu_us", "rate" or "p99_us"; rounds without it are left out."""
        found = (getattr(sample, figure) for sample in self.samples)
        return [value for value in found if value is not None]

    def median(self, figure: str) -> float:
        """The median of the figure over the rounds; ValueError (StatisticsError) if no round has it."""
        return median(self.values(figure))


@dataclass(kw_only=True)
class Table:
    """One scenario and all who took part in it, in the order asked for."""

    scenario: str
    title: str
    unit: Unit
    rows: list[Row] = field(default_factory=list)
    payload_bytes: int = 0
    """What one answer (or upload) carries, for throughput."""
    beside: str | None = None
    """The scenario that this one varies: plain-log is measured beside plain, in the same rounds."""
    paced_rate: float | None = None

    def row(self, contender: str) -> Row | None:
        """The measured row of a contender, None if it took no part or was refused."""
        return next((row for row in self.rows if row.contender == contender and row.is_measured), None)


@dataclass(kw_only=True)
class Run:
    """One whole run and everything that is needed to repeat it."""

    started_at: str
    """ISO 8601, UTC."""
    minutes: float
    command: str
    """What repeats it, without paths of the machine."""
    machine: Machine
    python: dict[str, str]
    """Version, compiler, build options of the interpreter that ran the servers."""
    versions: dict[str, str]
    """Of the packages that matter beside the contenders: uvloop, httptools, fastapi, …"""
    settings: dict[str, Any]
    """Rounds, seconds, connections, cores, client: numbers and words as the command line takes them."""
    client_limit: float | None = None
    """Requests a second that the client reaches against the floor program's cheapest answer."""
    contenders: list[Contender] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """Sentences that a reader should know: who was left out and why, and what else was not as asked for."""
    is_partial: bool = False
    """Whether it was interrupted: what was measured until then is there."""

    def as_data(self) -> dict[str, Any]:
        """The run as JSON takes it."""
        return asdict(self)

    @classmethod
    def from_data(cls, data: dict[str, Any]) -> "Run":
        """The run that `as_data` gave; TypeError or KeyError if it is none."""
        rest = {key: value for key, value in data.items() if key not in ("machine", "contenders", "tables")}
        return cls(
            machine=Machine(**data["machine"]),
            contenders=[Contender(**each) for each in data["contenders"]],
            tables=[_table(each) for each in data["tables"]],
            **rest,
        )


def _table(data: dict[str, Any]) -> Table:
    rows = [_row(each) for each in data["rows"]]
    return Table(rows=rows, **{key: value for key, value in data.items() if key != "rows"})


def _row(data: dict[str, Any]) -> Row:
    samples = [Sample(**each) for each in data["samples"]]
    paced = [Sample(**each) for each in data["paced"]]
    return Row(contender=data["contender"], samples=samples, paced=paced, refusal=data["refusal"])
