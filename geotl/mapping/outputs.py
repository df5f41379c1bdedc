"""Further files of a map: table of areas, polygons; and how files are moved to their place."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import shapely
from numpy.typing import NDArray
from rasterio import features
from rasterio.errors import RasterioError

from geotl.console import aligned
from geotl.errors import DataError, OutputError
from geotl.io.files import sync, write_text
from geotl.io.geodesy import polygon_areas_m2, row_areas_m2
from geotl.io.raster import Grid, opened
from geotl.io.tables import TableWriter
from geotl.io.vector import write_features
from geotl.mapping.layers import Areas
from geotl.mapping.options import layers

_PLACING = "placing.json"
_BESIDE = ".aux.xml"
LAYER = "classes"
NOT_MAPPED = "(valid, not mapped)"


def check_output(
    targets: Mapping[str, Path], inputs: Iterable[Path], folder: Path, *, overwrite: bool
) -> None:
    """Reject outputs that would overwrite something.

    Files that a killed run had already put in place, as its folder records, do not count.

    Args:
        targets: where each file goes, the class map last.
        inputs: files and folders that are read.
        folder: in which the map is made.
        overwrite: replace what is there.

    Raises:
        OutputError: one is an input or a folder, exists, or the map does not end in .tif.
    """
    out = list(targets.values())[-1]
    if out.suffix.lower() not in (".tif", ".tiff"):
        raise OutputError(f"{out}: a map's name ends in .tif")
    read = {path.resolve() for path in inputs}
    mine = _placed(folder)
    for target in reversed(list(targets.values())):
        if target.is_dir():
            raise OutputError(f"{target}: a folder; name a file in it, such as {target / out.name}")
        if target.resolve() in read:
            raise OutputError(f"{target}: would overwrite what is read; choose another output")
        if target.exists() and not overwrite and target.name not in mine:
            raise OutputError(f"{target}: is there already; --overwrite replaces it")


def put_in_place(finished: Mapping[str, Path], targets: Mapping[str, Path], folder: Path) -> None:
    """Move finished files where they belong, in order, after noting it in the map's folder.

    Raises:
        OutputError: a file cannot be moved.
    """
    write_text(folder / _PLACING, json.dumps([path.name for path in targets.values()]))
    for name, target in targets.items():
        beside = finished[name].with_name(finished[name].name + _BESIDE)
        try:
            if beside.exists():
                beside.replace(target.with_name(target.name + _BESIDE))
            sync(finished[name])
            finished[name].replace(target)
        except OSError as error:
            raise OutputError(
                f"{target}: could not be put in place ({error.strerror}); what is finished lies in "
                f"{finished[name].parent}"
            ) from error


def left_over(out: Path, targets: Mapping[str, Path]) -> Sequence[Path]:
    """Files next to a map that belong to an earlier one of its name."""
    suffixes = [layer.suffix for layer in layers((), None).values() if layer.suffix]
    candidates = [out.with_name(f"{out.stem}{suffix}{out.suffix}") for suffix in suffixes]
    candidates.append(out.with_name(f"{out.stem}_polygons.gpkg"))
    candidates += [out.with_suffix(".png"), out.with_suffix(".html")]
    return [path for path in candidates if path.exists() and path not in targets.values()]


def _placed(folder: Path) -> list[str]:
    try:
        names = json.loads((folder / _PLACING).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    return [str(name) for name in names]


def write_polygons(
    source: Path,
    path: Path,
    classes: Sequence[str],
    *,
    min_area_m2: float = 0.0,
    date: str | None = None,
) -> int:
    """Write a polygon for each connected region of a class: its name, value and area in m2.

    Pixels are connected over edges, not corners. GDAL goes through the map row by row; what is
    held are the map's bytes, where small regions are sieved, and the polygons.

    Args:
        source: the class map; its nodata is no region.
        path: the GeoPackage.
        classes: names from value 0.
        min_area_m2: regions below it become part of their largest neighbour, unless they have
            none; by the size of a cell in the map's middle row.
        date: kept in the file, as 2024-05-01T10:00:00Z; None for now.

    Returns:
        How many there are.

    Raises:
        DataError: a map without a reference system, of which no areas are known.
        OutputError: the disk is full.
    """
    with opened(source) as stream:
        crs = stream.crs.to_string() if stream.crs else None
        if crs is None:
            raise DataError(f"{source}: has no reference system, so polygons lie nowhere; set one")
        place = tuple(float(v) for v in stream.transform[:6])
        grid = Grid(crs, place, stream.height, stream.width)  # type: ignore[arg-type]
        shapes, values = _regions(stream, smallest_px(grid, min_area_m2))
    columns: dict[str, Sequence[Any]] = {
        "class": [classes[value] for value in values],
        "value": values,
        "area_m2": polygon_areas_m2(shapes, crs).tolist(),
    }
    write_features(path, shapes, columns, crs, layer=LAYER, date=date)
    return len(shapes)


def smallest_px(grid: Grid, min_area_m2: float) -> int:
    """Pixels that a region of a map needs for an area, in its middle row.

    >>> grid = Grid("EPSG:32633", (10.0, 0.0, 500000.0, 0.0, -10.0, 4600000.0), 64, 64)
    >>> smallest_px(grid, 1000.0), smallest_px(grid, 1001.0)
    (10, 11)
    """
    areas = row_areas_m2(grid)
    if areas is None:
        raise DataError("a map without a reference system: no areas are known; set one")
    return max(1, math.ceil(round(min_area_m2 / float(areas[grid.height // 2]), 6)))


def _regions(stream: Any, smallest: int) -> tuple[NDArray[np.object_], list[int]]:
    """Polygons of a band's regions and their values."""
    band = rasterio.band(stream, 1)
    try:
        if smallest > 1:
            band = features.sieve(band, smallest, mask=stream.read_masks(1))
        regions = [
            (shapely.geometry.shape(shape), int(value))
            for shape, value in features.shapes(band, transform=stream.transform)
            if value != stream.nodata
        ]
    except RasterioError as error:
        raise OutputError(f"{stream.name}: could not be turned into polygons ({error})") from error
    shapes = np.empty(len(regions), dtype=object)
    shapes[:] = [shape for shape, _ in regions]
    return shapes, [value for _, value in regions]


