"""What a single pixel is described by: its bands, and the ground around it.

Two blocks of features. "bands": standardised values and normalised differences of pairs of spectral
regions. "wide": mean, standard deviation and gradient of every band in windows of several sides
about the pixel, of valid pixels alone.

Sums over windows come from integral images of whole numbers, so that a pixel's features are the
same to the bit in whatever block of a scene they are computed, as long as the block reaches
`halo` pixels beyond the pixel or to the scene's edge.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from geotl.arrays import Bools, Float32s, Float64s, Int64s
from geotl.errors import DataError

Features = Mapping[str, Float32s]  # [D, ...] by block
_Integers = NDArray[np.signedinteger[Any]]
WINDOWS_PX = (3, 7, 15, 33)
BANDS, WIDE = "bands", "wide"
REGIONS_NM: Mapping[str, tuple[float, float]] = {
    "blue": (430, 520),
    "green": (520, 600),
    "red": (620, 690),
    "red_edge": (690, 760),
    "nir": (760, 960),
    "swir1": (1500, 1750),
    "swir2": (2050, 2400),
}
UNIT = 4096.0  # whole numbers of a standard deviation
CLIP = 64.0  # standard deviations; with UNIT, squares over 2**27 pixels fit 64 bits


@dataclass(frozen=True)
class PixelFeatures:
    """How features are computed of pixels.

    Attributes:
        bands: names of the bands, in order, and their `wavelengths` in nm, None if unknown.
        mean: of each band over the training scene's pixels, in DN.
        sd: likewise; above 0.
        zero_dn: the DN of zero reflectance, which normalised differences count from.
        windows_px: odd sides of the windows; () for the bands alone.
        missing_bands: whether pixels that lack some bands are used with the bands they have, in
            training and in maps; a file that does not say so is of a model that excludes them.
        extra: how many of the bands, the last ones, are of rasters beside the scene.
    """

    bands: tuple[str, ...]
    wavelengths: tuple[float | None, ...]
    mean: tuple[float, ...]
    sd: tuple[float, ...]
    zero_dn: float
    windows_px: tuple[int, ...] = WINDOWS_PX
    missing_bands: Literal["use", "exclude"] = "exclude"
    extra: int = 0

    def __post_init__(self) -> None:
        """Check that windows have a middle pixel.

        Raises:
            DataError: an even or negative side.
        """
        wrong = [side for side in self.windows_px if side < 3 or side % 2 == 0]
        if wrong:
            raise DataError(f"window of {wrong[0]} px: allowed are odd sides from 3")

    @property
    def own(self) -> int:
        """How many of the bands, the first ones, are the scene's."""
        return len(self.bands) - self.extra

    @property
    def halo(self) -> int:
        """Pixels around a block that its features depend on."""
        return max(self.windows_px, default=1) // 2

    @property
    def pairs(self) -> tuple[tuple[int, int], ...]:
        """Positions of the bands of each normalised difference: a band of each region, by pairs."""
        first: dict[str, int] = {}
        for region, (low, high) in REGIONS_NM.items():
            inside = [
                (abs(nm - (low + high) / 2), i)
                for i, nm in enumerate(self.wavelengths)
                if nm is not None and low <= nm < high
            ]
            if inside:
                first[region] = min(inside)[1]
        return tuple(combinations(first.values(), 2))

    @property
    def names(self) -> dict[str, tuple[str, ...]]:
        """Name of every feature, by block."""
        bands = [*self.bands]
        bands += [f"({self.bands[a]}-{self.bands[b]})/sum" for a, b in self.pairs]
        wide = [
            f"{what} of {band} in {side} px"
            for side in self.windows_px
            for what in ("mean", "sd", "gradient")
            for band in self.bands
        ]
        return {BANDS: tuple(bands)} | ({WIDE: tuple(wide)} if wide else {})


@dataclass(frozen=True)
class _Integrals:
    """Integral images of one band: of its valid pixels, its values and their squares.

    Bands whose pixels are valid together share one `count`.
    """

    count: _Integers
    first: _Integers
    second: Int64s


