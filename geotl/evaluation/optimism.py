"""How much of a random split's accuracy is owed to neighbours on both sides of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from geotl.evaluation.metrics import Interval, mean_interval


@dataclass(frozen=True)
class Optimism:
    """Overall accuracy on a random split and on a spatial one of the same sizes.

    Attributes:
        how: what the spatial split went by: blocked, by group or by scene.
        random, spatial: the accuracies; means over draws, or pooled over folds.
        reach: half the width of the 95 % interval of their difference.
    """

    how: str
    random: float
    spatial: float
    reach: float

    @property
    def difference(self) -> float:
        """Random less spatial."""
        return self.random - self.spatial

    @property
    def interval(self) -> Interval:
        """The difference with its 95 % interval."""
        return Interval(self.difference, self.difference - self.reach, self.difference + self.reach)

    def words(self) -> str:
        """Both figures, and what their difference is.

        >>> print(Optimism("blocked", 0.93, 0.81, 0.02).words())
        random split 0.930, blocked 0.810: 0.120 of the random figure is optimism
        (neighbouring tiles resemble each other)
        >>> print(Optimism("by group", 0.93, 0.92, 0.02).words())
        random split 0.930, by group 0.920: no clear optimism (the difference of 0.010 is within
        ±0.020)
        """
        both = f"random split {self.random:.3f}, {self.how} {self.spatial:.3f}"
        if self.interval.low > 0:
            return (
                f"{both}: {self.difference:.3f} of the random figure is optimism "
                "(neighbouring tiles resemble each other)"
            )
        if self.interval.high < 0:
            return f"{both}: no optimism, the random figure is the lower one"
        return (
            f"{both}: no clear optimism (the difference of {self.difference:.3f} is within "
            f"±{self.reach:.3f})"
        )


def optimism(
    how: str, random: Sequence[tuple[int, int]], spatial: Sequence[tuple[int, int]], *, pooled: bool
) -> Optimism:
    """Optimism from (right, judged) of each draw or fold.

    Repeated draws are compared pair by pair (Student's t). A single draw and pooled folds are two
    shares, whose variances add.

    >>> optimism("blocked", [(9, 10), (8, 10)], [(7, 10), (6, 10)], pooled=False).difference
    0.2...
    """
    if len(random) > 1 and not pooled:
        pairs = np.array([[a / b, c / d] for (a, b), (c, d) in zip(random, spatial, strict=True)])
        gap = pairs[:, 0] - pairs[:, 1]
        found = mean_interval(gap)
        reach = found.high - found.value
        return Optimism(how, float(pairs[:, 0].mean()), float(pairs[:, 1].mean()), reach)
    shares, variance = [], 0.0
    for counts in (random, spatial):
        right, judged = np.array(counts).sum(axis=0)
        share = float(right / judged)
        shares.append(share)
        variance += share * (1 - share) / float(judged)
    return Optimism(how, shares[0], shares[1], 1.96 * math.sqrt(variance))
