"""A scene swept by a model, block by block: read ahead, computed, kept on disk, gone on with."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter

from geotl.arrays import Bools, Float32s, Float64s, Int64s, Pixels, UInt16s
from geotl.console import Progress, complain
from geotl.imagery.measurable import measurable
from geotl.imagery.sensors import Sensor, rescaled
from geotl.imagery.windows import Imagery, Window
from geotl.inference.sliding_window import Predicted, WindowPredictor, halo_of
from geotl.inference.smoothing import GuidedFilter
from geotl.inference.window_grid import WindowGrid, whole_numbers
from geotl.mapping.ahead import TwoStage, ahead, network_pool
from geotl.mapping.window_store import FULL, Sheet, SheetLayout, open_sheet


@dataclass(frozen=True)
class Thumb:
    """A picture of the complete scene that is gathered while its blocks are read anyway.

    Attributes:
        bands: positions of those shown.
        each: of a run of `each` pixels the middle one is taken.
        shape: rows and columns of the picture.
    """

    bands: tuple[int, ...]
    each: int
    shape: tuple[int, int]


@dataclass(frozen=True)
class SweepPlan:
    """What is to be swept, and how.

    Attributes:
        grid: windows and cells over the scene.
        sweep: predicts the windows of a block.
        sensor: of the digital numbers that the network takes.
        block_px: side of the blocks in pixels; at least a window.
        min_valid: least share of a window's pixels that are valid in every band.
        interest: bool [R,Q]: windows of interest.
        thumb: gathered too; None for no picture.
        some_bands: a pixel is valid if one of its bands is, else only if all are.
        smoothing: of the map that will be drawn; its guide is stored; None for no smoothing.
        extra: how many bands, the last ones, are of extra rasters and no numbers of the sensor.
    """

    grid: WindowGrid
    sweep: WindowPredictor
    sensor: Sensor
    block_px: int
    min_valid: float
    interest: Bools
    thumb: Thumb | None = None
    some_bands: bool = False
    smoothing: GuidedFilter | None = None
    extra: int = 0

    @cached_property
    def windows_needed(self) -> Bools:
        """Windows [R,Q] of interest, and those around them that smoothing needs."""
        if self.smoothing is None or self.interest.all():
            return self.interest
        return np.asarray(maximum_filter(self.interest, 2 * self.smoothing.reach + 1))


@dataclass(frozen=True)
class Block:
    """Some rows and columns of windows."""

    rows: slice
    cols: slice

    @property
    def here(self) -> tuple[slice, slice]:
        """Where its windows are among all."""
        return self.rows, self.cols


def blocks_of(grid: WindowGrid, block_px: int) -> list[Block]:
    """Blocks that contain every window once, each of about `block_px` pixels.

    >>> [(b.rows, b.cols) for b in blocks_of(WindowGrid(10, 4, 4, 4, 4), 8)]
    [(slice(0, 3, None), slice(0, 1, None))]
    >>> [b.rows for b in blocks_of(WindowGrid(20, 4, 4, 4, 4), 8)]
    [slice(0, 2, None), slice(2, 4, None), slice(4, 5, None)]
    """
    each = max(1, (block_px - grid.px) // grid.step + 1)
    return [
        Block(rows, cols)
        for rows in _runs(grid.rows, grid.step, each)
        for cols in _runs(grid.cols, grid.step, each)
    ]


def sweep_scene(
    plan: SweepPlan,
    scene: Imagery,
    folder: Path,
    *,
    key: str,
    note: Mapping[str, Any],
    progress: Progress | None = None,
) -> Sheet:
    """Predict every window of interest, and store the predictions.

    Blocks already done under the same key are not computed again; the next ones are read, and the
    last one is written, while one is computed.

    Args:
        plan: what and how.
        scene: in the network's bands, in its own digital numbers.
        folder: of the sheet.
        key: identifies everything that the sheet depends on.
        note: kept with the sheet when it begins.
        progress: called with blocks done and blocks in all.

    Raises:
        OutputError: a disk that is full, or a foreign folder.
        DataError: a scene that cannot be read.
    """
    grid, parts = plan.grid, blocks_of(plan.grid, plan.block_px)
    thumb = plan.thumb
    layout = SheetLayout(
        windows=(len(grid.rows), len(grid.cols)),
        cells=grid.cells,
        classes=plan.sweep.classes,
        posting=grid.posting,
        blocks=len(parts),
        picture=None if thumb is None else ((len(thumb.bands), *thumb.shape), scene.dtype),
        guide=plan.smoothing is not None,
    )
    sheet = open_sheet(folder, key, note, layout)
    _forget_damaged(plan, sheet, parts)
    left = [n for n in range(len(parts)) if not sheet.done[n]]
    needed = ((n, parts[n] if plan.windows_needed[parts[n].here].any() else None) for n in left)
    with (
        ThreadPoolExecutor(1) as reader,
        network_pool(plan.sweep) as networks,
        ThreadPoolExecutor(1) as writer,
    ):
        before: Future[None] | None = None
        ready = ahead(reader, needed, partial(_made_ready, plan, scene))
        for n, begun in ahead(networks, ready, partial(_begun, plan)):
            predicted = None if begun is None else (begun[0], begun[1] and begun[1]())
            _await(before, sheet, progress)
            before = writer.submit(_keep, plan, sheet, (n, parts[n]), predicted)
        _await(before, sheet, progress)
    return sheet


def _await(block: Future[None] | None, sheet: Sheet, progress: Progress | None) -> None:
    """Wait until a block is stored, and show the progress."""
    if block is not None:
        block.result()
        if progress is not None:
            progress(int(sheet.done.sum()), len(sheet.done))


def _runs(firsts: Int64s, step: int, each: int) -> Iterator[slice]:
    """Slices of `each` windows; one moved back from the step stays with those before it."""
    count = len(firsts)
    regular = count - 1 if count > 1 and firsts[-1] - firsts[-2] != step else count
    for start in range(0, regular, each):
        end = min(start + each, regular)
        yield slice(start, count if end == regular else end)


@dataclass(frozen=True)
class _Facts:
    """What is stored of a block that was read, besides the predictions of a model.

    Attributes:
        block: which.
        predicted: windows that a model predicts [r,q].
        lacking: those of them in which too many pixels lack a band [r,q].
        cover: valid pixels of each cell that begins in the block [h,w].
        picture: some bands of some pixels [b,h,w], and which are valid; None for no picture.
        guide: of the filter that smooths a map of pixels [r,q]; None for no smoothing.
        impossible: values that the sensor cannot have measured, declared nowhere.
    """

    block: Block
    predicted: Bools
    lacking: Bools
    cover: Int64s
    picture: Pixels | None
    guide: UInt16s | None
    impossible: int


_Ready = tuple[_Facts, Float32s | None]  # and what the model takes [C,H,W]; None for no window
_Begun = tuple[_Facts, Callable[[], Predicted] | None]  # and what predicts its windows


def _made_ready(plan: SweepPlan, scene: Imagery, block: Block) -> _Ready:
    """Read a block, and choose the windows that are predicted."""
    span = span_of(plan, block)
    data, valid = scene.read(span)
    every: Bools = np.all(valid, axis=0)
    any_valid: Bools = np.any(valid, axis=0) if plan.some_bands else every
    enough, full = (
        window_shares(x, *_firsts(plan, block, span), plan.grid.px) >= plan.min_valid
        for x in (any_valid, every)
    )
    chosen = enough & plan.windows_needed[block.rows, block.cols]
    image = to_network(plan, data, valid, scene.sensor) if chosen.any() else None
    facts = _Facts(
        block,
        chosen,
        chosen & ~full,
        _counted(plan, block, any_valid),
        None if plan.thumb is None else _gathered(plan, plan.thumb, block, (data, valid)),
        None if image is None else _guide(plan, block, image, valid),
        _impossible(plan, scene, block, data),
    )
    return facts, image


def _impossible(plan: SweepPlan, scene: Imagery, block: Block, data: NDArray[Any]) -> int:
    """How many values of a block, without its overlap, the scene's sensor cannot have measured."""
    scene_bands, span = len(data) - plan.extra, span_of(plan, block)
    (top, low), (left, right) = _owned(plan.grid, block)
    part = data[:scene_bands, top - span.row : low - span.row, left - span.col : right - span.col]
    return measurable(scene.sensor, scene.bands[:scene_bands]).undeclared(part)


