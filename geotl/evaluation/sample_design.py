"""The sampling design of a reference, and warnings where it invalidates the estimates."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from geotl.arrays import Bools, Float64s, Int64s
from geotl.console import Progress
from geotl.evaluation.class_map import ClassMap, Survey, random_pixels
from geotl.evaluation.reference_points import References, some
from geotl.io.geodesy import distances_m
from geotl.language import msg

Design = Literal["stratified", "simple", "none"]
DESIGNS: tuple[Design, ...] = ("stratified", "simple", "none")

FOOTPRINTS_TAG = "GEOTL_TRAINING_FOOTPRINTS"
_CLUSTERED = 0.01  # significance level at which points count as clustered, not simple random
_MIN_NEAR = 10  # points below which nearest neighbours are not tested
_DRAWS = 199  # random draws to compare the points' distances with
_ONLY_PROBABILITY = msg("areas and intervals are valid only for one; draw points with geotl sample")


def drawn_faults(
    strata: Sequence[str | None],
    inclusion: Float64s,
    mapped: Sequence[str | None],
    pixels: Mapping[str, int],
) -> list[str]:
    """Evidence against points being the stratified sample of this map that their file states.

    Args:
        strata: stratum that each point was drawn from.
        inclusion: inclusion probability of each.
        mapped: class of the map at each, None outside it and at nodata.
        pixels: number of pixels of the map by class.

    >>> drawn_faults(["a", "b"], np.array([0.1, 0.1]), ["a", "b"], {"a": 10, "b": 10})
    []
    >>> drawn_faults(["a", "b"], np.array([0.1, 0.1]), ["a", "a"], {"a": 10, "b": 10})
    ['1 of 2 points lies in another class than its stratum: they were drawn from another map']
    """
    other = sum(stratum != label for stratum, label in zip(strata, mapped, strict=True))
    if other:
        lie = "lies" if other == 1 else "lie"
        return [
            f"{other} of {len(strata)} points {lie} in another class than "
            f"{'its' if other == 1 else 'their'} stratum: they were drawn from another map"
        ]
    faults = []
    stratum_of = np.array([stratum or "" for stratum in strata])
    for name, size in pixels.items():
        mine = stratum_of == name
        there = int(mine.sum())
        sizes = inclusion[mine] * size
        if there and not np.allclose(sizes, there, atol=0.5):
            meant = (
                f"{np.nanmedian(sizes):.0f}" if np.isfinite(sizes).any() else "an unknown number"
            )
            faults.append(
                f"stratum {name} has {there} points where its inclusion probabilities imply "
                f"{meant}: points were added or removed"
            )
    return faults


def clustering(places: Float64s, drawn: Sequence[Float64s]) -> tuple[float, float, float]:
    """Mean distance to the nearest other point, the mean of random draws, and a p-value.

    Clark & Evans' (1954) measure, compared with random pixels of the same classes rather than
    with complete randomness, so that classes in patches do not count as clustered. The
    p-value is the share of draws, the points among them, that lie as close.

    Args:
        places: places of the points [N,2] in metres.
        drawn: random draws of as many places [N,2].

    >>> rng = np.random.default_rng(0)
    >>> draws = [rng.random((50, 2)) for _ in range(99)]
    >>> clustering(rng.random((50, 2)) * 0.1, draws)[2]
    0.01
    """
    distances, others = _nearest(places), np.array([_nearest(draw) for draw in drawn])
    return (
        distances,
        float(others.mean()),
        float((1 + (others <= distances).sum()) / (1 + len(others))),
    )


def clustered_warning(places: Float64s, drawn: Sequence[Float64s]) -> str | None:
    """A line on clustered points, None where they lie as random pixels of their classes would."""
    if len(places) < _MIN_NEAR or not drawn:
        return None
    distances, random, p = clustering(places, drawn)
    if p > _CLUSTERED:
        return None
    return msg(
        "the points are clustered: {distances:,.0f} m to the nearest on average, where "
        "random pixels of the same classes lie {random:,.0f} m apart; the intervals are"
        " too narrow",
        distances=distances,
        random=random,
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
    return msg(
        "the points by mapped class do not follow the mapped shares (chi-square, p "
        "{p:.1g}), as those of a simple random sample would; state with --design how "
        "they were drawn",
        p=p,
    )


def training_boxes(tags: Mapping[str, str]) -> Float64s:
    """Footprints [N,4] (left, bottom, right, top) of training tiles, from a map's tags.

    They are in the tag GEOTL_TRAINING_FOOTPRINTS as JSON, in the map's reference system; an
    empty array where it is absent, or has another content.

    >>> training_boxes({"GEOTL_TRAINING_FOOTPRINTS": "[[0, 0, 10, 10]]"}).tolist()
    [[0.0, 0.0, 10.0, 10.0]]
    """
    try:
        boxes = np.array(json.loads(tags.get(FOOTPRINTS_TAG, "[]")), dtype=np.float64)
    except (ValueError, TypeError, RecursionError):
        return np.zeros((0, 4))
    return boxes if boxes.ndim == 2 and boxes.shape[1] == 4 else np.zeros((0, 4))


def within_boxes(xy: Float64s, boxes: Float64s) -> Bools:
    """Which positions [N,2] lie in any of some boxes [M,4].

    >>> within_boxes(np.array([[5.0, 5.0], [11.0, 5.0]]), np.array([[0.0, 0, 10, 10]])).tolist()
    [True, False]
    """
    inside = np.zeros(len(xy), dtype=bool)
    for left, bottom, right, top in boxes:
        x, y = xy[:, 0], xy[:, 1]
        inside |= (left <= x) & (x <= right) & (bottom <= y) & (y <= top)
    return inside


def _nearest(places: Float64s) -> float:
    """Mean distance to the nearest other place."""
    from scipy.spatial import cKDTree

    return float(cKDTree(places).query(places, k=2)[0][:, 1].mean())


@dataclass(frozen=True)
class DesignCheck:
    """The sampling design of points.

    Attributes:
        words: the design.
        warnings: evidence against a probability sample of the map.
        drawn: the points were drawn by `geotl sample`, and still are that sample.
        simple: the user states a simple random sample.
    """

    words: str
    warnings: tuple[str, ...] = ()
    drawn: bool = False
    simple: bool = False


def check_design(
    of: ClassMap,
    points: References,
    map_pixels: Survey,
    mapped: Sequence[str | None],
    design: Design | None,
) -> DesignCheck:
    """The design stated by the user, else by the file, and the evidence against it.

    Args:
        of: the map.
        points: all points of the file.
        map_pixels: the map's pixels by value.
        mapped: class of the map at each point, None outside it and at nodata.
        design: design stated by the user.
    """
    if design == "stratified":
        return DesignCheck(msg("stratified random by mapped class, as stated"))
    if design == "simple":
        words = msg("simple random, as stated; estimated by mapped class (post-stratified)")
        return DesignCheck(words, simple=True)
    if design is None and points.strata is not None and points.inclusion is not None:
        pixels: Counter[str] = Counter()
        for value, number in map_pixels.pixels.items():
            pixels[of.name(value)] += number
        faults = drawn_faults(points.strata, points.inclusion, mapped, pixels)
        return _drawn(points.labels, faults)
    if design == "none":
        return DesignCheck(
            msg("not a probability sample, as stated"),
            (
                msg(
                    "the reference is no probability sample: {only_probability}",
                    only_probability=_ONLY_PROBABILITY,
                ),
            ),
        )
    advice = msg(
        "{only_probability}, or state with --design how these were drawn",
        only_probability=_ONLY_PROBABILITY,
    )
    return DesignCheck(
        msg("not known"),
        (msg("the reference is not known to be a probability sample: {advice}", advice=advice),),
    )


def _drawn(labels: Sequence[str | None], faults: Sequence[str]) -> DesignCheck:
    """Design of points with strata and inclusion probabilities, checked against the map."""
    missing = sum(label is None for label in labels)
    outside = [
        f"{missing} of the {len(labels)} points drawn have no reference yet; those left out may "
        "differ from the rest"
    ]
    words = "stratified random, by the file's strata and inclusion probabilities"
    return DesignCheck(words, (*faults, *(outside if missing else ())), drawn=not faults)


def placement_warnings(
    of: ClassMap,
    points: References,
    mapped: Sequence[str | None],
    used: Bools,
    *,
    drawn: bool,
    progress: Progress | None = None,
) -> list[str]:
    """Warnings from the positions of the points used.

    Args:
        of: the map.
        points: all points of the file.
        mapped: class of the map at each.
        used: points that are used, bool [N].
        drawn: whether they are a random sample for sure, so that distances are not tested.
        progress: called with blocks done and blocks in all.
    """
    cols, rows = points.cols[used], points.rows[used]
    ids = [name for name, use in zip(points.ids, used, strict=True) if use]
    warnings_found = [*_sharing(ids, rows, cols), *_trained_on(of, ids, rows, cols)]
    if not drawn:
        whose = [str(name) for name, use in zip(mapped, used, strict=True) if use]
        draws = _random_draws(of, Counter(whose), progress)
        line = clustered_warning(distances_m(of.grid, cols, rows), draws)
        warnings_found += [line] if line else []
    return warnings_found


def _sharing(ids: Sequence[str], rows: Float64s, cols: Float64s) -> list[str]:
    pixels = np.column_stack([np.floor(rows), np.floor(cols)])
    _, first = np.unique(pixels, axis=0, return_index=True)
    twice = sorted(set(range(len(ids))) - set(first.tolist()))
    if not twice:
        return []
    which = some([ids[i] for i in twice])
    return [
        msg(
            "{twice} points lie in a pixel that another one stands for ({which}); drop them",
            twice=len(twice),
            which=which,
        )
    ]


def _trained_on(of: ClassMap, ids: Sequence[str], rows: Float64s, cols: Float64s) -> list[str]:
    boxes = training_boxes(of.tags)
    xy = np.array([of.grid.at(c, r) for c, r in zip(cols.tolist(), rows.tolist(), strict=True)])
    inside = np.flatnonzero(within_boxes(xy, boxes))
    if not inside.size:
        return []
    which = some([ids[i] for i in inside.tolist()])
    return [
        msg(
            "{inside} points lie in tiles that the map's model was trained on ({which}), "
            "which overestimates its accuracy; use other points",
            inside=len(inside),
            which=which,
        )
    ]


def _random_draws(of: ClassMap, wanted: Counter[str], progress: Progress | None) -> list[Float64s]:
    """Draws of as many random pixels of each class, as places in metres [N,2]."""
    pool = random_pixels(of, 10 * max(wanted.values()), 0, progress)
    random = np.random.default_rng(0)
    draws = []
    for _ in range(_DRAWS):
        rows, cols = [], []
        for name, number in sorted(wanted.items()):
            chosen = random.permutation(len(pool[name][0]))[:number]
            rows.append(pool[name][0][chosen])
            cols.append(pool[name][1][chosen])
        middle_x, middle_y = (np.concatenate(v).astype(np.float64) + 0.5 for v in (cols, rows))
        draws.append(distances_m(of.grid, middle_x, middle_y))
    return draws