@dataclass(frozen=True)
class _Sums:
    """Sums over a window about each pixel of a strip, and over its halves, each [h,w]."""

    whole: NDArray[Any]
    right: NDArray[Any]
    left: NDArray[Any]
    below: NDArray[Any]
    above: NDArray[Any]

    @classmethod
    def of(cls, integral: _Integers, strip: _Strip, half: int) -> _Sums:
        """From an integral image, by plain slices of it."""
        side = 2 * half + 1
        high, wide = strip.height, strip.width
        part = strip.around(integral, half)
        tall = part[side:] - part[:-side]
        broad = part[:, side:] - part[:, :-side]
        return cls(
            tall[:, side:] - tall[:, :wide],
            tall[:, side:] - tall[:, half + 1 : half + 1 + wide],
            tall[:, half : half + wide] - tall[:, :wide],
            broad[side:] - broad[half + 1 : half + 1 + high],
            broad[half : half + high] - broad[:high],
        )

    @property
    def parts(self) -> tuple[NDArray[Any], ...]:
        """The window and its halves."""
        return self.whole, self.right, self.left, self.below, self.above


@dataclass(frozen=True)
class _Strip:
    """Some rows and columns of a block whose integral images are `halo` wider on every side."""

    row: int
    col: int
    height: int
    width: int
    halo: int

    def around(self, integral: _Integers, half: int) -> _Integers:
        """The part of an integral image that windows of 2 * half + 1 pixels need."""
        row, col, more = self.row + self.halo - half, self.col + self.halo - half, 2 * half + 1
        return integral[row : row + self.height + more, col : col + self.width + more]


@dataclass(frozen=True)
class _Numbers:
    """How many valid pixels lie in a window and in its halves, at least 1, as float64 [h,w].

    `empty` says where there is none, for each half; None where every half has some.
    """

    whole: Float64s
    halves: tuple[Float64s, ...]
    empty: tuple[Bools, ...] | None

    @classmethod
    def of(cls, sums: _Sums) -> _Numbers:
        """From sums of validity."""
        whole, *halves = (np.maximum(part, 1).astype(np.float64) for part in sums.parts)
        empty = tuple(part == 0 for part in sums.parts[1:])
        return cls(whole, tuple(halves), empty if any(e.any() for e in empty) else None)


