"""Ranges of made fields are found again; a block size follows from them."""

from __future__ import annotations

import numpy as np
import pytest

from geotl.data.footprints import locate
from geotl.data.spatial_splits import SHAPES, block_of, suggest_block_m, variogram
from geotl.errors import DataError

PLACES = np.random.default_rng(0).uniform(0, 6000, (300, 2))


def field(range_m: float, shape: str, *, seed: int = 1, nugget: float = 0.1) -> np.ndarray:
    """Six independent Gaussian fields [N,6] with a known variogram."""
    apart = np.hypot(*(PLACES[:, None] - PLACES[None]).transpose(2, 0, 1))
    covariance = (1 - SHAPES[shape](apart / range_m)) * (1 - nugget)
    root = np.linalg.cholesky(covariance + (nugget + 1e-8) * np.eye(len(PLACES)))
    return root @ np.random.default_rng(seed).normal(size=(len(PLACES), 6))


@pytest.mark.parametrize("shape", list(SHAPES))
@pytest.mark.parametrize("range_m", [600.0, 1200.0])
def test_a_known_range_is_found_within_30_percent(shape: str, range_m: float) -> None:
    for seed in range(3):
        found = variogram(PLACES, field(range_m, shape, seed=seed))
        assert found.reached
        assert found.range_m == pytest.approx(range_m, rel=0.3)
        assert found.nugget < 0.35
        assert found.sill == pytest.approx(1.0, abs=0.25)


def test_units_of_features_do_not_matter() -> None:
    values = field(800, "spherical")
    one, two = (variogram(PLACES, v) for v in (values, values * [1, 1e4, 1e-3, 7, 1, 1] + 5))
    assert one.range_m == pytest.approx(two.range_m, rel=1e-3)


def test_noise_is_flat_and_a_slope_does_not_end() -> None:
    noise = variogram(PLACES, np.random.default_rng(0).normal(size=(300, 6)))
    assert (noise.range_m, noise.reached) == (0.0, True)
    assert "flat variogram" in noise.summary()
    slope = variogram(PLACES, PLACES)
    assert not slope.reached
    assert "still rises" in slope.summary()


def test_too_few_tiles_or_places_ask_for_a_size() -> None:
    for places in (PLACES[:4], np.zeros((50, 2))):
        with pytest.raises(DataError, match=r"split\.block_m=METRES"):
            variogram(places, np.random.default_rng(0).normal(size=(len(places), 2)))
    with pytest.raises(DataError, match="too similar"):
        variogram(PLACES, np.ones((300, 3)))


def boxes(places: np.ndarray, side: float = 40.0):
    return locate([(x, y, x + side, y + side) for x, y in places], ["EPSG:32633"] * len(places))


def test_the_suggested_block_is_clearly_larger_than_the_range() -> None:
    found, layout = variogram(PLACES, field(600, "spherical")), boxes(PLACES)
    side, words = suggest_block_m(found, layout, 5)
    assert 2 * found.range_m <= side <= 2.2 * found.range_m
    assert words.startswith(f"split.block_m={side:g}: tiles resemble each other up to")
    assert block_of(layout.boxes, side, seed=0).max() + 1 >= 5


def test_the_extent_bounds_the_block_and_that_is_said() -> None:
    found, layout = variogram(PLACES, field(2500, "spherical")), boxes(PLACES)
    side, words = suggest_block_m(found, layout, 10)
    assert block_of(layout.boxes, side, seed=0).max() + 1 >= 10
    assert side < 2 * found.range_m
    assert "would leave fewer than 10 blocks" in words
    near = boxes(np.zeros((5, 2)))
    with pytest.raises(DataError, match="fewer than 3 blocks"):
        suggest_block_m(found, near, 3)
