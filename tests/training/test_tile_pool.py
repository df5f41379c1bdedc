"""A pool of unlabelled tiles: it takes part where held-out labels show a gain, and else not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.networks import network

from geotl.arrays import Floats, Int64s
from geotl.data.splits import folds
from geotl.errors import DataError
from geotl.training.heads import choose, discriminant, head_fit, one_hot
from geotl.training.semi_supervised import with_unlabelled
from geotl.training.settings import ProbeSettings
from geotl.training.strategies import Fitted, install
from geotl.training.tile_pool import with_pool

pytestmark = pytest.mark.usefixtures("one_thread")
SETTINGS, CLASSES, WIDTH = ProbeSettings(), 3, 192


def clusters(seed: int, counts: tuple[int, ...], spread: float = 3.4) -> tuple[Floats, Int64s]:
    """Tiles [n, 2, D] about the centres of three classes, and their classes."""
    random = np.random.default_rng(seed)
    centres = np.random.default_rng(7).normal(size=(CLASSES, WIDTH))
    labels = np.repeat(np.arange(CLASSES), counts)
    tiles = centres[labels] + spread * random.normal(size=(len(labels), WIDTH))
    views = tiles[:, None] + 0.3 * random.normal(size=(len(labels), 2, WIDTH))
    return views.astype(np.float32), labels.astype(np.int64)


def probed(features: Floats, labels: Int64s) -> tuple[Fitted, list]:
    """A probe of the labels alone, and its folds."""
    inner = folds(labels, 4, seed=0)
    fit = head_fit("discriminant", CLASSES)
    chosen = choose(features, labels, inner, fit, (0.1, 0.4))
    made = network()
    install(made, chosen.head, chosen.temperature)
    return Fitted(made, chosen, None, features), inner


def accuracy(fitted: Fitted, tiles: Floats, truth: Int64s) -> float:
    with torch.no_grad():
        logits = fitted.network.head(torch.from_numpy(tiles.mean(axis=1)))
    return float((logits.numpy().argmax(1) == truth).mean())


@pytest.mark.parametrize("counts", [(120, 120, 120), (240, 96, 24)])
def test_a_pool_of_the_same_classes_helps_on_tiles_outside_it(counts: tuple[int, ...]) -> None:
    taken, gained = [], []
    for seed in range(4):
        features, labels = clusters(seed, (8, 8, 8))
        pool, _ = clusters(100 + seed, counts)
        test, truth = clusters(200 + seed, (200, 200, 200))
        fitted, inner = probed(features, labels)
        before = accuracy(fitted, test, truth)
        found = with_pool(fitted, labels, pool, inner, SETTINGS)
        assert found.pool is not None
        assert found.pool.tiles == len(pool)
        taken.append(found.pool.used)
        gained.append(accuracy(found, test, truth) - before)
        if found.pool.used:
            assert found.pool.loss < found.pool.loss_alone
            assert found.held_out is not None
            assert f"{len(pool)} unlabelled tiles used" in str(found.pool)
    assert np.mean(taken) >= 0.5
    assert np.mean(gained) > 0.02
    assert min(gained) >= -0.02


def test_a_pool_of_other_things_leaves_the_head_of_the_labels_alone() -> None:
    for seed in range(3):
        features, labels = clusters(seed, (8, 8, 8))
        random = np.random.default_rng(seed)
        blurs = features[labels == 0][random.integers(8, size=200)] * -1.5
        pool = (blurs + 4 * random.normal(size=blurs.shape)).astype(np.float32)
        fitted, inner = probed(features, labels)
        before = fitted.network.head.weight.detach().numpy().tobytes()
        found = with_pool(fitted, labels, pool, inner, SETTINGS)
        assert found.pool is not None
        assert not found.pool.used
        assert found.network.head.weight.detach().numpy().tobytes() == before
        assert found.held_out is fitted.held_out
        assert "not used: they show no clear gain" in str(found.pool)


def test_without_folds_no_gain_can_be_shown() -> None:
    features, labels = clusters(0, (1, 1, 1))
    fitted, inner = probed(features, labels)
    assert inner == []
    found = with_pool(fitted, labels, clusters(1, (20, 20, 20))[0], inner, SETTINGS)
    assert found.pool is not None
    assert not found.pool.used
    assert found.pool.to_dict()["loss"] is None
    assert "no training tile can be held out" in str(found.pool)


def test_a_network_that_is_trained_takes_no_pool() -> None:
    features, labels = clusters(0, (4, 4, 4))
    fitted, inner = probed(features, labels)
    trained = replace(fitted, features=None)
    with pytest.raises(DataError, match="only a probe takes unlabelled tiles"):
        with_pool(trained, labels, features, inner, SETTINGS)


@pytest.mark.parametrize("rule", ["soft_labels", "pseudo_labels"])
def test_a_class_without_labels_draws_no_tile_to_it(rule: str) -> None:
    """Its mean is unknown, and its logit 0 may be the highest of a tile that no class likes."""
    features, labels = clusters(0, (8, 8, 8))
    pool, _ = clusters(1, (40, 40, 40))
    two = labels < 2
    part, own = features[two], labels[two]
    fit = head_fit("discriminant", CLASSES)
    chosen = choose(part, own, folds(own, 4, seed=0), fit, (0.1,))
    start = replace(chosen, head=discriminant(part, one_hot(own, CLASSES), 0.1))
    head = with_unlabelled(part, own, pool, start, ProbeSettings(unlabelled=rule, softness=1.0))
    assert not head.weight[2].any()
