"""Chips at labels, and windows outside all labelled areas."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import shapely

from geotl.arrays import Bools, Float64s
from geotl.console import Progress
from geotl.data.coverage import window_shares
from geotl.data.labels import ClassRaster, Label, Labels, Reason, Rejection, classes_on
from geotl.data.lost_classes import lost_classes, size_of_label, size_of_square
from geotl.data.placement import (
    ChipRules,
    RejectionReason,
    most_informative,
    on_pixels,
    sight,
    some_of,
    window_about,
    windows_of,
    without_shared,
)
from geotl.data.read_tile import in_order
from geotl.errors import DataError
from geotl.imagery.windows import Imagery, Window
from geotl.io.raster import Grid
from geotl.io.vector import Geometries, transformed
from geotl.language import msg

__all__ = ["Chip", "ChipRules", "Placement", "lattice_blocks", "place_chips"]

_BLOCK_PX = 512  # side of the blocks of a lattice
_ROUNDING = 1e-9  # of a share
Shapes = list[tuple[shapely.Geometry, str]]  # each with its reference system
_SLACK = 1e-3  # of a pixel: windows that only touch do not overlap
Place = tuple[int, Window]  # number of the scene, and the window
_AT_ONCE = 256  # places drawn together
_TRIES = 40  # places tried for each window wanted, before the area counts as full


@dataclass(frozen=True)
class Chip:
    """A window of a scene whose class is known.

    Attributes:
        id: the label's id with a number behind it; unique.
        label_id: the label's id; chips of one label stay on one side of a split.
        class_name: its class.
        scene: `Imagery.name` of the scene.
        window: the pixels.
    """

    id: str
    label_id: str
    class_name: str
    scene: str
    window: Window


@dataclass(frozen=True)
class Placement:
    """Every label, by its chips or among the rejected, and never both.

    Attributes:
        chips: chips in the order of the labels, those of one label from top to bottom.
        rejected: labels without a chip, those that could not be used at all first.
        crs: reference system of the rejected ones' geometries.
        notes: warnings and remarks on the labels, one line each.
        lost: a warning for each class that has no chip, with what would keep it.
    """

    chips: tuple[Chip, ...]
    rejected: tuple[Rejection, ...]
    crs: str
    notes: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()

    def summary(self) -> tuple[str, ...]:
        """Counts of chips and labels by class and by reason, one line each."""
        covered = {chip.label_id for chip in self.chips}
        labels = len(covered) + len(self.rejected)
        share = f"{len(covered)} of {labels}" if self.rejected else f"{labels}"
        classes = counted_words(chip.class_name for chip in self.chips) or "none"
        line = f"{len(self.chips)} chips from {share} labels: {classes}"
        return (line, *rejected_lines(self.rejected))


def place_chips(
    scenes: Sequence[Imagery],
    labels: Labels | ClassRaster,
    rules: ChipRules,
    *,
    progress: Progress | None = None,
) -> Placement:
    """Find the windows of scenes that show what labels name.

    A point's window is centred on its pixel (see `placement.window_about`). A polygon gives as many
    windows as fit, each with at least `purity` of its area inside, by exact area. A class raster
    gives the squares of a lattice in which one class has at least that share of all pixels. A
    label is taken from the first scene in which it can be used. A window that two labels of one
    class share goes to the first of them; of two classes, neither gets it.

    Args:
        scenes: read window by window, labels from top to bottom.
        labels: points and polygons, or a class raster.
        rules: conditions for a chip.
        progress: called with labels done and labels in all, scene by scene.

    Raises:
        DataError: a scene without a reference system, two of one name, or labels and scenes that
            do not meet at all.
    """
    check_scenes(scenes)
    if isinstance(labels, ClassRaster):
        return _from_raster(scenes, labels, rules, progress)
    placed: dict[int, list[tuple[str, Window]]] = {}
    faults: dict[int, list[RejectionReason]] = defaultdict(list)
    missed = []
    for scene in scenes:
        shapes = shapes_on(scene, labels)
        missed.append(not meets_scene(scene, shapes))
        left = [i for i in range(len(shapes)) if i not in placed]
        left.sort(key=lambda i: _first_pixel(shapes[i]))
        for done, i in enumerate(left, 1):
            shape = shapes[i]
            got = _lost(scene) if shape is None else windows_of(shape, scene, rules)
            if isinstance(got[0], Window):
                placed[i] = [(scene.name, window) for window in got if isinstance(window, Window)]
            else:
                faults[i].append(got)
            if progress:
                progress(done, len(left))
    if all(missed):
        raise DataError(apart_words(scenes, labels))
    rejected = {
        i: most_informative(faults[i]) for i in range(len(labels.labels)) if i not in placed
    }
    rejected |= without_shared(labels.labels, placed, "window")
    chips = tuple(_chips(labels.labels, placed, rules))
    every = (*labels.rejected, *_rejections(labels.labels, rejected))
    size_of = size_of_label(scenes, labels.labels, labels.crs, rules)
    lost = lost_classes(frozenset(chip.class_name for chip in chips), every, rules, size_of)
    return Placement(chips, every, labels.crs, labels.notes, lost)


def check_scenes(scenes: Sequence[Imagery]) -> None:
    """Make sure that scenes differ in name and have a reference system."""
    for name, count in Counter(scene.name for scene in scenes).items():
        if count > 1:
            raise DataError(f"{name}: {count} scenes are called so; rename one of them")
    for scene in scenes:
        if scene.grid.crs is None:
            raise DataError(
                f"{scene.path}: has no reference system, so no label can be placed in it; give it "
                "one (gdal_edit -a_srs EPSG:...)"
            )


def shapes_on(scene: Imagery, labels: Labels) -> list[shapely.Geometry | None]:
    """The labels in columns and rows of a scene, None where its system cannot express them."""
    shapes = np.empty(len(labels.labels), dtype=object)
    shapes[:] = [label.geometry for label in labels.labels]
    there: Geometries = transformed(shapes, labels.crs, str(scene.grid.crs))
    return [None if shape is None else on_pixels(shape, scene.grid) for shape in there]


def _first_pixel(shape: shapely.Geometry | None) -> tuple[float, float]:
    return (0.0, 0.0) if shape is None else (np.floor(shape.bounds[1]), shape.bounds[0])


def meets_scene(scene: Imagery, shapes: Sequence[shapely.Geometry | None]) -> bool:
    """Whether the extent of the labels, in pixels, meets the scene's."""
    left, top, right, bottom = shapely.total_bounds([s for s in shapes if s is not None])
    return bool(
        left <= scene.grid.width and right >= 0 and top <= scene.grid.height and bottom >= 0
    )


