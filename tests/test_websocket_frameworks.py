"""WebSockets of the frameworks that people use, each served by a process of its own, on one body or the other."""

import asyncio
import contextlib
import json
import sys

import aiohttp
import pytest
import websockets
from process import PATIENCE_S, running

# Which body serves which application: each sees three of the six.
SERVED = {
    "starlette": "socket",
    "fastapi": "transport",
    "channels": "socket",
    "socketio": "transport",
    "quart": "socket",
    "strawberry": "transport",
}


@contextlib.contextmanager
def serving(name):
    io = SERVED[name] if sys.platform == "linux" else "transport"
    with running(f"frameworks.ws_{name}:app", "--lifespan", "auto", io=io) as server:
        yield server


class Site:
    """One running application."""

    def __init__(self, server):
        self.server = server

    def connect(self, path, **how):
        host, port = self.server.address
        return websockets.connect(f"ws://{host}:{port}{path}", proxy=None, open_timeout=PATIENCE_S, **how)

    async def get(self, path):
        """The body of an ordinary request."""
        host, port = self.server.address
        async with aiohttp.ClientSession() as session, session.get(f"http://{host}:{port}{path}") as answer:
            return await answer.text()

    async def wait_event(self, text):
        """Wait until the application told this, or something that begins so."""
        async with asyncio.timeout(PATIENCE_S):
            while f"event: {text}" not in self.server.log():
                await asyncio.sleep(0.01)

    def errors(self):
        return [line for line in self.server.log().splitlines() if line.startswith(("ERROR", "Traceback", "WARNING"))]


@pytest.fixture(scope="module")
def sites():
    """All applications, started before the first test."""
    with contextlib.ExitStack() as stack:
        started = {name: Site(stack.enter_context(serving(name))) for name in SERVED}
        yield started.__getitem__


async def receive(client):
    async with asyncio.timeout(PATIENCE_S):
        return await client.recv()


async def end_of(client):
    """Code and reason with which the server closed."""
    with pytest.raises(websockets.ConnectionClosed) as caught:
        await receive(client)
    return caught.value.rcvd.code, caught.value.rcvd.reason


# --- starlette --------------------------------------------------------------------------------------------------------


class TestStarlette:
    async def test_echo(self, sites):
        site = sites("starlette")
        async with site.connect("/text") as client:
            for text in ("hi", "", "Grüße 🎉" * 5000):
                await client.send(text)
                assert await receive(client) == text
            await client.close(4321)
        await site.wait_event("echo ended 4321")
        async with site.connect("/binary", max_size=None) as client:
            await client.send(bytes(1 << 20))
            assert await receive(client) == bytes(1 << 20)
        async with site.connect("/json") as client:
            await client.send('{"a": [1, "é"]}')
            assert json.loads(await receive(client)) == {"got": {"a": [1, "é"]}}
        assert await site.get("/") == "hello"
        assert not site.errors()

    async def test_chat(self, sites):
        site = sites("starlette")
        async with contextlib.AsyncExitStack() as stack:
            clients = [await stack.enter_async_context(site.connect("/chat")) for _ in range(10)]
            for number, client in enumerate(clients):
                await client.send(f"message {number}")
                assert [await receive(one) for one in clients] == [f"message {number}"] * 10
        assert not site.errors()

    async def test_subprotocol_headers_url(self, sites):
        async with sites("starlette").connect(
            "/soap?q=%C3%A9", subprotocols=["wamp", "soap"], additional_headers={"Cookie": "a=b"}
        ) as client:
            assert client.subprotocol == "soap"
            assert client.response.headers["x-room"] == "7"
            got = json.loads(await receive(client))
            assert got["subprotocols"] == ["wamp", "soap"]
            assert (got["query"], got["cookie"]) == ({"q": "é"}, "b")
            assert got["url"].startswith("ws://127.0.0.1:") and got["url"].endswith("/soap?q=%C3%A9")
            assert await end_of(client) == (4007, "done")

    @pytest.mark.parametrize(
        ("path", "status", "body"), [("/denied", 401, b"members only"), ("/refused", 403, None), ("/none", 403, None)]
    )
    async def test_refused(self, sites, path, status, body):
        with pytest.raises(websockets.InvalidStatus) as caught:
            await sites("starlette").connect(path)
        assert caught.value.response.status_code == status
        assert body is None or caught.value.response.body == body

    async def test_sends_and_receives_at_once(self, sites):
        site = sites("starlette")
        async with site.connect("/background") as client:
            assert [await receive(client) for _ in range(200)] == [f"{number}" for number in range(200)]
            await client.send("still here")
            client.transport.abort()
        await site.wait_event("background ended 1006")
        assert not site.errors()

    async def test_error(self):
        with serving("starlette") as server:
            site = Site(server)
            async with site.connect("/text") as client:
                await client.send(b"bytes")
                assert (await end_of(client))[0] == 1003, "Starlette's own, then it raises"
            async with site.connect("/boom") as client:
                await client.send("x")
                assert (await end_of(client))[0] == 1011
            async with asyncio.timeout(PATIENCE_S):
                while "ValueError: boom" not in server.log():
                    await asyncio.sleep(0.01)
            assert server.log().count("Exception in ASGI application") == 2


# --- fastapi ----------------------------------------------------------------------------------------------------------


