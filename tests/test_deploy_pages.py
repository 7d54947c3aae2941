"""docs/deployment/: blocks are the files of deploy/, or say why nobody runs them; options that are named exist."""

import importlib.util
import re

import pytest
from deploying import DEPLOY, ROOT

from fastasgi.options import FIELDS

PAGES = sorted((ROOT / "docs" / "deployment").glob("*.md"))
TEXTS = {path.name: path.read_text(encoding="utf-8") for path in PAGES}
BLOCK = re.compile(r"(?:^(?P<remark><!-- [^\n]* -->)\n)?^```(?P<language>\w+)\n(?P<text>.*?)^```$", re.M | re.S)
BLOCKS = [(name, match) for name, text in TEXTS.items() for match in BLOCK.finditer(text)]
# Options of other programs that the pages name in running text.
FOREIGN = {"--init", "--time", "--insecure", "--socket"}


@pytest.fixture(scope="module")
def maker():
    spec = importlib.util.spec_from_file_location("make_deployment", ROOT / "docs" / "make_deployment.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.pins("deploy.pages")
@pytest.mark.parametrize("name", TEXTS)
def test_pages_show_the_files_as_they_are(maker, name):
    assert maker.filled(TEXTS[name]) == TEXTS[name], "run: python docs/make_deployment.py"


def test_a_file_that_has_changed_is_noticed(maker):
    text = TEXTS["nginx.md"]
    assert maker.filled(text.replace("least_conn;", "ip_hash;")) == text
    with pytest.raises(FileNotFoundError):
        maker.filled("<!-- from: deploy/no-such-file -->\n```text\n```")


@pytest.mark.pins("deploy.pages")
@pytest.mark.parametrize(("name", "block"), BLOCKS, ids=[f"{name}:{block.start()}" for name, block in BLOCKS])
def test_every_block_is_a_file_or_for_a_shell(name, block):
    """Settings are shown as they are in deploy/, and never only on a page. Commands are test_snippets.py's."""
    assert block["language"] == "sh" or re.fullmatch(r"<!-- from: deploy/\S+ -->", block["remark"] or ""), block[0]


@pytest.mark.pins("deploy.pages")
def test_every_file_is_on_a_page():
    shown = set(re.findall(r"<!-- from: (\S+) -->|\(\.\./\.\./(deploy/[^)]+)\)", "".join(TEXTS.values())))
    named = {first or second for first, second in shown}
    files = {path.relative_to(ROOT).as_posix() for path in DEPLOY.rglob("*") if path.is_file()}
    files = {name for name in files if "__pycache__" not in name}
    assert files - named == {"deploy/app/requirements.txt"}
    assert named <= files


def test_options_that_the_pages_name_exist():
    known = {field.cli_name for field in FIELDS.values()} | FOREIGN | {"--check-config"}
    text = re.sub(r"^```.*?^```$", "", "\n".join(TEXTS.values()), flags=re.M | re.S)
    named = {word for code in re.findall(r"`([^`]+)`", text) for word in re.findall(r"(?<![\w-])--[a-z][a-z-]*", code)
             if not code.startswith(("usermod", "systemctl", "docker"))}  # fmt: skip
    assert len(named) > 10
    assert named <= known
    options = set(re.findall(r"`([a-z]+(?:_[a-z]+)+)`", text))
    assert options <= set(FIELDS) | {"proxy_read_timeout", "keepalive_timeout", "client_max_body_size", "fail_timeout",
                                     "depends_on", "stop_grace_period", "log_config"}  # fmt: skip
