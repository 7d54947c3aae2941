"""The stubs say what the compiled modules have: no name more, and no class, function or member less.

Numbers that only the compiled code reads need no mention.
"""

import ast
import importlib
import sys
import types
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "fastasgi"
LINUX_ONLY = {"_listener", "_poller", "_orphan", "_load", "_http", "_websocket"}
STUBS = [
    path
    for path in sorted(PACKAGE.rglob("*.pyi"))
    if path.stem not in LINUX_ONLY or sys.platform.startswith("linux")
]


def is_public(name):
    return not name.startswith("_")


def stub_names(body):
    """Public names that the statements of a stub define."""
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found = node.name
        elif isinstance(node, ast.AnnAssign):
            found = node.target.id
        elif isinstance(node, ast.Assign):  # a member of an enum
            found = node.targets[0].id
        else:
            assert isinstance(node, ast.Import | ast.ImportFrom | ast.Expr), ast.dump(node)
            continue
        if is_public(found):
            yield found


def stub_classes(tree):
    """Classes of a stub with what they define."""
    return {
        node.name: set(stub_names(node.body))
        for node in tree.body
        if isinstance(node, ast.ClassDef) and is_public(node.name)
    }


def own_names(module):
    """Public classes and functions that a compiled module defines."""
    return {
        name
        for name, value in vars(module).items()
        if is_public(name) and callable(value) and getattr(value, "__module__", None) == module.__name__
    }


@pytest.fixture(params=STUBS, ids=lambda path: path.stem)
def stub(request):
    """A stub's tree and its module."""
    tree = ast.parse(request.param.read_text(encoding="utf-8"))
    module = ".".join(request.param.relative_to(PACKAGE.parent).with_suffix("").parts)
    return tree, importlib.import_module(module)


def test_names_of_the_module(stub):
    tree, module = stub
    found = set(stub_names(tree.body))
    assert found <= set(vars(module))
    assert own_names(module) <= found


def test_names_of_each_class(stub):
    tree, module = stub
    for name, members in stub_classes(tree).items():
        assert members == {member for member in vars(getattr(module, name)) if is_public(member)}, name


def test_what_is_final(stub):
    """A class is final in the stub if nobody can derive from it."""
    tree, module = stub
    for node in tree.body:
        if not isinstance(node, ast.ClassDef) or not is_public(node.name):
            continue
        is_final = any(ast.unparse(decorator) == "final" for decorator in node.decorator_list)
        try:
            types.new_class("Derived", (getattr(module, node.name),))
        except TypeError:
            assert is_final, node.name
        else:
            assert not is_final, node.name


def test_the_reader_of_stubs():
    tree = ast.parse("import os\nA: int\n_B: int\ndef f() -> None: ...\nclass C:\n    x: int\n    def _y(self): ...\n")
    assert list(stub_names(tree.body)) == ["A", "f", "C"]
    assert stub_classes(tree) == {"C": {"x"}}
