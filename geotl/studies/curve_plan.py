"""What a learning curve fits, whatever its rows are, and the lines and tables that it leaves."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from geotl.console import Progress, aligned
from geotl.errors import DataError
from geotl.evaluation.learning_curve import LearningCurve, gain, learning_curve, more_labels
from geotl.experiments.draws import Draw
from geotl.experiments.recipe import Recipe
from geotl.experiments.results import ADDITIONS
from geotl.io.tables import TableWriter
from geotl.language import msg

SIZES = (2, 5, 10, 20, 50, 100, 200)
HEADER = ("curve", "labels_per_class", "kind", "mean", "sd", "low", "high", "draws")


@dataclass(frozen=True)
class CurvePlan:
    """The fits of a learning curve.

    Attributes:
        recipe: resolved.
        names: of the curves; the others are compared with the first.
        bases: the split that all sizes of a draw are taken from.
        sizes: labels per class, rising.
        accuracies: of one draw at one size, an accuracy for each name.
        rows: what is tested: tiles or labels.
    """

    recipe: Recipe
    names: tuple[str, ...]
    bases: Sequence[Draw]
    sizes: Sequence[int]
    accuracies: Callable[[Draw, int], Sequence[float]]
    rows: str = "tiles"

    def words(self) -> str:
        """What is fitted, in a line."""
        what = "folds" if self.recipe.split.kfold else "draws"
        return (
            f"{len(self.bases)} {what} of {', '.join(map(str, self.sizes))} labels per class, all "
            f"sizes of a draw tested on the same {self.rows}"
        )

    def measured(self, progress: Progress) -> dict[str, LearningCurve]:
        """Accuracies of every draw at every size, as a curve for each name."""
        table = np.zeros((len(self.names), len(self.bases), len(self.sizes)))
        done = 0
        for row, base in enumerate(self.bases):
            for column, size in enumerate(self.sizes):
                table[:, row, column] = self.accuracies(base, size)
                done += 1
                progress(done, len(self.bases) * len(self.sizes))
        pairs = zip(self.names, table, strict=True)
        return {name: learning_curve(self.sizes, part) for name, part in pairs}


def given_sizes(shots: Sequence[int]) -> list[int]:
    """The user's numbers of labels per class, in rising order.

    Raises:
        DataError: a size below 1.
    """
    if shots and min(shots) < 1:
        raise DataError(f"--shots: given {min(shots)}; allowed: at least 1")
    return sorted(set(shots))


def usual_sizes(maximum: int, what: str) -> list[int]:
    """The usual labels per class up to a number of training tiles or labels.

    Raises:
        DataError: fewer than two sizes.
    """
    fits = [size for size in SIZES if size <= maximum]
    if len(fits) < 2:
        raise DataError(
            f"the {what} to train on, too few for a curve; label more, or give sizes with --shots"
        )
    return fits


def curve_lines(curves: Mapping[str, LearningCurve]) -> list[str]:
    """Results of curves, in printed lines; extrapolated values are marked.

    Args:
        curves: by name; the others are compared with the first.
    """
    lines: list[str] = []
    for name, curve in curves.items():
        lines.append(f"{name}: labels per class, accuracy (mean ± sd), 95 % interval of the mean")
        rows = []
        for size, mean, sd, *ends in zip(
            curve.shots, curve.mean, curve.sd, *curve.interval, strict=True
        ):
            spread = f" ± {sd:.3f} {_ends(ends)}" if len(curve.draws) > 1 else " (one draw)"
            rows.append((f"{size:g}", f"{mean:.3f}{spread}"))
        lines += [f"  {line}" for line in aligned(rows, left=(1,))]
        sentence = more_labels(curve)
        lines += [*extrapolated_lines(curve), *([f"  {sentence}"] if sentence else [])]
    base, *others = curves
    for name in others:
        what = ADDITIONS.get(name) or msg("{name} over {base}", name=name, base=base)
        lines += gain_lines(curves[base], curves[name], what)
    return lines


def extrapolated_lines(curve: LearningCurve) -> list[str]:
    """The fitted law, and its accuracies beyond the sizes measured."""
    if curve.law is None:
        return []
    intervals = curve.extrapolated_intervals()
    beyond = [
        f"{value:.3f}{_ends(intervals.get(shots))} at {shots:g}"
        for shots, value in curve.extrapolated()
    ]
    law = curve.law
    return [
        f"  fitted: accuracy = {law.a:.3f} - {law.b:.3f} n^-{law.c:.2f}",
        f"  extrapolated, not measured: {', '.join(beyond)}",
    ]


def gain_lines(alone: LearningCurve, both: LearningCurve, what: str) -> list[str]:
    """The gain of one curve over another at each size, paired over repeats."""
    lines = []
    for column, size in enumerate(alone.shots):
        gained, word = gain(alone.draws[:, column], both.draws[:, column])
        values = {"what": what, "size": size, "gain": gained.value, "word": word}
        if not math.isfinite(gained.low):
            lines.append(msg("{what} at {size:g} labels per class: {gain:+.3f}, {word}", **values))
            continue
        lines.append(
            msg(
                "{what} at {size:g} labels per class: {gain:+.3f} [{low:.3f}, {high:.3f}], {word}",
                **values,
                low=gained.low,
                high=gained.high,
            )
        )
    return lines


def _ends(ends: Sequence[float] | None) -> str:
    finite = ends is not None and all(map(math.isfinite, ends))
    return f" [{ends[0]:.3f}, {ends[1]:.3f}]" if ends is not None and finite else ""


def curve_csv(curves: Mapping[str, LearningCurve]) -> str:
    """The table: measured means with sd and interval, then the extrapolated figures."""
    rows: list[Sequence[object]] = [HEADER]
    for name, curve in curves.items():
        columns = zip(curve.shots, curve.mean, curve.sd, *curve.interval, strict=True)
        count, intervals = len(curve.draws), curve.extrapolated_intervals()
        for size, *values in columns:
            rows.append((name, f"{size:g}", "measured", *map(_cell, values), count))
        for size, value in curve.extrapolated():
            ends = intervals.get(size, (math.nan, math.nan))
            cells = map(_cell, (value, math.nan, *ends))
            rows.append((name, f"{size:g}", "extrapolated", *cells, ""))
    return _csv(rows)


def _cell(value: float) -> str:
    """A figure of a table; empty where there is none."""
    return f"{value:.6f}" if math.isfinite(value) else ""


def draws_csv(curves: Mapping[str, LearningCurve]) -> str:
    """Every accuracy measured, a row for each curve, draw and size."""
    rows: list[Sequence[object]] = [("curve", "draw", "labels_per_class", "accuracy")]
    for name, curve in curves.items():
        for (draw, column), value in np.ndenumerate(curve.draws):
            rows.append((name, draw, f"{curve.shots[column]:g}", f"{value:.6f}"))
    return _csv(rows)


def _csv(rows: Sequence[Sequence[object]]) -> str:
    stream = io.StringIO()
    TableWriter(stream).writerows(rows)
    return stream.getvalue()
