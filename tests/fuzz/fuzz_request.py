"""Any bytes give a parse, or one error with a status; never a crash, a leak,
or an answer that depends on where the bytes were cut.

    python tests/fuzz/fuzz_request.py --seconds 60 [--seed N]

Besides, what is told is what `model` makes of llhttp's word. A failing input is made small and printed.
"""

import os
import random
import resource
import sys
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[2]), str(Path(__file__).resolve().parents[1])]

from model import KEEP, agrees  # noqa: E402
from wire import CASES, byte_by_byte, fold, in_pieces, until_close  # noqa: E402

from fastasgi._probe import parse  # noqa: E402
from fuzz.command import Shrinking, command  # noqa: E402
from fuzz.mutation import mutate  # noqa: E402

STATUSES = {400, 413, 414, 417, 431, 501, 505}
CORPUS = sorted({case.send for case in CASES if len(case.send) < 2000})
LIMITS = [
    None,
    None,
    KEEP,
    KEEP,
    KEEP,
    {"underscore_headers": "drop"},
    {"limit_request_line": 32},
    {"limit_request_head": 128},
    {"limit_request_headers": 3},
    {"limit_request_body": 4},
    {"limit_chunk_extension": 4},
    {"limit_request_line": 32, "limit_request_head": 64, "limit_request_headers": 2, "limit_request_body": 8},
]
MODEL_EVERY = 8  # the model costs a hundred parses
LEAK_ALLOWED_KIB = 4096
# A sanitizer keeps what was freed for a while, and looks for leaks itself.
IS_SANITIZED = "libasan" in os.environ.get("LD_PRELOAD", "")
WARM_UP = 2000


def check(data: bytes, limits: dict | None, rng: random.Random, *, with_model: bool) -> None:
    """The invariant for one input. Raises AssertionError."""
    whole = until_close(fold(parse([data], limits)))
    assert whole.error is None or whole.error[0] in STATUSES, f"status {whole.error}"
    cuts = [byte_by_byte(data), in_pieces(data, rng, 40), in_pieces(data, rng, 400)]
    at = rng.randint(0, len(data))
    cuts.append([data[:at], data[at:]])
    for chunks in cuts:
        got = until_close(fold(parse(chunks, limits)))
        assert got == whole, f"cut at {[len(chunk) for chunk in chunks]}\ncut:   {got}\nwhole: {whole}"
    if with_model and limits is KEEP:
        agrees(data, whole)


def failure_of(data: bytes, limits: dict | None, seed: int) -> AssertionError | None:
    """How the invariant fails for these bytes, tried with a few ways to cut them."""
    for attempt in range(5):
        try:
            check(data, limits, random.Random(seed + attempt), with_model=True)
        except AssertionError as error:
            return error
    return None


def report(data: bytes, limits: dict | None, seed: int, error: AssertionError) -> str:
    """A text that lets a developer repeat the failure."""
    small = Shrinking(data)
    for shorter in small.shorter():
        if failure_of(shorter, limits, seed) is not None:
            small.data = shorter
    found = failure_of(small.data, limits, seed) or error
    return f"seed {seed}, limits {limits}\ninput {small.data!r}\n{found}"


def run(seconds: float, seed: int) -> int:
    """Try inputs for so long; return how many. Raises AssertionError with a report on the first failure."""
    rng = random.Random(seed)
    end = time.monotonic() + seconds
    tried, pool, peak_kib = 0, list(CORPUS), 0
    while time.monotonic() < end or tried < 10:
        data, limits = mutate(rng, rng.choice(pool), CORPUS), rng.choice(LIMITS)
        cut_seed = rng.randrange(1 << 30)
        try:
            check(data, limits, random.Random(cut_seed), with_model=tried % MODEL_EVERY == 0)
        except AssertionError as error:
            raise AssertionError(f"run with --seed {seed}: " + report(data, limits, cut_seed, error)) from None
        if rng.random() < 0.02:
            pool[rng.randrange(len(pool))] = data  # changes build on changes
        tried += 1
        if tried == WARM_UP:
            peak_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak_kib if peak_kib else 0
    leaks = grown >= LEAK_ALLOWED_KIB and not IS_SANITIZED
    assert not leaks, f"run with --seed {seed}: {grown} KiB grown over {tried - WARM_UP} inputs"
    return tried


if __name__ == "__main__":
    command(run, __doc__)
