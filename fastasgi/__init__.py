"""fastasgi: an ASGI server whose hot paths are compiled."""

__version__ = "0.1.0"
