"""Ground area of a pixel, from the reference system that it lies in."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray
from pyproj import CRS, Geod, Proj, Transformer

from geotl.arrays import Float64s
from geotl.errors import DataError
from geotl.io.raster import Grid

_DEGREES = "EPSG:4326"


@functools.lru_cache(maxsize=8)
def row_areas_m2(grid: Grid) -> Float64s | None:
    """Area of a pixel of each row in square metres [H]; None without a reference system.

    In a projected system it is that of the transform, in its linear unit. In a geographic one it
    is the exact area of the cell between two parallels and two meridians of the system's
    ellipsoid, laid on its cylindrical equal-area plane (PROJ's cea; Snyder 1987, equation 3-12).

    Raises:
        DataError: a geographic grid that is rotated or reaches beyond a pole.

    >>> grid = Grid("EPSG:32633", (10.0, 0.0, 500000.0, 0.0, -10.0, 4600000.0), 2, 2)
    >>> row_areas_m2(grid).tolist()
    [100.0, 100.0]
    """
    if grid.crs is None:
        return None
    crs = CRS.from_user_input(grid.crs)
    a, b, _, d, e, f = grid.transform
    unit = crs.axis_info[0].unit_conversion_factor if crs.axis_info else 1.0
    if not crs.is_geographic:
        return np.full(grid.height, abs(a * e - b * d) * unit**2)
    edges = np.radians(f + e * np.arange(grid.height + 1)) * (unit / math.radians(1.0))
    if b or d or np.abs(edges).max() > math.pi / 2 + 1e-9:
        raise DataError(
            "a map in degrees that is rotated, or reaches beyond a pole; reproject it to an "
            "equal-area system (gdalwarp -t_srs)"
        )
    return _cells(crs, edges, abs(math.radians(a)) * (unit / math.radians(1.0)))


def polygon_areas_m2(polygons: NDArray[np.object_], crs: str) -> Float64s:
    """Areas [N] in square metres of polygons in two dimensions.

    In a projected system they are those of the plane, in its linear unit. In a geographic one the
    polygons are laid on the ellipsoid's cylindrical equal-area plane: exact for edges along
    parallels and meridians, as those of a map's cells are.

    >>> grid = Grid("EPSG:4326", (1.0, 0.0, 0.0, 0.0, -1.0, 1.0), 1, 1)
    >>> box = np.array([shapely.box(*grid.bounds)])
    >>> np.allclose(polygon_areas_m2(box, "EPSG:4326"), row_areas_m2(grid))
    True
    """
    system = CRS.from_user_input(crs)
    unit = system.axis_info[0].unit_conversion_factor if system.axis_info else 1.0
    if not system.is_geographic:
        return np.asarray(shapely.area(polygons) * unit**2)

    def laid(xy: Float64s) -> Float64s:
        return np.column_stack([xy[:, 0] * unit, _below(system, xy[:, 1] * unit)])

    return np.asarray(shapely.area(shapely.transform(polygons, laid)))


def _cells(crs: CRS, edges: Float64s, width: float) -> Float64s:
    """Areas between parallels at `edges` [H+1] and meridians `width` apart, all in radians."""
    return np.asarray(np.abs(np.diff(_below(crs, edges))) * width)


def _below(crs: CRS, latitudes: Float64s) -> Float64s:
    """Area in m2 between the equator and parallels (in radians), for each radian of longitude."""
    ellipsoid = crs.get_geod() or Geod(ellps="WGS84")
    plane = Proj(proj="cea", a=ellipsoid.a, b=ellipsoid.b)
    inside = np.clip(latitudes, -math.pi / 2, math.pi / 2)
    _, north_m = plane(np.zeros_like(inside), inside, radians=True)
    return np.asarray(north_m) * float(ellipsoid.a)


def areal_scales(grid: Grid) -> tuple[float, float]:
    """Least and largest factor by which a projected grid enlarges areas, at a 5 by 5 mesh.

    1 in an equal-area or geographic system, and without one; 2.2 for Web Mercator at 48 degrees.
    Beyond the area of use the factor is 1.
    """
    if grid.crs is None or CRS.from_user_input(grid.crs).is_geographic:
        return 1.0, 1.0
    crs = CRS.from_user_input(grid.crs)
    mesh = [grid.at(grid.width * i / 4, grid.height * j / 4) for i in range(5) for j in range(5)]
    to_degrees = Transformer.from_crs(crs, crs.geodetic_crs, always_xy=True)
    lon, lat = to_degrees.transform([x for x, _ in mesh], [y for _, y in mesh])
    scales = np.asarray(Proj(crs).get_factors(lon, lat, errcheck=False).areal_scale, dtype=float)
    usable = scales[np.isfinite(scales) & (scales > 0) & (scales < 1e6)]
    return (float(usable.min()), float(usable.max())) if usable.size else (1.0, 1.0)


def distances_m(grid: Grid, cols: Float64s, rows: Float64s) -> Float64s:
    """Positions in metres [N,2], good for distances, of places given in pixels.

    In a geographic system an equirectangular projection about the middle latitude.
    """
    a, b, c, d, e, f = grid.transform
    x, y = a * cols + b * rows + c, d * cols + e * rows + f
    if grid.crs is None:
        return np.column_stack([x, y])
    crs = CRS.from_user_input(grid.crs)
    if not crs.is_geographic:
        return np.column_stack([x, y]) * crs.axis_info[0].unit_conversion_factor
    degree = math.radians(6371008.8)
    return np.column_stack([x * math.cos(math.radians(grid.centre[1])), y]) * degree


@dataclass(frozen=True)
class Ground:
    """What the middle pixel of a grid is on the ground.

    Attributes:
        across_m: its width in metres.
        down_m: its height in metres.
        north_deg: where true north lies, clockwise from the top of the grid.
        changes: whether the width changes from row to row, as in a grid in degrees.
    """

    across_m: float
    down_m: float
    north_deg: float
    changes: bool


def ground_of(grid: Grid) -> Ground | None:
    """Size and bearing of a grid's middle pixel, on the ellipsoid; None where they are not known.

    >>> utm = Grid("EPSG:32633", (10.0, 0.0, 300000.0, 0.0, -10.0, 5800000.0), 100, 100)
    >>> ground = ground_of(utm)
    >>> round(ground.across_m, 3), round(ground.down_m, 3), round(ground.north_deg, 2)
    (9.999, 9.999, 2.32)
    """
    if grid.crs is None:
        return None
    col, row = grid.width / 2, grid.height / 2
    ends = [(col - 0.5, row), (col + 0.5, row), (col, row + 0.5), (col, row - 0.5)]
    x, y = zip(*(grid.at(*place) for place in ends), strict=True)
    lon, lat = Transformer.from_crs(grid.crs, _DEGREES, always_xy=True).transform(x, y)
    if not np.isfinite([lon, lat]).all():
        return None
    geod = Geod(ellps="WGS84")
    _, _, across = geod.inv(lon[0], lat[0], lon[1], lat[1])
    bearing, _, down = geod.inv(lon[2], lat[2], lon[3], lat[3])
    geographic = bool(CRS.from_user_input(grid.crs).is_geographic)
    return Ground(float(across), float(down), -float(bearing), geographic)
