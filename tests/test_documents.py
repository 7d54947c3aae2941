"""What the documents say is true: every file, function, option, number and command that they name is there.

Read are the words in backticks of README, CONTRIBUTING and `docs/architecture.md`, by their form: a path exists,
`make x` is a door, `module.name`, `Class.name` and `name()` are defined, other identifiers stand in some source. The
last tests are of these readers: one that finds nothing would pass everything.
"""

import math
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from drive import exchange
from test_layers import LINES

from fastasgi.options import FIELDS

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "fastasgi"
README = ROOT / "README.md"
ARCHITECTURE = ROOT / "docs" / "architecture.md"
CONTRIBUTING = ROOT / ".github" / "CONTRIBUTING.md"
NAMING = [README, ARCHITECTURE, CONTRIBUTING]
MIGRATING = ROOT / "docs" / "migrating" / "uvicorn.md"
LINKING = [*NAMING, ROOT / "CHANGELOG.md", *ROOT.glob("docs/**/*.md")]

# A path is named from the root, or within one of these.
FOLDERS = [ROOT, PACKAGE, ROOT / "tests", ROOT / "csrc", ROOT / "bench"]
SUFFIXES = (".py", ".pyx", ".pxd", ".c", ".h", ".md", ".toml", ".txt", ".lua", ".yml")
# What the reader makes, or the build fetches: named, but not in a fresh checkout.
MADE = {"hello.py", "fastasgi.toml", "csrc/llhttp/", "build/site"}
# Dotted names that begin with these are not ours.
FOREIGN = {"asyncio", "http"}
# Identifiers that stand in no source of ours, and parts of such.
ELSEWHERE = {"StopIteration", "hello", "main", "is_", "can_", "wants_", "_s", "_ns", "_bytes"}

IDENTIFIER = re.compile(r"[A-Za-z_]\w*")
DOTTED = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+")
CALL = re.compile(r"([\w.]+)\(.*\)")
DEFINITION = re.compile(
    r"^(?P<indent>[ \t]*)(?:async )?(?:cdef |cpdef )?(?:inline )?"
    r"(?:(?P<kind>class|enum|struct) (?P<type>\w+)(?:\((?P<bases>[\w., ]*)\))?:?"
    r"|def (?P<function>\w+)\("
    r"|(?P<variable>[A-Za-z_]\w*)(?:: [^=]+)? = "
    r"|[\w*.?\[\] ]*?(?P<method>\w+)\([^)]*\)?.*(?:except|noexcept|:$)"
    r"|(?:[\w.]+ )+\**(?P<field>\w+)(?:\[\w+\])?[ \t]*(?:#.*)?$)"
)


# --- what is defined ----------------------------------------------------------------------------------------------


def definitions(text):
    """Names defined in a source of Python or Cython: `name`, and `Class.name` for what stands in a class."""
    found, bases, owners = set(), {}, []
    for line in text.split("\n"):
        indent = len(line) - len(line.lstrip())
        match = DEFINITION.match(line)
        if not line.strip() or not match:
            continue
        while owners and owners[-1][0] >= indent:
            owners.pop()
        name = next(filter(None, (match[group] for group in ("type", "function", "variable", "method", "field"))))
        found.add(name)
        if owners:
            found.add(f"{owners[-1][1]}.{name}")
        if match["type"]:
            owners.append((indent, name))
            bases.setdefault(name, set()).update(re.findall(r"\w+", match["bases"] or ""))
    return found, bases


def c_definitions(text):
    """Names of functions in a source of C."""
    return set(re.findall(r"^[\w \t*]+?\b(\w+)\([^;{]*\)[ \t]*\{", text, re.MULTILINE))


MODULES = {}  # module -> names
BASES = {}  # class -> names of its bases
for path in sorted(PACKAGE.rglob("*")):
    if path.suffix in (".py", ".pyx", ".pxd"):
        module = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
        names, bases = definitions(path.read_text(encoding="utf-8"))
        MODULES.setdefault(module, set()).update(names)
        for name, those in bases.items():
            BASES.setdefault(name, set()).update(those)
EVERY_NAME = set().union(*MODULES.values(), *(c_definitions(path.read_text()) for path in ROOT.glob("csrc/fa_*.[ch]")))
SOURCES = [
    *PACKAGE.rglob("*.py*"), *ROOT.glob("csrc/*.[chp]*"), *ROOT.glob("bench/*.*"), *ROOT.glob("tests/*.py"),
    ROOT / "setup.py", ROOT / "Makefile", ROOT / "pyproject.toml",
]  # fmt: skip
WORDS = {
    word
    for path in SOURCES
    if path.is_file() and path.suffix not in (".pyc", ".pyd") and path.name != Path(__file__).name
    for word in re.findall(r"\w+", path.read_text(encoding="utf-8"))
}
DOORS = set(re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)[1].split())


