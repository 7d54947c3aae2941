"""docs/options.md is what the table of options makes of it."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from fastasgi.options import FIELDS

DOCS = Path(__file__).resolve().parents[1] / "docs"


@pytest.fixture(scope="module")
def maker() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_options", DOCS / "make_options.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_up_to_date(maker: ModuleType) -> None:
    assert maker.PAGE.read_text(encoding="utf-8") == maker.page(), "run: python docs/make_options.py"


def test_every_option_has_its_row(maker: ModuleType) -> None:
    rows = [line for line in maker.page().splitlines() if line.startswith("| `")]
    for name in FIELDS:
        assert sum(row.startswith((f"| `{name}` |", f"| `{name}` (")) for row in rows) == 1, name


def test_tables_have_four_columns(maker: ModuleType) -> None:
    for name, field in FIELDS.items():
        assert maker.row(field).replace("\\|", "").count("|") == 5, name


@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("port", "| `port` | a whole number from 0 to 65535 | `8000` | TCP port to listen on; 0 picks a free one. |"),
        ("headers", "| `headers` (`--header`) | header fields such as "),
        ("callback_notify", "| `callback_notify` (Python only) | a function or None | none | "),
        ("io", "| `io` (environment only) | "),
    ],
)
def test_rows(maker: ModuleType, name: str, row: str) -> None:
    assert maker.row(FIELDS[name]).startswith(row)
