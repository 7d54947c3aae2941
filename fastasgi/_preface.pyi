from collections.abc import Callable
from typing import Any, final

from ._runtime import Member, Runtime

@final
class ProxyPreface:
    def __init__(
        self, handler_factory: Callable[[Any, Runtime], object], channel: Member, runtime: Runtime
    ) -> None: ...  # of a Channel
