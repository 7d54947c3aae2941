"""Any bytes on a connection get whole answers and an end, or wait for more; never a crash, a leak,
or an answer that depends on where the bytes were cut.

    python tests/fuzz/fuzz_http1.py --seconds 60 [--seed N]
"""

import asyncio
import random
import sys
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[2]), str(Path(__file__).resolve().parents[1])]

from cases import Case  # noqa: E402
from drive import Bench, serving  # noqa: E402
from wire import byte_by_byte, in_pieces  # noqa: E402
from wire_serve import Outcome, Recorder, in_memory  # noqa: E402

from fuzz.command import Shrinking, command  # noqa: E402
from fuzz.fuzz_request import CORPUS  # noqa: E402
from fuzz.mutation import mutate  # noqa: E402

# WebSockets are off: what they make of any bytes, fuzz_frames.py asks.
STATUSES = {200, 400, 408, 413, 414, 417, 431, 501, 505}
OPTIONS = [
    {},
    {"limit_request_line": 64, "limit_request_head": 256, "limit_request_headers": 4},
    {"limit_request_body": 8, "limit_chunk_extension": 8, "limit_unread_body": 4},
]
INPUTS_PER_RUNTIME = 200
PAUSES = (0, 0, 3)


async def outcomes(bench: Bench, data: bytes, cut_seed: int) -> list[tuple[list[int], Outcome]]:
    """The same bytes, whole and cut in some ways, with turns of the loop between the pieces or not."""
    rng = random.Random(cut_seed)
    bench.app.pause_turns = rng.choice(PAUSES)
    ways = [[data], byte_by_byte(data), in_pieces(data, rng, 30), in_pieces(data, rng, 200)]
    found = []
    for chunks in ways:
        case = Case("fuzz", (), "", data)
        outcome = await in_memory(case, chunks, bench, turns=rng.choice((0, 0, 1)))
        found.append(([len(chunk) for chunk in chunks], outcome))
    return found


async def failure_of(bench: Bench, data: bytes, cut_seed: int) -> str:
    """How the invariant fails for these bytes, or an empty text."""
    try:
        found = await outcomes(bench, data, cut_seed)
    except AssertionError as error:
        return str(error) or repr(error)
    _, whole = found[0]
    strange = {status for status, _ in whole.answers} - STATUSES
    if strange:
        return f"statuses {strange}: {whole.raw!r}"
    for sizes, outcome in found[1:]:
        if outcome != whole:
            return f"cut at {sizes}\ncut:   {outcome}\n       {outcome.raw!r}\nwhole: {whole}\n       {whole.raw!r}"
    return ""


async def report(bench: Bench, data: bytes, cut_seed: int) -> str:
    """A text that lets a developer repeat the failure."""
    small = Shrinking(data)
    for shorter in small.shorter():
        if await failure_of(bench, shorter, cut_seed):
            small.data = shorter
    return f"input {small.data!r}\n{await failure_of(bench, small.data, cut_seed)}"


async def fuzz(seconds: float, seed: int) -> int:
    """Try inputs for so long; return how many. Raises AssertionError with a report on the first failure."""
    rng = random.Random(seed)
    end, tried = time.monotonic() + seconds, 0
    complaints = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    while time.monotonic() < end or not tried:
        recorder, options = Recorder(), rng.choice(OPTIONS)
        recorder.reads = rng.random() < 0.8
        async with serving(recorder, ws="none", **options) as bench:  # leaving it looks for leaks
            bench.app = recorder
            for _ in range(INPUTS_PER_RUNTIME):
                data, cut_seed = mutate(rng, rng.choice(CORPUS), CORPUS), rng.randrange(1 << 30)
                if await failure_of(bench, data, cut_seed):
                    text = await report(bench, data, cut_seed)
                    raise AssertionError(f"run with --seed {seed}: options {options}, cuts {cut_seed}\n{text}")
                assert not complaints, f"run with --seed {seed}: {data!r}: {complaints}"
                tried += 1
                if time.monotonic() > end:
                    break
    return tried


def run(seconds: float, seed: int) -> int:
    """The same on a loop of its own."""
    with asyncio.Runner() as runner:
        return runner.run(fuzz(seconds, seed))


if __name__ == "__main__":
    command(run, __doc__)
