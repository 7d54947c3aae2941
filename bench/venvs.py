"""The peers: which versions, and one cached virtual environment per Python version that holds them."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
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
)
FRAMEWORKS = ("fastapi==0.165.0",)
# Those of bench/ws_compare.py. wsproto is hypercorn's and uvicorn's; picows is a library: its server is ws_picows.py.
WEBSOCKET_PEERS = (
    "uvicorn[standard]==0.54.0",
    "websockets==17.4",
    "wsproto==1.3.2",
    "granian[uvloop]==2.8.7",
    "hypercorn==0.18.0",
    "picows==2.3.1",
    "socketify==0.0.31",
)
# The loop and the command line that fastasgi itself stands on; uvloop is the same for every server.
COMMON = ("uvloop==0.23.0", "click>=8.1")

VERSIONS_SCRIPT = """
import importlib.metadata as m, json, platform, sysconfig
names = {d.metadata["Name"]: d.version for d in m.distributions()}
print(json.dumps({"python": platform.python_version(), "compiler": platform.python_compiler(),
    "config_args": " ".join(w for w in (sysconfig.get_config_var("CONFIG_ARGS") or "").split() if "/" not in w),
    "cflags": sysconfig.get_config_var("OPT"),
    "gil_disabled": bool(sysconfig.get_config_var("Py_GIL_DISABLED")), "packages": names}))
"""


class MissingPeers(Exception):
    """The peers could not be installed; says what the installer said."""


def home() -> Path:
    """Return the folder of everything that benchmarks keep outside of the tree."""
    return Path(os.environ.get("FASTASGI_BENCH_HOME") or Path.home() / ".cache" / "fastasgi-bench")


def describe(python: Path) -> dict:
    """Return version, build and installed packages of an interpreter, as that interpreter tells them."""
    run = subprocess.run([python, "-c", VERSIONS_SCRIPT], capture_output=True, text=True, check=True)
    return json.loads(run.stdout)


def _install(python: Path, *words: str) -> None:
    command = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *words]
    run = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if run.returncode:
        raise MissingPeers(f"pip could not install {' '.join(words)}: {run.stdout[-2000:]}")


def peers_python(
    python: Path,
    *,
    wheel: str | None = None,
    peers: tuple[str, ...] = PEERS + FRAMEWORKS,
    note: Callable[[str], None] = print,
) -> Path:
    """Return the interpreter of the virtual environment with these peers; make it if it is not there.

    `python` is the interpreter to make it from, `wheel` a fastasgi wheel or requirement to install into an
    environment of its own, each time anew. A stamp holds what was asked for, so other versions make another one.
    """
    version = describe(python)["python"]
    wanted = [*COMMON, *peers]
    digest = hashlib.sha256("\n".join([version, *wanted]).encode()).hexdigest()[:12]
    folder = home() / f"peers-{version}-{digest}{'-installed' if wheel else ''}"
    made = folder / "bin" / "python"
    if not (folder / "complete").exists():
        note(f"installing the peers for Python {version} into {folder}")
        subprocess.run([python, "-m", "venv", "--clear", folder], check=True)
        _install(made, *wanted)
        (folder / "complete").write_text("\n".join(wanted) + "\n")
    if wheel:
        _install(made, "--force-reinstall", "--no-deps", wheel)
    return made


if __name__ == "__main__":
    print(peers_python(Path(sys.argv[1] if len(sys.argv) > 1 else sys.executable)))
