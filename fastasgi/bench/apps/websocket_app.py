"""Raw ASGI applications for WebSocket scenarios: as little Python as each of them can be."""

from collections.abc import Awaitable, Callable
from typing import Any

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

everybody: set[Send] = set()


def require_websocket(scope: Scope) -> None:
    """Raise for lifespan and HTTP scopes: the servers then go on without them."""
    if scope["type"] != "websocket":
        raise NotImplementedError(f"this application serves websocket only, got {scope['type']}")


def answer_to(message: dict[str, Any]) -> dict[str, Any]:
    """Return the message that sends back what was received: text as text, bytes as bytes."""
    text = message.get("text")
    if text is not None:
        return {"type": "websocket.send", "text": text}
    return {"type": "websocket.send", "bytes": message["bytes"]}


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Each message comes back."""
    require_websocket(scope)
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        await send(answer_to(message))


async def broadcast(scope: Scope, receive: Receive, send: Send) -> None:
    """Each message goes to all that are connected, one after the other."""
    require_websocket(scope)
    await receive()
    await send({"type": "websocket.accept"})
    everybody.add(send)
    try:
        while (message := await receive())["type"] == "websocket.receive":
            answer = answer_to(message)
            for other in tuple(everybody):
                await other(answer)
    finally:
        everybody.discard(send)
