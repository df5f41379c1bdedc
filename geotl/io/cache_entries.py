"""Entries of the cache: folders with a checksum for each file, made aside and checked when opened.

An entry is whole or not there. Of two processes that make the same one, the later takes what the
earlier made. A file that changed, is missing or is truncated is found, and the entry made again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from geotl.console import Log, complain
from geotl.errors import OutputError
from geotl.io.files import (
    put_away,
    scratch_folder,
    sync_tree,
    take_place,
    unwritten,
    write_text,
)

CHECKSUMS = "checksums.json"
_BLOCK_BYTES = 1 << 18  # fits the processor's cache
FULL_BYTES = 16 << 20  # entries and files up to this size are read whole when they are opened
_PIECES, _PIECE_BYTES = 64, 1 << 14  # of larger files, and of many files, so many are read


def kept(folder: Path, make: Callable[[Path], None], *, log: Log = complain) -> Path:
    """A folder as it was made, by this process or an earlier one.

    Args:
        folder: of the entry alone.
        make: fills the folder that it is given; called where there is no entry yet, or its files
            are not as they were written.
        log: called with a line where an entry is made again.

    Raises:
        OutputError: the folder cannot be written, or the disk is full.
    """
    if folder.exists():
        fault = fault_of(folder)
        if fault is None:
            with contextlib.suppress(OSError):  # a cache that may only be read
                os.utime(folder / CHECKSUMS)  # when it was last used, for `geotl cache prune`
            return folder
        if folder.is_file() or any(folder.iterdir()):
            log(f"{folder}: {fault}; it is made again")
        if folder.is_file():
            drop_entry(folder)
    with scratch_folder(folder) as part:
        make(part)
        try:
            write_checksums(part)
            sync_tree(part)
            _placed(part, folder)
        except OutputError:
            raise
        except OSError as error:
            raise unwritten(folder, error) from error
    return folder


def _placed(part: Path, folder: Path) -> None:
    """Put a finished entry into its place, unless another process has put a good one there."""
    part.chmod(0o755)
    if fault_of(folder) is not None:
        try:
            take_place(part, folder)
        except OSError:
            if fault_of(folder) is not None:
                raise


def write_checksums(folder: Path) -> None:
    """Note size and checksums of every file of a folder."""
    files = {
        path.relative_to(folder).as_posix(): _checksums(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != CHECKSUMS
    }
    write_checked(folder / CHECKSUMS, files)


def fault_of(folder: Path, *, full: bool = False) -> str | None:
    """What is wrong with an entry, in words; None if its files are as they were written.

    Of an entry above `FULL_BYTES` all sizes are compared, but only a sample of the content.

    Args:
        folder: of the entry.
        full: read every file whole, however large the entry is.
    """
    if not (folder / CHECKSUMS).exists():
        return "has no checksums, as in earlier versions"
    noted = read_checked(folder / CHECKSUMS)
    if noted is None:
        return f"{CHECKSUMS} is damaged"
    small = sum(marks["bytes"] for marks in noted.values()) <= FULL_BYTES
    step = 1 if full or small else max(1, len(noted) // _PIECES)
    for number, (name, marks) in enumerate(noted.items()):
        some = number % step == 0 or "/" not in name
        try:
            fault = _file_fault(folder / name, marks, full=full, content=some)
        except OSError as error:
            fault = "is missing" if isinstance(error, FileNotFoundError) else "cannot be read"
        if fault:
            return f"{name} {fault}"
    return None


def _file_fault(path: Path, marks: dict[str, Any], *, full: bool, content: bool) -> str | None:
    """What is wrong with a file; of one whose content is not read, the size counts."""
    size = path.stat().st_size
    if size != marks.get("bytes"):
        return f"has {size:,} bytes where {marks.get('bytes')} were written"
    if not content:
        return None
    if full:
        return None if _sha256(path) == marks.get("sha256") else "is damaged"
    return None if _crc32(path) == marks.get("crc32") else "is damaged"


def _checksums(path: Path) -> dict[str, Any]:
    return {"bytes": path.stat().st_size, "sha256": _sha256(path), "crc32": _crc32(path)}


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _crc32(path: Path) -> int:
    """CRC-32, three times as fast as SHA-256, of a file or of a sample of a large one.

    The sample is of pieces spread evenly over the file, its beginning and its end among them.
    """
    size, value = path.stat().st_size, 0
    with path.open("rb", buffering=0) as stream:
        if size <= FULL_BYTES:
            block = memoryview(bytearray(_BLOCK_BYTES))
            while read := stream.readinto(block):
                value = zlib.crc32(block[:read], value)
            return value
        for number in range(_PIECES):
            stream.seek((size - _PIECE_BYTES) * number // (_PIECES - 1))
            value = zlib.crc32(stream.read(_PIECE_BYTES), value)
    return value


def drop_entry(folder: Path) -> None:
    """Take an entry away; one that another process has just taken is no fault."""
    if folder.exists():
        put_away(folder)


def write_checked(path: Path, value: Any) -> None:
    """Write a small value as JSON with its checksum.

    Raises:
        OutputError: the file cannot be written.
    """
    write_text(path, json.dumps({"sha256": _value_mark(value), "value": value}, indent=1))


def read_checked(path: Path) -> Any:
    """The value of a file by `write_checked`; None if it is missing, damaged or not of ours."""
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(stored, dict) or stored.get("sha256") != _value_mark(stored.get("value")):
        return None
    return stored["value"]


def _value_mark(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