def has_member(owner, name):
    """A class, or one of its bases, defines the name."""
    return f"{owner}.{name}" in EVERY_NAME or any(has_member(base, name) for base in BASES.get(owner, ()))


def is_path(word):
    return " " not in word and not word.startswith(("/", ".p", ".venv")) and ("/" in word or word.endswith(SUFFIXES))


def path_exists(word):
    """A file, a folder (named with `/` behind it), or a pattern that finds at least one."""
    if word in MADE:
        return True
    for folder in FOLDERS:
        found = list(folder.glob(word.rstrip("/")))
        if found and (not word.endswith("/") or all(each.is_dir() for each in found)):
            return True
    return False


def dotted_exists(word):
    """`module.name`, `Class.name`, `module.Class.name`."""
    first, *rest = word.split(".")
    if first == "fastasgi":
        first = "__init__" if len(rest) == 1 else rest.pop(0)
    if first == "__init__":
        return rest[0] in WORDS and f'"{rest[0]}"' in (PACKAGE / "__init__.py").read_text()
    if first in BASES:
        return len(rest) == 1 and has_member(first, rest[0])
    if first in MODULES:
        return rest[0] in MODULES[first] and (len(rest) == 1 or has_member(rest[0], rest[1]))
    return first in FOREIGN


def why_not(word):
    """None, or why a word in backticks cannot be right."""
    if word.startswith("make "):
        return None if word.split()[1] in DOORS else "no such target in the Makefile"
    if word.startswith(("await ", "async ")):
        word = word.split(" ", 1)[1]
    if is_path(word):
        return None if path_exists(word) else "no such file"
    called = CALL.fullmatch(word)
    name = called[1] if called else word
    if DOTTED.fullmatch(name):
        return None if dotted_exists(name) else "not defined there"
    if not IDENTIFIER.fullmatch(name) or name in ELSEWHERE:
        return None
    if called:
        return None if name in EVERY_NAME else "no such function"
    return None if name in WORDS or name.lower() in FIELDS else "in no source"


# --- what the documents name --------------------------------------------------------------------------------------


def blocks(text):
    """The fenced blocks of a document: their languages and texts."""
    return re.findall(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def without_blocks(text):
    return re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)


def words_of(text):
    """The words in backticks, once each, those outside of blocks."""
    return dict.fromkeys(word.replace("\n", " ") for word in re.findall(r"`([^`]+)`", without_blocks(text)))


NAMED = [(path, word) for path in NAMING for word in words_of(path.read_text(encoding="utf-8"))]


@pytest.mark.parametrize(("path", "word"), NAMED, ids=[f"{path.name}:{word}" for path, word in NAMED])
def test_what_is_named_exists(path, word):
    reason = why_not(word)
    assert reason is None, f"{path.name} names `{word}`: {reason}"


def test_what_drawings_name_exists():
    """`Class.name` within the drawings."""
    for _, text in blocks(ARCHITECTURE.read_text(encoding="utf-8")):
        for word in DOTTED.finditer(text):
            if word[0].split(".")[0] in BASES:
                assert dotted_exists(word[0]), word[0]


def test_the_table_of_layers_is_the_one_that_is_tested():
    text = ARCHITECTURE.read_text(encoding="utf-8")
    table = text.partition("<!-- layers: begin -->")[2].partition("<!-- layers: end -->")[0]
    drawn = [set(line.split("|")[1].split()) for line in table.split("\n") if line.count("|") == 2]
    assert drawn[::-1] == LINES


def rows(text):
    """The names in the first cell of each table row, and the rest of the row."""
    for line in text.split("\n"):
        if line.startswith("| `"):
            first, _, rest = line[1:].partition("|")
            yield re.findall(r"`([^`]+)`", first), rest


@pytest.mark.parametrize(
    ("path", "heading"),
    [(MIGRATING, "## What differs on purpose"), (ARCHITECTURE, "## Deadlines")],
    ids=["uvicorn", "house"],
)
def test_defaults_of_options_are_right(path, heading):
    seen = 0
    for names, rest in rows(path.read_text(encoding="utf-8").partition(heading)[2]):
        for name in names:
            if name in FIELDS:
                seen += 1
                default = FIELDS[name].default
                shown = "none" if default is None else default if isinstance(default, str) else f"{default:g}"
                assert re.search(rf"(?<![\w.]){shown}(?![\w.])", rest), f"{name} is {shown} by default: {rest}"
    assert seen > 5


UNITS = {"": 1, " B": 1, " KiB": 1024, " MiB": 1024 * 1024, " ms": 1_000_000, " us": 1000, " s": 1}


