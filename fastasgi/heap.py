"""What the garbage collector of a process that serves does not look at again."""

from __future__ import annotations

import gc


def freeze_heap() -> None:
    """Take what is there now out of the collector's sight, for good: modules, classes, routes, schemas.

    All of that stays until the process ends, yet each full collection would visit it: tens of milliseconds, in which
    every request waits, for an application with a framework and a few hundred modules. To be called once, by who owns
    the process, when the application has started and before its first request. Garbage that is there goes first. In a
    process that forks later, the collector does not write to the pages that its children share.

    Does nothing where the application has switched the collector off.
    """
    if gc.isenabled():
        gc.collect()
        gc.freeze()


def thaw_heap() -> None:
    """Show it to the collector again: the process goes on when its server has ended, and what it drops may go."""
    gc.unfreeze()
