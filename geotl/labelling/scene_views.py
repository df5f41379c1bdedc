"""A scene in fewer pixels: any part at any decimation, in time and memory that its size is not.

Fine views are read as they are and averaged. Coarse ones come from the files' overviews. Where
there are none, squares of 2,048 pixels are read once each, averaged, and kept in memory as long
as there is room; coarser ones are averaged from these.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geotl.arrays import Bools, Float64s, Pixels
from geotl.imagery.measurable import Measurable
from geotl.imagery.scene import BandLayer, PixelSource, Scene, Stack
from geotl.imagery.windows import Window
from geotl.io.raster import Grid
from geotl.labelling.tiles import SIDE, RecentValues

_STEP = 8  # scene pixels along the side of a pixel of the squares, and of theirs in the next level
_STRIPS = 4  # parts in which a square is read: memory for one of them is needed
_READERS = 4  # squares that are read at once, at most
_ROOM = 96 << 20  # bytes of squares kept: 100 million pixels of ten bands
_LOOK = 512  # rows and columns of the look from which contrast is taken
_SMALL = 2048  # a scene of these rows and columns is read for it as it is
_PLACES, _PART = 7, 128  # of others: so many parts down and across, of so many pixels
QUANTILES = 1001  # from 0 to 100 % in tenths


class SceneViews:
    """A scene at any decimation; many threads may ask at once.

    Clouds are shown and not cut out: who labels wants to see them.
    """

    def __init__(self, scene: Scene) -> None:
        """Read nothing yet."""
        self._scene = replace(scene, mask=None)
        self._reading = threading.Semaphore(min(_READERS, os.cpu_count() or 1))
        self._squares: RecentValues[Pixels] = RecentValues(_ROOM, _bytes)

    def read(self, bands: Sequence[int], each: int, x: int, y: int) -> Pixels:
        """Pixels and validity [C,256,256] of a tile: none is valid beyond the scene.

        Args:
            bands: positions among the scene's.
            each: scene pixels along the side of a pixel, a power of two.
            x: tile from the left; it begins at the column x * 256 * each.
            y: tile from the top.

        Raises:
            DataError: a file is damaged or gone.
        """
        side = SIDE * each
        window = Window(y * side, x * side, side, side)
        if each > 1 and each >= self._overview(bands):
            return self._from_overviews(bands, window)
        if each < _STEP:
            return averaged(*self._pixels(bands, window), each)
        level = _STEP ** int(np.log2(each) / np.log2(_STEP) + 1e-9)
        return averaged(*self._assembled(tuple(bands), level, each, (x, y)), each // level)

    def quantiles(self, bands: Sequence[int]) -> Float64s:
        """Values of a sample of the scene at 0, 0.1, ... 100 %, [C,1001]; nan without any."""
        looked = self._look(bands)
        shares = np.linspace(0, 100, QUANTILES)
        out = np.full((len(bands), QUANTILES), np.nan)
        for place, (data, valid) in enumerate(zip(*looked, strict=True)):
            if valid.any():
                out[place] = np.percentile(data[valid], shares)
        return out

    def _look(self, bands: Sequence[int]) -> Pixels:
        """Pixels from all over the scene, [C,h,w]: few parts of it where it has no overviews."""
        grid = self._scene.grid
        if max(grid.height, grid.width) <= _SMALL or self._overview(bands) <= _STEP**2:
            shape = min(_LOOK, grid.height), min(_LOOK, grid.width)
            return self._scene.coarse(Window(0, 0, grid.height, grid.width), bands, shape)
        parts = [self._pixels(bands, window) for window in _spread(grid)]
        return np.concatenate([d for d, _ in parts], 2), np.concatenate([v for _, v in parts], 2)

    def _overview(self, bands: Sequence[int]) -> float:
        """The decimation from which overviews serve all bands; infinite without."""
        return max(_overview_of(self._scene.source, band) for band in bands)

    def _from_overviews(self, bands: Sequence[int], window: Window) -> Pixels:
        grid, each = self._scene.grid, window.height // SIDE
        rows = max(0, min(window.height, grid.height - window.row))
        columns = max(0, min(window.width, grid.width - window.col))
        shape = -(-rows // each), -(-columns // each)
        data = np.zeros((len(bands), SIDE, SIDE), self._scene.dtype)
        valid = np.zeros(data.shape, bool)
        if rows and columns:
            place = slice(None), slice(shape[0]), slice(shape[1])
            inside = Window(window.row, window.col, rows, columns)
            data[place], valid[place] = self._scene.coarse(inside, bands, shape)
        return data, valid

    def _pixels(self, bands: Sequence[int], window: Window) -> Pixels:
        """The scene as it is, [C,h,w]; only files and bands that are wanted are read."""
        part = _narrowed(self._scene.source, bands)
        if part is None:
            data, valid = self._scene.read(window)
            return data[list(bands)], valid[list(bands)]
        names = tuple(self._scene.bands[band] for band in bands)
        return replace(self._scene, source=part, bands=names).read(window)

    def _assembled(
        self, bands: tuple[int, ...], level: int, each: int, tile: tuple[int, int]
    ) -> Pixels:
        """A tile in pixels of a level, [C,h,w], from its squares."""
        count = each // level
        rows = []
        for row in range(tile[1] * count, (tile[1] + 1) * count):
            columns = range(tile[0] * count, (tile[0] + 1) * count)
            rows.append([self._square(bands, level, column, row) for column in columns])
        return _joined(rows)

    def _square(self, bands: tuple[int, ...], level: int, x: int, y: int) -> Pixels:
        """256 x 256 pixels of a level, [C,h,w]; computed once while it is kept."""
        grid, side = self._scene.grid, SIDE * level
        if x * side >= grid.width or y * side >= grid.height:
            shape = len(bands), SIDE, SIDE
            return np.zeros(shape, self._scene.dtype), np.zeros(shape, bool)
        return self._squares.get((bands, level, x, y), lambda: self._averaged(bands, level, x, y))

    def _averaged(self, bands: tuple[int, ...], level: int, x: int, y: int) -> Pixels:
        if level == _STEP:
            side = SIDE * level
            rows = range(y * side, (y + 1) * side, side // _STRIPS)
            strips = [Window(row, x * side, side // _STRIPS, side) for row in rows]
            with self._reading:
                return _joined([[averaged(*self._pixels(bands, one), _STEP)] for one in strips])
        return averaged(*self._assembled(bands, level // _STEP, level, (x, y)), _STEP)


def averaged(data: NDArray[Any], valid: Bools, each: int) -> Pixels:
    """The mean of the valid pixels in each square of `each` by `each`, [...,h/each,w/each].

    A square is valid where one of its pixels is. Whole numbers are rounded.

    >>> pixels = np.array([[1, 3, 9], [2, 7, 9]], np.uint8)[:, :2]
    >>> averaged(pixels, pixels < 7, 2)[0].tolist()
    [[2]]
    """
    if each == 1:
        return data, valid
    whole = data.dtype.kind in "iu"
    count = _summed(valid, each, np.int64)
    total = _summed(np.where(valid, data, data.dtype.type(0)), each, np.int64 if whole else float)
    mean = total / np.maximum(count, 1)
    return (np.rint(mean) if whole else mean).astype(data.dtype), count > 0


def _summed(values: NDArray[Any], each: int, dtype: type) -> NDArray[Any]:
    """Sums over squares: rows first, which lie together in memory."""
    *axes, height, width = values.shape
    rows = values.reshape(*axes, height // each, each, width).sum(axis=-2, dtype=dtype)
    return np.asarray(rows.reshape(*axes, height // each, width // each, each).sum(axis=-1))


def _overview_of(source: PixelSource, band: int) -> float:
    """The decimation from which a band's overviews serve; infinite without."""
    layer = source.layers[band] if isinstance(source, Stack) else source
    if not isinstance(layer, BandLayer) or not layer.reader.info.overviews:
        return np.inf
    # of a band on a coarser grid the part read may begin a pixel too early: not seen from afar
    return layer.reader.info.overviews[0] if layer.places is None else _STEP


def _narrowed(source: PixelSource, bands: Sequence[int]) -> PixelSource | None:
    """Some bands of a source, without reading the others; None where it cannot be."""
    if isinstance(source, Stack):
        return Stack(tuple(source.layers[band] for band in bands))
    if not isinstance(source, BandLayer):
        return None
    all_of = source.measurable
    low, high = ([ends[band] for band in bands] for ends in (all_of.low, all_of.high))
    ends = Measurable(all_of.nodata, tuple(low), tuple(high))
    return replace(source, positions=tuple(source.positions[b] for b in bands), measurable=ends)


def _spread(grid: Grid) -> list[Window]:
    """Parts of a grid, evenly spread."""
    rows = np.linspace(0, grid.height - _PART, _PLACES).astype(int)
    columns = np.linspace(0, grid.width - _PART, _PLACES).astype(int)
    return [Window(int(row), int(col), _PART, _PART) for row in rows for col in columns]


def _joined(rows: Sequence[Sequence[Pixels]]) -> Pixels:
    data, valid = (np.block([[one[i] for one in row] for row in rows]) for i in (0, 1))
    return data, valid


def _bytes(of: Pixels) -> int:
    return of[0].nbytes + of[1].nbytes
