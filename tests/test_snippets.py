"""Every command and every snippet of README.md and docs/ is executed, or says why it is not.

A page is worked through from its beginning, in a folder of its own, as its reader would do it:

- Python whose first line is `# name.py` is that file; other Python runs as it stands. A file that defines an
  application is served, by a later line of the page or at its end; other files run when a command runs them.
- `fastasgi ...` with a switch that only asks, such as `--check-config`, runs in this process. A command that serves is
  started when something asks it afterwards (`curl`, `python client.py`), on a port that is free; otherwise its options
  are checked. Ports in the page, 8000, stand for that one.
- What `console` shows behind a command is what it says; `...` in it stands for anything.
- TOML, INI, YAML and JSON are read, nginx's and HAProxy's settings by these programs where they are installed;
  `fastasgi.toml` is taken as options.

Some pages have a module of tests of their own, which knows more about them: `OWN_TESTS`. The rules for all blocks,
those that are not executed too, are in `snippets.py`. A block without an executor fails.
"""

import ast
import configparser
import contextlib
import json
import os
import re
import runpy
import shutil
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import click.testing
import httpx
import pytest
import yaml
from frameworks.serving import RUNNING, Lines
from process import no_alarm
from proxying import PATH as PROXIES_PATH
from snippets import (
    COMMANDS,
    EXTRAS,
    PAGES,
    REASONS,
    ROOT,
    Block,
    Command,
    blocks_of,
    commands_of,
    faults_of,
    parse,
)
from test_documents import DOORS, dotted_exists
from test_pytest_plugin import PLUGIN
from tls_files import files
from websockets.sync.client import connect

import fastasgi
from fastasgi import cli
from fastasgi.sources import gather

PATIENCE_S = 20.0
ASKS = {"--version", "--help", "--check-config", "--print-config"}

# (page, language) -> the module that executes these blocks
OWN_TESTS = {
    ("docs/first-contact.md", "console"): "test_first_contact.py",
    ("docs/python-api.md", "python"): "test_python_api.py",
    ("docs/logging.md", "python"): "test_documents_logs.py",
    ("docs/logging.md", "sh"): "test_documents_logs.py",
    ("docs/logging.md", "json"): "test_documents_logs.py",
    ("docs/tls.md", "python"): "test_documents_logs.py",
    ("docs/tls.md", "sh"): "test_documents_logs.py",
}

HELLO = """\
async def app(scope, receive, send):
    assert scope["type"] == "http"
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"hello\\n"})
"""
# What pages speak of without showing it.
BESIDE = {"main.py": HELLO, "hello.py": HELLO, "large.bin": "x" * 2000}

ALL = [(path, block) for path in PAGES for block in blocks_of(path)]


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


# --- what holds for all of them -----------------------------------------------------------------------------------


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_blocks_can_be_meant(path):
    faults = [f"{block.place}: {fault}" for each, block in ALL if each == path for fault in faults_of(block)]
    assert not faults, "\n".join(faults)


def test_pages_with_tests_of_their_own_are_read_by_them():
    for (page, language), module in OWN_TESTS.items():
        assert any(name_of(path) == page and block.language == language for path, block in ALL), page
        assert Path(page).name in (ROOT / "tests" / module).read_text(encoding="utf-8"), module


def test_doors_and_extras_exist():
    extras = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"])
    for _, block in ALL:
        named = {name for found in EXTRAS.findall(block.text) for name in found.split(",")}
        assert named <= extras, f"{block.place}: no extra {named - extras}"
        if block.language in COMMANDS:
            doors = set(re.findall(r"^(?:\$ )?make (\w+)", block.text, re.MULTILINE))
            assert doors <= DOORS, f"{block.place}: no door {doors - DOORS}"


def test_commands_do_not_hide_in_indented_text():
    for path in PAGES:
        lines = path.read_text(encoding="utf-8").split("\n")
        for number, (before, line) in enumerate(zip(["", *lines], lines), 1):
            if re.match(r" {4}(\$ |fastasgi |curl |pip )", line) and not before.strip():
                raise AssertionError(f"{name_of(path)}:{number}: write a command into a block of sh or console")


