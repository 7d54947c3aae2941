"""What trusted proxies say of a request, applied by an application instead of the server.

The server does the same by itself (`--proxy-headers`, on by default). This is for applications that bring their
own list of proxies, or run under another server.
"""

from __future__ import annotations

from collections.abc import Iterable

from .._forwarded import DEFAULT_FIELDS, Forwarder, TrustedPeers
from ..asgi import ASGI3Application, Receive, Scope, Send


class ProxyHeadersMiddleware:
    """Takes client and scheme of a request from X-Forwarded-For, X-Forwarded-Proto and Forwarded.

    `trusted_hosts` are the peers that are believed: addresses, networks, names, `unix`, or `*`, as a list or
    with commas between; `fields` what they are believed in, of `for`, `proto`, `host`, `port` and `prefix`.
    Raises ValueError for what looks like an address and is none. The rules are those of the server, see
    docs/proxies.md.
    """

    def __init__(
        self,
        app: ASGI3Application,
        trusted_hosts: list[str] | str = "127.0.0.1",
        *,
        fields: Iterable[str] = DEFAULT_FIELDS,
    ) -> None:
        self.app = app
        self._forwarder = Forwarder(TrustedPeers(trusted_hosts), fields)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one scope, which is changed as the middleware of other servers does."""
        if scope["type"] in ("http", "websocket"):
            self._forwarder.forward(scope)
        await self.app(scope, receive, send)
