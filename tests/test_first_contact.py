"""docs/first-contact.md: each command says what the page shows.

The directory `shop` below is the one that the page speaks of. What differs from run to run (process ids, ports,
times, the directory) is replaced by what the page has in its place.
"""

import os
import re
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "first-contact.md"
BLOCKS = re.findall(r"^```console\n\$ ([^\n]*)\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.M | re.S)
TAKEN = "is in use by"
RUNNING = "(Press CTRL+C to quit)"
HOME = "/home/ada/shop"
PATIENCE_S = 20.0

FILES = {
    "main.py": """
SETTINGS = {}

async def app(scope, receive, send):
    await receive()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await send({"type": "lifespan.shutdown.complete"})

async def broken(scope, receive, send):
    await receive()
    await send({"type": "lifespan.startup.failed", "message": "no database"})
""",
    "factory.py": "import main\n\ndef create_app():\n    return main.app\n",
    "wsgi_app.py": "def app(environ, start_response): ...\n",
    "src/shop.py": "",
    "elsewhere/readme.txt": "",
    "raises.py": 'prices = {"tea": 3}["coffee"]\n',
    "needs.py": "import a_library_of_my_own\n",
    "one.py": "import two\n",
    "two.py": "import one; one.app\n",
    "pages/web.py": "from . import texts\n",
    "pages/__init__.py": "",
    "listens.py": """
import socket, sys
with socket.create_server(("127.0.0.1", 0)) as sock:
    print(sock.getsockname()[1], flush=True)
    sys.stdin.read()
""",
}


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return tmp_path


@pytest.fixture
def taken(shop: Path) -> Iterator[int]:
    """A port that `python listens.py` has."""
    pipe = subprocess.PIPE
    with subprocess.Popen(["python", "listens.py"], executable=sys.executable, cwd=shop, stdin=pipe, stdout=pipe) as it:
        assert it.stdout is not None
        yield int(it.stdout.readline())
        it.communicate()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


def said(command: str, directory: Path, port: int, start: str) -> tuple[str, int]:
    """What a command writes to stderr, up to the line that it runs, and its exit code once it is stopped."""
    folder, _, command = command.removeprefix("cd ").rpartition(" && ")
    name, *arguments = shlex.split(command)
    assert name == "fastasgi"
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("FASTASGI_", "UVICORN_"))}
    environ = {**kept, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", "FASTASGI_PORT": str(port)}
    with subprocess.Popen(
        [sys.executable, "-m", "fastasgi", *arguments],
        cwd=directory / (folder or start),
        env=environ,
        text=True,
        stderr=subprocess.PIPE,
    ) as server:
        assert server.stderr is not None
        lines = []
        for line in server.stderr:
            lines.append(line)
            if RUNNING in line:
                break
        if lines and RUNNING in lines[-1]:
            server.send_signal(signal.SIGINT)
        server.stderr.read()
        return "".join(lines), server.wait(PATIENCE_S)


def as_shown(text: str, directory: Path, port: int) -> str:
    text = text.replace(str(directory), HOME).replace(f":{port}", ":8000")
    text = re.sub(r"process (\[?)\d+", r"process \g<1>4711", text)
    # of a circle Python 3.13 says something else
    text = re.sub(
        r"^AttributeError: module ('one'.*) \(consider .*\)$",
        r"AttributeError: partially initialized module \1 (most likely due to a circular import)",
        text,
        flags=re.MULTILINE,
    )
    text = re.sub(r"ready in \d+\.\d\d s", "ready in 0.21 s", text)
    return re.sub(r"^ *[~^]+\n", "", text, flags=re.MULTILINE)  # where in the line: each Python draws it in its way


@pytest.mark.parametrize(("command", "shown"), BLOCKS, ids=[command for command, _ in BLOCKS])
def test_what_the_page_shows(
    command: str, shown: str, shop: Path, request: pytest.FixtureRequest
) -> None:
    if "uvloop" in shown:
        pytest.importorskip("uvloop")
    if "wsgi_app" in shown:
        pytest.importorskip("a2wsgi")
    if TAKEN in shown and sys.platform != "linux":
        pytest.skip("only Linux tells who has a port")
    port = request.getfixturevalue("taken") if TAKEN in shown else free_port()
    text, code = said(command, shop, port, "elsewhere" if "elsewhere" in shown else ".")
    assert as_shown(text, shop, port) == shown
    assert code == (0 if RUNNING in shown else 2 if shown.startswith("Error: ") else 3)


def test_the_page_shows_enough() -> None:
    """A reader that finds no blocks would pass everything."""
    assert len(BLOCKS) >= 19
    assert all(shown.endswith("\n") for _, shown in BLOCKS)
