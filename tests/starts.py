"""Which tests start processes: seen in their code, so that nobody has to mark them, or forgets to.

A test does when its function, a fixture of its, or anything of ours that one of them names, names `subprocess`. CI runs
such tests with two interpreters and the others in every build (see .ci/run): another build shows nothing new through a
pipe, and starting servers, compilers and frameworks is most of what the suite takes.
"""

import functools
import inspect
import types
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
STARTS = "subprocess"
# What is followed. Not the rest of the package: everything there knows the supervisor, and few tests start one.
OURS = (f"{ROOT}/tests/", f"{ROOT}/bench/", f"{ROOT}/fastasgi/bench/")


def starts_processes(functions: Iterable[Callable]) -> bool:
    """Whether one of them, or what they name, starts a process."""
    seen: set[object] = set()
    left: list[object] = list(functions)
    while left:
        found = left.pop()
        if found in seen:
            continue
        seen.add(found)
        if found is STARTS:
            return True
        left += named_by(found)
    return False


@functools.cache
def named_by(thing: object) -> tuple[object, ...]:
    """What a function or class of ours names that is ours too; STARTS where it names `subprocess`."""
    if isinstance(thing, type):
        parts = [inspect.unwrap(part) for part in map(function_of, vars(thing).values()) if part is not None]
        return (*parts, *(base for base in thing.__bases__ if is_ours(base)))
    thing = inspect.unwrap(thing) if callable(thing) else thing
    if not isinstance(thing, types.FunctionType) or not is_ours(thing):
        return ()
    names = set(names_of(thing.__code__))
    if any(STARTS in name for name in names):  # asyncio.create_subprocess_exec, too
        return (STARTS,)
    found = [thing.__globals__[name] for name in names if name in thing.__globals__]
    for module in [each for each in found if isinstance(each, types.ModuleType)]:
        found += [getattr(module, name) for name in names if hasattr(module, name)]
    return tuple(each for each in found if isinstance(each, type | types.FunctionType) and is_ours(each))


def names_of(code: types.CodeType) -> Iterator[str]:
    """All names that a code object uses, its inner functions included."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from names_of(constant)


def function_of(part: object) -> Callable | None:
    """The function behind an attribute of a class, if there is one."""
    part = part.fget if isinstance(part, property) else getattr(part, "__func__", part)
    return part if isinstance(part, types.FunctionType) else None


def is_ours(thing: object) -> bool:
    """Whether its source is followed."""
    try:
        return inspect.getfile(inspect.unwrap(thing)).startswith(OURS)
    except (TypeError, OSError):  # built in
        return False
