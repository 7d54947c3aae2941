"""importer: every way an application cannot be loaded has its own sentence and exit code 3."""

import logging
import sys
import textwrap
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from fastasgi.errors import StartupError
from fastasgi.importer import import_from_string, load_app
from fastasgi.middleware.asgi2 import ASGI2Middleware

Project = Callable[..., str]

ASGI_APP = "async def app(scope, receive, send): ...\n"


@pytest.fixture
def project(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    """`project(main="source")` writes modules to a directory and returns it; they are forgotten
    afterwards."""
    monkeypatch.setattr(sys, "path", sys.path.copy())
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    before = set(sys.modules)

    def make(**modules: str) -> str:
        for name, source in modules.items():
            path = tmp_path.joinpath(*name.split("__")).with_suffix(".py")
            path.parent.mkdir(exist_ok=True)
            path.write_text(textwrap.dedent(source))
        return str(tmp_path)

    yield make
    for name in set(sys.modules) - before:
        del sys.modules[name]


def failure(target: Any, directory: str, **options: Any) -> StartupError:
    with pytest.raises(StartupError) as raised:
        load_app(target, app_dir=directory, **options)
    error = raised.value
    assert error.exit_code == 3
    assert "\n" not in str(error)
    return error


def test_import_string(project: Project) -> None:
    directory = project(fa_main=ASGI_APP + "class holder:\n    inner = app\n")
    app = load_app("fa_main:app", app_dir=directory)
    assert app is sys.modules["fa_main"].app
    assert load_app("fa_main:holder.inner", app_dir=directory) is app


def test_module_of_a_package(project: Project) -> None:
    directory = project(fa_pkg____init__="", fa_pkg__web=ASGI_APP)
    assert load_app("fa_pkg.web:app", app_dir=directory) is sys.modules["fa_pkg.web"].app


def test_current_directory_is_the_default(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project(fa_here=ASGI_APP))
    load_app("fa_here:app")


@pytest.mark.parametrize(
    ("target", "cure"),
    [
        ("main", "did you mean 'main:app'?"),
        ("main.py", "did you mean 'main:app'?"),
        ("src/main.py:api", "did you mean 'src.main:api'?"),
        ("main:", "did you mean 'main:app'?"),
        (":app", "did you mean 'main:app'?"),
    ],
)
def test_not_an_import_string(project: Project, target: str, cure: str) -> None:
    error = failure(target, project())
    assert str(error).startswith(f"expected an import string 'module:attribute', got {target!r}")
    assert cure in str(error)


def test_module_not_found(project: Project) -> None:
    directory = project(fa_service=ASGI_APP)
    assert "did you mean 'fa_service'?" in str(failure("fa_servise:app", directory))
    error = failure("zzz_nowhere:app", directory)
    assert str(error).startswith(f"no module named 'zzz_nowhere' in {directory!r}")
    assert "--app-dir" in str(error)
    assert error.details == ""


def test_submodule_not_found(project: Project) -> None:
    directory = project(fa_pkg2____init__="", fa_pkg2__web=ASGI_APP)
    error = failure("fa_pkg2.wed:app", directory)
    assert str(error) == "no module named 'fa_pkg2.wed' in package 'fa_pkg2'; did you mean 'web'?"


def test_module_needs_one_that_is_not_installed(project: Project) -> None:
    error = failure("fa_needs:app", project(fa_needs="\nimport zzz_missing_library\n"))
    assert str(error) == (
        "importing 'fa_needs' failed: it needs 'zzz_missing_library', which is not installed (fa_needs.py, line 2)"
    )
    assert "import zzz_missing_library" in error.details


def test_module_raises(project: Project) -> None:
    error = failure("fa_raises:app", project(fa_raises="def f():\n    1 / 0\n\nf()\n"))
    assert str(error) == (
        "importing 'fa_raises' failed: ZeroDivisionError: division by zero (fa_raises.py, line 2)"
    )
    lines = error.details.splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert "fa_raises.py" in lines[1]
    assert "importlib" not in error.details
    assert "importer.py" not in error.details
    assert lines[-1] == "ZeroDivisionError: division by zero"


def test_syntax_error(project: Project) -> None:
    error = failure("fa_syntax:app", project(fa_syntax="def app(:\n"))
    assert "SyntaxError" in str(error)
    assert "fa_syntax.py, line 1" in str(error)
    assert "def app(:" in error.details


def test_module_that_exits(project: Project) -> None:
    assert "SystemExit: 4" in str(failure("fa_exits:app", project(fa_exits="import sys\nsys.exit(4)\n")))


def test_attribute_missing(project: Project) -> None:
    directory = project(fa_attr=ASGI_APP + "application = app\n")
    assert str(failure("fa_attr:ap", directory)) == (
        "module 'fa_attr' has no attribute 'ap'; did you mean 'app'?"
    )
    assert "; it has 'app', 'application'" in str(failure("fa_attr:service", directory))
    assert str(failure("fa_attr:app.inner", directory)).startswith(
        "object 'fa_attr:app' has no attribute 'inner'"
    )


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("app = {}", "'fa_wrong:app' is an object of type dict; expected an ASGI application"),
        ("app = None", "'fa_wrong:app' is None; expected"),
        ("import os as app", "'fa_wrong:app' is a module; expected"),
        (
            "def app(environ, start_response): ...",
            "takes two arguments, as WSGI applications do; a2wsgi.WSGIMiddleware",
        ),
        ("def app(a, b, c, d): ...", "'fa_wrong:app' is a function that takes (a, b, c, d); expected"),
    ],
)
def test_not_an_application(project: Project, source: str, text: str) -> None:
    assert text in str(failure("fa_wrong:app", project(fa_wrong=source)))


