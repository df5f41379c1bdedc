"""What a finished map looks like: its layers in few pixels, read from the files' overviews."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from geotl.classmaps import open_map, read_block, windows
from geotl.drawnmaps import NODATA
from geotl.errors import BandError
from geotl.kernels import rgb_positions
from geotl.raster import Grid, opened
from geotl.rendering import quicklook
from geotl.scenes import Scene
from geotl.windows import Imagery, Window

MOST_PX = 1500
Bytes = NDArray[np.uint8]


@dataclass(frozen=True)
class Look:
    """A map in few pixels.

    Attributes:
        grid: of these pixels.
        classes: values [h,w], 255 for none.
        confidence: percent [h,w], 255 for none.
        each: cells of the map along the side of one of these pixels.
        picture: the same ground in the scene's own colours [H,W,3], white where it has no data;
            None where it has no red, green and blue.
    """

    grid: Grid
    classes: Bytes
    confidence: Bytes
    each: int
    picture: Bytes | None = None


def each_of(height: int, width: int, most_px: int) -> int:
    """The power of two by which a map is made smaller until no side exceeds `most_px`.

    >>> each_of(1500, 100, 1500), each_of(1501, 100, 1500), each_of(20000, 20000, 1500)
    (1, 2, 16)
    """
    each = 1
    while max(height, width) > each * most_px:
        each *= 2
    return each


def coarser(grid: Grid, each: int) -> Grid:
    """A grid of pixels `each` times as large from the same corner.

    >>> coarser(Grid(None, (10.0, 0.0, 0.0, 0.0, -10.0, 0.0), 5, 4), 2)
    Grid(crs=None, transform=(20.0, 0.0, 0.0, 0.0, -20.0, 0.0), height=3, width=2)
    """
    a, b, c, d, e, f = grid.transform
    place = (a * each, b * each, c, d * each, e * each, f)
    return Grid(grid.crs, place, -(-grid.height // each), -(-grid.width // each))


def read_look(files: Mapping[str, Path], grid: Grid, *, most_px: int = MOST_PX) -> Look:
    """The class map and its confidence in few pixels.

    Memory is bounded by `most_px`: a power of two is taken, so that an overview holds the pixels
    (classes by mode, confidence by nearest) wherever the file has one.

    Args:
        files: of the map: `classes` and `confidence`.
        grid: of the class map.
        most_px: longest side.

    Raises:
        DataError: a file that cannot be read.
    """
    each = each_of(grid.height, grid.width, most_px)
    small = coarser(grid, each)
    planes = []
    for name in ("classes", "confidence"):
        with opened(files[name]) as source:
            planes.append(source.read(1, out_shape=(small.height, small.width)))
    return Look(small, planes[0], planes[1], each)


def picture_of(scene: Imagery, look: Look, cells: Window, posting: int) -> Bytes | None:
    """The ground of a look in the scene's red, green and blue, at most 1,500 pixels along a side.

    Args:
        scene: that was mapped.
        look: of the map.
        cells: the map's cells among those of the whole scene.
        posting: side of a cell in pixels of the scene.

    Raises:
        DataError: a scene that cannot be read any more.
    """
    if not isinstance(scene, Scene):
        return None
    try:
        rgb = rgb_positions(scene.bands, scene.sensor.wavelengths(scene.bands))
    except BandError:  # there is nothing to look at without the three
        return None
    step = posting * look.each
    whole = look.grid.height * step, look.grid.width * step  # it may reach beyond the scene
    top, left = cells.row * posting, cells.col * posting
    high = min(whole[0], scene.grid.height - top)
    wide = min(whole[1], scene.grid.width - left)
    each = each_of(*whole, MOST_PX)
    shape = max(1, high // each), max(1, wide // each)
    data, valid = scene.coarse(Window(top, left, high, wide), rgb, shape)
    shown = quicklook(data, valid, (0, 1, 2))
    shown[~valid.all(axis=0)] = 255
    picture = np.full((-(-whole[0] // each), -(-whole[1] // each), 3), 255, np.uint8)
    picture[: shape[0], : shape[1]] = shown
    return picture


def counts_of(path: Path) -> NDArray[np.int64]:
    """How many pixels of a file of bytes hold each value, [256].

    Raises:
        DataError: the file is damaged.
    """
    found = np.zeros(256, np.int64)
    of = open_map(path)
    for window in windows(of.tile, of.grid):
        found += np.bincount(read_block(of, window)[0].ravel(), minlength=256)
    return found


def outside_of(path: Path) -> float:
    """Share of the mapped cells outside the area of applicability, of its file (1 is inside).

    Raises:
        DataError: the file is damaged.
    """
    counts = counts_of(path)
    return float(counts[0] / max(int(counts[:2].sum()), 1))


def mean_of(counts: NDArray[np.int64]) -> float:
    """Mean of the values counted, 255 aside; nan without any.

    >>> counts = np.zeros(256, np.int64)
    >>> counts[[80, 90, 255]] = 1, 1, 7
    >>> mean_of(counts)
    85.0
    """
    held = counts[:NODATA]
    total = int(held.sum())
    return float((held * np.arange(NODATA)).sum() / total) if total else float("nan")
