"""Features of a single pixel: its bands, and its surroundings.

Two blocks of features. "bands": standardised values and normalised differences of pairs of spectral
regions. "wide": mean, standard deviation and gradient of every band in windows of several sides
around the pixel, of valid pixels only.

A pixel's features are the same to the bit in whatever block of a scene they are computed, as long
as the block reaches `halo` pixels beyond the pixel or to the scene's edge.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from geotl.arrays import Bools, Float32s, Float64s, Int64s
from geotl.compiled import compiled
from geotl.errors import DataError
from geotl.models.window_statistics import WindowSums

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
MIN_ABOVE_ZERO = 1e-6  # DN above zero reflectance that normalised differences count, at least


@dataclass(frozen=True)
class PixelFeatures:
    """Definition of the features of pixels.

    Attributes:
        bands: names of the bands, in order, and their `wavelengths` in nm, None if unknown.
        mean: mean of each band over the training scene's pixels, in DN.
        sd: likewise; above 0.
        zero_dn: the DN of zero reflectance, which normalised differences count from.
        windows_px: odd sides of the windows; () for only the bands.
        missing_bands: whether pixels that lack some bands are used with the bands they have, in
            training and in maps; a file without this field is of a model that excludes them.
        extra: number of the bands of extra rasters, the last ones.
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
    def scene_band_count(self) -> int:
        """Number of the scene's bands, which are the first ones."""
        return len(self.bands) - self.extra

    def of_scene(self) -> PixelFeatures:
        """The features of the scene's bands, without those of extra rasters."""
        scene_bands = slice(self.scene_band_count)
        return replace(
            self,
            bands=self.bands[scene_bands],
            wavelengths=self.wavelengths[scene_bands],
            mean=self.mean[scene_bands],
            sd=self.sd[scene_bands],
            extra=0,
        )

    @property
    def halo(self) -> int:
        """Pixels around a block that its features depend on."""
        return max(self.windows_px, default=1) // 2

    @property
    def pairs(self) -> tuple[tuple[int, int], ...]:
        """Positions of the bands of each normalised difference: a band of each region, by pairs."""
        return tuple(combinations(region_bands(self.wavelengths).values(), 2))

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


def region_bands(wavelengths: Sequence[float | None]) -> dict[str, int]:
    """The position of a band of each spectral region, of `wavelengths` in nm, nearest its middle.

    >>> region_bands((490.0, 560.0, None, 550.0))
    {'blue': 0, 'green': 1}
    """
    widths: dict[str, int] = {}
    for region, (low, high) in REGIONS_NM.items():
        inside = [
            (abs(nm - (low + high) / 2), i)
            for i, nm in enumerate(wavelengths)
            if nm is not None and low <= nm < high
        ]
        if inside:
            widths[region] = min(inside)[1]
    return widths


class BlockFeatures:
    """The features of a block of a scene, computed strip by strip or at single pixels.

    Memory is the integral images of the bands, 12 bytes per pixel and band, and the result.
    """

    def __init__(self, of: PixelFeatures, image: NDArray[np.generic], valid: Bools) -> None:
        """Prepare a block.

        Args:
            of: definition of the features.
            image: digital numbers [C,H,W].
            valid: valid pixels [C,H,W].
        """
        self.of, self.valid = of, valid
        self._dn = image
        self._sums = None
        if of.windows_px:
            self._sums = WindowSums.of(image, valid, of.mean, of.sd, of.halo)

    def strip(self, rows: slice, cols: slice = slice(None)) -> dict[str, Float32s]:
        """Features [D,h,w] of some rows and columns of the block, by block of features."""
        here = np.s_[:, rows, cols]
        blocks = {BANDS: self._bands(self._dn[here], self.valid[here])}
        if self._sums is not None:
            blocks[WIDE] = self._sums.of_rows(rows, cols, self.of.windows_px)
        return blocks

    def at(self, rows: Int64s, cols: Int64s) -> dict[str, Float32s]:
        """Features [D,n] of single pixels of the block."""
        here = np.s_[:, rows, cols]
        blocks = {BANDS: self._bands(self._dn[here], self.valid[here])}
        if self._sums is not None:
            blocks[WIDE] = self._sums.of_pixels(rows, cols, self.of.windows_px)
        return blocks

    def standardised(self) -> Float32s:
        """Input of a network for the block; see `standardised`."""
        return standardised(self.of, self._dn, self.valid)

    def _bands(self, dn: NDArray[np.generic], valid: Bools) -> Float32s:
        """Standardised values, 0 where invalid, and normalised differences, 0 likewise."""
        bands, pairs = len(dn), self.of.pairs
        values = dn.reshape(bands, -1).astype(np.float64)
        seen = valid.reshape(bands, -1)
        features = np.empty((bands + len(pairs), values.shape[1]), np.float32)
        for band, scale in enumerate(zip(self.of.mean, self.of.sd, strict=True)):
            _standardise(values[band], seen[band], *scale, features[band])
        for plane, (a, b) in zip(features[bands:], pairs, strict=True):
            _normalise(values[a], values[b], seen[a] & seen[b], self.of.zero_dn, plane)
        return features.reshape(-1, *dn.shape[1:])


def standardised(of: PixelFeatures, image: NDArray[np.generic], valid: Bools) -> Float32s:
    """The scene's own bands [C,H,W], which a network sees, in standard deviations.

    Invalid pixels are 0, the mean; bands of extra rasters are left out.

    Args:
        of: features with the mean and standard deviation of the bands.
        image: digital numbers [C,H,W].
        valid: valid pixels [C,H,W].
    """
    features = np.empty((of.scene_band_count, *valid.shape[1:]), np.float32)

    def standardise(band: int) -> None:
        dn = np.asarray(image[band], np.float64)
        scale = of.mean[band], of.sd[band]
        _standardise(dn.ravel(), valid[band].ravel(), *scale, features[band].ravel())

    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        list(pool.map(standardise, range(len(features))))
    return features


@compiled
def _standardise(dn: Float64s, valid: Bools, mean: float, sd: float, out: Float32s) -> None:
    """Write digital numbers [n] less the mean, over the sd, 0 where invalid."""
    for i in range(len(out)):
        out[i] = (dn[i] - mean) / sd if valid[i] else 0.0


@compiled
def _normalise(one: Float64s, other: Float64s, valid: Bools, zero_dn: float, out: Float32s) -> None:
    """Write the normalised differences of two bands' digital numbers [n], 0 where invalid."""
    for i in range(len(out)):
        a, b = max(one[i] - zero_dn, MIN_ABOVE_ZERO), max(other[i] - zero_dn, MIN_ABOVE_ZERO)
        out[i] = (a - b) / (a + b) if valid[i] else 0.0
