"""A chat over WebSockets: a page, a manager of connections, and what happens to clients that do not keep up.

All clients are those of one process. With several workers a broker (Redis, PostgreSQL's NOTIFY) has to carry messages
from one to the others.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import Depends, FastAPI, Query, Request, WebSocket, WebSocketDisconnect
from fastapi.responses import HTMLResponse
from starlette.requests import HTTPConnection

MAX_WAITING = 100
"""Messages that may wait for a client that reads slowly; then it is closed, and may come again."""

MAX_LENGTH = 2000
"""Characters of a message."""

PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>Chat</title>
<style>
  body { font: 1rem/1.5 system-ui; max-width: 40rem; margin: 2rem auto; padding: 0 1rem }
  #log { list-style: none; padding: 0; min-height: 10rem }
  .notice { color: #666 }
  form { display: flex; gap: .5rem } input { flex: 1; font: inherit }
</style>
<h1>Chat</h1>
<p id="state" class="notice">connecting</p>
<ul id="log"></ul>
<form id="form"><input id="text" autocomplete="off" maxlength="2000" autofocus><button>Send</button></form>
<script>
  const name = new URLSearchParams(location.search).get("name") || prompt("Your name?") || "nobody";
  const $ = id => document.getElementById(id);
  let socket, wait = 500;

  function show(message) {
    const line = document.createElement("li");
    if (message.from === undefined) line.className = "notice";
    line.textContent = message.from === undefined ? message.text : message.from + ": " + message.text;
    $("log").append(line);
    line.scrollIntoView();
  }

  function connect() {
    const scheme = location.protocol === "https:" ? "wss://" : "ws://";
    socket = new WebSocket(scheme + location.host + "/ws?name=" + encodeURIComponent(name));
    socket.onopen = () => { $("state").textContent = "you are " + name; wait = 500; };
    socket.onmessage = event => show(JSON.parse(event.data));
    socket.onclose = event => {        // 1012: the server restarts; 1013: we were too slow; 1006: the line was cut
      $("state").textContent = "gone (" + event.code + "), trying again";
      if (event.code === 1008) { $("state").textContent = event.reason; return; }
      setTimeout(connect, wait);
      wait = Math.min(wait * 2, 10000);
    };
  }

  $("form").onsubmit = event => {
    event.preventDefault();
    if ($("text").value && socket.readyState === WebSocket.OPEN) socket.send($("text").value);
    $("text").value = "";
  };
  connect();
</script>
</html>
"""


class Client:
    """One person: their socket, and what waits to be sent to it."""

    def __init__(self, socket: WebSocket, name: str) -> None:
        self.name = name
        self._socket = socket
        self._waiting: asyncio.Queue[dict[str, str]] = asyncio.Queue(MAX_WAITING)
        self.is_slow = False

    def put(self, message: dict[str, str]) -> None:
        """Have it sent. Nobody waits for a slow client: it is marked, and its connection ends."""
        try:
            self._waiting.put_nowait(message)
        except asyncio.QueueFull:
            self.is_slow = True

    async def send_all(self) -> None:
        """Send what comes, until there is too much of it."""
        while not self.is_slow:
            await self._socket.send_json(await self._waiting.get())
        await self._socket.close(1013, "too slow")


class Room:
    """The manager of connections: who is here, and what everybody is told."""

    def __init__(self) -> None:
        self._clients: dict[str, Client] = {}

    def is_taken(self, name: str) -> bool:
        """Somebody of this name is here."""
        return name in self._clients

    @property
    def names(self) -> list[str]:
        """Who is here."""
        return sorted(self._clients)

    @contextlib.asynccontextmanager
    async def joined(self, client: Client) -> AsyncIterator[None]:
        """The client is here within the block, and is sent what is said."""
        self._clients[client.name] = client
        self.tell({"text": f"{client.name} came"})
        sending = asyncio.create_task(client.send_all())
        try:
            yield
        finally:
            del self._clients[client.name]
            self.tell({"text": f"{client.name} left"})
            sending.cancel()
            await asyncio.wait({sending})
            error = None if sending.cancelled() else sending.exception()
            if error is not None and not isinstance(error, WebSocketDisconnect):
                raise error

    def tell(self, message: dict[str, str]) -> None:
        """Tell everybody; a client more or less makes no difference to the others."""
        for client in self._clients.values():
            client.put(message)


app = FastAPI(title="Chat")
app.state.room = Room()


def room_of(connection: HTTPConnection) -> Room:
    """The room of this process."""
    room: Room = connection.app.state.room
    return room


TheRoom = Annotated[Room, Depends(room_of)]


@app.get("/", response_class=HTMLResponse)
async def page(request: Request) -> str:
    """The page, for a browser."""
    return PAGE


@app.get("/names")
async def names(room: TheRoom) -> list[str]:
    """Who is here."""
    return room.names


@app.websocket("/ws")
async def chat(socket: WebSocket, room: TheRoom, name: Annotated[str, Query(min_length=1, max_length=40)]) -> None:
    """One client, until it goes."""
    await socket.accept()
    if room.is_taken(name):
        await socket.close(1008, f"the name {name} is taken")
        return
    client = Client(socket, name)
    async with room.joined(client):
        with contextlib.suppress(WebSocketDisconnect):
            while True:
                text = await socket.receive_text()
                room.tell({"from": name, "text": text[:MAX_LENGTH]})
