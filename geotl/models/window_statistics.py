"""Mean, standard deviation and gradient of bands in square windows about pixels.

Sums over windows come from integral images of integers, so that a pixel's statistics are the
same to the bit in whatever block of a scene they are computed. Every compiled loop runs over few
arrays, or it would not become vector instructions.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from geotl.arrays import Bools, Float32s, Float64s, Int64s
from geotl.compiled import compiled

Integers = NDArray[np.signedinteger[Any]]
Places = tuple[Int64s, Int64s, int]  # rows and columns of first pixels, half the window's side
UNIT = 4096.0  # integer steps per standard deviation
CLIP = 64.0  # standard deviations; with UNIT, squares over 2**27 pixels fit 64 bits
PARTS = 5  # of a window: all of it, the halves to the right, to the left, below and above


@dataclass(frozen=True)
class WindowSums:
    """Integral images of a block's bands, `halo` zeros wider on every side.

    Attributes:
        halo: pixels that windows reach beyond their middle, at most.
        counts: counts of valid pixels, one for all bands with pixels that are valid together.
        bands: the positions of these bands.
        first: sums of each band's values, as integers; differences are right, though it may wrap.
        second: sums of their squares.
    """

    halo: int
    counts: tuple[Integers, ...]
    bands: tuple[list[int], ...]
    first: tuple[Integers, ...]
    second: tuple[Int64s, ...]

    @classmethod
    def of(
        cls,
        image: NDArray[np.generic],
        valid: Bools,
        mean: Sequence[float],
        sd: Sequence[float],
        halo: int,
    ) -> WindowSums:
        """Window sums of a block.

        Args:
            image: digital numbers [C,H,W].
            valid: valid pixels [C,H,W].
            mean: mean of each band, subtracted.
            sd: standard deviation of each band, divided by.
            halo: pixels that windows reach beyond their middle, at most.
        """
        bands, dtype = tuple(_valid_together(valid)), _narrow(halo)
        shape = tuple(side + 2 * halo + 1 for side in valid.shape[1:])

        def count(band: int) -> Integers:
            counted = np.empty(shape, dtype)
            _count_up(valid[band], halo, counted)
            return counted

        def sum_up(band: int) -> tuple[Integers, Int64s]:
            dn, sums_here = (
                np.asarray(image[band], np.float64),
                (np.empty(shape, dtype), np.empty(shape, np.int64)),
            )
            _sum_up(dn, valid[band], (mean[band], sd[band]), halo, sums_here)
            return sums_here

        with ThreadPoolExecutor(torch.get_num_threads()) as pool:
            counts = pool.map(count, [band_group[0] for band_group in bands])
            sums = list(pool.map(sum_up, range(len(valid))))
        first, second = zip(*sums, strict=True)
        return cls(halo, tuple(counts), bands, first, second)

    def of_rows(self, rows: slice, cols: slice, sides: Sequence[int]) -> Float32s:
        """Statistics [3SC,h,w] of the pixels in some rows and columns of the block.

        Windows of the S `sides` come one after the other; of each, means, standard deviations and
        gradients of all bands, in standard deviations of the band; 0 where nothing is valid.
        """
        (top, low, _), (left, right, _) = (
            part.indices(length - 2 * self.halo - 1)
            for part, length in zip((rows, cols), self.first[0].shape, strict=True)
        )
        across = np.arange(top, low), np.full(low - top, left)
        return self._of_runs(*across, right - left, sides)

    def of_pixels(self, rows: Int64s, cols: Int64s, sides: Sequence[int]) -> Float32s:
        """Statistics [3SC,n], as of `of_rows`, of pixels at `rows` and `cols` [n]."""
        return self._of_runs(rows, cols, 1, sides)[..., 0]

    def _of_runs(self, rows: Int64s, cols: Int64s, width: int, sides: Sequence[int]) -> Float32s:
        """Statistics [3SC,n,width] of runs of pixels that begin at `rows` and `cols` [n]."""
        bands, shape = len(self.first), (len(rows), PARTS, width)
        statistics = np.empty((len(sides), 3, bands, len(rows), width), np.float32)
        for planes, side in zip(statistics, sides, strict=True):
            places = rows + self.halo, cols + self.halo, side // 2
            for count, together in zip(self.counts, self.bands, strict=True):
                weights = np.empty(shape), np.empty(shape)
                _weigh(count, places, *weights)
                for band in together:
                    sums = self.first[band], self.second[band]
                    _fill(
                        sums, places, weights, (planes[0, band], planes[1, band], planes[2, band])
                    )
        return statistics.reshape(-1, len(rows), width)


def _narrow(halo: int) -> type[np.signedinteger[Any]]:
    """The type with differences that fit every window's sum, though the integral image wraps."""
    largest = int(CLIP * UNIT) * (2 * halo + 1) ** 2
    return np.int32 if largest <= np.iinfo(np.int32).max else np.int64


