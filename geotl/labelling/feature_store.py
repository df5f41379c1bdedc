"""Features of a scene's pixels as tiles on the disk, at full resolution and at coarser levels.

A tile has 256 x 256 positions of one level; between them lie `each` pixels of the scene (1, 2, 4
and so on), and a position is the pixel in the middle of its square. Its features are those of the
full resolution, not those of a reduced image: the windows about a pixel are always windows of the
scene's own pixels. They are stored as float16 and read through a memory map, so that what is not
looked at takes no memory. A file appears whole or not at all, under a name that depends on the
scene and on the definition of the features; the folder may be deleted at any time.

What is asked for comes first. A thread in the background fills the other tiles, coarse levels
first, from one reading of the scene, and the finest two from a second one; it waits while tiles
are asked for. Levels that do not fit the limit are not kept: their tiles are computed whenever they
are looked at.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np

from geotl.errors import DataError, OutputError
from geotl.imagery.scene import Scene
from geotl.imagery.windows import Window
from geotl.io.files import unwritten
from geotl.labelling.deep_store import DeepStore, clear_stages
from geotl.labelling.feature_tiles import (
    FINE,
    READ_PX,
    FeatureBlock,
    FeatureTile,
    Halves,
    TileFeatures,
    TilePlace,
    blocks_of,
    levels_of,
    save_array,
)
from geotl.labelling.tile_png import SIDE
from geotl.models.deep_features import DeepFeatures

_Work = tuple[Window, tuple[int, ...]]  # a block and the levels that it is read for
GB = 10**9
SPARE = 0.9  # share of the free disk that features may take
_FORMAT = 1
_OWN_FOLDER = re.compile(r"[0-9a-f]{16}")
_RECENT = 24  # tiles in memory, of levels that are not kept on the disk


@dataclass(frozen=True)
class StoragePlan:
    """Which levels are kept on the disk.

    Attributes:
        kept: levels that are.
        size: their size [bytes].
        left_out: levels that are computed whenever they are looked at.
        needed: size of all levels [bytes].
    """

    kept: tuple[int, ...]
    size: int
    left_out: tuple[int, ...]
    needed: int

    @classmethod
    def of(cls, sizes: Mapping[int, int], room: int) -> StoragePlan:
        """The levels that fit, from the coarsest on.

        Args:
            sizes: bytes of each level, by the pixels between its positions.
            room: bytes that may be taken.

        >>> StoragePlan.of({1: 160, 2: 40, 4: 10}, 100).left_out
        (1,)
        """
        kept: list[int] = []
        for each in sorted(sizes, reverse=True):
            if sum(sizes[one] for one in (*kept, each)) > room:
                break
            kept.append(each)
        left_out = tuple(each for each in sizes if each not in kept)
        return cls(tuple(sorted(kept)), sum(sizes[e] for e in kept), left_out, sum(sizes.values()))


def _nth(each: int) -> str:
    return {1: "single", 2: "second"}.get(each, f"{each}th")


class FeatureStore:
    """The feature tiles of a scene; any number of threads may ask at once."""

    def __init__(
        self,
        scene: Scene,
        what: TileFeatures,
        folder: Path,
        *,
        limit: int = 10 * GB,
        deep: DeepFeatures | None = None,
    ) -> None:
        """Open the store, or make it.

        Args:
            scene: that is labelled.
            what: the tiles' content.
            folder: holds the store's own folder.
            limit: bytes that the tiles may take, of all levels together.
            deep: a network whose stages are kept too; they have the first claim to the room.

        Raises:
            OutputError: the folder cannot be written.
            DataError: there is no room for the coarsest level.
        """
        self.scene, self.what, self.widths = scene, what, what.widths
        self.folder = folder / _fingerprint(scene, what)
        _clear(folder, self.folder)
        self.deep = None if deep is None else self._deep_store(deep)
        if deep is None:
            clear_stages(self.folder)
        stages = 0 if self.deep is None else self.deep.size
        sizes = {each: what.size(each) for each in levels_of(scene.grid)}
        _drop(self.folder, StoragePlan.of(sizes, limit - stages).left_out)
        free = int(SPARE * shutil.disk_usage(folder).free)
        self._limit, self.room = limit, min(limit, free + _stored(self.folder))
        self.plan = StoragePlan.of(sizes, self.room - stages)
        if not self.plan.kept:
            raise DataError(
                f"{folder}: {self.room / 1e6:,.0f} MB may be taken by features, fewer than the "
                f"coarsest map of {scene.name} needs; {self._remedy}, or label a part of the scene "
                "(--aoi)"
            )
        self._recent: OrderedDict[TilePlace, FeatureTile] = OrderedDict()
        self._lock, self._asking, self._turn = threading.Lock(), 0, threading.Condition()
        self._closed = False

    def _deep_store(self, deep: DeepFeatures) -> DeepStore:
        return DeepStore(self.scene, self.what.of, deep, self.folder, self.what.area)

    @property
    def _remedy(self) -> str:
        """What gives features more room."""
        full = self.room < self._limit
        return "make room on the disk" if full else "give them more of the disk (--cache-gb)"

    def notice(self) -> str | None:
        """Which levels are not kept and what helps, in one line; None where all are."""
        if not self.plan.left_out:
            return None
        area = self.what.area or self.scene.grid
        finest = _nth(max(self.plan.left_out))
        return (
            f"features of {area.width:,} x {area.height:,} px take {self.plan.needed / GB:,.1f} "
            f"GB, and there is room for {self.room / GB:,.1f} GB: those at every {finest} pixel "
            f"and finer are computed whenever they are looked at, which is slower; {self._remedy}, "
            "or label a part of the scene (--aoi)"
        )

    @property
    def has_coarsest(self) -> bool:
        """Whether the tile of the whole scene is there."""
        return self._is_stored(TilePlace(self.plan.kept[-1], 0, 0))

    def tile(self, place: TilePlace) -> FeatureTile:
        """A tile from the disk, or computed and written; on a full disk it stays in memory.

        Raises:
            DataError: a file of the scene is damaged or gone.
        """
        if not self.what.meets(place.window):
            return FeatureTile(self.what.empty(place), self.widths)
        with self.asking():
            stored = self._read(place)
            if stored is not None:
                return stored
            tile = FeatureTile(self.what.described(place), self.widths)
            if place.each not in self.plan.kept or not self._save(place, tile):
                self._remember(place, tile)
            return tile

    def _save(self, place: TilePlace, tile: FeatureTile) -> bool:
        """Write a tile; whether that was possible, which filling the store reports."""
        try:
            save_array(self.folder / place.name, tile.planes)
        except OutputError:
            return False
        return True

    @contextmanager
    def asking(self) -> Iterator[None]:
        """What is done inside comes before the work in the background."""
        with self._turn:
            self._asking += 1
        try:
            yield
        finally:
            with self._turn:
                self._asking -= 1
                self._turn.notify_all()

    def close(self) -> None:
        """Let the work in the background end."""
        with self._turn:
            self._closed = True
            self._turn.notify_all()

    def fill(self) -> Iterator[tuple[int, int]]:
        """Compute what is missing; yield how many blocks of all are done, until it is closed.

        Coarse levels come first, then a network's stages, then the fine levels.
        """
        coarse, fine = (
            [*self._missing(tuple(each for each in self.plan.kept if (each in FINE) == is_fine))]
            for is_fine in (False, True)
        )
        stages = [] if self.deep is None else self.deep.missing()
        started = dict[TilePlace, Halves]()
        work: list[Callable[[], bool]] = [
            *(partial(self._fill_block, coarse[k:], started) for k in range(len(coarse))),
            *(partial(self._fill_stages, block) for block in stages),
            *(partial(self._fill_block, fine[k:], started) for k in range(len(fine))),
        ]
        for done, step in enumerate(work):
            yield done, len(work)
            if not step():
                return
        yield len(work), len(work)

    def _fill_block(self, blocks: Sequence[_Work], started: dict[TilePlace, Halves]) -> bool:
        """Fill and write the tiles over the first of some blocks; False where it was closed.

        Args:
            blocks: this and those that follow, each with the levels that it is read for.
            started: tiles that have not got all their blocks yet; changed.
        """
        (area, levels), later = blocks[0], blocks[1:]
        places = [one for one in self._over(area, levels) if not self._is_stored(one)]
        for end in FeatureBlock(self.what, area).fill(places, started):
            ended = [one for one in started if one.within(self.scene.grid)[0].stop <= end]
            if end == area.row + area.height:
                ended = [*started]
            for place in ended:
                if not any(place.window.meets(block) for block, _ in later):
                    self._finish(place, started)
            if not self._wait_for_turn():
                return False
        return True

    def _finish(self, place: TilePlace, started: dict[TilePlace, Halves]) -> None:
        """Write a tile that has all its blocks."""
        planes = started.pop(place)
        if not self._is_stored(place):  # or it was asked for in the meantime
            save_array(self.folder / place.name, planes)

    def _fill_stages(self, block: Window) -> bool:
        """Run the network over a block; False where the store was closed."""
        if self.deep is not None:
            self.deep.fill(block)
        return self._wait_for_turn()

    def _missing(self, levels: tuple[int, ...]) -> Iterator[_Work]:
        """Blocks over which tiles of some levels are missing, with these levels.

        Blocks come in the order of a Z, so that few tiles of a level are begun at a time.
        """
        grid = self.scene.grid
        blocks = [*blocks_of(Window(0, 0, grid.height, grid.width), READ_PX)]
        blocks.sort(key=lambda one: _along_z(one.row // READ_PX, one.col // READ_PX))
        for area in filter(self.what.meets, blocks):
            if any(not self._is_stored(one) for one in self._over(area, levels)):
                yield area, levels

    def _over(self, area: Window, levels: tuple[int, ...]) -> Iterator[TilePlace]:
        """The tiles of some levels that have positions in a block."""
        for each in levels:
            span = SIDE * each
            for y in range(area.row // span, -(-(area.row + area.height) // span)):
                for x in range(area.col // span, -(-(area.col + area.width) // span)):
                    place = TilePlace(each, x, y)
                    there = all(part.start < part.stop for part in place.within(self.scene.grid))
                    if there and self.what.meets(place.window):
                        yield place

    def _wait_for_turn(self) -> bool:
        """Wait until no tile is asked for; False where the store was closed."""
        with self._turn:
            self._turn.wait_for(lambda: self._closed or not self._asking)
            return not self._closed

    def _is_stored(self, place: TilePlace) -> bool:
        return (self.folder / place.name).is_file()

    def _read(self, place: TilePlace) -> FeatureTile | None:
        """A tile from memory or the disk; None where there is none, or a damaged one."""
        with self._lock:
            if place in self._recent:
                self._recent.move_to_end(place)
                return self._recent[place]
        path = self.folder / place.name
        if not path.is_file():
            return None
        try:
            planes = np.load(path, mmap_mode="c", allow_pickle=False)
        except (OSError, ValueError):  # truncated by a power cut: it is written again
            return None
        if planes.shape != self.what.shape(place) or planes.dtype != np.float16:
            return None
        return FeatureTile(planes, self.widths)

    def _remember(self, place: TilePlace, tile: FeatureTile) -> None:
        with self._lock:
            self._recent[place] = tile
            while len(self._recent) > _RECENT:
                self._recent.popitem(last=False)


def _along_z(row: int, col: int) -> int:
    """Place of a row and column in the order of a Z.

    >>> [_along_z(*at) for at in ((0, 0), (0, 1), (1, 0), (1, 1), (0, 2))]
    [0, 1, 2, 3, 4]
    """
    bits = range(max(row, col).bit_length())
    return sum(((row >> i & 1) << 2 * i + 1) | ((col >> i & 1) << 2 * i) for i in bits)


def _fingerprint(scene: Scene, what: TileFeatures) -> str:
    """Sixteen hexadecimal digits for a scene's files and what the tiles hold."""
    files = [scene.path, *scene.parts]
    if scene.path.is_dir():
        files = sorted(one for one in scene.path.rglob("*") if one.is_file())
    if scene.mask is not None and scene.mask.path is not None:
        files.append(scene.mask.path)
    marks = [[str(one.resolve()), one.stat().st_size, one.stat().st_mtime_ns] for one in files]
    of = [asdict(what.of), what.all_bands, what.area]
    facts = [_FORMAT, marks, of, scene.bands, asdict(scene.sensor)]
    return hashlib.sha256(json.dumps(facts, default=str).encode()).hexdigest()[:16]


def _clear(folder: Path, current: Path) -> None:
    """Take away the stores of other scenes or features, and make the folder.

    Raises:
        OutputError: the folder cannot be written.
    """
    try:
        current.mkdir(parents=True, exist_ok=True)
        for one in folder.iterdir():
            if one != current and one.is_dir() and _OWN_FOLDER.fullmatch(one.name):
                shutil.rmtree(one)
    except OSError as error:
        raise unwritten(folder, error) from error


def _drop(folder: Path, levels: Sequence[int]) -> None:
    """Take away the tiles of levels that are not kept any more.

    Raises:
        OutputError: the folder cannot be written.
    """
    try:
        for each in levels:
            if (folder / str(each)).is_dir():
                shutil.rmtree(folder / str(each))
    except OSError as error:
        raise unwritten(folder, error) from error


def _stored(folder: Path) -> int:
    """Bytes of a store's files."""
    return sum(one.stat().st_size for one in folder.rglob("*.npy"))
