"""The layers: a module imports only from lines below its own; modules on one line do not know each other.

The table below is the one of `docs/architecture.md`, from the bottom to the top. A new module gets its place here.
"""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "fastasgi"

LINES = [
    # L0: leaves
    {"fa", "linux", "llhttp"},
    {"errors", "asgi", "version", "suggest", "owners", "waits", "stop_notice", "_forwarded", "_live"},
    {"ending", "heap", "reactor", "_orphan"},
    {"_awaitables"},
    {"middleware", "middleware.asgi2", "middleware.proxy_headers", "middleware.wsgi"},
    {"formatters", "outlet", "tls", "kinds", "import_trouble", "discover"},
    {"logging"},
    {"fields", "importer", "sockets", "service"},
    {"banner"},
    {"options.declaring"},
    {"options.serving", "options.traffic", "options.running"},
    {"options"},
    {"sources", "loops"},
    {"config"},
    # L1: plain Python of the process; engines and shared numbers
    {"lifespan", "_scoreboard"},
    {"_runtime", "_notes"},
    {"_head", "_response", "_access", "_deflate"},
    {"_request", "_frames", "_handshake"},
    # L2: connections as bytes in and out
    {"_channel"},
    {"_proxied"},
    {"_socket", "_transport", "_memory", "_probe", "preamble"},
    {"_listener"},
    {"_poller", "accepting"},
    # L3: one call of the application; one request
    {"_scope", "_call"},
    {"_exchange"},
    # L4: one WebSocket
    {"_websocket"},
    {"_session"},
    # L5: one connection
    {"_http1", "_preface"},
    # L6: one process
    {"worker"},
    # L7: several processes
    {"control", "draining", "process", "reload", "upgrade"},
    {"child", "fleet", "health"},
    {"spawned", "starting"},
    {"supervisor"},
    # L8: faces
    {"bench.apps", "bench.apps.raw_app", "bench.apps.websocket_app", "bench.apps.picows_app"},
    {"bench.apps.fastapi_app", "bench.apps.starlette_app", "bench.apps.django_app"},
    {"bench", "bench._answer", "bench._application", "bench._engines", "bench._load", "bench.model", "bench.progress"},
    {"bench._http", "bench._websocket", "bench.machine", "bench.peers"},
    {"bench.http", "bench.websocket", "bench.floor"},
    {"bench.scenarios"},
    {"bench.alone", "bench.contenders", "bench.verify"},
    {"bench.application", "bench.clients", "bench.servers"},
    {"bench.idle"},
    {"bench.runner"},
    {"bench.prepare"},
    {"bench.figures"},
    {"bench.charts", "bench.compare", "bench.store"},
    {"bench.markdown", "bench.micro", "bench.terminal"},
    {"bench.page"},
    {"bench.command"},
    {"bench.__main__"},
    {"launch", "embed", "workers", "screen"},
    {"ctl"},
    {"cli"},
    {"__init__"},
    {"__main__", "pytest_plugin"},
]

# Engines see bytes and numbers, nothing else.
NO_PROCESS = {"asyncio", "socket", "ssl", "signal", "uvloop", "logging"}
KEPT_FROM = {"_request": NO_PROCESS, "_response": NO_PROCESS}
# Only the parser touches llhttp.
ONLY_USERS = {"llhttp": {"_request"}}

CYTHON_IMPORT = re.compile(
    r"^[ \t]*(?:from[ \t]+(?P<source>[\w.]+)[ \t]+c?import[ \t]+(?P<names>\([^)]*\)|[^\n(]+)"
    r"|c?import[ \t]+(?P<modules>[\w., \t]+))",
    re.MULTILINE,
)


def line_of(module):
    """The number of a module's line, from the bottom."""
    found = [number for number, line in enumerate(LINES) if module in line]
    assert found, f"fastasgi/{module.replace('.', '/')} has no place in the table of layers"
    return found[0]


def sources():
    """Every source file of the package with its module's name within the package."""
    for path in sorted(PACKAGE.rglob("*")):
        if path.suffix in (".py", ".pyx", ".pxd", ".pyi"):
            parts = path.relative_to(PACKAGE).with_suffix("").parts
            if len(parts) > 1 and parts[-1] == "__init__":
                parts = parts[:-1]
            yield path, ".".join(parts)


