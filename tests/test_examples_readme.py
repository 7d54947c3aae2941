"""examples/README.md: every example is in it, and every command of it does what it shows.

A block for the shell (`sh`) is a server that runs while what follows is tried, or commands that prepare it; a block
`console` shows commands behind `$` and what they print, where `...` stands for what differs from run to run.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from example_sites import EXAMPLES, ROOT
from frameworks.serving import Lines
from process import PATIENCE_S, no_alarm
from test_documents import anchors, blocks
from test_pytest_plugin import PLUGIN

README = EXAMPLES / "README.md"
TEXT = README.read_text(encoding="utf-8")
SECTIONS = dict(part.split("\n", 1) for part in re.split(r"^## ", TEXT, flags=re.MULTILINE)[1:])
STARTS = re.compile(r"^(?:\w+=(?:\$\([^)]*\)|\S+) )*(?:fastasgi|python examples/option_sets\.py) ")


def test_every_example_is_there():
    files = {path.name for path in EXAMPLES.glob("*.py")} - {"__init__.py"}
    table = re.findall(r"^\| \[`(\w+\.py)`\]\(#?([\w.]+)\)", TEXT, re.M)
    assert {name for name, _ in table} | {"mutual_tls_client.py"} == files
    assert {target for _, target in table} <= anchors(TEXT) | files
    assert set(SECTIONS) == files - {"demo.py", "mutual_tls_client.py"}


@pytest.mark.parametrize("title", SECTIONS)
def test_every_section_is_run(title):
    found = blocks(SECTIONS[title])
    assert {language for language, _ in found} <= {"sh", "console", "json"}
    assert any(language == "console" for language, _ in found)


class Shell:
    """A folder as a checkout looks, and the server that runs in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        shutil.copytree(EXAMPLES, folder / "examples", ignore=shutil.ignore_patterns("__pycache__"))
        programs = folder / "bin"
        programs.mkdir()
        plugin = " ".join(PLUGIN)
        for name, command in (
            ("fastasgi", f'exec "{sys.executable}" -m fastasgi "$@"'),
            ("python", f'case "$*" in "-m pytest"*) set -- "$@" {plugin};; esac; exec "{sys.executable}" "$@"'),
        ):
            (programs / name).write_text(f"#!/bin/sh\n{command}\n")
            (programs / name).chmod(0o755)
        self.environment = {
            **os.environ,
            "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "PYTHONUNBUFFERED": "1",
            "FASTASGI_PORT": "0",
            "NO_PROXY": "*",
        }
        self.server: subprocess.Popen[str] | None = None
        self.port = "8000"

    def start(self, command: str) -> None:
        """Start a server in place of the one before."""
        self.stop()
        with no_alarm():
            self.server = subprocess.Popen(
                ["bash", "-c", "exec env " + command.replace("PORT=8000", "PORT=0")],
                cwd=self.folder, env=self.environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
            )  # fmt: skip
        self.lines = Lines(self.server.stderr)
        self.port = self.lines.wait(r"running on https?://127\.0\.0\.1:(\d+)")[1]

    def stop(self) -> None:
        """End the server, as Ctrl+C would."""
        if self.server is not None:
            self.server.terminate()
            assert self.server.wait(PATIENCE_S) == 0, "\n".join(self.lines.all)
            self.end()

    def end(self) -> None:
        """End it in any case."""
        server, self.server = self.server, None
        if server is not None:
            server.kill()
            server.wait()
            self.lines.close()

    def run(self, command: str) -> str:
        """What a command prints."""
        command = command.replace("localhost:8000", f"localhost:{self.port}")
        done = subprocess.run(
            ["bash", "-c", command], cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=30
        )
        is_cut = "--max-time" in command  # curl's exit code tells of it
        assert done.returncode == 0 or is_cut, f"{command}\n{done.stdout}{done.stderr}"
        return done.stdout


@pytest.fixture
def shell(tmp_path):
    """Ends its server."""
    made = Shell(tmp_path)
    yield made
    made.end()


def shown(block):
    """The commands of a block and what each prints."""
    return [part.split("\n", 1) for part in re.split(r"^\$ ", block, flags=re.M)[1:]]


def matches(pattern, text):
    """The same, but for what `...` stands for."""
    wanted = ".*?".join(map(re.escape, pattern.strip("\n").split("...")))
    return re.fullmatch(wanted, text.strip("\n"), re.S) is not None


@pytest.mark.slow
@pytest.mark.time_limit(60)
@pytest.mark.parametrize("title", SECTIONS)
@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
def test_commands_do_what_they_show(shell, title):
    if "openssl" in SECTIONS[title] and shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    for language, block in blocks(SECTIONS[title]):
        if language == "sh" and STARTS.match(block):
            shell.start(block.strip())
        elif language == "sh":
            shell.run(block)
        elif language == "console":
            for command, output in shown(block):
                came = shell.run(command)
                assert matches(output, came), f"$ {command}\nexpected:\n{output}\ncame:\n{came}"
    shell.stop()


def test_the_readers_see():
    assert shown("$ a\nb\nc\n$ d\n") == [["a", "b\nc\n"], ["d", ""]]
    assert matches('{"id":1,"at":"..."}\n', '{"id":1,"at":"now"}') and not matches("a...c\n", "abd")
    starts = ("fastasgi x", "A=1 B=$(c -d) fastasgi x", "PORT=1 python examples/option_sets.py x")
    assert all(map(STARTS.match, starts)) and not STARTS.match("mkdir -p fastasgi x")
