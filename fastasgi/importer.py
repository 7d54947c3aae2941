"""From an import string to an ASGI 3 application, and one clear sentence for each way this can fail.

Every failure is a `StartupError` that says whose fault it is: the module is not there, something the module
imports is not there, the module raises, the attribute is not there, or the object is no ASGI application. The
user's traceback, without the frames of the import system, is in `details`.
"""

from __future__ import annotations

import importlib
import inspect
import os
import sys
import traceback
from collections.abc import Callable
from types import ModuleType, TracebackType
from typing import Any, cast

from .asgi import ASGI3Application, guess_interface
from .errors import StartupError
from .fields import did_you_mean
from .logging import server_logger
from .middleware.asgi2 import ASGI2Middleware

_WSGI_CURE = "a2wsgi.WSGIMiddleware(app) makes an ASGI application of it"


def load_app(
    target: str | Callable[..., Any], *, app_dir: str = "", factory: bool = False, interface: str = "auto"
) -> ASGI3Application:
    """The ASGI 3 application that `target` (`module:attribute`, or the object itself) stands for.

    `app_dir` ("" is the current directory) goes to the front of `sys.path` for an import string. With
    `factory`, or when a function without parameters is found, it is called once for the application.
    """
    if isinstance(target, str):
        put_on_path(app_dir)
        app, name = import_from_string(target), repr(target)
    else:
        app, name = target, "the application object"
    app = _make(app, name, factory)
    return _adapt(app, name, interface)


def put_on_path(directory: str) -> None:
    """Let imports start from `directory`."""
    path = os.path.abspath(directory)
    if sys.path[:1] != [path]:
        sys.path.insert(0, path)


def import_from_string(target: str) -> Any:
    """The object that `module:attribute.attribute` names. Raises `StartupError`."""
    module_name, colon, attributes = target.partition(":")
    if not (colon and module_name and attributes) or "/" in module_name or module_name.endswith(".py"):
        raise StartupError(
            f"expected an import string 'module:attribute', got {target!r}{_likely_target(target)}"
        )
    found: Any = _import_module(module_name)
    walked = module_name
    for attribute in attributes.split("."):
        try:
            found = getattr(found, attribute)
        except AttributeError:
            raise StartupError(_missing_attribute(found, walked, attribute)) from None
        walked += ("." if ":" in walked else ":") + attribute
    return found


def _likely_target(target: str) -> str:
    module, _, attribute = target.partition(":")
    module = module.removesuffix(".py").strip("./").replace("/", ".")
    return f"; did you mean '{module or 'main'}:{attribute or 'app'}'?"


def _import_module(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(error.name + ".")):
            raise StartupError(_missing_module(error.name)) from None
        message = (
            f"importing {name!r} failed: it needs {error.name!r}, which is not installed{_line_of(error)}"
        )
        raise StartupError(message, details=user_traceback(error)) from None
    except (Exception, SystemExit) as error:
        what = f"{type(error).__name__}: {error}".rstrip(": ")
        raise StartupError(
            f"importing {name!r} failed: {what}{_line_of(error)}", details=user_traceback(error)
        ) from None


def _missing_module(name: str) -> str:
    parent, _, last = name.rpartition(".")
    if parent:
        where = f"in package {parent!r}"
        folders = list(getattr(sys.modules.get(parent), "__path__", ()))
    else:
        where = f"in {sys.path[0] or os.getcwd()!r} or among the installed packages"
        folders = [sys.path[0] or os.getcwd()]
    guess = did_you_mean(last, _modules_in(folders))
    return (
        f"no module named {name!r} {where}{guess or '; change to its directory, or name that with --app-dir'}"
    )


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


def _missing_attribute(owner: Any, walked: str, attribute: str) -> str:
    kind = "module" if isinstance(owner, ModuleType) else "object"
    names = [name for name in dir(owner) if not name.startswith("_")]
    guess = did_you_mean(attribute, names)
    if not guess and isinstance(owner, ModuleType):
        apps = [name for name in names if _looks_like_app(getattr(owner, name, None), owner)]
        guess = f"; it has {', '.join(map(repr, apps[:3]))}" if apps else ""
    return f"{kind} {walked!r} has no attribute {attribute!r}{guess}"


def _looks_like_app(value: Any, module: ModuleType) -> bool:
    if not callable(value) or inspect.isclass(value):
        return False
    if inspect.isfunction(value) and value.__module__ != module.__name__:
        return False
    return guess_interface(value) == "asgi3"


def _make(app: Any, name: str, factory: bool) -> Any:
    """Call a factory; `app` itself where there is none."""
    if not callable(app):
        raise StartupError(
            f"{name} is {_kind_of(app)}; expected an ASGI application: async def app(scope, receive, send)"
        )
    if not factory:
        if guess_interface(app) != "factory" or inspect.iscoroutinefunction(app):
            return app
        server_logger.warning("%s makes an application; using what it returns, say so with --factory", name)
    try:
        made = app()
    except (Exception, SystemExit) as error:
        what = f"the factory {name} failed: {type(error).__name__}: {error}"
        raise StartupError(what.rstrip(": ") + _line_of(error), details=user_traceback(error)) from None
    if inspect.iscoroutine(made):
        made.close()
        raise StartupError(
            f"the factory {name} is async; expected a plain function that returns the application"
        )
    if not callable(made):
        raise StartupError(f"the factory {name} returned {_kind_of(made)}; expected an ASGI application")
    return made


def _adapt(app: Any, name: str, interface: str) -> ASGI3Application:
    """`app` as ASGI 3, by the option `interface` or by what it looks like."""
    guessed = guess_interface(app) if interface == "auto" else interface
    if guessed == "asgi3":
        return cast(ASGI3Application, app)
    if guessed == "asgi2":
        return ASGI2Middleware(app)
    if guessed == "wsgi":
        raise StartupError(f"{name} takes two arguments, as WSGI applications do; {_WSGI_CURE}")
    wanted = "expected an ASGI application: app(scope, receive, send)"
    raise StartupError(f"{name} is {_kind_of(app)} that takes {_arguments(app)}; {wanted}")


def _kind_of(value: Any) -> str:
    if value is None:
        return "None"
    if isinstance(value, ModuleType):
        return "a module"
    if inspect.isfunction(value):
        return "a function"
    return f"an object of type {type(value).__name__}"


def _arguments(app: Callable[..., Any]) -> str:
    return str(inspect.signature(app)).partition(" -> ")[0]


def _user_frames(error: BaseException) -> TracebackType | None:
    """The traceback from the first frame that is neither ours nor the import system's."""
    tb = error.__traceback__
    while tb is not None:
        filename = tb.tb_frame.f_code.co_filename
        if not filename.startswith("<frozen importlib") and filename not in (__file__, importlib.__file__):
            return tb
        tb = tb.tb_next
    return None


def user_traceback(error: BaseException) -> str:
    """The traceback as text, from the user's first line on."""
    lines = traceback.format_exception(type(error), error, _user_frames(error))
    return "".join(line for line in lines if '"<frozen importlib' not in line).rstrip("\n")


def _line_of(error: BaseException) -> str:
    """` (main.py, line 3)`: the user's innermost line; a syntax error names its own."""
    if isinstance(error, SyntaxError):
        return ""  # its text ends with file and line
    frames = traceback.extract_tb(_user_frames(error))
    if not frames:
        return ""
    return f" ({os.path.basename(frames[-1].filename)}, line {frames[-1].lineno})"
