"""Windows of a scene: whole pixels of its grid, and what may be read through them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from geotl.arrays import Bools
from geotl.imagery.sensors import Sensor
from geotl.io.raster import Grid


@dataclass(frozen=True, order=True)
class Window:
    """A rectangle of whole pixels; it may reach beyond the grid it lies on."""

    row: int
    col: int
    height: int
    width: int

    def on(self, grid: Grid) -> Grid:
        """The window's own grid.

        >>> grid = Grid("EPSG:32633", (10.0, 0.0, 500000.0, 0.0, -10.0, 4600000.0), 64, 64)
        >>> Window(1, 2, 8, 8).on(grid).bounds
        (500020.0, 4599910.0, 500100.0, 4599990.0)
        """
        a, b, _, d, e, _ = grid.transform
        x, y = grid.at(self.col, self.row)
        return Grid(grid.crs, (a, b, x, d, e, y), self.height, self.width)

    def inside(self, grid: Grid) -> bool:
        """Whether no pixel of the window lies beyond the grid.

        >>> Window(0, -1, 8, 8).inside(Grid(None, (1.0, 0.0, 0.0, 0.0, -1.0, 0.0), 64, 64))
        False
        """
        below, right = self.row + self.height, self.col + self.width
        return min(self.row, self.col) >= 0 and below <= grid.height and right <= grid.width

    def meets(self, other: Window) -> bool:
        """Whether two windows of one grid share a pixel.

        >>> first = Window(0, 0, 8, 8)
        >>> first.meets(Window(7, 7, 8, 8)), first.meets(Window(8, 0, 8, 8))
        (True, False)
        """
        return (
            self.row < other.row + other.height
            and other.row < self.row + self.height
            and self.col < other.col + other.width
            and other.col < self.col + self.width
        )


def pixel_of(grid: Grid, x: float, y: float) -> tuple[int, int]:
    """Row and column of the pixel in which a position lies; it may lie beyond the grid.

    A pixel holds its upper and its left edge, as row = floor((f - y) / resolution) says. GDAL
    counts from the corner of the first pixel for AREA_OR_POINT=Point too.

    >>> grid = Grid("EPSG:32633", (10.0, 0.0, 500000.0, 0.0, -10.0, 4600000.0), 517, 391)
    >>> pixel_of(grid, 500015, 4599985), pixel_of(grid, 499999, 4600001)
    ((1, 1), (-1, -1))
    """
    a, b, c, d, e, f = grid.transform
    across, down, area = x - c, y - f, a * e - b * d
    col, row = (e * across - b * down) / area, (a * down - d * across) / area
    return math.floor(row), math.floor(col)


class Imagery(Protocol):
    """A scene that is read window by window, never whole.

    Attributes:
        name: short, and unlike that of any other scene of a run.
        path: the file or folder.
        grid: where the pixels lie.
        bands: the sensor's names, in the order of the channels.
        sensor: what a digital number means.
        dtype: type of the pixels.
        acquired: date of acquisition as YYYY-MM-DD, if known.
    """

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def path(self) -> Path: ...  # noqa: D102
    @property
    def grid(self) -> Grid: ...  # noqa: D102
    @property
    def bands(self) -> tuple[str, ...]: ...  # noqa: D102
    @property
    def sensor(self) -> Sensor: ...  # noqa: D102
    @property
    def dtype(self) -> np.dtype[Any]: ...  # noqa: D102
    @property
    def acquired(self) -> str | None: ...  # noqa: D102

    def read(self, window: Window) -> tuple[NDArray[Any], Bools]:
        """Pixels in their native type and their validity, both [C,h,w].

        Beyond the scene, at nodata, NaN and under a cloud mask nothing is valid. Any thread may
        call it.
        """
        ...

    def cloudy(self, window: Window) -> Bools:
        """Which pixels [h,w] the scene's own mask calls cloud, shadow or the like."""
        ...
