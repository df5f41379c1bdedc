"""Which of many windows to label next: uncertain, unlike each other, and apart on the ground.

Candidates are cut down to the most uncertain, and a diverse few of them chosen: the two steps of
cluster-margin (Citovsky et al. 2021, "Batch active learning at scale"). The few are found by greedy
k-centre (farthest first; Sener & Savarese 2018, "Active learning for convolutional neural networks:
a core-set approach"), with each distance weighted by the window's uncertainty.
"""

from __future__ import annotations

import numpy as np

from geotl.arrays import Bools, Float64s, Floats, Int64s

_SLACK = 1e-6  # of a window's side: neighbours whose edges meet are apart


def normalised_entropy(chances: Floats) -> Float64s:
    """Uncertainty [n] of class probabilities [n, K]: Shannon entropy over log K, from 0 to 1.

    >>> normalised_entropy(np.array([[0.5, 0.5], [1.0, 0.0]])).tolist()
    [1.0, 0.0]
    """
    known = np.asarray(chances, dtype=np.float64)
    terms = known * np.log(np.where(known > 0, known, 1.0))
    return np.asarray(np.abs(terms.sum(axis=1)) / np.log(max(known.shape[1], 2)))


def most_uncertain(uncertainty: Floats, most: int) -> Int64s:
    """Rows of the most uncertain, in rising order; of equals the first.

    >>> most_uncertain(np.array([0.1, 0.9, 0.5, 0.9]), 2).tolist()
    [1, 3]
    """
    return np.sort(np.argsort(-uncertainty, kind="stable")[:most])


def choose(
    features: Floats,
    uncertainty: Floats,
    known: Floats,
    boxes: Floats,
    inside: Bools,
    *,
    n: int,
    seed: int = 0,
) -> Int64s:
    """Rows of up to n windows, in the order chosen: those inside first, then the others.

    Each time the window with the largest product of uncertainty and distance to what is known
    already, training tiles and windows chosen before, is taken. Windows that share ground with a
    chosen one are out. Equals go by the seed.

    Args:
        features: of the windows [m, D].
        uncertainty: of each [m].
        known: distance of each to the nearest training tile's features [m].
        boxes: left, bottom, right, top on the ground [m, 4].
        inside: which lie in the area of applicability [m].
        n: how many are wanted.
        seed: of the order among equals.

    >>> places = np.array([[0.0, 0, 1, 1], [0, 0, 1, 1], [5, 0, 6, 1]])
    >>> rows, sure = np.array([[0.0], [0.1], [3.0]]), np.array([0.9, 0.8, 0.5])
    >>> choose(rows, sure, np.array([1.0, 1.0, 1.0]), places, np.ones(3, bool), n=3).tolist()
    [0, 2]
    """
    tied = np.random.default_rng(seed).permutation(len(features))
    rows = np.asarray(features, dtype=np.float64)[tied]
    weight, nearest, places = uncertainty[tied], known[tied].astype(np.float64), boxes[tied]
    free = np.ones(len(rows), dtype=bool)
    chosen: list[int] = []
    for stage in (inside[tied], ~inside[tied]):
        while len(chosen) < n and (free & stage).any():
            best = int(np.where(free & stage, weight * nearest, -1.0).argmax())
            chosen.append(best)
            free &= ~meeting(places[best], places)
            nearest = np.minimum(nearest, np.linalg.norm(rows - rows[best], axis=1))
    return tied[np.array(chosen, dtype=np.int64)]


def meeting(box: Floats, boxes: Floats) -> Bools:
    """Which boxes [m, 4] share ground with one box; edges may meet.

    >>> meeting(np.array([0.0, 0, 1, 1]), np.array([[0.5, 0, 1.5, 1], [1, 0, 2, 1]])).tolist()
    [True, False]
    """
    slack = _SLACK * (box[2:] - box[:2])
    over = np.minimum(box[2:], boxes[:, 2:]) - np.maximum(box[:2], boxes[:, :2])
    return np.asarray((over > slack).all(axis=1))
