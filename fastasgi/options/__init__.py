"""Every option of the server, once.

One attribute of a class in `serving.py`, `traffic.py` or `running.py` is one option: its name, its type for type
checkers, and by `option(...)` its kind, group, explanation, default, unit and check. Everything else is derived
from `FIELDS`: the command line and its help, the variables `FASTASGI_<NAME>`, the keys of the configuration
file, the parameters of `Config` and `run`, `--print-config`, and docs/options.md.

Where a default differs from what users of other servers know, its reason stands beside it.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping

from ..fields import Field
from ..kinds import Application
from .declaring import GROUPS, fields_of
from .running import LOGGING_CONFIG, Running
from .serving import Serving
from .traffic import Traffic

__all__ = ["FIELDS", "GROUPS", "LOGGING_CONFIG", "Options", "parameters"]


class Options(Serving, Traffic, Running):
    """The options as typed attributes; `Config` gives them their values."""


def _app_field() -> Field:
    """`app` is the one positional parameter, hence no attribute of `Options`."""
    doc = "The application: 'module:attribute' or the object itself."
    return Field("app", "str | Callable[..., Any]", Application(), None, "Application", doc, flag=None)


FIELDS: Mapping[str, Field] = {
    field.name: field
    for field in (_app_field(), *fields_of(Serving), *fields_of(Traffic), *fields_of(Running))
}
"""All options by name, in the order of the help page's groups."""


def parameters() -> list[inspect.Parameter]:
    """`app` and every option by keyword, as `help` shows the parameters of `Config` and `run`."""
    app, *rest = FIELDS.values()
    return [
        inspect.Parameter(app.name, inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=app.annotation),
        *(
            inspect.Parameter(
                field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=field.annotation
            )
            for field in rest
        ),
    ]
