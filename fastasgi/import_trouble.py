"""Why an application cannot be imported, in one sentence with the likely cure, and the user's own traceback.

The usual causes, each recognised by what Python says: a wrong directory, a package that is not installed, modules
that import each other, a file that hides a package, a factory that is not named as one.
"""

from __future__ import annotations

import importlib
import inspect
import os
import sys
import sysconfig
import traceback
from types import ModuleType, TracebackType
from typing import Any

from .asgi import guess_interface
from .errors import StartupError
from .suggest import did_you_mean

_LIBRARIES = tuple(
    sorted({sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")})
)


# --- the module ----------------------------------------------------------------------------------------------


def missing_module(name: str) -> StartupError:
    """There is no such module."""
    parent, _, last = name.rpartition(".")
    start = _start()
    if parent:
        where = f"in package {parent!r}"
        folders = list(getattr(sys.modules.get(parent), "__path__", ()))
    else:
        where = f"in {start!r} or among the installed packages"
        folders = [start]
    cure = did_you_mean(last, _modules_in(folders)) or (None if parent else _wrong_directory(name, start))
    default = "change to its directory, or name that with --app-dir"
    return StartupError(f"no module named {name!r} {where}{cure or f'; {default}'}")


def failed_import(target: str, error: BaseException) -> StartupError:
    """The module is there, and importing it raises."""
    what, cure = f"{type(error).__name__}: {error}".rstrip(": "), ""
    circle = _circle(error)
    if circle:
        what, cure = circle
    elif isinstance(error, ModuleNotFoundError) and error.name:
        cure = _cure_for_missing(target, error.name)
        what = f"it needs {error.name!r}, which is not {'found' if cure else 'installed'}"
    elif isinstance(error, ImportError) and "relative import" in str(error):
        cure = _cure_for_relative(target)
    sentence = f"importing {target!r} failed: {what}{line_of(error)}{f'; {cure}' if cure else ''}"
    return StartupError(sentence, details=user_traceback(error))


def _cure_for_missing(target: str, name: str) -> str:
    folder = os.path.basename(_start())
    if name.partition(".")[0] == folder:
        return f"{folder!r} is this directory: add --app-dir .. and name the application {folder}.{target}:..."
    return ""


def _cure_for_relative(target: str) -> str:
    folder = os.path.basename(_start())
    return f"it belongs to a package: add --app-dir .. and name the application {folder}.{target}:..."


def _circle(error: BaseException) -> tuple[str, str] | None:
    """What happened and the cure, where modules import each other, or a file hides a package of its name."""
    modules = [
        frame.f_globals.get("__name__", "?")
        for frame, _ in traceback.walk_tb(_user_frames(error))
        if frame.f_code.co_name == "<module>"
    ]
    if isinstance(error, ImportError):
        again = error.name
    else:  # an attribute of a module that is not complete
        module = getattr(error, "obj", None) if isinstance(error, AttributeError) else None
        again = module.__name__ if isinstance(module, ModuleType) else None
    if again is None or again not in modules:
        return None
    if again == modules[-1]:
        if isinstance(error, AttributeError):
            return None  # a module may look at itself
        return (
            f"{again.rpartition('.')[2]}.py imports itself",
            f"if it was to import a package named {again!r}, rename the file",
        )
    chain = " imports ".join([*modules[modules.index(again) :], again])
    return f"{chain}, which is not complete yet", "move what both need into a module of its own"


def _wrong_directory(name: str, start: str) -> str | None:
    """Where the module is instead: below, or where we are inside its package."""
    if os.path.basename(start) == name:
        return f"; {name!r} is this directory: add --app-dir .., or leave {name!r} out of the name"
    for folder in sorted(_modules_in([start])):
        inside = os.path.join(start, folder)
        if os.path.isfile(os.path.join(inside, f"{name}.py")) or os.path.isdir(os.path.join(inside, name)):
            if os.path.isfile(os.path.join(inside, "__init__.py")):
                return f"; did you mean '{folder}.{name}'?"
            return f"; it is in {folder!r}: add --app-dir {folder}"
    return None


def _start() -> str:
    """The directory that import strings start from."""
    return os.path.abspath(sys.path[0] or os.curdir)


def _modules_in(folders: list[str]) -> list[str]:
    names: set[str] = set()
    for folder in folders:
        try:
            entries = os.listdir(folder)
        except OSError:
            continue
        names.update(
            entry.removesuffix(".py") for entry in entries if entry.removesuffix(".py").isidentifier()
        )
    return sorted(names)


# --- the attribute -------------------------------------------------------------------------------------------


def missing_attribute(owner: Any, walked: str, attribute: str) -> StartupError:
    """The module is there, and has no such attribute. `walked` is the way to `owner`, as in `main:holder`."""
    kind = "module" if isinstance(owner, ModuleType) else "object"
    names = [name for name in dir(owner) if not name.startswith("_")]
    cure = ""
    if isinstance(owner, ModuleType):
        factories = [name for name in names if _is_factory(getattr(owner, name, None), owner)]
        apps = [name for name in names if _is_app(getattr(owner, name, None), owner)]
        if apps:
            cure = did_you_mean(attribute, apps) or f"; it has {', '.join(map(repr, apps[:3]))}"
        elif factories:
            cure = f"; {factories[0]}() may make it: {walked}:{factories[0]} --factory"
    cure = cure or did_you_mean(attribute, names)
    return StartupError(f"{kind} {walked!r} has no attribute {attribute!r}{cure}")


def _is_app(value: Any, module: ModuleType) -> bool:
    if not callable(value) or inspect.isclass(value):
        return False
    if inspect.isfunction(value) and value.__module__ != module.__name__:
        return False
    return guess_interface(value) == "asgi3"


def _is_factory(value: Any, module: ModuleType) -> bool:
    """A function of this module that needs no argument and speaks of an application in its name."""
    if not inspect.isfunction(value) or value.__module__ != module.__name__:
        return False
    return "app" in value.__name__.lower() and guess_interface(value) == "factory"


# --- the user's lines ----------------------------------------------------------------------------------------


def _user_frames(error: BaseException) -> TracebackType | None:
    """The traceback from the first frame that is neither ours nor the import system's."""
    tb = error.__traceback__
    ours = os.path.dirname(__file__) + os.sep
    while tb is not None:
        filename = tb.tb_frame.f_code.co_filename
        if not filename.startswith(("<frozen importlib", ours)) and filename != importlib.__file__:
            return tb
        tb = tb.tb_next
    return None


def user_traceback(error: BaseException) -> str:
    """The traceback as text, from the user's first line on."""
    lines = traceback.format_exception(type(error), error, _user_frames(error))
    return "".join(line for line in lines if '"<frozen importlib' not in line).rstrip("\n")


def line_of(error: BaseException) -> str:
    """` (main.py, line 3)`: the user's innermost line; a syntax error names its own."""
    if isinstance(error, SyntaxError):
        return ""  # its text ends with file and line
    frames = traceback.extract_tb(_user_frames(error))
    if not frames:
        return ""
    own = [frame for frame in frames if not frame.filename.startswith((*_LIBRARIES, "<"))]
    frame = (own or frames)[-1]
    return f" ({os.path.basename(frame.filename)}, line {frame.lineno})"