class BlockFeatures:
    """The features of a block of a scene, computed strip by strip or at single pixels.

    Memory is the integral images of the bands, 12 bytes a pixel and band, and what is asked for.
    """

    def __init__(self, of: PixelFeatures, image: NDArray[np.generic], valid: Bools) -> None:
        """Prepare a block.

        Args:
            of: how.
            image: digital numbers [C,H,W].
            valid: which of them are valid [C,H,W].
        """
        self.of, self.valid = of, valid
        self._dn = image
        self._sums: list[_Integrals] = []
        if of.windows_px:
            self._sums = self._integrals()

    def _integrals(self) -> list[_Integrals]:
        """Integral images of every band."""
        halo, narrow = self.of.halo, _narrow(self.of.windows_px)
        counts: list[tuple[Bools, _Integers]] = []
        shared = []
        for seen in self.valid:
            count = next((own for v, own in counts if np.array_equal(v, seen)), None)
            if count is None:
                count = _integral(seen, halo, narrow)
                counts.append((seen, count))
            shared.append(count)

        def of_band(band: int) -> _Integrals:
            levels = self._levels(band)
            first = _integral(levels, halo, narrow)
            return _Integrals(shared[band], first, _integral(np.square(levels), halo))

        with ThreadPoolExecutor(torch.get_num_threads()) as pool:
            return list(pool.map(of_band, range(len(self.valid))))

    def _levels(self, band: int) -> Int64s:
        """Standardised values [H,W] of a band in whole numbers, 0 where invalid."""
        here = slice(band, band + 1)
        z = self._standardised(self._dn[here], self.valid[here], here)[0]
        np.clip(z, -CLIP, CLIP, out=z)
        z *= UNIT
        return np.asarray(np.rint(z, out=z), np.int64)

    def _standardised(
        self, dn: NDArray[np.generic], valid: Bools, bands: slice = slice(None)
    ) -> Float64s:
        """Digital numbers [C,...] less the mean, over the sd, 0 where invalid."""
        shape = (-1, *[1] * (dn.ndim - 1))
        mean, sd = (np.asarray(x, np.float64)[bands] for x in (self.of.mean, self.of.sd))
        z = dn.astype(np.float64)
        z -= mean.reshape(shape)
        z /= sd.reshape(shape)
        z[~valid] = 0.0
        return z

    def strip(self, rows: slice, cols: slice = slice(None)) -> dict[str, Float32s]:
        """Features [D,h,w] of some rows and columns of the block, by block of features."""
        here = np.s_[:, rows, cols]
        found = {BANDS: self._bands(self._dn[here], self.valid[here])}
        if self.of.windows_px:
            (top, low, _), (left, right, _) = (
                part.indices(length)
                for part, length in zip((rows, cols), self.valid.shape[1:], strict=True)
            )
            found[WIDE] = self._wide_strip(_Strip(top, left, low - top, right - left, self.of.halo))
        return found

    def at(self, rows: Int64s, cols: Int64s) -> dict[str, Float32s]:
        """Features [D,n] of single pixels of the block."""
        here = np.s_[:, rows, cols]
        found = {BANDS: self._bands(self._dn[here], self.valid[here])}
        if self.of.windows_px:
            found[WIDE] = self._wide(rows, cols)
        return found

    def standardised(self) -> Float32s:
        """The scene's own bands [C,H,W], which a network sees, in standard deviations.

        Invalid pixels are 0, the mean; bands of extra rasters are left out.
        """
        own = slice(self.of.own)
        return self._standardised(self._dn[own], self.valid[own], own).astype(np.float32)

    def _bands(self, dn: NDArray[np.generic], valid: Bools) -> Float32s:
        """Standardised values, 0 where invalid, and normalised differences, 0 likewise."""
        pairs = self.of.pairs
        found = np.empty((len(dn) + len(pairs), *dn.shape[1:]), np.float32)
        found[: len(dn)] = self._standardised(dn, valid)
        light = dn.astype(np.float64)
        light -= self.of.zero_dn
        np.maximum(light, 1e-6, out=light)
        for plane, (a, b) in zip(found[len(dn) :], pairs, strict=True):
            plane[...] = (light[a] - light[b]) / (light[a] + light[b])
            plane[~(valid[a] & valid[b])] = 0.0
        return found

    def _wide_strip(self, strip: _Strip) -> Float32s:
        """As `_wide`, of every pixel of a strip."""
        bands, sides = len(self._sums), self.of.windows_px
        found = np.empty((len(sides), 3, bands, strip.height, strip.width), np.float32)
        for planes, side in zip(found, sides, strict=True):
            numbers: dict[int, _Numbers] = {}
            for band, sums in enumerate(self._sums):
                key = id(sums.count)
                if key not in numbers:
                    numbers[key] = _Numbers.of(_Sums.of(sums.count, strip, side // 2))
                _statistics(sums, numbers[key], strip, side // 2, planes[:, band])
        return found.reshape(-1, strip.height, strip.width)

    def _wide(self, rows: Int64s, cols: Int64s) -> Float32s:
        """Mean, sd and gradient in every window about the pixels at rows and cols (broadcast)."""
        planes: list[Float64s] = []
        for side in self.of.windows_px:
            several = [self._of_window(sums, rows, cols, side // 2) for sums in self._sums]
            for statistic in zip(*several, strict=True):
                planes.extend(statistic)
        return np.stack(planes).astype(np.float32)

    def _of_window(
        self, sums: _Integrals, rows: Int64s, cols: Int64s, half: int
    ) -> tuple[Float64s, Float64s, Float64s]:
        """Mean, sd and gradient of one band in one window; 0 where nothing in it is valid."""
        halo = self.of.halo
        top, low = rows + halo - half, rows + halo + half + 1
        left, right = cols + halo - half, cols + halo + half + 1
        three = (sums.count, sums.first, sums.second)
        count, first, second = (_box(x, top, low, left, right) for x in three)
        number = np.maximum(count, 1)
        mean = first / number
        sd = np.sqrt(np.maximum(second / number - mean * mean, 0.0))

        def mean_of(top: Int64s, low: Int64s, left: Int64s, right: Int64s) -> Float64s:
            number, total = (_box(x, top, low, left, right) for x in three[:2])
            return np.where(number > 0, total / np.maximum(number, 1), mean)

        across = mean_of(top, low, left + half + 1, right) - mean_of(
            top, low, left, right - half - 1
        )
        down = mean_of(top + half + 1, low, left, right) - mean_of(top, low - half - 1, left, right)
        gradient = np.sqrt(across * across + down * down)
        return mean / UNIT, sd / UNIT, gradient / UNIT


def _statistics(
    sums: _Integrals, numbers: _Numbers, strip: _Strip, half: int, planes: Float32s
) -> None:
    """Write mean, sd and gradient of one band in one window into planes [3,h,w]."""
    first = _Sums.of(sums.first, strip, half)
    mean = first.whole / numbers.whole
    spread = _window_sum(strip.around(sums.second, half), 2 * half + 1) / numbers.whole
    spread -= mean * mean
    np.maximum(spread, 0.0, out=spread)
    np.sqrt(spread, out=spread)
    for plane, values in zip(planes, (mean, spread, _gradient(first, mean, numbers)), strict=True):
        np.divide(values, UNIT, out=plane, casting="same_kind")


def _gradient(first: _Sums, mean: Float64s, numbers: _Numbers) -> Float64s:
    """Length of the difference of opposite halves' means; the window's where a half is empty."""
    halves = [part / number for part, number in zip(first.parts[1:], numbers.halves, strict=True)]
    for part, none in zip(halves, numbers.empty or (), strict=False):
        np.copyto(part, mean, where=none)
    right, left, below, above = halves
    right -= left
    below -= above
    right *= right
    below *= below
    right += below
    return np.sqrt(right, out=right)


def _window_sum(part: _Integers, side: int) -> _Integers:
    """Sums over windows of `side` pixels, from the part of an integral image about them."""
    tall = part[side:] - part[:-side]
    return np.asarray(tall[:, side:] - tall[:, :-side])


def _narrow(windows_px: tuple[int, ...]) -> type[np.signedinteger[Any]]:
    """The type whose differences hold every window's sum, though the integral image wraps."""
    largest = int(CLIP * UNIT) * max(windows_px) ** 2
    return np.int32 if largest <= np.iinfo(np.int32).max else np.int64


def _integral(
    values: NDArray[Any], halo: int, dtype: type[np.signedinteger[Any]] = np.int64
) -> _Integers:
    """Sums of all values above and to the left, of an array widened by zeros on every side."""
    height, width = values.shape
    wide = np.zeros((height + 2 * halo + 1, width + 2 * halo + 1), dtype)
    wide[halo + 1 : halo + 1 + height, halo + 1 : halo + 1 + width] = values
    np.cumsum(wide, axis=0, out=wide)
    np.cumsum(wide, axis=1, out=wide)
    return wide


def _box(integral: _Integers, top: Int64s, low: Int64s, left: Int64s, right: Int64s) -> _Integers:
    """Sums over the rows top to low and the columns left to right (ends excluded).

    >>> whole = _integral(np.arange(9, dtype=np.int64).reshape(3, 3), 1)
    >>> int(_box(whole, np.array(1), np.array(3), np.array(1), np.array(3)))
    8
    """
    found: _Integers = (
        integral[low, right] - integral[top, right] - integral[low, left] + integral[top, left]
    )
    return found
