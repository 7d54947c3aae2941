"""What the fuzz targets share: the command line, and how a failing input is made small."""

import argparse
import logging
import random
import sys
from collections.abc import Callable, Iterator


class Shrinking:
    """A failing input, `data`. Who finds that one of `shorter()` fails too puts it in its place."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def shorter(self) -> Iterator[bytes]:
        """The input without one piece, for each place and smaller and smaller pieces."""
        n = max(1, len(self.data) // 2)
        while n:
            at = 0
            while at < len(self.data):
                before = self.data
                yield before[:at] + before[at + n :]
                if self.data is before:
                    at += n
            n //= 2


def command(run: Callable[[float, int], int], about: str) -> None:
    """The command line of a target: `run(seconds, seed)` tries inputs for so long and returns how many."""
    parser = argparse.ArgumentParser(description=about.partition("\n\n")[0])
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=None)
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)
    seed = random.SystemRandom().randrange(1 << 32) if options.seed is None else options.seed
    print(f"seed {seed}", flush=True)
    try:
        print(f"{run(options.seconds, seed)} inputs, no failure")
    except AssertionError as error:
        sys.exit(str(error))
