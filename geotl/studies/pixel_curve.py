"""The learning curve of task pixels: fused model and forest, in folds by place."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from geotl.arrays import Int64s
from geotl.console import Log
from geotl.errors import DataError
from geotl.experiments.draws import Draw
from geotl.experiments.pixel_draws import pixel_draws, with_folds
from geotl.experiments.pixel_report import FUSED, LAB
from geotl.experiments.pixel_samples import PixelSamples
from geotl.experiments.pixels import PixelRun, accuracy_of, score_fold
from geotl.experiments.recipe import Recipe
from geotl.studies.curve_plan import CurvePlan, given_sizes, usual_sizes


def plan_pixel_curve(opened: PixelRun, folds: int, shots: Sequence[int]) -> CurvePlan:
    """The curve of a recipe of task pixels: every fold at growing numbers of labels a class.

    Smaller sets are part of larger ones, and all sizes of a fold are tested on the same labels.
    A class with fewer labels than a size gives all that it has; the log says which ones do.

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
        own = opened.of(with_labels(opened.recipe, size))
        result = score_fold(own, with_folds(own.recipe, samples, base))
        return [accuracy_of(samples, result, name) for name in (LAB, FUSED)]

    return CurvePlan(opened.recipe, (LAB, FUSED), bases, sizes, accuracies, "labels")


def with_labels(recipe: Recipe, shots: int | None) -> Recipe:
    """The recipe with so many labels a class in each fold; None for all."""
    split = recipe.split.model_copy(update={"shots": shots})
    return recipe.model_copy(update={"split": split})


def class_labels(samples: PixelSamples, rows: Int64s) -> Int64s:
    """Labels of each class among some pixels [K]; a label's pixels count once."""
    one = np.unique([samples.groups[row] for row in rows], return_index=True)[1]
    return np.bincount(samples.labels[rows[one]], minlength=len(samples.classes))


def _usual(counts: Int64s) -> list[int]:
    """The usual sizes up to what half of the classes have in every fold [folds,K]."""
    most = int(np.median(counts, axis=1).min())
    return usual_sizes(most, f"middle class has {most} labels in a fold")


def _check_largest(size: int, counts: Int64s) -> None:
    """Make sure that a class has so many labels in some fold [folds,K]."""
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
