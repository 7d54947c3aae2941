"""discover: the application that the names in a directory speak for, found without importing anything."""

import re
from pathlib import Path

import pytest

from fastasgi.discover import Found, find_application
from fastasgi.errors import ConfigError

RAISES = "raise AssertionError('imported')\n"


def project(directory: Path, **files: str) -> str:
    for name, text in files.items():
        path = directory / (re.sub(r"(?<=[a-z])__(?=[a-z])", "/", name) + ".py")
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return str(directory)


@pytest.mark.parametrize(
    ("files", "found"),
    [
        ({"main": RAISES + "app = make()"}, Found("main:app", "main.py")),
        ({"main": "app: Any = make()"}, Found("main:app", "main.py")),
        ({"main": "async def app(scope, receive, send): ..."}, Found("main:app", "main.py")),
        ({"main": "from package import app"}, Found("main:app", "main.py")),
        ({"main": "from package import application as app"}, Found("main:app", "main.py")),
        ({"main": "first, app = make()"}, Found("main:app", "main.py")),
        ({"main": "try:\n    app = a\nexcept E:\n    pass"}, Found("main:app", "main.py")),
        ({"main": "if x:\n    pass\nelse:\n    app = a"}, Found("main:app", "main.py")),
        ({"main": "app = (\n"}, Found("main:app", "main.py")),
        ({"main": "def f():\n    app = 1", "app": "app = 2"}, Found("app:app", "app.py")),
        ({"main": "app = 1", "app": "app = 2"}, Found("main:app", "main.py")),
        ({"app//__init__": "app = 1"}, Found("app:app", "app/__init__.py")),
        ({"site__asgi": "application = 1"}, Found("site.asgi:application", "site/asgi.py")),
        ({"asgi": "application = 1"}, Found("asgi:application", "asgi.py")),
        ({"main": "x = 1", "site__asgi": "application = 1"}, Found("site.asgi:application", "site/asgi.py")),
    ],
)
def test_found(tmp_path: Path, files: dict[str, str], found: Found) -> None:
    assert find_application(project(tmp_path, **files)) == found


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        ({}, "none found in {} (looked for main:app, app:app and *.asgi:application); name it, for example: "),
        ({"main": "def make():\n    app = 1\n    return app"}, "none found in {}"),
        ({"app__main": "app = 1"}, "none found in {} (looked for main:app, app:app and *.asgi:application); did you "),
        (
            {"one__asgi": "application = 1", "two__asgi": "application = 1"},
            "several found in {}: one.asgi:application, two.asgi:application; name one of them",
        ),
    ],
)
def test_not_found(tmp_path: Path, files: dict[str, str], sentence: str) -> None:
    with pytest.raises(ConfigError) as raised:
        find_application(project(tmp_path, **files))
    assert str(raised.value).startswith(f"no application given, and {sentence.format(repr(str(tmp_path)))}")
    if "app__main" in files:
        assert str(raised.value).endswith("did you mean 'app.main:app'?")


def test_current_directory_is_the_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project(tmp_path, main="app = 1"))
    assert find_application("") == Found("main:app", "main.py")