class TestFastAPI:
    async def test_dependencies(self, sites):
        site = sites("fastapi")
        async with site.connect("/items/7/ws?token=abc&q=x") as client:
            await client.send('["é", 1]')
            assert json.loads(await receive(client)) == {"item": 7, "token": "abc", "q": "x", "data": ["é", 1]}
            await client.send('"fail"')
            assert await end_of(client) == (4010, "as asked")
        await site.wait_event("token closed")
        assert json.loads(await site.get("/")) == {"hello": "world"}
        assert not site.errors()

    @pytest.mark.parametrize("path", ["/items/7/ws", "/items/x/ws?token=abc", "/none"])
    async def test_refused(self, sites, path):
        with pytest.raises(websockets.InvalidStatus) as caught:
            await sites("fastapi").connect(path)
        assert caught.value.response.status_code == 403
        assert not sites("fastapi").errors()


# --- Django Channels --------------------------------------------------------------------------------------------------


class TestChannels:
    async def test_chat(self, sites):
        site = sites("channels")
        async with site.connect("/chat/tea/") as one, site.connect("/chat/tea/") as two, site.connect("/chat/x/") as x:
            await one.send("hi")
            assert [json.loads(await receive(client)) for client in (one, two)] == [{"message": "hi"}] * 2
            await x.send(b"\x00\xff")
            assert await receive(x) == b"\x00\xff"
            await two.send("close")
            assert (await end_of(two))[0] == 4123
        await site.wait_event("chat ended 4123")
        await site.wait_event("chat ended 1000")
        assert await site.get("/") == "hello"
        assert not site.errors()

    async def test_thread(self, sites):
        async with sites("channels").connect("/threaded") as client:
            await client.send("hi")
            assert await receive(client) == "HI"

    async def test_refused(self, sites):
        with pytest.raises(websockets.InvalidStatus) as caught:
            await sites("channels").connect("/refused")
        assert caught.value.response.status_code == 403


# --- python-socketio --------------------------------------------------------------------------------------------------


class TestSocketIO:
    @pytest.mark.parametrize("transports", [["websocket"], ["polling", "websocket"]])
    async def test_events(self, sites, transports):
        import socketio

        site = sites("socketio")
        host, port = site.server.address
        async with asyncio.timeout(PATIENCE_S):
            async with socketio.AsyncSimpleClient() as client:
                await client.connect(f"http://{host}:{port}", transports=transports)
                assert client.transport == transports[-1]
                assert await client.call("echo", {"a": "é"}) == {"echo": {"a": "é"}}
                assert await client.call("echo", {"a": b"\x00" * 100_000}) == {"echo": {"a": b"\x00" * 100_000}}
                await client.emit("shout", "to all")
                assert await client.receive() == ["shouted", "to all"]
        await site.wait_event("disconnect ")  # by its packet or by its going, whichever the client does first
        assert not site.errors()

    async def test_refused(self, sites):
        import socketio

        host, port = sites("socketio").server.address
        async with socketio.AsyncSimpleClient() as client:
            with pytest.raises(socketio.exceptions.ConnectionError):
                await client.connect(f"http://{host}:{port}", transports=["websocket"], auth={"token": "wrong"})


# --- Quart ------------------------------------------------------------------------------------------------------------


class TestQuart:
    async def test_echo(self, sites):
        site = sites("quart")
        async with site.connect("/echo") as client:
            for message in ("Grüße", b"\x00\xff", "x" * 100_000):
                await client.send(message)
                assert await receive(client) == message
        await site.wait_event("echo ended")
        async with site.connect("/json?a=1", subprotocols=["soap"]) as client:
            assert (client.subprotocol, client.response.headers["x-room"]) == ("soap", "7")
            await client.send('["x"]')
            assert json.loads(await receive(client)) == {"got": ["x"], "args": {"a": "1"}}
        async with site.connect("/close") as client:
            assert await end_of(client) == (4005, "as asked")
        assert await site.get("/") == "hello"

    @pytest.mark.parametrize(("path", "status"), [("/denied", 401), ("/none", 404)])
    async def test_refused(self, sites, path, status):
        with pytest.raises(websockets.InvalidStatus) as caught:
            await sites("quart").connect(path)
        assert caught.value.response.status_code == status


# --- Strawberry -------------------------------------------------------------------------------------------------------


class TestStrawberry:
    async def start(self, client, query):
        await client.send(json.dumps({"type": "connection_init"}))
        assert json.loads(await receive(client))["type"] == "connection_ack"
        await client.send(json.dumps({"id": "1", "type": "subscribe", "payload": {"query": query}}))

    async def test_subscription(self, sites):
        site = sites("strawberry")
        async with site.connect("/", subprotocols=["graphql-transport-ws"]) as client:
            assert client.subprotocol == "graphql-transport-ws"
            await self.start(client, "subscription { count(target: 4) }")
            got = [json.loads(await receive(client)) for _ in range(5)]
            assert [one["payload"]["data"]["count"] for one in got[:4]] == [0, 1, 2, 3]
            assert got[4] == {"id": "1", "type": "complete"}
        assert not site.errors()

    async def test_subscription_ends_with_its_client(self, sites):
        site = sites("strawberry")
        async with site.connect("/", subprotocols=["graphql-transport-ws"]) as client:
            await self.start(client, "subscription { forever }")
            assert json.loads(await receive(client))["payload"]["data"] == {"forever": "first"}
            client.transport.abort()
        await site.wait_event("subscription ended")
        assert not site.errors()
