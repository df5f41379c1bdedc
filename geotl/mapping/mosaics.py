"""Several maps as one: a mosaic that points to them (VRT), and one table of their areas."""

from __future__ import annotations

import csv
import io
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from xml.sax.saxutils import escape

import shapely

from geotl.errors import DataError
from geotl.evaluation.class_map import ClassMap, open_map
from geotl.io.files import write_text
from geotl.io.raster import Grid
from geotl.mapping.layers import NODATA

_ALL = "(all scenes)"
_HEAD = ["scene", "value", "class", "pixels", "square_metres", "hectares", "percent"]


def write_mosaics(folder: Path, maps: Sequence[Path], stem: str = "mosaic") -> list[Path]:
    """Write a VRT over class maps or confidences: one for each reference system.

    Where maps overlap, the later one lies on top. Pixels are as fine as those of the finest map.

    Args:
        folder: to write into; the maps' places are told relative to it.
        maps: GeoTIFFs of one band of bytes, in order.
        stem: of the file's name; with several systems their codes follow it.

    Raises:
        DataError: a map that cannot be read.
        OutputError: the folder cannot be written.
    """
    systems: dict[str | None, list[ClassMap]] = defaultdict(list)
    for path in maps:
        found = open_map(path)
        systems[found.grid.crs].append(found)
    written = []
    for number, (crs, held) in enumerate(systems.items(), 1):
        code = "" if len(systems) == 1 else f"_{_code(crs, number)}"
        written.append(folder / f"{stem}{code}.vrt")
        write_text(written[-1], mosaic_vrt(held, folder))
    return written


def mosaic_vrt(maps: Sequence[ClassMap], folder: Path) -> str:
    """The VRT's XML over maps of one reference system."""
    grid = common_grid([of.grid for of in maps])
    first = maps[0]
    sources = "".join(_source(of, grid, folder) for of in maps)
    colours = "".join(
        f'<Entry c1="{int(c[1:3], 16)}" c2="{int(c[3:5], 16)}" c3="{int(c[5:7], 16)}" c4="255"/>'
        for value, c in sorted(first.colours.items())
        if value <= max(first.names, default=-1)
    )
    palette = f"<ColorInterp>Palette</ColorInterp><ColorTable>{colours}</ColorTable>"
    names = "".join(
        f"<Category>{escape(first.names.get(value, ''))}</Category>"
        for value in range(max(first.names, default=-1) + 1)
    )
    a, b, c, d, e, f = grid.transform
    place = ", ".join(repr(v) for v in (c, a, b, f, d, e))  # GDAL's order
    return (
        f'<VRTDataset rasterXSize="{grid.width}" rasterYSize="{grid.height}">\n'
        f"<SRS>{escape(grid.crs or '')}</SRS>\n<GeoTransform>{place}</GeoTransform>\n"
        f'<VRTRasterBand dataType="Byte" band="1">\n<NoDataValue>{NODATA}</NoDataValue>\n'
        f"{palette if colours else ''}"
        f"{f'<CategoryNames>{names}</CategoryNames>' if colours else ''}\n{sources}"
        "</VRTRasterBand>\n</VRTDataset>\n"
    )


def common_grid(grids: Sequence[Grid]) -> Grid:
    """The north-up grid over several of one reference system, with pixels of the finest.

    >>> one = Grid(None, (10.0, 0.0, 0.0, 0.0, -10.0, 100.0), 5, 5)
    >>> two = Grid(None, (20.0, 0.0, 40.0, 0.0, -20.0, 120.0), 2, 2)
    >>> found = common_grid([one, two])
    >>> found.bounds, found.height, found.width
    ((0.0, 50.0, 80.0, 120.0), 7, 8)
    """
    across = min(grid.resolution[0] for grid in grids)
    down = min(grid.resolution[1] for grid in grids)
    boxes = [grid.bounds for grid in grids]
    left, bottom = min(b[0] for b in boxes), min(b[1] for b in boxes)
    right, top = max(b[2] for b in boxes), max(b[3] for b in boxes)
    width = max(1, math.ceil((right - left) / across - 1e-6))
    height = max(1, math.ceil((top - bottom) / down - 1e-6))
    return Grid(grids[0].crs, (across, 0.0, left, 0.0, -down, top), height, width)


