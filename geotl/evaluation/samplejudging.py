"""What is known of how reference points were drawn, from the user, the file and their places."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from geotl.arrays import Bools, Float64s
from geotl.console import Progress
from geotl.evaluation.class_map import ClassMap
from geotl.evaluation.mapsurvey import Survey, random_pixels
from geotl.evaluation.reference_points import References, some
from geotl.evaluation.sample_design import (
    Design,
    clustered_warning,
    drawn_faults,
    training_boxes,
    within_boxes,
)
from geotl.io.geodesy import distances_m

_DRAWS = 199  # random draws that the points' distances are set against


@dataclass(frozen=True)
class Judged:
    """How points were drawn.

    Attributes:
        words: the design.
        warnings: what speaks against its being a probability sample of the map.
        drawn: the points were drawn by `geotl sample`, and still are that sample.
        simple: they are told to be a simple random sample.
    """

    words: str
    warnings: tuple[str, ...] = ()
    drawn: bool = False
    simple: bool = False


def judge(
    of: ClassMap,
    points: References,
    found: Survey,
    mapped: Sequence[str | None],
    design: Design | None,
) -> Judged:
    """The design that the user tells, else the file, and what speaks against it.

    Args:
        of: the map.
        points: all points of the file.
        found: the map's pixels by value.
        mapped: class of the map at each point, None outside it and at nodata.
        design: as the user tells it.
    """
    if design == "stratified":
        return Judged("stratified random by mapped class, as told")
    if design == "simple":
        words = "simple random, as told; estimated by mapped class (post-stratified)"
        return Judged(words, simple=True)
    if design is None and points.strata is not None and points.inclusion is not None:
        pixels: Counter[str] = Counter()
        for value, number in found.pixels.items():
            pixels[of.name(value)] += number
        faults = drawn_faults(points.strata, points.inclusion, mapped, pixels)
        return _drawn(points.labels, faults)
    if design == "none":
        return Judged(
            "not a probability sample, as told",
            (f"the reference is no probability sample: {_HOLDS_NOT}",),
        )
    told = f"{_HOLDS_NOT}, or tell with --design how these were drawn"
    return Judged("not known", (f"the reference is not known to be a probability sample: {told}",))


_HOLDS_NOT = "areas and intervals hold only for one; draw points with geotl sample"


def _drawn(labels: Sequence[str | None], faults: Sequence[str]) -> Judged:
    """Points that come with strata and inclusion probabilities, after a look at the map."""
    missing = sum(label is None for label in labels)
    told = [
        f"{missing} of the {len(labels)} points drawn have no reference yet; those left out may "
        "differ from the rest"
    ]
    words = "stratified random, as the file's strata and inclusion probabilities tell"
    return Judged(words, (*faults, *(told if missing else ())), drawn=not faults)


def placement_warnings(
    of: ClassMap,
    points: References,
    mapped: Sequence[str | None],
    used: Bools,
    *,
    drawn: bool,
    progress: Progress | None = None,
) -> list[str]:
    """What the places of the points used tell against them.

    Args:
        of: the map.
        points: all points of the file.
        mapped: class of the map at each.
        used: which of them count [N].
        drawn: they are known to be a random sample, so that distances need not be looked at.
        progress: called with blocks done and blocks in all.
    """
    cols, rows = points.cols[used], points.rows[used]
    ids = [name for name, use in zip(points.ids, used, strict=True) if use]
    found = [*_sharing(ids, rows, cols), *_trained_on(of, ids, rows, cols)]
    if not drawn:
        whose = [str(name) for name, use in zip(mapped, used, strict=True) if use]
        draws = _random_draws(of, Counter(whose), progress)
        line = clustered_warning(distances_m(of.grid, cols, rows), draws)
        found += [line] if line else []
    return found


def _sharing(ids: Sequence[str], rows: Float64s, cols: Float64s) -> list[str]:
    pixels = np.column_stack([np.floor(rows), np.floor(cols)])
    _, first = np.unique(pixels, axis=0, return_index=True)
    twice = sorted(set(range(len(ids))) - set(first.tolist()))
    if not twice:
        return []
    which = some([ids[i] for i in twice])
    return [f"{len(twice)} points lie in a pixel that another one stands for ({which}); drop them"]


def _trained_on(of: ClassMap, ids: Sequence[str], rows: Float64s, cols: Float64s) -> list[str]:
    boxes = training_boxes(of.tags)
    xy = np.array([of.grid.at(c, r) for c, r in zip(cols.tolist(), rows.tolist(), strict=True)])
    inside = np.flatnonzero(within_boxes(xy, boxes))
    if not inside.size:
        return []
    which = some([ids[i] for i in inside.tolist()])
    return [
        f"{len(inside)} points lie in tiles that the map's model was trained on ({which}), which "
        "flatters it; judge it by others"
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
