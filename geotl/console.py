"""What a command prints: lines of its result, tables, and how far a long piece of work is.

Progress is a bar on a terminal, gone at the end; into a file or a pipe a plain line goes at most
every ten seconds, so that a log stays readable, or as often as GEOTL_PROGRESS_S says. Colours
follow NO_COLOR.
"""

from __future__ import annotations

import functools
import io
import os
import sys
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    import rich.console
    import rich.progress

Log = Callable[[str], None]  # takes a line of text
Progress = Callable[[int, int], None]  # takes what is done, and how much there is in all

PLAIN_EVERY_S, DRAWN_EVERY_S = 10.0, 0.1
PROGRESS_VARIABLE = "GEOTL_PROGRESS_S"  # seconds between plain lines, for programs that read them
_BAR = 24  # columns
_WIDE = 10_000  # columns of a table's text, which is never broken into lines


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
        self.drawn = self.stream.isatty() and os.environ.get("TERM") != "dumb"
        self.written, self._plain_every_s = clock(), _plain_every_s()
        self._bar: rich.progress.Progress | None = None

    def show(
        self, what: str, more: str = "", *, share: float | None = None, now: bool = False
    ) -> None:
        """Show how far a work is, unless the last line is too fresh.

        Args:
            what: the work's name.
            more: figures, behind the bar.
            share: of the work that is done, 0 to 1; None where it is not known.
            now: draw on a terminal however fresh the last line is.
        """
        if self.quiet:
            return
        time_s = self.clock()
        wait_s = DRAWN_EVERY_S if self.drawn else self._plain_every_s
        if time_s - self.written < wait_s and not (now and self.drawn):
            return
        self.written = time_s
        if self.drawn:
            self._draw(what, more, share)
        else:
            self.stream.write(f"{what}  {more}".rstrip() + "\n")
            self.stream.flush()

    def counter(self, what: str) -> Progress:
        """A function of (done, in all) that shows how far `what` is, its rate and its time left.

        Rate and time left are those since the first call: what a resumed work finds done took
        no time.
        """
        first: list[tuple[int, float]] = []

        def tell(done: int, total: int) -> None:
            time_s = self.clock()
            first.append((done, time_s))
            del first[1:]
            count, spent_s = done - first[0][0], time_s - first[0][1]
            text = f"{done}/{total}"
            if count > 0 and spent_s > 0:
                left_s = spent_s / count * (total - done)
                text += f"  {rate(count / spent_s)}  {duration(left_s)} left"
            self.show(what, text, share=done / max(total, 1))

        return tell

    def _draw(self, what: str, more: str, share: float | None) -> None:
        if self._bar is None:
            self._bar = _bar(self.stream)
            self._bar.add_task(what, more=more)
        task, total = self._bar.task_ids[0], None if share is None else 1.0
        self._bar.update(task, description=what, more=more, total=total, completed=share or 0.0)
        self._bar.start()
        self._bar.console.show_cursor(True)  # a process that is killed leaves it visible
        self._bar.refresh()

    def close(self) -> None:
        """Wipe the line off the terminal."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

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


def _plain_every_s() -> float:
    """Seconds between plain lines of progress, of which the environment may want others."""
    try:
        return float(os.environ.get(PROGRESS_VARIABLE, PLAIN_EVERY_S))
    except ValueError:
        return PLAIN_EVERY_S


def _bar(stream: TextIO) -> rich.progress.Progress:
    """Name, bar and figures in one line of a terminal; it draws when asked, in no thread.

    Lines of the result that come meanwhile go above it, if they go to a terminal too.
    """
    from rich.progress import BarColumn, Progress, TextColumn
    from rich.table import Column

    def text(what: str) -> TextColumn:
        column = Column(no_wrap=True, overflow="ellipsis")
        return TextColumn(what, markup=False, table_column=column)

    return Progress(
        text("{task.description}"),
        BarColumn(_BAR),
        text("{task.fields[more]}"),
        console=_console(stream),
        auto_refresh=False,
        transient=True,
        redirect_stdout=sys.stdout.isatty(),
        redirect_stderr=stream is sys.stderr,
    )


@functools.lru_cache(maxsize=4)
def _console(stream: TextIO) -> rich.console.Console:
    """One for each stream, so that a line within another's work is drawn below it."""
    from rich.console import Console

    return Console(file=stream, soft_wrap=True)  # long lines stay one line, to be copied


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


def rate(per_second: float) -> str:
    """How fast a work goes; of slow steps, how long one takes.

    >>> [rate(r) for r in (1234.5, 45.2, 3.25, 0.25)]
    ['1234/s', '45/s', '3.2/s', '4.0 s each']
    """
    if per_second < 1:
        return f"{duration(1 / per_second)} each"
    return f"{per_second:.0f}/s" if per_second >= 10 else f"{per_second:.1f}/s"


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

    Columns are as wide as a terminal shows their cells: a Chinese character takes two places.

    >>> aligned([("band", "nm"), ("B02", "492"), ("水", "1")], left=(0,))
    ['band   nm', 'B02   492', '水      1']
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    for place in range(max(map(len, rows), default=0)):
        table.add_column(justify="left" if place in left else "right", no_wrap=True)
    for row in rows:
        table.add_row(*map(Text, row))
    stream = io.StringIO()
    Console(file=stream, width=_WIDE, color_system=None, force_jupyter=False).print(table)
    return [line.rstrip() for line in stream.getvalue().splitlines()] if rows else []
