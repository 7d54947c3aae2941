"""`Acceptor`: takes the connections of listening sockets where the loop reads and writes them (`TransportChannel`).

The loop's own servers accept whatever comes. Here a connection is taken only when there is room for it: above
`limit_connections` it waits in the backlog, where another process may take it, and where it costs nothing.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import ssl
from collections.abc import Sequence
from typing import Any

from ._proxied import ProxyHeader
from ._runtime import Runtime
from ._transport import TransportChannel, as_address
from .logging import server_logger
from .preamble import NoProxyHeader, read_announcement
from .tls import timeouts_of, why_failed

MAX_ACCEPTS = 32
"""Connections taken in one turn of the loop, of one socket."""

RETRY_S = 1.0
"""How long accepting rests when descriptors or memory have run out, unless a connection closes before."""

_EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


class Acceptor:
    """Accepts connections of `sockets` until `close()`, in the shape of an `asyncio.Server`.

    The sockets stay the caller's. With `tls` the connections are encrypted; a handshake takes at most
    `handshake_timeout_s`. With `proxy_protocol` too, a PROXY header comes before each, which may take as long again;
    in clear text the handler reads it. Raises `NotImplementedError` on loops that cannot watch sockets (`add_reader`).
    """

    def __init__(
        self,
        runtime: Runtime,
        sockets: Sequence[socket.socket],
        *,
        tls: ssl.SSLContext | None = None,
        handshake_timeout_s: float | None = None,
        proxy_protocol: bool = False,
    ) -> None:
        self.sockets = tuple(sockets)
        self._runtime, self._loop = runtime, runtime.loop
        self._tls = tls
        self._handshake_timeout_s, self._shutdown_timeout_s = timeouts_of(tls, handshake_timeout_s)
        self._is_announced = proxy_protocol and tls is not None
        self._connecting = 0  # accepted, but no member of the runtime yet: their places are taken
        self._tasks: set[asyncio.Task[None]] = set()
        self._watched: list[socket.socket] = []
        self._retry: asyncio.TimerHandle | None = None
        self._is_listening = True
        self._has_warned = False
        for sock in self.sockets:
            sock.setblocking(False)
        self._watch()
        runtime.room_waiters.append(self._room_came)

    def close(self) -> None:
        """Accept no more; what waits in the backlog stays there for whoever shares the socket."""
        if not self._is_listening:
            return
        self._is_listening = False
        self._rest()
        if self._retry is not None:
            self._retry.cancel()
        self._runtime.room_waiters.remove(self._room_came)

    async def wait_connected(self) -> None:
        """Wait until what was accepted has been handed over, a turn or two; handshakes are not waited for."""
        while self._tasks and self._tls is None:
            await asyncio.wait(self._tasks)

    def abort(self) -> None:
        """End handshakes that are still under way."""
        for task in self._tasks:
            task.cancel()

    # --- watching ---------------------------------------------------------------------------------------------

    def _watch(self) -> None:
        for sock in self.sockets:
            if sock not in self._watched:
                self._loop.add_reader(sock.fileno(), self._accept, sock)
                self._watched.append(sock)

    def _rest(self) -> None:
        """Look away: a socket with a connection that is not taken would wake the loop without end."""
        for sock in self._watched:
            self._loop.remove_reader(sock.fileno())
        self._watched = []

    def _room_came(self) -> None:
        """A connection closed, or some time has passed: accept again."""
        if self._is_listening and len(self._watched) < len(self.sockets):
            self._runtime.wants_room = False
            self._watch()

    # --- accepting --------------------------------------------------------------------------------------------

    def _accept(self, sock: socket.socket) -> None:
        """Take the connections that wait, a bounded number a turn."""
        runtime = self._runtime
        for count in range(MAX_ACCEPTS):
            if runtime.connections + self._connecting >= runtime.max_connections:
                if count:
                    return  # full; the loop tells again if one more waits
                if not runtime.close_idle():
                    runtime.wants_room = True
                    self._rest()
                    return
            try:
                connection, peer = sock.accept()
            except OSError as error:
                self._accept_failed(error)
                return
            self._connecting += 1
            task = self._loop.create_task(self._connect(connection, peer))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _accept_failed(self, error: OSError) -> None:
        if error.errno not in _EXHAUSTED:
            return  # none left, or one that has gone again: its turn is over either way
        if not self._has_warned:
            self._has_warned = True
            server_logger.error(
                "cannot accept connections: %s; they wait in the backlog until some close (see ulimit -n)",
                os.strerror(error.errno),
            )
        self._rest()
        # An idle connection holds a descriptor that somebody else needs; its end wakes us.
        if not self._runtime.close_idle():
            self._runtime.wants_room = True
            self._retry = self._loop.call_later(RETRY_S, self._room_came)

    async def _connect(self, connection: socket.socket, peer: Any) -> None:
        """Make a transport and a channel of one connection."""
        waits = True

        def leave_queue() -> None:
            nonlocal waits
            if waits:
                waits = False
                self._connecting -= 1

        try:
            proxied = await self._announcement(connection, peer) if self._is_announced else None
            await self._loop.connect_accepted_socket(
                lambda: TransportChannel(self._runtime, leave_queue, proxied),
                connection,
                ssl=self._tls,
                ssl_handshake_timeout=self._handshake_timeout_s,
                ssl_shutdown_timeout=self._shutdown_timeout_s,
            )
        except NoProxyHeader as error:
            server_logger.info(
                "client %s sent no PROXY header that can be taken: expected %s", name_of(peer), error
            )
        except OSError as error:  # the peer has gone, or its handshake failed
            server_logger.debug("client %s %s", name_of(peer), why_failed(error))
        finally:
            if waits:  # nobody took it
                leave_queue()
                connection.close()
                self._room_came()

    async def _announcement(self, connection: socket.socket, peer: Any) -> ProxyHeader:
        """Read who the client is from a proxy that may say so. Raises as `read_announcement()`."""
        if not self._runtime.peers.trusts(as_address(peer), as_address(connection.getsockname())):
            raise NoProxyHeader("one that a peer of forwarded_allow_ips has sent")
        return await read_announcement(self._loop, connection, self._handshake_timeout_s)


def name_of(peer: Any) -> str:
    """The address of a client for a log line."""
    return f"{peer[0]}:{peer[1]}" if isinstance(peer, tuple) else "of a Unix socket"
