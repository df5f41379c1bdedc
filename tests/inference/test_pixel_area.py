"""What pixels are compared with, against plain computations of distances."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.map_fixtures import made_pixels, patches
from helpers.pixel_models import made_pixel_model, small_network
from scipy.spatial.distance import cdist

from geotl.errors import DataError
from geotl.inference.applicability import area_of_applicability
from geotl.inference.pixel_area import MAX_COMPARED, PART_PX, FeatureSpace, PixelArea, spread
from geotl.inference.pixel_predictor import BATCH_PX
from geotl.models.pixel_features import BANDS, BlockFeatures, Features
from geotl.models.pixel_file import PixelModelFile, load_pixel_model


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> PixelModelFile:
    return load_pixel_model(made_pixel_model(tmp_path_factory.mktemp("m") / "m.safetensors"))


def some_features(file: PixelModelFile, count: int = 2 * PART_PX) -> Features:
    """Features of pixels of another scene, some of which lack bands."""
    pixels = made_pixels(patches(4, 4), 24)
    pixels[2, 20:50, 20:60] = 0
    rows, cols = np.random.default_rng(1).integers(0, 96, (2, count))
    return BlockFeatures(file.model.features, pixels, pixels > 0).at(rows, cols)


def many(file: PixelModelFile, count: int) -> PixelModelFile:
    """The file with so many training pixels of the other scene."""
    table = np.concatenate(list(some_features(file, count).values())).T
    own = replace(file.training, features=table, folds=np.arange(count) % 5)
    return replace(file, training=own)


def test_the_index_is_the_nearest_distance_over_the_mean_one(file: PixelModelFile) -> None:
    """In features over their standard deviation and the root of the width of their block."""
    features, theirs = some_features(file), file.training.features.astype(float)
    ours = np.concatenate(list(features.values())).T.astype(float)
    width = np.concatenate([np.full(len(f), len(f)) for f in features.values()])
    ours, known = ((x - theirs.mean(0)) / theirs.std(0) / np.sqrt(width) for x in (ours, theirs))
    mean = cdist(known, known).sum() / (300 * 299)
    plain = cdist(ours, known).min(axis=1) / mean
    area = PixelArea.of(file)
    np.testing.assert_allclose(area.index(features), plain, atol=2e-4)
    own = np.where(np.equal.outer(np.arange(300) % 3, np.arange(300) % 3), 9e9, cdist(known, known))
    low, high = np.quantile(own.min(axis=1) / mean, [0.25, 0.75])
    most = min(high + 1.5 * (high - low), own.min(axis=1).max() / mean)
    assert area.area.threshold == pytest.approx(most)
    assert (plain > most).any()
    assert (plain < most).any()


def test_a_pixel_has_the_same_bits_wherever_it_stands(file: PixelModelFile) -> None:
    area, features = PixelArea.of(file), some_features(file)
    found = area.index(features)
    for shift in (1, 7, 1000):
        moved = {name: np.roll(rows, shift, axis=1) for name, rows in features.items()}
        np.testing.assert_array_equal(area.index(moved), np.roll(found, shift))


def test_very_many_training_pixels_are_thinned_and_keep_their_threshold(
    file: PixelModelFile,
) -> None:
    """The index is never lower than against all of them, and higher by their reach at most."""
    more = many(file, 900)
    area, space = PixelArea.of(more), FeatureSpace.of(more)
    every = area_of_applicability(space.place(more.training.features), more.training.folds)
    assert len(area.area.features) == MAX_COMPARED < 900
    assert (area.area.threshold, area.area.mean_distance) == (every.threshold, every.mean_distance)
    features = some_features(file, PART_PX)
    full = every.index(space.place(np.concatenate(list(features.values())).T))
    thin = area.index(features)
    reach = cdist(every.features, area.area.features).min(axis=1).max() / every.mean_distance
    assert (thin >= full - 1e-3).all()
    assert (thin <= full + reach + 1e-3).all()
    assert (thin > full + 1e-3).any()
    assert f"{MAX_COMPARED} of 900 training pixels in bands and windows" in area.words


def test_rows_that_are_kept_are_spread() -> None:
    """No row is as far from those kept as from as many at random."""
    rows = np.random.default_rng(0).normal(size=(500, 3)) ** 3
    kept = spread(rows, 40)
    assert len(np.unique(kept)) == 40
    far = cdist(rows, rows[kept]).min(axis=1).max()
    assert far < 0.5 * cdist(rows, rows[:40]).min(axis=1).max()
    np.testing.assert_array_equal(spread(rows[:40], 40), np.arange(40))


def test_a_member_is_compared_in_the_features_that_it_has(file: PixelModelFile) -> None:
    alone = PixelArea.of(replace(file, model=file.model.alone("bands")))
    assert alone.space.blocks == (BANDS,)
    assert alone.words.endswith("of 300 training pixels in bands")
    features = some_features(file)
    here = alone.index({BANDS: features[BANDS]})
    np.testing.assert_array_equal(here, alone.index(features))
    assert np.abs(here - PixelArea.of(file).index(features)).max() > 0.05


def test_the_features_of_a_network_take_no_part(file: PixelModelFile, tmp_path: Path) -> None:
    made = made_pixel_model(tmp_path / "m.safetensors", deep=small_network())
    deep, features = load_pixel_model(made), some_features(file)
    assert deep.training.features.shape[1] > file.training.features.shape[1]
    found = PixelArea.of(deep).index(features)
    np.testing.assert_array_equal(found, PixelArea.of(file).index(features))


def test_training_pixels_of_one_fold_are_told(file: PixelModelFile) -> None:
    alike = replace(file.training, folds=np.zeros(300, np.int64))
    with pytest.raises(DataError, match="pixels are all identical or all in one fold"):
        PixelArea.of(replace(file, training=alike))


def test_batches_hold_whole_parts():
    """Or the last part of a batch would have another size, and other bits."""
    assert BATCH_PX % PART_PX == 0
