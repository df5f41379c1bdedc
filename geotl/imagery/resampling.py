"""A scene on another grid, window by window: another resolution or reference system.

Each pixel wanted is divided into as many points as it spans source pixels. A point is valid where
its pixel is, and interpolated bilinearly between valid pixels only (normalised
convolution, Knutsson & Westin 1993); the valid points are averaged. A pixel's value depends on its
place and nothing else, so that windows agree to the bit; on the scene's own grid the valid
pixels come back as they are. What is not valid is 0.
"""

from __future__ import annotations

import functools
import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pyproj import CRS, Transformer

from geotl.arrays import Bools, Float64s, Int64s, Pixels
from geotl.errors import DataError
from geotl.imagery.cloud_masks import Span
from geotl.imagery.scene import Scene, check_grid
from geotl.imagery.windows import Imagery, Window
from geotl.io.raster import Grid

_MAX_POINTS = 64  # along a pixel's side: enough for 10 m to 640 m
_POINTS_AT_ONCE = 2**21  # of a block: 100 MB and the pixels among which they lie
_LOCAL = threading.local()  # pyproj's transformers belong to one thread each
_DECIMALS = 6  # of a pixel that a transform leaves sure
Places = tuple[Float64s, Float64s]


def resampled(scene: Imagery, onto: float | Grid, *, name: str | None = None) -> Scene:
    """The scene on another grid, read window by window through the scene itself.

    Args:
        scene: the scene.
        onto: size of a pixel in metres, on the scene's own corner and reference system; or a grid.
        name: None for the scene's.

    Returns:
        A scene whose pixels are valid where valid ones make up half of their area or more, and
        cloudy where cloudy ones do.

    Raises:
        DataError: metres for a scene in degrees, a size that is not positive, pixels that span
            more than 64 of the scene's, or no way from one reference system to the other.
    """
    grid = onto if isinstance(onto, Grid) else grid_of(scene.grid, onto)
    check_grid(scene.path, grid)
    warp = _Warp(scene, grid, _points(scene, grid))
    masked = not isinstance(scene, Scene) or scene.mask is not None
    return Scene(
        name or scene.name,
        scene.path,
        grid,
        scene.bands,
        scene.sensor,
        scene.dtype,
        scene.acquired,
        warp,
        _WarpedMask(warp) if masked else None,
        scene.parts if isinstance(scene, Scene) else (),
    )


def meets(scene: Imagery, grid: Grid) -> bool:
    """Whether a scene overlaps a grid in any reference system."""
    both = ((scene.grid, grid), (grid, scene.grid))
    return any(_reaches(given, other) for given, other in both)


def _reaches(grid: Grid, other: Grid) -> bool:
    """Whether a place of one grid, of 65 x 65 from edge to edge, lies on another."""
    share = np.linspace(0, 1, 65)
    places = _places(grid, other, share[:, None] * grid.height, share[None] * grid.width)
    row, col = places
    return bool(((row > 0) & (row < other.height) & (col > 0) & (col < other.width)).any())


def grid_of(grid: Grid, resolution_m: float) -> Grid:
    """A grid over the same area from the same corner with square pixels of so many metres.

    Raises:
        DataError: a grid without a unit of length, or a size that is not positive.

    >>> fine = Grid("EPSG:32633", (10.0, 0.0, 500000.0, 0.0, -10.0, 4600000.0), 517, 391)
    >>> coarse = grid_of(fine, 20.0)
    >>> coarse.transform, coarse.height, coarse.width
    ((20.0, 0.0, 500000.0, 0.0, -20.0, 4600000.0), 259, 196)
    """
    crs = CRS.from_user_input(grid.crs)
    if not crs.is_projected:
        raise DataError(
            f"resolution {resolution_m:g} m: the scene lies in {grid.crs}, which has no unit of "
            "length; give a grid in a projected system"
        )
    if not (math.isfinite(resolution_m) and resolution_m > 0):
        raise DataError(f"resolution {resolution_m} m; allowed: a positive number of metres")
    side = resolution_m / crs.axis_info[0].unit_conversion_factor
    across, down = grid.resolution
    return Grid(
        grid.crs,
        (side, 0.0, grid.transform[2], 0.0, -side, grid.transform[5]),
        math.ceil(round(grid.height * down / side, 6)),
        math.ceil(round(grid.width * across / side, 6)),
    )


