"""Windows of pixels, what can be read by windows, and one grid aligned on another."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from geotl.arrays import Bools, Float64s, Int64s
from geotl.errors import DataError
from geotl.imagery.sensors import Sensor
from geotl.io.raster import Grid

_ROUNDING = 1e-6  # of a pixel: rounding of a transform's decimals
_DISAGREE = "they do not cover the same area; put the files of one tile in its folder"


@dataclass(frozen=True, order=True)
class Window:
    """A rectangle of pixels; it may reach beyond its grid."""

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

    @property
    def slices(self) -> tuple[slice, slice]:
        """Rows and columns of an array over the grid.

        >>> Window(1, 2, 8, 9).slices
        (slice(1, 9, None), slice(2, 11, None))
        """
        below, right = self.row + self.height, self.col + self.width
        return slice(self.row, below), slice(self.col, right)

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

    A pixel includes its upper and its left edge, as in row = floor((f - y) / resolution). GDAL
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
    """A scene that is read window by window.

    Attributes:
        name: short, and unique among the scenes of a run.
        path: the file or folder.
        grid: grid of the pixels.
        bands: the sensor's names, in the order of the channels.
        sensor: sensor of the digital numbers.
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
        """Pixels [h,w] of cloud, shadow or the like in the scene's mask."""
        ...


@dataclass(frozen=True)
class Axis:
    """Where the pixels of a fine axis lie on a coarse one.

    Attributes:
        nearest: coarse pixel with each fine pixel's middle, int [n].
        inside: whether there is one, bool [n]; `nearest` is the closest where there is not.
        low: the coarse pixel whose middle lies at or before it, int [n].
        high: the one behind, int [n]; both stay on the image.
        share: weight of `high`, from 0 to 1, [n].
    """

    nearest: Int64s
    inside: Bools
    low: Int64s
    high: Int64s
    share: Float64s

    def part(self, start: int, stop: int) -> tuple[tuple[int, int], Axis]:
        """Fine pixels from `start` up to `stop`, placed on none but the coarse pixels they need.

        Returns:
            Those coarse pixels (from, to), and the places among them.

        >>> needed, part = axis(8, 32, 0.25, 0.0).part(8, 16)
        >>> needed, part.nearest.tolist()
        ((1, 5), [1, 1, 1, 1, 2, 2, 2, 2])
        """
        cut = slice(start, stop)
        first = int(min(self.nearest[cut].min(), self.low[cut].min()))
        last = int(max(self.nearest[cut].max(), self.high[cut].max()))
        return (first, last + 1), Axis(
            self.nearest[cut] - first,
            self.inside[cut],
            self.low[cut] - first,
            self.high[cut] - first,
            self.share[cut],
        )


def axis(count: int, fine: int, step: float, start: float) -> Axis:
    """Place `fine` pixels of `step` coarse pixels each, from `start`, on `count` coarse pixels.

    >>> axis(2, 4, 0.5, 0.0).nearest.tolist(), axis(2, 4, 0.5, 0.0).share.tolist()
    ([0, 0, 1, 1], [0.0, 0.25, 0.75, 0.0])
    """
    place = start + step * (np.arange(fine) + 0.5)
    inside = (place > -_ROUNDING) & (place < count + _ROUNDING)
    nearest = np.clip(np.floor(place + _ROUNDING), 0, count - 1).astype(np.int64)
    middle = np.clip(place - 0.5, 0, count - 1)
    low = np.floor(middle).astype(np.int64)
    return Axis(nearest, inside, low, np.minimum(low + 1, count - 1), middle - low)


