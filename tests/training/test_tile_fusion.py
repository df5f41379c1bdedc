"""A network pooled with heads on band statistics: what carries the classes is what counts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.networks import BANDS, network
from scipy.special import log_softmax

from geotl.data.splits import folds
from geotl.data.tile_array import Pack
from geotl.models.classifier import TileClassifier, with_statistics
from geotl.training.features import raw_features
from geotl.training.heads import Linear
from geotl.training.learner import Tiles
from geotl.training.settings import Training
from geotl.training.strategies import FitPlan, Fitted, HeldOut, predict_rows, probe
from geotl.training.tile_fusion import (
    ASKED,
    AUTO,
    DISCRIMINANT,
    LOGISTIC,
    NETWORK,
    HeadMember,
    fuse,
    members_of,
    scaled_statistics,
    weighed,
)

pytestmark = pytest.mark.usefixtures("one_thread")
PLAN = FitPlan("probe", "discriminant", (0.1, 0.4), None, False, Training(), one_by_one=True)
COUNT = 16  # tiles a class
LABELS = np.repeat(np.arange(3), COUNT).astype(np.int64)


def made_tiles(folder: Path, kind: str) -> Tiles:
    """Three classes that differ in the level of bands, or in where bright pixels lie alone."""
    random = np.random.default_rng(2)
    images = np.zeros((3 * COUNT, 4, 32, 32))
    for row, label in enumerate(LABELS):
        if kind == "level":
            images[row] = random.normal(90, 25, (4, 32, 32))
            images[row, 1] += 12 * label
            continue
        wave = 40 * np.sign(np.sin(np.arange(32) * np.pi / 4 + 0.1 + random.integers(8)))
        stripes = np.tile(wave, (32, 1))
        turned = (stripes, stripes.T, stripes[random.permutation(32)])[label]
        broken = turned if label < 2 else np.where(np.indices((32, 32)).sum(0) // 4 % 2, 40, -40)
        images[row] = 100 + broken + random.normal(0, 25, (4, 32, 32))
    none = (None,) * len(LABELS)
    pixels = images.clip(0, 255).astype(np.uint8)
    pack = Pack(pixels, None, BANDS, kind, folder, none, none, none)
    return Tiles(pack, np.arange(len(LABELS), dtype=np.int64), LABELS)


def probed(train: Tiles, plan: FitPlan = PLAN) -> tuple[Fitted, list]:
    """A probe of the tiles, and the folds that it used."""
    inside = folds(train.labels, 4, seed=0)

    def features(model: TileClassifier, rows: np.ndarray) -> np.ndarray:
        return raw_features(model, train.pack, rows, precision="float32")

    return probe(network(frozen="layer2").eval(), train, inside, plan, features), inside


def blind(fitted: Fitted) -> Fitted:
    """The same whose head knows nothing, as the held-out tiles show."""
    random, held = np.random.default_rng(0), fitted.held_out
    assert held is not None
    with torch.no_grad():
        fitted.network.head.weight.normal_(generator=torch.Generator().manual_seed(0))
    return replace(fitted, held_out=HeldOut(held.rows, random.normal(size=held.logits.shape)))


def accuracy(fitted: Fitted, tiles: Tiles) -> float:
    said = predict_rows(fitted.network, tiles.pack, tiles.rows, precision="float32")
    return float((said.argmax(axis=1) == tiles.labels).mean())


def member(logits: np.ndarray, rows: np.ndarray | None = None) -> HeadMember:
    """A member that gave such logits of tiles 0 to n - 1."""
    held = np.arange(len(logits)) if rows is None else rows
    return HeadMember(Linear(np.zeros((3, 1)), np.zeros(3)), slice(0, 1), HeldOut(held, logits))


def logits(right: float, seed: int) -> np.ndarray:
    """Noise, and `right` more for the true class."""
    return np.random.default_rng(seed).normal(size=(len(LABELS), 3)) + right * np.eye(3)[LABELS]


def test_where_levels_carry_the_classes_statistics_take_over(tmp_path: Path) -> None:
    tiles = made_tiles(tmp_path, "level")
    alone, inside = probed(tiles)
    alone = blind(alone)
    fused = fuse(alone, tiles, inside, PLAN)
    assert fused.fusion is not None
    assert fused.fusion.weights[NETWORK] < 0.05
    assert fused.alone is alone
    assert fused.network.spec.statistics
    assert accuracy(alone, tiles) < 0.7
    assert accuracy(fused, tiles) > 0.95


def test_where_patterns_carry_the_classes_the_network_stays_as_it_is(tmp_path: Path) -> None:
    tiles = made_tiles(tmp_path, "pattern")
    alone, inside = probed(tiles)
    fused = fuse(alone, tiles, inside, PLAN)
    assert fused.fusion is not None
    assert min(fused.fusion.losses, key=lambda name: fused.fusion.losses[name]) == NETWORK
    assert fused.fusion.weights == {NETWORK: 1.0, DISCRIMINANT: 0.0, LOGISTIC: 0.0}
    assert fused.network is alone.network
    assert not fused.network.spec.statistics
    assert fused.fusion.temperature == pytest.approx(float(alone.network.temperature))


@pytest.mark.parametrize("kind", ["level", "pattern"])
def test_the_one_head_gives_the_weighted_sum_of_calibrated_members(
    tmp_path: Path, kind: str
) -> None:
    tiles = made_tiles(tmp_path, kind)
    alone, inside = probed(tiles)
    scaled = scaled_statistics(with_statistics(alone.network), tiles)
    members = members_of(alone, scaled, tiles.labels, inside, PLAN)
    given, _ = weighed(members, tiles.labels)
    even = replace(given, weights=dict(zip(members, (0.5, 0.3, 0.2), strict=True)), temperature=0.8)
    fused = fuse(alone, tiles, inside, PLAN, even)
    said = predict_rows(fused.network, tiles.pack, tiles.rows, precision="float32")
    table = fused.features.mean(axis=1)
    total = np.zeros((len(LABELS), 3))
    for name, one in members.items():
        own = table[:, one.columns] @ one.head.weight.T + one.head.bias
        total += even.weights[name] * log_softmax(own / even.temperatures[name], axis=1)
    wanted = log_softmax(total / 0.8, axis=1)
    found = log_softmax(said / float(fused.network.temperature), axis=1)
    np.testing.assert_allclose(found, wanted, atol=2e-3)


def test_a_fused_model_is_never_worse_than_the_baseline_on_held_out_tiles() -> None:
    for seed, strengths in enumerate([(0, 0, 3), (0, 3, 0), (3, 0, 0), (0.5, 0.4, 2), (1, 1, 1)]):
        several = (logits(right, 10 * seed + i) for i, right in enumerate(strengths))
        members = dict(zip((NETWORK, DISCRIMINANT, LOGISTIC), map(member, several), strict=True))
        found, _ = weighed(members, LABELS)
        error = np.std(logits(3, 1))  # generous: of a tile's loss
        assert found.loss <= found.losses[LOGISTIC] + error / np.sqrt(len(LABELS))
        if strengths == (0, 0, 3):
            assert found.weights[LOGISTIC] > 0.9


def test_a_gain_within_its_standard_error_is_none() -> None:
    same = logits(2, 0)
    found, _ = weighed(
        {NETWORK: member(same), DISCRIMINANT: member(same), LOGISTIC: member(logits(0, 1))}, LABELS
    )
    assert found.weights[NETWORK] == 1
    assert found.loss == found.losses[NETWORK]


@pytest.mark.parametrize(
    ("right", "asked", "auto"),
    [(0.0, False, False), (1.5, True, False), (6.0, True, True)],
    ids=["no gain", "a small gain", "a gain beyond doubt"],
)
def test_auto_asks_for_more_evidence_than_true(right: float, asked: bool, auto: bool) -> None:
    members = {
        NETWORK: member(logits(2, 0)),
        DISCRIMINANT: member(logits(right, 5)),
        LOGISTIC: member(logits(0, 1)),
    }
    assert weighed(members, LABELS, ASKED)[0].pools is asked
    assert weighed(members, LABELS, AUTO)[0].pools is auto


def test_a_member_that_is_better_alone_gets_all_the_weight() -> None:
    members = {
        NETWORK: member(logits(0, 0)),
        DISCRIMINANT: member(logits(8, 1)),
        LOGISTIC: member(logits(0, 2)),
    }
    found, _ = weighed(members, LABELS, AUTO)
    assert found.weights[DISCRIMINANT] == pytest.approx(1, abs=0.02)
    assert found.loss <= min(found.losses.values()) + 1e-9


def test_where_auto_finds_no_gain_the_fit_stays_the_same_object(tmp_path: Path) -> None:
    tiles = made_tiles(tmp_path, "pattern")
    alone, inside = probed(tiles)
    found = fuse(alone, tiles, inside, PLAN, bar=AUTO)
    assert found.network is alone.network
    assert (found.alone, found.features) == (None, alone.features)
    assert str(found.fusion).startswith("not fused: band statistics gain too little")
    assert fuse(alone, tiles, inside, PLAN, found.fusion).network is alone.network


def test_members_are_compared_on_the_tiles_that_all_of_them_left_out() -> None:
    rows = np.random.default_rng(3).permutation(len(LABELS))[:30]
    sure, wrong = logits(4, 0), logits(0, 1)
    members = {
        NETWORK: member(wrong[rows], rows),
        DISCRIMINANT: member(sure),
        LOGISTIC: member(logits(0, 2)),
    }
    found, _ = weighed(members, LABELS)
    assert found.tiles == 30
    assert found.weights[DISCRIMINANT] > 0.9
    np.testing.assert_array_equal(members[NETWORK].held_out.of(np.sort(rows)), wrong[np.sort(rows)])


def test_without_a_held_out_tile_the_network_is_returned_as_it_is(tmp_path: Path) -> None:
    tiles = made_tiles(tmp_path, "level")
    alone, inside = probed(tiles)
    bare = replace(alone, held_out=None)
    assert fuse(bare, tiles, inside, PLAN) is bare


def test_the_same_tiles_give_the_same_bits(tmp_path: Path) -> None:
    tiles = made_tiles(tmp_path, "level")
    made = []
    for _ in range(2):
        alone, inside = probed(tiles)
        made.append(fuse(blind(alone), tiles, inside, PLAN).network.state_dict())
    for name, value in made[0].items():
        np.testing.assert_array_equal(value.numpy(), made[1][name].numpy(), err_msg=name)


def test_the_held_out_logits_are_those_of_the_pool(tmp_path: Path) -> None:
    """They have the pool's log-loss once they are divided by its temperature."""
    tiles = made_tiles(tmp_path, "level")
    alone, inside = probed(tiles)
    fused = fuse(alone, tiles, inside, PLAN)
    assert fused.fusion is not None
    assert fused.held_out is not None
    assert alone.held_out is not None
    assert fused.fusion.weights[NETWORK] < 1
    assert not np.allclose(fused.held_out.logits, alone.held_out.of(fused.held_out.rows))
    chances = log_softmax(fused.held_out.logits / float(fused.network.temperature), axis=1)
    truth = tiles.labels[fused.held_out.rows]
    loss = -chances[np.arange(len(truth)), truth].mean()
    assert loss == pytest.approx(fused.fusion.loss, rel=1e-3, abs=1e-4)
