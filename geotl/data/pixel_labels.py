"""Labels as pixels of scenes: a point gives its pixel, a polygon some, which weigh as one label."""

from __future__ import annotations

import math
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import shapely

from geotl.arrays import Bools, Float64s, Int64s
from geotl.console import Progress
from geotl.data.chips import (
    apart_words,
    check_scenes,
    counted_words,
    meets_scene,
    rejected_lines,
    shapes_on,
)
from geotl.data.coverage import pixel_shares
from geotl.data.labels import Label, Labels, Reason, Rejection
from geotl.data.lost_classes import lost_words
from geotl.data.placement import (
    RejectionReason,
    most_informative,
    window_about,
    without_shared,
)
from geotl.data.tiles import class_name
from geotl.errors import DataError
from geotl.imagery.windows import Imagery, Window
from geotl.io.raster import Grid
from geotl.language import msg

Places = Int64s  # rows and columns of pixels [n,2]
MAX_LATTICE = 4000  # pixels of a lattice over all scenes, unless its step is given
_BLOCK_PX = 512  # side of the blocks in which a polygon is computed
_READ_PX = 256  # side of the squares of a scene whose pixels are read together
_SPARE = 3  # pixels examined for each pixel wanted of a polygon, since some may be unusable
_WHOLE = 1 - 1e-6  # share of a pixel from which it lies inside


@dataclass(frozen=True)
class PixelRules:
    """Rules to draw pixels from labels.

    Attributes:
        per_polygon: most pixels of one polygon.
        per_class: most pixels of one class of a class raster.
        jitter_px: a point gives the pixels within so many rows and columns of its own.
        all_bands: whether a pixel must be valid in every band, else in one.
        seed: seed of the choice among the pixels of a polygon or a class.
    """

    per_polygon: int = 20
    per_class: int = 200
    jitter_px: int = 0
    all_bands: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the numbers of pixels.

        Raises:
            DataError: too small.
        """
        for name, least in (("per_polygon", 1), ("per_class", 1), ("jitter_px", 0)):
            if getattr(self, name) < least:
                raise DataError(f"{name}: given {getattr(self, name)}; allowed: {least} or more")

    def good(self, valid: Bools) -> Bools:
        """Which pixels [...] of those with this validity of bands [C,...] have enough bands."""
        return np.asarray(valid.all(axis=0) if self.all_bands else valid.any(axis=0))


@dataclass(frozen=True, order=True)
class ScenePixel:
    """A pixel of one of several scenes: the scene's number, row and column."""

    scene: int
    row: int
    col: int


@dataclass(frozen=True)
class LabelPixel:
    """A pixel whose class is known.

    Attributes:
        label_id: the label's; pixels of one label stay on one side of a split.
        class_name: its class.
        place: the pixel.
        weight: 1 over the number of the label's pixels.
    """

    label_id: str
    class_name: str
    place: ScenePixel
    weight: float


@dataclass(frozen=True)
class PixelPlacement:
    """Every label, by its pixels or among the rejected, and never both.

    Attributes:
        pixels: in the order of the labels, those of one label from top to bottom.
        rejected: labels without a pixel, those that could not be used at all first.
        crs: reference system of the rejected ones' geometries.
        notes: warnings and remarks on the labels, one line each.
        without_bands: labels that were rejected because they lack a band, by the band's name.
    """

    pixels: tuple[LabelPixel, ...]
    rejected: tuple[Rejection, ...]
    crs: str
    notes: tuple[str, ...] = ()
    without_bands: Mapping[str, int] = field(default_factory=dict)

    @property
    def labels(self) -> dict[str, str]:
        """Class of each label that has pixels, by its id."""
        return {pixel.label_id: pixel.class_name for pixel in self.pixels}

    def summary(self) -> tuple[str, ...]:
        """Counts of pixels and labels by class and by reason, one line each."""
        used = self.labels
        total = len(used) + len(self.rejected)
        share = f"{len(used)} of {total}" if self.rejected else f"{total}"
        classes = counted_words(iter(used.values())) or "none"
        line = f"{len(self.pixels)} pixels from {share} labels: {classes}"
        return (line, *rejected_lines(self.rejected))

    def lost_classes(self) -> tuple[str, ...]:
        """A warning for each class whose labels were all rejected, with the reasons."""
        used = {*self.labels.values()}
        reasons: dict[str, Counter[Reason]] = defaultdict(Counter)
        for one in self.rejected:
            if one.class_name is not None and one.reason != "dropped class":
                reasons[class_name(one.class_name)][one.reason] += 1
        return tuple(
            lost_words(name, counts) for name, counts in sorted(reasons.items()) if name not in used
        )


