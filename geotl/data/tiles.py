"""Lists of tiles: images in class folders, with the split and group of a table."""

from __future__ import annotations

import bisect
import hashlib
import os
import unicodedata
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from geotl.arrays import Int64s
from geotl.console import Progress
from geotl.errors import DataError, nearest
from geotl.imagery.band_files import band_in_name, images_in, is_band_folder
from geotl.imagery.sensors import Sensor
from geotl.io.files import given_path, sha256_and_mark
from geotl.io.images import SUFFIXES
from geotl.io.tables import Faults, TableRow, read_table

DEFAULT_TABLE = "tiles.csv"
SYNTHETIC = "GEOTL_SYNTHETIC"  # the tag that marks a tile as made by a generator
LEARN_ONLY = (
    "such tiles may be trained on but never tested on: remove them, and name the folder that "
    "geotl generate wrote in data.synthetic"
)
_READERS = 4
_COMPARED = 200  # names on either side of one that is not there


@dataclass(frozen=True)
class Tile:
    """One image file, one folder with a file for each band, or one chip of a scene.

    Attributes:
        path: the file or folder, absolute; of a chip, its scene's.
        label: position of its class, None if it has none.
        group: group (a region, a scene) that a split does not divide, if the table gives one.
        split: side given in the table, if any.
        content: SHA-256 of the file's bytes, of all band files' together, or of a chip's pixels.
        centre: position (x, y) of its middle in `crs`, if the table gives it; the position in the
            file comes first.
        scene: name of the scene it was cut from, None for a tile of its own.
        chip: the chip's name, None for a tile of its own.
        sources: contents of the generator's training tiles for a synthetic tile; else None.
    """

    path: Path
    label: int | None
    group: str | None
    split: str | None
    content: str
    centre: tuple[float, float] | None = None
    crs: str | None = None
    scene: str | None = None
    chip: str | None = None
    sources: frozenset[str] | None = None

    def name(self, root: Path) -> str:
        """The path below a root, with forward slashes; a chip's own name."""
        return self.chip or below(self.path, root)


@dataclass(frozen=True)
class TileIndex:
    """The tiles below a folder, sorted by relative path, or the chips of some scenes.

    Attributes:
        root: the folder, absolute.
        classes: names, in the order of the labels.
        tiles: one for each file, for each folder of band files, or for each chip.
    """

    root: Path
    classes: tuple[str, ...]
    tiles: tuple[Tile, ...]

    def __len__(self) -> int:
        """Number of tiles."""
        return len(self.tiles)

    @property
    def labels(self) -> Int64s:
        """Class of each tile, int64 [N]; -1 where there is none."""
        return np.array([-1 if t.label is None else t.label for t in self.tiles], dtype=np.int64)

    @property
    def contents(self) -> tuple[str, ...]:
        """SHA-256 of each tile's bytes: equal ones are copies."""
        return tuple(tile.content for tile in self.tiles)

    @property
    def names(self) -> tuple[str, ...]:
        """Name of each tile: its path below the root, with forward slashes, or the chip's own."""
        return tuple(tile.name(self.root) for tile in self.tiles)


def index_folder(
    root: str | Path,
    *,
    classes: Sequence[str] | None = None,
    table: str = DEFAULT_TABLE,
    sensor: Sensor | None = None,
    class_depth: int = 1,
    progress: Progress | None = None,
) -> TileIndex:
    """List the tiles of a folder with one folder for each class.

    Args:
        root: the folder.
        classes: names of the class folders to take, in the order of the labels; None for all,
            sorted by name.
        table: CSV file in the folder with a column `path` (below the folder) and, if wanted,
            `split` (train, test or empty), `group`, `x`, `y` and `crs`; the default one need not
            be there.
        sensor: sensor whose bands the file names give; with it a folder of band files inside a
            class folder is one tile.
        class_depth: levels of folders that make up a class's name, joined by "/".
        progress: called with tiles done and tiles in all.

    Raises:
        DataError: no such folder, no class folders, only one, an empty one, or a table that
            cannot be read or names a file that is not among the tiles.
    """
    root = given_path(root).absolute()
    folders = _class_folders(root, classes, class_depth)
    paths = [
        (path, label)
        for label, folder in enumerate(folders.values())
        for path in _tiles_of(folder, sensor, class_depth)
    ]
    paths.sort(key=lambda pair: below(pair[0], root))
    contents = contents_of([path for path, _ in paths], sensor, progress=progress)
    tiles = tuple(
        Tile(path, label, None, None, content)
        for (path, label), content in zip(paths, contents, strict=True)
    )
    return TileIndex(root, tuple(folders), _with_table(tiles, root, table))


