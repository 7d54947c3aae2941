"""The build as others use it: installs of every kind, the fetched sources, and what is built anew.

What compiles the package is marked `slow`: CI runs it once. It works on a copy of the tree, so that nothing in the
checkout changes, and without a network wherever a network is not the point.
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SLOW_LIMIT_S = 420
ARCHIVE = "httptools-0.9.0.tar.gz"
# An address of this machine where nothing listens: pip is refused at once, as without a network.
NOWHERE = "http://127.0.0.1:9/simple"


def copy_tree(target):
    """Copy what git would give, without fetched sources and build products."""
    skip = shutil.ignore_patterns(
        ".git", ".venv*", "build", "dist", "*.egg-info", "*.so", "__pycache__", ".*cache", ".hypothesis", "llhttp",
        ".llhttp-*", "results",
    )
    shutil.copytree(ROOT, target, ignore=skip)
    return target


def add_sources(tree):
    """Bring the fetched sources, as any earlier build would have."""
    shutil.copytree(ROOT / "csrc/llhttp", tree / "csrc/llhttp")


def environment(**changes):
    """This process's environment without pip's and the build's own switches."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "FASTASGI_", "PYTHON"))}
    return kept | changes


def run(*command, cwd, **changes):
    """Run a command; return the finished process with its output as text."""
    command = [str(part) for part in command]
    return subprocess.run(
        command, cwd=cwd, env=environment(**changes), capture_output=True, text=True, stdin=subprocess.DEVNULL
    )


def succeed(*command, cwd, **changes):
    """Run a command that must end with 0."""
    done = run(*command, cwd=cwd, **changes)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def build_in_place(tree, **changes):
    """Compile in the tree; return what the build said."""
    return succeed(sys.executable, "setup.py", "build_ext", "--inplace", cwd=tree, **changes)


def new_environment(path, *, like_ours=False):
    """Make a virtual environment; `like_ours` lets it see the packages of the running one."""
    venv.create(path, with_pip=True)
    if like_ours:
        python = path / "bin/python"
        site = succeed(python, "-c", "import site; print(site.getsitepackages()[0])", cwd=path).strip()
        ours = [entry for entry in sys.path if entry.endswith("site-packages")]
        # before its own: Python 3.11 gives an old setuptools to each new environment
        Path(site, "ours.pth").write_text(f"import sys; sys.path[1:1] = {ours}\n", encoding="utf-8")
    return path / "bin/python"


def check_installed(python, away):
    """The installed package imports from elsewhere, compiled part too, and has its command."""
    code = "import fastasgi, fastasgi._probe as r; print(r.parse([b'GET / HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n'])[-1])"
    assert "complete" in succeed(python, "-c", code, cwd=away)
    assert succeed(python.parent / "fastasgi", "--version", cwd=away).strip()


def compiled(output):
    """Names of the C files that a build compiled."""
    return {Path(name).name for name in re.findall(r" -c (\S+\.c) ", output)}


# ------------------------------------------------------------------------------------ quick: static


