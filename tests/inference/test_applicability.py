"""Dissimilarity against a plain computation, and the threshold by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from geotl.errors import DataError
from geotl.inference.applicability import area_of_applicability


def test_the_index_is_the_nearest_distance_over_the_mean_one() -> None:
    random = np.random.default_rng(0)
    train, new = random.normal(size=(1500, 6)), random.normal(size=(70, 6)) * 3
    area = area_of_applicability(train, np.arange(1500) % 5)
    every = cdist(train, train)
    mean = every.sum() / (1500 * 1499)
    assert area.mean_distance == pytest.approx(mean)
    np.testing.assert_allclose(area.index(new), cdist(new, train).min(axis=1) / mean, atol=1e-6)


def test_the_threshold_measures_each_tile_against_other_folds_alone() -> None:
    train = np.array([[0.0], [0.1], [5.0], [5.2], [11.0]])
    folds = np.array([0, 0, 1, 1, 2])
    area = area_of_applicability(train, folds)
    own = np.array([5.0, 4.9, 4.9, 5.1, 5.8]) / area.mean_distance
    low, high = np.quantile(own, [0.25, 0.75])
    assert area.threshold == pytest.approx(min(high + 1.5 * (high - low), own.max()))
    random = area_of_applicability(train, np.full(5, -1))
    assert random.threshold < area.threshold  # near neighbours of the same fold would flatter it


def test_what_is_far_from_all_training_tiles_is_outside() -> None:
    random = np.random.default_rng(1)
    area = area_of_applicability(random.normal(size=(200, 4)), np.arange(200) % 4)
    assert area.inside(random.normal(size=(200, 4)) * 0.5).mean() > 0.95
    assert not area.inside(random.normal(size=(50, 4)) + 30).any()


def test_no_tiles_give_no_index() -> None:
    area = area_of_applicability(np.eye(3), np.arange(3))
    assert area.index(np.zeros((0, 3))).shape == (0,)


@pytest.mark.parametrize(
    ("features", "folds"),
    [(np.ones((1, 2)), [0]), (np.ones((4, 2)), [0, 1, 0, 1]), (np.eye(3), [0, 0, 0])],
)
def test_tiles_that_tell_nothing_of_likeness_are_refused(
    features: np.ndarray, folds: list[int]
) -> None:
    with pytest.raises(
        DataError,
        match=r"at least 2 are needed to measure dissimilarity|dissimilarity cannot be measured",
    ):
        area_of_applicability(features, np.array(folds))
