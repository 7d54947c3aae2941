"""What comes before TLS: the header of the PROXY protocol, read from the socket itself.

The event loop's TLS wants the first byte of the handshake, so nothing behind the header may be read. Bytes are looked
at where they lie (`MSG_PEEK`) and taken once they are known to belong to the header.
"""

from __future__ import annotations

import asyncio
import socket

from ._proxied import ProxyHeader, read_proxy_header

MAX_HEADER_BYTES = 4096
"""More than any header that is accepted has (csrc/fa_proxy.h, FA_PROXY_MAX)."""


class NoProxyHeader(OSError):
    """A connection did not begin with a header that can be taken; says what was expected."""


async def read_announcement(
    loop: asyncio.AbstractEventLoop, connection: socket.socket, timeout_s: float | None
) -> ProxyHeader:
    """Read the header of a non-blocking socket, and nothing behind it.

    Raises `NoProxyHeader` for anything else than a whole header within `timeout_s`, `OSError` for a lost connection.
    """
    try:
        async with asyncio.timeout(timeout_s):
            return await _read(loop, connection)
    except TimeoutError:
        raise NoProxyHeader("a whole one within timeout_tls_handshake") from None


async def _read(loop: asyncio.AbstractEventLoop, connection: socket.socket) -> ProxyHeader:
    seen = b""
    while True:
        await _readable(loop, connection)
        try:
            waiting = connection.recv(MAX_HEADER_BYTES, socket.MSG_PEEK)
        except (BlockingIOError, InterruptedError):
            continue
        if not waiting:
            raise NoProxyHeader("a whole one before the end")
        try:
            header = read_proxy_header(seen + waiting)
        except ValueError as error:
            raise NoProxyHeader(str(error)) from None
        if header is not None:
            connection.recv(header.size - len(seen))
            return header
        seen += connection.recv(len(waiting))  # all of it is header, because that is not whole yet


async def _readable(loop: asyncio.AbstractEventLoop, connection: socket.socket) -> None:
    """Wait until there is something to read, or the end."""
    came = loop.create_future()
    loop.add_reader(connection.fileno(), _come, came)
    try:
        await came
    finally:
        loop.remove_reader(connection.fileno())


def _come(came: asyncio.Future[None]) -> None:
    if not came.done():
        came.set_result(None)
