"""Rasters whose values are classes, looked up on the grid of a scene."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import rasterio.shutil
from rasterio.io import MemoryFile

from geotl.arrays import Bools, Int64s
from geotl.data.labels import OTHERS, mapped
from geotl.data.tiles import class_name
from geotl.errors import DataError, nearest
from geotl.io.raster import Grid, describe, opened
from geotl.io.vector import positions

_CLASS_TAG = re.compile(r"class_(\d+)", re.IGNORECASE)
_MOST_PX = 4096  # side of what is read of a class raster at once
_ROUNDING = 1e-6  # of a pixel: what a transform's decimals leave open


@dataclass(frozen=True)
class ClassRaster:
    """A class raster's header, and what its values are called.

    Attributes:
        path: the file.
        grid: where its pixels lie; its reference system is known.
        names: the file's own names of values, those of the mapping applied later.
        mapping: new name for each name or value, None to drop it, as in `labels.read_labels`.
        nodata: value that is no class.
    """

    path: Path
    grid: Grid
    names: Mapping[int, str]
    mapping: Mapping[str, str | None]
    nodata: float | None

    def name_of(self, value: int) -> str | None:
        """What a value is called, None where it is no class or dropped."""
        if value == self.nodata:
            return None
        own = self.names.get(value, str(value))
        key = str(value) if str(value) in self.mapping else own
        return mapped(key, self.mapping) if own else None


def raster_labels(
    path: str | Path, *, names: Mapping[str, str | None] | None = None
) -> ClassRaster:
    """Take a single-band raster of whole numbers for labels.

    Names of values come from the file's categories (CategoryNames) or its tags CLASS_n; a value
    without a name is called by its number, one whose category is blank is no class. GDAL's raster
    attribute tables are not read.

    Args:
        path: the file; of any grid and reference system, see `classes_on`.
        names: new name for each of the file's names or values ("3"), None to drop it, "*" for all
            that are not listed.

    Raises:
        DataError: more than one band, values that are not whole, no reference system, or a name
            that the file does not have although it names its values.
    """
    path = Path(path).expanduser()
    info = describe(path)
    if len(info.band_names) != 1 or info.paletted or info.dtype.kind not in "iu":
        raise DataError(
            f"{path}: {len(info.band_names)} bands of {info.dtype}; a raster of classes has one "
            "band of whole numbers"
        )
    if info.grid.crs is None:
        raise DataError(
            f"{path}: has no reference system, so nobody knows where its classes lie; give it one "
            "(gdal_edit -a_srs EPSG:...)"
        )
    with opened(path) as source:
        held = value_names(source)
    mapping = {class_name(old): new for old, new in (names or {}).items()}
    for old in mapping:
        if held and old != OTHERS and not old.isdigit() and old not in held.values():
            raise DataError(f"{path}: no class {old!r}; {nearest(old, sorted(held.values()))}")
    return ClassRaster(path, info.grid, held, mapping, info.nodata[0])


def classes_on(labels: ClassRaster, grid: Grid) -> tuple[Int64s, Bools]:
    """Values [h,w] of a class raster on another grid, and where there are any.

    Each pixel takes the value at its middle (nearest neighbour), in whatever reference system;
    where the classes are finer than the grid, those between the middles are not seen. Give it
    blocks of a scene, not scenes.
    """
    col, row = _looked_up(labels.grid, grid)
    inside = (row >= 0) & (row < labels.grid.height) & (col >= 0) & (col < labels.grid.width)
    values = np.zeros(inside.shape, dtype=np.int64)
    if not inside.any():
        return values, inside
    top, left = int(row[inside].min()), int(col[inside].min())
    height, width = int(row[inside].max()) - top + 1, int(col[inside].max()) - left + 1
    if max(height, width) > _MOST_PX and max(inside.shape) > 1:
        return _in_quarters(labels, grid)
    with opened(labels.path) as source:
        held = source.read(1, window=((top, top + height), (left, left + width)))
        seen = source.read_masks(1, window=((top, top + height), (left, left + width))) > 0
    at = row[inside] - top, col[inside] - left
    values[inside] = held[at]
    inside[inside] = seen[at]
    return values, inside


def _in_quarters(labels: ClassRaster, grid: Grid) -> tuple[Int64s, Bools]:
    """`classes_on` in parts, so that a class raster far finer than the grid is not read whole."""
    axis = 0 if grid.height >= grid.width else 1
    half = (grid.height, grid.width)[axis] // 2
    first = (half, grid.width) if axis == 0 else (grid.height, half)
    rest = (grid.height - half, grid.width) if axis == 0 else (grid.height, grid.width - half)
    a, b, _, d, e, _ = grid.transform
    x, y = grid.at(0, half) if axis == 0 else grid.at(half, 0)
    parts = [
        classes_on(labels, Grid(grid.crs, grid.transform, *first)),
        classes_on(labels, Grid(grid.crs, (a, b, x, d, e, y), *rest)),
    ]
    values, inside = zip(*parts, strict=True)
    return np.concatenate(values, axis=axis), np.concatenate(inside, axis=axis)


def _looked_up(coarse: Grid, grid: Grid) -> tuple[Int64s, Int64s]:
    """Columns and rows [h,w] of the pixels in which the middles of another grid's lie."""
    rows, cols = np.mgrid[: grid.height, : grid.width] + 0.5
    x, y = grid.at(cols.ravel(), rows.ravel())
    there = positions(np.column_stack([x, y]), str(grid.crs), str(coarse.crs))
    a, b, c, d, e, f = coarse.transform
    size = a * e - b * d
    across, down = there[:, 0] - c, there[:, 1] - f
    place = np.stack([(e * across - b * down) / size, (a * down - d * across) / size])
    place = np.nan_to_num(place, nan=-1.0, posinf=-1.0, neginf=-1.0)
    col, row = np.floor(place + _ROUNDING).astype(np.int64).reshape(2, grid.height, grid.width)
    return col, row


def value_names(source: Any) -> dict[int, str]:
    """Names of an open raster's values, by categories first, then by tags CLASS_n.

    GDAL tells categories in the XML of a copy as VRT. A blank one is "".
    """
    with MemoryFile(ext=".vrt") as copy:
        rasterio.shutil.copy(source, copy.name, driver="VRT")
        told = ElementTree.fromstring(copy.read()).find(".//CategoryNames")
    if told is not None:
        return {n: class_name(one.text or "") for n, one in enumerate(told)}
    tags = {**source.tags(), **source.tags(1)}
    found = ((_CLASS_TAG.fullmatch(key.strip()), text) for key, text in tags.items())
    return {int(match[1]): class_name(text) for match, text in found if match}