def list_images(paths: Iterable[str | Path], sensor: Sensor | None = None) -> list[Path]:
    """Name the tiles among files and folders (searched to any depth), each once.

    With a sensor, a folder of its band files is one tile.

    Raises:
        DataError: a path that does not exist, or a folder without images.
    """
    images: dict[Path, None] = {}
    for given in paths:
        path = given_path(given)
        if not path.exists():
            raise DataError(f"{path}: no such file or folder; check the path")
        inside = _tiles_below(path, sensor) if path.is_dir() else [path]
        if not inside:
            raise DataError(f"{path}: no image in this folder; allowed: {_suffixes()}")
        images.update(dict.fromkeys(inside))
    return list(images)


def contents_of(
    paths: Sequence[Path],
    sensor: Sensor | None,
    *,
    synthetic: bool = False,
    progress: Progress | None = None,
) -> list[str]:
    """Hash of each tile's bytes, which finds copies whatever their names.

    Args:
        paths: the tiles.
        sensor: sensor whose bands the file names give.
        synthetic: whether tiles marked so are wanted; else they are rejected, since a listed tile
            may become a test tile.
        progress: called with tiles done and tiles in all.

    Raises:
        DataError: a file that cannot be read, or a synthetic tile.
    """
    with ThreadPoolExecutor(_READERS) as pool:
        contents = []
        for done, each in enumerate(pool.map(lambda path: _content(path, sensor), paths), 1):
            contents.append(each)
            if progress is not None:
                progress(done, len(paths))
    marked = [path for path, (_, mark) in zip(paths, contents, strict=True) if mark]
    if marked and not synthetic:
        raise DataError(
            f"{marked[0]}: a synthetic tile, one of {len(marked)} among {len(paths)}; {LEARN_ONLY}"
        )
    return [content for content, _ in contents]


def below(path: Path, root: Path) -> str:
    """A path as seen from a folder, with forward slashes.

    >>> below(Path("tiles/a/1.tif"), Path("tiles")), below(Path("a/../b.tif"), Path("c"))
    ('a/1.tif', '../b.tif')
    """
    text, inside = str(path), f"{root}{os.sep}"
    if text.startswith(inside) and ".." not in path.parts:  # of many tiles, a matter of time
        return text[len(inside) :].replace(os.sep, "/")
    return Path(os.path.relpath(path, root)).as_posix()


def class_name(text: str) -> str:
    """A class's name with its accents composed, however the file system stores them (NFC).

    >>> class_name("fore" + chr(0x302) + "t") == "for" + chr(0xEA) + "t"
    True
    """
    return unicodedata.normalize("NFC", text).strip()


def check_classes(names: Sequence[str], where: Path) -> None:
    """Make sure that there are two classes or more.

    Raises:
        DataError: fewer than two classes.
    """
    if len(names) < 2:
        raise DataError(
            f"{where}: one class only ({', '.join(names) or 'none'}); at least two are needed: "
            "label tiles of another class"
        )


def _tiles_below(root: Path, sensor: Sensor | None) -> list[Path]:
    images: list[Path] = []
    for name, folders, _ in os.walk(root):
        here = Path(name)
        folders[:] = sorted(folder for folder in folders if not folder.startswith("."))
        if sensor is not None and is_band_folder(here, sensor):
            images.append(here)
            folders.clear()
        else:
            images += images_in(here)
    return sorted(images)


def _suffixes() -> str:
    return ", ".join(sorted(SUFFIXES))


def _content(path: Path, sensor: Sensor | None) -> tuple[str, bool]:
    """A tile's content, and whether it has the mark of a synthetic tile."""
    mark = SYNTHETIC.encode()
    try:
        if not path.is_dir():
            return sha256_and_mark(path, mark)
        named = [(band_in_name(p.stem, sensor) if sensor else None, p) for p in images_in(path)]
        read = [(band, *sha256_and_mark(file, mark)) for band, file in named]
        parts = sorted(f"{band} {content}" for band, content, _ in read)
        digest = hashlib.sha256("\n".join(parts).encode()).hexdigest()
        return digest, any(marked for *_, marked in read)
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read ({error.strerror or error}); check the file and its rights"
        ) from error


