"""Lists of labelled tiles: CSV and GeoJSON manifests, what `data.root` names, synthetic tiles."""

from __future__ import annotations

import csv
import hashlib
import io
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from geotl.arrays import Int64s
from geotl.console import Log, Progress
from geotl.data.tiles import (
    DEFAULT_TABLE,
    LEARN_ONLY,
    SYNTHETIC,
    Tile,
    TileIndex,
    below,
    check_classes,
    class_name,
    contents_of,
    index_folder,
    list_images,
    near_in_order,
)
from geotl.data.torchgeo_datasets import PREFIX, copy_data_set
from geotl.errors import DataError, nearest
from geotl.imagery.band_files import is_band_folder
from geotl.imagery.sensors import Sensor
from geotl.io import raster
from geotl.io.files import given_path, write_text
from geotl.io.images import SUFFIXES
from geotl.io.raster import Grid
from geotl.io.tables import (
    CSV_SUFFIXES,
    GEOJSON_SUFFIXES,
    Faults,
    TableRow,
    TableWriter,
    read_table,
)

SOURCES, SOURCES_TAG = "sources.txt", "GEOTL_SOURCES"
HEADER = ("path", "label", "split", "synthetic", "sources")
DIGITS = 16  # of each source's hash, in a tile's own tags


def is_manifest(path: Path) -> bool:
    """Whether a path names a manifest, by its ending.

    >>> is_manifest(Path("tiles.CSV")), is_manifest(Path("tiles"))
    (True, False)
    """
    return path.suffix.lower() in CSV_SUFFIXES | GEOJSON_SUFFIXES and not path.is_dir()


def index_manifest(
    path: str | Path,
    *,
    sensor: Sensor | None = None,
    synthetic: bool = False,
    progress: Progress | None = None,
) -> TileIndex:
    """List the tiles that a manifest names, sorted by path, whatever the order of its rows.

    Synthetic tiles are rejected unless `synthetic` is true: see `tiles.contents_of`.

    Paths are below the manifest's own folder, or absolute. Each row needs `path` and `label`;
    `split`, `group`, `x`, `y` and `crs` are taken where they are given: see `tables.read_table`.
    `progress` is called with tiles done and tiles in all.

    Raises:
        DataError: with every fault found, each with its line: an unknown path, one named twice,
            a missing label, a position that is none; or fewer than two classes.
    """
    path = given_path(path).absolute()
    faults = Faults(path)
    rows, files = _rows(path, sensor, faults)
    for row in rows:
        if row.label is None:
            faults.add(
                row.line, f"gives {row.path!r} no label; fill the column label, or delete the line"
            )
        if row.synthetic and not synthetic:
            faults.add(row.line, f"marks {row.path!r} synthetic; {LEARN_ONLY}")
    faults.check()
    classes = tuple(sorted({class_name(row.label or "") for row in rows}))
    check_classes(classes, path)
    contents = contents_of(files, sensor, synthetic=synthetic, progress=progress)
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
    _, files = _rows(given_path(path).absolute(), sensor, faults)
    faults.check()
    if not files:
        raise DataError(f"{path}: names no tiles; give it a line for each")
    return files


def _rows(
    path: Path, sensor: Sensor | None, faults: Faults
) -> tuple[Sequence[TableRow], list[Path]]:
    """The rows whose paths are tiles, and those paths, absolute."""
    if not path.is_file():
        raise DataError(f"{path}: no such manifest; check data.root")
    rows, files = [], []
    lines: dict[Path, int] = {}
    folders = Neighbours()
    for row in read_table(path, faults):
        file = (path.parent / given_path(row.path)).absolute()
        fault = _fault(file, sensor, folders)
        first = lines.setdefault(file.resolve(), row.line)
        if fault:
            kind = fault if isinstance(fault, str) else "missing file"
            faults.add(row.line, partial(_names, row.path, fault), kind)
        elif first != row.line:
            faults.add(row.line, f"names {row.path!r}, the tile of line {first}; keep one line")
        else:
            rows.append(row)
            files.append(file)
    return rows, files


def _names(path: str, fault: str | Callable[[], str]) -> str:
    return f"names {path!r}, {fault if isinstance(fault, str) else fault()}"


class Neighbours:
    """Names that resemble one that is not there; each folder is listed once."""

    def __init__(self) -> None:
        """Begin with no folder listed."""
        self._listed: dict[Path, list[str]] = {}

    def hint(self, file: Path) -> str:
        """A similar file name as a hint."""
        folder = file.parent
        if folder not in self._listed:
            self._listed[folder] = sorted(each.name for each in os.scandir(folder))
        return nearest(file.name, near_in_order(file.name, self._listed[folder]))[:200]


def _fault(
    file: Path, sensor: Sensor | None, folders: Neighbours
) -> str | Callable[[], str] | None:
    """Why a path is no tile, None if it is one."""
    if file.is_dir():
        if sensor is not None and is_band_folder(file, sensor):
            return None
        return "a folder without one file for each band of data.sensor; name an image file"
    if not file.exists():
        if not file.parent.is_dir():
            folder = repr(str(file.parent))
            return f"but there is no folder {folder}; paths are below the manifest's folder"
        return lambda: f"which is not there; {folders.hint(file)}"
    if file.suffix.lower() not in SUFFIXES:
        return f"not an image by its ending; allowed: {', '.join(sorted(SUFFIXES))}"
    return None


