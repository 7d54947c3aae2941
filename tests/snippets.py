"""The blocks of the documents: where they stand, which commands they hold, and whether they can be meant.

`blocks_of(path)` reads the fenced blocks of a page, `commands_of(block)` the command lines of one. A block that cannot
run here has `<!-- not executed: REASON -->` above it, with a reason of `REASONS`; each reason knows what such a block
must look like, so that none can be hidden behind another's. What every block has to hold, executed or not, is in
`faults_of`: the options of every `fastasgi` command exist and take these values, so do variables and keywords.
"""

import ast
import json
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click
import yaml

from fastasgi import cli, ctl
from fastasgi.errors import ConfigError
from fastasgi.options import FIELDS

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md"))]

REASONS = {
    "installs packages": r"\b(pip|uv|apt|apt-get|dnf|brew) ",
    "builds from a checkout": r"\bmake \w",
    "measures for minutes": r"fastasgi\.bench|\bbench/\w+\.py|\bmake bench\b",
    "needs a running server": r"\bfastasgi (ctl|top)\b|\bkill\b|\bcurl\b",
    "needs Docker": r"(?i)\bdocker|^FROM |^services:",
    "needs Kubernetes": r"\bkubectl\b|^apiVersion:",
    "needs systemd": r"\b(systemctl|journalctl|loginctl|systemd-\w+)\b",
    "needs Supervisor": r"\bsupervisor(ctl|d)\b",
    "needs root": r"\bsudo\b|^[#$] (useradd|install|chown)\b|\buseradd\b",
    "needs a domain": r"\bexample\.(com|org|net)\b|\bcertbot\b",
    "a file of deploy/": r"",  # test_deploy_pages.py compares them, test_deploy_*.py give the files to their programs
    "another program": r"\b(uvicorn|gunicorn|hypercorn|granian|daphne|upstream|nginx|haproxy|caddy|traefik|psql)\b",
}
"""Why a block is not executed, and what it holds then."""

NOT_EXECUTED = re.compile(r"<!-- not executed: (.*?) -->")
SHOWN = re.compile(r"<!-- from: deploy/\S+ -->")
FENCE = re.compile(r"^(?P<indent> *)(?P<marks>```+|~~~+)(?P<language>[\w+-]*)[^`\n]*$")
COMMANDS = {"sh", "console", "bash", "shell"}
DATA = {"toml", "ini", "json", "yaml", "nginx", "haproxy", "caddyfile", "dockerfile", "html", "apache", "systemd"}
LANGUAGES = {"", "text", "python"} | COMMANDS | DATA

# Variables that are no options: of the build, of `ctl`, of the benchmarks.
OTHER_VARIABLES = {"DEBUG", "SANITIZE", "COVERAGE", "LTO", "VENDOR_DIR", "CONTROL_SOCKET", "BENCH_HOME"}
CALLS = {"run", "Config", "serve", "serve_in_thread"}
EXTRAS = re.compile(r"fastasgi\[([\w,-]+)\]")


@dataclass(frozen=True)
class Block:
    """One fenced block: its page, the line that its text begins in, and why it is not executed, where it says so."""

    path: Path
    line: int
    language: str
    text: str
    reason: str | None

    @property
    def place(self) -> str:
        return f"{self.path.relative_to(ROOT)}:{self.line}"


def blocks_of(path: Path) -> list[Block]:
    """The blocks of a page, in their order."""
    found, reason, opened = [], None, None
    for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), 1):
        fence = FENCE.match(line)
        if opened is not None:
            if fence and fence["marks"].startswith(opened[0]["marks"]) and not fence["language"]:
                match, start, lines, why = opened
                indent = len(match["indent"])
                text = "".join(f"{each[indent:]}\n" for each in lines)
                found.append(Block(path, start, match["language"].lower(), text, why))
                opened, reason = None, None
            else:
                opened[2].append(line)
        elif fence:
            opened = (fence, number + 1, [], reason)
        elif mark := NOT_EXECUTED.fullmatch(line.strip()):
            reason = mark[1]
        elif SHOWN.fullmatch(line.strip()):
            reason = "a file of deploy/"
        elif line.strip():
            reason = None
    assert opened is None, f"{path}: a block that begins in line {opened[1]} does not end"
    return found


@dataclass
class Command:
    """One command line, and what a page shows that it says; None where it shows nothing."""

    line: str
    shown: str | None = None

    @property
    def words(self) -> list[str]:
        return shlex.split(self.line, comments=True)


def commands_of(block: Block) -> list[Command]:
    """The command lines of a block. In `console` they begin with `$ `, and what follows is what they say."""
    text = block.text.replace("\\\n", " ")
    if block.language != "console":
        return [Command(line.strip()) for line in text.splitlines() if line.strip() and not line.startswith("#")]
    found: list[Command] = []
    for line in text.splitlines(keepends=True):
        if line.startswith("$ "):
            found.append(Command(line[2:].strip(), ""))
        else:
            assert found, f"{block.place}: a block of console begins with `$ ` and a command"
            found[-1].shown += line
    return found


# --- what every block must hold -----------------------------------------------------------------------------------


