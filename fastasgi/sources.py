"""Where the values of options come from: what is given, the environment, the configuration file, the
defaults.

`gather` joins the first three in this order; what is left to the defaults stays out of its result, so that a
value given is always told from one that is not. `--print-config` is the list of all values, each with its
source.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from .errors import ConfigError
from .fields import Field
from .options import FIELDS, GROUPS
from .suggest import cure_for_option, nearest

PREFIX = "FASTASGI_"
FOREIGN_PREFIX = "UVICORN_"
OWN_FILE = "fastasgi.toml"
PROJECT_FILE = "pyproject.toml"

# Read by the build, hence no misspelt options.
_BUILD_SWITCHES = frozenset({"DEBUG", "SANITIZE", "COVERAGE", "LTO", "VENDOR_DIR"})

# Kubernetes sets these for a service named "fastasgi", among them FASTASGI_PORT=tcp://10.0.0.1:80.
_SERVICE_LINK = re.compile(r"(SERVICE_(HOST|PORT).*|PORT(_\d+_.*)?)")


@dataclass
class Settings:
    """Checked values by option, with the source of each, and sentences for the log."""

    values: dict[str, Any] = field(default_factory=dict)
    origins: dict[str, str] = field(default_factory=dict)
    notices: list[str] = field(default_factory=list)

    def offer(self, option: Field, value: object, label: str, origin: str) -> None:
        """Take a value unless a stronger source has given one; a bad one is an error all the same."""
        if not option.is_given(value):
            return
        converted = option.convert(value, label)
        if option.name not in self.values:
            self.values[option.name] = converted
            self.origins[option.name] = origin


def gather(
    given: Mapping[str, Any],
    environ: Mapping[str, str],
    directory: str = ".",
    *,
    origin: str = "argument",
    label: Callable[[Field], str] = lambda option: option.name,
) -> Settings:
    """The values from `given`, `environ` and the configuration file of `directory`. Raises `ConfigError`.

    `origin` says where `given` comes from, `label` how an option is called there.
    """
    settings = Settings()
    for name, value in given.items():
        if name not in FIELDS:
            cure = cure_for_option(name, {known: known for known in FIELDS})
            raise ConfigError(f"unknown option {name!r}{cure}", name)
        settings.offer(FIELDS[name], value, label(FIELDS[name]), origin)
    _add_environment(settings, environ)
    found = read_file(directory)
    if found is not None:
        path, table = found
        for key, value in table.items():
            option = _option_of_key(path, key)
            settings.offer(option, value, f"{path}: {key}", path)
    return settings


def _add_environment(settings: Settings, environ: Mapping[str, str]) -> None:
    for option in FIELDS.values():
        name = option.env_name
        text = environ.get(name, "") if name else ""  # an empty variable is one that is not set
        if name and text and not (option.name == "port" and text.startswith("tcp://")):
            settings.offer(option, text, name, name)
    settings.notices.extend(_environment_notices(environ))


def _environment_notices(environ: Mapping[str, str]) -> Iterator[str]:
    known = {option.env_name: option.name for option in FIELDS.values() if option.env_name}
    foreign = sorted(name for name in environ if name.startswith(FOREIGN_PREFIX))
    if foreign:
        ours = [name for each in foreign if (name := each.replace(FOREIGN_PREFIX, PREFIX, 1)) in known]
        verb = "is" if len(foreign) == 1 else "are"
        cure = f"; use {', '.join(ours)}" if ours else ""
        yield f"{', '.join(foreign)} in the environment {verb} not read{cure}"
    for name in sorted(environ):
        word = name.removeprefix(PREFIX)
        if not name.startswith(PREFIX) or name in known or word in _BUILD_SWITCHES:
            continue
        guess = None if _SERVICE_LINK.fullmatch(word) else nearest(word, known.values())
        if guess:
            yield f"{name} in the environment is no option; did you mean {PREFIX}{guess.upper()}?"


def _option_of_key(path: str, key: str) -> Field:
    name = key.replace("-", "_")
    keys = {option.name: option.name for option in FIELDS.values() if option.in_file}
    if name not in keys:
        raise ConfigError(f"{path}: unknown key {key!r}{cure_for_option(name, keys)}", name)
    return FIELDS[name]


def read_file(directory: str) -> tuple[str, dict[str, Any]] | None:
    """Name and table of the configuration file: `fastasgi.toml`, else `[tool.fastasgi]` of
    `pyproject.toml`."""
    own = _read_toml(directory, OWN_FILE)
    if own is not None:
        return OWN_FILE, own
    project = _read_toml(directory, PROJECT_FILE)
    table = (project or {}).get("tool", {}).get("fastasgi")
    if table is None:
        return None
    if not isinstance(table, dict):
        raise ConfigError(f"{PROJECT_FILE}: expected tool.fastasgi to be a table, got {table!r}")
    return PROJECT_FILE, table


def _read_toml(directory: str, name: str) -> dict[str, Any] | None:
    try:
        with open(os.path.join(directory, name), "rb") as file:
            return tomllib.load(file)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigError(f"cannot read {name}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{name} is not valid TOML: {error}") from None


def print_config(settings: Settings, environ: Mapping[str, str]) -> str:
    """Every option with its value and source, in the form of a configuration file."""
    lines: list[str] = []
    for group in GROUPS:
        lines += ["", f"# {group}"]
        for option in FIELDS.values():
            if option.group != group:
                continue
            if option.name in settings.values:
                value, origin = settings.values[option.name], settings.origins[option.name]
            elif option.name == "app":
                value, origin = None, "default"
            else:
                value, origin = option.default_in(environ)
            text = option.show(value)
            # What no file can say (objects, secrets, options that files do not have) stands there as a comment.
            is_value = option.in_file and not text.startswith(("<", "(")) and (option.name, value) != ("app", None)
            mark = "" if is_value else "# "
            lines.append(f"{f'{mark}{option.name} = {text}':<48}  # {origin}")
    return "\n".join(lines[1:])
