"""Area of applicability: how much new tiles differ from a model's training tiles.

The dissimilarity index and its threshold are those of Meyer & Pebesma 2021
(doi 10.1111/2041-210X.13650), in the space of a network's standardised features.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from geotl.arrays import Bools, Float64s, Floats, Int64s
from geotl.errors import DataError

_BLOCK = 1024  # rows whose distances are in memory together


@dataclass(frozen=True)
class Applicability:
    """Training features [n, D], their mean distance, and the index beyond which none applies."""

    features: Floats
    mean_distance: float
    threshold: float

    def index(self, features: Floats) -> Float64s:
        """Dissimilarity index [m] of features [m, D]: nearest training tile over mean distance.

        >>> area = area_of_applicability(np.array([[0.0], [1.0], [2.0]]), np.array([0, 1, 2]))
        >>> area.index(np.array([[1.0], [4.0]])).round(2).tolist(), area.threshold
        ([0.0, 1.5], 0.75)
        """
        parts = [block.min(axis=1) for block in _distances(features, self.features)]
        return np.concatenate([np.zeros(0), *parts]) / self.mean_distance

    def inside(self, features: Floats) -> Bools:
        """Whether each of the features [m, D] lies in the area of applicability."""
        return self.index(features) <= self.threshold


def area_of_applicability(features: Floats, folds: Int64s) -> Applicability:
    """Fit index and threshold to training features.

    The threshold is min(Q75 + 1.5 IQR, largest) of the training tiles' own index, each measured
    only against tiles of other folds, as new imagery would be.

    Args:
        features: standardised features [n, D] of training tiles.
        folds: validation fold of each [n]; -1 for none: such a tile is a fold by itself.

    Raises:
        DataError: fewer than two tiles, all identical, or all in one fold.
    """
    rows = np.asarray(features, dtype=np.float64)
    if len(rows) < 2:
        raise DataError(
            f"{len(rows)} training tiles or pixels: at least 2 are needed to measure dissimilarity"
        )
    fold = np.where(folds < 0, -1 - np.arange(len(rows)), folds)
    total, nearest, start = 0.0, [], 0
    for block in _distances(rows, rows):
        total += float(block.sum())
        same = fold[start : start + len(block), None] == fold[None]
        nearest.append(np.where(same, np.inf, block).min(axis=1))
        start += len(block)
    mean = total / (len(rows) * (len(rows) - 1))
    distances = np.concatenate(nearest)
    if mean <= 0 or not np.isfinite(distances).any():
        raise DataError(
            "training tiles or pixels are all identical or all in one fold, so dissimilarity "
            "cannot be measured; give more labels, or more folds"
        )
    distances = distances[np.isfinite(distances)] / mean
    low, high = np.quantile(distances, [0.25, 0.75])
    return Applicability(rows, mean, float(min(high + 1.5 * (high - low), distances.max())))


def _distances(ours: Floats, theirs: Floats) -> Iterator[Float64s]:
    """Euclidean distances, block by block of rows: [<=1024, len(theirs)]."""
    other = np.asarray(theirs, dtype=np.float64)
    length = np.einsum("ij,ij->i", other, other)
    for start in range(0, len(ours), _BLOCK):
        block = np.asarray(ours[start : start + _BLOCK], dtype=np.float64)
        square = np.einsum("ij,ij->i", block, block)[:, None] + length - 2 * block @ other.T
        yield np.sqrt(np.maximum(square, 0.0))
