"""Chips as files, and as tiles of a run."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geotl.arrays import Bools, Pixels
from geotl.console import Progress
from geotl.data.chips import Chip, Placement
from geotl.data.labels import Rejection
from geotl.data.read_tile import in_order
from geotl.data.tile_array import Pack, Unread, packed
from geotl.data.tiles import Tile, TileIndex, check_classes
from geotl.errors import DataError, OutputError
from geotl.imagery.windows import Imagery
from geotl.io import raster
from geotl.io.files import whole_folder
from geotl.io.locks import output_lock
from geotl.io.tables import TableWriter
from geotl.io.vector import write_features

MANIFEST, REJECTED, REJECTED_PLACES = "chips.csv", "rejected.csv", "rejected.gpkg"
_COLUMNS = ("path", "label", "group", "x", "y", "crs", "label_id", "scene", "row", "col")
_UNSAFE = re.compile(r"[^\w.@+-]+")


def write_chips(
    scenes: Sequence[Imagery],
    placement: Placement,
    folder: str | Path,
    *,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Path:
    """Write chips into class folders, with a manifest and the rejected labels, all or nothing.

    Pixels that are not valid hold the file's nodata value.

    Args:
        scenes: those the chips were placed in.
        placement: result of `chips.place_chips`.
        folder: output folder; new or empty, or only with chips where `overwrite` is set.
        overwrite: replace earlier chips, with whatever was changed in their manifest.
        progress: called with chips written and chips in all.

    Returns:
        The manifest.

    Raises:
        DataError: there are no chips.
        OutputError: the folder is not empty, or cannot be written.
    """
    folder = Path(folder)
    if not placement.chips:
        raise DataError(f"{folder}: not written; {'; '.join(placement.summary())}")
    with output_lock(folder):
        check_folder(folder, overwrite=overwrite)
        with whole_folder(folder) as part:
            _fill(part, scenes, placement, progress)
    return folder / MANIFEST


def rejected_csv(rejected: Iterable[Rejection]) -> str:
    """Rejected labels as a CSV of id, reason, class and detail.

    >>> print(rejected_csv([Rejection("7", "outside", "far off", "farm")]), end="")
    id,reason,class,detail
    7,outside,farm,far off
    """
    rows = [(one.label_id, one.reason, one.class_name or "", one.detail) for one in rejected]
    return _csv_of(("id", "reason", "class", "detail"), rows)


def _fill(
    folder: Path,
    scenes: Sequence[Imagery],
    placement: Placement,
    progress: Progress | None,
) -> None:
    by_name = {scene.name: scene for scene in scenes}
    paths = _paths(placement.chips)
    order = list(by_name)
    # Scene by scene and from top to bottom, as scenes are stored.
    todo = sorted(placement.chips, key=lambda chip: (order.index(chip.scene), chip.window))
    for done, chip in enumerate(todo, 1):
        scene = by_name[chip.scene]
        data, nodata = _marked(*scene.read(chip.window), scene.sensor.nodata)
        tags = {"TIFFTAG_DATETIME": scene.acquired.replace("-", ":")} if scene.acquired else None
        grid = chip.window.on(scene.grid)
        raster.write(folder / paths[chip.id], data, grid, scene.bands, nodata, tags=tags)
        if progress:
            progress(done, len(todo))
    rows = [_row(chip, paths[chip.id], by_name[chip.scene]) for chip in placement.chips]
    rejected = placement.rejected
    (folder / REJECTED).write_text(rejected_csv(rejected), encoding="utf-8")
    columns: dict[str, list[str | None]] = {
        "label_id": [one.label_id for one in rejected],
        "reason": [one.reason for one in rejected],
        "class": [one.class_name for one in rejected],
        "detail": [one.detail for one in rejected],
    }
    shapes = [one.geometry for one in rejected]
    write_features(folder / REJECTED_PLACES, shapes, columns, placement.crs)
    (folder / MANIFEST).write_text(_csv_of(_COLUMNS, rows), encoding="utf-8")


def _row(chip: Chip, path: str, scene: Imagery) -> tuple[object, ...]:
    x, y = chip.window.on(scene.grid).centre
    place = (x, y, scene.grid.crs)
    where = (chip.scene, chip.window.row, chip.window.col)
    return path, chip.class_name, chip.label_id, *place, chip.label_id, *where


def _paths(chips: Iterable[Chip]) -> dict[str, str]:
    """A path below the folder for each chip, safe and unique on any file system."""
    paths: dict[str, str] = {}
    used: set[str] = set()
    for chip in chips:
        stem = f"{_safe(chip.class_name)}/{_safe(chip.id)}"
        path, again = f"{stem}.tif", 1
        while path.lower() in used:
            again += 1
            path = f"{stem}-{again}.tif"
        used.add(path.lower())
        paths[chip.id] = path
    return paths


def _safe(name: str) -> str:
    """A name that is a file name everywhere.

    >>> _safe("Forêt / mixte"), _safe("..")
    ('Forêt_mixte', '_..')
    """
    safe = _UNSAFE.sub("_", name)[:100]
    return f"_{safe}" if safe.startswith(".") else safe


def _marked(
    data: NDArray[Any], valid: Bools, usual: float | None
) -> tuple[NDArray[Any], float | None]:
    """Pixels with those that are not valid set to a nodata value, which no valid one has."""
    if valid.all():
        return data, usual
    if data.dtype.kind == "f":
        return np.where(valid, data, np.nan).astype(data.dtype), np.nan
    limits = np.iinfo(data.dtype)
    seen = set(np.unique(data[valid]).tolist())
    # A value that only one chip's pixels happen to leave free would serve too, but badly: first
    # those that people expect.
    wanted = (usual, 0, limits.min, limits.max)
    free = next((int(v) for v in wanted if v is not None and v not in seen), None)
    if free is None:
        free = next(v for v in range(limits.max, limits.min, -1) if v not in seen)
    return np.where(valid, data, data.dtype.type(free)), free


def check_folder(folder: Path, *, overwrite: bool) -> None:
    """Reject a folder with other files than chips written before, which may be replaced.

    Raises:
        OutputError: it does.
    """
    if folder.is_file():
        raise OutputError(f"{folder}: is a file; choose a folder with -o")
    if not folder.exists() or not any(folder.iterdir()):
        return
    chip_names = {MANIFEST, REJECTED, REJECTED_PLACES}
    try:
        rows = csv.DictReader((folder / MANIFEST).read_text(encoding="utf-8").splitlines())
        chip_names |= {row["path"] for row in rows}
    except (OSError, UnicodeDecodeError, KeyError) as error:
        raise OutputError(
            f"{folder}: is not empty and has no {MANIFEST} written by geotl; choose another "
            "folder with -o"
        ) from error
    files = (p.relative_to(folder).as_posix() for p in folder.rglob("*") if not p.is_dir())
    foreign = next((name for name in sorted(files) if name not in chip_names), None)
    if foreign is not None:
        raise OutputError(
            f"{folder}: contains {foreign}, which is not a chip; move it, or choose another "
            "folder with -o"
        )
    if not overwrite:
        raise OutputError(
            f"{folder}: already contains chips; choose another folder, or give --overwrite"
        )


def _csv_of(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    text = io.StringIO()
    writer = TableWriter(text)
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue()


def pack_chips(
    scenes: Sequence[Imagery],
    chips: Sequence[Chip],
    cache: Path,
    *,
    where: Path,
    progress: Progress | None = None,
) -> tuple[TileIndex, Pack]:
    """The chips as an index of tiles and one memory-mapped array.

    The chips of one label form a group; each chip's content is a hash of its pixels, so that
    copies are found. Pixels are read twice, for the hash and for the pack, where the pack is not
    there yet.

    Args:
        scenes: scenes of the chips.
        chips: windows of one size.
        cache: folder below which packs lie.
        where: the label file, for messages.
        progress: called with chips done and chips in all.

    Raises:
        DataError: fewer than two classes, or a scene that cannot be read.
    """
    classes = tuple(sorted({chip.class_name for chip in chips}))
    check_classes(classes, where)
    named = {scene.name: scene for scene in scenes}
    ordered = _ordered(chips)
    contents, pack = _packed(scenes, ordered, cache, progress)
    tiles = tuple(
        Tile(
            named[chip.scene].path,
            classes.index(chip.class_name),
            chip.label_id,
            None,
            content,
            scene=chip.scene,
            chip=f"{chip.scene}/{chip.id}",
        )
        for chip, content in zip(ordered, contents, strict=True)
    )
    return TileIndex(where.parent.absolute(), classes, tiles), pack


def pack_unlabelled(
    scenes: Sequence[Imagery],
    chips: Sequence[Chip],
    cache: Path,
    *,
    progress: Progress | None = None,
) -> Pack:
    """The pixels of windows without a class, packed as `pack_chips` packs those of chips.

    Raises:
        DataError: a scene that cannot be read.
    """
    return _packed(scenes, _ordered(chips), cache, progress)[1]


def _ordered(chips: Sequence[Chip]) -> list[Chip]:
    """Chips in the order of a pack's rows."""
    return sorted(chips, key=lambda chip: (chip.scene, chip.window, chip.id))


