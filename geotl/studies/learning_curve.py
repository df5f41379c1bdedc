"""`geotl curve`: accuracy of a recipe against labels per class, over repeated draws or folds."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from geotl.arrays import Int64s
from geotl.console import Log, ProgressLine, complain, silent
from geotl.data import splits
from geotl.data.samples import Samples
from geotl.errors import DataError
from geotl.evaluation.learning_curve import LearningCurve, learning_curve
from geotl.experiments.build import open_experiment
from geotl.experiments.compare import fit_draw, logits_of_test, unlabelled_head, with_what
from geotl.experiments.draws import Draw, with_shots
from geotl.experiments.experiment import Experiment
from geotl.experiments.pixel_draws import class_labels, pixel_draws, with_folds
from geotl.experiments.pixel_report import FUSED, LAB
from geotl.experiments.pixels import PixelRun, accuracy_of, open_pixels, score_fold
from geotl.experiments.recipe import Recipe, written_text
from geotl.experiments.run_folder import RECIPE
from geotl.io.cache_entries import CHECKSUMS, fault_of, write_checksums
from geotl.io.files import write_text
from geotl.io.locks import lock_path, locked
from geotl.language import msg, stored
from geotl.reporting.curve_figures import learning_curve_figure
from geotl.reporting.figures import write_png
from geotl.studies.curve_plan import (
    CurvePlan,
    curve_csv,
    curve_lines,
    draws_csv,
    given_sizes,
    usual_sizes,
)

DRAWS = 10
TABLE, DRAWN, FIGURE = "curve.csv", "draws.csv", "curve.png"
LABELS = msg("labels alone")


@locked
def curve(
    recipe: Recipe,
    out: Path,
    *,
    shots: Sequence[int] = (),
    draws: int | None = None,
    quiet: bool = False,
    log: Log = print,
) -> dict[str, LearningCurve]:
    """Fit a recipe to growing numbers of labels per class, and write table, figure and recipe.

    All sizes of a draw are tested on the same tiles or labels, and its smaller sets are part of
    its larger ones. With split.method=shots those tiles are what the largest set leaves; else the
    split's own test side. With probe.unlabelled there is a second curve; of task pixels one is of
    the forest and one of the fused model.

    Args:
        recipe: its data, split, network and strategy are used.
        out: folder for curve.csv, draws.csv, curve.png and recipe.yaml.
        shots: labels per class; empty for 2, 5, 10, 20, 50, 100, 200 as far as the labels go.
        draws: repetitions; None for the recipe's, or 10 where it has one; folds are repetitions.
        quiet: no progress.
        log: gets every line.

    Raises:
        GeoTLError: input that cannot be used; too few labels for the sizes.
    """
    _forget_cut_short(out)
    if recipe.task == "pixels":
        opened = open_pixels(recipe, out, log=log, quiet=quiet)
        plan = plan_pixel_curve(opened, _draws(opened.recipe, draws), shots)
    else:
        plan = _plan(recipe, out, shots=shots, draws=draws, quiet=quiet, log=log)
    log(plan.words())
    with ProgressLine(quiet=quiet) as line:
        curves = plan.measured(line.counter("fitting"))
    for text in curve_lines(curves):
        log(text)
    write_text(out / RECIPE, written_text(plan.recipe))
    write_text(out / DRAWN, draws_csv(curves))
    write_png(out / FIGURE, learning_curve_figure(curves))
    write_text(out / TABLE, curve_csv(curves))
    log(f"table    {out / TABLE}\nfigure   {out / FIGURE}")
    return curves


def _forget_cut_short(out: Path) -> None:
    """Take away what a curve left that was killed while it was written; its table is the last."""
    inside = {entry.name for entry in out.iterdir()} if out.is_dir() else set()
    inside.discard(lock_path(out).name)
    if RECIPE in inside <= {RECIPE, DRAWN, FIGURE}:
        for name in inside - {RECIPE}:
            (out / name).unlink()


def kept_curve(recipe: Recipe, folder: Path, *, quiet: bool) -> tuple[bytes, tuple[str, ...]]:
    """Figure and lines of a curve, as an earlier diagnosis left them, or measured now.

    A folder that is damaged is made again, with a line.
    """
    fault = fault_of(folder) if (folder / CHECKSUMS).exists() else None
    if fault:
        complain(f"{folder}: {fault}; it is made again")
    if fault or not (folder / "lines.txt").exists():
        shutil.rmtree(folder, ignore_errors=True)  # an interrupted curve has no table there
        lines = curve_lines(curve(recipe, folder, quiet=quiet, log=silent))
        write_text(folder / "lines.txt", "\n".join(lines))
        write_checksums(folder)
    lines = (folder / "lines.txt").read_text(encoding="utf-8").splitlines()
    figure = learning_curve_figure(read_curves(folder / DRAWN))  # in the page's language
    return figure, tuple(lines)


def read_curves(table: Path) -> dict[str, LearningCurve]:
    """Curves from the table of every accuracy measured."""
    values: dict[str, dict[float, list[float]]] = {}
    with table.open(encoding="utf-8", newline="") as stream:
        for row in csv.DictReader(stream):
            sizes = values.setdefault(row["curve"], {})
            sizes.setdefault(float(row["labels_per_class"]), []).append(float(row["accuracy"]))
    return {
        stored(name): learning_curve(list(sizes), np.array(list(sizes.values())).T)
        for name, sizes in values.items()
    }


def _draws(recipe: Recipe, asked: int | None) -> int:
    """How often labels are drawn."""
    kfold = recipe.split.kfold
    if kfold and asked not in (None, kfold):
        raise DataError(
            f"--repeats: given {asked} with {kfold} folds, which are the repeats; leave it out"
        )
    if asked is not None and asked < 1:
        raise DataError(f"--repeats: given {asked}; allowed: at least 1")
    of_recipe = recipe.split.draws
    return asked or kfold or (of_recipe if of_recipe > 1 else DRAWS)


def _plan(
    recipe: Recipe,
    out: Path,
    *,
    shots: Sequence[int],
    draws: int | None,
    quiet: bool,
    log: Log,
) -> CurvePlan:
    """The curve of a recipe of task tiles."""
    if recipe.data.synthetic is not None:
        raise DataError(
            f"data.synthetic: given {recipe.data.synthetic}, whose generator was trained on more "
            "tiles than the small sets of a curve; allowed: null"
        )
    experiment = open_experiment(recipe, out, log=log, quiet=quiet)
    recipe, count = experiment.recipe, _draws(experiment.recipe, draws)
    sizes = _sizes(experiment, count, shots)
    bases = [_base(experiment, number, sizes[-1]) for number in range(count)]
    several = recipe.split.model_copy(update={"draws": max(2, count)})  # features are shared
    shared = experiment.of(recipe.model_copy(update={"split": several}))

    def accuracies(base: Draw, size: int) -> list[float]:
        return _accuracies(shared.inside(f"shots_{size:03d}"), base, size)

    more = () if recipe.probe.unlabelled == "none" else (with_what(experiment.samples),)
    return CurvePlan(recipe, (LABELS, *more), bases, sizes, accuracies)


def _sizes(experiment: Experiment, draws: int, shots: Sequence[int]) -> list[int]:
    """Labels per class in rising order: `shots`, or the usual ones that every split can fill."""
    if shots:
        return given_sizes(shots)
    samples = experiment.samples
    if experiment.recipe.split.method == "shots":
        every = np.flatnonzero(samples.labels >= 0)
        largest = _smallest_class(samples, every) // 2  # half is left to test on
    else:
        trains = (_base(experiment, number, 1).split.train for number in range(draws))
        largest = min(_smallest_class(samples, rows) for rows in trains)
    return usual_sizes(largest, f"smallest class has {largest} tiles")


def _smallest_class(samples: Samples, rows: Int64s) -> int:
    """Different tiles of the smallest class among some rows."""
    contents = samples.contents
    different = list({contents[row]: row for row in rows}.values())
    counts = np.bincount(samples.labels[different], minlength=len(samples.classes))
    return int(counts.min())


def _base(experiment: Experiment, number: int, max_labels: int) -> Draw:
    """The split from which all sizes of a repeat are taken."""
    recipe, samples = experiment.recipe, experiment.samples
    if recipe.split.method != "shots":
        all_labels = recipe.split.model_copy(update={"shots": None})
        return experiment.of(recipe.model_copy(update={"split": all_labels})).draw(number)
    split = splits.k_shot(
        samples.labels,
        max_labels,
        seed=recipe.seed + number,
        content=samples.contents,
        names=samples.classes,
    )
    if not len(split.test):
        raise DataError(
            f"{max_labels} labels per class leave no test tile; give fewer with --shots"
        )
    return Draw(number, split, [])


def _accuracies(experiment: Experiment, base: Draw, size: int) -> list[float]:
    """Accuracy of one draw at one size; with unlabelled tiles, of the head trained on them too."""
    draw = with_shots(experiment.recipe, experiment.samples, base, size)
    truth = experiment.samples.labels[draw.split.test]
    fit = fit_draw(experiment, draw)
    by_head = [logits_of_test(experiment, fit)]
    if experiment.recipe.probe.unlabelled != "none":
        by_head.append(unlabelled_head(experiment, fit)[1])
    return [float(np.mean(logits.argmax(axis=1) == truth)) for logits in by_head]


def plan_pixel_curve(opened: PixelRun, folds: int, shots: Sequence[int]) -> CurvePlan:
    """The curve of a recipe of task pixels: every fold at growing numbers of labels per class.

    Smaller sets are part of larger ones, and all sizes of a fold are tested on the same labels.
    A class with fewer labels than a size gives all that it has; the log lists these classes.

    Raises:
        DataError: too few labels for a curve, or sizes beyond all classes.
    """
    samples = opened.samples
    bases = pixel_draws(with_labels(opened.recipe, None), samples)[:folds]
    counts = np.array([class_labels(samples, base.split.train) for base in bases])
    sizes = given_sizes(shots) or _usual(counts)
    _check_largest(sizes[-1], counts)
    _say_short(samples.classes, counts, sizes[-1], opened.log)

    def accuracies(base: Draw, size: int) -> list[float]:
        sized = opened.of(with_labels(opened.recipe, size))
        result = score_fold(sized, with_folds(sized.recipe, samples, base))
        return [accuracy_of(samples, result, name) for name in (LAB, FUSED)]

    return CurvePlan(opened.recipe, (LAB, FUSED), bases, sizes, accuracies, "labels")


def with_labels(recipe: Recipe, shots: int | None) -> Recipe:
    """The recipe with `size` labels per class in each fold; None for all."""
    split = recipe.split.model_copy(update={"shots": shots})
    return recipe.model_copy(update={"split": split})


def _usual(counts: Int64s) -> list[int]:
    """The usual sizes up to what half of the classes have in every fold [folds,K]."""
    most = int(np.median(counts, axis=1).min())
    return usual_sizes(most, f"middle class has {most} labels in a fold")


def _check_largest(size: int, counts: Int64s) -> None:
    """Check that a class has `size` labels in some fold [folds,K]."""
    if size > (most := int(counts.max())):
        raise DataError(
            f"--shots: given {size}, but no class has more than {most} training labels in a fold; "
            "give fewer"
        )


def _say_short(classes: Sequence[str], counts: Int64s, size: int, log: Log) -> None:
    """Name the classes that have fewer labels in some fold [folds,K] than the largest size."""
    least = counts.min(axis=0)
    short = [
        f"{classes[k]} {least[k]}" for k in np.argsort(least, kind="stable") if least[k] < size
    ]
    if short:
        log(
            f"classes with fewer than {size} training labels in a fold, which then uses all of "
            f"them: {', '.join(short)}"
        )
