"""Behind real nginx and HAProxy, over TCP and Unix sockets: who the client is, and that everything gets through."""

import asyncio
import contextlib
import hashlib

import pytest
import websockets
from drive import drain_body, start
from net import IOS, listening
from proxying import CLIENT, NGINX_OLD, PROXIES, client, haproxy, nginx, within
from tls_files import files

import fastasgi

pytestmark = pytest.mark.time_limit(60)
MIB = 1024 * 1024
EVIL = {
    "X-Forwarded-For": "127.0.0.1, 6.6.6.6",
    "Forwarded": 'for=127.0.0.1;proto=http;host="evil.example"',
    "X-Forwarded-Host": "evil.example",
    "X-Forwarded-Prefix": "/evil",
    "X_Forwarded_For": "6.6.6.6",
}


class App:
    """Answers with the sum of the body, or with so many bytes; keeps the scopes."""

    def __init__(self):
        self.scopes = []
        self.gone = asyncio.Event()
        self.go_on = asyncio.Event()

    async def __call__(self, scope, receive, send):
        self.scopes.append(scope)
        if scope["type"] == "websocket":
            return await self.echo(scope, receive, send)
        path = scope["path"]
        if path == "/events":
            return await self.events(scope, receive, send)
        if path == "/large":
            await send(start(200, [(b"content-length", b"%d" % (16 * MIB))]))
            for number in range(16):
                await send({"type": "http.response.body", "body": bytes([number]) * MIB, "more_body": True})
            return await send({"type": "http.response.body"})
        data = await drain_body(receive)
        body = b"%d %s" % (len(data), hashlib.sha256(data).hexdigest().encode())
        await send(start(200, [(b"content-length", b"%d" % len(body))]))
        return await send({"type": "http.response.body", "body": body})

    async def events(self, scope, receive, send):
        await send(start(200, [(b"content-type", b"text/event-stream"), (b"x-accel-buffering", b"no")]))
        await send({"type": "http.response.body", "body": b"data: 1\n\n", "more_body": True})
        await self.go_on.wait()
        await send({"type": "http.response.body", "body": b"data: 2\n\n", "more_body": True})
        while (await receive())["type"] != "http.disconnect":
            pass
        self.gone.set()

    async def echo(self, scope, receive, send):
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            await send({**message, "type": "websocket.send"})


@contextlib.asynccontextmanager
async def served(tmp_path, app, *, family="tcp", io="socket", **options):
    """A server behind which a proxy may be put: the net and its address for the proxy."""
    options.setdefault("forwarded_allow_ips", "127.0.0.1" if family == "tcp" else "unix")
    async with listening(app, io, family=family, path=str(tmp_path / "app.sock"), **options) as net:
        name = net.listening_socket.getsockname()
        yield net, f"unix:{name}" if family == "unix" else f"127.0.0.1:{name[1]}"


FAMILIES = pytest.mark.parametrize("family", ["tcp", "unix"])
BOTH = pytest.mark.parametrize("proxy", PROXIES.values(), ids=PROXIES)


@pytest.mark.pins("proxies.real")
@pytest.mark.parametrize("io", IOS)
@FAMILIES
@BOTH
async def test_the_client_is_the_client(tmp_path, proxy, family, io):
    """Whatever it makes up. Its connection, and the proxy's to us, are kept."""
    app = App()
    async with served(tmp_path, app, family=family, io=io) as (net, upstream):
        with proxy(tmp_path, upstream) as front:
            async with client(front) as http:
                for headers in ({}, EVIL, {"X-Real-IP": "6.6.6.6"}, {}):
                    answer = await within(http.post("/x", content=b"abc", headers=headers))
                    assert answer.status_code == 200 and answer.text.startswith("3 ")
                assert net.runtime.connections == 1
    for scope in app.scopes:
        assert (scope["client"], scope["scheme"]) == ((CLIENT, 0), "https")
        assert (scope["path"], scope["root_path"]) == ("/x", "")
        headers = dict(scope["headers"])
        assert headers[b"host"] == f"127.0.0.1:{front[1]}".encode()
        assert b"x_forwarded_for" not in headers
    real = [dict(scope["headers"]).get(b"x-real-ip") for scope in app.scopes]
    wanted = [CLIENT.encode()] * 4 if proxy is nginx else [None, None, b"6.6.6.6", None]
    assert real == wanted  # what the proxy makes of it, untouched


@pytest.mark.pins("proxies.real")
async def test_a_proxy_that_is_not_trusted(tmp_path):
    app = App()
    async with served(tmp_path, app, forwarded_allow_ips="10.0.0.1") as (_, upstream):
        with nginx(tmp_path, upstream) as front:
            async with client(front) as http:
                await within(http.get("/x"))
    assert app.scopes[0]["client"][0] == "127.0.0.1" and app.scopes[0]["client"][1] > 0
    assert app.scopes[0]["scheme"] == "http"