def overlapping(maps: Sequence[Path]) -> bool:
    """Whether the boxes of any two maps of one reference system share ground.

    Raises:
        DataError: a map that cannot be read.
    """
    systems: dict[str | None, list[shapely.Geometry]] = defaultdict(list)
    for path in maps:
        grid = open_map(path).grid
        systems[grid.crs].append(shapely.box(*grid.bounds))
    for boxes in systems.values():
        tree = shapely.STRtree(boxes)
        for i, j in tree.query(boxes).T:
            if i < j and shapely.area(shapely.intersection(boxes[i], boxes[j])) > 0:
                return True
    return False


def areas_table(tables: Mapping[str, Path]) -> str:
    """The areas of all scenes by class, their sums at the end.

    Ground that lies in several scenes is counted in each.

    Args:
        tables: each scene's own table of areas.

    Raises:
        DataError: one cannot be read, or its classes are others.
    """
    rows: list[list[str]] = []
    sums: dict[tuple[str, str], list[float]] = {}
    for scene, path in tables.items():
        for row in _rows(path):
            rows.append([scene, *(row[name] for name in _HEAD[1:])])
            total = sums.setdefault((row["value"], row["class"]), [0.0, 0.0])
            total[0] += int(row["pixels"])
            total[1] += float(row["square_metres"] or "nan")
    whole = sum(pixels for pixels, _ in sums.values())
    for (value, name), (pixels, metres) in sums.items():
        known = math.isfinite(metres)
        ground = [f"{metres:.2f}", f"{metres / 1e4:.4f}"] if known else ["", ""]
        share = f"{100 * pixels / max(whole, 1):.2f}"
        rows.append([_ALL, value, name, f"{pixels:.0f}", *ground, share])
    stream = io.StringIO()
    table = csv.writer(stream, lineterminator="\n")
    table.writerow(_HEAD)
    table.writerows(rows)
    return stream.getvalue()


def _rows(path: Path) -> list[dict[str, str]]:
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            rows = list(csv.DictReader(stream))
            for row in rows:
                int(row["pixels"])
                float(row["square_metres"] or 0)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{path}: not a table of areas as geotl map writes it ({error}); map the scene again "
            "with --overwrite"
        ) from error
    return rows


def _source(of: ClassMap, grid: Grid, folder: Path) -> str:
    """One map in the mosaic: what it does not know lets those below it through."""
    left, bottom, right, top = of.grid.bounds
    across, down = grid.resolution
    x, y = (left - grid.transform[2]) / across, (grid.transform[5] - top) / down
    wide, high = (right - left) / across, (top - bottom) / down
    try:
        name, relative = of.path.relative_to(folder).as_posix(), 1
    except ValueError:
        name, relative = str(of.path.resolve()), 0
    return (
        f'<ComplexSource>\n<SourceFilename relativeToVRT="{relative}">{escape(name)}'
        "</SourceFilename>\n<SourceBand>1</SourceBand>\n"
        f'<SrcRect xOff="0" yOff="0" xSize="{of.grid.width}" ySize="{of.grid.height}"/>\n'
        f'<DstRect xOff="{round(x, 6)}" yOff="{round(y, 6)}" xSize="{round(wide, 6)}" '
        f'ySize="{round(high, 6)}"/>\n<NODATA>{NODATA}</NODATA>\n</ComplexSource>\n'
    )


def _code(crs: str | None, number: int) -> str:
    """A reference system in a file's name.

    >>> _code("EPSG:32633", 1), _code("PROJCS[...]", 2)
    ('EPSG32633', '2')
    """
    plain = (crs or "").replace(":", "")
    return plain if plain.isalnum() else str(number)