def place_pixels(
    scenes: Sequence[Imagery],
    labels: Labels,
    rules: PixelRules,
    *,
    progress: Progress | None = None,
) -> PixelPlacement:
    """Find the pixels of scenes that labels name.

    A point gives the pixel that holds it, and with `jitter_px` the square about it. A polygon gives
    at most `per_polygon` pixels, drawn at random among those one pixel in from its edge, else among
    those wholly inside, else the pixel of its representative point. A pixel is usable if at least
    one band is valid, with `all_bands` every band. A label is taken from the first scene in which
    it has a usable pixel. A pixel that two labels of one class share goes to the first of them; of
    two classes, neither gets it.

    Args:
        scenes: read window by window.
        labels: points and polygons.
        rules: number of pixels per label, and conditions for usable pixels.
        progress: called with scenes done and scenes in all.

    Raises:
        DataError: a scene without a reference system, two of one name, or labels and scenes that
            do not meet at all.
    """
    check_scenes(scenes)
    usable: dict[int, UsablePixels] = {}
    met = False
    for number, scene in enumerate(scenes):
        shapes = shapes_on(scene, labels)
        met = met or meets_scene(scene, shapes)
        left = {i: one for i, one in enumerate(shapes) if i not in usable or not usable[i].places}
        for i, (places, faults) in _of_scene(scene, number, left, labels.labels, rules).items():
            usable[i] = UsablePixels(places, (*(usable[i].faults if i in usable else ()), *faults))
        if progress:
            progress(number + 1, len(scenes))
    if not met:
        raise DataError(apart_words(scenes, labels))
    return settle_pixels(labels, [usable[i] for i in range(len(labels.labels))], rules)


class Fault(NamedTuple):
    """Why a scene gives no pixel of a label, and the bands that it lacks there, if that is why."""

    refused: RejectionReason
    bands: tuple[str, ...] = ()


class UsablePixels(NamedTuple):
    """Pixels that a label could give, whatever other labels there are.

    Attributes:
        places: those of the first scene with any, the ones to be taken first in front.
        faults: why scenes before it have none.
    """

    places: tuple[ScenePixel, ...]
    faults: tuple[Fault, ...]


def usable_pixels(scene: Imagery, labels: Labels, rules: PixelRules) -> list[UsablePixels]:
    """The pixels that each label could give in one scene, which depend on no other label.

    `settle_pixels` of all labels of a scene then is what `place_pixels` gives.
    """
    shapes = dict(enumerate(shapes_on(scene, labels)))
    usable = _of_scene(scene, 0, shapes, labels.labels, rules)
    return [usable[i] for i in range(len(labels.labels))]


def settle_pixels(
    labels: Labels, usable: Sequence[UsablePixels], rules: PixelRules
) -> PixelPlacement:
    """Which pixels the labels get, given those that each could have; see `place_pixels`."""
    pixels_of = {i: [*one.places] for i, one in enumerate(usable) if one.places}
    lost = {i: _main_fault(one.faults) for i, one in enumerate(usable) if not one.places}
    refused = {i: fault.refused for i, fault in lost.items()}
    refused |= without_shared(labels.labels, pixels_of, "pixel")
    rejected = (_rejection(labels.labels[i], refused[i]) for i in sorted(refused))
    return PixelPlacement(
        tuple(_pixels(labels.labels, pixels_of, rules)),
        (*labels.rejected, *rejected),
        labels.crs,
        labels.notes,
        Counter(band for fault in lost.values() for band in fault.bands),
    )


def read_squares(places: Places, halo: int, step: int = 1) -> Iterator[tuple[Int64s, Window]]:
    """Windows that hold all pixels, square by square: which of the pixels, and the window.

    A window is no larger than its pixels and `halo` pixels around them need, and begins at
    multiples of `step`.

    >>> places = np.array([[0, 0], [10, 10], [900, 5]])
    >>> [(rows.tolist(), window.height) for rows, window in read_squares(places, 1)]
    [([0, 1], 13), ([2], 3)]
    """
    if not len(places):
        return
    square = np.unique(places // _READ_PX, axis=0, return_inverse=True)[1].reshape(-1)
    order = np.argsort(square, kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(square[order])) + 1):
        low = (places[rows].min(axis=0) - halo) // step * step
        high = places[rows].max(axis=0) + halo + 1
        yield rows, Window(int(low[0]), int(low[1]), *(int(side) for side in high - low))


