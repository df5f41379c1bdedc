"""Windows cover a scene and nothing else; cells are smooth, symmetric means of them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geotl.errors import DataError
from geotl.inference.window_grid import WindowGrid, blend, bump, offsets


@st.composite
def grids(draw: st.DrawFn) -> WindowGrid:
    px = draw(st.integers(1, 9))
    step = draw(st.integers(1, px))
    posting = draw(st.sampled_from([p for p in range(1, step + 1) if step % p == 0]))
    side = st.integers(px, px + 30)
    return WindowGrid(draw(side), draw(side), px, step, posting)


@given(grids())
def test_every_pixel_is_seen_and_none_is_invented(grid):
    for firsts, length in ((grid.rows, grid.height), (grid.cols, grid.width)):
        seen = np.zeros(length + grid.px, bool)
        for first in firsts:
            seen[first : first + grid.px] = True
        assert seen[:length].all()
        assert not seen[length:].any()
        assert (np.diff(firsts) > 0).all()
        assert set(firsts[:-1] % grid.step) <= {0}


@given(grids(), st.integers(0, 99))
@settings(max_examples=40)
def test_cells_are_the_weighed_means_of_the_windows_over_them(grid, seed):
    random = np.random.default_rng(seed)
    shape = len(grid.rows), len(grid.cols)
    values, known = random.random((*shape, 2)), random.random(shape) < 0.8
    total = np.zeros((*grid.cells, 2))
    weight = np.zeros(grid.cells)
    plane = np.outer(bump(grid.px), bump(grid.px))
    for (r, q), counts in np.ndenumerate(known):
        for (i, j), w in np.ndenumerate(plane):
            cell = (grid.rows[r] + i) // grid.posting, (grid.cols[q] + j) // grid.posting
            total[cell] += counts * w * values[r, q]
            weight[cell] += counts * w
    with np.errstate(invalid="ignore"):
        wanted = total / weight[..., None]
    found = blend(grid, values, known, slice(0, grid.cells[0]), slice(0, grid.cells[1]))
    np.testing.assert_allclose(found, wanted, rtol=1e-9, equal_nan=True)
    rows, cols = slice(grid.cells[0] // 2, grid.cells[0]), slice(0, 1 + grid.cells[1] // 2)
    part = blend(grid, values, known, rows, cols)
    np.testing.assert_array_equal(part, found[rows, cols])


def test_a_constant_stays_constant_and_unknown_is_nan_not_zero():
    grid = WindowGrid(37, 41, 8, 3, 1)
    known = np.ones((len(grid.rows), len(grid.cols)), bool)
    values = np.full((*known.shape, 1), 0.25)
    everything = slice(0, 37), slice(0, 41)
    np.testing.assert_allclose(blend(grid, values, known, *everything), 0.25, rtol=1e-12)
    known[:4] = False
    found = blend(grid, values * np.nan, known, *everything)
    assert np.isnan(found[: grid.rows[4]]).all()


def test_weights_are_symmetric_so_that_no_edge_moves():
    np.testing.assert_allclose(bump(7), bump(7)[::-1])
    assert (bump(64) > 0).all()
    grid = WindowGrid(96, 96, 32, 16, 16)
    around = grid.row_weights.toarray()
    np.testing.assert_allclose(around, around[::-1, ::-1])


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ((31, 99, 32, 16, 16), "smaller"),
        ((99, 99, 32, 33, 1), "step 33"),
        ((99, 99, 32, 0, 1), "step 0"),
        ((99, 99, 32, 16, 17), "posting 17"),
        ((99, 99, 32, 16, 0), "posting 0"),
    ],
)
def test_what_does_not_go_is_refused(given, told):
    with pytest.raises(DataError, match=told):
        WindowGrid(*given)


def test_the_last_window_ends_with_the_axis():
    assert offsets(101, 32, 16)[-1] == 101 - 32
