"""`geotl suggest`: where to label next, as points to fill in."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import shapely

from geotl.arrays import Float64s, Floats, Int64s
from geotl.console import Progress
from geotl.data.chips import ChipRules, Occupied, Shapes, footprint_shapes, label_shapes
from geotl.data.footprints import Box, in_metres
from geotl.data.labels import Labels
from geotl.data.pixel_labels import lattice_step
from geotl.errors import BandError, DataError, MissingBandError, needed_by_model
from geotl.imagery.scene import MaskChoice, Scene, open_scenes
from geotl.imagery.sensors import Sensor
from geotl.imagery.windows import Imagery, Window
from geotl.inference.applicability import Applicability, area_of_applicability
from geotl.inference.candidates import (
    Candidates,
    SearchedBlock,
    candidates,
    choose,
    empty,
    most_uncertain,
    normalised_entropy,
)
from geotl.inference.extras import check_extras, extras_of, with_extras
from geotl.inference.pixel_area import FeatureSpace
from geotl.inference.pixel_candidates import PixelSearch
from geotl.inference.suggestions import Suggestions, WindowCounts, reasons
from geotl.inference.typical_choice import FEW_LABELS, MAX_POOL, choose_typical
from geotl.io.vector import transformed
from geotl.models.model_file import ModelFile
from geotl.models.pixel_file import PixelModelFile

OFF = 0.2  # share by which a scene's pixels may differ from the training tiles'
POOL = 10  # times as many uncertain windows as are wanted, of which the diverse are chosen


Labelled = ModelFile | PixelModelFile  # a model with the positions of its training samples


def training_ground(model: Labelled) -> Shapes:
    """Areas of a model's training tiles or pixels with their reference systems, where known."""
    return [
        shape
        for system, boxes in model.ground.items()
        for shape in footprint_shapes(np.array(boxes), [system] * len(boxes))
    ]


def unknown_ground(model: Labelled, located: Shapes) -> list[str]:
    """A line where the place of training samples is not known."""
    if isinstance(model, PixelModelFile):
        total, what = int(model.notes.get("training", {}).get("pixels", 0)), "pixels"
    else:
        total, what = len(model.training_samples.footprints), "tiles"
    return [
        f"the place of {total - len(located)} of {total} training {what} is not known: their area "
        "may be suggested again (give your labels with --labels)"
    ] * (total > len(located))


def resolution_notes(model: Labelled, scenes: Sequence[Imagery]) -> list[str]:
    """A line for each scene whose pixels are of another size than those of training."""
    trained = training_px_m(model)
    notes = []
    for scene in scenes:
        px_m = _px_m([scene.grid.bounds], [scene.grid.crs], (scene.grid.width, scene.grid.height))
        if abs(px_m / trained - 1) > OFF:  # never so where it is nan
            notes.append(
                f"{scene.name}: pixels of {px_m:.3g} m, but the model was trained at "
                f"{trained:.3g} m: predictions are unreliable; resample the scene first "
                f"(gdalwarp -tr {trained:.3g} {trained:.3g})"
            )
    return notes


def training_px_m(model: Labelled) -> float:
    """Median side of a training pixel in metres, by the tiles' footprints; nan if unknown."""
    if isinstance(model, PixelModelFile):
        return model.resolution_m or float("nan")
    boxes = model.training_samples.footprints.tolist()
    sizes = [
        (tuple(box), of)
        for box, of in zip(boxes, _systems(model), strict=True)
        if of is not None and box[2] > box[0]
    ]
    side = model.contract.tile_px
    return _px_m([box for box, _ in sizes], [of for _, of in sizes], (side, side))


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
    return list(crs) if crs else [None] * len(model.training_samples.footprints)


@dataclass(frozen=True)
class SuggestOptions:
    """Options of the search for windows or pixels to label next.

    Attributes:
        step_px: step of the lattice of windows, None for the tile's side; of the cells that give
            one pixel each, None for about `MAX_LATTICE` pixels.
        outside: allow windows outside the area of applicability, after those inside.
        seed: seed of the order among equals and of the clustering.
        by: typical windows or pixels, unlike those with a label, or uncertain and diverse ones;
            auto: typical below `FEW_LABELS` labels in all. Typical ones may lie outside the area of
            applicability, which is small where labels are few.
    """

    step_px: int | None = None
    outside: bool = False
    seed: int = 0
    by: Literal["auto", "typical", "uncertain"] = "auto"


