"""Points and polygons in pixels of the scene, from the page's GeoJSON and back."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import shapely

from geotl.errors import DataError

MAX_VERTICES = 10_000  # of a polygon
_DIGITS = 1e-9  # a crossing of the scene's edge by less is rounding


def shape_of(geojson: object, width: int, height: int) -> shapely.Geometry:
    """A point or polygon as the page sends it, checked; a polygon is cut at the scene's edge.

    Args:
        geojson: of a Point or Polygon, x as column and y as row.
        width: of the scene [px].
        height: of the scene [px].

    Raises:
        DataError: another kind, numbers that are not finite, a place outside the scene, a polygon
            that crosses itself or has too many corners.

    >>> shape_of({"type": "Point", "coordinates": [3.5, 2]}, 10, 10)
    <POINT (3.5 2)>
    """
    kind = geojson.get("type") if isinstance(geojson, Mapping) else None
    coordinates = geojson.get("coordinates") if isinstance(geojson, Mapping) else None
    if kind == "Point":
        return _point(coordinates, width, height)
    if kind == "Polygon":
        return _polygon(coordinates, width, height)
    raise DataError(f"a geometry {str(kind)[:40]!r}; allowed: Point, Polygon")


def geojson_of(shape: shapely.Geometry) -> dict[str, Any]:
    """A point or polygon as GeoJSON.

    >>> geojson_of(shapely.Point(3.5, 2))
    {'type': 'Point', 'coordinates': [3.5, 2.0]}
    """
    if shape.geom_type == "Point":
        return {"type": "Point", "coordinates": [shape.x, shape.y]}
    rings = (shape.exterior, *shape.interiors)
    return {"type": "Polygon", "coordinates": [_ring_coordinates(ring) for ring in rings]}


def _ring_coordinates(ring: shapely.LinearRing) -> list[list[float]]:
    """Corners [N,2] of a ring, the first one again at the end."""
    corners: list[list[float]] = shapely.get_coordinates(ring).tolist()
    return corners


def simple_parts(shape: shapely.Geometry, width: int, height: int) -> Iterator[shapely.Geometry]:
    """The points and polygons of a (multi)geometry that lie in the scene, cut at its edge."""
    for part in shapely.get_parts(shape):
        if part.geom_type == "Point":
            if 0 <= part.x < width and 0 <= part.y < height:
                yield part
        else:
            yield from _inside(part, width, height)


def _point(coordinates: object, width: int, height: int) -> shapely.Geometry:
    x, y = _pair(coordinates)
    if not (0 <= x < width and 0 <= y < height):
        raise DataError(f"a point at column {x:g}, row {y:g} lies outside the scene")
    return shapely.Point(x, y)


def _polygon(coordinates: object, width: int, height: int) -> shapely.Geometry:
    if not isinstance(coordinates, list) or not coordinates:
        raise DataError("a polygon without corners; draw it again")
    if sum(len(ring) for ring in coordinates if isinstance(ring, list)) > MAX_VERTICES:
        raise DataError(f"a polygon of more than {MAX_VERTICES:,} corners; draw it with fewer")
    shell, *holes = (_ring(ring) for ring in coordinates)
    polygon = shapely.Polygon(shell, holes)
    if not polygon.is_valid or polygon.area == 0:
        raise DataError("the polygon crosses itself or has no area; draw it without crossings")
    parts = list(_inside(polygon, width, height))
    if not parts:
        raise DataError("the polygon lies outside the scene")
    if len(parts) > 1:
        raise DataError("the scene's edge cuts the polygon into parts; draw each part by itself")
    return parts[0]


def _inside(polygon: shapely.Geometry, width: int, height: int) -> list[shapely.Geometry]:
    if shapely.box(0, 0, width, height).covers(polygon):
        return [polygon]
    cut = shapely.intersection(polygon, shapely.box(0, 0, width, height))
    parts = shapely.get_parts(cut)
    return [part for part in parts if part.geom_type == "Polygon" and part.area > _DIGITS]


def _ring(corners: object) -> list[tuple[float, float]]:
    if not isinstance(corners, list) or len(corners) < 4:
        raise DataError("a polygon of fewer than three corners; draw it again")
    ring = [_pair(corner) for corner in corners]
    if ring[0] != ring[-1]:
        raise DataError("a polygon whose last corner is not its first; close it")
    return ring


def _pair(value: object) -> tuple[float, float]:
    if isinstance(value, list) and len(value) == 2:
        x, y = (_number(one) for one in value)
        return x, y
    raise DataError("a place that is not two numbers [px]; place it again")


def _number(value: object) -> float:
    if type(value) is int or type(value) is float:
        try:
            there = float(value)
        except OverflowError:
            there = math.inf
        if math.isfinite(there) and abs(there) < 1e9:  # no scene is as wide
            return there
    raise DataError("a place that is not two finite numbers [px]; place it again")
