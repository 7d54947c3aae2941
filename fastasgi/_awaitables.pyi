from collections.abc import Generator
from typing import Any

class Ready:
    def __await__(self) -> Generator[Any, Any]: ...
