"""What a command prints: lines of its result, and how far a long piece of work is.

Progress is one line that overwrites itself, or a few plain ones: on a terminal the line is
written over and gone at the end; into a file or a pipe a plain line goes at most every ten
seconds, so that a log stays readable.
"""

from __future__ import annotations

import functools
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import TextIO

Log = Callable[[str], None]  # takes a line of text
Progress = Callable[[int, int], None]  # takes what is done, and how much there is in all

PLAIN_EVERY_S, DRAWN_EVERY_S = 10.0, 0.1


class ProgressLine:
    """A line of progress; as a context manager it wipes itself away at the end.

    >>> import io
    >>> stream = io.StringIO()
    >>> with ProgressLine(stream=stream) as line:
    ...     line.counter("reading tiles")(1, 2)
    >>> stream.getvalue()
    ''
    """

    def __init__(
        self,
        *,
        quiet: bool = False,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Write to `stream` (standard error), unless quiet."""
        self.quiet, self.stream, self.clock = quiet, stream or sys.stderr, clock
        self.drawn = self.stream.isatty()
        self.started = self.written = clock()
        self._shown = False

    def show(self, text: str, *, now: bool = False) -> None:
        """Show a text, unless the last one is too fresh; `now` draws on a terminal all the same."""
        if self.quiet:
            return
        time_s = self.clock()
        wait_s = DRAWN_EVERY_S if self.drawn else PLAIN_EVERY_S
        if time_s - self.written < wait_s and not (now and self.drawn):
            return
        self.written = time_s
        if self.drawn:
            width = shutil.get_terminal_size().columns - 1  # a line that wraps cannot be wiped
            self.stream.write("\r\x1b[K" + text[:width])
            self._shown = True
        else:
            self.stream.write(text + "\n")
        self.stream.flush()

    def counter(self, what: str) -> Progress:
        """A function of (done, in all) that shows how far `what` is, and how long it will take."""
        begun = self.clock()

        def tell(done: int, total: int) -> None:
            left_s = (self.clock() - begun) / max(done, 1) * (total - done)
            self.show(f"{what}  {done}/{total}  {duration(left_s)} left")

        return tell

    def close(self) -> None:
        """Wipe the line off the terminal."""
        if self._shown:
            self.stream.write("\r\x1b[K")
            self.stream.flush()
            self._shown = False

    def __enter__(self) -> ProgressLine:
        """Hand out the line."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Wipe the line away, whatever happened."""
        self.close()


def duration(seconds: float) -> str:
    """A length of time in two figures or so.

    >>> [duration(s) for s in (0.04, 2.14, 70, 3700, 90000)]
    ['0.0 s', '2.1 s', '70 s', '62 min', '25 h']
    """
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.0f} h"


def say(line: str) -> None:
    """A line of the result, at once, so that a log can be followed."""
    print(line, flush=True)


def complain(line: str) -> None:
    """A line about what went wrong, beside the result."""
    print(line, file=sys.stderr, flush=True)


@functools.cache
def warn_once(line: str) -> None:
    """A warning on standard error, the first time that it is given."""
    complain(f"geotl: {line}")


def silent(_: str) -> None:
    """Nothing."""


def sayer(*, quiet: bool) -> Log:
    """What says the lines that a quiet command goes without."""
    return silent if quiet else say


def aligned(rows: Sequence[Sequence[str]], left: Sequence[int]) -> list[str]:
    """Rows of cells as lines of columns; those in `left` start flush, the others end so.

    >>> aligned([("band", "nm"), ("B02", "492")], left=(0,))
    ['band   nm', 'B02   492']
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if place in left else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
