"""What is read from the kernel: CPU time and memory of a process tree, the machine; and the statistics."""

import os
import platform
import statistics
import subprocess
from dataclasses import dataclass
from pathlib import Path

TICKS_PER_S = os.sysconf("SC_CLK_TCK")
KIB = 1024


def _stat_fields(pid: int) -> list[str] | None:
    """Return the fields of /proc/PID/stat after the name (which may hold blanks), None when it has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None


def process_tree(root: int) -> list[int]:
    """Return a process and all its descendants."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and (fields := _stat_fields(int(entry.name))):
            children.setdefault(int(fields[1]), []).append(int(entry.name))
    tree = [root]
    for pid in tree:
        tree.extend(children.get(pid, []))
    return tree


@dataclass(frozen=True)
class Cpu:
    """CPU time in seconds."""

    user_s: float
    system_s: float

    def __sub__(self, other: "Cpu") -> "Cpu":
        return Cpu(self.user_s - other.user_s, self.system_s - other.system_s)

    @property
    def total_s(self) -> float:
        """User and system together."""
        return self.user_s + self.system_s


def cpu_of(pids: list[int]) -> Cpu:
    """Return the CPU time of these processes and of the children that they have waited for (proc(5), stat)."""
    user = system = 0
    for pid in pids:
        if fields := _stat_fields(pid):
            utime, stime, cutime, cstime = map(int, fields[11:15])
            user += utime + cutime
            system += stime + cstime
    return Cpu(user / TICKS_PER_S, system / TICKS_PER_S)


def core_busy_s(core: int) -> float:
    """Return the seconds that a core has spent on anything but idling, for all processes of the machine."""
    for line in Path("/proc/stat").read_text().splitlines():
        name, *numbers = line.split()
        if name == f"cpu{core}":
            user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, numbers[:8])
            return (user + nice + system + irq + softirq + steal) / TICKS_PER_S
    raise ValueError(f"expected a core of this machine, got {core}")


@dataclass(frozen=True)
class Memory:
    """Memory of a process tree in KiB, from /proc/PID/smaps_rollup."""

    pss_kib: int
    uss_kib: int


def memory_of(pids: list[int]) -> Memory:
    """Return the proportional and the unshared memory of these processes."""
    pss = uss = 0
    for pid in pids:
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
        except (FileNotFoundError, ProcessLookupError):
            continue
        sizes = {line.partition(":")[0]: int(line.split()[1]) for line in lines}
        pss += sizes["Pss"]
        uss += sizes["Private_Clean"] + sizes["Private_Dirty"]
    return Memory(pss, uss)


def slab_kib() -> int:
    """Return the kernel's slab memory, which holds sockets, files and epoll items."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("Slab:"):
            return int(line.split()[1])
    return 0


def spread(values: list[float]) -> float:
    """Return how far values lie apart: (largest - smallest) / median; 0 for one value or a median of 0."""
    middle = statistics.median(values)
    return (max(values) - min(values)) / middle if middle else 0.0


def summarize(values: list[float]) -> dict[str, float]:
    """Return median, smallest, largest and spread of the rounds."""
    return {
        "median": statistics.median(values),
        "min": min(values),
        "max": max(values),
        "spread": spread(values),
    }


def round_ratios(ours: list[float], theirs: list[float]) -> list[float]:
    """Return ours / theirs, round by round: neighbours in time share the machine's mood."""
    return [mine / other for mine, other in zip(ours, theirs) if other]


def percentile(ordered: list[float], share: float) -> float:
    """Return the value below or at which this share (0 .. 1) of sorted values lies (nearest rank)."""
    if not ordered:
        raise ValueError("expected at least one value, got none")
    rank = max(1, -(-len(ordered) * share // 1))
    return ordered[int(rank) - 1]


def _first_line(command: list[str]) -> str | None:
    try:
        run = subprocess.run(command, capture_output=True, text=True)
    except OSError:
        return None
    lines = (run.stdout + run.stderr).strip().splitlines()
    return lines[0] if lines else None


def describe_machine() -> dict[str, object]:
    """Return what a reader needs to judge the figures: processor, cores, kernel, tools, load."""
    cpu = platform.processor()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            cpu = line.partition(":")[2].strip()
            break
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "hypervisor": "hypervisor" in Path("/proc/cpuinfo").read_text(),
        "kernel": platform.release(),
        "libc": " ".join(platform.libc_ver()),
        "gcc": _first_line(["gcc", "--version"]),
        "wrk": _first_line(["wrk", "-v"]),
        "load_average": os.getloadavg()[0],
    }
