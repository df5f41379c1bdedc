"""How a scene is mapped: opened in the model's bands and resolution, exact or dense."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import numpy as np
import torch

from geotl.arrays import Bools, Int64s
from geotl.console import Log
from geotl.data.footprints import in_metres
from geotl.errors import DataError, ModelError, needed_by_model
from geotl.imagery.resampling import resampled
from geotl.imagery.scene import Scene, open_scene
from geotl.imagery.windows import Imagery
from geotl.inference.applicability import Applicability, area_of_applicability
from geotl.inference.dense_correction import (
    Agreement,
    Correction,
    Sample,
    from_note,
    measured_agreement,
)
from geotl.inference.extras import extras_of, with_extras
from geotl.inference.mapper import Mapper
from geotl.inference.onnx_model import ServedModel
from geotl.inference.onnx_pixels import ServedPixelModel
from geotl.inference.pixel_area import PixelArea
from geotl.inference.pixel_predictor import PixelPredictor
from geotl.inference.sliding_window import (
    DenseError,
    Mode,
    Sweep,
    WindowPredictor,
    check_dense,
    classes_of,
    features_at,
    lattice_of,
)
from geotl.inference.smoothing import GuidedFilter
from geotl.io.raster import Grid
from geotl.mapping.ahead import network_threads
from geotl.mapping.blocks import Block, SweepPlan, span_of, to_network, window_shares
from geotl.mapping.options import MapOptions
from geotl.mapping.task import (
    AS_IT_IS,
    Interest,
    Reading,
    Task,
    check_network,
    check_pixel_options,
    check_served,
    check_tile_options,
    of_box,
    of_file,
    window_grid,
)
from geotl.models.device import Precision
from geotl.models.device import settled as number_format
from geotl.models.model_file import ModelFile
from geotl.models.pixel_file import PixelModelFile

EACH = 5  # rows and columns of windows in each of nine blocks that are predicted in both modes
MIN_AGREEMENT = 0.95
_SAME = 0.05  # of a pixel's side: resolutions that need no resampling


@dataclass(frozen=True)
class ModeChoice:
    """How windows will be predicted, as `settled` chose it.

    Attributes:
        mode: exact or dense.
        told: one line for the log, or "".
        agreement: how often both modes name a sampled window alike, with the correction; None
            where it was not measured.
        plain: the same without the correction.
        windows: how many were sampled.
        correction: of dense features; None for none.
    """

    mode: Mode
    told: str = ""
    agreement: float | None = None
    plain: float | None = None
    windows: int = 0
    correction: Correction | None = None


@dataclass(frozen=True)
class SweepNote:
    """The note of a sweep that begins: its date, and how windows are predicted.

    A run that goes on predicts as before: the choice is stored with the sheet.
    """

    date: str
    choice: ModeChoice

    def noted(self) -> dict[str, Any]:
        """Plain values that come back exactly by `of`."""
        correction = self.choice.correction
        values = vars(self.choice) | {"correction": correction and correction.noted()}
        return {"date": self.date, **values}

    @classmethod
    def of(cls, note: Mapping[str, Any]) -> SweepNote:
        """The note that `noted` gave.

        >>> note = SweepNote("2026-01-01", ModeChoice("dense", agreement=0.97, windows=225))
        >>> SweepNote.of(note.noted()) == note
        True
        """
        values = dict(note)
        date, correction = values.pop("date"), from_note(values.pop("correction"))
        return cls(date, ModeChoice(**values, correction=correction))


def exact_plan(task: Task, log: Log) -> SweepPlan:
    """What is to be swept, window by window."""
    options, predictor = task.options, _predictor(task, log)
    lattice = lattice_of(predictor)
    smallest = max(options.block_px, task.grid.px)
    return SweepPlan(
        task.grid,
        predictor,
        task.model.contract.sensor,
        -(-smallest // lattice) * lattice,
        options.min_valid,
        task.interest.windows(task.grid),
        some_bands=uses_some_bands(task.model),
        smoothing=_smoothing(task),
        extra=len(extras_of(task.model).bands),
    )


def uses_some_bands(model: Mapper) -> bool:
    """Whether a model also classifies pixels that lack some bands."""
    if not isinstance(model, PixelModelFile | ServedPixelModel):
        return False
    return model.features.missing_bands == "use"


def _smoothing(task: Task) -> GuidedFilter | None:
    """How the map's probabilities are smoothed, None where they are not."""
    side, model = task.options.smooth_px, task.model
    if side is None or not isinstance(model, PixelModelFile | ServedPixelModel):
        return None
    of = model.features
    bands_of_scene = slice(of.scene_band_count)
    return GuidedFilter(
        side, of.mean[bands_of_scene], of.sd[bands_of_scene], uses_some_bands(model)
    )


