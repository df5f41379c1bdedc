"""Sets of classes that hold the true one with a stated probability ("water or reed").

Conformal prediction by class (Vovk et al. 2005, Mondrian; Sadinle et al. 2019): of the held-out
labels of a class, a share of at most 1 - coverage may have a probability below the class's
threshold, and a set contains every class whose probability reaches its threshold. The coverage is
valid for new samples that are to the labels as the labels are to each other: not far away, and not
another season.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from geotl.arrays import Bools, Float64s, Int64s
from geotl.errors import ModelError

HELD_OUT = "held_out"  # key of a model's notes
MAX_STORED = 500  # probabilities of a class, evenly over their order
COVERAGES = (0.8, 0.9, 0.95)  # that a run measures
_DIGITS = 5


@dataclass(frozen=True)
class HeldOutProbabilities:
    """Probabilities of labels' own classes by models that were not fitted to them.

    Attributes:
        by_class: probabilities of each class, in ascending order.
    """

    by_class: tuple[Float64s, ...]

    @classmethod
    def of(
        cls, probabilities: Float64s, given: Int64s, label: Sequence[str] | None = None
    ) -> HeldOutProbabilities:
        """From predictions of held-out rows.

        Args:
            probabilities: calibrated [n,K].
            given: classes of the rows' labels [n].
            label: label of each row [n], None for one row per label; of several rows of a
                label the median counts, since they resemble each other.
        """
        of_label, classes = probabilities[np.arange(len(given)), given], probabilities.shape[1]
        if label is not None and len(given):
            _, first, number = np.unique(
                np.asarray(label, str), return_index=True, return_inverse=True
            )
            of_label = np.array([np.median(of_label[number == i]) for i in range(len(first))])
            given = given[first]
        return cls(tuple(np.sort(of_label[given == k]) for k in range(classes)))

    def thresholds(self, coverage: float) -> Float64s:
        """Probability from which each class is in a set [K].

        A class with too few labels for the coverage (90 % needs 9) takes the threshold of all
        classes' labels together, but at most the lowest probability of its own labels, which is
        its threshold at a lower coverage: a higher coverage never gives smaller sets. Without any
        label that allows a threshold it is 0: every set contains the class.

        >>> held = HeldOutProbabilities((np.linspace(0.1, 1.0, 10), np.array([0.4])))
        >>> held.thresholds(0.8).round(2).tolist()
        [0.2, 0.2]
        """
        pooled = np.sort(np.concatenate(self.by_class))
        together = _threshold(pooled, coverage) or 0.0
        limits = []
        for values in self.by_class:
            own = _threshold(values, coverage)
            limits.append(min([together, *values[:1]]) if own is None else own)
        return np.array(limits, np.float64)

    def plain(self) -> list[list[float]]:
        """The form in a model file: rounded, and a sample of very many."""
        return [_thinned(values).round(_DIGITS).tolist() for values in self.by_class]

    @classmethod
    def from_plain(cls, stored: Any, classes: int) -> HeldOutProbabilities:
        """From `plain`.

        Raises:
            ValueError: it is none, or of another number of classes.
        """
        parts = [np.asarray(values, np.float64) for values in stored]
        sound = all(part.ndim == 1 and ((part >= 0) & (part <= 1)).all() for part in parts)
        if not sound or len(parts) != classes:
            raise ValueError(f"held-out probabilities do not fit {classes} classes")
        return cls(tuple(np.sort(part) for part in parts))


def stored_limits(
    notes: Mapping[str, Any], classes: int, coverage: float, path: Path | None
) -> Float64s:
    """Thresholds [K] of a model, from what its notes keep.

    Raises:
        ModelError: the file has no held-out probabilities.
    """
    if HELD_OUT not in notes:
        raise ModelError(
            f"{path}: prediction sets need held-out probabilities, which this file does not have: "
            "it was exported, made by an earlier geotl, or fitted without any held-out label; give "
            "the model.safetensors of a run that has them"
        )
    try:
        held_out = HeldOutProbabilities.from_plain(notes[HELD_OUT], classes)
    except ValueError as error:
        raise ModelError(f"{path}: {error}; copy it again, or train again") from error
    return held_out.thresholds(coverage)


def coverage_line(notes: Mapping[str, Any], stated: float) -> str:
    """The stated coverage of prediction sets, and what tests of the model found, in a line.

    Args:
        notes: of a model file; its metrics hold the tests, if there were any.
        stated: the coverage of the sets.

    >>> tested = [{"stated": 0.9, "covered": 0.917, "classes": 1.4, "single": 0.7, "labels": 60}]
    >>> coverage_line({"metrics": {"sets": tested}}, 0.9)
    'sets     stated coverage 90 %; on 60 test labels 91.7 %, 1.40 classes per set'
    >>> coverage_line({"metrics": {"sets": tested}}, 0.8)
    'sets     stated coverage 80 %, not tested; at 90 %: on 60 test labels 91.7 %, 1.40 classes per
    set'
    >>> coverage_line({}, 0.9)
    'sets     stated coverage 90 %, not tested'
    """
    words = f"sets     stated coverage {_percent(stated)}"
    tests = notes.get("metrics", {}).get("sets") or ()
    if not tests:
        return f"{words}, not tested"
    nearest = min(tests, key=lambda one: abs(one["stated"] - stated))
    at = "" if nearest["stated"] == stated else f", not tested; at {_percent(nearest['stated'])}"
    found = f"{_percent(nearest['covered'])}, {nearest['classes']:.2f} classes per set"
    return f"{words}{at}{':' if at else ';'} on {nearest['labels']} test labels {found}"


def _percent(share: float) -> str:
    """A share in percent, with as many as three figures.

    >>> _percent(0.9), _percent(0.9174)
    ('90 %', '91.7 %')
    """
    return f"{100 * share:.3g} %"


def _threshold(values: Float64s, coverage: float) -> float | None:
    """The value below which at most 1 - coverage lie, also with a further one; None of too few."""
    place = int(np.floor((len(values) + 1) * (1 - coverage) + 1e-9))
    return float(values[place - 1]) if place >= 1 else None


def _thinned(values: Float64s) -> Float64s:
    if len(values) <= MAX_STORED:
        return values
    return np.asarray(values[np.linspace(0, len(values) - 1, MAX_STORED).round().astype(int)])


def in_sets(probabilities: Float64s, thresholds: Float64s) -> Bools:
    """Which classes are in the set of each row [...,K]; the most probable one always is.

    >>> in_sets(np.array([[0.5, 0.4, 0.1]]), np.array([0.9, 0.3, 0.3])).tolist()
    [[True, True, False]]
    """
    best = probabilities == probabilities.max(axis=-1, keepdims=True)
    return np.asarray((probabilities >= thresholds) | best)


class SetScore(NamedTuple):
    """Sets of one stated coverage, on labels that set no threshold.

    Attributes:
        stated: the coverage.
        covered: share of labels whose set contains their class.
        classes: mean number of classes in a set.
        single: share of sets with one class.
        labels: number of labels.
    """

    stated: float
    covered: float
    classes: float
    single: float
    labels: int


def score_sets(sets: Bools, given: Int64s, stated: float) -> SetScore:
    """Coverage and size of sets [n,K]."""
    size = sets.sum(axis=1)
    return SetScore(
        stated,
        float(sets[np.arange(len(given)), given].mean()),
        float(size.mean()),
        float((size == 1).mean()),
        len(given),
    )
