"""What a network must beat: statistics of each band with logistic regression."""

from __future__ import annotations

import functools

import numpy as np

from geotl.arrays import Float64s, Floats, Int64s
from geotl.data.tile_array import Pack
from geotl.training.heads import Folds, choose, logistic

PENALTIES = (0.01, 0.1, 1.0, 10.0, 100.0)


def band_statistics(pack: Pack, rows: Int64s) -> Float64s:
    """Mean and standard deviation of each band over a tile's valid pixels, [len(rows), 2C].

    A band without a valid pixel counts as 0 in both.
    """
    blocks = []
    for start in range(0, len(rows), 256):
        part = rows[start : start + 256]
        image = pack.images[part].astype(np.float64)
        valid = np.ones(image.shape, bool) if pack.valid is None else np.asarray(pack.valid[part])
        count = np.maximum(valid.sum(axis=(2, 3)), 1)
        mean = np.where(valid, image, 0.0).sum(axis=(2, 3)) / count
        about = np.where(valid, image - mean[:, :, None, None], 0.0)
        blocks.append(np.hstack([mean, np.sqrt((about**2).sum(axis=(2, 3)) / count)]))
    return np.concatenate(blocks)


def band_statistics_logits(
    table: Float64s, train: Int64s, labels: Int64s, test: Int64s, *, folds: Folds, classes: int
) -> Floats:
    """Logits [len(test), K] of logistic regression on band statistics, its penalty by folds.

    Args:
        table: band statistics of all tiles, [N, 2C].
        train: rows learnt from.
        labels: their classes.
        test: rows to judge.
        folds: inside the training labels.
        classes: how many there are.
    """
    mean, sd = table[train].mean(axis=0), table[train].std(axis=0)
    scaled = ((table - mean) / np.where(sd > 0, sd, 1.0))[:, None, :]
    fit = functools.partial(logistic, num_classes=classes)
    return choose(scaled[train], labels, folds, fit, PENALTIES).head.logits(scaled[test])