def _lost(scene: Imagery) -> RejectionReason:
    return "outside", msg(
        "beyond what {crs}, the system of {name}, can express", crs=scene.grid.crs, name=scene.name
    )


def apart_words(scenes: Sequence[Imagery], labels: Labels) -> str:
    """That no label is near any scene, with where both lie."""
    extent = shapely.total_bounds([label.geometry for label in labels.labels])
    where = "; ".join(
        f"{scene.name} from {_corners(scene.grid.bounds)} in {scene.grid.crs}" for scene in scenes
    )
    return (
        f"{labels.path}: no label is near the imagery: labels from {_corners(extent)} in "
        f"{labels.crs}; {where}; if the labels' reference system is wrong, or x and y have "
        "changed places, correct that (labels.crs in a recipe, or --crs)"
    )


def _corners(bounds: Sequence[float]) -> str:
    x0, y0, x1, y1 = (f"{value:.8g}" for value in bounds)
    return f"({x0}, {y0}) to ({x1}, {y1})"


def _chips(
    labels: Sequence[Label], windows_of: dict[int, list[tuple[str, Window]]], rules: ChipRules
) -> Iterator[Chip]:
    """The chips; few of a polygon are drawn after the settling, when no two share a window."""
    for i in sorted(windows_of):
        label, places = labels[i], windows_of[i]
        if not label.geometry.geom_type.endswith("Point"):
            places = some_of(places, label.id, rules)
        for number, (scene, window) in enumerate(places, 1):
            yield Chip(f"{label.id}.{number}", label.id, label.class_name, scene, window)