def _firsts(plan: SweepPlan, block: Block, span: Window) -> tuple[Int64s, Int64s]:
    """Rows and columns of the first pixels of a block's windows, in what is read of it."""
    return plan.grid.rows[block.rows] - span.row, plan.grid.cols[block.cols] - span.col


def _begun(plan: SweepPlan, ready: _Ready) -> _Begun:
    """The rest of the prediction of a block, after its networks have run."""
    facts, image = ready
    if image is None:
        return facts, None
    firsts = _firsts(plan, facts.block, span_of(plan, facts.block))
    if isinstance(plan.sweep, TwoStage):
        return facts, plan.sweep.begin(image, *firsts)
    return facts, partial(plan.sweep.predict_windows, image, *firsts, plan.grid.step)


def _keep(
    plan: SweepPlan,
    sheet: Sheet,
    block: tuple[int, Block],
    block_result: tuple[_Facts, Predicted | None] | None,
) -> None:
    """Store a block with its number, and then mark it as done."""
    n = block[0]
    if block_result is not None:
        facts, predicted = block_result
        _write_facts(plan, sheet, facts)
        if sheet.impossible is not None:
            sheet.impossible[n] = facts.impossible
        if predicted is not None:
            _write(plan, sheet, facts, predicted)
            sheet.partial[n] = int((facts.lacking & plan.interest[facts.block.here]).sum())
    if sheet.checks is not None:
        sheet.checks[n] = _checksum(plan, sheet, *block)
    sheet.keep()
    sheet.done[n] = True
    sheet.keep()


