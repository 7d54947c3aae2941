"""Every line of `behaviours.toml` has a test that pins it, and every mark names a line.

Marks are read from the source, so that a test counts although its file cannot be imported here:
`pytest.mark.pins("id", ...)` anywhere, `pins=` of a wire case through the cases themselves.
"""

import ast
import tomllib
from pathlib import Path

import pytest
from cases import load

TESTS = Path(__file__).parent
LINES = {
    f"{section}.{name}": line
    for section, lines in tomllib.loads((TESTS / "behaviours.toml").read_text()).items()
    for name, line in lines.items()
}


def is_pins(call: ast.Call) -> bool:
    """`pytest.mark.pins(...)`, or `mark.pins(...)`."""
    return isinstance(call.func, ast.Attribute) and call.func.attr == "pins"


def marks_of(tree: ast.Module) -> set[str]:
    """The ids in marks written out in one file."""
    return {
        argument.value
        for call in ast.walk(tree)
        if isinstance(call, ast.Call) and is_pins(call)
        for argument in call.args
        if isinstance(argument, ast.Constant)
    }


def names_of(tree: ast.Module) -> set[str]:
    """`test_x` and `TestY::test_x` of one file."""
    found = set()
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            found.add(node.name)
        elif isinstance(node, ast.ClassDef):
            found |= {f"{node.name}::{inner.name}" for inner in node.body
                      if isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef)}  # fmt: skip
    return {name for name in found if name.rpartition("::")[2].startswith("test_")}


TREES = {path.name: ast.parse(path.read_text(), str(path)) for path in sorted(TESTS.glob("test_*.py"))}
MARKS = {name: marks_of(tree) for name, tree in TREES.items()}
FROM_CASES = {one for case in load() for one in case.pins}
FROM_MARKS = set().union(*MARKS.values())


@pytest.mark.parametrize("line", LINES)
def test_line_is_pinned(line):
    """At least one test pins this line."""
    named = LINES[line].get("tests", [])
    assert line in FROM_CASES | FROM_MARKS or named, f"no test pins {line}: {LINES[line]['says']}"


@pytest.mark.parametrize("name", [name for name in TREES if MARKS[name]])
def test_marks_name_lines(name):
    """No mark names a line that does not exist."""
    assert MARKS[name] <= set(LINES), f"{name} pins what is no line: {MARKS[name] - set(LINES)}"


def test_cases_name_lines():
    """No wire case names a line that does not exist."""
    assert set(LINES) >= FROM_CASES, FROM_CASES - set(LINES)


def test_named_tests_exist():
    """`tests = [...]` names tests that there are."""
    for line, entry in LINES.items():
        for name in entry.get("tests", []):
            path, _, test = name.partition("::")
            assert Path(path).name in TREES, f"{line}: no file {path}"
            assert test in names_of(TREES[Path(path).name]), f"{line}: no test {name}"


def test_entries_are_well_formed():
    """An entry says something in few words and has no other keys than those that are read."""
    for line, entry in LINES.items():
        assert set(entry) <= {"says", "tests"}, f"{line}: unknown keys {set(entry)}"
        assert 10 <= len(entry["says"]) <= 120, f"{line}: {entry['says']!r}"


def test_cases_are_run():
    """The files that run the wire cases mark them with what they pin."""
    for name in ("test_request.py", "test_http1_wire.py"):
        assert "pins(*one.pins)" in (TESTS / name).read_text(), name
