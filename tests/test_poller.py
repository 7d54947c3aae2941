"""When output leaves that tasks give outside of a batch: a lone answer at once, those of a burst with the turn."""

import asyncio
import contextlib
import socket
import sys

import pytest
from drive import BODY, GET, START, request, turn
from net import listening

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="epoll is Linux's")

MAX_DEFERRED = 64
NEAR_S = 250e-6
DEFER_S = 1e-3
MIB = 1 << 20
DEFERRED_MIB = 8
LARGE = {"type": "http.response.body", "body": bytes(MIB)}


class Parked:
    """An application whose requests wait until the test answers them, in whatever order and turn it likes."""

    def __init__(self):
        self.sends = {}
        self.ended = asyncio.Event()

    async def __call__(self, scope, receive, send):
        self.sends[scope["client"]] = send
        await self.ended.wait()

    async def answer(self, client, message=BODY):
        """Answer the request of this client; the loop does not turn meanwhile."""
        send = self.sends.pop(client.sock.getsockname())
        await send(START)
        await send(message)


@contextlib.asynccontextmanager
async def parked(count):
    """A server, its application, and clients who all wait for their answers."""
    app = Parked()
    async with listening(app, "socket") as net:
        clients = [await net.dial() for _ in range(count)]
        for client in clients:
            await client.send(GET)
        await net.until(lambda: len(app.sends) == count)
        net.clock.advance(1)
        yield net, app, clients
        app.ended.set()
        await turn()


def arrived(clients):
    """Which of the clients have an answer, by number; nothing is waited for."""
    found = []
    for number, client in enumerate(clients):
        with contextlib.suppress(BlockingIOError):
            assert client.sock.recv(1000).startswith(b"HTTP/1.1 200 OK\r\n")
            found.append(number)
    return found


async def test_answers_of_one_turn_leave_together(event_loop_kind):
    """The first does not know of the others; they leave when the turn has run what it had to run."""
    async with parked(5) as (_, app, clients):
        for client in clients:
            await app.answer(client)
        assert arrived(clients) == [0]
        await turn()
        assert arrived(clients) == [1, 2, 3, 4]


async def test_a_lone_answer_leaves_at_once(event_loop_kind):
    async with parked(3) as (net, app, clients):
        for number, client in enumerate(clients):
            net.clock.advance(2 * NEAR_S)
            await app.answer(client)
            assert arrived(clients) == [number]


async def test_answers_of_one_connection_are_no_burst(event_loop_kind):
    """A client that asks again as soon as it is answered has nobody to leave with."""
    async with parked(1) as (net, app, (client,)):
        for _ in range(3):
            await app.answer(client)
            assert arrived([client]) == [0]
            await client.send(GET)
            await net.until(lambda: app.sends)
        await app.answer(client)


async def test_a_burst_waits_no_longer_than_a_millisecond(event_loop_kind):
    """Where the tasks of one turn take long, each that comes later sends off those before it."""
    async with parked(4) as (net, app, clients):
        for client in clients[:3]:
            await app.answer(client)
        assert arrived(clients) == [0]
        net.clock.advance(2 * DEFER_S)
        await app.answer(clients[3])
        assert arrived(clients) == [1, 2]
        await turn()
        assert arrived(clients) == [3]


async def test_no_more_than_so_many_channels_wait(event_loop_kind):
    async with parked(MAX_DEFERRED + 2) as (_, app, clients):
        for client in clients:
            await app.answer(client)
        assert arrived(clients) == list(range(MAX_DEFERRED + 1))
        await turn()
        assert arrived(clients) == [MAX_DEFERRED + 1]


async def test_large_answers_that_are_whole_leave_together(event_loop_kind):
    async with parked(3) as (_, app, clients):
        for client in clients:
            await app.answer(client, LARGE)
        assert arrived(clients) == [0]
        await turn()
        assert arrived(clients[1:]) == [0, 1]


async def test_no_more_than_so_many_bytes_wait(event_loop_kind):
    async with parked(DEFERRED_MIB + 2) as (_, app, clients):
        for client in clients:
            await app.answer(client, LARGE)
        assert arrived(clients) == list(range(DEFERRED_MIB + 1))
        await turn()
        assert arrived(clients[-1:]) == [0]


async def test_an_answer_of_more_bytes_leaves_at_once(event_loop_kind):
    async with parked(2) as (_, app, clients):
        await app.answer(clients[0])
        await app.answer(clients[1], {**LARGE, "body": bytes((DEFERRED_MIB + 1) * MIB)})
        assert arrived(clients) == [0, 1]


@pytest.mark.parametrize("how", ["reset", "fin"])
async def test_a_client_that_leaves_before_the_turn_ends(event_loop_kind, how):
    """Its answer has nowhere to go; those that wait with it are sent."""
    async with parked(3) as (_, app, clients):
        for client in clients:
            await app.answer(client)
        clients[1].reset() if how == "reset" else clients[1].shut()
        await turn(3)
        assert arrived([clients[2]]) == [0]


async def test_an_abort_takes_along_what_waits(event_loop_kind):
    """The channel is closed before the turn ends: its output leaves first, and the list holds no dead channel."""
    async with parked(3) as (net, app, clients):
        for client in clients:
            await app.answer(client)
        net.runtime.abort()
        assert arrived(clients) == [0, 1, 2]
        await turn(2)
        assert net.runtime.connections == 0


@pytest.mark.pins("response.write-backpressure")
async def test_pipelined_large_answers_to_a_stopped_reader(event_loop_kind):
    """One large answer may wait, not the next behind it: first it is found out whether the peer takes them."""
    served = 0
    fresh = MIB // 2

    async def app(scope, receive, send):
        nonlocal served
        served += 1
        await send(START)
        await send({"type": "http.response.body", "body": bytes(fresh)})

    async with listening(app, "socket") as net:
        client = await net.dial(receive_buffer=4096)
        await client.send(GET * 16)
        await net.until(lambda: served)
        await turn(20)
        in_kernel = client.sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) + 4 * MIB  # what it may take at most
        assert served * fresh <= in_kernel + 2 * fresh


async def test_overdue_output_of_the_queue_leaves_between_channels(event_loop_kind):
    """Requests behind many are served from the queue, and one that takes long sends off the answers before it."""
    clients, seen = [], []

    async def app(scope, receive, send):
        if scope["path"] == "/last":
            seen.append([b"the last" in client.sock.recv(MIB, socket.MSG_PEEK) for client in clients])
            net.clock.advance(2 * DEFER_S)
        await send(START)
        await send({**BODY, "body": b"the last" if scope["path"] == "/last" else b""})

    async with listening(app, "socket") as net:
        clients += [await net.dial() for _ in range(3)]
        for client in clients:
            await client.send(GET * 20 + request(target="/last"))
        await net.until(lambda: len(seen) == 3)
        await turn(2)
    assert sorted(map(sum, seen)) == [0, 1, 2]