@pytest.mark.pins("proxies.real")
@FAMILIES
async def test_nginx_as_it_comes(tmp_path, family):
    """HTTP/1.0 to us, a connection for each request, the name of the upstream as Host, answers buffered."""
    app = App()
    async with served(tmp_path, app, family=family) as (net, upstream):
        with nginx(tmp_path, upstream, NGINX_OLD) as front:
            async with client(front) as http:
                for _ in range(3):
                    answer = await within(http.post("/x", content=b"abc"))
                    assert answer.text.startswith("3 ")
                large = await within(http.get("/large"))
                assert len(large.content) == 16 * MIB
            await net.until(lambda: net.idle, "nginx has closed its connections")
    assert {scope["http_version"] for scope in app.scopes} == {"1.0"}
    assert {scope["client"] for scope in app.scopes} == {(CLIENT, 0)}
    assert dict(app.scopes[0]["headers"])[b"host"] == b"app"


@pytest.mark.pins("proxies.real")
@BOTH
@FAMILIES
async def test_large_bodies_both_ways(tmp_path, proxy, family):
    app = App()
    data = bytes(range(256)) * (64 * 1024)
    async with served(tmp_path, app, family=family) as (_, upstream):
        with proxy(tmp_path, upstream) as front:
            async with client(front) as http:

                async def pieces():
                    for at in range(0, len(data), MIB):
                        yield data[at : at + MIB]

                for content in (data, pieces()):  # with a length, and in chunks
                    answer = await within(http.post("/x", content=content))
                    assert answer.text == f"{len(data)} {hashlib.sha256(data).hexdigest()}"
                answer = await within(http.get("/large"))
                assert answer.content == b"".join(bytes([number]) * MIB for number in range(16))


@pytest.mark.pins("proxies.real")
@BOTH
@FAMILIES
async def test_event_streams(tmp_path, proxy, family):
    """Each event arrives when it is sent, and the application learns that its client has gone."""
    app = App()
    async with served(tmp_path, app, family=family) as (_, upstream):
        with proxy(tmp_path, upstream) as front:
            async with client(front) as http, http.stream("GET", "/events") as stream:
                events = stream.aiter_bytes()
                assert await within(anext(events)) == b"data: 1\n\n"
                app.go_on.set()
                assert await within(anext(events)) == b"data: 2\n\n"
            await within(app.gone.wait())
    assert app.scopes[0]["client"] == (CLIENT, 0)


@pytest.mark.pins("proxies.real")
@BOTH
@FAMILIES
async def test_websockets(tmp_path, proxy, family):
    app = App()
    async with served(tmp_path, app, family=family) as (_, upstream):
        with proxy(tmp_path, upstream) as front:
            url = f"ws://127.0.0.1:{front[1]}/chat"
            async with websockets.connect(url, local_addr=(CLIENT, 0), proxy=None) as socket:
                for message in ("héllo", b"\x00" * 300_000):
                    await within(socket.send(message))
                    assert await within(socket.recv()) == message
    assert (app.scopes[0]["type"], app.scopes[0]["client"]) == ("websocket", (CLIENT, 0))
    assert app.scopes[0]["scheme"] == "wss"


@pytest.mark.pins("proxies.preface")
@pytest.mark.parametrize("io", IOS)
@pytest.mark.parametrize(
    "version", ["send-proxy", "send-proxy-v2", "send-proxy-v2 proxy-v2-options crc32c,unique-id"]
)
@FAMILIES
async def test_the_proxy_protocol(tmp_path, version, family, io):
    """HAProxy passes bytes; it says who its client is at the beginning of each connection. Its health checks do too."""
    app = App()
    checks = "check inter 50ms" if version != "send-proxy" else ""
    async with served(tmp_path, app, family=family, io=io, proxy_protocol=True) as (_, upstream):
        with haproxy(tmp_path, upstream, "", mode="tcp", more=f"{version} {checks}") as front:
            async with client(front) as http:
                for _ in range(3):
                    answer = await within(http.post("/x", content=b"abc", headers=EVIL))
                    assert answer.status_code == 200 and answer.text.startswith("3 ")
            async with websockets.connect(
                f"ws://127.0.0.1:{front[1]}/", local_addr=(CLIENT, 0), proxy=None
            ) as socket:
                await within(socket.send("x"))
                assert await within(socket.recv()) == "x"
    for scope in app.scopes:
        host, port = scope["client"]
        assert host == CLIENT and port > 1024
        assert scope["server"] == front
        assert scope["scheme"] in ("http", "ws")
    assert len({scope["client"] for scope in app.scopes}) == 2  # one for each connection


@pytest.mark.pins("proxies.preface")
async def test_the_proxy_protocol_before_tls(tmp_path):
    """HAProxy says who its client is, and encrypts what follows."""
    app, certs = App(), files()
    options = {"ssl_certfile": certs.cert, "ssl_keyfile": certs.key, "proxy_protocol": True}
    more = f"send-proxy-v2 ssl verify required ca-file {certs.ca} sni str(localhost) verifyhost localhost check"
    async with fastasgi.serve(app, port=0, lifespan="off", log_config=None, **options) as server:
        upstream = server.url.removeprefix("https://")
        with haproxy(tmp_path, upstream, "", mode="tcp", more=more) as front:
            async with client(front) as http:
                for _ in range(3):
                    answer = await within(http.post("/x", content=b"abc", headers=EVIL))
                    assert answer.status_code == 200 and answer.text.startswith("3 ")
    assert {scope["client"][0] for scope in app.scopes} == {CLIENT}
    assert {(scope["scheme"], scope["server"]) for scope in app.scopes} == {("https", front)}