def _forget_damaged(plan: SweepPlan, sheet: Sheet, parts: Sequence[Block]) -> None:
    """Let finished blocks that are not as they were written be computed again, with a line."""
    if sheet.checks is None:
        return
    finished = np.flatnonzero(sheet.done).tolist()
    damaged = [n for n in finished if sheet.checks[n] != _checksum(plan, sheet, n, parts[n])]
    for n in damaged:
        sheet.done[n], sheet.partial[n] = False, 0
        if sheet.impossible is not None:
            sheet.impossible[n] = 0
        for array in _kept_of(plan, sheet, parts[n]):  # as in a new sheet
            array[...] = 0
    sheet.keep()
    if damaged:
        complain(
            f"{sheet.folder}: {len(damaged)} of {len(finished)} finished blocks are damaged; they "
            "are computed again"
        )


def _checksum(plan: SweepPlan, sheet: Sheet, n: int, block: Block) -> int:
    """CRC-32 of what is kept of a block, row by row so that nothing is copied."""
    counts = [array[n] for array in (sheet.partial, sheet.impossible) if array is not None]
    total = zlib.crc32(np.array(counts, np.int64).data)
    for array in _kept_of(plan, sheet, block):
        for row in np.asarray(array):  # not as memory maps, of which each row would be one more
            total = zlib.crc32(np.ascontiguousarray(row).data, total)
    return total


