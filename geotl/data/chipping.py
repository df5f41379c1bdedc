"""Chips of scenes as tiles: named, hashed and packed, so that all that follows takes them alike."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from geotl.arrays import Pixels
from geotl.console import Progress
from geotl.data.chips import Chip
from geotl.data.read_tile import in_order
from geotl.data.tile_array import Pack, Unread, packed
from geotl.data.tiles import Tile, TileIndex, check_classes
from geotl.imagery.windows import Imagery


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
        scenes: that the chips name.
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
    """Name, in 64 hexadecimal digits, all that a pack of chips holds."""
    looked = [(s.name, s.bands, asdict(s.sensor), asdict(s.grid), s.acquired) for s in scenes]
    cut = [(chip.scene, chip.id, asdict(chip.window)) for chip in chips]
    return hashlib.sha256(json.dumps(["chips", looked, cut, list(contents)]).encode()).hexdigest()


def _unread(
    scenes: dict[str, Imagery], chips: Sequence[Chip], load: Callable[[Chip], Pixels]
) -> Callable[[], Unread]:
    def unread() -> Unread:
        own = [scenes[chip.scene] for chip in chips]
        grids = [chip.window.on(scene.grid) for chip, scene in zip(chips, own, strict=True)]
        window = chips[0].window
        return Unread(
            pixels=in_order(load, chips),
            shape=(len(chips), len(own[0].bands), window.height, window.width),
            dtype=np.result_type(*(scene.dtype for scene in own)),
            bands=own[0].bands,
            footprints=[grid.bounds for grid in grids],
            crs=[grid.crs for grid in grids],
            acquired=[scene.acquired for scene in own],
        )

    return unread
