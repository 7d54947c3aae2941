"""The peers: which versions, and one cached virtual environment per Python version that holds them."""

import hashlib
import json
import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

# Pinned, so that a table can be repeated. The extras are what each project recommends for speed.
PEERS = (
    "uvicorn[standard]==0.54.0",
    "granian[uvloop]==2.8.7",
    "peregrine-server[uvloop]==1.2.0",
    "h2corn==2.0.0",
    "gunicorn==27.0.1",
    "gunicorn_h1c==0.6.9",
    "hypercorn==0.18.0",
    "daphne==4.2.3",
    "websockets==17.4",
    "wsproto==1.3.2",
    "picows==2.3.1",
    "socketify==0.0.31",
)
FRAMEWORKS = ("fastapi==0.165.0", "starlette==1.10.0", "django>=5.2,<7")
# The loop and the command line that fastasgi itself stands on; uvloop is the same for every server.
COMMON = ("uvloop==0.23.0", "click>=8.1")

VERSIONS_SCRIPT = """
import importlib.metadata as m, json, platform, sys, sysconfig
names = {d.metadata["Name"].lower().replace("_", "-"): d.version for d in m.distributions() if d.metadata["Name"]}
print(json.dumps({"version": platform.python_version(), "implementation": platform.python_implementation(),
    "compiler": platform.python_compiler(), "cache_tag": sys.implementation.cache_tag,
    "optimized": "--enable-optimizations" in (sysconfig.get_config_var("CONFIG_ARGS") or ""),
    "gil": not sysconfig.get_config_var("Py_GIL_DISABLED"), "packages": names}))
"""


@dataclass(frozen=True)
class Interpreter:
    """What an interpreter tells of itself."""

    path: Path
    version: str
    implementation: str
    compiler: str
    cache_tag: str
    optimized: bool
    """Whether it was built with profile-guided optimisation."""
    gil: bool
    packages: dict[str, str]
    """Versions of all that is installed, by name in lower case, with hyphens."""

    def as_words(self) -> dict[str, str]:
        """Return what a table tells of it."""
        build = "optimized build" if self.optimized else "build without PGO"
        return {
            "version": self.version,
            "implementation": self.implementation,
            "compiler": self.compiler,
            "build": build if self.gil else f"{build}, free-threaded",
        }


class MissingPeers(Exception):
    """The peers could not be installed; says what the installer said."""


def tree() -> Path | None:
    """Return the checkout that this package runs from, None where it is installed."""
    root = Path(__file__).resolve().parent.parent.parent
    return root if (root / "setup.py").is_file() else None


def home() -> Path:
    """Return the folder of everything that benchmarks keep outside of the tree."""
    return Path(os.environ.get("FASTASGI_BENCH_HOME") or Path.home() / ".cache" / "fastasgi-bench")


def describe(python: Path) -> Interpreter:
    """Return what an interpreter tells of itself; raise MissingPeers when it is none."""
    # -P, and no PYTHONPATH: what merely lies there is not installed.
    command = [str(python), "-P", "-c", VERSIONS_SCRIPT]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    try:
        run = subprocess.run(command, capture_output=True, text=True, env=environment)
    except OSError as error:
        raise MissingPeers(f"expected a Python interpreter, got {python}: {error.strerror}") from None
    if run.returncode:
        told = " ".join(run.stderr[-500:].split())
        raise MissingPeers(f"expected a Python interpreter, 3.11 or newer, {python} said: {told}")
    return Interpreter(path=python, **json.loads(run.stdout))


def _install(python: Path, *words: str) -> None:
    command = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *words]
    run = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if run.returncode:
        raise MissingPeers(f"pip could not install {' '.join(words)}: {run.stdout[-2000:]}")


def peers_python(python: Path, *, wheel: str | None = None, note: Callable[[str], None] = print) -> Path:
    """Return the interpreter of the virtual environment with the pinned peers; make it if it is not there.

    `python` is the interpreter to make it from, `wheel` a fastasgi wheel or requirement to install into an environment
    of its own, each time anew. A stamp holds what was asked for, so other versions make another one. Raises
    MissingPeers.
    """
    version = describe(python).version
    wanted = [*COMMON, *PEERS, *FRAMEWORKS]
    digest = hashlib.sha256("\n".join([version, *wanted]).encode()).hexdigest()[:12]
    folder = home() / f"peers-{version}-{digest}{'-installed' if wheel else ''}"
    made = folder / "bin" / "python"
    if not (folder / "complete").exists():
        note(f"installing the peers for Python {version} into {folder}")
        subprocess.run([str(python), "-m", "venv", "--clear", str(folder)], check=True)
        _install(made, *wanted)
        (folder / "complete").write_text("\n".join(wanted) + "\n")
    if wheel:
        _install(made, "--force-reinstall", "--no-deps", wheel)
    return made
