"""Values on a coarse grid, read at the pixels of an image between them, bilinearly.

Beyond the outermost middles of the coarse pixels values go on as they change between the last two.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from geotl.arrays import Float32s, Floats, Int64s
from geotl.compiled import compiled

Positions = NDArray[np.uint32]  # unsigned, or each would first be tested for being negative
Between = tuple[Positions, Float32s]


@dataclass(frozen=True)
class CoarseValues:
    """Values [K,h,w] whose pixels lie `stride` image pixels apart.

    Attributes:
        values: at least two rows and columns, or one where the stride is 1.
        stride: stride in pixels of the image.
        centre: the image's row, and column, of the middle of the first value.
    """

    values: Float32s
    stride: int
    centre: float

    @classmethod
    def fewest(cls, several: Iterable[CoarseValues]) -> Iterator[CoarseValues]:
        """Values on fewer grids whose sum is the same everywhere.

        What is linear between the pixels of a grid is so between those of a finer one that has
        their middles.
        """
        finest = sorted(several, key=lambda one: (one.stride, one.centre))
        while finest:
            coarse = finest.pop()
            for at, fine in enumerate(finest):
                if fine._holds(coarse):
                    finest[at] = fine._with(coarse)
                    break
            else:
                yield coarse

    def _holds(self, coarse: CoarseValues) -> bool:
        """Whether every middle of a coarse grid is one of this grid's.

        >>> one = np.zeros((1, 2, 2), np.float32)
        >>> CoarseValues(one, 4, 0.0)._holds(CoarseValues(one, 8, 0.0))
        True
        >>> CoarseValues(one, 4, 1.5)._holds(CoarseValues(one, 8, 3.5))
        False
        """
        away = coarse.centre - self.centre
        return coarse.stride % self.stride == 0 and away % self.stride == 0

    def _with(self, coarse: CoarseValues) -> CoarseValues:
        """The sum with coarser values, at this grid's middles."""
        height, width = self.values.shape[1:]
        rows, cols = (self.stride * np.arange(n) + self.centre for n in (height, width))
        total = self.values.copy()
        coarse.add_at(rows, cols, total)
        return replace(self, values=total)

    def add_to(self, total: Float32s, row: int, col: int) -> None:
        """Add to total [K,h,w] the values at its pixels, from one at `row` and `col` on."""
        height, width = total.shape[1:]
        self.add_at(row + np.arange(height), col + np.arange(width), total)

    def at(self, rows: Int64s, cols: Int64s) -> Float32s:
        """Values [K,n] at single pixels of the image."""
        top, down = self._between(rows, 1)
        left, right = self._between(cols, 2)
        below, right_of = np.minimum(top + 1, self._last(1)), np.minimum(left + 1, self._last(2))
        upper = _mixed(self.values[:, top, left], self.values[:, top, right_of], right)
        lower = _mixed(self.values[:, below, left], self.values[:, below, right_of], right)
        return _mixed(upper, lower, down)

    def add_at(self, rows: Floats | Int64s, cols: Floats | Int64s, total: Float32s) -> None:
        """Add to total [K,H,W] the values at some rows [H] and columns [W] of the image."""
        _add_between(self.values, self._between(rows, 1), self._between(cols, 2), total)

    def _between(self, places: Floats | Int64s, axis: int) -> Between:
        """The value before each place along an axis, and how far it lies towards the next one."""
        at = (places - self.centre) / self.stride
        before = np.clip(np.floor(at), 0, max(0, self._last(axis) - 1))
        return before.astype(np.uint32), (at - before).astype(np.float32)

    def _last(self, axis: int) -> int:
        return int(self.values.shape[axis]) - 1


def _mixed(one: Float32s, other: Float32s, share: Float32s) -> Float32s:
    return np.asarray(one + (other - one) * share, np.float32)


@compiled
def _add_between(values: Float32s, rows: Between, cols: Between, total: Float32s) -> None:
    """Add values [K,h,w] between rows and columns to a total [K,H,W]."""
    (top, down), last = rows, np.uint32(values.shape[1] - 1)
    mixed = np.empty(values.shape[2], np.float32)
    for k in range(len(total)):
        for i in range(len(top)):
            below = min(top[i] + np.uint32(1), last)
            _mix(values[k, top[i]], values[k, below], down[i], mixed)
            _add_along(mixed, cols[0], cols[1], total[k, i])


@compiled
def _mix(one: Float32s, other: Float32s, share: float, out: Float32s) -> None:
    """Write values between two rows."""
    for j in range(len(out)):
        out[j] = one[j] + (other[j] - one[j]) * share


@compiled
def _add_along(values: Float32s, left: Positions, right: Float32s, total: Float32s) -> None:
    """Add values between those of a row to a total."""
    last = np.uint32(len(values) - 1)
    for j in range(len(total)):
        one, other = values[left[j]], values[min(left[j] + np.uint32(1), last)]
        total[j] += one + (other - one) * right[j]
