"""The files of deploy/ as data: strict readers of their formats, and the commands in them that start the server.

What a real program can read is given to it elsewhere (tests/test_deploy_*.py); this is for comparing them with the
table of options and with each other.
"""

import configparser
import importlib.util
import json
import re
import shlex
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import click
import yaml

from fastasgi.cli import main as command
from fastasgi.draining import drain_bound_s
from fastasgi.options import FIELDS
from fastasgi.sources import gather

ROOT = Path(__file__).resolve().parents[1]
DEPLOY = ROOT / "deploy"
UNITS = sorted([*DEPLOY.glob("systemd/*/*.service"), *DEPLOY.glob("systemd/*/*.socket")])


def text_of(name):
    return (DEPLOY / name).read_text(encoding="utf-8")


def seconds(text):
    """`60s`, `1h`, `45`: what systemd, nginx, HAProxy, Docker and Traefik write."""
    number, unit = re.fullmatch(r"(\d+)(ms|s|m|h|d)?", str(text)).groups()
    return int(number) * {"ms": 0.001, None: 1, "s": 1, "m": 60, "h": 3600, "d": 86400}[unit]


def load_app():
    """The application of deploy/app/main.py."""
    spec = importlib.util.spec_from_file_location("deploy_main", DEPLOY / "app" / "main.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.app


# --- readers ------------------------------------------------------------------------------------------------------


def read_unit(text):
    """A unit of systemd: {section: [(key, value)]}. Strict: what is no remark is a section or an assignment."""
    found, section = {}, None
    lines = iter(text.split("\n"))
    for line in lines:
        if not line or line.startswith(("#", ";")):
            continue
        while line.endswith("\\"):
            line = line[:-1] + " " + next(lines).lstrip()
        if heading := re.fullmatch(r"\[(\w+)\]", line):
            section = found.setdefault(heading[1], [])
            continue
        name, value = re.fullmatch(r"([A-Z]\w*)=(.*)", line).groups()
        section.append((name, value))
    return found


def only(unit, section, name):
    """The one value of a setting; None where it has none."""
    values = [value for each, value in unit.get(section, ()) if each == name]
    assert len(values) <= 1, f"{name} is set {len(values)} times"
    return values[0] if values else None


def read_nginx(text):
    """A configuration of nginx: [(name, [argument], block or None)]."""
    words = [
        word if word[0] not in "\"'" else "=" + word[1:-1]
        for word in re.findall(r"""#[^\n]*|"[^"]*"|'[^']*'|[{};]|[^\s{};"'#]+""", text)
        if word[0] != "#"
    ]
    found, end = _nginx_block(words, 0)
    assert end == len(words), "a } too many"
    return found


def _nginx_block(words, at):
    found, current = [], []
    while at < len(words) and words[at] != "}":
        word = words[at]
        at += 1
        if word not in ("{", ";"):
            current.append(word.removeprefix("="))
            continue
        block = None
        if word == "{":
            block, at = _nginx_block(words, at)
            assert words[at] == "}", "a } is missing"
            at += 1
        found.append((current[0], current[1:], block))
        current = []
    assert not current, f"no ; behind {current}"
    return found, at


def directives(block, name):
    """The arguments of each directive of this name, at any depth."""
    for each, arguments, inner in block:
        if each == name:
            yield arguments
        yield from directives(inner or (), name)


def read_dockerfile(text):
    """A Dockerfile: [(instruction, rest)], the rest a list where it is written as JSON."""
    joined = re.sub(r"\\\n\s*", " ", "\n".join(line for line in text.split("\n") if not line.startswith("#")))
    found = []
    for line in filter(None, joined.split("\n")):
        name, rest = re.fullmatch(r"([A-Z]+) (.+)", line).groups()
        assert name in INSTRUCTIONS, name
        found.append((name, json.loads(rest) if rest.startswith("[") else rest))
    return found


INSTRUCTIONS = frozenset(
    "ADD ARG CMD COPY ENTRYPOINT ENV EXPOSE FROM HEALTHCHECK LABEL RUN SHELL STOPSIGNAL USER VOLUME WORKDIR".split()
)


def last(dockerfile, name):
    """What the last instruction of this name says: the one that holds."""
    return [rest for each, rest in dockerfile if each == name][-1]


def read_haproxy(text):
    """A configuration of HAProxy: {section: [words of a line]}."""
    found, section = {}, None
    for line in text.split("\n"):
        words = line.partition("#")[0].split()
        if words and not line[0].isspace():
            section = found.setdefault(" ".join(words), [])
        elif words:
            section.append(words)
    return found


def read_supervisor(text):
    """The settings of the one program in a configuration of Supervisor."""
    parser = configparser.RawConfigParser(inline_comment_prefixes=(" ;",), strict=True)
    parser.read_string(text)
    (section,) = parser.sections()
    return dict(parser[section])


# --- the commands that start the server ---------------------------------------------------------------------------


def options_of(words, environment=()):
    """The checked options of a command line behind the program's name, and of its environment. Raises what the server
    would refuse."""
    with tempfile.TemporaryDirectory() as empty, command.make_context("fastasgi", list(words)) as context:
        given = {
            name: value
            for name, value in context.params.items()
            if context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE
        }
        settings = gather(given, dict(environment), empty)
    assert not settings.notices, settings.notices
    return settings.values


@dataclass
class Start:
    """One place of deploy/ where the server is started."""

    where: str  # the file, and what in it
    words: list[str]  # with the program
    environment: dict[str, str] = field(default_factory=dict)
    stop_s: float | None = None  # after how long whoever stops it kills it
    directory: str | None = None
    reloads: bool = False  # HUP is sent to it there

    @property
    def options(self):
        return options_of(self.words[1:], self.environment)

    @property
    def drain_s(self):
        """How long its end takes at most."""
        values = self.options
        options = SimpleNamespace(**{name: values.get(name, FIELDS[name].default) for name in FIELDS})
        return options.drain_delay + drain_bound_s(options)


def starts():
    """All of them."""
    yield from map(_of_unit, (path for path in UNITS if path.suffix == ".service"))
    unit = read_unit(text_of("haproxy/app.service.d.conf"))
    assert unit["Service"][0] == ("ExecStart", ""), "a drop-in adds to the command unless it empties it first"
    yield Start("haproxy/app.service.d.conf", shlex.split(unit["Service"][1][1]))
    program = read_supervisor(text_of("supervisor/app.conf"))
    yield Start(
        "supervisor/app.conf", shlex.split(program["command"]), stop_s=seconds(program["stopwaitsecs"]),
        directory=program["directory"], reloads=True,
    )  # fmt: skip
    image = read_dockerfile(text_of("docker/Dockerfile"))
    entry = last(image, "ENTRYPOINT")
    yield Start("docker/Dockerfile", [*entry, *last(image, "CMD")], directory=last(image, "WORKDIR"))
    for name in ("compose/compose.yaml", "traefik/compose.yaml"):
        service = yaml.safe_load(text_of(name))["services"]["app"]
        ours = {key: value for key, value in service["environment"].items() if key.startswith("FASTASGI_")}
        words = [*entry, *service["command"]]
        yield Start(name, words, ours, stop_s=seconds(service["stop_grace_period"]), reloads=True)
    pod = kubernetes("Deployment")["spec"]["template"]["spec"]
    words = [*entry, *pod["containers"][0]["args"]]
    yield Start("kubernetes/app.yaml", words, stop_s=pod["terminationGracePeriodSeconds"])


def _of_unit(path):
    unit = read_unit(path.read_text(encoding="utf-8"))
    words = shlex.split(only(unit, "Service", "ExecStart").replace("%i", "8001"))
    return Start(
        str(path.relative_to(DEPLOY)), words, stop_s=seconds(only(unit, "Service", "TimeoutStopSec")),
        directory=only(unit, "Service", "WorkingDirectory"), reloads=only(unit, "Service", "ExecReload") is not None,
    )  # fmt: skip


def kubernetes(kind):
    """The one object of this kind in the manifest."""
    (found,) = (each for each in yaml.safe_load_all(text_of("kubernetes/app.yaml")) if each["kind"] == kind)
    return found
