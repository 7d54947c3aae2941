from typing import final

from fastasgi.bench._load import Load

@final
class HttpLoad(Load):
    def __init__(
        self,
        fds: list[int],
        requests: list[bytes],
        bodies: list[bytes | int | None],
        *,
        status: int = 200,
        fields: list[tuple[bytes, bytes]] | None = None,
        nonce: bytes | None = None,
        may_reconnect: bool = False,
    ) -> None: ...
    @property
    def connections_closed(self) -> int: ...
    def run(self, seconds: float, stall_s: float = 10.0) -> None: ...
    def run_at(self, rate: float, seconds: float, stall_s: float = 10.0) -> None: ...
    def close(self) -> None: ...
