"""Windows over a scene and the cells of a map: where they lie, and how they blend.

Windows step across the scene from its upper left corner; a last one is moved back to end at the
scene's edge, so that every pixel is seen and none is invented. A cell of the map is the mean of the
windows over it, weighed by a smooth bump, separable and symmetric, so that no edge shifts.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from geotl.arrays import Bools, Float32s, Float64s, Int64s, UInt16s
from geotl.compiled import compiled
from geotl.errors import DataError
from geotl.io.raster import Grid


@dataclass(frozen=True)
class WindowGrid:
    """Windows of `px` pixels, `step` apart, over a scene, and cells of `posting` pixels.

    Raises:
        DataError: a scene smaller than a window, a step beyond 1 to the window, or a posting
            beyond 1 to the step.
    """

    height: int
    width: int
    px: int
    step: int
    posting: int

    def __post_init__(self) -> None:
        """Check that every cell is seen by a window."""
        if min(self.height, self.width) < self.px:
            raise DataError(
                f"{self.height} x {self.width} pixels, smaller than the model's window of "
                f"{self.px} x {self.px}; give a larger scene"
            )
        if not 1 <= self.step <= self.px:
            raise DataError(f"step {self.step}: allowed is 1 to the window, {self.px} px")
        if not 1 <= self.posting <= self.step:
            raise DataError(f"posting {self.posting}: allowed is 1 to the step, {self.step} px")

    @cached_property
    def rows(self) -> Int64s:
        """First pixel row of each row of windows."""
        return offsets(self.height, self.px, self.step)

    @cached_property
    def cols(self) -> Int64s:
        """First pixel column of each column of windows."""
        return offsets(self.width, self.px, self.step)

    @property
    def cells(self) -> tuple[int, int]:
        """Rows and columns of the map; the last ones may reach beyond the scene."""
        return -(-self.height // self.posting), -(-self.width // self.posting)

    @cached_property
    def row_weights(self) -> sparse.csr_matrix:
        """Weight of each row of windows [R] in each row of cells [H]."""
        return weights(self.rows, self.height, self.px, self.posting)

    @cached_property
    def col_weights(self) -> sparse.csr_matrix:
        """Weight of each column of windows [Q] in each column of cells [W]."""
        return weights(self.cols, self.width, self.px, self.posting)

    def on(self, grid: Grid) -> Grid:
        """The map's grid, on the scene's corner.

        >>> scene = Grid("EPSG:32633", (10.0, 0.0, 5e5, 0.0, -10.0, 46e5), 100, 130)
        >>> result = WindowGrid(100, 130, 64, 32, 32).on(scene)
        >>> result.height, result.width, result.resolution, result.bounds[0], result.bounds[3]
        (4, 5, (320.0, 320.0), 500000.0, 4600000.0)
        """
        a, b, c, d, e, f = grid.transform
        p = self.posting
        return Grid(grid.crs, (a * p, b * p, c, d * p, e * p, f), *self.cells)


def offsets(length: int, px: int, step: int) -> Int64s:
    """First pixel of each window along an axis; the last window ends with the axis.

    >>> offsets(10, 4, 4).tolist(), offsets(8, 4, 4).tolist()
    ([0, 4, 6], [0, 4])
    """
    starts = np.arange(0, length - px + 1, step, dtype=np.int64)
    return starts if starts[-1] == length - px else np.append(starts, length - px)


def bump(px: int) -> Float64s:
    """Weight of each pixel of a window along an axis: a raised cosine, nowhere 0.

    >>> bump(4).round(3).tolist()
    [0.146, 0.854, 0.854, 0.146]
    """
    return np.asarray(np.sin(np.pi * (np.arange(px) + 0.5) / px) ** 2)


def weights(firsts: Int64s, length: int, px: int, posting: int) -> sparse.csr_matrix:
    """Weight of every window in every cell along an axis, [windows, cells]: the bump's sum."""
    cells = -(-length // posting)
    pixel = (firsts[:, None] + np.arange(px)).ravel()
    window = np.repeat(np.arange(len(firsts)), px)
    value = np.tile(bump(px), len(firsts))
    return sparse.csr_matrix(
        sparse.coo_matrix((value, (window, pixel // posting)), shape=(len(firsts), cells))
    )


def blend(
    grid: WindowGrid,
    values: NDArray[Any],
    valid: Bools,
    rows: slice,
    cols: slice,
) -> Float64s:
    """Cells of a part of the map: weighed means [h,w,K] of windows' values [R,Q,K].

    Only the windows over the part are used, and the result is the same for all divisions of
    the map. A cell without a known window is NaN.

    Args:
        grid: windows and cells.
        values: values of all windows, such as probabilities; may lie on disk.
        valid: bool [R,Q]: windows that count.
        rows: rows of cells wanted.
        cols: columns of cells wanted.

    >>> grid = WindowGrid(8, 8, 4, 4, 4)
    >>> blend(grid, np.arange(4.0).reshape(2, 2, 1), np.ones((2, 2), bool), slice(0, 2),
    ...       slice(0, 2))[..., 0].tolist()
    [[0.0, 1.0], [2.0, 3.0]]
    """
    if grid.px == 1:  # a cell is its one window
        here = valid[rows, cols][..., None]
        return np.where(here, values[rows, cols].astype(np.float64), np.nan)
    down, across = grid.row_weights[:, rows], grid.col_weights[:, cols]
    first, last = _span(down)
    left, right = _span(across)
    down, across = down[first:last], across[left:right]
    mask = valid[first:last, left:right].astype(np.float64)
    part = np.where(mask[..., None] > 0, values[first:last, left:right], 0.0).astype(np.float64)
    total = down.T @ mask @ across
    planes = [down.T @ part[..., k] @ across for k in range(part.shape[-1])]
    with np.errstate(invalid="ignore"):  # 0 / 0 is the NaN of a cell that no window knows
        return np.stack(planes, axis=-1) / np.where(total > 0, total, np.nan)[..., None]


def _span(weight: sparse.csr_matrix) -> tuple[int, int]:
    """First and last + 1 of the windows that have any weight."""
    used = np.flatnonzero(np.diff(weight.tocsr().indptr))
    return int(used[0]), int(used[-1]) + 1


@compiled
def whole_numbers(shares: Float32s, known: Bools, most: np.float32) -> UInt16s:
    """Shares [h,w,K] as whole numbers up to `most`, 0 where nothing is known [h,w].

    >>> shares, known = np.full((1, 2, 1), 0.5, np.float32), np.array([[True, False]])
    >>> whole_numbers(shares, known, np.float32(65535)).tolist()
    [[[32768], [0]]]
    """
    height, width, classes = shares.shape
    numbers = np.zeros(shares.shape, np.uint16)
    for row in range(height):
        for col in range(width):
            if known[row, col]:
                for k in range(classes):
                    numbers[row, col, k] = np.uint16(np.rint(shares[row, col, k] * most))
    return numbers


@compiled
def best_of(shares: Float64s) -> tuple[Int64s, Float64s]:
    """The first largest of shares [h,w,K], and its share, both [h,w].

    >>> [x.tolist() for x in best_of(np.array([[[0.2, 0.4, 0.4]]]))]
    [[[1]], [[0.4]]]
    """
    height, width, classes = shares.shape
    best, largest = np.zeros((height, width), np.int64), np.zeros((height, width))
    for row in range(height):
        for col in range(width):
            for k in range(classes):
                if shares[row, col, k] > largest[row, col]:
                    best[row, col], largest[row, col] = k, shares[row, col, k]
    return best, largest


@compiled
def of_pixels(numbers: UInt16s, known: Bools, most: float) -> Float64s:
    """Shares [h,w,K] that `whole_numbers` stands for, 0 where nothing is known [h,w]."""
    height, width, classes = numbers.shape
    shares = np.zeros(numbers.shape)
    for row in range(height):
        for col in range(width):
            if known[row, col]:
                for k in range(classes):
                    shares[row, col, k] = numbers[row, col, k] / most
    return shares
