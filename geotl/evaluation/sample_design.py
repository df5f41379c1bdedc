"""Whether reference points are a probability sample of a map, as far as they tell of themselves.

Olofsson's estimators hold for probability samples alone. Points that were drawn by `geotl sample`
carry their strata and inclusion probabilities, which can be checked; of others one has to be told,
and can only see whether they look like one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from geotl.arrays import Bools, Float64s, Int64s

Design = Literal["stratified", "simple", "none"]
DESIGNS: tuple[Design, ...] = ("stratified", "simple", "none")

FOOTPRINTS_TAG = "GEOTL_TRAINING_FOOTPRINTS"
_CLUSTERED = 0.01  # level at which points are called clustered, and a sample not simple random
_FEWEST_NEAR = 10  # points below which nearest neighbours say nothing


def drawn_faults(
    strata: Sequence[str | None],
    inclusion: Float64s,
    mapped: Sequence[str | None],
    pixels: Mapping[str, int],
) -> list[str]:
    """What speaks against points being the stratified sample of this map that they claim to be.

    Args:
        strata: that each was drawn from.
        inclusion: inclusion probability of each.
        mapped: class of the map at each, None outside it and at nodata.
        pixels: of the map by class.

    >>> drawn_faults(["a", "b"], np.array([0.1, 0.1]), ["a", "b"], {"a": 10, "b": 10})
    []
    >>> drawn_faults(["a", "b"], np.array([0.1, 0.1]), ["a", "a"], {"a": 10, "b": 10})
    ['1 of 2 points lies in another class than its stratum: they were drawn from another map']
    """
    other = sum(told != found for told, found in zip(strata, mapped, strict=True))
    if other:
        lie = "lies" if other == 1 else "lie"
        return [
            f"{other} of {len(strata)} points {lie} in another class than "
            f"{'its' if other == 1 else 'their'} stratum: they were drawn from another map"
        ]
    faults = []
    whose = np.array([told or "" for told in strata])
    for name, size in pixels.items():
        mine = whose == name
        there = int(mine.sum())
        told = inclusion[mine] * size
        if there and not np.allclose(told, there, atol=0.5):
            meant = f"{np.nanmedian(told):.0f}" if np.isfinite(told).any() else "an unknown number"
            faults.append(
                f"stratum {name} holds {there} points where its inclusion probabilities tell of "
                f"{meant}: points were added or taken away"
            )
    return faults


def clustering(places: Float64s, drawn: Sequence[Float64s]) -> tuple[float, float, float]:
    """Mean distance to the nearest other point, the mean of random draws, and a p-value.

    Clark & Evans' (1954) measure, set against random pixels of the same classes rather than
    against complete randomness, so that classes that lie in patches do not look clustered. The
    p-value is the share of draws, the points among them, that lie as close.

    Args:
        places: of the points [N,2] in metres.
        drawn: random draws of as many places [N,2].

    >>> rng = np.random.default_rng(0)
    >>> draws = [rng.random((50, 2)) for _ in range(99)]
    >>> clustering(rng.random((50, 2)) * 0.1, draws)[2]
    0.01
    """
    own, others = _nearest(places), np.array([_nearest(draw) for draw in drawn])
    return own, float(others.mean()), float((1 + (others <= own).sum()) / (1 + len(others)))


def clustered_warning(places: Float64s, drawn: Sequence[Float64s]) -> str | None:
    """A line on clustered points, None where they lie as random pixels of their classes would."""
    if len(places) < _FEWEST_NEAR or not drawn:
        return None
    own, random, p = clustering(places, drawn)
    if p > _CLUSTERED:
        return None
    return (
        f"the points are clustered: {own:,.0f} m to the nearest on average, where random pixels of "
        f"the same classes lie {random:,.0f} m apart; the intervals are too narrow"
    )


def simple_warning(counts: Int64s, weights: Float64s) -> str | None:
    """A line on points by mapped class that a simple random sample would hardly give.

    >>> simple_warning(np.array([50, 50]), np.array([0.9, 0.1]))[:43]
    'the points by mapped class do not follow th'
    >>> simple_warning(np.array([88, 12]), np.array([0.9, 0.1])) is None
    True
    """
    from scipy.stats import chisquare  # most of a second, which a map need not wait for

    there = weights > 0
    if there.sum() < 2 or not counts.sum():
        return None
    p = float(chisquare(counts[there], counts.sum() * weights[there] / weights.sum()).pvalue)
    if p > _CLUSTERED:
        return None
    return (
        f"the points by mapped class do not follow the mapped shares (chi-square, p {p:.1g}), as "
        "those of a simple random sample would; say how they were drawn with --design"
    )


def training_boxes(tags: Mapping[str, str]) -> Float64s:
    """Footprints [N,4] (left, bottom, right, top) of training tiles, as a map's tags tell them.

    They stand in the tag GEOTL_TRAINING_FOOTPRINTS as JSON, in the map's reference system; an
    empty array where it is absent, or holds something else.

    >>> training_boxes({"GEOTL_TRAINING_FOOTPRINTS": "[[0, 0, 10, 10]]"}).tolist()
    [[0.0, 0.0, 10.0, 10.0]]
    """
    try:
        held = np.array(json.loads(tags.get(FOOTPRINTS_TAG, "[]")), dtype=np.float64)
    except (ValueError, TypeError, RecursionError):
        return np.zeros((0, 4))
    return held if held.ndim == 2 and held.shape[1] == 4 else np.zeros((0, 4))


def within_boxes(xy: Float64s, boxes: Float64s) -> Bools:
    """Which positions [N,2] lie in any of some boxes [M,4].

    >>> within_boxes(np.array([[5.0, 5.0], [11.0, 5.0]]), np.array([[0.0, 0, 10, 10]])).tolist()
    [True, False]
    """
    found = np.zeros(len(xy), dtype=bool)
    for left, bottom, right, top in boxes:
        x, y = xy[:, 0], xy[:, 1]
        found |= (left <= x) & (x <= right) & (bottom <= y) & (y <= top)
    return found


def _nearest(places: Float64s) -> float:
    """Mean distance to the nearest other place."""
    from scipy.spatial import cKDTree

    return float(cKDTree(places).query(places, k=2)[0][:, 1].mean())