def lattice_step(grids: Sequence[Grid]) -> int:
    """Side of the cells of lattices over grids that have about `MAX_LATTICE` cells together."""
    pixels = sum(grid.height * grid.width for grid in grids)
    return max(1, math.ceil(math.sqrt(pixels / MAX_LATTICE)))


def pixel_lattice(grid: Grid, step: int, seed: int) -> Places:
    """Row and column of a random pixel in each square cell of a grid [n,2].

    >>> grid = Grid(None, (10.0, 0.0, 0.0, 0.0, -10.0, 0.0), 5, 4)
    >>> (pixel_lattice(grid, 3, 0) // 3).tolist()
    [[0, 0], [0, 1], [1, 0], [1, 1]]
    """
    tops, lefts = np.arange(0, grid.height, step), np.arange(0, grid.width, step)
    corners = np.stack(np.meshgrid(tops, lefts, indexing="ij"), axis=-1).reshape(-1, 2)
    room = np.minimum(step, np.array([grid.height, grid.width]) - corners)
    random = np.random.default_rng(seed).random(corners.shape)
    return np.asarray(corners + (random * room).astype(np.int64))


def _main_fault(faults: Sequence[Fault]) -> Fault:
    """The most informative of the faults in several scenes."""
    refused = most_informative([fault.refused for fault in faults])
    return next(fault for fault in faults if fault.refused == refused)


def _of_scene(
    scene: Imagery,
    number: int,
    shapes: dict[int, shapely.Geometry | None],
    labels: Sequence[Label],
    rules: PixelRules,
) -> dict[int, UsablePixels]:
    """Usable pixels of each label in a scene of this number, by the label's number."""
    wanted = {i: _candidates(shape, scene.grid, labels[i], rules) for i, shape in shapes.items()}
    places = np.concatenate([np.zeros((0, 2), np.int64), *wanted.values()])
    valid, cloudy = validity_at(scene, places)
    good = rules.good(valid) & ~cloudy
    ends = np.cumsum([len(several) for several in wanted.values()])
    usable = {}
    for i, end in zip(wanted, ends, strict=True):
        part = slice(end - len(wanted[i]), end)
        some = tuple(ScenePixel(number, *place) for place in places[part][good[part]].tolist())
        faults = () if some else (_fault(scene, valid[:, part], cloudy[part]),)
        usable[i] = UsablePixels(some, faults)
    return usable


def _fault(scene: Imagery, valid: Bools, cloudy: Bools) -> Fault:
    """Why none of a label's pixels, with valid bands [C,n] and cloud [n], can be used."""
    if not len(cloudy):
        return Fault(("outside", msg("no pixel of it lies in {name}", name=scene.name)))
    if cloudy.any():
        return Fault(("cloudy", msg("its pixel is under cloud")))
    if not valid.any():
        return Fault(("nodata", msg("its pixel has no data in any band")))
    lacking = zip(scene.bands, valid.any(axis=0) & ~valid, strict=True)
    bands = tuple(band for band, absent in lacking if absent.any())
    return Fault(("nodata", msg("its pixel has no data in {names}", names=", ".join(bands))), bands)


def validity_at(scene: Imagery, places: Places) -> tuple[Bools, Bools]:
    """Which bands of each pixel are valid [C,n], and whether it is under cloud [n]."""
    valid, cloudy = np.zeros((len(scene.bands), len(places)), bool), np.zeros(len(places), bool)
    for rows, window in read_squares(places, 0):
        at = tuple((places[rows] - (window.row, window.col)).T)
        cloudy[rows] = scene.cloudy(window)[at]
        valid[:, rows] = scene.read(window)[1][:, *at]
    return valid, cloudy


