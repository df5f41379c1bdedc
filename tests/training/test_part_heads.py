"""Discriminants of the parts of the features, weighed by tiles that are held out."""

from __future__ import annotations

import numpy as np
import pytest

from geotl.evaluation.evaluate import fit_temperature
from geotl.training.heads import discriminant, discriminant_of, one_hot
from geotl.training.part_heads import choose_parts

CLASSES, WIDTH = 4, 30
SHRINKAGES = (0.1, 0.4)


def drawn(per_class: int, noise: tuple[float, ...], seed: int = 0):
    """Features [N,2,D] of parts that show the classes under more and more noise, and labels."""
    means = np.random.default_rng(7).normal(size=(CLASSES, WIDTH))
    random, labels = np.random.default_rng(seed), np.repeat(np.arange(CLASSES), per_class)
    parts = [
        means[labels][:, None] + random.normal(scale=s, size=(len(labels), 2, WIDTH)) for s in noise
    ]
    return np.concatenate(parts, axis=2), labels


def folds_of(labels, count=4):
    order = np.random.default_rng(3).permutation(len(labels))
    held = np.array_split(order, count)
    return [(np.setdiff1d(order, one), np.sort(one)) for one in held]


def test_a_discriminant_of_parts_adds_the_logits_of_each():
    features, labels = drawn(6, (1.0, 2.0))
    known = one_hot(labels, CLASSES)
    both = discriminant(features, known, 0.4, (0.7, 0.3)).logits(features)
    first, second = (discriminant(one, known, 0.4) for one in np.split(features, 2, axis=2))
    alone = [h.logits(x) for h, x in zip((first, second), np.split(features, 2, 2), strict=True)]
    np.testing.assert_allclose(both, 0.7 * alone[0] + 0.3 * alone[1], atol=1e-9)


def test_one_part_is_the_discriminant_bit_for_bit():
    features, labels = drawn(6, (1.0,))
    known = one_hot(labels, CLASSES)
    whole = discriminant_of([(features, known)], 0.2)
    part = discriminant_of([(features, known)], 0.2, (1.0,))
    assert np.array_equal(whole.weight, part.weight)
    assert np.array_equal(whole.bias, part.bias)


@pytest.mark.parametrize("folded", [False, True])
def test_two_views_of_the_same_classes_are_better_than_one(folded):
    features, labels = drawn(8, (3.0, 3.0))
    folds = folds_of(labels) if folded else ()
    chosen = choose_parts(features, labels, folds, SHRINKAGES, parts=2, classes=CLASSES)
    new, truth = drawn(100, (3.0, 3.0), seed=1)
    right = (chosen.head.logits(new).argmax(1) == truth).mean()
    for one, part in zip(np.split(features, 2, 2), np.split(new, 2, 2), strict=True):
        alone = discriminant(one, one_hot(labels, CLASSES), chosen.setting).logits(part)
        assert right > (alone.argmax(1) == truth).mean() + 0.05
    assert sum(chosen.parts) == pytest.approx(1)
    assert chosen.setting in SHRINKAGES
    assert set(chosen.fold_accuracy) == set(SHRINKAGES)


@pytest.mark.parametrize("folded", [False, True])
def test_a_part_that_shows_nothing_weighs_little(folded):
    features, labels = drawn(40, (1.5, 60.0))
    folds = folds_of(labels) if folded else ()
    good, bad = choose_parts(features, labels, folds, SHRINKAGES, parts=2, classes=CLASSES).parts
    assert good > 3 * bad


def test_held_out_logits_are_those_of_heads_without_the_tile():
    features, labels = drawn(5, (1.5, 2.0))
    chosen = choose_parts(features, labels, folds_of(labels), SHRINKAGES, parts=2, classes=CLASSES)
    fit, held = folds_of(labels)[0]
    head = discriminant(features[fit], one_hot(labels[fit], CLASSES), chosen.setting, chosen.parts)
    np.testing.assert_allclose(chosen.fold_logits[: len(held)], head.logits(features[held]))
    assert np.array_equal(chosen.fold_rows[: len(held)], held)
    assert chosen.temperature == fit_temperature(chosen.fold_logits, labels[chosen.fold_rows])


def test_a_class_without_a_tile_keeps_its_place():
    features, labels = drawn(8, (1.0, 1.0))
    some = labels < CLASSES - 1
    few = [(np.arange(8, some.sum()), np.arange(8)), (np.arange(some.sum() - 8), np.arange(16, 24))]
    for folds in ((), few):
        chosen = choose_parts(
            features[some], labels[some], folds, SHRINKAGES, parts=2, classes=CLASSES
        )
        assert chosen.head.weight.shape == (CLASSES, 2 * WIDTH)
        assert chosen.fold_logits.shape[1] == CLASSES


def test_a_part_that_is_there_twice_does_not_count_twice():
    features, labels = drawn(100, (4.0, 4.0))
    first, second = np.split(features, 2, axis=2)
    several = np.concatenate([first, first, second], axis=2)
    weights = choose_parts(several, labels, (), SHRINKAGES, parts=3, classes=CLASSES).parts
    assert weights[2] > 1.15 * max(weights[:2])
