"""Scores and intervals of a confusion matrix: counts in, numbers out.

A truth of -1 means "not labelled" and is left out. Undefined scores (such as the recall of a
class without tiles) are nan, never an error.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtrit  # Student's t; scipy.stats takes most of a second to import

from geotl.arrays import Float64s, Int64s
from geotl.errors import DataError
from geotl.language import msg

UNLABELLED = -1


class Interval(NamedTuple):
    """A value with the ends of its 95 % interval.

    >>> print(Interval(0.85, 0.7093, 0.9294))
    0.850 [0.709, 0.929]
    """

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        """The value and its interval, three decimals each."""
        return msg(
            "{value:.3f} [{low:.3f}, {high:.3f}]", value=self.value, low=self.low, high=self.high
        )


@dataclass(frozen=True)
class Scores:
    """Scores of a confusion matrix; the per-class arrays are [K], in the classes' order."""

    overall: float
    balanced: float
    kappa: float
    macro_f1: float
    precision: Float64s
    recall: Float64s
    f1: Float64s
    support: Int64s


def check_labels(values: ArrayLike, name: str, n: int, lowest: int) -> Int64s:
    """Check that labels are one row of whole numbers from `lowest` to n-1.

    Raises:
        DataError: another shape or type, or a label out of range.

    >>> check_labels([0, 2], "truth", 3, UNLABELLED).tolist()
    [0, 2]
    """
    array = np.asarray(values)
    if array.size == 0:
        return np.zeros(0, dtype=np.int64)
    if array.ndim != 1 or not np.issubdtype(array.dtype, np.integer):
        raise DataError(
            f"{name}: {array.dtype} of shape {array.shape} given; allowed: one row of integers"
        )
    if array.min() < lowest or array.max() >= n:
        raise DataError(
            f"{name}: labels from {array.min()} to {array.max()} given; allowed: {lowest} to "
            f"{n - 1} with {n} classes; give the classes the model was trained on"
        )
    return array.astype(np.int64)


def confusion(truth: ArrayLike, predicted: ArrayLike, n: int) -> Int64s:
    """Count the tiles of each truth (row) given each name (column), as [n, n].

    Raises:
        DataError: unequal lengths, or a label outside 0..n-1 (-1 in `truth`: left out).

    >>> confusion([0, 0, 1, -1], [0, 1, 1, 0], 2).tolist()
    [[1, 1], [0, 1]]
    """
    rows = check_labels(truth, "truth", n, UNLABELLED)
    columns = check_labels(predicted, "predicted", n, 0)
    if len(rows) != len(columns):
        raise DataError(f"{len(rows)} truths but {len(columns)} predictions; give one for each")
    labelled = rows != UNLABELLED
    cells = np.bincount(rows[labelled] * n + columns[labelled], minlength=n * n)
    return cells.reshape(n, n).astype(np.int64)


def _mean_defined(values: Float64s) -> Float64s:
    """Mean over the last axis of what is not nan; nan where nothing is left."""
    defined = ~np.isnan(values)
    with np.errstate(invalid="ignore"):  # 0 / 0 is the nan that is wanted
        return np.asarray(
            np.where(defined, values, 0.0).sum(-1) / defined.sum(-1), dtype=np.float64
        )


def summaries(hits: NDArray[Any], truth: NDArray[Any], given: NDArray[Any]) -> dict[str, Float64s]:
    """Overall, balanced, kappa and macro F1 from [..., K] hits, row sums and column sums."""
    total = truth.sum(-1).astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):  # 0 / 0 is the nan that is wanted
        overall = hits.sum(-1) / total
        chance = (truth * given).sum(-1) / total**2
        return {
            "overall": overall,
            "balanced": _mean_defined(hits / truth),
            "kappa": (overall - chance) / (1.0 - chance),
            "macro_f1": _mean_defined(2.0 * hits / (truth + given)),
        }


def scores(matrix: ArrayLike) -> Scores:
    """Compute accuracy, kappa and per-class scores of a confusion matrix [K, K].

    F1 is 2 TP / (2 TP + FP + FN), so it is 0, not nan, for a class that has tiles but is never
    named. Balanced accuracy averages over the classes that have tiles, macro F1 over those that
    have tiles or are named (as scikit-learn does). Kappa: Cohen 1960.

    >>> s = scores([[8, 2, 0], [1, 9, 0], [0, 0, 0]])
    >>> round(s.overall, 3), round(s.kappa, 3), s.recall.tolist()
    (0.85, 0.7, [0.8, 0.9, nan])
    """
    cells = np.asarray(matrix)  # whole counts, or sums of weights
    hits, truth, given = np.diagonal(cells), cells.sum(1), cells.sum(0)
    summary = {name: float(value) for name, value in summaries(hits, truth, given).items()}
    with np.errstate(divide="ignore", invalid="ignore"):  # 0 / 0 is the nan that is wanted
        precision, recall = hits / given, hits / truth
        f1 = 2.0 * hits / (truth + given)
    return Scores(**summary, precision=precision, recall=recall, f1=f1, support=truth)


