import asyncio
import logging
from typing import Final, final

FLUSH_S: Final[float]

@final
class AccessLog:
    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        fd: int = -1,
        prefix: bytes = b"",
        logger: logging.Logger | None = None,
    ) -> None: ...
    @property
    def fd(self) -> int: ...
    @property
    def dropped(self) -> int: ...
    def flush(self) -> None: ...
