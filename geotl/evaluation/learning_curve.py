"""Accuracy against labels: power law, paired gain, and what a random split overestimates."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import minimize_scalar

from geotl.arrays import Float64s
from geotl.errors import DataError
from geotl.evaluation.metrics import Interval, mean_interval
from geotl.language import joined, msg

MIN_SIZES = 3  # a law with three parameters needs as many
BEYOND = (2, 5)  # times the largest size measured
SLOWEST, FASTEST = 0.05, 3.0  # exponents tried
RESAMPLINGS = 200
SMALL_STEP = 0.01  # a gain surely smaller than this is hardly one


@dataclass(frozen=True)
class PowerLaw:
    """acc(n) = a - b n^-c, with a at most 1 and neither b nor c negative."""

    a: float
    b: float
    c: float

    def at(self, shots: ArrayLike) -> Float64s:
        """Accuracy at some numbers of labels a class.

        >>> PowerLaw(0.9, 0.4, 0.5).at([4, 100]).tolist()
        [0.7, 0.86]
        """
        return np.asarray(self.a - self.b * np.asarray(shots, np.float64) ** -self.c)


@dataclass(frozen=True)
class LearningCurve:
    """Accuracies of repeated draws at several numbers of labels a class.

    Attributes:
        shots: labels a class, rising [S].
        draws: accuracy of each draw at each size [draws, S].
        law: fitted to the means; None with fewer than three sizes.
    """

    shots: Float64s
    draws: Float64s
    law: PowerLaw | None

    @property
    def mean(self) -> Float64s:
        """Mean over draws [S]."""
        return np.asarray(self.draws.mean(axis=0))

    @property
    def sd(self) -> Float64s:
        """Sample standard deviation over draws [S]; nan of a single draw."""
        if len(self.draws) < 2:
            return np.full(len(self.shots), math.nan)
        return np.asarray(self.draws.std(axis=0, ddof=1))

    @property
    def interval(self) -> tuple[Float64s, Float64s]:
        """Ends of the 95 % interval of the mean over draws (Student's t), within 0 and 1."""
        intervals = [mean_interval(column) for column in self.draws.T]
        low, high = np.array([[i.low, i.high] for i in intervals]).T
        return np.maximum(low, 0.0), np.minimum(high, 1.0)

    def extrapolated(self) -> list[tuple[float, float]]:
        """(labels a class, accuracy by the law) at 2 and 5 times the largest size."""
        if self.law is None:
            return []
        beyond = [float(times * self.shots[-1]) for times in BEYOND]
        return list(zip(beyond, self.law.at(beyond).tolist(), strict=True))

    def extrapolated_intervals(self, seed: int = 0) -> dict[float, tuple[float, float]]:
        """Ends by labels a class: the central 95 % of laws fitted to resampled draws.

        It shows how well these repeats determine the law, not whether the law is true elsewhere.
        """
        places = [shots for shots, _ in self.extrapolated()]
        if not places or len(self.draws) < 2:
            return {}
        count = len(self.draws)
        chosen = np.random.default_rng(seed).integers(0, count, (RESAMPLINGS, count))
        laws = [fit_power_law(self.shots, self.draws[rows].mean(axis=0)) for rows in chosen]
        low, high = np.percentile([law.at(places) for law in laws], [2.5, 97.5], axis=0)
        return dict(zip(places, zip(low.tolist(), high.tolist(), strict=True), strict=True))


def learning_curve(shots: ArrayLike, draws: ArrayLike) -> LearningCurve:
    """A curve from accuracies [draws, S] at S rising numbers of labels a class.

    Raises:
        DataError: shapes that do not fit.
    """
    sizes, table = np.asarray(shots, np.float64), np.asarray(draws, np.float64)
    if table.ndim != 2 or table.shape[1] != len(sizes) or not len(table):
        raise DataError(f"accuracies of shape {table.shape} for {len(sizes)} sizes; one for each")
    law = fit_power_law(sizes, table.mean(axis=0)) if len(sizes) >= MIN_SIZES else None
    return LearningCurve(sizes, table, law)


def fit_power_law(shots: ArrayLike, accuracy: ArrayLike) -> PowerLaw:
    """The bounded least-squares fit of a - b n^-c: for each exponent a and b follow in closed form.

    Args:
        shots: labels a class, at least three sizes.
        accuracy: mean accuracy at each.

    Raises:
        DataError: fewer than three sizes.

    >>> law = fit_power_law([2, 5, 10, 50], [0.9 - 0.5 * n**-0.7 for n in (2, 5, 10, 50)])
    >>> round(law.a, 3), round(law.b, 3), round(law.c, 3)
    (0.9, 0.5, 0.7)
    """
    sizes, values = np.asarray(shots, np.float64), np.asarray(accuracy, np.float64)
    if len(sizes) < MIN_SIZES:
        raise DataError(f"{len(sizes)} sizes: at least {MIN_SIZES} are needed for a power law")
    tried = np.geomspace(SLOWEST, FASTEST, 25)
    losses = [_given_exponent(c, sizes, values)[0] for c in tried]
    best = int(np.argmin(losses))
    ends = (tried[max(best - 1, 0)], tried[min(best + 1, len(tried) - 1)])
    fit = minimize_scalar(
        lambda c: _given_exponent(c, sizes, values)[0],
        bounds=ends,
        method="bounded",
        options={"xatol": 1e-6},
    )
    c = float(fit.x) if fit.fun <= losses[best] else float(tried[best])
    return _given_exponent(c, sizes, values)[1]


def _given_exponent(c: float, sizes: Float64s, values: Float64s) -> tuple[float, PowerLaw]:
    """Squared misfit of the best a <= 1 and b >= 0 for an exponent, and the law."""
    falling = sizes**-c
    about = falling - falling.mean()
    b = max(0.0, -float(about @ values) / float(about @ about))
    a = float(values.mean() + b * falling.mean())
    if a > 1.0:
        a, b = 1.0, max(0.0, float(falling @ (1.0 - values)) / float(falling @ falling))
    law = PowerLaw(a, b, float(c))
    return float(((law.at(sizes) - values) ** 2).sum()), law


@dataclass(frozen=True)
class Gain:
    """Gain in accuracy by an addition: mean paired difference, and the word for it.

    `draws` counts the draws, or folds, that were compared; of a single one the tiles were.
    """

    what: str
    difference: Interval
    word: str
    draws: int

    def words(self, unit: str = "draw") -> str:
        """The gain in one line.

        >>> Gain("unlabelled scene", Interval(0.02, -0.01, 0.05), "not gained", 5).words("fold")
        'unlabelled scene: +0.020 [-0.010, +0.050], paired over 5 folds: not gained'
        """
        value, low, high = self.difference
        values = {"what": self.what, "value": value, "low": low, "high": high, "word": self.word}
        if self.draws < 2:
            return msg(
                "{what}: {value:+.3f} [{low:+.3f}, {high:+.3f}], paired over the tiles of one "
                "draw: "
                "{word}",
                **values,
            )
        if unit == "fold":
            return msg(
                "{what}: {value:+.3f} [{low:+.3f}, {high:+.3f}], paired over {n} folds: {word}",
                n=self.draws,
                **values,
            )
        return msg(
            "{what}: {value:+.3f} [{low:+.3f}, {high:+.3f}], paired over {n} draws: {word}",
            n=self.draws,
            **values,
        )


def gain(without: ArrayLike, with_it: ArrayLike) -> tuple[Interval, str]:
    """Gain by an addition, repeat by repeat: the mean difference with its interval, and the word.

    It is "gained" where the interval lies above 0.

    >>> gain([0.80, 0.81, 0.79], [0.83, 0.85, 0.83])[1]
    'gained'
    >>> gain([0.80, 0.81, 0.79], [0.83, 0.78, 0.80])[1]
    'not gained'
    """
    interval = mean_interval(np.asarray(with_it, np.float64) - np.asarray(without, np.float64))
    return interval, msg("gained") if interval.low > 0 else msg("not gained")


def more_labels(curve: LearningCurve) -> str:
    """Whether more labels would help, in a sentence: the last step measured, and the fitted law.

    "" for a single size.

    >>> steady = learning_curve([2, 5, 10], [[0.6, 0.7, 0.8], [0.62, 0.71, 0.81]])
    >>> more_labels(steady).partition(";")[0]
    'more labels would help: from 5 to 10 a class accuracy changed by +10.0 points [+10.0, +10.0]'
    """
    if len(curve.shots) < 2:
        return ""
    step, word = gain(curve.draws[:, -2], curve.draws[:, -1])
    before, last = curve.shots[-2:]
    values = {"before": before, "last": last, "change": 100 * step.value}
    verdict = msg("whether more labels would help is not clear")
    if word == "gained":
        verdict = msg("more labels would help")
    elif step.high < SMALL_STEP:
        verdict = msg("more labels of this kind would hardly help")
    if math.isnan(step.low):
        verdict = msg("whether more labels would help is not clear")
        change = msg(
            "from {before:g} to {last:g} a class accuracy changed by {change:+.1f} points in a "
            "single draw",
            **values,
        )
    else:
        change = msg(
            "from {before:g} to {last:g} a class accuracy changed by {change:+.1f} points "
            "[{low:+.1f}, {high:+.1f}]",
            **values,
            low=100 * step.low,
            high=100 * step.high,
        )
    beyond = [
        msg(
            "{shots:g} a class would give {more:+.1f} points more by the fitted law, which is an "
            "extrapolation",
            shots=shots,
            more=100 * (value - curve.mean[-1]),
        )
        for shots, value in curve.extrapolated()[:1]
    ]
    return joined([msg("{verdict}: {change}", verdict=verdict, change=change), *beyond], "; ")


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
        random split 0.930, blocked 0.810: the random split overestimates accuracy by 0.120
        (neighbouring tiles resemble each other)
        >>> print(Optimism("by group", 0.93, 0.92, 0.02).words())
        random split 0.930, by group 0.920: no clear optimism (the difference of 0.010 is within
        ±0.020)
        """
        both = msg(
            "random split {random:.3f}, {how} {spatial:.3f}",
            random=self.random,
            how=self.how,
            spatial=self.spatial,
        )
        if self.interval.low > 0:
            return msg(
                "{both}: the random split overestimates accuracy by {difference:.3f} "
                "(neighbouring tiles resemble each other)",
                both=both,
                difference=self.difference,
            )
        if self.interval.high < 0:
            return msg("{both}: no optimism, the random figure is the lower one", both=both)
        return msg(
            "{both}: no clear optimism (the difference of {difference:.3f} is within ±{reach:.3f})",
            both=both,
            difference=self.difference,
            reach=self.reach,
        )


def optimism(
    how: str, random: Sequence[tuple[int, int]], spatial: Sequence[tuple[int, int]], *, pooled: bool
) -> Optimism:
    """Optimism from (correct tiles, test tiles) of each repeat or fold.

    Repeated draws are compared pair by pair (Student's t). A single draw and pooled folds are two
    shares, whose variances add.

    >>> optimism("blocked", [(9, 10), (8, 10)], [(7, 10), (6, 10)], pooled=False).difference
    0.2...
    """
    if len(random) > 1 and not pooled:
        pairs = np.array([[a / b, c / d] for (a, b), (c, d) in zip(random, spatial, strict=True)])
        gap = pairs[:, 0] - pairs[:, 1]
        interval = mean_interval(gap)
        reach = interval.high - interval.value
        return Optimism(how, float(pairs[:, 0].mean()), float(pairs[:, 1].mean()), reach)
    shares, variance = [], 0.0
    for counts in (random, spatial):
        right, tested = np.array(counts).sum(axis=0)
        share = float(right / tested)
        shares.append(share)
        variance += share * (1 - share) / float(tested)
    return Optimism(how, shares[0], shares[1], 1.96 * math.sqrt(variance))
