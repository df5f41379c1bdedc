"""A class raster as labels of pixels: some pixels of each class, spread over the scenes."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from geotl.arrays import Bools, Float64s, Int64s
from geotl.console import Progress
from geotl.data.chips import check_scenes
from geotl.data.labels import ClassRaster, Reason, Rejection, classes_on
from geotl.data.pixel_labels import LabelPixel, PixelPlacement, PixelRules, Places, ScenePixel
from geotl.errors import DataError
from geotl.imagery.windows import Imagery, Window
from geotl.io.raster import Grid
from geotl.io.vector import positions
from geotl.language import msg

MAX_CLASSES = 254  # as many as a map can hold
_BLOCK_PX = 512  # side of what is read of a scene together
_OFF_PX = 0.05  # how far the grids of scene and class raster may lie apart


def place_raster_pixels(
    scenes: Sequence[Imagery],
    labels: ClassRaster,
    rules: PixelRules,
    *,
    progress: Progress | None = None,
) -> PixelPlacement:
    """Draw at most `per_class` pixels of each class, each of which is a label of weight 1.

    The scenes are divided into about `per_class` square cells. Each cell gives one pixel of a class
    at random, and a second one, a third one and so on only where fewer cells hold the class than
    pixels are wanted. A pixel of the class raster is taken once, however many scenes show it. A
    class whose pixels are all without data or under cloud is among the rejected.

    Args:
        scenes: read block by block; each on the class raster's grid.
        labels: a class raster that covers at least a part of the scenes.
        rules: number of pixels per class, and conditions for usable pixels.
        progress: called with blocks done and blocks in all.

    Raises:
        DataError: a scene without a reference system or on another grid, two scenes of one name,
            no pixel of a class within the scenes, too many classes, or values that are not whole.
    """
    check_scenes(scenes)
    corners = [corner_on(labels, scene) for scene in scenes]
    cell_px = _cell_px([scene.grid for scene in scenes], rules.per_class)
    parts = [(n, part) for n, scene in enumerate(scenes) for part in _blocks(scene.grid, cell_px)]
    drawn = _Drawn(labels, rules.per_class)
    for done, (number, part) in enumerate(parts, 1):
        random = np.random.default_rng([rules.seed, number, part.row, part.col])
        for one in _of_block(scenes[number], labels, part, rules):
            drawn.count(one)
            chance = random.random(len(one.places))
            rank = _ranks((one.places - (part.row, part.col)) // cell_px, chance)
            drawn.add(one, number, corners[number], np.column_stack([rank, chance]))
        if progress:
            progress(done, len(parts))
    return drawn.placement(scenes)


def corner_on(labels: ClassRaster, scene: Imagery) -> tuple[int, int]:
    """Row and column of a class raster at which a scene's first pixel lies; it may lie beyond.

    Raises:
        DataError: the scene's pixels are not those of the class raster.
    """
    grid = scene.grid
    ends = np.array([(col, row) for row in (0, grid.height) for col in (0, grid.width)], float)
    here = np.array([grid.at(col, row) for col, row in ends.tolist()])
    there = positions(here, str(grid.crs), str(labels.grid.crs))
    a, b, c, d, e, f = labels.grid.transform
    place = (there - (c, f)) @ np.linalg.inv(np.array([[a, b], [d, e]])).T
    corner = np.rint(place[0]) if np.isfinite(place).all() else place[0]
    if not (np.abs(place - ends - corner) <= _OFF_PX).all():
        raise DataError(_other_grid(labels, scene))
    return int(corner[1]), int(corner[0])


def _other_grid(labels: ClassRaster, scene: Imagery) -> str:
    """That a class raster has another grid than a scene, and the command that helps."""
    grid = scene.grid
    crs = str(grid.crs) if len(str(grid.crs)) < 20 else f"(that of {scene.path.name})"
    left, bottom, right, top = (f"{edge:.10g}" for edge in grid.bounds)
    return (
        f"{labels.path}: lies on another grid than {scene.path}, so the classes of its pixels are "
        f"uncertain; bring it to the scene's grid: gdalwarp -r near -t_srs {crs} -te {left} "
        f"{bottom} {right} {top} -ts {grid.width} {grid.height} {labels.path.name} "
        f"{labels.path.stem}_{scene.name}.tif"
    )


def _cell_px(grids: Sequence[Grid], count: int) -> int:
    """Side of the cells: about `count` in all scenes, or more where a block is smaller."""
    area = sum(grid.height * grid.width for grid in grids)
    return max(1, min(_BLOCK_PX, math.isqrt(area // count)))


def _blocks(grid: Grid, cell_px: int) -> Iterator[Window]:
    """Parts of a grid that consist of whole cells, those at its far edges excepted."""
    side = _BLOCK_PX // cell_px * cell_px
    for row in range(0, grid.height, side):
        for col in range(0, grid.width, side):
            yield Window(row, col, min(side, grid.height - row), min(side, grid.width - col))


class _ClassPixels(NamedTuple):
    """The pixels of one class in a block.

    `places` are the rows and columns in the scene of those that are usable [n,2]; `total`,
    `cloudy` and `partial` count all pixels, those under cloud and those without some bands.
    """

    name: str
    places: Places
    total: int
    cloudy: int
    partial: int


def _of_block(
    scene: Imagery, labels: ClassRaster, block: Window, rules: PixelRules
) -> Iterator[_ClassPixels]:
    """The pixels of each class in a block, by the classes' names."""
    values, inside = classes_on(labels, block.on(scene.grid))
    named: dict[str, list[int]] = {}
    for value in np.unique(values[inside]).tolist():
        if (name := labels.name_of(value)) is not None:
            named.setdefault(name, []).append(value)
    if not named:
        return
    cloudy, valid = scene.cloudy(block), scene.read(block)[1]
    good = rules.good(valid) & ~cloudy
    partial = valid.any(axis=0) & ~valid.all(axis=0) & ~cloudy
    for name in sorted(named):
        of_class = inside & np.isin(values, named[name])
        places = np.argwhere(of_class & good) + np.array((block.row, block.col))
        yield _ClassPixels(
            name, places, *(int((of_class & one).sum()) for one in (of_class, cloudy, partial))
        )


