"""Each data set in two halves: one to choose settings on, one to test what was chosen.

The tiles of a class are ordered by the hash of their content and dealt out in turn, so that no list
has to be kept.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

Half = Literal["choose", "test", "both"]


def half_of(root: Path, half: Half, into: Path) -> Path:
    """A folder of links to the tiles of one half, class by class; `both` is the root itself."""
    if half == "both":
        return root
    for folder in sorted(p for p in root.iterdir() if p.is_dir()):
        tiles = dealt(p for p in folder.iterdir() if p.is_file())
        (into / folder.name).mkdir(parents=True)
        for tile in tiles[0 if half == "choose" else 1 :: 2]:
            (into / folder.name / tile.name).symlink_to(tile.resolve())
    return into


def dealt(tiles: Iterable[Path]) -> list[Path]:
    """Tiles of one class in the order of their hashes: every second one is for choosing."""
    return sorted(tiles, key=_digest)


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
