"""Class maps read block by block; pixels and areas of each class."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geotl.arrays import Bools, Float64s, Int64s, Pixels
from geotl.console import Progress
from geotl.data.labels import ClassRaster, classes_on, value_names
from geotl.data.tiles import class_name
from geotl.errors import DataError
from geotl.imagery.windows import Window
from geotl.io.geodesy import row_areas_m2
from geotl.io.raster import Grid, opened

_BLOCK_PIXELS = 1 << 22  # in memory together: 4 Mi pixels
_MAX_CLASSES = 1024
_DENSE = 1 << 20  # a range of values that is tallied in a table
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True)
class ClassMap:
    """The header of a class map; pixels are read with `read_block`.

    Attributes:
        path: the file.
        grid: grid of the pixels.
        dtype: integer type of the pixels.
        nodata: value declared to stand for no class.
        names: names of the classes by value; a value that it lacks is called by its number.
        colours: #rrggbb by value, where the file has a palette.
        tags: the other tags of the file.
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
        """The class name of a value."""
        return self.names.get(value, str(value))


def open_map(path: str | Path, names: Mapping[int, str] | None = None) -> ClassMap:
    """Read a class map's header.

    Args:
        path: GeoTIFF, VRT or whatever GDAL reads.
        names: names of the classes by value; they come before the file's own.

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
        legend = names or value_names(source)
        crs = source.crs.to_string() if source.crs else None
        place = tuple(float(v) for v in source.transform[:6])
        return ClassMap(
            path=path,
            grid=Grid(crs, place, source.height, source.width),  # type: ignore[arg-type]
            dtype=dtype,
            nodata=source.nodata,
            names={v: class_name(name) for v, name in legend.items() if name},
            colours=_palette(source),
            tags=source.tags(),
            tile=source.block_shapes[0],
        )


def read_block(of: ClassMap, window: Window, *, on: Grid | None = None) -> Pixels:
    """Values and validity, both [h,w], of a window of a map.

    Args:
        of: the map to read.
        window: window inside the grid, such as those of `windows`.
        on: another grid to resample the map to by nearest neighbour; the window is then that
            grid's.

    Raises:
        DataError: pixels that cannot be read, or a grid of unknown position.
    """
    if on is not None and not same_grid(on, of.grid):
        if None in (on.crs, of.grid.crs):
            raise DataError(
                f"{of.path}: cannot be laid on another grid, as one of them has no reference "
                "system; assign it (gdal_edit.py -a_srs)"
            )
        raster = ClassRaster(of.path, of.grid, of.names, {}, of.nodata)
        return classes_on(raster, window.on(on))
    below, right = window.row + window.height, window.col + window.width
    part = ((window.row, below), (window.col, right))
    with opened(of.path) as source:
        return source.read(1, window=part), source.read_masks(1, window=part) > 0


def windows(tile: tuple[int, int], grid: Grid) -> list[Window]:
    """Windows that cover a grid, aligned with file blocks where these are small enough.

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
    names: dict[int, str] = {}
    for number, line in enumerate(lines, 1):
        match = re.fullmatch(r"\s*(-?\d+)\s*[,;=\t]\s*(.*?\S)\s*", line)
        if match:
            names[int(match[1])] = match[2].strip('"')
        elif line.strip() and not line.lstrip().startswith("#") and number > 1:
            raise DataError(f"{path}: line {number} is {line!r}; allowed: such as 3,wetland")
    if not names:
        raise DataError(f"{path}: names no class; write a line for each, such as 3,wetland")
    return names


@dataclass(frozen=True)
class Survey:
    """Result of a pass over a class map.

    Attributes:
        pixels: by value, in ascending order of the values.
        areas_m2: by value; None for a map without a reference system.
        nodata: pixels that are not valid.
        value: value at each requested place [P].
        status: status of each place [P]: "" where `value` is valid, "outside" or "nodata".
    """

    pixels: Mapping[int, int]
    areas_m2: Mapping[int, float] | None
    nodata: int
    value: Int64s
    status: NDArray[np.str_]


def survey(
    of: ClassMap,
    cols: Float64s | None = None,
    rows: Float64s | None = None,
    progress: Progress | None = None,
) -> Survey:
    """Count a map's classes, and read it at places given in fractional columns and rows.

    A place belongs to the pixel that it lies in: floor(row), floor(col). On an edge that is the
    pixel below or to the right; the map's own right and lower edges are outside.

    Raises:
        DataError: no valid pixel, or more than 1,024 values.
    """
    no_places = np.zeros(0)
    col, row = (
        np.floor(no_places if given is None else given).astype(np.int64) for given in (cols, rows)
    )
    value, status = np.zeros(len(col), np.int64), np.full(len(col), "outside", dtype="<U7")
    per_row = row_areas_m2(of.grid)
    pixels: Counter[int] = Counter()
    areas: dict[int, float] = {}
    nodata = 0
    places = windows(of.tile, of.grid)
    for done, window in enumerate(places, 1):
        values, valid = read_block(of, window)
        here_m2 = _areas_of(per_row, window, valid)
        for map_value, (number, area) in _tally(values[valid].astype(np.int64), here_m2).items():
            pixels[map_value] += number
            areas[map_value] = areas.get(map_value, 0.0) + area
        nodata += int(valid.size - valid.sum())
        here = _inside(window, col, row)
        at = row[here] - window.row, col[here] - window.col
        value[here] = values[at]
        status[here] = np.where(valid[at], "", "nodata")
        _check_number(of, len(pixels))
        if progress is not None:
            progress(done, len(places))
    if not pixels:
        raise DataError(f"{of.path}: no valid pixel; check its nodata value ({of.nodata})")
    ordered = {v: pixels[v] for v in sorted(pixels)}
    sizes = None if per_row is None else {v: areas[v] for v in ordered}
    return Survey(ordered, sizes, nodata, value, status)


