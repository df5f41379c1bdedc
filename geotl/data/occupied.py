"""Ground of a scene that new windows must leave alone: training tiles, labels, judged chips."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import shapely

from geotl.arrays import Bools, Float64s
from geotl.data.coverage import on_pixels
from geotl.data.labels import Labels
from geotl.data.placement import window_about
from geotl.errors import DataError
from geotl.imagery.windows import Imagery, Window
from geotl.io.raster import Grid
from geotl.io.vector import Geometries, transformed

Shapes = list[tuple[shapely.Geometry, str]]  # each with its reference system

_SLACK = 1e-3  # of a pixel: windows whose edges meet share none


class Occupied:
    """Shapes on a scene's grid, asked which windows meet them."""

    def __init__(self, grid: Grid, shapes: Sequence[tuple[shapely.Geometry, str]]) -> None:
        """Lay shapes, each with its reference system, on a grid.

        Raises:
            DataError: the grid has no reference system, or positions cannot be transformed.
        """
        if grid.crs is None:
            raise DataError("a scene without a reference system cannot be laid beside labels")
        laid: list[shapely.Geometry] = []
        for system in dict.fromkeys(crs for _, crs in shapes):
            own = [shape for shape, crs in shapes if crs == system]
            there = transformed(_array(own), system, grid.crs)
            laid += [on_pixels(shape, grid) for shape in there if shape is not None]
        self._tree = shapely.STRtree(laid)

    def meets(self, windows: Sequence[Window]) -> Bools:
        """Which windows share ground with a shape, [n].

        >>> grid = Grid("EPSG:32633", (10.0, 0.0, 0.0, 0.0, -10.0, 0.0), 64, 64)
        >>> taken = Occupied(grid, [(shapely.box(80, -160, 160, -80), "EPSG:32633")])
        >>> taken.meets([Window(0, 0, 8, 8), Window(1, 1, 8, 8), Window(9, 9, 8, 8)]).tolist()
        [False, True, True]
        """
        found = np.zeros(len(windows), dtype=bool)
        if len(windows):
            one = np.array([(w.col, w.row, w.col + w.width, w.row + w.height) for w in windows])
            inner = one + np.array([_SLACK, _SLACK, -_SLACK, -_SLACK])
            found[self._tree.query(shapely.box(*inner.T), predicate="intersects")[0]] = True
        return found


def ground_of(grid: Grid, windows: Sequence[Window]) -> Shapes:
    """Windows of a grid as shapes with their reference system."""
    return [(shapely.box(*window.on(grid).bounds), str(grid.crs)) for window in windows]


def footprint_shapes(footprints: Float64s, crs: Sequence[str | None]) -> Shapes:
    """Footprints [N,4] (left, bottom, right, top) whose place is known, a point where of no size.

    >>> boxes = np.array([[0.0, 0, 10, 10], [5, 5, 5, 5], [np.nan] * 4])
    >>> [shape.geom_type for shape, _ in footprint_shapes(boxes, ["EPSG:32633"] * 3)]
    ['Polygon', 'Point']
    """
    return [
        (shapely.box(*box) if box[2] > box[0] else shapely.Point(box[:2]), system)
        for box, system in zip(footprints, crs, strict=True)
        if system is not None and np.isfinite(box).all()
    ]


def label_shapes(labels: Labels, scenes: Sequence[Imagery], size_px: int) -> Shapes:
    """Ground of labels: polygons as they are, and the chip about each point in each scene."""
    points = [label for label in labels.labels if label.geometry.geom_type.endswith("Point")]
    areas = [label for label in labels.labels if not label.geometry.geom_type.endswith("Point")]
    shapes = [(label.geometry, labels.crs) for label in areas]
    parts = shapely.get_parts(_array([label.geometry for label in points]))
    for scene in scenes:
        there = transformed(parts, labels.crs, str(scene.grid.crs))
        laid = [on_pixels(point, scene.grid) for point in there if point is not None]
        shapes += ground_of(scene.grid, [window_about(p.x, p.y, size_px) for p in laid])
    return shapes


def _array(shapes: Sequence[shapely.Geometry]) -> Geometries:
    made = np.empty(len(shapes), dtype=object)
    made[:] = shapes
    return made
