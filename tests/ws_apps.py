"""WebSocket applications that tests run in a process of their own."""

import asyncio


async def echo(scope, receive, send):
    """Send back each message as it came."""
    assert scope["type"] == "websocket", scope["type"]
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        if message.get("text") is not None:
            await send({"type": "websocket.send", "text": message["text"]})
        else:
            await send({"type": "websocket.send", "bytes": message["bytes"]})


async def bursts(scope, receive, send):
    """Answer each message with ten, outside of the batch that read it."""
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        await asyncio.sleep(0)
        for number in range(10):
            await send({"type": "websocket.send", "text": f"{message['text']} {number}"})
