"""The command line: `fastasgi module:app --port 9000`. Options, help and checks follow from
`options/`."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Sequence
from typing import Any

import click
from click.core import ParameterSource

from . import ctl
from .config import Config
from .discover import find_application
from .errors import EXIT_OK, EXIT_USAGE, ConfigError, StartupError
from .fields import Field
from .kinds import Switch
from .launch import check, execute, leave
from .logging import log_startup_error
from .options import FIELDS, GROUPS
from .sources import gather, print_config
from .suggest import cure_for_option
from .version import __version__

HELP_GROUP = "Help"


class UsageSentence(click.ClickException):
    """A usage error: one sentence on stderr."""

    exit_code = EXIT_USAGE


class FieldOption(click.Option):
    """The command line's form of one field; values stay text until `gather` checks them all in one way."""

    def __init__(self, declared: Field) -> None:
        self.group = declared.group
        is_switch = _is_pair(declared)
        name = declared.cli_name or ""
        super().__init__(
            [f"{name}/--no-{name[2:]}" if is_switch else name, declared.name],
            type=click.BOOL if is_switch else click.STRING,
            default=None,
            multiple=declared.repeatable,
            metavar=None if is_switch else declared.kind.metavar or "BOOLEAN",
            help=f"{declared.doc}{' May be repeated.' if declared.repeatable else ''}{_default_note(declared)}",
        )


def _is_pair(declared: Field) -> bool:
    """Whether it is `--name` and `--no-name`, and takes no value."""
    return isinstance(declared.kind, Switch) and not declared.valued


def _default_note(declared: Field) -> str:
    """`  [default: 8000]`; nothing where the help says it, or none is."""
    if declared.default in (None, "") or isinstance(declared.default, dict):
        return ""
    value = declared.kind.convert(declared.default)
    shown = ", ".join(value) if isinstance(value, list) else declared.kind.show(value).strip('"')
    source = f"${declared.fallback} or " if declared.fallback else ""
    return f"  [default: {source}{shown}{' ' + declared.unit if declared.unit else ''}]"


class GroupedCommand(click.Command):
    """Help by headings, usage errors in one line; `ctl` and `top` as first word are commands of their own."""

    def main(self, args: Sequence[str] | None = None, *rest: Any, **extra: Any) -> Any:
        """Run the command; see `ctl`."""
        given = sys.argv[1:] if args is None else list(args)
        if given and given[0] in ctl.WORDS:
            return ctl.main(given)
        return super().main(args, *rest, **extra)

    def make_context(self, *args: Any, **extra: Any) -> click.Context:
        """Parse; a usage error comes without the usage lines around it."""
        try:
            return super().make_context(*args, **extra)
        except click.NoSuchOption as error:
            raise UsageSentence(_unknown_option(error.option_name)) from None
        except click.UsageError as error:
            error.ctx = None
            raise

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options under their headings."""
        for heading in (*GROUPS, HELP_GROUP):
            records = [
                record
                for param in self.get_params(ctx)
                if isinstance(param, click.Option)
                and getattr(param, "group", HELP_GROUP) == heading
                and (record := param.get_help_record(ctx))
            ]
            if records:
                with formatter.section(heading):
                    formatter.write_dl(records)


def _unknown_option(name: str) -> str:
    spelled = {word: f"--{word.replace('_', '-')}" for word in ("print_config", "check_config", "version", "help")}
    for declared in FIELDS.values():
        if declared.cli_name:
            spelled[declared.name] = declared.cli_name
            if _is_pair(declared):
                spelled[f"no_{declared.name}"] = f"--no-{declared.cli_name[2:]}"
    return f"unknown option {name!r}{cure_for_option(name, spelled)}"


def _print_version(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        python = f"{platform.python_implementation()} {platform.python_version()}"
        click.echo(f"Running fastasgi {__version__} with {python} on {platform.system()}")
        ctx.exit(EXIT_OK)


def _parameters() -> list[click.Parameter]:
    """The argument and one option for each field that has one, then those that only ask."""
    asking = click.Option
    return [
        click.Argument(["app"], required=False, metavar="[APP]"),
        *(FieldOption(declared) for declared in FIELDS.values() if declared.cli_name is not None),
        asking(["--print-config"], is_flag=True, help="Show every value and where it comes from."),
        asking(["--check-config"], is_flag=True, help="Find what would make the start fail, and end."),
        asking(
            ["--version"],
            is_flag=True,
            is_eager=True,
            expose_value=False,
            callback=_print_version,
            help="Show the version and end.",
        ),
    ]


def _serve(print_config_only: bool, check_config_only: bool, given: dict[str, Any]) -> int:
    """What the command does; the exit code. Raises `ConfigError`."""
    settings = gather(
        given,
        os.environ,
        origin="command line",
        label=lambda declared: declared.cli_name or declared.name.upper(),
    )
    if print_config_only:
        click.echo(print_config(settings, os.environ))
        return EXIT_OK
    if "app" not in settings.values:
        found = find_application(settings.values.get("app_dir", ""))
        settings.values["app"] = found.target
        settings.notices.append(f"no application given: serving {found.target}, found in {found.path}")
    config = Config(**settings.values)
    if config.env_file is not None and not os.path.isfile(config.env_file):
        raise ConfigError(f"--env-file: {config.env_file!r} does not exist; check the path or leave it out")
    config.notices.extend(settings.notices)
    return _check(config) if check_config_only else execute(config)


def _check(config: Config) -> int:
    """`--check-config`: the exit code that the start would have."""
    try:
        check(config)
    except StartupError as error:
        log_startup_error(error)
        return error.exit_code
    click.echo("The configuration is valid.")
    return EXIT_OK


def _command(print_config: bool, check_config: bool, **params: Any) -> None:
    ctx = click.get_current_context()
    given = {
        name: value
        for name, value in params.items()
        if ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE
    }
    try:
        code = _serve(print_config, check_config, given)
    except ConfigError as error:
        raise UsageSentence(str(error)) from None
    leave(code)


main = GroupedCommand(
    "fastasgi",
    params=_parameters(),
    callback=_command,
    context_settings={"max_content_width": 110},
    help=(
        "Serve the ASGI application APP ('module:attribute'); without one, main:app, app:app or "
        "*.asgi:application of the current directory.\n\n"
        "Every option is also a variable FASTASGI_<NAME> and a key of fastasgi.toml, or of [tool.fastasgi] in "
        "pyproject.toml. The command line is stronger than the environment, that than the file."
    ),
)
"""The click command behind `fastasgi` and `python -m fastasgi`."""
