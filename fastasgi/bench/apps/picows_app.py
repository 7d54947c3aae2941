"""The peer `picows`: a library of frames over asyncio, without ASGI.

    python -m picows_app PORT [echo|broadcast]
"""

import sys

import picows
import uvloop

HOST = "127.0.0.1"
everybody: set[picows.WSTransport] = set()


class Echo(picows.WSListener):
    """Each message comes back."""

    def on_ws_frame(self, transport: picows.WSTransport, frame: picows.WSFrame) -> None:
        """Send back what came; the frame's memory is the library's, only until we return."""
        if frame.msg_type == picows.WSMsgType.CLOSE:
            transport.send_close(frame.get_close_code())
            transport.disconnect()
        elif frame.msg_type in (picows.WSMsgType.TEXT, picows.WSMsgType.BINARY):
            self.answer(transport, frame)

    def answer(self, transport: picows.WSTransport, frame: picows.WSFrame) -> None:
        """Send back."""
        transport.send(frame.msg_type, frame.get_payload_as_memoryview())


class Broadcast(Echo):
    """Each message goes to all that are connected."""

    def on_ws_connected(self, transport: picows.WSTransport) -> None:
        """One more."""
        everybody.add(transport)

    def on_ws_disconnected(self, transport: picows.WSTransport) -> None:
        """One less."""
        everybody.discard(transport)

    def answer(self, transport: picows.WSTransport, frame: picows.WSFrame) -> None:
        """Send to all."""
        payload = frame.get_payload_as_bytes()
        for other in tuple(everybody):
            other.send(frame.msg_type, payload)


async def main(port: int, listener: type[Echo]) -> None:
    """Serve until the end of the process."""
    server = await picows.ws_create_server(lambda request: listener(), HOST, port, backlog=2048)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), Broadcast if sys.argv[2:] == ["broadcast"] else Echo))
