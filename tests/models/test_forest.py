"""A forest as arrays: what scikit-learn gives, and what a damaged one is refused for."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn.ensemble import RandomForestClassifier

from geotl.errors import ModelError
from geotl.models.forest import ForestMember
from geotl.training.pixel_members import forest_member

RANDOM = np.random.default_rng(1)
ROWS = RANDOM.normal(size=(300, 7)).astype(np.float32)
LABELS = (ROWS[:, 0] * ROWS[:, 1] > 0) + 1 * (ROWS[:, 2] > 1)


@pytest.fixture(scope="module")
def solver() -> RandomForestClassifier:
    return RandomForestClassifier(15, random_state=0).fit(ROWS, LABELS)


@pytest.fixture(scope="module")
def forest(solver: RandomForestClassifier) -> ForestMember:
    return forest_member(solver, ("bands",), 3)


@pytest.mark.parametrize("count", [1, 63, 64, 65, 300])
def test_probabilities_are_scikit_learns(solver, forest, count: int) -> None:
    """In whatever number pixels come."""
    rows = RANDOM.normal(size=(count, 7)).astype(np.float32)
    found = np.exp(forest.log_probabilities({"bands": np.ascontiguousarray(rows.T)}))
    np.testing.assert_allclose(found, solver.predict_proba(rows), atol=1e-5)


def test_depths_are_those_of_the_trees(solver, forest) -> None:
    assert forest.depths.tolist() == [tree.get_depth() for tree in solver.estimators_]
    leaves = replace(forest, feature=np.full_like(forest.feature, -1))
    assert not leaves.depths.any()


@pytest.mark.parametrize("name", ["left", "right"])
@pytest.mark.parametrize("to", [-1, 0, 10**6])
def test_children_that_are_not_there_are_refused(forest, name: str, to: int) -> None:
    """Before their parent, which would never end, or outside the arrays."""
    wrong = getattr(forest, name).copy()
    wrong[forest.roots[0]] = to
    with pytest.raises(ModelError, match="splits lead to nodes"):
        replace(forest, **{name: wrong})


def test_roots_that_are_not_there_are_refused(forest) -> None:
    with pytest.raises(ModelError, match="splits lead to nodes"):
        replace(forest, roots=forest.roots + len(forest.feature))


def test_a_feature_that_pixels_do_not_have_is_refused(forest) -> None:
    wrong = np.where(forest.feature == 3, 7, forest.feature).astype(np.int32)
    with pytest.raises(ModelError, match="splits feature 7 of 7"):
        replace(forest, feature=wrong).log_probabilities({"bands": ROWS.T.copy()})
