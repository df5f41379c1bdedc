"""Image files that are truncated or damaged where the decoder would not say so."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import BinaryIO

from geotl.errors import DataError

_CODESTREAM = b"\xff\x4f\xff\x51"  # start of codestream, image and tile size
_JP2 = b"\x00\x00\x00\x0cjP  "
_SOT, _EOC = b"\xff\x90", b"\xff\xd9"


def check_png(path: Path) -> None:
    """Walk a PNG's chunks: GDAL decodes one that is truncated or damaged without a word.

    Raises:
        DataError: a chunk is truncated or its checksum is wrong (PNG specification, 5.3).
    """
    content = path.read_bytes()
    at = 8
    while at + 12 <= len(content):
        (length,) = struct.unpack_from(">I", content, at)
        end = at + 12 + length
        if end > len(content):
            break
        (checksum,) = struct.unpack_from(">I", content, end - 4)
        if zlib.crc32(memoryview(content)[at + 4 : end - 4]) != checksum:
            raise DataError(f"{path}: the PNG is damaged (checksum); copy it again, or take it out")
        if content[at + 4 : at + 8] == b"IEND":
            return
        at = end
    raise DataError(f"{path}: the PNG is truncated; copy it again, or take it out")


def check_jpeg2000(path: Path) -> None:
    """Walk a JPEG 2000 file from tile part to tile part: GDAL fills missing ones without a word.

    Reads a few bytes of each part. The format has no checksums: bytes changed inside a part are
    found only where they break its structure.

    Raises:
        DataError: the file ends before its codestream does, or a part's length is wrong
            (ISO/IEC 15444-1, annexes A.4 and I.4).
    """
    with path.open("rb") as stream:
        size = stream.seek(0, 2)
        at = _codestream(stream, size)
        if at is None or not _ends(stream, at + 2, size):
            raise DataError(
                f"{path}: the JPEG 2000 file is truncated or damaged; copy it again, or take it out"
            )


def _codestream(stream: BinaryIO, size: int) -> int | None:
    """Where the codestream starts, None if there is none: in the box `jp2c`, or at once."""
    if _at(stream, 0, 4) == _CODESTREAM:
        return 0
    if _at(stream, 0, 8) != _JP2:
        return None
    at = 0
    while at + 8 <= size:
        length, kind = struct.unpack(">I4s", _at(stream, at, 8))
        head = 8
        if length == 1 and at + 16 <= size:
            (length,) = struct.unpack(">Q", _at(stream, at + 8, 8))
            head = 16
        if kind == b"jp2c":
            return at + head if _at(stream, at + head, 4) == _CODESTREAM else None
        if length < head:  # 0 means up to the end of the file, so no codestream follows
            return None
        at += length
    return None


def _ends(stream: BinaryIO, at: int, size: int) -> bool:
    """Whether marker follows on marker up to the end of codestream."""
    while at + 4 <= size:
        marker = _at(stream, at, 2)
        if marker[0] != 0xFF:
            return False
        (length,) = struct.unpack(">H", _at(stream, at + 2, 2))
        step = length + 2
        if marker == _SOT:
            if at + 12 > size:
                return False
            (step,) = struct.unpack(">I", _at(stream, at + 6, 4))
            if step == 0:  # the last part, up to the end of codestream
                return _at(stream, size - 2, 2) == _EOC
        if step < 4:
            return False
        at += step
        if at + 2 <= size and _at(stream, at, 2) == _EOC:
            return True
    return False


def _at(stream: BinaryIO, place: int, count: int) -> bytes:
    stream.seek(place)
    return stream.read(count)
