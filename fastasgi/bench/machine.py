"""What is read from the kernel and told to it: CPU time and memory of a process tree, the machine, which core."""

import os
import platform
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from .model import Machine

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


def first_line(command: list[str]) -> str | None:
    """Return what a program says first, None if it is not there."""
    try:
        run = subprocess.run(command, capture_output=True, text=True)
    except OSError:
        return None
    lines = (run.stdout + run.stderr).strip().splitlines()
    return lines[0] if lines else None


def describe_machine() -> Machine:
    """Return what a reader needs to judge the figures: processor, cores, kernel, load."""
    text = Path("/proc/cpuinfo").read_text()
    models = [line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("model name")]
    return Machine(
        cpu=models[0] if models else platform.processor() or platform.machine(),
        cores=os.cpu_count() or 1,
        is_virtual="hypervisor" in text,
        kernel=platform.release(),
        libc=" ".join(platform.libc_ver()),
        load_average=os.getloadavg()[0],
    )


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Have Ctrl-C and SIGTERM take effect at the end, as KeyboardInterrupt: for steps after which there is somebody who
    ends what they have started."""
    if threading.current_thread() is not threading.main_thread():
        yield  # signals interrupt the main thread only
        return
    came: list[int] = []
    before = {
        number: signal.signal(number, lambda number, frame: came.append(number))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if came:
        raise KeyboardInterrupt


@contextmanager
def starting_on(core: int | None) -> Iterator[None]:
    """Have what is started meanwhile run on one core: a child takes its parent's cores over. None: wherever."""
    if core is None:
        yield
        return
    own = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, own)
