"""Class maps on disk: one band of whole numbers, read block by block, and what they stand for.

Names of classes come from what the user gives, else from GDAL's CategoryNames (in the file's
.aux.xml, or in a VRT), else from tags CLASS_0, CLASS_1 ..., else they are the numbers themselves.
Two values of one name are one class.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from geotl.arrays import Pixels
from geotl.data.classrasters import ClassRaster, classes_on, value_names
from geotl.data.tiles import class_name
from geotl.errors import DataError
from geotl.imagery.windows import Window
from geotl.io.raster import Grid, opened

_BLOCK_PIXELS = 1 << 22  # held at once: 4 Mi pixels


@dataclass(frozen=True)
class ClassMap:
    """The header of a class map; pixels are read with `read_block`.

    Attributes:
        path: the file.
        grid: where the pixels lie.
        dtype: their type, one of whole numbers.
        nodata: value declared to stand for no class.
        names: of the classes by value; a value that it lacks is called by its number.
        colours: #rrggbb by value, where the file has a palette.
        tags: what else the file says of itself.
        tile: rows and columns of the file's own blocks.
    """

    path: Path
    grid: Grid
    dtype: np.dtype[Any]
    nodata: float | None
    names: Mapping[int, str]
    colours: Mapping[int, str]
    tags: Mapping[str, str]
    tile: tuple[int, int]

    def name(self, value: int) -> str:
        """What a value stands for."""
        return self.names.get(value, str(value))


def open_map(path: str | Path, names: Mapping[int, str] | None = None) -> ClassMap:
    """Read a class map's header.

    Args:
        path: GeoTIFF, VRT or whatever GDAL reads.
        names: of the classes by value; they come before the file's own.

    Raises:
        DataError: no such file, damaged, several bands, or pixels that are not whole numbers.
    """
    path = Path(path)
    with opened(path) as source:
        dtype = np.dtype(source.dtypes[0])
        if source.count != 1 or dtype.kind not in "iu":
            raise DataError(
                f"{path}: {source.count} bands of {dtype}; allowed: a class map of one band of "
                "whole numbers (gdal_translate -b 1 -ot Byte makes one)"
            )
        told = names or value_names(source)
        crs = source.crs.to_string() if source.crs else None
        place = tuple(float(v) for v in source.transform[:6])
        return ClassMap(
            path=path,
            grid=Grid(crs, place, source.height, source.width),  # type: ignore[arg-type]
            dtype=dtype,
            nodata=source.nodata,
            names={v: class_name(name) for v, name in told.items() if name},
            colours=_palette(source),
            tags=source.tags(),
            tile=source.block_shapes[0],
        )


def read_block(of: ClassMap, window: Window, *, on: Grid | None = None) -> Pixels:
    """Values and validity, both [h,w], of a window of a map.

    Args:
        of: the map.
        window: whole pixels inside the grid, such as `windows` gives.
        on: another grid to lay the map on by nearest neighbour; the window is then that grid's.

    Raises:
        DataError: pixels that cannot be read, or a grid whose place is not known.
    """
    if on is not None and not same_grid(on, of.grid):
        if None in (on.crs, of.grid.crs):
            raise DataError(
                f"{of.path}: cannot be laid on another grid, as one of them has no reference "
                "system; assign it (gdal_edit.py -a_srs)"
            )
        held = ClassRaster(of.path, of.grid, of.names, {}, of.nodata)
        return classes_on(held, window.on(on))
    below, right = window.row + window.height, window.col + window.width
    part = ((window.row, below), (window.col, right))
    with opened(of.path) as source:
        return source.read(1, window=part), source.read_masks(1, window=part) > 0


def windows(tile: tuple[int, int], grid: Grid) -> list[Window]:
    """Windows that cover a grid, of whole file blocks where these are small enough.

    >>> grid = Grid(None, (1.0, 0.0, 0.0, 0.0, -1.0, 0.0), 5000, 3000)
    >>> [(w.row, w.col, w.height, w.width) for w in windows((256, 256), grid)][:2]
    [(0, 0, 2048, 2048), (0, 2048, 2048, 952)]
    """
    side = math.isqrt(_BLOCK_PIXELS)
    width = grid.width if tile[1] >= grid.width else _multiple(tile[1], side)
    width = min(width, _BLOCK_PIXELS)
    height = _multiple(tile[0], max(1, _BLOCK_PIXELS // max(width, side)))
    return [
        Window(row, col, min(height, grid.height - row), min(width, grid.width - col))
        for row in range(0, grid.height, height)
        for col in range(0, grid.width, width)
    ]


def same_grid(first: Grid, second: Grid) -> bool:
    """Whether two grids have the same pixels, to a thousandth of one."""
    if (first.crs, first.height, first.width) != (second.crs, second.height, second.width):
        return False
    step = min(first.resolution)
    corners = [(0, 0), (first.width, 0), (0, first.height), (first.width, first.height)]
    return all(math.dist(first.at(*place), second.at(*place)) < 1e-3 * step for place in corners)


def _multiple(tile: int, most: int) -> int:
    """The largest multiple of a block's side up to a size; the size itself for larger blocks."""
    return most // tile * tile or most


def _palette(source: Any) -> dict[int, str]:
    try:
        palette = source.colormap(1)
    except ValueError:  # rasterio's word for a band without one
        return {}
    return {value: f"#{r:02x}{g:02x}{b:02x}" for value, (r, g, b, _) in palette.items()}


def read_names(path: Path) -> dict[int, str]:
    """Names by value from a text file: a line for each, such as `3,wetland`.

    Value and name are parted by a comma, a semicolon, an equals sign or a tab; empty lines, lines
    that begin with # and a first line of headings are left out.

    Raises:
        DataError: it cannot be read, or a line is of another form.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({error}); give a text file in UTF-8") from error
    found: dict[int, str] = {}
    for number, line in enumerate(lines, 1):
        told = re.fullmatch(r"\s*(-?\d+)\s*[,;=\t]\s*(.*?\S)\s*", line)
        if told:
            found[int(told[1])] = told[2].strip('"')
        elif line.strip() and not line.lstrip().startswith("#") and number > 1:
            raise DataError(f"{path}: line {number} is {line!r}; allowed: such as 3,wetland")
    if not found:
        raise DataError(f"{path}: names no class; write a line for each, such as 3,wetland")
    return found
