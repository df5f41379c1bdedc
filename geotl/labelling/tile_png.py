"""Tiles of the page: their side, the colours of map layers, and PNG files in memory."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from geotl.arrays import UInt8s

SIDE = 256  # pixels of a tile
CONFIDENCE = ("#440154", "#3b528b", "#21918c", "#5ec962", "#fde725")  # viridis, from 0 to 1
OUTSIDE = ("#ffb000", "#e3472f", "#7a0016")  # just outside the area of applicability, to far
_LEVEL = 1  # a tile travels within one machine: quick rather than small


def png_of(rgba: UInt8s) -> bytes:
    """A PNG file of 8-bit colours with opacity.

    Args:
        rgba: [h,w,4], red, green, blue and opacity from 0 to 255, not premultiplied.

    >>> png_of(np.zeros((2, 3, 4), np.uint8))[1:4]
    b'PNG'
    """
    stream = io.BytesIO()
    Image.fromarray(rgba).save(stream, "png", compress_level=_LEVEL)
    return stream.getvalue()


EMPTY = png_of(np.zeros((SIDE, SIDE, 4), np.uint8))
