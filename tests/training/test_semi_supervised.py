"""Unlabelled tiles: each rule moves a head fitted to few labels towards the truth."""

from __future__ import annotations

import numpy as np
import pytest

from geotl.data.splits import folds
from geotl.training.heads import choose, discriminant, discriminant_of, one_hot
from geotl.training.semi_supervised import (
    _neighbours,
    agreed,
    confident,
    propagated,
    with_unlabelled,
)
from geotl.training.settings import ProbeSettings

METHODS = ("soft_labels", "pseudo_labels", "consistency", "propagation")


def clusters(seed: int, count: int, *, classes: int = 3, width: int = 12, views: int = 2):
    """Tiles [n, V, D] around well-parted centres, with their classes."""
    random = np.random.default_rng(seed)
    centres = 2.2 * np.random.default_rng(99).normal(size=(classes, width))
    labels = np.arange(count) % classes
    tiles = centres[labels] + 1.8 * random.normal(size=(count, width))
    return tiles[:, None] + 0.1 * random.normal(size=(count, views, width)), labels


def start_of(features, labels):
    def fit(x, y, g):
        return discriminant(x, one_hot(y, 3), g)

    return choose(features, labels, folds(labels, 3, seed=0, groups=None), fit, (0.1, 0.4))


@pytest.mark.parametrize("method", METHODS)
def test_unlabelled_tiles_help_where_classes_are_clusters(method):
    gained = []
    for seed in range(8):
        features, labels = clusters(seed, 9)
        more, truth = clusters(100 + seed, 240)
        start = start_of(features, labels)
        head = with_unlabelled(
            features, labels, more, start, ProbeSettings(unlabelled=method, softness=1.0)
        )
        before = (start.head.logits(more).argmax(1) == truth).mean()
        gained.append((head.logits(more).argmax(1) == truth).mean() - before)
    assert np.mean(gained) > 0.02


def test_blocks_of_one_set_are_the_set():
    features, labels = clusters(0, 30)
    shares = one_hot(labels, 3)
    whole = discriminant(features, shares, 0.3)
    halves = discriminant_of([(features[:12], shares[:12]), (features[12:], shares[12:])], 0.3)
    np.testing.assert_allclose(halves.weight, whole.weight, rtol=1e-9)
    np.testing.assert_allclose(halves.bias, whole.bias, rtol=1e-9)


def test_a_tile_without_shares_weighs_nothing():
    features, labels = clusters(0, 30)
    shares = one_hot(labels, 3)
    stray = np.full((1, 1, features.shape[2]), 1e3)
    with_stray = discriminant_of([(features, shares), (stray, np.zeros((1, 3)))], 0.3)
    np.testing.assert_allclose(with_stray.weight, discriminant(features, shares, 0.3).weight)


def test_only_confident_tiles_get_a_pseudo_label():
    chances = np.array([[0.89, 0.11], [0.1, 0.9]])
    assert confident(chances, 0.9).tolist() == [[0, 0], [0, 1]]


def test_views_that_disagree_leave_little_to_share():
    features, labels = clusters(0, 30)
    head = discriminant(features, one_hot(labels, 3), 0.3)
    same = features[:1, :1].repeat(2, axis=1)
    torn = np.stack([features[0, 0], features[1, 0]])[None]
    assert agreed(head, same, 1.0).sum() == pytest.approx(1.0)
    assert agreed(head, torn, 1.0).sum() < 0.5


def test_tiles_are_joined_to_those_of_the_largest_cosines():
    rows = np.random.default_rng(0).normal(size=(40, 6))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    cosines = rows @ rows.T
    np.fill_diagonal(cosines, -np.inf)
    near = cosines >= np.sort(cosines, axis=1)[:, [-5]]
    expected = np.where(near | near.T, np.maximum(cosines, 0), 0)
    assert np.abs(_neighbours(rows, 5).toarray() - expected).max() < 1e-12


def test_propagation_follows_the_graph_and_not_the_straight_distance():
    """Two long bands with one label at an end of each: neighbours carry it to the other end."""
    steps = np.linspace(0, 1, 60)
    upper = np.stack([np.cos(steps * 1.4), np.sin(steps * 1.4), np.zeros(60)], axis=1)
    lower = np.stack([np.cos(steps * 1.4), np.sin(steps * 1.4), np.full(60, 0.35)], axis=1)
    labelled, known = np.stack([upper[0], lower[-1]]), np.eye(2)
    shares = propagated(labelled, known, np.concatenate([upper, lower]))
    truth = np.repeat([0, 1], 60)
    nearest = ((labelled[:, None] - np.concatenate([upper, lower])) ** 2).sum(-1).argmin(0)
    assert (shares.argmax(1) == truth).mean() > (nearest == truth).mean() + 0.2
