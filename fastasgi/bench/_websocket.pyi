from typing import Any, Final, final

from fastasgi.bench._load import Load

DEFLATE_TAIL: Final[bytes]

@final
class WebSocketLoad(Load):
    def __init__(
        self,
        fds: list[int],
        frames: list[bytes],
        payloads: list[bytes],
        is_text: bool,
        inflaters: list[Any] | None = None,
    ) -> None: ...
    def echo(self, seconds: float, stall_s: float = 10.0) -> None: ...
    def echo_at(self, rate: float, seconds: float, stall_s: float = 10.0) -> None: ...
    def broadcast(self, times: int, stall_s: float = 10.0) -> None: ...