def _valid_together(valid: Bools) -> list[list[int]]:
    """Positions of the bands [C,H,W] by which pixels of them are valid.

    >>> _valid_together(np.array([[[1]], [[0]], [[1]]], dtype=bool))
    [[0, 2], [1]]
    """
    several: list[list[int]] = []
    for band, seen in enumerate(valid):
        like = next((group for group in several if np.array_equal(valid[group[0]], seen)), None)
        if like is None:
            several.append([band])
        else:
            like.append(band)
    return several


@compiled
def _count_up(valid: Bools, halo: int, out: Integers) -> None:
    """Write the integral image of a band's valid pixels [H,W]."""
    levels = np.zeros(valid.shape[1], np.int64)
    out[: halo + 1] = 0
    for row in range(len(valid)):
        levels[:] = valid[row]
        _add_row(levels, halo, out[row + halo], out[row + halo + 1])
    for row in range(halo + 1 + len(valid), len(out)):
        out[row] = out[row - 1]


@compiled
def _sum_up(
    dn: Float64s,
    valid: Bools,
    scale: tuple[float, float],
    halo: int,
    out: tuple[Integers, Int64s],
) -> None:
    """Write the integral images of a band's values [H,W], standardised and rounded, and squares."""
    (mean, sd), (first, second) = scale, out
    levels = np.zeros(valid.shape[1], np.int64)
    first[: halo + 1] = 0
    second[: halo + 1] = 0
    for row in range(len(valid)):
        for col in range(len(levels)):
            z = min(max((dn[row, col] - mean) / sd, -CLIP), CLIP)
            levels[col] = np.int64(np.rint(z * UNIT)) if valid[row, col] else 0
        _add_row(levels, halo, first[row + halo], first[row + halo + 1])
        _add_row(levels * levels, halo, second[row + halo], second[row + halo + 1])
    for row in range(halo + 1 + len(valid), len(first)):
        first[row] = first[row - 1]
        second[row] = second[row - 1]


@compiled
def _add_row(values: Int64s, halo: int, before: Integers, out: Integers) -> None:
    """Write a row of an integral image, from the one before it and the values below that."""
    total = 0
    out[: halo + 1] = 0
    for col in range(len(values)):
        total += values[col]
        out[halo + 1 + col] = before[halo + 1 + col] + total
    out[halo + 1 + len(values) :] = out[halo + len(values)]


@compiled
def _weigh(count: Integers, places: Places, shares: Float64s, lacks: Float64s) -> None:
    """Write 1 over the valid pixels of windows and their PARTS [n,PARTS,w], and where are none.

    A share is 0 where there is none, and a lack is 1 there, 0 elsewhere.
    """
    rows, cols, half = places
    numbers = np.empty(shares.shape[1:], count.dtype)
    for i in range(len(rows)):
        _sum_parts(count, (rows[i], cols[i] - half, half), numbers)
        for k in range(PARTS):
            _invert(numbers[k], shares[i, k], lacks[i, k])