@dataclass(frozen=True)
class _Warp:
    """The pixels of a scene on another grid; `points` (down, across) to a pixel."""

    scene: Imagery
    grid: Grid
    points: tuple[int, int]

    def read(self, rows: Span, columns: Span) -> Pixels:
        read = [self._strip(part, columns) for part in self._strips(rows, columns)]
        if len(read) == 1:
            return read[0]
        return np.concatenate([d for d, _ in read], 1), np.concatenate([v for _, v in read], 1)

    def _strips(self, rows: Span, columns: Span) -> list[Span]:
        """Rows in parts whose points fit into memory."""
        down, across = self.points
        each = max(1, _POINTS_AT_ONCE // (down * across * max(1, columns[1] - columns[0])))
        return [(start, min(start + each, rows[1])) for start in range(*rows, each)]

    def _strip(self, rows: Span, columns: Span) -> Pixels:
        places = self.places(rows, columns)
        window = _around(places, self.scene.grid)
        shape = rows[1] - rows[0], columns[1] - columns[0]
        if window is None:
            full_shape = (len(self.scene.bands), *shape)
            return np.zeros(full_shape, dtype=self.scene.dtype), np.zeros(full_shape, dtype=bool)
        data, valid = self.scene.read(window)
        points = _among(places, window)
        planes = [self._plane(d, v, points, shape) for d, v in zip(data, valid, strict=True)]
        return np.stack([d for d, _ in planes]), np.stack([v for _, v in planes])

    def coarse(
        self, rows: Span, columns: Span, bands: Sequence[int], shape: tuple[int, int]
    ) -> Pixels:
        part = Window(rows[0], columns[0], rows[1] - rows[0], columns[1] - columns[0])
        a, b, c, d, e, f = part.on(self.grid).transform
        down, across = part.height / shape[0], part.width / shape[1]
        grid = Grid(self.grid.crs, (a * across, b * down, c, d * across, e * down, f), *shape)
        places = _Warp(self.scene, grid, (1, 1)).places((0, shape[0]), (0, shape[1]))
        window = _around(places, self.scene.grid)
        if window is None or not isinstance(self.scene, Scene):
            nothing = (len(bands), *shape)
            return np.zeros(nothing, dtype=self.scene.dtype), np.zeros(nothing, dtype=bool)
        window = _on(window, self.scene.grid)
        fine = min(window.height, 2 * shape[0]), min(window.width, 2 * shape[1])
        data, valid = self.scene.coarse(window, bands, fine)
        row = np.floor((places[0] - window.row) * (fine[0] / window.height))
        col = np.floor((places[1] - window.col) * (fine[1] / window.width))
        row, col = (np.where(np.isfinite(p), p, -9.0) for p in (row, col))
        flat = _flat(row, col, Window(0, 0, *fine))
        return (
            np.stack([_ended(plane, plane.dtype.type).take(flat) for plane in data]),
            np.stack([_ended(plane, bool).take(flat) for plane in valid]),
        )

    def cloudy(self, rows: Span, columns: Span) -> Bools:
        places = self.places(rows, columns)
        window = _around(places, self.scene.grid)
        shape = rows[1] - rows[0], columns[1] - columns[0]
        if window is None:
            return np.zeros(shape, dtype=bool)
        clouds = _ended(self.scene.cloudy(window), bool).take(_among(places, window).nearest)
        return self._mean(clouds, shape) >= 0.5

    def places(self, rows: Span, columns: Span) -> Places:
        """Where each point of each pixel lies, in rows and columns of the scene (0 is an edge)."""
        down, across = self.points
        row = (np.arange(rows[0] * down, rows[1] * down) + 0.5)[:, None] / down
        col = (np.arange(columns[0] * across, columns[1] * across) + 0.5)[None] / across
        return _places(self.grid, self.scene.grid, row, col)

    def close(self) -> None:
        """The scene is its owner's to close."""

    def _plane(
        self,
        data: NDArray[Any],
        valid: Bools,
        points: _Points,
        shape: tuple[int, int],
    ) -> tuple[NDArray[Any], Bools]:
        """One band: every valid point between valid pixels, then the mean of a pixel's points."""
        values = _ended(np.where(valid, data, 0), np.float64)
        present = _ended(valid, np.float64)
        seen = present.take(points.nearest) > 0
        total, weight = np.zeros(seen.shape), np.zeros(seen.shape)
        for place, share in points.corners:
            total += share * values.take(place)
            weight += share * present.take(place)
        value = np.where(seen, total / np.where(seen, weight, 1), 0)
        count, value = self._mean(seen, shape), self._mean(value, shape)
        enough = count >= 0.5
        value = np.where(enough, value / np.where(enough, count, 1), 0)
        if data.dtype.kind in "iu":
            value = np.rint(value)
        return value.astype(data.dtype), enough

    def _mean(self, points: NDArray[Any], shape: tuple[int, int]) -> Float64s:
        down, across = self.points
        split = points.reshape(shape[0], down, shape[1], across)
        total = np.zeros(shape)
        for i in range(down):  # quicker than a mean along two short axes
            for j in range(across):
                total += split[:, i, :, j]
        return total / (down * across)


@dataclass(frozen=True)
class _WarpedMask:
    warp: _Warp

    @property
    def path(self) -> Path | None:
        mask = self.warp.scene.mask if isinstance(self.warp.scene, Scene) else None
        return mask.path if mask else None

    def read(self, rows: Span, columns: Span) -> tuple[Bools, Bools]:
        cloudy = self.warp.cloudy(rows, columns)
        return cloudy, np.zeros_like(cloudy)

    def close(self) -> None:
        """As the warp's."""


def _places(grid: Grid, other: Grid, row: Float64s, col: Float64s) -> Places:
    """Where rows and columns of a grid lie in those of another; inf where there is no way."""
    a, b, c, d, e, f = grid.transform
    x, y = a * col + b * row + c, d * col + e * row + f
    if grid.crs != other.crs:
        x, y = _transformer(grid.crs, other.crs).transform(x, y)
    a, b, c, d, e, f = other.transform
    area = a * e - b * d
    lost = ~(np.isfinite(x) & np.isfinite(y))  # inf times a grid's 0 is no number
    across, down = np.where(lost, 0.0, x - c), np.where(lost, 0.0, y - f)
    places = (a * down - d * across) / area, (e * across - b * down) / area
    return np.where(lost, np.inf, places[0]), np.where(lost, np.inf, places[1])


def _around(places: Places, grid: Grid) -> Window | None:
    """The window of the scene with the pixels that points need; None if no point lies on it."""
    row, col = places
    near = (
        np.isfinite(row)
        & np.isfinite(col)
        & (row > -1)
        & (row < grid.height + 1)
        & (col > -1)
        & (col < grid.width + 1)
    )
    if not near.any():
        return None
    top, left = (math.floor(p[near].min() - 0.5) for p in places)
    bottom, right = (math.floor(p[near].max() - 0.5) + 2 for p in places)
    return Window(top, left, bottom - top, right - left)


def _on(window: Window, grid: Grid) -> Window:
    """The part of a window that lies on a grid."""
    top, left = max(window.row, 0), max(window.col, 0)
    bottom = min(window.row + window.height, grid.height)
    return Window(top, left, bottom - top, min(window.col + window.width, grid.width) - left)


@dataclass(frozen=True)
class _Points:
    """Points among a window's pixels, by places in the flattened window and a 0 behind it.

    Attributes:
        nearest: the pixel of each point.
        corners: each of the four pixels about a point, and its bilinear weight.
    """

    nearest: Int64s
    corners: tuple[tuple[Int64s, Float64s], ...]


def _among(places: Places, window: Window) -> _Points:
    """Points' nearest pixels in a window, and the four pixels with their bilinear weights."""
    row, col = (np.round(np.where(np.isfinite(p), p, -9.0), _DECIMALS) for p in places)
    top, left = np.floor(row - 0.5), np.floor(col - 0.5)
    down, across = row - 0.5 - top, col - 0.5 - left
    corners = tuple(
        (_flat(top + lower, left + east, window), abs(1 - lower - down) * abs(1 - east - across))
        for lower in (0, 1)
        for east in (0, 1)
    )
    return _Points(_flat(np.floor(row), np.floor(col), window), corners)


def _flat(row: Float64s, col: Float64s, window: Window) -> Int64s:
    """Places in a flattened window; the one behind its end for what lies beyond it."""
    row, col = row - window.row, col - window.col
    inside = (row >= 0) & (row < window.height) & (col >= 0) & (col < window.width)
    return np.where(inside, row * window.width + col, window.height * window.width).astype(np.int64)


def _ended(image: NDArray[Any], dtype: type) -> NDArray[Any]:
    """A window flattened, in a type, with a 0 behind it."""
    out: NDArray[Any] = np.zeros(image.size + 1, dtype=dtype)
    out[:-1] = image.ravel()
    return out


def _points(scene: Imagery, grid: Grid) -> tuple[int, int]:
    """How many of the scene's pixels a pixel in the middle of the grid spans, down and across.

    Raises:
        DataError: more than can be averaged, or no way between the reference systems.
    """
    warp = _Warp(scene, grid, (1, 1))
    row, col = grid.height // 2, grid.width // 2
    rows, columns = warp.places((row, row + 2), (col, col + 2))
    if not (np.isfinite(rows).all() and np.isfinite(columns).all()):
        raise DataError(
            f"{scene.path}: cannot convert {scene.grid.crs} to {grid.crs} at {grid.centre}; choose "
            "a reference system for that area"
        )
    down = math.hypot(rows[1, 0] - rows[0, 0], columns[1, 0] - columns[0, 0])
    across = math.hypot(rows[0, 1] - rows[0, 0], columns[0, 1] - columns[0, 0])
    most = max(down, across)
    if most > _MAX_POINTS:
        raise DataError(
            f"{scene.path}: a pixel of the new grid spans {most:.0f} of its pixels; allowed: up "
            f"to {_MAX_POINTS}; make it coarser first (gdalwarp -r average -tr)"
        )
    return max(1, math.ceil(down - 1e-3)), max(1, math.ceil(across - 1e-3))


def _transformer(source: str | None, target: str | None) -> Transformer:
    if not hasattr(_LOCAL, "between"):
        _LOCAL.between = functools.lru_cache(maxsize=16)(
            functools.partial(Transformer.from_crs, always_xy=True)
        )
    transformer: Transformer = _LOCAL.between(source, target)
    return transformer
