"""Prediction sets of a run: what its model file keeps for them, and how they do on test labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from geotl.arrays import Float64s, Int64s
from geotl.evaluation.doubtful_labels import HeldOutPredictions
from geotl.evaluation.prediction_sets import (
    COVERAGES,
    HeldOutProbabilities,
    SetScore,
    in_sets,
    score_sets,
)
from geotl.experiments.compare import FittedDraw
from geotl.experiments.label_doubts import held_out, held_out_of, labels_at
from geotl.experiments.pixel_samples import PixelSamples
from geotl.experiments.results import Answers, Results
from geotl.experiments.samples import TileSamples
from geotl.language import msg, numeral
from geotl.reporting.html import Table

SETS = "sets"  # key in metrics.json and section of the report


@dataclass(frozen=True)
class RunSets:
    """Prediction sets of a run.

    Attributes:
        held_out: what thresholds of the kept model follow from.
        scores: of each coverage on test labels that had no part in the thresholds.
    """

    held_out: HeldOutProbabilities
    scores: tuple[SetScore, ...]

    def to_dict(self) -> list[dict[str, float]]:
        """The scores as metrics.json holds them."""
        return [one._asdict() for one in self.scores]

    def table(self) -> Table:
        """The scores, as the report shows them."""
        rows = tuple(
            (numeral(one.stated, ".0%"), one.covered, numeral(one.classes, ".2f"), one.single)
            for one in self.scores
        )
        return Table(
            (
                msg("Stated coverage"),
                msg("Share of test labels whose set holds their class"),
                msg("Classes in a set (mean)"),
                msg("Sets of one class"),
            ),
            rows,
            note=msg(
                "A set holds the classes that a tile or pixel may be of, such as water or reed;"
                " geotl map --sets writes them, of a model of tiles geotl predict --sets too. "
                "The probability from which a class is in a set comes from held-out labels; the"
                " table is of {labels} other labels. Where sets contain nearly all classes, "
                "there are too few labels for this coverage: 90 % needs 9, 95 % needs 19. Sets "
                "do not find classes that have no label.",
                labels=self.scores[0].labels,
            ),
        )


def sets_by_folds(parts: Sequence[tuple[HeldOutPredictions, Sequence[str]]]) -> RunSets:
    """Sets of a run with folds: tested in each fold with the thresholds of the others.

    Args:
        parts: predictions of each fold, and the label of each row.
    """
    together = HeldOutProbabilities.of(*_joined(parts))
    scores = []
    for coverage in COVERAGES:
        sets, classes = [], []
        for number, (predictions, _) in enumerate(parts):
            others = [part for i, part in enumerate(parts) if i != number]
            limits = HeldOutProbabilities.of(*_joined(others)).thresholds(coverage)
            sets.append(in_sets(predictions.probabilities, limits))
            classes.append(predictions.given)
        scores.append(score_sets(np.concatenate(sets), np.concatenate(classes), coverage))
    return RunSets(together, tuple(scores))


def sets_of_split(held_out: HeldOutPredictions, test: HeldOutPredictions) -> RunSets:
    """Sets of a run with one split: thresholds of held-out training labels, scores of the test."""
    calibrated = HeldOutProbabilities.of(held_out.probabilities, held_out.given)
    scores = tuple(
        score_sets(in_sets(test.probabilities, calibrated.thresholds(one)), test.given, one)
        for one in COVERAGES
    )
    return RunSets(calibrated, scores)


def _joined(
    parts: Sequence[tuple[HeldOutPredictions, Sequence[str]]],
) -> tuple[Float64s, Int64s, list[str]]:
    """Probabilities, given classes and labels of several folds, one after the other."""
    return (
        np.concatenate([part.probabilities for part, _ in parts]),
        np.concatenate([part.given for part, _ in parts]),
        [name for _, names in parts for name in names],
    )


def sets_of_tiles(
    samples: TileSamples, fit: FittedDraw, results: Results, folds: int | None
) -> RunSets | None:
    """Sets of a run of tiles; None where the model that is kept has no held-out predictions.

    Args:
        samples: the tiles.
        fit: the model.
        results: of all draws, which are the folds where there are any.
        folds: how many.
    """
    if folds:
        several = [_labelled(held_out(one.answers)) for one in results.draws]
        return sets_by_folds([(part, labels_at(samples, part)) for part in several])
    out_of_fit, test = (
        held_out_of(fit, samples.labels),
        _labelled(held_out(results.draws[0].answers)),
    )
    return None if out_of_fit is None or not len(test.rows) else sets_of_split(out_of_fit, test)


def sets_of_pixels(samples: PixelSamples, folds: Sequence[Answers]) -> RunSets:
    """Sets of a run of pixels, by its folds."""
    return sets_by_folds(
        [(held_out(one), [samples.groups[row] for row in one.rows]) for one in folds]
    )


def _labelled(predictions: HeldOutPredictions) -> HeldOutPredictions:
    """Those with a label."""
    return predictions.part(np.flatnonzero(predictions.given >= 0))
