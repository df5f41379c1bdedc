"""What the pixels of tiles depend on, and what they are, as short names: equal ones are alike."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geotl.arrays import Bools
from geotl.data.read_tile import Fit
from geotl.data.tiles import TileIndex
from geotl.imagery.band_files import images_in
from geotl.imagery.sensors import Sensor
from geotl.io.files import sha256_of

PACK_FORMAT = 1
# Files beside an image from which GDAL takes masks, band names and nodata.
_SIDECARS = (".msk", ".aux.xml")


def fingerprint(
    index: TileIndex,
    sensor: Sensor,
    *,
    bands: Sequence[str] | None = None,
    file_bands: Sequence[str] | None = None,
    tile_px: int | None = None,
    fit: Fit = "pad_or_crop",
) -> str:
    """Name, in 64 hexadecimal digits, everything the pixels of a pack depend on.

    That is the tiles' relative paths and contents, files beside them that hold masks or band
    names, the sensor and the options; not the labels, and not where the folder lies.
    """
    files = [
        (
            name,
            tile.content,
            *_sidecars(tile.path),
            *((tile.centre, tile.crs) if tile.centre else ()),
        )
        for name, tile in zip(index.names, index.tiles, strict=True)
    ]
    wanted = wanted_bands(sensor, bands)
    options = [PACK_FORMAT, wanted, list(file_bands or ()), tile_px, fit, asdict(sensor)]
    return hashlib.sha256(json.dumps([files, options]).encode()).hexdigest()


def pixel_marks(images: NDArray[Any], valid: Bools | None) -> list[str]:
    """Sixteen hexadecimal digits for the valid pixels of each tile [n,C,S,S], in any type and file.

    >>> tiles = np.array([[[[1, 2]]], [[[1, 9]]]])
    >>> first, second = pixel_marks(tiles, tiles < 9)
    >>> len(first), first == second, [second] == pixel_marks(np.array([[[[1.0, 0.0]]]]), None)
    (16, False, True)
    """
    shown = images if valid is None else np.where(valid, images, 0)
    tiles = np.ascontiguousarray(shown, dtype=np.float32)
    return [hashlib.blake2b(tile.tobytes(), digest_size=8).hexdigest() for tile in tiles]


def wanted_bands(sensor: Sensor, bands: Sequence[str] | None) -> tuple[str, ...]:
    """The bands asked for by the sensor's own names; all of the sensor's where none are."""
    return sensor.canonical([band.name for band in sensor.bands] if bands is None else bands)


def _sidecars(path: Path) -> Iterator[str]:
    """What each file beside an image, or beside each of a tile's band files, hashes to."""
    for file in images_in(path) if path.is_dir() else [path]:
        for end in _SIDECARS:
            beside = file.with_name(file.name + end)
            yield sha256_of(beside) if beside.exists() else ""
