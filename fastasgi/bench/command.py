"""The command line: `python -m fastasgi.bench --against uvicorn,granian`."""

import datetime
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from fastasgi.errors import EXIT_CRASH, EXIT_OK, EXIT_USAGE
from fastasgi.suggest import did_you_mean

from . import compare, markdown, micro, page, store, terminal
from .clients import ClientFailed
from .contenders import PEERS, UnknownName
from .model import OURS, Run
from .peers import MissingPeers, tree
from .prepare import ALL, COMMAND, Asked, CannotMeasure, Prepared, describe_run, prepare
from .progress import Bar
from .runner import Runner
from .scenarios import SCENARIOS

EXIT_INTERRUPTED = 130
QUICK = {"rounds": 1, "seconds": 0.5, "warm_up_s": 0.2, "retries": 0}
"""`--quick`: does it work, and roughly how fast."""
MICRO = "micro"


class Sentence(click.ClickException):
    """What cannot be done as asked, in one sentence on stderr."""

    exit_code = EXIT_USAGE

    def show(self, file: Any = None) -> None:
        """Say it."""
        click.echo(f"bench: {self.format_message()}", err=True)


class GroupedOption(click.Option):
    """An option under a heading of the help."""

    def __init__(self, group: str, *words: str, **rest: Any) -> None:
        self.group = group
        super().__init__(list(words), **rest)


