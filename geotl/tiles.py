"""Which tiles there are: image files in class folders, with what a table says of them."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from geotl.errors import DataError, nearest
from geotl.files import sha256_of

SUFFIXES = frozenset({".tif", ".tiff", ".jpg", ".jpeg", ".png"})
DEFAULT_TABLE = "tiles.csv"
_READERS = 4


@dataclass(frozen=True)
class Tile:
    """One image file.

    Attributes:
        path: the file, absolute.
        label: position of its class, None if it has none.
        group: what must stay on one side of a split (a region, a scene), if the table tells.
        split: side given in the table, if it tells.
        content: SHA-256 of the file's bytes.
    """

    path: Path
    label: int | None
    group: str | None
    split: str | None
    content: str


@dataclass(frozen=True)
class TileIndex:
    """The tiles of a folder, sorted by relative path.

    Attributes:
        root: the folder, absolute.
        classes: names, in the order of the labels.
        tiles: one for each file.
    """

    root: Path
    classes: tuple[str, ...]
    tiles: tuple[Tile, ...]

    def __len__(self) -> int:
        """Number of tiles."""
        return len(self.tiles)

    @property
    def labels(self) -> NDArray[np.int64]:
        """Class of each tile, int64 [N]; -1 where there is none."""
        return np.array([-1 if t.label is None else t.label for t in self.tiles], dtype=np.int64)

    @property
    def contents(self) -> tuple[str, ...]:
        """SHA-256 of each tile's bytes: equal ones are copies."""
        return tuple(tile.content for tile in self.tiles)

    @property
    def names(self) -> tuple[str, ...]:
        """Path of each tile below the root, with forward slashes."""
        return tuple(_below(tile.path, self.root) for tile in self.tiles)


def index_folder(
    root: str | Path, *, classes: Sequence[str] | None = None, table: str = DEFAULT_TABLE
) -> TileIndex:
    """List the tiles of a folder that holds one folder for each class.

    Args:
        root: the folder.
        classes: names of the class folders to take, in the order of the labels; None for all,
            sorted by name.
        table: CSV file in the folder with a column `path` (below the folder) and, if wanted,
            `split` (train, test or empty) and `group`; the default one need not be there.

    Raises:
        DataError: no such folder, no class folders, only one, an empty one, or a table that
            cannot be read or names a file that is not among the tiles.
    """
    root = Path(root).expanduser().absolute()
    names = _class_folders(root, classes)
    paths = [(path, label) for label, name in enumerate(names) for path in _images_of(root / name)]
    paths.sort(key=lambda pair: _below(pair[0], root))
    with ThreadPoolExecutor(_READERS) as pool:
        contents = list(pool.map(_content, (path for path, _ in paths)))
    tiles = tuple(
        Tile(path, label, None, None, content)
        for (path, label), content in zip(paths, contents, strict=True)
    )
    return TileIndex(root, names, _with_table(tiles, root, table))


def list_images(paths: Iterable[str | Path]) -> list[Path]:
    """Name the image files among files and folders (searched to any depth), each once.

    Raises:
        DataError: a path that does not exist, or a folder without images.
    """
    found: dict[Path, None] = {}
    for given in paths:
        path = Path(given).expanduser()
        if not path.exists():
            raise DataError(f"{path}: no such file or folder; check the path")
        inside = (
            sorted(p for p in path.rglob("*") if _is_image(p, path)) if path.is_dir() else [path]
        )
        if not inside:
            raise DataError(f"{path}: no image in this folder; allowed: {_suffixes()}")
        found.update(dict.fromkeys(inside))
    return list(found)


def _is_image(path: Path, root: Path) -> bool:
    hidden = any(part.startswith(".") for part in path.relative_to(root).parts)
    return path.suffix.lower() in SUFFIXES and not hidden and path.is_file()


def _below(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix()


def _suffixes() -> str:
    return ", ".join(sorted(SUFFIXES))


def _content(path: Path) -> str:
    try:
        return sha256_of(path)
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read ({error.strerror or error}); check the file and its rights"
        ) from error


def _class_folders(root: Path, wanted: Sequence[str] | None) -> tuple[str, ...]:
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; set data.root to the folder of class folders")
    there = sorted(p.name for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))
    if not there:
        raise DataError(
            f"{root}: no class folders in it; put the tiles of each class in a folder of its own"
        )
    for name in wanted or ():
        if name not in there:
            raise DataError(f"{root}: no class folder {name!r}; {nearest(name, there)}")
    names = tuple(there if wanted is None else wanted)
    if len(set(names)) != len(names):
        raise DataError(f"{root}: a class is named twice in {list(names)}; name each once")
    if len(names) < 2:
        raise DataError(
            f"{root}: one class only ({', '.join(names) or 'none'}); at least two are needed: "
            "add a class folder"
        )
    return names


def _images_of(folder: Path) -> list[Path]:
    images = [p for p in folder.iterdir() if _is_image(p, folder)]
    if images:
        return images
    deeper = next((p for p in sorted(folder.rglob("*")) if _is_image(p, folder)), None)
    if deeper is not None:
        raise DataError(
            f"{folder}: holds folders, not tiles (such as {_below(deeper, folder)}); set data.root "
            "to the folder whose folders are the classes"
        )
    raise DataError(
        f"{folder}: no tiles in this class folder; add some ({_suffixes()}), or take it out"
    )


def _with_table(tiles: tuple[Tile, ...], root: Path, table: str) -> tuple[Tile, ...]:
    path = root / table
    if not path.exists():
        if table == DEFAULT_TABLE:
            return tiles
        raise DataError(f"{path}: no such table; check data.table")
    told = _read_table(path)
    known = {_below(tile.path, root) for tile in tiles}
    for name, (line, _, _) in told.items():
        if name not in known:
            raise DataError(
                f"{path}: line {line} names {name!r}, which is not among the tiles; "
                f"{nearest(name, sorted(known)[:5000])}"
            )
    nothing = (0, None, None)
    rows = [told.get(_below(tile.path, root), nothing) for tile in tiles]
    return tuple(
        replace(t, split=split, group=group)
        for t, (_, split, group) in zip(tiles, rows, strict=True)
    )


def _read_table(path: Path) -> dict[str, tuple[int, str | None, str | None]]:
    """Line, split and group of each path; commas or semicolons between the columns."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({error}); save it as CSV in UTF-8") from error
    header = text.partition("\n")[0]
    rows = csv.DictReader(text.splitlines(), delimiter=";" if ";" in header else ",")
    columns = [name.strip() for name in rows.fieldnames or ()]
    rows.fieldnames = columns
    if "path" not in columns:
        raise DataError(
            f"{path}: no column 'path' among {columns}; the first line must name the columns "
            "path, split, group"
        )
    told: dict[str, tuple[int, str | None, str | None]] = {}
    for row in rows:
        name = Path((row["path"] or "").strip()).as_posix()
        if name in told:
            raise DataError(f"{path}: line {rows.line_num} names {name!r} again; keep one line")
        told[name] = (rows.line_num, _cell(row, "split"), _cell(row, "group"))
    return told


def _cell(row: dict[str, str], column: str) -> str | None:
    return (row.get(column) or "").strip() or None
