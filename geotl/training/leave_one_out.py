"""Predictions of the shrunken discriminant for each tile by a head that was not fitted to it.

The heads are not fitted one by one: taking a tile out changes the covariance by a matrix of low
rank, so its inverse follows from that of all tiles (Woodbury's identity). Held-out logits then come
from heads that have nearly all labels, and their temperature is nearly that of the final head.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from geotl.arrays import Float64s, Floats, Int64s

MAX_TILES = 2000  # beyond, a head of four fifths of the tiles is as good as one of all


@dataclass(frozen=True)
class LeftOut:
    """Logits of tiles by heads that were not fitted to them.

    Attributes:
        rows: positions of the tiles [n]; the only tile of its class is not among them.
        logits: [n, K] by shrinkage, but for a number for each row.
    """

    rows: Int64s
    logits: dict[float, Float64s]


@dataclass(frozen=True)
class _Spread:
    """Tiles in the axes of their covariance: all that the heads without a tile follow from.

    Attributes:
        views: features [N, V, d] along the d axes in which tiles differ at all.
        tiles: their means over views [N, d].
        means: of the classes [K, d], with `counts` tiles each [K].
        scatter: of views about their class mean along each axis [d].
        width: number of features D, of which d may be fewer.
    """

    views: Float64s
    tiles: Float64s
    means: Float64s
    counts: Int64s
    scatter: Float64s
    width: int


def leave_one_out(
    features: Floats, labels: Int64s, shrinkages: Sequence[float], classes: int
) -> LeftOut:
    """Logits of each tile by the discriminant of all other tiles (`heads.discriminant`).

    A class lacks a tile where its own tile is left out, and no other class does: the n - 1 left
    put the mean of the class further off than n will. So the squared distance to it, n / (n - 1)
    of the covariance where it will be (n + 1) / n, is multiplied with their ratio, 1 - 1 / n^2.

    Args:
        features: standardised, [N, V, D].
        labels: classes [N].
        shrinkages: of the discriminant, in (0, 1).
        classes: how many there are, K.
    """
    spread = _spread(features, labels, classes)
    rows = np.flatnonzero(spread.counts[labels] > 1).astype(np.int64)
    logits = {shrinkage: np.zeros((len(rows), classes)) for shrinkage in shrinkages}
    for place, row in enumerate(rows):
        for shrinkage, distances in _distances(
            spread, int(row), int(labels[row]), shrinkages
        ).items():
            logits[shrinkage][place] = -0.5 * distances
    return LeftOut(rows, logits)


def _spread(features: Floats, labels: Int64s, classes: int) -> _Spread:
    tiles, views, width = features.shape
    flat = features.reshape(tiles * views, width).astype(np.float64)
    if len(flat) < width:
        flat = flat @ np.linalg.qr(flat.T)[0]
    by_tile = flat.reshape(tiles, views, -1)
    counts = np.bincount(labels, minlength=classes)
    sums = np.zeros((classes, by_tile.shape[2]))
    np.add.at(sums, labels, by_tile.mean(axis=1))
    means = sums / np.maximum(counts, 1)[:, None]
    about = (by_tile - means[labels][:, None]).reshape(len(flat), -1)
    scatter, axes = np.linalg.eigh(about.T @ about / views)
    turned = (flat @ axes).reshape(by_tile.shape)  # one product: numpy's of a stack is slow
    parts = (turned, turned.mean(axis=1), means @ axes, counts)
    return _Spread(*parts, np.maximum(scatter, 0.0), width)


def _distances(
    spread: _Spread, row: int, label: int, shrinkages: Sequence[float]
) -> dict[float, Float64s]:
    """Squared distances [K] of a tile to the classes' means by heads without it, by shrinkage."""
    count, rest = int(spread.counts[label]), len(spread.tiles) - 1
    tile, views = spread.tiles[row], spread.views[row]
    off = tile - spread.means[label]
    gone = np.vstack([(views - tile) / np.sqrt(len(views)), np.sqrt(count / (count - 1)) * off])
    apart = tile - spread.means
    apart[label] = count / (count - 1) * off
    trace = spread.scatter.sum() - (gone**2).sum()
    ratio = np.ones(len(apart))
    ratio[label] = 1 - 1 / count**2
    distances = {}
    for shrinkage in shrinkages:
        share = (1 - shrinkage) / rest
        inverse = 1 / (share * spread.scatter + shrinkage * trace / rest / spread.width + 1e-9)
        scaled = gone * inverse
        inner = np.eye(len(gone)) / share - scaled @ gone.T
        cross = scaled @ apart.T
        plain = (apart**2) @ inverse
        distances[shrinkage] = ratio * (plain + (cross * np.linalg.solve(inner, cross)).sum(axis=0))
    return distances
