"""From an import string to an ASGI 3 application.

Every failure is a `StartupError` that says whose fault it is: the module is not there, something the module
imports is not there, the module raises, the attribute is not there, or the object is no application. What it says
of imports stands in `import_trouble.py`.
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
import os
import sys
from collections.abc import Awaitable, Callable
from types import ModuleType
from typing import Any, cast

from .asgi import ASGI3Application, Receive, Scope, Send, guess_interface
from .errors import StartupError
from .import_trouble import failed_import, line_of, missing_attribute, missing_module, user_traceback
from .logging import server_logger
from .middleware.asgi2 import ASGI2Middleware
from .middleware.wsgi import WSGIMiddleware


class AsyncFactory:
    """The application of a factory that is async: made in the loop that serves it.

    Works as it is, making the application with the first scope; who asks for it with `made()` spares each request
    the way through here.
    """

    def __init__(self, factory: Callable[[], Awaitable[Any]], name: str, interface: str) -> None:
        self._factory, self._name, self._interface = factory, name, interface
        self._making: asyncio.Task[ASGI3Application] | None = None

    async def made(self) -> ASGI3Application:
        """The application. Raises `StartupError`."""
        if self._making is None:
            self._making = asyncio.ensure_future(self._make())
        return await asyncio.shield(self._making)

    async def _make(self) -> ASGI3Application:
        try:
            app = await self._factory()
        except (Exception, SystemExit) as error:
            raise _failed_factory(self._name, error) from None
        return _adapt(_checked(app, self._name), self._name, self._interface)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one scope."""
        await (await self.made())(scope, receive, send)


def load_app(
    target: str | Callable[..., Any], *, app_dir: str = "", factory: bool = False, interface: str = "auto"
) -> ASGI3Application:
    """The ASGI 3 application that `target` (`module:attribute`, or the object itself) stands for.

    `app_dir` ("" is the current directory) goes to the front of `sys.path` for an import string. With
    `factory`, or when a function without parameters is found, it is called once for the application; where that
    function is async, the result is an `AsyncFactory`.
    """
    if isinstance(target, str):
        put_on_path(app_dir)
        app, name = import_from_string(target), repr(target)
    else:
        app, name = target, "the application object"
    return _make(app, name, factory, interface)


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
            raise missing_attribute(found, walked, attribute) from None
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
            raise missing_module(error.name) from None
        raise failed_import(name, error) from None
    except (Exception, SystemExit) as error:
        raise failed_import(name, error) from None


def _make(app: Any, name: str, factory: bool, interface: str) -> ASGI3Application:
    """Call a factory, and see that an application comes out of it."""
    if not callable(app):
        raise StartupError(
            f"{name} is {_kind_of(app)}; expected an ASGI application: async def app(scope, receive, send)"
        )
    if not factory:
        if guess_interface(app) != "factory":
            return _adapt(app, name, interface)
        server_logger.warning("%s makes an application; using what it returns, say so with --factory", name)
    if inspect.iscoroutinefunction(app):
        return AsyncFactory(app, name, interface)
    try:
        made = app()
    except (Exception, SystemExit) as error:
        raise _failed_factory(name, error) from None
    if inspect.iscoroutine(made):  # of a factory that hides that it is async, such as a lambda
        return AsyncFactory(lambda: made, name, interface)
    return _adapt(_checked(made, name), name, interface)


def _failed_factory(name: str, error: BaseException) -> StartupError:
    what = f"the factory {name} failed: {type(error).__name__}: {error}".rstrip(": ")
    return StartupError(what + line_of(error), details=user_traceback(error))


def _checked(made: Any, name: str) -> Any:
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
        if interface == "auto":
            server_logger.info("%s is a WSGI application: each request runs in a thread", name)
        return WSGIMiddleware(app)
    wanted = "expected an application: app(scope, receive, send), or app(environ, start_response) for WSGI"
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
