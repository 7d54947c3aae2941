"""Wire cases over real sockets: on our own and on those of asyncio's transports, on both event loops."""

import asyncio
import contextlib
import gc
import random
import socket

import pytest
from drive import turn
from wire import BY_NAME, CASES, byte_by_byte, in_pieces
from wire_serve import SOCKET_TIMEOUT_S, Recorder, check_outcome, made_to_end, over_socket

from fastasgi._http1 import Http1
from fastasgi._poller import Poller
from fastasgi._runtime import Runtime
from fastasgi._transport import TransportChannel
from fastasgi.config import Config

# Byte by byte up to here; longer ones in pieces.
MOST_SINGLE_BYTES = 120
# The event loop is asyncio's here; every so many cases run on uvloop too.
EVERY = 8
CLOSE_TIMEOUT_S = 5.0


@contextlib.asynccontextmanager
async def listening(kind, recorder, case):
    """A Runtime, and the address of its server on 127.0.0.1, whose channels are "socket" or "transport"."""
    loop = asyncio.get_running_loop()
    options = {name: value for name, value in case.limits.items() if hasattr(Config, name)}
    config = Config(recorder, access_log=False, log_config=None, **options)
    config.load()
    runtime = Runtime(config, recorder, loop, handler_factory=Http1)
    runtime.tick()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        address = listener.getsockname()
        if kind == "socket":
            poller = Poller(runtime)
            poller.listen(listener)
            try:
                yield runtime, address
                poller.stop_listening()
                await end(runtime)
            finally:
                runtime.abort()
                await turn(2)  # a failing case leaves nothing for a later test to find
                poller.close()
        else:
            server = await loop.create_server(lambda: TransportChannel(runtime), sock=listener)
            try:
                yield runtime, address
                server.close()
                await end(runtime)
            finally:
                runtime.abort()
                server.close()
                await turn(2)


async def end(runtime):
    """Nothing may be left when all clients have gone."""
    runtime.abort()
    await asyncio.wait_for(runtime.wait_closed(), CLOSE_TIMEOUT_S)
    assert (runtime.connections, runtime.requests_active) == (0, 0)


async def run_case(kind, case):
    """The case whole and cut, over one server."""
    recorder = Recorder()
    case = made_to_end(case)
    rng = random.Random(case.name)
    if len(case.send) <= MOST_SINGLE_BYTES:
        single = byte_by_byte(case.send)
    else:
        single = in_pieces(case.send, rng, max(40, len(case.send) // 20))
    at = rng.randint(1, max(1, len(case.send) - 1))
    async with listening(kind, recorder, case) as (_, address):
        for way, chunks in (("whole", [case.send]), ("in pieces", single),
                            (f"cut at {at}", [case.send[:at], case.send[at:]])):  # fmt: skip
            try:
                check_outcome(case, await over_socket(case, chunks, address, recorder))
            except AssertionError as error:
                error.add_note(f"{way}: {case.send[:300]!r}")
                raise


def by_case(cases):
    return pytest.mark.parametrize("case", [pytest.param(one, id=one.name) for one in cases])


@pytest.mark.parametrize("kind", ["socket", "transport"])
@by_case(CASES)
async def test_case_over_socket(kind, case):
    """The same over real sockets, on asyncio's loop."""
    await run_case(kind, case)


@pytest.mark.parametrize("kind", ["socket", "transport"])
@by_case(CASES[::EVERY])
async def test_case_on_each_loop(kind, case, event_loop_kind):
    """A sample of them on uvloop too."""
    await run_case(kind, case)


@pytest.mark.pins("response.half-close")
@pytest.mark.parametrize("kind", ["socket", "transport"])
@pytest.mark.parametrize("send", [b"GE", b"\x00", b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nab"])
async def test_half_closed_client_is_let_go(kind, send, event_loop_kind):
    """Once the client's FIN is here nothing lingers for another one, and nobody waits for a tick or a collector."""
    loop = asyncio.get_running_loop()
    async with listening(kind, Recorder(), BY_NAME["host-present"]) as (runtime, address):
        with socket.socket() as client:
            client.setblocking(False)
            await loop.sock_connect(client, address)
            await loop.sock_sendall(client, send)
            client.shutdown(socket.SHUT_WR)
            while await asyncio.wait_for(loop.sock_recv(client, 65536), SOCKET_TIMEOUT_S):
                pass
            await turn(5)
            assert runtime.connections == 0


@pytest.mark.parametrize("kind", ["socket", "transport"])
async def test_half_closed_connection_is_not_garbage(kind, only_new):
    """A client that has ended its side still waits for its answer when the collector runs."""
    loop = asyncio.get_running_loop()
    answer_now = None

    async def app(scope, receive, send):
        nonlocal answer_now
        answer_now = loop.create_future()
        await answer_now
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    async with listening(kind, app, BY_NAME["host-present"]) as (runtime, address):
        with socket.socket() as client:
            client.setblocking(False)
            await loop.sock_connect(client, address)
            await loop.sock_sendall(client, BY_NAME["host-present"].send)
            client.shutdown(socket.SHUT_WR)
            for _ in range(20):
                await turn(5)
                gc.collect()
            assert runtime.connections == 1
            answer_now.set_result(None)
            assert b" 204 " in await asyncio.wait_for(loop.sock_recv(client, 65536), SOCKET_TIMEOUT_S)
