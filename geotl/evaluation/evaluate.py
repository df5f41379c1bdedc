"""Evaluation of a classifier: from logits and true classes to scores, intervals and calibration.

Everything here is a pure function. A truth of -1 means "not labelled" and is left out
everywhere. What is undefined is nan, never an error, and becomes null in metrics.json.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from geotl.arrays import Float64s, Int64s
from geotl.errors import DataError
from geotl.evaluation.metrics import (
    UNLABELLED,
    Interval,
    Scores,
    bootstrap,
    bootstrap_matrix,
    check_labels,
    confusion,
    scores,
    wilson,
)
from geotl.io.files import jsonable
from geotl.language import listed, msg

__all__ = [
    "Evaluation",
    "Interval",
    "Reliability",
    "Scores",
    "Spread",
    "bootstrap",
    "commonest",
    "confusion",
    "evaluate",
    "expected_calibration_error",
    "few_tiles",
    "fit_temperature",
    "headline",
    "losses",
    "plain",
    "reliability",
    "scores",
    "softmax",
    "summarise_draws",
    "wilson",
]

MIN_TEMPERATURE = 0.05
MAX_TEMPERATURE = 1e4  # a discriminant's logits grow with the number of features
MIN_TILES = 5  # a class with fewer has no useful score


class Spread(NamedTuple):
    """Mean and sample standard deviation over repeated draws.

    >>> print(Spread(0.8654, 0.0102, 20))
    0.865 ± 0.010 (20 draws)
    """

    mean: float
    sd: float
    draws: int

    def __str__(self) -> str:
        """Mean, sd and the number of draws."""
        return self.over("draw")

    def over(self, what: str) -> str:
        """Mean, sd and how many draws or folds they are of.

        >>> Spread(0.8654, 0.0102, 5).over("fold")
        '0.865 ± 0.010 (5 folds)'
        """
        if what == "fold":
            return self._over_folds()
        if self.draws < 2:
            return msg("{mean:.3f} (one draw)", mean=self.mean)
        return msg("{mean:.3f} ± {sd:.3f} ({n} draws)", mean=self.mean, sd=self.sd, n=self.draws)

    def _over_folds(self) -> str:
        if self.draws < 2:
            return msg("{mean:.3f} (one fold)", mean=self.mean)
        return msg("{mean:.3f} ± {sd:.3f} ({n} folds)", mean=self.mean, sd=self.sd, n=self.draws)


@dataclass(frozen=True)
class Reliability:
    """Confidence against accuracy in equal-width bins of confidence; empty bins are nan."""

    edges: Float64s
    confidence: Float64s
    accuracy: Float64s
    count: Int64s

    @property
    def error(self) -> float:
        """Expected calibration error: the mean gap, weighted by the tiles in each bin."""
        total = int(self.count.sum())
        if not total:
            return math.nan
        filled = self.count > 0
        gap = np.abs(self.accuracy - self.confidence)[filled]
        return float((gap * self.count[filled]).sum() / total)


def _usable(logits: ArrayLike, truth: ArrayLike) -> tuple[Float64s, Int64s]:
    """Logits [N, K] as float64 and their truths, without the unlabelled rows.

    A log-probability of -inf (a probability that underflowed to 0) is lifted to a floor far
    below the row's largest, so that sums stay finite.
    """
    rows = np.asarray(logits, dtype=np.float64)
    if rows.ndim != 2:
        raise DataError(f"logits: shape {rows.shape} given; allowed: [tiles, classes]")
    if np.isnan(rows).any() or np.isposinf(rows).any():
        raise DataError(
            "logits hold NaN or infinity, so the training diverged; lower train.lr or set "
            "train.precision=float32"
        )
    labels = check_labels(truth, "truth", rows.shape[1], UNLABELLED)
    if len(labels) != len(rows):
        raise DataError(f"{len(labels)} truths but {len(rows)} rows of logits; give one for each")
    rows = np.maximum(rows, rows.max(1, keepdims=True, initial=-1e6) - 1e3)
    labelled = labels != UNLABELLED
    return rows[labelled], labels[labelled]


def softmax(logits: ArrayLike, temperature: float | Float64s = 1.0) -> Float64s:
    """Turn logits [N, K] into probabilities, divided by `temperature` (of each row, or all) first.

    >>> softmax([[0.0, 0.0]]).tolist()
    [[0.5, 0.5]]
    """
    scaled = np.asarray(logits, dtype=np.float64) / np.asarray(temperature)[..., None]
    raised = np.exp(scaled - scaled.max(axis=1, keepdims=True, initial=-np.inf))
    return np.asarray(raised / raised.sum(axis=1, keepdims=True), dtype=np.float64)


def reliability(probabilities: ArrayLike, truth: ArrayLike, bins: int = 15) -> Reliability:
    """Bin the tiles by their highest probability; bins (lo, hi] of equal width over 0..1.

    >>> reliability([[0.9, 0.1], [0.7, 0.3]], [0, 1], bins=2).accuracy.tolist()
    [nan, 0.5]
    """
    rows = np.asarray(probabilities, dtype=np.float64)
    labels = check_labels(truth, "truth", rows.shape[1], UNLABELLED)
    rows, labels = rows[labels != UNLABELLED], labels[labels != UNLABELLED]
    edges = np.linspace(0.0, 1.0, bins + 1)
    top = rows.max(axis=1, initial=0.0)
    place = np.clip(np.searchsorted(edges, top, side="left") - 1, 0, bins - 1)
    count = np.bincount(place, minlength=bins)
    right = np.bincount(place, weights=rows.argmax(axis=1) == labels, minlength=bins)
    with np.errstate(invalid="ignore"):  # an empty bin is the nan that is wanted
        confidence = np.bincount(place, weights=top, minlength=bins) / count
        return Reliability(edges, confidence, right / count, count.astype(np.int64))


def expected_calibration_error(probabilities: ArrayLike, truth: ArrayLike, bins: int = 15) -> float:
    """Mean gap between confidence and accuracy over bins of confidence (Guo et al. 2017, eq. 3).

    >>> round(expected_calibration_error([[0.9, 0.1], [0.9, 0.1]], [0, 1]), 3)
    0.4
    """
    return reliability(probabilities, truth, bins).error


def fit_temperature(logits: ArrayLike, truth: ArrayLike, weight: ArrayLike | None = None) -> float:
    """Find the temperature T that minimises the mean of -log softmax(logits / T)[truth].

    With b = 1/T the loss is convex and its slope is mean(E_p[z] - z_truth), whose root is searched
    by Brent's method, T between 0.05 and 10,000 (Guo et al. 2017). Give logits of tiles that were
    not trained on (held-out folds), or T describes the training set. Where the loss is smallest at
    the minimum of T, every tile is correct and T cannot be estimated: 1 is returned, also without
    tiles. `weight` [N] is the weight of each row in the mean.

    >>> fit_temperature([[2.0, 0.0]] * 4, [0, 0, 0, 1])  # 3 of 4 right: 2 / T = log 3
    1.82...
    """
    rows, labels = _usable(logits, truth)
    if not len(rows):
        return 1.0
    of_label = rows[np.arange(len(rows)), labels]
    share = None if weight is None else np.asarray(weight)[np.asarray(truth) != UNLABELLED]

    def slope(temperature: float) -> float:
        gap = (softmax(rows, temperature) * rows).sum(1) - of_label
        return float(gap.mean() if share is None else np.average(gap, weights=share))

    if slope(MIN_TEMPERATURE) <= 0.0:
        return 1.0
    if slope(MAX_TEMPERATURE) >= 0.0:
        return MAX_TEMPERATURE
    return _root(slope, MIN_TEMPERATURE, MAX_TEMPERATURE)


def _root(slope: Callable[[float], float], low: float, high: float) -> float:
    """The root between low (slope > 0) and high (slope < 0), searched on a log scale."""
    from scipy.optimize import brentq  # which takes a while to import

    ends = math.log(low), math.log(high)
    return math.exp(brentq(lambda place: slope(math.exp(place)), *ends, xtol=1e-13))


def summarise_draws(draws: Sequence[Mapping[str, Any]]) -> dict[str, Spread]:
    """Mean and sd (n - 1) of every number that the draws carry; nan and text are passed over.

    >>> print(summarise_draws([{"overall": 0.8}, {"overall": 0.9}])["overall"])
    0.850 ± 0.071 (2 draws)
    """
    names = dict.fromkeys(name for draw in draws for name in draw)
    spreads: dict[str, Spread] = {}
    for name in names:
        values = [float(draw[name]) for draw in draws if _is_number(draw.get(name))]
        if values:
            sd = float(np.std(values, ddof=1)) if len(values) > 1 else math.nan
            spreads[name] = Spread(float(np.mean(values)), sd, len(values))
    return spreads


def _is_number(value: object) -> bool:
    """Whether a value is a number that can be averaged."""
    if isinstance(value, bool | np.bool_):
        return False
    return isinstance(value, int | float | np.number) and not math.isnan(float(value))


def commonest(truth: ArrayLike, n: int) -> tuple[int, Interval]:
    """Name the commonest class and the accuracy of always answering it: the floor to beat.

    It is counted on the test tiles, not on the training labels: labels drawn k per class have
    no commonest class, and this is the strictest form of the bar.

    >>> commonest([0, 1, 1, 1], 2)[0]
    1
    """
    labels = check_labels(truth, "truth", n, UNLABELLED)
    counts = np.bincount(labels[labels != UNLABELLED], minlength=n)
    best = int(counts.argmax())
    return best, wilson(int(counts[best]), int(counts.sum()))


def few_tiles(
    support: ArrayLike, classes: Sequence[str], least: int = MIN_TILES
) -> tuple[str, ...]:
    """Name the classes with fewer than `least` test tiles.

    >>> few_tiles([40, 3], ["forest", "wetland"])
    ('wetland',)
    """
    counts = np.asarray(support).tolist()
    return tuple(c for c, count in zip(classes, counts, strict=True) if count < least)


def losses(network: float, baselines: Mapping[str, float]) -> dict[str, float]:
    """The baselines that are better than the network, best first; a tie is no loss.

    >>> losses(0.8, {"majority class": 0.1, "frozen probe": 0.9})
    {'frozen probe': 0.9}
    """
    better = {name: value for name, value in baselines.items() if value > network + 1e-9}
    return dict(sorted(better.items(), key=lambda pair: -pair[1]))


def headline(
    network: Interval | Spread, baselines: Mapping[str, float], name: str = msg("network")
) -> str:
    """The headline: the baselines that are better than the network, if any, and its accuracy.

    `name` says what is tested, where that is more than a network.

    >>> headline(wilson(34, 40), {"majority class": 0.3})
    'overall accuracy 0.850 [0.709, 0.929]'
    >>> headline(wilson(34, 40), {"majority class": 0.3, "band statistics": 0.9})
    'The network loses to band statistics (0.900): overall accuracy 0.850 [0.709, 0.929]'
    """
    accuracy = msg("overall accuracy {accuracy}", accuracy=network)
    better = [
        msg("{name} ({value:.3f})", name=name, value=value)
        for name, value in losses(network[0], baselines).items()
    ]
    if not better:
        return accuracy
    return msg(
        "The {name} loses to {named}: {accuracy}",
        name=name,
        named=listed(better),
        accuracy=accuracy,
    )


@dataclass(frozen=True)
class Evaluation:
    """All scores of one classifier on its test tiles.

    `overall` carries the Wilson interval, `intervals` the bootstrap ones. `before` and `after`
    are the reliability at temperature 1 and at `temperature`.
    """

    classes: tuple[str, ...]
    matrix: Int64s
    scores: Scores
    overall: Interval
    intervals: dict[str, Interval]
    temperature: float
    before: Reliability
    after: Reliability
    rivals: dict[str, Interval]

    @property
    def headline(self) -> str:
        """The first line to print; see `headline`."""
        return headline(self.overall, {name: rival.value for name, rival in self.rivals.items()})

    @property
    def loses(self) -> bool:
        """Whether some baseline does better."""
        return bool(losses(self.overall.value, {n: r.value for n, r in self.rivals.items()}))

    @property
    def few(self) -> tuple[str, ...]:
        """Classes with fewer than five test tiles."""
        return few_tiles(self.scores.support, self.classes)

    def to_dict(self) -> dict[str, Any]:
        """Content of metrics.json: plain floats, lists and strings, null for undefined."""
        return {
            "headline": self.headline,
            "loses_to_a_baseline": self.loses,
            "tiles": int(self.matrix.sum()),
            "overall_accuracy": plain(self.overall),
            "bootstrap": plain(self.intervals),
            "per_class": plain(_by_class(self.classes, self.scores)),
            "classes_with_few_tiles": list(self.few),
            "calibration": {
                "temperature": plain(self.temperature),
                "error_before": plain(self.before.error),
                "error_after": plain(self.after.error),
                "bins_before": plain(self.before),
                "bins_after": plain(self.after),
            },
            "baselines": plain(self.rivals),
            "classes": list(self.classes),
            "confusion": self.matrix.tolist(),
        }


def evaluate(
    logits: ArrayLike,
    truth: ArrayLike,
    classes: Sequence[str],
    *,
    temperature: float | Float64s = 1.0,
    seed: int = 0,
    rounds: int = 1000,
    rivals: Mapping[str, Interval] | None = None,
) -> Evaluation:
    """Score logits [N, K] (or log-probabilities) against true classes [N].

    `temperature` was fitted before, on held-out training labels: nothing is chosen here. Where
    the rows [N] have their own, as those of several folds do, the median one is reported.
    `rivals` gives the baselines' overall accuracies on the same tiles.

    Raises:
        DataError: shapes that do not fit, labels out of range, NaN among the logits.

    >>> e = evaluate([[2.0, 0.0], [0.0, 1.0], [3.0, 0.0]], [0, 1, 1], ["field", "wood"])
    >>> e.headline
    'overall accuracy 0.667 [0.208, 0.939]'
    """
    rows, labels = _usable(logits, truth)
    if rows.shape[1] != len(classes):
        raise DataError(
            f"logits for {rows.shape[1]} classes but {len(classes)} class names; they must agree"
        )
    matrix = confusion(labels, rows.argmax(1), len(classes))
    temperatures = np.broadcast_to(temperature, len(np.asarray(truth)))[
        np.asarray(truth) != UNLABELLED
    ]
    return Evaluation(
        classes=tuple(classes),
        matrix=matrix,
        scores=scores(matrix),
        overall=wilson(int(np.trace(matrix)), int(matrix.sum())),
        intervals=bootstrap_matrix(matrix, seed=seed, rounds=rounds),
        temperature=float(np.median(temperature)),
        before=reliability(softmax(rows), labels),
        after=reliability(softmax(rows, temperatures), labels),
        rivals=dict(rivals or {}),
    )


def _by_class(classes: Sequence[str], result: Scores) -> dict[str, dict[str, Any]]:
    """Scores per class, under the class's name."""
    named = ("precision", "recall", "f1", "support")
    return {c: {n: getattr(result, n)[i] for n in named} for i, c in enumerate(classes)}


def plain(value: Any) -> Any:
    """Reduce a value to what JSON knows, as `jsonable`; named tuples become objects.

    >>> plain({"sd": float("nan"), "overall": wilson(1, 1)._replace(low=0.5)})
    {'sd': None, 'overall': {'value': 1.0, 'low': 0.5, 'high': 1.0}}
    """
    if hasattr(value, "_asdict"):
        value = value._asdict()
    elif is_dataclass(value) and not isinstance(value, type):
        value = {field.name: getattr(value, field.name) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(name): plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return jsonable(value)