def _candidates(
    shape: shapely.Geometry | None, grid: Grid, label: Label, rules: PixelRules
) -> Places:
    """Pixels of a label within a grid, those to be taken first in front."""
    if shape is None:
        return np.zeros((0, 2), np.int64)
    if shape.geom_type.endswith("Point"):
        return _around(_inside(_of_points(shape), grid), rules.jitter_px, grid)
    random = np.random.default_rng([rules.seed, zlib.crc32(label.id.encode())])
    return _of_area(shape, grid, _SPARE * rules.per_polygon, random)


def _of_points(points: shapely.Geometry) -> Places:
    """The pixels of points, each once, from top to bottom."""
    windows = (window_about(point.x, point.y, 1) for point in shapely.get_parts(points))
    return np.array(sorted({(w.row, w.col) for w in windows}), np.int64).reshape(-1, 2)


def _around(places: Places, reach_px: int, grid: Grid) -> Places:
    """Pixels of a grid within so many rows and columns of some, each once, from top to bottom."""
    steps = np.arange(-reach_px, reach_px + 1)
    square = np.stack(np.meshgrid(steps, steps, indexing="ij"), axis=-1).reshape(-1, 2)
    return _inside(np.unique((places[:, None] + square).reshape(-1, 2), axis=0), grid)


def _of_area(area: shapely.Geometry, grid: Grid, count: int, random: np.random.Generator) -> Places:
    """At most `count` pixels of a polygon, drawn at random from the best kind that it has."""
    inner, everywhere = RandomPlaces(count, random), RandomPlaces(count, random)
    for block in _blocks(area, grid):
        wide = Window(block.row - 1, block.col - 1, block.height + 2, block.width + 2)
        full = pixel_shares(area, wide) >= _WHOLE
        corner = (block.row, block.col)
        inner.add(np.argwhere(_surrounded(full)) + corner)
        everywhere.add(np.argwhere(full[1:-1, 1:-1]) + corner)
    if len(inner.places) or len(everywhere.places):
        return inner.places if len(inner.places) else everywhere.places
    return _inside(_of_points(shapely.point_on_surface(area)), grid)


def _surrounded(full: Bools) -> Bools:
    """Which pixels [h,w] of [h+2,w+2] are full, and their eight neighbours too."""
    squares = np.lib.stride_tricks.sliding_window_view(full, (3, 3))
    return np.asarray(squares.all(axis=(2, 3)))


def _blocks(area: shapely.Geometry, grid: Grid) -> Iterator[Window]:
    """Parts of a grid that hold a shape's extent."""
    left, top, right, bottom = area.bounds
    rows = max(0, math.floor(top)), min(grid.height, math.ceil(bottom))
    cols = max(0, math.floor(left)), min(grid.width, math.ceil(right))
    for row in range(rows[0], rows[1], _BLOCK_PX):
        for col in range(cols[0], cols[1], _BLOCK_PX):
            yield Window(row, col, min(_BLOCK_PX, rows[1] - row), min(_BLOCK_PX, cols[1] - col))


class RandomPlaces:
    """A random sample of pixels that arrive in parts."""

    def __init__(self, count: int, random: np.random.Generator) -> None:
        """Keep at most `count`."""
        self.count, self.random = count, random
        self.places: Places = np.zeros((0, 2), np.int64)
        self._chance: Float64s = np.zeros(0)

    def add(self, places: Places) -> None:
        """Take in a part's."""
        chance = np.concatenate([self._chance, self.random.random(len(places))])
        smallest = np.argsort(chance, kind="stable")[: self.count]
        self.places = np.concatenate([self.places, places])[smallest]
        self._chance = chance[smallest]


def _inside(places: Places, grid: Grid) -> Places:
    good = (places >= 0).all(axis=1) & (places < (grid.height, grid.width)).all(axis=1)
    return np.asarray(places[good])


def _pixels(
    labels: Sequence[Label], pixels_of: dict[int, list[ScenePixel]], rules: PixelRules
) -> Iterator[LabelPixel]:
    """The pixels that are kept of each label; a polygon's first ones, in the order of the draw."""
    for i in sorted(pixels_of):
        label, places = labels[i], pixels_of[i]
        if not label.geometry.geom_type.endswith("Point"):
            places = places[: rules.per_polygon]
        for place in sorted(places):
            yield LabelPixel(label.id, label.class_name, place, 1 / len(places))


def _rejection(label: Label, refused: RejectionReason) -> Rejection:
    return Rejection(label.id, *refused, label.class_name, label.geometry)
