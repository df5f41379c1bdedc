"""How much of each pixel a polygon covers, and of each window of pixels."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import shapely
from exactextract import exact_extract
from exactextract.feature import FeatureSource, JSONFeature
from exactextract.raster import NumPyRasterSource
from numpy.typing import NDArray

from geotl.arrays import Float64s
from geotl.imagery.windows import Window

SLACK = 1e-7  # of a share at a threshold: exactextract computes in single precision


def pixel_shares(area: shapely.Geometry, window: Window) -> Float64s:
    """Share of each pixel [h,w] of a window that lies in a (multi)polygon, from 0 to 1.

    Args:
        area: a valid polygon in columns and rows (see `placement.on_pixels`).
        window: the pixels wanted.

    Returns:
        shares, exact to `SLACK`.

    >>> pixel_shares(shapely.box(0.5, 0, 2, 0.5), Window(0, 0, 1, 3)).tolist()
    [[0.25, 0.5, 0.0]]
    """
    shares = np.zeros((window.height, window.width))
    sides = window.col, window.row, window.col + window.width, window.row + window.height
    pixels = NumPyRasterSource(shares.astype(np.uint8), *sides)
    (found,) = exact_extract(pixels, _OnePolygon(area), ["cell_id", "coverage"])
    cells = np.asarray(found["properties"]["cell_id"], dtype=np.int64)
    shares.flat[cells] = found["properties"]["coverage"]
    return shares[::-1]  # its cells are counted from the largest y on


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


class _Polygon(JSONFeature):  # type: ignore[misc]
    """Handed over as WKB; as GeoJSON, which is exactextract's own way, it takes twice as long."""

    def geometry(self) -> bytes:
        return bytes(shapely.to_wkb(self.feature["geometry"]))


class _OnePolygon(FeatureSource):  # type: ignore[misc]
    def __init__(self, area: shapely.Geometry) -> None:
        super().__init__()
        self.area = area

    def __iter__(self) -> Iterator[_Polygon]:
        yield _Polygon({"geometry": self.area, "properties": {}})

    def count(self) -> int:
        return 1

    def srs_wkt(self) -> None:
        return None
