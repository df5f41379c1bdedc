"""A scene swept by a model, block by block: read ahead, computed, kept on disk, gone on with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter

from geotl.arrays import Bools, Float32s, Float64s, Int64s, Pixels
from geotl.console import Progress
from geotl.imagery.sensors import Sensor, rescaled
from geotl.imagery.windows import Imagery, Window
from geotl.inference.sliding_window import Said, WindowPredictor, halo_of
from geotl.inference.smoothing import GuidedFilter
from geotl.inference.window_grid import WindowGrid
from geotl.mapping.window_store import FULL, Sheet, SheetLayout, open_sheet

AHEAD = 1  # blocks read before they are needed


@dataclass(frozen=True)
class Thumb:
    """A picture of the whole scene that is gathered while its blocks are read anyway.

    Attributes:
        bands: positions of those shown.
        each: every so manieth pixel is taken, from the middle.
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
        sensor: whose digital numbers the network takes.
        block_px: side of the blocks in pixels; at least a window.
        min_valid: least share of a window's pixels that are valid in every band.
        wanted: bool [R,Q]: windows of interest.
        thumb: gathered beside; None for no picture.
        some_bands: a pixel is valid if one of its bands is, else only if all are.
        smoothing: of the map that will be drawn, whose guide is kept; None for no smoothing.
        extra: how many bands, the last ones, are of extra rasters and no numbers of the sensor.
    """

    grid: WindowGrid
    sweep: WindowPredictor
    sensor: Sensor
    block_px: int
    min_valid: float
    wanted: Bools
    thumb: Thumb | None = None
    some_bands: bool = False
    smoothing: GuidedFilter | None = None
    extra: int = 0

    @cached_property
    def looked_at(self) -> Bools:
        """Windows [R,Q] of interest, and those around them that smoothing needs."""
        if self.smoothing is None or self.wanted.all():
            return self.wanted
        return np.asarray(maximum_filter(self.wanted, 2 * self.smoothing.reach + 1))


@dataclass(frozen=True)
class Block:
    """Some rows and columns of windows."""

    rows: slice
    cols: slice


def blocks_of(grid: WindowGrid, block_px: int) -> list[Block]:
    """Blocks that hold every window once, each of about `block_px` pixels.

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
    """Let the network look at every window of interest, and keep what it says.

    Blocks already done under the same key are not computed again; the next ones are read, and the
    last one is written, while one is computed.

    Args:
        plan: what and how.
        scene: in the network's bands, in its own digital numbers.
        folder: of the sheet.
        key: names everything that the sheet depends on.
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
    left = [n for n in range(len(parts)) if not sheet.done[n]]
    with ThreadPoolExecutor(1) as writer:
        before: Future[None] | None = None
        for n, ready in _read_ahead(plan, scene, parts, left):
            said = _predicted(plan, ready)
            _await(before, sheet, progress)
            before = writer.submit(_keep, plan, sheet, n, ready, said)
        _await(before, sheet, progress)
    return sheet


def _await(block: Future[None] | None, sheet: Sheet, progress: Progress | None) -> None:
    """Wait until a block is kept, and say so."""
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
class _Ready:
    """A block that was read.

    Attributes:
        block: which.
        pixels: digital numbers and which are valid, with the halo.
        whole: which pixels have the bands that are needed [H,W].
        told: windows of the block that are looked at [r,q].
        image: what the network takes [C,H,W]; None where no window is looked at.
    """

    block: Block
    pixels: Pixels
    whole: Bools
    told: Bools
    image: Float32s | None


def _read_ahead(
    plan: SweepPlan, scene: Imagery, parts: Sequence[Block], order: Sequence[int]
) -> Iterator[tuple[int, _Ready | None]]:
    """Blocks in order, read and made ready, None where nothing in them is wanted."""
    with ThreadPoolExecutor(1) as pool:
        waiting: list[tuple[int, Future[_Ready] | None]] = []
        for n in order:
            wanted = plan.looked_at[parts[n].rows, parts[n].cols].any()
            read = pool.submit(_made_ready, plan, scene, parts[n]) if wanted else None
            waiting.append((n, read))
            if len(waiting) > AHEAD:
                yield _arrived(*waiting.pop(0))
        for entry in waiting:
            yield _arrived(*entry)


def _arrived(n: int, read: Future[_Ready] | None) -> tuple[int, _Ready | None]:
    return n, read.result() if read else None


def _made_ready(plan: SweepPlan, scene: Imagery, block: Block) -> _Ready:
    """Read a block, and choose the windows that are looked at."""
    span = span_of(plan, block)
    data, valid = scene.read(span)
    whole: Bools = (np.any if plan.some_bands else np.all)(valid, axis=0)
    told = window_shares(whole, *_firsts(plan, block, span), plan.grid.px) >= plan.min_valid
    told &= plan.looked_at[block.rows, block.cols]
    image = to_network(plan, data, valid, scene.sensor) if told.any() else None
    return _Ready(block, (data, valid), whole, told, image)


def _firsts(plan: SweepPlan, block: Block, span: Window) -> tuple[Int64s, Int64s]:
    """Rows and columns of the first pixels of a block's windows, in what is read of it."""
    return plan.grid.rows[block.rows] - span.row, plan.grid.cols[block.cols] - span.col


def _predicted(plan: SweepPlan, ready: _Ready | None) -> Said | None:
    """What the model predicts of a block's windows; None where none is looked at."""
    if ready is None or ready.image is None:
        return None
    firsts = _firsts(plan, ready.block, span_of(plan, ready.block))
    return plan.sweep.look(ready.image, *firsts, plan.grid.step)


