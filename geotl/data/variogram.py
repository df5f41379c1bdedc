"""How far tiles resemble their neighbours: an empirical variogram, its range, and a block size.

Half the mean squared difference of two tiles' features rises with their distance up to a sill;
the distance where it gets there is the range (Matheron 1963). Blocks of a spatial split should be
clearly larger.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.optimize import least_squares
from scipy.spatial.distance import pdist

from geotl.arrays import Float64s, Int64s
from geotl.data.footprints import Layout
from geotl.data.spatial_splits import block_of
from geotl.errors import DataError

Shape = Literal["exponential", "spherical"]

MOST_TILES = 2000  # whose pairs are compared; a random part of more
FEWEST_PAIRS = 20  # a bin with fewer says next to nothing
FEWEST_BINS = 4
BINS = 24
CLEARLY = 2.0  # blocks are this many times the range, where the extent allows
LEAST_STRUCTURE = 0.25  # share of the misfit of a level line that a range must explain


@dataclass(frozen=True)
class Variogram:
    """Dissimilarity by distance.

    Attributes:
        lag_m: mean distance of the pairs in each bin, in metres [B].
        gamma: half their mean squared difference over standardised features [B]; 1 where tiles
            have nothing in common.
        pairs: how many there are [B].
        shape: of the model that fits best.
        nugget, sill: dissimilarity of neighbours, and of distant tiles.
        range_m: distance at which the sill is reached (95 % of it for the exponential shape).
        reached: whether that lies within the distances seen; if not, `range_m` is the largest one.
    """

    lag_m: Float64s
    gamma: Float64s
    pairs: Int64s
    shape: Shape
    nugget: float
    sill: float
    range_m: float
    reached: bool

    def model(self, distance_m: Float64s) -> Float64s:
        """Dissimilarity that the fitted model gives at some distances."""
        rise = SHAPES[self.shape](distance_m / max(self.range_m, 1e-9))
        return np.asarray(self.nugget + (self.sill - self.nugget) * rise)

    def summary(self) -> str:
        """What it says of the range, in a few words."""
        if not self.reached:
            return (
                f"the variogram still rises at {self.range_m:,.0f} m: neighbours resemble each "
                "other at least that far"
            )
        if self.range_m == 0:
            return f"the variogram is flat: tiles {self.lag_m[0]:,.0f} m apart are as unlike as any"
        return f"tiles resemble each other up to {self.range_m:,.0f} m ({self.shape} variogram)"


def _spherical(share: Float64s) -> Float64s:
    inside = np.minimum(share, 1.0)
    return np.asarray(1.5 * inside - 0.5 * inside**3)


def _exponential(share: Float64s) -> Float64s:
    return np.asarray(1.0 - np.exp(-3.0 * share))


SHAPES: dict[Shape, Callable[[Float64s], Float64s]] = {
    "exponential": _exponential,
    "spherical": _spherical,
}


def variogram(centres: Float64s, features: Float64s, *, seed: int = 0) -> Variogram:
    """The variogram of features [N,D] at places [N,2] in metres, and the model that fits best.

    Features are standardised and count alike. Distances go up to half of the extent, in bins that
    widen with distance. An exponential and a spherical model with a nugget are fitted by least
    squares, each bin weighing by its pairs over the model's square (Cressie 1985).

    Raises:
        DataError: too few tiles in too few places.
    """
    some = np.random.default_rng(seed).permutation(len(centres))[:MOST_TILES]
    places, values = centres[np.sort(some)], features[np.sort(some)].astype(np.float64)
    sd = values.std(axis=0)
    values = (values - values.mean(axis=0))[:, sd > 0] / sd[sd > 0]
    lag, gamma, pairs = _binned(places, values) if values.size else _binned(places, places * 0)
    if len(lag) < FEWEST_BINS or not gamma.any():
        raise DataError(
            f"{len(centres)} tiles lie in too few places, or are too alike, to tell from a "
            "variogram how far they resemble each other; give the side of the blocks: "
            "split.block_m=METRES"
        )
    fits = [_fitted(shape, lag, gamma, pairs) for shape in SHAPES]
    return min(fits, key=lambda fit: fit[0])[1]


def _binned(places: Float64s, values: Float64s) -> tuple[Float64s, Float64s, Int64s]:
    """Mean distance, half the mean squared difference and the number of pairs in each bin."""
    distance = pdist(places)
    unlike = pdist(values, "sqeuclidean") / (2.0 * values.shape[1])
    furthest = float(np.ptp(places, axis=0).max(initial=0.0)) / 2
    if not furthest:
        return np.zeros(0), np.zeros(0), np.zeros(0, np.int64)
    edges = furthest * np.linspace(0.0, 1.0, BINS + 1) ** 2
    place = np.searchsorted(edges, distance, side="left") - 1
    inside = (place >= 0) & (place < BINS)
    place = place[inside]
    pairs = np.bincount(place, minlength=BINS)
    kept = pairs >= FEWEST_PAIRS
    lag, gamma = (
        np.bincount(place, weights=w[inside], minlength=BINS)[kept] / pairs[kept]
        for w in (distance, unlike)
    )
    return lag, gamma, pairs[kept].astype(np.int64)


def _fitted(shape: Shape, lag: Float64s, gamma: Float64s, pairs: Int64s) -> tuple[float, Variogram]:
    """Weighted squared misfit of a shape's best model, and the variogram with it."""
    furthest, top = float(lag[-1]), float(gamma.max())
    weight = np.sqrt(pairs / pairs.sum())

    def miss(p: Float64s) -> Float64s:
        model = p[0] + p[1] * SHAPES[shape](lag / p[2])
        return np.asarray(weight * (gamma / np.maximum(model, 1e-6 * top) - 1.0))

    low, high = [0.0, 0.0, float(lag[0]) / 4], [1.5 * top, 3.0 * top, 4.0 * furthest]
    tried = []
    for start in np.geomspace(max(lag[0], 1e-3), furthest, 6):
        first = [0.5 * float(gamma[0]), max(top - 0.5 * float(gamma[0]), 1e-6), float(start)]
        tried.append(least_squares(miss, np.clip(first, low, high), bounds=(low, high)))
    best = min(tried, key=lambda found: found.cost)
    nugget, rise, range_m = map(float, best.x)
    reached = range_m <= furthest
    mean = np.average(gamma, weights=pairs)
    flat = float(np.sum((weight * (gamma / mean - 1.0)) ** 2)) / 2
    within = lag <= max(min(range_m, furthest) / 2, lag[0])
    alike = 1 - np.average(gamma[within], weights=pairs[within]) / mean
    chance = 2 * math.sqrt(2 / pairs[within].sum())  # two sd of a mean of squared differences
    if best.cost > (1 - LEAST_STRUCTURE) * flat or alike < chance:
        range_m, reached = 0.0, True
    seen = min(range_m, furthest)
    found = Variogram(lag, gamma, pairs, shape, nugget, nugget + rise, seen, reached)
    return float(best.cost), found