DEFAULTS = SuggestOptions()


def open_for(
    model: Labelled,
    paths: Sequence[str | Path],
    *,
    sensor: Sensor | None = None,
    mask: MaskChoice = "auto",
    extra: Sequence[str | Path] = (),
) -> list[Scene]:
    """Open scenes with a model's bands, and behind them those of extra rasters.

    Args:
        model: model whose bands are read, by name.
        paths: the scenes.
        sensor: the scenes' sensor, if another one than the model's.
        mask: mask of clouds: see `scene.open_scene`.
        extra: rasters of the same kind as those that a pixel model was trained with.

    Raises:
        BandError: bands missing; the message names the bands that the model takes.
        DataError: a scene that cannot be used; extra rasters that are missing or unwanted.
    """
    contract = model.contract
    check_extras(model.path, extras_of(model), extra)
    file_bands = contract.file_bands if sensor is None else None
    scene_sensor = sensor or contract.sensor
    with needed_by_model("a scene", scene_sensor.name):
        try:
            scenes = open_scenes(
                paths, scene_sensor, contract.bands, file_bands=file_bands, mask=mask
            )
        except MissingBandError:
            raise
        except BandError as error:
            raise BandError(
                f"{error}; the model takes {', '.join(contract.bands)} of "
                f"{contract.sensor.title}: give "
                "scenes with these bands, and name their sensor with --sensor if it is another"
            ) from error
    return [with_extras(model, scene, extra) for scene in scenes]


@dataclass(frozen=True)
class _Search:
    """A search for what to label next, whatever kind of model wants it.

    Attributes:
        area: area of applicability.
        blocks: searches blocks, given the labelled areas in each scene.
        side_px: side of what gets a label: of a window, or 1.
        apart_px: side of the area in which there is only one suggestion.
        step_px: distance between candidates.
        unit: windows or pixels.
    """

    area: Applicability
    blocks: Callable[[Sequence[Occupied]], Iterator[SearchedBlock]]
    side_px: int
    apart_px: int
    step_px: int
    unit: str

    @property
    def overlap(self) -> int:
        """How many candidates overlap one candidate's area."""
        return max(1, round(self.apart_px / self.step_px)) ** 2

    def boxes(
        self, candidates: Candidates, scenes: Sequence[Imagery]
    ) -> tuple[list[Box], list[str | None]]:
        """The area around each candidate that stays free of others, with its reference system."""
        more, side = (self.apart_px - self.side_px) // 2, self.apart_px
        at = zip(candidates.scene.tolist(), candidates.corners.tolist(), strict=True)
        grids = [
            Window(row - more, col - more, side, side).on(scenes[of].grid) for of, (row, col) in at
        ]
        return [grid.bounds for grid in grids], [grid.crs for grid in grids]


def _search(
    model: Labelled,
    scenes: Sequence[Imagery],
    options: SuggestOptions,
    progress: Progress | None,
) -> _Search:
    """The search for a model's windows or pixels."""
    if isinstance(model, PixelModelFile):
        space = FeatureSpace.of(model)
        step = options.step_px or lattice_step([scene.grid for scene in scenes])
        pixels = PixelSearch(model, space, step, options.seed)
        apart = 2 * model.model.features.halo + 1
        return _Search(
            space.area(model),
            lambda o: pixels.blocks(scenes, o, progress),
            1,
            apart,
            step,
            "pixels",
        )
    samples, side = model.training_samples, model.contract.tile_px
    rules = ChipRules(side, step_px=options.step_px)
    return _Search(
        area_of_applicability(samples.features, samples.folds),
        lambda occupied: candidates(model, scenes, occupied, rules, progress=progress),
        side,
        side,
        options.step_px or side,
        "windows",
    )