def areas_csv(areas: Areas, classes: Sequence[str]) -> str:
    """Pixels, square metres, hectares and share of each class, and what was not mapped.

    Pixels are the scene's valid ones; without a reference system there are no metres.
    """
    stream = io.StringIO()
    table = TableWriter(stream)
    table.writerow(["value", "class", "pixels", "square_metres", "hectares", "percent"])
    for row in _rows(areas, classes):
        table.writerow(row)
    return stream.getvalue()


def areas_lines(areas: Areas, classes: Sequence[str]) -> list[str]:
    """The same for people."""
    rows = [
        (name, f"{float(hectares):,.1f} ha" if hectares else f"{pixels:,} px", f"{percent} %")
        for _, name, pixels, _, hectares, percent in _rows(areas, classes)
        if pixels
    ]
    return [f"  {line}" for line in aligned(rows, left=(0,))]


def _rows(areas: Areas, classes: Sequence[str]) -> list[tuple[int | str, str, int, str, str, str]]:
    counted = [
        (value, name, int(pixels), float(metres))
        for value, (name, pixels, metres) in enumerate(
            zip(classes, areas.pixels, areas.square_metres, strict=True)
        )
    ]
    rows: list[tuple[int | str, str, int, float]] = [
        *counted,
        ("", NOT_MAPPED, areas.unmapped_pixels, areas.unmapped_square_metres),
    ]
    total = sum(pixels for _, _, pixels, _ in rows)
    return [
        (
            value,
            name,
            pixels,
            _number(metres, 1, 2),
            _number(metres, 1e4, 4),
            f"{100 * pixels / max(total, 1):.2f}",
        )
        for value, name, pixels, metres in rows
    ]


def _number(metres: float, unit: float, digits: int) -> str:
    return "" if math.isnan(metres) else f"{metres / unit:.{digits}f}"
