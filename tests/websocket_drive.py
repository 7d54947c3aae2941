"""Drive WebSockets in memory: a client's end that shakes hands, feeds frames and reads the server's."""

import asyncio

import frames
from drive import Peer, turn, until

ACCEPT = {"type": "websocket.accept"}
CONNECT = {"type": "websocket.connect"}
DENY = {"type": "websocket.http.response.start", "status": 401, "headers": [(b"content-length", b"4")]}
DENY_BODY = {"type": "websocket.http.response.body", "body": b"nope"}


def text(data):
    return {"type": "websocket.send", "text": data}


def binary(data):
    return {"type": "websocket.send", "bytes": data}


def closing(code=1000, reason=""):
    return {"type": "websocket.close", "code": code, "reason": reason}


def disconnect(code, reason=""):
    return {"type": "websocket.disconnect", "code": code, "reason": reason}


async def echo(scope, receive, send):
    """Accept, and send back what comes."""
    assert await receive() == CONNECT
    await send(ACCEPT)
    while (message := await receive())["type"] == "websocket.receive":
        await send({**message, "type": "websocket.send"})


class Script:
    """An application that does what the test says, call by call: `await script.receive()`, `await script.send(...)`.

    It ends with `script.finish()`, or raises what `script.fail(error)` is given.
    """

    def __init__(self):
        self.started, self.ending, self.error = asyncio.Event(), asyncio.Event(), None
        self.scope = self.receive = self.send = None

    async def __call__(self, scope, receive, send):
        self.scope, self.receive, self.send = scope, receive, send
        self.started.set()
        await self.ending.wait()
        if self.error is not None:
            raise self.error

    def finish(self):
        self.ending.set()

    def fail(self, error):
        self.error = error
        self.ending.set()

    async def accept(self, **more):
        assert await self.receive() == CONNECT
        await self.send({**ACCEPT, **more})


class Client:
    """The client's end of one WebSocket over a `Peer`."""

    def __init__(self, peer: Peer):
        self.peer = peer
        self.head = b""

    @property
    def frames(self):
        """The server's frames behind the head of its answer."""
        head, _, rest = self.peer.output.partition(b"\r\n\r\n")
        return frames.read(rest)

    @property
    def state(self):
        return self.peer.state

    def feed(self, *parts):
        self.peer.feed(b"".join(parts))

    async def frame(self, count=1):
        """Wait until so many frames have come, no more, and give the last."""
        await until(lambda: len(self.frames) >= count, f"{count} frames; so far {self.peer.output!r}")
        found = self.frames
        assert len(found) == count, found
        return found[-1]

    async def close_frame(self):
        """Wait for the server's close frame, the last, and give its code and reason."""
        await until(lambda: self.frames and self.frames[-1].opcode == frames.CLOSE, f"{self.peer.output!r}")
        payload = self.frames[-1].payload
        return (int.from_bytes(payload[:2], "big"), payload[2:].decode()) if payload else (1005, "")

    async def ended(self):
        await until(lambda: self.state != "open", "the connection to end")


async def connected(bench, *lines, path="/", behind=b"", **options):
    """A client whose handshake was answered with 101."""
    client = Client(bench.connect(**options))
    client.peer.feed(frames.handshake(path, *lines) + behind)
    await until(lambda: b"\r\n\r\n" in client.peer.output, "the answer to the handshake")
    client.head = client.peer.output.partition(b"\r\n\r\n")[0]
    assert client.head.startswith(b"HTTP/1.1 101 Switching Protocols\r\n"), client.head
    return client


async def offered(bench, *lines, behind=b"", **options):
    """A client whose handshake waits for the application, and the application, when it is a `Script`."""
    client = Client(bench.connect(**options))
    client.peer.feed(frames.handshake("/", *lines) + behind)
    await turn(3)
    return client
