"""Any bytes of a client on an open WebSocket come to the same messages, pongs and close code however they were cut;
never a crash, a leak, or a frame behind the close frame; and those of whole frames to what `websockets` makes of them.

    python tests/fuzz/fuzz_frames.py --seconds 60 [--seed N]
"""

import asyncio
import random
import sys
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[2]), str(Path(__file__).resolve().parents[1])]

from drive import Bench, serving  # noqa: E402
from wire import in_pieces  # noqa: E402
from ws import CLOSE, CONTINUATION, PING, TEXT, binary, closing, deflated, frame, text  # noqa: E402
from ws_oracle import FAILURES, INFLATION, Outcome, difference, expected, observed, switching  # noqa: E402

from fuzz.command import Shrinking, command  # noqa: E402
from fuzz.mutation import mutate  # noqa: E402

MAX_SIZE = 600
CODES = {None, 1000, 1001, 1002, 1003, 1005, 1007, 1009, 1011, *range(3000, 5000), 1008, 1010, 1012, 1013, 1014}
WORDS = b"lorem ipsum dolor sit amet " * 10
ZEROS = b"\0\0\0\0"  # a mask that leaves payloads readable, so that changes hit what they mean
CORPUS = sorted({
    text("hi", mask=ZEROS), text("é日🎉", mask=ZEROS), binary(bytes(range(256)), mask=ZEROS),
    text(WORDS, mask=ZEROS), frame(PING, b"ping", mask=ZEROS) + text("x"), closing(1000, "bye", mask=ZEROS),
    closing(mask=ZEROS), text("a") + closing(4000) + text("b"),
    frame(TEXT, b"a", fin=False, mask=ZEROS) + frame(CONTINUATION, b"b", mask=ZEROS),
    frame(TEXT, b"\xe6", fin=False) + frame(PING) + frame(CONTINUATION, b"\x97\xa5"),
    frame(TEXT, deflated(WORDS, window_bits=12), rsv=4, mask=ZEROS),
    frame(TEXT, deflated(WORDS, window_bits=12)[:7], fin=False, rsv=4, mask=ZEROS)
    + frame(CONTINUATION, deflated(WORDS, window_bits=12)[7:], mask=ZEROS),
    frame(2, deflated(bytes(5000), window_bits=12), rsv=4, mask=ZEROS),
    binary(bytes(MAX_SIZE), mask=ZEROS), frame(2, b"", size=70_000, mask=ZEROS), frame(CLOSE, b"\x03", mask=ZEROS),
})  # fmt: skip
INPUTS_PER_RUNTIME = 100


async def failure_of(bench: Bench, room_of: dict, data: bytes, cut_seed: int, *, deflate: bool) -> str:
    """How the invariant fails for these bytes, or an empty text."""
    rng = random.Random(cut_seed)
    ways = [[data], [data[at : at + 1] for at in range(len(data))], in_pieces(data, rng, 20), in_pieces(data, rng, 99)]
    first = None
    for chunks in ways:
        try:
            outcome = await observed(bench, room_of, chunks, deflate=deflate, turns=rng.choice((0, 0, 1)))
        except AssertionError as error:
            return f"cut at {[len(chunk) for chunk in chunks]}: {error or repr(error)}"
        if outcome.closed not in CODES:
            return f"closed with {outcome.closed}"
        first = first or outcome
        if outcome != first:
            return f"cut at {[len(chunk) for chunk in chunks]}\ncut:   {outcome}\nwhole: {first}"
    differs = against_library(first, data, deflate=deflate)
    if differs and first.closed is None:
        # The library looks at a length before the mask behind it has come; we do with it.
        later = await observed(bench, room_of, [data + bytes(4)], deflate=deflate)
        return "" if later.closed in (1002, 1009) and later.messages == first.messages else differs
    return differs


def against_library(ours: Outcome, data: bytes, *, deflate: bool) -> str:
    """The library waits for whole frames before it looks at some things, so only what both have judged is compared."""
    theirs = expected(data, max_size=MAX_SIZE, deflate=deflate)
    if b"shortest form" in ours.raw:  # the library takes lengths that are longer than they need be
        return "" if theirs.messages[: len(ours.messages)] == ours.messages else f"ours {ours}\ntheirs {theirs}"
    if deflate and theirs.closed in FAILURES:  # it inflates each fragment by itself, we do when the message is whole
        least = min(len(ours.messages), len(theirs.messages))
        return "" if ours.messages[:least] == theirs.messages[:least] else f"ours {ours}\ntheirs {theirs}"
    if ours.closed is not None and theirs.closed is None:
        known_early = ours.closed in (1002, 1007, 1009)
        same = theirs.messages[: len(ours.messages)] == ours.messages
        return "" if known_early and same else f"ours {ours}\ntheirs {theirs}"
    if {ours.closed, theirs.closed} <= {*INFLATION, 1009} and ours.closed != theirs.closed:
        return ""  # one frame broke two rules
    return difference(ours, theirs)


async def report(bench: Bench, room_of: dict, data: bytes, cut_seed: int, *, deflate: bool) -> str:
    """A text that lets a developer repeat the failure, with as few bytes as do it."""
    small = Shrinking(data)
    for shorter in small.shorter():
        if await failure_of(bench, room_of, shorter, cut_seed, deflate=deflate):
            small.data = shorter
    return f"input {small.data!r}\n{await failure_of(bench, room_of, small.data, cut_seed, deflate=deflate)}"


async def fuzz(seconds: float, seed: int) -> int:
    """Try inputs for so long; return how many. Raises AssertionError with a report on the first failure."""
    rng = random.Random(seed)
    end, tried = time.monotonic() + seconds, 0
    complaints: list[dict] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    while time.monotonic() < end or not tried:
        room_of, app = switching()
        async with serving(app, ws_max_size=MAX_SIZE, ws_ping_interval=None) as bench:  # leaving it looks for leaks
            for _ in range(INPUTS_PER_RUNTIME):
                data, cut_seed = mutate(rng, rng.choice(CORPUS), CORPUS), rng.randrange(1 << 30)
                deflate = rng.random() < 0.5
                if await failure_of(bench, room_of, data, cut_seed, deflate=deflate):
                    told = await report(bench, room_of, data, cut_seed, deflate=deflate)
                    raise AssertionError(f"run with --seed {seed}: deflate {deflate}, cuts {cut_seed}\n{told}")
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
