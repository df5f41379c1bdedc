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
from geotl.language import msg
from geotl.models.input_domain import Range, bands_out_of_range, out_of_range_message
from geotl.models.model_file import MARKS, Contract

SAMPLE_TILES = 64  # tiles whose values are compared with those of the training tiles


def labelled_tiles(
    contract: Contract, data: str | Path, sensor: Sensor | None = None
) -> tuple[TileIndex, Int64s]:
    """Tiles of class folders, a manifest or a torchgeo data set, and their classes for a model.

    Args:
        contract: the model's.
        data: the tiles. Class folders nest as deep as the model's class names do.
        sensor: sensor of the tiles, None for the model's.

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
    class_numbers = np.array([contract.classes.index(name) for name in index.classes] + [-1])
    return index, class_numbers[index.labels]


def tile_blocks(
    contract: Contract,
    paths: Sequence[Path],
    sensor: Sensor | None = None,
    *,
    block: int = 128,
    log: Log = silent,
) -> Iterator[Pixels]:
    """Tiles in a model's bands, size and digital numbers, with their valid pixels, in blocks.

    Args:
        contract: the model's.
        paths: the tiles' files.
        sensor: sensor of the tiles, None for the model's.
        block: tiles per block.
        log: called with a line at the end on values impossible for the sensor, if any.

    Raises:
        DataError: a file that cannot be read.
        BandError: bands missing.
    """
    tile_sensor = sensor or contract.sensor
    file_bands = contract.file_bands if sensor is None else None
    ends, counts = measurable(tile_sensor, contract.bands), np.zeros(2, np.int64)
    with needed_by_model("tiles", tile_sensor.name):
        for images, valid in read_tiles(
            paths,
            tile_sensor,
            contract.bands,
            file_bands,
            contract.tile_px,
            contract.fit,
            block=block,
        ):
            counts += count_impossible(images, ends)
            yield rescaled(images, tile_sensor, contract.sensor), valid
    if counts[0]:
        log(impossible_line(counts, tile_sensor))


def check_tiles(
    contract: Contract, seen: Range, paths: Sequence[Path], sensor: Sensor | None = None
) -> None:
    """Reject tiles with values outside the training range, from 64 tiles spread over the list.

    Args:
        contract: the model's.
        seen: mean and sd of its example tiles' bands.
        paths: the tiles' files.
        sensor: sensor of the tiles, None for the model's.

    Raises:
        DataError: most bands are out of range; or a file that cannot be read.
        BandError: bands missing.
    """
    at = np.unique(np.linspace(0, len(paths) - 1, min(len(paths), SAMPLE_TILES)).astype(int))
    parts: list[list[NDArray[np.generic]]] = [[] for _ in contract.bands]
    for images, valid in tile_blocks(contract, [paths[i] for i in at], sensor):
        for band, part in enumerate(parts):
            part.append(images[:, band][valid[:, band]])
    values = [np.concatenate(part) for part in parts]
    bands_out = bands_out_of_range(values, seen, contract.bands, few=True)
    if bands_out:
        others = f" and {len(paths) - 1} more tiles" if len(paths) > 1 else ""
        name = (sensor or contract.sensor).name
        message = out_of_range_message(
            f"{paths[0]}{others}", bands_out, len(parts), name, "take them"
        )
        raise DataError(message)


def marked(blocks: Iterable[Pixels], marks: list[str]) -> Iterator[Pixels]:
    """Pass on blocks of tiles, and append the mark of each tile's pixels to a list."""
    for images, valid in blocks:
        marks += pixel_marks(images, valid)
        yield images, valid


def test_rows(
    notes: Mapping[str, Any], marks: Sequence[str], *, include_training: bool, log: Log
) -> Int64s:
    """Positions of the tiles that are not training tiles of a model, as far as they are known.

    Args:
        notes: the model's.
        marks: marks of the tiles' pixels.
        include_training: keep training tiles, too.
        log: called with a line on training tiles left out or kept, or that they are not known.

    Raises:
        DataError: none is left.
    """
    every = np.arange(len(marks))
    training_marks = notes.get("training", {}).get(MARKS)
    if training_marks is None:
        log(msg("the model file does not list its training tiles: some of these may be among them"))
        return every
    met = np.isin(np.array(marks, dtype=str), np.array(training_marks, dtype=str))
    amount = f"{met.sum()} of {len(marks)} tiles are training tiles of the model"
    if met.any() and met.all() and not include_training:
        raise DataError(f"{amount}, so there is no test tile; give others, or --include-training")
    if met.any():
        log(_training_words(int(met.sum()), len(marks), include_training=include_training))
    return every if include_training else np.flatnonzero(~met)


def _training_words(count: int, of: int, *, include_training: bool) -> str:
    """How many tiles are training tiles, and what becomes of them."""
    if include_training:
        return msg(
            "{count} of {of} tiles are training tiles of the model and are included",
            count=count,
            of=of,
        )
    return msg(
        "{count} of {of} tiles are training tiles of the model and are left out "
        "(--include-training)",
        count=count,
        of=of,
    )
