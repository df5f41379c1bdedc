"""Shares of pixels and windows in polygons, against shapely's own areas."""

from __future__ import annotations

import numpy as np
import pytest
import shapely
from helpers.memory_scene import made_grid
from hypothesis import given, settings
from hypothesis import strategies as st

from geotl.data.coverage import SLACK, pixel_shares, window_shares
from geotl.data.placement import on_pixels
from geotl.imagery.windows import Window

BLOCK = Window(-2, 1, 9, 11)
places = st.floats(-4, 14, allow_nan=False, width=32)
SHAPES = st.lists(st.tuples(places, places), min_size=3, max_size=9)


def by_shapely(area: shapely.Geometry, window: Window) -> np.ndarray:
    rows, cols = np.mgrid[: window.height, : window.width]
    left, top = cols + window.col, rows + window.row
    return shapely.area(shapely.intersection(area, shapely.box(left, top, left + 1, top + 1)))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(SHAPES, SHAPES)
def test_shares_are_the_areas_of_the_intersections(outer, hole) -> None:
    area = shapely.MultiPoint(outer).convex_hull.difference(shapely.MultiPoint(hole).convex_hull)
    if area.geom_type not in ("Polygon", "MultiPolygon") or area.is_empty:
        return
    assert np.abs(pixel_shares(area, BLOCK) - by_shapely(area, BLOCK)).max() < SLACK


def test_holes_islands_and_a_window_inside_one_polygon() -> None:
    ring = shapely.Point(5, 3).buffer(4).difference(shapely.Point(5, 3).buffer(2.2))
    area = shapely.union_all([ring, shapely.Point(5, 3).buffer(1), shapely.box(9.5, 4.25, 12, 6)])
    assert area.geom_type == "MultiPolygon"
    assert np.abs(pixel_shares(area, BLOCK) - by_shapely(area, BLOCK)).max() < SLACK
    assert (pixel_shares(shapely.box(-99, -99, 99, 99), BLOCK) == 1).all()
    assert (pixel_shares(shapely.box(50, 50, 60, 60), BLOCK) == 0).all()


def test_a_window_that_just_reaches_its_purity_is_pure() -> None:
    """Shares of 7/11 of a pixel are rounded; their mean is held against the same 7/11."""
    share = 7 / 11
    strips = [shapely.box(x, 0, x + share, 20) for x in range(20)]
    shares = window_shares(pixel_shares(shapely.MultiPolygon(strips), Window(0, 0, 20, 20)), 8)
    assert np.abs(shares - share).max() < SLACK
    assert (shares >= share - SLACK).all()


def test_windows_are_the_means_of_their_pixels() -> None:
    pixels = np.random.default_rng(0).random((7, 9))
    shares = window_shares(pixels, 3)
    assert shares.shape == (5, 7)
    assert shares[2, 4] == pytest.approx(pixels[2:5, 4:7].mean())


@pytest.mark.parametrize("turn", [False, True])
def test_places_go_to_pixels_and_back(turn: bool) -> None:
    grid = made_grid(turn=turn)
    x, y = grid.at(12.25, 40.5)
    there = on_pixels(shapely.Point(x, y), grid)
    assert (there.x, there.y) == pytest.approx((12.25, 40.5), abs=1e-9)
