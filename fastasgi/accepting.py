"""`Acceptor`: takes the connections of listening sockets where the loop reads and writes them (`TransportChannel`).

The loop's own servers accept whatever comes. Here a connection is taken only when there is room for it: above
`limit_connections` it waits in the backlog, where another process may take it, and where it costs nothing. Which of the
workers that share a socket takes it is decided by `Listener`; one whose TLS handshake still runs counts from the start.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import ssl
import sys
from collections.abc import Callable, Sequence
from typing import Any

from ._proxied import ProxyHeader
from ._runtime import Runtime
from ._transport import TransportChannel, as_address
from .logging import server_logger
from .preamble import NoProxyHeader, read_announcement
from .tls import timeouts_of, why_failed

if sys.platform == "linux":
    from ._listener import Listener

MAX_ACCEPTS = 32
"""Connections taken in one turn of the loop, of one socket."""

RETRY_S = 1.0
"""How long accepting rests when descriptors or memory have run out, unless a connection closes before."""

_EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


class PlainListener:
    """What `Listener` is, where there are no workers to share with, or the system does not let them see each other."""

    def __init__(self, runtime: Runtime, sock: socket.socket, callback: Callable[[PlainListener], object]) -> None:
        self.sock = sock
        self._loop, self._callback = runtime.loop, callback

    def start(self) -> None:
        """Watch it."""
        self._loop.add_reader(self.sock.fileno(), self._callback, self)

    def stop(self) -> None:
        """Look away."""
        self._loop.remove_reader(self.sock.fileno())

    pause, resume = stop, start

    def check(self) -> None:
        """Nothing is missed."""

    def may_accept(self, taken: int) -> bool:
        """Yes."""
        return True

    def end_turn(self) -> None:
        """Nobody else waits for a turn."""


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
        self._tasks: set[asyncio.Task[None]] = set()  # of connections that are not open yet
        self._retry: asyncio.TimerHandle | None = None
        self._is_listening = True
        self._is_paused = False  # for want of room or descriptors
        self._has_warned = False
        kind: Any = Listener if sys.platform == "linux" else PlainListener
        self._listeners = [kind(runtime, sock, self._accept) for sock in self.sockets]
        for listener in self._listeners:
            listener.sock.setblocking(False)
            listener.start()
        runtime.room_waiters.append(self._room_came)
        runtime.tickers.append(self._check)

    def close(self) -> None:
        """Accept no more; what waits in the backlog stays there for whoever shares the socket."""
        if not self._is_listening:
            return
        self._is_listening = False
        for listener in self._listeners:
            listener.stop()
        if self._retry is not None:
            self._retry.cancel()
        self._runtime.room_waiters.remove(self._room_came)
        self._runtime.tickers.remove(self._check)

    async def abort(self) -> None:
        """End handshakes that are still under way; a turn or two."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    # --- watching ---------------------------------------------------------------------------------------------

    def _check(self) -> None:
        for listener in self._listeners:
            listener.check()

    def _pause(self) -> None:
        """Look away: a socket with a connection that is not taken would wake the loop without end."""
        if not self._is_paused:
            self._is_paused = True
            for listener in self._listeners:
                listener.pause()

    def _room_came(self) -> None:
        """A connection closed, or some time has passed: accept again."""
        if self._is_listening and self._is_paused:
            self._is_paused = False
            self._runtime.wants_room = False
            for listener in self._listeners:
                listener.resume()

    # --- accepting --------------------------------------------------------------------------------------------

    def _accept(self, listener: Any) -> None:
        """Take the connections that wait, a bounded number a turn: the callback of the loop."""
        runtime, count = self._runtime, 0
        if not self._is_listening or self._is_paused:
            return  # told of before
        while count < MAX_ACCEPTS:
            if runtime.connections + runtime.connecting >= runtime.max_connections:
                if count:
                    return  # full; the loop tells again if one more waits
                if not runtime.close_idle():
                    runtime.wants_room = True
                    self._pause()
                    return
            if not listener.may_accept(count):
                return
            try:
                connection, peer = listener.sock.accept()
            except OSError as error:
                self._accept_failed(error)
                break
            count += 1
            self._take(connection, peer)
        if count:
            listener.end_turn()

    def _accept_failed(self, error: OSError) -> None:
        if error.errno not in _EXHAUSTED:
            return  # none left, or one that has gone again: its turn is over either way
        if not self._has_warned:
            self._has_warned = True
            server_logger.error(
                "cannot accept connections: %s; they wait in the backlog until some close (see ulimit -n)",
                os.strerror(error.errno),
            )
        self._pause()
        # An idle connection holds a descriptor that somebody else needs; its end wakes us.
        if not self._runtime.close_idle():
            self._runtime.wants_room = True
            self._retry = self._loop.call_later(RETRY_S, self._room_came)

    def _take(self, connection: socket.socket, peer: Any) -> None:
        """It has its place from now on; `left` when its channel is open, or when that came to nothing."""
        waits = True

        def left(task: asyncio.Task[None] | None = None) -> None:
            nonlocal waits
            if waits:
                waits = False
                self._tasks.discard(connecting)
                self._runtime.end_connecting()
                if task is not None:  # it has ended before
                    connection.close()
                    self._room_came()

        self._runtime.begin_connecting()
        connecting = self._loop.create_task(self._connect(connection, peer, left))
        self._tasks.add(connecting)
        connecting.add_done_callback(left)

    async def _connect(self, connection: socket.socket, peer: Any, opened: Callable[[], object]) -> None:
        """Make a transport and a channel of one connection."""
        try:
            proxied = await self._announcement(connection, peer) if self._is_announced else None
            await self._loop.connect_accepted_socket(
                lambda: TransportChannel(self._runtime, opened, proxied),
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

    async def _announcement(self, connection: socket.socket, peer: Any) -> ProxyHeader:
        """Read who the client is from a proxy that may say so. Raises as `read_announcement()`."""
        if not self._runtime.peers.trusts(as_address(peer), as_address(connection.getsockname())):
            raise NoProxyHeader("one that a peer of forwarded_allow_ips has sent")
        return await read_announcement(self._loop, connection, self._handshake_timeout_s)


def name_of(peer: Any) -> str:
    """The address of a client for a log line."""
    return f"{peer[0]}:{peer[1]}" if isinstance(peer, tuple) else "of a Unix socket"
