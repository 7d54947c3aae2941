"""Applications of ASGI 2, `app(scope)(receive, send)`, as ASGI 3 applications."""

from __future__ import annotations

from ..asgi import ASGI2Application, Receive, Scope, Send


class ASGI2Middleware:
    """`ASGI2Middleware(app)` is the ASGI 3 face of an ASGI 2 application."""

    def __init__(self, app: ASGI2Application) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one scope."""
        await self.app(scope)(receive, send)