def _predictor(task: Task, log: Log) -> WindowPredictor:
    """What predicts the windows: members of pixels, the exported file, or the network."""
    model, options = task.model, task.options
    if isinstance(model, PixelModelFile):
        check_pixel_options(model.path, options)
        likeness = PixelArea.of(model) if options.applicability else None
        precision: Precision = "float32"
        if options.precision == "bfloat16":
            check_network(model)
        if model.model.deep is not None:
            precision = number_format(options.precision, torch.device("cpu"), network_threads())
        return PixelPredictor(model.model, likeness, precision=precision)
    if isinstance(model, ServedModel | ServedPixelModel):
        check_served(model, options)
        return model.sweep
    if not isinstance(model, ModelFile):
        raise ModelError(f"{model.path}: holds no model that maps")
    check_tile_options(model.path, options)
    area = _area(model, task, log)
    precision = number_format(options.precision, next(model.network.parameters()).device)
    return Sweep(model.network, task.grid.px, task.views, "exact", area, precision)


def settled(task: Task, plan: SweepPlan) -> ModeChoice:
    """How windows will be predicted: exact, or dense where that is possible and agrees with it.

    Raises:
        DataError: dense mode was asked for and does not go.
    """
    asked, sweep = task.options.mode, plan.sweep.dense
    if asked == "exact" or sweep is None:
        return ModeChoice("exact")
    try:
        check_dense(sweep.network, task.grid.px, task.grid.step)
    except DenseError as error:
        if asked == "dense":
            raise
        return ModeChoice("exact", f"exact mode (dense mode needs {error.needs})")
    sample = sample_of(plan, sweep, task.scene)
    if sample is None:
        return ModeChoice("dense")
    verdict = measured_agreement(sample, partial(classes_of, sweep))
    if asked == "auto" and verdict.agreement < MIN_AGREEMENT:
        note = f"exact mode: {_words(verdict)}, fewer than {100 * MIN_AGREEMENT:.0f} %"
        return _measured("exact", note, verdict)
    return _measured("dense", f"dense mode: {_words(verdict)}", verdict)


def planned(plan: SweepPlan, choice: ModeChoice) -> SweepPlan:
    """The plan of exact mode, changed to the choice of `settled`."""
    if plan.sweep.dense is None:
        return plan
    sweep = replace(plan.sweep.dense, mode=choice.mode, correction=choice.correction)
    return replace(plan, sweep=sweep)


def sample_of(plan: SweepPlan, sweep: Sweep, scene: Imagery) -> Sample | None:
    """Windows of a few blocks spread over the part of interest, predicted in both modes.

    Each block is read with its surroundings, as in mapping. None where no window counts.
    """
    exact = replace(sweep, mode="exact", correction=None)
    both = (exact, replace(exact, mode="dense"))
    dense = replace(plan, sweep=both[1])
    by_mode: dict[str, list[torch.Tensor]] = {"exact": [], "dense": []}
    halves: list[Bools] = []
    for block, half in _spread(plan):
        span = span_of(dense, block)
        data, valid = scene.read(span)
        place = (plan.grid.rows[block.rows] - span.row, plan.grid.cols[block.cols] - span.col)
        shares = window_shares(np.all(valid, axis=0), *place, plan.grid.px)
        counts = plan.interest[block.rows, block.cols] & (shares >= plan.min_valid)
        if not counts.any():
            continue
        image = sweep.on_device(to_network(plan, data, valid, scene.sensor))
        chosen = torch.from_numpy(counts)
        for one in both:
            features = features_at(one, image, *place, plan.grid.step)
            by_mode[one.mode].append(features[chosen.flatten().to(features.device)])
        halves.append(np.full(int(counts.sum()), half))
    if not halves:
        return None
    return Sample(torch.cat(by_mode["dense"]), torch.cat(by_mode["exact"]), np.concatenate(halves))


def _measured(mode: Mode, note: str, verdict: Agreement) -> ModeChoice:
    correction = verdict.correction if mode == "dense" else None
    return ModeChoice(mode, note, verdict.agreement, verdict.plain, verdict.windows, correction)


def _words(verdict: Agreement) -> str:
    alike = (
        f"dense and exact mode name {100 * verdict.agreement:.1f} % of a sample of windows alike"
    )
    if verdict.correction is None:
        return alike
    return (
        f"{alike} after a {verdict.correction.kind} of features fitted on others "
        f"({100 * verdict.plain:.1f} % before)"
    )


def _area(model: ModelFile, task: Task, log: Log) -> Applicability | None:
    """The measure of dissimilarity, None where it is not asked for."""
    if not task.options.applicability:
        return None
    training_samples, trained = model.training_samples, model.contract.spec.views
    if task.views != trained:
        log(
            f"applicability: with {task.views} views, where the training tiles' features are means "
            f"of {trained}, windows seem less similar to them than they are; --views {trained} "
            "compares like with like"
        )
    return area_of_applicability(training_samples.features, training_samples.folds)


def _spread(plan: SweepPlan) -> Iterator[tuple[Block, bool]]:
    """Up to nine blocks that share no window, and by turns the half that each belongs to."""
    interest = plan.interest[: max(1, len(plan.grid.rows) - 1), : max(1, len(plan.grid.cols) - 1)]
    if not interest.any():  # the last windows may be off the step, so they are not used
        return
    rows, cols = (_runs(np.flatnonzero(interest.any(axis=axis))) for axis in (1, 0))
    for n, (r, c) in enumerate(product(rows, cols)):
        yield Block(r, c), n % 2 == 0


