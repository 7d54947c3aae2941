"""fastasgi: an ASGI server whose hot paths are compiled.

    import fastasgi

    fastasgi.run("main:app", port=9000)

The names below are loaded when they are first used, so that `import fastasgi` costs next to nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .version import __version__

if TYPE_CHECKING:
    from . import config as config
    from . import errors as errors
    from . import logging as logging
    from .cli import main
    from .config import Config
    from .embed import serve, serve_in_thread
    from .launch import run
    from .stop_notice import stopping
    from .worker import Server

__all__ = ["Config", "Server", "__version__", "main", "run", "serve", "serve_in_thread", "stopping"]

_HOMES = {
    "Config": "config",
    "Server": "worker",
    "main": "cli",
    "run": "launch",
    "serve": "embed",
    "serve_in_thread": "embed",
    "stopping": "stop_notice",
}

# Modules that are used through the package: `fastasgi.config.LOGGING_CONFIG`.
_MODULES = frozenset({"config", "errors", "logging"})


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f".{name}", __name__)
    if name not in _HOMES:
        raise AttributeError(f"module 'fastasgi' has no attribute {name!r}")
    value = getattr(import_module(f".{_HOMES[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES, *_MODULES})