# --- in order, as a reader does -----------------------------------------------------------------------------------


class Visit:
    """One page, read from its beginning, in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.server: subprocess.Popen | None = None
        self.lines: Lines | None = None
        self.url = ""
        self.files: dict[str, str] = {}  # the Python that the page has shown, by the names of files
        self.unused: dict[str, Block] = {}  # those of them that nothing has executed yet
        self.names: dict[str, object] = {}
        self.missing: set[str] = set()  # programs that are not installed
        for name, text in BESIDE.items():
            (folder / name).write_text(text)
        for name in ("cert", "key", "ca"):
            shutil.copy(getattr(files(), name), folder / f"{name}.pem")

    # --- servers

    def start(self, argv: list[str]) -> None:
        """Start a program that serves, and learn where."""
        self.stop()
        with no_alarm():
            self.server = subprocess.Popen(
                [sys.executable, *argv], cwd=self.folder, env=environment(),
                stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
            )  # fmt: skip
        self.lines = Lines(self.server.stderr)
        self.url = self.lines.wait(RUNNING.pattern)[1]

    def stop(self) -> None:
        """Stop it as Ctrl+C does; it ends with 0."""
        if self.server is None:
            return
        try:
            self.server.send_signal(signal.SIGINT)
            assert self.server.wait(PATIENCE_S) == 0, "\n".join(self.lines.all)
        finally:
            self.kill()

    def kill(self) -> None:
        """End it in any case."""
        if self.server is not None:
            self.server.kill()
            self.server.wait()
            self.lines.close()
            self.server = None

    # --- commands

    def run(self, block: Block, command: Command, asked: bool) -> None:
        """Run one command line. `asked`: something asks the server that it starts."""
        program, *arguments = command.words
        if program == "fastasgi":
            self._fastasgi(arguments, command.shown, asked)
        elif program == "curl":
            assert self.server is not None, f"{block.place}: nothing is served here that curl could ask"
            self._other([program, "-sS", "--noproxy", "*", "--max-time", "20", *arguments], command.shown)
        elif program == "python":
            for name in arguments:
                if name in self.files:
                    (self.folder / name).write_text(self._moved(self.files[name]))
                    self.unused.pop(name, None)
            more = PLUGIN if "pytest" in arguments else []
            self._other([sys.executable, *arguments, *more], command.shown)
        elif program in ("openssl", "mkdir"):
            self._other([program, *arguments], command.shown)
        else:
            raise AssertionError(f"{block.place}: no executor for {command.line!r}")

    def _fastasgi(self, arguments: list[str], shown: str | None, asked: bool) -> None:
        refused = (shown or "").startswith("Error: ")
        if "--check-config" in arguments:  # it imports the application
            self._other([sys.executable, "-m", "fastasgi", *arguments], shown)
        elif refused or ASKS & set(arguments):
            with contextlib.chdir(self.folder):
                result = click.testing.CliRunner().invoke(cli.main, arguments)
            assert result.exit_code == (2 if refused else 0), result.output
            assert result.output
            assert shown is None or matches(shown, result.output), result.output
        else:
            assert not shown, "what a server says is shown in first-contact.md"
            given = {"app": "main:app", **parse(arguments)}
            if asked:
                moved = [] if {"uds", "bind", "fd"} & set(given) else ["--port", "0", "--host", "127.0.0.1"]
                self.start(["-m", "fastasgi", *arguments, *moved])
                self.unused.pop(given["app"].partition(":")[0] + ".py", None)
            else:
                fastasgi.Config(**{"log_config": None, **given})

    def _other(self, argv: list[str], shown: str | None) -> None:
        if shutil.which(argv[0]) is None:
            self.missing.add(argv[0])
            return
        argv = [self._moved(word) for word in argv]
        with no_alarm():
            done = subprocess.run(
                argv, cwd=self.folder, env=environment(), capture_output=True, text=True, timeout=PATIENCE_S
            )
        assert done.returncode == 0, f"{argv}\n{done.stdout}{done.stderr}"
        assert shown is None or matches(shown, done.stdout.replace("\r\n", "\n")), f"{argv}\n{done.stdout}"

    def _moved(self, text: str) -> str:
        """The port of the page is the one that is served."""
        return re.sub(r"\b(http|ws)://127\.0\.0\.1:8000", lambda match: self.url.replace("http", match[1]), text)

    # --- Python

    def python(self, block: Block) -> None:
        """A file, or code that runs as it stands."""
        name = re.match(r"# ([\w/]+\.py)\n", block.text)
        if name is None:
            self.names.setdefault("app", hello_app())
            before = self.names["app"]
            exec(compile(block.text, block.place, "exec"), self.names)
            if self.names["app"] is not before:
                serve_once(self.names["app"], block.text)
            return
        compile(block.text, block.place, "exec")
        self.files[name[1]] = block.text
        self.unused[name[1]] = block
        (self.folder / name[1]).write_text(block.text.replace("port=8000", "port=0"))
        if "fastasgi.run(" in block.text:
            self.start([name[1]])
            self.stop()
            del self.unused[name[1]]

    def serve_the_rest(self) -> None:
        """Applications that no command of the page has served."""
        for name, block in self.unused.items():
            with contextlib.chdir(self.folder):
                names = runpy.run_path(name)
            app = names.get("app", names.get("application"))
            assert app is not None, f"{block.place}: {name} is shown, and never run"
            serve_once(app, block.text)


def hello_app():
    names: dict[str, object] = {}
    exec(HELLO, names)
    return names["app"]


def environment() -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("FASTASGI_", "UVICORN_"))}
    return {**kept, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}


def matches(shown: str, said: str) -> bool:
    """Whether something was said as shown; `...` stands for anything."""
    pattern = re.escape(shown.strip()).replace(re.escape("..."), ".*")
    return re.fullmatch(pattern, said.strip(), re.DOTALL) is not None


def is_asked(following: list[Command]) -> bool:
    """Whether something asks a server before another one is started."""
    for command in following:
        program, *arguments = command.words
        if program == "curl" or (program == "python" and arguments[0] != "-m"):
            return True
        if program == "fastasgi" and not ASKS & set(arguments):
            return False
    return False


def serve_once(app, text: str) -> None:
    """Serve an application in this process and ask it once."""
    with fastasgi.serve_in_thread(app, port=0, lifespan="off", access_log=False) as server:
        if "websocket.accept" in text or ".websocket(" in text:
            with connect(server.url.replace("http", "ws")):
                pass
        else:
            assert httpx.get(server.url, trust_env=False).status_code < 500


@pytest.fixture
def visit(tmp_path, monkeypatch):
    for name in list(os.environ):
        if name.startswith(("FASTASGI_", "UVICORN_")):
            monkeypatch.delenv(name)
    monkeypatch.setattr(cli, "leave", sys.exit)  # it waits for threads, which may be those of other tests
    visit = Visit(tmp_path)
    try:
        yield visit
    finally:
        visit.kill()


def executed(path: Path) -> list[Block]:
    """The blocks of a page that are executed here."""
    return [
        block
        for each, block in ALL
        if each == path and block.reason is None and (name_of(path), block.language) not in OWN_TESTS
    ]


WITH_BLOCKS = [path for path in PAGES if executed(path)]


@pytest.mark.time_limit(120)
@pytest.mark.parametrize("path", WITH_BLOCKS, ids=name_of)
def test_page(path, visit):
    blocks = executed(path)
    commands = [command for block in blocks if block.language in COMMANDS for command in commands_of(block)]
    at = 0
    for block in blocks:
        if block.language in COMMANDS:
            for command in commands_of(block):
                at += 1
                visit.run(block, command, is_asked(commands[at:]))
        elif block.language == "python":
            visit.python(block)
        else:
            assert block.language in READERS, f"{block.place}: no executor for blocks of {block.language}"
            READERS[block.language](block, visit)
    visit.stop()
    visit.serve_the_rest()
    if visit.missing:
        pytest.skip(f"not installed: {', '.join(sorted(visit.missing))}")


# --- data ---------------------------------------------------------------------------------------------------------


def read_toml(block: Block, visit: Visit) -> None:
    """TOML; what configures us is taken as options."""
    data = tomllib.loads(block.text)
    table = data if block.text.startswith("# fastasgi.toml\n") else data.get("tool", {}).get("fastasgi")
    if table is not None:
        folder = visit.folder / "options"
        folder.mkdir(exist_ok=True)
        (folder / "fastasgi.toml").write_text("".join(f"{key} = {json.dumps(value)}\n" for key, value in table.items()))
        assert set(gather({}, {}, str(folder)).values) == set(table)


def read_ini(block: Block, visit: Visit) -> None:
    """Units of systemd, and the like."""
    parser = configparser.RawConfigParser(strict=False)
    parser.read_string(block.text)
    assert parser.sections(), f"{block.place}: it has no sections"


def read_nginx(block: Block, visit: Visit) -> None:
    """Ask nginx itself; it listens on sockets in our folder, with our certificate."""
    text = block.text
    if not re.search(r"^(http|events|stream) \{", text, re.MULTILINE):
        top = re.match(r"\s*(upstream|map|server|limit_req_zone)\b", text)
        text = text if top else f"server {{ {text} }}"
        text = f"http {{\nssl_certificate cert.pem;\nssl_certificate_key key.pem;\naccess_log off;\n{text}\n}}"
    if "events" not in text:
        text = "events {}\n" + text
    count = iter(range(100))
    text = re.sub(r"\blisten (\[::\]:)?\d+", lambda _: f"listen unix:{visit.folder}/{next(count)}.sock", text)
    text = re.sub(r"(ssl_certificate) /\S+;", r"\1 cert.pem;", text)
    text = re.sub(r"(ssl_certificate_key) /\S+;", r"\1 key.pem;", text)
    (visit.folder / "nginx.conf").write_text(f"pid nginx.pid;\n{text}")
    check(block, visit, "nginx", "-t", "-p", str(visit.folder), "-c", str(visit.folder / "nginx.conf"), "-e", "stderr")


def read_haproxy(block: Block, visit: Visit) -> None:
    """Ask HAProxy itself."""
    config = visit.folder / "haproxy.cfg"
    config.write_text(re.sub(r"\bcrt \S+", f"crt {files().both}", block.text))
    check(block, visit, "haproxy", "-c", "-f", str(config))


def check(block: Block, visit: Visit, name: str, *arguments: str) -> None:
    path = shutil.which(name, path=PROXIES_PATH)
    if path is None:
        visit.missing.add(name)
        return
    done = subprocess.run([path, *arguments], cwd=visit.folder, capture_output=True, text=True, timeout=PATIENCE_S)
    assert done.returncode == 0, f"{block.place}: {done.stderr}"


READERS = {
    "": lambda block, visit: None,
    "text": lambda block, visit: None,
    "toml": read_toml,
    "ini": read_ini,
    "systemd": read_ini,
    "json": lambda block, visit: json.loads(block.text),
    "yaml": lambda block, visit: list(yaml.safe_load_all(block.text)),
    "nginx": read_nginx,
    "haproxy": read_haproxy,
}


# --- what the documents quote -------------------------------------------------------------------------------------


def templates() -> list[re.Pattern[str]]:
    """Every text in the sources of the package, with what is filled in left open."""
    found = set()
    for path in (ROOT / "fastasgi").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                parts = (str(each.value) if isinstance(each, ast.Constant) else "\0" for each in node.values)
                found.add("".join(parts))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.add(node.value)
    for path in (ROOT / "fastasgi").glob("*.pyx"):
        text = re.sub(r'"\n\s*"', "", path.read_text(encoding="utf-8"))
        found |= {each[1:-1] for each in re.findall(r"\"[^\"\n]*\"|'[^'\n]*'", text)}
    holes = re.compile(r"\0|%[-.\d]*[a-zA-Z]")
    texts = {line for text in found for line in text.split("\n") if " " in line and len(holes.sub("", line)) > 12}
    return [re.compile(".*?".join(f"({re.escape(part)})" for part in holes.split(text)), re.DOTALL) for text in texts]


MESSAGE = re.compile(r"^(?:(?:INFO|WARNING|ERROR): +|Error: )(.*)$", re.MULTILINE)


def test_messages_that_are_quoted_are_ours():
    """The lines of troubleshooting.md: most of each stands, letter by letter, in texts of the sources."""
    known = templates()
    path = ROOT / "docs" / "troubleshooting.md"
    quoted = [
        (block, line) for block in blocks_of(path) if block.language == "text" and block.reason is None
        for line in MESSAGE.findall(block.text)
    ]  # fmt: skip
    assert len(quoted) > 15
    for block, line in quoted:
        ours = set()
        for match in filter(None, (each.search(line) for each in known)):
            for start, end in match.regs[1:]:
                ours |= set(range(start, end)) if end - start > 4 else set()
        assert len(ours) > 0.4 * len(re.sub(r"'.*?'", "", line)), f"{block.place}: no text of the sources is {line!r}"


def test_the_drawing_names_what_there_is():
    text = (ROOT / "docs" / "way-of-a-request.svg").read_text(encoding="utf-8")
    names = re.findall(r'<text class="m"[^>]*>([^<]+)</text>', text)
    assert len(names) > 10
    assert [name for name in names if not dotted_exists(name)] == []


# --- the readers --------------------------------------------------------------------------------------------------


def faults(language: str, text: str, reason: str | None = None) -> list[str]:
    return list(faults_of(Block(ROOT / "README.md", 1, language, text, reason)))


@pytest.mark.parametrize(
    ("language", "text", "reason"),
    [
        ("sh", "fastasgi main:app --prot 80\n", None),
        ("sh", "fastasgi main:app --port eighty\n", None),
        ("sh", "fastasgi ctl stpo\n", "needs a running server"),
        ("console", "$ FASTASGI_PROT=80 fastasgi\n", None),
        ("sh", "pip install x\n", "because"),
        ("sh", "fastasgi main:app\n", "needs Docker"),
        ("ini", "[Service]\nExecStart=/srv/venv/bin/fastasgi main:app --prot 80\n", None),
        ("dockerfile", 'FROM x\nCMD ["fastasgi", "main:app", "--prot", "80"]\n', "needs Docker"),
        ("yaml", "services:\n  web:\n    command: fastasgi main:app --prot 80\n", "needs Docker"),
        ("yaml", "args:\n  - fastasgi\n  - main:app\n  - --prot=80\n", None),
        ("python", "import fastasgi\nfastasgi.run('main:app', prot=80)\n", None),
        ("python", "def\n", None),
        ("text", "$ fastasgi main:app\n", None),
        ("cobol", "STOP RUN.\n", None),
    ],
)
def test_the_rules_refuse(language, text, reason):
    assert faults(language, text, reason)


@pytest.mark.parametrize(
    ("language", "text", "reason"),
    [
        ("sh", "fastasgi main:app --port 80 --no-access-log --header 'A: b' | tee log\n", None),
        ("sh", "fastasgi ctl scale 6\n", "needs a running server"),
        ("sh", "pip install fastasgi\n", "installs packages"),
        ("console", "$ fastasgi main:app --prot 80\nError: unknown option '--prot'; did you mean '--port'?\n", None),
        ("dockerfile", 'FROM x\nCMD ["fastasgi", "main:app", "--port", "80"]\n', "needs Docker"),
        ("ini", "[program:shop]\ncommand=/srv/venv/bin/fastasgi main:app --port 80\nuser=fastasgi\n", None),
    ],
)
def test_the_rules_accept(language, text, reason):
    assert faults(language, text, reason) == []


def test_blocks_are_read(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("a\n\n<!-- not executed: needs root -->\n```sh\nsudo x\n```\n\n  ```console\n  $ y\n  z\n  ```\n")
    first, second = blocks_of(page)
    assert (first.line, first.language, first.text, first.reason) == (5, "sh", "sudo x\n", "needs root")
    assert (second.line, second.text, second.reason) == (9, "$ y\nz\n", None)
    assert [(each.line, each.shown) for each in commands_of(second)] == [("y", "z\n")]


def test_everything_is_found():
    """A reader that finds no blocks would pass everything."""
    assert len(WITH_BLOCKS) > 8 and len(ALL) > 80
    assert {block.language for _, block in ALL} >= {"sh", "console", "python", "nginx", "ini", "toml"}
    assert {block.reason for _, block in ALL} - {None} <= set(REASONS)
