"""A learning curve of a recipe: accuracy against labels a class, over repeated draws."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from geotl.arrays import Int64s
from geotl.console import Log, ProgressLine
from geotl.data import splits
from geotl.errors import DataError
from geotl.evaluation.learning_curve import LearningCurve, gain, learning_curve
from geotl.experiments.build import read_source, recipe_sensor, settle
from geotl.experiments.compare import fit_draw, judge, unlabelled_head, with_what
from geotl.experiments.draws import Draw, Source, make_draw, with_shots
from geotl.experiments.recipe import Recipe, dump
from geotl.experiments.save import RECIPE, holds_run
from geotl.io.files import write_text
from geotl.reporting.curve_figures import learning_curve_figure
from geotl.reporting.figures import write_png

SIZES = (2, 5, 10, 20, 50, 100, 200)
DRAWS = 10
LABELS = "labels alone"
HEADER = ("curve", "labels_per_class", "kind", "mean", "sd", "low", "high", "draws")


def curve(
    recipe: Recipe,
    out: Path,
    *,
    shots: Sequence[int] = (),
    draws: int | None = None,
    quiet: bool = False,
    say: Log = print,
) -> dict[str, LearningCurve]:
    """Fit a recipe to growing numbers of labels a class, and write table, figure and recipe.

    All sizes of a draw are judged on the same tiles, and its smaller sets are part of its larger
    ones. With split.method=shots those tiles are what the largest set leaves; else the split's own
    judged side. With probe.unlabelled there is a second curve.

    Args:
        recipe: whose data, split, network and strategy are taken.
        out: folder for curve.csv, draws.csv, curve.png and recipe.yaml.
        shots: labels a class; empty for 2, 5, 10, 20, 50, 100, 200 as far as the tiles go.
        draws: repetitions; None for the recipe's, or 10 where it has one; folds are their own.
        quiet: no progress.
        say: told every line.

    Raises:
        GeoTLError: input that cannot be used; too few tiles for the sizes.
    """
    if recipe.data.synthetic is not None:
        raise DataError(
            f"data.synthetic: given {recipe.data.synthetic}, whose generator saw more tiles than "
            "the small draws of a curve; allowed: null"
        )
    holds_run(out, resume=False)
    sensor = recipe_sensor(recipe)
    source = read_source(recipe, sensor, say, quiet=quiet)
    recipe = settle(recipe, source, say)
    count = _draws(recipe, draws)
    sizes = _sizes(recipe, source, count, shots)
    bases = [_base(recipe, source, number, sizes[-1]) for number in range(count)]
    say(
        f"{count} {'folds' if recipe.split.kfold else 'draws'} of {', '.join(map(str, sizes))} "
        "labels a class, all sizes of a draw judged on the same tiles"
    )
    found = _measured(recipe, source, bases, sizes, out=out, quiet=quiet)
    for line in curve_lines(found):
        say(line)
    write_text(out / RECIPE, dump(recipe))
    write_text(out / "draws.csv", draws_csv(found))
    write_png(out / "curve.png", learning_curve_figure(found))
    write_text(out / "curve.csv", curve_csv(found))
    say(f"table    {out / 'curve.csv'}\nfigure   {out / 'curve.png'}")
    return found


def _draws(recipe: Recipe, given: int | None) -> int:
    """How often labels are drawn."""
    kfold = recipe.split.kfold
    if kfold and given not in (None, kfold):
        raise DataError(f"--draws: given {given} with {kfold} folds, which are the draws; leave it")
    if given is not None and given < 1:
        raise DataError(f"--draws: given {given}; allowed: at least 1")
    own = recipe.split.draws
    return given or kfold or (own if own > 1 else DRAWS)


def _sizes(recipe: Recipe, source: Source, draws: int, given: Sequence[int]) -> list[int]:
    """Labels a class in rising order: those given, or the usual ones that every draw can fill."""
    if given:
        if min(given) < 1:
            raise DataError(f"--shots: given {min(given)}; allowed: at least 1")
        return sorted(set(given))
    labels = source.labels
    if recipe.split.method == "shots":
        most = _smallest_class(source, np.flatnonzero(labels >= 0)) // 2  # half is left to judge on
    else:
        trains = (_base(recipe, source, number, 1).split.train for number in range(draws))
        most = min(_smallest_class(source, rows) for rows in trains)
    fits = [size for size in SIZES if size <= most]
    if len(fits) < 2:
        raise DataError(
            f"the smallest class has {most} tiles to learn from, too few for a curve; label more, "
            "or give sizes with --shots"
        )
    return fits


def _smallest_class(source: Source, rows: Int64s) -> int:
    """Different tiles of the smallest class among some rows."""
    contents = source.index.contents
    different = list({contents[row]: row for row in rows}.values())
    counts = np.bincount(source.labels[different], minlength=len(source.index.classes))
    return int(counts.min())


def _base(recipe: Recipe, source: Source, number: int, most: int) -> Draw:
    """The split that all sizes of a draw are taken from."""
    if recipe.split.method != "shots":
        whole = recipe.split.model_copy(update={"shots": None})
        return make_draw(recipe.model_copy(update={"split": whole}), source, number)
    split = splits.k_shot(
        source.labels,
        most,
        seed=recipe.seed + number,
        content=source.index.contents,
        names=source.index.classes,
    )
    if not len(split.test):
        raise DataError(f"{most} labels a class leave no tile to judge on; give fewer with --shots")
    return Draw(number, split, [])


def _measured(
    recipe: Recipe,
    source: Source,
    bases: Sequence[Draw],
    sizes: Sequence[int],
    *,
    out: Path,
    quiet: bool,
) -> dict[str, LearningCurve]:
    """Accuracies of every draw at every size, as one curve or two."""
    several = recipe.split.model_copy(update={"draws": max(2, len(bases))})  # features are shared
    shared = recipe.model_copy(update={"split": several})
    names = [LABELS] if recipe.probe.unlabelled == "none" else [LABELS, with_what(source)]
    table = np.zeros((len(names), len(bases), len(sizes)))
    with ProgressLine(quiet=quiet) as line:
        told = line.counter("fitting")
        for row, base in enumerate(bases):
            for column, size in enumerate(sizes):
                place = out / f"shots_{size:03d}"
                table[:, row, column] = _accuracies(shared, source, base, size, place)
                told(row * len(sizes) + column + 1, len(bases) * len(sizes))
    return {name: learning_curve(sizes, part) for name, part in zip(names, table, strict=True)}


def _accuracies(recipe: Recipe, source: Source, base: Draw, size: int, out: Path) -> list[float]:
    """Accuracy of one draw at one size; with unlabelled tiles, of the head that saw them too."""
    draw = with_shots(recipe, source, base, size)
    truth = source.labels[draw.split.test]
    fitted, _ = fit_draw(recipe, source, draw, out, resume=False, quiet=True)
    said = [judge(recipe, source, draw, fitted)]
    if recipe.probe.unlabelled != "none":
        said.append(unlabelled_head(recipe, source, draw, fitted)[1])
    return [float(np.mean(logits.argmax(axis=1) == truth)) for logits in said]


def curve_lines(curves: Mapping[str, LearningCurve]) -> list[str]:
    """What a curve says, in printed lines; what is extrapolated is named so."""
    lines: list[str] = []
    for name, found in curves.items():
        lines.append(f"{name}: labels a class, accuracy (mean ± sd), 95 % interval of the mean")
        columns = zip(found.shots, found.mean, found.sd, *found.interval, strict=True)
        for size, mean, sd, *ends in columns:
            spread = f" ± {sd:.3f} {_ends(ends)}" if len(found.draws) > 1 else " (one draw)"
            lines.append(f"  {size:>5g}  {mean:.3f}{spread}")
        lines += extrapolated_lines(found)
    for name in curves.keys() - {LABELS}:
        lines += gain_lines(curves[LABELS], curves[name], name.removeprefix("with "))
    return lines


def extrapolated_lines(found: LearningCurve) -> list[str]:
    """The fitted law, and what it would give beyond the sizes measured."""
    if found.law is None:
        return []
    intervals = found.extrapolated_intervals()
    beyond = [
        f"{value:.3f}{_ends(intervals.get(shots))} at {shots:g}"
        for shots, value in found.extrapolated()
    ]
    law = found.law
    return [
        f"  fitted: accuracy = {law.a:.3f} - {law.b:.3f} n^-{law.c:.2f}",
        f"  extrapolated, not measured: {', '.join(beyond)}",
    ]


def gain_lines(alone: LearningCurve, both: LearningCurve, what: str) -> list[str]:
    """What the unlabelled tiles or scene added at each size, paired over draws."""
    lines = []
    for column, size in enumerate(alone.shots):
        found, word = gain(alone.draws[:, column], both.draws[:, column])
        lines.append(
            f"{what} at {size:g} labels a class: {found.value:+.3f}"
            f"{_ends((found.low, found.high))}, {word}"
        )
    return lines


def _ends(ends: Sequence[float] | None) -> str:
    known = ends is not None and all(map(math.isfinite, ends))
    return f" [{ends[0]:.3f}, {ends[1]:.3f}]" if ends is not None and known else ""


def curve_csv(curves: Mapping[str, LearningCurve]) -> str:
    """The table: measured means with sd and interval, then the extrapolated figures."""
    rows: list[Sequence[object]] = [HEADER]
    for name, found in curves.items():
        columns = zip(found.shots, found.mean, found.sd, *found.interval, strict=True)
        count, intervals = len(found.draws), found.extrapolated_intervals()
        for size, *values in columns:
            rows.append((name, f"{size:g}", "measured", *map(_cell, values), count))
        for size, value in found.extrapolated():
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
    for name, found in curves.items():
        for (draw, column), value in np.ndenumerate(found.draws):
            rows.append((name, draw, f"{found.shots[column]:g}", f"{value:.6f}"))
    return _csv(rows)


def _csv(rows: Sequence[Sequence[object]]) -> str:
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows(rows)
    return stream.getvalue()
