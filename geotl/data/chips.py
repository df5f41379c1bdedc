"""Labels become chips: windows of scenes with a class; every label gives some, or is rejected."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import shapely

from geotl.console import Progress
from geotl.data.classrasters import ClassRaster, classes_on
from geotl.data.coverage import on_pixels, window_shares
from geotl.data.labels import Label, Labels, Reason, Rejection
from geotl.data.placement import ChipRules, Refused, most_telling, sight, some_of, windows_of
from geotl.errors import DataError
from geotl.imagery.windows import Imagery, Window
from geotl.io.vector import Geometries, transformed

__all__ = ["Chip", "ChipRules", "Placement", "lattice_blocks", "place_chips"]

_BLOCK_PX = 512  # side of what is looked at together of a lattice
_ROUNDING = 1e-9  # of a share


@dataclass(frozen=True)
class Chip:
    """A window of a scene whose class is known.

    Attributes:
        id: the label's with a number behind it, unlike any other chip's.
        label_id: the label's; chips of one label stay on one side of a split.
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
        chips: in the order of the labels, those of one label from top to bottom.
        rejected: labels without a chip, those that could not be used at all first.
        crs: reference system of the rejected ones' geometries.
        notes: what a reader should be told, one line each.
    """

    chips: tuple[Chip, ...]
    rejected: tuple[Rejection, ...]
    crs: str
    notes: tuple[str, ...] = ()

    def summary(self) -> tuple[str, ...]:
        """Counts of chips and labels by class and by reason, one line each."""
        covered = {chip.label_id for chip in self.chips}
        labels = len(covered) + len(self.rejected)
        share = f"{len(covered)} of {labels}" if self.rejected else f"{labels}"
        lines = [
            f"{len(self.chips)} chips from {share} labels: "
            + (_counted(chip.class_name for chip in self.chips) or "none")
        ]
        reasons = Counter(one.reason for one in self.rejected)
        if reasons:
            lines.append(f"rejected {len(self.rejected)}:")
        for reason, count in reasons.most_common():
            told = _counted(
                one.class_name or "no class" for one in self.rejected if one.reason == reason
            )
            lines.append(f"  {reason} {count}: {told}")
        return tuple(lines)


def place_chips(
    scenes: Sequence[Imagery],
    labels: Labels | ClassRaster,
    rules: ChipRules,
    *,
    tell: Progress | None = None,
) -> Placement:
    """Find the windows of scenes that show what labels name.

    A point's window is centred on its pixel (see `placing.window_about`). A polygon gives as many
    windows as fit, each with at least `purity` of its area inside, by exact area. A class raster
    gives the squares of a lattice in which one class has at least that share of all pixels. A
    label is taken from the first scene in which it can be used. A window that two labels of one
    class share goes to the first of them; of two classes, neither gets it.

    Args:
        scenes: read window by window, labels from top to bottom.
        labels: points and polygons, or a class raster.
        rules: what a chip must be.
        tell: told of (labels looked at, all of them), scene by scene.

    Raises:
        DataError: a scene without a reference system, two of one name, or labels and scenes that
            do not meet at all.
    """
    _check_scenes(scenes)
    if isinstance(labels, ClassRaster):
        return _from_raster(scenes, labels, rules, tell)
    found: dict[int, list[tuple[str, Window]]] = {}
    faults: dict[int, list[Refused]] = defaultdict(list)
    missed = []
    for scene in scenes:
        shapes = _shapes_on(scene, labels)
        missed.append(not _meets(scene, shapes))
        left = [i for i in range(len(shapes)) if i not in found]
        left.sort(key=lambda i: _first_pixel(shapes[i]))
        for done, i in enumerate(left, 1):
            shape = shapes[i]
            got = _lost(scene) if shape is None else windows_of(shape, scene, rules)
            if isinstance(got[0], Window):
                found[i] = [(scene.name, window) for window in got if isinstance(window, Window)]
            else:
                faults[i].append(got)
            if tell:
                tell(done, len(left))
    if all(missed):
        raise DataError(_apart(scenes, labels))
    rejected = {i: most_telling(faults[i]) for i in range(len(labels.labels)) if i not in found}
    rejected |= _settle(labels.labels, found)
    return Placement(
        tuple(_chips(labels.labels, found, rules)),
        (*labels.rejected, *_rejections(labels.labels, rejected)),
        labels.crs,
        labels.notes,
    )


def _check_scenes(scenes: Sequence[Imagery]) -> None:
    for name, count in Counter(scene.name for scene in scenes).items():
        if count > 1:
            raise DataError(f"{name}: {count} scenes are called so; rename one of them")
    for scene in scenes:
        if scene.grid.crs is None:
            raise DataError(
                f"{scene.path}: has no reference system, so no label can be placed in it; give it "
                "one (gdal_edit -a_srs EPSG:...)"
            )


def _shapes_on(scene: Imagery, labels: Labels) -> list[shapely.Geometry | None]:
    """The labels in columns and rows of a scene, None where its system cannot express them."""
    shapes = np.empty(len(labels.labels), dtype=object)
    shapes[:] = [label.geometry for label in labels.labels]
    there: Geometries = transformed(shapes, labels.crs, str(scene.grid.crs))
    return [None if shape is None else on_pixels(shape, scene.grid) for shape in there]


def _first_pixel(shape: shapely.Geometry | None) -> tuple[float, float]:
    return (0.0, 0.0) if shape is None else (np.floor(shape.bounds[1]), shape.bounds[0])


def _meets(scene: Imagery, shapes: Sequence[shapely.Geometry | None]) -> bool:
    """Whether the extent of the labels, in pixels, meets the scene's."""
    left, top, right, bottom = shapely.total_bounds([s for s in shapes if s is not None])
    return bool(
        left <= scene.grid.width and right >= 0 and top <= scene.grid.height and bottom >= 0
    )


