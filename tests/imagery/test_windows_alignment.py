"""Coarse bands on a fine grid: in place to the half pixel, nothing bleeding in from nodata."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geotl.errors import DataError
from geotl.imagery.windows import align, resample
from geotl.io.raster import Grid

EAST, NORTH = 500000.0, 4600000.0


def grid(px, rows, columns, east=EAST, north=NORTH, crs="EPSG:32633"):
    return Grid(crs, (px, 0.0, east, 0.0, -px, north), rows, columns)


def onto(fine, coarse, data, valid=None):
    valid = np.ones(data.shape, bool) if valid is None else valid
    return resample(data, valid, *align(fine, coarse))


@pytest.mark.parametrize("factor", [2, 3, 6])
@pytest.mark.parametrize("crs", ["EPSG:32633", None])
def test_a_checkerboard_keeps_its_edges(factor, crs):
    board = (np.indices((8, 10)).sum(axis=0) % 2 * 1000).astype(np.uint16)
    fine = grid(10.0, 8 * factor, 10 * factor, crs=crs)
    found, valid = onto(fine, grid(10.0 * factor, 8, 10, crs=crs), board)
    assert valid.all()
    assert found.dtype == np.uint16
    expected = np.kron(board, np.ones((factor, factor)))
    np.testing.assert_array_equal(found > 500, expected > 500)


@settings(deadline=None, max_examples=40)
@given(
    factor=st.sampled_from([2.0, 3.0, 6.0]),
    shift=st.tuples(*[st.floats(-0.95, 0.95)] * 2),
    slope=st.tuples(*[st.floats(-5, 5)] * 2),
)
def test_a_slope_stays_where_it_lies_on_the_ground(factor, shift, slope):
    """Each coarse pixel holds the ground's value at its middle; so must each fine one."""
    coarse = grid(
        10 * factor, 12, 12, EAST + 10 * factor * shift[0], NORTH + 10 * factor * shift[1]
    )
    fine = grid(10.0, int(12 * factor), int(12 * factor))

    def ground(where):
        rows, columns = np.mgrid[: where.height, : where.width] + 0.5
        x, y = where.at(columns, rows)
        return slope[0] * (x - EAST) + slope[1] * (y - NORTH)

    found, valid = onto(fine, coarse, ground(coarse))
    x, y = fine.at(*np.meshgrid(np.arange(fine.width) + 0.5, np.arange(fine.height) + 0.5))
    left, bottom, right, top = coarse.bounds
    half = 5 * factor
    between = (left + half <= x) & (x <= right - half) & (bottom + half <= y) & (y <= top - half)
    np.testing.assert_allclose(found[between], ground(fine)[between], atol=1e-6)
    on_it = (left < x) & (x < right) & (bottom < y) & (y < top)
    np.testing.assert_array_equal(valid[on_it], True)
    off = (x < left - 0.01) | (x > right + 0.01) | (y < bottom - 0.01) | (y > top + 0.01)
    assert not valid[off].any()


def test_a_bright_spot_keeps_its_middle():
    data = np.zeros((9, 9))
    data[2, 6] = 1
    found, _ = onto(grid(10.0, 54, 54), grid(60.0, 9, 9), data)
    rows, columns = np.mgrid[:54, :54] + 0.5
    middle = (found * rows).sum() / found.sum(), (found * columns).sum() / found.sum()
    np.testing.assert_allclose(middle, (15, 39), atol=1e-9)


def test_nothing_bleeds_in_from_invalid_pixels():
    data = np.full((6, 6), 1000, np.uint16)
    valid = np.ones((6, 6), bool)
    valid[:, :2] = valid[4, 4] = False
    data[~valid] = 0
    found, seen = onto(grid(10.0, 36, 36), grid(60.0, 6, 6), data, valid)
    np.testing.assert_array_equal(seen, np.kron(valid, np.ones((6, 6), bool)))
    assert set(np.unique(found[seen])) == {1000}
    data = data.astype(np.float32)
    data[~valid] = np.nan
    found, seen = onto(grid(10.0, 36, 36), grid(60.0, 6, 6), data, valid)
    assert set(np.unique(found[seen])) == {1000}
    assert np.isfinite(found).all()


def test_the_same_grid_changes_nothing():
    data = np.random.default_rng(0).integers(0, 9000, (7, 5)).astype(np.int16)
    found, valid = onto(grid(10.0, 7, 5), grid(10.0, 7, 5), data)
    np.testing.assert_array_equal(found, data)
    assert valid.all()


def test_a_coarse_file_may_reach_less_than_a_pixel_over_the_edge():
    """128 pixels of 10 m are no whole number of 60-m pixels: 22 of them reach over."""
    data = np.arange(22.0)[None].repeat(22, 0)
    found, valid = onto(grid(10.0, 128, 128), grid(60.0, 22, 22), data)
    assert valid.all()
    np.testing.assert_allclose(found[0, 3:120], (np.arange(3, 120) + 0.5) / 6 - 0.5)
    _, valid = onto(grid(10.0, 128, 128), grid(60.0, 21, 21), data[:21, :21])
    assert valid[:126, :126].all()
    assert not valid[126:].any()


@pytest.mark.parametrize(
    ("coarse", "said"),
    [
        (grid(60.0, 10, 10, EAST + 60), "covers"),
        (grid(60.0, 12, 10), "covers"),
        (grid(60.0, 10, 9), "covers"),
        (grid(60.0, 10, 10, crs="EPSG:32632"), "EPSG:32632"),
        (grid(60.0, 10, 10, crs=None), "no reference system"),
        (Grid("EPSG:32633", (0.0, 60.0, EAST, -60.0, 0.0, NORTH), 10, 10), "turned"),
        (Grid("EPSG:32633", (60.0, 0.0, EAST, 0.0, 60.0, NORTH - 600), 10, 10), "turned"),
    ],
)
def test_other_ground_is_refused(coarse, said):
    with pytest.raises(DataError, match=said) as caught:
        align(grid(10.0, 60, 60), coarse)
    assert "\n" not in str(caught.value)


def test_without_a_place_the_shapes_must_agree():
    assert align(grid(1.0, 60, 120, crs=None), grid(1.0, 10, 20, crs=None))
    with pytest.raises(DataError, match="same area"):
        align(grid(1.0, 60, 120, crs=None), grid(1.0, 10, 10, crs=None))
