"""`fastasgi` without an application: the one that the names in the directory speak for.

Nothing is imported for that; the sources are read.
"""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Iterator
from typing import NamedTuple

from .errors import ConfigError

LOOKED_FOR = "main:app, app:app and *.asgi:application"


class Found(NamedTuple):
    """An application by its import string, and the file that it is in, from the directory."""

    target: str
    path: str


def find_application(directory: str) -> Found:
    """The application of a directory ("" is the current one). Raises `ConfigError` for none, or for several."""
    for module in ("main", "app"):
        for path in (f"{module}.py", os.path.join(module, "__init__.py")):
            if _binds(os.path.join(directory, path), "app"):
                return Found(f"{module}:app", path)
    where = repr(os.path.abspath(directory))
    found = list(_of_projects(directory))
    if len(found) > 1:
        names = ", ".join(each.target for each in found)
        raise ConfigError(f"no application given, and several found in {where}: {names}; name one of them")
    if found:
        return found[0]
    deeper = next(_deeper(directory), None)
    cure = f"did you mean '{deeper}'?" if deeper else "name it, for example: fastasgi main:app"
    raise ConfigError(f"no application given, and none found in {where} (looked for {LOOKED_FOR}); {cure}")


def _of_projects(directory: str) -> Iterator[Found]:
    """Django's way: `project/asgi.py` with `application`; and `asgi.py` in the directory itself."""
    for package in ("", *_packages(directory)):
        path = os.path.join(package, "asgi.py")
        if _binds(os.path.join(directory, path), "application"):
            yield Found(f"{package}.asgi:application".lstrip("."), path)


def _deeper(directory: str) -> Iterator[str]:
    for package in _packages(directory):
        for module in ("main", "app"):
            if _binds(os.path.join(directory, package, f"{module}.py"), "app"):
                yield f"{package}.{module}:app"


def _packages(directory: str) -> list[str]:
    """Folders that can be imported, in order."""
    try:
        entries = sorted(os.scandir(directory or "."), key=lambda entry: entry.name)
    except OSError:
        return []
    return [entry.name for entry in entries if entry.name.isidentifier() and entry.is_dir()]


def _binds(path: str, name: str) -> bool:
    """Whether a source file gives a name a value at its top level."""
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read()
    except (OSError, UnicodeDecodeError):
        return False
    try:
        return name in _names_in(ast.parse(text).body)
    except (SyntaxError, ValueError):  # importing it says what is wrong
        return re.search(rf"^(async\s+def\s+)?{name}\b", text, re.MULTILINE) is not None


def _names_in(body: list[ast.stmt]) -> set[str]:
    names: set[str] = set()
    for node in body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            names.add(node.name)
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            names.update((alias.asname or alias.name).partition(".")[0] for alias in node.names)
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            names.update(each.id for each in ast.walk(node) if isinstance(each, ast.Name) and _is_stored(each))
        elif isinstance(node, (ast.If, ast.Try, ast.With)):
            inner = [getattr(node, part, []) for part in ("body", "orelse", "finalbody")]
            names.update(*(_names_in(statements) for statements in inner))
    return names


def _is_stored(name: ast.Name) -> bool:
    return isinstance(name.ctx, ast.Store)
