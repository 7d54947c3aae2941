from typing import final

@final
class ProxyHeader:
    @property
    def size(self) -> int: ...

def read_proxy_header(data: bytes) -> ProxyHeader | None: ...
