"""From packed tiles to the space a generator learns in, and from there back to digital numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geotl.arrays import Float32s, Float64s, Floats, Int64s
from geotl.data.tile_array import Pack, batch, statistics

_BLOCK = 256


@dataclass(frozen=True)
class Space:
    """Each band's mean, sd and seen range, in DN, float64 [C], and the tiles' native type."""

    mean: Float64s
    sd: Float64s
    low: Float64s
    high: Float64s
    dtype: np.dtype[Any]

    def standardised(self, tiles: Floats) -> Float32s:
        """DN [N, C, S, S] minus the mean, over the sd; a band without contrast becomes 0."""
        sd = np.where(self.sd > 0, self.sd, 1.0)
        return np.asarray((tiles - _planes(self.mean)) / _planes(sd), dtype=np.float32)

    def in_dn(self, tiles: Floats) -> NDArray[Any]:
        """Standardised tiles [N, C, S, S] in the native type, within the range seen.

        >>> one = np.ones(1)
        >>> space = Space(10 * one, 2 * one, 8 * one, 13 * one, np.dtype(np.uint8))
        >>> space.in_dn(np.array([[[[-9.0, 0.3, 9.0]]]])).tolist()
        [[[[8, 11, 13]]]]
        """
        values = tiles.astype(np.float64) * _planes(self.sd) + _planes(self.mean)
        if self.dtype.kind in "iu":
            values = np.rint(values)
        return np.clip(values, _planes(self.low), _planes(self.high)).astype(self.dtype)


def space_of(pack: Pack, rows: Int64s) -> Space:
    """The space of some tiles: mean, sd and range of their valid pixels, and of no others.

    Raises:
        DataError: no rows, or a band without a valid pixel in them.
    """
    own = statistics(pack, rows)
    low, high = np.full(len(own.mean), np.inf), np.full(len(own.mean), -np.inf)
    for start in range(0, len(rows), _BLOCK):
        part = np.asarray(rows[start : start + _BLOCK])
        held = np.asarray(pack.images)[part].astype(np.float64)
        seen = np.True_ if pack.valid is None else np.asarray(pack.valid)[part]
        low = np.minimum(low, np.where(seen, held, np.inf).min(axis=(0, 2, 3)))
        high = np.maximum(high, np.where(seen, held, -np.inf).max(axis=(0, 2, 3)))
    return Space(own.mean, own.sd, low, high, pack.images.dtype)


def standardised_tiles(pack: Pack, rows: Int64s, space: Space) -> Float32s:
    """Packed tiles [n, C, S, S] in a space; invalid pixels become 0, the mean."""
    held = batch(pack, rows, fill=space.mean)["image"].numpy()
    return space.standardised(held)


def _planes(values: Float64s) -> Float64s:
    return values.reshape(-1, 1, 1)
