"""`fastasgi ctl` and `fastasgi top`: ask and tell a running server, and watch it.

The first word of the command line decides: `ctl` and `top` are these, everything else is an application. One of that
name is still served, as `ctl:app`.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

import click

from . import control, screen
from .banner import counted
from .control import Control, ControlError
from .errors import EXIT_CRASH, EXIT_OK

WORDS = ("ctl", "top")

PLACE = [
    click.Option(
        ["--socket", "path"],
        envvar="FASTASGI_CONTROL_SOCKET",
        metavar="PATH",
        help="The server's control socket; without it the only server of this user.",
    ),
    click.Option(["--pid"], type=click.INT, metavar="NUMBER", help="The process id of the server, among several."),
]
AS_JSON = click.Option(["--json", "as_json"], is_flag=True, help="The answer as JSON.")


class _Refused(click.ClickException):
    """One sentence on stderr."""

    exit_code = EXIT_CRASH


def _connected(path: str | None, pid: int | None) -> Control:
    if path == control.AUTO:
        path = None
    return Control(os.path.abspath(path) if path is not None else control.find(pid))


def _command(name: str, text: str, does: Callable[..., str], *params: click.Parameter) -> click.Command:
    """A command that asks the server and prints `does(server, as_json, ...)`."""

    def run(path: str | None, pid: int | None, as_json: bool, **given: Any) -> None:
        before = click.get_current_context().parent
        common = before.params if before is not None else {}
        try:
            server = _connected(path or common.get("path"), pid or common.get("pid"))
            try:
                click.echo(does(server, as_json or common.get("as_json", False), **given))
            finally:
                server.close()
        except ControlError as error:
            raise _Refused(str(error)) from None

    return click.Command(name, params=[*params, *PLACE, AS_JSON], callback=run, help=text)


def _shown(result: Any, as_json: bool, text: str) -> str:
    return json.dumps(result) if as_json else text


def _status(server: Control, as_json: bool) -> str:
    status = server.ask("status")
    return _shown(status, as_json, screen.summary(status))


def _workers(server: Control, as_json: bool) -> str:
    status = server.ask("status")
    return _shown(status["workers"], as_json, screen.table(screen.rows(status, time.monotonic_ns())))


def _reload(server: Control, as_json: bool) -> str:
    return _shown(server.ask("reload"), as_json, "All workers are being replaced.")


def _stop(server: Control, as_json: bool) -> str:
    return _shown(server.ask("stop"), as_json, "The server drains and ends.")


def _scale(server: Control, as_json: bool, count: int) -> str:
    server.ask("scale", count=count)
    target = server.ask("status")["target"]
    return _shown(target, as_json, f"{counted(target)} from now on.")


def _dump_stacks(server: Control, as_json: bool) -> str:
    stacks = server.ask("dump-stacks")
    text = "\n\n".join(f"worker [{pid}]\n{what or '(it could not say)'}" for pid, what in stacks.items())
    return _shown(stacks, as_json, text)


def _top(path: str | None, pid: int | None) -> None:
    try:
        server = _connected(path, pid)
        try:
            screen.watch(lambda: server.ask("status"), sys.stdin, sys.stdout)
        finally:
            server.close()
    except ControlError as error:
        raise _Refused(str(error)) from None
    except KeyboardInterrupt:
        sys.exit(EXIT_OK)


COUNT = click.Argument(["count"], type=click.IntRange(1), metavar="N")

ctl = click.Group(
    "ctl",
    params=[*PLACE, AS_JSON],  # before the command as well as behind it
    commands=[
        _command("status", "What the server is and does, in short.", _status),
        _command("workers", "A table of the workers.", _workers),
        _command("reload", "Replace all workers, a few at a time; no request is lost.", _reload),
        _command("stop", "Drain and end.", _stop),
        _command("scale", "Have N workers from now on.", _scale, COUNT),
        _command("dump-stacks", "What each worker is doing: its stacks, and its request.", _dump_stacks),
    ],
    help="Ask and tell a running server with several workers, over its control socket.",
)

top = click.Command(
    "top", params=[*PLACE], callback=_top, help="Watch the workers of a running server, once a second; q ends it."
)


def main(arguments: list[str]) -> None:
    """Run `ctl` or `top`, the first of the arguments; ends the process."""
    word, *rest = arguments
    {"ctl": ctl, "top": top}[word].main(rest, prog_name=f"fastasgi {word}")