def suggest(
    model: Labelled,
    scenes: Sequence[Imagery],
    n: int,
    options: SuggestOptions = DEFAULTS,
    *,
    labels: Labels | None = None,
    progress: Progress | None = None,
) -> Suggestions:
    """Choose up to n windows of the model's tile size, or n pixels, to label next.

    Memory is bounded by a block of a scene and by the pool of the most uncertain windows.

    Args:
        model: model of tiles or pixels that needs more labels.
        scenes: scenes to search, with the model's bands.
        n: number of suggestions wanted.
        options: options of the search.
        labels: existing labels, in addition to the model's training tiles.
        progress: called with blocks done and blocks in all.

    Raises:
        DataError: numbers that do not fit, scenes without a reference system, too few training
            tiles to measure likeness by, or no window that can be suggested.
    """
    if n < 1:
        raise DataError(f"-n: given {n}; allowed: at least 1")
    if options.step_px is not None and options.step_px < 1:
        raise DataError(f"--stride-px: given {options.step_px}; allowed: at least 1")
    search = _search(model, scenes, options, progress)
    area, ground = search.area, training_ground(model)
    labelled = label_shapes(labels, scenes, search.side_px) if labels else []
    occupied = [Occupied(scene.grid, [*ground, *labelled]) for scene in scenes]
    count = label_count(model, labels)
    few = options.by == "typical" or (options.by == "auto" and count < FEW_LABELS)
    pool = _pool(model, area, n * search.overlap, options, few=few)
    for block in search.blocks(occupied):
        pool.add(block)
    if not len(pool.candidates):
        raise DataError(_nothing(pool.counts, search, scenes))
    boxes = in_metres(*search.boxes(pool.candidates, scenes))
    notes = [*unknown_ground(model, ground), *resolution_notes(model, scenes)]
    if few:
        some = area.features[:: -(-len(area.features) // max(count, 1))]
        chosen = choose_typical(pool.candidates.features, some, boxes, n, options.seed)
        notes.append(_few_words(count, search.unit, by=options.by))
        shares = tuple(f"typical of {share:.1%}; " for share in chosen.share.tolist())
        describe = partial(_suggestions, why=shares)
        return describe(model, scenes, pool, chosen.rows, search=search, wanted=n, notes=notes)
    rows = _uncertain(pool, boxes, n, options.seed)
    return _suggestions(model, scenes, pool, rows, search=search, wanted=n, notes=notes)


def label_count(model: Labelled, labels: Labels | None) -> int:
    """How many labels there are: those that the model was trained on, or those given if more.

    A model of tiles keeps a part of very many tiles, which is more than few.
    """
    if isinstance(model, PixelModelFile):
        trained = int(model.notes.get("training", {}).get("labels", FEW_LABELS))
    else:
        trained = len(model.training_samples.features)
    return max(trained, 0 if labels is None else len(labels.labels))


def _few_words(count: int, unit: str, *, by: str) -> str:
    """Which suggestions these are, and how others are had."""
    why = f"{count} labels are few: " if by == "auto" else ""
    return (
        f"{why}{unit} that are typical of the scenes and unlike the labelled ones, in the area of "
        "applicability or not (--by uncertain suggests uncertain ones)"
    )


def _uncertain(pool: _Pool, boxes: Floats, n: int, seed: int) -> Int64s:
    """Rows of a pool, uncertain and unlike what is labelled or chosen already."""
    index, area = pool.index, pool.area
    return choose(
        pool.candidates.features,
        normalised_entropy(pool.candidates.probabilities),
        index * area.mean_distance,
        boxes,
        index <= area.threshold,
        n=n,
        seed=seed,
    )


def _pool(
    model: Labelled, area: Applicability, wanted: int, options: SuggestOptions, *, few: bool
) -> _Pool:
    """What takes the candidates that are compared in the end."""
    classes = len(model.contract.classes)
    if not few:
        return _Pool(area, classes, wanted * POOL, _uncertainty, outside=options.outside)
    draw = np.random.default_rng(options.seed)
    return _Pool(area, classes, MAX_POOL, lambda some: draw.random(len(some)), outside=True)


def _uncertainty(candidates: Candidates) -> Float64s:
    return normalised_entropy(candidates.probabilities)


class _Pool:
    """The candidates of largest weight so far, in the area of applicability and, if allowed, not.

    A weight is a candidate's uncertainty, or a random number, which draws them alike.
    """

    def __init__(
        self,
        area: Applicability,
        classes: int,
        most: int,
        weight: Callable[[Candidates], Float64s],
        *,
        outside: bool,
    ) -> None:
        self.area, self.most, self.outside, self.weigh = area, most, outside, weight
        self.candidates = empty(area.features.shape[1], classes)
        self.index, self.weight = np.zeros(0), np.zeros(0)
        self.counts = WindowCounts()

    def add(self, block: SearchedBlock) -> None:
        """Take in a block's, and let go of those of less weight beyond the pool's size."""
        candidates, weight = block.candidates, self.weigh(block.candidates)
        index = self.area.index(candidates.features)
        inside = index <= self.area.threshold
        self.counts += WindowCounts(block.windows, block.taken, block.unseen, int(inside.sum()))
        if not self.outside:
            candidates, index, weight = candidates.rows(inside), index[inside], weight[inside]
        candidates = Candidates.joined([self.candidates, candidates])
        index = np.concatenate([self.index, index])
        weight = np.concatenate([self.weight, weight])
        inside = index <= self.area.threshold
        remaining = [
            side[most_uncertain(weight[side], self.most)]
            for side in (np.flatnonzero(inside), np.flatnonzero(~inside))
        ]
        rows = np.concatenate(remaining)
        self.candidates, self.index, self.weight = candidates.rows(rows), index[rows], weight[rows]


def _suggestions(
    model: Labelled,
    scenes: Sequence[Imagery],
    pool: _Pool,
    rows: Int64s,
    *,
    search: _Search,
    wanted: int,
    notes: Sequence[str],
    why: Sequence[str] = (),
) -> Suggestions:
    chosen = pool.candidates.rows(rows)
    prefix = why or [""] * len(chosen)
    half, crs = model.contract.tile_px // 2, str(scenes[0].grid.crs)
    points = []
    for of, (row, col) in zip(chosen.scene.tolist(), chosen.corners.tolist(), strict=True):
        grid = scenes[of].grid
        there = np.array([shapely.Point(grid.at(col + half + 0.5, row + half + 0.5))])
        points.append(transformed(there, str(grid.crs), crs)[0])
    return Suggestions(
        points=tuple(points),
        crs=crs,
        classes=tuple(model.contract.classes[k] for k in chosen.probabilities.argmax(axis=1)),
        confidence=tuple(chosen.probabilities.max(axis=1).tolist()),
        entropy=tuple(normalised_entropy(chosen.probabilities).tolist()),
        dissimilarity=tuple(pool.index[rows].tolist()),
        scenes=tuple(scenes[of].name for of in chosen.scene),
        counts=pool.counts,
        threshold=pool.area.threshold,
        wanted=wanted,
        outside=pool.outside,
        reasons=tuple(
            before + likely
            for before, likely in zip(
                prefix, reasons(chosen.probabilities, model.contract.classes), strict=True
            )
        ),
        unit=search.unit,
        notes=tuple(notes),
    )


def _nothing(counts: WindowCounts, search: _Search, scenes: Sequence[Imagery]) -> str:
    """Why there is no suggestion."""
    size, names = search.side_px, ", ".join(scene.name for scene in scenes)
    if not counts.windows:
        return f"{names}: smaller than the model's tiles of {size} px; give a larger scene"
    if not counts.free:
        return (
            f"{names}: of {counts.windows} {search.unit} {counts.taken} overlap labelled areas "
            f"and {counts.unseen} are cloudy or without data: none is left; give another "
            "scene, or a smaller --stride-px"
        )
    return (
        f"{names}: none of {counts.free} {search.unit} lies in the model's area of applicability: "
        f"the scene differs from its training {'pixels' if size == 1 else 'tiles'} (another "
        "season, "
        f"sensor or resolution?); --ignore-applicability suggests {search.unit} there too"
    )