def python_imports(path, module):
    """Absolute names that a Python file imports, those below `if TYPE_CHECKING` too."""
    package = ["fastasgi", *module.split(".")]
    if path.stem != "__init__":
        package = package[:-1]
    elif module == "__init__":
        package = ["fastasgi"]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            source = ".".join([*base, *([node.module] if node.module else [])])
            yield from (f"{source}.{alias.name}" for alias in node.names)


def cython_imports(path, module):
    """Absolute names that a Cython file imports or cimports."""
    text = re.sub(r'"""[\s\S]*?"""|#[^\n]*', "", path.read_text(encoding="utf-8"))
    for match in CYTHON_IMPORT.finditer(text):
        if match["modules"]:
            yield from (name.split()[0] for name in match["modules"].split(","))
            continue
        source = match["source"]
        if source.startswith("."):
            package = ["fastasgi", *module.split(".")[:-1]]
            level = len(source) - len(source.lstrip("."))
            source = ".".join([*package[: len(package) - level + 1], *source.lstrip(".").split()])
        names = match["names"].strip("()").replace("\n", " ")
        yield from (f"{source}.{name.split()[0]}" for name in names.split(",") if name.strip())


def imports(path, module):
    """Absolute names that a file imports."""
    return (python_imports if path.suffix in (".py", ".pyi") else cython_imports)(path, module)


def as_module(name):
    """The module of the package that an absolute name is or stands in; None for other packages."""
    package, _, inner = name.partition(".")
    if package != "fastasgi":
        return None
    known = {module for _, module in sources()}
    parts = inner.split(".") if inner else []
    while parts and ".".join(parts) not in known:
        parts.pop()
    return ".".join(parts) or "__init__"


SOURCES = list(sources())
MODULES = sorted({module for path, module in SOURCES if path.suffix in (".py", ".pyx")})


@pytest.mark.parametrize(("path", "module"), SOURCES, ids=[str(path.relative_to(ROOT)) for path, _ in SOURCES])
def test_imports_point_downward(path, module):
    own = line_of(module)
    for name in imports(path, module):
        used = as_module(name)
        if used is None or used == module:
            continue
        assert line_of(used) < own, f"{path.name} imports {used}, which stands on its own line or above"
        assert module in ONLY_USERS.get(used, {module}), f"only {ONLY_USERS[used]} may use {used}"


@pytest.mark.parametrize("module", KEPT_FROM)
def test_engines_know_no_process(module):
    for path, name in SOURCES:
        if name == module:
            used = {imported.partition(".")[0] for imported in imports(path, module)}
            assert not used & KEPT_FROM[module]


def test_every_line_of_the_table_exists():
    known = {module for _, module in SOURCES}
    assert set().union(*LINES) == known


@pytest.mark.parametrize("module", [module for module in MODULES if module != "__main__"])
def test_each_module_imports_alone(module):
    name = "fastasgi" if module == "__init__" else f"fastasgi.{module}"
    code = f"import sys; import {name}; assert sys.modules[{name!r}]"
    run = subprocess.run([sys.executable, "-W", "error", "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


def test_the_readers_of_imports(tmp_path):
    """The two readers see what they must: a test that reads nothing passes always."""
    source = tmp_path / "x.pyx"
    source.write_text(
        "from . cimport _a, _b as c\nfrom ._c cimport (\n    D, E,\n)\ncimport fastasgi._d\nimport os, sys\n"
        "from fastasgi._e import F  # why\n# import no\n"
    )
    assert list(cython_imports(source, "_x")) == [
        "fastasgi._a", "fastasgi._b", "fastasgi._c.D", "fastasgi._c.E", "fastasgi._d", "os", "sys", "fastasgi._e.F",
    ]
    source = tmp_path / "y.py"
    source.write_text("from . import a\nfrom .b import c\ndef f():\n    import fastasgi.d\n    from ..e import g\n")
    assert list(python_imports(source, "sub.y")) == [
        "fastasgi.sub.a", "fastasgi.sub.b.c", "fastasgi.d", "fastasgi.e.g",
    ]