def _runs(used: Int64s) -> list[slice]:
    """Runs of windows in the middle of each third of those used along an axis.

    >>> _runs(np.arange(30))
    [slice(2, 7, None), slice(12, 17, None), slice(22, 27, None)]
    >>> _runs(np.arange(4, 6))
    [slice(4, 5, None), slice(5, 6, None)]
    """
    begin, end = int(used[0]), int(used[-1]) + 1
    edges = np.linspace(begin, end, min(3, end - begin) + 1).astype(int).tolist()
    runs = []
    for low, high in pairwise(edges):
        count = min(EACH, high - low)
        start = low + (high - low - count) // 2
        runs.append(slice(start, start + count))
    return runs


def open_for(model: Mapper, path: str | Path, reading: Reading = AS_IT_IS) -> Scene:
    """A scene in a model's bands, brought to the resolution of its training tiles if known.

    Args:
        model: its contract is for the scene.
        path: a file or folder, as `scene.open_scene` takes it.
        reading: its sensor, the mask of clouds, and extra rasters.

    Raises:
        DataError: a scene that cannot be used.
        BandError: bands missing.
    """
    contract = model.contract
    file_bands = None if reading.sensor else contract.file_bands
    sensor = reading.sensor_or(contract.sensor)
    with needed_by_model("a scene", sensor.name):
        scene = open_scene(path, sensor, contract.bands, file_bands=file_bands, mask=reading.mask)
    return as_in_training(model, scene, reading)


def as_in_training(model: Mapper, scene: Scene, reading: Reading) -> Scene:
    """A scene at the training resolution, with the bands of extra rasters behind its own.

    Raises:
        DataError: extra rasters that are missing, unwanted, or cannot be laid on the scene.
        BandError: rasters with other bands than the model wants.
    """
    return with_extras(model, at_training_resolution(model, scene), reading.extra)


def at_training_resolution(model: Mapper, scene: Scene) -> Scene:
    """The scene itself, or resampled where its pixels have another size in metres."""
    resolution_m = model.resolution_m
    if resolution_m is None:
        return scene
    grid = scene.grid
    across, down = (
        1.0 if abs(resolution_m / side - 1) < _SAME else resolution_m / side
        for side in pixel_m(grid)
    )
    return scene if across == down == 1.0 else resampled(scene, coarser(grid, across, down))


def interest_in(scene: Imagery, px: int, options: MapOptions, reading: Reading) -> Interest | None:
    """The part of a scene to map, None for all of it.

    Args:
        scene: the scene.
        px: side of the model's window.
        options: of the map, for its cells.
        reading: its area of interest, a file of polygons or a box.

    Raises:
        DataError: both are given, or one that cannot be used.
        OutsideError: one that does not meet the scene.
    """
    if reading.aoi is None and reading.bbox is None:
        return None
    if reading.aoi is not None and reading.bbox is not None:
        raise DataError("--aoi and --bbox: give one of them")
    grid = window_grid(scene, px, options)
    if reading.aoi is not None:
        return of_file(Path(reading.aoi), grid, grid.on(scene.grid))
    return of_box(reading.bbox or (), reading.bbox_crs, grid, grid.on(scene.grid))


def pixel_m(grid: Grid) -> tuple[float, float]:
    """Width and height in metres of the pixel in the middle of a grid.

    >>> grid = Grid("EPSG:4326", (0.001, 0.0, 14.95, 0.0, -0.001, 60.05), 100, 100)
    >>> [round(side, 1) for side in pixel_m(grid)]
    [55.8, 111.4]
    """
    row, col = grid.height // 2, grid.width // 2
    (left, top), (right, bottom) = grid.at(col, row), grid.at(col + 1, row + 1)
    box = (min(left, right), min(top, bottom), max(left, right), max(top, bottom))
    box_m = in_metres([box], [grid.crs])[0]
    return round(float(box_m[2] - box_m[0]), 6), round(float(box_m[3] - box_m[1]), 6)


def coarser(grid: Grid, across: float, down: float) -> Grid:
    """A grid over the same area from the same corner, with pixels some times as large.

    >>> fine = Grid("EPSG:32633", (10.0, 0.0, 500000.0, 0.0, -10.0, 4600000.0), 517, 391)
    >>> coarse = coarser(fine, 2, 2)
    >>> coarse.transform, coarse.height, coarse.width
    ((20.0, 0.0, 500000.0, 0.0, -20.0, 4600000.0), 259, 196)
    """
    a, b, c, d, e, f = grid.transform
    place = (a * across, b * down, c, d * across, e * down, f)
    height, width = (
        math.ceil(round(count / times, 6))
        for count, times in ((grid.height, down), (grid.width, across))
    )
    return Grid(grid.crs, place, height, width)