def wilson(correct: int, n: int, z: float = 1.96) -> Interval:
    """Give a share of successes with its Wilson score interval (Wilson 1927).

    Of nothing (n = 0) the share is nan and the interval is [0, 1].

    Raises:
        DataError: `correct` outside 0..n.

    >>> print(wilson(34, 40))
    0.850 [0.709, 0.929]
    """
    if not 0 <= correct <= n:
        raise DataError(f"{correct} right of {n} given; allowed: 0 to {n}")
    if n == 0:
        return Interval(math.nan, 0.0, 1.0)
    share, shrink = correct / n, 1.0 + z * z / n
    centre = (share + z * z / (2 * n)) / shrink
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / shrink
    low = 0.0 if correct == 0 else max(0.0, centre - half)
    high = 1.0 if correct == n else min(1.0, centre + half)
    return Interval(share, low, high)


def mean_interval(values: ArrayLike) -> Interval:
    """Mean over draws with its 95 % interval by Student's t; nan ends of a single draw.

    >>> print(mean_interval([0.8, 0.82, 0.84]))
    0.820 [0.770, 0.870]
    """
    column = np.asarray(values, dtype=np.float64)
    mean = float(column.mean())
    if len(column) < 2:
        return Interval(mean, math.nan, math.nan)
    error = float(column.std(ddof=1)) / math.sqrt(len(column))
    reach = float(stdtrit(len(column) - 1, 0.975)) * error
    return Interval(mean, mean - reach, mean + reach)


def bootstrap_matrix(matrix: ArrayLike, *, seed: int, rounds: int = 1000) -> dict[str, Interval]:
    """Percentile bootstrap intervals (95 %) of overall, balanced, kappa and macro F1.

    Drawing n tiles with replacement and counting them into a confusion matrix is the same as
    one multinomial draw of n over its cells, with the observed shares as probabilities; so
    whole matrices are drawn at once (Efron 1979). With no rounds or no tiles the ends are nan.

    >>> result = bootstrap_matrix([[17, 3], [3, 17]], seed=0, rounds=2000)
    >>> result["overall"].value, 0.70 < result["overall"].low < 0.80
    (0.85, True)
    """
    cells = np.asarray(matrix, dtype=np.int64)
    total = int(cells.sum())
    point = summaries(np.diagonal(cells), cells.sum(1), cells.sum(0))
    if rounds < 1 or total == 0:
        return {name: Interval(float(v), math.nan, math.nan) for name, v in point.items()}
    rows, columns = np.nonzero(cells)
    draws = np.random.default_rng(seed).multinomial(total, cells[rows, columns] / total, rounds)
    one = np.eye(len(cells), dtype=np.int64)
    hits = draws @ (one[rows] * (rows == columns)[:, None])
    drawn = summaries(hits, draws @ one[rows], draws @ one[columns])
    return {name: percentiles(float(point[name]), values) for name, values in drawn.items()}


def percentiles(value: float, drawn: Float64s) -> Interval:
    """The central 95 % of the rounds in which the score was defined."""
    defined = drawn[~np.isnan(drawn)]
    if not len(defined):
        return Interval(value, math.nan, math.nan)
    low, high = np.percentile(defined, [2.5, 97.5])
    return Interval(value, float(low), float(high))


def bootstrap(
    truth: ArrayLike,
    predicted: ArrayLike,
    *,
    seed: int,
    rounds: int = 1000,
    n: int | None = None,
) -> dict[str, Interval]:
    """Bootstrap the test tiles; see `bootstrap_matrix`, of which this is the long-hand form.

    >>> sorted(bootstrap([0, 1, 1], [0, 1, 0], seed=1, rounds=50))
    ['balanced', 'kappa', 'macro_f1', 'overall']
    """
    if n is None:
        n = int(max(np.max(truth, initial=0), np.max(predicted, initial=0))) + 1
    return bootstrap_matrix(confusion(truth, predicted, n), seed=seed, rounds=rounds)