def align(fine: Grid, coarse: Grid) -> tuple[Axis, Axis]:
    """Rows and columns of a fine grid on a coarse one that covers the same area.

    Grids with a coordinate reference system are laid on each other by position; without one
    they are taken to share their edges.

    Raises:
        DataError: different reference systems, grids turned against each other, or edges that
            differ by a coarse pixel or more.
    """
    if (fine.crs is None) != (coarse.crs is None) or fine.crs != coarse.crs:
        raise DataError(
            f"lies in {coarse.crs or 'no reference system'}, the finest band in "
            f"{fine.crs or 'none'}; bring all bands of a tile to one"
        )
    if fine.crs is None:
        steps = coarse.height / fine.height, coarse.width / fine.width
        if abs(steps[0] - steps[1]) * min(fine.height, fine.width) >= 1:
            raise DataError(f"{_sides(coarse)}, the finest band {_sides(fine)}: {_DISAGREE}")
        starts = 0.0, 0.0
    else:
        steps, starts = _laid(fine, coarse)
    for step, start, few, many in zip(
        steps, starts, (coarse.height, coarse.width), (fine.height, fine.width), strict=True
    ):
        if max(abs(start), abs(start + step * many - few)) >= 1:
            raise DataError(f"covers {_box(coarse)}, the finest band {_box(fine)}: {_DISAGREE}")
    return (
        axis(coarse.height, fine.height, steps[0], starts[0]),
        axis(coarse.width, fine.width, steps[1], starts[1]),
    )


def cover(fine: Grid, mask: Grid) -> tuple[Axis, Axis]:
    """Rows and columns of a grid on that of a mask, which must cover it but for a mask pixel.

    Raises:
        DataError: another reference system, a grid turned against the other, or a part of the
            fine grid that the mask does not cover.
    """
    if fine.crs != mask.crs:
        raise DataError(
            f"lies in {mask.crs or 'no reference system'}, the scene in {fine.crs}; warp the mask "
            "to the scene's"
        )
    steps, starts = _laid(fine, mask)
    for step, start, few, many in zip(
        steps, starts, (mask.height, mask.width), (fine.height, fine.width), strict=True
    ):
        if start <= -1 or start + step * many - few >= 1:
            raise DataError(
                f"covers {_box(mask)}, the scene {_box(fine)}; give a mask that covers all of it"
            )
    return (
        axis(mask.height, fine.height, steps[0], starts[0]),
        axis(mask.width, fine.width, steps[1], starts[1]),
    )


def resample(
    data: NDArray[Any], valid: Bools, rows: Axis, columns: Axis
) -> tuple[NDArray[Any], Bools]:
    """A coarse band [h,w] on a fine grid [H,W], and its validity.

    Validity is that of the coarse pixel in which a fine pixel's middle lies. Values are
    interpolated bilinearly between the middles of the valid coarse pixels only (normalised
    convolution, Knutsson & Westin 1993), so that nothing bleeds in from invalid ones.
    """
    seen = valid[np.ix_(rows.nearest, columns.nearest)]
    seen &= rows.inside[:, None] & columns.inside[None]
    values = np.where(valid, data, 0).astype(np.float64)
    weight = _between(valid.astype(np.float64), rows, columns)
    value = _between(values, rows, columns)
    value = np.where(seen, value / np.where(weight > 0, weight, 1), 0)
    if data.dtype.kind in "iu":
        value = np.rint(value)
    return value.astype(data.dtype), seen


def _between(image: Float64s, rows: Axis, columns: Axis) -> Float64s:
    """Bilinear interpolation along the rows, then along the columns."""
    down = rows.share[:, None]
    tall = image[rows.low] * (1 - down) + image[rows.high] * down
    out: Float64s = (
        tall[:, columns.low] * (1 - columns.share) + tall[:, columns.high] * columns.share
    )
    return out


def _laid(fine: Grid, coarse: Grid) -> tuple[tuple[float, float], tuple[float, float]]:
    """Size of a fine pixel and the fine grid's upper left corner, in coarse (rows, columns)."""
    onto = np.linalg.inv(_matrix(coarse)) @ _matrix(fine)
    turned = max(abs(onto[0, 1]) * fine.height, abs(onto[1, 0]) * fine.width)
    if turned >= 0.5 or onto[0, 0] <= 0 or onto[1, 1] <= 0:
        raise DataError("its grid is turned against the finest band's; warp all bands to one grid")
    return (float(onto[1, 1]), float(onto[0, 0])), (float(onto[1, 2]), float(onto[0, 2]))


def _matrix(grid: Grid) -> Float64s:
    return np.array([grid.transform[:3], grid.transform[3:], (0.0, 0.0, 1.0)])


def _sides(grid: Grid) -> str:
    return f"has {grid.height} x {grid.width} pixels"


def _box(grid: Grid) -> str:
    return "[" + ", ".join(f"{edge:.10g}" for edge in grid.bounds) + "]"
