"""banner: what is served and how, in one line, and the addresses to click on."""

import asyncio
import logging
import socket
from types import SimpleNamespace
from typing import Any

import pytest

from fastasgi import banner
from fastasgi.banner import announce, name_of, summary


class Framework:
    async def __call__(self, scope: Any, receive: Any, send: Any) -> None: ...


async def app(scope: Any, receive: Any, send: Any) -> None: ...


def options(**more: Any) -> Any:
    return SimpleNamespace(**{"app": "main:app", "ws": "auto", "loop": "none", "is_ssl": False, **more})


def test_summary() -> None:
    loop = asyncio.new_event_loop()
    try:
        assert summary(options(), loop, ready_s=0.214) == (
            "Serving main:app with 1 worker, asyncio, HTTP/1.1 and WebSocket; ready in 0.21 s"
        )
    finally:
        loop.close()
    assert summary(options(ws="none"), None, ready_s=12, workers=4) == (
        "Serving main:app with 4 workers, HTTP/1.1; ready in 12.00 s"
    )


@pytest.mark.parametrize(
    ("loop", "uvloop", "name"),
    [
        ("auto", True, " uvloop,"),
        ("auto", False, " asyncio,"),
        ("asyncio", True, " asyncio,"),
        ("my.loops:make", True, " my.loops:make,"),
        ("none", True, ""),
    ],
)
def test_loop_of_workers(loop: str, uvloop: bool, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(banner, "find_spec", lambda module: module if uvloop else None)
    assert f"with 2 workers,{name} HTTP/1.1" in summary(options(loop=loop), None, ready_s=0, workers=2)


def test_uvloop_is_named() -> None:
    uvloop = pytest.importorskip("uvloop")
    loop = uvloop.new_event_loop()
    try:
        assert "1 worker, uvloop, HTTP/1.1" in summary(options(), loop, ready_s=0)
    finally:
        loop.close()


@pytest.mark.parametrize(
    ("application", "name"),
    [
        ("main:app", "main:app"),
        (app, "test_banner:app"),
        (Framework, "test_banner:Framework"),
        (Framework(), "an application of type Framework"),
    ],
)
def test_name_of(application: Any, name: str) -> None:
    assert name_of(application) == name


def test_announce(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[tuple[str, Any]] = []
    monkeypatch.setattr(
        logging.getLogger("fastasgi.error"),
        "info",
        lambda text, *args, extra=None: said.append((text % args, extra and extra["color_message"] % args)),
    )
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as two:
        ports = [sock.getsockname()[1] for sock in (one, two)]
        announce(options(is_ssl=True), [one, two], None, ready_s=0, workers=2)
    assert said[0] == ("Serving main:app with 2 workers, HTTP/1.1 and WebSocket; ready in 0.00 s", None)
    assert said[1:] == [
        (
            f"fastasgi running on https://127.0.0.1:{port} (Press CTRL+C to quit)",
            f"fastasgi running on \x1b[1mhttps://127.0.0.1:{port}\x1b[0m (Press CTRL+C to quit)",
        )
        for port in ports
    ]
