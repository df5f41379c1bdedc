"""`geotl suggest`: where to label next, as points to fill in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from pathlib import Path

import numpy as np
import shapely

from geotl.arrays import Int64s
from geotl.console import Progress
from geotl.data.chips import ChipRules, Occupied, Shapes, footprint_shapes, label_shapes
from geotl.data.footprints import Box, in_metres
from geotl.data.labels import Labels
from geotl.errors import BandError, DataError, MissingBandError, OutputError, needed_by_model
from geotl.imagery.scene import MaskChoice, Scene, open_scenes
from geotl.imagery.sensors import Sensor
from geotl.imagery.windows import Imagery, Window
from geotl.inference.applicability import Applicability, area_of_applicability
from geotl.inference.candidates import (
    Candidates,
    Looked,
    candidates,
    choose,
    empty,
    most_uncertain,
    normalised_entropy,
)
from geotl.io.files import check_absent
from geotl.io.vector import transformed, write_features
from geotl.models.model_file import ModelFile

OFF = 0.2  # share by which a scene's pixels may differ from the training tiles'
POOL = 10  # times as many uncertain windows as are wanted, of which the diverse are chosen


def training_ground(model: ModelFile) -> Shapes:
    """Footprints of a model's training tiles with their reference systems, where known."""
    boxes = model.companions.footprints
    return footprint_shapes(boxes, _systems(model))


def unknown_ground(model: ModelFile, known: Shapes) -> list[str]:
    """A line where the place of training tiles is not known."""
    lost = len(model.companions.footprints) - len(known)
    return [
        f"the place of {lost} of {lost + len(known)} training tiles is not known: windows on "
        "their ground may be suggested again (give your labels with --labels)"
    ] * bool(lost)


def resolution_notes(model: ModelFile, scenes: Sequence[Imagery]) -> list[str]:
    """A line for each scene whose pixels are of another size than the training tiles'."""
    trained = training_px_m(model)
    notes = []
    for scene in scenes:
        px_m = _px_m([scene.grid.bounds], [scene.grid.crs], (scene.grid.width, scene.grid.height))
        if abs(px_m / trained - 1) > OFF:  # never so where it is nan
            notes.append(
                f"{scene.name}: pixels of {px_m:.3g} m, but the model was trained at "
                f"{trained:.3g} m: what it says here is little worth; resample the scene first "
                f"(gdalwarp -tr {trained:.3g} {trained:.3g})"
            )
    return notes


def training_px_m(model: ModelFile) -> float:
    """Median side of a training pixel in metres, by the tiles' footprints; nan if unknown."""
    boxes = model.companions.footprints.tolist()
    known = [
        (tuple(box), of)
        for box, of in zip(boxes, _systems(model), strict=True)
        if of is not None and box[2] > box[0]
    ]
    side = model.contract.tile_px
    return _px_m([box for box, _ in known], [of for _, of in known], (side, side))


def _px_m(
    boxes: Sequence[tuple[float, ...]], crs: Sequence[str | None], size: tuple[int, int]
) -> float:
    """Median side of a pixel of footprints so many pixels wide and high, in metres."""
    if not boxes:
        return float("nan")
    laid = in_metres([(b[0], b[1], b[2], b[3]) for b in boxes], crs)
    sides = (laid[:, 2:] - laid[:, :2]) / np.array(size)
    return float(np.median(np.sqrt(sides.prod(axis=1))))


def _systems(model: ModelFile) -> list[str | None]:
    """Reference system of each training tile."""
    crs = model.notes.get("training", {}).get("crs")
    return list(crs) if crs else [None] * len(model.companions.footprints)


@dataclass(frozen=True)
class SuggestOptions:
    """How windows to label next are looked for.

    Attributes:
        step_px: of the lattice of windows; None for the tile's side.
        outside: allow windows outside the area of applicability, after those inside.
        seed: of the order among equals.
    """

    step_px: int | None = None
    outside: bool = False
    seed: int = 0


DEFAULTS = SuggestOptions()


@dataclass(frozen=True)
class WindowCounts:
    """How many windows were looked at, and what became of them.

    Attributes:
        windows: in all.
        taken: on labelled ground.
        unseen: cloudy or without data.
        inside: in the area of applicability, of those neither taken nor unseen.
    """

    windows: int = 0
    taken: int = 0
    unseen: int = 0
    inside: int = 0

    def __add__(self, other: WindowCounts) -> WindowCounts:
        """The windows of both."""
        pairs = zip(astuple(self), astuple(other), strict=True)
        return WindowCounts(*(mine + theirs for mine, theirs in pairs))

    @property
    def free(self) -> int:
        """Windows that could be labelled, inside the area of applicability or not."""
        return self.windows - self.taken - self.unseen


