from collections.abc import Iterable, MutableMapping
from typing import Any, Final, final

FIELDS: Final[tuple[str, ...]]
DEFAULT_FIELDS: Final[tuple[str, ...]]

@final
class TrustedPeers:
    def __init__(self, peers: str | Iterable[str] | None) -> None: ...
    def trusts(self, client: tuple[str, int | None] | None, server: tuple[str, int | None] | None = None) -> bool: ...

@final
class Origin: ...

@final
class Forwarder:
    def __init__(self, peers: TrustedPeers, fields: Iterable[str] = ...) -> None: ...
    @property
    def peers(self) -> TrustedPeers: ...
    def forward(self, scope: MutableMapping[str, Any]) -> None: ...
