"""Limits of an image's header: larger images are rejected before any pixel is read."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from geotl.errors import DataError

MOST_BANDS = 1024
MOST_VALUES = 1 << 27  # of an image read whole, such as 13 bands of 3,200 x 3,200 pixels


def check_bands(path: Path, count: int) -> None:
    """Reject a file of more bands than any sensor has, before they are looked at one by one.

    Raises:
        DataError: it has more.
    """
    if count > MOST_BANDS:
        raise DataError(
            f"{path}: says that it holds {count:,} bands; allowed: up to {MOST_BANDS:,}; save "
            "those that are wanted"
        )


def check_whole(path: Path, shape: Sequence[int]) -> None:
    """Refuse to read an image whole whose header tells of more values than a tile has.

    Args:
        path: the file.
        shape: its bands, rows and columns.

    Raises:
        DataError: it does.
    """
    if math.prod(shape) > MOST_VALUES:
        raise DataError(
            f"{path}: says that it is of {' x '.join(f'{n:,}' for n in shape)} values (bands, "
            f"rows, columns); a tile has up to {MOST_VALUES:,}: take it out, cut it into tiles, or "
            "give it as a scene (data.scenes), which is read by windows"
        )
