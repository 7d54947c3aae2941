"""The floor programs: what the kernel charges for one request or message.

Compiled on first use, and kept in the home of the benchmarks.
"""

import shutil
import subprocess
from pathlib import Path

from .peers import home

NATIVE = Path(__file__).resolve().parent / "native"
CFLAGS = ["-O2", "-std=c11", "-Wall", "-Wextra", "-Werror"]


class CannotCompile(Exception):
    """There is no floor program; says why, and what to do."""


def compile_c(name: str, folder: Path | None = None, *, sources: Path = NATIVE) -> Path:
    """Compile NAME.c unless the program is newer than its source; return the program. Raises CannotCompile."""
    source = sources / f"{name}.c"
    folder = folder or home() / "bin"
    program = folder / name
    if program.exists() and program.stat().st_mtime > source.stat().st_mtime:
        return program
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        raise CannotCompile("no C compiler was found; install gcc or clang to have it")
    folder.mkdir(parents=True, exist_ok=True)
    fresh = folder / f"{name}.new"  # another run may be starting the program that stands there
    run = subprocess.run([compiler, *CFLAGS, "-o", str(fresh), str(source)], capture_output=True, text=True)
    if run.returncode:
        raise CannotCompile(f"{name}.c did not compile: {run.stderr.strip()[-500:]}")
    fresh.replace(program)
    return program
