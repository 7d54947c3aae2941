"""The site of the documents (mkdocs.yml, docs/site_hooks.py): what fails its build, and what the hooks make.

Needs mkdocs, which `make docs` installs; the whole site is built there, and by CI.
"""

import asyncio
import logging
from pathlib import Path

import pytest
from test_websocket_chromium import BROWSER, PATIENCE_S, Tab, browsing

pytest.importorskip("material", reason="mkdocs-material is not installed: make docs")

import mkdocs.commands.build
import mkdocs.config
import mkdocs.exceptions

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def build(tmp_path, monkeypatch):
    """Build a site of these pages, by name, with the configuration of ours; the folder it is in."""
    docs = tmp_path / "docs"
    docs.mkdir()

    def build(nav=None, **pages):
        for name, text in pages.items():
            path = docs / f"{name.replace('__', '/')}.md"
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
        for name in ("site.css", "favicon.svg", "iframe-worker.js"):
            (docs / name).write_bytes((ROOT / "docs" / name).read_bytes())
        config = mkdocs.config.load_config(
            str(ROOT / "mkdocs.yml"), docs_dir=str(docs), site_dir=str(tmp_path / "site"), nav=nav or ["index.md"]
        )
        config.plugins.on_startup(command="build", dirty=False)
        hooks = next(module for name, module in config.hooks.items() if "site_hooks" in str(name))
        monkeypatch.setattr(hooks, "ROOT", tmp_path)
        try:
            mkdocs.commands.build.build(config)
        finally:
            config.plugins.on_shutdown()
        return tmp_path / "site"

    yield build
    logging.getLogger("mkdocs").handlers.clear()


@pytest.mark.parametrize(
    "text", ["[x](nowhere.md)", "[x](#nowhere)", "[x](other.md#nowhere)", "[x](../no/such/file.py)"]
)
def test_broken_links_fail(build, text):
    with pytest.raises(mkdocs.exceptions.Abort):
        build(index=f"# Home\n\n{text}\n", other="# Other\n")


def test_folders_and_pages_that_are_not_named(build):
    site = build(["index.md", {"Deployment": ["deployment/"]}, {"Empty": ["nothing/"]}],
                 index="# Home\n", deployment__nginx="# Behind nginx\n", left="# Left over\n")
    text = (site / "index.html").read_text()
    assert "Behind nginx" in text and "Left over" in text and "More" in text and "Empty" not in text


def test_files_of_the_repository_become_pages(build, tmp_path):
    (tmp_path / "demo.py").write_text("print('shown')\n")
    (tmp_path / "CHANGES.md").write_text("# Changes\n\n[back](docs/index.md) [demo](demo.py)\n")
    site = build(index="# Home\n\n[changes](../CHANGES.md)\n\n```\n[no](link.md)\n```\n")
    assert 'href="repository/CHANGES.html"' in (site / "index.html").read_text()
    changes = (site / "repository" / "CHANGES.html").read_text()
    assert 'href="../index.html">back' in changes and 'href="demo.py.html">demo' in changes
    assert "shown" in (site / "repository" / "demo.py.html").read_text()


def test_the_newest_record_is_shown(build, tmp_path):
    (tmp_path / "2026-01-01.md").write_text("# Old\n")
    (tmp_path / "2026-01-02.md").write_text("# New\n\n[old](2026-01-01.md)\n\n## Summary\n")
    (tmp_path / "docs" / "benchmark.html").write_text("<title>charts</title>")
    text = (build(index="# Home\n\n<!-- recorded: 2026-*.md -->\n") / "index.html").read_text()
    assert '<h2 id="new">' in text and '<h3 id="summary">' in text and "Old" not in text
    assert 'href="repository/2026-01-01.html">old' in text and 'href="benchmark.html">' in text


def test_a_record_that_is_missing_fails(build, caplog):
    with pytest.raises(mkdocs.exceptions.Abort):
        build(index="# Home\n\n<!-- recorded: 2026-*.md -->\n")
    assert "no file of the repository is named 2026-*.md" in caplog.text


@pytest.mark.parametrize("what", ["![x](https://example.com/x.png)", '<script src="//example.com/x.js"></script>'])
def test_nothing_comes_from_other_servers(build, caplog, what):
    with pytest.raises(mkdocs.exceptions.Abort):
        build(index=f"# Home\n\n{what}\n")
    assert "index.html of the site takes something from the network" in caplog.text and "example.com" in caplog.text


# Types into the field, as often as it is run; the first result, if there is one by now.
SEARCH = """
(() => {
    const field = document.querySelector("[data-md-component=search-query]");
    if (!field) return "";
    field.focus();
    field.value = "frobnication";
    field.dispatchEvent(new KeyboardEvent("keyup"));
    const link = document.querySelector(".md-search-result__link");
    return link ? link.href : "";
})()"""


@pytest.mark.slow
@pytest.mark.time_limit(60)
@pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed")
async def test_search_works_without_a_server(build, tmp_path):
    site = build(index="# Home\n", left="# Left\n\nHere is some frobnication.\n")
    (tmp_path / "browser").mkdir()
    async with browsing(tmp_path / "browser") as browser:
        target = (await browser.call("Target.createTarget", url=(site / "index.html").as_uri()))["targetId"]
        session = (await browser.call("Target.attachToTarget", targetId=target, flatten=True))["sessionId"]
        async with asyncio.timeout(PATIENCE_S):
            while not (found := await Tab(browser, target, session).run(SEARCH)):
                await asyncio.sleep(0.1)
    assert found.startswith((site / "left.html").as_uri())
