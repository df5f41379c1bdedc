"""Windows or pixels to label next where labels are few: typical ones, unlike those with a label.

What a model of few labels is uncertain about says little (docs/BENCHMARKS.md, "Where to label
next"), so uncertainty plays no part here.
"""

from __future__ import annotations

import numpy as np

from geotl.arrays import Floats, Int64s
from geotl.data.typical_places import Typical, typical, unit_space
from geotl.inference.candidates import meeting
from geotl.models.deep_features import DEEP

FEW_LABELS = 50  # in all: below, typical samples gain more than uncertain ones
MAX_POOL = 4000  # candidates that are compared, drawn at random from all
_ROUNDS = 5  # of choosing in place of those that share ground


def choose_typical(features: Floats, known: Floats, boxes: Floats, n: int, seed: int) -> Typical:
    """The middles of clusters that hold no labelled sample, of the largest clusters first.

    Args:
        features: of the candidates [m,D].
        known: of labelled samples [k,D], in the same space.
        boxes: ground of the candidates: left, bottom, right, top [m,4]; no two are to meet.
        n: how many are wanted; fewer are given where there is no room for more.
        seed: of the clustering's first centres.

    >>> features = np.array([[9.0, 0.0], [9.1, 0.0], [0.0, 9.0], [0.0, 9.0], [0.0, 9.0]])
    >>> boxes = np.arange(5)[:, None] * 2.0 + np.array([0.0, 0.0, 1.0, 1.0])
    >>> choose_typical(features, np.array([[9.05, 0.0]]), boxes, 1, 0).rows.tolist()
    [2]
    """
    space = unit_space({DEEP: np.concatenate([known, features])})
    labelled, count = np.arange(len(known), dtype=np.int64), len(known)
    free = np.ones(len(features), dtype=bool)
    chosen, shares = list[int](), list[float]()
    for _ in range(_ROUNDS):
        left = np.flatnonzero(free)
        if len(chosen) >= n or not left.size:
            break
        rows: Int64s = np.concatenate([labelled, count + np.array(chosen, np.int64), count + left])
        given = np.arange(count + len(chosen), dtype=np.int64)
        found = typical(space[rows], n - len(chosen), seed, given)
        for row, share in zip((rows[found.rows] - count).tolist(), found.share, strict=True):
            if free[row]:
                chosen.append(row)
                shares.append(float(share))
                free &= ~meeting(boxes[row], boxes)
    return Typical(np.array(chosen, np.int64), np.array(shares))