def _ranks(cells: Int64s, chance: Float64s) -> Int64s:
    """The place of each pixel among those of its cell [n,2], the one of least chance first.

    >>> cells = np.array([[0, 0], [0, 1], [0, 0]])
    >>> _ranks(cells, np.array([0.9, 0.5, 0.1])).tolist()
    [1, 0, 0]
    """
    order = np.lexsort((chance, cells[:, 1], cells[:, 0]))
    begins = np.ones(len(order), bool)
    begins[1:] = (np.diff(cells[order], axis=0) != 0).any(axis=1)
    numbers = np.arange(len(order))
    first = np.maximum.accumulate(np.where(begins, numbers, 0))
    ranks = np.empty(len(order), np.int64)
    ranks[order] = numbers - first
    return ranks


@dataclass
class _Drawn:
    """At most `most` pixels of each class, drawn as they come block by block.

    Attributes:
        labels: the class raster.
        most: pixels of a class that are kept.
        order: rank in its cell and random number of each pixel [n,2]; the smallest stay.
        pixels: pixels of each class: scene, row, column, row and column in the class raster [n,5].
        total: pixels of each class within the scenes; `cloudy` of these, `partial` likewise.
    """

    labels: ClassRaster
    most: int
    order: dict[str, Float64s] = field(default_factory=dict)
    pixels: dict[str, Int64s] = field(default_factory=dict)
    total: Counter[str] = field(default_factory=Counter)
    cloudy: Counter[str] = field(default_factory=Counter)
    partial: Counter[str] = field(default_factory=Counter)

    def count(self, one: _ClassPixels) -> None:
        """Count a class's pixels of a block.

        Raises:
            DataError: more classes than a map can hold.
        """
        self.total[one.name] += one.total
        self.cloudy[one.name] += one.cloudy
        self.partial[one.name] += one.partial
        if len(self.total) > MAX_CLASSES:
            raise DataError(
                f"{self.labels.path}: more than {MAX_CLASSES} classes; give a raster of classes, "
                "not of measured values, or join and drop classes with labels.names"
            )

    def add(self, one: _ClassPixels, number: int, corner: tuple[int, int], order: Float64s) -> None:
        """Take in a class's usable pixels of a block of a scene, with rank and chance [n,2]."""
        scene = np.full((len(one.places), 1), number)
        new = np.hstack([scene, one.places, one.places + np.array(corner)])
        old = self.pixels.get(one.name, np.zeros((0, 5), np.int64))
        fresh = ~self._known(new, old)
        both = np.concatenate([old, new[fresh]])
        ranked = np.concatenate([self.order.get(one.name, np.zeros((0, 2))), order[fresh]])
        least = np.lexsort((ranked[:, 1], ranked[:, 0]))[: self.most]
        self.pixels[one.name], self.order[one.name] = both[least], ranked[least]

    def _known(self, new: Int64s, old: Int64s) -> Bools:
        """Which pixels of the class raster are already drawn from another scene."""
        width = self.labels.grid.width
        fresh, drawn = (table[:, 3] * width + table[:, 4] for table in (new, old))
        return np.isin(fresh, drawn)

    def placement(self, scenes: Sequence[Imagery]) -> PixelPlacement:
        """The pixels that were drawn, from the first scene on and from top to bottom.

        Raises:
            DataError: no class at all within the scenes.
        """
        if not self.total:
            names = ", ".join(str(scene.path) for scene in scenes)
            raise DataError(
                f"{self.labels.path}: no pixel of a class lies within {names}; give a class raster "
                "of the same place, and see that labels.names does not drop all classes"
            )
        label_pixels = [
            LabelPixel(f"raster:{row},{col}", name, ScenePixel(*place), 1.0)
            for name, table in self.pixels.items()
            for *place, row, col in table.tolist()
        ]
        pixels = tuple(sorted(label_pixels, key=lambda pixel: pixel.place))
        crs = str(self.labels.grid.crs)
        return PixelPlacement(pixels, tuple(self._rejected()), crs, self._notes())

    def _rejected(self) -> Iterator[Rejection]:
        """The classes without a usable pixel, each as one label."""
        for name in sorted(self.total):
            if not len(self.pixels[name]):
                mostly = 2 * self.cloudy[name] >= self.total[name]
                reason: Reason = "cloudy" if mostly else "nodata"
                detail = msg(
                    "none of its {total} pixels within the scenes is usable", total=self.total[name]
                )
                yield Rejection(f"raster:{name}", reason, detail, name)

    def _notes(self) -> tuple[str, ...]:
        """How many pixels of classes lack some bands; no line where none does."""
        count, total = self.partial.total(), self.total.total()
        line = msg(
            "{count} of {total} pixels with a class in {name} lack some bands",
            count=count,
            total=total,
            name=self.labels.path.name,
        )
        return (line,) if count else ()
