"""Adapters and wrappers around ASGI applications."""
