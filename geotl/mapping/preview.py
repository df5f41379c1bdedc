"""A preview of a finished map: its layers in few pixels, read from the files' overviews."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from geotl.arrays import Int64s, Pixels, UInt8s
from geotl.errors import BandError
from geotl.evaluation.class_map import open_map, read_block, windows
from geotl.imagery.scene import Scene
from geotl.imagery.stacked import own_bands
from geotl.imagery.windows import Imagery, Window
from geotl.io.raster import Grid, opened
from geotl.mapping.blocks import Thumb
from geotl.mapping.options import NODATA
from geotl.models.first_conv import rgb_positions
from geotl.reporting.rendering import quicklook

MAX_PX = 1500


@dataclass(frozen=True)
class Look:
    """A map in few pixels.

    Attributes:
        grid: of these pixels.
        classes: values [h,w], 255 for none.
        confidence: percent [h,w], 255 for none.
        each: cells of the map along the side of one of these pixels.
        picture: the same area in the scene's own colours [H,W,3], white where it has no data;
            None where it has no red, green and blue.
    """

    grid: Grid
    classes: UInt8s
    confidence: UInt8s
    each: int
    picture: UInt8s | None = None


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


def read_look(files: Mapping[str, Path], grid: Grid, *, most_px: int = MAX_PX) -> Look:
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


def thumb_of(scene: Imagery, cells: tuple[int, int], posting: int) -> Thumb | None:
    """The picture that is gathered while a complete scene is mapped; None where it must be read.

    It shows the clouds of a masked scene; a scene without red, green and blue has none.

    Args:
        scene: to be mapped.
        cells: rows and columns of its map.
        posting: side of a cell in pixels of the scene.
    """
    rgb = None if not isinstance(scene, Scene) or scene.mask is not None else _rgb_of(scene)
    if rgb is None:
        return None
    grid = scene.grid
    each, _, shape = _framed(cells, posting, (grid.height, grid.width))
    return Thumb(rgb, each, shape)


def picture_of(
    scene: Imagery, cells: Window, posting: int, gathered: Pixels | None = None
) -> UInt8s | None:
    """The area of a map in the scene's red, green and blue, at most 1,500 pixels along a side.

    Args:
        scene: that was mapped.
        cells: the map's cells among those of the complete scene.
        posting: side of a cell in pixels of the scene.
        gathered: picture and validity [3,h,w], [h,w] as gathered for `thumb_of`; None to read it.

    Raises:
        DataError: a scene that cannot be read any more.
    """
    rgb = _rgb_of(scene) if isinstance(scene, Scene) else None
    if not isinstance(scene, Scene) or rgb is None:
        return None
    top, left = cells.row * posting, cells.col * posting
    room = scene.grid.height - top, scene.grid.width - left
    each, cells_px, shape = _framed((cells.height, cells.width), posting, room)
    if gathered is None:
        high, wide = (min(n * each, left) for n, left in zip(shape, room, strict=True))
        data, valid = scene.coarse(Window(top, left, high, wide), rgb, shape)
    else:
        data, valid = gathered[0], np.broadcast_to(gathered[1], gathered[0].shape)
    shown = quicklook(data, valid, (0, 1, 2))
    shown[~valid.all(axis=0)] = 255
    picture = np.full((-(-cells_px[0] // each), -(-cells_px[1] // each), 3), 255, np.uint8)
    picture[: shape[0], : shape[1]] = shown
    return picture


def _rgb_of(scene: Scene) -> tuple[int, ...] | None:
    """Positions of a scene's red, green and blue; None without the three."""
    try:
        bands = own_bands(scene)
        return tuple(rgb_positions(bands, scene.sensor.wavelengths(bands)))
    except BandError:  # there is nothing to show
        return None


def _framed(
    cells: tuple[int, int], posting: int, room: tuple[int, int]
) -> tuple[int, tuple[int, int], tuple[int, int]]:
    """Of a map's picture: pixels in one, extent of the preview in pixels, rows and columns in it.

    The preview's last pixels may reach beyond the scene, of which `room` pixels are left.
    """
    step = posting * each_of(*cells, MAX_PX)
    full = -(-cells[0] * posting // step) * step, -(-cells[1] * posting // step) * step
    each = each_of(*full, MAX_PX)
    shape = tuple(max(1, min(n, left) // each) for n, left in zip(full, room, strict=True))
    return each, full, (shape[0], shape[1])


def counts_of(path: Path) -> Int64s:
    """How many pixels of a file of bytes have each value, [256].

    Raises:
        DataError: the file is damaged.
    """
    counts = np.zeros(256, np.int64)
    of = open_map(path)
    for window in windows(of.tile, of.grid):
        counts += np.bincount(read_block(of, window)[0].ravel(), minlength=256)
    return counts


def outside_of(path: Path) -> float:
    """Share of the mapped cells outside the area of applicability, of its file (1 is inside).

    Raises:
        DataError: the file is damaged.
    """
    counts = counts_of(path)
    return float(counts[0] / max(int(counts[:2].sum()), 1))


def mean_of(counts: Int64s) -> float:
    """Mean of the values counted, 255 aside; nan without any.

    >>> counts = np.zeros(256, np.int64)
    >>> counts[[80, 90, 255]] = 1, 1, 7
    >>> mean_of(counts)
    85.0
    """
    valid = counts[:NODATA]
    total = int(valid.sum())
    return float((valid * np.arange(NODATA)).sum() / total) if total else float("nan")
