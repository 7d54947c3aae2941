import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, final

@final
class ApplicationFloor:
    def __init__(
        self,
        app: Callable[..., Any],
        scope: dict[str, Any],
        receive: Callable[[], Awaitable[dict[str, Any]]],
        answer: bytes,
        port: int,
        ended: asyncio.Future[None],
    ) -> None: ...
    def run(self) -> None: ...
    def end(self, fd: int, serial: int, task: asyncio.Task[None]) -> None: ...
    def flush(self) -> None: ...
    def stop(self) -> None: ...