def _rejections(
    labels: Sequence[Label], rejected: dict[int, RejectionReason]
) -> Iterator[Rejection]:
    for i in sorted(rejected):
        label = labels[i]
        yield Rejection(label.id, *rejected[i], label.class_name, label.geometry)


def _from_raster(
    scenes: Sequence[Imagery], labels: ClassRaster, rules: ChipRules, progress: Progress | None
) -> Placement:
    chips: list[Chip] = []
    rejected: list[Rejection] = []
    largest: dict[str, tuple[float, Rejection]] = {}
    for scene in scenes:
        blocks = list(lattice_blocks(scene, rules))
        for done, block in enumerate(blocks, 1):
            squares = list(_of_block(scene, labels, block, rules, largest))
            chips += [one for one in squares if isinstance(one, Chip)]
            rejected += [one for one in squares if isinstance(one, Rejection)]
            if progress:
                progress(done, len(blocks))
    if not chips and not rejected:
        raise DataError(
            f"{labels.path}: no pixel of a class within the imagery: classes from "
            f"{_corners(labels.grid.bounds)} in {labels.grid.crs}; "
            + "; ".join(f"{s.name} from {_corners(s.grid.bounds)} in {s.grid.crs}" for s in scenes)
        )
    kept = frozenset(chip.class_name for chip in chips)
    named = {one.class_name for one in rejected}  # a class that leads in no square has none
    unled = [one for name, (_, one) in sorted(largest.items()) if name not in named]
    size_of = size_of_square(scenes, labels, rules)
    lost = lost_classes(kept, [*rejected, *unled], rules, size_of)
    return Placement(tuple(chips), tuple(rejected), str(scenes[0].grid.crs), lost=lost)


