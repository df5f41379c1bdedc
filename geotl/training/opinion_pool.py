"""Calibrated members pooled: weights that held-out rows choose, of pixels or of tiles.

The weights minimise the log-loss of the logarithmic pool (Genest & Zidek 1986) over the simplex,
and are pulled towards equal weights where labels are few.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import log_softmax

from geotl.arrays import Float64s, Int64s
from geotl.evaluation.evaluate import fit_temperature
from geotl.models.pixel_model import calibrated, fused

EQUAL_LABELS = (
    200.0  # with this number of labels, weights are halfway between equal and fitted ones
)
_STEPS = 300  # of the exponentiated gradient
MIN_LOG = -14.0  # a log-probability below this counts as this


@dataclass(frozen=True)
class Pool:
    """Calibrated members added with weights, and the log-loss of held-out rows.

    Attributes:
        weights: of the members, by name.
        temperature: of the weighted sum.
        loss: mean of -log p of the true classes; 0 where no row is held out.
    """

    weights: Mapping[str, float]
    temperature: float
    loss: float

    @classmethod
    def of(
        cls,
        members: Mapping[str, Float64s],
        truth: Int64s,
        weight: Float64s,
        equal: float = EQUAL_LABELS,
    ) -> Pool:
        """The pool of some members.

        Args:
            members: calibrated log-probabilities of held-out rows [n,K], by name.
            truth: classes of these rows [n].
            weight: what each row counts [n].
            equal: labels with which weights are halfway between equal and fitted ones.
        """
        several = [*members.values()]
        if not several:
            return cls({}, 1.0, math.inf)
        shares = pool_weights(several, truth, weight, equal).tolist()
        pooled = fused(several, shares, np.zeros(several[0].shape[1]))
        temperature = fit_temperature(pooled, truth, weight)
        loss = log_loss(calibrated(pooled, temperature), truth, weight) if len(truth) else 0.0
        return cls(dict(zip(members, shares, strict=True)), temperature, loss)

    def log_probabilities(self, members: Mapping[str, Float64s]) -> Float64s:
        """Log-probabilities of rows [n,K], from the members' calibrated ones, by name."""
        several = [members[name] for name in self.weights]
        zero = np.zeros(several[0].shape[1])
        return calibrated(fused(several, [*self.weights.values()], zero), self.temperature)


def floored(log_probabilities: Float64s, temperature: float) -> Float64s:
    """Calibrated log-probabilities, none below `MIN_LOG`."""
    return np.maximum(calibrated(log_probabilities, temperature), MIN_LOG)


def log_loss(log_probabilities: Float64s, truth: Int64s, weight: Float64s) -> float:
    """Weighted mean of -log p of the true classes.

    >>> round(log_loss(np.log([[0.5, 0.5]]), np.array([0]), np.array([1.0])), 3)
    0.693
    """
    likelihood = log_probabilities[np.arange(len(truth)), truth]
    return float(-np.average(likelihood, weights=weight))


def pool_weights(
    members: Sequence[Float64s], truth: Int64s, weight: Float64s, equal: float = EQUAL_LABELS
) -> Float64s:
    """Weights [M] of calibrated members [n,K] that sum to 1.

    They minimise the log-loss of the pool over the simplex (convex; exponentiated gradient,
    Kivinen & Warmuth 1997), then are mixed with equal ones: with n labels, n / (n + `equal`) of
    the fitted weights.

    >>> good, bad = np.log([[0.9, 0.1]] * 50), np.log([[0.4, 0.6]] * 50)
    >>> weights = pool_weights([good, bad], np.zeros(50, np.int64), np.ones(50), equal=0)
    >>> bool(weights[0] > 0.99)
    True
    """
    share = np.full(len(members), 1 / len(members))
    if not len(truth):
        return share
    several, rows = np.stack(members), np.arange(len(truth))
    mass = weight / weight.sum()
    true_class = several[:, rows, truth]
    best = share
    for _ in range(_STEPS):
        chance = np.exp(log_softmax(np.tensordot(best, several, 1), axis=1))
        slope = ((several * chance).sum(axis=2) - true_class) @ mass
        best = best * np.exp(-(slope - slope.min()))
        best = best / best.sum()
    labels = float(weight.sum())
    return (labels * best + equal * share) / (labels + equal)
