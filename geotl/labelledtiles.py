"""Labelled tiles as a trained model takes them: classes matched by name, pixels in its bands."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from geotl.cachefolder import cache_folder
from geotl.catalogue import index_tiles
from geotl.errors import DataError, nearest, needed_by_model
from geotl.loading import read_tiles
from geotl.modelfile import Contract
from geotl.sensors import Sensor, rescaled
from geotl.shaping import Pixels
from geotl.tiles import TileIndex


def labelled_tiles(
    contract: Contract, data: str | Path, sensor: Sensor | None = None
) -> tuple[TileIndex, NDArray[np.int64]]:
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
    contract: Contract, paths: Sequence[Path], sensor: Sensor | None = None, *, block: int = 128
) -> Iterator[Pixels]:
    """Tiles in a model's bands, size and digital numbers, with their valid pixels, in blocks.

    Args:
        contract: the model's.
        paths: the tiles' files.
        sensor: the tiles', None for the model's.
        block: tiles at once.

    Raises:
        DataError: a file that cannot be read.
        BandError: bands missing.
    """
    own = sensor or contract.sensor
    file_bands = contract.file_bands if sensor is None else None
    with needed_by_model("tiles", own.name):
        for images, valid in read_tiles(
            paths, own, contract.bands, file_bands, contract.tile_px, contract.fit, block=block
        ):
            yield rescaled(images, own, contract.sensor), valid
