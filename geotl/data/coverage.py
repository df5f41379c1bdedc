"""How much of each pixel a polygon covers, exactly, and how much of each window."""

from __future__ import annotations

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely import affinity

from geotl.arrays import Float64s
from geotl.imagery.windows import Window
from geotl.io.raster import Grid


def on_pixels(shape: shapely.Geometry, grid: Grid) -> shapely.Geometry:
    """A shape of the grid's reference system in columns (x) and rows (y) of the grid.

    Turned and sheared grids too; (0, 0) is the upper left corner of the upper left pixel.

    >>> grid = Grid("EPSG:32633", (10.0, 0.0, 500000.0, 0.0, -10.0, 4600000.0), 391, 517)
    >>> on_pixels(shapely.Point(500015, 4599985), grid)
    <POINT (1.5 1.5)>
    """
    a, b, c, d, e, f = grid.transform
    size = a * e - b * d
    # Shifted first: at a million metres the products below would lose digits.
    near = affinity.translate(shape, -c, -f)
    return affinity.affine_transform(near, (e / size, -b / size, -d / size, a / size, 0.0, 0.0))


def pixel_shares(area: shapely.Geometry, window: Window) -> Float64s:
    """Share of each pixel [h,w] of a window that lies in a (multi)polygon, from 0 to 1.

    Exact but for rounding: each edge is cut where it crosses from one pixel to the next, and
    adds the area to its right to the pixels of its row, with its sign (the signed-area
    accumulation of font rasterisers).

    Args:
        area: a valid polygon in columns and rows (see `on_pixels`).
        window: the pixels wanted.

    >>> pixel_shares(shapely.box(0.5, 0, 2, 0.5), Window(0, 0, 1, 3)).tolist()
    [[0.25, 0.5, 0.0]]
    """
    sums = np.zeros((window.height, window.width + 1))
    for part in shapely.get_parts(area):
        # Outer rings one way round, holes the other.
        turned = shapely.orient_polygons(part)
        for ring in (turned.exterior, *turned.interiors):
            edges = shapely.get_coordinates(ring) - (window.col, window.row)
            _accumulate(sums, edges[:-1], edges[1:])
    return np.clip(0.0 - np.cumsum(sums, axis=1)[:, :-1], 0.0, 1.0)


def window_shares(pixels: NDArray[np.generic], size_px: int) -> Float64s:
    """Mean of each square of `size_px` pixels within [h,w], by its upper left pixel.

    >>> window_shares(np.array([[1, 0, 0], [1, 0, 0]]), 2).tolist()
    [[0.5, 0.0]]
    """
    height, width = pixels.shape
    sums = np.zeros((height + 1, width + 1))
    np.cumsum(np.cumsum(pixels, axis=0, dtype=np.float64), axis=1, out=sums[1:, 1:])
    s = size_px
    return np.asarray(sums[s:, s:] - sums[:-s, s:] - sums[s:, :-s] + sums[:-s, :-s]) / (s * s)


def _accumulate(sums: Float64s, start: Float64s, end: Float64s) -> None:
    """Add each edge's signed area, as differences along the rows, to `sums` [h,w+1]."""
    height, width = sums.shape[0], sums.shape[1] - 1
    near = (np.minimum(start, end)[:, 1] < height) & (np.maximum(start, end)[:, 1] > 0)
    first, last = _pieces(start[near], end[near])
    middle, drop = (first + last) / 2, last[:, 1] - first[:, 1]
    row = np.floor(middle[:, 1]).astype(np.int64)
    here = (row >= 0) & (row < height) & (drop != 0)
    row, drop = row[here], drop[here]
    x = np.clip(middle[here, 0], 0, width)
    col = np.minimum(np.floor(x).astype(np.int64), width - 1)
    np.add.at(sums, (row, col), drop * (1 - (x - col)))
    np.add.at(sums, (row, col + 1), drop * (x - col))


def _pieces(start: Float64s, end: Float64s) -> tuple[Float64s, Float64s]:
    """Edges cut at every whole row and column they cross: starts and ends [M,2]."""
    count = np.arange(len(start))
    edge, along = [count, count], [np.zeros(len(start)), np.ones(len(start))]
    for axis in (0, 1):
        low = np.minimum(start[:, axis], end[:, axis])
        high = np.maximum(start[:, axis], end[:, axis])
        first = np.floor(low).astype(np.int64) + 1
        cuts = np.maximum(np.ceil(high).astype(np.int64) - first, 0)
        owner = np.repeat(count, cuts)
        line = first[owner] + np.arange(len(owner)) - np.repeat(np.cumsum(cuts) - cuts, cuts)
        edge.append(owner)
        along.append((line - start[owner, axis]) / (end[owner, axis] - start[owner, axis]))
    owners, shares = np.concatenate(edge), np.concatenate(along)
    order = np.lexsort((shares, owners))
    owners, shares = owners[order], shares[order]
    points = start[owners] + shares[:, None] * (end[owners] - start[owners])
    joined = owners[1:] == owners[:-1]
    return points[:-1][joined], points[1:][joined]
