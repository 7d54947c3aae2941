"""docs/migrating/uvicorn.md has the table that the options make, and uvicorn's defaults are uvicorn's."""

import importlib.util
import inspect
import ssl
import sys
from pathlib import Path

import pytest

from fastasgi.options import FIELDS

DOCS = Path(__file__).resolve().parents[1] / "docs"


@pytest.fixture(scope="module")
def maker():
    sys.path.insert(0, str(DOCS))  # it imports its neighbour
    try:
        spec = importlib.util.spec_from_file_location("make_migrating", DOCS / "make_migrating.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        yield module
    finally:
        sys.path.remove(str(DOCS))
        sys.modules.pop("make_options", None)


def test_the_page_is_up_to_date(maker):
    assert maker.PAGE.read_text(encoding="utf-8") == maker.page(), "run: python docs/make_migrating.py"


def test_each_option_there_is_an_option_here_or_is_said_to_be_none(maker):
    rows = maker.table().splitlines()[2:]
    assert len(rows) == len(maker.THERE) > 50
    assert [name for name in maker.THERE if name not in FIELDS] == ["http2"]
    assert set(maker.DIFFERS) | set(maker.MEANT) <= set(maker.THERE)
    assert all(row.count(" | ") == 3 for row in rows)


@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("port", "| `port` | `8000` | same |  |"),
        ("ws_ping_interval", "| `ws_ping_interval` | `20` | same |  |"),
        ("timeout_keep_alive", "| `timeout_keep_alive` | `5` | `75` s | balancers keep idle"),
        ("http2", "| `http2` | `false` | refused | HTTP/2 comes"),
        ("uds", "| `uds` | none | same |  |"),
    ],
)
def test_rows(maker, name, row):
    assert maker.row(name).startswith(row)


def test_what_is_said_of_uvicorn_is_so(maker):
    uvicorn = pytest.importorskip("uvicorn", reason="uvicorn is not installed")
    if uvicorn.__version__ != maker.VERSION:
        pytest.skip(f"uvicorn {uvicorn.__version__} is installed; the page is about {maker.VERSION}")
    parameters = dict(inspect.signature(uvicorn.Config).parameters)
    del parameters["app"]
    told = {**maker.THERE, "ssl_version": ssl.PROTOCOL_TLS_SERVER, "ssl_cert_reqs": ssl.CERT_NONE}
    assert told.pop("app_dir") == ""
    assert told.pop("log_config") == "built in" and isinstance(parameters.pop("log_config").default, dict)
    assert told == {name: parameter.default for name, parameter in parameters.items()}
