"""Polygons of a class map's classes, in a GeoPackage."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import shapely
from numpy.typing import NDArray
from rasterio import features
from rasterio.errors import RasterioError

from geotl.errors import DataError, OutputError
from geotl.io.geodesy import polygon_areas_m2, row_areas_m2
from geotl.io.raster import Grid, opened
from geotl.io.vector import write_features

LAYER = "classes"


def write_polygons(
    source: Path,
    path: Path,
    classes: Sequence[str],
    *,
    min_area_m2: float = 0.0,
    date: str | None = None,
) -> int:
    """Write a polygon for each connected region of a class: its name, value and area in m2.

    Pixels are connected over edges, not corners. GDAL goes through the map row by row; what is
    held are the map's bytes, where small regions are sieved, and the polygons.

    Args:
        source: the class map; its nodata is no region.
        path: the GeoPackage.
        classes: names from value 0.
        min_area_m2: regions below it become part of their largest neighbour, unless they have
            none; by the size of a cell in the map's middle row.
        date: kept in the file, as 2024-05-01T10:00:00Z; None for now.

    Returns:
        How many there are.

    Raises:
        DataError: a map without a reference system, of which no areas are known.
        OutputError: the disk is full.
    """
    with opened(source) as stream:
        crs = stream.crs.to_string() if stream.crs else None
        if crs is None:
            raise DataError(f"{source}: has no reference system, so polygons lie nowhere; set one")
        place = tuple(float(v) for v in stream.transform[:6])
        grid = Grid(crs, place, stream.height, stream.width)  # type: ignore[arg-type]
        shapes, values = _regions(stream, smallest_px(grid, min_area_m2))
    columns: dict[str, Sequence[Any]] = {
        "class": [classes[value] for value in values],
        "value": values,
        "area_m2": polygon_areas_m2(shapes, crs).tolist(),
    }
    write_features(path, shapes, columns, crs, layer=LAYER, date=date)
    return len(shapes)


def smallest_px(grid: Grid, min_area_m2: float) -> int:
    """Pixels that a region of a map needs for an area, in its middle row.

    >>> grid = Grid("EPSG:32633", (10.0, 0.0, 500000.0, 0.0, -10.0, 4600000.0), 64, 64)
    >>> smallest_px(grid, 1000.0), smallest_px(grid, 1001.0)
    (10, 11)
    """
    areas = row_areas_m2(grid)
    if areas is None:
        raise DataError("a map without a reference system: no areas are known; set one")
    return max(1, math.ceil(round(min_area_m2 / float(areas[grid.height // 2]), 6)))


def _regions(stream: Any, smallest: int) -> tuple[NDArray[np.object_], list[int]]:
    """Polygons of a band's regions and their values."""
    band = rasterio.band(stream, 1)
    try:
        if smallest > 1:
            band = features.sieve(band, smallest, mask=stream.read_masks(1))
        found = [
            (shapely.geometry.shape(shape), int(value))
            for shape, value in features.shapes(band, transform=stream.transform)
            if value != stream.nodata
        ]
    except RasterioError as error:
        raise OutputError(f"{stream.name}: could not be turned into polygons ({error})") from error
    shapes = np.empty(len(found), dtype=object)
    shapes[:] = [shape for shape, _ in found]
    return shapes, [value for _, value in found]
