"""An exchange that has ended serves the next request: nothing of the first is there, and nobody else holds it.

In debug builds each one that is renewed is compared, byte by byte, with one that is new (`_exchange.check_renewed`).
"""

import asyncio
import weakref

import pytest
from drive import BODY, DISCONNECT, GET, START, body, request, serving, start, turn

from fastasgi.errors import ClientDisconnected

IS_EAGER = hasattr(asyncio, "eager_task_factory")
"""Before 3.12 a task starts in a later turn of the loop, and its exchange is never renewed."""


async def ask(peer, data=GET):
    """One more request of a connection, and its answer."""
    peer.forget()
    peer.feed(data)
    assert (await peer.answer()).body == b"ok"


def exchange_of(send):
    """The exchange behind a `send`."""
    return send.__self__


class Recording:
    """An application that tells which exchanges it was called for, by identity, and keeps what it is told to."""

    def __init__(self, keep=lambda scope, receive, send: None):
        self.ids, self.kept, self.scopes = [], [], []
        self._keep = keep

    async def __call__(self, scope, receive, send):
        self.ids.append((id(exchange_of(send)), id(send), id(receive)))
        self.kept.append(self._keep(scope, receive, send))
        self.scopes.append(scope)
        if scope["method"] == "POST":
            await receive()
        await send(start(200, [(b"content-length", b"2")]))
        await send(BODY)


async def test_requests_share_one_exchange_one_after_the_other():
    app = Recording()
    async with serving(app) as bench:
        for peer in (bench.connect(), bench.connect()):
            for _ in range(3):
                await ask(peer)
    assert len(set(app.ids)) == 1 or not IS_EAGER


HOLD = {
    "send": lambda scope, receive, send: send,
    "receive": lambda scope, receive, send: receive,
    "the exchange": lambda scope, receive, send: exchange_of(send),
    "a weak reference": lambda scope, receive, send: weakref.ref(send),
    "a coroutine of receive": lambda scope, receive, send: receive(),
}


@pytest.mark.parametrize("what", HOLD)
async def test_what_is_held_is_not_used_again(what):
    """Nobody who keeps something of a request may reach another one with it."""
    app = Recording(HOLD[what])
    async with serving(app) as bench:
        peer = bench.connect()
        for _ in range(3):
            await ask(peer)
        for kept in app.kept:
            if what == "send":
                with pytest.raises(Exception, match=r"nothing more|has gone"):
                    await kept(START)
            elif what == "receive":
                assert await kept() == DISCONNECT
            elif what == "a coroutine of receive":
                assert await kept == DISCONNECT
            elif what == "a weak reference":
                assert kept() is None
        if what in ("send", "receive", "the exchange"):
            assert len({exchange for exchange, _, _ in app.ids}) == 3


async def test_nothing_of_a_request_is_there_for_the_next():
    """Body, status, HEAD, 1.0, Expect, close, lengths: each pair of requests, in both orders."""
    kinds = {
        b"get": (GET, 2),
        b"head": (request("HEAD"), 0),
        b"post": (request("POST", body=b"x" * 3000), 2),
        b"old": (b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", 2),
        b"expecting": (request("POST", headers=("Expect: 100-continue",), body=b"abc"), 2),
        b"query": (request("GET", "/p%20q?secret=1", headers=("Authorization: Basic eDp5",)), 2),
    }

    async def alone(name):
        app = Recording()
        async with serving(app) as bench:
            peer = bench.connect()
            peer.feed(kinds[name][0])
            await turn(3)
            return bytes(peer.channel.take_output()), strip(app.scopes[0])

    def strip(scope):
        return {key: value for key, value in scope.items() if key not in ("client", "server")}

    expected = {name: await alone(name) for name in kinds}
    for first in kinds:
        for second in kinds:
            app = Recording()
            async with serving(app) as bench:
                peer = bench.connect()
                for number, name in enumerate((first, second)):
                    peer.feed(kinds[name][0])
                    await turn(3)
                    assert bytes(peer.channel.take_output()) == expected[name][0], (first, second)
                    assert strip(app.scopes[number]) == expected[name][1], (first, second)


async def test_one_that_failed_is_not_used_again(caplog):
    """After a response that was cut off, and after an error."""
    ids = []

    async def app(scope, receive, send):
        ids.append(id(exchange_of(send)))
        if scope["path"] == "/cut":
            await send(start(200, [(b"content-length", b"9")]))
            await send(body(b"short", False))
        elif scope["path"] == "/raises":
            raise RuntimeError("on purpose")
        else:
            await send(START)
            await send(BODY)

    async with serving(app) as bench:
        for path in ("/", "/cut", "/", "/raises", "/", "/"):
            peer = bench.connect()
            peer.feed(request("GET", path))
            await turn(3)
            output = bytes(peer.channel.take_output())
            assert (b" 500 " in output) == (path == "/raises")
            assert output.endswith(b"ok\r\n0\r\n\r\n") == (path == "/")


async def test_a_client_that_left_is_not_the_next_one(caplog):
    """Disconnected while it was answered; the next request on another connection is alive."""
    seen = []

    async def app(scope, receive, send):
        await send(START)
        if scope["path"] == "/leaves":
            bench.peers[0].lost()
            with pytest.raises(ClientDisconnected):
                await send(BODY)
            seen.append((await receive())["type"])
            return
        await send(BODY)

    async with serving(app) as bench:
        leaving = bench.connect()
        leaving.feed(request("GET", "/leaves"))
        await turn(3)
        peer = bench.connect()
        await ask(peer)
    assert seen == ["http.disconnect"]