def _packed(
    scenes: Sequence[Imagery], chips: Sequence[Chip], cache: Path, progress: Progress | None
) -> tuple[list[str], Pack]:
    """The hash of each chip's pixels, and all pixels as one array."""
    named = {scene.name: scene for scene in scenes}

    def load(chip: Chip) -> Pixels:
        return named[chip.scene].read(chip.window)

    def hashed(chip: Chip) -> str:
        data, valid = load(chip)
        return hashlib.sha256(data.tobytes() + valid.tobytes()).hexdigest()

    contents = list(in_order(hashed, chips))
    key = _fingerprint(scenes, chips, contents)
    return contents, packed(cache / key[:32], key, _unread(named, chips, load), progress)


def _fingerprint(scenes: Sequence[Imagery], chips: Sequence[Chip], contents: Sequence[str]) -> str:
    """A hash, 64 hexadecimal digits, of everything that a pack of chips depends on."""
    looked = [(s.name, s.bands, asdict(s.sensor), asdict(s.grid), s.acquired) for s in scenes]
    cut = [(chip.scene, chip.id, asdict(chip.window)) for chip in chips]
    return hashlib.sha256(json.dumps(["chips", looked, cut, list(contents)]).encode()).hexdigest()


def _unread(
    scenes: dict[str, Imagery], chips: Sequence[Chip], load: Callable[[Chip], Pixels]
) -> Callable[[], Unread]:
    def unread() -> Unread:
        chip_scenes = [scenes[chip.scene] for chip in chips]
        grids = [chip.window.on(scene.grid) for chip, scene in zip(chips, chip_scenes, strict=True)]
        window = chips[0].window
        return Unread(
            pixels=in_order(load, chips),
            shape=(len(chips), len(chip_scenes[0].bands), window.height, window.width),
            dtype=np.result_type(*(scene.dtype for scene in chip_scenes)),
            bands=chip_scenes[0].bands,
            footprints=[grid.bounds for grid in grids],
            crs=[grid.crs for grid in grids],
            acquired=[scene.acquired for scene in chip_scenes],
        )

    return unread