def test_object_is_taken_as_it_is() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None: ...

    assert load_app(app) is app


def test_factory(project: Project) -> None:
    directory = project(fa_fact=ASGI_APP + "def make(debug=False): return app\n")
    assert load_app("fa_fact:make", app_dir=directory, factory=True) is sys.modules["fa_fact"].app


def test_factory_is_detected_with_a_warning(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(
        logging.getLogger("fastasgi.error"), "warning", lambda text, *args: said.append(text % args)
    )
    directory = project(fa_fact2=ASGI_APP + "def make(): return app\n")
    assert load_app("fa_fact2:make", app_dir=directory) is sys.modules["fa_fact2"].app
    assert said == ["'fa_fact2:make' makes an application; using what it returns, say so with --factory"]


@pytest.mark.parametrize(
    ("source", "text"),
    [
        (
            "def make(): raise KeyError('DB')",
            "the factory 'fa_bad:make' failed: KeyError: 'DB' (fa_bad.py, line 1)",
        ),
        ("def make(): return None", "the factory 'fa_bad:make' returned None; expected an ASGI application"),
        ("async def make(): ...", "the factory 'fa_bad:make' is async; expected a plain function"),
        ("def make(a): ...", "the factory 'fa_bad:make' failed: TypeError: make() missing 1 required"),
        ("def make(): exit(1)", "the factory 'fa_bad:make' failed: SystemExit: 1"),
    ],
)
def test_factory_fails(project: Project, source: str, text: str) -> None:
    assert text in str(failure("fa_bad:make", project(fa_bad=source), factory=True))


def test_factory_failure_shows_the_users_frames(project: Project) -> None:
    error = failure("fa_bad2:make", project(fa_bad2="def make():\n    1 / 0\n"), factory=True)
    assert "fa_bad2.py" in error.details
    assert "importer.py" not in error.details


def test_asgi2_is_adapted() -> None:
    def app(scope: Any) -> Any: ...

    loaded = load_app(app)
    assert isinstance(loaded, ASGI2Middleware)
    assert loaded.app is app


def test_interface_can_be_forced() -> None:
    def app(*args: Any) -> Any: ...

    assert load_app(app) is app
    assert isinstance(load_app(app, interface="asgi2"), ASGI2Middleware)


def test_import_from_string_gives_any_object() -> None:
    assert import_from_string("os:path.sep") == "/" or sys.platform == "win32"
