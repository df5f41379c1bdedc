"""Samples to label first are typical of their clusters, and no two stand for the same."""

from __future__ import annotations

import numpy as np

from geotl.data.typical_places import typical, unit_space


def three_clusters(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    sizes = (60, 30, 10)
    middles = np.array([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]])
    parts = [random.normal(m, 0.5, (n, 2)) for m, n in zip(middles, sizes, strict=True)]
    return np.concatenate(parts), np.repeat(np.arange(3), sizes)


def test_one_of_each_cluster_is_taken_the_largest_first() -> None:
    space, cluster = three_clusters()
    found = typical(space, 3, 0)
    assert cluster[found.rows].tolist() == [0, 1, 2]
    assert found.share.tolist() == [0.6, 0.3, 0.1]


def test_the_sample_taken_lies_near_the_middle() -> None:
    space, cluster = three_clusters()
    for row in typical(space, 3, 0).rows:
        own = space[cluster == cluster[row]]
        away = np.linalg.norm(own - own.mean(axis=0), axis=1)
        assert np.linalg.norm(space[row] - own.mean(axis=0)) <= np.quantile(away, 0.05)


def test_clusters_with_a_label_are_left_out() -> None:
    space, cluster = three_clusters()
    found = typical(space, 2, 0, np.array([0]))
    assert sorted(cluster[found.rows].tolist()) == [1, 2]


def test_no_more_than_there_are_different_samples() -> None:
    space = np.repeat(np.array([[0.0], [1.0]]), 5, axis=0)
    assert len(typical(space, 4, 0).rows) == 2


def test_the_same_seed_takes_the_same() -> None:
    space, _ = three_clusters()
    assert typical(space, 7, 3).rows.tolist() == typical(space, 7, 3).rows.tolist()


def test_blocks_count_alike_whatever_their_width_and_scale() -> None:
    random = np.random.default_rng(0)
    narrow, wide = random.normal(0, 1, (50, 2)), random.normal(0, 1, (50, 200))
    space = unit_space({"narrow": 1000 * narrow + 7, "wide": wide})
    assert np.allclose(np.linalg.norm(space, axis=1), 1)
    scaled = unit_space({"narrow": narrow, "wide": wide})
    assert np.allclose(space, scaled)
    share = (space[:, :2] ** 2).sum() / (space**2).sum()
    assert 0.4 < share < 0.6


def test_a_feature_without_spread_does_no_harm() -> None:
    space = unit_space({"flat": np.ones((4, 3))})
    assert np.isfinite(space).all()