@compiled
def _fill(
    sums: tuple[Integers, Int64s],
    places: Places,
    weights: tuple[Float64s, Float64s],
    out: tuple[Float32s, Float32s, Float32s],
) -> None:
    """Write mean, sd and gradient [n,w] of a band in windows about runs of pixels."""
    (first, second), (rows, cols, half), (shares, lacks) = sums, places, weights
    width = shares.shape[2]
    totals, squares = np.empty((PARTS, width), first.dtype), np.empty((1, width), np.int64)
    means, square = np.empty((PARTS, width)), np.empty(width)
    for i in range(len(rows)):
        window = rows[i], cols[i] - half, half
        _sum_parts(first, window, totals)
        _sum_parts(second, window, squares)
        _average(totals, shares[i], lacks[i], means)
        _multiply(squares[0], shares[i, 0], square)
        _write_mean(means[0], out[0][i])
        _write_sd(means[0], square, out[1][i])
        _write_gradient(means, out[2][i])


@compiled
def _sum_parts(image: Integers, window: tuple[int, int, int], out: Integers) -> None:
    """Sums over the windows about a run of w pixels [1,w], or over their PARTS too.

    The integral image of the window's row and left begins above and to the left of the window.
    """
    row, left, half = window
    width, side = out.shape[1], 2 * half + 1
    right = left + side + width
    tall = np.empty(right - left, image.dtype)
    top, low = image[row - half, left:right], image[row + half + 1, left:right]
    _subtract(low, top, tall)
    _subtract(tall[side:], tall, out[0])
    if len(out) == 1:
        return
    _subtract(tall[side:], tall[half + 1 :], out[1])
    _subtract(tall[half:], tall, out[2])
    _subtract(low, image[row + 1, left:right], tall)
    _subtract(tall[side:], tall, out[3])
    _subtract(image[row, left:right], top, tall)
    _subtract(tall[side:], tall, out[4])


@compiled
def _subtract(one: Integers, other: Integers, out: Integers) -> None:
    """Write differences [w] of two longer arrays; in the type of all, so that they may wrap."""
    for i in range(len(out)):
        out[i] = one[i] - other[i]


@compiled
def _invert(number: Integers, share: Float64s, lack: Float64s) -> None:
    for i in range(len(share)):
        share[i] = 1.0 / number[i] if number[i] > 0 else 0.0
    for i in range(len(lack)):
        lack[i] = 0.0 if number[i] > 0 else 1.0


@compiled
def _average(totals: Integers, shares: Float64s, lacks: Float64s, means: Float64s) -> None:
    """Write means over the PARTS of windows; of an empty part, that over the window."""
    for k in range(PARTS):
        _multiply(totals[k], shares[k], means[k])
    for k in range(1, PARTS):
        _add_product(means[0], lacks[k], means[k])


@compiled
def _multiply(one: NDArray[Any], other: Float64s, out: Float64s) -> None:
    for i in range(len(out)):
        out[i] = one[i] * other[i]


@compiled
def _add_product(one: Float64s, other: Float64s, out: Float64s) -> None:
    for i in range(len(out)):
        out[i] += one[i] * other[i]


@compiled
def _write_mean(mean: Float64s, out: Float32s) -> None:
    for i in range(len(out)):
        out[i] = mean[i] / UNIT


@compiled
def _write_sd(mean: Float64s, square: Float64s, out: Float32s) -> None:
    for i in range(len(out)):
        variance = square[i] - mean[i] * mean[i]
        out[i] = np.sqrt(variance if variance > 0.0 else 0.0) / UNIT


@compiled
def _write_gradient(means: Float64s, out: Float32s) -> None:
    right, left, below, above = means[1], means[2], means[3], means[4]
    for i in range(len(out)):
        across, down = right[i] - left[i], below[i] - above[i]
        out[i] = np.sqrt(across * across + down * down) / UNIT
