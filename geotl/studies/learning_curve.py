"""A learning curve of a recipe: accuracy against labels a class, over repeated draws."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from geotl.arrays import Int64s
from geotl.console import Log
from geotl.data import splits
from geotl.data.samples import Samples
from geotl.errors import DataError
from geotl.evaluation.learning_curve import LearningCurve, gain, learning_curve
from geotl.experiments.build import open_experiment
from geotl.experiments.compare import fit_draw, judge, unlabelled_head, with_what
from geotl.experiments.draws import Draw, with_shots
from geotl.experiments.experiment import Experiment
from geotl.experiments.recipe import Recipe, dump
from geotl.experiments.run_folder import RECIPE
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
    experiment = open_experiment(recipe, out, log=say, quiet=quiet)
    count = _draws(experiment.recipe, draws)
    sizes = _sizes(experiment, count, shots)
    bases = [_base(experiment, number, sizes[-1]) for number in range(count)]
    say(
        f"{count} {'folds' if experiment.recipe.split.kfold else 'draws'} of "
        f"{', '.join(map(str, sizes))} labels a class, all sizes of a draw judged on the same tiles"
    )
    found = _measured(experiment, bases, sizes)
    for line in curve_lines(found):
        say(line)
    write_text(out / RECIPE, dump(experiment.recipe))
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


def _sizes(experiment: Experiment, draws: int, given: Sequence[int]) -> list[int]:
    """Labels a class in rising order: those given, or the usual ones that every draw can fill."""
    if given:
        if min(given) < 1:
            raise DataError(f"--shots: given {min(given)}; allowed: at least 1")
        return sorted(set(given))
    samples = experiment.samples
    if experiment.recipe.split.method == "shots":
        most = (
            _smallest_class(samples, np.flatnonzero(samples.labels >= 0)) // 2
        )  # half is left to judge on
    else:
        trains = (_base(experiment, number, 1).split.train for number in range(draws))
        most = min(_smallest_class(samples, rows) for rows in trains)
    fits = [size for size in SIZES if size <= most]
    if len(fits) < 2:
        raise DataError(
            f"the smallest class has {most} tiles to learn from, too few for a curve; label more, "
            "or give sizes with --shots"
        )
    return fits


def _smallest_class(samples: Samples, rows: Int64s) -> int:
    """Different tiles of the smallest class among some rows."""
    contents = samples.contents
    different = list({contents[row]: row for row in rows}.values())
    counts = np.bincount(samples.labels[different], minlength=len(samples.classes))
    return int(counts.min())


def _base(experiment: Experiment, number: int, most: int) -> Draw:
    """The split that all sizes of a draw are taken from."""
    recipe, samples = experiment.recipe, experiment.samples
    if recipe.split.method != "shots":
        whole = recipe.split.model_copy(update={"shots": None})
        return experiment.of(recipe.model_copy(update={"split": whole})).draw(number)
    split = splits.k_shot(
        samples.labels,
        most,
        seed=recipe.seed + number,
        content=samples.contents,
        names=samples.classes,
    )
    if not len(split.test):
        raise DataError(f"{most} labels a class leave no tile to judge on; give fewer with --shots")
    return Draw(number, split, [])


def _measured(
    experiment: Experiment, bases: Sequence[Draw], sizes: Sequence[int]
) -> dict[str, LearningCurve]:
    """Accuracies of every draw at every size, as one curve or two."""
    recipe, unlabelled = experiment.recipe, with_what(experiment.samples)
    several = recipe.split.model_copy(update={"draws": max(2, len(bases))})  # features are shared
    shared = experiment.of(recipe.model_copy(update={"split": several}))
    names = [LABELS] if recipe.probe.unlabelled == "none" else [LABELS, unlabelled]
    table = np.zeros((len(names), len(bases), len(sizes)))
    with experiment.progress() as line:
        told = line.counter("fitting")
        for row, base in enumerate(bases):
            for column, size in enumerate(sizes):
                place = shared.inside(f"shots_{size:03d}")
                table[:, row, column] = _accuracies(place, base, size)
                told(row * len(sizes) + column + 1, len(bases) * len(sizes))
    return {name: learning_curve(sizes, part) for name, part in zip(names, table, strict=True)}


def _accuracies(experiment: Experiment, base: Draw, size: int) -> list[float]:
    """Accuracy of one draw at one size; with unlabelled tiles, of the head that saw them too."""
    draw = with_shots(experiment.recipe, experiment.samples, base, size)
    truth = experiment.samples.labels[draw.split.test]
    made = fit_draw(experiment, draw)
    said = [judge(experiment, made)]
    if experiment.recipe.probe.unlabelled != "none":
        said.append(unlabelled_head(experiment, made)[1])
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