@dataclass(frozen=True)
class Suggestions:
    """Windows to label next, best first.

    Attributes:
        points: the middle of each window's centre pixel, in `crs`.
        crs: the first scene's.
        classes: likeliest class of each.
        confidence: its calibrated probability.
        entropy: normalised, 0 to 1.
        dissimilarity: index of each; the area of applicability ends at `threshold`.
        scenes: the scene's name of each.
        counts: of the windows looked at.
        threshold: of the dissimilarity.
        wanted: how many were asked for.
        outside: whether windows outside the area of applicability were allowed.
        notes: what a reader should be told, one line each.
    """

    points: tuple[shapely.Geometry, ...]
    crs: str
    classes: tuple[str, ...]
    confidence: tuple[float, ...]
    entropy: tuple[float, ...]
    dissimilarity: tuple[float, ...]
    scenes: tuple[str, ...]
    counts: WindowCounts
    threshold: float
    wanted: int
    outside: bool
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        """Number of suggestions."""
        return len(self.points)

    def lines(self) -> list[str]:
        """What was looked at and what is suggested, in printed lines."""
        counts = self.counts
        said = [
            *self.notes,
            f"{counts.windows:,} windows looked at: {counts.taken:,} on labelled ground, "
            f"{counts.unseen:,} cloudy or without data; of the other {counts.free:,}, "
            f"{counts.inside:,} inside the area of applicability (dissimilarity up to "
            f"{self.threshold:.2f})",
        ]
        if len(self) < self.wanted:
            out = "" if self.outside else "; --outside allows others"
            said.append(
                f"fewer than the {self.wanted} wanted: {len(self)} lie there without sharing "
                f"ground{out}"
            )
        return said + self._table()

    def _table(self) -> list[str]:
        width = max([len(name) for name in self.classes], default=0)
        width = max(width, len("suggested class"))
        lines = [f"{'suggested class'.ljust(width)}  points  mean confidence"]
        for name, count in Counter(self.classes).most_common():
            own = [c for c, of in zip(self.confidence, self.classes, strict=True) if of == name]
            lines.append(f"{name.ljust(width)}  {count:6}  {np.mean(own):15.2f}")
        return lines if self.classes else []


def open_for(
    model: ModelFile,
    paths: Sequence[str | Path],
    *,
    sensor: Sensor | None = None,
    mask: MaskChoice = "auto",
) -> list[Scene]:
    """Open scenes with a model's bands.

    Args:
        model: whose bands are read, by name.
        paths: the scenes.
        sensor: the scenes' sensor, if another one than the model's.
        mask: of clouds: see `scene.open_scene`.

    Raises:
        BandError: bands missing; the message tells what the model takes.
        DataError: a scene that cannot be used.
    """
    held = model.contract
    file_bands = held.file_bands if sensor is None else None
    own = sensor or held.sensor
    with needed_by_model("a scene", own.name):
        try:
            return open_scenes(paths, own, held.bands, file_bands=file_bands, mask=mask)
        except MissingBandError:
            raise
        except BandError as error:
            raise BandError(
                f"{error}; the model takes {', '.join(held.bands)} of {held.sensor.title}: give "
                "scenes that hold these, and name their sensor with --sensor if it is another"
            ) from error


def suggest(
    model: ModelFile,
    scenes: Sequence[Imagery],
    n: int,
    options: SuggestOptions = DEFAULTS,
    *,
    labels: Labels | None = None,
    progress: Progress | None = None,
) -> Suggestions:
    """Choose up to n windows of the model's tile size to label next.

    Memory is bounded by a block of a scene and by the pool of the most uncertain windows.

    Args:
        model: that is to get more labels.
        scenes: to look through, with the model's bands.
        n: how many are wanted.
        options: how they are looked for.
        labels: what is labelled already, beside the model's training tiles.
        progress: called with blocks done and blocks in all.

    Raises:
        DataError: numbers that do not fit, scenes without a reference system, too few training
            tiles to measure likeness by, or no window that can be suggested.
    """
    if n < 1:
        raise DataError(f"-n: given {n}; allowed: at least 1")
    held = model.companions
    area = area_of_applicability(held.features, held.folds)
    rules = ChipRules(model.contract.tile_px, step_px=options.step_px)
    ground = training_ground(model)
    known = label_shapes(labels, scenes, rules.chip_px) if labels else []
    occupied = [Occupied(scene.grid, [*ground, *known]) for scene in scenes]
    most = n * POOL * _overlap(rules)
    pool = _Pool(area, len(model.contract.classes), most, outside=options.outside)
    for looked in candidates(model, scenes, occupied, rules, progress=progress):
        pool.add(looked)
    if not len(pool.found):
        raise DataError(_nothing(pool.counts, rules, scenes))
    boxes = in_metres(*_ground(pool.found, scenes, rules))
    index = pool.index
    rows = choose(
        pool.found.features,
        normalised_entropy(pool.found.chances),
        index * area.mean_distance,
        boxes,
        index <= area.threshold,
        n=n,
        seed=options.seed,
    )
    notes = [*unknown_ground(model, ground), *resolution_notes(model, scenes)]
    return _told(model, scenes, pool, rows, wanted=n, notes=notes)