def _keep(plan: SweepPlan, sheet: Sheet, n: int, ready: _Ready | None, said: Said | None) -> None:
    """Write down a block, and then that it is done."""
    if ready is not None:
        _count(plan, sheet, ready)
        if plan.thumb is not None:
            _gather(plan, plan.thumb, sheet, ready)
        if said is not None:
            _write(sheet, ready, said)
            _write_guide(plan, sheet, ready)
            sheet.partial[n] = _write_seen(plan, sheet, ready)
    sheet.keep()
    sheet.done[n] = True
    sheet.keep()


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


def _write(sheet: Sheet, ready: _Ready, said: Said) -> None:
    """Write down what those windows [r,q] of a block say that were looked at."""
    here, told = (ready.block.rows, ready.block.cols), ready.told
    chances = np.rint(said.probabilities * FULL).astype(np.uint16)
    chances[~told] = 0
    sheet.probabilities[here] = chances
    sheet.index[here] = np.where(told, said.index, 0)


def _write_guide(plan: SweepPlan, sheet: Sheet, ready: _Ready) -> None:
    """Write down what the filter that smooths a map of pixels is guided by."""
    if plan.smoothing is None or sheet.guide is None or ready.image is None:
        return
    block = ready.block
    rows, cols = _firsts(plan, block, span_of(plan, block))
    own = np.s_[:, rows[0] : rows[-1] + 1, cols[0] : cols[-1] + 1]
    image = np.where(ready.pixels[1][own], ready.image[own], np.float32(np.nan))
    guide = np.where(ready.told, plan.smoothing.guide(image), 0)
    sheet.guide[block.rows, block.cols] = guide


def _write_seen(plan: SweepPlan, sheet: Sheet, ready: _Ready) -> int:
    """Write down which windows count; how many of these lack bands."""
    block = ready.block
    here = block.rows, block.cols
    sheet.seen[here] = seen = ready.told & plan.wanted[here]
    firsts = _firsts(plan, block, span_of(plan, block))
    every_band = window_shares(np.all(ready.pixels[1], axis=0), *firsts, plan.grid.px)
    return int((seen & ~(every_band >= plan.min_valid)).sum())


def to_network(plan: SweepPlan, data: NDArray[Any], valid: Bools, sensor: Sensor) -> Float32s:
    """A block's pixels [C,H,W] in the network's own digital numbers, invalid ones filled."""
    own, image = len(data) - plan.extra, np.empty(data.shape, np.float32)
    image[:own], image[own:] = rescaled(data[:own], sensor, plan.sensor), data[own:]
    np.copyto(image, plan.sweep.fill.reshape(-1, 1, 1), where=~valid)
    return image


def window_shares(whole: Bools, rows: Int64s, cols: Int64s, px: int) -> Float64s:
    """Share of pixels that are valid in each window, [len(rows), len(cols)].

    >>> window_shares(np.eye(4, dtype=bool), np.array([0, 2]), np.array([0, 1]), 2).tolist()
    [[0.5, 0.25], [0.0, 0.25]]
    """
    if px == 1:
        return whole[np.ix_(rows, cols)].astype(np.float64)
    total = np.zeros((whole.shape[0] + 1, whole.shape[1] + 1), np.int64)
    total[1:, 1:] = whole.cumsum(axis=0, dtype=np.int64).cumsum(axis=1)
    below, right = rows + px, cols + px
    inside = (
        total[np.ix_(below, right)]
        - total[np.ix_(rows, right)]
        - total[np.ix_(below, cols)]
        + total[np.ix_(rows, cols)]
    )
    return np.asarray(inside / px**2)


def _count(plan: SweepPlan, sheet: Sheet, ready: _Ready) -> None:
    """Count the valid pixels of the cells that begin in this block."""
    grid, span = plan.grid, span_of(plan, ready.block)
    (top, low), (left, right) = _owned(grid, ready.block)
    part = ready.whole[top - span.row : low - span.row, left - span.col : right - span.col]
    p = grid.posting
    rows, cols = (np.arange(0, n, p) for n in part.shape)
    counted = np.add.reduceat(np.add.reduceat(part, rows, axis=0, dtype=np.int64), cols, axis=1)
    sheet.cover[top // p : top // p + len(rows), left // p : left // p + len(cols)] = counted


def _gather(plan: SweepPlan, thumb: Thumb, sheet: Sheet, ready: _Ready) -> None:
    """Take every so manieth pixel of those that a block has to itself into the picture."""
    if sheet.picture is None or sheet.shown is None:
        return
    span, (down, across) = span_of(plan, ready.block), _owned(plan.grid, ready.block)
    data, valid = ready.pixels
    rows, to_rows = _every(thumb.each, down, thumb.shape[0])
    cols, to_cols = _every(thumb.each, across, thumb.shape[1])
    here = np.ix_(np.array(thumb.bands), rows - span.row, cols - span.col)
    sheet.picture[:, to_rows, to_cols] = data[here]
    sheet.shown[to_rows, to_cols] = valid[here].all(axis=0)


def _every(each: int, own: tuple[int, int], most: int) -> tuple[Int64s, slice]:
    """Middles of the runs of `each` pixels that begin in a span, and their places in a picture.

    >>> _every(4, (5, 14), 9)
    (array([ 6, 10]), slice(1, 3, None))
    """
    half = each // 2
    begin, end = (min(most, -(-(edge - half) // each)) for edge in own)
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
