"""Tiles of features: which pixels of a scene they have, and how a block of it fills them."""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from geotl.arrays import Bools, Float32s, Int64s
from geotl.imagery.windows import Imagery, Window
from geotl.io.files import unwritten
from geotl.io.owners import clean_once, private_prefix
from geotl.io.raster import Grid
from geotl.labelling.tiles import SIDE
from geotl.models.pixel_features import BlockFeatures, PixelFeatures

Halves = NDArray[np.float16]
READ_PX = 1024  # side of the blocks of a scene that are read together, without the halo
FINE = (1, 2)  # levels that are filled together
STRIP_PX = 32  # rows of a block that are described together
BATCH_PX = 4096  # pixels that are predicted together
_LARGEST = float(np.finfo(np.float16).max)


class TilePlace(NamedTuple):
    """A tile: pixels of the scene between its positions, its column and its row of tiles."""

    each: int
    x: int
    y: int

    def within(self, grid: Grid) -> tuple[slice, slice]:
        """The rows and columns of the grid that the tile has as positions.

        >>> grid = Grid(None, (1.0, 0.0, 0.0, 0.0, -1.0, 0.0), 700, 300)
        >>> TilePlace(2, 0, 1).within(grid)
        (slice(513, 700, 2), slice(1, 300, 2))
        """
        span = SIDE * self.each
        rows, cols = (
            slice(at * span + self.each // 2, min((at + 1) * span, length), self.each)
            for at, length in ((self.y, grid.height), (self.x, grid.width))
        )
        return rows, cols

    @property
    def window(self) -> Window:
        """The square of the scene that it covers, perhaps beyond the scene's edge."""
        span = SIDE * self.each
        return Window(self.y * span, self.x * span, span, span)

    @property
    def name(self) -> str:
        """Path of the tile's file in the store's folder."""
        return f"{self.each}/{self.y}-{self.x}.npy"


def levels_of(grid: Grid) -> tuple[int, ...]:
    """Every `each` of a grid, up to the first with one tile.

    >>> levels_of(Grid(None, (1.0, 0.0, 0.0, 0.0, -1.0, 0.0), 700, 300))
    (1, 2, 4)
    """
    levels = [1]
    while max(grid.height, grid.width) > SIDE * levels[-1]:
        levels.append(2 * levels[-1])
    return tuple(levels)


def tiles_of(grid: Grid, each: int) -> list[TilePlace]:
    """All tiles of a level, row by row."""
    down, across = (-(-length // (SIDE * each)) for length in (grid.height, grid.width))
    return [TilePlace(each, x, y) for y in range(down) for x in range(across)]


@dataclass(frozen=True)
class FeatureTile:
    """The features of a tile's positions inside the scene.

    Attributes:
        planes: [D+1,h,w], all features one after the other, and 1 in the last plane where a
            pixel is usable, else 0.
        widths: number of features by block.
    """

    planes: Halves
    widths: dict[str, int]

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.planes.shape[1], self.planes.shape[2]

    @property
    def usable(self) -> Bools:
        """Which pixels [h,w] have enough valid bands."""
        return np.asarray(self.planes[-1] > 0)

    @property
    def parts(self) -> list[slice]:
        """Runs of its pixels that the processor's cache holds, which is quicker than all."""
        height, width = self.shape
        starts = range(0, height * width, BATCH_PX)
        return [slice(start, min(start + BATCH_PX, height * width)) for start in starts]

    def blocks(self, pixels: slice = slice(None)) -> dict[str, Float32s]:
        """Features [D,n] by block, of some of the h * w pixels."""
        flat, features, start = self.planes.reshape(len(self.planes), -1), {}, 0
        for block, width in self.widths.items():
            # torch converts with the processor's own instruction, NumPy number by number
            some = torch.from_numpy(flat[start : start + width, pixels])
            features[block] = some.to(torch.float32, memory_format=torch.contiguous_format).numpy()
            start += width
        return features


@dataclass(frozen=True)
class TileFeatures:
    """What the tiles of a scene hold.

    Attributes:
        scene: read by windows.
        of: definition of the features.
        all_bands: whether a pixel is usable with all bands alone, else with one.
        area: the part of the scene that is labelled; None for all of it. No other pixel is usable.
    """

    scene: Imagery
    of: PixelFeatures
    all_bands: bool = False
    area: Window | None = None

    @property
    def widths(self) -> dict[str, int]:
        """Number of features by block."""
        return {block: len(names) for block, names in self.of.names.items()}

    def meets(self, window: Window) -> bool:
        """Whether a window has pixels of the area."""
        return self.area is None or self.area.meets(window)

    def tiles(self, each: int) -> list[TilePlace]:
        """The tiles of a level that meet the area."""
        return [one for one in tiles_of(self.scene.grid, each) if self.meets(one.window)]

    def size(self, each: int) -> int:
        """Bytes of a level's tiles."""
        return sum(2 * math.prod(self.shape(one)) for one in self.tiles(each))

    def shape(self, place: TilePlace) -> tuple[int, int, int]:
        """Shape of a tile's planes."""
        rows, cols = (_range(part) for part in place.within(self.scene.grid))
        return sum(self.widths.values()) + 1, len(rows), len(cols)

    def empty(self, place: TilePlace) -> Halves:
        """Planes of a tile with nothing in them."""
        return np.zeros(self.shape(place), np.float16)

    def described(self, place: TilePlace) -> Halves:
        """The planes of a tile, computed from the scene."""
        tiles, span = {place: self.empty(place)}, SIDE * place.each
        corner = place.y * span, place.x * span
        ends = (part.stop for part in place.within(self.scene.grid))
        sides = (min(span, end - start) for start, end in zip(corner, ends, strict=True))
        for block in filter(self.meets, blocks_of(Window(*corner, *sides), READ_PX)):
            for _ in FeatureBlock(self, block).fill([place], tiles):
                pass
        return tiles[place]


class FeatureBlock:
    """A block of a scene that is read once, and gives its part of several tiles."""

    def __init__(self, what: TileFeatures, area: Window) -> None:
        """Read the block with its halo."""
        self.area, self.halo, self.what = area, what.of.halo, what
        window = Window(
            area.row - self.halo,
            area.col - self.halo,
            area.height + 2 * self.halo,
            area.width + 2 * self.halo,
        )
        image, valid = what.scene.read(window)
        good = valid.all(axis=0) if what.all_bands else valid.any(axis=0)
        self.usable: Bools = good & _inside_area(window, what.area)
        self.features = BlockFeatures(what.of, image, valid)

    def fill(self, places: Sequence[TilePlace], tiles: dict[TilePlace, Halves]) -> Iterator[int]:
        """Write the positions of some tiles that lie in the block, strip by strip.

        Strips are as wide as the block, since the statistics of a long run of pixels take hardly
        longer than those of a short one.

        Args:
            places: the tiles.
            tiles: their planes; those that are missing are added.

        Yields:
            The row of the scene before which all is written.
        """
        levels = {place.each for place in places}
        for each in sorted(levels - {FINE[1]} if 1 in levels else levels):
            nested = [one for one in places if one.each == each or (each == 1 and one.each in FINE)]
            strip = STRIP_PX if each == 1 else 1
            rows = _inside(slice(each // 2, None, each), self.area.row, self.area.height)
            for start in rows[::strip]:
                part = Window(start, self.area.col, min(strip, rows.stop - start), self.area.width)
                self._describe(part, nested, tiles)
                yield part.row + part.height if each == 1 else self.area.row
        yield self.area.row + self.area.height

    def _describe(
        self, part: Window, places: Sequence[TilePlace], tiles: dict[TilePlace, Halves]
    ) -> None:
        """Write the pixels of some rows of the block into the tiles that have them."""
        rows, cols = Window(
            self.halo + part.row - self.area.row, self.halo, part.height, part.width
        ).slices
        blocks = self.features.strip(rows, cols)
        planes = [*map(_halves, blocks.values()), self.usable[None, rows, cols].astype("f2")]
        for place in places:
            own_rows, own_cols = place.within(self.what.scene.grid)
            down = _inside(own_rows, part.row, part.height)
            across = _inside(own_cols, part.col, part.width)
            if not len(down) or not len(across):
                continue
            if place not in tiles:
                tiles[place] = self.what.empty(place)
            to = np.s_[_steps(down, own_rows), _steps(across, own_cols)]
            of = np.s_[:, down[0] - part.row :: place.each, across[0] - part.col :: place.each]
            start = 0
            for values in planes:
                some = values[of][:, : len(down), : len(across)]
                tiles[place][start : start + len(values), *to] = some
                start += len(values)


def _inside_area(window: Window, area: Window | None) -> Bools:
    """Which pixels [h,w] of a window lie in an area."""
    inside = np.zeros((window.height, window.width), bool)
    if area is None:
        return ~inside
    rows, cols = Window(
        area.row - window.row, area.col - window.col, area.height, area.width
    ).slices
    inside[max(0, rows.start) : max(0, rows.stop), max(0, cols.start) : max(0, cols.stop)] = True
    return inside


def _halves(values: Float32s) -> Halves:
    """Values as float16, those beyond its range at its ends."""
    wide = torch.from_numpy(values)
    return np.asarray(wide.half().clamp_(-_LARGEST, _LARGEST).numpy())


def _range(positions: slice) -> range:
    return range(positions.start, positions.stop, positions.step)


def positions(span: slice) -> Int64s:
    """The numbers of a span of rows or columns [n].

    >>> positions(slice(1, 10, 4)).tolist()
    [1, 5, 9]
    """
    return np.array(_range(span), np.int64)


def _steps(some: range, positions: slice) -> slice:
    """Where some positions stand among all.

    >>> _steps(range(9, 17, 4), slice(1, 100, 4))
    slice(2, 4, None)
    """
    start = (some.start - positions.start) // positions.step
    return slice(start, start + len(some))


def _inside(positions: slice, start: int, length: int) -> range:
    """Those of some positions that lie in a span.

    >>> _inside(slice(1, 100, 4), 8, 8)
    range(9, 16, 4)
    """
    step = positions.step
    first = max(positions.start, positions.start + -(-(start - positions.start) // step) * step)
    stop = start + length
    return range(first, stop if positions.stop is None else min(stop, positions.stop), step)


def blocks_of(area: Window, side: int) -> Iterator[Window]:
    """An area in blocks, at most `side` pixels wide and high."""
    below, right = area.row + area.height, area.col + area.width
    for row in range(area.row, below, side):
        for col in range(area.col, right, side):
            yield Window(row, col, min(side, below - row), min(side, right - col))


def save_array(path: Path, values: NDArray[np.generic]) -> None:
    """Write an array beside its place and rename it; the disk may take its time.

    Raises:
        OutputError: the disk is full, or the folder cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        clean_once(path.parent)
        handle, part = tempfile.mkstemp(dir=path.parent, prefix=private_prefix(path))
        try:
            with os.fdopen(handle, "wb") as stream:
                np.save(stream, values)
            Path(part).replace(path)
        finally:
            Path(part).unlink(missing_ok=True)
    except OSError as error:
        raise unwritten(path, error) from error