def write_suggestions(path: Path, found: Suggestions, *, overwrite: bool = False) -> None:
    """Write suggestions as points of a GeoPackage, with an empty field `class` to fill in.

    Each point lies in the middle of the centre pixel of its window, so that with labels.chip_px
    the model's tile size the file gives exactly these windows.

    Raises:
        OutputError: the file is there already, or cannot be written.
    """
    check_target(path, overwrite=overwrite)
    count = len(found)
    columns: dict[str, Sequence[object]] = {
        "id": list(range(1, count + 1)),
        "rank": list(range(1, count + 1)),
        "class": [None] * count,
        "suggested": list(found.classes),
        "confidence": list(found.confidence),
        "entropy": list(found.entropy),
        "dissimilarity": list(found.dissimilarity),
        "inside": [value <= found.threshold for value in found.dissimilarity],
        "scene": list(found.scenes),
    }
    write_features(path, found.points, columns, found.crs)


def check_target(path: Path, *, overwrite: bool) -> None:
    """Refuse a file that is there, or a name that is no GeoPackage's, before anything is read.

    Raises:
        OutputError: it may not be written.
    """
    if path.suffix.lower() != ".gpkg":
        raise OutputError(
            f"{path}: points are written as a GeoPackage; give a name ending in .gpkg"
        )
    check_absent(path, overwrite=overwrite)


class _Pool:
    """The most uncertain windows so far, inside the area of applicability and, if allowed, not."""

    def __init__(self, area: Applicability, classes: int, most: int, *, outside: bool) -> None:
        self.area, self.most, self.outside = area, most, outside
        self.found = empty(area.features.shape[1], classes)
        self.index = np.zeros(0)
        self.counts = WindowCounts()

    def add(self, looked: Looked) -> None:
        """Take in a block's, and let go of the less uncertain beyond the pool's size."""
        found = looked.found
        index = self.area.index(found.features)
        inside = index <= self.area.threshold
        self.counts += WindowCounts(looked.windows, looked.taken, looked.unseen, int(inside.sum()))
        if not self.outside:
            found, index = found.rows(inside), index[inside]
        found = Candidates.joined([self.found, found])
        index = np.concatenate([self.index, index])
        inside, sure = index <= self.area.threshold, normalised_entropy(found.chances)
        kept = [
            side[most_uncertain(sure[side], self.most)]
            for side in (np.flatnonzero(inside), np.flatnonzero(~inside))
        ]
        rows = np.concatenate(kept)
        self.found, self.index = found.rows(rows), index[rows]


def _overlap(rules: ChipRules) -> int:
    """How many windows of the lattice lie on the ground of one."""
    return max(1, round(rules.chip_px / (rules.step_px or rules.chip_px))) ** 2


def _ground(
    found: Candidates, scenes: Sequence[Imagery], rules: ChipRules
) -> tuple[list[Box], list[str | None]]:
    """Footprints of windows with their reference systems."""
    size = rules.chip_px
    at = zip(found.scene.tolist(), found.corners.tolist(), strict=True)
    grids = [Window(row, col, size, size).on(scenes[of].grid) for of, (row, col) in at]
    return [grid.bounds for grid in grids], [grid.crs for grid in grids]


def _told(
    model: ModelFile,
    scenes: Sequence[Imagery],
    pool: _Pool,
    rows: Int64s,
    *,
    wanted: int,
    notes: Sequence[str],
) -> Suggestions:
    held = pool.found.rows(rows)
    half, crs = model.contract.tile_px // 2, str(scenes[0].grid.crs)
    points = []
    for of, (row, col) in zip(held.scene.tolist(), held.corners.tolist(), strict=True):
        grid = scenes[of].grid
        there = np.array([shapely.Point(grid.at(col + half + 0.5, row + half + 0.5))])
        points.append(transformed(there, str(grid.crs), crs)[0])
    return Suggestions(
        points=tuple(points),
        crs=crs,
        classes=tuple(model.contract.classes[k] for k in held.chances.argmax(axis=1)),
        confidence=tuple(held.chances.max(axis=1).tolist()),
        entropy=tuple(normalised_entropy(held.chances).tolist()),
        dissimilarity=tuple(pool.index[rows].tolist()),
        scenes=tuple(scenes[of].name for of in held.scene),
        counts=pool.counts,
        threshold=pool.area.threshold,
        wanted=wanted,
        outside=pool.outside,
        notes=tuple(notes),
    )


def _nothing(counts: WindowCounts, rules: ChipRules, scenes: Sequence[Imagery]) -> str:
    """Why there is no suggestion."""
    size, names = rules.chip_px, ", ".join(scene.name for scene in scenes)
    if not counts.windows:
        return f"{names}: smaller than the model's tiles of {size} px; give a larger scene"
    if not counts.free:
        return (
            f"{names}: of {counts.windows} windows {counts.taken} lie on labelled ground "
            f"and {counts.unseen} are cloudy or without data: none is left; give another "
            "scene, or a smaller --step"
        )
    return (
        f"{names}: none of {counts.free} windows lies in the model's area of applicability: the "
        "scene is unlike its training tiles (another season, sensor or resolution?); --outside "
        "suggests windows all the same"
    )
