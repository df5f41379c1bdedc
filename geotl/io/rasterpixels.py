"""Pixels of an open image and which of them are valid, whole or in a window."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.enums import MaskFlags

from geotl.arrays import Bools, UInt8s


def pixels(
    source: Any,
    alpha: int | None,
    positions: Sequence[int] | None = None,
    window: Any = None,
    *,
    paletted: bool = False,
    shape: tuple[int, int] | None = None,
) -> tuple[NDArray[Any], Bools]:
    """Bands of an open data set and their validity, both [C,h,w].

    Args:
        source: the data set.
        alpha: the alpha band, counted from 1, if it has one.
        positions: of the bands wanted among those that are not alpha, from 0; None for all.
        window: rasterio's, inside the image; None for all of it.
        paletted: the one band holds indices into a colour table, and its colours are meant.
        shape: rows and columns wanted, the nearest pixels of overviews where there are any; None
            for the pixels as they are.
    """
    bands = [b for b in range(1, source.count + 1) if b != alpha]
    if positions is not None and not paletted:
        bands = [bands[position] for position in positions]
    # One by one: rasterio reads no bands of several types, as a VRT may hold them, at once.
    mixed = len(set(source.dtypes)) > 1
    data = (
        np.stack([source.read(band, window=window, out_shape=shape) for band in bands])
        if mixed
        else source.read(bands, window=window, out_shape=shape and (len(bands), *shape))
    )
    valid = _validity(source, data, bands, alpha, window)
    if paletted:
        data, valid = _through_palette(data[0], valid[0], source.colormap(1))
        if positions is not None:
            data, valid = data[list(positions)], valid[list(positions)]
    return data, valid


def _validity(
    source: Any, data: NDArray[Any], bands: Sequence[int], alpha: int | None, window: Any
) -> Bools:
    """Every reason for which a pixel may not count: GDAL itself looks at the first one only."""
    shape = data.shape[1:]
    valid = np.ones(data.shape, dtype=bool)
    for i, band in enumerate(bands):
        flags, nodata = source.mask_flag_enums[band - 1], source.nodatavals[band - 1]
        if MaskFlags.all_valid not in flags and MaskFlags.alpha not in flags:
            valid[i] &= source.read_masks(band, window=window, out_shape=shape) > 0
        if nodata is not None and not math.isnan(nodata):
            valid[i] &= data[i] != nodata
    if alpha is not None:
        valid &= source.read(alpha, window=window, out_shape=shape) > 0
    if data.dtype.kind in "fc":
        valid &= np.isfinite(data)
    return valid


def _through_palette(
    indices: NDArray[Any], valid: Bools, palette: Mapping[int, tuple[int, ...]]
) -> tuple[UInt8s, Bools]:
    """Colours [3,H,W] of palette indices [H,W]; transparent entries are not valid."""
    table = np.zeros((256, 4), dtype=np.uint8)
    for index, colour in palette.items():
        table[index] = colour
    colours = table[indices]
    seen = valid & (colours[..., 3] > 0)
    return np.moveaxis(colours[..., :3], -1, 0).copy(), np.repeat(seen[None], 3, axis=0)
