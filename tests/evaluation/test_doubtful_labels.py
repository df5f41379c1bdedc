"""Which labels look like another class, and in which order."""

from __future__ import annotations

import numpy as np
import pytest

from geotl.evaluation.doubtful_labels import HeldOutPredictions, doubtful_labels, margins


def held(probabilities: list[list[float]], given: list[int]) -> HeldOutPredictions:
    return HeldOutPredictions(np.arange(len(given)), np.array(probabilities), np.array(given))


def test_a_label_that_its_class_suits_is_not_among_them() -> None:
    found = doubtful_labels(held([[0.6, 0.4], [0.4, 0.6]], [0, 0]), ["a", "b"])
    assert [one.row for one in found] == [1]


def test_the_least_probable_label_comes_first() -> None:
    rows = held([[0.3, 0.7, 0.0], [0.01, 0.5, 0.49], [0.2, 0.1, 0.7]], [0, 0, 0])
    found = doubtful_labels(rows, ["a", "b", "c"])
    assert [one.row for one in found] == [1, 2, 0]
    assert [one.likely for one in found] == [1, 2, 1]


def test_pixels_of_one_label_count_together() -> None:
    """Two of three pixels suit the label, one does not: the mean decides, not the worst pixel."""
    rows = held([[0.8, 0.2], [0.8, 0.2], [0.3, 0.7], [0.2, 0.8], [0.4, 0.6]], [0, 0, 0, 0, 0])
    found = doubtful_labels(rows, ["a", "a", "a", "b", "b"])
    (only,) = found
    assert only.row == 3  # the least probable pixel of b
    assert only.probability_given == pytest.approx(0.3)
    assert only.probability_likely == pytest.approx(0.7)


def test_a_probability_of_zero_has_a_margin() -> None:
    assert np.isfinite(margins(held([[0.0, 1.0], [1.0, 0.0]], [0, 1]))).all()


def test_no_labels_no_doubts() -> None:
    none = HeldOutPredictions(np.zeros(0, np.int64), np.zeros((0, 2)), np.zeros(0, np.int64))
    assert doubtful_labels(none, []) == []
