"""Examples as they are served: in a thread of the test, or in a process of their own."""

import contextlib
import ssl
from pathlib import Path

import httpx
from process import PATIENCE_S

import fastasgi

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = ROOT / "examples"
NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # else each client reads all certificates first


def client_of(url, **options):
    """An httpx client that asks no proxy."""
    return httpx.Client(**{"base_url": url, "timeout": PATIENCE_S, "trust_env": False, "verify": NO_TLS, **options})


@contextlib.contextmanager
def served(app, **options):
    """Serve `examples.NAME:ATTRIBUTE` (or an object) in a thread: (server, client)."""
    with (
        fastasgi.serve_in_thread(app, port=0, app_dir=ROOT, **options) as server,
        client_of(server.url) as client,
    ):
        yield server, client
