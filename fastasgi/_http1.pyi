from typing import final

from ._runtime import Member, Runtime

@final
class Http1:
    def __init__(self, channel: Member, runtime: Runtime) -> None: ...  # a Channel

@final
class Http1Exchange: ...
