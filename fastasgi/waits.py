"""The coroutines that `send()` and `receive()` return when there may be something to wait for.

Plain `async def`, because the interpreter runs its own coroutines faster than any awaitable of ours, and because every
tool that takes a coroutine takes these. Nothing happens before the first step: a `receive()` that is never awaited
takes nothing.
"""

from __future__ import annotations

from asyncio import Future
from collections.abc import Awaitable
from typing import Any, Protocol


class Waiting(Protocol):
    """What these coroutines ask of an exchange; `_exchange.HttpExchange` answers."""

    def take_message(self) -> dict[str, Any] | None: ...
    def message_waiter(self) -> Awaitable[None]: ...
    def writable_waiter(self) -> Awaitable[None] | None: ...


async def receive(exchange: Waiting) -> dict[str, Any]:
    """The next message of the request, waiting for it when there is none yet."""
    while (message := exchange.take_message()) is None:
        await exchange.message_waiter()
    return message


async def result_of(awaitable: Awaitable[None]) -> None:
    """What an application returned that is awaitable and no coroutine, as one."""
    await awaitable


async def writable(exchange: Waiting) -> None:
    """Return when the client has taken enough of what was sent. Raises ClientDisconnected when it has gone."""
    while (waiter := exchange.writable_waiter()) is not None:
        await waiter


def with_waiter(waiters: list[Future[None]] | None, future: Future[None]) -> list[Future[None]]:
    """The list with one more future. Those that were cancelled go: an application may poll and cancel without end."""
    if waiters is None:
        return [future]
    if len(waiters) >= 4:
        waiters = [each for each in waiters if not each.done()]
    waiters.append(future)
    return waiters
