"""Made-up runs of the benchmark, small enough to work out by hand."""

from fastasgi.bench.model import Contender, Machine, Row, Run, Sample, Table

HOSTILE = "<script>alert(1)</script> & \"quotes\" | pipe `tick` \\ and\nlines"


def sample(cpu_us=10.0, *, answers=10_000, seconds=1.0, share_user=0.5, **more):
    """One round: CPU per answer in microseconds, half of it in user space."""
    cpu_s = cpu_us * answers / 1e6
    return Sample(
        seconds=seconds, answers=answers, user_s=cpu_s * share_user, system_s=cpu_s * (1 - share_user),
        **{"memory_bytes": 32 << 20, **more},
    )  # fmt: skip


def row(contender, *cpu_us, **more):
    """One contender with a round for each of these microseconds."""
    return Row(contender=contender, samples=[sample(each, **more) for each in cpu_us])


def at_rate(*p99_us, rate=1000.0):
    """Rounds at a fixed rate with these 99th percentiles; the others are simple parts of them."""
    return [
        sample(answers=int(rate), p50_us=p99 / 4, p90_us=p99 / 2, p99_us=p99, p999_us=p99 * 2, longest_us=p99 * 4)
        for p99 in p99_us
    ]


def contender(name, version="1.0"):
    return Contender(name=name, version=version, command=f"{name} --port PORT", settings=f"{name}, as documented")


def machine(cpu="Abacus 3000"):
    return Machine(cpu=cpu, cores=2, is_virtual=True, kernel="6.1", libc="glibc 2.36", load_average=0.25)


def plain_table():
    """fastasgi has the middle 10 us, uvicorn 40, granian 20, the floor 5."""
    rows = [
        row("floor", 5.0, 5.0, 5.0),
        row("fastasgi", 9.0, 10.0, 12.0, p50_us=500.0, p99_us=900.0, p999_us=1500.0),
        row("uvicorn", 36.0, 40.0, 48.0),
        row("granian", 18.0, 20.0, 24.0, others_share=0.25),
        Row(contender="liar", samples=[sample(1.0)], refusal="liar is refused for plain: it answered from a cache"),
    ]
    rows[1].paced, rows[2].paced = at_rate(400.0, 440.0, 480.0), at_rate(1600.0, 1800.0, 2400.0)
    return Table(scenario="plain", title="plain GET, 13-byte answer", unit="request", rows=rows, paced_rate=1000.0)


def run(tables=None, **more):
    """A run with a table of each unit."""
    log = [row("fastasgi", 10.0, 11.0, 13.0), row("uvicorn", 90.0, 80.0, 85.0)]
    mib = 1 << 20
    download = [row("fastasgi", 300.0, 310.0, answers=2048), row("uvicorn", 500.0, 510.0, answers=512)]
    idle = [
        Row(contender="fastasgi", samples=[sample(0.0, answers=1000, memory_bytes=1000 * 1024)]),
        Row(contender="uvicorn", samples=[sample(1.0, answers=1000, memory_bytes=8000 * 1024)]),
    ]
    echo = [row("fastasgi", 2.0, 2.0, 3.0, is_client_bound=True), row("uvicorn", 8.0, 9.0, 10.0)]
    tables = tables if tables is not None else [
        plain_table(),
        Table(scenario="plain-log", title="the same, access log on", unit="request", rows=log, beside="plain"),
        Table(scenario="download", title="1 MiB in one send", unit="throughput", rows=download, payload_bytes=mib),
        Table(scenario="ws-100", title="WebSocket echo, 100 bytes", unit="message", rows=echo),
        Table(scenario="idle", title="idle connections", unit="connection", rows=idle),
    ]  # fmt: skip
    names = ("floor", "fastasgi", "uvicorn", "granian", "liar")
    given = {
        "started_at": "2026-11-22T12:00:00+00:00", "minutes": 3.5,
        "command": "python -m fastasgi.bench --against uvicorn",
        "machine": machine(), "python": {"version": "3.13.0", "compiler": "GCC 12.2.0", "build": "optimized"},
        "versions": {"uvloop": "0.23.0"}, "client_limit": 150_000.0,
        "settings": {"rounds": 3, "seconds": 1.0, "warm_up_s": 1.0, "connections": 64, "server_core": 0, "rate": None},
        "contenders": [contender(name) for name in names], "tables": tables, "notes": ["hypercorn is not installed"],
    }  # fmt: skip
    return Run(**{**given, **more})


def hostile_run():
    """Every text comes from an enemy."""
    rows = [row("fastasgi", 1.0), Row(contender="uvicorn", refusal=HOSTILE)]
    table = Table(scenario="plain", title=HOSTILE, unit="request", rows=rows)
    names = [Contender(name=n, version=HOSTILE, command=HOSTILE, settings=HOSTILE) for n in ("fastasgi", "uvicorn")]
    said = {"command": HOSTILE, "notes": [HOSTILE], "machine": machine(HOSTILE), "versions": {"x": HOSTILE}}
    return run([table], contenders=names, **said)
