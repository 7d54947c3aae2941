"""The kinds of value that an option can hold.

A kind knows three things: which words describe what is expected, how a value that came as text (command line,
environment) or as a Python or TOML object becomes the value that the server reads, and how it looks in a help
page. The options themselves are declared in `options/`.
"""

from __future__ import annotations

import math
import os
import re
import ssl
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from .suggest import did_you_mean

TRUE_WORDS = frozenset({"true", "1", "yes", "on"})
FALSE_WORDS = frozenset({"false", "0", "no", "off"})

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_FIELD_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")

# A default header is added to every response by one block of bytes; framing is decided per response.
_FRAMING_HEADERS = frozenset({"connection", "content-length", "transfer-encoding"})

HeaderPair = tuple[str, str]


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
    """A time in seconds; None is "for ever". `zero` allows 0, which means "at once", or, with `never`, None."""

    metavar = "SECONDS"

    def __init__(self, *, zero: bool = False, nullable: bool = True, never: bool = False) -> None:
        super().__init__(nullable=nullable)
        self.zero, self.never = zero or never, never
        self.expected = f"seconds {'from' if self.zero else 'above'} 0" + (" or none" if nullable else "")

    def convert(self, value: object) -> float | None:
        """As every kind's."""
        seconds: float | None = super().convert(value)
        return None if seconds == 0 and self.never else seconds

    def _parse(self, value: object) -> float:
        if isinstance(value, bool) or not isinstance(value, (str, int, float)):
            raise ValueError
        seconds = float(value)
        if not math.isfinite(seconds) or seconds < 0 or (seconds == 0 and not self.zero):
            raise ValueError
        return seconds


class Choice(Kind):
    """One of a few words, in any case. Where `on` and `off` are among them, true and false mean the same."""

    def __init__(self, *words: str) -> None:
        super().__init__()
        self.words = words
        self.expected = " or ".join([", ".join(words[:-1]), words[-1]])
        self.metavar = f"[{'|'.join(words)}]"

    def _parse(self, value: object) -> str:
        word = str(value).lower() if isinstance(value, (str, bool)) else ""
        if word not in self.words and {"on", "off"} <= set(self.words):
            word = "on" if word in TRUE_WORDS else "off" if word in FALSE_WORDS else word
        if word in self.words:
            return word
        raise ValueError(did_you_mean(word, self.words).removeprefix("; "))


class Implementation(Choice):
    """Words that choose between implementations elsewhere. A class or an import string of one gets `cure`."""

    def __init__(self, *words: str, cure: str) -> None:
        super().__init__(*words)
        self.cure = cure

    def _parse(self, value: object) -> str:
        if not isinstance(value, str) or ":" in value or "." in value:
            raise ValueError(self.cure)
        return super()._parse(value)


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


class Account(Kind):
    """A user or a group, by name or by number."""

    expected = "a name or a number"
    metavar = "NAME"

    def _parse(self, value: object) -> str | int:
        if isinstance(value, str) and value:
            return int(value) if value.isdecimal() else value
        if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
            return value
        raise ValueError


class Callback(Kind):
    """A function, which only Python can give; None is no function."""

    expected = "a function or None"

    def __init__(self) -> None:
        super().__init__(nullable=True)

    def _parse(self, value: object) -> Any:
        if not callable(value):
            raise ValueError
        return value

    def _show(self, value: Any) -> str:
        return f"<{getattr(value, '__name__', type(value).__name__)}>"


class TlsVersion(Kind):
    """A constant of `ssl`, by number or name: `ssl.PROTOCOL_TLS_SERVER`, which negotiates, or one
    `ssl.TLSVersion`, for that version alone. The old constants of one version, such as `ssl.PROTOCOL_TLSv1_2`,
    become the latter."""

    expected = "PROTOCOL_TLS_SERVER, TLSv1.2, TLSv1.3 or the number of such a constant of ssl"
    metavar = "VERSION"
    # the numbers of ssl.PROTOCOL_*; the later ones may be missing from the module, hence not by name
    numbers: Mapping[int, int] = {
        2: ssl.PROTOCOL_TLS_SERVER,
        ssl.PROTOCOL_TLS_SERVER: ssl.PROTOCOL_TLS_SERVER,
        3: ssl.TLSVersion.TLSv1,
        4: ssl.TLSVersion.TLSv1_1,
        5: ssl.TLSVersion.TLSv1_2,
        **{
            version: version
            for version in (
                ssl.TLSVersion.TLSv1,
                ssl.TLSVersion.TLSv1_1,
                ssl.TLSVersion.TLSv1_2,
                ssl.TLSVersion.TLSv1_3,
            )
        },
    }
    names: Mapping[str, int] = {
        "tls": ssl.PROTOCOL_TLS_SERVER,
        "tls_server": ssl.PROTOCOL_TLS_SERVER,
        "sslv23": ssl.PROTOCOL_TLS_SERVER,
        "tlsv1": ssl.TLSVersion.TLSv1,
        "tlsv1_0": ssl.TLSVersion.TLSv1,
        "tlsv1_1": ssl.TLSVersion.TLSv1_1,
        "tlsv1_2": ssl.TLSVersion.TLSv1_2,
        "tlsv1_3": ssl.TLSVersion.TLSv1_3,
    }

    def _parse(self, value: object) -> int:
        if isinstance(value, str) and not value.isdecimal():
            word = value.lower().replace(".", "_").removeprefix("ssl_").removeprefix("protocol_")
            found = self.names.get(word.removeprefix("tlsversion_"))
        elif isinstance(value, (str, int)) and not isinstance(value, bool):
            found = self.numbers.get(int(value))
        else:
            found = None
        if found is None:
            raise ValueError
        return found

    def _show(self, value: Any) -> str:
        if value == ssl.PROTOCOL_TLS_SERVER:
            return '"PROTOCOL_TLS_SERVER"'
        return _quoted(ssl.TLSVersion(value).name.replace("_", "."))


