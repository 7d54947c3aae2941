"""What stands before an application: trusted hosts, CORS, and a limit on how often each client may ask.

The order matters. Whoever asks for a host that is not ours learns nothing; CORS comes before the limit, so that a page
in a browser can read the 429 too.
"""

import math
import time
from collections.abc import Callable

from fastapi import FastAPI, Request
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send


class RateLimit:
    """Middleware: each client may send `burst` requests at once, and `per_second` in the long run (a token bucket).

    A client is its address: that of the browser also behind a proxy, because fastasgi puts it there when it trusts the
    proxy (`--forwarded-allow-ips`). Each worker counts for itself: with N workers a client may ask up to N times as
    often. At most `max_clients` are remembered; those that were silent the longest are forgotten first, and of an IPv6
    address only the network counts, because a client has a whole network of them.
    """

    def __init__(
        self,
        app: ASGIApp,
        per_second: float = 5.0,
        burst: int = 10,
        max_clients: int = 10_000,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.app = app
        self.per_second, self.burst, self.max_clients = per_second, burst, max_clients
        self._clock = clock
        self._clients: dict[str, tuple[float, float]] = {}  # tokens, and when there were so many; oldest first

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or answer 429."""
        if scope["type"] == "http":
            wait_s = self.take(client_of(scope))
            if wait_s > 0:
                headers = {"retry-after": str(math.ceil(wait_s))}
                response = JSONResponse({"detail": "too many requests"}, 429, headers)
                await response(scope, receive, send)
                return
        await self.app(scope, receive, send)

    def take(self, client: str) -> float:
        """Take a token of this client; 0, or after how many seconds there will be one."""
        now = self._clock()
        tokens, since = self._clients.pop(client, (float(self.burst), now))
        tokens = min(self.burst, tokens + (now - since) * self.per_second)
        wait_s = 0.0 if tokens >= 1 else (1 - tokens) / self.per_second
        self._clients[client] = (tokens if wait_s else tokens - 1, now)
        if len(self._clients) > self.max_clients:
            del self._clients[next(iter(self._clients))]
        return wait_s


def client_of(scope: Scope) -> str:
    """Whose request it is. A Unix socket's clients are all one, unless its proxy says who they are."""
    host = scope["client"][0] if scope["client"] else ""
    return ":".join(host.split(":")[:4]) if ":" in host else host


app = FastAPI(
    title="Guarded",
    middleware=[
        Middleware(TrustedHostMiddleware, allowed_hosts=["localhost", "127.0.0.1", "*.example.com"]),
        Middleware(
            CORSMiddleware,
            allow_origins=["https://app.example.com"],
            allow_methods=["GET", "POST"],
            allow_headers=["content-type"],
            expose_headers=["retry-after"],
            max_age=600,
        ),
        Middleware(RateLimit, per_second=5.0, burst=10),
    ],
)


@app.get("/")
async def index(request: Request) -> dict[str, str]:
    """Who asks, as the server knows it."""
    assert request.client is not None
    return {"client": request.client.host}
