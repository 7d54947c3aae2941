"""How an option is declared: `option(...)`, the types of what may be given and of what is read, the headings.

The declarations themselves stand by group in `serving.py`, `traffic.py` and `running.py`; each knows nothing of
the others.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar, dataclass_transform, get_args

from ..fields import Field
from ..kinds import Kind

Group = Literal[
    "Application",
    "Listening",
    "TLS",
    "HTTP",
    "WebSocket",
    "Proxies",
    "Limits",
    "Timeouts",
    "Drain",
    "Workers",
    "Reload",
    "Logs",
    "Process",
]
GROUPS: tuple[str, ...] = get_args(Group)
"""The headings of the help page, in their order."""

KIB = 1024
MIB = 1024 * KIB

PathLike = str | os.PathLike[str]

Accepted = TypeVar("Accepted")
Read = TypeVar("Read")


class Given(Generic[Accepted, Read]):
    """The type of an option that is read as another type than those that may be given: `Given[given, read]`.

    Only for type checkers: they take the parameters of `Config` and `run` from `__set__`, and the type of the
    attribute from `__get__`.
    """

    if TYPE_CHECKING:

        def __get__(self, config: object, owner: object) -> Read: ...

        def __set__(self, config: object, value: Accepted) -> None: ...


def option(
    kind: Kind,
    group: Group,
    doc: str,
    *,
    default: Any,
    unit: str = "",
    check: Callable[[Any], None] | None = None,
    flag: str | None = "",
    repeatable: bool = False,
    valued: bool = False,
    fallback: str = "",
    unset: bool = False,
    in_file: bool = True,
    in_env: bool = True,
    secret: bool = False,
) -> Any:
    """Declare one option as the value of its attribute; see `fields.Field` for the arguments."""
    return {
        "kind": kind,
        "group": group,
        "doc": doc,
        "default": default,
        "unit": unit,
        "check": check,
        "flag": flag,
        "repeatable": repeatable,
        "valued": valued,
        "fallback": fallback,
        "unset": unset,
        "in_file": in_file,
        "in_env": in_env,
        "secret": secret,
    }


def positional(*, kw_only: bool = False) -> Any:
    """Declare `app`, the one positional parameter."""
    return {"kw_only": kw_only}


def derived(*, init: bool = False) -> Any:
    """Declare an attribute that is computed, hence no parameter."""
    return {"init": init}


@dataclass_transform(kw_only_default=True, field_specifiers=(option, positional, derived))
class Declared:
    """Lets type checkers derive the parameters of `Config` and `run` from the attributes below."""


def fields_of(part: type[Declared]) -> list[Field]:
    """The options that one class declares, in their order."""
    return [
        Field(name=name, annotation=_accepted(annotation), **vars(part)[name])
        for name, annotation in part.__annotations__.items()
    ]


def _accepted(annotation: str) -> str:
    """What may be given: of `Given[given, read]` all but the last."""
    if not annotation.startswith("Given["):
        return annotation
    return annotation.removeprefix("Given[").rpartition(", ")[0]
