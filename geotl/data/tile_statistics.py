"""What packed tiles look like in figures: one pass in blocks, whatever their number."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geotl.arrays import Bools, Float32s, Float64s
from geotl.console import Progress
from geotl.data.tile_array import Pack

THUMB_PX = 16
QUANTILES = (0.0, 0.001, 0.01, 0.5, 0.99, 0.999, 1.0)
_BLOCK_VALUES = 1 << 22
_SAMPLED_VALUES = 1 << 21  # of each band, behind the quantiles


@dataclass(frozen=True)
class TileFacts:
    """Figures of N tiles of C bands, in DN.

    Attributes:
        mean, sd: of each tile's valid pixels [N,C]; 0 where it has none.
        valid: share of valid pixels of each tile, over all bands [N].
        blank: share of each tile's pixels that are valid and 0 in every band [N].
        full: share of each tile's pixels at the type's largest value in some band [N]; 0 for
            floating point.
        quantiles: of each band over valid pixels [len(QUANTILES),C], from a regular sample of
            pixels; nan where a band has none.
        thumbs: tiles shrunk by averaging to at most 16 px a side, float32 [N,C,s,s]; invalid
            pixels take the tile's mean.
    """

    mean: Float64s
    sd: Float64s
    valid: Float64s
    blank: Float64s
    full: Float64s
    quantiles: Float64s
    thumbs: Float32s


def tile_facts(pack: Pack, progress: Progress | None = None) -> TileFacts:
    """Look at every tile once, block by block."""
    count, bands, side, _ = pack.images.shape
    step = max(1, _BLOCK_VALUES // (bands * side * side))
    stride = max(1, count * side * side // _SAMPLED_VALUES)
    parts, sampled = [], []
    for start in range(0, count, step):
        rows = slice(start, start + step)
        image = np.asarray(pack.images[rows])
        known = np.ones(image.shape, bool) if pack.valid is None else np.asarray(pack.valid[rows])
        parts.append(_figures(image, known))
        sampled.append(_sampled(image, known, stride))
        if progress is not None:
            progress(min(start + step, count), count)
    columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
    return TileFacts(
        mean=columns[0],
        sd=columns[1],
        valid=columns[2],
        blank=columns[3],
        full=columns[4],
        quantiles=_quantiles(np.concatenate(sampled, axis=1)),
        thumbs=columns[5],
    )


def _figures(image: NDArray[Any], known: Bools) -> tuple[NDArray[Any], ...]:
    """Means, sds, shares and thumbs of a block [n,C,S,S]."""
    values = image.astype(np.float64)
    number = np.maximum(known.sum(axis=(2, 3)), 1)
    mean = np.where(known, values, 0.0).sum(axis=(2, 3)) / number
    about = np.where(known, values - mean[:, :, None, None], 0.0)
    sd = np.sqrt((about**2).sum(axis=(2, 3)) / number)
    blank = ((image == 0) & known).all(axis=1).mean(axis=(1, 2))
    full = np.zeros(len(image))
    if image.dtype.kind in "iu":
        full = ((image == np.iinfo(image.dtype).max) & known).any(axis=1).mean(axis=(1, 2))
    thumbs = _shrunk(mean[:, :, None, None] + about).astype(np.float32)
    return mean, sd, known.mean(axis=(1, 2, 3)), blank, full, thumbs


def _shrunk(values: Float64s) -> Float64s:
    """Means of boxes [n,C,s,s] of images [n,C,S,S], s at most 16; the boxes differ by a pixel."""
    side = values.shape[-1]
    to = min(THUMB_PX, side)
    edges = np.arange(to) * side // to
    width = np.diff(np.append(edges, side)).astype(np.float64)
    summed = np.add.reduceat(np.add.reduceat(values, edges, axis=2), edges, axis=3)
    return np.asarray(summed / np.outer(width, width))


def _sampled(image: NDArray[Any], known: Bools, stride: int) -> Float64s:
    """Every stride-th pixel of a block, by band [C,n], nan where it is not valid."""
    flat = np.moveaxis(image, 1, 0).reshape(image.shape[1], -1)[:, ::stride]
    seen = np.moveaxis(known, 1, 0).reshape(image.shape[1], -1)[:, ::stride]
    return np.where(seen, flat.astype(np.float64), np.nan)


def _quantiles(values: Float64s) -> Float64s:
    found = np.full((len(QUANTILES), len(values)), np.nan)
    for band, row in enumerate(values):
        seen = row[np.isfinite(row)]
        if seen.size:
            found[:, band] = np.quantile(seen, QUANTILES)
    return found
