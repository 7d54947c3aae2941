"""Connections that are ready together: they are read one after the other, before the first of them is served."""

import array
import asyncio
import contextlib
import fcntl
import hashlib
import logging
import os
import socket
import sys
import termios
import time

import pytest
from drive import BODY, GET, START, drain_body, request, turn
from net import PATIENCE_S, listening
from ws import CLOSE, answer_to, closing, talking, text

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="epoll is Linux's")

at_once = pytest.mark.skipif(
    sys.version_info < (3, 12), reason="no eager tasks: applications run after the batch"
)

MAX_AHEAD = 32
BUFFER_BYTES = 64 * 1024
DEFER_S = 1e-3
MANY = 2 * MAX_AHEAD + 5


async def connect(net, count):
    """So many clients, whose connections are all accepted."""
    clients = [await net.dial() for _ in range(count)]
    await net.until(lambda: net.runtime.connections == count)
    await turn()
    return clients


def send_together(clients, *pieces):
    """Let each send its piece, or all the only one, while the loop does not turn."""
    for number, client in enumerate(clients):
        piece = pieces[number % len(pieces)]
        assert client.sock.send(piece) == len(piece)
    # On a loaded machine the kernel may pass them on a little later.
    end = time.monotonic() + PATIENCE_S
    while not all(unread(fd) for fd in server_sides(clients)):
        assert time.monotonic() < end, "not all that was sent has arrived"


def server_sides(clients):
    """The server's descriptor for each client."""
    names = {client.sock.getsockname(): client for client in clients}
    found = {}
    for fd in range(3, max(client.sock.fileno() for client in clients) + 2 * len(clients) + 50):
        try:
            sock = socket.socket(fileno=fd)
        except OSError:
            continue
        try:
            client = names.get(sock.getpeername())
        except OSError:
            client = None
        sock.detach()
        if client is not None:
            found[client] = fd
    return [found[client] for client in clients]


def unread(fd):
    """Bytes that the kernel holds for this descriptor."""
    count = array.array("i", [0])
    fcntl.ioctl(fd, termios.FIONREAD, count)
    return count[0]


@at_once
async def test_a_run_is_read_before_the_first_is_served(event_loop_kind):
    """And no more than a run."""
    left = []

    async def app(scope, receive, send):
        left.append([bool(unread(fd)) for fd in fds])
        await send(START)
        await send(BODY)

    async with listening(app, "socket") as net:
        clients = await connect(net, MAX_AHEAD + 3)
        fds = server_sides(clients)
        send_together(clients, GET)
        await net.until(lambda: len(left) == len(clients))
    assert sum(left[0]) == 3
    assert sum(left[MAX_AHEAD - 1]) == 3
    assert sum(left[MAX_AHEAD]) == 0


@pytest.mark.parametrize("count", [1, 2, MAX_AHEAD, MAX_AHEAD + 1, MANY])
async def test_each_gets_its_own_answer(event_loop_kind, count):
    async def app(scope, receive, send):
        path = scope["raw_path"]
        await send(START)
        await send({**BODY, "body": path * (len(path) % 7)})

    async with listening(app, "socket") as net:
        clients = await connect(net, count)
        for turn_number in range(3):
            paths = [b"/%d/%d/" % (turn_number, n) + b"x" * (37 * n % 1500) for n in range(count)]
            send_together(clients, *(request(target=path.decode()) for path in paths))
            for client, path in zip(clients, paths):
                assert (await client.answer()).body == path * (len(path) % 7)


async def test_pieces_of_heads_and_pipelined_requests_among_them(event_loop_kind):
    """What came of one connection is none of the others' business."""

    async def app(scope, receive, send):
        await send(START)
        await send({**BODY, "body": scope["raw_path"]})

    async with listening(app, "socket") as net:
        clients = await connect(net, 9)
        wholes = [request(target=f"/{n}") + request(target=f"/{n}/b") for n in range(9)]
        send_together(clients, *(whole[: 5 + 7 * n] for n, whole in enumerate(wholes)))
        await turn(3)
        send_together(clients, *(whole[5 + 7 * n :] for n, whole in enumerate(wholes)))
        for n, client in enumerate(clients):
            assert [answer.body for answer in await client.answers(2)] == [b"/%d" % n, b"/%d/b" % n]