def suggest_block_m(
    found: Variogram, layout: Layout, least_blocks: int, *, seed: int = 0
) -> tuple[float, str]:
    """A side for square blocks in metres, and the words that say where it comes from.

    Twice the range and at least three tiles; less where that would leave fewer than
    `least_blocks` blocks with tiles in them.

    Raises:
        DataError: even blocks of a tile's side would be too few.
    """
    tile_m = float(layout.sides.max())
    smallest = max(tile_m, found.lag_m[0] / 4, 1e-3)
    wanted = side = _rounded(max(CLEARLY * found.range_m, 3 * tile_m, smallest))
    while _blocks(layout, side, seed) < least_blocks:
        side *= 0.9
        if side < smallest:
            raise DataError(
                f"the tiles lie in fewer than {least_blocks} blocks even at {smallest:,.0f} m; "
                "lower split.kfold, or choose another split.method"
            )
    words = f"split.block_m={_rounded(side):g}: {found.summary()}"
    if side < wanted:
        words += f"; {wanted:,.0f} m would leave fewer than {least_blocks} blocks"
        if side < found.range_m:
            words += ", so the blocks are smaller than that range and still flatter"
    return _rounded(side), words


def _blocks(layout: Layout, side: float, seed: int) -> int:
    return int(block_of(layout.boxes, _rounded(side), seed=seed).max()) + 1


def _rounded(value: float) -> float:
    """Two significant figures, upwards.

    >>> _rounded(1234.0), _rounded(0.0456)
    (1300.0, 0.046)
    """
    digits = 1 - math.floor(math.log10(value))
    return round(math.ceil(round(value * 10.0**digits, 6)) / 10.0**digits, digits)
