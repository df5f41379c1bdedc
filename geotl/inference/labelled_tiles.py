"""Labelled tiles as a trained model takes them: classes matched by name, pixels in its bands."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geotl.arrays import Int64s, Pixels
from geotl.console import Log, silent
from geotl.data.manifest import index_tiles
from geotl.data.tile_array import pixel_marks, read_tiles
from geotl.data.tile_statistics import count_impossible, impossible_line
from geotl.data.tiles import TileIndex
from geotl.errors import DataError, nearest, needed_by_model
from geotl.imagery.measurable import measurable
from geotl.imagery.sensors import Sensor, rescaled
from geotl.io.files import cache_folder
from geotl.models.input_domain import Range, strange_bands, unlike
from geotl.models.model_file import MARKS, Contract

LOOKED_AT = 64  # tiles whose values are held against the training tiles'


def labelled_tiles(
    contract: Contract, data: str | Path, sensor: Sensor | None = None
) -> tuple[TileIndex, Int64s]:
    """Tiles of class folders, a manifest or a torchgeo data set, and their classes for a model.

    Args:
        contract: the model's.
        data: the tiles. Class folders nest as deep as the model's class names do.
        sensor: the tiles', None for the model's.

    Returns:
        The index, and the position of each tile's class among the model's, -1 without a label.

    Raises:
        DataError: a class the model does not know, or tiles that cannot be read.
    """
    levels = {name.count("/") + 1 for name in contract.classes}
    index = index_tiles(
        data,
        cache=cache_folder() / "datasets",
        sensor=sensor or contract.sensor,
        class_depth=levels.pop() if len(levels) == 1 else 1,
    )
    unknown = [name for name in index.classes if name not in contract.classes]
    if unknown:
        raise DataError(
            f"{data}: class {unknown[0]!r} is not one of the model's; "
            f"{nearest(unknown[0], contract.classes)}"
        )
    known = np.array([contract.classes.index(name) for name in index.classes] + [-1])
    return index, known[index.labels]


def tile_blocks(
    contract: Contract,
    paths: Sequence[Path],
    sensor: Sensor | None = None,
    *,
    block: int = 128,
    say: Log = silent,
) -> Iterator[Pixels]:
    """Tiles in a model's bands, size and digital numbers, with their valid pixels, in blocks.

    Args:
        contract: the model's.
        paths: the tiles' files.
        sensor: the tiles', None for the model's.
        block: tiles at once.
        say: takes a line at the end on values that the sensor cannot have measured, if any.

    Raises:
        DataError: a file that cannot be read.
        BandError: bands missing.
    """
    own = sensor or contract.sensor
    file_bands = contract.file_bands if sensor is None else None
    ends, found = measurable(own, contract.bands), np.zeros(2, np.int64)
    with needed_by_model("tiles", own.name):
        for images, valid in read_tiles(
            paths, own, contract.bands, file_bands, contract.tile_px, contract.fit, block=block
        ):
            found += count_impossible(images, ends)
            yield rescaled(images, own, contract.sensor), valid
    if found[0]:
        say(impossible_line(found, own))


def check_tiles(
    contract: Contract, seen: Range, paths: Sequence[Path], sensor: Sensor | None = None
) -> None:
    """Refuse tiles whose values a model never saw, by those of 64 tiles spread over the list.

    Args:
        contract: the model's.
        seen: mean and sd of its example tiles' bands.
        paths: the tiles' files.
        sensor: the tiles', None for the model's.

    Raises:
        DataError: most bands are strange; or a file that cannot be read.
        BandError: bands missing.
    """
    at = np.unique(np.linspace(0, len(paths) - 1, min(len(paths), LOOKED_AT)).astype(int))
    parts: list[list[NDArray[np.generic]]] = [[] for _ in contract.bands]
    for images, valid in tile_blocks(contract, [paths[i] for i in at], sensor):
        for band, part in enumerate(parts):
            part.append(images[:, band][valid[:, band]])
    values = [np.concatenate(part) for part in parts]
    strange = strange_bands(values, seen, contract.bands, few=True)
    if strange:
        others = f" and {len(paths) - 1} more tiles" if len(paths) > 1 else ""
        name = (sensor or contract.sensor).name
        told = unlike(f"{paths[0]}{others}", strange, len(parts), name, "take them")
        raise DataError(told)


def marked(blocks: Iterable[Pixels], marks: list[str]) -> Iterator[Pixels]:
    """Blocks of tiles as they come, the marks of whose pixels are put into a list."""
    for images, valid in blocks:
        marks += pixel_marks(images, valid)
        yield images, valid


def to_judge(notes: Mapping[str, Any], marks: Sequence[str], *, learnt: bool, say: Log) -> Int64s:
    """Positions of the tiles that a model did not learn from, as far as its file tells.

    Args:
        notes: the model's.
        marks: of the tiles' pixels.
        learnt: take those it learnt from, too.
        say: told of tiles left out or taken, and where that is not known.

    Raises:
        DataError: none is left.
    """
    every = np.arange(len(marks))
    held = notes.get("training", {}).get(MARKS)
    if held is None:
        say("the model file does not say which its training tiles are: they may be among these")
        return every
    met = np.isin(np.array(marks, dtype=str), np.array(held, dtype=str))
    told = f"{met.sum()} of {len(marks)} tiles are training tiles of the model"
    if met.any() and met.all() and not learnt:
        raise DataError(
            f"{told}, so none is left to judge the model on; give others, or --include-training"
        )
    if met.any():
        say(f"{told} and are {'tested on too' if learnt else 'left out (--include-training)'}")
    return every if learnt else np.flatnonzero(~met)
