"""Tiles named one by one in a CSV or GeoJSON file, wherever they lie."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from geotl.data.tiles import (
    LEARN_ONLY,
    Tile,
    TileIndex,
    below,
    check_classes,
    class_name,
    contents_of,
)
from geotl.errors import DataError, nearest
from geotl.imagery.band_files import is_band_folder
from geotl.imagery.sensors import Sensor
from geotl.io.images import SUFFIXES
from geotl.io.tables import CSV_SUFFIXES, GEOJSON_SUFFIXES, Faults, Row, read_table


def is_manifest(path: Path) -> bool:
    """Whether a path names a manifest, by its ending.

    >>> is_manifest(Path("tiles.CSV")), is_manifest(Path("tiles"))
    (True, False)
    """
    return path.suffix.lower() in CSV_SUFFIXES | GEOJSON_SUFFIXES and not path.is_dir()


def index_manifest(
    path: str | Path, *, sensor: Sensor | None = None, synthetic: bool = False
) -> TileIndex:
    """List the tiles that a manifest names, sorted by path, whatever the order of its rows.

    Synthetic tiles are refused unless they are wanted: see `tiles.contents_of`.

    Paths are below the manifest's own folder, or absolute. Each row needs `path` and `label`;
    `split`, `group`, `x`, `y` and `crs` are taken where they are given: see `tables.read_table`.

    Raises:
        DataError: with every fault found, each with its line: an unknown path, one named twice,
            a missing label, a position that is none; or fewer than two classes.
    """
    path = Path(path).expanduser().absolute()
    faults = Faults(path)
    rows, files = _rows(path, sensor, faults)
    for row in rows:
        if row.label is None:
            faults.add(row.line, f"gives {row.path!r} no label; fill the column label")
        if row.synthetic and not synthetic:
            faults.add(row.line, f"marks {row.path!r} synthetic; {LEARN_ONLY}")
    faults.check()
    classes = tuple(sorted({class_name(row.label or "") for row in rows}))
    check_classes(classes, path)
    contents = contents_of(files, sensor, synthetic=synthetic)
    tiles = [
        Tile(
            file,
            classes.index(class_name(row.label or "")),
            row.group,
            row.split,
            content,
            row.centre,
            row.crs,
        )
        for row, file, content in zip(rows, files, contents, strict=True)
    ]
    root = path.parent
    return TileIndex(root, classes, tuple(sorted(tiles, key=lambda tile: below(tile.path, root))))


def list_manifest(path: Path, sensor: Sensor | None = None) -> list[Path]:
    """The tiles that a manifest names, in its order, labelled or not.

    Raises:
        DataError: with every fault found, each with its line; or no rows.
    """
    faults = Faults(path)
    _, files = _rows(path.expanduser().absolute(), sensor, faults)
    faults.check()
    if not files:
        raise DataError(f"{path}: names no tiles; give it a line for each")
    return files


def _rows(path: Path, sensor: Sensor | None, faults: Faults) -> tuple[Sequence[Row], list[Path]]:
    """The rows whose paths are tiles, and those paths, absolute."""
    if not path.is_file():
        raise DataError(f"{path}: no such manifest; check data.root")
    rows, files = [], []
    lines: dict[Path, int] = {}
    for row in read_table(path, faults):
        file = (path.parent / Path(row.path).expanduser()).absolute()
        told = _fault(file, sensor)
        first = lines.setdefault(file.resolve(), row.line)
        if told:
            faults.add(row.line, f"names {row.path!r}, {told}")
        elif first != row.line:
            faults.add(row.line, f"names {row.path!r}, the tile of line {first}; keep one line")
        else:
            rows.append(row)
            files.append(file)
    return rows, files


def _fault(file: Path, sensor: Sensor | None) -> str | None:
    """Why a path is no tile, None if it is one."""
    if file.is_dir():
        if sensor is not None and is_band_folder(file, sensor):
            return None
        return "a folder without one file for each band of data.sensor; name an image file"
    if not file.exists():
        if not file.parent.is_dir():
            return f"but there is no folder {file.parent}; paths are below the manifest's folder"
        there = sorted(p.name for p in file.parent.iterdir())[:5000]
        return f"which is not there; {nearest(file.name, there[:5000])[:200]}"
    if file.suffix.lower() not in SUFFIXES:
        return f"not an image by its ending; allowed: {', '.join(sorted(SUFFIXES))}"
    return None