def project():
    """pyproject.toml as data."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def test_the_build_group_repeats_what_the_project_needs():
    """A dependency group cannot include the project's own requirements, so the Makefile's group repeats them."""
    data = project()
    needed = {*data["build-system"]["requires"], *data["project"]["dependencies"]}
    assert set(data["dependency-groups"]["build"]) == needed


def test_fetched_sources_are_never_committed():
    listed = run("git", "ls-files", "csrc/llhttp", cwd=ROOT)
    assert listed.stdout == ""


def test_metadata_needs_no_sources(tmp_path):
    tree = copy_tree(tmp_path / "tree")
    code = "import setuptools.build_meta as b; print(b.prepare_metadata_for_build_wheel('.'))"
    assert "fastasgi-" in succeed(sys.executable, "-c", code, cwd=tree, PIP_INDEX_URL=NOWHERE, PIP_NO_INDEX="1")
    assert not (tree / "csrc/llhttp").exists()


# ----------------------------------------------------------------------------- quick: fetched sources


@pytest.fixture
def vendor_tree(tmp_path):
    """A tree that has not fetched yet, and a folder with an archive made for it."""
    tree = tmp_path / "tree"
    shutil.copytree(ROOT / "csrc", tree / "csrc", ignore=shutil.ignore_patterns("llhttp", "__pycache__"))
    archives = tmp_path / "archives"
    archives.mkdir()
    inside = tmp_path / "httptools-0.9.0/vendor/llhttp"
    (inside / "src").mkdir(parents=True)
    (inside / "src/api.c").write_text("int api;\n")
    (inside / "src/skip.py").write_text("raise SystemExit\n")
    (inside / "LICENSE").write_text("MIT\n")
    with tarfile.open(archives / ARCHIVE, "w:gz") as tar:
        tar.add(tmp_path / "httptools-0.9.0", "httptools-0.9.0")
    return tree, archives


def pin(tree, archives):
    """Pin the archive of the test."""
    sha256 = hashlib.sha256((archives / ARCHIVE).read_bytes()).hexdigest()
    (tree / "csrc/vendor.txt").write_text(f"httptools==0.9.0 --hash=sha256:{sha256}\n")
    return sha256


def fetch(tree, **changes):
    """Run the door that the build uses."""
    return run(sys.executable, "csrc/vendor.py", cwd=tree, **changes)


def is_one_sentence(done):
    """Whether a failed process said one line, and no traceback."""
    return done.returncode != 0 and len(done.stderr.strip().splitlines()) == 1 and done.stderr.startswith("error: ")


def test_sources_come_from_a_folder(vendor_tree):
    tree, archives = vendor_tree
    sha256 = pin(tree, archives)
    done = fetch(tree, FASTASGI_VENDOR_DIR=str(archives), PIP_INDEX_URL=NOWHERE)
    assert (done.returncode, done.stderr) == (0, "")
    names = sorted(path.relative_to(tree / "csrc/llhttp").as_posix() for path in (tree / "csrc/llhttp").rglob("*.*"))
    assert names == [".sha256", "src/api.c"]
    assert (tree / "csrc/llhttp/LICENSE").exists()
    assert (tree / "csrc/llhttp/.sha256").read_text().strip() == sha256
    # and now they are there: neither folder nor network is asked again
    assert fetch(tree, FASTASGI_VENDOR_DIR="/nonexistent", PIP_INDEX_URL=NOWHERE).returncode == 0


def test_a_wrong_hash_is_one_sentence(vendor_tree):
    tree, archives = vendor_tree
    done = fetch(tree, FASTASGI_VENDOR_DIR=str(archives))
    assert is_one_sentence(done), done.stderr
    assert "sha256" in done.stderr
    assert "csrc/vendor.txt" in done.stderr
    assert not (tree / "csrc/llhttp").exists()


def test_a_folder_without_the_archive_is_one_sentence(vendor_tree, tmp_path):
    tree, _ = vendor_tree
    done = fetch(tree, FASTASGI_VENDOR_DIR=str(tmp_path))
    assert is_one_sentence(done), done.stderr
    assert ARCHIVE in done.stderr
    assert "FASTASGI_VENDOR_DIR" in done.stderr


def test_no_network_is_one_sentence(vendor_tree):
    tree, _ = vendor_tree
    done = fetch(tree, PIP_INDEX_URL=NOWHERE, PIP_NO_INDEX="1", PIP_CONFIG_FILE=os.devnull)
    assert is_one_sentence(done), done.stderr
    assert "FASTASGI_VENDOR_DIR" in done.stderr
    assert ARCHIVE in done.stderr


def test_sources_of_another_pin_are_fetched_anew(vendor_tree):
    tree, archives = vendor_tree
    (tree / "csrc/llhttp").mkdir()
    (tree / "csrc/llhttp/.sha256").write_text("0" * 64)
    (tree / "csrc/llhttp/old.c").write_text("")
    pin(tree, archives)
    assert fetch(tree, FASTASGI_VENDOR_DIR=str(archives)).returncode == 0
    assert not (tree / "csrc/llhttp/old.c").exists()


def test_the_build_ends_with_the_sentence(tmp_path):
    tree = copy_tree(tmp_path / "tree")
    done = run(sys.executable, "setup.py", "-q", "build_ext", "--inplace", cwd=tree, FASTASGI_VENDOR_DIR=str(tmp_path))
    assert done.returncode != 0
    assert done.stderr.strip().splitlines()[-1].startswith("error: FASTASGI_VENDOR_DIR")
    assert "Traceback" not in done.stderr


# --------------------------------------------------------------------------------------- slow: builds

slow = [pytest.mark.slow, pytest.mark.time_limit(SLOW_LIMIT_S)]


@pytest.fixture(scope="module")
def built_tree(tmp_path_factory):
    """A tree that was compiled in place once."""
    tree = copy_tree(tmp_path_factory.mktemp("built") / "tree")
    add_sources(tree)
    build_in_place(tree)
    return tree


class TestRebuild:
    """What is compiled after a change: no more than what the change touches."""

    pytestmark = slow

    def test_nothing_changed(self, built_tree):
        assert compiled(build_in_place(built_tree)) == set()

    def test_one_module(self, built_tree):
        source = built_tree / "fastasgi/_request.pyx"
        source.write_text(source.read_text(encoding="utf-8") + "\n", encoding="utf-8")
        assert compiled(build_in_place(built_tree)) == {"_request.c"}

    def test_one_c_file_links_its_users(self, built_tree):
        (built_tree / "csrc/fa_text.c").touch()
        output = build_in_place(built_tree)
        assert all(name.startswith("fa_") for name in compiled(output))
        assert "-shared" in output

    def test_another_mode_shares_nothing(self, built_tree):
        module = next(built_tree.glob("fastasgi/_request.*.so"))
        release = module.read_bytes()
        build_in_place(built_tree, FASTASGI_DEBUG="1")
        assert module.read_bytes() != release
        assert compiled(build_in_place(built_tree)) == set()
        assert module.read_bytes() == release

    def test_a_cython_warning_is_an_error(self, built_tree):
        source = built_tree / "fastasgi/_warns.pyx"
        source.write_text("# cython: freethreading_compatible=True\ncdef int f():\n    cdef int x\n    return x\n")
        try:
            done = run(sys.executable, "setup.py", "-q", "build_ext", "--inplace", cwd=built_tree)
        finally:
            source.unlink()
        assert done.returncode != 0
        assert "referenced before assignment" in done.stdout + done.stderr

    def test_a_warning_of_our_c_is_an_error(self, built_tree):
        source = built_tree / "csrc/fa_warns.c"
        source.write_text("int fa_warns(long n);\nint fa_warns(long n) { return n; }\n")
        try:
            done = run(sys.executable, "setup.py", "-q", "build_ext", "--inplace", cwd=built_tree)
        finally:
            source.unlink()
        assert done.returncode != 0
        assert "-Werror" in done.stderr


class TestInstall:
    """Every way in which a user installs."""

    pytestmark = slow

    def test_isolated_from_a_checkout(self, tmp_path):
        """Nothing but Python, pip and a C compiler; pip brings Cython, the build brings llhttp."""
        tree = copy_tree(tmp_path / "tree")
        python = new_environment(tmp_path / "venv")
        succeed(python, "-m", "pip", "install", "--quiet", tree, cwd=tmp_path)
        check_installed(python, tmp_path)
        licences = succeed(python, "-m", "pip", "show", "--files", "fastasgi", cwd=tmp_path)
        assert "fastasgi/py.typed" in licences
        assert "csrc" not in licences.replace("licenses/csrc", "")

    def test_editable(self, tmp_path, built_tree):
        tree = built_tree   # what pip compiles anew, the others show
        python = new_environment(tmp_path / "venv", like_ours=True)
        command = ["install", "--quiet", "--no-build-isolation", "--no-deps", "--no-index", "--editable", tree]
        succeed(python, "-m", "pip", *command, cwd=tmp_path)
        check_installed(python, tmp_path)
        place = succeed(python, "-c", "import fastasgi; print(fastasgi.__file__)", cwd=tmp_path)
        assert Path(place.strip()).parent == tree / "fastasgi"

    def test_from_our_archive_without_a_network(self, tmp_path):
        """The archive carries llhttp: no index, no folder, no pip download."""
        tree = copy_tree(tmp_path / "tree")
        add_sources(tree)
        succeed(sys.executable, "setup.py", "-q", "sdist", "--dist-dir", tmp_path, cwd=tree)
        archive = next(tmp_path.glob("fastasgi-*.tar.gz"))
        with tarfile.open(archive) as tar:
            names = {name.partition("/")[2] for name in tar.getnames()}
        wanted = {"csrc/llhttp/src/llhttp.c", "csrc/llhttp/.sha256", "csrc/llhttp/LICENSE"}
        wanted |= {"csrc/vendor.py", "csrc/vendor.txt", "fastasgi/_request.pxd", "tests/conftest.py", "Makefile"}
        wanted |= {"fastasgi/bench/native/floor.c", "fastasgi/bench/native/wsfloor.c"}
        assert wanted <= names
        assert not [name for name in names if name.endswith((".so", ".pyc", ".o"))]

        python = new_environment(tmp_path / "venv", like_ours=True)
        offline = {"PIP_NO_INDEX": "1", "PIP_CONFIG_FILE": os.devnull, "PIP_INDEX_URL": NOWHERE}
        command = ["install", "--quiet", "--no-build-isolation", "--no-deps", archive]
        # in the mode that compiles fastest: the other one is tried above
        succeed(python, "-m", "pip", *command, cwd=tmp_path, FASTASGI_DEBUG="1", **offline)
        check_installed(python, tmp_path)
        files = succeed(python, "-m", "pip", "show", "--files", "fastasgi", cwd=tmp_path)
        assert "licenses/csrc/llhttp/LICENSE" in files
        for name in ("native/floor.c", "native/wsfloor.c", "native/load.lua", "apps/raw_app.py"):
            assert f"fastasgi/bench/{name}" in files
