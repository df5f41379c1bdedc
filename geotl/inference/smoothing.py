"""Class probabilities of pixels smoothed by a guided filter: edges of the image stay edges.

In every window about a pixel, a class's probability is fitted as a line over the brightness of the
image (He, Sun & Tang 2013, "Guided image filtering", IEEE TPAMI 35(6), equations 5, 6 and 8). The
smoothed probability of a pixel is the mean of the lines of all windows that hold it, at the
pixel's own brightness. Where brightness hardly varies, that is a mean of the neighbours; across a
river or a road that is darker or brighter than its surroundings, the difference stays.

Values are rounded to binary fractions before they are summed over windows, so that float64 has
every sum exactly and a pixel has the same bits in whatever block of a scene it is computed.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from scipy.ndimage import correlate1d

from geotl.arrays import Bools, Float32s, Float64s, UInt16s

EDGE = 0.1  # variance of brightness, in sd^2 of a band, from which a difference is an edge
_CLIP = 31.0  # standard deviations
_BRIGHTNESS, _SHARE, _LINE = 10, 16, 24  # bits behind the point; sums over 101 x 101 px stay exact
_MIDDLE = 2**15  # what a brightness of 0 is kept as


@dataclass(frozen=True)
class GuidedFilter:
    """Smoothing of the probabilities of a map of pixels.

    Attributes:
        side_px: side of the filter's windows in pixels, odd.
        mean: mean of each of the scene's bands in the model's digital numbers, for the guide.
        sd: likewise.
        some_bands: pixels that lack some bands count too, with the bands they have.
    """

    side_px: int
    mean: tuple[float, ...]
    sd: tuple[float, ...]
    some_bands: bool = False

    @property
    def reach(self) -> int:
        """Pixels from a pixel to the farthest one that the filter uses: two windows' halves."""
        return self.side_px // 2 * 2

    def guide(self, image: Float32s) -> UInt16s:
        """The guide [H,W], packed, of raw pixels [C,H,W] that are NaN where invalid.

        Bands of extra rasters, which come behind the scene's own, are left out.
        """
        bands = image[: len(self.mean)]
        return packed(brightness(bands, self.mean, self.sd, some_bands=self.some_bands))

    def smooth(self, probabilities: Float32s, guide: UInt16s) -> Float32s:
        """Probabilities [h,w,K] smoothed over a packed guide [h,w]; see `guided`."""
        return guided(probabilities, unpacked(guide), self.side_px)


def brightness(
    image: Float32s, mean: Sequence[float], sd: Sequence[float], *, some_bands: bool = False
) -> Float64s:
    """Mean [H,W] of the standardised bands of raw pixels [C,H,W] that are NaN where invalid.

    It is NaN where one band is, or, with `some_bands`, where all are.

    >>> brightness(np.array([[[3.0]], [[8.0]]], np.float32), (1.0, 4.0), (2.0, 4.0)).tolist()
    [[1.0]]
    """
    total, count = np.zeros(image.shape[1:]), np.zeros(image.shape[1:])
    for plane, middle, spread in zip(image, mean, sd, strict=True):  # in the same order everywhere
        valid = np.isfinite(plane)
        total += np.where(valid, (plane.astype(np.float64) - middle) / spread, 0.0)
        count += valid
    usable = count >= (1 if some_bands else len(image))
    return np.where(usable, total / np.maximum(count, 1), np.nan)


def packed(guide: Float64s) -> UInt16s:
    """Brightness in 16 bits, as it is kept until a map is drawn; 0 where it is NaN.

    >>> packed(np.array([0.5, -100.0, np.nan])).tolist()
    [33280, 1024, 0]
    """
    steps = np.rint(np.clip(guide, -_CLIP, _CLIP) * 2.0**_BRIGHTNESS) + _MIDDLE
    return np.where(np.isfinite(guide), steps, 0).astype(np.uint16)


def unpacked(packed: UInt16s) -> Float64s:
    """Brightness that was packed, NaN where it is unknown.

    >>> unpacked(packed(np.array([0.5, -100.0, np.nan]))).tolist()
    [0.5, -31.0, nan]
    """
    values = (packed.astype(np.float64) - _MIDDLE) / 2.0**_BRIGHTNESS
    return np.where(packed > 0, values, np.nan)


def guided(probabilities: Float32s, guide: Float64s, side_px: int) -> Float32s:
    """Probabilities smoothed by a guided filter.

    Args:
        probabilities: probabilities of the classes [h,w,K].
        guide: brightness in standard deviations [h,w]; NaN where a pixel is invalid.
        side_px: side of the windows in pixels, odd.

    Returns:
        Probabilities [h,w,K] that add up to 1 at valid pixels; at others they mean nothing.
    """
    over = _Guide.of(guide, side_px)
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        planes = list(pool.map(over.smooth, np.moveaxis(probabilities, -1, 0)))
    smooth = np.stack(planes, axis=-1)
    total = np.zeros(guide.shape, np.float32)
    for plane in planes:
        total += plane
    smooth /= np.where(total > 0, total, 1)[..., None]
    return smooth


@dataclass(frozen=True)
class _Guide:
    """Brightness of a block, and what the windows about its pixels hold of it; all [h,w].

    Attributes:
        valid: pixels that count.
        values: brightness, 0 where invalid.
        count: valid pixels of each window, at least 1.
        mean: mean of the brightness of these.
        variance: likewise.
        side_px: side of the windows.
    """

    valid: Bools
    values: Float64s
    count: Float64s
    mean: Float64s
    variance: Float64s
    side_px: int

    @classmethod
    def of(cls, guide: Float64s, side_px: int) -> _Guide:
        """From brightness that is NaN where a pixel is invalid."""
        valid = np.isfinite(guide)
        values = _rounded(np.clip(np.where(valid, guide, 0.0), -_CLIP, _CLIP), _BRIGHTNESS)
        count = np.maximum(_sums(valid.astype(np.float64), side_px), 1.0)
        mean = _sums(values, side_px) / count
        variance = np.maximum(_sums(values * values, side_px) / count - mean * mean, 0.0)
        return cls(valid, values, count, mean, variance, side_px)

    def smooth(self, plane: Float32s) -> Float32s:
        """The probability of one class, smoothed [h,w], from 0 to 1."""
        share = np.where(self.valid, _rounded(plane, _SHARE), 0.0)
        mean = self._means(share)
        slope = self._means(share * self.values) - mean * self.mean
        slope /= self.variance + EDGE
        level = mean - slope * self.mean
        slope, level = (
            self._means(np.where(self.valid, _rounded(part, _LINE), 0.0)) for part in (slope, level)
        )
        return np.clip(slope * self.values + level, 0.0, 1.0).astype(np.float32)

    def _means(self, values: Float64s) -> Float64s:
        """Means over the valid pixels of each window, of values that are 0 at the others."""
        return _sums(values, self.side_px) / self.count


def _sums(values: Float64s, side_px: int) -> Float64s:
    """Sums over the windows about each pixel; beyond the edge nothing counts.

    >>> _sums(np.ones((2, 3)), 3).tolist()
    [[4.0, 6.0, 4.0], [4.0, 6.0, 4.0]]
    """
    ones = np.ones(side_px)
    for axis in (0, 1):
        values = correlate1d(values, ones, axis, mode="constant")
    return values


def _rounded(values: Float32s | Float64s, bits: int) -> Float64s:
    """Values rounded to so many bits behind the point.

    >>> float(_rounded(np.array(0.3), 2))
    0.25
    """
    return np.asarray(np.rint(values.astype(np.float64) * 2.0**bits) / 2.0**bits)
