"""How far a run is: a bar with the time left on a terminal, plain lines elsewhere."""

import os
import sys
import time
from collections.abc import Callable
from typing import Self, TextIO

BAR_CELLS = 24
WIDTH = 80
FULL, EMPTY = "#", "."
CLEAR = "\r\x1b[K"


class Bar:
    """One line that is written over while a run lasts; lines that stay come above it.

    Where the stream is no terminal nothing is written over: each step that begins is a line with how far the run is.
    Nothing else may write to the stream meanwhile.
    """

    def __init__(
        self, total: int, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`total` is how many rounds there are to do."""
        self.total = total
        self.finished = 0
        self._stream = sys.stderr if stream is None else stream
        self._clock = clock
        self._began = clock()
        self._text = ""
        self._is_live = self._stream.isatty() and os.environ.get("TERM") != "dumb"
        self._is_drawn = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *reason: object) -> None:
        self.close()

    def doing(self, text: str) -> None:
        """Say what is being done from now on."""
        self._text = text
        if self._is_live:
            self._draw()
        else:
            self._line(f"[{self.finished}/{self.total}] {text}")

    def advance(self, steps: int = 1) -> None:
        """So many rounds are over, or will not take place."""
        self.finished = min(self.total, self.finished + steps)
        if self._is_live:
            self._draw()

    def say(self, line: str) -> None:
        """A line that stays."""
        self._clear()
        self._line(line)
        if self._is_live and self._text:
            self._draw()

    def close(self) -> None:
        """Take the bar away; what stays stays."""
        self._clear()
        self._text = ""
        self._stream.flush()

    @property
    def left_s(self) -> float | None:
        """How long the rest will take if it goes on like this; None before the first round is over."""
        if not self.finished:
            return None
        return (self._clock() - self._began) / self.finished * (self.total - self.finished)

    def _draw(self) -> None:
        width = self._width()
        self._stream.write(CLEAR + self.line()[: max(0, width - 1)])
        self._stream.flush()
        self._is_drawn = True

    def _width(self) -> int:
        # Not of stdout, which may go to a file while the bar is on a terminal.
        if columns := os.environ.get("COLUMNS", ""):
            return int(columns) if columns.isdecimal() else WIDTH
        try:
            return os.get_terminal_size(self._stream.fileno()).columns or WIDTH
        except (OSError, ValueError):
            return WIDTH

    def line(self) -> str:
        """The bar as it stands."""
        done = self.finished / self.total if self.total else 1.0
        cells = int(done * BAR_CELLS)
        left = "" if self.left_s is None else f", {duration(self.left_s)} left"
        return f"[{FULL * cells}{EMPTY * (BAR_CELLS - cells)}] {done:4.0%}{left}  {self._text}"

    def _clear(self) -> None:
        if self._is_drawn:
            self._stream.write(CLEAR)
            self._is_drawn = False

    def _line(self, text: str) -> None:
        self._stream.write(text + "\n")
        self._stream.flush()


def duration(seconds: float) -> str:
    """`40 s`, `12 min`, `1 h 05 min`: as exact as an estimate can be."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"
