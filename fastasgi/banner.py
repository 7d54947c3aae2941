"""What a person sees when the server is ready: what is served, how, and the addresses to click on."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterable
from importlib.util import find_spec
from typing import Any, Protocol

from .logging import server_logger
from .sockets import describe


class Announced(Protocol):
    """The options that the banner speaks of."""

    app: str | Callable[..., Any]
    ws: str
    loop: str

    @property
    def is_ssl(self) -> bool:
        """Whether connections are encrypted."""


def announce(
    config: Announced,
    sockets: Iterable[socket.socket],
    loop: asyncio.AbstractEventLoop | None,
    *,
    ready_s: float,
    workers: int = 1,
) -> None:
    """Log the banner: one line that says what is served, and one for each address. `ready_s` is how long it took,
    `loop` the event loop that serves; None where that runs in workers."""
    server_logger.info("%s", summary(config, loop, ready_s=ready_s, workers=workers))
    scheme = "https" if config.is_ssl else "http"
    for sock in sockets:
        server_logger.info(
            "fastasgi running on %s (Press CTRL+C to quit)",
            describe(sock, scheme),
            extra={"color_message": "fastasgi running on \x1b[1m%s\x1b[0m (Press CTRL+C to quit)"},
        )


def counted(workers: int) -> str:
    """`1 worker`, `2 workers`."""
    return f"{workers} worker{'' if workers == 1 else 's'}"


def summary(
    config: Announced, loop: asyncio.AbstractEventLoop | None, *, ready_s: float, workers: int = 1
) -> str:
    """`Serving main:app with 1 worker, uvloop, HTTP/1.1 and WebSocket; ready in 0.21 s`."""
    parts = [counted(workers)]
    name = _named(config.loop) if loop is None else type(loop).__module__.partition(".")[0]
    if name:
        parts.append(name)
    parts.append("HTTP/1.1 and WebSocket" if config.ws != "none" else "HTTP/1.1")
    return f"Serving {name_of(config.app)} with {', '.join(parts)}; ready in {ready_s:.2f} s"


def _named(loop: str) -> str:
    """The loop that workers make by the option `loop`; empty where only asyncio's policy knows."""
    if loop == "auto":
        return "uvloop" if find_spec("uvloop") else "asyncio"
    return "" if loop == "none" else loop


def name_of(app: str | Callable[..., Any]) -> str:
    """The application as a person calls it: its import string, or what says most of an object."""
    if isinstance(app, str):
        return app
    module, name = getattr(app, "__module__", None), getattr(app, "__qualname__", None)
    return f"{module}:{name}" if module and name else f"an application of type {type(app).__name__}"
