"""A run as a file: JSON that pyperf reads, with the whole run in it.

Benchmarks are named `plain/fastasgi` and hold seconds of CPU per request, one value for each round; a round is one run
of pyperf's, because it is a fresh process. `plain/fastasgi/p99` holds latencies at a fixed rate,
`download/fastasgi/answer` seconds per answer, `idle/fastasgi` bytes per connection. So
`python -m pyperf compare_to OLD.json NEW.json` compares two runs. The run itself stands under a key of its own, which
pyperf does not read.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Any

from .model import MICRO, Row, Run, Sample, Table

KEY = "fastasgi.bench"
MISSING = "expected pyperf, which writes the results, it is not installed: pip install 'fastasgi[bench]'"
PACED = {"p50": "p50_us", "p99": "p99_us", "p99.9": "p999_us"}

Value = Callable[[Sample], float | None]


def require_pyperf() -> Any:
    """pyperf; ValueError with the cure where it is not installed. To be asked before anything is measured."""
    try:
        import pyperf  # noqa: PLC0415  an optional extra
    except ImportError:
        raise ValueError(MISSING) from None
    return pyperf


def write(run: Run, path: Path) -> None:
    """Write the file; ValueError where pyperf is missing."""
    path.write_text(json.dumps(as_json(run), indent=1, sort_keys=True) + "\n", encoding="utf-8")


def read(path: Path) -> Run:
    """The run of a file, exactly as it was written; ValueError in one sentence if there is none in it."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"expected a recorded run, {path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ValueError(f"expected a recorded run, {path} is no JSON: {error}") from error
    if not isinstance(data, dict) or KEY not in data:
        raise ValueError(
            f'expected a recorded run, {path} has no "{KEY}": it was not written by fastasgi.bench'
        )
    try:
        return Run.from_data(data[KEY])
    except (TypeError, KeyError, AttributeError) as error:
        raise ValueError(
            f"expected a run as this version records it, {path} has another form: {error}"
        ) from error


def as_json(run: Run) -> dict[str, Any]:
    """pyperf's data with the run beside it; no benchmarks at all if nobody has figures."""
    pyperf = require_pyperf()
    everywhere = _of_the_run(run)
    found = [
        pyperf.Benchmark(
            [
                pyperf.Run([value], metadata={**everywhere, **each.metadata, **own}, collect_metadata=False)
                for value, own in each.rounds
            ]
        )
        for each in _benchmarks(run)
    ]
    if not found:
        return {"version": "1.0", "benchmarks": [], KEY: run.as_data()}
    text = StringIO()  # pyperf gives its data as text only
    pyperf.BenchmarkSuite(found).dump(text)
    return {**json.loads(text.getvalue()), KEY: run.as_data()}


@dataclass(frozen=True)
class _Benchmark:
    """What becomes one benchmark of pyperf's: a positive value for each round, and what is said about it."""

    metadata: dict[str, Any]
    rounds: list[tuple[float, dict[str, Any]]]


def _benchmarks(run: Run) -> Iterator[_Benchmark]:
    for table in run.tables:
        for row in table.rows:
            if not row.is_measured:
                continue
            about = _of_the_contender(run, row.contender)
            for name, unit, value, samples in _values(table, row):
                # A round too short for the clock of the kernel has no CPU time; pyperf knows no zero.
                rounds = [
                    (found, {"duration": sample.seconds, "others_share": sample.others_share})
                    for sample in samples
                    if (found := value(sample)) is not None and found > 0
                ]
                if rounds:
                    title = {
                        "name": f"{table.scenario}/{row.contender}{name}",
                        "unit": unit,
                        "description": table.title,
                    }
                    yield _Benchmark({**about, **_without_nothing(title)}, rounds)


def _values(table: Table, row: Row) -> Iterator[tuple[str, str, Value, list[Sample]]]:
    """What a row is compared by: what its names end with, pyperf's unit, the value, the rounds."""
    if table.unit == "connection":
        yield "", "byte", lambda sample: sample.bytes_each, row.samples
        return
    yield "", "second", lambda sample: sample.cpu_us / MICRO, row.samples
    if table.unit == "throughput":
        yield "/answer", "second", lambda sample: 1 / sample.rate if sample.answers else None, row.samples
    for name, figure in PACED.items():
        yield f"/{name}", "second", partial(_latency_s, figure), row.paced


def _latency_s(figure: str, sample: Sample) -> float | None:
    value: float | None = getattr(sample, figure)
    return None if value is None else value / MICRO


def _of_the_run(run: Run) -> dict[str, Any]:
    about = {
        "started_at": run.started_at, "command": run.command, "cpu_model_name": run.machine.cpu,
        "cpu_count": run.machine.cores, "platform": f"{run.machine.kernel}, {run.machine.libc}",
        "load_avg_1min": run.machine.load_average,
        **{f"python_{name}": text for name, text in run.python.items()},
        **{f"version_{name}": text for name, text in run.versions.items()},
    }  # fmt: skip
    return _without_nothing(about)


def _of_the_contender(run: Run, name: str) -> dict[str, Any]:
    found = next((contender for contender in run.contenders if contender.name == name), None)
    if found is None:
        return {}
    about = {"version": found.version, "command": found.command, "settings": found.settings}
    return _without_nothing({f"contender_{key}": text for key, text in about.items()})


def _without_nothing(metadata: dict[str, Any]) -> dict[str, Any]:
    """pyperf refuses empty texts and line ends."""
    on_one_line = {
        key: " ".join(value.split()) if isinstance(value, str) else value for key, value in metadata.items()
    }
    return {key: value for key, value in on_one_line.items() if value not in ("", None)}
