"""What `mkdocs` does beside rendering the pages of docs/; see mkdocs.yml.

- A folder in the navigation stands for the pages that are in it, so that pages may come and go.
- Pages link to files of the repository, as `../examples/demo.py`, which works where the repository is read. In the
  site each such file becomes a page under `repository/`, and so do the files that those pages link to.
- `<!-- recorded: PATTERN -->` becomes the newest file that the pattern finds, one level of headings lower.
- A page that needs the network to be looked at fails the build.

Nothing here is imported by the package or needs it.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
DOCS = "docs/"
ELSEWHERE = "repository/"
CHARTS = "docs/benchmark.html"

FENCE = re.compile(r"^(?P<fence>```+|~~~+).*?^(?P=fence)[ \t]*$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(?<=\]\()(?![a-z]+:|#)(?P<path>[^)\s#]+)(?P<anchor>#[^)\s]*)?(?=\))")
RECORDED = re.compile(r"<!-- recorded: (\S+) -->")
LANGUAGES = {".py": "python", ".toml": "toml", ".yml": "yaml", ".yaml": "yaml", ".conf": "nginx", ".html": "html",
             ".sh": "sh", ".json": "json", ".c": "c", ".pyx": "cython", ".pxd": "cython", ".service": "ini",
             ".socket": "ini"}  # fmt: skip

FROM_OTHERS = re.compile(
    r"<(?:script|link|img|source|iframe|video|audio)\b[^>]*\b(?:src|href)=[\"']?(?:https?:)?//[^\"' >]+"
    r"|url\([\"']?(?:https?:)?//[^\"')]+"
)

paths: dict[str, str] = {}
"""The pages under `repository/`: where each stands in the site, to the file that it is made of."""


# --- the navigation -----------------------------------------------------------------------------------------------


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put pages in the place of folders, and those that the navigation does not name at its end."""
    docs = Path(config.docs_dir)
    pages = sorted(path.relative_to(docs).as_posix() for path in docs.rglob("*.md"))
    config.nav = _expanded(config.nav or [], pages)
    named = set(_names(config.nav))
    rest = [page for page in pages if page not in named]
    if rest:
        config.nav.append({"More": rest})
    return config


def _expanded(items: list[Any], pages: list[str]) -> list[Any]:
    """A level of the navigation without folders, and without headings that nothing stands under."""
    found: list[Any] = []
    for item in items:
        if isinstance(item, str) and item.endswith("/"):
            inside = [page for page in pages if page.startswith(item)]
            found += sorted(inside, key=lambda page: (not page.endswith("/index.md"), page))
        elif isinstance(item, dict) and isinstance(below := next(iter(item.values())), list):
            if level := _expanded(below, pages):
                found.append({next(iter(item)): level})
        else:
            found.append(item)
    return found


def _names(items: list[Any]) -> Iterator[str]:
    for item in items:
        value = next(iter(item.values())) if isinstance(item, dict) else item
        if isinstance(value, list):
            yield from _names(value)
        else:
            yield value


# --- files of the repository --------------------------------------------------------------------------------------


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add a page for each file outside of docs/ that a page links to."""
    paths.clear()
    waiting = [DOCS + file.src_uri for file in files.documentation_pages()]
    seen = set(waiting)
    while waiting:
        path = waiting.pop()
        source = ROOT / path
        text = _completed(source.read_text(encoding="utf-8"), path) if path.endswith(".md") else ""
        for match in _links(text):
            target = _target(path, match["path"])
            if target not in seen and not target.startswith(DOCS) and (ROOT / target).exists():
                seen.add(target)
                waiting.append(target if not (ROOT / target).is_dir() else _readme(target) or target)
        if not path.startswith(DOCS) and (uri := _uri(path)) not in paths:
            paths[uri] = path
            files.append(File.generated(config, uri, content=_content(path)))
    return files


def _links(text: str) -> Iterator[re.Match[str]]:
    """The links to files, outside of blocks."""
    blocks = [match.span() for match in FENCE.finditer(text)]
    for match in LINK.finditer(text):
        if not any(start <= match.start() < end for start, end in blocks):
            yield match


def _target(path: str, link: str) -> str:
    """The file that `link` in the file `path` means, from the root of the repository."""
    return posixpath.normpath(posixpath.join(posixpath.dirname(path), link))


def _readme(folder: str) -> str | None:
    readme = posixpath.join(folder, "README.md")
    return readme if (ROOT / readme).exists() else None


def _uri(path: str) -> str:
    """Where the site has a file of the repository. (What begins with a dot mkdocs would leave out.)"""
    if path.startswith(DOCS):
        return path.removeprefix(DOCS)
    if (ROOT / path).is_dir():
        path = _readme(path) or f"{path}/index.md"
    return ELSEWHERE + path.removeprefix(".") + ("" if path.endswith(".md") else ".md")


def _content(path: str) -> str:
    """The page of a file: itself, its source, or what a folder holds."""
    source = ROOT / path
    if source.is_dir():
        inside = sorted(each.name for each in source.iterdir() if not each.name.startswith((".", "__")))
        return f"# {path}\n\n" + "".join(f"- `{name}`\n" for name in inside)
    text = source.read_text(encoding="utf-8")
    if path.endswith(".md"):
        return text
    language = LANGUAGES.get(source.suffix, "dockerfile" if source.name == "Dockerfile" else "text")
    return f"---\nsearch:\n  exclude: true\n---\n\n# {path}\n\n````{language}\n{text.rstrip()}\n````\n"


# --- pages --------------------------------------------------------------------------------------------------------


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Complete a page, and have its links lead to what the site has."""
    uri = page.file.src_uri
    path = paths.get(uri, DOCS + uri)
    markdown = _completed(markdown, path)
    return _relinked(markdown, path, lambda target: posixpath.relpath(_uri(target), posixpath.dirname(uri) or "."))


def _relinked(markdown: str, path: str, link_to: Callable[[str], str]) -> str:
    """The text of the file `path` with other links to those files that there are."""
    pieces, at = [], 0
    for match in _links(markdown):
        target = _target(path, match["path"])
        if (ROOT / target).exists():
            pieces += [markdown[at : match.start()], link_to(target), match["anchor"] or ""]
            at = match.end()
    return "".join([*pieces, markdown[at:]])


def _completed(markdown: str, path: str) -> str:
    return RECORDED.sub(lambda match: _recorded(match[1], posixpath.dirname(path)), markdown)


def _recorded(pattern: str, folder: str) -> str:
    """The newest of the recorded runs that a pattern finds; their names begin with the day. To stand in `folder`."""
    found = sorted(ROOT.glob(pattern))
    if not found:
        raise PluginError(f"no file of the repository is named {pattern}; a page of docs/ shows the newest of them")
    path = found[-1].relative_to(ROOT).as_posix()
    text = re.sub(r"^#", "##", found[-1].read_text(encoding="utf-8"), flags=re.MULTILINE)
    text = _relinked(text, path, lambda target: posixpath.relpath(target, folder))
    if (ROOT / CHARTS).exists():
        text = f"[The same as a page with charts]({posixpath.relpath(CHARTS, folder)}).\n\n{text}"
    return text


# --- the whole ----------------------------------------------------------------------------------------------------


def on_post_build(config: MkDocsConfig) -> None:
    """Nothing that a page shows comes from another server."""
    for path in sorted(Path(config.site_dir).rglob("*")):
        if path.suffix in (".html", ".css") and (found := FROM_OTHERS.search(path.read_text(encoding="utf-8"))):
            raise PluginError(f"{path.name} of the site takes something from the network: {found[0]}")
