"""The cache as a whole: what lies in it, whether it is as it was written, and what may go."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from geotl.io.cache_entries import CHECKSUMS, drop_entry, fault_of
from geotl.io.owners import clean, is_private

KINDS = {
    "packs": "packed tiles",
    "features": "features of frozen networks",
    "datasets": "copies of torchgeo's data sets",
    "lecture": "networks of the lecture",
}
DAY_S = 86_400.0


@dataclass(frozen=True)
class Entry:
    """One entry of the cache.

    Attributes:
        path: its folder; a file in caches of earlier versions.
        kind: key of `KINDS`.
        size: bytes on disk.
        used: when it was last opened, in seconds since 1970.
    """

    path: Path
    kind: str
    size: int
    used: float


def entries(cache: Path) -> list[Entry]:
    """Everything that can be made again, the entry that was not used for longest first.

    What a running process makes is left out, what a dead one left is taken away.
    """
    return sorted(_entries(cache), key=lambda entry: entry.used)


def _entries(cache: Path) -> Iterator[Entry]:
    for kind in KINDS:
        folder = cache / kind
        clean(folder)
        for path in sorted(folder.iterdir()) if folder.is_dir() else ():
            if not is_private(path):
                yield _entry(path, kind)


def _entry(path: Path, kind: str) -> Entry:
    files = [one for one in path.rglob("*") if one.is_file()] if path.is_dir() else [path]
    stats = [file.stat() for file in files]
    marks = path / CHECKSUMS
    used = marks.stat().st_mtime if marks.is_file() else max((s.st_mtime for s in stats), default=0)
    return Entry(path, kind, sum(s.st_size for s in stats), float(used))


def damaged(cached: Sequence[Entry]) -> Iterator[tuple[Entry, str]]:
    """Entries whose files are not as they were written, every byte read, and what is wrong."""
    for entry in cached:
        fault = fault_of(entry.path, full=True) if entry.path.is_dir() else "is of earlier versions"
        if fault is not None:
            yield entry, fault


def to_prune(
    cached: Sequence[Entry],
    *,
    older_than_days: float | None = None,
    max_bytes: float | None = None,
    now: float | None = None,
) -> list[Entry]:
    """Entries that may go: those not used for so long, then the longest unused above a size.

    Args:
        cached: the longest unused first, as `entries` gives them.
        older_than_days: days since the last use; None for no bound.
        max_bytes: of all that stays; None for no bound.
        now: seconds since 1970; None for the clock.

    >>> several = [Entry(Path(n), "packs", 10, day * DAY_S) for n, day in [("a", 1), ("b", 3)]]
    >>> [e.path.name for e in to_prune(several, older_than_days=2, now=4 * DAY_S)]
    ['a']
    >>> [e.path.name for e in to_prune(several, max_bytes=15, now=4 * DAY_S)]
    ['a']
    """
    moment = time.time() if now is None else now
    left = sum(entry.size for entry in cached)
    gone = []
    for entry in cached:
        old = older_than_days is not None and moment - entry.used > older_than_days * DAY_S
        if old or (max_bytes is not None and left > max_bytes):
            gone.append(entry)
            left -= entry.size
    return gone


def drop(cached: Sequence[Entry]) -> int:
    """Take entries away; how many bytes they had."""
    for entry in cached:
        drop_entry(entry.path)
    return sum(entry.size for entry in cached)
