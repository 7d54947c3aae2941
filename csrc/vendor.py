"""Fetch the C sources that others wrote, pinned by version and sha256 in `vendor.txt`.

`ensure()` is the only door. It is called before C is compiled and before a source distribution is made, never for
metadata. For each pinned source distribution it does nothing where a stamp already holds the sha256 (later builds, our
own source distribution); else it takes the archive from the folder in `FASTASGI_VENDOR_DIR`; else from the package
index with pip. Only the C files and the licences are copied. What goes wrong is one sentence in a `VendorError`.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
PINS = HERE / "vendor.txt"
STAMP = ".sha256"

# Where in the archive of a project the sources stand, and the folder beside this file where they land.
ROOMS = {"httptools": ("vendor/llhttp", "llhttp")}
WANTED = re.compile(r"(?:.*/)?(?:[^/]+\.[ch]|LICENSE[^/]*)\Z")


class VendorError(Exception):
    """The pinned sources cannot be had; the message is one sentence that names the cure."""


@dataclass(frozen=True)
class Pin:
    """One line of `vendor.txt`: a source distribution and the sha256 of its archive."""

    project: str
    version: str
    sha256: str

    @property
    def archive(self) -> str:
        return f"{self.project}-{self.version}.tar.gz"

    @property
    def target(self) -> Path:
        return HERE / ROOMS[self.project][1]


def read_pins(path: Path = PINS) -> list[Pin]:
    """Read the hash-pinned requirements file; a line of another form is an error of ours."""
    pins = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        match = re.fullmatch(r"([a-z0-9-]+)==(\S+) --hash=sha256:([0-9a-f]{64})", line.strip())
        if match is None:
            raise VendorError(f"{path.name}: expected 'name==version --hash=sha256:...', found {line!r}")
        pins.append(Pin(*match.groups()))
    return pins


def ensure() -> list[Path]:
    """Make sure that all pinned sources are in place; return their folders."""
    pins = read_pins()
    for pin in pins:
        if not is_present(pin):
            fetch(pin)
    return [pin.target for pin in pins]


def is_present(pin: Pin) -> bool:
    """The stamp is written last, so a folder that has it is whole."""
    stamp = pin.target / STAMP
    return stamp.is_file() and stamp.read_text(encoding="ascii").strip() == pin.sha256


def fetch(pin: Pin) -> None:
    """Bring one archive, check it and unpack what we compile."""
    folder = os.environ.get("FASTASGI_VENDOR_DIR")
    with tempfile.TemporaryDirectory(prefix="fastasgi-vendor-") as scratch:
        archive = Path(folder, pin.archive) if folder else download(pin, Path(scratch))
        if not archive.is_file():
            raise VendorError(
                f"FASTASGI_VENDOR_DIR={folder} does not hold {pin.archive}: put it there, or unset the variable to "
                "fetch it from the package index"
            )
        found = hashlib.sha256(archive.read_bytes()).hexdigest()
        if found != pin.sha256:
            raise VendorError(mismatch(pin, found))
        unpack(pin, archive)


def mismatch(pin: Pin, found: str) -> str:
    """The sentence for an archive that is not the pinned one."""
    return (
        f"{pin.archive} has sha256 {found}, but csrc/vendor.txt pins {pin.sha256}: get the pinned file again from the "
        "package index, or correct csrc/vendor.txt if you meant to change the version"
    )


def download(pin: Pin, scratch: Path) -> Path:
    """Let pip fetch the source distribution; it checks the hash too."""
    # The project is named in --no-binary: ":all:" leaks into pip's nested builds and compiles Cython from source.
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", pin.project]
    pinned = scratch / "pinned.txt"
    pinned.write_text(f"{pin.project}=={pin.version} --hash=sha256:{pin.sha256}\n", encoding="ascii")
    command += ["--require-hashes", "--dest", str(scratch), "--requirement", str(pinned)]
    run = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    if run.returncode == 0:
        return scratch / pin.archive
    got = re.search(r"Got\s+([0-9a-f]{64})", run.stdout + run.stderr)
    if got is not None:
        raise VendorError(mismatch(pin, got.group(1)))
    if "No module named pip" in run.stderr:
        cause = f"{sys.executable} has no pip"
    else:
        cause = "pip could not download it (is there a network?)"
    raise VendorError(
        f"the C sources of {ROOMS[pin.project][1]} come from {pin.archive}, and {cause}: put that file into a folder "
        "and name the folder in FASTASGI_VENDOR_DIR"
    )


def unpack(pin: Pin, archive: Path) -> None:
    """Copy the C files and licences of one archive into `csrc/`, and the stamp last of all."""
    source = f"{pin.project}-{pin.version}/{ROOMS[pin.project][0]}/"
    fresh = Path(tempfile.mkdtemp(prefix=f".{pin.target.name}-", dir=HERE))
    try:
        with tarfile.open(archive) as tar:
            for member in tar:
                name = member.name.removeprefix(source)
                if name == member.name or not member.isfile() or not WANTED.match(name) or ".." in name:
                    continue
                place = fresh / name
                place.parent.mkdir(parents=True, exist_ok=True)
                with tar.extractfile(member) as content, place.open("wb") as copy:  # type: ignore[union-attr]
                    shutil.copyfileobj(content, copy)
        (fresh / STAMP).write_text(pin.sha256 + "\n", encoding="ascii")
        fresh.chmod(0o755)
        shutil.rmtree(pin.target, ignore_errors=True)
        fresh.rename(pin.target)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


if __name__ == "__main__":
    try:
        ensure()
    except VendorError as problem:
        raise SystemExit(f"error: {problem}") from None