def random_pixels(
    of: ClassMap, most: int, seed: int, progress: Progress | None = None
) -> dict[str, tuple[Int64s, Int64s]]:
    """Up to `most` random pixels of each class by name, as (rows, cols) in random order.

    Every pixel has a random key that depends only on the seed and its place, and the pixels with
    the smallest keys are drawn: a simple random sample without replacement in each class, the same
    for all block sizes. A larger sample begins with the same pixels.
    """
    smallest: dict[str, tuple[NDArray[np.uint64], Int64s]] = {}
    places = windows(of.tile, of.grid)
    for done, window in enumerate(places, 1):
        values, valid = read_block(of, window)
        keys, index = _keys(window, of.grid.width, seed)
        for value in np.unique(values[valid]).tolist():
            name = of.name(value)
            before = smallest.get(name, (np.zeros(0, np.uint64), np.zeros(0, np.int64)))
            limit = before[0][-1] if len(before[0]) == most else np.iinfo(np.uint64).max
            mine = valid & (values == value) & (keys <= limit)
            joined = np.concatenate([before[0], keys[mine]])
            whose = np.concatenate([before[1], index[mine]])
            first = np.argsort(joined)[:most]  # keys differ: SplitMix64 is one to one
            smallest[name] = joined[first], whose[first]
        _check_number(of, len(smallest))
        if progress is not None:
            progress(done, len(places))
    return {name: (i // of.grid.width, i % of.grid.width) for name, (_, i) in smallest.items()}


def cross(
    first: ClassMap, second: ClassMap, progress: Progress | None = None
) -> dict[tuple[int, int], tuple[int, float]]:
    """Pixels and area by (value of the first map, value of the second) where both are valid.

    The area is in square metres, or 0 without a reference system. The second map is laid on the
    first one's grid by nearest neighbour where theirs differ.
    """
    counts: Counter[tuple[int, int]] = Counter()
    areas: dict[tuple[int, int], float] = {}
    per_row = row_areas_m2(first.grid)
    places = windows(first.tile, first.grid)
    for done, window in enumerate(places, 1):
        ours, valid = read_block(first, window)
        theirs, valid_second = read_block(second, window, on=first.grid)
        both = valid & valid_second
        low = int(theirs.min())
        span = int(theirs.max()) - low + 1
        joined = ours[both].astype(np.int64) * span + (theirs[both].astype(np.int64) - low)
        for key, (number, area) in _tally(joined, _areas_of(per_row, window, both)).items():
            pair = key // span, key % span + low
            counts[pair] += number
            areas[pair] = areas.get(pair, 0.0) + area
        _check_number(second, len({theirs for _, theirs in counts}))
        if progress is not None:
            progress(done, len(places))
    return {pair: (counts[pair], areas[pair]) for pair in sorted(counts)}


def _tally(values: Int64s, sizes: Float64s) -> dict[int, tuple[int, float]]:
    """Count of each value, and the sum of its sizes."""
    if not values.size:
        return {}
    low, high = int(values.min()), int(values.max())
    if high - low < _DENSE:
        values_found, place = np.arange(low, high + 1), values - low
    else:
        values_found, place = np.unique(values, return_inverse=True)
    number = np.bincount(place, minlength=len(values_found))
    total = np.bincount(place, sizes, minlength=len(values_found))
    there = np.flatnonzero(number)
    return {int(values_found[i]): (int(number[i]), float(total[i])) for i in there}


def _areas_of(per_row: Float64s | None, window: Window, chosen: Bools) -> Float64s:
    """Area of each chosen pixel of a window; 0 where areas are not known."""
    if per_row is None:
        return np.zeros(int(chosen.sum()))
    return np.repeat(per_row[window.row : window.row + window.height], chosen.sum(axis=1))


def _inside(window: Window, col: Int64s, row: Int64s) -> Bools:
    down, across = row - window.row, col - window.col
    return (down >= 0) & (down < window.height) & (across >= 0) & (across < window.width)


def _keys(window: Window, width: int, seed: int) -> tuple[NDArray[np.uint64], Int64s]:
    """A random key and the position in the map of each pixel of a window, both [h,w].

    SplitMix64 (Steele, Lea & Flood 2014) of the position, starting at a place given by the seed.
    """
    rows = np.arange(window.row, window.row + window.height, dtype=np.int64)[:, None]
    index = rows * width + np.arange(window.col, window.col + window.width, dtype=np.int64)
    start = np.uint64(np.random.SeedSequence(seed).generate_state(1, np.uint64)[0])
    key = index.astype(np.uint64)
    key += np.uint64(1)
    key *= _GOLDEN
    key += start
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        key ^= key >> np.uint64(shift)
        key *= np.uint64(factor)
    key ^= key >> np.uint64(31)
    return key, index


def _check_number(of: ClassMap, count: int) -> None:
    if count > _MAX_CLASSES:
        raise DataError(
            f"{of.path}: more than {_MAX_CLASSES} values; a class map is wanted, with one value "
            "for each class"
        )
