"""What a type checker makes of the public names: every option is a keyword of `run` and `Config`, with its type.

The programs below are made from the table of options and given to mypy in its strict mode, as a user's would be.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from fastasgi.options import FIELDS, Options

pytest.importorskip("mypy")

ROOT = Path(__file__).resolve().parents[1]
OPTIONS = [field for name, field in FIELDS.items() if name != "app"]

HEAD = """
import configparser
import os
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import IO, Any

import fastasgi
from fastasgi.kinds import HeaderPair
from fastasgi.options.declaring import PathLike
from fastasgi.options.running import LogConfigValue, Names
from fastasgi.options.traffic import Pairs
"""

ORDINARY = """
from pathlib import Path

import fastasgi

config = fastasgi.Config("main:app", port=9000, headers=[("a", "b")], timeout_keep_alive=None)
fastasgi.run("main:app", workers=None, bind=["a:1"], reload_dirs=Path("x"), forwarded_allow_ips="*", app_dir=None)
fastasgi.run("main:app", prot=1)
reveal_type(config.port)
reveal_type(config.headers)
reveal_type(config.workers)
reveal_type(config.env_file)
"""


def annotation_of(name: str) -> str:
    """As it is written in the table."""
    part = next(part for part in Options.__mro__ if name in vars(part).get("__annotations__", ()))
    return str(part.__annotations__[name])


def type_read(name: str) -> str:
    """The type of an attribute of `Config`."""
    annotation = annotation_of(name)
    if not annotation.startswith("Given["):
        return annotation
    return annotation.removesuffix("]").rpartition(", ")[2]


def right() -> str:
    """A program that gives every option a value of its type, and reads it as the type of its attribute."""
    parameters = ",\n    ".join(f"{field.name}: {field.annotation}" for field in OPTIONS)
    given = ", ".join(f"{field.name}={field.name}" for field in OPTIONS)
    read = "\n    ".join(f"{field.name}_: {type_read(field.name)} = config.{field.name}" for field in OPTIONS)
    return (
        f"{HEAD}\n\ndef give(\n    {parameters},\n) -> None:\n"
        f'    fastasgi.run("main:app", {given})\n    fastasgi.Config("main:app", {given})\n\n\n'
        f"def read(config: fastasgi.Config) -> None:\n    {read}\n"
    )


def wrong() -> str:
    """A program that gives every option an object of no type that it takes."""
    given = ", ".join(f"{field.name}=value" for field in OPTIONS)
    return (
        "import fastasgi\n\n\nclass Wrong: ...\n\n\nvalue = Wrong()\n"
        f'fastasgi.run("main:app", {given})\nfastasgi.Config("main:app", {given})\n'
    )


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """What mypy says of each program."""
    directory = tmp_path_factory.mktemp("typing")
    programs = {"right.py": right(), "wrong.py": wrong(), "ordinary.py": ORDINARY}
    for name, text in programs.items():
        (directory / name).write_text(text)
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file=", f"--cache-dir={directory}/cache", *programs]
    environ = {**os.environ, "MYPYPATH": str(ROOT)}
    run = subprocess.run(command, cwd=directory, env=environ, capture_output=True, text=True)
    assert run.returncode in (0, 1), run.stdout + run.stderr
    lines = run.stdout.splitlines()
    return {name: [line.partition(": ")[2] for line in lines if line.startswith(name)] for name in programs}


def test_every_option_takes_its_type_and_is_read_as_its_own(said: dict[str, list[str]]) -> None:
    assert said["right.py"] == []


@pytest.mark.parametrize("function", ["run", "Config"])
def test_no_option_takes_anything_else(said: dict[str, list[str]], function: str) -> None:
    refused = re.findall(rf'^error: Argument "(\w+)" to "{function}" has', "\n".join(said["wrong.py"]), re.MULTILINE)
    assert sorted(refused) == sorted(field.name for field in OPTIONS)


def test_ordinary_program(said: dict[str, list[str]]) -> None:
    assert [line for line in said["ordinary.py"] if "defined in" not in line] == [
        'error: Unexpected keyword argument "prot" for "run"  [call-arg]',
        'note: Revealed type is "int"',
        'note: Revealed type is "list[tuple[str, str]]"',
        'note: Revealed type is "int"',
        'note: Revealed type is "str | None"',
    ]
