"""Wire cases over real sockets: on our own and on those of asyncio's transports, on both event loops."""

import asyncio
import contextlib
import random
import socket

import pytest
from drive import turn
from fastasgi._http1 import Http1
from fastasgi._runtime import Runtime
from fastasgi._poller import Poller
from fastasgi._transport import TransportChannel
from wire import CASES, byte_by_byte, in_pieces
from wire_serve import Recorder, check_outcome, made_to_end, over_socket

from fastasgi.config import Config

# Byte by byte up to here; longer ones in pieces.
MOST_SINGLE_BYTES = 120
# The event loop is asyncio's here; every so many cases run on uvloop too.
EVERY = 8
CLOSE_TIMEOUT_S = 10.0


@contextlib.asynccontextmanager
async def listening(kind, recorder, case):
    """The address of a server on 127.0.0.1 whose channels are "socket" or "transport"."""
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
                yield address
                poller.stop_listening()
                await end(runtime)
            finally:
                runtime.abort()
                await turn(2)  # a failing case leaves nothing for a later test to find
                poller.close()
        else:
            server = await loop.create_server(lambda: TransportChannel(runtime), sock=listener)
            try:
                yield address
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
    async with listening(kind, recorder, case) as address:
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