class BenchCommand(click.Command):
    """Help by headings, usage errors in one line; `micro` as first word is a command of its own."""

    def main(self, args: Sequence[str] | None = None, *rest: Any, **extra: Any) -> Any:
        """Run the command, or `micro`."""
        given = sys.argv[1:] if args is None else list(args)
        if given and given[0] == MICRO:
            sys.exit(micro.main(given[1:]))
        return super().main(given, *rest, **{**extra, "prog_name": COMMAND})

    def make_context(self, *args: Any, **extra: Any) -> click.Context:
        """Parse; a usage error is one sentence."""
        try:
            return super().make_context(*args, **extra)
        except click.NoSuchOption as error:
            names = [name for param in self.params for name in param.opts]
            raise Sentence(f"unknown option {error.option_name}{did_you_mean(error.option_name, names)}") from None
        except click.UsageError as error:
            raise Sentence(error.format_message()) from None

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options under their headings."""
        for heading in (*dict.fromkeys(option.group for option in OPTIONS), "Help"):
            options = [each for each in self.get_params(ctx) if getattr(each, "group", "Help") == heading]
            records = [record for each in options if (record := each.get_help_record(ctx))]
            with formatter.section(heading):
                formatter.write_dl(records)


WHAT, HOW, WHERE, OUT, DEVELOPERS = "What is measured", "How", "Where", "What comes out", "For a checkout"
FILE = click.Path(dir_okay=False, path_type=Path)
OPTIONS = [
    GroupedOption(
        WHAT,
        "--against",
        metavar="NAMES",
        default="",
        help=f"Other servers, of {', '.join(PEERS)}, with commas between; {ALL!r}: each that is installed.",
    ),
    GroupedOption(
        WHAT,
        "--scenarios",
        metavar="NAMES",
        default="",
        help=f"Of {', '.join(SCENARIOS)}.  [default: all]",
    ),
    GroupedOption(WHAT, "--floor/--no-floor", default=True, help="Also what the kernel charges (a program in C)."),
    GroupedOption(WHAT, "--quick", is_flag=True, help="One short round of each: roughly, in less than two minutes."),
    GroupedOption(HOW, "--rounds", type=click.IntRange(1), default=5, show_default=True, help="Each server so often."),
    GroupedOption(
        HOW,
        "--seconds",
        type=click.FloatRange(0, 3600, min_open=True),
        default=2.0,
        show_default=True,
        help="Of load in a round.",
    ),
    GroupedOption(
        HOW,
        "--warm-up",
        "warm_up_s",
        type=click.FloatRange(0, 3600),
        default=0.5,
        show_default=True,
        help="Seconds of the same load before.",
    ),
    GroupedOption(
        HOW, "--connections", type=click.IntRange(1, 20000), default=64, show_default=True, help="Of the client."
    ),
    GroupedOption(
        HOW,
        "--rate",
        metavar="NUMBER|half",
        help="Also latency at a fixed rate of requests a second; half: of the slowest server's own.",
    ),
    GroupedOption(
        HOW,
        "--client",
        type=click.Choice(["own", "wrk"]),
        default="own",
        show_default=True,
        help="wrk checks the status of an answer and no more.",
    ),
    GroupedOption(
        HOW,
        "--retries",
        type=click.IntRange(0),
        default=2,
        show_default=True,
        help="How often a round is taken again in which others had the server's core.",
    ),
    GroupedOption(WHERE, "--server-core", type=click.IntRange(0), metavar="NUMBER", help="The servers' core."),
    GroupedOption(
        WHERE, "--load-core", "client_core", type=click.IntRange(0), metavar="NUMBER", help="The load client's."
    ),
    GroupedOption(WHERE, "--pin/--no-pin", default=True, help="Whether each side has a core of its own."),
    GroupedOption(
        WHERE,
        "--python",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        default=Path(sys.executable),
        help="The interpreter that runs the servers, with what is installed beside it.  [default: this one]",
    ),
    GroupedOption(
        OUT, "--output", type=click.Path(file_okay=False, path_type=Path), help="A folder for all three files."
    ),
    GroupedOption(OUT, "--json", "json_file", type=FILE, help="Everything, as pyperf reads it, too."),
    GroupedOption(OUT, "--markdown", "markdown_file", type=FILE, help="The tables."),
    GroupedOption(OUT, "--html", "html_file", type=FILE, help="A page that stands by itself."),
    GroupedOption(
        OUT,
        "--compare",
        "old_file",
        type=FILE,
        metavar="OLD.json",
        help="Tell what changed since the run that was kept in this file.",
    ),
    GroupedOption(
        DEVELOPERS,
        "--install-peers",
        is_flag=True,
        help="Measure in an environment with pinned versions of all servers, made from --python on first use and kept"
        " in $FASTASGI_BENCH_HOME  [default: ~/.cache/fastasgi-bench]",
    ),
    GroupedOption(
        DEVELOPERS, "--wheel", metavar="WHAT", help="Install this into such an environment and measure that."
    ),
    GroupedOption(
        DEVELOPERS, "--record", is_flag=True, help="Write bench/results/DATE-pyX.Y.{json,md} of the checkout."
    ),
    GroupedOption(DEVELOPERS, "--label", default="", metavar="WORD", help="Added to the names of the files."),
]


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _run(
    against: str,
    scenarios: str,
    quick: bool,
    output: Path | None,
    json_file: Path | None,
    markdown_file: Path | None,
    html_file: Path | None,
    old_file: Path | None,
    record: bool,
    label: str,
    pin: bool,
    **rest: Any,
) -> None:
    """What the command does."""
    context = click.get_current_context()
    given = {name for name in QUICK if context.get_parameter_source(name) is ParameterSource.COMMANDLINE}
    numbers = {**rest, **({name: value for name, value in QUICK.items() if name not in given} if quick else {})}
    asked = Asked(against=_names(against), scenarios=_names(scenarios), quick=quick, pin=pin, **numbers)
    folder = _record_folder() if record else None
    try:
        if folder or output or json_file:
            store.require_pyperf()
        old = store.read(old_file) if old_file else None
        prepared = prepare(asked)
    except (ValueError, UnknownName, MissingPeers, CannotMeasure) as error:
        raise Sentence(str(error)) from None
    run = _measure(prepared)
    if not run.tables:
        raise click.exceptions.Exit(EXIT_INTERRUPTED)
    comparison = compare.compare(old, run) if old else None
    width, colours = terminal.look(sys.stdout)
    click.echo(terminal.render(run, width=width, colours=colours))
    if comparison:
        click.echo(terminal.render_comparison(comparison, width=width, colours=colours))
    stem = _stem(run, label)
    if output:
        output.mkdir(parents=True, exist_ok=True)
        _write(run, comparison, *(output / f"{stem}.{suffix}" for suffix in ("json", "md", "html")))
    if folder:
        _write(run, comparison, folder / f"{stem}.json", folder / f"{stem}.md", None)
    _write(run, comparison, json_file, markdown_file, html_file)
    if run.is_partial:
        raise click.exceptions.Exit(EXIT_INTERRUPTED)
    ours = [row for table in run.tables for row in table.rows if row.contender == OURS]
    raise click.exceptions.Exit(EXIT_CRASH if any(row.refusal for row in ours) else EXIT_OK)


def _record_folder() -> Path:
    folder = tree()
    if folder is None:
        raise Sentence("--record: expected a checkout of fastasgi to run from; write elsewhere with --output")
    return folder / "bench" / "results"


def _stem(run: Run, label: str) -> str:
    """`DATE-pyX.Y`, and the label."""
    version = ".".join(run.python["version"].split(".")[:2])
    return f"{run.started_at[:10]}-py{version}" + (f"-{label}" if label else "")


def _write(
    run: Run,
    comparison: compare.Comparison | None,
    json_file: Path | None,
    markdown_file: Path | None,
    html_file: Path | None,
) -> None:
    """Write those files that are asked for."""
    if json_file:
        store.write(run, json_file)
    if markdown_file:
        markdown_file.write_text(markdown.render(run, comparison), encoding="utf-8")
    if html_file:
        page.write(run, html_file, comparison)
    for file in filter(None, (json_file, markdown_file, html_file)):
        click.echo(f"written: {file}", err=True)


def _measure(prepared: Prepared) -> Run:
    """Measure; what was measured before Ctrl-C, or SIGTERM, is returned, too."""
    runner = Runner(prepared.kinds, prepared.scenarios, prepared.settings)
    started_at = datetime.datetime.now(datetime.UTC)
    before = signal.signal(signal.SIGTERM, _interrupt)
    is_partial = False
    try:
        with Bar(runner.planned) as bar:
            for note in prepared.notes:
                bar.say(note)
            runner.run(bar)
    except KeyboardInterrupt:
        is_partial = True
        click.echo("bench: interrupted; this is what was measured", err=True)
    except ClientFailed as error:
        is_partial = True
        prepared.notes.append(str(error))
        click.echo(f"bench: {error}", err=True)
    finally:
        signal.signal(signal.SIGTERM, before)
    return describe_run(prepared, runner, started_at, is_partial=is_partial)


def _interrupt(number: int, frame: object) -> None:
    """SIGTERM ends a run as Ctrl-C does: with all processes that it has started."""
    raise KeyboardInterrupt


main = BenchCommand(
    "bench",
    params=[*OPTIONS],
    callback=_run,
    context_settings={"max_content_width": 110},
    help=(
        "Measure fastasgi, alone or against other servers, each in its best documented settings; every answer is "
        "verified. Without options: everything, against what the kernel charges, in about a quarter of an hour.\n\n"
        "'python -m fastasgi.bench micro' measures the engines in process instead."
    ),
)
"""The command behind `python -m fastasgi.bench`."""