def index_tiles(
    root: str | Path,
    *,
    cache: Path,
    sensor: Sensor | None = None,
    table: str = DEFAULT_TABLE,
    class_depth: int = 1,
    log: Log = print,
    progress: Progress | None = None,
) -> TileIndex:
    """The labelled tiles of a folder of class folders, a manifest, or a torchgeo data set.

    Args:
        root: a folder, a .csv or .geojson file, or `torchgeo:NAME:FOLDER`.
        cache: folder below which a torchgeo data set is copied.
        sensor: sensor whose bands the file names give, for tiles in several files.
        table: table of split and group in a folder: see `index_folder`.
        class_depth: levels of class folders: see `index_folder`.
        log: called with a line before each long step.
        progress: called with tiles done and tiles in all.

    Raises:
        DataError: tiles, a table or a data set that cannot be used.
    """
    if str(root).startswith(PREFIX):
        return index_manifest(copy_data_set(str(root), cache, log), sensor=sensor)
    if is_manifest(Path(root)):
        return index_manifest(root, sensor=sensor, progress=progress)
    return index_folder(
        root, table=table, sensor=sensor, class_depth=class_depth, progress=progress
    )


def list_tiles(paths: Iterable[str | Path], sensor: Sensor | None = None) -> list[Path]:
    """The tiles among files, folders (searched to any depth) and manifests, each once.

    Raises:
        DataError: a path that does not exist, a folder without images, a faulty manifest.
    """
    tiles: dict[Path, None] = {}
    for given in map(Path, paths):
        inside = (
            list_manifest(given, sensor) if is_manifest(given) else list_images([given], sensor)
        )
        tiles.update(dict.fromkeys(inside))
    return list(tiles)


def digest_of(sources: Sequence[str]) -> str:
    """One SHA-256 for the contents a generator was trained on, whatever their order.

    >>> digest_of(["b", "a"]) == digest_of(["a", "b"])
    True
    """
    return hashlib.sha256("\n".join(sorted(set(sources))).encode()).hexdigest()


def write_synthetic(
    folder: Path,
    images: NDArray[Any],
    labels: Int64s,
    *,
    classes: Sequence[str],
    bands: Sequence[str],
    sources: Sequence[str],
) -> list[Path]:
    """Write tiles into class folders, each marked, with tiles.csv and sources.txt.

    A tile's tags hold the mark and the first 16 digits of each source's hash; sources.txt has
    the full hashes, and the manifest the SHA-256 of them all.

    Args:
        folder: the folder to write to.
        images: [M, C, S, S] in their native type.
        labels: class of each [M].
        classes: names.
        bands: names, in the order of the channels.
        sources: contents of the generator's training tiles.

    Raises:
        OutputError: the folder cannot be written.
    """
    hashes = sorted(set(sources))
    tags = {SYNTHETIC: "generator", SOURCES_TAG: " ".join(one[:DIGITS] for one in hashes)}
    grid = Grid(None, (1.0, 0.0, 0.0, 0.0, 1.0, 0.0), *images.shape[2:])
    paths, counts = [], [0] * len(classes)
    for image, label in zip(images, labels.tolist(), strict=True):
        name = classes[label]
        path = Path(name) / f"synthetic_{counts[label]:04d}.tif"
        raster.write(folder / path, image, grid, bands, tags=tags)
        paths.append(path)
        counts[label] += 1
    stream = io.StringIO()
    table = TableWriter(stream)
    table.writerow(HEADER)
    for path, label in zip(paths, labels.tolist(), strict=True):
        table.writerow([path.as_posix(), classes[label], "train", "true", digest_of(hashes)])
    write_text(folder / SOURCES, "".join(f"{one}\n" for one in hashes))
    write_text(folder / DEFAULT_TABLE, stream.getvalue())
    return [folder / path for path in paths]


def read_synthetic(folder: str | Path, classes: Sequence[str], sensor: Sensor) -> list[Tile]:
    """The tiles of `write_synthetic` in a folder, with what their generator was trained on.

    Args:
        folder: folder that `geotl generate` wrote.
        classes: classes of the real tiles; every class of the synthetic tiles is one of these.
        sensor: sensor of the tiles' bands.

    Raises:
        DataError: no such folder, an unknown class, or sources that do not belong to the tiles.
    """
    folder = given_path(folder).absolute()
    manifest, listed = folder / DEFAULT_TABLE, folder / SOURCES
    if not (manifest.is_file() and listed.is_file()):
        raise DataError(
            f"{folder}: no {DEFAULT_TABLE} with {SOURCES} in it; data.synthetic names a folder "
            "that geotl generate wrote"
        )
    index = index_manifest(manifest, sensor=sensor, synthetic=True)
    sources = frozenset(listed.read_text(encoding="utf-8").split())
    _check_sources(manifest, listed, digest_of(sorted(sources)))
    for name in index.classes:
        if name not in classes:
            raise DataError(f"{manifest}: label {name!r}: {nearest(name, classes)}")
    class_numbers = [classes.index(name) for name in index.classes]
    return [
        replace(tile, label=class_numbers[tile.label], split=None, sources=sources)
        for tile in index.tiles
        if tile.label is not None
    ]


def _check_sources(manifest: Path, listed: Path, digest: str) -> None:
    """Compare every row of a manifest with the list of sources.

    Raises:
        DataError: they differ.
    """
    with manifest.open(encoding="utf-8", newline="") as stream:
        for row in csv.DictReader(stream):
            if row.get("sources") != digest:
                raise DataError(
                    f"{manifest}: {row.get('path')} names other sources than {listed}; "
                    "generate the tiles again"
                )
