"""Labels that a model not trained on them predicts as another class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from geotl.arrays import Float64s, Int64s


class HeldOutPredictions(NamedTuple):
    """Labelled rows (tiles, pixels) with predictions of models that were not fitted to them.

    Attributes:
        rows: positions of the rows [n], each at most once.
        probabilities: calibrated, [n, K].
        given: class of the label of each row [n].
    """

    rows: Int64s
    probabilities: Float64s
    given: Int64s

    def part(self, some: Int64s) -> HeldOutPredictions:
        """The predictions of the given rows."""
        return HeldOutPredictions(self.rows[some], self.probabilities[some], self.given[some])


class Doubt(NamedTuple):
    """A label whose samples look like another class.

    Attributes:
        row: position of the row, of several rows, the one least like its label.
        given: the class of the label.
        likely: the most probable of the other classes.
        probability_given: probability of the label's class, the mean over its rows.
        probability_likely: probability of the other class, likewise.
    """

    row: int
    given: int
    likely: int
    probability_given: float
    probability_likely: float

    def words(self, classes: Sequence[str]) -> str:
        """The doubt in a few words.

        >>> Doubt(0, 0, 1, 0.05, 0.9).words(["reed", "water"])
        'labelled reed (0.05), looks like water (0.90)'
        """
        return (
            f"labelled {classes[self.given]} ({self.probability_given:.2f}), looks like "
            f"{classes[self.likely]} ({self.probability_likely:.2f})"
        )


def doubtful_labels(predictions: HeldOutPredictions, label: Sequence[str]) -> list[Doubt]:
    """The labels to which another class is more probable than their own, most doubtful first.

    The order is that of the log-ratio of both probabilities, over the label's rows: the model must
    not have been fitted to the label, or it would agree with it (confident learning, Northcutt et
    al. 2021, ranks by such margins).

    Args:
        predictions: predictions for held-out rows.
        label: label of each row [n]; rows of one label share its class.

    >>> sure = np.array([[0.9, 0.1], [0.2, 0.8], [0.4, 0.6]])
    >>> predictions = HeldOutPredictions(np.array([4, 5, 6]), sure, np.array([1, 1, 0]))
    >>> [(one.row, one.likely) for one in doubtful_labels(predictions, ["a", "b", "c"])]
    [(4, 0), (6, 1)]
    """
    names, number = np.unique(np.asarray(label, str), return_inverse=True)
    margin = margins(predictions)
    order = np.lexsort((-margin, number))  # of each label the most doubtful row first
    first = order[np.unique(number[order], return_index=True)[1]]
    count = np.bincount(number)
    means = np.stack(
        [np.bincount(number, column, len(names)) / count for column in predictions.probabilities.T]
    ).T
    doubt = np.bincount(number, margin) / count
    doubts = [
        _doubt(int(predictions.rows[first[i]]), int(predictions.given[first[i]]), means[i])
        for i in np.argsort(-doubt, kind="stable")
    ]
    return [one for one in doubts if one.probability_likely > one.probability_given]


def margins(predictions: HeldOutPredictions) -> Float64s:
    """Log-ratio of the most probable other class to the label's [n]; above 0 it looks like it."""
    log, rows = (
        np.log(np.maximum(predictions.probabilities, 1e-12)),
        np.arange(len(predictions.given)),
    )
    of_label, others = log[rows, predictions.given], log.copy()
    others[rows, predictions.given] = -np.inf
    return np.asarray(others.max(axis=1) - of_label)


def _doubt(row: int, given: int, probabilities: Float64s) -> Doubt:
    others = probabilities.copy()
    others[given] = -1.0
    likely = int(others.argmax())
    return Doubt(row, given, likely, float(probabilities[given]), float(probabilities[likely]))
