"""Which event loop runs the server."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any, cast

from . import importer
from .errors import StartupError

LoopFactory = Callable[[], asyncio.AbstractEventLoop]

UVLOOP_MISSING = (
    "loop=uvloop, but uvloop is not installed; run 'pip install uvloop', or leave loop at auto, "
    "which takes asyncio then"
)


def loop_factory(name: str) -> LoopFactory | None:
    """The factory for a checked value of the option `loop`; None for `none`. Raises `StartupError`."""
    if name == "none":
        return None
    if name == "asyncio":
        return _asyncio_factory()
    if name == "auto":
        return _uvloop_factory() or _asyncio_factory()
    if name == "uvloop":
        factory = _uvloop_factory()
        if factory is None:
            raise StartupError(UVLOOP_MISSING)
        return factory
    return _imported_factory(name)


def _asyncio_factory() -> LoopFactory:
    # The Proactor is what Windows needs for subprocesses; elsewhere the selector loop is the only one.
    if sys.platform == "win32":
        return asyncio.ProactorEventLoop
    return asyncio.SelectorEventLoop


def _uvloop_factory() -> LoopFactory | None:
    try:
        uvloop = import_module("uvloop")  # a default dependency where it exists, never a condition
    except ImportError:
        return None
    return cast(LoopFactory, uvloop.new_event_loop)


def _imported_factory(name: str) -> LoopFactory:
    found: Any = importer.import_from_string(name)
    if not callable(found):
        raise StartupError(
            f"loop={name} is {type(found).__name__}; expected a function that returns an event loop"
        )
    return cast(LoopFactory, found)