class CertificateRequirement(Kind):
    """An `ssl.VerifyMode`, by number or name."""

    expected = "CERT_NONE, CERT_OPTIONAL, CERT_REQUIRED or the number of one of them"
    metavar = "[CERT_NONE|CERT_OPTIONAL|CERT_REQUIRED]"

    def _parse(self, value: object) -> ssl.VerifyMode:
        if isinstance(value, str) and not value.isdecimal():
            word = "CERT_" + value.upper().rpartition(".")[2].removeprefix("CERT_")
            if word in ssl.VerifyMode.__members__:
                return ssl.VerifyMode[word]
        elif isinstance(value, (str, int)) and not isinstance(value, bool):
            return ssl.VerifyMode(int(value))
        raise ValueError

    def _show(self, value: Any) -> str:
        return _quoted(ssl.VerifyMode(value).name)


class Texts(Kind):
    """A list of texts or paths. In one text commas or line ends stand between them."""

    def __init__(self, expected: str, metavar: str) -> None:
        super().__init__()
        self.expected, self.metavar = expected, metavar

    def _parse(self, value: object) -> list[str]:
        if value is None:
            return []
        if isinstance(value, str):
            value = [item.strip() for item in re.split(r"[,\n]", value) if item.strip()]
        elif isinstance(value, os.PathLike):
            value = [value]
        if isinstance(value, (bytes, Mapping)) or not isinstance(value, Iterable):
            raise ValueError
        return [self._item(item) for item in value]

    def _item(self, item: object) -> str:
        if not isinstance(item, (str, os.PathLike)):
            raise ValueError
        return os.fsdecode(item)

    def _show(self, value: Any) -> str:
        return "[" + ", ".join(map(_quoted, value)) + "]"


class Binding(NamedTuple):
    """One place to listen. `kind` is `tcp` (with `host`, "" for every address, and `port`), `unix` (with
    `path`), `fd` (with `fd`), or `systemd` (what systemd has passed; with `name` only what carries it)."""

    kind: str
    host: str = ""
    port: int = 0
    path: str = ""
    fd: int = -1
    name: str = ""


def parse_binding(text: str) -> Binding:
    """One value of the option `bind`. Raises ValueError, its message the cure."""
    if text == "systemd":
        return Binding("systemd")
    if text.startswith("systemd:") and not text.partition(":")[2].isdecimal():
        if text == "systemd:":
            raise ValueError("a name belongs behind systemd:")
        return Binding("systemd", name=text.partition(":")[2])
    if text.startswith("unix:"):
        path = text.removeprefix("unix:")
        if not path:
            raise ValueError("a path belongs behind unix:")
        return Binding("unix", path=path)
    if text.startswith("fd://"):
        number = text.removeprefix("fd://")
        if not number.isdecimal():
            raise ValueError("a number belongs behind fd://")
        return Binding("fd", fd=int(number))
    host, colon, port = text.removeprefix("tcp://").rpartition(":")
    if not colon or not port.isdecimal():
        raise ValueError(f"{text!r} has no port")
    if int(port) > 65535:
        raise ValueError(f"{port} is no port")
    bracketed = host.startswith("[") and host.endswith("]")
    if ":" in host and not bracketed:
        raise ValueError("an IPv6 address belongs between brackets")
    return Binding("tcp", host=host[1:-1] if bracketed else host, port=int(port))


class Binds(Texts):
    """Places to listen, each in a form that `parse_binding` reads."""

    def __init__(self) -> None:
        super().__init__("host:port, [::1]:8000, unix:path, fd://3 or systemd", "ADDRESS")

    def _item(self, item: object) -> str:
        text = super()._item(item)
        parse_binding(text)
        return text


class HeaderName(Kind):
    """The name of a header field."""

    expected = "a header name such as X-Request-ID"
    metavar = "NAME"

    def _parse(self, value: object) -> str:
        if not isinstance(value, str) or not _TOKEN.fullmatch(value):
            raise ValueError
        return value


class Headers(Kind):
    """Header fields for every response: a list of `(name, value)` or `"Name: value"`, or a mapping.

    In the environment one field stands on each line. The value is a list of pairs of str.
    """

    expected = "header fields such as 'X-Frame-Options: DENY'"
    metavar = "NAME:VALUE"

    def _parse(self, value: object) -> list[HeaderPair]:
        if value is None:
            return []
        if isinstance(value, str):
            value = [line for line in value.splitlines() if line.strip()]
        if isinstance(value, Mapping):
            value = list(value.items())
        if not isinstance(value, Sequence) or isinstance(value, bytes):
            raise ValueError
        return [self._field(item) for item in value]

    def _field(self, item: object) -> HeaderPair:
        pair = item.split(":", 1) if isinstance(item, str) else item
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
