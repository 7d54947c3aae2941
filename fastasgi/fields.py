"""What an option is: a `Field`, and the kinds of value that a field can hold.

A kind knows three things: which words describe what is expected, how a value that came as text (command line,
environment) or as a Python or TOML object becomes the value that the server reads, and how it looks in a help
page. The fields themselves are in `options.py`.
"""

from __future__ import annotations

import difflib
import math
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .errors import ConfigError

TRUE_WORDS = frozenset({"true", "1", "yes", "on"})
FALSE_WORDS = frozenset({"false", "0", "no", "off"})

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_FIELD_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")

# A default header is added to every response by one block of bytes; framing is decided per response.
_FRAMING_HEADERS = frozenset({"connection", "content-length", "transfer-encoding"})


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The name in `known` that the person most likely meant by `word`, or None."""
    found = difflib.get_close_matches(word.lower(), sorted(known), n=1, cutoff=0.6)
    return found[0] if found else None


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`"; did you mean 'x'?"` to be put behind a sentence, or nothing."""
    guess = nearest(word, known)
    return f"; did you mean {guess!r}?" if guess else ""


class Kind:
    """A kind of value.

    `expected` completes the sentence "expected ..."; `metavar` stands in the help page; `nullable` adds None,
    spelled `none` in text. Subclasses write `_parse`, which raises ValueError (its message, if any, is the
    cure) for what cannot be meant.
    """

    expected = "text"
    metavar = "TEXT"

    def __init__(self, *, nullable: bool = False) -> None:
        self.nullable = nullable

    def convert(self, value: object) -> Any:
        """The checked value; ValueError for what cannot be meant."""
        if self.nullable and (value is None or (isinstance(value, str) and value.lower() == "none")):
            return None
        return self._parse(value)

    def _parse(self, value: object) -> Any:
        if not isinstance(value, str):
            raise ValueError
        return value

    def show(self, value: Any) -> str:
        """The value as a TOML literal, for `--print-config`; None becomes `"none"`."""
        return '"none"' if value is None else self._show(value)

    def _show(self, value: Any) -> str:
        if isinstance(value, bool):
            return "true" if value else "false"
        if isinstance(value, float):
            return f"{value:g}"
        return str(value) if isinstance(value, int) else _quoted(str(value))


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


class Text(Kind):
    """Any text."""


class Path(Kind):
    """A path of the file system, given as text or as a `PathLike`."""

    expected = "a path"
    metavar = "PATH"

    def _parse(self, value: object) -> str:
        if not isinstance(value, (str, os.PathLike)):
            raise ValueError
        return os.fsdecode(value)


class Switch(Kind):
    """True or false."""

    expected = "true or false"
    metavar = ""

    def _parse(self, value: object) -> bool:
        if isinstance(value, bool):
            return value
        if isinstance(value, str) and value.lower() in TRUE_WORDS | FALSE_WORDS:
            return value.lower() in TRUE_WORDS
        raise ValueError


class Integer(Kind):
    """A whole number within bounds."""

    metavar = "NUMBER"

    def __init__(self, least: int = 0, most: int | None = None, *, nullable: bool = False) -> None:
        super().__init__(nullable=nullable)
        self.least, self.most = least, most
        bounds = f"of at least {least}" if most is None else f"from {least} to {most}"
        self.expected = f"a whole number {bounds}" + (" or none" if nullable else "")

    def _parse(self, value: object) -> int:
        number = int(value) if isinstance(value, str) else value
        if not isinstance(number, int) or isinstance(number, bool):
            raise ValueError
        if number < self.least or (self.most is not None and number > self.most):
            raise ValueError
        return number


class Size(Integer):
    """A number of bytes. The upper bound keeps every sum of two sizes within 64 bits."""

    metavar = "BYTES"

    def __init__(self, least: int = 0, *, nullable: bool = False) -> None:
        super().__init__(least, 2**40, nullable=nullable)
        self.expected = f"a number of bytes from {least} to 2**40" + (" or none" if nullable else "")


class Seconds(Kind):
    """A time in seconds; None is "for ever". `zero` allows 0, which means "at once"."""

    metavar = "SECONDS"

    def __init__(self, *, zero: bool = False, nullable: bool = True) -> None:
        super().__init__(nullable=nullable)
        self.zero = zero
        self.expected = f"seconds {'from' if zero else 'above'} 0" + (" or none" if nullable else "")

    def _parse(self, value: object) -> float:
        if isinstance(value, bool) or not isinstance(value, (str, int, float)):
            raise ValueError
        seconds = float(value)
        if not math.isfinite(seconds) or seconds < 0 or (seconds == 0 and not self.zero):
            raise ValueError
        return seconds


class Choice(Kind):
    """One of a few words, in any case. `hints` maps words that users know from elsewhere to a cure."""

    def __init__(self, *words: str, hints: Mapping[str, str] | None = None, nullable: bool = False) -> None:
        super().__init__(nullable=nullable)
        self.words, self.hints = words, hints or {}
        self.expected = " or ".join([", ".join(words[:-1]), words[-1]])
        self.metavar = f"[{'|'.join(words)}]"

    def _parse(self, value: object) -> str:
        word = value.lower() if isinstance(value, str) else ""
        if word in self.words:
            return word
        raise ValueError(self.hints.get(word, did_you_mean(word, self.words).removeprefix("; ")))


class ImportChoice(Choice):
    """One of a few words, or an import string `module:attribute`."""

    def __init__(self, *words: str) -> None:
        super().__init__(*words)
        self.expected = f"{', '.join(words)} or an import string 'module:attribute'"
        self.metavar = f"[{'|'.join(words)}|MODULE:ATTR]"

    def _parse(self, value: object) -> str:
        if isinstance(value, str) and re.fullmatch(r"[\w.]+:[\w.]+", value):
            return value
        return super()._parse(value)


