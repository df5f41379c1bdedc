"""Held-out logits of the discriminant in closed form, against heads that are fitted one by one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.experiments import opened
from helpers.runs import SMALL, made_tiles

from geotl.evaluation.evaluate import expected_calibration_error, softmax
from geotl.experiments.build import by_single_tiles, make_plan
from geotl.experiments.compare import fit_draw
from geotl.experiments.recipe import load
from geotl.models.weights import WeightReport
from geotl.training.heads import choose, choose_among, discriminant, one_hot
from geotl.training.leave_one_out import MAX_TILES, leave_one_out
from geotl.training.strategies import leaves_one_out

pytestmark = pytest.mark.usefixtures("one_thread", "own_cache")

GRID = (0.1, 0.4)


def clouds(counts: list[int], width: int, views: int = 3, seed: int = 0, draw: int = 0):
    """Tiles of classes that overlap: features [N, V, D] and labels [N]."""
    middles = np.random.default_rng(seed).normal(size=(len(counts), width))
    random = np.random.default_rng([seed, draw])
    labels = np.repeat(np.arange(len(counts)), counts)
    tiles = middles[labels][:, None] + random.normal(size=(len(labels), 1, width))
    return tiles + 0.3 * random.normal(size=(len(labels), views, width)), labels


@pytest.mark.parametrize("width", [8, 200])
@pytest.mark.parametrize("shrinkage", GRID)
def test_logits_are_those_of_heads_without_the_tile(width: int, shrinkage: float) -> None:
    features, labels = clouds([6, 4, 2], width)
    found = leave_one_out(features, labels, GRID, 3).logits[shrinkage]
    for row, label in enumerate(labels):
        rest = np.arange(len(labels)) != row
        head = discriminant(features[rest], one_hot(labels[rest], 3), shrinkage)
        (wanted,) = head.logits(features[row : row + 1])
        others = np.arange(3) != label
        gaps = found[row][others] - found[row][others][0]
        np.testing.assert_allclose(gaps, wanted[others] - wanted[others][0], atol=1e-6)
        count = (labels == label).sum()  # the own class is nearer than without its tile
        plain = found[row][label] / (1 - 1 / count**2)
        others_first = found[row][others][0]
        np.testing.assert_allclose(
            plain - others_first, wanted[label] - wanted[others][0], rtol=1e-6, atol=1e-6
        )


def test_distances_to_the_own_class_are_those_of_new_tiles_on_average() -> None:
    """With n tiles a class, a new tile is as far from its class as the corrected ones are."""
    own, new = [], []
    for seed in range(40):
        features, labels = clouds([5] * 4, 30, seed=seed)
        fresh, truth = clouds([5] * 4, 30, seed=seed, draw=1)
        out = leave_one_out(features, labels, (0.9,), 4).logits[0.9]
        head = discriminant(features, one_hot(labels, 4), 0.9).logits(fresh)
        rows = np.arange(len(labels))
        for values, known, into in ((out, labels, own), (head, truth, new)):
            others = (values.sum(axis=1) - values[rows, known]) / 3
            into.append((values[rows, known] - others).mean())
    gap = abs(np.mean(own) - np.mean(new)) / np.mean(new)
    assert gap < 0.03, (np.mean(own), np.mean(new))


def test_the_only_tile_of_a_class_is_not_left_out() -> None:
    features, labels = clouds([5, 1, 4], 12)
    found = leave_one_out(features, labels, GRID, 4)
    assert found.rows.tolist() == [row for row in range(10) if labels[row] != 1]
    assert found.logits[0.1].shape == (9, 4)
    assert all(np.isfinite(own).all() for own in found.logits.values())


def test_confidences_are_nearer_to_the_truth_than_by_folds() -> None:
    """Ten draws of ten tiles a class, tested on new tiles of the same classes."""
    errors: dict[str, list[float]] = {"folds": [], "one": []}
    random = np.random.default_rng(2)
    middles = 0.55 * random.normal(size=(6, 120))

    def fit(features, labels, shrinkage):
        return discriminant(features, one_hot(labels, 6), shrinkage)

    for _ in range(10):
        labels = np.repeat(np.arange(6), 10)
        truth = np.repeat(np.arange(6), 100)
        features, fresh = (
            (middles[y] + random.normal(size=(len(y), 120)))[:, None] for y in (labels, truth)
        )
        order = random.permutation(60) % 5
        folds = [(np.flatnonzero(order != k), np.flatnonzero(order == k)) for k in range(5)]
        by_folds = choose(features, labels, folds, fit, (0.4,))
        out = leave_one_out(features, labels, (0.4,), 6)
        by_one = choose_among(out.logits, out.rows, features, labels, fit)
        for name, chosen in (("folds", by_folds), ("one", by_one)):
            chances = softmax(chosen.head.logits(fresh), chosen.temperature)
            errors[name].append(expected_calibration_error(chances, truth))
    assert np.mean(errors["one"]) < np.mean(errors["folds"])


def experiment_of(tmp_path: Path, *more: str):
    tiles = made_tiles(tmp_path / "tiles")
    (tmp_path / "small.yaml").write_text("title: small\n")
    settings = [f"data.root={tiles}", *SMALL, "strategy=probe", "probe.head=discriminant", *more]
    return opened(load(tmp_path / "small.yaml", settings), tmp_path / "run")


def test_a_probe_of_a_random_split_is_calibrated_on_tiles_left_out(tmp_path: Path) -> None:
    experiment = experiment_of(tmp_path)
    made = fit_draw(experiment, experiment.draw(0))
    chosen, features = made.fitted.chosen, made.fitted.features
    labels = experiment.samples.labels[made.draw.split.train]
    out = leave_one_out(features, labels, experiment.recipe.probe.shrinkages, 3)
    np.testing.assert_array_equal(chosen.fold_rows, out.rows)
    np.testing.assert_array_equal(chosen.fold_logits, out.logits[chosen.setting])


def test_copies_places_and_many_tiles_are_held_out_in_folds(tmp_path: Path) -> None:
    experiment = experiment_of(tmp_path)
    draw = experiment.draw(0)
    assert by_single_tiles(experiment, draw)
    twice = np.concatenate([draw.split.train, draw.split.train[:1]])
    assert not by_single_tiles(experiment, replace(draw, split=replace(draw.split, train=twice)))
    split = experiment.recipe.split.model_copy(update={"method": "group"})
    grouped = experiment.of(experiment.recipe.model_copy(update={"split": split}))
    assert not by_single_tiles(grouped, draw)
    plan = make_plan(experiment, WeightReport("none", "", (), (), ()), draw)
    assert leaves_one_out(plan, draw.folds, 12)
    assert not leaves_one_out(plan, [], 12)
    assert not leaves_one_out(plan, draw.folds, MAX_TILES + 1)
    assert not leaves_one_out(replace(plan, head="logistic"), draw.folds, 12)