@pytest.mark.parametrize("length", ["known", "chunked"])
async def test_bodies_that_fill_the_buffer(event_loop_kind, length):
    """What does not fit beside the others is read when its turn comes, in whatever pieces; nothing is mixed up."""
    bodies = [bytes([n]) * (BUFFER_BYTES // 5 * n + n) for n in range(12)]

    async def app(scope, receive, send):
        body = await drain_body(receive)
        await send(START)
        await send({**BODY, "body": hashlib.sha256(body).digest()})

    def encoded(body):
        if length == "chunked":
            pieces = [body[at : at + 9000] for at in range(0, len(body), 9000)]
            chunks = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
            return request("POST", headers=("Transfer-Encoding: chunked",)) + chunks + b"0\r\n\r\n"
        return request("POST", headers=(f"Content-Length: {len(body)}",)) + body

    async with listening(app, "socket") as net:
        clients = await connect(net, len(bodies))
        requests = [encoded(body) for body in bodies]
        sent = [client.sock.send(data) for client, data in zip(clients, requests)]
        for client, data, n in zip(clients, requests, sent):
            await client.send(data[n:])
        for client, body in zip(clients, bodies):
            assert (await client.answer("POST")).body == hashlib.sha256(body).digest()


@at_once
@pytest.mark.parametrize("how", ["reset", "fin"])
async def test_a_client_that_leaves_while_others_are_served(event_loop_kind, how):
    """What it has sent is there all the same, and a half-closed one is answered."""
    served = []

    async def app(scope, receive, send):
        if not served:
            clients[-1].reset() if how == "reset" else clients[-1].shut()
        served.append(scope["path"])
        await send(START)
        await send(BODY)

    async with listening(app, "socket") as net:
        clients = await connect(net, MAX_AHEAD + 2)
        send_together(clients, GET)
        for client in clients[:-1]:
            assert (await client.answer()).status == 200
        await net.until(lambda: net.runtime.connections == len(clients) - 1)
        assert len(served) == len(clients)
        if how == "fin":
            assert b"200 OK" in await clients[-1].rest()


@at_once
@pytest.mark.parametrize("how", ["reset", "fin", "stays"])
async def test_what_was_told_of_is_not_there(event_loop_kind, how):
    """A descriptor may be told of as ready in vain: its bytes are gone here, and perhaps its client."""
    served = []

    async def app(scope, receive, send):
        if not served:
            assert os.read(fds[-1], 1000) == GET
            if how != "stays":
                clients[-1].reset() if how == "reset" else clients[-1].shut()
        served.append(scope["path"])
        await send(START)
        await send(BODY)

    async with listening(app, "socket") as net:
        clients = await connect(net, MAX_AHEAD + 2)
        fds = server_sides(clients)
        send_together(clients, GET)
        for client in clients[:-1]:
            assert (await client.answer()).status == 200
        assert len(served) == len(clients) - 1
        if how == "stays":
            assert (await clients[-1].answer(data=GET)).status == 200
        await net.until(lambda: net.runtime.connections == len(clients) - (how != "stays"))


@at_once
async def test_bytes_that_come_behind_a_read_in_vain(event_loop_kind):
    """They are for a later turn: received now, they would lie over what others of the run have sent."""
    first, vain = MAX_AHEAD, MAX_AHEAD + 1
    long = request(target="/long" + 2000 * "x")

    async def app(scope, receive, send):
        if scope["path"] == "/0":
            os.read(fds[vain], 1000)
        elif scope["path"] == f"/{first}":
            clients[vain].sock.send(long)
        await send(START)
        await send({**BODY, "body": scope["raw_path"][:5]})

    async with listening(app, "socket") as net:
        clients = await connect(net, MAX_AHEAD + 6)
        fds = server_sides(clients)
        send_together(clients, *(request(target=f"/{number}") for number in range(len(clients))))
        for number, client in enumerate(clients):
            assert (await client.answer()).body == (b"/long" if number == vain else b"/%d" % number)


@at_once
async def test_a_connection_that_is_closed_meanwhile_is_not_served(event_loop_kind):
    """Its bytes are there already, but nobody could be answered."""
    served = []

    async def app(scope, receive, send):
        served.append(scope["path"])
        net.runtime.abort()

    async with listening(app, "socket") as net:
        clients = await connect(net, MAX_AHEAD + 2)
        send_together(clients, GET)
        for client in clients:
            await client.rest()
        assert len(served) == 1


async def test_an_exit_of_the_loops_exception_handler_waits_for_the_others(
    event_loop_kind, monkeypatch, caplog
):
    """An error of one connection is reported, and that may end the process; others are served before."""

    class Broken(logging.Filter):
        def filter(self, record):
            raise RuntimeError("bug of a filter")

    async def app(scope, receive, send):
        await send(START)
        await send(BODY)

    def leave(loop, context):
        raise SystemExit(3)

    loop = asyncio.get_running_loop()
    before = loop.get_exception_handler()
    caplog.set_level(logging.INFO, "fastasgi.error")
    monkeypatch.setattr(logging.getLogger("fastasgi.error"), "filters", [Broken()])
    async with listening(app, "socket") as net:
        clients = await connect(net, 5)
        send_together(clients, GET, b"BAD\r\n\r\n", GET, GET, GET)
        loop.set_exception_handler(leave)
        with pytest.raises(SystemExit):
            net.poller.run()
        loop.set_exception_handler(before)
        assert await clients.pop(1).rest() == b""
        for client in clients:
            assert (await client.answer()).status == 200
            assert (await client.answer(data=GET)).status == 200


@at_once
async def test_a_drain_that_begins_among_them(event_loop_kind):
    """What was sent before is answered, whether it is read already or still in the kernel; only then they close."""

    async def app(scope, receive, send):
        net.runtime.drain()
        await send(START)
        await send(BODY)

    async with listening(app, "socket") as net:
        *clients, idle = await connect(net, MAX_AHEAD + 4)
        send_together(clients, GET)
        assert await idle.rest() == b""
        for client in clients:
            assert (await client.answer()).status == 200
            assert await client.rest() == b""


@at_once
async def test_an_application_that_turns_the_loop_itself(event_loop_kind):
    """As nest_asyncio lets it: nothing is received meanwhile, over what others have sent and are still to be served."""

    async def app(scope, receive, send):
        if scope["path"] == "/0":
            late.sock.send(request(target="/late" + 2000 * "x"))
        net.poller.run()
        net.poller.run_queue()
        await send(START)
        await send({**BODY, "body": scope["raw_path"][:5]})

    async with listening(app, "socket") as net:
        *clients, late = await connect(net, 9)
        send_together(clients, *(request(target=f"/{number}") for number in range(8)))
        for number, client in enumerate(clients):
            assert (await client.answer()).body == b"/%d" % number
        assert (await late.answer()).body == b"/late"


@at_once
async def test_overdue_answers_leave_before_the_next_is_served(event_loop_kind):
    """That their requests were read together does not make the quick ones wait for the slow ones."""
    seen = []

    async def app(scope, receive, send):
        arrived = 0
        for client in clients:
            try:
                arrived += client.sock.recv(100, socket.MSG_PEEK) != b""
            except BlockingIOError:
                continue
        seen.append(arrived)
        net.clock.advance(2 * DEFER_S)
        await send(START)
        await send(BODY)

    async with listening(app, "socket") as net:
        clients = await connect(net, 5)
        send_together(clients, GET)
        await net.until(lambda: len(seen) == 5)
    assert seen == [0, 1, 2, 3, 4]


async def test_sessions_among_them(event_loop_kind):
    """A message to those whose own are in the buffer reaches them; one that fails, and one that leaves, end alone."""
    sends = []

    async def app(scope, receive, send):
        if scope["type"] == "http":
            await send(START)
            await send(BODY)
            return
        assert (await receive())["type"] == "websocket.connect"
        await send({"type": "websocket.accept"})
        sends.append(send)
        while (event := await receive())["type"] == "websocket.receive":
            for each in sends if event["text"] == "to all" else [send]:
                with contextlib.suppress(OSError):
                    await each({"type": "websocket.send", **answer_to(event)})

    async with talking(app, "socket") as talk:
        tells, fails, leaves, halved, *others = [await talk.open() for _ in range(6)]
        asks = await talk.connect()
        pieces = {
            tells: text("to all"),
            fails: text("unmasked", mask=None),
            asks: GET,
            leaves: closing(1000),
            halved: text("late")[:4],
            others[0]: text("1") + text("2"),
            others[1]: text("3") + text("4")[:1],
        }
        send_together([wire.client for wire in pieces], *pieces.values())
        assert (await asks.answer()).status == 200
        for wire, code in ((fails, 1002), (leaves, 1000)):
            assert set(await payloads_until_close(wire, code)) <= {b"to all"}
        for wire, own in ((tells, []), (halved, []), (others[0], [b"1", b"2"]), (others[1], [b"3"])):
            got = [(await wire.message()).payload for _ in range(1 + len(own))]
            got.remove(b"to all")
            assert got == own
        await halved.send(text("late")[4:])
        await others[1].send(text("4")[1:])
        assert (await halved.message()).payload == b"late"
        assert (await others[1].message()).payload == b"4"


async def payloads_until_close(wire, code):
    """What comes before the server's close frame, and the end of the connection."""
    payloads = []
    while (frame := await wire.frame()).opcode != CLOSE:
        payloads.append(frame.payload)
    assert frame.code == code
    await wire.expect_end()
    return payloads
