"""A discriminant for each part of the features, weighed by training tiles that are held out.

The parts are what a network computes from the renderings of a tile. Their heads make different
mistakes, and the sum of their logits makes fewer. How much a rendering helps depends on the
imagery: an aerial photograph looks as the weights' own images do, a satellite's composite does not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from scipy.special import log_softmax

from geotl.arrays import Float64s, Floats, Int64s
from geotl.evaluation.evaluate import fit_temperature
from geotl.training.heads import (
    Chosen,
    Folds,
    Linear,
    Parts,
    calibrated_loss,
    discriminant,
    held_out_logits,
    one_hot,
)
from geotl.training.leave_one_out import leave_one_out
from geotl.training.opinion_pool import pool_weights

Logits = Mapping[float, Floats]


def choose_parts(
    features: Floats,
    labels: Int64s,
    folds: Folds,
    shrinkages: Sequence[float],
    *,
    parts: int,
    classes: int,
) -> Chosen:
    """Discriminants of equal parts, their common shrinkage and their weights.

    The shrinkage has the least log-loss of equally weighed parts, each calibrated first; the
    weights are those of a logarithmic pool (`opinion_pool`), drawn to equal ones where tiles are
    few.

    Args:
        features: of the training tiles, standardised, [N, V, D].
        labels: their classes [N].
        folds: (fit, held out) positions; none to leave out tiles one by one.
        shrinkages: to choose from.
        parts: how many; they divide D.
        classes: how many there are, K.
    """
    known = one_hot(labels, classes)
    found = [
        _held_out(part, labels, folds, shrinkages, classes)
        for part in np.split(features, parts, axis=2)
    ]
    rows = found[0][0]
    truth = labels[rows]
    calibrated = {g: [_calibrated(one[g], truth) for _, one in found] for g in sorted(shrinkages)}
    pooled = {g: np.mean(several, axis=0) for g, several in calibrated.items()}
    best = min(pooled, key=lambda g: calibrated_loss(pooled[g], truth)[0])
    accuracy = {g: float(np.mean(one.argmax(1) == truth)) for g, one in pooled.items()}
    weights = part_weights(calibrated[best], [one[best] for _, one in found], truth)
    logits = np.sum([w * one[best] for w, (_, one) in zip(weights, found, strict=True)], axis=0)
    head = discriminant(features, known, best, weights)
    return Chosen(head, best, accuracy, rows, logits, fit_temperature(logits, truth), weights)


def part_weights(calibrated: Sequence[Float64s], logits: Sequence[Floats], truth: Int64s) -> Parts:
    """Weights that sum to 1 of the parts' logits [n, K], for those of their calibrated ones."""
    shares = pool_weights(calibrated, truth, np.ones(len(truth)))
    cooled = shares / [fit_temperature(one, truth) for one in logits]
    return tuple((cooled / cooled.sum()).tolist())


def _held_out(
    part: Floats, labels: Int64s, folds: Folds, shrinkages: Sequence[float], classes: int
) -> tuple[Int64s, Logits]:
    """Positions of the tiles held out and their logits by shrinkage, of one part."""
    if not folds:
        out = leave_one_out(part, labels, shrinkages, classes)
        return out.rows, out.logits

    def fit(x: Floats, y: Int64s, g: float) -> Linear:
        return discriminant(x, one_hot(y, classes), g)

    return held_out_logits(part, labels, folds, fit, shrinkages)


def _calibrated(logits: Floats, truth: Int64s) -> Float64s:
    """Log-probabilities [n, K] at the temperature of least log-loss."""
    return np.asarray(log_softmax(logits / fit_temperature(logits, truth), axis=1))
