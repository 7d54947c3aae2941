import asyncio
import logging
import re
from collections.abc import Callable
from typing import Final, final

from .formatters import Line

FLUSH_S: Final[float]

def close_all() -> None: ...
@final
class AccessLog:
    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        fd: int = -1,
        line: Line | None = None,
        logger: logging.Logger | None = None,
        *,
        use_colors: bool = False,
        exclude: re.Pattern[bytes] | None = None,
        clock: Callable[[], int] | None = None,
    ) -> None: ...
    @property
    def fd(self) -> int: ...
    @property
    def dropped(self) -> int: ...
    @property
    def wants_time(self) -> bool: ...
    @property
    def wants_fields(self) -> bool: ...
    def flush(self) -> None: ...
    def close(self) -> None: ...
