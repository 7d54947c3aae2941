"""The workflows of `.github/`: least privilege, actions pinned by commit, the wheels that are promised."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.name)
def test_actions_are_pinned_by_commit(file):
    used = re.findall(r"uses:\s*(\S+)", file.read_text())
    assert used
    assert [name for name in used if not re.fullmatch(r"[\w.-]+/[\w.-]+@[0-9a-f]{40}", name)] == []


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.name)
def test_nothing_may_write_but_what_publishes_and_that_only_its_identity(file):
    text = file.read_text()
    assert re.search(r"^permissions:\n  contents: read\n", text, re.MULTILINE)
    assert re.findall(r"^\s+([\w-]+): write", text, re.MULTILINE) == (["id-token"] if "publish:" in text else [])
    assert "secrets." not in text


def test_every_job_has_a_time_limit():
    for file in WORKFLOWS:
        text = file.read_text()
        assert text.count("runs-on:") == text.count("timeout-minutes:"), file.name


def test_the_builder_is_pinned_and_builds_each_version_that_is_promised():
    assert re.search(r"cibuildwheel==\d+\.\d+\.\d+", (ROOT / ".github/workflows/wheels.yml").read_text())
    data = tomllib.loads((ROOT / "pyproject.toml").read_text())
    built = {entry.removeprefix("cp3").removesuffix("-*") for entry in data["tool"]["cibuildwheel"]["build"]}
    promised = {
        found.group(1)
        for entry in data["project"]["classifiers"]
        if (found := re.fullmatch(r"Programming Language :: Python :: 3\.(\d+)", entry))
    }
    assert promised <= built
