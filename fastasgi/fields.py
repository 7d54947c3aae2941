"""What an option is: a `Field`. The kinds of value are in `kinds.py`, the declarations in `options/`."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from .errors import ConfigError
from .kinds import Kind

# What Python says of a value that is none.
_OWN_WORDS = re.compile("invalid literal|could not convert|is not a valid")


@dataclass(frozen=True)
class Field:
    """One option, declared once.

    `unit` is what one of it is ("s", "B", ""). `check` is called with the converted value and raises
    ValueError with the cure; it is for rules of this one option. `flag` is the name on the command line
    (None: not there, "": from `name`); a repeatable option appends, a `valued` switch takes `true` or `false`
    there. `fallback` is the variable of the environment that the default is looked up in, under the name that
    other servers use. `unset`: None means "not given". What is neither `in_file` nor `in_env` nor on the command
    line is for Python only. `secret` values are never shown.
    """

    name: str
    annotation: str
    kind: Kind
    default: Any
    group: str
    doc: str
    unit: str = ""
    check: Callable[[Any], None] | None = None
    flag: str | None = ""
    repeatable: bool = False
    valued: bool = False
    fallback: str = ""
    unset: bool = False
    in_file: bool = True
    in_env: bool = True
    secret: bool = False

    @property
    def env_name(self) -> str | None:
        """`FASTASGI_LIMIT_REQUEST_HEAD`, or None when the environment is not asked."""
        return f"FASTASGI_{self.name.upper()}" if self.in_env else None

    @property
    def cli_name(self) -> str | None:
        """`--limit-request-head`, or None when the command line has no such option."""
        return None if self.flag is None else "--" + (self.flag or self.name.replace("_", "-"))

    def is_given(self, value: object) -> bool:
        """Whether a value is one, and no None that stands for "not given"."""
        return value is not None or not self.unset

    def default_in(self, environ: Mapping[str, str]) -> tuple[Any, str]:
        """The value where none is given, and its source."""
        text = environ.get(self.fallback, "") if self.fallback else ""
        if text:
            return self.convert(text, self.fallback), self.fallback
        return self.convert(self.default), "default"

    def convert(self, value: object, label: str = "") -> Any:
        """The value that the server reads; `label` names the source in the error (`FASTASGI_PORT`)."""
        try:
            converted = self.kind.convert(value)
            if self.check is not None:
                self.check(converted)
        except ValueError as error:
            came = "(hidden)" if self.secret else repr(value)
            # int(), float() and enums speak of literals and bases; the sentence below says more.
            cure = "" if _OWN_WORDS.search(str(error)) else str(error)
            message = f"{label or self.name}: expected {self.kind.expected}, got {came}"
            raise ConfigError(message + (f"; {cure}" if cure else ""), self.name) from None
        return converted

    def show(self, value: Any) -> str:
        """The value for `--print-config`."""
        return "(hidden)" if self.secret and value is not None else self.kind.show(value)