def _class_folders(root: Path, wanted: Sequence[str] | None, depth: int) -> dict[str, Path]:
    """The class folders by name, sorted, or in the order wanted."""
    if not root.is_dir():
        fault = "a file" if root.exists() else "no such folder"
        raise DataError(
            f"{root}: {fault}; set data.root to the folder of class folders, or to a "
            "manifest (.csv, .geojson)"
        )
    there = _folders_at(root, depth)
    for name in wanted or ():
        if name not in there:
            raise DataError(f"{root}: no class folder {name!r}; {nearest(name, there)}")
    names = sorted(there) if wanted is None else list(wanted)
    if len(set(names)) != len(names):
        raise DataError(f"{root}: a class is named twice in {names}; name each once")
    check_classes(names, root)
    return {name: there[name] for name in names}


def _folders_at(root: Path, depth: int) -> dict[str, Path]:
    """Folders that many levels down, by the names that lead to them, joined by "/"."""
    folders = {"": root}
    for level in range(depth):
        deeper: dict[str, Path] = {}
        for name, folder in folders.items():
            inside = _folders_in(folder)
            if not inside or (level and images_in(folder)):
                _reject_level(folder, bool(inside), depth)
            for path in inside:
                joined = f"{name}/{class_name(path.name)}".lstrip("/")
                if joined in deeper:
                    raise DataError(
                        f"{path} and {deeper[joined]}: two folders of one class name; join them"
                    )
                deeper[joined] = path
        folders = deeper
    return folders


def _reject_level(folder: Path, folders: bool, depth: int) -> None:
    if depth > 1:
        content = "has tiles above that level" if folders else "has no folders"
        raise DataError(
            f"{folder}: {content}, where data.class_depth={depth} needs class folders {depth} "
            "levels "
            "down; move its tiles into such a folder, or remove it"
        )
    raise DataError(
        f"{folder}: no class folders in it; put the tiles of each class in a folder of its own"
    )


def _folders_in(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))


def _tiles_of(folder: Path, sensor: Sensor | None, depth: int) -> list[Path]:
    """The images in a class folder, and the folders of band files."""
    tiles = images_in(folder)
    if sensor is not None:
        tiles += [path for path in _folders_in(folder) if is_band_folder(path, sensor)]
    if tiles:
        return tiles
    deeper = _tiles_below(folder, None)
    if deeper:
        raise DataError(
            f"{folder}: contains folders, not tiles (such as {below(deeper[0], folder)}); set "
            "data.root to the folder whose folders are the classes, "
            f"data.class_depth={depth + 1} if class folders nest, or data.sensor to the one whose "
            "bands such files are named after"
        )
    raise DataError(
        f"{folder}: no tiles in this class folder; add some ({_suffixes()}), or take it out"
    )


def near_in_order(name: str, names: Sequence[str]) -> Sequence[str]:
    """The names about a place in a sorted list: to compare a name with all takes too long.

    >>> near_in_order("b", ["a", "b", "c"])
    ['a', 'b', 'c']
    """
    at = bisect.bisect(names, name)
    return names[max(0, at - _COMPARED) : at + _COMPARED]


def _unknown(name: str, ordered: Sequence[str]) -> str:
    hint = nearest(name, near_in_order(name, ordered))
    return f"names {name!r}, which is not among the tiles; {hint}"


def _with_table(tiles: tuple[Tile, ...], root: Path, table: str) -> tuple[Tile, ...]:
    path = root / table
    if not path.exists():
        if table == DEFAULT_TABLE:
            return tiles
        raise DataError(f"{path}: no such table; check data.table")
    faults = Faults(path)
    rows_by_path = {row.path: row for row in read_table(path, faults)}
    names = {below(tile.path, root) for tile in tiles}
    ordered = sorted(names)
    for name, row in rows_by_path.items():
        if name not in names:
            faults.add(row.line, partial(_unknown, name, ordered), "unknown tile")
        if row.synthetic:
            faults.add(row.line, f"marks {name!r} synthetic; {LEARN_ONLY}")
    faults.check()
    nothing = TableRow(0, "")
    rows = [rows_by_path.get(below(tile.path, root), nothing) for tile in tiles]
    return tuple(
        replace(t, split=row.split, group=row.group, centre=row.centre, crs=row.crs)
        for t, row in zip(tiles, rows, strict=True)
    )
