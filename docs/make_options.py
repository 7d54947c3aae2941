"""Writes docs/options.md from the table of options: python docs/make_options.py. A test compares the two."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # of this checkout, installed or not

from fastasgi.fields import Field
from fastasgi.options import FIELDS, GROUPS
from fastasgi.suggest import ELSEWHERE

PAGE = Path(__file__).parent / "options.md"

HEAD = """\
# Options

<!-- made from the table of options: python docs/make_options.py -->

Every option is the same thing in five places:

| place | how `limit_request_head` is written there |
|---|---|
| command line | `--limit-request-head 32768` |
| environment | `FASTASGI_LIMIT_REQUEST_HEAD=32768` |
| `fastasgi.toml`, or `[tool.fastasgi]` of `pyproject.toml` | `limit_request_head = 32768` (or with `-` for `_`) |
| Python | `fastasgi.run("main:app", limit_request_head=32768)` |
| Python | `fastasgi.Config("main:app", limit_request_head=32768)` |

The command line and what Python gives are stronger than the environment, that is stronger than the file, and the
file is stronger than the default. Both files are looked for in the current directory; `fastasgi.toml` hides the
other one. `Config` takes only what it is given: environment and file are for `run` and the command line.

```sh
fastasgi main:app --print-config     # each value, and where it comes from; secrets are never shown
fastasgi main:app --check-config     # would it start? ends with the exit code that the start would have
```

`--check-config` refuses what the start would refuse: values that cannot be meant (exit code 2), an application that
cannot be imported or is none, files of TLS, addresses, folders, users (3). It imports the application, as the server
does, but does not begin its lifespan, and leaves nothing behind. A port that is in use is no mistake: the server may be
running. Inherited sockets (`fd`, `systemd`) are left to those who pass them.

**Values.** A switch is `--name` or `--no-name` on the command line, and `true`, `yes`, `on`, `1` or `false`, `no`,
`off`, `0` elsewhere. `none` takes the place of Python's `None`: no limit, never, leave it alone. Where an option takes
a list, the command line repeats it, the environment has commas, the file and Python have lists. A misspelt name is an
error that suggests the nearest one, in the environment a line of the log; a bad value is an error that says what was
expected. Variables `UVICORN_*` are not read; a line of the log says so.
"""

FOOT = """\
## What other servers call it

The same answers as the command line gives to a name that is not its own.

| there | here |
|---|---|
"""


def page() -> str:
    """The whole page."""
    parts = [HEAD, *(section(group) for group in GROUPS)]
    spelled = {name: f"`{name}`" for name in FIELDS}
    rows = [
        f"| `{name}` | {cure.format_map(spelled)} |\n" for name, cure in ELSEWHERE.items() if len(name) > 1
    ]
    return "\n".join(parts) + "\n" + FOOT + "".join(rows)


def section(group: str) -> str:
    """One heading with the table of its options."""
    rows = [row(field) for field in FIELDS.values() if field.group == group]
    return f"## {group}\n\n| option | value | default | meaning |\n|---|---|---|---|\n" + "\n".join(rows) + "\n"


def row(field: Field) -> str:
    """One option."""
    name = f"`{field.name}`"
    if field.name == "app":
        name += " (`APP`)"
    elif field.cli_name is None:
        name += " (environment only)" if field.in_env else " (Python only)"
    elif field.cli_name != "--" + field.name.replace("_", "-"):
        name += f" (`{field.cli_name}`)"
    meaning = field.doc + (" May be repeated." if field.repeatable else "")
    value = field.kind.expected.replace("|", "\\|").replace("*", "\\*")
    if field.kind.nullable and "none" not in value.lower():
        value += " or none"
    return f"| {name} | {value} | {default_of(field)} | {meaning} |"


def default_of(field: Field) -> str:
    """As a person reads it."""
    if field.name == "app":
        return "see [first contact](first-contact.md)"
    if isinstance(field.default, dict):
        return "built in"
    value, _ = field.default_in({})
    if value is None or value in ([], ""):
        return "none" if value is None else "empty"
    shown = ", ".join(value) if isinstance(value, list) else field.show(value).strip('"')
    text = f"`{shown}`{' ' + field.unit if field.unit else ''}"
    return f"`${field.fallback}` or {text}" if field.fallback else text


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
