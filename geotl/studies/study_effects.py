"""What a technique did: paired differences over folds, the lecture's two clauses, the word for it.

Folds of one set of labels share most of their tiles, so that their differences are not
independent; the interval is widened for that as Nadeau & Bengio (2003, Machine Learning 52,
doi 10.1023/A:1024068626366) propose.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import t as student

from geotl.errors import DataError
from geotl.evaluation.metrics import Interval

Word = Literal[
    "a regulariser here", "fits better", "no visible effect", "hurts here", "too few folds yet"
]
FEWEST = 3  # parts behind a first comparison, so that the sd means something


@dataclass(frozen=True)
class Errors:
    """Errors of one fit, in evaluation mode, and what they were counted on.

    Attributes:
        training: share of the training tiles that are classified incorrectly.
        validation: the same of the held-out tiles.
        learnt, held: numbers of training and held-out tiles (keys of records).
        seconds: of the fit.
    """

    training: float
    validation: float
    learnt: int
    held: int
    seconds: float


@dataclass(frozen=True)
class Effect:
    """What one change did, over the parts that both sides were fitted on.

    `validation` and `training` are mean differences in error, on minus off, with 95 % intervals;
    `sd` and `training_sd` those of the differences over parts; the rest are means.
    """

    parts: int
    validation: Interval
    training: Interval
    sd: float
    training_sd: float
    off: Errors
    on: Errors

    @property
    def falls(self) -> bool:
        """First clause: validation error goes down."""
        return self.parts >= FEWEST and self.validation.high < 0

    @property
    def rises(self) -> bool:
        """Whether validation error goes up."""
        return self.parts >= FEWEST and self.validation.low > 0

    @property
    def training_stays(self) -> bool:
        """Second clause: training error does not go down, as far as can be seen."""
        return not self.training.high < 0

    @property
    def word(self) -> Word:
        """What the two clauses come to."""
        if self.falls:
            return "a regulariser here" if self.training_stays else "fits better"
        if self.parts < FEWEST:
            return "too few folds yet"
        return "hurts here" if self.rises else "no visible effect"


def paired(on: ArrayLike, off: ArrayLike, tiles: float, ratio: float) -> tuple[Interval, float]:
    """Mean difference on - off over folds with its corrected 95 % interval, and its sd.

    The variance of the mean is sd^2 (1/J + ratio) over J folds. Errors come in steps of one
    tile, so that a few folds may agree by chance: the sd counts as one tile at least.

    Args:
        on: errors of J folds, one for each.
        off: errors of the same folds without.
        tiles: that an error was counted on, in the mean.
        ratio: held-out tiles for each training tile.

    Raises:
        DataError: no folds, or not as many on as off.

    >>> difference, sd = paired([0.2, 0.3, 0.25], [0.3, 0.4, 0.35], tiles=20, ratio=0.25)
    >>> print(difference, round(sd, 3))
    -0.100 [-0.264, 0.064] 0.0
    """
    one, two = np.asarray(on, np.float64), np.asarray(off, np.float64)
    if not len(one) or one.shape != two.shape:
        raise DataError(f"{len(one)} errors on and {len(two)} off: one for each fold is needed")
    gaps = one - two
    mean = float(gaps.mean())
    if len(gaps) < 2:
        return Interval(mean, math.nan, math.nan), math.nan
    sd = float(gaps.std(ddof=1))
    spread = max(sd, 1 / tiles) * math.sqrt(1 / len(gaps) + ratio)
    reach = float(student.ppf(0.975, len(gaps) - 1)) * spread
    return Interval(mean, mean - reach, mean + reach), sd


def effect(on: Mapping[int, Errors], off: Mapping[int, Errors]) -> Effect | None:
    """The effect over the parts that both sides have, by their number; None without any."""
    both = sorted(on.keys() & off.keys())
    if not both:
        return None
    ons, offs = [on[part] for part in both], [off[part] for part in both]
    one, two = mean_errors(ons), mean_errors(offs)
    share = one.held / one.learnt
    validation, sd = paired(
        [e.validation for e in ons], [e.validation for e in offs], one.held, share
    )
    training, training_sd = paired(
        [e.training for e in ons], [e.training for e in offs], one.learnt, share
    )
    return Effect(len(both), validation, training, sd, training_sd, two, one)


def mean_errors(many: Sequence[Errors]) -> Errors:
    """The mean of some fits."""
    table = np.array([(e.training, e.validation, e.learnt, e.held, e.seconds) for e in many])
    training, validation, learnt, held_out, seconds = table.mean(axis=0).tolist()
    return Errors(training, validation, round(learnt), round(held_out), seconds)


def rungs(maximum: int) -> tuple[int, ...]:
    """Parts that trials are fitted on before each halving: a quarter, a half, and all of them.

    Successive halving (Jamieson & Talwalkar 2016) with folds as the resource; no rung has fewer
    than three.

    >>> rungs(3), rungs(5), rungs(12)
    ((3,), (3, 5), (3, 6, 12))
    """
    steps = {max(FEWEST, math.ceil(maximum / divisor)) for divisor in (4, 2)}
    return (*sorted(step for step in steps if step < maximum), maximum)


def better_half(scores: Mapping[str, float]) -> set[str]:
    """Names of the lower half, rounded up; of equal scores the first given come first.

    >>> sorted(better_half({"a": 0.3, "b": -0.1, "c": 0.0}))
    ['b', 'c']
    """
    ordered = sorted(scores, key=lambda name: scores[name])
    return set(ordered[: math.ceil(len(ordered) / 2)])
