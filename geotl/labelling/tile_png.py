"""Tiles of the page as PNG files in memory."""

from __future__ import annotations

import struct
import zlib

import numpy as np

from geotl.arrays import UInt8s

SIDE = 256  # pixels of a tile
_LEVEL = 1  # a tile travels within one machine: quick rather than small


def png_of(rgba: UInt8s) -> bytes:
    """A PNG file of 8-bit colours with opacity.

    Args:
        rgba: [h,w,4], red, green, blue and opacity from 0 to 255, not premultiplied.

    >>> png_of(np.zeros((2, 3, 4), np.uint8))[1:4]
    b'PNG'
    """
    height, width = rgba.shape[:2]
    rows = np.zeros((height, 1 + 4 * width), np.uint8)  # the first byte of a row: not filtered
    rows[:, 1:] = rgba.reshape(height, 4 * width)
    header = struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows.tobytes(), _LEVEL)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(name, content) for name, content in chunks)


def _chunk(name: bytes, content: bytes) -> bytes:
    checksum = zlib.crc32(name + content)
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", checksum)


EMPTY = png_of(np.zeros((SIDE, SIDE, 4), np.uint8))
