"""The first convolution's kernels for other bands than those they were trained on.

Pure functions from wavelengths (nm) and band names to a mixing matrix, and from that to kernels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from geotl.errors import BandError

Bands = tuple[Sequence[str], Sequence[float | None]]  # names, and wavelengths in nm
RGB = ("red", "green", "blue")
RGB_NM = (665.0, 560.0, 490.0)
SAME_BAND_NM = 10.0  # sensors put "the same" band a few nanometres apart
RGB_REACH_NM = 30.0  # how far a band may lie from red, green or blue and still be taken for it


def interpolation(source: Sequence[float | None], target: float | None) -> np.ndarray:
    """Shares of the source bands in a band at `target` nm: linear, clamped outside, sum 1.

    Within 10 nm of a source band it is that band. Without a wavelength (grey, or no optical
    band) every source band has the same share.

    >>> interpolation((665.0, 560.0, 490.0), 525.0)
    array([0. , 0.5, 0.5])
    >>> interpolation((665.0, 560.0, 490.0), 2190.0)
    array([1., 0., 0.])
    """
    shares = np.zeros(len(source))
    placed = sorted((nm, i) for i, nm in enumerate(source) if nm is not None)
    if target is None or not placed:
        return np.full(len(source), 1 / len(source))
    distance, nearest = min((abs(nm - target), i) for nm, i in placed)
    below = [(nm, i) for nm, i in placed if nm < target]
    above = [(nm, i) for nm, i in placed if nm >= target]
    if distance <= SAME_BAND_NM or not below or not above:
        shares[nearest] = 1.0
        return shares
    (low, left), (high, right) = below[-1], above[0]
    shares[right] = (target - low) / (high - low)
    shares[left] = 1.0 - shares[right]
    return shares


def mixing_matrix(
    source: Sequence[float | None],
    target: Sequence[float | None],
    same: Mapping[int, int] | None = None,
) -> np.ndarray:
    """Share of each source kernel in each target band: [targets, sources].

    Let a[b, c] be the share of source kernel c in target band b, by wavelength. A filter's
    response to standardised bands that move together (x_b = z for all b) is z * sum_c W_c.
    Mixing W'_b = sum_c M[b, c] W_c keeps it for every filter exactly when each column of M
    sums to one, so M[b, c] = a[b, c] / sum_b a[b, c]: a kernel that several bands call for is
    divided among them. A kernel that no band calls for goes to the bands nearest to it, which
    stand in for the one that is not there. The same bands in any order give a permutation.

    Args:
        source: wavelengths in nm of the kernels' bands, None where unknown.
        target: wavelengths in nm of the new bands.
        same: positions (target -> source) of bands known by name to be the same.

    >>> mixing_matrix((665.0, 560.0, 490.0), (490.0, 560.0, 665.0, 842.0))
    array([[0. , 0. , 1. ], [0. , 1. , 0. ], [0.5, 0. , 0. ], [0.5, 0. , 0. ]])
    """
    shares = np.stack([interpolation(source, nm) for nm in target])
    for band, kernel in (same or {}).items():
        shares[band] = np.eye(len(source))[kernel]
    return _given_out_once(shares, source, target)


def _given_out_once(
    shares: np.ndarray, source: Sequence[float | None], target: Sequence[float | None]
) -> np.ndarray:
    """Shares with columns that sum to one; a kernel without a band goes to substitutes."""
    for kernel in np.flatnonzero(shares.sum(axis=0) == 0).tolist():
        shares[_stand_ins(source[kernel], target), kernel] = 1.0
    given: np.ndarray = shares / shares.sum(axis=0)
    return given


def repetition_matrix(source: Bands, target: Bands) -> np.ndarray:
    """Kernels assigned to the bands in turn, each divided among its bands.

    A band that is a source band by name, or lies nearest to one within 30 nm, takes that kernel;
    every other band, in order, takes the kernel that has been dealt least often so far. So red,
    green, blue, near infrared take R, G, B, R as timm's repetition does, in whatever order they
    stand. Each kernel is divided by its number of bands: timm's factor 3/C where C is a multiple
    of three, and the response to grey kept where it is not.

    >>> rgb = (RGB, RGB_NM)
    >>> repetition_matrix(rgb, (("nir", "blue", "green", "red"), (842, 490, 560, 665)))
    array([[0.5, 0. , 0. ],
           [0. , 0. , 1. ],
           [0. , 1. , 0. ],
           [0.5, 0. , 0. ]])
    """
    shares = np.zeros((len(target[0]), len(source[0])))
    for band, kernel in _matched(source, target).items():
        shares[band, kernel] = 1.0
    for band in np.flatnonzero(shares.sum(axis=1) == 0).tolist():
        shares[band, int(shares.sum(axis=0).argmin())] = 1.0
    return _given_out_once(shares, source[1], target[1])


def _matched(source: Bands, target: Bands) -> dict[int, int]:
    """Target -> source positions, each source band once: by name, else nearest within 30 nm."""
    matches = same_bands(source, target)
    for kernel, nm in enumerate(source[1]):
        near = [
            (abs(w - nm), i)
            for i, w in enumerate(target[1])
            if w is not None and nm is not None and i not in matches
        ]
        if kernel not in matches.values() and near and min(near)[0] <= RGB_REACH_NM:
            matches[min(near)[1]] = kernel
    return matches


def mean_matrix(source: Bands, target: Bands) -> np.ndarray:
    """Every band takes the mean kernel, times the number of kernels over the number of bands.

    >>> mean_matrix((RGB, RGB_NM), (("grey",), (None,)))
    array([[1., 1., 1.]])
    """
    return np.full((len(target[0]), len(source[0])), 1.0 / len(target[0]))


def _stand_ins(wavelength: float | None, target: Sequence[float | None]) -> list[int]:
    """Positions of the target bands nearest to a wavelength; all where nothing is known."""
    distances = {
        i: abs(nm - wavelength)
        for i, nm in enumerate(target)
        if nm is not None and wavelength is not None
    }
    if not distances:
        return list(range(len(target)))
    return [i for i, d in distances.items() if d == min(distances.values())]


def same_bands(source: Bands, target: Bands) -> dict[int, int]:
    """Target -> source positions of bands of one name (and no clear difference in wavelength).

    >>> same_bands((["red", "B8"], [665, 842]), (["B8", "B9"], [None, 945]))
    {0: 1}
    """
    places = {name.casefold(): i for i, name in enumerate(source[0])}
    matches: dict[int, int] = {}
    for band, (name, nm) in enumerate(zip(*target, strict=True)):
        kernel = places.get(name.casefold())
        if kernel is None:
            continue
        there = source[1][kernel]
        if nm is None or there is None or abs(nm - there) <= RGB_REACH_NM:
            matches[band] = kernel
    return matches


def mix_kernels(weight: Tensor, matrix: np.ndarray) -> Tensor:
    """Kernels [O, S, k, k] mixed by `matrix` [T, S] into [O, T, k, k]; plain rows are copied."""
    mixed = torch.einsum("ts,oskl->otkl", torch.from_numpy(matrix), weight.double())
    adapted = mixed.to(weight.dtype).contiguous()
    for band, shares in enumerate(matrix):
        if np.count_nonzero(shares) == 1 and shares.max() == 1.0:
            adapted[:, band] = weight[:, int(shares.argmax())]  # bit for bit, signs of zero too
    return adapted


def adapt_first_conv(
    weight: Tensor,
    source_wavelengths: Sequence[float | None],
    target_wavelengths: Sequence[float | None],
    same: Mapping[int, int] | None = None,
) -> Tensor:
    """A first convolution's kernels [O, S, k, k] for other bands, [O, T, k, k].

    The response to bands that all hold the same standardised value is unchanged, filter by
    filter; see `mixing_matrix` for the rule and why. Wavelengths are in nm.

    >>> kernels = torch.rand(8, 3, 3, 3)
    >>> torch.equal(adapt_first_conv(kernels, RGB_NM, (490, 560, 665)), kernels.flip(1))
    True
    """
    return mix_kernels(weight, mixing_matrix(source_wavelengths, target_wavelengths, same))


def rgb_positions(bands: Sequence[str], wavelengths: Sequence[float | None]) -> tuple[int, ...]:
    """Where red, green and blue are, by name, else by wavelength (within 30 nm).

    Raises:
        BandError: one of them is not there.

    >>> rgb_positions(["B02", "B03", "B04", "B08"], [492.4, 559.8, 664.6, 832.8])
    (2, 1, 0)
    """
    names = [band.casefold() for band in bands]
    positions = []
    for colour, nm in zip(RGB, RGB_NM, strict=True):
        near = [(abs(w - nm), i) for i, w in enumerate(wavelengths) if w is not None]
        if colour in names:
            positions.append(names.index(colour))
        elif near and min(near)[0] <= RGB_REACH_NM:
            positions.append(min(near)[1])
        else:
            raise BandError(
                f"bands {', '.join(bands)}: no {colour} band by name or wavelength ({nm:.0f} nm); "
                "first_conv rgb_only and zero need red, green and blue: add them, or use "
                "wavelength, repeat or mean"
            )
    return tuple(positions)


def rgb_only_matrix(source: Bands, target: Bands) -> np.ndarray:
    """Red, green and blue take their own kernels and every other band none: [targets, sources].

    Raises:
        BandError: source or target lacks red, green or blue.
    """
    matrix = np.zeros((len(target[0]), len(source[0])))
    matrix[list(rgb_positions(*target)), list(rgb_positions(*source))] = 1.0
    return matrix


def describe_mix(matrix: np.ndarray, source: Sequence[str], target: Sequence[str]) -> str:
    """The source kernels of each target band, in words.

    >>> describe_mix(np.array([[1.0, 0.0], [0.0, 0.5]]), ["red", "blue"], ["B04", "B02"])
    'B04 = red, B02 = 0.50 blue'
    """
    parts = []
    for name, shares in zip(target, matrix, strict=True):
        terms = [
            source[i] if shares[i] == 1 else f"{shares[i]:.2f} {source[i]}"
            for i in np.flatnonzero(shares).tolist()
        ]
        parts.append(f"{name} = {' + '.join(terms) or 'nothing'}")
    return ", ".join(parts)
