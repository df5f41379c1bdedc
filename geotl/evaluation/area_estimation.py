"""Accuracy and area of a class map from a probability sample (Olofsson et al. 2014).

Good practices for estimating area and assessing accuracy of land change, Remote Sensing of
Environment 148, 42-57, doi 10.1016/j.rse.2014.02.015. Rows i of an error matrix are map classes,
which are the strata; columns j are reference classes, in the same order. The estimators hold for
stratified random samples with map classes as strata, and, as post-stratified ones, for simple
random and systematic samples.

What cannot be estimated is nan: a mapped class without a reference point leaves everything but the
other classes' user's accuracies unknown, and one with a single point leaves the standard errors
unknown that its variance is part of.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from geotl.arrays import Float64s, Int64s
from geotl.errors import DataError

Allocation = Literal["proportional", "equal", "neyman"]
ALLOCATIONS: tuple[Allocation, ...] = ("proportional", "equal", "neyman")

Z_95 = 1.96  # as the paper rounds it
_MIN_POINTS = 2  # points in a stratum that a variance needs


@dataclass(frozen=True)
class Estimated:
    """Estimates with their standard errors, of one shape; intervals are value ± 1.96 SE."""

    value: Float64s
    se: Float64s

    @property
    def margin(self) -> Float64s:
        """Half the width of the 95 % interval."""
        return Z_95 * self.se

    @property
    def low(self) -> Float64s:
        """Lower end of the 95 % interval (it may lie below 0)."""
        return self.value - self.margin

    @property
    def high(self) -> Float64s:
        """Upper end of the 95 % interval (that of a share may lie above 1)."""
        return self.value + self.margin


@dataclass(frozen=True)
class AreaEstimate:
    """Accuracies and areas from an error matrix and mapped areas; arrays [K] in the classes' order.

    Attributes:
        matrix: counts n_ij [K,K], rows the map, columns the reference.
        weights: W_i, the share of the map that each class takes.
        proportions: p_ij = W_i n_ij / n_i [K,K].
        overall: overall accuracy, of shape [].
        users: user's accuracy; nan for a class without reference points on it.
        producers: producer's accuracy; nan for a class that the reference does not contain.
        mapped_m2: area mapped as each class.
        areas_m2: error-adjusted area of each class.
    """

    matrix: Int64s
    weights: Float64s
    proportions: Float64s
    overall: Estimated
    users: Estimated
    producers: Estimated
    mapped_m2: Float64s
    areas_m2: Estimated


def estimate(matrix: ArrayLike, mapped_pixels: ArrayLike, pixel_area_m2: float) -> AreaEstimate:
    """Accuracies and error-adjusted areas, with standard errors (equations 1 to 11).

    Args:
        matrix: counts n_ij [K,K], rows the map, columns the reference.
        mapped_pixels: N_i [K], pixels mapped as each class.
        pixel_area_m2: area of a pixel; 1 where `mapped_pixels` are areas in square metres, as
            where pixels differ in size.

    Raises:
        DataError: shapes that do not fit, negative figures, nothing mapped, or reference points on
            a class that no pixel has.

    >>> result = estimate([[97, 3], [8, 92]], [3000, 7000], 900.0)
    >>> f"{result.overall.value:.3f} ± {result.overall.margin:.3f}"
    '0.935 ± 0.039'
    >>> (result.areas_m2.value / 1e4).round(1).tolist(), (result.mapped_m2 / 1e4).tolist()
    ([312.3, 587.7], [270.0, 630.0])
    """
    counts, pixels = _checked(matrix, mapped_pixels)
    weights, rows = pixels / pixels.sum(), counts.sum(axis=1)
    there = pixels > 0
    with np.errstate(divide="ignore", invalid="ignore"):
        shares = np.where(there[:, None], counts / rows[:, None], 0.0)  # nan where none was taken
        proportions = weights[:, None] * shares
        spread = np.where(there[:, None], shares * (1 - shares) / _freedom(rows)[:, None], 0.0)
        users = np.where(there, np.diag(shares), np.nan)
        column = proportions.sum(axis=0)
        producers = np.where(column == 0, np.nan, np.diag(proportions) / column)
    inner = np.diag(spread)
    se_column = np.sqrt((weights[:, None] ** 2 * spread).sum(axis=0))
    total_m2 = float(pixels.sum()) * pixel_area_m2
    return AreaEstimate(
        matrix=counts,
        weights=weights,
        proportions=proportions,
        overall=Estimated(
            np.asarray(np.diag(proportions).sum()), np.sqrt((weights**2 * inner).sum())
        ),
        users=Estimated(users, np.where(there, np.sqrt(inner), np.nan)),
        producers=Estimated(producers, _se_of_producers(producers, pixels, shares, spread)),
        mapped_m2=pixels * pixel_area_m2,
        areas_m2=Estimated(total_m2 * column, total_m2 * se_column),
    )


def census(matrix: ArrayLike, sizes_m2: ArrayLike) -> AreaEstimate:
    """Accuracies and areas where the reference is known at every pixel: nothing is sampled.

    Standard errors are nan, since there is no sampling error.

    Args:
        matrix: pixels [K,K], rows the map, columns the reference.
        sizes_m2: their areas [K,K]; the pixels themselves where areas are not known.

    Raises:
        DataError: shapes that do not fit, negative figures, or no pixel.

    >>> float(census([[8, 2], [0, 10]], [[800, 200], [0, 1000]]).overall.value)
    0.9
    """
    sizes = np.asarray(sizes_m2, dtype=np.float64)
    counts, mapped = _checked(matrix, sizes.sum(axis=1))
    shares = sizes / sizes.sum()
    none = np.full(len(mapped), np.nan)
    with np.errstate(invalid="ignore"):
        users = np.diag(sizes) / mapped
        producers = np.diag(sizes) / sizes.sum(axis=0)
    return AreaEstimate(
        matrix=counts,
        weights=mapped / mapped.sum(),
        proportions=shares,
        overall=Estimated(np.asarray(np.trace(shares)), np.asarray(np.nan)),
        users=Estimated(users, none),
        producers=Estimated(producers, none),
        mapped_m2=mapped,
        areas_m2=Estimated(sizes.sum(axis=0), none),
    )


def sample_size(weights: ArrayLike, expected_users: ArrayLike, se_overall: float) -> int:
    """Points that a stratified sample needs for a wanted SE of overall accuracy (equation 13).

    The number of pixels is assumed to be large compared with that of the points.

    Args:
        weights: W_i [K], the mapped shares.
        expected_users: user's accuracies [K], or one for all, that are expected.
        se_overall: standard error wanted, such as 0.01.

    Raises:
        DataError: shares below 0, accuracies beyond 0 to 1, or a SE that is not above 0.

    >>> sample_size([0.020, 0.015, 0.320, 0.645], [0.7, 0.6, 0.9, 0.95], 0.01)
    641
    """
    shares = _shares(weights)
    if not 0 < se_overall < 1:
        raise DataError(f"standard error {se_overall} wanted; allowed: above 0, such as 0.01")
    spread = _spread(expected_users, len(shares))
    exact = float((shares * spread).sum() / se_overall) ** 2
    return math.ceil(exact - 1e-9)  # rounding adds no point


def allocate(
    weights: ArrayLike,
    n: int,
    minimum: int = 0,
    *,
    method: Allocation = "proportional",
    expected_users: ArrayLike = 0.8,
    available: ArrayLike | None = None,
) -> Int64s:
    """Divide n points among the strata, at least `minimum` in each that is mapped (section 5.1.2).

    Classes whose share of the points would fall below the minimum are raised to it, and the rest
    is divided among the others; the paper's compromise between proportional and equal.

    Args:
        weights: W_i [K], the mapped shares; a class with none gets no point.
        n: points in all.
        minimum: points that each mapped class gets at least.
        method: by mapped share; the same for all; or Neyman's, by W_i sqrt(U_i (1 - U_i)).
        expected_users: user's accuracies [K], or one for all, for Neyman's.
        available: pixels of each class; none gets more points.

    Raises:
        DataError: fewer points than the minima need, or more than there are pixels.

    >>> allocate([0.020, 0.015, 0.320, 0.645], 641, 75).tolist()
    [75, 75, 163, 328]
    >>> allocate([0.020, 0.015, 0.320, 0.645], 640, method="equal").tolist()
    [160, 160, 160, 160]
    """
    shares = _shares(weights)
    most = np.full(len(shares), n) if available is None else np.asarray(available, dtype=np.int64)
    there = shares > 0
    least = np.minimum(np.where(there, minimum, 0), most)
    if n < least.sum() or n > np.where(there, most, 0).sum():
        raise DataError(
            f"{n} points for {int(there.sum())} mapped classes; allowed: {int(least.sum())} "
            f"(at least {minimum} a class) to {int(np.where(there, most, 0).sum())}"
        )
    wanted = {
        "proportional": shares,
        "equal": there.astype(np.float64),
        "neyman": shares * _spread(expected_users, len(shares)),
    }[method]
    return _rounded(_bounded(wanted, n, least, np.where(there, most, 0)), n, most)


def too_few(matrix: ArrayLike, mapped_pixels: ArrayLike) -> Int64s:
    """Positions of the mapped classes with fewer points than a variance needs.

    >>> too_few([[3, 0, 0], [0, 1, 0], [0, 0, 0]], [10, 10, 0]).tolist()
    [1]
    """
    counts, pixels = _checked(matrix, mapped_pixels)
    return np.flatnonzero((pixels > 0) & (counts.sum(axis=1) < _MIN_POINTS))


def _checked(matrix: ArrayLike, mapped_pixels: ArrayLike) -> tuple[Int64s, Float64s]:
    counts = np.asarray(matrix, dtype=np.int64)
    pixels = np.asarray(mapped_pixels, dtype=np.float64)
    if counts.ndim != 2 or counts.shape != (len(pixels), len(pixels)) or (counts < 0).any():
        raise DataError(
            f"error matrix of shape {counts.shape} for {len(pixels)} classes; allowed: a square "
            "one of counts, rows the map's classes, columns the reference's in the same order"
        )
    if not np.isfinite(pixels).all() or (pixels < 0).any() or pixels.sum() == 0:
        raise DataError("mapped pixels must be 0 or more for each class, and not 0 for all")
    stray = np.flatnonzero((pixels == 0) & (counts.sum(axis=1) > 0))
    if stray.size:
        raise DataError(
            f"class {int(stray[0])} has reference points but no mapped pixel; count the pixels of "
            "the map that the points lie on"
        )
    return counts, pixels


def _freedom(rows: Int64s) -> Float64s:
    """n_i - 1, nan where that leaves no variance."""
    return np.where(rows < _MIN_POINTS, np.nan, rows - 1.0)


def _se_of_producers(
    producers: Float64s, pixels: Float64s, shares: Float64s, spread: Float64s
) -> Float64s:
    """Equation 7: SE of producer's accuracy; `spread` is s_ij (1 - s_ij) / (n_i - 1) [K,K]."""
    square = pixels[:, None] ** 2 * spread
    diagonal = np.diag(square)
    others = square.sum(axis=0) - diagonal
    reference = (pixels[:, None] * shares).sum(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        variance = ((1 - producers) ** 2 * diagonal + producers**2 * others) / reference**2
    return np.asarray(np.sqrt(np.maximum(variance, 0.0)))


def _shares(weights: ArrayLike) -> Float64s:
    shares = np.asarray(weights, dtype=np.float64)
    if shares.ndim != 1 or not np.isfinite(shares).all() or (shares < 0).any() or not shares.any():
        raise DataError("mapped shares must be a row of figures of 0 or more, and not all 0")
    return np.asarray(shares / shares.sum())


def _spread(expected_users: ArrayLike, classes: int) -> Float64s:
    """S_i = sqrt(U_i (1 - U_i)) of each class."""
    users = np.asarray(expected_users, dtype=np.float64)
    if users.shape not in ((), (classes,)) or not ((users >= 0) & (users <= 1)).all():
        raise DataError(
            f"expected user's accuracies {users.tolist()}; allowed: one from 0 to 1, or one for "
            f"each of {classes} classes"
        )
    return np.asarray(np.broadcast_to(np.sqrt(users * (1 - users)), (classes,)), dtype=np.float64)


def _bounded(wanted: Float64s, n: int, least: Int64s, most: Int64s) -> Float64s:
    """Shares of n in proportion to `wanted` that keep within their bounds, by bisection.

    Each class gets clip(scale * wanted, least, most); the sum grows with the scale.
    """
    if not (wanted > 0).any():
        wanted = (most > 0).astype(np.float64)
    low, high = 0.0, 1.0
    reach = float(np.where(wanted > 0, most, least).sum())
    if reach < n:  # classes that want none must take some all the same
        wanted = wanted + np.where(most > 0, wanted[wanted > 0].min() * 1e-6, 0.0)
    while np.clip(high * wanted, least, most).sum() < n and high < 1e300:
        high *= 2
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (
            (middle, high) if np.clip(middle * wanted, least, most).sum() < n else (low, middle)
        )
    return np.asarray(np.clip(high * wanted, least, most), dtype=np.float64)


def _rounded(exact: Float64s, n: int, most: Int64s) -> Int64s:
    """Whole numbers that sum to n, the largest remainders rounded up."""
    floors = np.floor(exact + 1e-9).astype(np.int64)
    remainder = np.where(floors < most, exact - floors, -1.0)
    order: Sequence[int] = np.argsort(-remainder, kind="stable").tolist()
    for place in order[: n - int(floors.sum())]:
        floors[place] += 1
    return floors
