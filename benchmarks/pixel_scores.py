"""What benchmarks/pixels.py keeps and prints: numbers of each method and draw, and tables."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from geotl.evaluation.metrics import Interval, mean_interval
from geotl.experiments.pixel_report import FUSED

Key = tuple[str, str, int, str]  # data set, labels, draw and method
UNET = "torchgeo U-Net, lr "


@dataclass(frozen=True)
class Row:
    """One method in one draw, as a line of the file.

    Attributes:
        data: name of the data set.
        labels: a class, or "all".
        draw: its number.
        method: its name.
        accuracy: share of the tested weight that is correct.
        macro_f1: mean F1 of the classes.
        seconds: of one fit.
        mapping: seconds a megapixel, where it was measured.
        how: settings that other runs may not share.
    """

    data: str
    labels: str
    draw: int
    method: str
    accuracy: float
    macro_f1: float
    seconds: float
    mapping: float | None
    how: str

    @property
    def key(self) -> Key:
        """What is not computed twice."""
        return self.data, self.labels, self.draw, self.method


@dataclass(frozen=True)
class Book:
    """All draws' numbers, kept in a file of JSON lines if there is one.

    Attributes:
        rows: by what they are.
        path: of the file; None keeps none.
    """

    rows: dict[Key, Row]
    path: Path | None

    @classmethod
    def opened(cls, path: Path | None) -> Book:
        """With what a file holds already, a line cut off at its end left out."""
        lines = path.read_text().splitlines(keepends=True) if path and path.exists() else []
        whole = [Row(**json.loads(line)) for line in lines if line.endswith("\n")]
        if path and len(whole) < len(lines):
            path.write_text("".join(line for line in lines if line.endswith("\n")))
        return cls({row.key: row for row in whole}, path)

    def add(self, rows: Sequence[Row]) -> None:
        """Keep the rows of one draw."""
        self.rows.update({row.key: row for row in rows})
        if self.path:
            with self.path.open("a") as to:
                to.write("".join(json.dumps(asdict(row)) + "\n" for row in rows))

    def has(self, key: Key, how: str) -> bool:
        """Whether a number is there.

        Raises:
            SystemExit: it is, but of other settings.
        """
        row = self.rows.get(key)
        if row and row.how != how:
            raise SystemExit(
                f"{self.path}: holds {key} of '{row.how}', not of '{how}'; name a new file"
            )
        return row is not None

    def line(self, key: Key) -> str:
        """A number, in words."""
        row = self.rows[key]
        return f"{row.method} {row.accuracy:.3f} ({row.seconds:.1f} s a fit)"


@dataclass(frozen=True)
class Line:
    """A method in the table; intervals are over draws.

    Attributes:
        method: its name.
        draws: how many.
        accuracy: mean.
        macro_f1: mean.
        less: accuracy less the fused model's in the same draws, in points.
        seconds: of one fit, the median.
        mapping: seconds a megapixel, the median of what was measured.
    """

    method: str
    draws: int
    accuracy: Interval
    macro_f1: Interval
    less: Interval
    seconds: float
    mapping: float | None

    @classmethod
    def of(cls, method: str, rows: Sequence[Row], fused: dict[int, Row]) -> Line:
        """From a method's rows and the fused model's, by draw."""
        paired = [100 * (r.accuracy - fused[r.draw].accuracy) for r in rows if r.draw in fused]
        measured = [row.mapping for row in rows if row.mapping is not None]
        return cls(
            method,
            len(rows),
            mean_interval([row.accuracy for row in rows]),
            mean_interval([row.macro_f1 for row in rows]),
            mean_interval(paired or [np.nan]),
            statistics.median(row.seconds for row in rows),
            statistics.median(measured) if measured else None,
        )

    def text(self) -> str:
        """With its numbers in columns."""
        gap = "" if self.method == FUSED else f"{self.less.value:+.1f}{ends(self.less, '+.1f')}"
        mapping = "" if self.mapping is None else f"{self.mapping:.1f}"
        return (
            f"  {self.method:32} {self.draws:>5}  {self.accuracy.value:.3f}"
            f"{ends(self.accuracy, '.3f'):16} {self.macro_f1.value:.3f}    {gap:22}"
            f"{self.seconds:8.1f} {mapping:>9}"
        ).rstrip()


def ends(interval: Interval, style: str) -> str:
    """The ends of an interval, nothing of a single draw."""
    if np.isnan(interval.low):
        return ""
    return f" [{interval.low:{style}}, {interval.high:{style}}]"


def tables(rows: Iterable[Row]) -> dict[tuple[str, str], list[Line]]:
    """Lines by data set and number of labels, the most accurate first."""
    found: dict[tuple[str, str], dict[str, list[Row]]] = {}
    for row in rows:
        found.setdefault((row.data, row.labels), {}).setdefault(row.method, []).append(row)
    return {where: lines_of(methods) for where, methods in found.items()}


def lines_of(methods: dict[str, list[Row]]) -> list[Line]:
    """Of torchgeo's learning rates the best alone, by the mean of its test results."""
    fused = {row.draw: row for row in methods.get(FUSED, [])}
    lines = [Line.of(name, rows, fused) for name, rows in methods.items()]
    unets = [line for line in lines if line.method.startswith(UNET)]
    best = max(unets, key=lambda line: line.accuracy.value, default=None)
    kept = [line for line in lines if line not in unets or line is best]
    return sorted(kept, key=lambda line: -line.accuracy.value)


def print_tables(found: dict[tuple[str, str], list[Line]]) -> None:
    """All tables as aligned text."""
    for (data, labels), lines in found.items():
        print(f"\n{data}, {labels} labels{'' if labels == 'all' else ' a class'}")
        print(
            f"  {'':32} draws  {'accuracy':21} {'macro F1':9}"
            f"{'less fused, points':22}{'fit, s':>9} {'map, s/MP':>9}"
        )
        for line in lines:
            print(line.text(), flush=True)
