from collections.abc import Awaitable, Callable
from typing import Any

class ApplicationFloor:
    def __init__(
        self,
        app: Callable[..., Any],
        scope: dict[str, Any],
        receive: Callable[[], Awaitable[dict[str, Any]]],
        send: Callable[[dict[str, Any]], Awaitable[None]],
        answer: bytes,
        port: int,
    ) -> None: ...
    def run(self) -> None: ...
    def flush(self) -> None: ...