def faults_of(block: Block) -> Iterator[str]:
    """What is wrong with a block, whether it is executed or not."""
    if block.language not in LANGUAGES:
        yield f"{block.language!r} is no language that the tests know ({', '.join(sorted(LANGUAGES))})"
    if block.reason is not None:
        pattern = REASONS.get(block.reason)
        if pattern is None:
            yield f"{block.reason!r} is no reason that the tests know ({', '.join(REASONS)})"
        elif not re.search(pattern, block.text, re.MULTILINE):
            yield f"nothing in it is of the kind {block.reason!r}"
    elif block.language in ("", "text") and re.search(r"^\$ |^(fastasgi|pip|curl|python) ", block.text, re.MULTILINE):
        yield "commands stand in blocks of sh or console"
    yield from _faults_of_commands(block)
    for name in re.findall(r"\bFASTASGI_([A-Z][A-Z0-9_]*)\b", block.text):
        if name.lower() not in FIELDS and name not in OTHER_VARIABLES and block.language not in ("", "text"):
            yield f"FASTASGI_{name} is no option"
    if block.language == "python":
        yield from _faults_of_calls(block)


def _faults_of_commands(block: Block) -> Iterator[str]:
    if block.language in ("", "text", "python") or block.reason == "a file of deploy/":
        return
    for arguments in fastasgi_commands(block):
        try:
            parse(arguments)
        except (click.ClickException, ConfigError) as error:
            message = error.format_message() if isinstance(error, click.ClickException) else str(error)
            if f"Error: {message}" not in block.text:  # a page may show just that
                yield f"fastasgi {shlex.join(arguments)}: {message}"


def parse(arguments: list[str]) -> dict[str, object]:
    """The options that the arguments of a `fastasgi` command give, converted; raises as the command does."""
    if arguments and arguments[0] in ctl.WORDS:
        context = {"ctl": ctl.ctl, "top": ctl.top}[arguments[0]].make_context("fastasgi", arguments[1:])
        if arguments[0] == "ctl":
            name, command, rest = ctl.ctl.resolve_command(context, arguments[1:])
            command.make_context(name, rest)
        return {}
    if {"--version", "--help"} & set(arguments):
        return {}
    given = cli.main.make_context("fastasgi", list(arguments)).params
    return {
        name: FIELDS[name].convert(value, FIELDS[name].cli_name or name)
        for name, value in given.items()
        if name in FIELDS and value is not None and value != ()
    }


def fastasgi_commands(block: Block) -> Iterator[list[str]]:
    """The arguments of each `fastasgi` command in a block, in whatever way it is written there."""
    if block.language == "yaml":
        for document in yaml.safe_load_all(block.text):
            yield from _commands_in(document)
        return
    is_shell = block.language in COMMANDS
    lines = [each.line for each in commands_of(block)] if is_shell else block.text.replace("\\\n", " ").splitlines()
    for line in lines:
        if found := re.search(r"\[.*\"fastasgi\".*\]", line):
            yield from _commands_in(json.loads(found[0]))
        elif re.search(r"\bfastasgi\b", line):
            try:
                words = shlex.split(re.sub(r"^\w+=(?=/|fastasgi)", "", line), comments=block.language != "html")
            except ValueError:
                continue
            yield from _commands_in(words)


def _commands_in(value: object) -> Iterator[list[str]]:
    if isinstance(value, dict):
        for each in value.values():
            yield from _commands_in(each)
    elif isinstance(value, str):
        if re.search(r"(^|/|\s)fastasgi\s", value):
            yield from _commands_in(shlex.split(value))
    elif isinstance(value, list):
        if not all(isinstance(each, str) for each in value):
            for each in value:
                yield from _commands_in(each)
            return
        for at, word in enumerate(value):
            before = value[at - 1] if at else ""
            # what is installed, imported, executed or named by a unit is no command of this name
            is_program = word.rpartition("/")[2] == "fastasgi" and (before == "-m" or not _is_argument(value[:at]))
            if is_program:
                rest = value[at + 1 :]
                ends = [rest.index(mark) for mark in ("|", "&&", ";", "&", ">", "||") if mark in rest]
                yield rest[: min(ends, default=len(rest))]
                return


def _is_argument(before: list[str]) -> bool:
    """Whether the words in front of a name make it an argument of another program."""
    if not before:
        return False
    return any(
        re.search(r"(^|/)(pip|pip3|uv|import|useradd|systemctl|cd|mkdir|chown|journalctl|supervisorctl|docker|kubectl)$",
                  word) for word in before
    ) or before[-1].startswith("-")  # fmt: skip


def _faults_of_calls(block: Block) -> Iterator[str]:
    try:
        tree = ast.parse(block.text)
    except SyntaxError as error:
        yield f"it is no Python: {error}"
        return
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        owner = node.func.value
        if isinstance(owner, ast.Name) and owner.id == "fastasgi" and node.func.attr in CALLS:
            for keyword in node.keywords:
                if keyword.arg is not None and keyword.arg not in FIELDS:
                    yield f"fastasgi.{node.func.attr}({keyword.arg}=...) is no option"
