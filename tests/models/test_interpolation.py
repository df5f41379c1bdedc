"""Values on coarse grids, read between their middles."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.interpolate import RegularGridInterpolator

from geotl.models.interpolation import CoarseValues

RANDOM = np.random.default_rng(6)


def values(stride: int, centre: float, side: int = 64) -> CoarseValues:
    shape = 2, side // stride + 1, side // stride + 2
    return CoarseValues(RANDOM.normal(size=shape).astype(np.float32), stride, centre)


def everywhere(several: list[CoarseValues], row: int, col: int) -> np.ndarray:
    total = np.zeros((2, 40, 50), np.float32)
    for one in several:
        one.add_to(total, row, col)
    return total


@pytest.mark.parametrize(("stride", "centre"), [(1, 0.0), (4, 1.5), (16, -3.0)])
def test_values_between_are_scipys(stride: int, centre: float) -> None:
    """And beyond the outermost middles they go on along a line."""
    one = values(stride, centre)
    rows, cols = np.arange(2, 42), np.arange(5, 55)
    middles = [stride * np.arange(n) + centre for n in one.values.shape[1:]]
    grid = np.stack(np.meshgrid(rows, cols, indexing="ij"), axis=-1)
    expected = [
        RegularGridInterpolator(middles, plane, bounds_error=False, fill_value=None)(grid)
        for plane in one.values.astype(float)
    ]
    np.testing.assert_allclose(everywhere([one], 2, 5), expected, atol=1e-5)
    single = one.at(np.repeat(rows, len(cols)), np.tile(cols, len(rows)))
    np.testing.assert_allclose(single.reshape(2, 40, 50), expected, atol=1e-5)


def test_grids_that_hold_each_other_become_one() -> None:
    several = [values(stride, 0.0) for stride in (8, 4, 16)]
    (one,) = CoarseValues.fewest(several)
    assert (one.stride, one.centre) == (4, 0.0)
    np.testing.assert_allclose(everywhere([one], 3, 7), everywhere(several, 3, 7), atol=1e-5)


def test_grids_whose_middles_lie_apart_stay_apart() -> None:
    several = [values(4, 1.5), values(8, 3.5)]
    assert len([*CoarseValues.fewest(several)]) == 2


def test_one_value_a_pixel_is_added_as_it_is() -> None:
    one = CoarseValues(RANDOM.normal(size=(2, 45, 60)).astype(np.float32), 1, -4.0)
    np.testing.assert_array_equal(everywhere([one], 0, 0), one.values[:, 4:44, 4:54])
