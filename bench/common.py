"""What the scripts of this folder share: this checkout's package, who is measured and where, a table."""

import argparse
import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

# ruff: noqa: E402
from fastasgi.bench.contenders import KINDS, Kind, UnknownName, choose
from fastasgi.bench.floor import compile_c
from fastasgi.bench.model import OURS
from fastasgi.bench.peers import peers_python
from fastasgi.bench.servers import APPS, Ground


def parser_of(text: str | None, contenders: str) -> argparse.ArgumentParser:
    """Return a parser with the options that say who is measured, and where."""
    parser = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--python", type=Path, default=Path(sys.executable), help="interpreter to make the peers' environment from")
    add("--servers", default=contenders, help=f"of {','.join(KINDS)}")
    add("--wheel", help="measure this wheel or requirement, not this checkout")
    add("--server-core", type=int, default=0)
    add("--no-pin", action="store_true", help="leave everything where the kernel puts it")
    return parser


def kinds_of(options: argparse.Namespace) -> list[Kind]:
    """Return those who are measured; exit with a sentence for an unknown name."""
    try:
        return [KINDS[name] for name in choose(options.servers.split(","), KINDS, "servers")]
    except UnknownName as error:
        sys.exit(f"bench: {error}")


def ground_of(options: argparse.Namespace, apps: Path = APPS) -> Ground:
    """Return what servers run on: the pinned peers, the floor, and this checkout or the wheel."""
    is_pinned = not options.no_pin and (os.cpu_count() or 1) > 1
    return Ground(
        python=peers_python(options.python, wheel=options.wheel),
        floor=compile_c("floor"),
        core=options.server_core if is_pinned else None,
        tree=None if options.wheel else ROOT,
        apps=apps,
    )


def is_from_tree(kind: Kind, ground: Ground) -> bool:
    """Tell whether this contender is our checkout."""
    return kind.name == OURS and ground.tree is not None


def markdown_table(head: list[str], rows: list[list[str]]) -> str:
    """Return a Markdown table: the first column left, the others right."""
    rule = ["---"] + ["---:"] * (len(head) - 1)
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [head, rule, *rows])
