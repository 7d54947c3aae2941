"""Copies the files of deploy/ into the pages of docs/deployment/: python docs/make_deployment.py. A test compares them.

A line `<!-- from: deploy/FILE -->` stands above each block that shows a file, whole.
"""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGES = ROOT / "docs" / "deployment"
SHOWN = re.compile(r"^(<!-- from: (deploy/\S+) -->\n```\w+\n)(.*?)^```$", re.MULTILINE | re.DOTALL)


def filled(page: str) -> str:
    """The text of a page with each block as its file is now."""
    return SHOWN.sub(lambda block: f"{block[1]}{(ROOT / block[2]).read_text(encoding='utf-8')}```", page)


if __name__ == "__main__":
    for path in sorted(PAGES.glob("*.md")):
        path.write_text(filled(path.read_text(encoding="utf-8")), encoding="utf-8")
