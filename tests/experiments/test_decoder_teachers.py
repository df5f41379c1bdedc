"""What teaches the decoders of a recipe: unlabelled pixels, and no label of another fold."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from test_pixel_decoders import OpenScene, made, settings, weights
from test_pixels import SETTINGS, over, permuted, run

from geotl.experiments.draws import Draw
from geotl.experiments.pixel_decoders import MAX_UNLABELLED, read_patches, unlabelled_places
from geotl.experiments.pixel_draws import folded, pixel_draws
from geotl.experiments.pixel_windows import PixelPlaces
from geotl.experiments.pixels import PixelRun, fit_on, open_pixels, teacher
from geotl.experiments.recipe import load
from geotl.models.pixel_features import PixelFeatures

__all__ = ["made", "weights"]  # fixtures
pytestmark = pytest.mark.usefixtures("one_thread", "own_cache", "unrendered")
TAUGHT = [
    "decoder.unlabelled_weight=1",
    "decoder.unlabelled_px=40",
    "decoder.unlabelled_confidence=0.6",
    "decoder.epochs=2",
]


@pytest.fixture(scope="module")
def opened(made: tuple[Path, Path], weights: Path) -> PixelRun:
    recipe = load(None, [*SETTINGS, *over(*made), *settings(weights), *TAUGHT])
    return replace(open_pixels(recipe, Path("absent"), log=lambda _: None), quiet=True)


def teach_all(opened: PixelRun, draw: Draw, shift: int) -> np.ndarray:
    """What is said of unlabelled pixels after a draw's labels, moved by some pixels."""
    train = draw.split.train
    rows = opened.samples.rows(train, opened.samples.blocks, 0)
    rows = replace(rows, labels=np.roll(rows.labels, shift))
    return teacher(opened, draw, rows)(np.arange(len(train))).probabilities


def test_a_teacher_of_few_labels_has_folds_of_them(opened: PixelRun) -> None:
    """Where folds by place would lose a class, at random: none is fitted on one class alone."""
    draw = pixel_draws(opened.recipe, opened.samples)[0]
    labels = opened.samples.labels[draw.split.train]
    some = np.sort(np.concatenate([np.flatnonzero(labels == value)[:2] for value in range(3)]))
    part = replace(draw, split=replace(draw.split, train=draw.split.train[some]))
    rows = opened.samples.rows(draw.split.train, opened.samples.blocks, 0)
    for fit, out in folded(opened.recipe, opened.samples, part).folds:
        assert len({*labels[some[fit]]}) == 3
        assert not {*fit} & {*out}
    found = teacher(opened, draw, rows)(some)
    assert found.probabilities.shape[1] == 3


def test_labels_of_test_pixels_reach_no_teacher(opened: PixelRun) -> None:
    """And the same seed gives the same bits; labels of training pixels do reach it."""
    draw = pixel_draws(opened.recipe, opened.samples)[0]
    other = permuted(opened.samples, draw)
    assert (other.labels != opened.samples.labels).any()
    first, second = (fit_on(replace(opened, samples=s), draw) for s in (opened.samples, other))
    one, two = (fusion.decoder.state_dict() for fusion in (first, second))
    assert all(torch.equal(one[name], two[name]) for name in one)
    said = [teach_all(opened, draw, shift) for shift in (0, 1)]
    assert len(said[0]) > 100
    assert said[0].max(axis=1).min() >= 0.6
    assert said[0].shape != said[1].shape or not np.array_equal(*said)
    plain = replace(opened.samples.decoders, unlabelled=None)
    third = fit_on(replace(opened, samples=replace(opened.samples, decoders=plain)), draw)
    assert not all(torch.equal(one[k], v) for k, v in third.decoder.state_dict().items())


def test_features_of_unlabelled_pixels_are_those_of_labelled_ones(opened: PixelRun) -> None:
    """Two pixels of one place have one description, whoever reads them."""
    own = opened.samples.decoders.unlabelled
    assert {*own.features} == {*opened.samples.blocks}
    for block, values in own.features.items():
        assert values.shape == (len(opened.samples.features[block]), len(own.owner))
        assert values.std() > 0


def test_unlabelled_pixels_are_valid_and_have_no_label(monkeypatch: pytest.MonkeyPatch) -> None:
    scenes = [OpenScene(), OpenScene()]
    scenes[1].data = scenes[1].data[:, ::-1].copy()
    scenes[1].valid[60:, 80:] = False
    rows, cols = (part.ravel() for part in np.mgrid[0:120:5, 0:160:5])
    scene = np.arange(len(rows)) % 2
    where = PixelPlaces(scene, np.stack([rows, cols], axis=1))
    of = PixelFeatures(("red", "green", "blue"), (None,) * 3, (5.0,) * 3, (2.0,) * 3, 0.0, ())
    patches = read_patches(scenes, where, of, 32, lambda *_: None)
    owner, places, found = unlabelled_places(patches, where, 30, 0)
    assert 0 < len(owner) <= 30 * len(patches.image)
    labelled = {*zip(patches.owner.tolist(), *patches.places.T.tolist(), strict=True)}
    assert not labelled & {*zip(owner.tolist(), *places.T.tolist(), strict=True)}
    values = patches.image[owner, :, places[:, 0], places[:, 1]]
    for number in (0, 1):
        own, (row, col) = found.scene == number, found.places[found.scene == number].T
        np.testing.assert_array_equal(values[own], scenes[number].data[:, row, col].T)
        assert scenes[number].valid[row, col].all()
    again = unlabelled_places(patches, where, 30, 0)
    np.testing.assert_array_equal(again[1], places)
    assert not np.array_equal(unlabelled_places(patches, where, 30, 1)[1], places)
    monkeypatch.setattr("geotl.experiments.pixel_decoders.MAX_UNLABELLED", 2 * len(patches.image))
    assert np.bincount(unlabelled_places(patches, where, 30, 0)[0]).max() == 2
    assert MAX_UNLABELLED == 50_000


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ("decoder.unlabelled_weight=-1", "decoder.unlabelled_weight: given -1"),
        ("decoder.unlabelled_confidence=1", "decoder.unlabelled_confidence: given 1"),
        ("decoder.unlabelled_px=0", "decoder.unlabelled_px: given 0"),
    ],
)
def test_bad_values_end_in_one_line(
    made: tuple[Path, Path],
    weights: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    wrong: str,
    told: str,
) -> None:
    assert run(tmp_path / "run", *over(*made), *settings(weights), wrong) == 2
    error = capsys.readouterr().err
    assert told in error
    assert len(error.strip().splitlines()) == 1
