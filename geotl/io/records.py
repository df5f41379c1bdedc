"""Records of finished work as JSON, with a checksum: one that is damaged is made again."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from geotl.console import Log, complain
from geotl.io.files import write_text

CHECKSUM = "checksum"  # CRC-32 of the rest, as 8 hex digits; records of earlier versions have none


def write_record(path: Path, record: Mapping[str, Any]) -> None:
    """Write a record with its checksum, whole or not at all.

    Raises:
        OutputError: the disk is full or the folder cannot be written.
    """
    write_text(path, json.dumps({**record, CHECKSUM: _checksum(record)}) + "\n")


def read_record(path: Path) -> dict[str, Any] | None:
    """A record without its checksum; None if it is missing, damaged, or no record.

    One without a checksum is as an earlier version wrote it, or damaged: the caller knows its keys.
    """
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(stored, dict):
        return None
    noted = stored.pop(CHECKSUM, None)
    return stored if noted is None or noted == _checksum(stored) else None


def finished_record(
    path: Path, fits: Callable[[dict[str, Any]], bool], *, log: Log = complain
) -> dict[str, Any] | None:
    """The record of finished work; None where the work is still to be done.

    Args:
        path: of the record. One that is damaged goes away with a line.
        fits: whether keys and values are those of such a record.
        log: called with the line.
    """
    if not path.exists():
        return None
    stored = read_record(path)
    if stored is not None and fits(stored):
        return stored
    log(f"{path}: is damaged; what it holds is computed again")
    path.unlink(missing_ok=True)
    return None


def _checksum(record: Mapping[str, Any]) -> str:
    return f"{zlib.crc32(json.dumps(record, sort_keys=True).encode()):08x}"
