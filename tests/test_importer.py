"""importer: every way an application cannot be loaded has its own sentence and exit code 3."""

import asyncio
import logging
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fastasgi.errors import StartupError
from fastasgi.importer import AsyncFactory, import_from_string, load_app
from fastasgi.middleware.asgi2 import ASGI2Middleware
from fastasgi.middleware.wsgi import WSGIMiddleware

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


def test_async_factory_makes_the_application_in_the_loop(project: Project) -> None:
    directory = project(fa_async=ASGI_APP + "async def make(): return app\n")
    loaded = load_app("fa_async:make", app_dir=directory, factory=True)
    assert isinstance(loaded, AsyncFactory)
    assert asyncio.run(loaded.made()) is sys.modules["fa_async"].app


def test_async_factory_that_hides_it() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None: ...

    async def make() -> Any:
        return app

    def hides() -> Any:
        return make()

    loaded = load_app(hides, factory=True)
    assert isinstance(loaded, AsyncFactory)
    assert asyncio.run(loaded.made()) is app


def test_async_factory_serves_as_it_is_and_makes_the_application_once() -> None:
    made: list[str] = []
    served: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        served.append(scope)

    async def make() -> Any:
        made.append("app")
        await asyncio.sleep(0)
        return app

    async def two_requests() -> None:
        loaded = load_app(make, factory=True)
        await asyncio.gather(loaded({"n": 1}, None, None), loaded({"n": 2}, None, None))  # type: ignore[arg-type]

    asyncio.run(two_requests())
    assert (made, served) == (["app"], [{"n": 1}, {"n": 2}])


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("async def make(): raise KeyError('DB')", "the factory 'fa_abad:make' failed: KeyError: 'DB'"),
        ("async def make(): ...", "the factory 'fa_abad:make' returned None; expected an ASGI application"),
    ],
)
def test_async_factory_fails(project: Project, source: str, text: str) -> None:
    loaded = load_app("fa_abad:make", app_dir=project(fa_abad=source), factory=True)
    assert isinstance(loaded, AsyncFactory)
    with pytest.raises(StartupError, match=text):
        asyncio.run(loaded.made())


def test_wsgi_is_recognised(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(logging.getLogger("fastasgi.error"), "info", lambda text, *args: said.append(text % args))
    directory = project(fa_wsgi="def app(environ, start_response): ...\ndef make(): return app\n")
    loaded = load_app("fa_wsgi:app", app_dir=directory)
    assert isinstance(loaded, WSGIMiddleware)
    assert loaded.app is sys.modules["fa_wsgi"].app
    assert said == ["'fa_wsgi:app' is a WSGI application: each request runs in a thread"]
    assert isinstance(load_app("fa_wsgi:make", app_dir=directory, interface="wsgi", factory=True), WSGIMiddleware)


def test_missing_factory(project: Project) -> None:
    directory = project(fa_make="import json\ndef create_app(debug=False): ...\ndef helper(): ...\n")
    assert str(failure("fa_make:app", directory)) == (
        "module 'fa_make' has no attribute 'app'; create_app() may make it: fa_make:create_app --factory"
    )


def test_module_in_another_directory(project: Project) -> None:
    directory = project(src__fa_far=ASGI_APP, fa_pkg3__fa_near=ASGI_APP)
    Path(directory, "fa_pkg3", "__init__.py").touch()
    assert "; it is in 'src': add --app-dir src" in str(failure("fa_far:app", directory))
    assert "; did you mean 'fa_pkg3.fa_near'?" in str(failure("fa_near:app", directory))


def test_module_of_the_package_that_one_stands_in(project: Project) -> None:
    directory = project(fa_pkg5__fa_near=ASGI_APP)
    assert "; 'fa_pkg5' is this directory: add --app-dir .." in str(
        failure("fa_pkg5.fa_near:app", directory + "/fa_pkg5")
    )


def test_module_that_belongs_to_a_package(project: Project) -> None:
    directory = project(fa_pkg4__fa_rel="from . import other\n", fa_pkg4__fa_abs="import fa_pkg4.other\n")
    assert str(failure("fa_rel:app", directory + "/fa_pkg4")).endswith(
        "(fa_rel.py, line 1); it belongs to a package: add --app-dir .. and name the application fa_pkg4.fa_rel:..."
    )
    assert str(failure("fa_abs:app", directory + "/fa_pkg4")) == (
        "importing 'fa_abs' failed: it needs 'fa_pkg4', which is not found (fa_abs.py, line 1); "
        "'fa_pkg4' is this directory: add --app-dir .. and name the application fa_pkg4.fa_abs:..."
    )


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("from fa_two import b\na = 1\n", "from fa_one import a\nb = 1\n"),
        ("import fa_two\na = 1\n", "import fa_one\nb = fa_one.a\n"),
    ],
)
def test_modules_that_import_each_other(project: Project, first: str, second: str) -> None:
    error = failure("fa_one:app", project(fa_one=first, fa_two=second))
    line = 1 if "from" in second else 2
    assert str(error) == (
        "importing 'fa_one' failed: fa_one imports fa_two imports fa_one, which is not complete yet "
        f"(fa_two.py, line {line}); move what both need into a module of its own"
    )
    assert error.details.splitlines()[1].strip().startswith('File "')
    assert "fa_one.py" in error.details.splitlines()[1]


def test_file_that_hides_a_package(project: Project) -> None:
    error = failure("fa_hides:app", project(fa_hides="from fa_hides import Framework\n"))
    assert str(error) == (
        "importing 'fa_hides' failed: fa_hides.py imports itself (fa_hides.py, line 1); "
        "if it was to import a package named 'fa_hides', rename the file"
    )


def test_module_that_looks_at_itself_is_no_circle(project: Project) -> None:
    source = "import sys\nsys.modules[__name__].nothing\n"
    sentence = str(failure("fa_self:app", project(fa_self=source)))
    assert sentence.startswith("importing 'fa_self' failed: AttributeError: ")
    assert "imports" not in sentence


def test_the_line_that_is_named_is_the_users(project: Project) -> None:
    """An error deep in a library is blamed on the line that called it."""
    directory = project(fa_deep="import json\n\njson.loads('{')\n")
    assert "(fa_deep.py, line 3)" in str(failure("fa_deep:app", directory))
