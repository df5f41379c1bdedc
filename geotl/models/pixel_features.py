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
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from geotl.arrays import Bools, Float32s, Float64s, Int64s
from geotl.errors import DataError

Features = Mapping[str, Float32s]  # [D, ...] by block
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
_UNIT = 4096.0  # whole numbers of a standard deviation
_CLIP = 64.0  # standard deviations; with _UNIT, squares over 2**27 pixels fit 64 bits


@dataclass(frozen=True)
class PixelFeatures:
    """How features are computed of pixels.

    Attributes:
        bands: names of the bands, in order, and their `wavelengths` in nm, None if unknown.
        mean: of each band over the training scene's pixels, in DN.
        sd: likewise; above 0.
        zero_dn: the DN of zero reflectance, which normalised differences count from.
        windows_px: odd sides of the windows; () for the bands alone.
    """

    bands: tuple[str, ...]
    wavelengths: tuple[float | None, ...]
    mean: tuple[float, ...]
    sd: tuple[float, ...]
    zero_dn: float
    windows_px: tuple[int, ...] = WINDOWS_PX

    def __post_init__(self) -> None:
        """Check that windows have a middle pixel.

        Raises:
            DataError: an even or negative side.
        """
        wrong = [side for side in self.windows_px if side < 3 or side % 2 == 0]
        if wrong:
            raise DataError(f"window of {wrong[0]} px: allowed are odd sides from 3")

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


class BlockFeatures:
    """The features of a block of a scene, computed strip by strip or at single pixels.

    Memory is three integral images a band, and what is asked for.
    """

    def __init__(self, of: PixelFeatures, image: NDArray[np.generic], valid: Bools) -> None:
        """Prepare a block.

        Args:
            of: how.
            image: digital numbers [C,H,W].
            valid: which of them are valid [C,H,W].
        """
        mean, sd = (np.asarray(x, np.float64)[:, None, None] for x in (of.mean, of.sd))
        self.of, self.valid = of, valid
        self._dn = image
        self._z = np.where(valid, (image.astype(np.float64) - mean) / sd, 0.0)
        self._sums: list[tuple[Int64s, Int64s, Int64s]] = []
        if of.windows_px:
            self._sums = [self._integrals(z, v) for z, v in zip(self._z, valid, strict=True)]

    def _integrals(self, z: Float64s, valid: Bools) -> tuple[Int64s, Int64s, Int64s]:
        whole = np.rint(np.clip(z, -_CLIP, _CLIP) * _UNIT).astype(np.int64)
        parts = (whole, whole * whole, valid.astype(np.int64))
        count, first, second = (_integral(x, self.of.halo) for x in (parts[2], *parts[:2]))
        return count, first, second

    def strip(self, rows: slice) -> dict[str, Float32s]:
        """Features [D,h,W] of some rows of the block, by block of features."""
        found = {BANDS: self._bands(self._dn[:, rows], self._z[:, rows], self.valid[:, rows])}
        if self.of.windows_px:
            height, width = self._z.shape[1:]
            down = np.arange(height)[rows]
            found[WIDE] = self._wide(down[:, None], np.arange(width)[None])
        return found

    def at(self, rows: Int64s, cols: Int64s) -> dict[str, Float32s]:
        """Features [D,n] of single pixels of the block."""
        here = np.s_[:, rows, cols]
        found = {BANDS: self._bands(self._dn[here], self._z[here], self.valid[here])}
        if self.of.windows_px:
            found[WIDE] = self._wide(rows, cols)
        return found

    def _bands(self, dn: NDArray[np.generic], z: Float64s, valid: Bools) -> Float32s:
        """Standardised values, 0 where invalid, and normalised differences, 0 likewise."""
        light = np.maximum(dn.astype(np.float64) - self.of.zero_dn, 1e-6)
        planes = [*z]
        for a, b in self.of.pairs:
            ratio = (light[a] - light[b]) / (light[a] + light[b])
            planes.append(np.where(valid[a] & valid[b], ratio, 0.0))
        return np.stack(planes).astype(np.float32)

    def _wide(self, rows: Int64s, cols: Int64s) -> Float32s:
        """Mean, sd and gradient in every window about the pixels at rows and cols (broadcast)."""
        planes: list[Float64s] = []
        for side in self.of.windows_px:
            several = [self._of_window(sums, rows, cols, side // 2) for sums in self._sums]
            for statistic in zip(*several, strict=True):
                planes.extend(statistic)
        return np.stack(planes).astype(np.float32)

    def _of_window(
        self, sums: tuple[Int64s, Int64s, Int64s], rows: Int64s, cols: Int64s, half: int
    ) -> tuple[Float64s, Float64s, Float64s]:
        """Mean, sd and gradient of one band in one window; 0 where nothing in it is valid."""
        halo = self.of.halo
        top, low = rows + halo - half, rows + halo + half + 1
        left, right = cols + halo - half, cols + halo + half + 1
        count, first, second = (_box(x, top, low, left, right) for x in sums)
        number = np.maximum(count, 1)
        mean = first / number
        sd = np.sqrt(np.maximum(second / number - mean * mean, 0.0))

        def mean_of(top: Int64s, low: Int64s, left: Int64s, right: Int64s) -> Float64s:
            number, total = (_box(x, top, low, left, right) for x in sums[:2])
            return np.where(number > 0, total / np.maximum(number, 1), mean)

        across = mean_of(top, low, left + half + 1, right) - mean_of(
            top, low, left, right - half - 1
        )
        down = mean_of(top + half + 1, low, left, right) - mean_of(top, low - half - 1, left, right)
        gradient = np.sqrt(across * across + down * down)
        return mean / _UNIT, sd / _UNIT, gradient / _UNIT


def _integral(values: Int64s, halo: int) -> Int64s:
    """Sums of all values above and to the left, of an array widened by zeros on every side."""
    wide = np.pad(values, ((halo + 1, halo), (halo + 1, halo)))
    np.cumsum(wide, axis=0, out=wide)
    np.cumsum(wide, axis=1, out=wide)
    return wide


def _box(integral: Int64s, top: Int64s, low: Int64s, left: Int64s, right: Int64s) -> Int64s:
    """Sums over the rows top to low and the columns left to right (ends excluded).

    >>> whole = _integral(np.arange(9, dtype=np.int64).reshape(3, 3), 1)
    >>> int(_box(whole, np.array(1), np.array(3), np.array(1), np.array(3)))
    8
    """
    found: Int64s = (
        integral[low, right] - integral[top, right] - integral[low, left] + integral[top, left]
    )
    return found