class Level(Kind):
    """A level of `logging`: a name in any case, or a number. The value is a lower-case name or an int."""

    names = ("critical", "error", "warning", "info", "debug", "trace")
    aliases = {"warn": "warning", "fatal": "critical"}
    expected = f"{', '.join(names)} or a number"
    metavar = f"[{'|'.join(names)}|NUMBER]"

    def _parse(self, value: object) -> str | int:
        if isinstance(value, int) and not isinstance(value, bool):
            return value
        if not isinstance(value, str):
            raise ValueError
        word = self.aliases.get(value.lower(), value.lower())
        if word in self.names:
            return word
        if word.isdecimal():
            return int(word)
        raise ValueError(did_you_mean(word, self.names).removeprefix("; "))


class Permissions(Kind):
    """File permissions: octal digits in text (`0660`), an int elsewhere (`0o660`)."""

    expected = "file permissions from 0 to 0o777, such as 0660"
    metavar = "OCTAL"

    def _parse(self, value: object) -> int:
        bits = int(value, 8) if isinstance(value, str) else value
        if isinstance(bits, bool) or not isinstance(bits, int):
            raise ValueError
        if not 0 <= bits <= 0o777:
            raise ValueError(f"a number outside text is decimal: write 0o{bits}")
        return bits

    def _show(self, value: Any) -> str:
        return f"0o{value:03o}"


class Headers(Kind):
    """Header fields for every response: a list of `(name, value)` or `"Name: value"`, or a mapping.

    In the environment one field stands on each line. The value is a list of pairs of str.
    """

    expected = "header fields such as 'X-Frame-Options: DENY'"
    metavar = "NAME:VALUE"

    def _parse(self, value: object) -> list[tuple[str, str]]:
        if value is None:
            return []
        if isinstance(value, str):
            value = [line for line in value.splitlines() if line.strip()]
        if isinstance(value, Mapping):
            value = list(value.items())
        if not isinstance(value, Sequence) or isinstance(value, bytes):
            raise ValueError
        return [self._field(item) for item in value]

    def _field(self, item: object) -> tuple[str, str]:
        pair = item.partition(":")[::2] if isinstance(item, str) else item
        if not isinstance(pair, (tuple, list)) or len(pair) != 2:
            raise ValueError
        name, content = (_latin(part).strip(" \t") for part in pair)
        if not _TOKEN.fullmatch(name):
            raise ValueError(f"{name!r} is not a header name")
        if name.lower() in _FRAMING_HEADERS:
            raise ValueError(f"{name!r} is set by the server for each response")
        # RFC 9110 section 5.5: CR, LF and NUL in a value split the response.
        if not _FIELD_VALUE.fullmatch(content):
            raise ValueError(f"the value of {name!r} holds a character that no header may")
        return name, content

    def _show(self, value: Any) -> str:
        return "[" + ", ".join(_quoted(f"{name}: {content}") for name, content in value) + "]"


def _latin(part: object) -> str:
    if isinstance(part, bytes):
        return part.decode("latin-1")
    if not isinstance(part, str):
        raise ValueError
    return part


class LogConfig(Kind):
    """What `logging` is set up with: a dict, a ConfigParser, an open file, or the path of a file."""

    expected = "a dict, the path of a .json, .yaml or .ini file, or none"
    metavar = "PATH"

    def _parse(self, value: object) -> Any:
        if isinstance(value, (str, os.PathLike)):
            return os.fsdecode(value)
        if isinstance(value, Mapping) or hasattr(value, "sections") or hasattr(value, "readline"):
            return value
        raise ValueError

    def _show(self, value: Any) -> str:
        return super()._show(value) if isinstance(value, str) else f"<{type(value).__name__}>"


class Application(Kind):
    """The application: an import string or the object itself. What it really is shows when it is loaded."""

    expected = "an import string 'module:attribute' or an ASGI application"
    metavar = "APP"

    def _parse(self, value: object) -> Any:
        if isinstance(value, str) or callable(value):
            return value
        raise ValueError

    def _show(self, value: Any) -> str:
        return super()._show(value) if isinstance(value, str) else f"<{type(value).__name__}>"


@dataclass(frozen=True)
class Field:
    """One option, declared once.

    `unit` is what one of it is ("s", "B", ""). `check` is called with the converted value and raises
    ValueError with the cure; it is for rules of this one option. `flag` is the name on the command line
    (None: not there, "": from `name`); a repeatable option appends. `secret` values are never shown.
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
    in_file: bool = True
    secret: bool = False

    @property
    def env_name(self) -> str:
        """`FASTASGI_LIMIT_REQUEST_HEAD`."""
        return f"FASTASGI_{self.name.upper()}"

    @property
    def cli_name(self) -> str | None:
        """`--limit-request-head`, or None when the command line has no such option."""
        return None if self.flag is None else "--" + (self.flag or self.name.replace("_", "-"))

    def convert(self, value: object, label: str = "") -> Any:
        """The value that the server reads; `label` names the source in the error (`FASTASGI_PORT`)."""
        try:
            converted = self.kind.convert(value)
            if self.check is not None:
                self.check(converted)
        except ValueError as error:
            came = "(hidden)" if self.secret else repr(value)
            # int() and float() speak of literals and bases; the sentence below says more.
            cure = "" if "invalid literal" in str(error) or "could not convert" in str(error) else str(error)
            message = f"{label or self.name}: expected {self.kind.expected}, got {came}"
            raise ConfigError(message + (f"; {cure}" if cure else ""), self.name) from None
        return converted

    def show(self, value: Any) -> str:
        """The value for `--print-config`."""
        return "(hidden)" if self.secret and value is not None else self.kind.show(value)