def _lost(scene: Imagery) -> Refused:
    return "outside", f"beyond what {scene.grid.crs}, the system of {scene.name}, can express"


def _apart(scenes: Sequence[Imagery], labels: Labels) -> str:
    extent = shapely.total_bounds([label.geometry for label in labels.labels])
    where = "; ".join(
        f"{scene.name} from {_corners(scene.grid.bounds)} in {scene.grid.crs}" for scene in scenes
    )
    return (
        f"{labels.path}: no label is near the imagery: labels from {_corners(extent)} in "
        f"{labels.crs}; {where}; if the labels' reference system is told wrongly, or x and y have "
        "changed places, correct that (labels.crs in a recipe, or --crs)"
    )


def _corners(bounds: Sequence[float]) -> str:
    x0, y0, x1, y1 = (f"{value:.8g}" for value in bounds)
    return f"({x0}, {y0}) to ({x1}, {y1})"


def _settle(
    labels: Sequence[Label], found: dict[int, list[tuple[str, Window]]]
) -> dict[int, Refused]:
    """Take shared windows out of `found`; labels that are left without, and why.

    Labels of one class: the first keeps the window. Labels of several: none does.
    """
    holders: dict[tuple[str, Window], list[int]] = defaultdict(list)
    for i in sorted(found):
        for place in found[i]:
            holders[place].append(i)
    lost: dict[int, list[Refused]] = defaultdict(list)
    for place, sharing in holders.items():
        several = len({labels[i].class_name for i in sharing}) > 1
        reason: Reason = "conflict" if several else "duplicate"
        for i in sharing if several else sharing[1:]:
            found[i].remove(place)
            others = ", ".join(labels[j].id for j in sharing if j != i)
            lost[i].append((reason, f"its window is also that of {others}"))
    # "conflict" comes before "duplicate" where a polygon lost windows for both reasons.
    rejected = {i: min(faults) for i, faults in lost.items() if not found[i]}
    for i in rejected:
        del found[i]
    return rejected


def _chips(
    labels: Sequence[Label], found: dict[int, list[tuple[str, Window]]], rules: ChipRules
) -> Iterator[Chip]:
    """The chips; few of a polygon are drawn after the settling, when no two share a window."""
    for i in sorted(found):
        label, places = labels[i], found[i]
        if not label.geometry.geom_type.endswith("Point"):
            places = some_of(places, label.id, rules)
        for number, (scene, window) in enumerate(places, 1):
            yield Chip(f"{label.id}.{number}", label.id, label.class_name, scene, window)


def _rejections(labels: Sequence[Label], rejected: dict[int, Refused]) -> Iterator[Rejection]:
    for i in sorted(rejected):
        label = labels[i]
        yield Rejection(label.id, *rejected[i], label.class_name, label.geometry)


def _from_raster(
    scenes: Sequence[Imagery], labels: ClassRaster, rules: ChipRules, tell: Progress | None
) -> Placement:
    chips: list[Chip] = []
    rejected: list[Rejection] = []
    for scene in scenes:
        blocks = list(lattice_blocks(scene, rules))
        for done, block in enumerate(blocks, 1):
            squares = list(_of_block(scene, labels, block, rules))
            chips += [one for one in squares if isinstance(one, Chip)]
            rejected += [one for one in squares if isinstance(one, Rejection)]
            if tell:
                tell(done, len(blocks))
    if not chips and not rejected:
        raise DataError(
            f"{labels.path}: no pixel of a class within the imagery: classes from "
            f"{_corners(labels.grid.bounds)} in {labels.grid.crs}; "
            + "; ".join(f"{s.name} from {_corners(s.grid.bounds)} in {s.grid.crs}" for s in scenes)
        )
    return Placement(tuple(chips), tuple(rejected), str(scenes[0].grid.crs))


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
    scene: Imagery, labels: ClassRaster, block: Window, rules: ChipRules
) -> Iterator[Chip | Rejection]:
    """Chips and rejected squares of one block; squares without any class are no labels."""
    size, step = rules.chip_px, rules.step_px or rules.chip_px
    values, inside = classes_on(labels, block.on(scene.grid))
    named = {int(v): labels.name_of(int(v)) for v in np.unique(values[inside])}
    names = sorted({name for name in named.values() if name is not None})
    if not names:
        return
    shares = np.stack(
        [
            window_shares(
                inside & np.isin(values, [v for v, own in named.items() if own == name]), size
            )[::step, ::step]
            for name in names
        ]
    )
    best, share = shares.argmax(axis=0), shares.max(axis=0)
    seen = sight(scene, block, rules)
    good, veiled = seen.good[::step, ::step], seen.veiled[::step, ::step]
    for row, col in np.argwhere(share > 0).tolist():
        window = Window(block.row + row * step, block.col + col * step, size, size)
        label_id = f"{scene.name}:{window.row},{window.col}"
        name = names[best[row, col]]
        reason: Reason
        if share[row, col] < rules.purity - _ROUNDING:
            reason, told = "impure", f"{share[row, col]:.0%} of it is {name}"
        elif not good[row, col]:
            reason = "cloudy" if veiled[row, col] else "nodata"
            told = f"{seen.valid[row * step, col * step]:.0%} of it is valid"
        else:
            yield Chip(f"{label_id}.1", label_id, name, scene.name, window)
            continue
        place = shapely.box(*window.on(scene.grid).bounds)
        yield Rejection(label_id, reason, told, name, place)


def _counted(names: Iterator[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(Counter(names).items()))
