"""Areas of cells in degrees, against the closed form on the system's own ellipsoid."""

from __future__ import annotations

import math

import numpy as np
import pytest
from pyproj import CRS

from geotl.io.geodesy import row_areas_m2
from geotl.io.raster import Grid


def closed_form(crs: str, edges: np.ndarray, width: float) -> np.ndarray:
    """Snyder 1987, equation 3-12, as geotl computed it itself; radians."""
    geod, sine = CRS(crs).get_geod(), np.sin(edges)
    if geod.es == 0:
        return np.abs(np.diff(geod.a**2 * sine)) * width
    e = math.sqrt(geod.es)
    zone = sine / (2 * (1 - geod.es * sine**2)) + np.arctanh(e * sine) / (2 * e)
    return np.abs(np.diff(geod.b**2 * zone)) * width


@pytest.mark.parametrize(
    ("crs", "step"),
    [
        ("EPSG:4326", 1.0),
        ("EPSG:4326", 1 / 1200),
        ("EPSG:4267", 1.0),  # Clarke 1866
        ("EPSG:4055", 1.0),  # a sphere
        ("ESRI:104903", 1.0),  # the Moon
    ],
)
def test_cells_are_those_of_the_systems_own_ellipsoid(crs: str, step: float) -> None:
    rows = min(round(180 / step), 2000)
    grid = Grid(crs, (step, 0.0, 10.0, 0.0, -step, 90.0), rows, 1)
    edges = np.radians(90.0 - step * np.arange(rows + 1))
    expected = closed_form(crs, edges, math.radians(step))
    # Both are differences of areas of a hemisphere, of which 1e-5 m2 is the last digit.
    assert np.allclose(row_areas_m2(grid), expected, rtol=1e-10, atol=1e-5)


def test_cells_in_grads() -> None:
    """EPSG:4901 counts 400 to the circle."""
    grid = Grid("EPSG:4901", (1.0, 0.0, 0.0, 0.0, -1.0, 100.0), 200, 1)
    edges = np.radians(90.0 - 0.9 * np.arange(201))
    expected = closed_form("EPSG:4901", edges, math.radians(0.9))
    assert np.allclose(row_areas_m2(grid), expected, rtol=1e-10)
