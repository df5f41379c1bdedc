"""What a run of task pixels says of its model: where it stands, and what to try next."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from geotl.evaluation.metrics import Interval, wilson
from geotl.evaluation.overfitting import LABELS, Verdict
from geotl.evaluation.overfitting import diagnose as verdict_of
from geotl.evaluation.pixel_steps import PixelFindings, mixed_pairs
from geotl.experiments.pixel_draws import class_labels
from geotl.experiments.pixel_report import FUSED, PixelOutcome


def training_accuracy(outcome: PixelOutcome) -> dict[str, float]:
    """Accuracy on the training labels of all folds together, by method."""
    counts = [one.labels[0] for one in outcome.folds]
    return {
        name: float(np.average([one.training[name] for one in outcome.folds], weights=counts))
        for name in outcome.folds[0].training
    }


def findings_of(outcome: PixelOutcome) -> PixelFindings:
    """What the advice rests on, from a run's outcome."""
    samples, folds = outcome.samples, outcome.folds
    counts = class_labels(samples, np.arange(len(samples), dtype=np.int64)).tolist()
    matrix = outcome.evaluation.matrix
    return PixelFindings(
        verdict=verdict_on(outcome, training_accuracy(outcome)[FUSED]),
        labels=dict(zip(samples.classes, counts, strict=True)),
        lacking=tuple(sorted({name for one in folds for name in one.lacking})),
        pairs=tuple(mixed_pairs(matrix, samples.classes)),
        ahead=_ahead(outcome.differences),
        optimism=outcome.random.difference if outcome.random else None,
        reach_m=samples.reach_m,
        near=max(one.near for one in folds),
        missing=samples.missing(),
        network=samples.networks is not None,
    )


def verdict_on(outcome: PixelOutcome, training: float) -> Verdict:
    """Training accuracy against the accuracy in the folds, in words of labels."""
    count = round(np.mean([one.labels[0] for one in outcome.folds]))
    train = wilson(round(training * count), count)
    return verdict_of(train, outcome.race[FUSED], outcome.recipe.evaluate.target, LABELS)


def _ahead(differences: Mapping[str, Interval]) -> tuple[str, Interval] | None:
    """The method that is most clearly ahead of the fused model, whose difference is below 0."""
    better = {name: gap for name, gap in differences.items() if gap.high < 0}
    if not better:
        return None
    name = min(better, key=lambda one: better[one].value)
    value, low, high = better[name]
    return name, Interval(-value, -high, -low)
