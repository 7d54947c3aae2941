"""Which event loop runs the server, and how it ends."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Callable, Coroutine
from importlib import import_module
from typing import Any, cast

from . import importer
from .errors import StartupError

LoopFactory = Callable[[], asyncio.AbstractEventLoop]

CANCEL_GRACE_S = 1.0
"""What a cancelled task may still do before its connection is aborted."""

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


def run_bounded(
    main: Coroutine[Any, Any, None], loop_factory: LoopFactory | None, stop: Callable[[], None] | None = None
) -> None:
    """Run `main` in a loop of its own. Unlike `asyncio.run()`, what then ignores its cancellation is left behind, and
    when another task exits (SystemExit), `stop()` asks `main` to end in its own order, while others still run. What
    exits meanwhile is not heard: the first says with which code."""
    loop = loop_factory() if loop_factory is not None else asyncio.new_event_loop()
    loop.set_exception_handler(_report)
    asyncio.set_event_loop(loop)
    task = loop.create_task(main)
    try:
        loop.run_until_complete(task)
    except SystemExit:
        if stop is not None and not task.done():
            stop()
            _run_to_end(loop, task)
        raise
    finally:
        try:
            left = asyncio.all_tasks(loop)
            for task in left:
                task.cancel()
            if left:
                loop.run_until_complete(asyncio.wait(left, timeout=CANCEL_GRACE_S))
            for ending in (loop.shutdown_asyncgens(), loop.shutdown_default_executor()):
                loop.run_until_complete(asyncio.wait({loop.create_task(ending)}, timeout=CANCEL_GRACE_S))
        finally:
            asyncio.set_event_loop(None)
            loop.close()


def _run_to_end(loop: asyncio.AbstractEventLoop, task: asyncio.Task[None]) -> None:
    """Run until the task is done, whoever exits. What it raises itself is for the loop's exception handler."""
    while not task.done():
        with contextlib.suppress(SystemExit):
            loop.run_until_complete(asyncio.wait({task}))


def _report(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """The loop's exception handler: as the default, but silent about an exit, which is on its way through the loop.

    A task that exits in its first step never gets to whoever started it, and would be reported as one whose exception
    was never retrieved.
    """
    if not isinstance(context.get("exception"), (SystemExit, KeyboardInterrupt)):
        loop.default_exception_handler(context)
