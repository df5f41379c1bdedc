"""Which samples to label first, without any label: typical ones that differ from each other.

Where labels are few, typical and diverse samples teach a classifier more than uncertain ones, which
a model without labels cannot know (Hacohen et al. 2022, TypiClust; Yehuda et al. 2022, ProbCover).
Here samples are clustered, and from each cluster the one nearest its middle is taken (k-medoids in
one step); benchmarks/first_labels.py compares this with random choice.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from geotl.arrays import Float64s, Floats, Int64s

_STARTS = 3  # of the clustering, from different first centres


class Typical(NamedTuple):
    """Samples to label first.

    Attributes:
        rows: positions of the samples, those of the largest clusters first [n].
        share: of all samples that each stands for, the size of its cluster [n].
    """

    rows: Int64s
    share: Float64s


def unit_space(blocks: Mapping[str, Floats]) -> Float64s:
    """Blocks of features [N,D] side by side in one space [N,sum of D], samples of length 1.

    Each feature is standardised and each block counts alike, whatever its width: so a network's
    hundreds of channels do not outvote a few dozen window statistics.
    """
    parts = []
    for values in blocks.values():
        table = np.asarray(values, np.float64)
        spread = table.std(axis=0)
        scaled = (table - table.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
        parts.append(scaled / np.sqrt(table.shape[1]))
    joined = np.concatenate(parts, axis=1)
    length = np.linalg.norm(joined, axis=1, keepdims=True)
    return np.asarray(joined / np.where(length > 0, length, 1.0))


def typical(space: Float64s, count: int, seed: int, labelled_rows: Int64s | None = None) -> Typical:
    """The sample nearest the middle of each of `count` clusters.

    Args:
        space: of all samples [N,D].
        count: of samples to choose; fewer are chosen where there are fewer different samples.
        seed: of the clustering's first centres.
        labelled_rows: rows that are labelled already: clusters that hold one are left out and
            replaced by as many others.

    >>> space = np.array([[0.0], [0.1], [0.2], [0.1], [5.0], [5.1], [5.2]])
    >>> typical(space, 2, 0).rows.tolist()
    [1, 5]
    >>> typical(space, 1, 0, np.array([2])).rows.tolist()
    [5]
    """
    from sklearn.cluster import KMeans

    labelled = np.zeros(0, np.int64) if labelled_rows is None else labelled_rows
    clusters = min(count + len(labelled), len(np.unique(space, axis=0)))
    fitted = KMeans(clusters, n_init=_STARTS, random_state=seed).fit(space)
    clusters_of = fitted.labels_
    away = ((space - fitted.cluster_centers_[clusters_of]) ** 2).sum(axis=1)
    free = np.setdiff1d(np.arange(clusters), clusters_of[labelled])
    sizes = np.bincount(clusters_of, minlength=clusters)
    order = free[np.argsort(-sizes[free], kind="stable")][:count]
    rows = [int(np.flatnonzero(clusters_of == c)[away[clusters_of == c].argmin()]) for c in order]
    return Typical(np.array(rows, np.int64), sizes[order] / len(space))