def _kept_of(plan: SweepPlan, sheet: Sheet, block: Block) -> Iterator[NDArray[Any]]:
    """The parts of a sheet's arrays that a block alone writes."""
    windows = (sheet.probabilities, sheet.index, sheet.seen, sheet.guide)
    yield from (array[block.here] for array in windows if array is not None)
    posting = plan.grid.posting
    cells = (slice(begin // posting, -(-end // posting)) for begin, end in _owned(plan.grid, block))
    yield sheet.cover[tuple(cells)]
    if plan.thumb is not None and sheet.picture is not None and sheet.shown is not None:
        (_, rows), (_, cols) = _thumbed(plan, plan.thumb, block)
        yield from sheet.picture[:, rows, cols]
        yield sheet.shown[rows, cols]


def span_of(plan: SweepPlan, block: Block) -> Window:
    """The pixels that a block's windows need, with the predictor's halo, on the scene."""
    grid = plan.grid
    halo = halo_of(plan.sweep, grid.step)
    spans = []
    for firsts, length in (
        (grid.rows[block.rows], grid.height),
        (grid.cols[block.cols], grid.width),
    ):
        begin, end = int(firsts[0]), int(firsts[-1]) + grid.px
        start = max(begin - halo, begin % grid.step)
        spans.append((start, min(end + halo, length) - start))
    return Window(spans[0][0], spans[1][0], spans[0][1], spans[1][1])


def _write_facts(plan: SweepPlan, sheet: Sheet, facts: _Facts) -> None:
    """Write down the valid pixels of a block's cells, and its part of the picture."""
    (top, _), (left, _) = _owned(plan.grid, facts.block)
    rows, cols = facts.cover.shape
    row, col = top // plan.grid.posting, left // plan.grid.posting
    sheet.cover[row : row + rows, col : col + cols] = facts.cover
    if plan.thumb is None or facts.picture is None:
        return
    if sheet.picture is not None and sheet.shown is not None:
        (_, rows_to), (_, cols_to) = _thumbed(plan, plan.thumb, facts.block)
        sheet.picture[:, rows_to, cols_to], sheet.shown[rows_to, cols_to] = facts.picture


def _write(plan: SweepPlan, sheet: Sheet, facts: _Facts, predicted: Predicted) -> None:
    """Store the predictions for a block's windows."""
    here, chosen = facts.block.here, facts.predicted
    sheet.probabilities[here] = whole_numbers(predicted.probabilities, chosen, np.float32(FULL))
    sheet.index[here] = np.where(chosen, predicted.index, 0)
    sheet.seen[here] = chosen & plan.interest[here]
    if sheet.guide is not None and facts.guide is not None:
        sheet.guide[here] = np.where(chosen, facts.guide, 0)


def _guide(plan: SweepPlan, block: Block, image: Float32s, valid: Bools) -> UInt16s | None:
    """The guide of the filter that smooths a map of pixels; None for no smoothing."""
    if plan.smoothing is None:
        return None
    rows, cols = _firsts(plan, block, span_of(plan, block))
    inside = np.s_[:, rows[0] : rows[-1] + 1, cols[0] : cols[-1] + 1]
    return plan.smoothing.guide(np.where(valid[inside], image[inside], np.float32(np.nan)))


def to_network(plan: SweepPlan, data: NDArray[Any], valid: Bools, sensor: Sensor) -> Float32s:
    """A block's pixels [C,H,W] in the network's own digital numbers, invalid ones filled."""
    scene_bands, image = len(data) - plan.extra, np.empty(data.shape, np.float32)
    image[:scene_bands] = rescaled(data[:scene_bands], sensor, plan.sensor)
    image[scene_bands:] = data[scene_bands:]
    if not valid.all():  # most blocks of most scenes are
        np.copyto(image, plan.sweep.fill.reshape(-1, 1, 1), where=~valid)
    return image


def window_shares(valid: Bools, rows: Int64s, cols: Int64s, px: int) -> Float64s:
    """Share of pixels that are valid in each window, [len(rows), len(cols)].

    >>> window_shares(np.eye(4, dtype=bool), np.array([0, 2]), np.array([0, 1]), 2).tolist()
    [[0.5, 0.25], [0.0, 0.25]]
    """
    if px == 1:
        return valid[np.ix_(rows, cols)].astype(np.float64)
    total = np.zeros((valid.shape[0] + 1, valid.shape[1] + 1), np.int64)
    total[1:, 1:] = valid.cumsum(axis=0, dtype=np.int64).cumsum(axis=1)
    below, right = rows + px, cols + px
    inside = (
        total[np.ix_(below, right)]
        - total[np.ix_(rows, right)]
        - total[np.ix_(below, cols)]
        + total[np.ix_(rows, cols)]
    )
    return np.asarray(inside / px**2)


def _counted(plan: SweepPlan, block: Block, valid_pixels: Bools) -> Int64s:
    """The valid pixels of the cells that begin in a block [h,w]."""
    span, p = span_of(plan, block), plan.grid.posting
    (top, low), (left, right) = _owned(plan.grid, block)
    part = valid_pixels[top - span.row : low - span.row, left - span.col : right - span.col]
    if p == 1:
        return part.astype(np.int64)
    rows, cols = (np.arange(0, n, p) for n in part.shape)
    rowwise = np.add.reduceat(part, rows, axis=0, dtype=np.int64)
    return np.asarray(np.add.reduceat(rowwise, cols, axis=1))


def _gathered(plan: SweepPlan, thumb: Thumb, block: Block, pixels: Pixels) -> Pixels:
    """The picture's part of those pixels that a block has to itself [b,h,w], and their validity."""
    span, ((rows, _), (cols, _)) = span_of(plan, block), _thumbed(plan, thumb, block)
    here = np.ix_(np.array(thumb.bands), rows - span.row, cols - span.col)
    return pixels[0][here], pixels[1][here].all(axis=0)


def _thumbed(plan: SweepPlan, thumb: Thumb, block: Block) -> list[tuple[Int64s, slice]]:
    """Rows and columns of the picture's pixels in a block, and their places in the picture."""
    owned = zip(_owned(plan.grid, block), thumb.shape, strict=True)
    return [_every(thumb.each, span, limit) for span, limit in owned]


def _every(each: int, span: tuple[int, int], limit: int) -> tuple[Int64s, slice]:
    """Middles of the runs of `each` pixels that begin in a span, and their places in a picture.

    >>> _every(4, (5, 14), 9)
    (array([ 6, 10]), slice(1, 3, None))
    """
    half = each // 2
    begin, end = (min(limit, -(-(edge - half) // each)) for edge in span)
    return np.arange(begin, end) * each + half, slice(begin, end)


def _owned(grid: WindowGrid, block: Block) -> tuple[tuple[int, int], tuple[int, int]]:
    """The rows and the columns of pixels that a block has to itself, from and to."""
    return (_own(grid.rows, block.rows, grid.height), _own(grid.cols, block.cols, grid.width))


def _own(firsts: Int64s, where: slice, length: int) -> tuple[int, int]:
    """The pixels along an axis that a block has to itself: up to the next block's first window."""
    start, end = int(firsts[where.start]), length
    if where.stop < len(firsts):
        end = int(firsts[where.stop])
    return start, end