def value_of(constant):
    """The value of a number that some source of the package names."""
    for path in PACKAGE.glob("*.p*"):
        if path.suffix in (".py", ".pyx", ".pxd"):
            found = re.search(rf"^[ \t]*{constant} = (\w[\w.* ]*\b)", path.read_text(encoding="utf-8"), re.MULTILINE)
            if found:
                factors = [1024 if factor == "KIB" else float(factor) for factor in found[1].split(" * ")]
                return math.prod(factors)
    return None


def test_numbers_are_those_of_the_sources():
    text = ARCHITECTURE.read_text(encoding="utf-8")
    found = re.findall(r"`([A-Z][A-Z_]+)`(?:,| \|)\s(\d+)( KiB| MiB| B| ms| us| s)?", text)
    assert len(found) > 10
    for constant, number, unit in found:
        assert value_of(constant) == int(number) * UNITS[unit], constant


# --- commands -----------------------------------------------------------------------------------------------------


def commands(text):
    """The lines of the blocks for a shell, without their remarks."""
    return [
        line.partition("  #")[0].strip()
        for language, block in blocks(text)
        if language == "sh"
        for line in block.split("\n")
        if line.strip()
    ]


CHEAP = ("--version", "--help", "--check-config", "--print-config")
COMMANDS = commands(README.read_text(encoding="utf-8"))
CHEAP_COMMANDS = [command for command in COMMANDS if command.endswith(CHEAP)]


@pytest.fixture
def example(tmp_path):
    """The application of the README, in a folder of its own."""
    (only,) = (text for language, text in blocks(README.read_text(encoding="utf-8")) if language == "python")
    (tmp_path / "hello.py").write_text(only)
    return tmp_path


@pytest.mark.parametrize("command", CHEAP_COMMANDS)
def test_cheap_commands_run(command, example):
    name, *arguments = shlex.split(command)
    assert name == "fastasgi"
    run = subprocess.run(
        [sys.executable, "-m", "fastasgi", *arguments],
        cwd=example,
        env={"PYTHONPATH": str(ROOT), "PATH": ""},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout


def test_every_cheap_command_is_shown():
    assert {command.split()[-1] for command in CHEAP_COMMANDS} == set(CHEAP)


def test_the_doors_of_the_readme_exist():
    opened = [command.split()[1] for command in COMMANDS if command.startswith("make ")]
    assert opened == ["serve", "test"]
    assert set(opened) <= DOORS


async def test_the_example_answers(example):
    names = {}
    exec(compile((example / "hello.py").read_text(), "hello.py", "exec"), names)
    answer, state = await exchange(names["app"], b"GET /here HTTP/1.1\r\nHost: x\r\n\r\n")
    assert answer.body == b"Hello from /here\n"
    assert state == "open"


def test_there_is_one_place_for_the_table():
    text = README.read_text(encoding="utf-8")
    assert text.count("<!-- table: begin -->") == text.count("<!-- table: end -->") == 1
    assert text.index("<!-- table: begin -->") < text.index("<!-- table: end -->")


# --- links --------------------------------------------------------------------------------------------------------


def anchors(text):
    """The anchors that headings make."""
    titles = re.findall(r"^#+ (.*)$", without_blocks(text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("path", LINKING, ids=lambda path: path.name)
def test_links_within_the_repository_resolve(path):
    for target in re.findall(r"\]\(([^)\s]+)\)", without_blocks(path.read_text(encoding="utf-8"))):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        file = (path.parent / name) if name else path
        assert file.exists(), f"{path.name} links to {target}"
        assert not anchor or anchor in anchors(file.read_text(encoding="utf-8")), f"{path.name} links to {target}"


@pytest.mark.parametrize("path", LINKING, ids=lambda path: path.name)
def test_doors_that_are_named_exist(path):
    text = path.read_text(encoding="utf-8")
    for door in re.findall(r"^ {4}make (\w+)|`make (\w+)", text, re.MULTILINE):
        assert (door[0] or door[1]) in DOORS, door


# --- the readers --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "word",
    [
        "fastasgi/_http2.pyx", "no/such/", "Http1._setle()", "_http1.Http1.fed", "HttpExchange.missing", "make tea",
        "waits.send()", "frobnicate()", "NO_SUCH_NUMBER", "NoSuchClass", "Htp1.feed", "csrc/fa_*.pyx",
        "fastasgi.server()",
    ],
)  # fmt: skip
def test_the_reader_refuses(word):
    assert why_not(word) is not None


@pytest.mark.parametrize(
    "word",
    [
        "fastasgi/_*.pyx", "csrc/", "Http1._settle()", "_http1.Http1._settle", "make test PYTHON=python3.13",
        "waits.receive()", "on_url()", "fa_is_token()", "HIGH_WATER", "http.response.start", "SocketChannel.arm()",
        "fastasgi.run(\"main:app\")", "await send(message)", "Phase", "HttpExchange.body", "text with spaces", "408",
    ],
)  # fmt: skip
def test_the_reader_accepts(word):
    assert why_not(word) is None