def lattice_blocks(scene: Imagery, rules: ChipRules) -> Iterator[Window]:
    """Parts of a scene that hold whole squares of a lattice of chips, from its first pixel on."""
    size, step = rules.chip_px, rules.step_px or rules.chip_px
    squares = max(1, (_BLOCK_PX - size) // step + 1)
    for row in range(0, scene.grid.height - size + 1, squares * step):
        for col in range(0, scene.grid.width - size + 1, squares * step):
            reach = (squares - 1) * step + size
            yield Window(
                row, col, min(reach, scene.grid.height - row), min(reach, scene.grid.width - col)
            )


def _of_block(
    scene: Imagery,
    labels: ClassRaster,
    block: Window,
    rules: ChipRules,
    largest: dict[str, tuple[float, Rejection]],
) -> Iterator[Chip | Rejection]:
    """Chips and rejected squares of one block; squares without any class are no labels.

    `largest` takes, of each class, the square in which its share is largest, and that share.
    """
    size, step = rules.chip_px, rules.step_px or rules.chip_px
    values, inside = classes_on(labels, block.on(scene.grid))
    named = {int(v): labels.name_of(int(v)) for v in np.unique(values[inside])}
    names = sorted({name for name in named.values() if name is not None})
    if not names:
        return
    shares = np.stack(
        [
            window_shares(
                inside
                & np.isin(values, [v for v, class_name in named.items() if class_name == name]),
                size,
            )[::step, ::step]
            for name in names
        ]
    )
    for name, held in zip(names, shares, strict=True):
        row, col = divmod(int(held.argmax()), held.shape[1])
        if held.max() > largest.get(name, (0.0,))[0]:
            at = f"{scene.name}:{block.row + row * step},{block.col + col * step}"
            purity = msg("{share:.0%} of it is {name}", share=held.max(), name=name)
            largest[name] = float(held.max()), Rejection(at, "impure", purity, name)
    best, share = shares.argmax(axis=0), shares.max(axis=0)
    seen = sight(scene, block, rules)
    good, veiled = seen.good[::step, ::step], seen.veiled[::step, ::step]
    for row, col in np.argwhere(share > 0).tolist():
        window = Window(block.row + row * step, block.col + col * step, size, size)
        label_id = f"{scene.name}:{window.row},{window.col}"
        name = names[best[row, col]]
        reason: Reason
        if share[row, col] < rules.purity - _ROUNDING:
            reason, detail = (
                "impure",
                msg("{share:.0%} of it is {name}", share=share[row, col], name=name),
            )
        elif not good[row, col]:
            reason = "cloudy" if veiled[row, col] else "nodata"
            detail = msg("{share:.0%} of it is valid", share=seen.valid[row * step, col * step])
        else:
            yield Chip(f"{label_id}.1", label_id, name, scene.name, window)
            continue
        place = shapely.box(*window.on(scene.grid).bounds)
        yield Rejection(label_id, reason, detail, name, place)


def counted_words(names: Iterator[str]) -> str:
    """Count of each name."""
    return ", ".join(f"{name} {count}" for name, count in sorted(Counter(names).items()))


def rejected_lines(rejected: Sequence[Rejection]) -> list[str]:
    """Lines with the numbers of rejected labels, by reason and class; none without any.

    >>> rejected_lines([Rejection("1", "nodata", "", "water"), Rejection("2", "nodata", "")])
    ['rejected 2:', '  nodata 2: no class 1, water 1']
    >>> rejected_lines([])
    []
    """
    reasons = Counter(one.reason for one in rejected)
    lines = [f"rejected {len(rejected)}:"] if rejected else []
    for reason, count in reasons.most_common():
        names = (one.class_name or "no class" for one in rejected if one.reason == reason)
        lines.append(f"  {reason} {count}: {counted_words(names)}")
    return lines


class Occupied:
    """Shapes on a scene's grid, to find the windows that overlap them."""

    def __init__(self, grid: Grid, shapes: Sequence[tuple[shapely.Geometry, str]]) -> None:
        """Lay shapes, each with its reference system, on a grid.

        Raises:
            DataError: the grid has no reference system, or positions cannot be transformed.
        """
        if grid.crs is None:
            raise DataError("a scene without a reference system cannot be compared with labels")
        laid: list[shapely.Geometry] = []
        for system in dict.fromkeys(crs for _, crs in shapes):
            in_system = [shape for shape, crs in shapes if crs == system]
            there = transformed(_array(in_system), system, grid.crs)
            laid += [on_pixels(shape, grid) for shape in there if shape is not None]
        self._tree = shapely.STRtree(laid)

    def meets(self, windows: Sequence[Window]) -> Bools:
        """Which windows overlap a shape, [n].

        >>> grid = Grid("EPSG:32633", (10.0, 0.0, 0.0, 0.0, -10.0, 0.0), 64, 64)
        >>> taken = Occupied(grid, [(shapely.box(80, -160, 160, -80), "EPSG:32633")])
        >>> taken.meets([Window(0, 0, 8, 8), Window(1, 1, 8, 8), Window(9, 9, 8, 8)]).tolist()
        [False, True, True]
        """
        met = np.zeros(len(windows), dtype=bool)
        if len(windows):
            one = np.array([(w.col, w.row, w.col + w.width, w.row + w.height) for w in windows])
            inner = one + np.array([_SLACK, _SLACK, -_SLACK, -_SLACK])
            met[self._tree.query(shapely.box(*inner.T), predicate="intersects")[0]] = True
        return met


def ground_of(grid: Grid, windows: Sequence[Window]) -> Shapes:
    """Windows of a grid as shapes with their reference system."""
    return [(shapely.box(*window.on(grid).bounds), str(grid.crs)) for window in windows]


def footprint_shapes(footprints: Float64s, crs: Sequence[str | None]) -> Shapes:
    """Footprints [N,4] (left, bottom, right, top) of known position; a point where of no size.

    >>> boxes = np.array([[0.0, 0, 10, 10], [5, 5, 5, 5], [np.nan] * 4])
    >>> [shape.geom_type for shape, _ in footprint_shapes(boxes, ["EPSG:32633"] * 3)]
    ['Polygon', 'Point']
    """
    return [
        (shapely.box(*box) if box[2] > box[0] else shapely.Point(box[:2]), system)
        for box, system in zip(footprints, crs, strict=True)
        if system is not None and np.isfinite(box).all()
    ]


def label_shapes(labels: Labels, scenes: Sequence[Imagery], size_px: int) -> Shapes:
    """Areas of labels: polygons as they are, and the chip about each point in each scene."""
    points = [label for label in labels.labels if label.geometry.geom_type.endswith("Point")]
    areas = [label for label in labels.labels if not label.geometry.geom_type.endswith("Point")]
    shapes = [(label.geometry, labels.crs) for label in areas]
    parts = shapely.get_parts(_array([label.geometry for label in points]))
    for scene in scenes:
        there = transformed(parts, labels.crs, str(scene.grid.crs))
        laid = [on_pixels(point, scene.grid) for point in there if point is not None]
        shapes += ground_of(scene.grid, [window_about(p.x, p.y, size_px) for p in laid])
    return shapes


def _array(shapes: Sequence[shapely.Geometry]) -> Geometries:
    array = np.empty(len(shapes), dtype=object)
    array[:] = shapes
    return array


def draw_windows(
    scenes: Sequence[Imagery], chips: Sequence[Chip], rules: ChipRules, count: int
) -> list[Chip]:
    """Windows at random places of scenes, none overlapping a labelled chip.

    Every place where a chip fits is as likely as any other, over all scenes together. The windows
    may overlap each other, but none is drawn twice. Same seed and chips: same windows.

    Args:
        scenes: the scenes to draw windows from.
        chips: labelled chips of any scene; their areas are avoided in all scenes.
        rules: side of a window, how much of it must be seen, and the seed.
        count: number of windows wanted; fewer where there is no room for more.

    Returns:
        Windows as chips without a class.

    Raises:
        DataError: no window can be drawn.
    """
    named = {scene.name: scene for scene in scenes}
    ground: Shapes = []
    for name, scene in named.items():
        ground += ground_of(scene.grid, [chip.window for chip in chips if chip.scene == name])
    occupied = [Occupied(scene.grid, ground) for scene in scenes]
    drawn: dict[Place, None] = {}
    for places in _draws(scenes, rules, count):
        fresh = [place for place in _free(places, occupied) if place not in drawn]
        seen = in_order(partial(_seen, scenes, rules), fresh)
        for place, good in zip(fresh, seen, strict=True):
            if good and len(drawn) < count:
                drawn[place] = None
        if len(drawn) >= count:
            break
    if not drawn:
        raise DataError(
            "labels.unlabelled_windows: no window of the scenes is clear of labelled chips, "
            "clouds and nodata; set it to 0, or give another scene"
        )
    return [
        Chip(f"unlabelled.{number}", f"unlabelled.{number}", "", scenes[of].name, window)
        for number, (of, window) in enumerate(drawn, 1)
    ]


def _draws(scenes: Sequence[Imagery], rules: ChipRules, count: int) -> Iterator[list[Place]]:
    """Places drawn at random, some hundred at a time, each once in a time."""
    size = rules.chip_px
    across = [max(0, scene.grid.width - size + 1) for scene in scenes]
    rooms = [max(0, s.grid.height - size + 1) * w for s, w in zip(scenes, across, strict=True)]
    ends, random = np.cumsum(rooms), np.random.default_rng([rules.seed, 2])
    if not ends[-1]:
        return
    for _ in range(-(-_TRIES * count // _AT_ONCE)):
        numbers = random.integers(0, ends[-1], _AT_ONCE)
        owner = np.searchsorted(ends, numbers, side="right")
        places: dict[Place, None] = {}
        for of, number in zip(owner.tolist(), numbers.tolist(), strict=True):
            row, col = divmod(number - int(ends[of]) + rooms[of], across[of])
            places[of, Window(row, col, size, size)] = None
        yield list(places)


def _free(places: Sequence[Place], occupied: Sequence[Occupied]) -> list[Place]:
    """The places that overlap no labelled area, in their order."""
    taken: set[Place] = set()
    for of, ground in enumerate(occupied):
        places_here = [place for place in places if place[0] == of]
        met = ground.meets([window for _, window in places_here])
        taken |= {place for place, there in zip(places_here, met, strict=True) if there}
    return [place for place in places if place not in taken]


def _seen(scenes: Sequence[Imagery], rules: ChipRules, place: Place) -> bool:
    of, window = place
    return bool(sight(scenes[of], window, rules).good.all())
